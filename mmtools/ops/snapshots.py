"""Snapshots: what ran and what was owned at one instant, with copies of the files that say so, under `snapshots/<id>/`.

A snapshot is there whole or not at all, and never changed afterwards; `verify` finds a byte that is another. How many are kept is said
by ops.yaml, and one good one of the last day stays in any case. What to do with one is `recovery`'s business. Called by `snapshot`,
`recover`, `safe-restart` and `prune-sessions`.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmtools import __version__
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.moments import Moment, iso
from mmtools.ops.copies import Copy, Fate, copy, look
from mmtools.ops.settings import Settings, default_path
from mmtools.state import GRACE_S, StateDir

SCHEMA = "mmtools.snapshot/1"
FOLDER = "snapshots"
MANIFEST = "manifest.json"
DAY_S = 86_400.0
MACHINE_ID = Path("/etc/machine-id")
MOST_OWN = 16 << 20
"""Bytes of a file of a run, or of ops.yaml, that is copied."""
_ID = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z")
_FORM = "%Y%m%dT%H%M%S.%fZ"
_RUN_FILES = ("run.yaml", "live_state.json", "kill.json")
_ROOM = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot as its manifest tells it. parts: by name, each `is` present, none or not known. files: by the name of the copy."""

    id: str
    when: Moment
    why: str
    host: str
    version: str
    parts: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    def content(self, part: str) -> Any:
        """Return what a part holds; None unless it is present."""
        found = self.parts.get(part, {})
        return found.get("content") if found.get("is") == "present" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A snapshot that was taken, or would be. removed: older ones that went, or would go, for it."""

    snapshot: Snapshot
    removed: tuple[str, ...]


class BadRequest(Refused):
    """There is no such snapshot."""


def take(
    state: StateDir,
    settings: Settings,
    *,
    why: str,
    root: str | None = None,
    config: str | None = None,
    dry_run: bool = False,
    wait_s: float = GRACE_S,
) -> Taken:
    """Take a snapshot, and remove those that are too many. root: the OpenClaw folder, in place of ops.yaml's. config: which ops.yaml.

    A dry run asks everything that a snapshot asks, and writes nothing. Raises TryLater while another one is being taken for all of
    `wait_s`, and what a write of the state raises: then there is no new snapshot.
    """
    from mmtools.ops import gateway_files, inventory
    from mmtools.ops.openclaw import Installation

    where = Installation.open(root or settings.openclaw.root, None if root else settings.openclaw.config)
    if dry_run:
        if state.is_locked(FOLDER):
            raise TryLater(f"{FOLDER} is running: its lock is held; wait for it to end, and run again")
        parts = {name: part.document() for name, part in inventory.parts(state, settings).items()}
        files = {**_own_planned(state, parts, config), **{f"openclaw/{n}": c for n, c in gateway_files.planned(where).items()}}
        planned = _snapshot(_new_id(state), why, parts, files)
        return Taken(snapshot=planned, removed=tuple(_too_many([*ids(state), planned.id], state, settings.snapshots.keep, Moment.now())))
    with state.lock(FOLDER, wait_s):
        state.sweep(FOLDER)
        removed = _remove(state, _too_many(ids(state), state, settings.snapshots.keep, Moment.now()))  # a removal may have failed before
        parts = {name: part.document() for name, part in inventory.parts(state, settings).items()}
        new = _new_id(state)
        with state.making(f"{FOLDER}/{new}") as folder:
            files = {
                name: copy(state, f"{folder}/files/{name}", path, most_bytes=MOST_OWN) for name, path in _own(state, parts, config).items()
            }
            told, theirs = gateway_files.gather(state, f"{folder}/files/openclaw", where)
            parts.update({name: part.document() for name, part in told.items()})
            files.update({f"openclaw/{name}": kept for name, kept in theirs.items()})
            snapshot = _snapshot(new, why, parts, files)
            state.write(f"{folder}/{MANIFEST}", _body(snapshot), schema=SCHEMA)
        removed += _remove(state, _too_many(ids(state), state, settings.snapshots.keep, Moment.now()))
        return Taken(snapshot=snapshot, removed=tuple(removed))


def ids(state: StateDir) -> list[str]:
    """Return the ids of all snapshots, oldest first."""
    return [name.removeprefix(f"{FOLDER}/") for name in state.names(f"{FOLDER}/*") if _ID.fullmatch(name.removeprefix(f"{FOLDER}/"))]


def read(state: StateDir, snapshot_id: str) -> Snapshot:
    """Return a snapshot by its manifest alone. Raises Refused when that is damaged, or there is none; Misconfigured for another schema."""
    if not _ID.fullmatch(snapshot_id) or not state.path(f"{FOLDER}/{snapshot_id}").is_dir():
        raise BadRequest(f"there is no snapshot {snapshot_id} in {state.root}; `snapshot --list` names those there are")
    body = state.verify(f"{FOLDER}/{snapshot_id}/{MANIFEST}", schema=SCHEMA)
    try:
        when = body["when"]
        return Snapshot(
            id=body["id"],
            when=Moment(wall_ms=when["wall_ms"], boot_id=when["boot_id"], boot_s=when["boot_s"]),
            why=body["why"],
            host=body["host"],
            version=body["version"],
            parts=body["parts"],
            files=body["files"],
        )
    except (KeyError, TypeError) as e:
        raise Refused(f"snapshot {snapshot_id}: its manifest lacks {e}; it was not written by this program") from e


def verify(state: StateDir, snapshot_id: str) -> list[str]:
    """Return what is wrong with a snapshot, a phrase for each: a file that is missing, too many, or not what was copied."""
    try:
        snapshot = read(state, snapshot_id)
    except BadRequest:
        raise
    except (Refused, Misconfigured, TryLater) as e:
        return [str(e)]
    problems = [] if snapshot.id == snapshot_id else [f"its manifest is that of {snapshot.id}"]
    folder = state.path(f"{FOLDER}/{snapshot_id}")
    copied = {f"files/{name}": kept for name, kept in snapshot.files.items() if kept["fate"] == Fate.COPIED}
    there = set()
    for place, below, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        there |= {str(inside / name) for name in names}
        there |= {str(inside / name) for name in below if os.path.islink(os.path.join(place, name))}
    problems += [f"{name} is too many" for name in sorted(there - copied.keys() - {MANIFEST})]
    for name, kept in sorted(copied.items()):
        problem = _damage(folder / name, kept) if name in there else "is missing"
        if problem:
            problems.append(f"{name} {problem}")
    return problems


def is_good(state: StateDir, snapshot_id: str) -> bool:
    return not verify(state, snapshot_id)


def prune(state: StateDir, keep: int, now: Moment | None = None, *, dry_run: bool = False) -> list[str]:
    """Remove all but the newest `keep`, and return the ids of those removed; one good one of the last day stays in any case."""
    moment = now or Moment.now()
    if dry_run:
        return _too_many(ids(state), state, keep, moment)
    with state.lock(FOLDER):
        state.sweep(FOLDER)
        return _remove(state, _too_many(ids(state), state, keep, moment))


def host() -> str:
    """Return what this machine is known by: a hash of its id, which is nobody else's business; of its name where it has no id."""
    try:
        named = MACHINE_ID.read_text().strip()
    except OSError:
        named = ""
    named = named or f"name {os.uname().nodename}"
    return hashlib.sha256(f"mmtools snapshot {named}".encode()).hexdigest()[:32]


