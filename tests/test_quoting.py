"""Where the models quote, by hand on lopsided numbers, and what snapping, log-odds, ladders and adjustments hold for any numbers."""

import math
from msgspec.structs import replace
from itertools import pairwise
from typing import get_args

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mmtools import units
from mmtools.trading.market import TICKS, Side
from mmtools.trading.orders import KEEP_DOWN_TO, KEEP_UP_TO
from mmtools.trading.params import DEFAULT_BANDS, Band, Model, Params
from mmtools.trading.quoting import (
    FARTHEST,
    LEAST_HALF,
    MODELS,
    Adjustments,
    Inputs,
    Rung,
    Unsnapped,
    adjusted,
    avellaneda_stoikov,
    bands,
    closest,
    fixed,
    glft,
    ladder,
    log_odds,
    logit,
    rungs,
    snap,
)
from mmtools.units import ONE, Shares


def skew(inputs: Inputs, params: Params) -> float:
    """Return by how many ticks inventory lowers the reservation price of the chosen model."""
    return inputs.fair - MODELS[params.model](inputs, params).reservation


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


@st.composite
def ladders(draw: st.DrawFn) -> tuple[Band, ...]:
    """Bands as people write them, in millionths and lots, each beginning where the one before ends or later."""
    margins = sorted(draw(st.lists(st.integers(1, ONE), min_size=3, max_size=12).filter(lambda found: len(found) % 3 == 0)))
    sizes = [sorted(draw(st.tuples(*[st.integers(1, 100_000)] * 3))) for _ in margins[::3]]
    return tuple(
        Band(
            min_margin=margins[3 * i] / ONE, avg_margin=margins[3 * i + 1] / ONE, max_margin=margins[3 * i + 2] / ONE,
            min_size=size[0] / 100, avg_size=size[1] / 100, max_size=size[2] / 100,
        )
        for i, size in enumerate(sizes)
    )  # fmt: skip


params = st.builds(
    Params,
    default_half_spread_bps=st.floats(0.01, 20_000),
    gamma_risk_aversion=st.floats(0.001, 100),
    order_arrival_decay_per_tick=st.floats(0.01, 100),
    order_arrival_per_s=st.floats(0.001, 100),
    bands=st.just(()) | ladders(),
    max_skew_ticks=st.floats(0, 10_000),
)
models = st.sampled_from(sorted(MODELS))
coefficients = st.floats(1e-6, 1e6) | st.sampled_from([1e-6, 1e6])
SYMMETRIC = sorted(MODELS.keys() - {"logit"})
"""Models whose bid and ask are as many ticks from the reservation price."""
EXTREME = Params(default_half_spread_bps=0.01, gamma_risk_aversion=100.0, max_skew_ticks=10_000.0)


def test_every_model_that_a_config_can_name_is_there() -> None:
    assert set(MODELS) == set(get_args(Model))


@given(models, inputs(), params)
@example("fixed", replace(FLAT, inventory=1000.0), EXTREME)
@example("fixed", replace(FLAT, inventory=-1000.0), EXTREME)
@example("fixed", Inputs(fair=1.5, mid=1.5, inventory=0, sigma=0, tau_s=0, best_bid=1, best_ask=2, top=10), EXTREME)
@example(
    "avellaneda-stoikov", Inputs(fair=9998.5, mid=9998.5, inventory=-9, sigma=3, tau_s=5, best_bid=9998, best_ask=9999, top=10_000), EXTREME
)
@example("glft", replace(FLAT, inventory=-1000.0, sigma=60.0), EXTREME)
@example("logit", replace(FLAT, inventory=1000.0, sigma=60.0, tau_s=3600.0), EXTREME)
@example("logit", Inputs(fair=1.002, mid=1.5, inventory=-1000, sigma=60, tau_s=3600, best_bid=1, best_ask=2, top=10_000), EXTREME)
@example("logit", Inputs(fair=9998.9, mid=9998.5, inventory=1000, sigma=0, tau_s=0, best_bid=9998, best_ask=9999, top=10_000), EXTREME)
@example("bands", replace(FLAT, inventory=3.0), EXTREME)
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


