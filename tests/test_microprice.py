"""The micro-price learns a market that is known, is as symmetric as it says, and changes by looking at nothing but the market."""

import random
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmtools.trading.microprice import BUCKETS, FEWEST, MOVES, REFIT_EVERY, STALE_MS, STATES, MicroPrice, until_moved

SECOND = 1_000
LEAN = 0.4
"""How much likelier than by chance the next move goes to where the imbalance leans, at its fullest."""


def taught(seconds: int, step: Callable[[random.Random, float], int], *, seed: int = 7) -> MicroPrice:
    """Show a market one tick wide whose imbalance is drawn anew each second, and whose mid then moves by `step` ticks."""
    rng, learner, mid = random.Random(seed), MicroPrice(), 47.5
    for second in range(seconds):
        imbalance = rng.uniform(-1, 1)
        learner.observe(imbalance, 1, mid, second * SECOND)
        mid += step(rng, imbalance)
    return learner


def leaning(rng: random.Random, imbalance: float) -> int:
    """Half of the seconds move a tick, up with probability (1 + LEAN x imbalance) / 2."""
    return 0 if rng.random() < 0.5 else 1 if rng.random() < (1 + LEAN * imbalance) / 2 else -1


def martingale(rng: random.Random, imbalance: float) -> int:
    del imbalance
    return rng.choice((-1, 0, 1))


# --- what it learns


def test_it_leans_to_where_the_imbalance_says_by_what_the_next_move_is_worth() -> None:
    """The imbalance is new each second, so only the next second is predictable: half x LEAN x the middle of the bucket."""
    learner = taught(20_000, leaning)
    for bucket in range(BUCKETS):
        middle = 2 * (bucket + 0.5) / BUCKETS - 1
        assert learner.above_mid(middle, 1) == pytest.approx(0.5 * LEAN * middle, abs=0.03)


def test_where_imbalance_lasts_the_moves_that_follow_count_too() -> None:
    """The side changes one second in ten; on the heavy side a tick follows one second in five.

    From the heavy bid: x = 0.2 + 0.9 x - 0.1 x, so x = 1 tick, of which a look at one second alone sees 0.2.
    """
    rng, learner, mid, heavy = random.Random(3), MicroPrice(), 500.0, 1
    for second in range(60_000):
        learner.observe(0.7 * heavy, 4, mid, second * SECOND)
        if rng.random() < 0.2:
            mid += heavy
        if rng.random() < 0.1:
            heavy = -heavy
    # The sum breaks off after MOVES moves, so a part of it is missing.
    above = learner.above_mid(0.7, 4)
    assert above is not None
    assert 0.65 < above < 1.05
    assert learner.above_mid(-0.7, 4) == pytest.approx(-above)


def test_a_market_that_imbalance_says_nothing_of_has_its_micro_price_at_the_mid() -> None:
    learner = taught(20_000, martingale)
    for imbalance in (-0.9, -0.3, 0.0, 0.5, 0.9):
        assert learner.above_mid(imbalance, 1) == pytest.approx(0.0, abs=0.04)


def test_a_market_that_rises_whatever_its_imbalance_is_no_reason_to_lean() -> None:
    """Each transition counts for its mirror too: a trend of the past is no forecast."""
    learner = taught(3_000, lambda rng, imbalance: 1)
    assert learner.above_mid(0.0, 1) == pytest.approx(0.0)


