"""A recording compiled: every row in three columns of integers (`Tape`), kept in the cache as a file, so that its JSON is parsed once.

What rows mean stands in `venues.venue`, what frames mean in `venues.decoder`; here are only their packing and the file. Called by
`recording`, which compiles, and by whoever replays: row by row (`rows`) or, for speed, the columns themselves. A tape file is no
state: it can be made again from the recording whose hash is its name, and a damaged one is.
"""

import json
import os
import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time
from typing import BinaryIO, Literal, Self

from mmtools.trading.market import Market
from mmtools.venues.venue import Kind, Row

FORMAT = "mmtools.tape/1"
"""Another number whenever a recording would be compiled to other columns: a file of another format is not read. A test knows them."""
WHOLE = 16
"""Bit of a code. On a level: the row is a frame of its own. On a print: it stood on the NO token."""
FIELD = 31
"""Bits of a code that hold the kind and `WHOLE`; above them come the market's place and the price."""
NONE = 0xFFFFF
"""In place of a price: none was stated."""
NARROW = 7
"""Bits of a place; as many markets fit a code of 32 bits."""
KEPT_S = 30 * 86_400
"""A tape that nobody has used for so long is removed when another one is written."""
MOST_BYTES = 2 << 30
"""... and so are the longest unused of all that together are larger than this."""
_BLOCK = 1 << 20


