"""Copies of files that others write: whole and of one instant, or not at all."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import ERRORS, every_fault

from mmtools.errors import TryLater
from mmtools.ops import copies
from mmtools.ops.copies import Fate
from mmtools.state import StateDir

MB = 1 << 20
WRITER = """
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
print("up", flush=True)
end = time.monotonic() + 20
n = 0
while time.monotonic() < end:
    n += 1
    for at in range(0, 1 << 20, 1 << 16):
        os.pwrite(fd, bytes([65 + n % 26]) * (1 << 16), at)
"""
SLOW_WRITER = """
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
size = os.fstat(fd).st_size
print("up", flush=True)
end = time.monotonic() + 20
n = 0
while time.monotonic() < end:
    time.sleep(0.05)
    n += 1
    for at in (0, size - 1):
        os.pwrite(fd, bytes([n % 256]), at)
"""
REPLACER = """
import os, sys, time
end = time.monotonic() + 20
n = 0
while time.monotonic() < end:
    n += 1
    with open(sys.argv[1] + ".new", "wb") as new:
        new.write(bytes([65 + n % 26]) * (1 << 20))
    os.replace(sys.argv[1] + ".new", sys.argv[1])
    time.sleep(0.06)
"""


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def old(path: Path, content: bytes) -> Path:
    """Write a file whose newest change is old enough to be sure of."""
    path.write_bytes(content)
    time.sleep(copies.FRESH_NS / 1e9)
    return path


def test_a_copy_has_the_bytes_the_mode_and_the_size_and_is_ours_alone(state: StateDir, tmp_path: Path) -> None:
    source = old(tmp_path / "x", b"ab" * 400_000)
    source.chmod(0o640)
    kept = copies.copy(state, "a/x", source, most_bytes=MB)
    assert (kept.fate, kept.size, kept.mode, kept.why) == (Fate.COPIED, 800_000, 0o640, "")
    assert state.path("a/x").read_bytes() == source.read_bytes()
    assert state.path("a/x").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_there_too_big_or_no_file_is_told_apart(state: StateDir, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert copies.copy(state, "x", tmp_path / "none", most_bytes=9).fate is Fate.NONE
    assert copies.copy(state, "x", old(tmp_path / "big", b"0123456789"), most_bytes=9).fate is Fate.TOO_BIG
    assert copies.copy(state, "x", tmp_path / "pipe", most_bytes=9).fate is Fate.UNREADABLE
    assert copies.copy(state, "x", tmp_path, most_bytes=MB).fate is Fate.UNREADABLE
    assert not state.exists("x")


def test_a_file_that_is_written_to_under_way_is_never_recorded_as_copied(state: StateDir, tmp_path: Path) -> None:
    source = old(tmp_path / "x", b"@" * MB)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(source)], stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "up\n"
            for n in range(2):
                kept = copies.copy(state, f"x{n}", source, most_bytes=MB)
                if kept.fate is Fate.COPIED:  # it may have been stopped for a while: then it is whole
                    assert len(set(state.path(f"x{n}").read_bytes())) == 1
                else:
                    assert kept.fate is Fate.CHANGING
                    assert not state.exists(f"x{n}")
        finally:
            writer.kill()
    assert copies.copy(state, "y", source, most_bytes=MB).fate is Fate.COPIED


def test_a_change_between_the_first_and_the_last_byte_is_seen_though_the_size_stays(state: StateDir, tmp_path: Path) -> None:
    source = old(tmp_path / "x", bytes(48 * MB))
    with subprocess.Popen([sys.executable, "-c", SLOW_WRITER, str(source)], stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "up\n"
            kept = copies.copy(state, "x", source, most_bytes=64 * MB)
            content = state.path("x").read_bytes() if kept.fate is Fate.COPIED else b"=="
            assert content[0] == content[-1]
        finally:
            writer.kill()


def test_a_file_that_is_replaced_under_way_is_copied_in_one_of_its_versions(state: StateDir, tmp_path: Path) -> None:
    source = old(tmp_path / "x", b"A" * MB)
    with subprocess.Popen([sys.executable, "-c", REPLACER, str(source)]) as writer:
        try:
            fates = set()
            for n in range(6):
                kept = copies.copy(state, f"x{n}", source, most_bytes=MB)
                fates.add(kept.fate)
                if kept.fate is Fate.COPIED:
                    assert len(set(state.path(f"x{n}").read_bytes())) == 1
            assert Fate.COPIED in fates
        finally:
            writer.kill()


@pytest.mark.parametrize("kind", ERRORS)
def test_a_full_or_failing_disk_is_the_copys_failure_and_leaves_none(state: StateDir, tmp_path: Path, kind: str) -> None:
    source = old(tmp_path / "x", b"ab" * 40_000)

    def copied() -> int:
        try:
            return int(copies.copy(state, "a/x", source, most_bytes=MB).fate is not Fate.COPIED)
        except TryLater:
            return 75

    for outcome in every_fault(kind, copied):  # type: ignore[arg-type]
        assert outcome.status == (75 if outcome.reached else 0), outcome.stderr
        assert not state.exists("a/x") or state.path("a/x").read_bytes() == source.read_bytes()
        state.remove("a/x")
