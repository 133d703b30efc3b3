"""The agent gateway's own files as facts: the size and health of its session stores, its cron jobs. They are read, never opened to write.

Asked every minute on a small server, so a large store is not decoded: its beginning and its end must do. Files of others can be replaced
while we read them: one is called broken only when it stays so.
"""

import os
import time
from pathlib import Path
from typing import Any

import msgspec

from mmtools.moments import sane_ms
from mmtools.ops.facts import Cron, Seen, Store
from mmtools.ops.openclaw import Installation, Unreadable, cron_jobs_file
from mmtools.ops.systemd import NotKnown

DECODED = 4 * 1024 * 1024
"""Bytes of a store up to which its entries are counted."""
MOST_STATE_BYTES = 16 * 1024 * 1024
EDGE = 4096
SETTLED_S = 2.0
"""A file that was written more recently may be in the middle of being written."""
AGAIN_S = 0.2
_SPACE = b" \t\r\n"


def stores(installation: Installation, now_ms: int) -> Seen[tuple[Store, ...]] | NotKnown:
    """Return the session store of each agent that has one: the file, or the database where that is what is in use."""
    found: list[Store] = []
    try:
        for agent in installation.agents():
            in_file, in_database = _stat(agent.store), _newest(agent.database)
            if in_database is not None and (in_file is None or in_database[1] >= in_file[1]):
                found.append(Store(agent=agent.id, size=in_database[0], entries=None))
            elif in_file is not None:
                found.append(_store(agent.id, agent.store))
    except OSError as e:
        return NotKnown(f"a session store cannot be read ({e.strerror})")
    return Seen(tuple(found), now_ms)


def crons(installation: Installation, now_ms: int) -> Seen[tuple[Cron, ...]] | NotKnown:
    """Return the cron jobs that are enabled, as of when the gateway wrote them down."""
    written = _stat(installation.root / "cron" / "jobs.json")
    jobs = cron_jobs_file(installation)
    if isinstance(jobs, Unreadable):
        if not jobs.absent:
            return NotKnown(jobs.why)
        if (installation.root / "state" / "openclaw.sqlite").exists():
            return NotKnown("the gateway keeps its cron jobs in a database")
        return Seen((), now_ms)
    try:
        return Seen(_crons(jobs, _states(installation.root)), now_ms if written is None else written[1] // 1_000_000)
    except (TypeError, AttributeError):
        return NotKnown("cron/jobs.json holds no cron jobs as we know them")


def _crons(jobs: tuple[dict[str, Any], ...], states: dict[str, Any]) -> tuple[Cron, ...]:
    found = []
    for job in jobs:
        if job.get("enabled", True) is not True:
            continue
        state = {**(job.get("state") or {}), **states.get(job["id"], {})}
        errors = state.get("consecutiveErrors", 0)
        found.append(
            Cron(
                name=str(job.get("name") or job["id"]),
                errors=errors if isinstance(errors, int) else 0,
                next_ms=sane_ms(state.get("nextRunAtMs")),
                last_status=str(state.get("lastStatus") or ""),
            )
        )
    return tuple(found)


def _states(root: Path) -> dict[str, Any]:
    """Return what newer releases keep of the jobs in a file of its own, by job; nothing when it is not there or of another shape."""
    try:
        with (root / "cron" / "jobs-state.json").open("rb") as opened:
            jobs = msgspec.json.decode(opened.read(MOST_STATE_BYTES)).get("jobs")
        return {name: inner if isinstance(inner := entry.get("state", entry), dict) else {} for name, entry in jobs.items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _store(agent: str, file: Path) -> Store:
    broken = ""
    for attempt in range(2):
        before = file.stat()
        entries, broken = _read(file, before.st_size)
        if not broken:
            return Store(agent=agent, size=before.st_size, entries=entries)
        if attempt == 0:
            time.sleep(AGAIN_S)
    settled = file.stat().st_mtime_ns == before.st_mtime_ns and time.time() - before.st_mtime > SETTLED_S
    return Store(agent=agent, size=before.st_size, entries=None, broken=broken if settled else "")


def _read(file: Path, size: int) -> tuple[int | None, str]:
    """Return how many entries a store has, where that is cheap, and what is wrong with it."""
    with file.open("rb") as opened:
        if size <= DECODED:
            try:
                return len(msgspec.json.decode(opened.read(), type=dict[str, msgspec.Raw])), ""
            except (ValueError, RecursionError):
                return None, "it is empty" if size == 0 else "it is no JSON object"
        first = opened.read(EDGE).lstrip(_SPACE)
        opened.seek(-EDGE, os.SEEK_END)
        last = opened.read(EDGE).rstrip(_SPACE)
    return None, "" if first.startswith(b"{") and last.endswith(b"}") else "it does not begin or end as a JSON object does"


def _stat(file: Path) -> tuple[int, int] | None:
    """Return size and time of a file; None when it is not there."""
    try:
        stat = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_size, stat.st_mtime_ns


def _newest(database: Path) -> tuple[int, int] | None:
    """Return size and time of a database with its log beside it."""
    found = [each for each in (_stat(database), _stat(database.with_name(database.name + "-wal"))) if each is not None]
    return (sum(size for size, _ in found), max(at for _, at in found)) if found and database.exists() else None
