"""What is due to one chat, in which words, and what an outcome means for it: by the rules alone, nothing is sent."""

from typing import Any

import pytest

from mmtools.ops import delivery
from mmtools.ops.chat import Kind, Outcome
from mmtools.ops.delivery import MINUTE_MS, Stage
from mmtools.outbox import Level, Message, message

NOW = 1_795_700_000_000
FAILED, REFUSED = Outcome(kind=Kind.FAILED, why="HTTP 500"), Outcome(kind=Kind.REFUSED, retry_after_s=64.57)
LOST, SENT = Outcome(kind=Kind.AMBIGUOUS), Outcome(kind=Kind.SENT)
REJECTED, GONE = Outcome(kind=Kind.REJECTED), Outcome(kind=Kind.GONE)


def no_jitter() -> float:
    return 0.0


def alerts(*texts: str) -> dict[str, Message]:
    return {text[:12]: message(text, Level.WARNING, "a-test", NOW + n) for n, text in enumerate(texts)}


def tried(held: dict[str, Message], outcome: Outcome, now_ms: int) -> str | None:
    """Send what is due to the chat `a`, with this outcome; return its words."""
    parcel = delivery.pack(held, "a", now_ms)
    if parcel is None:
        return None
    for key in parcel.keys:
        delivery.begin(held[key]["targets"]["a"], now_ms)
    for key in parcel.keys:
        delivery.conclude(held[key]["targets"]["a"], outcome, now_ms, no_jitter, alone=len(parcel.keys) == 1)
    return parcel.text


