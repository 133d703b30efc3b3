"""One file of others copied into the state folder as it stood at one instant, or the reason why it was not. Called by `snapshots`.

A copy counts only when the file was the same before and after it: same inode, size and times, and no write so fresh that the clock of the
file system could hide another. What a file means is its caller's business. Memory is constant, whatever the size.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mmtools.state import StateDir

BLOCK = 1 << 18
TRIES = 8
FRESH_NS = 25_000_000
"""Of a change: another one within the same tick of the file system's clock (at most 10 ms) would not be seen."""


class Fate(StrEnum):
    """What became of a file."""

    COPIED = "copied"
    NONE = "none"
    """There is no such file."""
    CHANGING = "changing"
    """It was written to during every try."""
    TOO_BIG = "too big"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A file and what became of it. why: for people, "" for a copy. sha256 is None where nothing was copied.

    broken: what is wrong with the content of a file that was copied as it is, "" when nothing is known to be.
    """

    source: str
    fate: Fate
    why: str = ""
    size: int | None = None
    mode: int | None = None
    changed_ms: int | None = None
    sha256: str | None = None
    broken: str = ""


class _Changed(Exception):
    """The file is not what it was when the copy began."""


def copy(state: StateDir, name: str, source: Path, *, most_bytes: int) -> Copy:
    """Copy `source` to the state file `name`; it is there only when the answer says copied. Raises what a write of the state raises."""
    failure = ""
    for number in range(TRIES):
        if number:
            time.sleep(0.02 * number)
        before = look(source, most_bytes=most_bytes)
        if before.fate is not Fate.COPIED:
            return before
        try:
            fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            failure = _not_readable(source, e).why
            continue
        try:
            digest = hashlib.sha256()
            found = _settled(fd)
            state.write_pieces(name, _pieces(fd, source, found, most_bytes, digest))
            return Copy(
                source=str(source),
                fate=Fate.COPIED,
                size=found.st_size,
                mode=stat.S_IMODE(found.st_mode),
                changed_ms=found.st_mtime_ns // 1_000_000,
                sha256=digest.hexdigest(),
            )
        except _Changed as e:
            failure = str(e)
        finally:
            os.close(fd)
    if failure:
        return Copy(source=str(source), fate=Fate.UNREADABLE, why=failure)
    return Copy(source=str(source), fate=Fate.CHANGING, why=f"it was written to during each of {TRIES} tries to copy it")


def look(source: Path, *, most_bytes: int) -> Copy:
    """Return what would become of a file, reading none of it; COPIED, without a hash, is a promise that can still be broken."""
    try:
        found = os.stat(source)
    except OSError as e:
        return _not_readable(source, e)
    if not stat.S_ISREG(found.st_mode):
        return Copy(source=str(source), fate=Fate.UNREADABLE, why="it is no regular file")
    if found.st_size > most_bytes:
        return Copy(
            source=str(source), fate=Fate.TOO_BIG, why=f"it has {found.st_size} bytes, and {most_bytes} are copied", size=found.st_size
        )
    if not os.access(source, os.R_OK):
        return Copy(source=str(source), fate=Fate.UNREADABLE, why="this user may not read it")
    return Copy(source=str(source), fate=Fate.COPIED, size=found.st_size, mode=stat.S_IMODE(found.st_mode))


def same(one: os.stat_result, other: os.stat_result) -> bool:
    """Return whether two looks saw one file, unchanged."""
    return all(getattr(one, part) == getattr(other, part) for part in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"))


def _settled(fd: int) -> os.stat_result:
    """Return how the file stands, once its newest change is so old that a later one would show."""
    found = os.fstat(fd)
    for _ in range(4):
        if not 0 <= time.time_ns() - max(found.st_ctime_ns, found.st_mtime_ns) < FRESH_NS:
            return found
        time.sleep(FRESH_NS / 1e9)
        found = os.fstat(fd)
    raise _Changed


def _pieces(fd: int, source: Path, before: os.stat_result, most_bytes: int, digest: "hashlib._Hash") -> Iterator[bytes]:
    """Yield the file, hashed on the way. Raises _Changed at its end when it is not what it was."""
    at = 0
    while at <= most_bytes and (piece := _read(fd, at)):
        digest.update(piece)
        at += len(piece)
        yield piece
    try:
        now = os.stat(source)
    except OSError:
        raise _Changed from None
    if at != before.st_size or not same(before, os.fstat(fd)) or not same(before, now):
        raise _Changed


def _read(fd: int, at: int) -> bytes:
    """Read on. Raises _Changed, no OSError: that would be taken for one of the copy's disk."""
    try:
        return os.pread(fd, BLOCK, at)
    except OSError as e:
        raise _Changed(f"it cannot be read ({e.strerror})") from e


def _not_readable(source: Path, e: OSError) -> Copy:
    gone = isinstance(e, FileNotFoundError)
    return Copy(source=str(source), fate=Fate.NONE if gone else Fate.UNREADABLE, why="" if gone else f"it cannot be read ({e.strerror})")
