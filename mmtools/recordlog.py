"""Records of one writer alone: JSON lines that are buffered, written together, and brought to the disk when it asks for it.

A file is opened through `StateDir.log`, which knows where it lies; records that several processes append, and the reading of all, are
`state`'s. What a record means is not known here.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from mmtools import disk

_object = msgspec.json.Decoder(dict[str, Any])


class RecordLog:
    """Records kept open by their only writer: `append` buffers, `flush` writes, `sync` makes it outlive a power cut.

    After a flush that failed the file is as it was before that flush, and every further flush raises the same error.
    `StateDir.log` makes them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._failure: BaseException | None = None
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._size = disk.heal(self._fd, is_record)
            if self._size == 0:
                disk.sync(path.parent)
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, line: bytes) -> None:
        """Buffer one record, a JSON object on one line without its newline."""
        if b"\n" in line:
            raise ValueError(f"{self._path}: a record is one line")
        self._lines.append(line)

    def flush(self) -> None:
        """Hand all buffered lines to the kernel at once: from here on they outlive this process."""
        if self._failure is not None:
            raise self._failure
        if self._lines:
            try:
                self._lines.append(b"")  # so that the last line has its newline, too
                self._size = disk.write_or_undo(self._descriptor(), b"\n".join(self._lines), self._size, sync=False)
                self._lines.clear()
            except BaseException:
                with self._failing():  # only here: a run flushes at every turn, and entering this costs half of what a write does
                    raise

    def sync(self) -> None:
        """Flush, and wait until the disk holds all lines. When that fails they may or may not be kept, and no more is written."""
        self.flush()
        with self._failing():
            os.fsync(self._descriptor())

    def close(self) -> None:
        """Flush and close; once is enough, twice does no harm."""
        if self._fd is None:
            return
        try:
            if self._failure is None:
                self.flush()
        finally:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _descriptor(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self._path}: the log is closed")
        return self._fd

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            with disk.writing(self._path):
                yield
        except BaseException as e:  # an interrupt too: a line must not be written twice, nor one after a gap
            self._failure = e
            raise


def is_record(line: bytes) -> bool:
    """Return whether a line is a record: a JSON object."""
    try:
        _object.decode(line)
    except (ValueError, RecursionError):
        return False
    return True
