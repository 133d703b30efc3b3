"""System calls on state files: whole writes, healing, locks; errors in words. Called by `state` and `recordlog`;
of `sync` alone also by `ops`, which writes the files of others.

Here are paths, descriptors, bytes and errno. Documents, records and the names of files and locks may not be known here: what one
must know about them is handed in (`heal`, `replace`).

Every change goes through `os.write`, `os.fsync`, `os.replace` and their like, called as attributes, so that a test can put a
failing disk or a kill under each one of them. `writing` puts what the system says in words: `replace` and `sync_folder` have
it inside; what raises OSError (the folders, the appends, `heal`, `open_locked`) is called within the caller's.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from mmtools.errors import Misconfigured, TryLater

_PERMANENT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
_CURES = {errno.ENOSPC: "free space and run again", errno.EDQUOT: "free space and run again", errno.EIO: "check the disk and run again"}
_BLOCK = 65536

# errors


def told(e: OSError, path: Path, standing: str) -> TryLater | Misconfigured:
    """Return the error for what the system said about `path`; `standing` is how the file stands now."""
    if e.errno in _PERMANENT:
        return Misconfigured(f"{path}: {e.strerror}; {standing}; make it usable by this user, or choose another folder with --state")
    return TryLater(f"{path}: {e.strerror}; {standing}; {_CURES.get(e.errno or 0, 'run again later')}")


@contextmanager
def writing(path: Path, standing: str = "what was there before is whole") -> Iterator[None]:
    """Raise what `told` makes of an OSError inside."""
    try:
        yield
    except OSError as e:
        raise told(e, path, standing) from e


def move_aside(path: Path) -> Path:
    """Rename a broken file out of the way and return where it lies; where it was when that fails (a read-only disk)."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    n = 1
    while (aside := path.with_name(f"{path.name}.broken-{stamp}-{n}")).exists():
        n += 1
    try:
        os.rename(path, aside)
    except OSError:
        return path
    return aside


# whole writes


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, for good; nothing happens when it is there."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another process was faster; if it is a file, what follows fails with ENOTDIR
        os.mkdir(folder, 0o700)
    sync(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or a removal outlive a power cut, after it was done and is visible; `sync` with its own words for a failure."""
    with writing(folder, "the change was made, but a power cut may undo it"):
        sync(folder)


def sync(folder: Path) -> None:
    """Wait until the disk holds the names in a folder, before anything relies on them."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(folder: Path) -> None:
    """Wait until the disk holds the names in a folder and in all below it."""
    for place, _, _ in os.walk(folder):
        sync(Path(place))


def _write_all(fd: int, content: bytes) -> None:
    written = os.write(fd, content)
    while written < len(content):
        written += os.write(fd, memoryview(content)[written:])


def replace(new: Path, path: Path, pieces: Iterable[bytes], wait_s: float) -> None:
    """Put a whole file in the place of `path`, written piece by piece beside it as `new` first.

    Raises TryLater when another process is writing it for all of `wait_s`; what making a piece raises leaves the file alone.
    """
    with writing(path):
        make_folder(path.parent)
        fd = open_locked(new, os.O_WRONLY, wait_s)  # locked: two writers must not mix in one file
        try:
            os.ftruncate(fd, 0)
            for piece in pieces:
                _write_all(fd, piece)
            os.fsync(fd)
            os.replace(new, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise
        finally:
            release(fd)
    sync_folder(path.parent)


def write_or_undo(fd: int, lines: bytes, size: int, *, sync: bool) -> int:
    """Append whole lines to a file of this size and return its new size; on any error it is cut back to what it was."""
    try:
        _write_all(fd, lines)
        if sync:
            os.fsync(fd)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(fd, size)
        raise
    return size + len(lines)


def heal(fd: int, is_record: Callable[[bytes], bool]) -> int:
    """Cut off what a kill left at the end of lines (part of one, or a last one that `is_record` does not know) and return the size."""
    size = os.fstat(fd).st_size
    end = _line_start(fd, size)
    start = _line_start(fd, end - 1)
    if not is_record(os.pread(fd, end - start, start)):
        end = start
    if end != size:
        os.ftruncate(fd, end)
    return end


def _line_start(fd: int, at: int) -> int:
    """Return where the line that contains or ends at offset `at` starts: after the last newline before it."""
    while at > 0:
        block = max(0, at - _BLOCK)
        newline = os.pread(fd, at - block, block).rfind(b"\n")
        if newline >= 0:
            return block + newline + 1
        at = block
    return 0


# kernel locks

_held: set[int] = set()


def open_locked(path: Path, flags: int, wait_s: float) -> int:
    """Open (or create) a file and lock it for this descriptor alone. Raises BlockingIOError when it stays locked for `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        fd = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(fd, path):
                _held.add(fd)
                return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                raise BlockingIOError(errno.EAGAIN, "another process is writing it") from None
            time.sleep(0.005)
        os.close(fd)


def is_locked(path: Path) -> bool:
    """Return whether anyone holds the lock on a file, without creating it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as e:
        raise told(e, path, "whether it is held is not known") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _is_still(fd: int, path: Path) -> bool:
    """Whether `path` still leads to the open file: its last holder may have renamed or removed it."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def release(fd: int) -> None:
    """Close what `open_locked` opened, and with it the lock; nothing happens in a forked child, which has closed it."""
    if fd in _held:
        _held.discard(fd)
        os.close(fd)


def _forget_locks() -> None:
    # A forked child shares the descriptors: while one is open anywhere, killing the holder would not free its lock.
    for fd in tuple(_held):
        release(fd)


os.register_at_fork(after_in_child=_forget_locks)
