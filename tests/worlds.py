"""Small worlds that tests of trading and of runs share: markets, views with a given book, and a maker with a venue around it.

Builders only, no checks. Prices are decimal text, sizes plain shares. `World` is for a test that looks after every step;
`engine` with a `ListFeed` for one that looks at what came of it.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from mmtools import units
from mmtools.runs import records
from mmtools.runs.engine import Engine
from mmtools.runs.fold import SCHEMA
from mmtools.runs.journal import MemoryJournal
from mmtools.runs.watcher import Watcher
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.maker import Maker
from mmtools.trading.market import Fill, Market, Order, Outcome, Side, yes_price
from mmtools.trading.paper import PaperExchange
from mmtools.trading.params import Params
from mmtools.trading.signals import MarketView
from mmtools.units import ONE, Price, Shares, Usdc, parse
from mmtools.venues.venue import Kind, Row

_A = TypeVar("_A")

NOON_MS = 1_780_833_600_000
"""2026-06-07T12:00:00Z, far from any midnight."""

Levels = Mapping[str, float]
"""Price to shares: {"0.47": 120}."""
BIDS: Levels = {"0.47": 120, "0.46": 300, "0.45": 50}
ASKS: Levels = {"0.48": 80, "0.49": 200, "0.5": 90}
"""With BIDS a book one tick wide whose mid is 0.475."""


def market(slug: str = "alpha", *, tick: str = "0.01", min_size: float = 5, **facts: Any) -> Market:
    return Market(
        slug=slug, condition_id=f"0x{slug}", yes_token=f"{slug}-yes", no_token=f"{slug}-no",
        tick=Price(parse(tick)), min_size=shares(min_size), **facts,
    )  # fmt: skip


def shares(number: float) -> Shares:
    return Shares(units.of(number))


def usdc(number: float) -> Usdc:
    return Usdc(units.of(number))


def price(text: str) -> Price:
    return Price(parse(text))


def show(view: MarketView, bids: Levels = BIDS, asks: Levels = ASKS, *, at_ms: int = NOON_MS) -> bool:
    """Feed the view a whole book; return whether its touch moved."""
    view.frame(at_ms)
    view.full_book(at_ms)
    for bid, levels in ((True, bids), (False, asks)):
        for at, size in levels.items():
            view.level(bid, parse(at), units.of(size), at_ms)
    return view.end(at_ms, -1, -1)


def view(bids: Levels = BIDS, asks: Levels = ASKS, *, of: Market | None = None, at_ms: int = NOON_MS) -> MarketView:
    seen = MarketView(of or market())
    show(seen, bids, asks, at_ms=at_ms)
    return seen


def order(outcome: Outcome, side: Side, at: str, size: float, *, key: str = "k1", market: int = 0) -> Order:
    return Order(key=key, market=market, outcome=outcome, side=side, price=price(at), size=shares(size))


class World:
    """A maker and a paper exchange on a clock that the test moves. Does what the engine does, one step at a time, without a journal."""

    def __init__(self, *markets: Market, **params: Any) -> None:
        self.params = Params(**params)
        self.views = [MarketView(m) for m in markets or (market(),)]
        self.account = Account(Usdc(units.of(self.params.capital)), len(self.views))
        self.maker = Maker(self.views, self.params, self.account)
        self.exchange = PaperExchange(self.views, self.params, random.Random(self.params.seed))
        self.now_ms = NOON_MS
        self.actions: list[ev.Action] = []
        """Everything that the maker asked for."""
        self.heard: list[ev.Event] = []

    def hear(self, event: ev.Event) -> tuple[ev.Action, ...]:
        """Tell the maker; carry out what it asks for."""
        self.heard.append(event)
        actions = self.maker.on(event, self.now_ms)
        for action in actions:
            self.actions.append(action)
            match action:
                case ev.Place(placed):
                    self.exchange.place(placed, self.now_ms)
                case ev.Cancel(key):
                    self.exchange.cancel(key, self.now_ms)
                case ev.Merge(place, size):
                    self.exchange.merge(place, size, self.now_ms)
        return actions

    def show(self, place: int = 0, bids: Levels = BIDS, asks: Levels = ASKS) -> tuple[ev.Action, ...]:
        """A whole book arrives."""
        seen = self.views[place]
        moved = show(seen, bids, asks, at_ms=self.now_ms)
        for bid, at, before, after in seen.decreases:
            self.exchange.decreased(place, bid, at, before, after, self.now_ms)
        seen.decreases.clear()
        self.exchange.book_given(place)
        for event in self.exchange.frame_over(place):
            self.hear(event)
        return self.hear(ev.TouchMoved(place)) if moved else ()

    def trade(self, taker: Side, at: str, size: float, *, place: int = 0) -> None:
        """A print in YES terms arrives."""
        self.views[place].printed(taker, price(at), shares(size), self.now_ms)
        for event in self.exchange.printed(place, taker, price(at), shares(size), self.now_ms):
            self.hear(event)

    def tick(self) -> tuple[ev.Action, ...]:
        return self.hear(ev.Tick())

    def arrive(self, ms: int = 1_000) -> None:
        """Let time go by and what is on its way arrive; the timer does not ring."""
        until = self.now_ms + ms
        while self.exchange.next_due_ms() <= until:
            self.now_ms = self.exchange.next_due_ms()
            for event in self.exchange.arrive():
                self.hear(event)
        self.now_ms = until

    def own(self, outcome: Outcome, size: float, cost: str, *, place: int = 0) -> None:
        """Have bought stock at a price, before anything rests."""
        bought = Fill(
            trade_id=f"before {place} {outcome} {size} {cost}", order_key="before", market=place, outcome=outcome, side=Side.BUY,
            price=price(cost), size=shares(size), at_ms=self.now_ms, mark=yes_price(outcome, parse(cost)), fee=Usdc(0),
        )  # fmt: skip
        self.account.apply(bought)
        self.exchange.take_over(self.account, trades=0)

    def working(self, place: int = 0) -> dict[tuple[str, str, str], float]:
        """Return what may rest, by token, side and token price."""
        return {named(work.order): work.left / ONE for work in self.maker.desks[place].working.values()}

    def sides(self, place: int = 0) -> set[Side]:
        """Return the sides in YES terms on which something may rest."""
        return {work.order.yes_side for work in self.maker.desks[place].working.values()}


def named(placed: Order) -> tuple[str, str, str]:
    return placed.outcome.value, placed.side.value, units.text(placed.price)


def of_kind(actions: Sequence[ev.Action], kind: type[_A]) -> list[_A]:
    return [action for action in actions if isinstance(action, kind)]


class ListFeed:
    """Rows from a list."""

    name = "recording"
    sha256 = "no recording"

    def __init__(self, markets: Sequence[Market], rows: Sequence[Row]) -> None:
        self.markets = tuple(markets)
        self._rows = rows

    def rows(self) -> Iterator[Row]:
        return iter(self._rows)


def book_rows(at_ms: int, bids: Levels = BIDS, asks: Levels = ASKS, *, place: int = 0) -> list[Row]:
    """Return the rows of a `book` frame."""
    rows: list[Row] = [(at_ms, Kind.FRAME, place, 0, 1), (at_ms, Kind.BOOK, place, 0, 0)]
    rows += [(at_ms, Kind.BID, place, parse(at), units.of(size)) for at, size in bids.items()]
    rows += [(at_ms, Kind.ASK, place, parse(at), units.of(size)) for at, size in asks.items()]
    return [*rows, (at_ms, Kind.END, place, -1, -1)]


def print_rows(at_ms: int, taker: Side, at: str, size: float, *, place: int = 0) -> list[Row]:
    kind = Kind.BOUGHT if taker is Side.BUY else Kind.SOLD
    return [(at_ms, Kind.FRAME, place, 0, 0), (at_ms, kind, place, parse(at), units.of(size))]


class _Told(MemoryJournal):
    keeps = True


def engine(markets: Sequence[Market], rows: Sequence[Row], params: Params, watcher: Watcher | None = None) -> Engine:
    """Return an engine over these rows that makes every record for its watcher, and keeps none."""
    head = {
        "kind": "run",
        "schema": SCHEMA,
        "run_id": "tested",
        "markets": [records.market_record(m) for m in markets],
        "capital": units.text(units.of(params.capital)),
    }
    return Engine(feed=ListFeed(markets, rows), params=params, journal=_Told(), watcher=watcher, head=head)
