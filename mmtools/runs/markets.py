"""Markets: the views of a run's markets, kept current row by row, and who is told of what the rows mean.

What a kind of row does to a view, and what follows from it, stands here once: for the engine, for the makers of a bracket
and for calibration. It knows no maker, no journal and no clock of its own.
"""

from collections.abc import Sequence
from typing import Protocol

from mmtools.trading import events as ev
from mmtools.trading.market import Market, Side
from mmtools.trading.signals import MarketView
from mmtools.units import Price
from mmtools.venues.venue import Kind


class Listener(Protocol):
    """Who lives on what the rows mean. Each call comes when the view is current; prices and sides are in YES terms."""

    fills_by_book: bool
    """Whether orders may fill by what the book shows: only then `frame_over` is called."""

    def decreased(self, market: int, bid: bool, price: int, before: int, after: int, now_ms: int) -> None:
        """A level lost size."""

    def book_given(self, market: int) -> None:
        """A full book has come and its decreases are told."""

    def frame_over(self, market: int, now_ms: int) -> None:
        """A frame that changed the book is over, and its decreases are told; what it moved is heard next."""

    def printed(self, market: int, taker: Side, price: int, size: int, now_ms: int) -> None:
        """A taker traded."""

    def resolved(self, market: int, payout: Price, now_ms: int) -> None:
        """The market is over; a share of YES pays `payout`. Said once."""

    def hear(self, event: ev.Event, now_ms: int) -> None:
        """TouchMoved, TickSizeChanged, FeedLost or FeedRestored."""


class Markets:
    """Feed it every row but CLOCK in order; level rows may go to `views` directly, where speed matters."""

    def __init__(self, markets: Sequence[Market], listeners: Sequence[Listener] = ()) -> None:
        self.views = [MarketView(market) for market in markets]
        self.listeners: list[Listener] = list(listeners)
        self._epochs = [view.epoch for view in self.views]

    def row(self, now_ms: int, kind: int, market: int, a: int, b: int) -> None:
        if kind == Kind.END:
            self._frame_over(market, a, b, now_ms)
            return
        view = self.views[market]
        if kind == Kind.BID or kind == Kind.ASK:
            view.level(kind == Kind.BID, a, b, now_ms)
        elif kind == Kind.FRAME:
            view.frame(now_ms)
        elif kind == Kind.SOLD or kind == Kind.BOUGHT:
            taker = Side.BUY if kind == Kind.BOUGHT else Side.SELL
            view.printed(taker, a, b, now_ms)
            for listener in self.listeners:
                listener.printed(market, taker, a, b, now_ms)
        else:
            self._rare(view, kind, market, a, now_ms)

    def _frame_over(self, market: int, stated_bid: int, stated_ask: int, now_ms: int) -> None:
        view = self.views[market]
        was_book = view.reading_book
        moved = view.end(now_ms, stated_bid, stated_ask)
        if view.epoch != self._epochs[market]:
            self._new_epoch(market, now_ms)
        decreases = view.decreases
        for listener in self.listeners:
            for bid, price, before, after in decreases:
                listener.decreased(market, bid, price, before, after, now_ms)
            if was_book:
                listener.book_given(market)
            if listener.fills_by_book:
                listener.frame_over(market, now_ms)
        if decreases:
            decreases.clear()
        if moved:
            self._tell(ev.TouchMoved(market), now_ms)

    def _rare(self, view: MarketView, kind: int, market: int, a: int, now_ms: int) -> None:
        """Rows that come seldom."""
        if kind == Kind.BOOK:
            view.full_book(now_ms)
        elif kind == Kind.TICK:
            if a != view.book.tick:
                view.new_tick(Price(a))
                self._new_epoch(market, now_ms)
        elif kind == Kind.RESOLVED:
            if not view.resolved:  # a feed may say it once for each token
                view.resolved = True
                for listener in self.listeners:
                    listener.resolved(market, Price(a), now_ms)
        elif kind == Kind.LOST:
            view.lost()
            self._epochs[market] = view.epoch
            self._tell(ev.FeedLost(market), now_ms)
        elif kind == Kind.RESTORED:
            view.restored()
            self._tell(ev.FeedRestored(market), now_ms)
        elif kind == Kind.ALIVE:
            view.alive(now_ms)

    def _new_epoch(self, market: int, now_ms: int) -> None:
        view = self.views[market]
        self._epochs[market] = view.epoch
        self._tell(ev.TickSizeChanged(market, view.book.tick, view.inferred_tick), now_ms)

    def _tell(self, event: ev.Event, now_ms: int) -> None:
        for listener in self.listeners:
            listener.hear(event, now_ms)
