"""PaperExchange: a venue on paper. Orders arrive late, queue behind what rests, and fill only from real prints.

Who feeds it: the engine, with every level that lost size, every print, and the time. What comes out are the venue's
events. A level decrease alone never fills; a print is matched with the decreases it explains so that neither is counted
twice (on this feed the decrease usually comes before its print). docs/fills.md tells the rules and what they assume.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from mmtools import units
from mmtools.trading.events import Ending, Event, FillReported, MarketResolved, Merged, OrderAccepted, OrderGone, OrderRejected, Rejection
from mmtools.trading.ledger import Account
from mmtools.trading.market import Order, Outcome, Side
from mmtools.trading.params import Params, QueueModel
from mmtools.trading.signals import MarketView
from mmtools.units import LOT, ONE, Price, Shares, Usdc

NEVER = 1 << 62
UNKNOWN_QUEUE = -1
"""Ahead of an order whose level was never seen: prints at its price do not reach it, only prints through it."""


def ahead_after_cancel(model: QueueModel, power: float, ahead: float, before: float, after: float) -> float:
    """Return what stands ahead of us when a level of `before` shares lost some to cancels and holds `after`.

    ahead, before, after: shares. The form of hftbacktest's queue models: a cancel stood behind us with probability p,
    which each model makes from the shares behind and ahead; "risk-averse" says that all cancels stood behind.
    """
    if model == "risk-averse":
        return min(ahead, after)
    if model == "optimistic":
        return 0.0
    cancelled = before - after
    behind = max(before - ahead, 0.0)
    p = _behind_probability(model, power, ahead, behind)
    left = ahead - (1.0 - p) * cancelled + min(behind - p * cancelled, 0.0)
    return max(min(left, after), 0.0)


def _behind_probability(model: QueueModel, n: float, ahead: float, behind: float) -> float:
    if ahead + behind <= 0.0:
        return 1.0
    if model == "power":
        back = behind**n
        return float(back / (back + ahead**n))
    if model == "power2":
        return float(behind**n / (behind + ahead) ** n)
    if model == "power3":
        return float(1.0 - (ahead / (ahead + behind)) ** n)
    if model == "log":
        return math.log1p(behind) / (math.log1p(behind) + math.log1p(ahead))
    return math.log1p(behind) / math.log1p(behind + ahead)


@dataclass(slots=True)
class _Pending:
    """A decrease that no print has explained yet, or a print that no decrease has shown yet."""

    at_ms: int
    turn: int
    left: int
    level: int = 0
    """Of a decrease: what the level held after it."""


@dataclass(slots=True)
class _Pool:
    decreases: deque[_Pending] = field(default_factory=deque)
    prints: deque[_Pending] = field(default_factory=deque)


@dataclass(slots=True)
class _Resting:
    order: Order
    order_id: str
    left: int
    ahead: int
    turn: int
    """When it arrived, among the turns of pools: what a pool held before stood before us or was gone already."""


class _Desk:
    """One market of the exchange: our orders by side and price, the pools, what we hold."""

    def __init__(self, view: MarketView) -> None:
        self.view = view
        self.epoch = view.epoch
        self.levels: dict[Side, dict[int, list[_Resting]]] = {Side.BUY: {}, Side.SELL: {}}
        self.pools: dict[tuple[Side, int], _Pool] = {}
        self.held: dict[Outcome, int] = {Outcome.YES: 0, Outcome.NO: 0}
        self.locked: dict[Outcome, int] = {Outcome.YES: 0, Outcome.NO: 0}


class PaperExchange:
    """A venue with its own account of us: it refuses what a real one would refuse."""

    def __init__(self, views: Sequence[MarketView], params: Params, rng: random.Random) -> None:
        self.cash = units.of(params.capital)
        self.reserved = 0
        self._desks = [_Desk(view) for view in views]
        self._params = params
        self._rng = rng
        self._latency_ms = params.latency_ms
        self._due: list[tuple[int, int, str, object]] = []
        self._sequence = 0
        self._turn = 0
        self._orders: dict[str, _Resting] = {}
        self._trades = 0

    # ---- what the maker asks for

    def place(self, order: Order, now_ms: int) -> None:
        """The order is on its way."""
        self._later(now_ms + self._latency_ms, "place", order)

    def cancel(self, key: str, now_ms: int) -> None:
        """The wish to cancel is on its way; until it arrives the order can fill."""
        self._later(now_ms + self._latency_ms, "cancel", key)

    def merge(self, market: int, size: Shares, now_ms: int) -> None:
        """Pairs are on their way through the chain; they can be neither sold nor merged again meanwhile."""
        desk = self._desks[market]
        for outcome in Outcome:
            if desk.held[outcome] - desk.locked[outcome] < size:
                raise ValueError(f"cannot merge {units.text(size)} pairs of {desk.view.market.slug}: {outcome} is short")
            desk.locked[outcome] += size
        self._later(now_ms + self._params.merge_latency_ms, "merge", (market, size))

    def take_over(self, account: Account, *, trades: int) -> None:
        """Hold what an account says we hold, with nothing resting: an earlier process of this run did so many trades."""
        self._trades = trades
        self.cash = account.cash
        for desk, position in zip(self._desks, account.positions, strict=True):
            desk.held = {Outcome.YES: position.yes, Outcome.NO: position.no}

    # ---- time

    def next_due_ms(self) -> int:
        """Return when the next thing on its way arrives; NEVER when nothing is."""
        return self._due[0][0] if self._due else NEVER

    def arrive(self) -> list[Event]:
        """Let the next thing on its way arrive; return what the venue says to it."""
        due_ms, _, what, thing = heapq.heappop(self._due)
        if what == "place":
            assert isinstance(thing, Order)
            return [self._accept(thing, due_ms)]
        if what == "cancel":
            assert isinstance(thing, str)
            return self._cancelled(thing)
        assert isinstance(thing, tuple)
        market, size = thing
        return self._merged(market, size)

    def close(self) -> list[Event]:
        """The run stops: resting orders are cancelled, those still on their way are unknown. Merges go on."""
        events: list[Event] = [self._gone(key, Ending.CANCELLED) for key in list(self._orders)]
        for _, _, what, thing in sorted(self._due, key=lambda due: due[:2]):
            if what == "place":
                assert isinstance(thing, Order)
                events.append(OrderGone(thing.key, Ending.UNKNOWN))
        self._due = [due for due in self._due if due[2] == "merge"]
        heapq.heapify(self._due)
        return events

    # ---- the market

    def decreased(self, market: int, bid: bool, price: int, before: int, after: int, now_ms: int) -> None:
        """A level lost size: prints explain it, now or within `explain_ms`; what none explains was a cancel."""
        desk = self._current(market)
        side = Side.BUY if bid else Side.SELL
        pool = desk.pools.get((side, price))
        if pool is None:
            pool = desk.pools[side, price] = _Pool()
        orders = desk.levels[side].get(price, ())
        self._settle(desk, pool, orders, now_ms)
        left = before - after
        for printed in pool.prints:
            explained = min(left, printed.left)
            if not explained:
                continue
            printed.left -= explained
            left -= explained
            for resting in orders:
                # We came after this print but before its decrease: what it took still stood in the level we counted.
                if resting.turn > printed.turn and resting.ahead != UNKNOWN_QUEUE:
                    resting.ahead = max(resting.ahead - explained, 0)
        _drop_spent(pool.prints)
        if left >= LOT:
            self._turn += 1
            pool.decreases.append(_Pending(now_ms, self._turn, left, after))

    def printed(self, market: int, taker: Side, price: int, size: int, now_ms: int) -> list[Event]:
        """A taker traded `size` at `price` in YES terms: it eats the queue of our level, then us; a print through us fills us."""
        stated = self._params.trade_side
        if stated == "unknown":
            return self._eat(market, Side.BUY, price, size, now_ms) + self._eat(market, Side.SELL, price, size, now_ms)
        maker = taker.opposite if stated == "stated" else taker
        return self._eat(market, maker, price, size, now_ms)

    def book_given(self, market: int) -> None:
        """A full book has come: on a feed of snapshots, prints before it have shown all their decreases."""
        desk = self._current(market)
        if desk.view.snapshots_only():
            for pool in desk.pools.values():
                pool.prints.clear()

    def resolve(self, market: int, payout: Price) -> list[Event]:
        """The market is over: open orders are cancelled, shares are paid."""
        desk = self._current(market)
        ours = [key for key, resting in self._orders.items() if resting.order.market == market]
        events: list[Event] = [self._gone(key, Ending.RESOLVED) for key in ours]
        self.cash += units.receive(payout, desk.held[Outcome.YES]) + units.receive(ONE - payout, desk.held[Outcome.NO])
        for outcome in Outcome:
            desk.held[outcome] = desk.locked[outcome] = 0
        return [*events, MarketResolved(market, payout)]

    # ---- inside

    def _later(self, due_ms: int, what: str, thing: object) -> None:
        self._sequence += 1
        heapq.heappush(self._due, (due_ms, self._sequence, what, thing))

    def _current(self, market: int) -> _Desk:
        """Return the desk; when the book began anew, no pool and no queue position stands any more."""
        desk = self._desks[market]
        if desk.epoch != desk.view.epoch:
            desk.epoch = desk.view.epoch
            desk.pools.clear()
            for levels in desk.levels.values():
                for orders in levels.values():
                    for resting in orders:
                        resting.ahead = UNKNOWN_QUEUE
        return desk

    def _accept(self, order: Order, now_ms: int) -> Event:
        desk = self._current(order.market)
        reason = self._refusal(desk, order)
        if reason is not None:
            return OrderRejected(order.key, reason)
        self._reserve(order, order.size)
        price, side = order.yes_price, order.yes_side
        orders = desk.levels[side].setdefault(price, [])
        pool = desk.pools.get((side, price))
        if pool is not None:
            self._settle(desk, pool, orders, now_ms)
        self._turn += 1
        resting = _Resting(order, f"paper-{self._sequence}", order.size, self._queue(desk, side, price), self._turn)
        orders.append(resting)
        self._orders[order.key] = resting
        return OrderAccepted(order.key, resting.order_id)

    def _refusal(self, desk: _Desk, order: Order) -> Rejection | None:
        view = desk.view
        if view.resolved:
            return Rejection.MARKET_CLOSED
        if order.price % view.book.tick:
            return Rejection.TICK
        if order.size < view.market.min_size:
            return Rejection.MIN_SIZE
        at, book = order.yes_price // view.book.tick, view.book
        crosses = at >= book.best_ask if order.yes_side is Side.BUY else at <= book.best_bid
        if crosses:
            return Rejection.POST_ONLY_CROSS
        if order.side is Side.BUY:
            fits = units.pay(order.price, order.size) <= self.cash - self.reserved
        else:
            fits = order.size <= desk.held[order.outcome] - desk.locked[order.outcome]
        return None if fits else Rejection.NOT_ENOUGH_BALANCE

    def _queue(self, desk: _Desk, side: Side, price: int) -> int:
        if self._params.queue_model == "optimistic":
            return 0
        book, bid = desk.view.book, side is Side.BUY
        at = price // book.tick
        if not book.queue_known(bid, at):
            return UNKNOWN_QUEUE
        return max((book.bids if bid else book.asks)[at], 0)

    def _settle(self, desk: _Desk, pool: _Pool, orders: Sequence[_Resting], now_ms: int) -> None:
        """Count decreases that stayed unexplained as cancels, and forget prints whose decrease never came."""
        expired = now_ms - self._params.explain_ms
        while pool.decreases and pool.decreases[0].at_ms < expired:
            gone = pool.decreases.popleft()
            if gone.left < LOT:
                continue
            for resting in orders:
                if resting.turn < gone.turn and resting.ahead > 0:
                    resting.ahead = self._after_cancel(resting.ahead, gone.level + gone.left, gone.level)
        if not desk.view.snapshots_only():
            while pool.prints and pool.prints[0].at_ms < expired:
                pool.prints.popleft()

    def _after_cancel(self, ahead: int, before: int, after: int) -> int:
        shares = ahead_after_cancel(self._params.queue_model, self._params.queue_power, ahead / ONE, before / ONE, after / ONE)
        # A part of a millionth stays ahead of us; the first rounding only takes back the noise of the floats.
        return math.ceil(round(shares * ONE, 3))

    def _eat(self, market: int, side: Side, price: int, size: int, now_ms: int) -> list[Event]:
        desk = self._current(market)
        events: list[Event] = []
        left = size
        levels = desk.levels[side]
        through = [at for at in levels if (at > price if side is Side.BUY else at < price)]
        for at in sorted(through, reverse=side is Side.BUY):
            for resting in list(levels[at]):
                resting.ahead = 0
                left -= self._fill(resting, left, events)
        pool = desk.pools.get((side, price))
        if pool is None:
            pool = desk.pools[side, price] = _Pool()
        orders = levels.get(price, ())
        self._settle(desk, pool, orders, now_ms)
        self._turn += 1
        counted = self._explain(pool, orders, size, now_ms)
        taken = size - left
        for resting, unseen in zip(list(orders), counted, strict=True):
            # `unseen` of the print had left the level before we counted it: it took nothing that stands ahead of us.
            volume = size - unseen - taken
            if volume <= 0 or resting.ahead == UNKNOWN_QUEUE:
                continue
            eaten = min(resting.ahead, volume)
            resting.ahead -= eaten
            taken += self._fill(resting, volume - eaten, events)
        return events

    def _explain(self, pool: _Pool, orders: Sequence[_Resting], size: int, now_ms: int) -> list[int]:
        """Match a print with the decreases it explains; return for each order how much of it went before the order came."""
        before_us = [0] * len(orders)
        left = size
        for decrease in pool.decreases:
            explained = min(left, decrease.left)
            if not explained:
                continue
            decrease.left -= explained
            left -= explained
            for place, resting in enumerate(orders):
                if decrease.turn < resting.turn:
                    before_us[place] += explained
        _drop_spent(pool.decreases)
        if left >= LOT:
            pool.prints.append(_Pending(now_ms, self._turn, left))
        return before_us

    def _fill(self, resting: _Resting, volume: int, events: list[Event]) -> int:
        """Fill an order with up to `volume`; return how much. Thinned on purpose by `fill_probability_override`."""
        size = min(resting.left, volume)
        if size <= 0:
            return 0
        chance = self._params.fill_probability_override
        if chance is not None and self._rng.random() >= chance:
            return 0
        order = resting.order
        self._release(order, resting.left)
        resting.left -= size
        self._reserve(order, resting.left)
        self._trades += 1
        held = self._desks[order.market].held
        if order.side is Side.BUY:
            self.cash -= units.pay(order.price, size)
            held[order.outcome] += size
        else:
            self.cash += units.receive(order.price, size)
            held[order.outcome] -= size
        events.append(FillReported(f"paper-t{self._trades}", order.key, order.price, Shares(size), Usdc(0), final=True))
        if resting.left < LOT:
            events.append(self._gone(order.key, Ending.FILLED))
        return size

    def _reserve(self, order: Order, size: int) -> None:
        if order.side is Side.BUY:
            self.reserved += units.pay(order.price, size)
        else:
            self._desks[order.market].locked[order.outcome] += size

    def _release(self, order: Order, size: int) -> None:
        if order.side is Side.BUY:
            self.reserved -= units.pay(order.price, size)
        else:
            self._desks[order.market].locked[order.outcome] -= size

    def _gone(self, key: str, cause: Ending) -> OrderGone:
        resting = self._orders.pop(key)
        order = resting.order
        self._release(order, resting.left)
        levels = self._desks[order.market].levels[order.yes_side]
        orders = levels[order.yes_price]
        orders.remove(resting)
        if not orders:
            del levels[order.yes_price]
        return OrderGone(key, cause)

    def _cancelled(self, key: str) -> list[Event]:
        # An order that filled or was refused meanwhile has had its last word already.
        return [self._gone(key, Ending.CANCELLED)] if key in self._orders else []

    def _merged(self, market: int, size: Shares) -> list[Event]:
        desk = self._desks[market]
        if desk.view.resolved:
            return []
        for outcome in Outcome:
            desk.held[outcome] -= size
            desk.locked[outcome] -= size
        self.cash += size
        return [Merged(market, size)]


def _drop_spent(pending: deque[_Pending]) -> None:
    while pending and pending[0].left < LOT:
        pending.popleft()
