"""Fees, rebates and scores are the venue's worked examples; estimates err low; farming only ever tightens, and only for a pool."""

import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from worlds import price, shares, usdc

from mmtools.trading.book import Book
from mmtools.trading.market import FeeSchedule, RewardTerms, Side
from mmtools.trading.rewards import (
    Farming,
    RewardEstimate,
    adjusted_mid,
    book_scores,
    farmed_half_spread,
    income,
    least_share,
    q_min,
    rebate_estimate,
    sample,
    score,
    taker_fee,
)
from mmtools.units import ONE, Price, Shares, Usdc

CENT = Price(10_000)
SPORTS = FeeSchedule(rate=0.05, rebate_rate=0.15)
ASKED = RewardTerms(min_size=shares(50), max_spread=price("0.035"), daily_pool=usdc(40))
"""The terms of the worked example: 50 shares within 3.5 cents, 40 USDC a day."""
OURS = ((Side.BUY, "0.45", 200), (Side.BUY, "0.44", 300), (Side.SELL, "0.48", 100), (Side.SELL, "0.47", 150))
"""The orders of the worked example in YES terms; the last is BUY NO at 0.53."""


def book(bids: dict[int, float], asks: dict[int, float], *, tick: Price = CENT, complete: bool = True) -> Book:
    made = Book(tick)
    for at, size in bids.items():
        made.set_bid(at, shares(size))
    for at, size in asks.items():
        made.set_ask(at, shares(size))
    made.complete = complete
    return made


def orders(of: Iterable[tuple[Side, str, float]] = OURS) -> list[tuple[Side, Price, Shares]]:
    return [(side, price(at), shares(size)) for side, at, size in of]


# --- fees and rebates


@pytest.mark.parametrize(
    ("rate", "fees"),
    [(0.07, (0.63, 1.47, 1.75)), (0.05, (0.45, 1.05, 1.25)), (0.04, (0.36, 0.84, 1.0)), (0.0, (0.0, 0.0, 0.0))],
)
def test_a_taker_of_100_shares_pays_what_the_venues_table_says(rate: float, fees: tuple[float, ...]) -> None:
    paid = [taker_fee(FeeSchedule(rate=rate), price(at), shares(100)) for at in ("0.1", "0.3", "0.5")]
    assert paid == [usdc(fee) for fee in fees]


def test_a_fee_is_rounded_to_five_decimals() -> None:
    # 7.31 x 0.05 x 0.37 x 0.63 = 0.0851980...
    assert taker_fee(SPORTS, price("0.37"), shares(7.31)) == usdc(0.0852)
    # 3.33 x 0.05 x 0.12 x 0.88 = 0.0175824
    assert taker_fee(SPORTS, price("0.12"), shares(3.33)) == usdc(0.01758)


def test_a_fee_that_is_due_is_never_nothing() -> None:
    assert taker_fee(SPORTS, price("0.0001"), shares(0.01)) == usdc(0.00001)
    assert taker_fee(FeeSchedule(rate=0), price("0.5"), shares(1e6)) == 0
    assert taker_fee(SPORTS, price("0.5"), 0) == 0


def test_the_exponent_is_of_p_times_1_less_p() -> None:
    # 100 x 0.25 x (0.2 x 0.8)^2
    assert taker_fee(FeeSchedule(rate=0.25, exponent=2), price("0.2"), shares(100)) == usdc(0.64)


def test_a_rebate_is_what_the_formula_of_the_pool_gives() -> None:
    """The worked example: 4,000 shares at 0.50 and 6,000 at 0.30 met takers; 1,000 of the former were ours."""
    paid = taker_fee(SPORTS, price("0.5"), shares(4000)) + taker_fee(SPORTS, price("0.3"), shares(6000))
    assert paid == usdc(113)
    pool = 0.15 * paid
    ours = taker_fee(SPORTS, price("0.5"), shares(1000))
    assert pool * ours / paid == pytest.approx(usdc(1.875))
    assert rebate_estimate(SPORTS, price("0.5"), shares(1000)) == usdc(1.875)


