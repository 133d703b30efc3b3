"""The budget of revivals: counted before anything is done, by every owner in one file, whatever the clock does."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from faults import ERRORS, KILLS, Kind, every_fault

from mmtools import restarts
from mmtools.errors import Refused, TryLater
from mmtools.moments import Moment
from mmtools.restarts import Owner
from mmtools.state import Broken, StateDir

UNIT = "unit:openclaw-gateway.service"
NOON = Moment(wall_ms=1_780_833_600_000, boot_id="a", boot_s=1000.0)


def later(seconds: float, *, wall_s: float | None = None, boot_id: str = "a") -> Moment:
    wall = seconds if wall_s is None else wall_s
    return Moment(wall_ms=NOON.wall_ms + round(wall * 1000), boot_id=boot_id, boot_s=NOON.boot_s + seconds)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def spend(state: StateDir, now: Moment, *, what: str = UNIT, owner: Owner = Owner.SAFE_RESTART) -> str:
    return restarts.attempt(state, what, owner=owner, why="memory", most=3, within_s=3600, now=now)


def test_the_fourth_within_the_hour_is_refused_and_says_who_was_the_last(state: StateDir) -> None:
    for seconds in (0, 600, 1200):
        spend(state, later(seconds))
    with pytest.raises(Refused, match=r"restarted 3 times within 60 minutes.*safe-restart, memory.*allowed in 30 minutes"):
        spend(state, later(1800))
    assert len(restarts.attempts(state)) == 3


def test_after_an_hour_one_more_is_allowed(state: StateDir) -> None:
    for seconds in (0, 600, 1200):
        spend(state, later(seconds))
    spend(state, later(3600))
    with pytest.raises(Refused):
        spend(state, later(3601))


@pytest.mark.parametrize("wall_s", [-7 * 86_400, 7 * 86_400])
def test_no_jump_of_the_wall_clock_gives_a_budget_back(state: StateDir, wall_s: float) -> None:
    for seconds in (0, 1, 2):
        spend(state, later(seconds))
    with pytest.raises(Refused):
        spend(state, later(60, wall_s=wall_s))


def test_attempts_of_an_earlier_boot_count_by_the_wall_clock_and_in_the_future_as_now(state: StateDir) -> None:
    for seconds in (0, 1, 2):
        spend(state, later(seconds))
    for wall_s in (1800, -86_400):
        with pytest.raises(Refused):
            spend(state, replace(later(5, wall_s=wall_s), boot_id="b", boot_s=5.0))
    spend(state, replace(later(5, wall_s=3700), boot_id="b", boot_s=5.0))


def test_all_owners_share_the_budget_of_one_thing_and_not_of_another(state: StateDir) -> None:
    for owner in (Owner.SYSTEMD, Owner.STATUS_UPDATE, Owner.RECOVER):
        spend(state, NOON, what="run:mlb", owner=owner)
    with pytest.raises(Refused):
        spend(state, NOON, what="run:mlb", owner=Owner.SMOKE_TEST)
    spend(state, NOON, what="run:nhl", owner=Owner.SMOKE_TEST)


def test_two_things_within_a_second_are_two_attempts(state: StateDir) -> None:
    mlb, nhl = spend(state, NOON, what="run:mlb"), spend(state, NOON, what="run:nhl")
    restarts.outcome(state, nhl, "failed")
    assert {a.what: a.result for a in restarts.attempts(state)} == {"run:mlb": None, "run:nhl": "failed"}
    assert mlb != nhl


def test_an_attempt_has_no_result_until_its_owner_says_one(state: StateDir) -> None:
    first, second = spend(state, NOON), spend(state, later(5))
    assert first != second
    restarts.outcome(state, second, "done", "new start after 12 s")
    assert [(a.id, a.result, a.detail, a.what) for a in restarts.attempts(state)] == [
        (first, None, "", UNIT),
        (second, "done", "new start after 12 s", UNIT),
    ]


def test_a_broken_file_is_not_an_unspent_budget(state: StateDir) -> None:
    spend(state, NOON)
    path = state.path(restarts.FILE)
    path.write_bytes(b"\0" * 40 + b"\n" + path.read_bytes())
    with pytest.raises(Broken):
        spend(state, NOON)
    path.write_text('{"kind": "attempt", "id": "x"}\n')
    with pytest.raises(Refused, match="another kind"):
        spend(state, NOON)


@pytest.mark.parametrize("kind", [*KILLS, *ERRORS])
def test_what_was_begun_was_counted_before_wherever_it_was_cut(state: StateDir, kind: Kind) -> None:
    begun = state.root.parent / "begun"

    def count_and_act() -> int:
        try:
            spend(state, NOON)
        except (TryLater, Refused):
            return 75
        with begun.open("a") as file:
            file.write("x")
        return 0

    for outcome in every_fault(kind, count_and_act):
        acted = len(begun.read_text()) if begun.exists() else 0
        assert acted <= len(restarts.attempts(state)) <= 3
        if not outcome.reached:
            return
        state.path(restarts.FILE).unlink(missing_ok=True)
        begun.unlink(missing_ok=True)


def test_of_twenty_at_once_no_more_than_the_budget_is_counted(state: StateDir, started: Callable[[str], "subprocess.Popen[str]"]) -> None:
    program = (
        "import sys; from pathlib import Path; from mmtools import restarts; from mmtools.state import StateDir\n"
        f"restarts.attempt(StateDir(Path({str(state.root)!r})), {UNIT!r}, owner=restarts.Owner.SAFE_RESTART, why='w')"
    )
    processes = [started(program) for _ in range(20)]
    codes = [process.wait(60) for process in processes]
    assert codes.count(0) == 3
    assert len(restarts.attempts(state)) == 3


@pytest.fixture
def started() -> Callable[[str], "subprocess.Popen[str]"]:
    def start(program: str) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL, text=True)

    return start


def test_each_record_names_the_boot_and_both_clocks(state: StateDir) -> None:
    spend(state, NOON)
    (record,) = [json.loads(line) for line in state.path(restarts.FILE).read_text().splitlines()]
    assert record["at"] == "2026-06-07T12:00:00.000Z"
    assert (record["boot_id"], record["boot_s"], record["owner"], record["why"]) == ("a", 1000.0, "safe-restart", "memory")


def test_steps_say_how_far_an_attempt_came_and_do_not_end_it(state: StateDir) -> None:
    first, second = spend(state, later(0)), spend(state, later(5))
    for number, name in ((first, "order"), (second, "snapshot"), (first, "watch")):
        restarts.step(state, number, name)
    restarts.outcome(state, second, "refused", "the disk is full")
    cut, refused = restarts.attempts(state)
    assert (cut.result, cut.steps) == (None, ("order", "watch"))
    assert (refused.result, refused.detail, refused.steps) == ("refused", "the disk is full", ("snapshot",))


def test_a_look_at_the_budget_counts_nothing_and_refuses_when_it_is_spent(state: StateDir) -> None:
    assert restarts.within_budget(state, UNIT, now=NOON) == []
    assert not state.exists("restarts.jsonl")
    for seconds in (0, 600, 1200):
        spend(state, later(seconds))
    with pytest.raises(Refused, match="one more is allowed in 30 minutes"):
        restarts.within_budget(state, UNIT, now=later(1800))
    assert len(restarts.within_budget(state, UNIT, most=4, now=later(1800))) == 3
    assert restarts.within_budget(state, "unit:another.service", now=later(1800)) == []
