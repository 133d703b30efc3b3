"""How much of a best figure is choice: scores of a set over blocks of time, and what became of the best of one half in the other.

Numbers in, numbers out. The blocks of all sets are the same stretches of time. Sources: Bailey, Borwein, Lopez de Prado and Zhu,
"The probability of backtest overfitting" (2015, doi:10.21314/JCF.2016.322); Bailey and Lopez de Prado, "The deflated Sharpe
ratio" (2014, doi:10.3905/jpm.2014.40.5.094).
"""

import math
import statistics
from collections.abc import Sequence
from itertools import accumulate, combinations, pairwise
from typing import Literal, NamedTuple

Objective = Literal["risk_averse", "total", "spread", "total_per_drawdown"]
Series = Sequence[float]
"""USDC earned in each block of time, in order."""

GROUPS = 12
"""Runs of blocks that the halves are made of: 924 ways to choose six of them."""
FEWEST_BLOCKS = 2 * GROUPS
"""With fewer, one fill decides a group, and the ways to halve them only shuffle a few minutes."""
EULER_MASCHERONI = 0.5772156649015329


def column(objective: Objective) -> str:
    """Return which P&L of a trial's blocks an objective is about."""
    return "total" if objective == "total_per_drawdown" else objective


def score(objective: Objective, series: Series) -> float:
    """Return what an objective says of a series: the larger the better.

    Per drawdown: the sum over one USDC more than the largest fall below the best sum so far, so that a series that never fell
    has a score as well.
    """
    total = math.fsum(series)
    if objective != "total_per_drawdown":
        return total
    return total / (1.0 + drawdown(series))


def drawdown(series: Series) -> float:
    """Return the largest fall of the running sum below its best so far, which is at least the 0 of the start."""
    sums = list(accumulate(series, initial=0.0))
    return max(best - now for best, now in zip(accumulate(sums, max), sums, strict=True))


class Overfitting(NamedTuple):
    """What choosing the best set in one half of the time was worth in the other, over all ways to choose the halves."""

    probability: float
    """Part of the ways in which the best of one half was no better than the median in the other."""
    loss: float
    """Part of the ways in which it lost money in the other."""
    ways: int
    blocks: int


def overfitting(objective: Objective, sets: Sequence[Series]) -> Overfitting | str:
    """Return the probability of backtest overfitting, by combinatorially symmetric cross-validation; or why it cannot be known."""
    blocks = len(sets[0]) if sets else 0
    if len(sets) < 2:
        return "one set is no choice"
    if blocks < FEWEST_BLOCKS:
        return f"{blocks} blocks of time are too few to be halved in many ways; it takes {FEWEST_BLOCKS}"
    grouped = [_groups(objective, series) for series in sets]
    everything = tuple(range(GROUPS))
    worse = lost = ways = 0
    for chosen in combinations(everything, GROUPS // 2):
        rest = tuple(place for place in everything if place not in chosen)
        here = [_score(objective, groups, chosen) for groups in grouped]
        if min(here) == max(here):
            continue  # nothing to choose by
        there = [_score(objective, groups, rest) for groups in grouped]
        judged = there[here.index(max(here))]
        ways += 1
        worse += relative_rank(judged, there) <= 0.5
        lost += judged < 0
    if not ways:
        return "all sets earned the same in every half of the time"
    return Overfitting(worse / ways, lost / ways, ways, blocks)


def relative_rank(value: float, among: Sequence[float]) -> float:
    """Return the place of a value among values that hold it, between 0 (worst) and 1; equal ones share the middle of their places."""
    below, equal = sum(other < value for other in among), sum(other == value for other in among)
    return (below + (equal + 1) / 2) / (len(among) + 1)


def deflated(sets: Sequence[Series], best: int) -> float | None:
    """Return the chance that the best set's mean per block is more than the luck of so many tries. The sets are taken for
    independent, which those of a grid are not, so the truth is not quite so bad.

    None, unknown, where the blocks are too few or a series never varies.
    """
    series = sets[best]
    ratios = [ratio for ratio in map(_sharpe, sets) if ratio is not None]
    own = _sharpe(series)
    if own is None or len(ratios) < 2 or len(series) < FEWEST_BLOCKS:
        return None
    mean, deviation = statistics.fmean(series), statistics.pstdev(series)
    skew, kurtosis = (statistics.fmean(((value - mean) / deviation) ** power for value in series) for power in (3, 4))
    return deflated_ratio(own, among=statistics.pstdev(ratios), tries=len(ratios), blocks=len(series), skew=skew, kurtosis=kurtosis)


def deflated_ratio(ratio: float, *, among: float, tries: int, blocks: int, skew: float, kurtosis: float) -> float | None:
    """Return the deflated Sharpe ratio of the best of several tries: the chance that its true ratio is above what luck would find.

    ratio: mean over deviation per block, not per year. among: the deviation of the ratios of all tries. None where the moments
    leave the formula no meaning.
    """
    normal = statistics.NormalDist()
    first, second = normal.inv_cdf(1 - 1 / tries), normal.inv_cdf(1 - 1 / (tries * math.e))
    luck = among * ((1 - EULER_MASCHERONI) * first + EULER_MASCHERONI * second)
    variance = 1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2
    return normal.cdf((ratio - luck) * math.sqrt((blocks - 1) / variance)) if variance > 0 else None


def _sharpe(series: Series) -> float | None:
    deviation = statistics.pstdev(series)
    return statistics.fmean(series) / deviation if deviation else None


def _groups(objective: Objective, series: Series) -> list[Series]:
    """Return neighbouring blocks in groups of one length, give or take a block; sums alone where nothing else matters."""
    bounds = [place * len(series) // GROUPS for place in range(GROUPS + 1)]
    groups = [series[low:high] for low, high in pairwise(bounds)]
    return groups if objective == "total_per_drawdown" else [[math.fsum(group)] for group in groups]


def _score(objective: Objective, groups: Sequence[Series], chosen: Sequence[int]) -> float:
    return score(objective, [value for place in chosen for value in groups[place]])