def test_a_rebate_is_rounded_down() -> None:
    # 0.07 x 0.05 x 0.37 x 0.63 x 0.15 = 0.00012237...
    assert rebate_estimate(SPORTS, price("0.37"), shares(0.07)) == 122


def test_a_rebate_of_an_unknown_part_is_unknown_and_of_none_is_nothing() -> None:
    assert rebate_estimate(FeeSchedule(rate=0.05), price("0.4"), shares(100)) is None
    assert rebate_estimate(FeeSchedule(rate=0.05, rebate_rate=0), price("0.4"), shares(100)) == 0


# --- scores


@pytest.mark.parametrize(
    ("size", "cents", "scored"), [(100, 1, 44.44), (200, 2, 22.22), (100, 1.5, 25.00), (200, 0.5, 138.89), (500, 3, 0), (500, 3.5, 0)]
)
def test_an_order_scores_by_the_square_of_its_nearness(size: float, cents: float, scored: float) -> None:
    assert size * score(cents, 3) == pytest.approx(scored, abs=0.005)
    assert score(-cents, 3) == score(cents, 3)


def test_a_market_that_rewards_no_distance_scores_nothing() -> None:
    assert score(0, 0) == 0


@pytest.mark.parametrize(
    ("q_one", "q_two", "mid", "least"),
    [
        (120.0, 90.0, 0.46, 90.0),
        (120.0, 30.0, 0.46, 40.0),
        (30.0, 120.0, 0.46, 40.0),
        (120.0, 0.0, 0.10, 40.0),
        (120.0, 0.0, 0.90, 40.0),
        (120.0, 0.0, 0.0995, 0.0),
        (120.0, 30.0, 0.905, 30.0),
    ],
)
def test_one_side_counts_a_third_but_not_at_extremes(q_one: float, q_two: float, mid: float, least: float) -> None:
    assert q_min(q_one, q_two, mid) == least


@pytest.mark.parametrize(("tick", "low", "high"), [(CENT, 10, 90), (Price(1_000), 100, 900), (Price(100), 1_000, 9_000)])
def test_the_bounds_of_the_extremes_are_met_exactly_on_every_grid(tick: Price, low: int, high: int) -> None:
    one_sided = [(Side.BUY, Price((low - 1) * tick), shares(60))], [(Side.SELL, Price((high + 1) * tick), shares(60))]
    for at, ours in zip((low, high), one_sided, strict=True):
        inside = book({at - 1: 100}, {at + 1: 90}, tick=tick)
        outside = book({at - 2: 100}, {at + 1: 90}, tick=tick) if at == low else book({at - 1: 100}, {at + 2: 90}, tick=tick)
        assert sample(inside, ours, ASKED)
        assert sample(outside, ours, ASKED) == 0.0


def test_levels_below_the_least_size_do_not_move_the_mid() -> None:
    seen = book({46: 49.99, 45: 50, 40: 900}, {47: 10, 48: 20, 50: 60})
    assert adjusted_mid(seen, shares(50)) == 47.5
    assert adjusted_mid(seen, shares(20)) == 47
    assert adjusted_mid(seen, 0) == 46.5


def test_a_book_that_has_no_level_large_enough_on_a_side_or_is_not_good_has_no_adjusted_mid() -> None:
    assert adjusted_mid(book({46: 80}, {48: 20}), shares(50)) is None
    assert adjusted_mid(book({46: 20}, {48: 80}), shares(50)) is None
    assert adjusted_mid(book({}, {48: 80}), 0) is None
    assert adjusted_mid(book({49: 80}, {48: 80}), shares(50)) is None
    assert adjusted_mid(book({46: 80}, {48: 80}, complete=False), shares(50)) is None


