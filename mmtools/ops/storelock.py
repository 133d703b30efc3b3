"""Taking part in the `sessions.json.lock` protocol of OpenClaw's lock-file era (to 2026.4.29). Called by `swapping` alone.

The lock is a file that only one process can create, and that its owner removes. All its releases take it away from a living owner after
30 s, and their writers give up after 10 s of waiting: so it is held for a rename and little more, never past `MOST_S`, and looked at
again before anything is changed. What is locked is not known here.
"""

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from mmtools import moments
from mmtools.errors import TryLater
from mmtools.ops import foreign, procfs

WAIT_S = 10.0
MOST_S = 8.0
"""Then it is let go, whatever its holder is at."""
LAST_S = 7.0
"""So late may it be for a change under it: a rename takes a moment, too."""
STALE_S = 30.0
DEAD_S = 5.0
"""A lock whose process we do not see is left for so long: it may be that of a gateway in a container, at work."""
PROGRAM = "mmtools"


@dataclass(frozen=True, slots=True)
class Held:
    """The lock as long as it is ours. `holding` makes it."""

    path: Path
    content: bytes
    inode: int
    since_s: float

    def held_s(self) -> float:
        return time.monotonic() - self.since_s

    def is_ours(self) -> bool:
        """Whether the file is still the one that we made: OpenClaw may have taken the lock over."""
        found = _look(self.path)
        return found is not None and found.inode == self.inode and found.content == self.content

    def check(self) -> None:
        """Raise TryLater when the lock is no longer ours, or has been held too long to change anything under it."""
        if self.held_s() > LAST_S:
            raise TryLater(f"{self.path} was held for {LAST_S:g} s, too long; nothing was changed, run again when there is less load")
        if not self.is_ours():
            raise TryLater(f"{self.path} was taken over by another process; nothing was changed, run again later")

    def let_go(self) -> None:
        """Remove the lock if it is still ours."""
        if self.is_ours():
            with suppress(OSError):  # it is stale once this process is gone, and is taken over then
                os.unlink(self.path)


@contextmanager
def holding(path: Path, wait_s: float = WAIT_S) -> Iterator[Held]:
    """Hold the lock at `path`. Raises TryLater when another holds it for all of `wait_s`; a stale one is removed, as OpenClaw does."""
    import threading

    with foreign.telling(path, "the store was not changed"):
        held = _take(path, wait_s)
    limit = threading.Timer(max(MOST_S - held.held_s(), 0), held.let_go)  # a slow disk may keep us, and the gateway waits 10 s
    limit.daemon = True
    try:
        limit.start()
        yield held
    finally:
        limit.cancel()
        if limit.is_alive():
            limit.join()
        held.let_go()


def _take(path: Path, wait_s: float) -> Held:
    deadline, pause_s = time.monotonic() + wait_s, 0.025
    while True:
        found = _look(path)
        if found is None:
            held = _create(path)
            if held is not None:
                return held
            continue
        if found.is_stale():
            _remove(path, found)
            continue
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            owner = f"process {found.pid}" if found.pid is not None else "another process"
            raise TryLater(f"{path} is held by {owner}; nothing was changed, run again later")
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, 0.25)


def _create(path: Path) -> Held | None:
    """Make the lock, whole: a link of a file beside it, which fails as O_EXCL does where there is one. None when there is one.

    A lock that is created first and written then is empty for an instant, and most releases take an empty one over at once.
    """
    store = path.name.removesuffix(".lock")
    beside = path.with_name(f"{store}.{os.getpid()}.{uuid4()}.tmp")  # OpenClaw clears away its own of this name
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        since_s = time.monotonic()
        content = _content()
        inode = os.fstat(fd).st_ino
        if os.write(fd, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.link(beside, path)
    except FileExistsError:
        return None
    finally:
        os.close(fd)
        with suppress(OSError):
            os.unlink(beside)
    return Held(path, content, inode, since_s)


def _content() -> bytes:
    """Return what every release of the era can read: `startedAt` for the oldest, `createdAt` for the others, `starttime` for the newest."""
    pid, now_ms = os.getpid(), moments.now_ms()
    lock = {"pid": pid, "createdAt": moments.iso(now_ms), "starttime": _start_of(pid), "startedAt": now_ms, "program": PROGRAM}
    return json.dumps({name: value for name, value in lock.items() if value is not None}, indent=2).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lock:
    """A lock file as found; pid None: its content says nothing that can be used."""

    inode: int
    content: bytes
    age_s: float
    """By the clock of the file system: the only time that two programs share."""
    pid: int | None
    created_ms: float | None
    starttime: int | None
    ours: bool

    def is_stale(self) -> bool:
        age_s = self.age_s if self.created_ms is None else max(self.age_s, (moments.now_ms() - self.created_ms) / 1000)
        if age_s > STALE_S:
            return True
        if self.pid is None:
            return False
        return _is_gone(self.pid, self.starttime) and (self.ours or age_s > DEAD_S)


def _look(path: Path) -> _Lock | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        content = os.pread(fd, 65536, 0)
    finally:
        os.close(fd)
    said = _said(content)
    return _Lock(
        inode=status.st_ino,
        content=content,
        age_s=time.time() - status.st_mtime,
        pid=_whole(said.get("pid")),
        created_ms=_ms(said.get("createdAt")),
        starttime=_whole(said.get("starttime")),
        ours=said.get("program") == PROGRAM,
    )


def _remove(path: Path, stale: _Lock) -> None:
    """Remove a stale lock, unless it has become another one meanwhile."""
    found = _look(path)
    if found is not None and (found.inode, found.content) == (stale.inode, stale.content):
        with suppress(FileNotFoundError):
            os.unlink(path)


def _said(content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 2**53 else None


def _ms(value: Any) -> float | None:
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return at.timestamp() * 1000 if at.tzinfo is not None else None


def _is_gone(pid: int, starttime: int | None) -> bool:
    """Whether the process that said so much of itself is not to be seen: no such PID, or another process has it now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    start = _start_of(pid)
    return start is not None and starttime is not None and start != starttime


def _start_of(pid: int) -> int | None:
    """Return the start of a process in clock ticks since boot; None when it cannot be read."""
    said = procfs.stat(pid)
    return None if said is None else said.start_ticks
