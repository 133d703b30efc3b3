"""PaperExchange: a venue on paper. Orders arrive late, queue behind what rests, and fill only from real prints.

Who feeds it: the engine, with every level that lost size, every print, and the time. What comes out are the venue's
events. It keeps what is on its way, what rests, and our money and shares; what stands ahead of an order is `queue`'s.
docs/fills.md tells the rules and what they assume.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from mmtools import units
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.market import Order, Outcome, Side
from mmtools.trading.params import Params
from mmtools.trading.queue import UNKNOWN_QUEUE, Model, Pool, Queued
from mmtools.trading.signals import MarketView
from mmtools.units import LOT, ONE, Price, Shares, Usdc

NEVER = 1 << 62


@dataclass(slots=True, eq=False)
class _Resting(Queued):
    order: Order
    left: int


class _Desk:
    """One market of the exchange: our orders by side and price, first come first, the pools, what we hold."""

    def __init__(self, view: MarketView) -> None:
        self.view = view
        self.epoch = view.epoch
        self.levels: dict[Side, dict[int, list[_Resting]]] = {Side.BUY: {}, Side.SELL: {}}
        self.pools: dict[Side, dict[int, Pool]] = {Side.BUY: {}, Side.SELL: {}}
        self.held: dict[Outcome, int] = {Outcome.YES: 0, Outcome.NO: 0}
        self.locked: dict[Outcome, int] = {Outcome.YES: 0, Outcome.NO: 0}


class PaperExchange:
    """A venue with its own account of us: it refuses what a real one would refuse."""

    def __init__(self, views: Sequence[MarketView], params: Params, rng: random.Random) -> None:
        self.cash = units.of(params.capital)
        self.reserved = 0
        """What resting buys would cost. A partial fill may round up by a millionth, as in the ledger, so cash can fall short by as much."""
        self._desks = [_Desk(view) for view in views]
        self._params = params
        self._model = Model(params.queue_model, params.queue_power)
        self._naive = params.queue_model in ("never", "touch")
        """Prints mean nothing to these."""
        self._rng = rng
        self._due: list[tuple[int, int, ev.Place | ev.Cancel | ev.Merge]] = []
        self._sent = 0
        self._turn = 0
        self._orders: dict[str, _Resting] = {}
        self._trades = 0

    # ---- what the maker asks for

    def place(self, order: Order, now_ms: int) -> None:
        """The order is on its way."""
        self._send(ev.Place(order), now_ms + self._params.latency_ms)

    def cancel(self, key: str, now_ms: int) -> None:
        """The wish to cancel is on its way; until it arrives the order can fill."""
        self._send(ev.Cancel(key), now_ms + self._params.latency_ms)

    def merge(self, market: int, size: Shares, now_ms: int) -> None:
        """Pairs are on their way through the chain; they can be neither sold nor merged again meanwhile. ValueError without them."""
        desk = self._desks[market]
        for outcome in Outcome:
            if desk.held[outcome] - desk.locked[outcome] < size:
                raise ValueError(f"cannot merge {units.text(size)} pairs of {desk.view.market.slug}: {outcome} is short")
        for outcome in Outcome:
            desk.locked[outcome] += size
        self._send(ev.Merge(market, size), now_ms + self._params.merge_latency_ms)

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

    def arrive(self) -> list[ev.Event]:
        """Let the next thing on its way arrive; return what the venue says to it."""
        match heapq.heappop(self._due)[2]:
            case ev.Place(order):
                return [self._accept(order)]
            case ev.Cancel(key):
                # An order that filled or was refused meanwhile has had its last word already.
                return [self._gone(key, ev.Ending.CANCELLED)] if key in self._orders else []
            case ev.Merge(market, size):
                return self._merged(market, size)

    def close(self) -> list[ev.Event]:
        """The run stops: resting orders are cancelled, those still on their way are unknown. Merges go on."""
        events: list[ev.Event] = [self._gone(key, ev.Ending.CANCELLED) for key in list(self._orders)]
        on_their_way = (action for _, _, action in sorted(self._due) if isinstance(action, ev.Place))
        events += [ev.OrderGone(action.order.key, ev.Ending.UNKNOWN) for action in on_their_way]
        self._due = [due for due in self._due if isinstance(due[2], ev.Merge)]
        heapq.heapify(self._due)
        return events

    # ---- the market

    def decreased(self, market: int, bid: bool, price: int, before: int, after: int, now_ms: int) -> None:
        """A level lost size. Nothing fills by it; what no print explains was a cancel, and those behind it move up."""
        desk, side = self._desks[market], Side.BUY if bid else Side.SELL
        if desk.epoch != desk.view.epoch:
            self._current(market)
        self._turn += 1
        pool = desk.pools[side].get(price) or self._pool(desk, side, price)
        pool.decreased(desk.levels[side].get(price, ()), before, after, self._turn, now_ms, snapshots=desk.view.snapshots_only())

    def printed(self, market: int, taker: Side, price: int, size: int, now_ms: int) -> list[ev.Event]:
        """A taker traded `size` at `price` in YES terms: it eats the queue of our level, then us; a print through us fills us."""
        if self._naive:
            return []
        stated = self._params.trade_side
        if stated == "unknown":
            return self._eat(market, Side.BUY, price, size, now_ms) + self._eat(market, Side.SELL, price, size, now_ms)
        maker = taker.opposite if stated == "stated" else taker
        return self._eat(market, maker, price, size, now_ms)

    def book_given(self, market: int) -> None:
        """A full book has come and its decreases are told."""
        desk = self._current(market)
        if desk.view.snapshots_only():
            for pools in desk.pools.values():
                for pool in pools.values():
                    pool.book_given()

    @property
    def fills_by_book(self) -> bool:
        """Whether `frame_over` may fill anything."""
        return self._params.queue_model == "touch"

    def frame_over(self, market: int) -> list[ev.Event]:
        """Fill what stands at the touch if the queue model is `touch`, which believes in such fills; nothing otherwise."""
        if not self.fills_by_book:
            return []
        desk = self._current(market)
        book = desk.view.book
        events: list[ev.Event] = []
        if desk.view.fault is None:
            for side, best in ((Side.BUY, book.best_bid), (Side.SELL, book.best_ask)):
                there = [orders for price, orders in desk.levels[side].items() if (price - best * book.tick) * side.sign >= 0]
                for resting in list(chain.from_iterable(there)):
                    self._fill(resting, resting.left, events)
        return events

    def resolve(self, market: int, payout: Price) -> list[ev.Event]:
        """The market is over: open orders are cancelled, shares are paid."""
        desk = self._current(market)
        ours = [key for key, resting in self._orders.items() if resting.order.market == market]
        events: list[ev.Event] = [self._gone(key, ev.Ending.RESOLVED) for key in ours]
        self.cash += (desk.held[Outcome.YES] * payout + desk.held[Outcome.NO] * (ONE - payout)) // ONE
        for outcome in Outcome:
            desk.held[outcome] = desk.locked[outcome] = 0
        return [*events, ev.MarketResolved(market, payout)]

    # ---- inside

    def _send(self, action: ev.Place | ev.Cancel | ev.Merge, due_ms: int) -> None:
        self._sent += 1
        heapq.heappush(self._due, (due_ms, self._sent, action))

    def _current(self, market: int) -> _Desk:
        """Return the desk; when the book began anew, no pool and no queue position stands any more."""
        desk = self._desks[market]
        if desk.epoch != desk.view.epoch:
            desk.epoch = desk.view.epoch
            for pools in desk.pools.values():
                pools.clear()
            for levels in desk.levels.values():
                for orders in levels.values():
                    for resting in orders:
                        resting.ahead = 0 if self._model.always_first else UNKNOWN_QUEUE
        return desk

    def _pool(self, desk: _Desk, side: Side, price: int) -> Pool:
        pool = desk.pools[side].get(price)
        if pool is None:
            pool = desk.pools[side][price] = Pool(self._params.explain_ms)
        return pool

    def _accept(self, order: Order) -> ev.Event:
        desk = self._current(order.market)
        reason = self._refusal(desk, order)
        if reason is not None:
            return ev.OrderRejected(order.key, reason)
        self._reserve(order, order.size)
        price, side = order.yes_price, order.yes_side
        self._turn += 1
        resting = _Resting(self._model, self._model.ahead_at_arrival(desk.view.book, side, price), self._turn, order, order.size)
        desk.levels[side].setdefault(price, []).append(resting)
        self._orders[order.key] = resting
        return ev.OrderAccepted(order.key, f"paper-{order.key}")

    def _refusal(self, desk: _Desk, order: Order) -> ev.Rejection | None:
        view, book = desk.view, desk.view.book
        if view.resolved:
            return ev.Rejection.MARKET_CLOSED
        if order.price % book.tick:
            return ev.Rejection.TICK
        if order.size < view.market.min_size:
            return ev.Rejection.MIN_SIZE
        at = order.yes_price // book.tick
        crosses = at >= book.best_ask if order.yes_side is Side.BUY else at <= book.best_bid
        if crosses:
            return ev.Rejection.POST_ONLY_CROSS
        if order.side is Side.BUY:
            fits = units.pay(order.price, order.size) <= self.cash - self.reserved
        else:
            fits = order.size <= desk.held[order.outcome] - desk.locked[order.outcome]
        return None if fits else ev.Rejection.NOT_ENOUGH_BALANCE

    def _eat(self, market: int, side: Side, price: int, size: int, now_ms: int) -> list[ev.Event]:
        """Let a print reach our orders of one side, best price first; a share of it fills one order at most."""
        desk = self._current(market)
        levels = desk.levels[side]
        here = levels.get(price, [])
        better = sorted((at for at in levels if (at - price) * side.sign > 0), reverse=side is Side.BUY)
        through = [resting for at in better for resting in levels[at]]
        self._turn += 1
        shown = self._pool(desk, side, price).printed(here, size, self._turn, now_ms, snapshots=desk.view.snapshots_only())
        events: list[ev.Event] = []
        taken = 0
        for resting in [*through, *here]:
            left = resting.reached(size, shown, through=resting.order.yes_price != price, taken=taken)
            taken += self._fill(resting, left, events)
        return events

    def _fill(self, resting: _Resting, volume: int, events: list[ev.Event]) -> int:
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
        events.append(ev.FillReported(f"paper-t{self._trades}", order.key, order.price, Shares(size), Usdc(0), final=True))
        if resting.left < LOT:
            events.append(self._gone(order.key, ev.Ending.FILLED))
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

    def _gone(self, key: str, cause: ev.Ending) -> ev.OrderGone:
        resting = self._orders.pop(key)
        order = resting.order
        self._release(order, resting.left)
        levels = self._desks[order.market].levels[order.yes_side]
        orders = levels[order.yes_price]
        orders.remove(resting)
        if not orders:
            del levels[order.yes_price]
        return ev.OrderGone(key, cause)

    def _merged(self, market: int, size: Shares) -> list[ev.Event]:
        desk = self._desks[market]
        if desk.view.resolved:
            return []
        for outcome in Outcome:
            desk.held[outcome] -= size
            desk.locked[outcome] -= size
        self.cash += size
        return [ev.Merged(market, size)]
