"""The file of a grid's trials: which files may be one, and which lines of it are there already. Nothing runs and nothing is written here.

Lines are what `trial` makes; `replay --grid` appends them through `state`. Files concatenate, also where one of them ends torn.
"""

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.lab.sweep import PARTS, Part, Record, Task
from mmtools.lab.trial import SCHEMA

HEAD = b'{"schema":"%s",' % SCHEMA.encode()
"""How `state` begins such a line. No text inside a line can hold it: there, quotes are escaped."""
LONGEST_LINE = 16 * 1024 * 1024
"""Lines are of some kilobytes; a foreign file can be one line of any length."""

Amount = Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?\Z")]


class BadFile(ValueError):
    """What --out names cannot be a file of trials; one line."""


def check_kind(path: str) -> None:
    """Refuse what --out names when it is there and no regular file: a pipe or device is never opened. Raises BadFile."""
    if not path:
        raise BadFile("--out names no file; say --out FILE.jsonl")
    with _told(path), suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise BadFile(f"--out {path}: is no regular file, and trials are read again; name a file")


def check_writable(path: str) -> None:
    """Refuse what --out names when it can be neither written nor made; leaves nothing behind. Raises BadFile."""
    with _told(path):
        if os.path.exists(path):
            os.close(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))
            return
        folder = os.path.dirname(os.path.abspath(path))
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        with tempfile.TemporaryFile(dir=folder):  # as good as the file itself, and gone at once
            pass


@contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise BadFile(f"--out {path}: cannot be written ({e.strerror}); name another file") from e


# --- what a line must hold for a grid to be made of it


class _Pnl(msgspec.Struct):
    total: Amount
    spread: Amount


class _Maker(msgspec.Struct):
    pnl: Amount


class _Bracket(msgspec.Struct):
    risk_averse: _Maker


class _Fills(msgspec.Struct):
    count: int


class _Blocks(msgspec.Struct):
    seconds: Annotated[int, Meta(gt=0)]
    total: Annotated[list[Amount], Meta(min_length=1)]
    spread: list[Amount]
    risk_averse: list[Amount] | None

    def __post_init__(self) -> None:
        columns = [self.total, self.spread, *([] if self.risk_averse is None else [self.risk_averse])]
        if len({len(column) for column in columns}) > 1:
            raise ValueError("blocks of several lengths")


class _Line(msgspec.Struct):
    schema: Literal["mmtools.trial/1"]
    key: str
    part: Part
    duration_s: float
    status: str
    orders: int
    fills: _Fills
    pnl: _Pnl
    bracket: _Bracket | None
    blocks: _Blocks
    ledger_sha256: str

    def __post_init__(self) -> None:
        if (len(self.blocks.total) - 1) * self.blocks.seconds >= self.duration_s:
            raise ValueError("more blocks than time")
        if (self.bracket is None) != (self.blocks.risk_averse is None):
            raise ValueError("half a bracket")


_decoder = msgspec.json.Decoder(dict[str, Any])


def kept(path: Path, tasks: Iterable[Task]) -> dict[str, Record]:
    """Return the lines of a file that these tasks would write, by key: what is there need not run again.

    A line may stand there twice; one that a kill tore is skipped, wherever it stands. Raises Refused where one key has two
    results, Misconfigured where the file holds something else than trials.
    """
    wanted = {task.key(part) for task in tasks for part in PARTS}
    found: dict[str, Record] = {}
    for number, line in _records(path):
        key = line["key"]
        if key not in wanted:
            continue
        if key in found and _result(found[key]) != _result(line):
            raise Refused(
                f"{path}: line {number} is another result of the trial {key} than the one before it; "
                "the lines are of two programs that call themselves one version: delete the file and run the grid again"
            )
        found.setdefault(key, line)
    return found


def is_done(task: Task, found: Mapping[str, Record]) -> bool:
    return all(task.key(part) in found for part in PARTS)


def _result(line: Record) -> Record:
    """Return a line without the names that people gave: another grid, or another copy of the recording, may have others."""
    return {name: value for name, value in line.items() if name not in ("set", "recording")}


def _records(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield number and content of the lines that are whole."""
    for number, line in enumerate(_lines(path), start=1):
        record = _decoded(line)
        if not _is_torn(line) if record is None else record.get("schema") != SCHEMA:
            raise Misconfigured(f"{path}: line {number} is no {SCHEMA}, and the file is left alone; name another one with --out")
        if record is None or not line.endswith(b"\n"):
            continue
        try:
            msgspec.convert(record, _Line)
        except msgspec.ValidationError as e:
            raise Misconfigured(f"{path}: line {number} is no whole trial ({e}); delete that line, or name another file with --out") from e
        yield number, record


def _decoded(line: bytes) -> Record | None:
    try:
        return _decoder.decode(line)
    except (ValueError, RecursionError):
        return None


def _is_torn(line: bytes) -> bool:
    """Whether a line that is no JSON is what a kill or a power cut leaves of a trial, perhaps with the next one glued to it."""
    return HEAD.startswith(line.lstrip(b"\0").partition(HEAD)[0])


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines with their newlines; nothing when there is no file."""
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                yield line
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError as e:
        raise Misconfigured(f"{path}: {e.strerror}; make it readable, or name another file with --out") from e
    except OSError as e:
        raise TryLater(f"{path}: {e.strerror}; it was not read to its end: run again") from e