def test_the_wait_doubles_up_to_half_an_hour_and_a_fifth_more() -> None:
    assert [delivery.backoff_ms(n, no_jitter) // MINUTE_MS for n in range(1, 9)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert delivery.backoff_ms(5000, lambda: 1.0) == 36 * MINUTE_MS


def test_a_chat_that_fails_is_tried_again_after_its_wait_and_never_given_up() -> None:
    held, now_ms, waited = alerts("the disk is full"), NOW, []
    for _ in range(12):
        assert tried(held, FAILED, now_ms) is not None
        record = held["the disk is "]["targets"]["a"]
        assert not delivery.is_over(record)
        assert tried(held, FAILED, record["next_ms"] - 1) is None
        waited.append(record["next_ms"] - now_ms)
        now_ms = record["next_ms"]
    assert waited[:6] == [n * MINUTE_MS for n in (1, 2, 4, 8, 16, 30)]
    assert set(waited[6:]) == {30 * MINUTE_MS}
    assert tried(held, SENT, now_ms) is not None
    assert delivery.is_settled(held["the disk is "], ["a"])


def test_a_clock_put_back_makes_nothing_wait_longer() -> None:
    held = alerts("the disk is full")
    tried(held, FAILED, NOW)
    assert tried(held, SENT, NOW - 86_400_000) is not None


def test_a_new_alert_takes_along_those_that_wait_after_a_failure() -> None:
    held = alerts("old news")
    tried(held, FAILED, NOW)
    held |= {"new": message("fresh news", Level.CRITICAL, "a-test", NOW + 7)}
    sent = tried(held, SENT, NOW + 10)
    assert sent is not None
    assert sent.index("old news") < sent.index("fresh news")


def test_nothing_is_sent_to_a_chat_that_asked_for_a_pause() -> None:
    held = alerts("old news")
    tried(held, REFUSED, NOW)
    held |= {"new": message("fresh news", Level.CRITICAL, "a-test", NOW + 7)}
    assert tried(held, SENT, NOW + 64_569) is None
    assert tried(held, SENT, NOW + 64_570) is not None


def test_an_uncertain_alert_goes_out_once_more_and_says_so() -> None:
    held = alerts("it fell")
    first = tried(held, LOST, NOW)
    assert first is not None
    assert delivery.MAY_BE_A_REPEAT not in first
    assert tried(held, LOST, NOW + delivery.REPEAT_AFTER_MS - 1) is None
    assert tried(held, FAILED, NOW + delivery.REPEAT_AFTER_MS) == first + f" {delivery.MAY_BE_A_REPEAT}"
    again = held["it fell"]["targets"]["a"]["next_ms"]
    assert tried(held, LOST, again) == first + f" {delivery.MAY_BE_A_REPEAT}"  # the try before was certainly not sent
    assert tried(held, SENT, again + 86_400_000) is None
    assert delivery.is_settled(held["it fell"], ["a"])


def test_an_uncertain_alert_does_not_go_along_before_its_time() -> None:
    held = alerts("it fell")
    tried(held, LOST, NOW)
    held |= {"new": message("fresh news", Level.CRITICAL, "a-test", NOW + 7)}
    sent = tried(held, SENT, NOW + 10)
    assert sent is not None
    assert "it fell" not in sent


@pytest.mark.parametrize("repeat", [False, True])
def test_what_a_kill_left_in_the_middle_is_uncertain(repeat: bool) -> None:
    held = alerts("it fell")
    record = delivery.record_of(held["it fell"], "a")
    if repeat:
        record["state"] = Stage.AMBIGUOUS.value
    delivery.begin(record, NOW)
    delivery.own_up(record)
    assert delivery.is_over(record) is repeat
    assert (tried(held, SENT, NOW + 1) is None) is repeat


def test_a_message_too_long_for_one_goes_in_several_and_none_is_dropped() -> None:
    held = alerts(*(f"{n:03} {'x' * (n * 37 % 400)}" for n in range(60)))
    sent: list[str] = []
    while (text := tried(held, SENT, NOW)) is not None:
        assert len(text) <= delivery.MOST_CHARACTERS
        sent += [line.partition("Z: ")[2] for line in text.splitlines()]
    assert [line[:3] for line in sent] == [f"{n:03}" for n in range(60)]


def test_one_huge_alert_is_cut_and_marked() -> None:
    huge = alerts("word " * 1000)
    huge["word word wo"]["source"] = "s" * 700  # longer together than a chat takes
    text = tried(huge, LOST, NOW)
    assert text is not None
    assert len(text) == delivery.MOST_CHARACTERS
    assert "…" in text


def test_one_alert_that_a_service_cannot_bear_holds_up_no_other() -> None:
    held = alerts("poison", "good news")
    assert tried(held, REJECTED, NOW) is not None
    assert held["poison"]["targets"]["a"]["state"] == Stage.UNSENT
    held |= {"new": message("fresh news", Level.CRITICAL, "a-test", NOW + 7)}
    fresh = tried(held, SENT, NOW)
    assert fresh is not None
    assert "poison" not in fresh
    now_ms = NOW
    for _ in range(20):
        parcel = delivery.pack(held, "a", now_ms)
        if parcel is not None:
            assert len(parcel.keys) == 1
            tried(held, REJECTED if parcel.keys == ["poison"] else SENT, now_ms)
        now_ms += 30 * MINUTE_MS
    assert held["good news"]["targets"]["a"]["state"] == Stage.SENT
    assert held["poison"]["targets"]["a"]["state"] == Stage.GONE


def test_an_alert_is_settled_by_the_chats_there_are() -> None:
    held = alerts("it fell")
    tried(held, GONE, NOW)
    alert = held["it fell"]
    assert delivery.is_settled(alert, ["a"])
    assert not delivery.is_settled(alert, ["a", "b"])
    assert not delivery.is_settled(alert, [])


def test_times_raised_are_told() -> None:
    held = alerts("it fell")
    held["it fell"]["times"] = 3
    assert tried(held, SENT, NOW) == "[WARNING] a-test, 2026-11-26T13:33Z: it fell (raised 3 times)"


# status

HOUR = 3_600_000


def status(changes: Any, **more: Any) -> dict[str, Any]:
    return {"text": "all is well", "document": {"changes": changes, "age_s": 5}, "targets": {}, **more}


def told(body: dict[str, Any], outcome: Outcome, now_ms: int) -> bool:
    """Send a status to the chat `a` if it is due, with this outcome; return whether it was."""
    record, digest = delivery.status_record(body, "a"), delivery.print_of(body)
    if not delivery.status_is_due(record, digest, 1.0, now_ms):
        return False
    before = delivery.begin_status(record, digest, now_ms)
    delivery.conclude_status(record, before, outcome, now_ms, no_jitter)
    return True


def test_a_status_is_told_when_something_changed_and_at_most_once_an_hour() -> None:
    body = status(["running"])
    assert told(body, SENT, NOW)
    assert not told(body, SENT, NOW + 50 * HOUR)
    body["document"] = {"changes": ["starved"], "age_s": 9}
    assert not told(body, SENT, NOW + HOUR - 1)
    assert told(body, SENT, NOW + HOUR)
    assert not told(body, SENT, NOW + 2 * HOUR)


def test_a_status_without_changes_of_its_own_is_compared_by_its_text() -> None:
    assert delivery.print_of({"text": "a", "document": {}}) != delivery.print_of({"text": "b", "document": {}})
    assert delivery.print_of(status({"x": 1, "y": 2})) == delivery.print_of(status({"y": 2, "x": 1}, text="3 s later"))


@pytest.mark.parametrize("outcome", [LOST, REJECTED])
def test_an_uncertain_status_is_not_told_again(outcome: Outcome) -> None:
    body = status(["running"])
    assert told(body, outcome, NOW)
    assert not told(body, SENT, NOW + 50 * HOUR)


def test_a_status_cut_off_by_a_kill_is_not_told_again() -> None:
    body = status(["running"])
    delivery.begin_status(delivery.status_record(body, "a"), delivery.print_of(body), NOW)
    assert not told(body, SENT, NOW + 50 * HOUR)


@pytest.mark.parametrize(("outcome", "wait_ms"), [(FAILED, MINUTE_MS), (REFUSED, 64_570), (GONE, 24 * HOUR)])
def test_a_status_that_was_not_sent_is_tried_again_later(outcome: Outcome, wait_ms: int) -> None:
    body = status(["running"])
    assert told(body, outcome, NOW)
    assert not told(body, SENT, NOW + wait_ms - 1)
    assert told(body, SENT, NOW + wait_ms)


def test_what_a_broken_file_lost_counts_as_told_then() -> None:
    body = status(["running"], lost_ms=NOW)
    assert not told(body, SENT, NOW + HOUR - 1)
    assert told(body, SENT, NOW + HOUR)