def test_a_book_scores_its_bids_and_its_asks_apart() -> None:
    seen = book({45: 200, 44: 300, 43: 49, 42: 9000}, {47: 150, 48: 100, 49: 0, 50: 9000})
    assert adjusted_mid(seen, ASKED.min_size) == 46
    q_one, q_two = book_scores(seen, 46, ASKED)
    assert q_one == pytest.approx(157.143, abs=0.001)
    assert q_two == pytest.approx(94.898, abs=0.001)


def test_levels_near_the_ends_of_the_grid_count() -> None:
    terms = RewardTerms(min_size=Shares(0), max_spread=Price(30_000))
    nearest = (2.5 / 3) ** 2
    for bid in (1, 98):
        q_one, q_two = book_scores(book({bid: 90}, {bid + 1: 30}), bid + 0.5, terms)
        assert q_one == pytest.approx(90 * nearest)
        assert q_two == pytest.approx(30 * nearest)


def test_the_venues_worked_example() -> None:
    q_one, q_two = book_scores(book({45: 200, 44: 300}, {47: 150, 48: 100}), 46, ASKED)
    ours = q_min(q_one, q_two, 0.46)
    assert ours == q_two
    assert q_min(q_one, 0, 0.46) == pytest.approx(52.381, abs=0.001)
    part = ours / (ours + 300 + 120)
    assert part == pytest.approx(0.1843, abs=0.00005)
    assert income(part, usdc(40)) * 1440 == pytest.approx(7.37, abs=0.005)
    estimate = RewardEstimate(ASKED)
    for _ in range(1440):
        estimate.add(part)
    assert estimate.usdc == math.floor(part * 40 * ONE)


# --- what we earn

FULL = book({45: 600, 44: 80, 43: 300}, {47: 70, 48: 250})
"""Others' book around the mid of the worked example."""


def test_our_share_is_against_half_of_what_both_sides_of_the_book_score() -> None:
    q_one, q_two = 600 * score(1, 3.5) + 80 * score(2, 3.5) + 300 * score(3, 3.5), 70 * score(1, 3.5) + 250 * score(2, 3.5)
    assert sample(FULL, orders(), ASKED) == pytest.approx(94.898 / (94.898 + (q_one + q_two) / 2), abs=1e-6)


def test_bids_alone_share_by_a_third() -> None:
    both, bids = sample(FULL, orders(), ASKED), sample(FULL, orders(OURS[:2]), ASKED)
    assert both is not None
    assert bids is not None
    assert bids / (1 - bids) == pytest.approx(both / (1 - both) * 52.381 / 94.898, rel=1e-4)


def test_what_is_left_of_an_order_must_reach_the_least_size() -> None:
    scoring = [(Side.BUY, "0.45", 50.0), (Side.SELL, "0.47", 50.0)]
    assert sample(FULL, orders(scoring), ASKED)
    assert sample(FULL, orders([(side, at, size - 0.01) for side, at, size in scoring]), ASKED) == 0.0


def test_two_small_orders_at_one_price_are_not_a_large_one() -> None:
    assert sample(FULL, orders([(Side.BUY, "0.45", 30), (Side.BUY, "0.45", 30)]), ASKED) == 0.0


def test_who_rests_nothing_or_too_far_has_no_share_and_a_book_without_a_mid_has_no_sample() -> None:
    assert sample(FULL, [], ASKED) == 0.0
    assert sample(FULL, orders([(Side.BUY, "0.42", 500), (Side.SELL, "0.5", 500)]), ASKED) == 0.0
    assert sample(book({45: 600}, {47: 30}), orders(), ASKED) is None


SCORES = st.floats(0, 1e6)


@given(st.lists(st.tuples(SCORES, SCORES), max_size=6), SCORES, SCORES, st.floats(0.001, 0.999))
@example([(300.0, 300.0), (120.0, 120.0)], 157.143, 94.898, 0.46)
@example([(900.0, 0.0)], 50.0, 60.0, 0.46)
def test_the_share_is_never_above_the_one_that_knows_every_maker(
    others: list[tuple[float, float]], q_one: float, q_two: float, mid: float
) -> None:
    ours = q_min(q_one, q_two, mid)
    assume(ours > 0)
    true = ours / (ours + sum(q_min(*other, mid) for other in others))
    assert least_share(ours, sum(q for q, _ in others), sum(q for _, q in others)) <= true * (1 + 1e-9)