def age_s(snapshot: Snapshot, now: Moment) -> float:
    """Return how old a snapshot is; below 0 when it is from the future. Within one boot a jump of the clock changes nothing."""
    if now.boot_id and now.boot_id == snapshot.when.boot_id:
        return now.boot_s - snapshot.when.boot_s
    return (now.wall_ms - snapshot.when.wall_ms) / 1000


def youngest_first(state: StateDir, now: Moment) -> list[str]:
    """Return the ids of all snapshots by their age. An id is of the wall clock, which may have been set back since it was given."""

    def age(each: str) -> float:
        try:
            return age_s(read(state, each), now)
        except (Refused, Misconfigured, TryLater):
            return (now.wall_ms - _taken_ms(each)) / 1000

    return sorted(ids(state), key=lambda each: (-age(each), each), reverse=True)


# taking


def _new_id(state: StateDir) -> str:
    """Return an id that no snapshot has: the time to the microsecond, so that ids sort as they were taken."""
    while True:
        new = datetime.now(UTC).strftime(_FORM)
        if not state.exists(f"{FOLDER}/{new}"):
            return new


def _snapshot(new: str, why: str, parts: Mapping[str, Any], files: Mapping[str, Copy]) -> Snapshot:
    return Snapshot(
        id=new,
        when=Moment.now(),
        why=why,
        host=host(),
        version=__version__,
        parts=parts,
        files={name: _kept(kept) for name, kept in sorted(files.items()) if kept.fate is not Fate.NONE},
    )


