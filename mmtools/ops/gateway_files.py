"""What an OpenClaw keeps in files, copied and summed up for a snapshot: sessions, cron jobs, the register of sub-agents.

Called by `snapshots` alone, which says where the copies go. Nothing of OpenClaw's is written, and its databases are only read. A file
that is broken is copied and called broken; the parts below never take it for an empty one.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from mmtools.errors import Misconfigured, Refused
from mmtools.ops.copies import Copy, Fate, copy, look, same
from mmtools.ops.inventory import Part, none, not_known, present
from mmtools.ops.openclaw import Agent, Installation
from mmtools.ops.store import Unreadable
from mmtools.ops.store_index import index
from mmtools.state import StateDir

MOST_STORE = 64 << 20
"""Bytes of a sessions.json or a database that is copied; of a larger sessions.json only the index is kept."""
MOST_JSON = 16 << 20
MOST_INDEXED = 4 << 30
DATABASE_LIMIT_S = 20.0
TRIES = 3
_PAGES = 512
_PARTS = ("sessions", "cron", "subagents")
_SHARED = "state/openclaw.sqlite"


def _plain(where: Installation) -> dict[str, Path]:
    """Return the files that are copied as they are, by the name of the copy."""
    return {
        "openclaw.json": where.config,
        **{name: where.root / name for name in ("cron/jobs.json", "cron/jobs-state.json", "subagents/runs.json")},
    }


def _agents(where: Installation) -> tuple[tuple[Agent, ...], str]:
    """Return the agents, and why a store may not be the one in use, "" when nothing says so. Raises Misconfigured for an odd folder."""
    try:
        return where.agents(), ""
    except Refused as e:
        return where.usual_agents(), str(e)


def planned(where: Installation) -> dict[str, Copy]:
    """Return what would become of each file, by the name of its copy; none is read but the config."""
    try:
        agents, _ = _agents(where)
    except Misconfigured:
        return {}
    found = {name: look(path, most_bytes=MOST_JSON) for name, path in _plain(where).items()}
    for agent in agents:
        found[_store_name(agent)] = look(agent.store, most_bytes=MOST_STORE)
        found[_database_name(agent)] = look(agent.database, most_bytes=MOST_STORE)
    found[_SHARED] = look(where.root / _SHARED, most_bytes=MOST_STORE)
    return found


def gather(state: StateDir, folder: str, where: Installation) -> tuple[dict[str, Part], dict[str, Copy]]:
    """Copy the files below `folder` of the state, and return the parts that they tell and what became of each, by the copy's name."""
    try:
        there = stat.S_ISDIR(os.stat(where.root).st_mode)
        found, doubt = _agents(where)
    except FileNotFoundError:
        there, found, doubt = False, (), ""
    except OSError as e:
        return dict.fromkeys(_PARTS, not_known(f"{where.root} cannot be read ({e.strerror})")), {}
    except Misconfigured as e:
        return dict.fromkeys(_PARTS, not_known(str(e))), {}
    if not there:
        return dict.fromkeys(_PARTS, none()), {}
    files = {name: _whole(state, f"{folder}/{name}", path) for name, path in _plain(where).items()}
    shared = _databases(state, folder, _SHARED, where.root / _SHARED)
    files.update(shared)
    agents = {agent.id: _sessions(state, folder, agent, files, doubt) for agent in found}
    sessions = {agent: told for agent, told in agents.items() if told["is"] != "none"}
    parts = {
        "sessions": present(sessions) if sessions else not_known("no store of sessions is where it should be"),
        "cron": _cron(state, folder, files, elsewhere=bool(shared)),
        "subagents": _subagents(state, folder, files, elsewhere=bool(shared)),
    }
    return parts, files


def _whole(state: StateDir, name: str, path: Path) -> Copy:
    """Copy a file; one of JSON that does not parse may be half of what is being written, and is copied again a few times."""
    for _ in range(TRIES):
        kept = copy(state, name, path, most_bytes=MOST_JSON)
        if kept.fate is not Fate.COPIED or path.name == "openclaw.json":  # JSON5, which more than JSON parses
            break
        try:
            msgspec.json.decode(state.path(name).read_bytes(), type=msgspec.Raw)
            break
        except msgspec.DecodeError:
            time.sleep(0.1)
    return kept


