"""Messages to send later: alerts, each kept until it is sent, and the newest status. Any process writes; `status-update` sends.

Two documents that never stand in each other's way: no flood of status can push an alert out. An alert has a key, and a key is told
once: raised again it is counted, not sent again, so a condition that lasts is named with when it began ("starved:RUN:SINCE").
Nothing is sent here, and nothing is known of chats.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from mmtools import moments
from mmtools.moments import iso
from mmtools.state import WAIT_S, Broken, StateDir

ALERTS = "outbox/alerts.json"
ALERTS_SCHEMA = "mmtools.alerts/1"
STATUS = "outbox/status.json"
STATUS_SCHEMA = "mmtools.status/1"
KEPT_MS = 7 * 86_400_000
"""How long an alert that was sent is remembered, so that its key is not told again."""
MOST_CHARACTERS = 1500

Message = dict[str, Any]


class Level(StrEnum):
    CRITICAL = "critical"
    """Money or the machine is at risk now: a halt, a crash, a gateway that does not come back."""
    WARNING = "warning"
    """Something does not do its work: starved, storm, a failed job."""
    INFO = "info"
    """Something was done, or is well again."""


def raise_alert(state: StateDir, key: str, text: str, *, level: Level, source: str, wait_s: float = WAIT_S) -> bool:
    """Put an alert into the outbox and return whether its key is new there.

    text: what, why, what to do, at most a few lines, never a secret. source: the command that says it. What lies unsent in a broken
    outbox is moved aside and told of; the alert itself gets through. Raises TryLater and Misconfigured as every write does, and TryLater
    when others hold the outbox for all of `wait_s`: a loop that trades cannot wait as long as a job can.
    """
    now_ms = moments.now_ms()
    with editing(state, wait_s) as alerts:
        known = alerts.get(key)
        if known is not None:
            known["times"] += 1
            known["last_raised_at"] = iso(now_ms)
            return False
        alerts[key] = message(text, level, source, now_ms)
        return True


def message(text: str, level: Level, source: str, now_ms: int) -> Message:
    """Return a new alert; `targets` is the sender's: how far each chat is, by its name."""
    return {
        "text": text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…",
        "level": level.value,
        "source": source,
        "raised_at": iso(now_ms),
        "raised_ms": now_ms,
        "last_raised_at": iso(now_ms),
        "times": 1,
        "sent_ms": None,
        "targets": {},
    }


def alerts(state: StateDir) -> Mapping[str, Message]:
    """Return all alerts by key, oldest first, sent ones of the last week too. Raises Broken when they cannot be read."""
    body = state.read(ALERTS, schema=ALERTS_SCHEMA)
    return {} if body is None else body["alerts"]


@contextmanager
def editing(state: StateDir, wait_s: float = WAIT_S) -> Iterator[dict[str, Message]]:
    """Lend all alerts for a change, under their lock; those sent long ago are forgotten on the way out."""
    with state.lock(ALERTS, wait_s):
        now_ms = moments.now_ms()
        try:
            body = state.read(ALERTS, schema=ALERTS_SCHEMA) or {"alerts": {}}
        except Broken as e:
            # Lost is not empty: it is said, and what comes after it must still get through.
            body = {"alerts": {f"outbox:{iso(now_ms)}": message(f"alerts may be lost: {e}", Level.CRITICAL, "outbox", now_ms)}}
        yield body["alerts"]
        body["alerts"] = {key: m for key, m in body["alerts"].items() if m["sent_ms"] is None or now_ms - m["sent_ms"] < KEPT_MS}
        state.write(ALERTS, body, schema=ALERTS_SCHEMA)


def let_lapse(state: StateDir) -> None:
    """Forget the alerts that nobody was there to hear for a week. For machines without any chat: the first one would get them all."""
    now_ms = moments.now_ms()

    def is_past(alert: Message) -> bool:
        return alert["sent_ms"] is None and now_ms - alert["raised_ms"] >= KEPT_MS

    if any(is_past(alert) for alert in alerts(state).values()):
        with editing(state) as kept:
            for key in [key for key, alert in kept.items() if is_past(alert)]:
                del kept[key]


def put_status(state: StateDir, text: str, document: Mapping[str, Any]) -> None:
    """Replace the status that waits to be sent; what each chat got last stays with it. document: the figures the text was made of.

    When what each chat got is lost in a broken file, it counts as got now: a status less is better than one twice.
    """
    with state.lock(STATUS, WAIT_S):
        now_ms = moments.now_ms()
        try:
            body = state.read(STATUS, schema=STATUS_SCHEMA) or {"targets": {}}
        except Broken:
            body = {"targets": {}, "lost_ms": now_ms}
        body["text"], body["document"], body["made_at"] = text, dict(document), iso(now_ms)
        state.write(STATUS, body, schema=STATUS_SCHEMA)
