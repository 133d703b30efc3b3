"""Tapes: rows packed and given back, and the file that is kept of a recording: used while it is true, made again when it is not."""

import gzip
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_skim import street
from worlds import market

from mmtools import units
from mmtools.venues import recording
from mmtools.venues import tape as tapefile
from mmtools.venues.tape import WHOLE, Tape
from mmtools.venues.venue import Kind, Row

YES, NO = "71", "72"
HEADER = {
    "schema": "mmtools.recording/1", "source": "a test", "clock": "receive",
    "markets": [
        {"condition_id": f"0x{place}", "slug": slug, "outcomes": ["Yes", "No"], "token_ids": [f"{YES}{place}", f"{NO}{place}"],
         "tick_size": "0.01", "min_order_size": "5", "neg_risk": False}
        for place, slug in enumerate(["rain", "snow"])
    ],
}  # fmt: skip


def tape(markets: int = 2) -> Tape:
    return Tape(tuple(market(f"m{place}") for place in range(markets)), clock="receive", source="a test")


def level(place: int, side: str, price: str, size: str, ms: int, touch: tuple[str, str] = ("0.4", "0.6")) -> list[Any]:
    """A change on both tokens."""
    turned = {"BUY": "SELL", "SELL": "BUY"}[side]
    changes = [
        {"asset_id": f"{YES}{place}", "price": price, "size": size, "side": side, "best_bid": touch[0], "best_ask": touch[1]},
        {"asset_id": f"{NO}{place}", "price": units.text(units.ONE - units.parse(price)), "size": size, "side": turned},
    ]
    return [ms, {"event_type": "price_change", "market": f"0x{place}", "price_changes": changes}]


def trade(place: int, token: str, ms: int) -> list[Any]:
    frame = {"event_type": "last_trade_price", "market": f"0x{place}", "asset_id": f"{token}{place}", "price": "0.41", "size": "7.000001"}
    return [ms, {**frame, "side": "BUY"}]


LINES = [
    level(0, "BUY", "0.4", "10", 1_000), level(0, "BUY", "0.39", "20.5", 1_010), level(1, "SELL", "0.6", "3", 1_020),
    level(0, "SELL", "0.61", "0", 1_030), trade(0, NO, 1_040), trade(1, YES, 1_050), level(0, "BUY", "0.41", "9", 1_060, ("0.41", "0.6")),
]  # fmt: skip


def write(path: Path, lines: Sequence[Any] = LINES, header: Any = HEADER) -> Path:
    with gzip.open(path, "wt") as out:
        for line in [header, *lines]:
            out.write(json.dumps(line) + "\n")
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mmtools" / "tapes"


def kept(cache: Path) -> Path:
    (only,) = cache.iterdir()
    return only


# --- packing


@given(st.integers(0, 10**6), st.integers(0, 200))
def test_a_tape_gives_back_the_rows_that_were_put_on_it(seed: int, steps: int) -> None:
    rows = street(seed, steps)
    packed = tape()
    packed.extend(rows)
    assert list(packed.rows()) == rows
    assert packed.frames == sum(kind == Kind.FRAME for _, kind, _, _, _ in rows)
    assert packed.has_books == any(kind == Kind.BOOK for _, kind, _, _, _ in rows)


def test_a_change_behind_the_same_touch_and_a_print_take_one_row_each(tmp_path: Path) -> None:
    packed = recording.read(write(tmp_path / "r"))
    kinds = [(code & 15, bool(code & WHOLE)) for code in packed.codes]
    explicit = [(Kind.FRAME, False), (Kind.BID, False), (Kind.END, False)]
    assert kinds == [
        *explicit,  # the first touch that is stated
        (Kind.BID, True),
        (Kind.FRAME, False), (Kind.ASK, False), (Kind.END, False),  # the first of the other market
        (Kind.ASK, True),
        (Kind.SOLD, True),  # a taker bought NO
        (Kind.BOUGHT, False),
        *explicit,  # another touch
    ]  # fmt: skip
    assert list(packed.times) == [1_000] * 3 + [1_010] + [1_020] * 3 + [1_030, 1_040, 1_050] + [1_060] * 3