@dataclass(slots=True)
class Tape:
    """The rows of some markets in order of time: 20 bytes for a level change on both tokens or a print. Yields the same rows every time.

    `times`: ms UTC. `codes`: price << `shift` | place << 5 | `WHOLE` | kind, the price in millionths. `sizes`: the other number of the
    row. A price_change of one level that states the touch of the frame before is one row with `WHOLE`, in place of FRAME, level and END;
    a print is one row, in place of FRAME and print. All other rows stand for themselves.
    """

    markets: tuple[Market, ...]
    clock: Literal["exchange", "receive"]
    """Whose time the rows carry."""
    source: str
    sha256: str = ""
    """Of the recording's bytes as they lie on the disk, in hex."""
    first_ms: int = 0
    last_ms: int = 0
    clock_steps: int = 0
    """How often the time stepped back, and was held at the last one."""
    name: str = "recording"
    shift: int = field(init=False)
    times: "array[int]" = field(init=False, default_factory=lambda: array("q"), repr=False)
    codes: "array[int]" = field(init=False, repr=False)
    sizes: "array[int]" = field(init=False, default_factory=lambda: array("q"), repr=False)
    _stated: list[tuple[int, int] | None] = field(init=False, repr=False, compare=False)
    """The touch that each market's last frame stated."""

    def __post_init__(self) -> None:
        narrow = len(self.markets) <= 1 << NARROW
        self.shift = 5 + (NARROW if narrow else 16)
        self.codes = array("I" if narrow else "Q")
        self._stated = [None] * len(self.markets)

    def extend(self, rows: Iterable[Row]) -> None:
        """Add rows at the end, whole frames; for whoever compiles the tape. ValueError for a print that no FRAME row announces."""
        times, codes, sizes, shift = self.times, self.codes, self.sizes, self.shift
        for ms, kind, place, a, b in rows:
            at = place << 5
            if kind == Kind.END:
                stated, frame = (a, b), Kind.FRAME | at | 2 << shift
                level = codes[-1] & FIELD if len(codes) > 1 else Kind.END
                if stated == self._stated[place] and codes[-2] == frame and sizes[-2] == 0 and (level == Kind.BID or level == Kind.ASK):
                    code, size = codes.pop(), sizes.pop()
                    codes[-1], sizes[-1] = code | WHOLE, size
                    del times[-1]
                    continue
                self._stated[place] = stated
            elif kind == Kind.SOLD or kind == Kind.BOUGHT:
                if not codes or codes[-1] != Kind.FRAME | at:
                    raise ValueError("a print without its FRAME row")
                codes[-1], sizes[-1] = kind | at | (WHOLE if sizes[-1] == 2 else 0) | a << shift, b
                continue
            times.append(ms)
            codes.append(kind | at | (a if a >= 0 else NONE) << shift)
            sizes.append(b)

    def fill(self, label: "Label", columns: "Columns") -> None:
        """Take over the columns of a tape file, which is of these markets. ValueError for columns of another number of markets."""
        if label.codes != self.codes.typecode:
            raise ValueError("the codes are of another number of markets")
        self.times, self.codes, self.sizes = columns
        self.sha256, self.first_ms, self.last_ms, self.clock_steps = label.recording, label.first_ms, label.last_ms, label.clock_steps

    def rows(self) -> Iterator[Row]:
        shift, mask = self.shift, (1 << self.shift - 5) - 1
        stated: list[tuple[int, int]] = [(-1, -1)] * len(self.markets)
        for ms, code, size in zip(self.times, self.codes, self.sizes, strict=True):
            kind, place, a = code & 15, code >> 5 & mask, code >> shift
            if kind == Kind.BID or kind == Kind.ASK:
                if not code & WHOLE:
                    yield (ms, kind, place, a, size)
                    continue
                yield (ms, Kind.FRAME, place, 2, 0)
                yield (ms, kind, place, a, size)
                yield (ms, Kind.END, place, *stated[place])
            elif kind == Kind.SOLD or kind == Kind.BOUGHT:
                yield (ms, Kind.FRAME, place, 0, 2 if code & WHOLE else 0)
                yield (ms, kind, place, a, size)
            elif kind == Kind.END:
                stated[place] = (-1 if a == NONE else a, size)
                yield (ms, kind, place, *stated[place])
            else:
                yield (ms, kind, place, a, size)

    def of(self, markets: Sequence[Market]) -> "Tape":
        """Return the rows of some of the markets, in that order of places; this one itself when those are all."""
        if tuple(markets) == self.markets:
            return self
        place_of = {market: place for place, market in enumerate(self.markets)}
        chosen = {place_of[market]: place for place, market in enumerate(markets)}
        part = replace(self, markets=tuple(markets))
        part.extend((ms, kind, chosen[place], a, b) for ms, kind, place, a, b in self.rows() if place in chosen)
        return part

    @property
    def frames(self) -> int:
        """Frames of the wanted markets; an array of several counts each."""
        frames = (Kind.FRAME, Kind.BID | WHOLE, Kind.ASK | WHOLE, Kind.SOLD, Kind.BOUGHT, Kind.SOLD | WHOLE, Kind.BOUGHT | WHOLE)
        return sum(code & FIELD in frames for code in self.codes)

    @property
    def has_books(self) -> bool:
        """Whether any full book of a YES token is on the tape; without one a book must be built from changes."""
        return any(code & FIELD == Kind.BOOK for code in self.codes)


# ---- the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a tape file says of itself before its columns."""

    recording: str
    """SHA-256 of the recording."""
    header: str
    """The recording's own first line, which names its markets."""
    rows: int
    codes: str
    """Type code of that column: "I" or "Q"."""
    first_ms: int
    last_ms: int
    clock_steps: int
    byteorder: str = sys.byteorder
    format: str = FORMAT

    @classmethod
    def read(cls, told: bytes) -> Self:
        """Raise ValueError for what is no label of this format and machine."""
        try:
            label = cls(**json.loads(told))
        except (ValueError, TypeError, RecursionError) as e:
            raise ValueError("no label of a tape") from e
        if (label.format, label.byteorder) != (FORMAT, sys.byteorder):
            raise ValueError("a tape of another format or machine")
        return label

    def told(self) -> bytes:
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()


Columns = tuple["array[int]", "array[int]", "array[int]"]


