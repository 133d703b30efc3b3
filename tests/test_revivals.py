"""Who may start a run again that died, and how often: its owner, and one budget for all who might."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commandline import call
from faults import KILLS, Kind, every_fault
from small_runs import CLEARED, RUN_ID, Runner, runner_of_the_game, stop

from mmtools import outbox, restarts
from mmtools.errors import Refused
from mmtools.restarts import MOST, Owner
from mmtools.runs import session
from mmtools.runs.engine import Status
from mmtools.runs.session import Outcome

WHAT = f"run:{RUN_ID}"


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    with runner_of_the_game(tmp_path, monkeypatch) as lent:
        yield lent


def owned(runner: Runner, owner: Any) -> Runner:
    return Runner(runner.state.root, msgspec.structs.replace(runner.run, owner=owner), runner.feed)


def start(runner: Runner, starter: Owner | None, revival: str | None = None, *, fresh: bool = False) -> Outcome:
    return session.execute(runner.run, runner.feed, runner.state, run_id=RUN_ID, starter=starter, revival=revival, fresh=fresh)


def counted(runner: Runner) -> list[tuple[str, str, str | None]]:
    return [(attempt.what, attempt.owner, attempt.result) for attempt in restarts.attempts(runner.state)]


# --- whose it is


def test_a_run_shows_its_owner_and_keeps_who_started_it_first(runner: Runner) -> None:
    start(runner, Owner.SYSTEMD)
    assert runner.live_state()["owner"] == "systemd"
    assert b"owner: systemd\n" in runner.bytes_of("run.yaml")


def test_a_run_that_nobody_owns_shows_that(runner: Runner) -> None:
    runner.start()
    assert (runner.live_state()["owner"], runner.live_state()["venue"]) == ("nobody", "paper")


@pytest.mark.parametrize("named_by", ["config", "an earlier start"])
@pytest.mark.parametrize("other", [Owner.STATUS_UPDATE, Owner.NOBODY])
def test_an_owner_that_is_not_the_runs_own_may_not_start_it(runner: Runner, named_by: str, other: Owner) -> None:
    again = runner
    if named_by == "config":
        again = owned(runner, "systemd")
        again.cut_off(5)
    else:
        owned(runner, "systemd").cut_off(5)
    before = runner.files()
    with pytest.raises(Refused, match=f"belongs to systemd, and {other} may not start it"):
        start(again, other)
    assert (runner.files(), counted(runner)) == (before, [])


def test_a_config_that_names_another_owner_moves_the_run(runner: Runner) -> None:
    owned(runner, "systemd").cut_off(5)
    moved = owned(runner, "recover")
    assert start(moved, Owner.RECOVER).status is Status.FINISHED
    assert runner.live_state()["owner"] == "recover"


@pytest.mark.parametrize("harm", ["gone", "broken"])
def test_the_owner_of_a_run_whose_live_state_is_lost_is_still_known(runner: Runner, harm: str) -> None:
    owned(runner, "systemd").cut_off(5)
    if harm == "gone":
        (runner.folder / "live_state.json").unlink()
    else:
        (runner.folder / "live_state.json").write_text('{"schema": "mmtools.live_state/1", "owner": "recover"')
    with pytest.raises(Refused, match="belongs to systemd"):
        start(runner, Owner.RECOVER)
    assert start(runner, Owner.SYSTEMD).status is Status.FINISHED
    assert counted(runner) == [(WHAT, "systemd", "done")]


def test_where_nobody_can_tell_the_owner_a_program_is_refused_and_a_person_is_not(runner: Runner) -> None:
    owned(runner, "systemd").cut_off(5)
    (runner.folder / "live_state.json").unlink()
    (runner.folder / "run.yaml").write_text("{")
    with pytest.raises(Refused, match=f"nobody can tell whose run {RUN_ID} is"):
        start(runner, Owner.RECOVER)
    assert runner.start().status is Status.FINISHED


def test_a_fresh_start_of_anothers_run_is_refused_as_well(runner: Runner) -> None:
    owned(runner, "systemd").start({4: stop})
    with pytest.raises(Refused, match="belongs to systemd"):
        start(runner, Owner.RECOVER, fresh=True)
    assert runner.of_kind("stop")


# --- how often


def test_a_start_that_begins_a_run_or_goes_on_after_an_orderly_end_is_no_revival(runner: Runner) -> None:
    mine = owned(runner, "systemd")
    mine.start({4: stop})
    assert mine.start().status is Status.FINISHED
    with pytest.raises(Refused, match="finished"):
        mine.start()
    assert counted(runner) == []


def test_a_start_after_a_kill_is_counted_once_with_its_outcome(runner: Runner) -> None:
    mine = owned(runner, "systemd")
    mine.cut_off(5)
    mine.start()
    assert counted(runner) == [(WHAT, "systemd", "done")]


def test_a_run_that_nobody_owns_may_be_started_as_often_as_one_likes(runner: Runner) -> None:
    for _ in range(MOST + 2):
        runner.cut_off(5)
    assert counted(runner) == []


def test_a_run_that_keeps_dying_is_refused_when_the_budget_is_spent_and_people_are_told(runner: Runner) -> None:
    mine = owned(runner, "systemd")
    for _ in range(1 + MOST):
        mine.cut_off(5)
    before = runner.files()
    for starter in (Owner.SYSTEMD, None):
        with pytest.raises(Refused, match=rf"was restarted {MOST} times within 60 minutes"):
            start(mine, starter)
    assert runner.files() == before
    assert len(counted(runner)) == MOST
    alerts = outbox.alerts(runner.state)
    assert [alert["level"] for alert in alerts.values()] == ["critical"]
    assert all(key.startswith(f"start:{RUN_ID}:") for key in alerts)


def test_a_run_that_dies_before_its_first_word_is_counted_too(runner: Runner) -> None:
    mine = owned(runner, "systemd")
    mine.cut_off(5)
    (runner.folder / "live_state.json").unlink()
    (runner.folder / "journal.jsonl").write_text("")
    mine.start()
    assert counted(runner) == [(WHAT, "systemd", "done")]


def test_a_start_that_the_kill_switch_refuses_revives_nothing(runner: Runner) -> None:
    mine = owned(runner, "systemd")
    mine.cut_off(5)
    runner.switch.latch(reason="manual", detail="lunch", by="anna")
    with pytest.raises(Refused, match="halted since"):
        mine.start()
    assert counted(runner) == []
    runner.switch.clear(**CLEARED)
    mine.start()
    assert len(counted(runner)) == 1


def test_a_revival_that_its_launcher_counted_is_not_counted_again(runner: Runner) -> None:
    mine = owned(runner, "recover")
    mine.cut_off(5)
    attempt = restarts.attempt(runner.state, WHAT, owner=Owner.RECOVER, why="it died")
    start(mine, Owner.RECOVER, attempt)
    assert counted(runner) == [(WHAT, "recover", None)], "its outcome is the launcher's to write"


@pytest.mark.parametrize(("what", "owner"), [("run:other", Owner.RECOVER), (WHAT, Owner.SYSTEMD)])
def test_an_attempt_of_another_run_or_owner_lets_nobody_past_the_budget(runner: Runner, what: str, owner: Owner) -> None:
    mine = owned(runner, "recover")
    mine.cut_off(5)
    attempt = restarts.attempt(runner.state, what, owner=owner, why="it died")
    for claimed in (attempt, "20200101T000000Z-1-1"):
        with pytest.raises(Refused, match="counted no revival"):
            start(mine, Owner.RECOVER, claimed)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind == "kill-half" else pytest.mark.slow) for kind in KILLS])
def test_a_revival_killed_at_any_write_has_spent_its_attempt_or_touched_nothing(runner: Runner, kind: Kind) -> None:
    mine = owned(runner, "systemd")
    mine.cut_off(5)
    journal = runner.bytes_of("journal.jsonl")

    def revive() -> int:
        mine.start({6: stop})
        return 0

    for outcome in every_fault(kind, revive):
        if outcome.reached and not counted(runner):
            assert runner.bytes_of("journal.jsonl") == journal
        assert len(counted(runner)) <= 1
        runner.state.remove(restarts.FILE)
        if outcome.reached:
            assert outcome.signal is not None
        runner.state.remove_tree(f"runs/{RUN_ID}")
        mine.cut_off(5)
        assert counted(runner) == []


# --- the command


def test_the_command_refuses_anothers_run_and_a_revival_of_nobody(tmp_path: Path) -> None:
    state = tmp_path / "state"
    path = tmp_path / "run.yaml"
    path.write_text("run_id: mine\nfeed: synthetic\nduration_hours: 0.01\nowner: systemd\n")
    said = call("quote_run", "--config", path, "--state", state, "--owner", "recover", "--json")
    assert (said.code, said.document["error"]["kind"]) == (77, "refused")
    assert call("quote_run", "--config", path, "--state", state, "--revival", "x").code == 2
    assert call("quote_run", "--config", path, "--state", state, "--owner", "safe-restart").code == 2
    assert call("quote_run", "--config", path, "--state", state, "--owner", "systemd").code == 0
