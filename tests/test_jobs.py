"""Jobs: alone, with their last success on record, and an alert when they fail."""

from pathlib import Path

import pytest
from faults import KILLS, Kind, every_fault

from mmtools import outbox
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import jobs
from mmtools.state import StateDir


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def fail(state: StateDir, error: BaseException, name: str = "snapshot") -> None:
    with pytest.raises(type(error)), jobs.running(state, name):
        raise error


def succeed(state: StateDir, name: str = "snapshot") -> None:
    with jobs.running(state, name):
        pass


def test_a_success_is_on_record_and_ends_a_row_of_failures(state: StateDir) -> None:
    fail(state, Refused("the disk is almost full; make room"))
    assert jobs.all_jobs(state)["snapshot"]["last_success"] is None
    succeed(state)
    job = jobs.all_jobs(state)["snapshot"]
    assert (job["failures"], job["failing_since"], job["error"]) == (0, None, None)
    assert job["last_success"] == job["last_end"] >= job["last_start"]


def test_a_failure_is_told_at_once_and_once_a_row(state: StateDir) -> None:
    for _ in range(3):
        fail(state, Misconfigured("ops.yaml:3: unknown key colour"))
    (alert,) = outbox.alerts(state).values()
    assert alert["text"] == "snapshot failed: ops.yaml:3: unknown key colour"
    assert alert["times"] == 3
    succeed(state)
    fail(state, Misconfigured("ops.yaml:9: another"))
    assert len(outbox.alerts(state)) == 2


def test_a_network_that_comes_and_goes_is_told_after_three_failures_in_a_row(state: StateDir) -> None:
    fail(state, TryLater("no answer"))
    fail(state, TryLater("no answer"))
    assert not outbox.alerts(state)
    fail(state, TryLater("no answer"))
    (alert,) = outbox.alerts(state).values()
    assert alert["text"].startswith("snapshot failed: no answer (3 times since ")


def test_an_interrupt_is_on_record_and_told_to_nobody(state: StateDir) -> None:
    fail(state, KeyboardInterrupt())
    assert jobs.all_jobs(state)["snapshot"]["error"] == "interrupted"
    assert not outbox.alerts(state)


def test_a_bug_is_told_by_its_name_alone(state: StateDir) -> None:
    fail(state, ZeroDivisionError("secret://token"))
    (alert,) = outbox.alerts(state).values()
    assert alert["text"] == "snapshot failed: a bug: ZeroDivisionError"


def test_a_second_run_at_once_is_turned_away_and_is_no_failure(state: StateDir) -> None:
    with jobs.running(state, "snapshot"):
        with pytest.raises(TryLater, match="snapshot is running"), jobs.running(state, "snapshot"):
            raise AssertionError("never begun")
        with pytest.raises(TryLater, match="snapshot is running"), jobs.running(state, "snapshot", dry_run=True):
            raise AssertionError("never begun")
    assert jobs.all_jobs(state)["snapshot"]["failures"] == 0


def test_a_dry_run_leaves_no_trace(state: StateDir) -> None:
    with jobs.running(state, "snapshot", dry_run=True):
        pass
    with pytest.raises(Refused), jobs.running(state, "snapshot", dry_run=True):
        raise Refused("no")
    assert not state.root.exists()


def test_a_success_that_cannot_be_written_down_is_heard(state: StateDir) -> None:
    succeed(state)
    state.path("jobs/snapshot.json").write_text("{")
    with pytest.raises(Refused), jobs.running(state, "snapshot"):
        pass


@pytest.mark.parametrize("kind", KILLS)
def test_killed_anywhere_the_record_is_old_or_new_and_the_next_run_goes(state: StateDir, kind: Kind) -> None:
    succeed(state)

    def again() -> int:
        succeed(state)
        return 0

    for _ in every_fault(kind, again):
        assert jobs.all_jobs(state)["snapshot"]["failures"] == 0
