"""The book of one market in YES terms, a size for every price of the tick grid. Prices in here are ticks: 47 of 0.01 is 0.47.

A level that no message ever named is UNKNOWN, which is not 0: who rests there does not know the queue before them.
Fed by `signals.MarketView` alone; it does not know time.
"""

from mmtools.trading.market import TICKS, Why
from mmtools.units import ONE, Price, Usdc

UNKNOWN = -1


def finer_tick(tick: Price, price: int) -> Price | None:
    """Return the coarsest tick of the venue that is finer than `tick` and fits both `tick` and `price`; None when none does."""
    return next((t for t in TICKS if t < tick and tick % t == 0 and price % t == 0), None)


class Book:
    """Mutable. `best_bid` is 0 and `best_ask` is `top` when the side is empty; sizes are millionths of shares."""

    __slots__ = ("asks", "best_ask", "best_bid", "bids", "complete", "tick", "top")

    def __init__(self, tick: Price) -> None:
        self.tick = tick
        self.top = ONE // tick
        self.bids = [UNKNOWN] * (self.top + 1)
        self.asks = [UNKNOWN] * (self.top + 1)
        self.best_bid = 0
        self.best_ask = self.top
        self.complete = False
        """Whether a full book was seen since this grid began (or changes for long enough)."""

    def set_bid(self, at: int, size: int) -> int:
        """Set a bid level; return what it held (UNKNOWN when it was never named). `at` must lie within 1 .. top - 1."""
        bids = self.bids
        before = bids[at]
        bids[at] = size
        if size > 0:
            if at > self.best_bid:
                self.best_bid = at
        elif at == self.best_bid:
            while at > 0 and bids[at] <= 0:
                at -= 1
            self.best_bid = at
        return before

    def set_ask(self, at: int, size: int) -> int:
        """Set an ask level; as `set_bid`."""
        asks = self.asks
        before = asks[at]
        asks[at] = size
        if size > 0:
            if at < self.best_ask:
                self.best_ask = at
        elif at == self.best_ask:
            top = self.top
            while at < top and asks[at] <= 0:
                at += 1
            self.best_ask = at
        return before

    def fault(self) -> Why | None:
        """Return why the book cannot be quoted on, or None when it is good: complete, two-sided, neither crossed nor locked."""
        if not self.complete:
            return Why.BOOK_INCOMPLETE
        if self.best_bid == 0 or self.best_ask == self.top:
            return Why.BOOK_EMPTY if self.best_bid == 0 and self.best_ask == self.top else Why.BOOK_ONE_SIDED
        if self.best_bid >= self.best_ask:
            return Why.BOOK_LOCKED if self.best_bid == self.best_ask else Why.BOOK_CROSSED
        return None

    def mid(self) -> Price:
        """Return the middle of the touch; only good books have one. Exact: every tick is an even number of millionths."""
        return Price((self.best_bid + self.best_ask) * self.tick // 2)

    def queue_known(self, bid: bool, at: int) -> bool:
        """Whether the size resting at a price is known: it was named, or it lies inside the touch of a complete book and is therefore 0."""
        return (self.bids if bid else self.asks)[at] != UNKNOWN or (self.complete and self.best_bid < at < self.best_ask)

    def weighted_mid(self) -> float:
        """Return the mid weighted by the opposite size at the touch, in ticks; only for a good book.

        Not the micro-price, which is an estimator fitted to data (Stoikov 2018, doi:10.1080/14697688.2018.1489139).
        """
        bid_size, ask_size = self.bids[self.best_bid], self.asks[self.best_ask]
        return (self.best_bid * ask_size + self.best_ask * bid_size) / (bid_size + ask_size)

    def imbalance(self) -> float | None:
        """Return (bid size - ask size) / (their sum) at the touch, -1 .. 1; None when a side is empty."""
        if self.best_bid == 0 or self.best_ask == self.top:
            return None
        bid_size, ask_size = self.bids[self.best_bid], self.asks[self.best_ask]
        return (bid_size - ask_size) / (bid_size + ask_size)

    def near_touch(self, levels: int) -> tuple[float, float]:
        """Return the sizes of bids and asks over the ticks nearest the touch, a tick's weight half that of the one before."""
        weight, bids, asks = 1.0, 0.0, 0.0
        for behind in range(levels):
            bid, ask = self.best_bid - behind, self.best_ask + behind
            bids += weight * max(self.bids[bid], 0) if bid > 0 else 0.0
            asks += weight * max(self.asks[ask], 0) if ask < self.top else 0.0
            weight /= 2
        return bids, asks

    def deep_imbalance(self, levels: int) -> float | None:
        """Return (bids - asks) / (their sum) of `near_touch`, -1 .. 1; None when a side is empty.

        The touch alone is what others change for nothing; what stands behind it they mean.
        """
        if self.best_bid == 0 or self.best_ask == self.top:
            return None
        bids, asks = self.near_touch(levels)
        return (bids - asks) / (bids + asks)

    def depth(self, bid: bool) -> Usdc:
        """Return the USDC resting on a side: bids at their price, asks at 1 - price (what their NO buyers put up), rounded down."""
        levels = self.bids if bid else self.asks
        total = sum(size * (at if bid else self.top - at) for at, size in enumerate(levels) if size > 0)
        return Usdc(total * self.tick // ONE)

    def proceeds(self, bid: bool, size: int) -> Usdc:
        """Return what selling `size` at once would bring: YES into the bids, or NO into the asks when `bid` is False.

        What finds no level brings nothing.
        """
        levels = self.bids if bid else self.asks
        at, step, left, total = (self.best_bid, -1, size, 0) if bid else (self.best_ask, 1, size, 0)
        while left > 0 and 0 < at < self.top:
            if levels[at] > 0:
                taken = min(left, levels[at])
                total += taken * (at if bid else self.top - at)
                left -= taken
            at += step
        return Usdc(total * self.tick // ONE)
