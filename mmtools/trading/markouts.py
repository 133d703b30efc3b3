"""Markouts: what the mid did after our fills; and toxicity, what that says of those who trade with us.

A markout is per share, on the token's own price: side x (mid of the token later - price of the fill). A NO share bought at
0.80 while YES stands at 0.20 has a markout of 0, for NO is worth 1 - YES. Negative is bad for us. Values and time only; the
desk owns one of each, reports fold the same numbers from the journal.
"""

import math
from collections import deque
from collections.abc import Iterator

import msgspec

from mmtools.trading.market import Fill, OfToken, yes_price
from mmtools.trading.params import Params
from mmtools.units import Price

HORIZONS_S = (1, 5, 30, 120)
"""How long after a fill it is judged."""
MEMORY_S = 600.0
"""Time constant with which old fills are forgotten: who trades with us changes within a game."""
PRIOR_FILLS = 5.0
"""Fills of markout 0 that are believed before the first real one: a few bad fills are no proof, and old proof fades to nothing."""


def markout(filled: OfToken, mark: int) -> Price:
    """Return what a share of a fill has gained since, in millionths, when the mid in YES terms is `mark`."""
    return Price(filled.side.sign * (yes_price(filled.outcome, mark) - filled.price))


class Measured(msgspec.Struct, frozen=True, gc=False):
    """A fill at one horizon. `mark` is the mid in YES terms then, None when nobody knew it."""

    fill: Fill
    horizon_s: int
    mark: Price | None

    @property
    def per_share(self) -> Price | None:
        return None if self.mark is None else markout(self.fill, self.mark)


class Markouts:
    """The fills of one market that wait to be judged."""

    def __init__(self) -> None:
        self._waiting: dict[int, deque[Fill]] = {horizon_s: deque() for horizon_s in HORIZONS_S}

    def filled(self, fill: Fill) -> None:
        for waiting in self._waiting.values():
            waiting.append(fill)

    def due(self, now_ms: int, mark: Price | None) -> Iterator[Measured]:
        """Yield what is due by now, at the mark that held until now: call it before the mark changes."""
        for horizon_s, waiting in self._waiting.items():
            while waiting and waiting[0].at_ms + horizon_s * 1000 <= now_ms:
                yield Measured(waiting.popleft(), horizon_s, mark)


class Toxicity:
    """Mean and significance of our markouts at one horizon, old ones fading; in ticks of the grid asked about."""

    def __init__(self, params: Params) -> None:
        self.horizon_s = params.toxicity_horizon_s
        self._widening, self._zscore = params.toxicity_widening, params.toxicity_zscore
        self._weight = self._sum = self._squares = 0.0
        self._at_ms = 0
        self._read: tuple[tuple[int, int], tuple[float, float]] | None = None
        """What was last asked and found, while that is still true."""

    def add(self, per_share: int, at_ms: int) -> None:
        """Take a markout in, in millionths per share."""
        self._read = None
        kept = self._kept(at_ms)
        self._weight = self._weight * kept + 1.0
        self._sum = self._sum * kept + per_share
        self._squares = self._squares * kept + float(per_share) * per_share
        self._at_ms = at_ms

    def evidence(self, now_ms: int, tick: int) -> tuple[float, float] | None:
        """Return the mean markout in ticks, drawn towards 0 by the prior, and the same in standard errors; None before the first one.

        Prices lie on ticks: no error is below half a tick a fill. The second of a single fill is above -1 however bad the fill.
        """
        if not self._weight:
            return None
        if self._read is not None and self._read[0] == (now_ms, tick):
            return self._read[1]
        kept = self._kept(now_ms)
        count = self._weight * kept + PRIOR_FILLS
        mean = self._sum * kept / count / tick
        variance = max(self._squares * kept / tick**2 - count * mean**2, 0.0) / (count - 1) + 0.25
        found = (mean, mean / math.sqrt(variance / count))
        self._read = ((now_ms, tick), found)
        return found

    def mean(self, now_ms: int, tick: int) -> float | None:
        """Return the first part of `evidence`."""
        found = self.evidence(now_ms, tick)
        return None if found is None else found[0]

    def zscore(self, now_ms: int, tick: int) -> float | None:
        """Return the second part of `evidence`."""
        found = self.evidence(now_ms, tick)
        return None if found is None else found[1]

    def widening(self, now_ms: int, tick: int) -> float:
        """Return the ticks to add to the half-spread: what fills lose on average, once it is no chance."""
        found = self.evidence(now_ms, tick)
        if found is None:
            return 0.0
        mean, zscore = found
        return self._widening * -mean if mean < 0 and zscore < -self._zscore else 0.0

    def _kept(self, now_ms: int) -> float:
        return math.exp((self._at_ms - now_ms) / (MEMORY_S * 1000)) if now_ms > self._at_ms else 1.0