def _store_name(agent: Agent) -> str:
    return f"agents/{agent.id}/sessions/sessions.json"


def _database_name(agent: Agent) -> str:
    return f"agents/{agent.id}/agent/openclaw-agent.sqlite"


def _sessions(state: StateDir, folder: str, agent: Agent, files: dict[str, Copy], doubt: str) -> dict[str, Any]:
    """Copy an agent's store and database, write its index, and say what is known of its sessions."""
    name, database = _store_name(agent), _database_name(agent)
    kept = copy(state, f"{folder}/{name}", agent.store, most_bytes=MOST_STORE)
    copied = _databases(state, folder, database, agent.database)
    files.update(copied)
    has_database = bool(copied)
    if kept.fate is Fate.NONE:
        return not_known("its sessions are in a database, whose tables are not read").document() if has_database else none().document()
    files[name] = kept
    told = _indexed(state, folder, agent, kept, files)
    if has_database:
        doubt = "a database lies beside this store: which of the two the gateway uses is not known"
    if doubt and told["is"] == "present":
        told["content"]["doubt"] = doubt
    return told


def _indexed(state: StateDir, folder: str, agent: Agent, kept: Copy, files: dict[str, Copy]) -> dict[str, Any]:
    name = f"index/{agent.id}.jsonl"
    if kept.fate is Fate.COPIED:
        source = state.path(f"{folder}/{_store_name(agent)}")
    elif kept.fate is Fate.TOO_BIG and (kept.size or 0) <= MOST_INDEXED:
        source = agent.store
    else:
        return not_known(f"sessions.json is {kept.fate}: {kept.why}").document()
    digest, count, size = hashlib.sha256(), 0, 0

    def lines() -> Iterator[bytes]:
        nonlocal count, size
        before = _stat(source)
        for entry in index(source):
            line = json.dumps(entry, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
            digest.update(line)
            count, size = count + 1, size + len(line)
            yield line
        if not same(before, _stat(source)):
            raise Unreadable("it was written to while it was read")

    try:
        state.write_pieces(f"{folder}/{name}", lines())
    except Unreadable as e:
        files[_store_name(agent)] = replace(kept, broken=str(e))
        return not_known(f"sessions.json is broken: {e}").document()
    files[name] = Copy(source=str(agent.store), fate=Fate.COPIED, size=size, mode=0o600, sha256=digest.hexdigest())
    return present({"count": count, "index": name, "whole": kept.fate is Fate.COPIED}).document()


def _stat(path: Path) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as e:
        raise Unreadable(f"it cannot be read ({e.strerror})") from e


class _Job(msgspec.Struct):
    id: str
    name: str | None = None
    enabled: bool | None = None
    agentId: str | None = None
    schedule: Any = None
    state: Any = None


class _Jobs(msgspec.Struct):
    jobs: list[_Job]


def _cron(state: StateDir, folder: str, files: dict[str, Copy], *, elsewhere: bool) -> Part:
    read = _read(state, folder, "cron/jobs.json", files, _Jobs, elsewhere=elsewhere)
    return read if isinstance(read, Part) else present([msgspec.to_builtins(job) for job in read.jobs])


def _subagents(state: StateDir, folder: str, files: dict[str, Copy], *, elsewhere: bool) -> Part:
    read = _read(state, folder, "subagents/runs.json", files, dict[str, Any], elsewhere=elsewhere)
    if isinstance(read, Part):
        return read
    runs = read.get("runs", read)
    if not isinstance(runs, dict):
        return not_known("subagents/runs.json is of a shape that is not known")
    kept = ("childSessionKey", "requesterSessionKey", "startedAt", "endedAt", "label")
    return present({key: {name: run.get(name) for name in kept} if isinstance(run, dict) else {} for key, run in runs.items()})


def _read(state: StateDir, folder: str, name: str, files: dict[str, Copy], shape: Any, *, elsewhere: bool) -> Any:
    """Return what a copied JSON file holds, or the Part that says why nothing is known of it."""
    kept = files[name]
    if kept.fate is Fate.NONE:
        return not_known(f"there is no {name}, and a database that may hold it, whose tables are not read") if elsewhere else none()
    if kept.fate is not Fate.COPIED:
        return not_known(f"{name} is {kept.fate}: {kept.why}")
    try:
        return msgspec.json.decode(state.path(f"{folder}/{name}").read_bytes(), type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        files[name] = replace(kept, broken=str(e))
        return not_known(f"{name} is broken: {e}")


# databases


def _databases(state: StateDir, folder: str, name: str, source: Path) -> dict[str, Copy]:
    return {copied.removeprefix(f"{folder}/"): fate for copied, fate in _database(state, f"{folder}/{name}", source).items()}


class _Given(Exception):
    """The copy of a database was given up. Its text: why."""


def _database(state: StateDir, name: str, source: Path) -> dict[str, Copy]:
    """Copy a database and return what became of it, by name; nothing when there is none.

    While somebody has it open, by SQLite's own backup. Else as files, it and the log that a crash left: opening it would leave files
    of ours beside it.
    """
    seen = look(source, most_bytes=MOST_STORE)
    if seen.fate is Fate.NONE:
        return {}
    if seen.fate is not Fate.COPIED:
        return {name: seen}
    log, shared = (source.with_name(source.name + end) for end in ("-wal", "-shm"))
    if shared.exists():
        return {name: _backed_up(state, name, source, seen)}
    for _ in range(TRIES):
        before = _stats(source, log)
        kept = {name: copy(state, name, source, most_bytes=MOST_STORE)}
        if before[1] is not None and before[1].st_size:
            kept[f"{name}-wal"] = copy(state, f"{name}-wal", log, most_bytes=MOST_STORE)
        if any(each.fate is not Fate.COPIED for each in kept.values()):
            break
        now = _stats(source, log)
        if not shared.exists() and all(_alike(one, other) for one, other in zip(before, now, strict=True)):
            return kept
    for left in kept:
        state.remove(left)
    return {name: Copy(source=str(source), fate=Fate.CHANGING, why="it, or its log, was written to while it was copied", size=seen.size)}


def _stats(*paths: Path) -> list[os.stat_result | None]:
    found: list[os.stat_result | None] = []
    for path in paths:
        try:
            found.append(os.stat(path))
        except OSError:
            found.append(None)
    return found


def _alike(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    return one is other if one is None or other is None else same(one, other)


def _backed_up(state: StateDir, name: str, source: Path, seen: Copy) -> Copy:
    import sqlite3

    target = state.path(name)
    deadline = time.monotonic() + DATABASE_LIMIT_S

    def watch(_: int, remaining: int, total: int) -> None:
        if time.monotonic() > deadline:
            raise _Given(f"its copy was not done within {DATABASE_LIMIT_S:g} s")
        if total * page > MOST_STORE:
            raise _Given(f"it has {total * page} bytes, and {MOST_STORE} are copied")

    state.write_text(name, "")  # the folders, and 0600
    try:
        reading = sqlite3.connect(f"file:{_quoted(source)}?mode=ro", uri=True, timeout=2.0)
        try:
            page = int(reading.execute("PRAGMA page_size").fetchone()[0])
            writing = sqlite3.connect(target)
            try:
                reading.backup(writing, pages=_PAGES, progress=watch, sleep=0.01)
            finally:
                writing.close()
        finally:
            reading.close()
    except (_Given, sqlite3.Error) as e:
        for left in (name, f"{name}-journal", f"{name}-wal", f"{name}-shm"):
            state.remove(left)
        why = str(e) if isinstance(e, _Given) else f"SQLite cannot read it ({e})"
        return Copy(source=str(source), fate=Fate.UNREADABLE, why=why, size=seen.size)
    return _sealed(state, name, source, seen)


def _sealed(state: StateDir, name: str, source: Path, seen: Copy) -> Copy:
    """Bring a copied database to the disk, and return it with its hash."""
    digest = hashlib.sha256()
    size = 0
    with state.path(name).open("rb") as file:
        while piece := file.read(1 << 18):
            digest.update(piece)
            size += len(piece)
        os.fsync(file.fileno())
    return Copy(source=str(source), fate=Fate.COPIED, size=size, mode=seen.mode, sha256=digest.hexdigest())


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path))
