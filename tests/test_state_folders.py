"""Folders of state files that are made whole or not at all, documents looked at byte for byte, and files that come in pieces."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import ERRORS, KILLS, TREES, Kind, every_fault

from mmtools.errors import Misconfigured, TryLater
from mmtools.state import Broken, StateDir

SCHEMA = "mmtools.test/3"
BODY = {"slug": "nhl-final", "yes": "120.5"}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def make(state: StateDir) -> None:
    with state.making("s/one") as folder:
        state.write_pieces(f"{folder}/files/a", iter([b"12", b"3"]))
        state.write(f"{folder}/manifest.json", BODY, schema=SCHEMA)


@pytest.mark.parametrize("kind", [*KILLS, *ERRORS])
def test_a_folder_is_there_whole_or_not_at_all_and_is_made_by_the_next_try(state: StateDir, kind: Kind) -> None:
    def fn() -> int:
        try:
            state.sweep("s")
            make(state)
        except TryLater:
            return 75
        return 0

    for outcome in every_fault(kind, fn, also=TREES):
        if kind in KILLS:
            assert outcome.signal == (signal.SIGKILL if outcome.reached else None), outcome.stderr
        else:
            assert outcome.status == (75 if outcome.reached else 0), outcome.stderr
        if not state.exists("s/one"):
            assert fn() == 0
        assert state.path("s/one/files/a").read_bytes() == b"123"
        assert state.verify("s/one/manifest.json", schema=SCHEMA) == BODY
        assert state.names("s/*") == ["s/one"]
        state.remove_tree("s/one")


def test_an_error_in_the_middle_leaves_nothing(state: StateDir) -> None:
    def fail() -> None:
        with state.making("s/one") as folder:
            state.write_text(f"{folder}/a", "x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(state.path("s").iterdir()) == []


def test_what_a_piece_raises_leaves_the_old_file(state: StateDir) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise KeyError("gone")

    state.write_text("a", "old")
    with pytest.raises(KeyError):
        state.write_pieces("a", pieces())
    assert [path.name for path in state.root.iterdir()] == ["a"]
    assert state.path("a").read_text() == "old"


def test_only_what_kills_leave_is_swept(state: StateDir) -> None:
    for name in ("s/a.new/x", "s/b.removed/x", "s/c/x"):
        state.write_text(name, "x")
    state.sweep("s")
    assert [path.name for path in state.path("s").iterdir()] == ["c"]
    state.sweep("nowhere")


def test_every_other_byte_of_a_document_is_broken_and_it_stays_where_it_is(state: StateDir) -> None:
    state.write("a.json", BODY, schema=SCHEMA)
    path = state.path("a.json")
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in (1, 41):  # 41 makes a tab of a space
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            with pytest.raises((Broken, Misconfigured)):
                state.verify("a.json", schema=SCHEMA)
    assert [entry.name for entry in state.root.iterdir()] == ["a.json"]
    path.unlink()
    with pytest.raises(Broken, match="missing"):
        state.verify("a.json", schema=SCHEMA)


def test_words_of_another_program_are_appended_to_a_file_of_ours_alone(state: StateDir) -> None:
    for word in (b"one\n", b"two\n"):
        fd = state.open_words("runs/x/words.log")
        os.write(fd, word)
        os.close(fd)
    assert state.path("runs/x/words.log").read_text() == "one\ntwo\n"
    assert state.path("runs/x/words.log").stat().st_mode & 0o777 == 0o600
