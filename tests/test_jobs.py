"""Jobs: alone, with their last success on record, and an alert when they fail."""

from pathlib import Path

import pytest
from asked import Answerer, Server, answer
from faults import KILLS, Kind, every_fault

from mmtools import outbox
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import jobs
from mmtools.ops.settings import JobName, Ping, Secret, Settings
from mmtools.state import StateDir

SETTINGS = Settings()


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def fail(state: StateDir, error: BaseException, name: JobName = "snapshot") -> None:
    with pytest.raises(type(error)), jobs.running(state, name, SETTINGS):
        raise error


def succeed(state: StateDir, name: JobName = "snapshot") -> None:
    with jobs.running(state, name, SETTINGS):
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
    with jobs.running(state, "snapshot", SETTINGS):
        with pytest.raises(TryLater, match="snapshot is running"), jobs.running(state, "snapshot", SETTINGS):
            raise AssertionError("never begun")
        with pytest.raises(TryLater, match="snapshot is running"), jobs.running(state, "snapshot", SETTINGS, dry_run=True):
            raise AssertionError("never begun")
    assert jobs.all_jobs(state)["snapshot"]["failures"] == 0


def test_a_dry_run_leaves_no_trace(state: StateDir) -> None:
    with jobs.running(state, "snapshot", SETTINGS, dry_run=True):
        pass
    with pytest.raises(Refused), jobs.running(state, "snapshot", SETTINGS, dry_run=True):
        raise Refused("no")
    assert not state.root.exists()


def test_a_success_that_cannot_be_written_down_is_heard(state: StateDir) -> None:
    succeed(state)
    state.path("jobs/snapshot.json").write_text("{")
    with pytest.raises(Refused), jobs.running(state, "snapshot", SETTINGS):
        pass


@pytest.mark.parametrize("kind", KILLS)
def test_killed_anywhere_the_record_is_old_or_new_and_the_next_run_goes(state: StateDir, kind: Kind) -> None:
    succeed(state)

    def again() -> int:
        succeed(state)
        return 0

    for _ in every_fault(kind, again):
        assert jobs.all_jobs(state)["snapshot"]["failures"] == 0


def test_settings_that_are_wrong_are_a_failure_of_the_job_that_is_told(state: StateDir, tmp_path: Path) -> None:
    wrong = tmp_path / "ops.yaml"
    wrong.write_text("memory: {act_above: 7}\n")
    for _ in range(2):
        with pytest.raises(Misconfigured, match=r"memory\.act_above is 7"):
            jobs.settings(state, "snapshot", str(wrong))
    (alert,) = outbox.alerts(state).values()
    assert alert["text"].startswith("snapshot failed: ")
    assert "memory.act_above is 7" in alert["text"]
    assert jobs.all_jobs(state)["snapshot"]["failures"] == 2


def test_a_dry_run_with_wrong_settings_leaves_no_trace(state: StateDir, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        jobs.settings(state, "snapshot", str(tmp_path / "missing.yaml"), dry_run=True)
    assert not state.root.exists()


def watched(folder: Path, url: str) -> Settings:
    address = folder / "ping.url"
    address.write_text(f"{url}/a-secret-check\n")
    address.chmod(0o600)
    return Settings(pings=(Ping(job="snapshot", url=Secret(file=str(address))),))


OK = answer(200, "text/plain", b"OK")
GONE: Answerer = answer(404, "text/plain", b"not found")


def test_who_waits_for_a_job_hears_that_it_began_and_how_it_ended(state: StateDir, tmp_path: Path) -> None:
    with Server(OK) as server:
        settings = watched(tmp_path, server.url)
        with jobs.running(state, "snapshot", settings):
            pass
        with pytest.raises(Refused), jobs.running(state, "snapshot", settings):
            raise Refused("the disk is almost full")
        with jobs.running(state, "prune-sessions", settings), jobs.running(state, "snapshot", settings, dry_run=True):
            pass
    paths = [path.partition("?")[0] for path in server.paths]
    assert paths == [f"/a-secret-check{end}" for end in ("/start", "", "/start", "/fail")]
    first, second = ([path.partition("?rid=")[2] for path in server.paths][i : i + 2] for i in (0, 2))
    assert len(set(first)) == len(set(second)) == 1
    assert first != second
    assert b"snapshot failed" not in server.requests[1]


def test_a_ping_that_reaches_no_check_is_told_once_a_day_without_its_address(state: StateDir, tmp_path: Path) -> None:
    with Server(GONE) as server:
        settings = watched(tmp_path, server.url)
        for _ in range(2):
            with jobs.running(state, "snapshot", settings):
                pass
    (alert,) = outbox.alerts(state).values()
    assert alert["text"] == "the ping of snapshot reaches no check: HTTP 404; correct its address in ops.yaml (pings)"


@pytest.mark.slow
def test_a_service_that_hangs_neither_breaks_a_job_nor_keeps_the_next_run_out(state: StateDir, tmp_path: Path) -> None:
    with Server(lambda path, connection: server.hang(path, connection)) as server:
        settings = watched(tmp_path, server.url)
        with jobs.running(state, "snapshot", settings):
            pass
    assert jobs.all_jobs(state)["snapshot"]["failures"] == 0
    assert not state.is_locked("snapshot")
