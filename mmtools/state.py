"""State files: the only code that creates, reads, replaces, appends to, locks or removes them. Used by every room above `trading/`.

Three kinds: documents (JSON, replaced whole, with `schema` and `checksum`), records (JSON lines, only ever appended to) and
locks (the kernel's: kill -9 frees them). What a document or a record means is not known here; docs/state-files.md says who
writes which. Every name is a path inside the folder, suffix included: "runs/x/live_state.json".

How bytes reach the disk whole, and how the kernel locks, stands in `disk`. What is changed here goes through `os.unlink`, `os.fsync`
and their like too, called as attributes, so that a test can put a failing disk or a kill under each one of them. A write that
fails raises `TryLater` (full or failing disk) or `Misconfigured` (no permission, read-only, not a folder).
"""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from mmtools import disk
from mmtools.errors import Misconfigured, Refused, TryLater

WAIT_S = 10.0
"""How long an edit, a write or an append waits for another process that is doing the same to the same file."""
GRACE_S = 0.1
"""How long `lock` tries: `is_locked` in another process holds the lock for an instant, and so does a child between fork and exec."""
LEFTOVERS = (".new", ".removed")
"""What a kill can leave beside a file or folder; overwritten or removed by whoever does the same again."""

_object = msgspec.json.Decoder(dict[str, Any])


class Broken(Refused):
    """A state file does not hold what was written to it; a person must look, for nothing may take it for empty (exit 77)."""