def test_wide_and_narrow_touches_learn_apart() -> None:
    learner = MicroPrice()
    for second in range(4 * FEWEST):
        # Wide touches of a heavy bid are followed by a tick up, narrow ones by nothing.
        learner.observe(0.7 if second % 4 == 0 else 0.0, 3 if second % 4 == 0 else 1, 50.0 + (second + 3) // 4, second * SECOND)
    wide, narrow = learner.above_mid(0.7, 3), learner.above_mid(0.7, 1)
    assert wide is not None
    assert wide > 0.9
    assert narrow == 0.0


# --- how much it must have seen


@pytest.mark.parametrize(("looks", "known"), [(FEWEST, False), (FEWEST + 1, True)])
def test_there_is_no_estimate_before_the_fewest_transitions(looks: int, known: bool) -> None:
    learner = taught(looks, leaning)
    assert learner.transitions == looks - 1
    assert (learner.above_mid(0.9, 1) is not None) == known
    assert FEWEST % REFIT_EVERY == 0, "there would be an estimate of nothing until the next fit"


@pytest.mark.parametrize(("pause_ms", "counted"), [(STALE_MS, True), (STALE_MS + 1, False)])
def test_two_looks_too_far_apart_are_no_transition(pause_ms: int, counted: bool) -> None:
    learner = MicroPrice()
    learner.observe(0.3, 1, 47.5, 0)
    learner.observe(-0.3, 1, 52.5, pause_ms)
    assert learner.transitions == counted


# --- laws


imbalances = st.floats(-1, 1)
spreads = st.integers(1, 5)


@given(st.integers(0, 10**6), st.integers(FEWEST + 1, 3 * FEWEST), imbalances, spreads)
@example(1, FEWEST + 1, 1.0, 1)
@example(1, FEWEST + 1, -1.0, 1)
def test_it_stays_within_the_touch_and_mirrors_itself(seed: int, looks: int, imbalance: float, spread: int) -> None:
    rng, learner = random.Random(seed), MicroPrice()
    for second in range(looks):
        learner.observe(rng.uniform(-1, 1), rng.choice((1, 1, 2, 6)), rng.randrange(0, 40) / 2, second * SECOND)
    above, below = learner.above_mid(imbalance, spread), learner.above_mid(-imbalance, spread)
    assert above is not None
    assert below is not None
    assert abs(above) < spread / 2
    if abs(imbalance) * BUCKETS % 2 != 1:  # a value on the edge of a bucket belongs to the one above it, and so does its mirror
        assert above == pytest.approx(-below, abs=1e-9)


def test_reading_changes_nothing() -> None:
    asked, left_alone = MicroPrice(), MicroPrice()
    rng = random.Random(11)
    for second in range(2 * FEWEST):
        seen = rng.uniform(-1, 1), rng.randrange(1, 4), rng.randrange(0, 9) / 2, second * SECOND
        for learner in (asked, left_alone):
            learner.observe(*seen)
        for imbalance in (-0.8, 0.1, 0.9):
            asked.above_mid(imbalance, 1 + second % 3)
    assert [asked.above_mid(i / 10, s) for i in range(-10, 11) for s in (1, 2)] == [
        left_alone.above_mid(i / 10, s) for i in range(-10, 11) for s in (1, 2)
    ]


@st.composite
def waits(draw: st.DrawFn) -> tuple[list[list[float]], list[float]]:
    """A matrix whose rows are not negative and sum to less than 1, and what is worth how much."""
    size = draw(st.integers(1, STATES))
    rows = []
    for _ in range(size):
        row = draw(st.lists(st.floats(0, 1), min_size=size, max_size=size))
        total = draw(st.floats(0, 0.999))
        rows.append([part * total / max(sum(row), 1e-9) if sum(row) else 0.0 for part in row])
    return rows, draw(st.lists(st.floats(-10, 10), min_size=size, max_size=size))


@given(waits())
@example(([[0.999]], [1.0]))
@example(([[0.0, 0.999], [0.999, 0.0]], [1.0, -3.0]))
def test_until_moved_solves_its_equation(system: tuple[list[list[float]], list[float]]) -> None:
    stays, then = system
    solved = until_moved(stays, then)
    for row, value, x in zip(stays, then, solved, strict=True):
        assert x == pytest.approx(value + sum(p * other for p, other in zip(row, solved, strict=True)), abs=1e-6)


def test_until_moved_by_hand() -> None:
    """One stays half of the time, the other goes to the first one in four: x = 1 + x / 2; y = 3 + x / 4."""
    assert until_moved([[0.5, 0.0], [0.25, 0.0]], [1.0, 3.0]) == [2.0, 3.5]


def test_the_sum_looks_a_few_moves_ahead() -> None:
    """A side that never changes would promise moves without end; MOVES of them are believed, and the touch bounds the rest."""
    learner = MicroPrice()
    for second in range(2_000):
        learner.observe(0.7, 40, float(second), second * SECOND)
    assert learner.above_mid(0.7, 40) == pytest.approx(MOVES, rel=0.02)
    assert learner.above_mid(0.7, 2) == pytest.approx(0.999)
