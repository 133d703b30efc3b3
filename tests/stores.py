"""Small session folders of OpenClaw, made by hand, and pictures of folders to compare. No checks in here.

Shared by the tests of prune-sessions. The big folders, with every hazard, come from the maker that conftest names.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commandline import Said, call
from loopback import unused_port

NOW_MS = 1_770_840_000_000
NOW = "2026-02-11T20:00:00Z"
HOUR_MS = 3_600_000
DAY_H = 24

JOB = "8a6aaef5-0c1d-4b0e-9d51-2f7f0f3d6a11"
DEAD_JOB = "11111111-0c1d-4b0e-9d51-2f7f0f3d6a11"
SHARED, ALONE, FRESH, CHAT, TOPIC = (f"{n}0000000-1111-4222-8333-444444444444" for n in (1, 2, 3, 4, 5))
ORPHAN, YOUNG_ORPHAN, ARCHIVED, SPOILT = (f"{n}0000000-1111-4222-8333-555555555555" for n in (1, 2, 3, 4))
TMP = "sessions.json.77.60000000-1111-4222-8333-555555555555.tmp"

Record = dict[str, Any]


def run_key(session: str, *, agent: str = "main", job: str = JOB) -> str:
    return f"agent:{agent}:cron:{job}:run:{session}"


def entry(session: str, age_h: float, **more: Any) -> Record:
    return {"sessionId": session, "updatedAt": NOW_MS - round(age_h * HOUR_MS), **more}


def entries() -> dict[str, Record]:
    """Two runs that may go, one of them the newest of its job; a fresh one; a chat, and a topic that is ten days old."""
    newest = entry(SHARED, 30, label="Cron: queue check")
    return {
        "agent:main:main": entry(CHAT, 3, origin={"label": "owner"}),
        run_key(ALONE): entry(ALONE, 50, label="Cron: fila ação"),
        run_key(SHARED): newest,
        f"agent:main:cron:{JOB}": newest,
        run_key(FRESH): entry(FRESH, 2, status="done"),
        "agent:main:telegram:group:-100:topic:42": entry(TOPIC, 240, sessionFile=f"/elsewhere/{TOPIC}-topic-42.jsonl"),
    }


def as_openclaw(store: Any) -> bytes:
    """What JSON.stringify(store, null, 2) writes."""
    return json.dumps(store, indent=2, ensure_ascii=False).encode()


def write(path: Path, content: bytes, age_h: float) -> None:
    """Write a file that is so old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    at_ns = (NOW_MS - round(age_h * HOUR_MS)) * 1_000_000
    os.utime(path, ns=(at_ns, at_ns))


class Folder:
    """Where things lie in an installation with one agent. `small` makes one."""

    def __init__(self, root: Path, agent: str = "main") -> None:
        self.root = root
        self.sessions = root / "agents" / agent / "sessions"
        self.store = self.sessions / "sessions.json"
        self.trash = root / "agents" / agent / "mmtools-trash"

    def read(self) -> Record:
        read: Record = json.loads(self.store.read_bytes())
        return read

    def names(self) -> list[str]:
        return sorted(os.listdir(self.sessions))

    def runs(self) -> list[str]:
        return sorted(os.listdir(self.trash)) if self.trash.exists() else []


def small(root: Path, *, store: Mapping[str, Any] | None = None, agent: str = "main") -> Folder:
    """Make an installation under `root`: one agent, its store, transcripts and leftovers, and a cron store with one job."""
    folder = Folder(root, agent)
    write(folder.store, as_openclaw(dict(entries() if store is None else store)), 0.01)
    for session, age_h in ((SHARED, 30), (ALONE, 50), (FRESH, 2), (CHAT, 3), (ORPHAN, 10 * DAY_H), (YOUNG_ORPHAN, 3)):
        write(folder.sessions / f"{session}.jsonl", f'{{"id":"{session}"}}\n'.encode(), age_h)
    write(folder.sessions / f"{TOPIC}-topic-42.jsonl", b"topic\n", 240)
    write(folder.sessions / f"{ARCHIVED}.jsonl.deleted.2026-01-02T03-04-05.678Z", b"old\n", 1)
    write(folder.sessions / f"{ARCHIVED}.jsonl.deleted.2026-02-10T03-04-05.678Z", b"young\n", 900)
    write(folder.sessions / f"{ARCHIVED}.jsonl.reset.2025-01-02T03-04-05.678Z", b"reset\n", 900)
    write(folder.sessions / f"{SPOILT}.jsonl.corrupt", b"\0\0", 8 * DAY_H)
    write(folder.sessions / TMP, b"{", 3)
    write(root / "cron" / "jobs.json", as_openclaw({"version": 1, "jobs": [{"id": JOB}]}), 1)
    write(root / "cron" / "runs" / f"{JOB}.jsonl", b'{"ts":1}\n', 60 * DAY_H)
    write(root / "cron" / "runs" / f"{DEAD_JOB}.jsonl", b'{"ts":2}\n', 60 * DAY_H)
    return folder


STALE = [run_key(ALONE), run_key(SHARED)]
STAY = [key for key in entries() if key not in STALE]
GO = sorted(
    [
        f"{ALONE}.jsonl",
        f"{ORPHAN}.jsonl",
        f"{ARCHIVED}.jsonl.deleted.2026-01-02T03-04-05.678Z",
        f"{SPOILT}.jsonl.corrupt",
        TMP,
    ]
)
"""Of what `small` makes: keys that go, keys that stay, and the files beside the store that go."""


def picture(root: Path) -> dict[str, tuple[int, int, str]]:
    """Return mode, time of change and content of everything under a folder; of folders and of a sessions.json not the time."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            content = f"to {path.readlink()}"
        else:
            content = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        timed = path.is_file() and path.name != "sessions.json"
        found[str(path.relative_to(root))] = (status.st_mode, status.st_mtime_ns if timed else 0, content)
    return found


def settings(folder: Path, *, url: str | None = None, program: str = "/nonexistent/openclaw", more: str = "") -> Path:
    """Write an ops.yaml for a gateway that is down, or at `url`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ops.yaml"
    path.write_text(f"openclaw:\n  program: {program}\n  url: {url or f'http://127.0.0.1:{unused_port()}'}\n{more}")
    return path


def prune(root: Path, *args: str | Path) -> Said:
    """Call prune-sessions with --json for an installation whose gateway is down, its state beside `root`."""
    beside = root.parent / f"{root.name}-mmtools"
    config = beside / "ops.yaml"
    if not config.exists():
        settings(beside)
    return call("prune_sessions", "--json", "--state", beside / "state", "--config", config, "--openclaw", root, "--now", NOW, *args)
