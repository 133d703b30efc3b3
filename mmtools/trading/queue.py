"""Where an order of ours stands at its price: what decreases of the level and prints tell of the shares ahead of it.

Shares, turns and times only: no orders, no money, no latency. Called by `paper`, and by `lab.calibrate` for orders that
nobody sent. A decrease and the print that
caused it come apart (on this feed the decrease is usually first), so a `Pool` keeps each until the other has come; a
decrease that no print explains in time was a cancel, and the queue model says how much of it stood ahead of us.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmtools.trading.book import Book
from mmtools.trading.market import Side
from mmtools.trading.params import QueueModel
from mmtools.units import LOT, ONE

UNKNOWN_QUEUE = -1
"""Ahead of an order whose level was never seen: prints at its price do not reach it, only prints through it."""
MOST_WAITING = 1_000
"""Prints of one price that wait for a book."""


@dataclass(frozen=True, slots=True)
class Model:
    """How much of what left a level by cancels stood ahead of us: a queue model and the exponent of the power ones."""

    name: QueueModel
    power: float = 1.0

    @property
    def always_first(self) -> bool:
        return self.name == "optimistic"

    def ahead_at_arrival(self, book: Book, side: Side, price: int) -> int:
        """Return what stands ahead of an order that arrives now at a price in YES terms: all that rests there, or UNKNOWN_QUEUE."""
        if self.always_first:
            return 0
        bid, at = side is Side.BUY, price // book.tick
        if not book.queue_known(bid, at):
            return UNKNOWN_QUEUE
        return max((book.bids if bid else book.asks)[at], 0)

    def ahead_after_cancel(self, ahead: int, before: int, after: int) -> int:
        """As the function `ahead_after_cancel`, in millionths of shares."""
        shares = ahead_after_cancel(self.name, self.power, ahead / ONE, before / ONE, after / ONE)
        # A part of a millionth stays ahead of us; the first rounding only takes back the noise of the floats.
        return math.ceil(round(shares * ONE, 3))


@dataclass(slots=True)
class Queued:
    """An order's place in the queue of its level, as a model sees it. Mutable; the market moves it forward, never back."""

    model: Model
    ahead: int
    """Millionths of shares, or UNKNOWN_QUEUE."""
    turn: int
    """When it arrived, among the turns of decreases and prints: what had left the level by then was never ahead of it."""

    def reached(self, size: int, shown: Sequence[tuple[int, int]], *, through: bool, taken: int = 0) -> int:
        """Let a print of `size` come to this order; return how much of it is left for the order when it has eaten what stands ahead.

        shown: the decreases that had shown the print before, as (turn, shares). through: it traded at a worse price than ours.
        taken: what of it others of our orders have had.
        """
        # What had left the book before the order came was traded before it came: it fills nothing and eats nothing ahead.
        earlier = sum(shares for turn, shares in shown if turn < self.turn)
        if earlier and size - earlier < LOT:
            return 0
        if through:
            self.ahead = 0
        if self.ahead == UNKNOWN_QUEUE:
            return 0
        volume = max(size - earlier - taken, 0)
        eaten = min(self.ahead, volume)
        self.ahead -= eaten
        return volume - eaten


_Waiting = list[int]
"""A decrease that no print has explained yet: [at_ms, turn, shares left, size of the level after it]; or a print that no decrease
has shown yet: [at_ms, turn, shares left]. Plain lists, for there is one for nearly every row of a feed."""


class Pool:
    """The decreases and prints of one price of one side that wait for each other.

    ours: the places of our orders at this price. turn: a number that grows with everything that happens in the market.
    snapshots: whether the feed shows full books only; then prints wait for the next book, however late it comes.
    """

    __slots__ = ("_decreases", "_explain_ms", "_prints")

    def __init__(self, explain_ms: int) -> None:
        self._explain_ms = explain_ms
        # Lists, not deques: there is a pool for every price, and hardly ever more than a few wait in one.
        self._decreases: list[_Waiting] = []
        self._prints: list[_Waiting] = []

    def decreased(self, ours: Sequence[Queued], before: int, after: int, turn: int, now_ms: int, *, snapshots: bool) -> None:
        """The level lost size: prints explain it, now or within `explain_ms`; what none explains was a cancel."""
        decreases, prints, expired = self._decreases, self._prints, now_ms - self._explain_ms
        if (decreases and decreases[0][0] < expired) or prints:
            self._expire(ours, now_ms, snapshots)
        left = before - after
        if prints:
            explained, left = _match(self._prints, left)
            for printed_turn, shares in explained:
                for order in ours:
                    # It came after this print but before its decrease: what the print took still stood in the level it counted.
                    if order.turn > printed_turn and order.ahead != UNKNOWN_QUEUE:
                        order.ahead = max(order.ahead - shares, 0)
        if left >= LOT:
            decreases.append([now_ms, turn, left, after])

    def printed(self, ours: Sequence[Queued], size: int, turn: int, now_ms: int, *, snapshots: bool) -> list[tuple[int, int]]:
        """A taker traded here; return the decreases that had shown it before, as (turn, shares). The queue is the caller's to eat."""
        self._expire(ours, now_ms, snapshots)
        shown, left = _match(self._decreases, size)
        if left >= LOT:
            self._prints.append([now_ms, turn, left])
            # A market that prints but never shows a book must not fill the memory.
            del self._prints[:-MOST_WAITING]
        return shown

    def book_given(self) -> None:
        """A full book has come on a feed of snapshots: prints before it have shown all their decreases."""
        self._prints.clear()

    def _expire(self, ours: Sequence[Queued], now_ms: int, snapshots: bool) -> None:
        """Count decreases that stayed unexplained as cancels, and forget prints whose decrease never came."""
        expired, decreases, prints = now_ms - self._explain_ms, self._decreases, self._prints
        while decreases and decreases[0][0] < expired:
            _, gone_turn, left, level = decreases.pop(0)
            for order in ours:
                if order.turn < gone_turn and order.ahead > 0:
                    order.ahead = order.model.ahead_after_cancel(order.ahead, level + left, level)
        if not snapshots:
            while prints and prints[0][0] < expired:
                prints.pop(0)


def _match(waiting: list[_Waiting], size: int) -> tuple[list[tuple[int, int]], int]:
    """Take `size` from what waits, oldest first; return what was taken as (turn, shares), and how much of `size` found nothing.

    A rest of less than a lot is rounding and waits no more.
    """
    taken = []
    while size and waiting:
        first = waiting[0]
        shares = min(size, first[2])
        first[2] -= shares
        size -= shares
        taken.append((first[1], shares))
        if first[2] < LOT:
            waiting.pop(0)
    return taken, size


def ahead_after_cancel(model: QueueModel, power: float, ahead: float, before: float, after: float) -> float:
    """Return what stands ahead of us when a level of `before` shares lost some to cancels and holds `after`.

    ahead, before, after: shares. The form of hftbacktest's queue models: a cancel stood behind us with probability p,
    which each model makes from the shares behind and ahead; "risk-averse" says that all cancels stood behind.
    """
    if model in ("risk-averse", "never", "touch"):
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
        # As parts of the greater one: a high power of a number of shares is more than a float holds.
        most = max(ahead, behind)
        back, front = (behind / most) ** n, (ahead / most) ** n
        return float(back / (back + front))
    if model == "power2":
        return float((behind / (behind + ahead)) ** n)
    if model == "power3":
        return float(1.0 - (ahead / (ahead + behind)) ** n)
    if model == "log":
        return math.log1p(behind) / (math.log1p(behind) + math.log1p(ahead))
    return math.log1p(behind) / math.log1p(behind + ahead)
