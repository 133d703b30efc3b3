"""State files: the only code that creates, reads, replaces, appends to, locks or removes them. Used by every room above `trading/`.

Three kinds: documents (JSON, replaced whole, with `schema` and `checksum`), records (JSON lines, only ever appended to) and
locks (the kernel's: kill -9 frees them). What a document or a record means is not known here; docs/state-files.md says who
writes which. Every name is a path inside the folder, suffix included: "runs/x/live_state.json".

How bytes reach the disk whole, and how the kernel locks, stands in `disk`; the records of one writer alone are `recordlog`'s, which `log`
opens. What is changed here goes through `os.unlink`, `os.fsync` and their like too, called as attributes, so that a test can put a
failing disk or a kill under each one of them. A write that fails raises `TryLater` (full or failing disk) or `Misconfigured` (no
permission, read-only, not a folder).
"""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from mmtools import disk
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.recordlog import RecordLog, is_record

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

    def __init__(self, root: Path, *, leave_broken: bool = False) -> None:
        """leave_broken: a broken document stays where it lies, for a dry run that may change nothing."""
        self.root = root
        self._leave_broken = leave_broken

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
            aside = path if self._leave_broken else disk.move_aside(path)
            moved = "lies where it was" if aside == path else "was moved aside"
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
        self._replace(name, [_encoded({"schema": schema, "checksum": _checksum(document), **document})])

    @contextmanager
    def edit(self, name: str, *, schema: str) -> Iterator[dict[str, Any]]:
        """Lend the body ({} when there is none), then write it back, all under the lock `name`; an exception leaves the file alone."""
        with self._holding(name, WAIT_S, f"{name} is being edited by another process; run again"):
            body = self.read(name, schema=schema) or {}
            yield body
            self.write(name, body, schema=schema)

    def write_text(self, name: str, text: str) -> None:
        """Replace a plain file whole, as `write` does a document."""
        self._replace(name, [text.encode()])

    def write_pieces(self, name: str, pieces: Iterable[bytes]) -> None:
        """As `write_text`, for content that comes in pieces; what making one raises leaves the file alone."""
        self._replace(name, pieces)

    def verify(self, name: str, *, schema: str) -> dict[str, Any]:
        """Return the body of a document that is byte for byte as it was written. Raises Broken when it is not, or is not there.

        Nothing is moved aside. Raises Misconfigured when it holds another schema.
        """
        path = self.path(name)
        try:
            content = path.read_bytes()
            document = _document(content, schema)
        except FileNotFoundError:
            raise Broken(f"{path} is missing") from None
        except OSError as e:
            raise disk.told(e, path, "it was not read") from e
        except ValueError as e:
            raise Broken(f"{path} is broken ({e})") from e
        if document["schema"] != schema:
            raise Misconfigured(f"{path} holds {document['schema']!r} and this version reads {schema!r}; use the version that wrote it")
        if _encoded(document) != content:
            raise Broken(f"{path} is broken (written otherwise)")
        del document["schema"], document["checksum"]
        return document

    def open_words(self, name: str) -> int:
        """Open a plain file that another program appends its words to, and return the descriptor; its caller closes it."""
        path = self.path(name)
        with disk.writing(path):
            disk.make_folder(path.parent)
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    # records

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Append one record as a line that outlives a power cut; a torn tail is cut off first. Any process may, at any time."""
        line = _json(record) + b"\n"
        path = self.path(name)
        with disk.writing(path):
            disk.make_folder(path.parent)
            fd = disk.open_locked(path, os.O_RDWR | os.O_APPEND, WAIT_S)
            try:
                size = disk.heal(fd, is_record)
                if size == 0:
                    disk.sync(path.parent)
                disk.write_or_undo(fd, line, size, sync=True)
            finally:
                disk.release(fd)

    def log(self, name: str) -> RecordLog:
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

    # folders

    @contextmanager
    def making(self, name: str) -> Iterator[str]:
        """Lend the name of a folder to be filled; it gets its own name when it is whole and on the disk, and is gone after an error.

        Nobody else may make the same one: the caller holds a lock.
        """
        path = self.path(name)
        new = path.with_name(path.name + ".new")
        with disk.writing(path):
            if new.exists():
                shutil.rmtree(new)
            disk.make_folder(new)
        try:
            yield f"{name}.new"
            with disk.writing(path):
                disk.sync_tree(new)
                os.rename(new, path)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        disk.sync_folder(path.parent)

    def sweep(self, folder: str) -> None:
        """Remove what kills left in a folder of folders, whose lock the caller holds."""
        place = self.path(folder)
        with disk.writing(place):
            for left in sorted(entry for end in LEFTOVERS for entry in place.glob(f"*{end}") if entry.is_dir()):
                shutil.rmtree(left)

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

    def _replace(self, name: str, pieces: Iterable[bytes]) -> None:
        path = self.path(name)
        disk.replace(path.with_name(path.name + ".new"), path, pieces, WAIT_S)


# JSON


def _json(value: object, *, sort_keys: bool = False) -> bytes:
    # Not msgspec's encoder: it writes NaN and Infinity as null, silently.
    plain = msgspec.to_builtins(value, str_keys=True)
    return json.dumps(plain, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _encoded(document: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


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


def _what_to_do(path: Path, happened: str, aside: Path) -> str:
    return f"{path} {happened}; restore it from a snapshot, or look at {aside} and remove it to begin without"
