"""MarketView: one market's book and accumulators, fed row by row by the engine; all that a maker reads of the market.

Pure and mutable; it keeps no row. Volatility is per square root of time, never per update: the same diffusion gives the
same figure however often the feed speaks. What is not yet known is None.
"""

import math
from bisect import bisect_right, insort
from collections import deque

from mmtools.trading.accumulators import Decayed, Variance
from mmtools.trading.book import UNKNOWN, Book, finer_tick
from mmtools.trading.market import Market, Side, Why
from mmtools.trading.microprice import MicroPrice
from mmtools.units import ONE, Price, text

BOOK_BY_CHANGES_MS = 60_000
"""A feed without `book` frames counts as a book after so long a time of changes."""
MOMENTUM_MS = 20_000
VOLATILITY_S = 60.0
LONG_VOLATILITY_S = 600.0
FLOW_S = 60.0
SWEEP_MS = 1_000
"""Prints this close together are one sweep; moves of the mid this close together one jump."""
SLOW_BOOKS_MS = 2 * SWEEP_MS
DEEP_LEVELS = 5
LOOK_EVERY_MS = 1_000
"""How often the micro-price looks at the touch."""
INTERVALS_KEPT = 101


Decrease = tuple[bool, int, int, int]
"""(bid side, price in millionths, size before, size after) of a level that lost size."""


