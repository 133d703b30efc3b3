"""How far a message is with one chat: what is due, in which words, and what an outcome means for it. Called by `post` alone.

Only records are read and changed here, with the time handed in: no files, no processes. A record is what the outbox keeps of one
message and one chat (`targets[name]`). It says "sending" on the disk before anything is sent, so what a kill leaves behind is known
to be uncertain. An uncertain alert goes out once more, saying so; an uncertain status never does.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mmtools.ops.chat import Kind, Outcome
from mmtools.outbox import Message

Record = dict[str, Any]
Jitter = Callable[[], float]
"""A number from 0 to 1, such as random.random: chats that failed together are not asked together again."""

MOST_CHARACTERS = 1900
"""Of one message: Discord takes 2000."""
MAY_BE_A_REPEAT = "(may be a repeat)"
MINUTE_MS = 60_000
LONGEST_BACKOFF_MS = 30 * MINUTE_MS
REPEAT_AFTER_MS = 5 * MINUTE_MS
"""An uncertain alert has one more try: not while the chat still hangs."""
DEFAULT_RETRY_S = 60.0
"""For a service that says "too many" and not for how long."""
MOST_REJECTIONS = 3
DAY_MS = 86_400_000


class Stage(StrEnum):
    UNSENT = "unsent"
    SENDING = "sending"
    SENT = "sent"
    GONE = "gone"
    """The chat does not take it, now or later."""
    AMBIGUOUS = "ambiguous"
    """It may have been sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Alerts that go to one chat as one message."""

    keys: Sequence[str]
    text: str


# any record


def backoff_ms(tries: int, jitter: Jitter) -> int:
    """Return how long to wait after so many tries: 1, 2, 4 ... 30 minutes, and up to a fifth more."""
    return int(min(MINUTE_MS << min(tries - 1, 10), LONGEST_BACKOFF_MS) * (1 + 0.2 * jitter()))


def waits(record: Record, now_ms: int) -> bool:
    """Whether its next try is not yet due. A clock that was put back makes nothing wait longer."""
    return record["next_ms"] is not None and record["at_ms"] <= now_ms < record["next_ms"]


def is_held(record: Record, now_ms: int) -> bool:
    """Whether the service asked us to send nothing at all for now."""
    return bool(record["held"]) and waits(record, now_ms)


def _put_off(record: Record, outcome: Outcome, now_ms: int, jitter: Jitter) -> None:
    record["held"] = outcome.kind is Kind.REFUSED
    if outcome.kind is Kind.UNUSABLE:
        record["next_ms"] = None  # nobody was asked: once a person has seen to it, it goes with the next round
        return
    wait_ms = backoff_ms(record["tries"], jitter)
    if outcome.kind is Kind.REFUSED:
        wait_ms = math.ceil(1000 * max(1.0, outcome.retry_after_s if outcome.retry_after_s is not None else DEFAULT_RETRY_S))
    elif outcome.retry_after_s is not None:
        wait_ms = max(wait_ms, math.ceil(1000 * outcome.retry_after_s))
    record["next_ms"] = now_ms + wait_ms


# alerts


def record_of(alert: Message, chat: str) -> Record:
    """Return how far an alert is with a chat; put there when it is new."""
    found: Record = alert["targets"].setdefault(
        chat,
        {
            "state": Stage.UNSENT.value,
            "at_ms": None,
            "next_ms": None,
            "held": False,
            "tries": 0,
            "rejected": 0,
            "repeat": False,
            "why": "",
        },
    )
    return found


def is_over(record: Record) -> bool:
    """Whether nothing more is sent of it to this chat."""
    return record["state"] in (Stage.SENT, Stage.GONE) or (record["state"] == Stage.AMBIGUOUS and record["repeat"])


def is_settled(alert: Message, chats: Sequence[str]) -> bool:
    """Whether an alert is through with every chat. Without a chat it is not."""
    return bool(chats) and all(chat in alert["targets"] and is_over(alert["targets"][chat]) for chat in chats)


def own_up(record: Record) -> None:
    """What still says "sending" when nobody sends may have been sent; its repeat need not wait."""
    if record["state"] == Stage.SENDING:
        record.update(state=Stage.AMBIGUOUS.value, next_ms=None, held=False, why="it was interrupted")


def pack(alerts: Mapping[str, Message], chat: str, now_ms: int) -> Parcel | None:
    """Return the alerts that go to a chat now as one message, oldest first; None when nothing is due.

    What is unsent goes along with what is due. Too much for one message stays for the next. A message that was not taken whole is
    tried alert by alert when nothing else is due, so that one that a service cannot bear does not keep the others back.
    """
    unsettled = sorted((alert["raised_ms"], key) for key, alert in alerts.items() if alert["sent_ms"] is None)
    waiting = [(key, record_of(alerts[key], chat)) for _, key in unsettled]
    waiting = [(key, record) for key, record in waiting if not is_over(record)]
    due = [(key, record) for key, record in waiting if not waits(record, now_ms)]
    if not due or any(is_held(record, now_ms) for _, record in waiting):
        return None
    if all(record["rejected"] for _, record in due):
        first, record = due[0]
        return Parcel(keys=[first], text=words(alerts[first], record))
    may_go = [(key, record) for key, record in waiting if not record["rejected"]]
    may_go = [(key, record) for key, record in may_go if record["state"] == Stage.UNSENT or not waits(record, now_ms)]
    lines: list[str] = []
    for key, record in may_go:
        line = words(alerts[key], record)
        if lines and sum(map(len, lines)) + len(lines) + len(line) > MOST_CHARACTERS:
            break
        lines.append(line)
    return Parcel(keys=[key for key, _ in may_go[: len(lines)]], text="\n".join(lines))


def words(alert: Message, record: Record) -> str:
    """Return an alert as a person reads it."""
    head = f"[{str(alert['level']).upper()}] {alert['source']}, {str(alert['raised_at'])[:16]}Z: "
    tail = f" (raised {alert['times']} times)" if alert["times"] > 1 else ""
    if record["state"] == Stage.AMBIGUOUS:
        tail += f" {MAY_BE_A_REPEAT}"
    room = MOST_CHARACTERS - len(head) - len(tail)
    text = str(alert["text"])
    return head + (text if len(text) <= room else text[: room - 1] + "…") + tail


def begin(record: Record, now_ms: int) -> None:
    """Say that it is being sent: to be on the disk before it is."""
    repeat = record["state"] == Stage.AMBIGUOUS
    record.update(state=Stage.SENDING.value, at_ms=now_ms, next_ms=None, held=False, tries=record["tries"] + 1, repeat=repeat)


def conclude(record: Record, outcome: Outcome, now_ms: int, jitter: Jitter, *, alone: bool) -> None:
    """Say how it went. alone: no other alert was in that message."""
    record["at_ms"], record["why"], record["next_ms"] = now_ms, outcome.why, None
    match outcome.kind:
        case Kind.SENT | Kind.GONE:
            record["state"] = Stage(outcome.kind.value).value
            return
        case Kind.AMBIGUOUS:
            record["state"] = Stage.AMBIGUOUS.value
            if not record["repeat"]:
                record["next_ms"] = now_ms + max(REPEAT_AFTER_MS, math.ceil(1000 * (outcome.retry_after_s or 0)))
            return
    # Certainly not sent: as it was before this try.
    record["state"] = (Stage.AMBIGUOUS if record["repeat"] else Stage.UNSENT).value
    record["repeat"] = False
    if outcome.kind is Kind.REJECTED:
        record["rejected"] += 1
        if not alone:
            return  # it may be another one's fault: due at once, by itself
        if record["rejected"] > MOST_REJECTIONS:
            record["state"] = Stage.GONE.value
            return
    _put_off(record, outcome, now_ms, jitter)


# status


def print_of(body: Mapping[str, Any]) -> str:
    """Return what changes of a status when something changed that is worth telling: of its document's `changes`, else of its text."""
    told = body.get("document", {}).get("changes", body.get("text"))
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def status_record(body: Mapping[str, Any], chat: str) -> Record:
    """Return what a chat knows of the status; put there when it is new. What a broken file lost counts as told when it broke."""
    found: Record = body["targets"].setdefault(
        chat,
        {
            "state": Stage.UNSENT.value,
            "told": None,
            "told_ms": body.get("lost_ms"),
            "at_ms": None,
            "next_ms": None,
            "held": False,
            "tries": 0,
            "why": "",
        },
    )
    return found


