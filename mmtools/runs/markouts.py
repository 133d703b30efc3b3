"""The markouts of one market as its journal tells them: sums per token and horizon, and the last ones for who goes on.

Exact integers in, one curve out. What a markout is stands in `trading.markouts`; here they are only added up.
"""

import math
from collections import deque
from dataclasses import dataclass

from mmtools.runs.journal import Record
from mmtools.trading.market import Outcome
from mmtools.trading.markouts import HORIZONS_S
from mmtools.units import ONE, text

KEPT = 400
"""Of the last markouts at each horizon, for a run that is taken up: evidence enough, however busy the market."""


@dataclass(slots=True)
class Sums:
    """One token at one horizon. Weights are shares, values per share, both in millionths."""

    fills: int = 0
    """Of which the mid was known then."""
    shares: int = 0
    shares_squared: int = 0
    value: int = 0
    value_squared: int = 0

    def add(self, per_share: int, size: int) -> None:
        self.fills += 1
        self.shares += size
        self.shares_squared += size * size
        self.value += size * per_share
        self.value_squared += size * per_share * per_share

    def mean(self) -> float | None:
        """Return the mean per share in millionths, weighted by shares; None without fills."""
        return self.value / self.shares if self.shares else None

    def error(self) -> float | None:
        """Return the standard error of the mean, in millionths; None with fewer than two fills."""
        mean = self.mean()
        if mean is None or self.fills < 2:
            return None
        variance = max(self.value_squared / self.shares - mean * mean, 0.0)
        effective = self.shares * self.shares / self.shares_squared
        return math.sqrt(variance / max(effective - 1.0, 0.5))

    def document(self, made: int) -> Record:
        """made: fills of the token so far; those that were never judged, for whatever reason, are unknown."""
        error = self.error()
        return {
            "fills": self.fills,
            "unknown": made - self.fills,
            "shares": text(self.shares),
            "per_share": text(self.value // self.shares) if self.shares else None,
            "error": None if error is None else round(error / ONE, 6),
        }


class Markouts:
    """One market's curves."""

    def __init__(self) -> None:
        self.made = dict.fromkeys(Outcome, 0)
        """Fills of each token."""
        self.curves = {outcome: {horizon_s: Sums() for horizon_s in HORIZONS_S} for outcome in Outcome}
        self.recent: dict[int, deque[tuple[int, int]]] = {horizon_s: deque(maxlen=KEPT) for horizon_s in HORIZONS_S}
        """(per share, time) of the last ones that were known, by horizon."""

    def add(self, outcome: Outcome, horizon_s: int, per_share: int | None, size: int, at_ms: int) -> None:
        if per_share is not None:
            self.curves[outcome][horizon_s].add(per_share, size)
            self.recent[horizon_s].append((per_share, at_ms))

    def document(self) -> Record:
        """Return the curves by token and horizon; USDC per share on the token's own price."""
        return {
            outcome.value: {str(horizon_s): sums.document(self.made[outcome]) for horizon_s, sums in curve.items()}
            for outcome, curve in self.curves.items()
        }
