"""A small machine for tests of snapshots and recoveries: a state folder with a run that died, an OpenClaw folder, a board.

Programs are fakes put first on PATH, servers listen on 127.0.0.1 at a port that the system picks, and all end with their `with` block.
No checks in here.
"""

import hashlib
import itertools
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from commandline import end, start, wait_for_journal
from serving import Handler, serving

from mmtools.ops import launching, revive
from mmtools.runs.live_state import SCHEMA as LIVE_STATE
from mmtools.state import StateDir

RUN = "nhl"
LONG = "params: {seed: 7}\nduration_hours: 5000\nsynthetic: {markets: 2}\n"
CONFIG_SECRET = "c0nfig-t0ken-4711"
SESSIONS = {
    "agent:main:main": {"sessionId": "5e55-main", "updatedAt": 1_770_573_855_796, "skillsSnapshot": {"prompt": "bulk " * 40}},
    "agent:main:cron:8a6a": {"sessionId": "51b4", "updatedAt": 1_770_573_855_111, "label": "Cron: queue check"},
}
JOBS = {"version": 1, "jobs": [{"id": "8a6a", "name": "queue check", "enabled": True, "schedule": {"kind": "every", "everyMs": 600_000}}]}
NOBODY_LISTENS = "http://127.0.0.1:9"

SYSTEMCTL = """#!/bin/sh
case "$*" in
    *show-environment*) exit 1 ;;
esac
case "$1" in
    --user) printf 'Id=openclaw-gateway.service\\nLoadState=loaded\\nActiveState=%s\\nSubState=running\\nMainPID=42\\n' "{active}"
        printf 'InvocationID=aa\\nNRestarts=0\\nActiveEnterTimestamp=Fri 2026-11-27 01:00:00 UTC\\n'
        printf '\\nId=vllm.service\\nLoadState=not-found\\nActiveState=inactive\\n' ;;
    *) echo "Failed to connect to bus: Host is down" >&2; exit 1 ;;
esac
"""