def _kept(kept: Copy) -> dict[str, Any]:
    told: dict[str, Any] = {"source": kept.source, "fate": kept.fate.value}
    for key, value in (("why", kept.why), ("broken", kept.broken)):
        if value:
            told[key] = value
    if kept.mode is not None:
        told["mode"] = f"{kept.mode:04o}"
    return told | {
        key: value for key, value in (("size", kept.size), ("changed_ms", kept.changed_ms), ("sha256", kept.sha256)) if value is not None
    }


def _body(snapshot: Snapshot) -> dict[str, Any]:
    when = snapshot.when
    return {
        "id": snapshot.id,
        "when": {"at": iso(when.wall_ms), "wall_ms": when.wall_ms, "boot_id": when.boot_id, "boot_s": round(when.boot_s, 3)},
        "why": snapshot.why,
        "host": snapshot.host,
        "version": snapshot.version,
        "parts": dict(snapshot.parts),
        "files": dict(snapshot.files),
    }


def document(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as its manifest has it."""
    return _body(snapshot)


def _own(state: StateDir, parts: Mapping[str, Any], config: str | None) -> dict[str, Path]:
    """Return our own files that are copied: ops.yaml, and what says how each run stands that is not over."""
    found = {"ops.yaml": Path(os.path.abspath(config)) if config else default_path()}
    runs = parts["runs"].get("content") or {}
    for run_id, told in runs.items():
        if "owned" in told:
            found.update({f"runs/{run_id}/{name}": state.path(f"runs/{run_id}/{name}") for name in _RUN_FILES})
    return found


def _own_planned(state: StateDir, parts: Mapping[str, Any], config: str | None) -> dict[str, Copy]:
    return {name: look(path, most_bytes=MOST_OWN) for name, path in _own(state, parts, config).items()}


# keeping


def _too_many(all_ids: list[str], state: StateDir, keep: int, now: Moment) -> list[str]:
    """Return those that go. Those from the future go first: after the clock was set back they would push out every new one."""
    order = sorted(all_ids, key=lambda each: (_taken_ms(each) <= now.wall_ms, each))
    going, kept = order[: max(len(order) - keep, 0)], order[max(len(order) - keep, 0) :]

    def is_of_the_last_day(each: str) -> bool:
        return 0 <= now.wall_ms - _taken_ms(each) <= DAY_S * 1000

    if going and not any(is_of_the_last_day(each) and _is_good_or_new(state, each) for each in reversed(kept)):
        saved = next((each for each in reversed(going) if is_of_the_last_day(each) and is_good(state, each)), None)
        going = [each for each in going if each != saved]
    return going


def _is_good_or_new(state: StateDir, each: str) -> bool:
    """Whether a snapshot is good; one that is only planned will be."""
    return not state.exists(f"{FOLDER}/{each}") or is_good(state, each)


def _taken_ms(each: str) -> int:
    return int(datetime.strptime(each, _FORM).replace(tzinfo=UTC).timestamp() * 1000)  # not later than it was


def _remove(state: StateDir, going: list[str]) -> list[str]:
    for each in going:
        state.remove_tree(f"{FOLDER}/{each}")
    return going


# verifying


def _damage(path: Path, kept: Mapping[str, Any]) -> str:
    """Return what is wrong with a copy, "" when nothing is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        return f"cannot be read ({e.strerror})"
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return "is no regular file"
        if found.st_size != kept["size"]:
            return f"has {found.st_size} bytes, and {kept['size']} were copied"
        digest = hashlib.sha256()
        while piece := os.read(fd, _ROOM):
            digest.update(piece)
        return "" if digest.hexdigest() == kept["sha256"] else "is not what was copied (another SHA-256)"
    except OSError as e:
        return f"cannot be read ({e.strerror})"
    finally:
        os.close(fd)
