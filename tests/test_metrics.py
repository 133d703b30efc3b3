"""Intervals and quartiles: what they hold, what they do not know, and that the same seed says the same."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtools.lab.metrics import FEWEST_BLOCKS, Interval, quartiles, ratio, ratio_interval

BLOCKS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=20)


def test_a_ratio_divides_sums_and_does_not_average_ratios() -> None:
    assert ratio([(1, 1), (0, 3)]) == 0.25
    assert ratio([]) is None
    assert ratio([(0, 0)]) is None


def test_too_few_blocks_say_nothing() -> None:
    blocks = [(number, 10.0) for number in range(FEWEST_BLOCKS)]
    assert ratio_interval(blocks[1:], random.Random(1)) is None
    assert ratio_interval(blocks, random.Random(1)) is not None


def test_blocks_without_a_denominator_do_not_count() -> None:
    blocks = [(number, 10.0) for number in range(FEWEST_BLOCKS)]
    empty = [(0.0, 0.0)] * 50
    assert ratio_interval([*empty, *blocks[1:]], random.Random(1)) is None
    assert ratio_interval([*blocks, *empty], random.Random(1)) == ratio_interval(blocks, random.Random(1))


def test_what_never_varied_has_no_interval() -> None:
    assert ratio_interval([(0.0, 100.0)] * 50, random.Random(1)) is None
    assert ratio_interval([(2.0, 4.0), (4.0, 8.0), *[(1.0, 2.0)] * 10], random.Random(1)) is None


def test_the_same_seed_draws_the_same() -> None:
    blocks = [(float(number % 7), 7.0) for number in range(30)]
    assert ratio_interval(blocks, random.Random(3)) == ratio_interval(blocks, random.Random(3))
    assert ratio_interval(blocks, random.Random(3)) != ratio_interval(blocks, random.Random(4))


def test_a_known_spread_is_found() -> None:
    """40 blocks of 0 or 1, half of each: the mean has a standard error of 0.079, so 95 % lie within 0.155 of 0.5."""
    blocks = [(float(number % 2), 1.0) for number in range(40)]
    found = ratio_interval(blocks, random.Random(1), draws=4000)
    assert found is not None
    assert found.low == pytest.approx(0.345, abs=0.03)
    assert found.high == pytest.approx(0.655, abs=0.03)


def test_what_comes_in_blocks_is_less_certain_than_as_many_single_draws() -> None:
    fills = [1.0] * 10 + [0.0] * 10
    single = ratio_interval([(fill, 1.0) for fill in fills * 10], random.Random(1))
    together = ratio_interval([(fill * 10, 10.0) for fill in fills], random.Random(1))
    assert single is not None
    assert together is not None
    assert together.high - together.low > 2 * (single.high - single.low)


@given(BLOCKS, st.integers(0, 5))
def test_an_interval_lies_within_the_blocks_and_in_order(blocks: list[tuple[float, float]], seed: int) -> None:
    found = ratio_interval(blocks, random.Random(seed), draws=50)
    ratios = [above / below for above, below in blocks if below]
    if found is not None:
        assert min(ratios) <= found.low + 1e-9
        assert found.low <= found.high <= max(ratios) + 1e-9
    else:
        assert len(ratios) < FEWEST_BLOCKS or len(set(ratios)) == 1


def test_one_draw_is_both_ends() -> None:
    found = ratio_interval([(float(number), 10.0) for number in range(9)], random.Random(1), draws=1)
    assert found is not None
    assert found == Interval(found.low, found.low)


def test_quartiles_lie_between_neighbours() -> None:
    assert quartiles([]) is None
    assert quartiles([7]) == (7, 7, 7)
    assert quartiles([4, 1, 2, 3]) == (1.75, 2.5, 3.25)
    assert quartiles([10, 0, 1, 2, 3]) == (1, 2, 3)
