"""Accumulators: sums over time that cost a few operations each, and keep no history. Called by `signals`.

Time comes in with every call, in ms that never step back; the same moves give the same figure however often anybody asks.
"""

import math


class Decayed:
    """A sum whose parts fade with a time constant."""

    __slots__ = ("at_ms", "constant_ms", "value")

    def __init__(self, constant_s: float) -> None:
        self.constant_ms = constant_s * 1000.0
        self.value = 0.0
        self.at_ms = 0

    def add(self, amount: float, now_ms: int) -> None:
        self.value = self.read(now_ms) + amount
        self.at_ms = now_ms

    def read(self, now_ms: int) -> float:
        return self.value * math.exp((self.at_ms - now_ms) / self.constant_ms) if self.value else 0.0


class Variance:
    """The mean square of a price's moves from second to second, per second; old moves fade with a time constant.

    Why not every move: prices lie on ticks, so a fair value that lingers between two makes them flicker, and the flicker
    adds up to more the oftener the feed speaks.
    """

    __slots__ = ("_began_ms", "_from", "_last", "_read", "_second", "_squares")

    def __init__(self, constant_s: float) -> None:
        self._squares = Decayed(constant_s)
        self._read: tuple[int, float] | None = None
        """When it was last read and what was read, while that is still true: whoever decides asks more than once."""
        self._began_ms: int | None = None
        self._second = self._from = self._last = 0

    def moved(self, to: int, now_ms: int) -> None:
        """The price is `to` now; the first call begins the history."""
        self._read = None
        if self._began_ms is None:
            self._began_ms, self._from, self._last = now_ms, to, to
        second = (now_ms - self._began_ms) // 1000
        if second != self._second:
            self._second, self._from = second, self._last
        # All moves of one second carry one time, so that a later one replaces what the earlier ones had added.
        replaced, square = self._last - self._from, to - self._from
        self._squares.add(square * square - replaced * replaced, self._began_ms + second * 1000)
        self._last = to

    def per_s(self, now_ms: int) -> float | None:
        """Return the variance per second, corrected for the time before it began; None before a second has gone by."""
        if self._began_ms is None or now_ms - self._began_ms < 1000:
            return None
        if self._read is not None and self._read[0] == now_ms:
            return self._read[1]
        constant_ms = self._squares.constant_ms
        weight = constant_ms / 1000.0 * -math.expm1((self._began_ms - now_ms) / constant_ms)
        variance = max(0.0, self._squares.read(now_ms)) / weight
        self._read = (now_ms, variance)
        return variance
