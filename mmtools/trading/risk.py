"""Limits and switches: the gates before any order, and what ends a run. Reasons are `market.Why`; the maker acts on them.

`gate` speaks for a whole market, `Limits` for the run, `Requests` for the venue's patience. Caps on size are numbers that the
planner asks for here (`room`, `net_room`). No orders in here.
"""

from collections import deque
from copy import copy
from dataclasses import dataclass

import msgspec

from mmtools.trading.market import Market, Side, Why
from mmtools.trading.params import Params
from mmtools.trading.signals import MarketView
from mmtools.units import ONE, Shares, Usdc, of

DAY_MS = 86_400_000
ERROR_WINDOW_MS = 300_000
FEWEST_REQUESTS = 20


def gate(view: MarketView, market: Market, params: Params, now_ms: int, *, facts_required: bool = False) -> Why | None:
    """Return why nothing may rest in this market now, in the order of the gates; None when it may.

    facts_required: whether what the source does not say (end, accepting, fees) forbids quoting, as on a live feed; where a
    source cannot know it, it passes and `unknown_facts` names it once. An unknown event forbids nothing: the market is one.
    """
    if in_gap(view, params, now_ms):
        return Why.DATA_GAP
    if view.fault is not None:
        return view.fault
    if facts_required and unknown_facts(market) not in ([], ["event"]):
        return Why.FACTS_UNKNOWN
    if view.resolved or market.accepting is False:
        return Why.NOT_ACCEPTING
    if market.game_start_ms is not None and abs(market.game_start_ms - now_ms) < params.stop_before_game_s * 1000:
        return Why.NEAR_GAME_START
    if market.end_ms is not None and now_ms > market.end_ms - params.stop_before_resolution_s * 1000:
        return Why.NEAR_RESOLUTION
    return None


def in_gap(view: MarketView, params: Params, now_ms: int) -> bool:
    """Whether the market has been silent for too long; one that never spoke has no gap yet, only no book."""
    return view.in_gap(now_ms, int(params.max_data_gap_s * 1000))


