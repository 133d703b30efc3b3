"""What the best of many sets is worth: scores, ranks, the probability of backtest overfitting and the deflated ratio."""

import math
import random
import statistics
from collections.abc import Callable
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtools.lab.overfitting import (
    FEWEST_BLOCKS,
    GROUPS,
    Deflated,
    Overfitting,
    below_median,
    deflated,
    deflated_ratio,
    drawdown,
    overfitting,
    rate,
    rate_interval,
    relative_rank,
    score,
)

CENTS = st.integers(-500, 700).map(lambda cents: cents / 100)
NORMAL_TAILS = 3.0


def noise(sets: int, blocks: int, seed: int) -> list[list[float]]:
    rng = random.Random(seed)
    return [[rng.gauss(0, 1) for _ in range(blocks)] for _ in range(sets)]


def known(found: Overfitting | str) -> Overfitting:
    assert isinstance(found, Overfitting), found
    return found


def test_a_drawdown_begins_at_nothing_earned() -> None:
    assert drawdown([]) == 0
    assert drawdown([2, -3, 1, -2, 5]) == 4
    assert drawdown([-1.5, 4]) == 1.5


@given(st.lists(CENTS, max_size=30))
def test_a_drawdown_is_the_largest_fall_between_two_moments(series: list[float]) -> None:
    sums = list(accumulate(series, initial=0.0))
    assert drawdown(series) == pytest.approx(max(sums[i] - sums[j] for i in range(len(sums)) for j in range(i, len(sums))))


def test_a_smooth_way_to_the_same_total_scores_more_per_drawdown() -> None:
    smooth, rough = [1.0, 1.0, 2.0], [5.0, -3.0, 2.0]
    assert score("total", smooth) == score("total", rough) == 4
    assert score("total_per_drawdown", smooth) == 4
    assert score("total_per_drawdown", rough) == 1


@given(st.lists(CENTS, min_size=1), st.data())
def test_ranks_lie_between_0_and_1_and_better_ones_are_higher(values: list[float], data: st.DataObject) -> None:
    one, other = data.draw(st.sampled_from(values)), data.draw(st.sampled_from(values))
    assert 0 < relative_rank(one, values) < 1
    assert (relative_rank(one, values) > relative_rank(other, values)) == (one > other)
    assert sum(relative_rank(value, values) for value in values) == pytest.approx(len(values) / 2)


