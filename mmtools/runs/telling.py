"""What a run tells while it moves: alarms to people through the outbox, its health to the service manager. Called by `session` alone.

It never stops a run or feeds back: an outbox that takes nothing is tried again at the next look, and counted. What is wrong is decided in
`alarms`, how the manager is spoken to in `notify`; here is when, and in which words.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmtools import moments, outbox
from mmtools.config import Alarms
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.moments import iso
from mmtools.outbox import Level
from mmtools.restarts import Owner
from mmtools.runs import live_state
from mmtools.runs.alarms import RESOLVED, Alarm, Change, Kind, Lookout, Seen
from mmtools.runs.engine import Engine
from mmtools.runs.journal import Record
from mmtools.runs.notify import Notifier
from mmtools.state import WAIT_S, StateDir
from mmtools.units import ONE

SOURCE = "quote-run"
STATUS_EVERY_S = 60.0
READY_WITHIN_S = 60.0
"""How long the connection may take before the run counts as started all the same: it goes on trying, and its alarm tells of it."""
OUTBOX_WAIT_S = 0.5
"""How long quotes may stand still for an alert. Once they are cancelled for good, there is time."""
KEPT = 100
"""Alerts that wait in this process for an outbox that takes none; later ones are only counted."""


class Teller:
    """One process of a run."""

    def __init__(self, state: StateDir, run_id: str, *, live: bool, owner: Owner, alarms: Alarms, notifier: Notifier | None) -> None:
        """live: whether its feed is: elsewhere time is simulated, and nobody waits for quotes."""
        self.has_begun = False
        """Whether the engine moves: what goes wrong before that is no crash."""
        self.untold = 0
        """How often the outbox did not take an alert."""
        self._state = state
        self._run_id = run_id
        self._lookout = Lookout(alarms) if live else None
        self._is_watched = live or owner is not Owner.NOBODY
        """Whether anybody waits for this run when nobody sits in front of it."""
        self._owner = owner
        self._notifier = notifier
        self._waiting: dict[str, tuple[str, Level]] = {}
        self._began_s = time.monotonic()
        self._next_status_s = 0.0

    # ---- people

    @property
    def standing(self) -> Sequence[Alarm]:
        """The alarms that are on."""
        return [] if self._lookout is None else list(self._lookout.standing.values())

    def look(self, engine: Engine) -> None:
        """Tell what is wrong with the run now, and what is well again."""
        if self._lookout is None:
            return
        for change in self._lookout.look(seen(engine)):
            self._tell_of(change)
        self._raise(OUTBOX_WAIT_S)

    def halted(self, number: int, halt: Record) -> None:
        """Tell that the run is halted. number: which of its halts this is, counted from 0."""
        if self._is_watched:
            text = (
                f"{self._run_id} is halted: {halt['why']}, {halt['detail']}. Its orders are cancelled; "
                f"look, then `halt --run {self._run_id} --clear --why ...`, and start it again"
            )
            self._tell(f"halt:{self._run_id}:{number}:{iso(halt['at_ms'])}", text, Level.CRITICAL)
            self._raise(WAIT_S)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Tell when this process ends out of order, or does not even start; the error goes on."""
        try:
            yield
        except Exception as e:
            if self.has_begun:
                self._crashed(e)
            elif not isinstance(e, TryLater):  # by its reason, not by its time: whoever looks after it tries again and again
                not_started(self._state, self._run_id, self._owner, e)
            raise
        finally:
            self.ending()
            if self._notifier is not None:
                self._notifier.close()

    def _crashed(self, error: Exception) -> None:
        if self._is_watched:
            then = "a person must start it again" if self._owner is Owner.NOBODY else f"{self._owner} may start it again"
            text = f"{self._run_id} crashed: {_words(error)}. Its paper orders are gone; {then}"
            self._tell(f"crash:{self._run_id}:{iso(moments.now_ms())}", text, Level.CRITICAL)
            self._raise(WAIT_S)

    def _tell_of(self, change: Change) -> None:
        alarm = change.alarm
        key, since = f"{alarm.kind}:{self._run_id}:{iso(alarm.since_ms)}", iso(alarm.since_ms)
        minutes = (change.at_ms - alarm.since_ms) / 60_000
        if change.over:
            self._tell(f"{key}:over", f"{self._run_id}: {_HEADLINES[alarm.kind]} is over after {minutes:.0f} min", Level.INFO)
            return
        text = f"{self._run_id}: {_HEADLINES[alarm.kind]} since {since} ({minutes:.0f} min): {alarm.cause}. {_CURES[alarm.kind]}"
        self._tell(key, text, Level.WARNING)

    def _tell(self, key: str, text: str, level: Level) -> None:
        if len(self._waiting) < KEPT:
            self._waiting[key] = (text, level)
        else:
            self.untold += 1

    def _raise(self, wait_s: float) -> None:
        while self._waiting:
            key, (text, level) = next(iter(self._waiting.items()))
            try:
                outbox.raise_alert(self._state, key, text, level=level, source=SOURCE, wait_s=wait_s)
            except (TryLater, Misconfigured, Refused):
                self.untold += 1
                return
            del self._waiting[key]

    # ---- the service manager

    def starting(self) -> None:
        """The start goes on; to be called now and then while it takes long."""
        if self._notifier is not None:
            self._notifier.extend()

    def turned(self, engine: Engine) -> None:
        """The loop turned."""
        notifier = self._notifier
        if notifier is None:
            return
        if not notifier.is_ready:
            if self._has_begun(engine):
                notifier.ready(status(engine, self.standing))
                self._next_status_s = time.monotonic() + STATUS_EVERY_S
            else:
                notifier.extend()
            return
        notifier.beat()
        if (now_s := time.monotonic()) >= self._next_status_s:
            self._next_status_s = now_s + STATUS_EVERY_S
            notifier.status(status(engine, self.standing))

    def ending(self) -> None:
        """The loop turns no more."""
        if self._notifier is not None:
            self._notifier.stopping()

    def _has_begun(self, engine: Engine) -> bool:
        if engine.journal.repeating():
            return False
        stats = getattr(engine.feed, "stats", None)
        return stats is None or stats.connected or time.monotonic() - self._began_s > READY_WITHIN_S