@given(st.sampled_from(SYMMETRIC), inputs(), params)
def test_all_models_but_logit_put_bid_and_ask_at_one_distance_from_the_reservation_price(model: str, seen: Inputs, chosen: Params) -> None:
    wish = MODELS[model](seen, chosen)
    assert wish.bid < wish.ask
    assert wish.half_spread == pytest.approx(wish.reservation - wish.bid, rel=1e-6, abs=1e-6)


@given(st.sampled_from(get_args(Model)), inputs(), params)
@example("logit", replace(FLAT, inventory=40.0), Params(max_skew_ticks=0.0))
@example("logit", replace(FLAT, inventory=-7.0, fair=47.9), Params(max_skew_ticks=52.0))
@example("glft", replace(FLAT, inventory=-40.0), Params(max_skew_ticks=3.5))
def test_the_reservation_price_is_fair_value_less_skew_and_within_max_skew_ticks_of_it(model: Model, seen: Inputs, chosen: Params) -> None:
    chosen = msgspec.structs.replace(chosen, model=model)
    found = skew(seen, chosen)
    assert MODELS[model](seen, chosen).reservation == pytest.approx(seen.fair - found)
    assert abs(found) <= chosen.max_skew_ticks + 1e-8
    assert found * seen.inventory >= -1e-8


@given(models, inputs(), coefficients, coefficients, coefficients, st.floats(0, 10_000))
@example("glft", replace(FLAT, inventory=-9.0, sigma=60.0), 1e6, 1e-6, 1e-6, 5.0)
@example("glft", replace(FLAT, inventory=9.0), 1e-6, 1e6, 1e6, 5.0)
@example("glft", replace(FLAT, inventory=9.0, sigma=0.0), 1e-6, 1e-6, 1e6, 0.0)
@example("logit", replace(FLAT, inventory=1000.0, sigma=60.0, tau_s=3600.0), 1e6, 1e-6, 1.0, 10_000.0)
@example("logit", replace(FLAT, inventory=-1000.0, sigma=60.0, tau_s=3600.0), 1e6, 1e6, 1.0, 10_000.0)
def test_quotes_are_finite_wherever_coefficients_may_be(model: str, seen: Inputs, gamma: float, k: float, a: float, cap: float) -> None:
    chosen = Params(gamma_risk_aversion=gamma, order_arrival_decay_per_tick=k, order_arrival_per_s=a, max_skew_ticks=cap)
    wish = MODELS[model](seen, chosen)
    assert math.isfinite(wish.reservation)
    assert math.isfinite(wish.bid)
    assert math.isfinite(wish.ask)
    assert wish.bid < wish.reservation < wish.ask
    snap(wish, seen)


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


@given(models, inputs(), params, st.floats(0.001, 500))
@example("logit", replace(FLAT, inventory=999.0, sigma=60.0, tau_s=3600.0), EXTREME, 1.0)
@example("logit", replace(FLAT, inventory=-0.5), Params(max_skew_ticks=0.0), 1.0)
@example("glft", replace(FLAT, inventory=-0.5), Params(max_skew_ticks=1.0), 400.0)
@example("bands", replace(FLAT, inventory=-0.5), Params(max_skew_ticks=1.0), 0.01)
def test_more_inventory_never_raises_a_quote(model: str, seen: Inputs, chosen: Params, more: float) -> None:
    less, long = (MODELS[model](each, chosen) for each in (seen, replace(seen, inventory=seen.inventory + more)))
    assert long.reservation <= less.reservation + 1e-8
    assert long.bid <= less.bid + 1e-8
    assert long.ask <= less.ask + 1e-8


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


# GLFT. The numbers were computed from equations 4.6 and 4.7 of arXiv 1605.01862.

CALIBRATED = Params(
    model="glft", order_arrival_per_s=2.986162360812285, order_arrival_decay_per_tick=0.04235741115084049,
    gamma_risk_aversion=0.05, max_skew_ticks=100.0,
)  # fmt: skip


@pytest.mark.parametrize("q", [1.0, -3.0, 0.0])
def test_glft_by_the_published_numbers(q: float) -> None:
    seen = replace(FLAT, sigma=10.69, inventory=q)
    wish = glft(seen, CALIBRATED)
    assert wish.half_spread == pytest.approx(20.47208533844371, rel=0, abs=1e-9)
    assert skew(seen, CALIBRATED) == pytest.approx(q * 9.76326865029227, rel=0, abs=1e-9)


