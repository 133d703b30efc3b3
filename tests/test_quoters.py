"""How our runs stand, seen from outside: by locks and files, so that nothing dead is ever called running."""

from pathlib import Path

import pytest
from commandline import call, end, quote, start, wait_for_journal

from mmtools import moments
from mmtools.ops import quoters
from mmtools.ops.quoters import Standing
from mmtools.state import StateDir

SMALL = "params: {seed: 7}\nduration_hours: 0.05\nsynthetic: {markets: 1}\n"
LONG = "params: {seed: 7}\nduration_hours: 5000\nsynthetic: {markets: 1}\n"


def config(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def only(state: Path) -> quoters.Quoter:
    (found,) = quoters.quoters(StateDir(state))
    return found


def test_a_finished_run_is_finished_and_shows_its_last_state(tmp_path: Path) -> None:
    quote(tmp_path, "--config", config(tmp_path / "c", SMALL), "--run-id", "nhl")
    found = only(tmp_path)
    assert (found.run_id, found.standing, found.owner, found.venue, found.why) == ("nhl", Standing.FINISHED, "nobody", "paper", "")
    age = found.age_s(moments.now_ms())
    assert found.live is not None
    assert age is not None
    assert 0 <= age < 60


def test_a_run_is_running_while_its_lock_is_held_and_crashed_after_kill_9(tmp_path: Path) -> None:
    process = start(tmp_path, "--config", config(tmp_path / "c", LONG), "--run-id", "nhl")
    try:
        wait_for_journal(tmp_path / "runs" / "nhl", process)
        assert only(tmp_path).standing is Standing.RUNNING
    finally:
        process.kill()
        end(process)
    found = only(tmp_path)
    assert found.live is not None
    assert found.live["status"] == "running"  # what its file still says
    assert found.standing is Standing.CRASHED


def test_a_run_that_was_stopped_or_halted_is_not_crashed(tmp_path: Path) -> None:
    process = start(tmp_path, "--config", config(tmp_path / "c", LONG), "--run-id", "nhl")
    wait_for_journal(tmp_path / "runs" / "nhl", process)
    process.terminate()
    end(process)
    assert only(tmp_path).standing is Standing.STOPPED
    call("halt", "--state", tmp_path, "--run", "nhl", "--why", "news")
    assert only(tmp_path).standing is Standing.HALTED


@pytest.mark.parametrize("content", ["", "{", '{"schema": "mmtools.live_state/9", "checksum": "x"}'])
def test_a_live_state_that_cannot_be_read_is_unknown_and_never_stopped(tmp_path: Path, content: str) -> None:
    quote(tmp_path, "--config", config(tmp_path / "c", SMALL), "--run-id", "nhl")
    (tmp_path / "runs" / "nhl" / "live_state.json").write_text(content)
    found = only(tmp_path)
    assert found.standing is Standing.UNKNOWN
    assert found.live is None
    assert "live_state.json" in found.why
    assert found.age_s(moments.now_ms()) is None


def test_a_run_killed_before_its_first_state_is_unknown_and_says_so(tmp_path: Path) -> None:
    quote(tmp_path, "--config", config(tmp_path / "c", SMALL), "--run-id", "nhl")
    (tmp_path / "runs" / "nhl" / "live_state.json").unlink()
    assert (only(tmp_path).standing, only(tmp_path).why) == (Standing.UNKNOWN, "it wrote no live state")
