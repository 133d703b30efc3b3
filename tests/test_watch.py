"""What stands since when: told once, after its patience, by whoever comes first; over when it stays away; unknown is not over."""

import signal
from pathlib import Path
from typing import Any

import pytest
from faults import ERRORS, KILLS, Kind, every_fault

from mmtools import outbox
from mmtools.errors import TryLater
from mmtools.moments import Moment, iso
from mmtools.ops import watch
from mmtools.ops.findings import Finding
from mmtools.outbox import Level
from mmtools.state import StateDir

START_MS = 1_780_833_600_000
SINCE = iso(START_MS - 5000)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


def at(seconds: float) -> Moment:
    return Moment(wall_ms=START_MS + round(seconds * 1000), boot_id="a boot", boot_s=5000 + seconds)


def finding(**fields: Any) -> Finding:
    usual = {"kind": "unit", "subject": "x.service", "area": "unit:x", "level": Level.CRITICAL, "text": "x.service failed"}
    return Finding(**{**usual, **fields})


def keys(alerts: list[watch.Alert]) -> list[str]:
    return [alert.key for alert in alerts]


def test_what_stands_is_told_once_and_named_with_its_beginning(state: StateDir) -> None:
    key = f"unit:x.service:{iso(START_MS)}"
    assert keys(watch.look(state, [finding()], set(), at(0))) == [key]
    assert watch.look(state, [finding(text="x.service failed again")], set(), at(60)) == []
    assert list(outbox.alerts(state)) == [key]
    assert outbox.alerts(state)[key]["times"] == 1
    assert watch.standing(state) == {"unit:x.service": iso(START_MS)}


def test_what_needs_patience_is_told_when_it_has_stood_so_long(state: StateDir) -> None:
    slow = finding(patience_s=120)
    assert watch.look(state, [slow], set(), at(0)) == []
    assert watch.look(state, [slow], set(), at(119)) == []
    assert keys(watch.look(state, [slow], set(), at(120))) == [f"unit:x.service:{iso(START_MS)}"]


def test_a_jump_of_the_wall_clock_is_no_patience(state: StateDir) -> None:
    slow = finding(patience_s=120)
    watch.look(state, [slow], set(), at(0))
    assert watch.look(state, [slow], set(), Moment(wall_ms=START_MS + 9_000_000, boot_id="a boot", boot_s=5060)) == []


def test_it_is_over_when_it_has_stayed_away_for_ten_minutes(state: StateDir) -> None:
    watch.look(state, [finding()], set(), at(0))
    assert watch.look(state, [], set(), at(60)) == []
    assert watch.look(state, [], set(), at(659)) == []
    (over,) = watch.look(state, [], set(), at(660))
    assert (over.level, over.key) == (Level.INFO, f"over:unit:x.service:{iso(START_MS)}")
    assert over.text == f"over since {iso(START_MS + 60_000)}: x.service failed"
    assert keys(watch.look(state, [finding()], set(), at(700))) == [f"unit:x.service:{iso(START_MS + 700_000)}"]


def test_what_comes_and_goes_is_told_once(state: StateDir) -> None:
    told = [key for n in range(40) for key in keys(watch.look(state, [finding()] if n % 2 else [], set(), at(60 * n)))]
    assert told == [f"unit:x.service:{iso(START_MS + 60_000)}"]


def test_what_cannot_be_seen_is_not_over(state: StateDir) -> None:
    watch.look(state, [finding()], set(), at(0))
    assert [watch.look(state, [], {"unit:x"}, at(600 * n)) for n in range(1, 9)] == [[]] * 8
    assert watch.standing(state) == {"unit:x.service": iso(START_MS)}


def test_the_end_of_what_does_not_end_by_itself_is_not_told(state: StateDir) -> None:
    watch.look(state, [finding(ends=False)], set(), at(0))
    watch.look(state, [], set(), at(1))
    assert watch.look(state, [], set(), at(700)) == []
    assert watch.standing(state) == {}


def test_the_end_of_what_was_never_told_is_not_told_either(state: StateDir) -> None:
    watch.look(state, [finding(patience_s=300)], set(), at(0))
    watch.look(state, [], set(), at(1))
    assert watch.look(state, [], set(), at(700)) == []


def test_another_beginning_is_another_alert_and_an_unknown_one_is_not(state: StateDir) -> None:
    assert keys(watch.look(state, [finding(since=SINCE)], set(), at(0))) == [f"unit:x.service:{SINCE}"]
    assert watch.look(state, [finding(since=None)], set(), at(60)) == []
    assert keys(watch.look(state, [finding(since=iso(START_MS + 90_000))], set(), at(120))) == [f"unit:x.service:{iso(START_MS + 90_000)}"]


@pytest.mark.parametrize(("told_s", "again"), [(-4.5, False), (2, False), (-60, True)])
def test_what_a_run_has_told_of_itself_since_it_began_is_not_told_again(told_s: float, again: bool, state: StateDir) -> None:
    with outbox.editing(state) as alerts:
        alerts["crash:game:now"] = outbox.message("game crashed: a bug", Level.CRITICAL, "quote-run", START_MS + round(told_s * 1000))
    crash = finding(kind="crash", subject="game", since=SINCE)
    assert keys(watch.look(state, [crash], set(), at(3))) == [f"crash:game:{SINCE}"] * again
    assert watch.look(state, [crash], set(), at(63)) == []


def test_a_lost_memory_is_said_and_what_stands_is_told_again(state: StateDir) -> None:
    watch.look(state, [finding()], set(), at(0))
    state.path(watch.FILE).write_text("{half")
    assert keys(watch.look(state, [finding()], set(), at(60))) == [f"unit:x.service:{iso(START_MS + 60_000)}"]
    assert f"watch:{iso(START_MS + 60_000)}" in outbox.alerts(state)
    assert watch.look(state, [finding()], set(), at(120)) == []


def test_a_dry_run_decides_the_same_and_leaves_no_trace(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "none")
    assert keys(watch.look(state, [finding()], set(), at(0), dry_run=True)) == [f"unit:x.service:{iso(START_MS)}"]
    assert not state.root.exists()


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind == "kill-half" else pytest.mark.slow) for kind in (*KILLS, *ERRORS)])
def test_whatever_happens_to_the_disk_each_alert_is_in_the_outbox_once_and_is_remembered(kind: Kind, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "0")
    found = [finding(since=SINCE), finding(kind="disk", since=SINCE)]

    def once() -> int:
        try:
            watch.look(state, found, set(), at(0))
        except TryLater:
            return 75
        return 0

    hits = 0
    for outcome in every_fault(kind, once):
        assert outcome.signal == (signal.SIGKILL if outcome.reached and kind in KILLS else None)
        assert outcome.status in (None, 0, 75), outcome.stderr
        watch.look(state, found, set(), at(1))
        assert set(outbox.alerts(state)) == {f"unit:x.service:{SINCE}", f"disk:x.service:{SINCE}"}
        assert watch.look(state, found, set(), at(2)) == []
        hits += outcome.reached
        state = StateDir(tmp_path / str(hits))
    assert hits > 10
