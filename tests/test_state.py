"""State files on a real disk: killed, filled up, cut, flipped, locked, and raced for."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults import ERRORS, KILLS, Kind, Outcome, every_fault
from hypothesis import example, given
from hypothesis import strategies as st

import mmtools
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.state import Broken, StateDir

SCHEMA = "mmtools.test/3"
OLD = {"slug": "nhl-final", "yes": "120.5", "resting": ["7", "11"]}
NEW = {"slug": "nhl-final", "yes": "80", "resting": [], "reason": "größer"}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    return StateDir(tmp_path_factory.mktemp("shared"))


def files(state: StateDir) -> list[str]:
    """Every file there is, leftovers included, locks left out."""
    found = (path.relative_to(state.root).as_posix() for path in state.root.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith("locks/"))


def told(fn: Callable[[], object]) -> Callable[[], int]:
    """What a command does with the errors it can meet: one line and a status."""

    def run() -> int:
        try:
            fn()
        except TryLater as e:
            print(e, file=sys.stderr)
            return 75
        return 0

    return run


def acknowledged(outcome: Outcome) -> int:
    """The last of the numbers that the child printed, each after what it stands for had been done."""
    return int(outcome.stdout.split()[-1]) if outcome.stdout else 0


# documents


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text().filter(lambda key: key not in ("schema", "checksum")), json_values, max_size=5))
@example({"tiny": 5e-324, "minus nought": -0.0, "whole": 1e22, "id": 2**256, "": "\u2028\x00"})
def test_any_json_body_reads_back_as_it_was_written(shared: StateDir, body: dict[str, Any]) -> None:
    shared.write("any.json", body, schema=SCHEMA)
    assert repr(shared.read("any.json", schema=SCHEMA)) == repr(body)  # repr: 1 and 1.0 are equal but not the same


def test_a_document_is_plain_json_with_schema_and_checksum_in_private_folders(state: StateDir) -> None:
    assert state.read("runs/a/live_state.json", schema=SCHEMA) is None
    assert not state.root.exists()
    state.write("runs/a/live_state.json", NEW, schema=SCHEMA)
    document = json.loads(state.path("runs/a/live_state.json").read_text())
    assert list(document) == ["schema", "checksum", *NEW]
    assert document["checksum"].startswith("sha256:")
    assert state.root.stat().st_mode & 0o777 == 0o700
    assert state.path("runs/a").stat().st_mode & 0o777 == 0o700
    assert state.path("runs/a/live_state.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "body", [{"mid": float("nan")}, {"mid": [float("-inf")]}, {"at": object()}, {"schema": SCHEMA}, {"path": "\udcff"}]
)
def test_what_is_no_json_is_refused_and_the_old_document_stays(state: StateDir, body: dict[str, Any]) -> None:
    state.write("a.json", OLD, schema=SCHEMA)
    with pytest.raises((ValueError, TypeError)):
        state.write("a.json", body, schema=SCHEMA)
    assert state.read("a.json", schema=SCHEMA) == OLD
    assert files(state) == ["a.json"]


def test_an_edit_changes_what_was_there_and_starts_from_nothing(state: StateDir) -> None:
    with state.edit("kill.json", schema=SCHEMA) as body:
        assert body == {}
        body["all"] = "loss"
    with state.edit("kill.json", schema=SCHEMA) as body:
        body["by"] = "halt"
    assert state.read("kill.json", schema=SCHEMA) == {"all": "loss", "by": "halt"}


def test_an_exception_in_an_edit_leaves_the_document_alone_and_frees_it(state: StateDir) -> None:
    state.write("a.json", OLD, schema=SCHEMA)

    def interrupted() -> None:
        with state.edit("a.json", schema=SCHEMA) as body:
            body.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert state.read("a.json", schema=SCHEMA) == OLD
    assert not state.is_locked("a.json")


def test_edits_at_the_same_time_lose_nothing(state: StateDir) -> None:
    def add(key: int) -> None:
        with state.edit("a.json", schema=SCHEMA) as body:
            body[str(key)] = key

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(24)))
    assert state.read("a.json", schema=SCHEMA) == {str(key): key for key in range(24)}


def test_writers_at_the_same_time_never_mix(state: StateDir) -> None:
    bodies = [{"who": who, "text": who * size} for who, size in (("a", 100_000), ("b", 70_000), ("c", 3))]
    with ThreadPoolExecutor(3) as pool:
        writes = [pool.submit(state.write, "a.json", body, schema=SCHEMA) for _ in range(8) for body in bodies]
        while not all(write.done() for write in writes):
            assert state.read("a.json", schema=SCHEMA) in [None, *bodies]
        assert all(write.exception() is None for write in writes)
    assert files(state) == ["a.json"]


# documents that are not what was written


def assert_reported_until_it_is_dealt_with(state: StateDir, content: bytes) -> None:
    """Reading says so every time, keeps the bytes beside, and ends when a person removes them."""
    path = state.path("a.json")
    path.write_bytes(content)
    with pytest.raises(Broken) as first:
        state.read("a.json", schema=SCHEMA)
    [aside] = files(state)
    assert aside.startswith("a.json.broken-2")
    assert aside.endswith("Z-1")
    assert state.path(aside).read_bytes() == content
    with pytest.raises(Broken) as again:
        state.read("a.json", schema=SCHEMA)
    for error in (first, again):
        assert str(state.path(aside)) in str(error.value)
        assert "\n" not in str(error.value)
    state.path(aside).unlink()
    assert state.read("a.json", schema=SCHEMA) is None


def test_a_document_cut_anywhere_is_never_read_as_another_one(state: StateDir) -> None:
    state.write("a.json", OLD, schema=SCHEMA)
    content = state.path("a.json").read_bytes()
    state.path("a.json").write_bytes(content[:-1])
    assert state.read("a.json", schema=SCHEMA) == OLD  # only the newline is lost
    for size in range(len(content) - 1):
        assert_reported_until_it_is_dealt_with(state, content[:size])


def test_a_flipped_bit_anywhere_is_never_read_as_another_document(state: StateDir) -> None:
    state.write("a.json", OLD, schema=SCHEMA)
    content = state.path("a.json").read_bytes()
    at_schema = content.index(SCHEMA.encode())
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1
        if at_schema <= place < at_schema + len(SCHEMA):
            state.path("a.json").write_bytes(flipped)
            with pytest.raises(Misconfigured):
                state.read("a.json", schema=SCHEMA)
        else:
            assert_reported_until_it_is_dealt_with(state, bytes(flipped))


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{}",
        b"null",
        b"\0" * 4096,
        b'{"a": NaN}',
        '{"größer": 1}'.encode("latin-1"),
        '{"a": 1}'.encode("utf-16"),
        b'{"a":' * 100_000,
    ],
    ids=["array", "no keys", "null", "zeros", "NaN", "latin-1", "utf-16", "deep"],
)
def test_what_is_no_document_is_reported(state: StateDir, content: bytes) -> None:
    state.root.mkdir()
    assert_reported_until_it_is_dealt_with(state, content)


def test_a_broken_document_stops_an_edit_and_ends_with_a_new_document(state: StateDir) -> None:
    state.write("kill.json", OLD, schema=SCHEMA)
    state.path("kill.json").write_bytes(b"{")
    for _ in range(2):
        with pytest.raises(Refused), state.edit("kill.json", schema=SCHEMA):
            pytest.fail("nothing to edit")
    state.write("kill.json", NEW, schema=SCHEMA)
    assert state.read("kill.json", schema=SCHEMA) == NEW


def test_broken_documents_of_one_second_are_all_kept(state: StateDir) -> None:
    state.root.mkdir()
    for content in (b"{1", b"{2", b"{3"):
        state.path("a.json").write_bytes(content)
        with pytest.raises(Broken):
            state.read("a.json", schema=SCHEMA)
    assert {state.path(name).read_bytes() for name in files(state)} == {b"{1", b"{2", b"{3"}


@pytest.mark.parametrize("schema", ["mmtools.test/4", "mmtools.test/2", "mmtools.other/3"])
def test_another_schema_is_refused_and_left_in_place(state: StateDir, schema: str) -> None:
    state.write("a.json", OLD, schema=schema)
    with pytest.raises(Misconfigured, match=rf"a\.json.*{schema}.*{SCHEMA}"):
        state.read("a.json", schema=SCHEMA)
    with pytest.raises(Misconfigured), state.edit("a.json", schema=SCHEMA):
        pytest.fail("not ours to edit")
    assert state.read("a.json", schema=schema) == OLD


# kills


@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_leaves_the_old_document_or_the_new_one(state: StateDir, kind: Kind) -> None:
    def write() -> int:
        state.write("runs/a/live_state.json", NEW, schema=SCHEMA)
        return 0

    met = []
    for outcome in every_fault(kind, write):
        assert outcome.signal == (signal.SIGKILL if outcome.reached else None)
        met.append(state.read("runs/a/live_state.json", schema=SCHEMA))
        assert state.names("runs/a/*") == ([] if met[-1] is None else ["runs/a/live_state.json"])
        state.write("runs/a/live_state.json", OLD, schema=SCHEMA)
        assert files(state) == ["runs/a/live_state.json"]
    assert met[0] is None
    assert OLD in met
    assert met[-1] == NEW


def test_a_longer_leftover_of_a_kill_does_not_show_through(state: StateDir) -> None:
    state.write_text("a.json.new", "{" * 1000)
    state.write("a.json", NEW, schema=SCHEMA)
    assert state.read("a.json", schema=SCHEMA) == NEW
    assert files(state) == ["a.json"]


@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_in_an_edit_leaves_it_undone_or_done_and_the_lock_free(state: StateDir, kind: Kind) -> None:
    def edit() -> int:
        with state.edit("a.json", schema=SCHEMA) as body:
            body["yes"] = "80"
        return 0

    state.write("a.json", OLD, schema=SCHEMA)
    met = []
    for _ in every_fault(kind, edit):
        met.append(state.read("a.json", schema=SCHEMA))
        assert not state.is_locked("a.json")
        state.write("a.json", OLD, schema=SCHEMA)
    assert all(body in (OLD, OLD | {"yes": "80"}) for body in met)
    assert met[0] == OLD
    assert met[-1] == OLD | {"yes": "80"}


@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_leaves_a_prefix_of_the_records_and_the_next_append_goes_on(state: StateDir, kind: Kind) -> None:
    wanted: list[dict[str, Any]] = [{"n": 1, "text": "größer"}, {"n": 2}, {"n": 3, "ids": ["7"]}]

    def append() -> int:
        for record in wanted:
            state.append("runs/history.jsonl", record)
            print(record["n"])
        return 0

    for outcome in every_fault(kind, append):
        kept = list(state.records("runs/history.jsonl"))
        assert kept == wanted[: len(kept)]
        assert acknowledged(outcome) <= len(kept) <= acknowledged(outcome) + 1
        state.append("runs/history.jsonl", {"n": 99})
        assert list(state.records("runs/history.jsonl")) == [*kept, {"n": 99}]
        assert state.path("runs/history.jsonl").read_bytes().count(b"\n") == len(kept) + 1
        state.remove("runs/history.jsonl")


LINES = [json.dumps({"n": n, "padding": "x" * n}).encode() for n in range(6)]


def log_lines(state: StateDir) -> None:
    with state.log("runs/a/journal.jsonl") as log:
        for first, last in ((0, 1), (1, 4), (4, 6)):
            for line in LINES[first:last]:
                log.append(line)
            log.flush()
            print(last)
        log.sync()


@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_leaves_a_prefix_of_the_log_and_the_next_log_goes_on(state: StateDir, kind: Kind) -> None:
    for outcome in every_fault(kind, told(lambda: log_lines(state))):
        kept = list(state.raw_records("runs/a/journal.jsonl"))
        assert kept == LINES[: len(kept)]
        assert len(kept) >= acknowledged(outcome)
        with state.log("runs/a/journal.jsonl") as log:
            log.append(LINES[-1])
        assert list(state.raw_records("runs/a/journal.jsonl")) == [*kept, LINES[-1]]
        state.remove("runs/a/journal.jsonl")


@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_leaves_a_removed_folder_whole_or_gone(state: StateDir, kind: Kind) -> None:
    def remove() -> int:
        state.remove_tree("runs/a")
        return 0

    def create() -> None:
        state.write("runs/a/live_state.json", OLD, schema=SCHEMA)
        state.write_text("runs/a/run.yaml", "run_id: a\n")

    create()
    for outcome in every_fault(kind, remove):
        names = state.names("runs/*") + state.names("runs/a/*")
        assert names in ([], ["runs/a", "runs/a/live_state.json", "runs/a/run.yaml"])
        assert outcome.reached or files(state) == []
        create()
    state.remove_tree("runs/a")
    assert files(state) == []


# disks that fail


@pytest.mark.parametrize("kind", ERRORS)
def test_a_failing_disk_leaves_the_old_document_and_no_half_one(state: StateDir, kind: Kind) -> None:
    state.write("a.json", OLD, schema=SCHEMA)
    for outcome in every_fault(kind, told(lambda: state.write("a.json", NEW, schema=SCHEMA))):
        body = state.read("a.json", schema=SCHEMA)
        assert files(state) == ["a.json"]
        if not outcome.reached:
            assert (outcome.status, outcome.stderr, body) == (0, "", NEW)
        else:
            assert outcome.status == 75, outcome
            assert outcome.stderr.count("\n") == 1
            if "a power cut may undo it" in outcome.stderr:  # the folder's fsync: the rename is done
                assert body == NEW
            else:
                assert str(state.path("a.json")) in outcome.stderr
                assert "what was there before is whole" in outcome.stderr
                assert body == OLD
        state.write("a.json", OLD, schema=SCHEMA)


@pytest.mark.parametrize("kind", ERRORS)
def test_a_failing_disk_at_the_first_write_leaves_no_document(tmp_path: Path, kind: Kind) -> None:
    state = StateDir(tmp_path / "state")
    for outcome in every_fault(kind, told(lambda: state.write("runs/a/live_state.json", NEW, schema=SCHEMA))):
        assert outcome.status == (75 if outcome.reached else 0), outcome
        assert files(state) in ([], ["runs/a/live_state.json"])
        assert state.read("runs/a/live_state.json", schema=SCHEMA) in (None, NEW)
        shutil.rmtree(state.root)


@pytest.mark.parametrize("kind", ERRORS)
def test_a_failing_disk_leaves_exactly_the_records_that_were_acknowledged(state: StateDir, kind: Kind) -> None:
    def append() -> None:
        for n in (1, 2, 3):
            state.append("history.jsonl", {"n": n})
            print(n)

    for outcome in every_fault(kind, told(append)):
        assert outcome.status == (75 if outcome.reached else 0), outcome
        path = state.path("history.jsonl")
        if path.exists():
            assert path.read_bytes() == b"".join(b'{"n":%d}\n' % n for n in range(1, acknowledged(outcome) + 1))
            path.unlink()


@pytest.mark.parametrize("kind", ERRORS)
def test_a_failing_disk_leaves_exactly_the_lines_that_were_flushed(state: StateDir, kind: Kind) -> None:
    for outcome in every_fault(kind, told(lambda: log_lines(state))):
        assert outcome.status == (75 if outcome.reached else 0), outcome
        flushed = acknowledged(outcome)
        path = state.path("runs/a/journal.jsonl")
        if path.exists():
            assert path.read_bytes() == b"".join(line + b"\n" for line in LINES[:flushed])
            path.unlink()


def test_a_log_that_failed_writes_no_more(state: StateDir) -> None:
    def go_on_regardless() -> int:
        log = state.log("journal.jsonl")
        refusals = 0
        for line in LINES:
            log.append(line)
            try:
                log.flush()
            except TryLater:
                refusals += 1
        log.close()
        return refusals

    met = set()
    for outcome in every_fault("eio", go_on_regardless):
        if state.exists("journal.jsonl") and outcome.status != 70:
            kept = list(state.raw_records("journal.jsonl"))
            assert kept == LINES[: len(kept)]
            assert outcome.status == len(LINES) - len(kept)
            met.add(len(kept))
        state.remove("journal.jsonl")
    assert met == set(range(len(LINES) + 1))


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, TryLater),
        (errno.EDQUOT, TryLater),
        (errno.EIO, TryLater),
        (errno.EMFILE, TryLater),
        (errno.EROFS, Misconfigured),
        (errno.EACCES, Misconfigured),
    ],
)
def test_what_the_system_refuses_becomes_one_line_for_who_can_act(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    state.write("a.json", OLD, schema=SCHEMA)
    calls: list[Callable[[], object]] = [
        lambda: state.write("a.json", NEW, schema=SCHEMA),
        lambda: state.write_text("a.json", "run_id: a\n"),
        lambda: state.append("a.jsonl", {"n": 1}),
        lambda: state.log("a.jsonl"),
        lambda: state.edit("a.json", schema=SCHEMA).__enter__(),
        lambda: state.lock("a").__enter__(),
    ]
    with monkeypatch.context() as world:
        world.setattr(os, "open", refuse)
        for call in calls:
            with pytest.raises(error, match=os.strerror(number)) as told_error:
                call()
            assert str(state.root) in str(told_error.value)
            assert "\n" not in str(told_error.value)
    assert state.read("a.json", schema=SCHEMA) == OLD


def test_a_state_folder_that_is_a_file_is_a_wrong_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not ours")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        state = StateDir(root)
        with pytest.raises(Misconfigured, match="--state"):
            state.write("a.json", OLD, schema=SCHEMA)
        with pytest.raises(Misconfigured):
            state.read("a.json", schema=SCHEMA)
        with pytest.raises(Misconfigured), state.lock("a"):
            pytest.fail("no lock without a file")
        with pytest.raises(Misconfigured):
            list(state.records("a.jsonl"))
    assert (tmp_path / "file").read_text() == "not ours"


# records


def test_no_file_is_no_records(state: StateDir) -> None:
    assert list(state.records("a.jsonl")) == []
    assert list(state.raw_records("a.jsonl")) == []
    assert not state.root.exists()


@pytest.mark.parametrize(
    ("tail", "whole"),
    [
        (b'{"n": 3', 2),
        (b"\0" * 5000, 2),
        (b'{"n": 3}', 2),
        (b'{"n": 3\n', 3),
        (b'\0\0\0": 3}\n', 3),
        (b"[3]\n", 3),
        (b'\n{"n"', 3),
        (b'{"n": 3\n{"n": 4', 3),
    ],
)
def test_a_torn_tail_is_skipped_and_cut_by_the_next_writer(state: StateDir, tail: bytes, whole: int) -> None:
    sound = b'{"n":1}\n{"n":2}\n'
    path = state.path("a.jsonl")
    for write in ("append", "log"):
        state.write_text("a.jsonl", "")
        path.write_bytes(sound + tail)
        assert [record["n"] for record in state.records("a.jsonl")] == [1, 2]
        assert len(list(state.raw_records("a.jsonl"))) == whole
        if write == "append":
            state.append("a.jsonl", {"n": 5})
        else:
            with state.log("a.jsonl") as log:
                log.append(b'{"n":5}')
        assert path.read_bytes() == sound + b'{"n":5}\n'


def test_a_torn_line_longer_than_a_block_is_cut_whole(state: StateDir) -> None:
    long = json.dumps({"n": 1, "text": "x" * 200_000}).encode()
    state.write_text("a.jsonl", "")
    state.path("a.jsonl").write_bytes(long + b"\n" + long[:-1])
    state.append("a.jsonl", {"n": 2})
    assert [record["n"] for record in state.records("a.jsonl")] == [1, 2]


def test_a_first_line_that_is_torn_leaves_an_empty_history(state: StateDir) -> None:
    state.write_text("a.jsonl", '{"n": 1')
    assert list(state.records("a.jsonl")) == []
    state.append("a.jsonl", {"n": 2})
    assert list(state.records("a.jsonl")) == [{"n": 2}]


@pytest.mark.parametrize("line", [b'{"n": 2', b"", b"[2]", b'"\xff"', b"\0\0\0"])
def test_a_broken_line_before_the_end_is_named_and_left_in_place(state: StateDir, line: bytes) -> None:
    state.append("a.jsonl", {"n": 1})
    content = b'{"n":1}\n' + line + b'\n{"n":3}\n'
    state.path("a.jsonl").write_bytes(content)
    records = state.records("a.jsonl")
    assert next(records) == {"n": 1}
    with pytest.raises(Broken, match=r"a\.jsonl: line 2 "):
        next(records)
    assert state.path("a.jsonl").read_bytes() == content


@pytest.mark.parametrize("record", [{"mid": float("inf")}, {"mid": {"a": [float("nan")]}}])
def test_no_record_holds_nan_or_infinity(state: StateDir, record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        state.append("a.jsonl", record)
    assert not state.exists("a.jsonl")


def test_appends_at_the_same_time_are_all_whole_lines(state: StateDir) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: state.append("a.jsonl", {"n": n, "text": "x" * n}), range(40)))
    assert sorted(record["n"] for record in state.records("a.jsonl")) == list(range(40))


def test_an_append_while_the_file_is_removed_is_not_lost(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    real_flock = fcntl.flock
    path = state.path("a.jsonl")
    removals = iter([path])

    def remove_then_lock(fd: int, operation: int) -> None:
        for removed in removals:
            removed.unlink()
        real_flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", remove_then_lock)
    state.append("a.jsonl", {"n": 1})
    assert list(state.records("a.jsonl")) == [{"n": 1}]


def test_a_log_buffers_until_it_is_flushed_and_refuses_half_lines(state: StateDir) -> None:
    with state.log("a.jsonl") as log:
        log.append(LINES[0])
        with pytest.raises(ValueError, match="one line"):
            log.append(b'{"n":\n1}')
        assert list(state.raw_records("a.jsonl")) == []
        log.flush()
        assert list(state.raw_records("a.jsonl")) == LINES[:1]
        log.append(LINES[1])
    assert list(state.raw_records("a.jsonl")) == LINES[:2]
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.sync()


def test_one_flush_is_one_write_however_many_lines(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real_write = os.write

    def counting(fd: int, content: memoryview) -> int:
        sizes.append(len(content))
        return real_write(fd, content)

    with state.log("a.jsonl") as log:
        monkeypatch.setattr(os, "write", counting)
        for line in LINES:
            log.append(line)
        log.flush()
        log.flush()
    assert sizes == [sum(len(line) + 1 for line in LINES)]


def test_lines_buffered_before_an_exception_are_kept(state: StateDir) -> None:
    def halted() -> None:
        with state.log("a.jsonl") as log:
            log.append(LINES[0])
            raise Refused("a halt, say")

    with pytest.raises(Refused):
        halted()
    assert list(state.raw_records("a.jsonl")) == LINES[:1]


# locks

HOLDER = """
import os, sys
from pathlib import Path
from mmtools.state import StateDir