def folder() -> Path | None:
    """Return where tapes are kept: `$XDG_CACHE_HOME/mmtools/tapes`, else under `~/.cache`; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # as the specification of these folders asks
        home = os.environ.get("HOME", "")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".cache")
    return Path(base, "mmtools", "tapes")


def load(recording: str) -> tuple[Label, Columns] | None:
    """Return the tape that is kept of the recording with this hash; None when there is none that is whole."""
    place = folder()
    if place is None:
        return None
    path = place / f"{recording}.tape"
    try:
        with path.open("rb") as file:
            label, columns = read(file)
    except (OSError, ValueError):
        return None
    with suppress(OSError):  # it is used: not one of those to be removed
        os.utime(path)
    return (label, columns) if label.recording == recording else None


def read(file: BinaryIO) -> tuple[Label, Columns]:
    """Read a tape file from its beginning: a checksum of all the rest and the label on one line, then the columns.

    Raises ValueError for one that is cut, damaged or foreign, OSError as the system does.
    """
    line = file.readline()
    checksum, _, told = line.rstrip(b"\n").partition(b" ")
    label = Label.read(told)
    columns = _blank(label, os.fstat(file.fileno()).st_size - len(line))
    crc32 = zlib.crc32(told)
    for column in columns:
        view = memoryview(column).cast("B")
        for at in range(0, len(view), _BLOCK):
            part = view[at : at + _BLOCK]
            if file.readinto(part) != len(part):  # type: ignore[attr-defined]
                raise ValueError("the tape is cut short")
            crc32 = zlib.crc32(part, crc32)
    if checksum != _shown(crc32):
        raise ValueError("the tape is damaged")
    return label, columns


def keep(tape: Tape, header: str) -> None:
    """Keep the tape of a whole recording for the next time. What the disk has against it is no reason to fail: it is made again then."""
    place = folder()
    if place is None:
        return
    with suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(place)
        _replace(place / f"{tape.sha256}.tape", lambda file: _write(file, tape, header))


def _write(file: BinaryIO, tape: Tape, header: str) -> None:
    label = Label(
        recording=tape.sha256,
        header=header,
        rows=len(tape.times),
        codes=tape.codes.typecode,
        first_ms=tape.first_ms,
        last_ms=tape.last_ms,
        clock_steps=tape.clock_steps,
    )
    told = label.told()
    crc32 = zlib.crc32(told)
    for column in (tape.times, tape.codes, tape.sizes):
        crc32 = zlib.crc32(column, crc32)
    file.write(b"%s %s\n" % (_shown(crc32), told))
    for column in (tape.times, tape.codes, tape.sizes):
        column.tofile(file)


def _shown(crc32: int) -> bytes:
    return b"%08x" % crc32


def _replace(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file of this name whole or not at all."""
    import tempfile

    descriptor, begun = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            write(file)
        os.replace(begun, path)
    except BaseException:
        os.unlink(begun)
        raise


def _forget_old(place: Path) -> None:
    """Remove tapes that nobody has used for long, and the longest unused of the others while they take too much room."""
    found: list[tuple[float, int, Path]] = []
    for path in (*place.glob("*.tape"), *place.glob(".*.tape.*")):
        with suppress(OSError):
            told = path.stat()
            found.append((told.st_mtime, told.st_size, path))
    room, before = MOST_BYTES, time() - KEPT_S
    for used_s, size, path in sorted(found, reverse=True):
        room -= size
        if used_s < before or room < 0:
            with suppress(OSError):
                path.unlink()


def _blank(label: Label, size: int) -> Columns:
    """Return columns to be filled, in all of so many bytes."""
    if label.codes not in ("I", "Q"):
        raise ValueError("no column of a tape")
    ones = (array("q", [0]), array(label.codes, [0]), array("q", [0]))
    if label.rows * sum(column.itemsize for column in ones) != size:
        raise ValueError("the tape is cut short, or longer than it says")
    times, codes, sizes = (column * label.rows for column in ones)
    return times, codes, sizes
