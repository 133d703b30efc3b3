"""What the venue pays makers beside the spread: fees it shares out, scores it rewards, and where it pays to stand for that.

Estimates and opinions: nothing in here is booked, the ledger knows only what was received. Everything is in YES terms, so a
bid is BUY YES or SELL NO. Formulas: the venue's docs on fees, maker rebates and liquidity rewards. The in-game multiplier b
of a score is taken as 1, and neither an order's least age nor the least payout of 1 USDC is looked at.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mmtools.trading.book import Book
from mmtools.trading.market import FeeSchedule, RewardTerms, Side
from mmtools.units import ONE, Price, Shares, Usdc

LEAST_FEE = Usdc(10)
"""Fees are rounded to so much, and none that is due is less."""
ONE_SIDED = 3.0
"""c of the docs: what quoting one side only divides a score by."""
ONE_SIDE_WITHIN = (0.10, 0.90)
"""USDC: of mids at which one side alone scores at all."""
SAMPLES_A_DAY = 1440
SECONDS_A_DAY = 86_400
_NOISE = 0.001
"""Of floats, in millionths; as a figure is rounded down, it must not cost a whole one."""


# --- fees and rebates


def taker_fee(fees: FeeSchedule, price: int, size: int) -> Usdc:
    """Return what a taker pays: shares x rate x (p (1 - p)) ^ exponent, to 5 decimals and at least 0.00001, unless the rate is 0."""
    fee = _fee_equivalent(fees, price, size)
    return Usdc(max(LEAST_FEE, round(fee / LEAST_FEE) * LEAST_FEE)) if fee > 0 else Usdc(0)


def rebate_estimate(fees: FeeSchedule, price: int, size: int) -> Usdc | None:
    """Return what a fill of ours should bring of the day's rebates, rounded down; None when the part that makers get is not known.

    The pool is rebate_rate x the fees of all takers, and ours of it is our fee-equivalent / everyone's. Takers pay the
    fee-equivalent of the makers they meet, so where one schedule holds all day everyone's is the fees themselves and cancels:
    ours is rebate_rate x our own fee-equivalent, whatever the others do.
    """
    if fees.rebate_rate is None:
        return None
    return Usdc(math.floor(_fee_equivalent(fees, price, size) * fees.rebate_rate + _NOISE))


def _fee_equivalent(fees: FeeSchedule, price: int, size: int) -> float:
    """Return the fee in millionths of a USDC before it is rounded."""
    return size * fees.rate * math.pow(price * (ONE - price) / ONE**2, fees.exponent)


# --- scores


def score(distance: float, max_spread: float) -> float:
    """Return ((v - s) / v)^2 for an order `distance` from the mid, 0 at or beyond v; both in one unit, whichever."""
    distance = abs(distance)
    return ((max_spread - distance) / max_spread) ** 2 if distance < max_spread else 0.0


def q_min(q_one: float, q_two: float, mid: float) -> float:
    """Return what a maker's bids and asks score together: the lesser side, or a third of the greater where one side may do.

    mid: USDC per share.
    """
    lesser = min(q_one, q_two)
    low, high = ONE_SIDE_WITHIN
    return max(lesser, max(q_one, q_two) / ONE_SIDED) if low <= mid <= high else lesser


def adjusted_mid(book: Book, min_size: int) -> float | None:
    """Return the mid of the best levels that hold at least `min_size`, in ticks; None when a side has none or the book is not good.

    A level shows the sum of its orders, so one of many small orders passes for a large one.
    """
    if book.fault() is not None:
        return None
    least = max(min_size, 1)  # neither an empty level nor an UNKNOWN one is a level
    bid = next((at for at in range(book.best_bid, 0, -1) if book.bids[at] >= least), None)
    ask = next((at for at in range(book.best_ask, book.top) if book.asks[at] >= least), None)
    return None if bid is None or ask is None else (bid + ask) / 2


def book_scores(book: Book, mid: float, terms: RewardTerms) -> tuple[float, float]:
    """Return (Q_one, Q_two): score x shares over the bids, and over the asks, of every level that holds at least the minimum.

    mid: ticks, as `adjusted_mid` gives it.
    """
    least, max_spread = max(terms.min_size, 1), terms.max_spread / book.tick
    nearest, farthest = max(1, math.floor(mid - max_spread)), min(book.top - 1, math.ceil(mid + max_spread))
    reach = range(nearest, farthest + 1)
    q_one, q_two = (
        sum(score(at - mid, max_spread) * levels[at] / ONE for at in reach if levels[at] >= least) for levels in (book.bids, book.asks)
    )
    return q_one, q_two


def least_share(ours: float, q_one: float, q_two: float) -> float:
    """Return our part of a sample, from our Q_min and the scores of everyone else's bids and asks.

    Who else stands behind the levels is not known, but no maker's Q_min is more than half of what both its sides score (the
    lesser side is at most the mean, and a third of the greater too). So the others together have at most (Q_one + Q_two) / 2.
    That is what is taken, and the share is never too high for want of knowing them.
    """
    # as x / (x + others), but it never falls as x grows, not even by a float's last digit
    return 1 / (1 + (q_one + q_two) / 2 / ours) if ours > 0 else 0.0


# --- what we earn


def sample(book: Book, ours: Iterable[tuple[Side, Price, Shares]], terms: RewardTerms) -> float | None:
    """Return our share of one of the day's samples, erring low (see `least_share`); None when the book has no adjusted mid.

    ours: side and price in YES terms, and size left, of each order that rests. The book is the market's without them, and so
    is the mid: a live book that shows ours makes competitors of them, and the share lower still.
    """
    mid = adjusted_mid(book, terms.min_size)
    if mid is None:
        return None
    scored = {Side.BUY: 0.0, Side.SELL: 0.0}
    for side, price, left in ours:
        if left >= terms.min_size:
            scored[side] += score(price - mid * book.tick, terms.max_spread) * left / ONE
    return least_share(q_min(scored[Side.BUY], scored[Side.SELL], mid * book.tick / ONE), *book_scores(book, mid, terms))


def income(share: float, daily_pool: Usdc) -> float:
    """Return the USDC that a share of one sample is worth."""
    return share * daily_pool / ONE / SAMPLES_A_DAY


@dataclass(slots=True)
class RewardEstimate:
    """What one market's samples have come to. Mutable. Unknown, never 0, where the venue named no terms or no pool."""

    terms: RewardTerms | None
    samples: int = 0
    scored: int = 0
    """Samples in which we had a share."""
    usdc_e12: int = 0

    def add(self, share: float | None) -> None:
        """Count a sample; one that could not be judged (None) earns nothing."""
        self.samples += 1
        if not share:
            return
        self.scored += 1
        if self.terms is not None and self.terms.daily_pool is not None:
            self.usdc_e12 += math.floor(income(share, self.terms.daily_pool) * 1e12)

    @property
    def known(self) -> bool:
        return self.terms is not None and self.terms.daily_pool is not None

    @property
    def usdc(self) -> Usdc | None:
        """The sum, rounded down; None when it is not known."""
        return Usdc(self.usdc_e12 // ONE) if self.known else None


# --- where to stand


@dataclass(frozen=True, slots=True)
class Farming:
    """By how many ticks to quote nearer than the model would, on both sides, and why (not)."""

    tighten: float
    reason: str

    def __post_init__(self) -> None:
        if not self.tighten >= 0:
            raise ValueError(f"rewards never widen a quote: {self.tighten}")


def farmed_half_spread(
    *,
    half_spread: float,
    size: int,
    terms: RewardTerms | None,
    tick: Price,
    others: tuple[float, float],
    flow_per_s: float,
    decay_per_tick: float,
    market_half_spread: float,
    adverse_ticks: float | None,
) -> Farming:
    """Return where, at most `half_spread` ticks from the mid, rewards R and trading T together earn most; never farther out.

    R(h) = pool per second x our share with both sides resting at h. T(h) = 2 F exp(-k max(0, h - t)) (h - a) tick: takers of
    a side trade F shares a second (`flow_per_s`) up to the market's own half-spread t, fewer by k per tick beyond it, and each
    costs a ticks. When a was not measured it is t: the market's spread pays for what its takers know and leaves no profit
    (Glosten & Milgrom 1985, doi:10.1016/0304-405X(85)90044-3).

    others: `book_scores` without ours. Looked at are `half_spread` itself and every half tick below it that scores. The mid is
    no input, because two sides of one size and distance score the same at every mid.
    """
    if terms is None:
        return Farming(0.0, "no terms")
    if terms.daily_pool is None:
        return Farming(0.0, "pool unknown")
    if terms.daily_pool <= 0:
        return Farming(0.0, "pool empty")
    if size < terms.min_size:
        return Farming(0.0, "size below the rewards' minimum")
    max_spread = terms.max_spread / tick
    pool_per_s = terms.daily_pool / ONE / SECONDS_A_DAY
    cost = market_half_spread if adverse_ticks is None else adverse_ticks

    def shared(h: float) -> float:
        return least_share(score(h, max_spread) * size / ONE, *others)

    def traded(h: float) -> float:
        fills_per_s = 2 * flow_per_s * math.exp(-decay_per_tick * max(0.0, h - market_half_spread))
        return fills_per_s * (h - cost) * tick / ONE

    def gain(to: float, instead_of: float) -> float:
        # by differences: next to a large pool a sum would lose what trading differs by
        return pool_per_s * (shared(to) - shared(instead_of)) + (traded(to) - traded(instead_of))

    best = half_spread
    for halves in range(math.ceil(min(half_spread, max_spread) * 2) - 1, 0, -1):
        if gain(halves / 2, best) > 0:
            best = halves / 2
    if best == half_spread:
        return Farming(0.0, "already in the best place")
    return Farming(half_spread - best, f"pays {gain(best, half_spread):.3g} USDC/s more")