def test_an_estimate_counts_samples_and_sums_what_they_pay() -> None:
    estimate = RewardEstimate(ASKED)
    for part in (0.25, 0.0, None, 0.5):
        estimate.add(part)
    assert (estimate.samples, estimate.scored, estimate.known) == (4, 2, True)
    # 0.75 x 40 / 1440 = 0.0208333..., rounded down
    assert estimate.usdc == 20_833


@pytest.mark.parametrize("terms", [None, RewardTerms(min_size=shares(50), max_spread=price("0.035"))])
def test_without_terms_or_pool_the_estimate_is_unknown_and_not_0(terms: RewardTerms | None) -> None:
    estimate = RewardEstimate(terms)
    estimate.add(0.25)
    assert (estimate.samples, estimate.scored, estimate.known, estimate.usdc) == (1, 1, False, None)


def test_a_pool_of_nothing_is_known_to_pay_nothing() -> None:
    estimate = RewardEstimate(RewardTerms(min_size=shares(50), max_spread=price("0.035"), daily_pool=Usdc(0)))
    estimate.add(0.25)
    assert (estimate.known, estimate.usdc) == (True, 0)


# --- where to stand

THREE = RewardTerms(min_size=shares(50), max_spread=price("0.03"), daily_pool=usdc(86_400))
"""1 USDC a second, within 3 ticks of 0.01."""
FAR: dict[str, Any] = {
    "half_spread": 2.5,
    "size": shares(100),
    "terms": THREE,
    "tick": CENT,
    "others": (200.0, 50.0),
    "flow_per_s": 2.0,
    "decay_per_tick": 2.0,
    "market_half_spread": 1.0,
    "adverse_ticks": None,
}


def pool(daily: float | None) -> RewardTerms:
    return RewardTerms(min_size=THREE.min_size, max_spread=THREE.max_spread, daily_pool=None if daily is None else usdc(daily))


def rate(h: float, case: dict[str, Any]) -> float:
    """Return R(h) + T(h) in USDC per second, by the formulas as they are written down."""
    tick = case["tick"] / ONE
    v, t, a = case["terms"].max_spread / case["tick"], case["market_half_spread"], case["adverse_ticks"]
    ours = ((v - h) / v) ** 2 * case["size"] / ONE if h < v else 0.0
    part = ours / (ours + sum(case["others"]) / 2) if ours else 0.0
    fills = 2 * case["flow_per_s"] * math.exp(-case["decay_per_tick"] * max(0, h - t))
    return float(case["terms"].daily_pool / ONE / 86_400 * part + fills * (h - (t if a is None else a)) * tick)


def test_a_large_pool_draws_the_quote_to_the_nearest_half_tick() -> None:
    # shares 69.444 / 194.444 and 2.7778 / 127.7778; trading 2 x 2 x -0.5 x 0.01, and 2 x 2 x e^-3 x 1.5 x 0.01
    gain = 69.44444 / 194.44444 - 2.777778 / 127.777778 - 0.02 - 0.0029872
    assert farmed_half_spread(**FAR) == Farming(2.0, f"pays {gain:.3g} USDC/s more")


def test_what_fills_cost_holds_the_quote_back() -> None:
    # USDC a second at 1.5, 2 and 2.5 ticks: 0.0167 - 0.0221, 0.0082 - 0.0054 and 0.0022 - 0.0010
    costly = FAR | {"terms": pool(8_640), "adverse_ticks": 3.0}
    assert farmed_half_spread(**costly).tighten == 0.5
    assert farmed_half_spread(**costly | {"flow_per_s": 0.0}).tighten == 2.0


