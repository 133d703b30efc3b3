"""Kills and errors at every write of a run: whatever happened, starting again ends as if nothing had."""

import json
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import ERRORS, KILLS, Kind, every_fault, run_with_fault
from small_runs import (
    PARAMS,
    RUN_ID,
    Left,
    Runner,
    latch_once,
    runner_of_the_game,
    through_halts,
    to_the_end,
)

from mmtools import cli
from mmtools import config as configs
from mmtools.commands.quote_run import main as quote_run
from mmtools.runs.session import Outcome

Play = Callable[[Runner], Outcome]
Record = dict[str, Any]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    with runner_of_the_game(tmp_path, monkeypatch) as lent:
        yield lent


def assert_is_whole(runner: Runner, expected: Left, play: Play) -> None:
    """Started again, the run ends as one that nothing ever happened to."""
    ended = to_the_end(runner, play)
    assert ended.told == expected.told
    assert ended == expected
    assert runner.live_state()["status"] == "finished"
    assert [line["ledger_sha256"] for line in runner.history()] == [expected.document["ledger_sha256"]]


def through_a_halt_by_hand(runner: Runner) -> Outcome:
    # Between two frames of one instant nothing is due: whenever it is repeated, the latch comes at the same frame.
    return through_halts(runner, {2: latch_once(runner)})


PLAYS: dict[str, tuple[Play, Record]] = {
    "as it comes": (Runner.start, {}),
    "with people": (Runner.start_with_people, {}),
    "halts by a limit": (through_halts, {"max_drawdown": 0.03}),
}


def done(play: Play, runner: Runner) -> int:
    """Return 0, for a child process."""
    play(runner)
    return 0


def survive(runner: Runner, name: str, kind: Kind) -> None:
    play, limits = PLAYS[name]
    runner = runner.with_params(**limits)
    expected = to_the_end(runner, play)
    assert expected.document["status"] == "finished"
    runner.forget()
    hit: set[str] = set()
    for outcome in every_fault(kind, lambda: done(play, runner)):
        assert outcome.signal == (signal.SIGKILL if outcome.reached else None), outcome.stderr
        assert_is_whole(runner, expected, play)
        runner.forget()
        hit.add(str(outcome.at).partition("(")[0])
    assert {"write", "fsync", "replace"} <= hit


@pytest.mark.parametrize("name", ["as it comes", "with people"])
def test_a_kill_within_any_write_is_as_if_nothing_had_happened(runner: Runner, name: str) -> None:
    survive(runner, name, "kill-half")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
@pytest.mark.parametrize("name", PLAYS)
def test_a_kill_around_any_write_is_as_if_nothing_had_happened(runner: Runner, name: str, kind: Kind) -> None:
    survive(runner, name, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_around_any_write_of_a_halt_by_hand_ends_as_with_it_or_as_without(runner: Runner, kind: Kind) -> None:
    """Without, when it was cleared before the run had noticed it."""
    halted = to_the_end(runner, through_a_halt_by_hand)
    runner.forget()
    undisturbed = to_the_end(runner)
    runner.forget()
    endings = [halted.told, undisturbed.told]
    seen = []
    for outcome in every_fault(kind, lambda: done(through_a_halt_by_hand, runner)):
        assert outcome.signal == (signal.SIGKILL if outcome.reached else None), outcome.stderr
        ended = to_the_end(runner, through_a_halt_by_hand)
        seen.append(endings.index(ended.told))
        assert ended.document == (halted, undisturbed)[seen[-1]].document
        assert ended.latches == 1
        runner.forget()
    assert set(seen) == {0, 1}


@pytest.mark.parametrize("seed", range(12))
def test_two_kills_in_a_row_are_as_if_nothing_had_happened(runner: Runner, seed: int) -> None:
    rng = random.Random(seed)
    play, limits = PLAYS[rng.choice(list(PLAYS))]
    runner = runner.with_params(**limits)
    expected = to_the_end(runner, play)
    runner.forget()
    for _ in range(2):
        run_with_fault(rng.randrange(1, 60), rng.choice(KILLS), lambda: done(play, runner))
    assert_is_whole(runner, expected, play)


def fail(runner: Runner, kind: Kind, tmp_path: Path) -> None:
    yaml = tmp_path / "run.yaml"
    yaml.write_text(f"run_id: {RUN_ID}\nrecording: {runner.run.recording}\nparams: {json.dumps(PARAMS)}\n")
    root = runner.state.root
    runner = Runner(root, configs.load(yaml))
    expected = to_the_end(runner)
    runner.forget()
    for outcome in every_fault(kind, lambda: cli.run(quote_run, ["--config", str(yaml), "--state", str(root)])):
        announced, *complaint = outcome.stderr.splitlines()
        assert announced == f"{RUN_ID}: recording feed of hail, on paper"
        assert outcome.status == (75 if outcome.reached else 0), outcome
        assert len(complaint) == outcome.reached, outcome.stderr
        assert_is_whole(runner, expected, Runner.start)
        runner.forget()


def test_a_full_disk_at_any_write_is_one_line_and_75_and_loses_nothing(runner: Runner, tmp_path: Path) -> None:
    fail(runner, "enospc-half", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_of_the_disk_at_any_write_is_one_line_and_75_and_loses_nothing(runner: Runner, tmp_path: Path, kind: Kind) -> None:
    fail(runner, kind, tmp_path)