def test_tau_does_not_enter_glft() -> None:
    seen = replace(FLAT, inventory=2.0)
    assert glft(seen, CALIBRATED) == glft(replace(seen, tau_s=0.0), CALIBRATED)


def test_glft_with_hardly_any_risk_aversion_keeps_e_in_the_power() -> None:
    """gamma -> 0: (1 + gamma / k)^(k / gamma + 1) -> e, c1 -> 1 / k; plain floats would make 2.7185234 of e here."""
    chosen = Params(gamma_risk_aversion=1e-6, order_arrival_decay_per_tick=1e6, order_arrival_per_s=1e-6, max_skew_ticks=100)
    wish = glft(replace(FLAT, inventory=5.0, sigma=1000.0), chosen)
    c2 = math.sqrt(1e-6 / 2 * math.e)
    assert wish.reservation == pytest.approx(47.5 - 5.0 * 1000 * c2, rel=1e-9)
    assert wish.half_spread == pytest.approx(1e-6 + 500 * c2, rel=1e-9)


def test_skew_is_that_of_the_chosen_model() -> None:
    """Avellaneda & Stoikov 2.5 x 0.3 x 7.2; GLFT 2.5 x 1.2 x sqrt(0.75 x 1.15^(23 / 3)); logit by its formula at w = 24.9375."""
    seen = replace(FLAT, inventory=2.5)
    found = {model: skew(seen, Params(model=model, max_skew_ticks=100)) for model in get_args(Model)}
    w = 47.5 * 0.525
    assert found["fixed"] == found["bands"] == found["avellaneda-stoikov"] == pytest.approx(5.4)
    assert found["glft"] == pytest.approx(3 * math.sqrt(0.75 * 1.15 ** (23 / 3)))
    assert found["logit"] == pytest.approx(47.5 - 100 / (1 + 0.525 / 0.475 * math.exp(5.4 / w)))


# Log-odds.

TABLE = [
    (0.05, 0.0, 0.044940, 0.055596),
    (0.20, 0.0, 0.182680, 0.218524),
    (0.50, 0.0, 0.472028, 0.527972),
    (0.05, 5.0, 0.039870, 0.049386),
    (0.20, 5.0, 0.164751, 0.197929),
    (0.50, 5.0, 0.441025, 0.496751),
]


@pytest.mark.parametrize(("p", "q", "bid", "ask"), TABLE)
def test_quotes_in_log_odds_by_the_table(p: float, q: float, bid: float, ask: float) -> None:
    """gamma 0.1, sigma_b 0.5, tau 1, k 10; computed from the formulas of arXiv 2510.15205 with 2 / gamma."""
    found = log_odds(p, q, gamma=0.1, sigma_b=0.5, tau=1.0, k=10.0)
    assert found[1:] == pytest.approx((bid, ask), rel=0, abs=1e-6)


# What `logit` hands in ends at 2.5e9: 1e6 of the params times the 2,500 ticks that a unit of log-odds has at the most.
scaled = st.floats(1e-6, 2.5e9) | st.sampled_from([1e-6, 2.5e9])


@given(st.floats(0.0001, 0.9999), st.floats(-1e6, 1e6), scaled, st.floats(0, 100), st.floats(0, 3600), scaled)
@example(0.0001, 1e6, 1e-6, 100.0, 3600.0, 2.5e9)
@example(0.0001, -1e6, 2.5e9, 100.0, 3600.0, 2.5e9)
@example(0.9999, -1e6, 2.5e9, 0.0, 0.0, 2.5e9)
@example(0.9999, -12.0, 1.0, 1.0, 1.0, 2.5e9)
@example(0.9999, 1e6, 2.5e9, 100.0, 3600.0, 1e-6)
@example(0.0001, 0.0, 2.5e9, 100.0, 3600.0, 1e-6)
@example(0.9999, 0.0, 1e-6, 0.0, 0.0, 1e-6)
def test_quotes_in_log_odds_stay_within_0_and_1_and_mirror_those_of_no(
    p: float, q: float, gamma: float, sigma_b: float, tau: float, k: float
) -> None:
    reservation, bid, ask = log_odds(p, q, gamma=gamma, sigma_b=sigma_b, tau=tau, k=k)
    assert 0 < bid < reservation < ask < 1
    no_reservation, no_bid, no_ask = log_odds(1 - p, -q, gamma=gamma, sigma_b=sigma_b, tau=tau, k=k)
    assert (reservation, bid, ask) == pytest.approx((1 - no_reservation, 1 - no_ask, 1 - no_bid), rel=0, abs=1e-12)


