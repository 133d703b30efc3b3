"""Replacing a store that others write: what was read is what is replaced, or it is read again, or nothing is done."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmtools.errors import Misconfigured, TryLater
from mmtools.ops import swapping
from mmtools.ops.store import Unreadable, chunks
from mmtools.ops.swapping import Swap, Swapped, opened


@dataclass(frozen=True, slots=True)
class Longer:
    """The store with a word behind it."""

    word: bytes

    def chunks(self, source: int) -> Iterator[bytes]:
        yield from chunks(source, [(0, os.fstat(source).st_size)])
        yield self.word


class World:
    """A store, and another program that writes it at chosen moments: while it is read, and right before it is replaced."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "sessions.json"
        self.store.write_bytes(b"old")
        self.lock = folder / "sessions.json.lock"
        self.reads = self.lasts = self.writes = 0
        self.locked: list[bool] = []
        self.planned: list[bytes] = []
        self.changes_at: set[int] = set()
        self.slow = 0.0
        self.rude = False

    def write(self) -> None:
        """Write as OpenClaw does: beside, then rename."""
        self.writes += 1
        new = self.store.with_name("another.tmp")
        new.write_bytes(b"new%d" % self.writes)
        new.replace(self.store)

    def draft(self, _: int) -> Longer | None:
        self.reads += 1
        self.locked.append(self.lock.exists())
        time.sleep(self.slow)
        if self.reads in self.changes_at:
            self.write()
        return Longer(b"+%d" % self.reads)

    def last(self, _: Path) -> None:
        self.lasts += 1
        if self.rude:
            self.write()

    def swap(self) -> Swapped[Longer] | None:
        return Swap(self.store, draft=self.draft, planned=lambda draft, _: self.planned.append(draft.word), last=self.last).run()

    def left(self) -> list[str]:
        return sorted(os.listdir(self.store.parent))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_store_at_rest_is_read_once_and_without_the_lock(world: World) -> None:
    swapped = world.swap()
    assert swapped is not None
    assert world.store.read_bytes() == b"old+1"
    assert (world.reads, world.lasts, world.locked) == (1, 1, [False])
    assert swapped.now.inode == world.store.stat().st_ino
    assert world.left() == ["sessions.json"]


def test_a_store_that_was_written_meanwhile_is_read_again_under_the_lock(world: World) -> None:
    world.changes_at = {1}
    swapped = world.swap()
    assert swapped is not None
    assert world.store.read_bytes() == b"new1+2"
    assert world.locked == [False, True]
    assert world.planned == [b"+1", b"+2"]
    assert world.left() == ["sessions.json"]


def test_a_store_too_large_to_be_read_under_the_lock_is_read_again_without_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swapping, "QUICK_S", 0.01)
    world.changes_at, world.slow = {1, 2}, 0.02
    assert world.swap() is not None
    assert world.store.read_bytes() == b"new2+3"
    assert world.locked == [False, False, False]


def test_a_store_that_never_stands_still_is_left(world: World) -> None:
    world.changes_at = set(range(1, 100))
    with pytest.raises(TryLater, match="changed each of 5 times"):
        world.swap()
    assert world.store.read_bytes() == b"new%d" % world.writes
    assert world.lasts == 0
    assert world.left() == ["sessions.json"]


def test_a_program_that_does_not_honour_the_lock_is_not_written_over(world: World) -> None:
    world.rude = True
    with pytest.raises(TryLater, match="does not honour its lock"):
        world.swap()
    assert world.store.read_bytes() == b"new1"
    assert world.left() == ["sessions.json"]


def test_a_lock_that_was_taken_away_changes_nothing(world: World) -> None:
    def taken(_: Path) -> None:
        world.lock.unlink()
        world.lock.write_text("{}")

    with pytest.raises(TryLater, match="taken over"):
        Swap(world.store, draft=world.draft, planned=lambda *_: None, last=taken).run()
    assert world.store.read_bytes() == b"old"
    assert world.left() == ["sessions.json", "sessions.json.lock"]


def test_a_store_that_needs_no_change_is_not_locked(world: World) -> None:
    swap: Swap[Longer] = Swap(world.store, draft=lambda _: None, planned=lambda *_: None, last=world.last)
    world.lock.write_text("{}")
    assert swap.run() is None
    assert world.store.read_bytes() == b"old"


def test_the_new_store_is_as_open_to_others_as_the_old(world: World) -> None:
    for mode in (0o600, 0o640):
        world.store.chmod(mode)
        world.swap()
        assert world.store.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_a_store_of_another_user_is_not_taken_from_them(world: World) -> None:
    os.chown(world.store, 12345, 12345)
    with pytest.raises(Misconfigured, match="belongs to user 12345"):
        world.swap()


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder", "missing"):
        with pytest.raises(Unreadable), opened(tmp_path / name):
            pass
