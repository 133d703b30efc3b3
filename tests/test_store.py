"""Reading a store entry by entry and cutting entries out: what is kept is byte for byte what it was, and what is broken is never read."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import ROOT
from hypothesis import example, given
from hypothesis import strategies as st

from mmtools.ops.store import LARGEST, Cutting, Reading, Unreadable, chunks

SPACE = st.text(" \t\n\r", max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Parts:
    """A store made of its pieces, so that it is known which bytes are whose."""

    def __init__(self, members: list[tuple[bytes, bytes]], before: bytes, after: bytes) -> None:
        """members: each with what stands before it, the comma included."""
        self.members = [member for _, member in members]
        self.text = before + b"{" + b"".join(space + member for space, member in members) + after


@st.composite
def stores(draw: st.DrawFn) -> Parts:
    """Draw a store with any JSON in it: keys with escapes, odd white space, numbers of every form."""
    entries = draw(st.dictionaries(st.text(), JSON, max_size=6))
    members = []
    for n, (key, value) in enumerate(entries.items()):
        plain = draw(st.booleans())
        name = json.dumps(key, ensure_ascii=True if not encodes(key) else plain)
        text = json.dumps(value, ensure_ascii=plain or not encodes(value), indent=draw(st.none() | st.integers(0, 3)))
        separator = (draw(SPACE) + "," if n else "") + draw(SPACE)
        members.append((separator.encode(), f"{name}{draw(SPACE)}:{draw(SPACE)}{text}".encode()))
    return Parts(members, draw(SPACE).encode(), (draw(SPACE) + "}" + draw(SPACE)).encode())


def encodes(value: Any) -> bool:
    """Whether UTF-8 can hold it: half of a surrogate pair only exists as an escape."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def opened(content: bytes) -> int:
    """Return a descriptor of a file with this content."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return os.dup(file.fileno())


def cut(content: bytes, goes: Callable[[int], bool], *, block: int) -> tuple[bytes, list[bytes]]:
    """Return the store without the members whose numbers go, and all members as they stand in the file."""
    fd = opened(content)
    try:
        reading, cutting, members, first = Reading(fd, "the store", block=block), Cutting(), [], 0
        for n, member in enumerate(reading):
            start, end = member.span
            members.append(content[start:end])
            first = first or start
            (cutting.cut if goes(n) else cutting.keep)(member.span)
        return b"".join(chunks(fd, cutting.spans(reading, first))), members
    finally:
        os.close(fd)


def read(content: bytes, *, block: int = 16) -> dict[str, Any]:
    fd = opened(content)
    try:
        return {member.key: member.value for member in Reading(fd, "the store", block=block)}
    finally:
        os.close(fd)


@given(stores(), st.sets(st.integers(0, 5)), st.sampled_from([1, 2, 7, 64, 1 << 20]))
@example(Parts([(b"\n  ", '"ação📈": {"a": "\\ud83d\\ude00"}'.encode()), (b",\n  ", b'"b": -0.0e-7')], b"", b"\n}"), {0}, 1)
def test_what_is_kept_keeps_its_bytes_and_its_order(parts: Parts, going: set[int], block: int) -> None:
    left, members = cut(parts.text, going.__contains__, block=block)
    assert members == parts.members
    kept = [member for n, member in enumerate(parts.members) if n not in going]
    expected = [item for n, item in enumerate(json.loads(parts.text).items()) if n not in going]
    assert list(json.loads(left).items()) == expected
    at = 0
    for member in kept:
        at = left.index(member, at) + len(member)


@given(stores())
def test_a_store_from_which_nothing_goes_is_copied_as_it_is(parts: Parts) -> None:
    assert cut(parts.text, lambda _: False, block=64)[0] == (parts.text if parts.members else b"{}")


@given(stores(), st.sampled_from([1, 3, 64]))
def test_reading_gives_what_a_whole_parse_gives(parts: Parts, block: int) -> None:
    assert list(read(parts.text, block=block).items()) == list(json.loads(parts.text).items())


@given(stores(), st.data())
def test_a_store_that_was_cut_short_is_never_read(parts: Parts, data: st.DataObject) -> None:
    whole = parts.text.rstrip()
    at = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Unreadable):
        read(whole[:at])


def test_cutting_in_openclaws_own_form_gives_openclaws_own_form() -> None:
    store = {"a": {"n": 1}, "b": {"n": [2]}, "c": {}, "d": {"n": 4}}
    text = json.dumps(store, indent=2).encode()
    for going in ({0}, {3}, {1, 2}, {0, 3}, {0, 1, 2, 3}):
        left = {key: value for n, (key, value) in enumerate(store.items()) if n not in going}
        assert cut(text, going.__contains__, block=8)[0] == json.dumps(left, indent=2).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"\0" * 64,
        b"[]",
        b"null",
        b'"{}"',
        b"{",
        b'{"a": 1',
        b'{"a": 1,}',
        b'{"a": 1 "b": 2}',
        b'{"a" 1}',
        b"{'a': 1}",
        b"{a: 1}",
        b'{"a": NaN}',
        b'{"a": [-Infinity]}',
        b'{"a": 01}',
        b'{"a": .5}',
        b'{"a": "\n"}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\xc3',
        b'{"a": "\\x"}',
        b'{"a": 1} {}',
        b'{"a": 1}\0',
        b'{"a": 1}x',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1 /* note */}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_what_openclaw_would_not_read_whole_is_unreadable(content: bytes, block: int) -> None:
    with pytest.raises(Unreadable):
        read(content, block=block)


def test_an_entry_of_more_than_is_held_in_memory_is_not_read() -> None:
    with pytest.raises(Unreadable, match="more than 8 MB"):
        read(b'{"a": "' + b"x" * (2 * LARGEST) + b'"}', block=1 << 20)


COUNT = """
import os, sys
from mmtools.ops.store import Reading
count = sum(1 for _ in Reading(os.open(sys.argv[1], os.O_RDONLY), "the store"))
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(count, peak)
"""


def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    def peak_kb(entries: int) -> int:
        path = tmp_path / "sessions.json"
        one = b'{"sessionId": "x", "prompt": "' + b"words " * 2500 + b'"}'
        path.write_bytes(b"{" + b",".join(b'"agent:main:%d": ' % n + one for n in range(entries)) + b"}")
        said = subprocess.run([sys.executable, "-c", COUNT, path], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        count, peak = map(int, said.stdout.split())
        assert count == entries
        return peak

    assert peak_kb(4000) < peak_kb(200) + 5_000  # 60 MB against 3