@pytest.mark.parametrize(("markets", "typecode"), [(128, "I"), (129, "Q")])
def test_many_markets_take_wider_codes(markets: int, typecode: str) -> None:
    packed = tape(markets)
    last = markets - 1
    rows: list[Row] = [
        (5, Kind.FRAME, last, 2, 0), (5, Kind.ASK, last, 990_000, 1 << 60), (5, Kind.END, last, -1, 1_000_000),
        (6, Kind.FRAME, last, 2, 0), (6, Kind.BID, last, 999_999, 0), (6, Kind.END, last, -1, 1_000_000),
        (7, Kind.FRAME, 0, 0, 2), (7, Kind.SOLD, 0, 1_000_000, 1),
    ]  # fmt: skip
    packed.extend(rows)
    assert (packed.codes.typecode, len(packed.codes), list(packed.rows())) == (typecode, 5, rows)


def test_a_print_without_its_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="without its FRAME"):
        tape().extend([(5, Kind.SOLD, 0, 470_000, 1)])


# --- the file


def test_the_second_reader_gets_the_same_tape_without_the_frames_being_decoded(tmp_path: Path, cache: Path, monkeypatch: Any) -> None:
    path = write(tmp_path / "r")
    first = recording.read(path)
    monkeypatch.setattr(recording, "_compiled", None)
    second = recording.read(path)
    assert list(second.rows()) == list(first.rows())
    assert second == first
    assert kept(cache).name == f"{first.sha256}.tape"
    assert (second.first_ms, second.last_ms, second.markets, second.source) == (1_000, 1_060, first.markets, "a test")


def test_a_part_of_a_kept_tape_is_what_the_recording_would_give(tmp_path: Path, monkeypatch: Any) -> None:
    path = write(tmp_path / "r")
    compiled = {asked: list(recording.read(path, asked).rows()) for asked in [("snow",), ("snow", "rain")]}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    for asked, rows in compiled.items():
        part = recording.read(path, asked)
        assert list(part.rows()) == rows
        assert [m.slug for m in part.markets] == list(asked)
    assert {place for _, _, place, _, _ in compiled["snow",]} == {0}


def test_a_recording_that_changed_is_compiled_anew(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "r")
    before = recording.read(path)
    write(path, LINES[:-1])
    after = recording.read(path)
    assert (len(before.times), len(after.times)) == (13, 10)
    assert {file.stem for file in cache.iterdir()} == {before.sha256, after.sha256}


def damaged() -> list[Any]:
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-1])

    def longer(path: Path) -> None:
        path.write_bytes(path.read_bytes() + b"\0")

    def flipped(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)

    def empty(path: Path) -> None:
        path.write_bytes(b"")

    def relabelled(old: bytes, new: bytes) -> Any:
        def change(path: Path) -> None:
            content = path.read_bytes()
            assert old in content
            path.write_bytes(content.replace(old, new, 1))

        return change

    return [
        cut, longer, flipped, empty,
        relabelled(b"mmtools.tape/1", b"mmtools.tape/0"),
        relabelled(b'"rows": 13', b'"rows": 99'),
        relabelled(b'"codes": "I"', b'"codes": "Q"'),
        relabelled(b'"codes"', b'"other"'),
        relabelled(b'"min_order_size', b'"min_order_sise'),
        relabelled(b" {", b" [[["),
        relabelled(f'"byteorder": "{sys.byteorder}"'.encode(), b'"byteorder": "odd"'),
    ]  # fmt: skip


def test_a_bit_that_flips_anywhere_in_the_label_is_noticed(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "r")
    first, file = recording.read(path), kept(cache)
    good = file.read_bytes()
    for at in range(good.index(b"\n") + 1):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
        assert recording.read(path) == first, at
        assert file.read_bytes() == good, at


@pytest.mark.parametrize("damage", damaged(), ids=lambda damage: damage.__name__)
def test_a_tape_that_is_not_whole_or_not_of_this_format_is_made_again(damage: Any, tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "r")
    first, good = recording.read(path), kept(cache).read_bytes()
    damage(kept(cache))
    assert recording.read(path) == first
    assert kept(cache).read_bytes() == good