QUOTE_RUN = """#!/bin/sh
# Takes the run's lock as quote-run does, and holds it until it is ended, at most a minute. Its words go to `launches`.
echo "$$ $*" >>{log}
while [ $# -gt 1 ]; do
    case "$1" in --run-id) id=$2 ;; --state) state=$2 ;; esac
    shift
done
{does}
exec 9>"$state/locks/runs/$id.lock"
flock -n 9 || exit 75
n=0
while [ $n -lt 600 ]; do sleep 0.1 9>&-; n=$((n + 1)); done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """state: with the run RUN, killed in the middle, which belongs to recover. claw: the gateway's folder. settings: an ops.yaml."""

    folder: Path
    state: StateDir
    claw: Path
    settings: Path
    programs: Path

    def told(self, name: str) -> Any:
        return json.loads(self.state.path(name).read_bytes())

    def tree(self) -> dict[str, str]:
        """Return a hash of every file by its name, and of every folder."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            status = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path.relative_to(self.folder))] = f"{status.st_mtime_ns} {status.st_mode} {content}"
        return found

    def configure(self, text: str = "", *, url: str = NOBODY_LISTENS) -> None:
        claw = f"openclaw:\n  root: {self.claw}\n  url: {url}\n  program: {self.programs / 'openclaw'}\n"
        self.settings.write_text(claw + text)

    def program(self, name: str, text: str) -> Path:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def launches(self) -> list[str]:
        log = self.folder / "launches"
        return log.read_text().splitlines() if log.exists() else []

    def end_launched(self) -> None:
        """End what the fake quote-run started, by its PIDs."""
        for line in self.launches():
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while self.state.is_locked(f"runs/{RUN}") and time.monotonic() < deadline:
            time.sleep(0.01)

    def set_owner(self, owner: str) -> None:
        with self.state.edit(f"runs/{RUN}/live_state.json", schema=LIVE_STATE) as live:
            live["owner"] = owner

    def stop(self) -> None:
        """Let the run have ended in order: nothing is to be done about it."""
        with self.state.edit(f"runs/{RUN}/live_state.json", schema=LIVE_STATE) as live:
            live["status"] = "stopped"

    def fake_quote_run(self, does: str = "") -> None:
        """Put a quote-run in place of ours. does: shell lines before it takes the lock."""
        self.program("quote-run", QUOTE_RUN.format(log=self.folder / "launches", does=does))

    def systemctl(self, active: str = "active") -> None:
        self.program("systemctl", SYSTEMCTL.format(active=active))


_died: list[Path] = []


def died_once(temporary: pytest.TempPathFactory) -> Path:
    """Return a state folder with a real run that was killed; asked for again it is the same: only copy it."""
    if _died:
        return _died[0]
    folder = temporary.mktemp("died")
    config = folder / "run.yaml"
    config.write_text(LONG)
    process = start(folder / "state", "--config", config, "--run-id", RUN)
    try:
        wait_for_journal(folder / "state" / "runs" / RUN, process)
    finally:
        process.kill()
        end(process)
    _died.append(folder / "state")
    return _died[0]


@contextmanager
def machine_with(died: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Lend a machine of its own, a copy of the state folder `died` in it."""
    shutil.copytree(died, tmp_path / "state")
    (tmp_path / "programs").mkdir()
    made = Machine(
        folder=tmp_path,
        state=StateDir(tmp_path / "state"),
        claw=install(tmp_path / "claw"),
        settings=tmp_path / "ops.yaml",
        programs=tmp_path / "programs",
    )
    made.configure()
    made.systemctl()
    made.fake_quote_run()
    made.set_owner("recover")
    monkeypatch.setenv("PATH", f"{made.programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setattr(launching, "BIN", made.programs)
    monkeypatch.setattr(revive, "STAYS_S", 0.05)
    try:
        yield made
    finally:
        made.end_launched()


def install(claw: Path) -> Path:
    """Make an OpenClaw folder of the file eras."""
    for name, content in (
        ("agents/main/sessions/sessions.json", SESSIONS),
        ("cron/jobs.json", JOBS),
        ("subagents/runs.json", {"runs": {}}),
    ):
        (claw / name).parent.mkdir(parents=True)
        (claw / name).write_text(json.dumps(content, indent=2))
    (claw / "openclaw.json").write_text(f"// json5\n{{gateway: {{auth: {{token: '{CONFIG_SECRET}'}}}},}}\n")
    (claw / "openclaw.json").chmod(0o640)
    return claw


@dataclass(slots=True)
class Board:
    """A board of tasks, and what was asked of it. answer: (status, body) in place of the PATCH's own answer, None to obey."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    answer: tuple[int, Any] | None = None
    down: bool = False
    page: int = 200
    shrinks: bool = False
    """Whether the newest task goes while the list is read."""
    url: str = ""

    def patches(self) -> list[str]:
        return [line for line in self.asked if line.startswith("PATCH")]


@contextmanager
def board() -> Iterator[Board]:
    """Serve a board; a GET of a single task is 405, and unknown times have no zone, as the real one's."""
    made = Board()

    class Asked(Handler):
        def do_GET(self) -> None:
            self._note()
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            if made.down:
                return self._say(503, {"detail": "down"})
            if not url.path.endswith("/tasks"):
                return self._say(405, {"detail": "Method Not Allowed"})
            wanted = [task for task in made.tasks if task["status"] == query["status"]]
            if made.shrinks and query["offset"] != "0":
                wanted = wanted[1:]
            offset, limit = int(query["offset"]), min(int(query["limit"]), made.page)
            return self._say(200, {"items": wanted[offset : offset + limit], "total": len(wanted), "limit": limit, "offset": offset})

        def do_PATCH(self) -> None:
            self._note()
            body = json.loads(self.body())
            if made.answer is not None:
                return self._say(*made.answer)
            (task,) = [task for task in made.tasks if task["id"] == urlsplit(self.path).path.rpartition("/")[2]]
            task.update(body)
            if task["status"] == "inbox":
                task["assigned_agent_id"] = None
            return self._say(200, task)

        def _note(self) -> None:
            made.asked.append(f"{self.command} {self.path}")
            made.tokens.add(self.headers["Authorization"])

        def _say(self, status: int, body: Any) -> None:
            self.say(status, json.dumps(body).encode())

    with serving(Asked) as made.url:
        yield made


@contextmanager
def gateway(uptime_ms: int = 60_000, *, not_ready: int = 0) -> Iterator[str]:
    """Serve the JSON probes of a gateway that is well. not_ready: how many questions after the first find it starting."""
    asked = itertools.count()

    class Asked(Handler):
        def do_GET(self) -> None:
            well = not 1 <= next(asked) < 1 + not_ready
            content = json.dumps({"ok": well, "status": "live", "uptimeMs": uptime_ms, "version": "2026.9.6"}).encode()
            self.say(200 if well else 503, content)

    with serving(Asked) as url:
        yield url
