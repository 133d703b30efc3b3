"""The outbox: an alert is there until it is sent, is told once, and nothing can push it out."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults import ERRORS, KILLS, Kind, every_fault

from mmtools import moments, outbox
from mmtools.errors import TryLater
from mmtools.outbox import Level
from mmtools.state import Broken, StateDir


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def say(state: StateDir, key: str = "halt:nhl:0", text: str = "nhl is halted: max_loss") -> bool:
    return outbox.raise_alert(state, key, text, level=Level.CRITICAL, source="quote-run")


def test_a_key_is_told_once_and_counted_after_that(state: StateDir) -> None:
    assert say(state)
    assert not say(state, text="nhl is halted, still")
    assert say(state, key="halt:mlb:0", text="mlb is halted")
    kept = outbox.alerts(state)
    assert [(key, m["text"], m["times"]) for key, m in kept.items()] == [
        ("halt:nhl:0", "nhl is halted: max_loss", 2),
        ("halt:mlb:0", "mlb is halted", 1),
    ]


def test_a_thousand_statuses_leave_every_alert_and_only_the_newest_status(state: StateDir) -> None:
    say(state)
    for n in range(1000):
        outbox.put_status(state, f"status {n}", {"n": n})
    assert list(outbox.alerts(state)) == ["halt:nhl:0"]
    status = state.read(outbox.STATUS, schema=outbox.STATUS_SCHEMA)
    assert status is not None
    assert (status["text"], status["document"]) == ("status 999", {"n": 999})


def test_a_sent_alert_is_remembered_for_a_week_and_an_unsent_one_for_good(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    say(state, "sent")
    say(state, "unsent")
    with outbox.editing(state) as alerts:
        alerts["sent"]["sent_ms"] = moments.now_ms()
    assert not say(state, "sent")
    after = moments.now_ms() + outbox.KEPT_MS
    monkeypatch.setattr(moments, "now_ms", lambda: after)
    say(state, "another")
    assert list(outbox.alerts(state)) == ["unsent", "another"]


def test_what_each_chat_got_stays_with_a_new_status(state: StateDir) -> None:
    outbox.put_status(state, "a", {})
    with state.edit(outbox.STATUS, schema=outbox.STATUS_SCHEMA) as body:
        body["targets"]["ops"] = {"sent_ms": 7}
    outbox.put_status(state, "b", {})
    status = state.read(outbox.STATUS, schema=outbox.STATUS_SCHEMA)
    assert status is not None
    assert (status["text"], status["targets"]) == ("b", {"ops": {"sent_ms": 7}})


def test_a_broken_outbox_lets_the_next_alert_through_and_tells_of_what_may_be_lost(state: StateDir) -> None:
    say(state, "old")
    path = state.path(outbox.ALERTS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Broken):
        outbox.alerts(state)
    assert say(state, "new")
    lost, new = outbox.alerts(state).items()
    assert lost[0].startswith("outbox:")
    assert "alerts may be lost" in lost[1]["text"]
    assert "broken" in lost[1]["text"]
    assert new[0] == "new"


def test_a_long_alert_is_cut_to_what_a_chat_takes(state: StateDir) -> None:
    say(state, text="x" * 5000)
    (alert,) = outbox.alerts(state).values()
    assert len(alert["text"]) == outbox.MOST_CHARACTERS
    assert alert["text"].endswith("…")


def test_alerts_raised_at_once_are_all_there(state: StateDir) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda n: say(state, f"k{n}"), range(40)))
    assert sorted(outbox.alerts(state)) == sorted(f"k{n}" for n in range(40))


@pytest.mark.parametrize("kind", [*KILLS, *ERRORS])
def test_a_cut_leaves_the_alerts_before_or_with_the_new_one(state: StateDir, kind: Kind) -> None:
    say(state, "first")

    def second() -> int:
        try:
            say(state, "second")
        except TryLater:
            return 75
        return 0

    for outcome in every_fault(kind, second):
        kept = list(outbox.alerts(state))
        assert kept in (["first"], ["first", "second"])
        if outcome.status == 0:
            assert "second" in kept
        with outbox.editing(state) as alerts:
            alerts.pop("second", None)


def test_alerts_that_nobody_can_hear_lapse_after_a_week(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    say(state, "old")
    outbox.let_lapse(state)
    assert list(outbox.alerts(state)) == ["old"]
    after = moments.now_ms() + outbox.KEPT_MS
    monkeypatch.setattr(moments, "now_ms", lambda: after)
    say(state, "new")
    outbox.let_lapse(state)
    assert list(outbox.alerts(state)) == ["new"]
