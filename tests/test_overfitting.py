"""What the best of many sets is worth: scores, ranks, the probability of backtest overfitting and the deflated ratio."""

import math
import random
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtools.lab.overfitting import (
    FEWEST_BLOCKS,
    GROUPS,
    Overfitting,
    deflated,
    deflated_ratio,
    drawdown,
    overfitting,
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


def test_what_cannot_be_known_is_said_and_not_counted() -> None:
    assert overfitting("total", []) == overfitting("total", [[1.0] * 50]) == "one set is no choice"
    short = noise(3, FEWEST_BLOCKS - 1, seed=1)
    assert overfitting("total", short) == "23 blocks of time are too few to be halved in many ways; it takes 24"
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


def test_a_deflated_ratio_needs_blocks_that_vary() -> None:
    sets = noise(6, 40, seed=3)
    assert deflated(sets, 2) is not None
    assert deflated([[1.0] * 40, *sets], 0) is None
    assert deflated([one[:20] for one in sets], 2) is None
    assert deflated(sets[:1], 0) is None