def test_the_bounds_of_log_odds_lie_beyond_every_grid() -> None:
    finest = TICKS[-1] / ONE
    assert 1 / (1 + math.exp(FARTHEST)) < finest / 10


def test_a_wide_ask_in_log_odds_is_not_moved_by_the_bound_of_the_reservation_price() -> None:
    """r_x = -20 x 2 = -40 and d_x = 28.6: the ask stays below, at -11.4 as the formula has it, not at the bound plus d_x."""
    reservation, bid, ask = log_odds(0.5, 20.0, gamma=1.0, sigma_b=math.sqrt(2.0), tau=1.0, k=1e-12)
    d = (2 + 2 * math.log1p(1e12)) / 2
    assert bid < reservation < 1e-5
    assert ask == pytest.approx(1 / (1 + math.exp(40 - d)))


@given(inputs(), coefficients, coefficients, st.floats(0, 10_000))
@example(replace(FLAT, inventory=1000.0, sigma=60.0, tau_s=3600.0), 1e6, 1e6, 10_000.0)
@example(Inputs(fair=9999.0 - 1e-3, mid=9998.5, inventory=-9, sigma=60, tau_s=9, best_bid=9998, best_ask=9999, top=10_000), 1e6, 1e6, 1e4)
@example(Inputs(fair=1 + 1e-3, mid=1.5, inventory=900.0, sigma=60, tau_s=9, best_bid=1, best_ask=2, top=10), 1e-6, 1e6, 0.0)
def test_logit_never_leaves_the_prices_between_0_and_1(seen: Inputs, gamma: float, k: float, cap: float) -> None:
    wish = logit(seen, Params(gamma_risk_aversion=gamma, order_arrival_decay_per_tick=k, max_skew_ticks=cap))
    assert 0 < wish.bid < wish.reservation < wish.ask < seen.top


@given(inputs(), params)
@example(replace(FLAT, inventory=-2.0), Params())
@example(
    Inputs(fair=9000.5, mid=9000.5, inventory=3, sigma=2, tau_s=5, best_bid=9000, best_ask=9001, top=10_000), Params(max_skew_ticks=100)
)
def test_close_to_fair_value_logit_is_avellaneda_stoikov(seen: Inputs, chosen: Params) -> None:
    """The second term of the Taylor series: w (1 - 2 p) h^2 / 2 for h = d / w, at most d^2 / w as long as h is at most 0.5."""
    chosen = msgspec.structs.replace(chosen, max_skew_ticks=10_000.0)
    # Quiet enough for quotes close to fair value to be drawn at all.
    seen = replace(seen, sigma=seen.sigma / 60, tau_s=seen.tau_s / 360, inventory=seen.inventory / 100)
    linear, curved = avellaneda_stoikov(seen, chosen), logit(seen, chosen)
    w = seen.fair * (1 - seen.fair / seen.top)
    d = abs(seen.fair - linear.reservation) + linear.half_spread
    assume(d <= w / 2)
    for name in ("reservation", "bid", "ask"):
        assert getattr(curved, name) == pytest.approx(getattr(linear, name), rel=1e-9, abs=d**2 / w)


# Bands and ladders.


def test_bands_quote_the_average_margin_of_the_first_rung_around_the_skewed_fair_value() -> None:
    seen = replace(FLAT, inventory=0.5)
    wish = bands(seen, Params(model="bands"))
    assert (wish.reservation, wish.bid, wish.ask) == pytest.approx((46.42, 45.42, 47.42))
    fine = bands(replace(seen, fair=475.0, mid=475.0, best_bid=470, best_ask=480, top=1000), Params(model="bands"))
    assert (fine.bid, fine.ask) == pytest.approx((475.0 - 1.08 - 10, 475.0 - 1.08 + 10))


