"""How our runs stand, seen from outside: by locks and files, so that nothing dead is ever called running."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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


def test_a_run_that_cannot_show_its_state_trades_where_its_journal_says(tmp_path: Path) -> None:
    quote(tmp_path, "--config", config(tmp_path / "c", SMALL), "--run-id", "nhl")
    folder = tmp_path / "runs" / "nhl"
    (folder / "live_state.json").write_text("{")
    assert only(tmp_path).venue == "paper"
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"venue":"paper"', '"venue":"polymarket"', 1))
    state = StateDir(tmp_path)
    with state.lock("runs/nhl"):
        assert (only(tmp_path).venue, quoters.live_runs(state)) == ("polymarket", ["nhl"])
        journal.write_bytes(b"\0\n" + journal.read_bytes())
        assert (only(tmp_path).venue, quoters.live_runs(state)) == ("not known", ["nhl"])
        journal.write_text("")
        assert quoters.live_runs(state) == []


class Meanwhile(StateDir):
    """A folder in which something happens just before a live state is read, or just after."""

    def __init__(self, root: Path, *, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None) -> None:
        super().__init__(root)
        self._before, self._after = before, after

    def read(self, name: str, *, schema: str) -> dict[str, Any] | None:
        if not name.endswith("live_state.json"):
            return super().read(name, schema=schema)
        self._before()
        body = super().read(name, schema=schema)
        self._after()
        return body


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A state folder whose only run was killed."""
    process = start(tmp_path, "--config", config(tmp_path / "c", LONG), "--run-id", "nhl")
    wait_for_journal(tmp_path / "runs" / "nhl", process)
    process.kill()
    end(process)
    return tmp_path


def test_a_run_that_ends_while_it_is_looked_at_has_not_crashed(killed: Path) -> None:
    with ExitStack() as held:
        held.enter_context(StateDir(killed).lock("runs/nhl"))
        (found,) = quoters.quoters(Meanwhile(killed, after=held.close))
    assert found.standing is Standing.RUNNING
    assert only(killed).standing is Standing.CRASHED


def test_a_run_that_starts_while_it_is_looked_at_has_not_crashed(killed: Path) -> None:
    with ExitStack() as held:
        (found,) = quoters.quoters(Meanwhile(killed, before=lambda: held.enter_context(StateDir(killed).lock("runs/nhl"))))
        assert found.standing is Standing.RUNNING


@pytest.mark.parametrize(
    ("live", "held", "may"),
    [
        ({"venue": "polymarket", "status": "running"}, True, True),
        ({"venue": "polymarket", "status": "running"}, False, False),
        ({"venue": "polymarket"}, False, True),
        ({"venue": "paper", "status": "running"}, True, False),
        (None, True, True),
        (None, False, True),  # neither its state nor its journal says where it trades
    ],
)
def test_a_run_that_lives_may_trade_real_money_until_it_says_that_it_is_on_paper(
    live: dict[str, str] | None, held: bool, may: bool, tmp_path: Path
) -> None:
    state = StateDir(tmp_path)
    state.append("runs/nhl/journal.jsonl", {"kind": "run"})
    if live is not None:
        state.write("runs/nhl/live_state.json", live, schema=quoters.LIVE_STATE_SCHEMA)
    with ExitStack() as stack:
        if held:
            stack.enter_context(state.lock("runs/nhl"))
        assert quoters.live_runs(state) == ["nhl"] * may
