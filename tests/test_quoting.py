"""Where the models quote, by hand on lopsided numbers, and what snapping holds for any numbers."""

import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmtools.trading.market import TICKS
from mmtools.trading.params import Params
from mmtools.trading.quoting import MODELS, Inputs, Unsnapped, avellaneda_stoikov, closest, fixed, skew, snap
from mmtools.units import ONE

FLAT = Inputs(fair=47.5, mid=47.5, inventory=0.0, sigma=1.2, tau_s=5.0, best_bid=47, best_ask=48, top=100)
"""A market one tick of 0.01 wide at 0.475, moving 1.2 ticks per square root of a second."""


@st.composite
def inputs(draw: st.DrawFn) -> Inputs:
    """Any good book, with a fair value somewhere within its touch and any inventory."""
    top = ONE // draw(st.sampled_from(TICKS))
    bid = draw(st.integers(1, top - 2))
    ask = draw(st.integers(bid + 1, top - 1))
    mid = (bid + ask) / 2
    fair = draw(st.just(mid) | st.floats(bid + 0.001, ask - 0.001))
    return Inputs(
        fair=fair, mid=mid, inventory=draw(st.floats(-1000, 1000)), sigma=draw(st.floats(0, 60)), tau_s=draw(st.floats(0, 3600)),
        best_bid=bid, best_ask=ask, top=top,
    )  # fmt: skip


params = st.builds(
    Params,
    default_half_spread_bps=st.floats(0.01, 20_000),
    gamma_risk_aversion=st.floats(0.001, 100),
    order_arrival_decay_per_tick=st.floats(0.01, 100),
    max_skew_ticks=st.floats(0, 10_000),
)
EXTREME = Params(default_half_spread_bps=0.01, gamma_risk_aversion=100.0, max_skew_ticks=10_000.0)


@given(st.sampled_from(sorted(MODELS)), inputs(), params)
@example("fixed", replace(FLAT, inventory=1000.0), EXTREME)
@example("fixed", replace(FLAT, inventory=-1000.0), EXTREME)
@example("fixed", Inputs(fair=1.5, mid=1.5, inventory=0, sigma=0, tau_s=0, best_bid=1, best_ask=2, top=10), EXTREME)
@example(
    "avellaneda-stoikov", Inputs(fair=9998.5, mid=9998.5, inventory=-9, sigma=3, tau_s=5, best_bid=9998, best_ask=9999, top=10_000), EXTREME
)
def test_bid_below_fair_below_ask_whatever_the_model_says(model: str, seen: Inputs, chosen: Params) -> None:
    wish = MODELS[model](seen, chosen)
    at = snap(wish, seen)
    if at.bid is not None:
        assert 1 <= at.bid < seen.fair
        assert at.bid <= wish.bid
        assert at.bid < seen.best_ask
    if at.ask is not None:
        assert seen.fair < at.ask <= seen.top - 1
        assert at.ask >= wish.ask
        assert at.ask > seen.best_bid
    if at.bid is not None and at.ask is not None:
        assert at.ask - at.bid >= 1


@given(inputs(), params)
def test_both_models_put_bid_and_ask_at_one_distance_from_the_reservation_price(seen: Inputs, chosen: Params) -> None:
    for model in MODELS.values():
        wish = model(seen, chosen)
        assert wish.bid < wish.ask
        assert wish.half_spread == pytest.approx(wish.reservation - wish.bid, rel=1e-6, abs=1e-6)
        assert wish.reservation == pytest.approx(seen.fair - skew(seen, chosen))


def test_the_bid_is_rounded_down_and_the_ask_up() -> None:
    wide = replace(FLAT, best_bid=40, best_ask=55)
    at = snap(Unsnapped(47.5, 44.99, 50.01), wide)
    assert (at.bid, at.ask) == (44, 51)


def test_a_wish_on_the_grid_stays_where_it_is() -> None:
    at = snap(Unsnapped(47.5, 44.0, 51.0), replace(FLAT, best_bid=40, best_ask=55))
    assert (at.bid, at.ask) == (44, 51)


def test_30_bps_at_a_mid_of_0_475_quote_the_touch_of_a_one_tick_market() -> None:
    wish = fixed(FLAT, Params(default_half_spread_bps=30))
    assert wish.half_spread == pytest.approx(0.1425)
    at = snap(wish, FLAT)
    assert (at.bid, at.ask) == (47, 48)


