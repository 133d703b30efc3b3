"""The sender of the outbox: alerts to every chat that takes them, then the status. Called by `status-update`; one sends at a time.

Each chat has a thread, and each message a process (`chat`), so that one that hangs keeps nobody else waiting. What is being sent is
marked on the disk first; no lock that anybody else needs is held meanwhile. When what is due, and what an outcome means, is decided
in `delivery`; how a message gets to a service is known to `chat` alone.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field

from mmtools import moments, outbox
from mmtools.errors import Misconfigured, TryLater
from mmtools.ops import chat as chats
from mmtools.ops import delivery
from mmtools.ops.chat import Kind, Outcome
from mmtools.ops.delivery import Jitter
from mmtools.ops.settings import Chat, Settings
from mmtools.outbox import Message
from mmtools.state import Broken, StateDir

LOCK = "outbox-sender"
LIMIT_S = 8.9
"""For all chats together; with SPARE_S a round takes less than 10 s."""
SECRET_LIMIT_S = 3.0
"""For the command that prints a chat's address."""
SPARE_S = 1.0
"""To end a child that is late, and to write down how it went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReport:
    """What one chat got. alerts, status: how that message went, None when nothing was sent; keys: the alerts in that message.

    Of a dry run, `keys` are the alerts that would go, and `status_is_due` says whether the status would.
    """

    alerts: Outcome | None = None
    keys: Sequence[str] = ()
    status: Outcome | None = None
    status_is_due: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What one round did. waiting: the alerts that are not through with every chat. lost: what of the outbox cannot be read."""

    chats: Mapping[str, ChatReport]
    waiting: Sequence[str]
    lost: str | None = None

    @property
    def in_trouble(self) -> list[str]:
        """The chats that did not take what was due."""
        return [name for name, report in self.chats.items() if any(o and o.kind is not Kind.SENT for o in (report.alerts, report.status))]


def pending(state: StateDir) -> list[str]:
    """Return the keys of the alerts that are not through with every chat, oldest first. Raises Broken when they cannot be read."""
    return _waiting(outbox.alerts(state))


def send_alerts(state: StateDir, settings: Settings, *, limit_s: float = LIMIT_S) -> Sent:
    """Send the alerts that are due, and no status."""
    return send(state, settings, limit_s=limit_s, status=False)


def send_status(state: StateDir, settings: Settings, *, limit_s: float = LIMIT_S) -> Sent:
    """Send the status to the chats that are due for it and that no alert waits for, and no alert."""
    return send(state, settings, limit_s=limit_s, alerts=False)


def send(
    state: StateDir,
    settings: Settings,
    *,
    limit_s: float = LIMIT_S,
    alerts: bool = True,
    status: bool = True,
    dry_run: bool = False,
    clock: Callable[[], int] = moments.now_ms,
    jitter: Jitter = random.random,
) -> Sent:
    """Send what is due: to each chat at most one message of alerts and, when none waits for it, the status.

    Returns within about `limit_s`. With dry_run nothing is sent or written. Raises TryLater when
    another sender is at work, or when how it went cannot be written down (then it is uncertain, and goes out once more). An interrupt
    does not wait for the chats: what is under way is uncertain then, too, and its process ends by itself.
    """
    if dry_run and state.is_locked(LOCK):
        raise TryLater("the outbox is being sent; run again later")
    with _alone(state, dry_run):
        lost = None
        try:
            known = outbox.alerts(state)
        except Broken as e:
            lost, known = str(e), {}
            if not dry_run:
                with outbox.editing(state) as healed:  # says in an alert of its own what may be lost
                    known = dict(healed)
        if dry_run:
            return _foreseen(state, settings, known if alerts else {}, status, lost, clock())
        if not any(chat.alerts for chat in settings.chats):
            outbox.let_lapse(state)
        sender = _Sender(state, settings, time.monotonic() + limit_s, clock, jitter)
        reports = sender.round(known if alerts else {}, status)
        sender.tell_of_lost_chats(reports)
        return Sent(chats=reports, waiting=_waiting(outbox.alerts(state)), lost=lost)


