"""Orders that nobody sent, laid over a feed: how much of each would have filled, in several queues at once, and what the mid did then.

Every so often, in each market, an order stands at the touch and behind it, on both sides, for a while. Each queue model has
the same orders; they do not compete with each other. What happens to an order follows `trading.paper` to the letter (late
arrival, pools, epochs, trade side, snapshots), but nothing is owned: no money, no maker, no journal. What the figures are
is `findings`'s business.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mmtools import units
from mmtools.runs.markets import Markets
from mmtools.trading import events as ev
from mmtools.trading.market import Market, OfToken, Outcome, Side, Why
from mmtools.trading.markouts import HORIZONS_S, markout
from mmtools.trading.params import Params, QueueModel, TradeSide
from mmtools.trading.queue import UNKNOWN_QUEUE, Model, Pool, Queued
from mmtools.trading.signals import MarketView
from mmtools.units import LOT, Price, Shares
from mmtools.venues.venue import Feed, Kind

BEHIND = (0, 1, 2)
"""Ticks behind the touch at which orders are placed."""
NO_QUEUE: tuple[QueueModel, ...] = ("never", "touch")
"""What `trading.queue` does not model."""
LEAST_S, MOST_S = 0.1, 86_400.0
"""Between which an interval or a life lies."""
RECORDING_ENDED = "recording_ended"
"""Left out: the order would have outlived the recording, and what is not known is not unfilled."""


class BadPlan(ValueError):
    """Orders were asked for that cannot be; one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which orders are placed, and what is assumed of them."""

    models: Mapping[str, Model]
    size: Shares
    life_ms: int
    every_ms: int
    latency_ms: int
    explain_ms: int
    trade_side: TradeSide
    max_gap_ms: int

    @staticmethod
    def of(params: Params, *, size: Shares, life_ms: int, every_ms: int, more: Sequence[QueueModel] = ()) -> "Plan":
        """Return the plan of a run's params, with `more` queue models. Raises BadPlan where the params name no model of a queue."""
        if params.queue_model in NO_QUEUE:
            raise BadPlan(f"queue_model {params.queue_model} is no model of a queue; take another, such as --set queue_model=power")
        return Plan(
            models={
                "risk_averse": Model("risk-averse"),
                "base": Model(params.queue_model, params.queue_power),
                **{name: Model(name, params.queue_power) for name in more},
                "optimistic": Model("optimistic"),
            },
            size=size,
            life_ms=life_ms,
            every_ms=every_ms,
            latency_ms=params.latency_ms,
            explain_ms=params.explain_ms,
            trade_side=params.trade_side,
            max_gap_ms=round(params.max_data_gap_s * 1000),
        )


@dataclass(slots=True, eq=False, kw_only=True)
class Hypothetical(OfToken):
    """An order that nobody sent, in YES terms, and how it went in each model's queue. `tick` is that of its grid."""

    market: str
    outcome: Outcome = Outcome.YES
    side: Side
    price: Price
    tick: Price
    behind: int
    size: Shares
    placed_ms: int
    """When it was decided on; it arrives a latency later."""
    arrived_ms: int = 0
    ends_ms: int = 0
    """When it is withdrawn: a life after it arrived, or when its market is over."""
    stands: dict[str, "Stand"] = field(default_factory=dict)
    """Its place in each model's queue, by the model's name."""


@dataclass(slots=True, eq=False)
class Stand(Queued):
    """An order's place in the queue of one model, and what came of it."""

    order: Hypothetical
    left: int
    first_ms: int | None = None
    """When it first filled."""
    measured: list[int] = field(default_factory=lambda: [0] * len(HORIZONS_S))
    """Shares filled whose markout is known, by horizon."""
    gained: list[int] = field(default_factory=lambda: [0] * len(HORIZONS_S))
    """Their markouts times their shares, 1e-12 USDC, by horizon."""

    @property
    def filled(self) -> int:
        return self.order.size - self.left