class MarketView:
    """What is known of one market now. The engine calls the feeding methods; everyone else reads."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.book = Book(market.tick)
        self.fault: Why | None = Why.BOOK_INCOMPLETE
        self.mark: Price | None = None
        """The mid of the last good book."""
        self.resolved = False
        self.connected = True
        """False from a lost feed until a fresh book has come."""
        self.epoch = 0
        """Counts grids: a new tick or a lost feed begins a new one, and no queue position survives it."""
        self.inferred_tick = False
        """Whether the present grid was inferred from a price that did not fit the one before."""
        self.decreases: list[Decrease] = []
        """Levels that lost size in the frame at hand; the engine empties it at the frame's end."""
        self.last_frame_ms: int | None = None
        self.refused: dict[str, int] = {}
        """`book` frames of the YES token that were crossed, locked, one_sided or empty, counted by that name."""
        self.off_grid = 0
        self._stated = (-1, -1)
        """The touch that the last frame stated."""
        self._touch_stated = 0
        self._touch_agreed = 0
        self._touch_unseen = False
        self._changes_seen = False
        self._epoch_began_ms: int | None = None
        self._last_book_ms: int | None = None
        self._intervals: list[int] = []
        self._intervals_by_age: deque[int] = deque()
        self._alive_ms = 0
        self._full: Book | None = None
        self.reading_book = False
        """Whether the rows at hand belong to a full book."""
        self._touch: tuple[int, int, Why | None] = (0, self.book.top, self.fault)
        self._mids: deque[tuple[int, int]] = deque()
        self._variance = Variance(VOLATILITY_S)
        self._long_variance = Variance(LONG_VOLATILITY_S)
        self._bought = Decayed(FLOW_S)
        self._sold = Decayed(FLOW_S)
        self._prints = Decayed(FLOW_S)
        self._began_ms: int | None = None
        self._swept: deque[tuple[int, int]] = deque()
        """Time and price of the prints of the last second; the price is negative when a taker sold."""
        self._micro = MicroPrice()
        self.next_look_ms = 0
        """The first frame from then on is looked at for the micro-price."""
        self._usual: float | None = None
        self._usual_next: float | None = None
        """Long variances per second as of the last look but one, and of the last."""
        self.moved_ms = 0
        """When the mark became what it is."""
        self.printed_ms = 0
        """When a taker last traded."""

    # ---- fed by the engine, in the order of the rows

    def frame(self, now_ms: int) -> None:
        """A frame of this market begins: it is alive."""
        self.last_frame_ms = now_ms
        if now_ms >= self.next_look_ms:
            self._look(now_ms)

    def level(self, bid: bool, price: int, size: int, now_ms: int) -> None:
        """A level holds `size` now. A price off the grid means that the tick got finer: a new epoch begins."""
        book = self._full or self.book
        tick = book.tick
        at = price // tick
        if at * tick != price:
            if not self._refine(price):
                self.off_grid += 1
                return
            book = self._full or self.book
            at = price // book.tick
        if not 0 < at < book.top:
            return
        before = book.set_bid(at, size) if bid else book.set_ask(at, size)
        if self._full is None:
            if self._epoch_began_ms is None:
                self._epoch_began_ms = now_ms
            self._changes_seen = True
            if size < before:
                self.decreases.append((bid, price, before, size))

    def full_book(self, now_ms: int) -> None:
        """The rows up to the frame's end are the whole book."""
        self._full, self.reading_book = Book(self.book.tick), True
        if self._last_book_ms is not None:
            self._note_interval(now_ms - self._last_book_ms)
        self._last_book_ms = now_ms

    def end(self, now_ms: int, stated_bid: int, stated_ask: int) -> bool:
        """The frame is over: replace or trim the book. Return whether the touch or the book's fault is another than before."""
        book, self._stated = self.book, (stated_bid, stated_ask)
        if self.fault is None and self._full is None and self._touch[0] == book.best_bid and self._touch[1] == book.best_ask:
            tick = book.tick
            if stated_bid == book.best_bid * tick and stated_ask == book.best_ask * tick:
                self._touch_stated += 1  # nearly all frames: nothing is other than it was
                self._touch_agreed += 1
                return False
        if self._full is not None:
            self._replace(self._full)
            self._full, self.reading_book = None, False
        elif stated_bid >= 0 or stated_ask >= 0:
            self._trim(stated_bid, stated_ask)
        book = self.book
        if not book.complete and self._epoch_began_ms is not None and now_ms - self._epoch_began_ms >= BOOK_BY_CHANGES_MS:
            book.complete = True
        self.fault = Why.BOOK_INCOMPLETE if self._touch_unseen else book.fault()
        touch = (book.best_bid, book.best_ask, self.fault)
        if touch == self._touch:
            return False
        self._touch = touch
        if self.fault is None:
            self._mid_is(book.mid(), now_ms)
        return True

    def is_calm(self) -> bool:
        """Whether a frame of one level behind the touch, stating the same touch again, changes that level alone.

        What it does to the level is then for the caller to do, on the book; `calm_frames` tells the rest.
        """
        book = self.book
        if self.fault is not None or self._full is not None or not self._changes_seen or self._epoch_began_ms is None:
            return False
        return self._stated in ((book.best_bid * book.tick, book.best_ask * book.tick), (-1, -1))

    def calm_frames(self, count: int, last_ms: int) -> None:
        """So many frames of one level behind a calm touch have been, the last one then."""
        self.last_frame_ms = last_ms
        if self._stated != (-1, -1):
            self._touch_stated += count
            self._touch_agreed += count

    def printed(self, taker: Side, price: int, size: int, now_ms: int) -> None:
        """A taker bought or sold, in YES terms."""
        (self._bought if taker is Side.BUY else self._sold).add(size / ONE, now_ms)
        self._prints.add(1.0, now_ms)
        self.printed_ms = now_ms
        self._swept.append((now_ms, taker.sign * price))
        while self._swept[0][0] <= now_ms - SWEEP_MS:
            self._swept.popleft()

    def new_tick(self, tick: Price, *, inferred: bool = False) -> None:
        """The grid changed: nothing of the old book stands."""
        self._begin_epoch(tick)
        self.inferred_tick = inferred

    def lost(self) -> None:
        """The feed of this market is gone: the book is dropped until a new one comes."""
        self._begin_epoch(self.book.tick)
        self._last_book_ms = None  # the time without a feed is no interval between books
        self.connected = False

    def restored(self) -> None:
        """A fresh book has come after the feed was lost."""
        self.connected = True

    # ---- read by the engine and the maker

    def silent_ms(self, now_ms: int) -> int | None:
        """Return for how long nothing renewed the book: no frame, or no `book` on a feed of snapshots only; None before the first."""
        last = self.last_frame_ms if self._changes_seen or self._last_book_ms is None else max(self._last_book_ms, self._alive_ms)
        return None if last is None else now_ms - last

    def alive(self, now_ms: int) -> None:
        """The silence of this market is known to be real."""
        self.last_frame_ms = self._alive_ms = now_ms

    def gap_limit_ms(self, max_gap_ms: int) -> int:
        """Return how long a silence may be: on a feed of snapshots only, up to three times the median time between books of one token."""
        if self._changes_seen or not self._intervals:
            return max_gap_ms
        return max(max_gap_ms, 3 * self._book_interval_ms())

    def in_gap(self, now_ms: int, max_gap_ms: int) -> bool:
        """Whether the feed is lost or has been silent for too long; a market that never spoke has no gap yet, only no book."""
        if not self.connected:
            return True
        silent_ms = self.silent_ms(now_ms)
        return silent_ms is not None and silent_ms > max_gap_ms and silent_ms > self.gap_limit_ms(max_gap_ms)

    def snapshots_only(self) -> bool:
        """Whether this market has spoken in `book` frames and prints alone."""
        return not self._changes_seen

    def volatility(self, now_ms: int) -> float | None:
        """Return the standard deviation of the mid over the last minute or so, in ticks per square root of a second."""
        return self._ticks(self._variance.per_s(now_ms))

    def long_volatility(self, now_ms: int) -> float | None:
        """As `volatility`, over the last ten minutes or so."""
        return self._ticks(self._long_variance.per_s(now_ms))

    @property
    def usual_volatility(self) -> float | None:
        """The long volatility as of a second or two ago: what a jump of the last second is held against, and is no part of."""
        return self._ticks(self._usual)

    def momentum(self, now_ms: int) -> Price | None:
        """Return by how much the mid is above that of 20 s ago, in millionths; None when the history is shorter."""
        if self.mark is None or not self._mids or self._mids[0][0] > now_ms - MOMENTUM_MS:
            return None
        then = bisect_right(self._mids, (now_ms - MOMENTUM_MS, ONE)) - 1
        return Price(self.mark - self._mids[then][1])

    def jump(self, now_ms: int) -> float:
        """Return the largest distance of the mid of the last good book from where it stood within the last second, in ticks.

        0 where nobody looks that often: between two books a minute apart, or while the feed was lost, the mid may have walked.
        """
        if not self._mids or self._mids[-1][0] <= now_ms - SWEEP_MS:
            return 0.0
        farthest = 0
        if self.mark is not None and not (self.snapshots_only() and self._book_interval_ms() > SLOW_BOOKS_MS):
            # The newest mid is the mark; each one held until the next came, so the first that is too old still held within the second.
            for at_ms, mid in reversed(self._mids):
                farthest = max(farthest, abs(self.mark - mid))
                if at_ms <= now_ms - SWEEP_MS:
                    break
        return farthest / self.book.tick

    def sweep(self, now_ms: int) -> int:
        """Return at how many prices takers of one side traded within the last second."""
        if not self._swept or self._swept[-1][0] <= now_ms - SWEEP_MS:
            return 0
        prices = {price for at_ms, price in self._swept if at_ms > now_ms - SWEEP_MS}
        bought = sum(price > 0 for price in prices)
        return max(bought, len(prices) - bought)

    def trade_intensity(self, now_ms: int) -> float | None:
        """Return the prints a second, of the last minute or so; None before the first frame."""
        return None if self._began_ms is None else self._per_s(self._prints.read(now_ms), now_ms)

    def flow(self, now_ms: int) -> float:
        """Return the shares a second that takers trade on either side on average, of the last minute or so; 0 before the first frame."""
        return self._per_s((self._bought.read(now_ms) + self._sold.read(now_ms)) / 2, now_ms)

    def micro_price(self) -> float | None:
        """Return the micro-price in ticks; None for a bad book, and while the market's past is too short for an estimate."""
        imbalance = None if self.fault is not None else self.book.imbalance()
        if imbalance is None:
            return None
        book = self.book
        above = self._micro.above_mid(imbalance, book.best_ask - book.best_bid)
        return None if above is None else (book.best_bid + book.best_ask) / 2 + above

    def order_flow_imbalance(self, now_ms: int) -> float | None:
        """Return (bought - sold) / (their sum) of the shares that takers traded in the last minute or so; None without prints."""
        bought, sold = self._bought.read(now_ms), self._sold.read(now_ms)
        return (bought - sold) / (bought + sold) if bought + sold > 1e-9 else None

    def data_quality(self) -> float | None:
        """Return the part of frames whose stated touch was that of our trimmed book; None when none stated one."""
        return self._touch_agreed / self._touch_stated if self._touch_stated else None

    # ---- inside

    def _ticks(self, variance_per_s: float | None) -> float | None:
        return None if variance_per_s is None else math.sqrt(variance_per_s) / self.book.tick

    def _per_s(self, faded: float, now_ms: int) -> float:
        """Return a sum that fades within `FLOW_S` as a rate, corrected for the time before the first frame."""
        if self._began_ms is None:
            return 0.0
        return faded / max(FLOW_S * -math.expm1((self._began_ms - now_ms) / (FLOW_S * 1000)), 1.0)

    def _look(self, now_ms: int) -> None:
        """Once a second: remember the usual volatility, and show the micro-price the touch that held until now."""
        self.next_look_ms = now_ms + LOOK_EVERY_MS
        if self._began_ms is None:
            self._began_ms = now_ms
        self._usual, self._usual_next = self._usual_next, self._long_variance.per_s(now_ms)
        imbalance = None if self.fault is not None else self.book.imbalance()
        if imbalance is not None:
            book = self.book
            self._micro.observe(imbalance, book.best_ask - book.best_bid, (book.best_bid + book.best_ask) / 2, now_ms)

    def _book_interval_ms(self) -> int:
        """Return the median time between books; a very long one before there are two."""
        return self._intervals[len(self._intervals) // 2] if self._intervals else 1 << 40

    def _mid_is(self, mid: Price, now_ms: int) -> None:
        if mid == self.mark and self._mids:
            return
        self.mark, self.moved_ms = mid, now_ms
        self._variance.moved(mid, now_ms)
        self._long_variance.moved(mid, now_ms)
        self._mids.append((now_ms, mid))
        while len(self._mids) > 1 and self._mids[1][0] <= now_ms - MOMENTUM_MS:
            self._mids.popleft()

    def _refine(self, price: int) -> bool:
        tick = finer_tick(self.book.tick, price)
        if tick is None:
            return False
        full = self._full
        self.new_tick(tick, inferred=True)
        if full is not None:
            self._full, self.reading_book = _on_grid(full, tick), True
        return True

    def _begin_epoch(self, tick: Price) -> None:
        if tick != self.book.tick:
            self._micro = MicroPrice()  # what it learned was in ticks of the old grid
        self.book = Book(tick)
        self.fault = Why.BOOK_INCOMPLETE
        self._touch = (0, self.book.top, self.fault)
        self.epoch += 1
        self._epoch_began_ms = None
        self._full, self.reading_book = None, False
        self._touch_unseen = False
        self.decreases.clear()
        self._mids.clear()  # until there is a book again nobody knows where the mid stood

    def _replace(self, full: Book) -> None:
        tick = full.tick
        for bid, old, new in ((True, self.book.bids, full.bids), (False, self.book.asks, full.asks)):
            for at, size in enumerate(new):
                if size == UNKNOWN:
                    new[at] = size = 0
                if size < old[at]:
                    self.decreases.append((bid, at * tick, old[at], size))
        full.complete = True
        self.book = full
        self._touch_unseen = False
        fault = full.fault()
        if fault is not None:
            name = {Why.BOOK_CROSSED: "crossed", Why.BOOK_LOCKED: "locked", Why.BOOK_EMPTY: "empty"}.get(fault, "one_sided")
            self.refused[name] = self.refused.get(name, 0) + 1

    def _trim(self, stated_bid: int, stated_ask: int) -> None:
        """Drop what lies beyond the stated touch: levels whose removal the feed never sent. They are decreases to 0.

        A stated touch that is better than ours is a level we never saw; what lies before it is not empty but unknown.
        """
        book, tick = self.book, self.book.tick
        if stated_bid == book.best_bid * tick and stated_ask == book.best_ask * tick:
            self._touch_unseen = False
            self._touch_stated += 1
            self._touch_agreed += 1
            return
        for stated in (stated_bid, stated_ask):
            if stated >= 0 and stated % self.book.tick and not self._refine(stated):
                self.off_grid += 1
                return
        book, tick = self.book, self.book.tick
        if stated_bid >= 0:
            while book.best_bid * tick > stated_bid:
                at = book.best_bid
                self.decreases.append((True, at * tick, book.set_bid(at, 0), 0))
        if stated_ask >= 0:
            while book.best_ask < book.top and book.best_ask * tick < stated_ask:
                at = book.best_ask
                self.decreases.append((False, at * tick, book.set_ask(at, 0), 0))
        self._touch_unseen = stated_bid > book.best_bid * tick or 0 <= stated_ask < book.best_ask * tick
        self._touch_stated += 1
        self._touch_agreed += not self._touch_unseen

    def _note_interval(self, interval_ms: int) -> None:
        insort(self._intervals, interval_ms)
        self._intervals_by_age.append(interval_ms)
        if len(self._intervals_by_age) > INTERVALS_KEPT:
            self._intervals.remove(self._intervals_by_age.popleft())

    def __repr__(self) -> str:
        bid, ask = self.book.best_bid * self.book.tick, self.book.best_ask * self.book.tick
        return f"<{self.market.slug} {text(bid)}/{text(ask)} {self.fault or 'good'}>"


def _on_grid(book: Book, tick: Price) -> Book:
    """Return the levels of a book on a finer grid."""
    finer = Book(tick)
    ratio = book.tick // tick
    for at, size in enumerate(book.bids):
        if size > 0:
            finer.set_bid(at * ratio, size)
    for at, size in enumerate(book.asks):
        if size > 0:
            finer.set_ask(at * ratio, size)
    return finer
