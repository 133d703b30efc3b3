"""Figures with their uncertainty: intervals of ratios whose parts come in blocks, and quartiles.

Numbers in, numbers out: no orders, no markets, no files; chance comes in as a `random.Random`.
"""

import math
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

FEWEST_BLOCKS = 5
"""With fewer, drawing again and again from them says nothing about what was not seen."""
DRAWS = 1000
COVERED = 0.95


class Interval(NamedTuple):
    """Where a figure lies with a chance of 95 %."""

    low: float
    high: float


class Quartiles(NamedTuple):
    """A quarter of the values lies below `low`, half below `median`, three quarters below `high`."""

    low: float
    median: float
    high: float


def ratio(blocks: Iterable[tuple[float, float]]) -> float | None:
    """Return sum of numerators / sum of denominators; None when there is nothing to divide by."""
    numerator, denominator = _sums(blocks)
    return numerator / denominator if denominator else None


def ratio_interval(blocks: Sequence[tuple[float, float]], rng: random.Random, draws: int = DRAWS) -> Interval | None:
    """Return the interval of `ratio(blocks)` by a bootstrap of whole blocks: its 2.5th and 97.5th percentile over `draws`.

    blocks: (numerator, denominator) of what belongs together, such as the orders of one market placed in one minute, which
    meet the same prints; denominators are not negative. Single orders would be no independent draws, and the interval too
    narrow. Blocks without a denominator say nothing. None, unknown, with fewer than FEWEST_BLOCKS that say something, and
    where all say the same: what was never seen to vary (no fill at all) cannot be drawn.
    """
    telling = [block for block in blocks if block[1] > 0]
    if len(telling) < FEWEST_BLOCKS or len({numerator / denominator for numerator, denominator in telling}) == 1:
        return None
    found = []
    for _ in range(draws):
        numerator, denominator = _sums(rng.choices(telling, k=len(telling)))
        found.append(numerator / denominator)
    found.sort()
    outside = (1 - COVERED) / 2 * draws
    return Interval(found[math.floor(outside)], found[min(math.ceil(draws - outside), draws) - 1])


def quartiles(values: Iterable[float]) -> Quartiles | None:
    """Return the quartiles, drawn straight between neighbouring values; None without values."""
    ordered = sorted(values)
    return Quartiles(*(_quantile(ordered, part) for part in (0.25, 0.5, 0.75))) if ordered else None


def _quantile(ordered: Sequence[float], part: float) -> float:
    below, rest = divmod(part * (len(ordered) - 1), 1)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + rest * (high - low)


def _sums(blocks: Iterable[tuple[float, float]]) -> tuple[float, float]:
    numerator = denominator = 0.0
    for above, below in blocks:
        numerator += above
        denominator += below
    return numerator, denominator