@dataclass(slots=True)
class Found:
    """The orders of one feed or of several, and how many were not placed or not counted, by reason."""

    orders: list[Hypothetical] = field(default_factory=list)
    prints: int = 0
    """Trades of the feeds."""
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Found") -> None:
        self.orders += other.orders
        self.prints += other.prints
        self.left_out += other.left_out


def calibrate(feed: Feed, plan: Plan, looked: Callable[[int], None] = lambda now_ms: None) -> Found:
    """Lay a plan's orders over a feed, to its end. looked: told the time whenever orders are placed."""
    markets = Markets(feed.markets)
    trial = _Trial(feed.markets, markets.views, plan, looked)
    markets.listeners.append(trial)
    views, now = markets.views, 0
    for ms, kind, market, a, b in feed.rows():
        if ms > now:
            # As in a run: what is due at an instant comes before the rows of that instant.
            if not now:
                trial.begin(ms)
            elif ms >= trial.due_ms:
                trial.advance(ms)
            now = ms
        if kind == Kind.BID or kind == Kind.ASK:
            views[market].level(kind == Kind.BID, a, b, ms)
        elif kind != Kind.CLOCK:
            markets.row(ms, kind, market, a, b)
    return trial.end(now)


@dataclass(slots=True)
class _Level:
    """One price of one side: the pool, and the orders there in every model."""

    pool: Pool
    stands: list[Stand] = field(default_factory=list)


class _Desk:
    """One market: its levels by side and price."""

    def __init__(self, market: Market, view: MarketView) -> None:
        self.market = market
        self.view = view
        self.epoch = view.epoch
        self.levels: dict[Side, dict[int, _Level]] = {Side.BUY: {}, Side.SELL: {}}