def status_is_due(record: Record, told: str, every_h: float, now_ms: int) -> bool:
    """Whether a status goes to a chat: something changed, the last one is old enough, and no wait is on."""
    if waits(record, now_ms) or record["told"] == told:
        return False
    return record["told_ms"] is None or not 0 <= now_ms - record["told_ms"] < every_h * 3_600_000


def begin_status(record: Record, told: str, now_ms: int) -> tuple[str | None, int | None]:
    """Say that it is being sent, as told: should nobody hear how it went, it is not sent again. Return what was told before."""
    before = record["told"], record["told_ms"]
    record.update(state=Stage.SENDING.value, told=told, told_ms=now_ms, at_ms=now_ms, next_ms=None, held=False)
    return before


def conclude_status(record: Record, before: tuple[str | None, int | None], outcome: Outcome, now_ms: int, jitter: Jitter) -> None:
    """Say how it went. A status that is not taken as it is counts as told: the next one may be."""
    record["at_ms"], record["why"] = now_ms, outcome.why
    if outcome.kind in (Kind.SENT, Kind.AMBIGUOUS, Kind.REJECTED):
        record["state"], record["tries"] = (Stage.SENT if outcome.kind is Kind.SENT else Stage.AMBIGUOUS).value, 0
        return
    record["told"], record["told_ms"] = before
    record["tries"] += 1
    if outcome.kind is Kind.GONE:
        record["state"], record["next_ms"] = Stage.GONE.value, now_ms + DAY_MS
        return
    record["state"] = Stage.UNSENT.value
    _put_off(record, outcome, now_ms, jitter)