def test_a_fair_value_on_the_grid_is_quoted_on_neither_side() -> None:
    two_wide = replace(FLAT, fair=48.0, mid=48.0, best_bid=47, best_ask=49)
    assert closest(two_wide.fair) == (47, 49)
    at = snap(fixed(two_wide, Params(default_half_spread_bps=1)), two_wide)
    assert (at.bid, at.ask) == (47, 49)


@pytest.mark.parametrize("model", MODELS)
def test_long_inventory_lowers_both_quotes_and_short_raises_them(model: str) -> None:
    wide = replace(FLAT, best_bid=30, best_ask=65)
    chosen = Params(default_half_spread_bps=1000, max_skew_ticks=100)
    long, flat, short = (snap(MODELS[model](replace(wide, inventory=q), chosen), wide) for q in (2.0, 0.0, -3.0))
    bids, asks = [at.bid or 0 for at in (long, flat, short)], [at.ask or 0 for at in (long, flat, short)]
    assert bids == sorted(set(bids))
    assert asks == sorted(set(asks))


def test_skew_is_q_gamma_sigma_squared_tau() -> None:
    # 2.5 orders x 0.3 x 1.2^2 x 5 s
    assert skew(replace(FLAT, inventory=2.5), Params(max_skew_ticks=100)) == pytest.approx(5.4)


def test_skew_is_capped_by_max_skew_ticks_both_ways() -> None:
    chosen = Params(max_skew_ticks=3.5)
    assert skew(replace(FLAT, inventory=40.0), chosen) == 3.5
    assert skew(replace(FLAT, inventory=-40.0), chosen) == -3.5
    assert skew(replace(FLAT, inventory=40.0), Params(max_skew_ticks=0)) == 0
    assert fixed(replace(FLAT, inventory=40.0), chosen).reservation == 44.0


def test_the_fixed_half_spread_is_basis_points_of_the_mid_not_of_fair_value() -> None:
    lean = replace(FLAT, fair=47.9, mid=40.0)
    wish = fixed(lean, Params(default_half_spread_bps=250))
    assert wish.half_spread == pytest.approx(1.0)
    assert (wish.bid, wish.ask) == pytest.approx((46.9, 48.9))


def test_avellaneda_stoikov_by_hand() -> None:
    """gamma 0.3, k 2, sigma^2 tau = 7.2, q = 2: skew 4.32; full spread 0.3 x 7.2 + (2 / 0.3) ln 1.15 = 2.16 + 0.931746."""
    wish = avellaneda_stoikov(replace(FLAT, inventory=2.0), Params(gamma_risk_aversion=0.3, order_arrival_decay_per_tick=2.0))
    assert wish.reservation == pytest.approx(47.5 - 4.32)
    assert wish.half_spread == pytest.approx(1.545873, abs=1e-6)
    at = snap(wish, FLAT)
    # The bid at 41.63 rounds down; the ask at 44.73 would be through fair value, so it stands at the touch.
    assert (at.bid, at.ask) == (41, 48)


def test_avellaneda_stoikov_ignores_the_fixed_half_spread() -> None:
    narrow, wide = (avellaneda_stoikov(FLAT, Params(default_half_spread_bps=bps)) for bps in (1, 5000))
    assert narrow == wide


def test_without_volatility_avellaneda_stoikov_keeps_the_part_of_order_arrival() -> None:
    wish = avellaneda_stoikov(replace(FLAT, sigma=0.0), Params(gamma_risk_aversion=0.5, order_arrival_decay_per_tick=1.5))
    assert wish.half_spread == pytest.approx(math.log(4 / 3) / 0.5)


def test_a_side_without_a_legal_price_is_none_and_the_other_one_stays() -> None:
    low = Inputs(fair=1.5, mid=1.5, inventory=0.0, sigma=0.0, tau_s=5.0, best_bid=1, best_ask=2, top=1000)
    at = snap(Unsnapped(1.5, 0.4, 2.6), low)
    assert (at.bid, at.ask) == (None, 3)
    high = replace(low, fair=998.5, mid=998.5, best_bid=998, best_ask=999)
    at = snap(Unsnapped(998.5, 997.4, 999.6), high)
    assert (at.bid, at.ask) == (997, None)


def test_the_last_ticks_are_legal() -> None:
    edges = Inputs(fair=500.0, mid=500.0, inventory=0.0, sigma=0.0, tau_s=5.0, best_bid=1, best_ask=999, top=1000)
    at = snap(Unsnapped(500.0, 1.0, 999.0), edges)
    assert (at.bid, at.ask) == (1, 999)