def _alone(state: StateDir, dry_run: bool) -> AbstractContextManager[None]:
    return nullcontext() if dry_run else state.lock(LOCK)


def _waiting(alerts: Mapping[str, Message]) -> list[str]:
    return [key for _, key in sorted((alert["raised_ms"], key) for key, alert in alerts.items() if alert["sent_ms"] is None)]


def _foreseen(state: StateDir, settings: Settings, alerts: Mapping[str, Message], status: bool, lost: str | None, now_ms: int) -> Sent:
    body = _status(state) if status else None
    reports = {}
    for chat in settings.chats:
        parcel = delivery.pack(_owned_up(_copy(alerts), chat.name), chat.name, now_ms) if chat.alerts else None
        due = body is not None and chat.status and parcel is None and _status_due(body, chat, now_ms)
        reports[chat.name] = ChatReport(keys=parcel.keys if parcel else (), status_is_due=due)
    return Sent(chats=reports, waiting=_waiting(alerts), lost=lost)


def _owned_up(alerts: Mapping[str, Message], chat: str) -> Mapping[str, Message]:
    for alert in alerts.values():
        if chat in alert["targets"]:
            delivery.own_up(alert["targets"][chat])
    return alerts


@dataclass(slots=True)
class _Sender:
    state: StateDir
    settings: Settings
    deadline: float
    clock: Callable[[], int]
    jitter: Jitter
    failures: list[BaseException] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def round(self, known: Mapping[str, Message], status: bool) -> dict[str, ChatReport]:
        """Serve all chats at once. Raises what a thread raised, after the others are done."""
        reports: dict[str, ChatReport] = {}
        threads = [
            threading.Thread(target=self._serve, args=(chat, known, status, reports), daemon=True, name=chat.name)
            for chat in self.settings.chats
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                # What is later than this is left in the middle: its mark on the disk says so.
                thread.join(max(0.0, self.deadline + SPARE_S - time.monotonic()))
        finally:
            self.stopping.set()
        if self.failures:
            raise self.failures[0]
        self._settle(known)
        return {chat.name: reports.get(chat.name, ChatReport()) for chat in self.settings.chats}

    def tell_of_lost_chats(self, reports: Mapping[str, ChatReport]) -> None:
        """Raise an alert, once a day, for each chat that takes nothing until a person sees to it: the others may carry it."""
        for name, report in reports.items():
            lost = [o.why for o in (report.alerts, report.status) if o is not None and o.kind in (Kind.GONE, Kind.UNUSABLE)]
            if lost:
                day = moments.iso(self.clock())[:10]
                text = f"the chat {name} takes no messages: {lost[0]}; see its `url` in ops.yaml"
                outbox.raise_alert(self.state, f"chat:{name}:{day}", text, level=outbox.Level.WARNING, source="status-update")

    def _serve(self, chat: Chat, known: Mapping[str, Message], status: bool, reports: dict[str, ChatReport]) -> None:
        try:
            report = ChatReport()
            now_ms = self.clock()
            if chat.alerts and not self._is_held(chat, now_ms) and delivery.pack(_owned_up(_copy(known), chat.name), chat.name, now_ms):
                report = reports[chat.name] = self._send_alerts(chat)
            if status and chat.status and self._left_s() >= chats.LEAST_S and not self._is_owed_alerts(chat):
                reports[chat.name] = ChatReport(alerts=report.alerts, keys=report.keys, status=self._send_status(chat))
        except BaseException as e:
            self.failures.append(e)

    def _send_alerts(self, chat: Chat) -> ChatReport:
        with outbox.editing(self.state) as alerts:
            now_ms = self.clock()
            parcel = delivery.pack(_owned_up(alerts, chat.name), chat.name, now_ms)
            if parcel is None:
                return ChatReport()
            for key in parcel.keys:
                delivery.begin(delivery.record_of(alerts[key], chat.name), now_ms)
        outcome = self._send(chat, parcel.text)
        with outbox.editing(self.state) as alerts:
            now_ms = self.clock()
            for key in parcel.keys:
                if key in alerts:  # not when the file broke meanwhile
                    record = delivery.record_of(alerts[key], chat.name)
                    delivery.conclude(record, outcome, now_ms, self.jitter, alone=len(parcel.keys) == 1)
            self._settle_all(alerts, now_ms)
        return ChatReport(alerts=outcome, keys=parcel.keys)

    def _send_status(self, chat: Chat) -> Outcome | None:
        body = _status(self.state)
        if body is None or not _status_due(body, chat, self.clock()):
            return None
        try:
            with self.state.edit(outbox.STATUS, schema=outbox.STATUS_SCHEMA) as body:
                now_ms, told, text = self.clock(), delivery.print_of(body), body["text"]
                before = delivery.begin_status(delivery.status_record(body, chat.name), told, now_ms)
        except Broken:
            return None
        outcome = self._send(chat, text[: delivery.MOST_CHARACTERS])
        with suppress(Broken), self.state.edit(outbox.STATUS, schema=outbox.STATUS_SCHEMA) as body:
            record = delivery.status_record(body, chat.name)
            delivery.conclude_status(record, before, outcome, self.clock(), self.jitter)
        return outcome

    def _send(self, chat: Chat, text: str) -> Outcome:
        try:
            url = chat.url.reveal(f"the chat {chat.name}", limit_s=SECRET_LIMIT_S)
        except Misconfigured as e:
            return Outcome(kind=Kind.UNUSABLE, why=str(e))
        if self._left_s() < chats.LEAST_S:
            return Outcome(kind=Kind.FAILED, why="no time was left for it")
        try:
            return chats.send(url, text, limit_s=self._left_s())
        except OSError as e:
            return Outcome(kind=Kind.FAILED, why=f"no process could be started for it ({e.strerror})")

    def _is_held(self, chat: Chat, now_ms: int) -> bool:
        """Whether the chat asked for a pause when it was sent a status."""
        body = _status(self.state)
        return body is not None and chat.name in body["targets"] and delivery.is_held(body["targets"][chat.name], now_ms)

    def _left_s(self) -> float:
        """Return for how long a chat may still be asked."""
        return 0.0 if self.stopping.is_set() else min(chats.LIMIT_S, self.deadline - SPARE_S - time.monotonic())

    def _is_owed_alerts(self, chat: Chat) -> bool:
        """Whether an alert waits for this chat, whatever it waits for: it comes first."""
        if not chat.alerts:
            return False
        alerts = outbox.alerts(self.state)
        return any(alert["sent_ms"] is None and not delivery.is_over(delivery.record_of(alert, chat.name)) for alert in alerts.values())

    def _settle(self, known: Mapping[str, Message]) -> None:
        """Settle what a change of the settings left behind: alerts whose last chat is no more in them."""
        names = self._alerted()
        if any(alert["sent_ms"] is None and delivery.is_settled(alert, names) for alert in known.values()):
            with outbox.editing(self.state) as alerts:
                self._settle_all(alerts, self.clock())

    def _settle_all(self, alerts: Mapping[str, Message], now_ms: int) -> None:
        names = self._alerted()
        for alert in alerts.values():
            if alert["sent_ms"] is None and delivery.is_settled(alert, names):
                alert["sent_ms"] = now_ms

    def _alerted(self) -> list[str]:
        return [chat.name for chat in self.settings.chats if chat.alerts]


def _copy(alerts: Mapping[str, Message]) -> dict[str, Message]:
    """Return alerts whose records can be changed without touching those of other threads."""
    return {key: {**alert, "targets": {name: dict(record) for name, record in alert["targets"].items()}} for key, alert in alerts.items()}


def _status(state: StateDir) -> Message | None:
    """Return the status that waits; None also when it is broken: `put_status` starts it anew."""
    try:
        return state.read(outbox.STATUS, schema=outbox.STATUS_SCHEMA)
    except Broken:
        return None


def _status_due(body: Message, chat: Chat, now_ms: int) -> bool:
    record = delivery.status_record(body, chat.name)
    return "text" in body and delivery.status_is_due(record, delivery.print_of(body), chat.status_every_h, now_ms)