def test_the_tape_of_another_recording_is_not_believed_under_a_wrong_name(tmp_path: Path, cache: Path) -> None:
    one = recording.read(write(tmp_path / "one", LINES[:3]))
    two = recording.read(write(tmp_path / "two"))
    (cache / f"{one.sha256}.tape").write_bytes((cache / f"{two.sha256}.tape").read_bytes())
    assert recording.read(tmp_path / "one") == one


def test_without_a_place_to_keep_it_a_recording_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "r")
    whole = recording.read(path)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert recording.read(path) == whole
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "")
    assert tapefile.folder() is None
    assert recording.read(path) == whole


def test_a_full_disk_leaves_no_half_a_tape(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "r")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tapefile, "_write", full)
    assert len(recording.read(path).times) == 13
    assert list(cache.iterdir()) == []


def test_a_recording_that_is_refused_leaves_no_tape(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(recording.BadRecording):
        recording.read(write(tmp_path / "r", [*LINES, [2_000, {"event_type": "nonsense", "market": "0x0"}]]))
    assert not cache.exists()


def test_a_relative_cache_folder_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tapefile.folder() == tmp_path / ".cache" / "mmtools" / "tapes"


def test_tapes_that_nobody_used_for_a_month_go_when_another_is_kept(tmp_path: Path, cache: Path) -> None:
    paths = [write(tmp_path / name, LINES[:count]) for name, count in [("old", 2), ("used", 3)]]
    old, used = (recording.read(path) for path in paths)
    long_ago = time.time() - tapefile.KEPT_S - 60
    for file in cache.iterdir():
        os.utime(file, (long_ago, long_ago))
    recording.read(paths[1])  # used: it is young again
    new = recording.read(write(tmp_path / "new"))
    assert {file.stem for file in cache.iterdir()} == {used.sha256, new.sha256}
    assert old.sha256 != used.sha256


def test_a_tape_whose_time_may_not_be_set_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "r")
    first = recording.read(path)

    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(recording, "_compiled", None)
    assert recording.read(path) == first


def test_the_longest_unused_tapes_go_when_all_are_too_large(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tapes = [recording.read(write(tmp_path / f"r{count}", LINES[:count])) for count in (3, 4, 5)]
    sizes = [(cache / f"{one.sha256}.tape").stat().st_size for one in tapes]
    for age, one in zip((300, 100, 200), tapes, strict=True):
        os.utime(cache / f"{one.sha256}.tape", (time.time() - age,) * 2)
    monkeypatch.setattr(tapefile, "MOST_BYTES", sizes[1] + sizes[2])
    new = recording.read(write(tmp_path / "new"))
    assert {file.stem for file in cache.iterdir()} == {tapes[1].sha256, tapes[2].sha256, new.sha256}


def test_a_link_in_the_cache_is_replaced_not_followed(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "r")
    first = recording.read(path)
    other = tmp_path / "other"
    other.write_text("of somebody else")
    kept(cache).unlink()
    (cache / f"{first.sha256}.tape").symlink_to(other)
    assert recording.read(path) == first
    assert other.read_text() == "of somebody else"
    assert not kept(cache).is_symlink()
    assert kept(cache).stat().st_mode & 0o777 == 0o600


def test_a_recording_compiled_to_other_columns_has_another_format(tmp_path: Path) -> None:
    """When this fails, tapes that are kept would be believed though the same recording gives others now: raise `FORMAT`."""
    packed = recording.read(write(tmp_path / "r"))
    columns = hashlib.sha256(repr((list(packed.times), list(packed.codes), list(packed.sizes))).encode()).hexdigest()
    assert (tapefile.FORMAT, columns[:16]) == ("mmtools.tape/1", "cd9d35a8ba604ce7")


def test_a_pipe_is_read_once_and_kept_nonetheless(tmp_path: Path, cache: Path) -> None:
    content = write(tmp_path / "r").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    writer.start()
    assert len(recording.read(pipe).times) == 13
    assert len(list(cache.iterdir())) == 1