def test_fills_that_were_measured_to_gain_draw_nearer_than_the_zero_profit_assumption() -> None:
    case = FAR | {"terms": pool(864), "flow_per_s": 20.0}
    assert farmed_half_spread(**case | {"adverse_ticks": -3.0}).tighten > farmed_half_spread(**case).tighten


def test_a_half_spread_outside_the_band_is_drawn_into_it() -> None:
    case = FAR | {"half_spread": 7.3, "flow_per_s": 0.0, "terms": pool(10)}
    assert farmed_half_spread(**case).tighten == pytest.approx(6.8)
    assert farmed_half_spread(**case | {"flow_per_s": 1e6, "adverse_ticks": 9.0}).tighten == 0.0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"terms": None}, "no terms"),
        ({"terms": pool(None)}, "pool unknown"),
        ({"terms": pool(0)}, "pool empty"),
        ({"size": shares(49.99)}, "size below the rewards' minimum"),
        ({"half_spread": 0.5}, "already in the best place"),
        ({"half_spread": 0.1425}, "already in the best place"),
        ({"flow_per_s": 1e9, "adverse_ticks": 9.0}, "already in the best place"),
    ],
)
def test_a_quote_that_stays_says_why(changed: dict[str, Any], reason: str) -> None:
    assert farmed_half_spread(**FAR | changed) == Farming(0.0, reason)


def test_farming_cannot_widen() -> None:
    with pytest.raises(ValueError, match="never widen"):
        Farming(-0.5, "pays less")


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Any moment of a market with a pool."""
    return {
        "half_spread": draw(st.integers(1, 40).map(lambda halves: halves / 2) | st.floats(0.01, 40)),
        "size": shares(draw(st.integers(50, 2000))),
        "terms": pool(draw(st.integers(1, 100_000))),
        "tick": draw(st.sampled_from([Price(10_000), Price(2_500), Price(1_000)])),
        "others": (draw(st.floats(0, 1e5)), draw(st.floats(0, 1e5))),
        "flow_per_s": draw(st.floats(0, 100)),
        "decay_per_tick": draw(st.floats(0.01, 10)),
        "market_half_spread": draw(st.floats(0.5, 10)),
        "adverse_ticks": draw(st.none() | st.floats(-5, 20)),
    }


ALONE = FAR | {"others": (0.0, 0.0), "half_spread": 7.5}
"""Nobody else scores: every place within the band has the whole pool."""


@given(cases())
@example(FAR)
@example(ALONE)
def test_the_best_of_all_candidates_is_chosen_and_none_of_them_is_wider(case: dict[str, Any]) -> None:
    h0, v = case["half_spread"], case["terms"].max_spread / case["tick"]
    chosen = farmed_half_spread(**case)
    assert 0 <= chosen.tighten < h0
    at = h0 - chosen.tighten
    assert chosen.tighten == 0 or (at < v and (at * 2) == pytest.approx(round(at * 2)))
    candidates = [h0, *(halves / 2 for halves in range(1, math.ceil(h0 * 2)) if halves / 2 < v)]
    assert rate(at, case) == pytest.approx(max(rate(h, case) for h in candidates), rel=1e-9, abs=1e-12)


@given(cases(), st.sampled_from([None, 0]))
def test_without_a_pool_nothing_is_tightened(case: dict[str, Any], daily: float | None) -> None:
    assert farmed_half_spread(**case | {"terms": pool(daily)}).tighten == 0


@given(cases(), st.integers(1, 100_000))
@example(FAR, 1)
@example(ALONE | {"terms": pool(1)}, 100_000)
def test_a_larger_pool_never_widens(case: dict[str, Any], more: int) -> None:
    larger = Usdc(case["terms"].daily_pool + usdc(more))
    terms = RewardTerms(min_size=THREE.min_size, max_spread=THREE.max_spread, daily_pool=larger)
    assert farmed_half_spread(**case | {"terms": terms}).tighten >= farmed_half_spread(**case).tighten