with StateDir(Path(sys.argv[1])).lock("runs/a"):
    child = os.fork() if sys.argv[2] == "fork" else 0
    if child == 0:  # with a fork only the child speaks: it is then past the fork
        print("held", os.getpid(), flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(state: StateDir, mode: str = "alone") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that holds the lock "runs/a" until its stdin ends; and what it said when it had it."""
    environment = os.environ | {"PYTHONPATH": str(Path(mmtools.__file__).parents[1])}
    command = [sys.executable, "-c", HOLDER, str(state.root), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def test_a_lock_held_by_another_process_is_refused_until_that_ends(state: StateDir) -> None:
    with holder(state) as (process, said):
        assert said.startswith("held")
        assert state.is_locked("runs/a")
        with pytest.raises(TryLater, match="runs/a is running"), state.lock("runs/a"):
            pytest.fail("two holders")
        with state.lock("runs/b"):
            assert state.is_locked("runs/b")
        process.communicate("\n")
        assert not state.is_locked("runs/a")
        with state.lock("runs/a"):
            pass


def test_kill_9_of_the_holder_frees_the_lock(state: StateDir) -> None:
    with holder(state) as (process, _):
        process.kill()
        process.wait()
        assert not state.is_locked("runs/a")
        with state.lock("runs/a"):
            assert state.is_locked("runs/a")


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_holder(state: StateDir) -> None:
    with holder(state, "fork") as (process, said):
        child = int(said.split()[1])
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        assert not state.is_locked("runs/a")


def test_a_started_program_does_not_keep_the_lock(state: StateDir) -> None:
    with state.lock("runs/a"):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    try:
        assert not state.is_locked("runs/a")
    finally:
        child.communicate()


def test_a_lock_is_refused_to_its_own_process_and_free_after_an_exception(state: StateDir) -> None:
    def twice() -> None:
        with state.lock("quote-run"), state.lock("quote-run"):
            pytest.fail("two holders")

    with pytest.raises(TryLater, match="quote-run is running"):
        twice()
    with state.lock("quote-run"):
        pass


def test_asking_for_a_lock_creates_nothing(state: StateDir) -> None:
    assert not state.is_locked("quote-run")
    assert not state.root.exists()


# names


@pytest.mark.parametrize("name", ["../a.json", "/etc/a.json", "runs/../../a.json", "runs/..", "..", ".", "", "runs//a.json", "a\0.json"])
def test_names_that_leave_the_folder_are_refused(state: StateDir, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: state.path(name),
        lambda: state.read(name, schema=SCHEMA),
        lambda: state.write(name, OLD, schema=SCHEMA),
        lambda: state.edit(name, schema=SCHEMA).__enter__(),
        lambda: state.write_text(name, ""),
        lambda: state.append(name, {"n": 1}),
        lambda: state.log(name),
        lambda: list(state.records(name)),
        lambda: state.lock(name).__enter__(),
        lambda: state.is_locked(name),
        lambda: state.names(name),
        lambda: state.exists(name),
        lambda: state.remove(name),
        lambda: state.remove_tree(name),
    ]
    for call in calls:
        with pytest.raises(Misconfigured, match="names no file inside the state folder"):
            call()
    assert not state.root.exists()


def test_names_are_sorted_and_without_what_a_kill_left(state: StateDir) -> None:
    assert state.names("runs/*") == []
    for name in ("runs/b/run.yaml", "runs/a/run.yaml", "runs/a/run.yaml.new", "runs/c.removed/run.yaml"):
        state.write_text(name, "x")
    assert state.names("runs/*") == ["runs/a", "runs/b"]
    assert state.names("runs/*/run.y*") == ["runs/a/run.yaml", "runs/b/run.yaml", "runs/c.removed/run.yaml"]


def test_removing_what_is_not_there_is_no_error(state: StateDir) -> None:
    state.remove("a.json")
    state.remove_tree("runs/a")
    assert not state.root.exists()


def test_the_folder_comes_from_the_option_then_the_environment_then_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("MMTOOLS_STATE", "~/elsewhere")
    monkeypatch.chdir(tmp_path)
    assert StateDir.open("given").root == tmp_path / "given"
    assert StateDir.open(None).root == tmp_path / "home" / "elsewhere"
    monkeypatch.setenv("MMTOOLS_STATE", "")
    assert StateDir.open(None).root == tmp_path / "xdg" / "mmtools"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert StateDir.open(None).root == tmp_path / "home" / ".local" / "state" / "mmtools"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("MMTOOLS_STATE")
    assert StateDir.open(None).root == tmp_path / "home" / ".local" / "state" / "mmtools"
