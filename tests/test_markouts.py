"""Markouts are the token's own, measured at the mid that held when they were due; toxicity believes them slowly and forgets them."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from worlds import NOON_MS, World, of_kind, price, shares, usdc

from mmtools.trading import events as ev
from mmtools.trading.market import Fill, Outcome, Side
from mmtools.trading.markouts import HORIZONS_S, MEMORY_S, PRIOR_FILLS, Markouts, Measured, Toxicity, markout
from mmtools.trading.params import Params
from mmtools.units import ONE, Price

YES, NO, BUY, SELL = Outcome.YES, Outcome.NO, Side.BUY, Side.SELL
CENT = 10_000

prices = st.integers(1, 9_999).map(lambda step: step * 100)
marks = st.integers(1, 199_999).map(lambda step: step * 5)


def fill(outcome: Outcome, side: Side, at: int, *, at_ms: int = NOON_MS, trade_id: str = "t1") -> Fill:
    return Fill(
        trade_id=trade_id, order_key="o1", market=0, outcome=outcome, side=side, price=Price(at), size=shares(7),
        at_ms=at_ms, mark=price("0.475"), fee=usdc(0),
    )  # fmt: skip


# --- what a markout is


def test_no_bought_at_its_fair_price_has_gained_nothing_while_the_mid_stands_still() -> None:
    """NO at 0.80 while YES stands at 0.20; held against the price of the other token it would have lost 0.60."""
    assert markout(fill(NO, BUY, 800_000), 200_000) == 0


@pytest.mark.parametrize(
    ("outcome", "side", "at", "mark", "gained"),
    [
        (YES, BUY, 470_000, 495_000, 25_000),
        (YES, SELL, 480_000, 495_000, -15_000),
        (NO, BUY, 520_000, 495_000, -15_000),  # NO is worth 0.505 then
        (NO, SELL, 530_000, 495_000, 25_000),
    ],
)
def test_a_markout_by_hand(outcome: Outcome, side: Side, at: int, mark: int, gained: int) -> None:
    assert markout(fill(outcome, side, at), mark) == gained


@given(st.sampled_from(Outcome), st.sampled_from(Side), prices, marks)
@example(YES, BUY, 100, ONE)
@example(NO, SELL, ONE - 100, 0)
def test_a_fill_and_its_mirror_in_the_other_token_gain_the_same(outcome: Outcome, side: Side, at: int, mark: int) -> None:
    mine, mirror = fill(outcome, side, at), fill(outcome.other, side.opposite, ONE - at)
    assert markout(mine, mark) == markout(mirror, mark) == mine.yes_side.sign * (mark - mine.yes_price)


@given(st.sampled_from(Outcome), st.sampled_from(Side), prices, marks)
def test_what_the_buyer_of_a_share_gains_its_seller_loses(outcome: Outcome, side: Side, at: int, mark: int) -> None:
    assert markout(fill(outcome, side, at), mark) == -markout(fill(outcome, side.opposite, at), mark)


# --- when it is measured


def measured(of: Markouts, now_ms: int, mark: int | None) -> list[tuple[int, int | None]]:
    return [(each.horizon_s, each.mark) for each in of.due(now_ms, None if mark is None else Price(mark))]


def test_each_horizon_is_due_at_its_instant_once_and_not_a_millisecond_earlier() -> None:
    waiting = Markouts()
    waiting.filled(fill(YES, BUY, 470_000))
    for mark, horizon_s in enumerate(HORIZONS_S, 475_000):
        assert measured(waiting, NOON_MS + horizon_s * 1000 - 1, 1) == []
        assert measured(waiting, NOON_MS + horizon_s * 1000, mark) == [(horizon_s, mark)]
    assert measured(waiting, NOON_MS + 10**9, 1) == []


def test_a_late_look_measures_all_that_is_due_at_the_mark_that_held_since() -> None:
    waiting = Markouts()
    waiting.filled(fill(YES, BUY, 470_000))
    waiting.filled(fill(YES, BUY, 460_000, at_ms=NOON_MS + 4_500))
    assert measured(waiting, NOON_MS + 6_000, 480_000) == [(1, 480_000), (1, 480_000), (5, 480_000)]


def test_a_mark_that_nobody_knows_is_unknown_and_no_markout_of_0() -> None:
    assert Measured(fill(NO, BUY, 520_000), 5, None).per_share is None
    assert Measured(fill(NO, BUY, 520_000), 5, Price(480_000)).per_share == 0


@given(st.lists(st.tuples(st.integers(0, 40_000), prices), min_size=1, max_size=12), st.lists(st.integers(0, 30_000), max_size=30))
@example([(0, 470_000), (0, 460_000)], [999, 1, 1, 3_999])
def test_every_fill_is_measured_once_at_each_horizon_at_the_mark_of_its_due_instant(fills: list[tuple[int, int]], looks: list[int]) -> None:
    """The mark is the time of the look before; whoever looked up another one would give another number."""
    waiting, found, expected = Markouts(), [], []
    made = []
    at_ms = NOON_MS
    for number, (pause_ms, at) in enumerate(fills):
        at_ms += pause_ms
        made.append(fill(YES, BUY, at, at_ms=at_ms, trade_id=f"t{number}"))
    times, now_ms = [], NOON_MS
    for pause_ms in [*looks, 10**7]:
        now_ms += pause_ms
        times.append(now_ms)
    for look, now_ms in enumerate(times):
        while made and made[0].at_ms <= now_ms:
            waiting.filled(made.pop(0))
        found += [(each.fill.trade_id, each.horizon_s, each.mark) for each in waiting.due(now_ms, Price(look))]
    at_ms = NOON_MS
    for number, (pause_ms, _) in enumerate(fills):
        at_ms += pause_ms
        for horizon_s in HORIZONS_S:
            expected.append((f"t{number}", horizon_s, next(look for look, at in enumerate(times) if at >= at_ms + horizon_s * 1000)))
    assert sorted(found) == sorted(expected)


# --- through the maker


def filled(**params: Any) -> World:
    """Our bid at 0.47 has just filled; the mid is 0.475."""
    world = World(**{"latency_ms": 0, "event_cool_off_s": 0.0, "max_data_gap_s": 600, **params})
    world.show()
    world.arrive(10)
    world.trade(SELL, "0.46", 60)
    assert of_kind(world.actions, ev.Filled)
    world.actions.clear()
    return world


def judged(actions: Sequence[ev.Action]) -> list[tuple[int, int | None]]:
    return [(each.measured.horizon_s, each.measured.mark) for each in of_kind(actions, ev.Judged)]


def test_a_touch_that_moves_at_the_due_instant_comes_too_late() -> None:
    world = filled()
    world.arrive(1_000)
    assert judged(world.show(bids={"0.5": 20}, asks={"0.52": 20})) == [(1, price("0.475"))]
    world.arrive(3_999)
    assert judged(world.show(bids={"0.48": 20}, asks={"0.49": 20})) == []
    world.arrive(5_000)
    assert judged(world.tick()) == [(5, price("0.485"))]


def test_a_timer_that_comes_late_still_measures_at_the_mark_of_the_due_instant() -> None:
    world = filled()
    world.arrive(700)
    world.show(bids={"0.45": 20}, asks={"0.48": 20})
    world.arrive(1_500)
    assert judged(world.show(bids={"0.6": 20}, asks={"0.63": 20})) == [(1, price("0.465"))]
    assert judged(world.tick()) == []


def test_a_fill_in_the_frame_that_moves_the_touch_measures_the_earlier_ones_before_it() -> None:
    """The naive `touch` fills at the end of a frame, before the maker hears that the touch moved."""
    world = World(queue_model="touch", latency_ms=0, event_cool_off_s=0.0, max_data_gap_s=600)
    world.show()
    world.arrive(10)
    world.show(bids={"0.47": 9}, asks={"0.48": 9})
    assert of_kind(world.actions, ev.Filled)
    world.arrive(1_000)
    world.actions.clear()
    world.show(bids={"0.45": 20}, asks={"0.48": 9})
    assert of_kind(world.actions, ev.Filled), "the ask that came meanwhile fills in this frame"
    assert {mark for horizon_s, mark in judged(world.actions) if horizon_s == 1} == {price("0.475")}


@pytest.mark.parametrize("ends_with_a_frame", [False, True])
def test_what_is_due_in_a_data_gap_is_unknown_even_when_a_frame_ends_the_gap_before_the_timer(ends_with_a_frame: bool) -> None:
    world = filled(max_data_gap_s=3)
    world.arrive(1_000)
    assert judged(world.tick()) == [(1, price("0.475"))]
    world.arrive(2_100)
    assert of_kind(world.tick(), ev.Pause)
    world.arrive(1_900)
    now = world.show(bids={"0.5": 20}, asks={"0.52": 20}) if ends_with_a_frame else world.tick()
    assert judged(now) == [(5, None)]


def test_after_a_gap_marks_are_known_again() -> None:
    world = filled(max_data_gap_s=3)
    world.arrive(6_000)
    world.tick()
    world.show(bids={"0.5": 20}, asks={"0.52": 20})
    world.tick()
    for _ in range(12):
        world.arrive(2_000)
        world.views[0].alive(world.now_ms)
        world.tick()
    assert judged(world.actions) == [(1, None), (5, None), (30, price("0.51"))]


def test_what_is_due_after_resolution_is_unknown_and_what_was_due_before_is_measured_at_the_mid() -> None:
    world = filled()
    world.arrive(1_500)
    world.views[0].resolved = True
    for event in world.exchange.resolve(0, Price(ONE)):
        world.hear(event)
    assert judged(world.actions) == [(1, price("0.475"))]
    world.arrive(200_000)
    assert judged(world.tick()) == [(5, None), (30, None), (120, None)]


def test_resolution_after_a_silence_does_not_make_the_silence_known() -> None:
    world = filled(max_data_gap_s=3)
    world.arrive(4_000)
    world.views[0].resolved = True
    for event in world.exchange.resolve(0, Price(0)):
        world.hear(event)
    assert judged(world.actions) == [(1, None)]


def test_only_the_markout_of_its_horizon_reaches_toxicity_and_an_unknown_one_does_not() -> None:
    world = filled(toxicity_horizon_s=5)
    toxicity = world.maker.desks[0].toxicity
    world.arrive(1_000)
    world.tick()
    assert toxicity.mean(world.now_ms, CENT) is None
    world.show(bids={"0.43": 20}, asks={"0.44": 20})
    world.arrive(4_000)
    world.tick()
    assert toxicity.mean(world.now_ms, CENT) == pytest.approx(-3.5 / (1 + PRIOR_FILLS))
    blind = filled(toxicity_horizon_s=5, max_data_gap_s=1)
    blind.arrive(6_000)
    assert (5, None) in judged(blind.tick())
    assert blind.maker.desks[0].toxicity.mean(blind.now_ms, CENT) is None


# --- toxicity


def toxicity(*per_share: int, at_ms: int = NOON_MS, **params: Any) -> Toxicity:
    made = Toxicity(Params(**params))
    for each in per_share:
        made.add(each, at_ms)
    return made


def test_without_a_fill_nothing_is_known_and_nothing_widened() -> None:
    none = toxicity(toxicity_zscore=0.0)
    assert (none.mean(NOON_MS, CENT), none.zscore(NOON_MS, CENT), none.widening(NOON_MS, CENT)) == (None, None, 0.0)


def test_the_mean_is_drawn_to_0_by_as_many_fills_as_the_prior_has() -> None:
    assert toxicity(-60_000, 18_000).mean(NOON_MS, CENT) == pytest.approx((-6 + 1.8) / (2 + PRIOR_FILLS))


def test_the_zscore_is_the_mean_over_its_standard_error() -> None:
    """Two fills of -6 and 1.8 ticks and five of 0; and half a tick that a price on a grid cannot be better known than."""
    mean = -4.2 / 7
    variance = (sum((each - mean) ** 2 for each in (-6, 1.8, 0, 0, 0, 0, 0))) / 6 + 0.5**2
    assert toxicity(-60_000, 18_000).zscore(NOON_MS, CENT) == pytest.approx(mean / math.sqrt(variance / 7))


@given(st.integers(1, ONE), st.sampled_from([100, 1_000, CENT]))
@example(ONE, 100)
@example(30_001, CENT)
def test_one_bad_fill_is_bad_luck_however_bad_it_was(lost: int, tick: int) -> None:
    one = toxicity(-lost)
    zscore = one.zscore(NOON_MS, tick)
    assert zscore is not None
    assert -1 < zscore < 0
    assert one.widening(NOON_MS, tick) == 0.0


def test_two_bad_fills_are_no_chance_and_are_asked_back() -> None:
    two = toxicity(-50_000, -50_000)
    assert two.widening(NOON_MS, CENT) == pytest.approx(10 / 7)
    assert toxicity(-50_000, -50_000, toxicity_widening=0.4).widening(NOON_MS, CENT) == pytest.approx(4 / 7)


def test_losses_and_gains_of_one_size_are_no_toxicity_and_gains_alone_narrow_nothing() -> None:
    assert toxicity(*[-50_000, 40_000] * 20).widening(NOON_MS, CENT) == 0.0
    assert toxicity(*[50_000] * 20, toxicity_zscore=0.0).widening(NOON_MS, CENT) == 0.0


def test_a_widening_of_0_switches_it_off_and_the_figures_stay() -> None:
    off = toxicity(*[-50_000] * 20, toxicity_widening=0.0)
    assert off.widening(NOON_MS, CENT) == 0.0
    assert off.mean(NOON_MS, CENT) == pytest.approx(-4.0)


@given(st.lists(st.integers(-100_000, 100_000), min_size=1, max_size=30), st.floats(0, 5))
@example([-50_000] * 3, 0.0)
@example([0], 0.0)
def test_it_widens_exactly_when_the_loss_is_significant_and_by_the_mean_loss(values: list[int], needed: float) -> None:
    of = toxicity(*values, toxicity_zscore=needed)
    mean, zscore = of.mean(NOON_MS, CENT), of.zscore(NOON_MS, CENT)
    assert mean is not None
    assert zscore is not None
    assert of.widening(NOON_MS, CENT) == (-mean if zscore < -needed else 0.0)


@given(st.lists(st.integers(-100_000, 100_000), min_size=1, max_size=10), st.integers(0, 4 * 600_000))
@example([-50_000, -50_000], 0)
def test_what_is_old_fades_to_nothing_and_leaves_the_prior(values: list[int], later_ms: int) -> None:
    of = toxicity(*values)
    kept = math.exp(-later_ms / (MEMORY_S * 1000))
    assert of.mean(NOON_MS + later_ms, CENT) == pytest.approx(sum(values) / CENT * kept / (len(values) * kept + PRIOR_FILLS))
    assert of.mean(NOON_MS, CENT) == pytest.approx(sum(values) / CENT / (len(values) + PRIOR_FILLS)), "looking ahead changed nothing"


def test_old_proof_is_forgotten_and_the_quotes_come_back() -> None:
    of = toxicity(*[-50_000] * 6)
    widened = [of.widening(NOON_MS + minutes * 60_000, CENT) for minutes in (0, 5, 10, 60)]
    assert widened[0] > widened[1] > widened[2] > widened[3] == 0.0


def test_new_fills_outweigh_old_ones() -> None:
    of = toxicity(*[-50_000] * 4)
    for _ in range(4):
        of.add(20_000, NOON_MS + 1_200_000)
    kept = math.exp(-2)
    assert of.mean(NOON_MS + 1_200_000, CENT) == pytest.approx(4 * (2 - 5 * kept) / (4 + 4 * kept + PRIOR_FILLS))


@given(st.lists(st.integers(-100_000, 0), min_size=2, max_size=10))
@example([-50_000, -40_000])
def test_the_same_loss_is_as_many_more_ticks_as_the_grid_is_finer(values: list[int]) -> None:
    of = toxicity(*values, toxicity_zscore=0.0)
    assert of.mean(NOON_MS, 1_000) == pytest.approx(10 * (of.mean(NOON_MS, CENT) or 0.0))
    assert of.widening(NOON_MS, 1_000) == pytest.approx(10 * of.widening(NOON_MS, CENT))