class StateDir:
    """A folder of state files. Nothing is created before the first write; folders are 0700, files 0600."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def open(cls, path: str | Path | None) -> Self:
        """Return the folder at `path`; None means $MMTOOLS_STATE, else $XDG_STATE_HOME/mmtools, else ~/.local/state/mmtools."""
        if path is None:
            xdg = os.environ.get("XDG_STATE_HOME", "")
            base = xdg if os.path.isabs(xdg) else "~/.local/state"  # the XDG specification: a relative path is ignored
            path = os.environ.get("MMTOOLS_STATE") or os.path.join(base, "mmtools")
        return cls(Path(os.path.abspath(os.path.expanduser(path))))

    def path(self, name: str) -> Path:
        """Return where the file of this name lies. Raises Misconfigured when the name would leave the folder (a run id of "../x")."""
        if not all(part not in ("", ".", "..") and "\0" not in part for part in name.split("/")):
            raise Misconfigured(f"{name!r} names no file inside the state folder {self.root}; use plain names without `..`")
        return self.root / name

    def names(self, pattern: str) -> list[str]:
        """Return the names that match a shell pattern ("runs/*/live_state.json"), sorted; what a kill left behind is no name."""
        self.path(pattern)
        return sorted(name for name in glob.glob(pattern, root_dir=self.root) if not name.endswith(LEFTOVERS))

    def exists(self, name: str) -> bool:
        return self.path(name).exists()

    # documents

    def read(self, name: str, *, schema: str) -> dict[str, Any] | None:
        """Return the body of a document, without `schema` and `checksum`; None only when it was never written.

        Raises Broken when it is not what was written; it then lies beside as `<name>.broken-<time>-<n>`, and reading goes on
        raising Broken until a new document is written or a person removes the broken one: lost is not the same as empty.
        Raises Misconfigured, and leaves the file alone, when it holds another schema.
        """
        path = self.path(name)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            lost = sorted(glob.glob(f"{glob.escape(str(path))}.broken-*"))
            if not lost:
                return None
            raise Broken(_what_to_do(path, "was found broken and moved aside", Path(lost[-1]))) from None
        except OSError as e:
            raise disk.told(e, path, "it was not read") from e
        try:
            document = _document(content, schema)
        except ValueError as e:
            aside = disk.move_aside(path)
            moved = "could not be moved aside" if aside == path else "was moved aside"
            raise Broken(_what_to_do(path, f"is broken ({e}) and {moved}", aside)) from e
        if document["schema"] != schema:
            raise Misconfigured(
                f"{path} holds {document['schema']!r} and this version reads {schema!r}; "
                "use the version of mmtools that wrote it, or move the file away"
            )
        del document["schema"], document["checksum"]
        return document

    def write(self, name: str, body: Mapping[str, Any], *, schema: str) -> None:
        """Replace a document whole; a reader or a kill meets the old one or the new one. Raises ValueError on NaN or Infinity."""
        if "schema" in body or "checksum" in body:
            raise ValueError(f"{name}: `schema` and `checksum` are added here and cannot be part of the body")
        document = {"schema": schema, **msgspec.to_builtins(body, str_keys=True)}
        document = {"schema": schema, "checksum": _checksum(document), **document}
        self._replace(name, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")

    @contextmanager
    def edit(self, name: str, *, schema: str) -> Iterator[dict[str, Any]]:
        """Lend the body ({} when there is none), then write it back, all under the lock `name`; an exception leaves the file alone."""
        with self._holding(name, WAIT_S, f"{name} is being edited by another process; run again"):
            body = self.read(name, schema=schema) or {}
            yield body
            self.write(name, body, schema=schema)

    def write_text(self, name: str, text: str) -> None:
        """Replace a plain file whole, as `write` does a document."""
        self._replace(name, text.encode())

    # records

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Append one record as a line that outlives a power cut; a torn tail is cut off first. Any process may, at any time."""
        line = _json(record) + b"\n"
        path = self.path(name)
        with disk.writing(path):
            disk.make_folder(path.parent)
            fd = disk.open_locked(path, os.O_RDWR | os.O_APPEND, WAIT_S)
            try:
                size = disk.heal(fd, _is_record)
                if size == 0:
                    disk.sync(path.parent)
                disk.write_or_undo(fd, line, size, sync=True)
            finally:
                disk.release(fd)

    def log(self, name: str) -> "RecordLog":
        """Open records for a writer that appends much and alone (it holds the run's lock); a torn tail is cut off."""
        path = self.path(name)
        with disk.writing(path):
            disk.make_folder(path.parent)
            return RecordLog(path)

    def records(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the records; none when there is no file. What a kill leaves at the end (part of a line, or one that is no JSON) is skipped.

        Raises Broken at such a line before the end; the file stays where it is, because a history is only repaired by a person.
        """
        path = self.path(name)
        unread: int | None = None
        for number, line in enumerate(self.raw_records(name), start=1):
            if unread is not None:
                raise Broken(f"{path}: line {unread} is no record, and more follow; restore the file, or cut that line out by hand")
            try:
                record = _object.decode(line)
            except (ValueError, RecursionError):
                unread = number
            else:
                yield record

    def raw_records(self, name: str) -> Iterator[bytes]:
        """Yield the whole lines without their newline, not decoded, in constant memory; a last line without newline is skipped."""
        path = self.path(name)
        try:
            with path.open("rb") as lines:
                for line in lines:
                    if line.endswith(b"\n"):
                        yield line[:-1]
        except FileNotFoundError:
            return
        except OSError as e:
            raise disk.told(e, path, "it was not read to its end") from e

    # locks

    def lock(self, name: str, wait_s: float = GRACE_S) -> AbstractContextManager[None]:
        """Hold a lock; its file stays in `locks/` for good, the kernel's lock on it goes with the process, and no child inherits it.

        Raises TryLater when it is held for all of `wait_s`, by another process or by this one.
        """
        return self._holding(name, wait_s, f"{name} is running: its lock is held; wait for it to end, or stop it, and run again")

    def is_locked(self, name: str) -> bool:
        """Return whether anyone holds the lock, without creating its file."""
        return disk.is_locked(self._lock_path(name))

    # removal

    def remove(self, name: str) -> None:
        """Remove a file for good; nothing happens when there is none."""
        path = self.path(name)
        with disk.writing(path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                return
        disk.sync_folder(path.parent)

    def remove_tree(self, name: str) -> None:
        """Remove a folder and all in it; renamed first, so that a kill leaves it whole or gone. Nothing happens when there is none."""
        path = self.path(name)
        doomed = path.with_name(path.name + ".removed")
        with disk.writing(path):
            if doomed.exists():
                shutil.rmtree(doomed)
            try:
                os.rename(path, doomed)
            except FileNotFoundError:
                return
        disk.sync_folder(path.parent)
        with disk.writing(doomed):
            shutil.rmtree(doomed)

    def _lock_path(self, name: str) -> Path:
        self.path(name)
        return self.root / "locks" / f"{name}.lock"

    @contextmanager
    def _holding(self, name: str, wait_s: float, refusal: str) -> Iterator[None]:
        path = self._lock_path(name)
        with disk.writing(path):
            disk.make_folder(path.parent)
            try:
                fd = disk.open_locked(path, os.O_RDWR, wait_s)
            except BlockingIOError as e:
                raise TryLater(refusal) from e
        try:
            yield
        finally:
            disk.release(fd)

    def _replace(self, name: str, content: bytes) -> None:
        path = self.path(name)
        disk.replace(path.with_name(path.name + ".new"), path, content, WAIT_S)


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
            self._size = disk.heal(self._fd, _is_record)
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


# JSON


def _json(value: object, *, sort_keys: bool = False) -> bytes:
    # Not msgspec's encoder: it writes NaN and Infinity as null, silently.
    plain = msgspec.to_builtins(value, str_keys=True)
    return json.dumps(plain, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _checksum(document: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(_json(document, sort_keys=True)).hexdigest()


def _document(content: bytes, schema: str) -> dict[str, Any]:
    """Return the document that `content` is. Raises ValueError, saying what is wrong with it.

    The checksum of another schema is not compared: it may be made in another way.
    """
    try:
        document = _object.decode(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    for key in ("schema", "checksum"):
        if not isinstance(document.get(key), str):
            raise ValueError(f"no {key}")
    if document["schema"] == schema:
        checksum = _checksum({key: value for key, value in document.items() if key != "checksum"})
        if document["checksum"] != checksum:
            raise ValueError("wrong checksum")
    return document


def _is_record(line: bytes) -> bool:
    try:
        _object.decode(line)
    except (ValueError, RecursionError):
        return False
    return True


def _what_to_do(path: Path, happened: str, aside: Path) -> str:
    return f"{path} {happened}; restore it from a snapshot, or look at {aside} and remove it to begin without"