def test_the_default_bands_on_a_tick_of_0_005() -> None:
    first, second = rungs(Params(model="bands", num_levels=7), 5_000)
    assert first == Rung(behind=0.0, size=Shares(units.of(50)), near=1.0, far=4.0, down_to=0.5, up_to=1.5)
    assert second == Rung(behind=4.0, size=Shares(units.of(100)), near=4.0, far=8.0, down_to=0.5, up_to=1.5)


def test_the_rungs_of_an_ordinary_model_are_num_levels_one_tick_apart() -> None:
    chosen = Params(model="logit", num_levels=3, default_order_size=12.5, bands=DEFAULT_BANDS)
    assert rungs(chosen, 10_000) == tuple(
        Rung(behind=float(i), size=Shares(units.of(12.5)), near=None, far=None, down_to=KEEP_DOWN_TO, up_to=KEEP_UP_TO) for i in range(3)
    )


def test_a_margin_on_the_grid_is_a_whole_number_of_ticks() -> None:
    for tick in TICKS:
        for n in (*range(1, min(ONE // tick, 300)), ONE // tick):
            margin = n * tick / ONE
            band = Band(min_margin=margin, avg_margin=margin, max_margin=margin, min_size=5.0, avg_size=5.0, max_size=5.0)
            assert rungs(Params(model="bands", bands=(band,)), tick)[0].near == n


@given(ladders(), st.sampled_from(TICKS), inputs())
@example(DEFAULT_BANDS, TICKS[1], replace(FLAT, inventory=-2.0))
def test_rungs_of_bands_stand_within_their_bands_and_bands_do_not_overlap(given: tuple[Band, ...], tick: int, seen: Inputs) -> None:
    chosen = Params(model="bands", bands=given)
    seen = replace(seen, top=ONE // tick)
    half, found = bands(seen, chosen).half_spread, rungs(chosen, tick)
    assert len(found) == len(given)
    assert found[0].behind == 0
    for rung, band in zip(found, given, strict=True):
        assert rung.near is not None
        assert rung.far is not None
        assert rung.near - 1e-6 <= half + rung.behind <= rung.far + 1e-6
        assert rung.size == units.of(band.avg_size)
        assert 0 < rung.down_to <= 1 <= rung.up_to
    for nearer, farther in pairwise(found):
        assert nearer.behind <= farther.behind
        assert (nearer.far or 0.0) <= (farther.near or 0.0)


def test_bands_that_overlap_or_fall_cannot_be() -> None:
    near, far = DEFAULT_BANDS
    with pytest.raises(ValueError, match="overlap"):
        Params(model="bands", bands=(far, near))
    with pytest.raises(ValueError, match="must not fall"):
        Band(min_margin=0.02, avg_margin=0.01, max_margin=0.03, min_size=5.0, avg_size=5.0, max_size=5.0)
    with pytest.raises(ValueError, match="must not fall"):
        Band(min_margin=0.01, avg_margin=0.01, max_margin=0.03, min_size=5.0, avg_size=6.0, max_size=5.5)


@given(models, inputs(), params, st.integers(1, 20))
@example("fixed", replace(FLAT, inventory=1000.0), EXTREME, 20)
@example("avellaneda-stoikov", replace(FLAT, best_bid=44, best_ask=45, fair=44.7), Params(), 5)
def test_the_ladder_of_an_ordinary_model_is_the_first_quote_and_the_ticks_behind_it(
    model: str, seen: Inputs, chosen: Params, levels: int
) -> None:
    wish = MODELS[model](seen, chosen)
    at, steps = snap(wish, seen), rungs(Params(num_levels=levels), ONE // seen.top)
    if at.bid is not None:
        assert ladder(Side.BUY, at.bid, wish.bid, steps) == tuple(at.bid - i for i in range(levels))
    if at.ask is not None:
        assert ladder(Side.SELL, at.ask, wish.ask, steps) == tuple(at.ask + i for i in range(levels))


@given(st.sampled_from(list(Side)), st.floats(-50, 10_000), st.integers(0, 30), ladders(), st.sampled_from(TICKS))
@example(Side.BUY, 44.0, 0, DEFAULT_BANDS, TICKS[1])
@example(Side.SELL, 51.0, 4, DEFAULT_BANDS, TICKS[1])
@example(Side.SELL, 51.3, 0, DEFAULT_BANDS, TICKS[0])
def test_rungs_never_share_a_price_nor_stand_nearer_than_they_wish(
    side: Side, wish: float, gave_way: int, given: tuple[Band, ...], tick: int
) -> None:
    first = math.floor(wish) - gave_way if side is Side.BUY else math.ceil(wish) + gave_way
    steps = rungs(Params(model="bands", bands=given), tick)
    prices = ladder(side, first, wish, steps)
    assert prices[0] == first
    assert len(prices) == len(steps)
    for (better, worse), rung in zip(pairwise(prices), steps[1:], strict=True):
        assert (better - worse) * side.sign >= 1
        gap = (wish - worse) * side.sign - rung.behind
        assert gap >= -1e-6
        assert gap < 1 + 1e-6 or (better - worse) * side.sign == 1


def test_a_first_rung_that_gives_way_does_not_move_the_others() -> None:
    steps = rungs(Params(model="bands"), 10_000)
    assert ladder(Side.BUY, 46, 46.5, steps) == (46, 44)
    assert ladder(Side.BUY, 45, 46.5, steps) == (45, 44)
    assert ladder(Side.BUY, 43, 46.5, steps) == (43, 42)
    assert ladder(Side.SELL, 49, 48.5, steps) == (49, 51)
    assert ladder(Side.SELL, 53, 48.5, steps) == (53, 54)


# Adjustments.

WIDE = Unsnapped(47.3, 44.0, 51.9)


def test_toxicity_widens_and_rewards_narrow_both_sides() -> None:
    found = adjusted(WIDE, Adjustments(toxicity=1.5, rewards=0.25))
    assert (found.reservation, found.bid, found.ask) == pytest.approx((47.3, 42.75, 53.15))


def test_only_the_side_that_a_trend_runs_into_steps_back() -> None:
    assert adjusted(WIDE, Adjustments(trend=2.0)) == Unsnapped(47.3, 44.0, 53.9)
    assert adjusted(WIDE, Adjustments(trend=-1.5)) == Unsnapped(47.3, 42.5, 51.9)


def test_rewards_leave_a_twentieth_of_a_tick_of_a_wider_quote_and_widen_no_narrower_one() -> None:
    found = adjusted(Unsnapped(47.3, 47.28, 51.9), Adjustments(rewards=100.0))
    assert (found.bid, found.ask) == (47.28, 47.3 + LEAST_HALF)


@pytest.mark.parametrize("wrong", [-0.1, math.nan])
def test_toxicity_and_rewards_below_0_cannot_be(wrong: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Adjustments(toxicity=wrong)
    with pytest.raises(ValueError, match="at least 0"):
        Adjustments(rewards=wrong)


@given(models, inputs(), params, st.floats(0, 100), st.floats(0, 100), st.floats(-100, 100))
@example("logit", replace(FLAT, inventory=3.0), Params(), 0.0, 100.0, 0.0)
@example("fixed", replace(FLAT, inventory=-3.0), EXTREME, 0.0, 100.0, -0.5)
@example("fixed", replace(FLAT, inventory=-3.0), EXTREME, 2.0, 2.0, 7.0)
def test_whatever_is_adjusted_bid_stays_below_reservation_price_below_ask(
    model: str, seen: Inputs, chosen: Params, toxicity: float, rewards: float, trend: float
) -> None:
    wish = MODELS[model](seen, chosen)
    assert adjusted(wish, Adjustments()) == wish
    found = adjusted(wish, Adjustments(toxicity=toxicity, rewards=rewards, trend=trend))
    assert found.reservation == wish.reservation
    assert found.bid < found.reservation < found.ask
    # Rewards bring no quote back further than toxicity and trend sent it, and the others bring none nearer.
    assert found.bid >= wish.bid - toxicity + min(trend, 0) - 1e-6
    assert found.ask <= wish.ask + toxicity + max(trend, 0) + 1e-6
    unpaid = adjusted(wish, Adjustments(toxicity=toxicity, trend=trend))
    assert unpaid.bid <= wish.bid
    assert unpaid.ask >= wish.ask
    least = min(LEAST_HALF, wish.reservation - wish.bid, wish.ask - wish.reservation)
    assert min(found.reservation - found.bid, found.ask - found.reservation) >= least - 1e-6


# Snapping at the edges of the grid.


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