class _Trial:
    """A `runs.markets.Listener` that keeps the hypothetical orders of one feed."""

    def __init__(self, markets: Sequence[Market], views: Sequence[MarketView], plan: Plan, looked: Callable[[int], None]) -> None:
        self.fills_by_book = False
        self.due_ms = 0
        """When something is due next; rows before it need not ask."""
        self._desks = [_Desk(market, view) for market, view in zip(markets, views, strict=True)]
        self._plan = plan
        self._looked = looked
        self._turn = 0
        self._next_look_ms = 0
        # Latency, life and horizons are the same for all: what is sent first is due first.
        self._arriving: deque[tuple[int, _Desk, Hypothetical]] = deque()
        self._ending: deque[tuple[int, _Desk, Hypothetical]] = deque()
        self._marking: list[deque[tuple[int, _Desk, Stand, int]]] = [deque() for _ in HORIZONS_S]
        self._found = Found()

    # ---- time

    def begin(self, now_ms: int) -> None:
        self._next_look_ms = self.due_ms = now_ms + self._plan.every_ms

    def advance(self, to_ms: int) -> None:
        """Let everything due up to a time happen, in order."""
        while self.due_ms <= to_ms:
            now_ms = self.due_ms
            for place, marking in enumerate(self._marking):
                while marking and marking[0][0] <= now_ms:
                    _, desk, stand, size = marking.popleft()
                    # The mark that held just before this instant: rows of the instant have not come yet. In a gap, and when the market
                    # is over, nobody knows one.
                    if desk.view.mark is not None and not desk.view.resolved and not desk.view.in_gap(now_ms, self._plan.max_gap_ms):
                        stand.measured[place] += size
                        stand.gained[place] += markout(stand.order, desk.view.mark) * size
            while self._ending and self._ending[0][0] <= now_ms:
                _, desk, order = self._ending.popleft()
                self._withdraw(desk, order)
            if self._next_look_ms <= now_ms:
                self._next_look_ms += self._plan.every_ms
                self._looked(now_ms)
                for desk in self._desks:
                    self._place(desk, now_ms)
            while self._arriving and self._arriving[0][0] <= now_ms:
                _, desk, order = self._arriving.popleft()
                self._arrive(desk, order, now_ms)
            self._plan_next()

    def end(self, last_ms: int) -> Found:
        """Return the orders whose life the feed saw to its end."""
        found = self._found
        known = [order for order in found.orders if order.ends_ms <= last_ms]
        unknown = len(found.orders) - len(known) + len(self._arriving)
        if unknown:
            found.left_out[RECORDING_ENDED] += unknown
        return Found(known, found.prints, found.left_out)

    def _plan_next(self) -> None:
        orders = [queue[0][0] for queue in (self._arriving, self._ending) if queue]
        marks = [marking[0][0] for marking in self._marking if marking]
        self.due_ms = min([self._next_look_ms, *orders, *marks])

    # ---- what the rows mean

    def decreased(self, market: int, bid: bool, price: int, before: int, after: int, now_ms: int) -> None:
        desk = self._current(market)
        self._turn += 1
        level = self._level(desk, Side.BUY if bid else Side.SELL, price)
        level.pool.decreased(level.stands, before, after, self._turn, now_ms, snapshots=desk.view.snapshots_only())

    def printed(self, market: int, taker: Side, price: int, size: int, now_ms: int) -> None:
        self._found.prints += 1
        stated = self._plan.trade_side
        if stated == "unknown":
            self._eat(market, Side.BUY, price, size, now_ms)
            self._eat(market, Side.SELL, price, size, now_ms)
        else:
            self._eat(market, taker.opposite if stated == "stated" else taker, price, size, now_ms)

    def book_given(self, market: int) -> None:
        desk = self._current(market)
        if desk.view.snapshots_only():
            for levels in desk.levels.values():
                for level in levels.values():
                    level.pool.book_given()

    def resolved(self, market: int, payout: Price, now_ms: int) -> None:
        desk = self._desks[market]
        for levels in desk.levels.values():
            for level in levels.values():
                for stand in level.stands:
                    stand.order.ends_ms = now_ms
                level.stands.clear()

    def frame_over(self, market: int, now_ms: int) -> None:
        """Nothing fills by what a book shows."""

    def hear(self, event: ev.Event, now_ms: int) -> None:
        """A book that began anew is noticed when it is next needed, as on paper."""

    # ---- orders

    def _place(self, desk: _Desk, now_ms: int) -> None:
        """Send the orders of one market, priced on the book at hand."""
        plan, view = self._plan, desk.view
        book = view.book
        why = self._why_not(desk, now_ms)
        for side, best in ((Side.BUY, book.best_bid), (Side.SELL, book.best_ask)):
            for behind in BEHIND:
                at = best - side.sign * behind
                reason = why if why is not None or 0 < at < book.top else Why.NO_LEGAL_PRICE
                if reason is not None:
                    self._found.left_out[reason.value] += 1
                    continue
                order = Hypothetical(
                    market=desk.market.slug, side=side, price=Price(at * book.tick), tick=book.tick, behind=behind, size=plan.size,
                    placed_ms=now_ms,
                )  # fmt: skip
                self._arriving.append((now_ms + plan.latency_ms, desk, order))

    def _why_not(self, desk: _Desk, now_ms: int) -> Why | None:
        """Return why nothing is placed here now, by the state of the book."""
        view = desk.view
        if view.resolved:
            return Why.NOT_ACCEPTING
        if self._plan.size < desk.market.min_size:
            return Why.BELOW_MINIMUM
        if view.in_gap(now_ms, self._plan.max_gap_ms):
            return Why.DATA_GAP
        return view.fault

    def _arrive(self, desk: _Desk, order: Hypothetical, now_ms: int) -> None:
        """Let an order queue in every model, or in none."""
        self._refresh(desk)
        refused = self._refusal(desk, order)
        if refused is not None:
            self._found.left_out[refused.value] += 1
            return
        self._turn += 1
        book, stands = desk.view.book, self._level(desk, order.side, order.price).stands
        for name, model in self._plan.models.items():
            ahead = model.ahead_at_arrival(book, order.side, order.price)
            stand = order.stands[name] = Stand(model, ahead, self._turn, order, order.size)
            stands.append(stand)
        order.arrived_ms, order.ends_ms = now_ms, now_ms + self._plan.life_ms
        self._ending.append((order.ends_ms, desk, order))
        self._found.orders.append(order)

    def _refusal(self, desk: _Desk, order: Hypothetical) -> ev.Rejection | Why | None:
        book = desk.view.book
        if desk.view.resolved:
            return ev.Rejection.MARKET_CLOSED
        if order.price % book.tick:
            return ev.Rejection.TICK
        at, bid = order.price // book.tick, order.side is Side.BUY
        if at >= book.best_ask if bid else at <= book.best_bid:
            return ev.Rejection.POST_ONLY_CROSS
        return None if book.queue_known(bid, at) else Why.UNKNOWN_QUEUE

    def _withdraw(self, desk: _Desk, order: Hypothetical) -> None:
        level = desk.levels[order.side].get(order.price)
        if level is not None:
            level.stands = [stand for stand in level.stands if stand.order is not order]

    # ---- queues

    def _current(self, market: int) -> _Desk:
        desk = self._desks[market]
        self._refresh(desk)
        return desk

    def _refresh(self, desk: _Desk) -> None:
        """When the book began anew, no pool and no queue position stands any more."""
        if desk.epoch != desk.view.epoch:
            desk.epoch = desk.view.epoch
            for levels in desk.levels.values():
                for level in levels.values():
                    level.pool = Pool(self._plan.explain_ms)
                    for stand in level.stands:
                        stand.ahead = 0 if stand.model.always_first else UNKNOWN_QUEUE

    def _level(self, desk: _Desk, side: Side, price: int) -> _Level:
        level = desk.levels[side].get(price)
        if level is None:
            level = desk.levels[side][price] = _Level(Pool(self._plan.explain_ms))
        return level

    def _eat(self, market: int, side: Side, price: int, size: int, now_ms: int) -> None:
        """Let a print reach the orders of one side; each is alone, so all of it comes to each."""
        desk = self._current(market)
        self._turn += 1
        here = self._level(desk, side, price)
        shown = here.pool.printed(here.stands, size, self._turn, now_ms, snapshots=desk.view.snapshots_only())
        for at, level in desk.levels[side].items():
            if level.stands and (at - price) * side.sign >= 0:
                for stand in level.stands:
                    self._fill(desk, stand, stand.reached(size, shown, through=at != price), now_ms)
                # On paper less than a lot left is a filled order; here it waits for the rest, or the models were not in order.
                level.stands = [stand for stand in level.stands if stand.left]

    def _fill(self, desk: _Desk, stand: Stand, volume: int, now_ms: int) -> None:
        size = min(stand.left, volume)
        if size <= 0:
            return
        stand.left -= size
        if stand.first_ms is None:
            stand.first_ms = now_ms
        for horizon_s, marking in zip(HORIZONS_S, self._marking, strict=True):
            marking.append((now_ms + horizon_s * 1000, desk, stand, size))
        self.due_ms = min(self.due_ms, now_ms + HORIZONS_S[0] * 1000)


def ms_of(what: str, seconds: float) -> int:
    """Return milliseconds from seconds as a person wrote them. Raises BadPlan."""
    if not LEAST_S <= seconds <= MOST_S:
        raise BadPlan(f"{what} is {seconds:g}; it must be between {LEAST_S:g} and {MOST_S:g} seconds")
    return round(seconds * 1000)


def shares_of(number: float) -> Shares:
    """Return a size in whole lots from a number as a person wrote it. Raises BadPlan."""
    try:
        size = units.of(number)
    except ValueError as e:
        raise BadPlan(f"no order has a size of {number:g}: {e}") from e
    if size < LOT or size % LOT:
        raise BadPlan(f"no order has a size of {number:g}: orders are sent in whole hundredths of a share")
    return Shares(size)
