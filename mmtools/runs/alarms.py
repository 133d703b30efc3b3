"""When a run does not do its work: starved, in a storm of refusals, or without its connection. Pure: what is seen comes in, with its time.

Nothing is read, written or told here; `telling` asks at each look and raises what comes out. A condition is known by its kind and by
since when it holds, so that it is told once however long it lasts.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mmtools.config import Alarms

FEWEST_ORDERS = 10
"""Before a share of refusals is more than bad luck."""
RESOLVED = "resolved"
"""Why nothing rests where every market is over."""


class Kind(StrEnum):
    """What can be wrong while a run moves; the first part of an alert's key."""

    STARVED = "starved"
    STORM = "storm"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a run shows at an instant.

    resting: whether an order rests on any side of any market. reasons: why sides are not quoted, each as often as it is given now.
    accepted, sent, refused: orders of the run so far; refused by reason, without the post-only orders that the market outran: these
    are a part of quoting, as for the error rate, and a lively market would make a storm of them. connected: None where the feed has no
    connection.
    """

    at_ms: int
    resting: bool
    reasons: Mapping[str, int]
    accepted: int
    sent: int
    refused: Mapping[str, int]
    connected: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A condition that holds since a time; cause: why, in a few words."""

    kind: Kind
    since_ms: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An alarm begins, or it is over at `at_ms`."""

    alarm: Alarm
    at_ms: int
    over: bool


class Lookout:
    """Follows one run. `standing` holds the alarms that are on, by kind."""

    def __init__(self, limits: Alarms) -> None:
        self.standing: dict[Kind, Alarm] = {}
        self._limits = limits
        self._bare_since_ms: int | None = None
        self._accepted = 0
        self._why: Counter[str] = Counter()
        """Reasons since nothing rests, counted at each look."""
        self._lost_since_ms: int | None = None
        self._window: deque[Seen] = deque()

    def look(self, seen: Seen) -> list[Change]:
        """Take in what is seen now; return what begins and what is over with it."""
        found = {Kind.STARVED: self._starved(seen), Kind.STORM: self._storm(seen), Kind.SOCKET: self._socket(seen)}
        changes = []
        for kind, alarm in found.items():
            before = self.standing.get(kind)
            if alarm is None:
                if before is not None:
                    del self.standing[kind]
                    changes.append(Change(alarm=before, at_ms=seen.at_ms, over=True))
            elif before is None:
                self.standing[kind] = alarm
                changes.append(Change(alarm=alarm, at_ms=seen.at_ms, over=False))
            else:  # it is known by its beginning; the cause may become another
                self.standing[kind] = Alarm(kind=kind, since_ms=before.since_ms, cause=alarm.cause)
        return changes

    def _starved(self, seen: Seen) -> Alarm | None:
        # An order that came and went between two looks has rested, too.
        quoted = seen.resting or seen.accepted != self._accepted
        self._accepted = seen.accepted
        if quoted:
            self._bare_since_ms = None
            self._why.clear()
            return None
        if self._bare_since_ms is None:
            self._bare_since_ms = seen.at_ms
        self._why.update(seen.reasons)
        if seen.at_ms - self._bare_since_ms < self._limits.starved_after_min * 60_000:
            return None
        return Alarm(kind=Kind.STARVED, since_ms=self._bare_since_ms, cause=_most(self._why) or "no side says why")

    def _storm(self, seen: Seen) -> Alarm | None:
        window = self._window
        window.append(seen)
        while len(window) > 1 and window[1].at_ms <= seen.at_ms - self._limits.storm_window_min * 60_000:
            window.popleft()
        first = window[0]
        orders = seen.sent - first.sent
        refused = Counter(seen.refused)
        refused.subtract(first.refused)
        count = sum(refused.values())
        if orders < FEWEST_ORDERS or count * 100 <= self._limits.storm_pct * orders:
            return None
        return Alarm(kind=Kind.STORM, since_ms=first.at_ms, cause=f"{count} of {orders} orders refused, most often {_most(refused)}")

    def _socket(self, seen: Seen) -> Alarm | None:
        if seen.connected is not False:
            self._lost_since_ms = None
            return None
        if self._lost_since_ms is None:
            self._lost_since_ms = seen.at_ms
        if seen.at_ms - self._lost_since_ms <= self._limits.lost_socket_s * 1000:
            return None
        return Alarm(kind=Kind.SOCKET, since_ms=self._lost_since_ms, cause="no connection to the venue")


def _most(reasons: Counter[str]) -> str:
    """Return the most frequent reason, the first by name among equals; "" when there is none."""
    return min(reasons, key=lambda reason: (-reasons[reason], reason), default="")