def unknown_facts(market: Market) -> list[str]:
    """Name what the market's source does not say although a gate asks for it."""
    facts = {"end date": market.end_ms, "whether it accepts orders": market.accepting, "fees": market.fees, "event": market.event}
    return [name for name, fact in facts.items() if fact is None]


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that is broken: the run halts."""

    why: Why
    detail: str


class Limits:
    """The run's loss since the last 00:00 UTC and its fall from the peak, both on totals at the mark."""

    def __init__(self, params: Params) -> None:
        self._max_daily_loss = None if params.max_daily_loss is None else of(params.max_daily_loss)
        self._max_drawdown = None if params.max_drawdown is None else of(params.max_drawdown)
        self.day: int | None = None
        self.day_began_at = Usdc(0)
        self.peak = Usdc(0)
        self.deepest = Usdc(0)
        """The largest drawdown so far."""
        self.last = Usdc(0)
        """The total when it was last looked at: what the next day begins with."""
        self._day_ends_ms = 0

    def restore(self, *, day: int, day_began_at: Usdc, peak: Usdc, deepest: Usdc, last: Usdc) -> None:
        """Go on from what an earlier process of the same run had seen."""
        self.day, self.day_began_at, self.peak, self.deepest, self.last = day, day_began_at, peak, deepest, last
        self._day_ends_ms = 0

    def _new_day(self, day: int) -> None:
        if self.day is None:
            self.day = day
        elif day > self.day:
            self.day, self.day_began_at = day, self.last
        self._day_ends_ms = (self.day + 1) * DAY_MS

    def clear(self, total: Usdc) -> None:
        """A person looked and said go on: losses count anew from here."""
        self.day_began_at = self.peak = total

    def check(self, total: Usdc, now_ms: int) -> Breach | None:
        """Take notice of the total; return the limit that it breaks, if any."""
        if now_ms >= self._day_ends_ms:
            self._new_day(now_ms // DAY_MS)
        self.last = total
        if total > self.peak:
            self.peak = total
        lost, fallen = self.day_began_at - total, self.peak - total
        if fallen > self.deepest:
            self.deepest = Usdc(fallen)
        if self._max_daily_loss is not None and lost >= self._max_daily_loss:
            return Breach(Why.DAILY_LOSS, f"lost {_usdc(lost)} since 00:00 UTC; max_daily_loss is {_usdc(self._max_daily_loss)}")
        if self._max_drawdown is not None and fallen >= self._max_drawdown:
            return Breach(
                Why.DRAWDOWN, f"{_usdc(fallen)} below the peak of {_usdc(self.peak)}; max_drawdown is {_usdc(self._max_drawdown)}"
            )
        return None


class Requests:
    """Orders and cancels of the last five minutes, and which of them failed (post-only crossings are no failures)."""

    def __init__(self, max_error_rate: float) -> None:
        self._max = max_error_rate
        self._seen: deque[tuple[int, bool]] = deque()
        self._failed = 0

    def note(self, now_ms: int, *, failed: bool) -> None:
        self._seen.append((now_ms, failed))
        self._failed += failed

    def clear(self) -> None:
        """A person looked and said go on: failures count anew from here."""
        self._seen.clear()
        self._failed = 0

    def check(self, now_ms: int) -> Breach | None:
        """Return the breach of the error rate, if the last five minutes hold one."""
        while self._seen and self._seen[0][0] <= now_ms - ERROR_WINDOW_MS:
            self._failed -= self._seen.popleft()[1]
        count = len(self._seen)
        if count < FEWEST_REQUESTS or self._failed <= self._max * count:
            return None
        return Breach(Why.ERROR_RATE, f"{self._failed} of the last {count} requests failed; max_error_rate is {self._max:g}")


class Stand(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a market stands for its caps: what is owned, what that cost, and what the event's other markets could lose."""

    yes: Shares
    no: Shares
    cost: Usdc
    elsewhere: Usdc


class Caps:
    """The caps of a run in millionths; None is no cap."""

    def __init__(self, params: Params) -> None:
        self.position = Shares(of(params.max_position))
        self.net = Shares(of(params.max_net_position))
        self.event = None if params.max_event_exposure is None else Usdc(of(params.max_event_exposure))
        self.net_why = Why.NET_CAP

    def tapered(self, part: float) -> "Caps":
        """Return the caps with only a part of the net position allowed: near the market's end."""
        if part >= 1.0:
            return self
        less = copy(self)
        less.net, less.net_why = Shares(int(self.net * part)), Why.TAPERED
        return less

    def room(self, side: Side, price: int, stand: Stand, net_room: Shares | None = None) -> tuple[Shares, Why]:
        """Return how much one side may buy in all at a price in YES terms if everything fills, and the cap that binds first.

        Resting orders of the side are part of the room: they are what it is used for. net_room: that of the side, if known already.
        """
        held, lost_per_share = (stand.yes, price) if side is Side.BUY else (stand.no, ONE - price)
        room, why = self.position - held, Why.POSITION_CAP
        net = self.net_room(side, stand) if net_room is None else net_room
        if net < room:
            room, why = net, self.net_why
        if self.event is not None:
            # A bid loses its price if NO wins, an ask loses 1 - price if YES wins; what we own pays in the outcome it names.
            owed = stand.cost - (stand.no if side is Side.BUY else stand.yes)
            left = (self.event - stand.elsewhere - owed) * ONE // lost_per_share
            if left < room:
                room, why = Shares(left), Why.EVENT_CAP
        return Shares(room if room > 0 else 0), why

    def net_room(self, side: Side, stand: Stand) -> Shares:
        """Return how much one side may trade in all, selling what we own included: the net cap limits a bet, not spending."""
        room = self.net - (stand.yes - stand.no) * side.sign
        return Shares(room if room > 0 else 0)


def _usdc(amount: int) -> str:
    return f"{amount / ONE:.2f} USDC"
