"""The lock of the store as OpenClaw's releases hold it: waited for, taken over when stale, never held long, never taken from others."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import PATIENCE_S
from faults import ERRORS, KILLS, TREES, Kind, every_fault

from mmtools import moments
from mmtools.errors import TryLater
from mmtools.ops import storelock

NO_PID = 2**22 - 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.json.lock"


@pytest.fixture
def living() -> Iterator[int]:
    """The PID of a process that lives and does nothing."""
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({PATIENCE_S})"])
    yield child.pid
    child.kill()
    child.wait()


def lock(path: Path, text: str, *, age_s: float = 0) -> None:
    path.write_text(text)
    at_s = time.time() - age_s
    os.utime(path, (at_s, at_s))


def of_2_22(pid: int, age_s: float, **more: object) -> str:
    return json.dumps({"pid": pid, "createdAt": moments.iso(moments.now_ms() - round(age_s * 1000)), **more}, indent=2)


def test_the_lock_says_what_every_release_reads(path: Path) -> None:
    with storelock.holding(path):
        said = json.loads(path.read_text())
        assert path.stat().st_mode & 0o777 == 0o600
    assert said["pid"] == os.getpid()
    assert said["startedAt"] == pytest.approx(time.time() * 1000, abs=60_000)
    assert storelock._ms(said["createdAt"]) == said["startedAt"]
    fields = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    assert said["starttime"] == int(fields[19])
    assert not path.exists()


def test_a_holder_who_is_kept_by_a_slow_disk_loses_the_lock_in_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storelock, "MOST_S", 0.2)
    monkeypatch.setattr(storelock, "LAST_S", 0.1)
    with storelock.holding(path) as held:
        deadline = time.monotonic() + PATIENCE_S
        while path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(TryLater, match="too long"):
            held.check()
        lock(path, "another's")
    assert path.read_text() == "another's"


def test_a_lock_of_a_living_process_is_waited_for_and_left(path: Path, living: int) -> None:
    for text in (of_2_22(living, 5), json.dumps({"pid": living, "startedAt": 1}), "", "{", "[]", '{"pid": "x"}'):
        lock(path, text)
        with pytest.raises(TryLater, match="is held by"), storelock.holding(path, wait_s=0.06):
            pass
        assert path.read_text() == text


def test_a_lock_that_goes_while_it_is_waited_for_is_taken(path: Path, living: int) -> None:
    lock(path, of_2_22(living, 0))
    remover = subprocess.Popen([sys.executable, "-c", "import os, sys, time; time.sleep(0.2); os.unlink(sys.argv[1])", path])
    with storelock.holding(path) as held:
        assert held.is_ours()
    assert remover.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("release", ["2.9", "2.22", "3.2", "unreadable"])
def test_a_lock_older_than_thirty_seconds_is_taken_over_from_anyone(path: Path, living: int, release: str) -> None:
    start = storelock._start_of(living)
    texts = {
        "2.9": json.dumps({"pid": living, "startedAt": 1}),
        "2.22": of_2_22(living, 31),
        "3.2": of_2_22(living, 31, starttime=start),
        "unreadable": '{"pid": 1',
    }
    lock(path, texts[release], age_s=0 if release in ("2.22", "3.2") else 31)
    with storelock.holding(path, wait_s=0) as held:
        assert held.is_ours()


def test_a_lock_of_a_dead_process_is_left_for_a_moment(path: Path) -> None:
    """It may be the lock of a gateway in a container, whose processes are not seen from here."""
    lock(path, of_2_22(NO_PID, 1), age_s=1)
    with pytest.raises(TryLater), storelock.holding(path, wait_s=0.06):
        pass
    lock(path, of_2_22(NO_PID, 6), age_s=6)
    with storelock.holding(path, wait_s=0):
        pass


def test_a_lock_of_a_recycled_pid_is_stale(path: Path, living: int) -> None:
    start = storelock._start_of(living)
    assert start is not None
    lock(path, of_2_22(living, 6, starttime=start), age_s=6)
    with pytest.raises(TryLater), storelock.holding(path, wait_s=0):
        pass
    lock(path, of_2_22(living, 6, starttime=start + 1), age_s=6)
    with storelock.holding(path, wait_s=0):
        pass


def test_a_lock_that_was_taken_over_is_neither_ours_nor_removed(path: Path) -> None:
    with storelock.holding(path) as held:
        held.check()
        path.unlink()
        lock(path, of_2_22(1, 0))
        with pytest.raises(TryLater, match="taken over"):
            held.check()
    assert json.loads(path.read_text())["pid"] == 1


def test_a_lock_held_too_long_changes_nothing_more(path: Path) -> None:
    with storelock.holding(path) as held:
        late = storelock.Held(held.path, held.content, held.inode, held.since_s - storelock.MOST_S - 1)
        with pytest.raises(TryLater, match="too long"):
            late.check()


def test_what_a_kill_leaves_of_our_own_is_taken_at_once(path: Path) -> None:
    code = "import os, signal, sys; from pathlib import Path; from mmtools.ops import storelock\n"
    code += "with storelock.holding(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code, path], timeout=PATIENCE_S).returncode == -signal.SIGKILL
    assert path.exists()
    with storelock.holding(path, wait_s=0) as held:
        assert held.is_ours()


@pytest.mark.parametrize("kind", [*KILLS, *ERRORS])
def test_after_a_fault_anywhere_the_lock_can_be_had_again(path: Path, kind: Kind) -> None:
    def hold() -> int:
        try:
            with storelock.holding(path, wait_s=0):
                return 0
        except TryLater:
            return 75

    for outcome in every_fault(kind, hold, also=TREES):
        assert outcome.status in (0, 75, None), outcome.stderr
        if path.exists():
            assert outcome.signal is not None or "unlink" in str(outcome.at)
            assert json.loads(path.read_text())["program"] == "mmtools"  # never half of one, which others would take at once
        with storelock.holding(path, wait_s=0):
            pass