def test_a_set_that_is_better_all_the_time_is_no_overfitting() -> None:
    sets = noise(9, 30, seed=4)
    sets[5] = [3.5 + value for value in sets[5]]
    found = known(overfitting("total", sets))
    assert (found.probability, found.loss) == (0, 0)
    assert (found.ways, found.blocks) == (math.comb(GROUPS, GROUPS // 2), 30)


def test_choosing_from_noise_is_a_coin() -> None:
    found = [known(overfitting("total", noise(6, 48, seed))).probability for seed in range(8)]
    assert 0.4 < sum(found) / len(found) < 0.65


def test_sets_that_shine_once_are_worse_than_a_coin() -> None:
    """Each has its one good hour and pays for it in all others: whoever is best in one half is poor in the other."""
    sets = [[GROUPS * 2.0 if block // 3 == place else -1.0 - place / 100 for block in range(3 * GROUPS)] for place in range(GROUPS)]
    found = known(overfitting("total", sets))
    assert found.probability == 1
    assert found.loss == 1


@given(st.permutations([0.1, 0.2, 0.3, 0.7, -1.1, 0.6, 1.3, 0.01, 0.02, 0.07, 0.4, 0.9]))
def test_what_was_earned_in_another_order_is_no_difference(order: list[float]) -> None:
    halves = [[*order, *order], [*sorted(order), *order]]
    assert score("total", halves[0]) == score("total", halves[1])
    same = [[value for _ in range(GROUPS) for value in values] for values in (order, sorted(order), order[::-1])]
    assert overfitting("total", same) == "all sets earned the same in every half of the time"


def test_what_cannot_be_known_is_said_and_not_counted() -> None:
    assert overfitting("total", []) == overfitting("total", [[1.0] * 50]) == "one set is no choice"
    short = noise(3, FEWEST_BLOCKS - 1, seed=1)
    assert overfitting("total", short) == "23 blocks of time are too few; it takes 24"
    assert overfitting("spread", [[0.0] * 40] * 5) == "all sets earned the same in every half of the time"


@settings(max_examples=10, deadline=None)
@given(st.integers(FEWEST_BLOCKS, FEWEST_BLOCKS + 15), st.integers(0, 1000))
def test_all_objectives_that_add_up_agree(blocks: int, seed: int) -> None:
    sets = noise(3, blocks, seed)
    assert overfitting("total", sets) == overfitting("spread", sets) == overfitting("risk_averse", sets)


def test_the_drawdown_of_a_half_is_that_of_its_blocks_side_by_side() -> None:
    calm, wild = [0.5] * 36, [3.0, -2.0, 0.0] * 12
    assert known(overfitting("total_per_drawdown", [wild, calm])).probability == 0
    assert isinstance(overfitting("total", [calm, [0.4] * 36]), Overfitting)


def test_the_deflated_ratio_is_that_of_the_paper() -> None:
    """Bailey and Lopez de Prado 2014, their numerical example: a yearly ratio of 2.5 over five years of days, the best of 100."""
    found = deflated_ratio(2.5 / math.sqrt(250), among=math.sqrt(1 / 2 / 250), tries=100, blocks=1250, skew=-3, kurtosis=10)
    assert found == pytest.approx(0.9004, abs=0.0001)


def test_a_figure_is_worth_less_the_more_sets_were_tried() -> None:
    tries = [deflated_ratio(0.2, among=0.1, tries=tries, blocks=60, skew=0.3, kurtosis=NORMAL_TAILS) for tries in (2, 20, 200)]
    assert None not in tries
    assert tries == sorted(tries, key=lambda found: -(found or 0))
    assert len(set(tries)) == 3


def test_a_deflated_ratio_needs_a_choice_and_blocks_that_vary() -> None:
    sets = noise(6, 40, seed=3)
    assert isinstance(deflated(sets, 2), Deflated)
    assert deflated([[1.0] * 40, *sets], 0) == "the best set earned the same in every block"
    assert deflated([one[:20] for one in sets], 2) == "20 blocks of time are too few; it takes 24"
    assert deflated(sets[:1], 0) == "one set is no choice"


def test_a_set_that_never_traded_is_a_try_with_a_ratio_of_0() -> None:
    sets = noise(5, 40, seed=8)
    best = [1.5 + value for value in sets[4]]
    found = deflated([best, *sets[:3], [0.0] * 40], 0)
    assert isinstance(found, Deflated)
    assert found.tries == 5
    ratios = [statistics.fmean(one) / statistics.pstdev(one) for one in (best, *sets[:3])]
    mean, deviation = statistics.fmean(best), statistics.pstdev(best)
    skew, kurtosis = (statistics.fmean(((value - mean) / deviation) ** power for value in best) for power in (3, 4))
    among = statistics.stdev([*ratios, 0.0])
    assert found.ratio == deflated_ratio(ratios[0], among=among, tries=5, blocks=40, skew=skew, kurtosis=kurtosis)


@given(st.lists(st.integers(-2, 3), min_size=1, max_size=12))
def test_a_die_is_below_the_median_half_of_the_time(values: list[int]) -> None:
    """Whatever they are and however many: of three sets the middle one is no sign of overfitting."""
    assert statistics.fmean(below_median(value, values) for value in values) == pytest.approx(0.5)


def test_only_what_is_below_the_median_counts_in_full() -> None:
    assert [below_median(value, [1, 5, 7]) for value in (1, 5, 7)] == [1, 0.5, 0]
    assert [below_median(value, [1, 5, 5, 5]) for value in (1, 5)] == [1, pytest.approx(1 / 3)]


# --- intervals


def covered(blocks: int, draw: Callable[[random.Random], float], mean: float, rounds: int) -> float:
    rng = random.Random(blocks)
    hours = [1 / 60] * (blocks - 1) + [0.4 / 60]
    within = 0
    for _ in range(rounds):
        series = [draw(rng) if place < blocks - 1 else 0.4 * mean for place in range(blocks)]
        found = rate_interval(series, hours)
        within += found is not None and found[0] <= mean * 60 <= found[1]
    return within / rounds


@pytest.mark.parametrize("blocks", [24, 31, 60])
@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng: rng.gauss(0.3, 1), 0.3),
        (lambda rng: 1 - rng.expovariate(1), 0.0),
        (lambda rng: rng.gauss(0.2, 1) if rng.random() < 0.2 else 0.0, 0.04),
    ],
    ids=["even", "skewed", "a fill now and then"],
)
def test_intervals_hold_the_truth_as_often_as_they_say(draw: Callable[[random.Random], float], mean: float, blocks: int) -> None:
    assert 0.91 < covered(blocks, draw, mean, 600) < 0.98


def test_an_interval_needs_blocks_that_differ() -> None:
    minutes = [1 / 60] * 30
    assert rate_interval([0.5, -0.25] * 11 + [0.5], minutes[:23]) is None
    assert rate_interval([0.5] * 24, minutes[:24]) is None
    low, high = rate_interval([0.5] * 29 + [-2.0], minutes) or (0, 0)
    assert low < 25 < high
    assert rate([0.5] * 29 + [-2.0], minutes) == pytest.approx(25)


@given(st.lists(CENTS, min_size=FEWEST_BLOCKS, max_size=70), st.floats(0.1, 9))
def test_an_interval_scales_with_what_is_earned(series: list[float], times: float) -> None:
    hours = [0.25] * (len(series) - 1) + [0.125]
    one, other = rate_interval(series, hours), rate_interval([times * value for value in series], hours)
    if one is not None and other is not None:
        assert other == pytest.approx([times * bound for bound in one], abs=1e-9)
