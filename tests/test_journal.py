"""The journal: what is compared with an earlier process, what is appended, and the hash over what moves money."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtools.errors import Refused
from mmtools.runs.journal import LEDGER_KINDS, UNREPEATED_FIELDS, DiskJournal, LedgerHash, MemoryJournal, canonical
from mmtools.state import StateDir

Record = dict[str, Any]

START: Record = {"kind": "start", "wall": "2026-06-07T12:00:00.000Z"}
RUN = {"kind": "run", "run_id": "first", "version": "1.0", "at_ms": 5}
PLACE = {"kind": "place", "key": "o1", "at_ms": 6}
TRADE: Record = {"run_id": "first", "fill_qty": "12.5", "timing": {"ws_latency_ms": 3.5, "quote_age_ms": 20}}
FILL: Record = {"kind": "fill", "at_ms": 7, "trade": TRADE}
END = {"kind": "end", "at_ms": 8, "status": "stopped"}

plain = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
keys = st.text(max_size=4).filter(lambda key: key not in UNREPEATED_FIELDS)
"""Of what is repeated: chance finds "wall", too."""
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


def opened(state: StateDir, *, repeat: bool = True) -> DiskJournal:
    return DiskJournal(state, "first", start=START, repeat=repeat)


def write(state: StateDir, *records: Record, repeat: bool = True) -> list[bool]:
    """Write in a process of its own that ends in order; return which records were new."""
    journal = opened(state, repeat=repeat)
    new = [journal.write(record) for record in records]
    journal.sync()
    journal.close()
    return new


def content(state: StateDir) -> bytes:
    return state.path("runs/first/journal.jsonl").read_bytes()


def kinds(state: StateDir) -> list[str]:
    return [json.loads(line)["kind"] for line in content(state).splitlines()]


# --- the hash


def hash_of(*records: Record) -> str:
    ledger = LedgerHash()
    for record in records:
        ledger.add(record)
    return ledger.hexdigest()


def test_the_hash_leaves_out_the_run_the_wall_clock_and_the_order_of_keys() -> None:
    trade = {"timing": {"quote_age_ms": 20, "ws_latency_ms": None}, "fill_qty": "12.5", "run_id": "second"}
    assert hash_of({"trade": trade, "kind": "fill", "at_ms": 7, "wall": "now"}) == hash_of(FILL)


def test_the_hash_hears_of_every_field_of_a_fill_and_of_the_order_of_fills() -> None:
    more = {**FILL, "trade": {**TRADE, "fill_qty": "12.500001"}}
    assert len({hash_of(FILL), hash_of(more), hash_of(FILL, more), hash_of(more, FILL), hash_of({**FILL, "at_ms": 9}), hash_of()}) == 6


@pytest.mark.parametrize("kind", ["run", "place", "decision", "mark", "halt", "stop", "end"])
def test_what_moves_no_money_is_not_in_the_hash(kind: str) -> None:
    assert hash_of(FILL, {"kind": kind, "at_ms": 1}) == hash_of(FILL)


@pytest.mark.parametrize("kind", sorted(LEDGER_KINDS))
def test_what_moves_money_is_in_the_hash(kind: str) -> None:
    assert hash_of(FILL, {"kind": kind, "at_ms": 1}) != hash_of(FILL)


def test_the_hash_is_the_one_that_the_docs_promise() -> None:
    import hashlib

    line = '{"at_ms":7,"kind":"merge","market":"caf\\u00e9","size":"5"}\n'
    assert hash_of({"size": "5", "kind": "merge", "market": "café", "at_ms": 7}) == hashlib.sha256(line.encode()).hexdigest()


@given(values)
def test_canonical_takes_nothing_but_the_fields_that_are_not_repeated(value: Any) -> None:
    assert canonical(value) == value
    assert canonical([{"run_id": 1, "keep": value, "ws_latency_ms": value}]) == [{"keep": value}]


# --- on disk


def test_a_new_journal_holds_what_is_written_and_no_start(state: StateDir) -> None:
    assert write(state, RUN, PLACE, FILL, END) == [True] * 4
    assert [json.loads(line) for line in content(state).splitlines()] == [RUN, PLACE, FILL, END]


def test_records_of_an_earlier_process_are_compared_and_not_written_again(state: StateDir) -> None:
    write(state, RUN, PLACE, END)
    assert write(state, RUN, PLACE, FILL, END) == [False, False, True, True]
    assert kinds(state) == ["run", "place", "end", "start", "fill", "end"]


def test_a_third_process_repeats_what_both_before_it_wrote(state: StateDir) -> None:
    write(state, RUN, PLACE, END)
    write(state, RUN, PLACE, FILL, END)
    assert write(state, RUN, PLACE, FILL, {**PLACE, "key": "o2"}) == [False, False, False, True]
    assert kinds(state) == ["run", "place", "end", "start", "fill", "end", "start", "place"]


def test_a_repetition_that_is_not_finished_writes_nothing(state: StateDir) -> None:
    write(state, RUN, PLACE, FILL, END)
    before = content(state)
    journal = opened(state)
    assert journal.repeating()
    journal.write(RUN)
    journal.flush()
    journal.close()
    assert content(state) == before


def test_repeating_is_over_with_the_last_record_that_was_written(state: StateDir) -> None:
    write(state, RUN, PLACE, END)
    journal = opened(state)
    journal.write(RUN)
    assert journal.repeating()
    journal.write(PLACE)
    assert not journal.repeating()
    journal.close()


def test_wall_clock_version_and_run_id_may_differ(state: StateDir) -> None:
    write(state, RUN, FILL)
    trade = {**TRADE, "run_id": "another", "timing": {"ws_latency_ms": None, "quote_age_ms": 20}}
    assert write(state, {**RUN, "version": "2.0"}, {**FILL, "trade": trade}) == [False, False]


@pytest.mark.parametrize("other", [{**PLACE, "key": "o2"}, {**PLACE, "at_ms": 60}, FILL, {"kind": "place", "key": "o1"}])
def test_another_record_than_the_written_one_is_refused_and_nothing_is_appended(state: StateDir, other: Record) -> None:
    write(state, RUN, PLACE)
    before = content(state)
    journal = opened(state)
    journal.write(RUN)
    with pytest.raises(Refused, match=rf"line 2 of its journal .* \(place there, {other['kind']} here\); nothing was appended"):
        journal.write(other)
    journal.close()
    assert content(state) == before


def test_an_end_with_more_records_ahead_is_refused(state: StateDir) -> None:
    write(state, RUN, PLACE, FILL)
    journal = opened(state)
    journal.write(RUN)
    with pytest.raises(Refused, match=r"\(place there, end here\)"):
        journal.write(END)
    journal.close()


def test_the_end_is_kept_back_until_everything_else_is_safe(state: StateDir) -> None:
    journal = opened(state)
    journal.write(RUN)
    journal.write(END)
    journal.flush()
    journal.close()
    assert kinds(state) == ["run"]


def test_a_torn_last_line_is_cut_off_and_written_again(state: StateDir) -> None:
    write(state, RUN, PLACE)
    path = state.path("runs/first/journal.jsonl")
    path.write_bytes(content(state)[:-9])
    assert write(state, RUN, PLACE) == [False, True]
    assert kinds(state) == ["run", "start", "place"]


def test_a_journal_that_is_not_repeated_goes_on_after_a_start(state: StateDir) -> None:
    write(state, RUN, PLACE, END)
    journal = opened(state, repeat=False)
    assert not journal.repeating()
    assert journal.write(FILL)
    journal.close()
    assert kinds(state) == ["run", "place", "end", "start", "fill"]


def test_a_process_that_writes_nothing_leaves_no_start(state: StateDir) -> None:
    write(state, RUN, PLACE)
    opened(state, repeat=False).close()
    assert kinds(state) == ["run", "place"]


def test_a_flushed_turn_is_on_disk_whole(state: StateDir) -> None:
    journal = opened(state)
    journal.write(RUN)
    journal.write(PLACE)
    assert content(state) == b""
    journal.flush()
    assert kinds(state) == ["run", "place"]
    journal.close()


def test_a_journal_in_memory_repeats_nothing() -> None:
    journal = MemoryJournal()
    assert journal.write(RUN)
    assert journal.write(RUN)
    assert not journal.repeating()
