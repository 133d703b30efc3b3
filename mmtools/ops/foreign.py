"""Files outside the state folder: replaced whole, failures of the system in words, names brought to the disk.

State files of our own go through `state` instead, which locks and heals them; nothing of that may be done to another program's.
Changes are calls of `os`, as attributes, so that a test can put a failing disk or a kill under each.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmtools import disk
from mmtools.errors import Misconfigured, TryLater

_PERMANENT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
_CURES = {errno.ENOSPC: "free space and run again", errno.EDQUOT: "free space and run again", errno.EIO: "check the disk and run again"}


@contextmanager
def telling(path: Path, standing: str) -> Iterator[None]:
    """Raise TryLater or Misconfigured for an OSError inside. standing: how the file at `path` stands then."""
    try:
        yield
    except OSError as e:
        if e.errno in _PERMANENT:
            raise Misconfigured(f"{path}: {e.strerror}; {standing}; run this as the user that owns it") from e
        raise TryLater(f"{path}: {e.strerror}; {standing}; {_CURES.get(e.errno or 0, 'run again later')}") from e


def replace(path: Path, content: bytes, *, new: Path, mode: int) -> None:
    """Put a whole file in the place of `path`, written beside it as `new` first. Nobody else may do the same. Raises OSError."""
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(fd, mode)  # whatever the umask, and a `new` that a kill left
        written = 0
        while written < len(content):
            written += os.write(fd, memoryview(content)[written:])
        os.fsync(fd)
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    finally:
        os.close(fd)
    disk.sync(path.parent)


def make_folder(folder: Path) -> None:
    """Create a folder in one that is there; nothing happens when it is there itself. Raises OSError."""
    if not folder.is_dir():
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        disk.sync(folder.parent)


def keep(folder: Path) -> None:
    """Make a change of names that was made outlive a power cut; `disk.sync` with its own words for a failure."""
    with telling(folder, "the change was made, but a power cut may undo it"):
        disk.sync(folder)
