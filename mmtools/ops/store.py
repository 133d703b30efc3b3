"""Reading OpenClaw's sessions.json entry by entry, and copying a part of it byte for byte. Nothing here knows which entry may go.

The file is another program's, can weigh a gigabyte, and is read in constant memory: blocks are decoded, one member of the object at a
time is parsed, and what is remembered of it are its key and where it lies. A copy is made of spans of the old bytes, so no kept entry is
written anew. What OpenClaw would read as an empty store (it takes any error for that) raises `Unreadable`, and what Python would take
and JSON.parse would not (NaN, a mark of byte order) too. Called by `pruning` and `undoing`.
"""

import codecs
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, NoReturn

from mmtools.errors import Refused

BLOCK = 1 << 20
LARGEST = 8 << 20
"""Bytes of one entry. Real ones have up to 120 kB; what is larger is not read, so that memory stays bounded."""
COPIED = 1 << 18
_CUT = 16
"""A mistake so near to the end of what was read may only be the cut of a block: `-Infinity`, `\\ud83d\\ude00`."""

_space = re.compile(r"[ \t\n\r]*").match

Span = tuple[int, int]
"""Bytes of a file: from, up to and without."""


class Unreadable(Refused):
    """Not a whole JSON object: OpenClaw would take it for an empty store and write that back, so nothing may be done with it."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the store: its key, its parsed value, and where key and value lie in the file."""

    key: str
    value: Any
    span: Span


def _no_number(name: str) -> NoReturn:
    raise JSONDecodeError(f"{name} is no JSON", "", 0)


_decode = json.JSONDecoder(parse_constant=_no_number).raw_decode


class Reading:
    """One pass over an open store, from its beginning: iterate for the members in their order. Raises Unreadable. name: for people.

    After the pass `opening` and `closing` are where the braces lie, and `size` is that of the file.
    """

    def __init__(self, fd: int, name: str, *, block: int = BLOCK) -> None:
        self._fd = fd
        self._block = block
        self._name = name
        self._codec = codecs.getincrementaldecoder("utf-8")("strict")
        self._read = 0
        self._ended = False
        self._text = ""
        self._ascii = True
        self._at = 0
        """Where the next thing begins in the text, and the same in the file."""
        self._offset = 0
        self.opening: Span = (0, 0)
        self.closing: Span = (0, 0)
        self.size = 0

    def __iter__(self) -> Iterator[Member]:
        if self._next() != "{":
            self._fail("is empty" if self._ended and not self._text else "is no JSON object")
        brace = self._offset
        self._step(self._at + 1)
        first = self._next()
        self.opening = (brace, brace + 1)
        if first != "}":
            yield from self._members()
        self.closing = (self._offset, self._offset + 1)
        self._step(self._at + 1)
        if self._next():
            self._fail("has more after the end of its object")
        self.size = self._offset

    def _members(self) -> Iterator[Member]:
        while True:
            key, value, end, then = self._member()
            start = self._offset
            self._step(end)
            yield Member(key, value, (start, self._offset))
            self._step(then)
            if self._text[self._at] == "}":
                return
            self._step(self._at + 1)
            self._next()

    def _member(self) -> tuple[str, Any, int, int]:
        """Return key and value of the member at hand, where it ends in the text, and where the comma or brace behind it is."""
        while True:
            try:
                return self._parsed(self._text, self._at)
            except JSONDecodeError as e:
                cut = e.msg.startswith("Unterminated string") or e.pos >= len(self._text) - _CUT
                if not cut or not self._more():
                    self._fail(f"is broken ({e.msg})" if not self._ended or not cut else "is cut off")
            except IndexError:
                if not self._more():
                    self._fail("is cut off")
            except RecursionError:
                self._fail("holds an entry that is nested too deeply")
            except ValueError as e:  # an integer of thousands of digits
                self._fail(f"cannot be read ({e})")

    def _parsed(self, text: str, at: int) -> tuple[str, Any, int, int]:
        if text[at] != '"':
            raise JSONDecodeError("Expecting a key in double quotes", text, at)
        key, at = _decode(text, at)
        at = _after_space(text, at)
        if text[at] != ":":
            raise JSONDecodeError("Expecting ':'", text, at)
        value, end = _decode(text, _after_space(text, at + 1))
        then = _after_space(text, end)
        if text[then] not in ",}":
            raise JSONDecodeError("Expecting ',' or '}'", text, then)
        return key, value, end, then

    def _next(self) -> str:
        """Skip white space and return the character that stands there; "" at the end."""
        while True:
            self._step(_after_space(self._text, self._at))
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _step(self, at: int) -> None:
        self._offset += at - self._at if self._ascii else len(self._text[self._at : at].encode())
        self._at = at

    def _more(self) -> bool:
        """Read on, letting go of what lies behind; False at the end of the file."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        if self._read - self._offset > LARGEST:
            self._fail(f"holds an entry of more than {LARGEST >> 20} MB")
        content = os.pread(self._fd, max(self._block, len(rest)), self._read)
        self._read += len(content)
        try:
            fresh = self._codec.decode(content, final=not content)
        except UnicodeDecodeError:
            self._fail("is not UTF-8")
        self._ended = not content
        self._text, self._at = rest + fresh, 0
        self._ascii = self._text.isascii()
        return True

    def _fail(self, what: str) -> NoReturn:
        raise Unreadable(f"{self._name} {what}, at byte {self._offset} or after")


def _after_space(text: str, at: int) -> int:
    found = _space(text, at)
    return found.end() if found is not None else at


class Cutting:
    """The spans of a store that are left when some members are cut out: tell it of each member in order, then take `spans`.

    What stands between members goes with the later of the two, so that what is kept stays as it was, white space included.
    """

    def __init__(self) -> None:
        self._kept: list[Span] = []
        self._before = 0

    def keep(self, span: Span) -> None:
        if self._kept and self._kept[-1][1] == self._before:
            self._kept[-1] = (self._kept[-1][0], span[1])
        else:
            self._kept.append((self._before if self._kept else span[0], span[1]))
        self._before = span[1]

    def cut(self, span: Span) -> None:
        self._before = span[1]

    def spans(self, reading: Reading, first: int) -> list[Span]:
        """Return what to copy, after the pass. first: where the first member began."""
        if not self._kept:
            return [reading.opening, reading.closing]  # `{}`, as OpenClaw writes it
        return [(0, first), *self._kept, (self._before, reading.size)]


def chunks(source: int, spans: Iterable[Span]) -> Iterator[bytes]:
    """Yield the bytes of spans of an open file. Raises Unreadable when it is shorter than it was."""
    for start, end in spans:
        while start < end:
            content = os.pread(source, min(COPIED, end - start), start)
            if not content:
                raise Unreadable("the store was cut while it was copied; nothing was changed")
            yield content
            start += len(content)


def write(fd: int, content: bytes) -> None:
    """Write all of it behind what was written before."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