def not_started(state: StateDir, run_id: str, owner: Owner, error: Exception) -> None:
    """Tell that a run which somebody looks after did not even start; the same reason is told once. Raises nothing."""
    if owner is Owner.NOBODY:
        return
    words = _words(error)
    key = f"start:{run_id}:{hashlib.sha256(words.encode()).hexdigest()[:12]}"
    try:
        outbox.raise_alert(state, key, f"{run_id} did not start: {words}", level=Level.CRITICAL, source=SOURCE)
    except (TryLater, Misconfigured, Refused):
        return  # who started it sees the exit code


def seen(engine: Engine) -> Seen:
    """Return what the run shows now."""
    reasons: Counter[str] = Counter()
    resting = False
    for desk in engine.maker.desks:
        resting = resting or any(work.accepted_ms is not None for work in desk.working.values())
        if desk.view.resolved:
            reasons[RESOLVED] += 2
        elif desk.decision is not None:
            sides = (live_state.why(desk.decision.bid), live_state.why(desk.decision.ask))
            reasons.update(why for why in sides if why is not None)
    orders = engine.fold.orders
    stats = getattr(engine.feed, "stats", None)
    return Seen(
        at_ms=engine.now_ms,
        resting=resting,
        reasons=reasons,
        accepted=orders.accepted,
        sent=orders.sent,
        refused=live_state.refused(engine),
        connected=None if stats is None else stats.connected,
    )


def status(engine: Engine, alarms: Sequence[Alarm]) -> str:
    """Return how the run goes as one line: money, quotes, how old the newest word of the feed is, what is wrong."""
    desks = engine.maker.desks
    orders = [sum(work.accepted_ms is not None for work in desk.working.values()) for desk in desks]
    silent_ms = [ms for desk in desks if (ms := desk.view.silent_ms(engine.now_ms)) is not None]
    heard = f"heard {min(silent_ms) / 1000:.0f} s ago" if silent_ms else "nothing heard yet"
    wrong = "".join(f"; {alarm.kind.value} since {iso(alarm.since_ms)}" for alarm in alarms)
    return (
        f"P&L {engine.maker.account.total() / ONE:+.2f} USDC, {engine.fold.fills} fills; {sum(orders)} orders rest in "
        f"{sum(map(bool, orders))} of {len(desks)} markets; running {(engine.now_ms - engine.began_ms) / 3_600_000:.1f} h, {heard}{wrong}"
    )


_HEADLINES = {
    Kind.STARVED: "no order rests on any side",
    Kind.STORM: "a storm of refusals",
    Kind.SOCKET: "the connection is lost",
}
_CURES = {
    Kind.STARVED: "See why_no_bid and why_no_ask in its live_state.json, or `report explain`",
    Kind.STORM: "See `orders` in `report`; a limit or the venue refuses what it sends",
    Kind.SOCKET: "It goes on trying; check the network and the venue's status page",
}


def _words(error: Exception) -> str:
    known = isinstance(error, TryLater | Refused | Misconfigured)
    return " ".join(str(error).split()) if known else f"a bug, {type(error).__name__}; the traceback is where its stderr goes"
