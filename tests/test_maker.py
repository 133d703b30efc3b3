"""The maker as a whole, on real views and a real paper exchange: what it asks for after which event, and what it never asks for."""

from collections import Counter
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    ASKS,
    BIDS,
    NOON_MS,
    World,
    book_rows,
    engine,
    market,
    of_kind,
    price,
    print_rows,
    shares,
    usdc,
)

from mmtools.runs.engine import Engine
from mmtools.runs.journal import Record
from mmtools.runs.watcher import Watcher
from mmtools.trading import events as ev
from mmtools.trading.maker import Maker
from mmtools.trading.market import Market, Outcome, Quote, RewardTerms, Side, Skipped, Why
from mmtools.trading.orders import State
from mmtools.trading.paper import PaperExchange
from mmtools.trading.params import Band, Model, Params
from mmtools.units import ONE, Price
from mmtools.venues.venue import Kind, Row

YES, NO, BUY, SELL = Outcome.YES, Outcome.NO, Side.BUY, Side.SELL
UP_BIDS, UP_ASKS = {"0.52": 120, "0.51": 300}, {"0.53": 80, "0.54": 200}
"""Five ticks above BIDS and ASKS."""
DOWN_BIDS, DOWN_ASKS = {"0.4": 120, "0.39": 300}, {"0.41": 80, "0.42": 200}


def small(**params: Any) -> dict[str, Any]:
    """Params without loss limits, skew and events, which would move or pull the quotes of a test that is about something else."""
    return {"max_daily_loss": None, "max_drawdown": None, "max_skew_ticks": 0.0, "event_cool_off_s": 0.0, **params}


def decision(world: World, place: int = 0) -> ev.Decision:
    found = world.maker.desks[place].decision
    assert found is not None
    return found


def places(actions: object) -> list[ev.Place]:
    assert isinstance(actions, tuple | list)
    return of_kind(actions, ev.Place)


# --- quoting


def test_it_quotes_both_sides_of_the_touch_when_a_good_book_comes() -> None:
    world = World(**small(default_half_spread_bps=30))
    world.show()
    assert world.working() == {("YES", "BUY", "0.47"): 50, ("NO", "BUY", "0.52"): 50}
    assert decision(world).sides == (Quote(price("0.47"), shares(50)), Quote(price("0.48"), shares(50)))


def test_an_ask_is_sold_from_stock_and_the_rest_bought_as_no() -> None:
    world = World(**small())
    world.own(YES, 30, "0.45")
    world.show()
    assert world.working() == {("YES", "SELL", "0.48"): 30, ("NO", "BUY", "0.52"): 20, ("YES", "BUY", "0.47"): 35}


def test_a_bid_is_sold_from_no_stock_and_the_rest_bought_as_yes() -> None:
    world = World(**small())
    world.own(NO, 30, "0.45")
    world.show()
    assert world.working() == {("NO", "SELL", "0.53"): 30, ("YES", "BUY", "0.47"): 20, ("NO", "BUY", "0.52"): 35}


def test_the_side_that_adds_to_inventory_is_smaller_the_more_there_is() -> None:
    world = World(**small(max_net_position=80.0))
    world.own(YES, 20, "0.45")
    world.show()
    assert decision(world).bid == Quote(price("0.47"), shares(37.5))
    assert decision(world).ask == Quote(price("0.48"), shares(50))


def test_levels_stand_one_tick_apart_behind_the_first() -> None:
    world = World(**small(num_levels=3, default_order_size=20.0))
    world.show()
    assert set(world.working()) == {
        *(("YES", "BUY", at) for at in ("0.47", "0.46", "0.45")),
        *(("NO", "BUY", at) for at in ("0.52", "0.51", "0.5")),
    }


def test_levels_that_a_sale_serves_stay_within_the_net_cap() -> None:
    """Three levels of 50 would sell 150 YES of 300 pairs; the net may become 100 and no more."""
    world = World(**small(num_levels=3, max_position=400.0))
    world.own(YES, 300, "0.45")
    world.own(NO, 300, "0.45")
    world.show()
    for side in Side:
        assert sum(work.left for work in world.maker.desks[0].working.values() if work.order.yes_side is side) == shares(100)


def test_an_order_size_above_the_net_cap_is_cut_to_it_even_when_it_is_sold_from_stock() -> None:
    world = World(**small(default_order_size=150.0, max_net_position=100.0, max_position=400.0))
    world.own(YES, 200, "0.45")
    world.own(NO, 180, "0.45")
    world.show()
    assert decision(world).bid == Quote(price("0.47"), shares(80))
    assert decision(world).ask == Quote(price("0.48"), shares(120))


def test_a_price_nobody_ever_named_has_an_unknown_queue_and_nothing_rests_there() -> None:
    world = World(**small(default_half_spread_bps=500))  # 2.375 ticks: bid 45, ask 50
    seen = world.views[0]
    for bid, at in ((True, "0.47"), (True, "0.45"), (False, "0.48")):
        seen.level(bid, price(at), shares(90), world.now_ms)
    world.arrive(60_000)
    seen.frame(world.now_ms)
    assert seen.end(world.now_ms, -1, -1)
    world.hear(ev.TouchMoved(0))
    assert decision(world).bid == Quote(price("0.45"), shares(50))
    assert decision(world).ask == Skipped(Why.UNKNOWN_QUEUE)


def test_a_size_below_the_market_s_minimum_is_not_quoted() -> None:
    world = World(market(min_size=15), **small(default_order_size=14.99))
    world.show()
    assert decision(world).sides == (Skipped(Why.BELOW_MINIMUM), Skipped(Why.BELOW_MINIMUM))


def test_a_side_without_a_legal_price_says_so() -> None:
    world = World(market(tick="0.001"), **small(model="avellaneda-stoikov", order_arrival_decay_per_tick=0.2))
    world.show(bids={"0.003": 100}, asks={"0.004": 100})
    assert decision(world).bid == Skipped(Why.NO_LEGAL_PRICE)
    assert isinstance(decision(world).ask, Quote)


def test_that_the_spread_means_the_touch_is_said_once() -> None:
    world = World(**small(default_half_spread_bps=30))
    world.show()
    world.show(bids=UP_BIDS, asks=UP_ASKS)
    world.tick()
    assert sum("touch" in warning.text for warning in of_kind(world.actions, ev.Warn)) == 1


def test_what_the_feed_does_not_say_is_warned_of_once() -> None:
    world = World(market("a"), market("b", end_ms=NOON_MS * 2, accepting=True, event="game"), **small())
    for _ in range(3):
        world.tick()
    warnings = of_kind(world.actions, ev.Warn)
    assert [warning.market for warning in warnings] == [0, 1]
    assert "fees" in warnings[1].text
    assert "end date" not in warnings[1].text


# --- models


@pytest.mark.parametrize("fair_value", ["mid", "weighted-mid", "micro-price"])
@pytest.mark.parametrize("model", get_args(Model))
def test_every_model_quotes_both_sides_of_a_good_book(model: str, fair_value: str) -> None:
    world = World(**small(model=model, fair_value=fair_value))
    world.show()
    world.arrive(1_500)
    world.show(bids={"0.47": 44, "0.46": 300}, asks={"0.49": 80, "0.5": 90})
    world.arrive()
    world.tick()
    bid, ask = decision(world).sides
    assert isinstance(bid, Quote)
    assert isinstance(ask, Quote)
    numbers = decision(world).numbers
    assert numbers is not None
    assert bid.price < numbers.fair * price("0.01") < ask.price
    assert (bid.price < price("0.49"), ask.price > price("0.47")) == (True, True)
    assert world.sides() == {BUY, SELL}


@pytest.mark.parametrize("model", get_args(Model))
def test_the_numbers_of_a_decision_are_complete_and_lead_from_fair_value_to_the_quotes(model: str) -> None:
    world = World(**small(model=model, max_skew_ticks=5.0))
    world.own(YES, 20, "0.45")
    world.show()
    world.arrive(1_500)
    world.show(bids={"0.46": 120, "0.45": 300}, asks={"0.48": 80, "0.49": 90})
    told, numbers = decision(world), decision(world).numbers
    assert numbers is not None
    assert (numbers.model, numbers.fair_value, numbers.mid, numbers.fair) == (model, "mid", 47.0, 47.0)
    assert numbers.inventory == pytest.approx(0.4)
    assert numbers.sigma_short is not None
    assert numbers.sigma_long is not None
    assert numbers.sigma == max(numbers.sigma_short, numbers.sigma_long) > 0
    assert numbers.reservation == pytest.approx(numbers.fair - numbers.skew)
    assert numbers.skew > 0
    assert numbers.model_bid < numbers.reservation < numbers.model_ask
    assert (numbers.toxicity, numbers.toxicity_zscore, numbers.rewards, numbers.rewards_reason) == (0.0, None, 0.0, None)
    assert (numbers.trend, numbers.taper, numbers.concession) == (0.0, 1.0, 0)
    for side, quote, wish, sign in ((numbers.bid, told.bid, numbers.model_bid, 1), (numbers.ask, told.ask, numbers.model_ask, -1)):
        assert side is not None
        assert isinstance(quote, Quote)
        assert side.wish == pytest.approx(wish)
        assert side.first is not None
        assert quote.price == side.first * told.tick
        assert (side.first - side.wish) * sign <= 1e-9
        assert (side.first - side.closest) * sign <= 0
        assert 0 < quote.size <= side.net_room
        assert side.cap in (Why.POSITION_CAP, Why.NET_CAP)
    assert numbers.bid is not None
    assert numbers.ask is not None
    assert (numbers.bid.stock, numbers.ask.stock) == (0, shares(20))
    assert (numbers.bid.net_room, numbers.ask.net_room) == (shares(80), shares(120))


def test_where_a_gate_says_no_there_are_no_numbers_and_an_exit_asks_about_no_side() -> None:
    world = World(**small())
    world.own(YES, 20, "0.45")
    world.show(bids={"0.49": 10}, asks={"0.48": 10})
    assert decision(world).numbers is None
    world.show()
    world.hear(ev.HaltAsked("op", "enough", reduce_only=True))
    numbers = decision(world).numbers
    assert numbers is not None
    assert (numbers.bid, numbers.ask) == (None, None)


ONE_BAND = (Band(min_margin=0.005, avg_margin=0.01, max_margin=0.02, min_size=25.0, avg_size=50.0, max_size=75.0),)


def banded(*markets: Market, **params: Any) -> World:
    """A maker with one band: 47.5 less 1 and plus 1 tick, on the grid 0.46 and 0.49."""
    world = World(*markets, **small(model="bands", **{"bands": ONE_BAND, "latency_ms": 0, **params}))
    world.show()
    world.arrive(10)
    return world


def keys(world: World) -> dict[Side, str]:
    return {work.order.yes_side: key for key, work in world.maker.desks[0].working.items()}


def test_bands_place_at_the_average_margin_and_keep_what_is_within_the_band() -> None:
    world = banded()
    assert world.working() == {("YES", "BUY", "0.46"): 50, ("NO", "BUY", "0.51"): 50}
    before = keys(world)
    world.show(bids={"0.46": 20, "0.45": 10}, asks={"0.47": 20, "0.49": 10, "0.48": 7})
    world.arrive(10)
    # The bid is half a tick from the new reservation price, the least of its band; the ask two and a half, beyond the most.
    assert world.working() == {("YES", "BUY", "0.46"): 50, ("NO", "BUY", "0.52"): 50}
    assert keys(world)[BUY] == before[BUY]
    world.show(bids={"0.45": 20}, asks={"0.46": 20, "0.47": 10})
    world.arrive(10)
    assert world.working() == {("YES", "BUY", "0.44"): 50, ("NO", "BUY", "0.53"): 50}


@pytest.mark.parametrize(("filled", "kept"), [(25.0, True), (25.01, False)])
def test_a_band_keeps_an_order_until_less_than_its_least_size_is_left(filled: float, kept: bool) -> None:
    world = banded(max_net_position=1e7, max_position=1e7)
    bid = keys(world)[BUY]
    world.hear(ev.FillReported("t1", bid, price("0.46"), shares(filled), usdc(0), final=False))
    assert (world.maker.desks[0].working[bid].state is not State.CANCELLING) == kept


def test_a_band_that_the_grid_does_not_fit_is_not_replaced_by_its_like_for_ever() -> None:
    """On ticks of 0.1 both quotes stand 0.05 from the mid, and the band ends at 0.02."""
    world = World(market(tick="0.1"), **small(model="bands", bands=ONE_BAND))
    world.show(bids={"0.4": 20, "0.3": 7}, asks={"0.5": 30, "0.6": 8})
    world.arrive()
    for _ in range(5):
        world.arrive(2_000)
        world.tick()
    assert world.working() == {("YES", "BUY", "0.4"): 50, ("NO", "BUY", "0.5"): 50}
    assert not of_kind(world.actions, ev.Cancel)


@pytest.mark.parametrize("lost", [-60_000, -25_000])
def test_toxicity_moves_a_band_as_a_whole_and_what_stands_in_it_stays(lost: int) -> None:
    world = banded()
    for _ in range(9):
        world.maker.desks[0].toxicity.add(lost, world.now_ms)
    world.arrive(2_000)
    world.tick()
    world.arrive(10)
    numbers = decision(world).numbers
    assert numbers is not None
    assert numbers.toxicity == pytest.approx(-lost / 10_000 * 9 / 14, rel=0.01)
    wider = world.working()
    assert wider == {("YES", "BUY", "0.42"): 50, ("NO", "BUY", "0.47"): 50} if lost == -60_000 else wider
    sent = len(places(world.actions))
    for _ in range(4):
        world.arrive(2_000)
        world.tick()
    assert (world.working(), len(places(world.actions))) == (wider, sent)
    # Within half a tick of where the least margin now lies nothing would have been kept.
    for work in world.maker.desks[0].working.values():
        assert abs(work.order.yes_price / 10_000 - 47.5) >= 0.5 + numbers.toxicity


def test_all_rungs_of_bands_together_stay_within_the_net_cap_when_one_of_them_is_placed_anew() -> None:
    """48 of 150 are owned. The first bid is 50 still, which its band would keep; the second is placed anew, for 68 shares."""
    second = Band(min_margin=0.03, avg_margin=0.035, max_margin=0.04, min_size=10.0, avg_size=100.0, max_size=150.0)
    world = banded(bands=(*ONE_BAND, second), max_net_position=150.0, max_position=400.0)
    assert [world.working()["YES", "BUY", at] for at in ("0.46", "0.44")] == [50, 100]
    (behind,) = [key for key, work in world.maker.desks[0].working.items() if work.order.yes_price == price("0.44")]
    world.hear(ev.FillReported("t1", behind, price("0.44"), shares(48), usdc(0), final=True))
    world.show(bids={"0.46": 20, "0.45": 10}, asks={"0.47": 20, "0.49": 10, "0.48": 7})
    world.arrive(10)
    bids = [work.left for work in world.maker.desks[0].working.values() if work.order.yes_side is BUY]
    assert bids
    assert world.account.positions[0].net == shares(48)
    assert sum(bids) <= shares(102)


# --- who trades with us, and what is paid for standing near


def burnt(times: int, **params: Any) -> World:
    """A maker whose bid fills so often, each time just before the market falls five ticks and comes back."""
    world = World(**small(toxicity_horizon_s=1, trend_sigmas=None, latency_ms=0, max_net_position=400.0, max_position=400.0, **params))
    for _ in range(times):
        world.show()
        world.arrive(10)
        world.trade(SELL, "0.3", 6)
        world.show(bids={"0.41": 50, "0.4": 30}, asks={"0.42": 50, "0.43": 30})
        world.arrive(1_000)
        world.tick()
    world.show(bids={"0.47": 120, "0.46": 300, "0.45": 9, "0.44": 9}, asks={"0.48": 80, "0.49": 200, "0.5": 90, "0.51": 7})
    world.arrive(10)
    return world


def test_a_maker_whose_fills_lost_quotes_wider_and_says_by_how_much() -> None:
    """Two fills at 0.47 lose 5.5 ticks each; the third one is met two ticks further down already and loses 3.5."""
    world = burnt(3)
    numbers = decision(world).numbers
    assert numbers is not None
    assert numbers.toxicity == pytest.approx((5.5 + 5.5 + 3.5) / 8, rel=0.01)
    assert numbers.toxicity_zscore is not None
    assert numbers.toxicity_zscore < -1
    bid, ask = decision(world).sides
    assert isinstance(bid, Quote)
    assert isinstance(ask, Quote)
    assert (bid.price, ask.price) == (price("0.45"), price("0.5"))


@pytest.mark.parametrize(("times", "params"), [(1, {}), (3, {"toxicity_widening": 0.0}), (3, {"toxicity_zscore": 9.0})])
def test_one_loss_or_one_that_is_not_looked_at_leaves_the_quotes_at_the_touch(times: int, params: dict[str, float]) -> None:
    world = burnt(times, **params)
    bid, ask = decision(world).sides
    assert isinstance(bid, Quote)
    assert isinstance(ask, Quote)
    assert (bid.price, ask.price) == (price("0.47"), price("0.48"))


def farming(*, pool: float | None, farms: bool = True) -> ev.Numbers:
    """A maker whose model would stand 2.4 ticks from the mid, where the venue pays for standing within three."""
    terms = None if pool is None else RewardTerms(min_size=shares(20), max_spread=price("0.03"), daily_pool=usdc(pool))
    world = World(market(rewards=terms), **small(default_half_spread_bps=500, rewards_farming=farms))
    world.show(bids={"0.45": 30, "0.44": 60}, asks={"0.5": 40, "0.51": 70})
    (note,) = of_kind(world.actions, ev.Note)
    assert note.decision.numbers is not None
    return note.decision.numbers


def test_farming_stands_nearer_where_rewards_pay_for_it_and_says_what_for() -> None:
    paid, unpaid = farming(pool=500), farming(pool=500, farms=False)
    assert paid.rewards > 0
    assert paid.rewards_reason is not None
    assert paid.rewards_reason.startswith("pays ")
    assert (paid.model_bid, paid.model_ask) == (unpaid.model_bid, unpaid.model_ask)
    for side in ("bid", "ask"):
        near, far = getattr(paid, side), getattr(unpaid, side)
        assert abs(near.wish - paid.mid) == pytest.approx(abs(far.wish - paid.mid) - paid.rewards)
        assert abs(near.first - paid.mid) < abs(far.first - paid.mid)
    assert (unpaid.rewards, unpaid.rewards_reason) == (0.0, None)


def test_farming_without_a_pool_stays_where_the_model_is_and_says_why() -> None:
    assert (farming(pool=None).rewards, farming(pool=None).rewards_reason) == (0.0, "no terms")
    assert (farming(pool=0).rewards, farming(pool=0).rewards_reason) == (0.0, "pool empty")


# --- changes


def test_an_order_that_is_still_right_keeps_its_place() -> None:
    world = World(**small())
    world.show()
    keys = set(world.maker.desks[0].working)
    world.arrive()
    world.show(bids={"0.47": 10, "0.46": 7}, asks={"0.48": 12})
    world.tick()
    assert set(world.maker.desks[0].working) == keys


def test_a_new_order_waits_until_the_old_one_is_gone() -> None:
    world = World(**small(latency_ms=100))
    world.show()
    world.arrive()
    moved = world.show(bids=DOWN_BIDS, asks=DOWN_ASKS)
    assert len(of_kind(moved, ev.Cancel)) == 2
    assert not places(moved)
    assert not places(world.tick())
    world.arrive(100)
    assert world.working() == {("YES", "BUY", "0.4"): 50, ("NO", "BUY", "0.59"): 50}


@pytest.mark.parametrize(("bids", "asks", "waits"), [(UP_BIDS, UP_ASKS, BUY), (DOWN_BIDS, DOWN_ASKS, SELL)])
def test_a_side_waits_for_our_own_order_that_it_would_trade_with(bids: dict[str, float], asks: dict[str, float], waits: Side) -> None:
    world = World(**small())
    world.show()
    world.arrive()
    world.show(bids=bids, asks=asks)
    gone = {work.order.yes_side: key for key, work in world.maker.desks[0].working.items()}
    assert not places(world.hear(ev.OrderGone(gone[waits], ev.Ending.CANCELLED)))
    placed = places(world.hear(ev.OrderGone(gone[waits.opposite], ev.Ending.CANCELLED)))
    assert waits.opposite in {each.order.yes_side for each in placed}


def test_an_order_kept_for_its_queue_is_given_up_when_fair_value_passes_it() -> None:
    world = World(**small(reprice_after=3))
    world.show()
    world.arrive()
    world.show(bids={"0.46": 100}, asks={"0.47": 100})
    # The bid at 0.47 is one tick from the wanted 0.46 but above the fair 0.465; the ask at 0.48 may stay.
    assert {(work.order.yes_side, work.state) for work in world.maker.desks[0].working.values()} == {
        (BUY, State.CANCELLING),
        (SELL, State.LIVE),
    }


def test_a_fill_while_the_cancel_flies_is_booked_and_nothing_is_sent_twice() -> None:
    world = World(**small(latency_ms=100))
    world.show()
    world.arrive()
    world.show(bids={"0.45": 100}, asks={"0.46": 100})
    world.trade(SELL, "0.44", 60)
    assert world.account.positions[0].yes == shares(50)
    world.arrive()
    assert world.account.positions[0].yes == shares(50)
    assert world.working() == {("YES", "SELL", "0.46"): 50, ("YES", "BUY", "0.45"): 25}


def test_a_fill_is_told_with_the_decision_that_sent_its_order() -> None:
    world = World(**small(latency_ms=100))
    world.show()
    sent = decision(world)
    world.arrive(700)
    world.tick()
    world.trade(SELL, "0.46", 20)
    (filled,) = of_kind(world.actions, ev.Filled)
    assert filled.decision == sent
    assert (filled.sent_ms, filled.accepted_ms, filled.fill.at_ms) == (NOON_MS, NOON_MS + 100, NOON_MS + 700)
    assert (filled.fill.price, filled.fill.size, filled.fill.mark) == (price("0.47"), shares(20), price("0.475"))


def test_a_fill_that_is_reported_twice_is_booked_once() -> None:
    world = World(**small())
    world.show()
    key = next(iter(world.maker.desks[0].working))
    report = ev.FillReported("t1", key, price("0.47"), shares(7), usdc(0), final=True)
    assert of_kind(world.hear(report), ev.Filled)
    assert world.hear(report) == ()
    assert world.account.positions[0].yes == shares(7)


def test_a_fill_of_an_order_that_was_never_sent_is_an_error() -> None:
    world = World(**small())
    world.show()
    with pytest.raises(ValueError, match="was not placed here"):
        world.hear(ev.FillReported("t1", "o99", price("0.47"), shares(7), usdc(0), final=True))


def test_a_new_grid_takes_everything_back() -> None:
    world = World(**small())
    world.show()
    world.arrive()
    world.views[0].new_tick(Price(1_000))
    actions = world.hear(ev.TickSizeChanged(0, Price(1_000), inferred=True))
    assert len(of_kind(actions, ev.Cancel)) == 2
    assert decision(world).bid == Skipped(Why.BOOK_INCOMPLETE)


# --- money


def six(**params: Any) -> World:
    world = World(*(market(f"m{place}") for place in range(1, 7)), **small(capital=25.0, **params))
    for place in range(6):
        world.show(place)
    return world


def test_a_share_that_cannot_pay_two_minimum_orders_is_passed_on() -> None:
    """25 USDC over six are 4.166666 each, less than 5 shares on both sides may cost: every second market gets two shares."""
    world = six()
    assert [decision(world, place).money for place in range(6)] == [0, 8_333_332] * 3
    assert [bool(world.working(place)) for place in range(6)] == [False, True] * 3
    assert decision(world, 0).sides == (Skipped(Why.SHORT_OF_MONEY), Skipped(Why.SHORT_OF_MONEY))
    assert world.account.reserved <= usdc(25)


def test_a_share_that_pays_two_minimum_orders_is_kept() -> None:
    world = World(*(market(f"m{place}") for place in range(5)), **small(capital=25.0))
    for place in range(5):
        world.show(place)
    assert [decision(world, place).money for place in range(5)] == [usdc(5)] * 5


def test_a_market_that_is_over_has_no_share() -> None:
    world = World(market("a"), market("b"), **small(capital=25.0))
    world.show(1)
    assert decision(world, 1).money == usdc(12.5)
    world.arrive()
    world.views[0].resolved = True
    for event in world.exchange.resolve(0, Price(ONE)):
        world.hear(event)
    world.tick()
    assert decision(world, 1).money == usdc(25)


def test_a_flat_market_pays_its_bid_first() -> None:
    world = World(**small(capital=25.0))
    world.show()
    assert world.working() == {("YES", "BUY", "0.47"): 50}
    assert decision(world).ask == Skipped(Why.SHORT_OF_MONEY)


@pytest.mark.parametrize(
    ("owned", "cash", "paid_first"),
    [
        # 8 shares of stock are sold; the 42 others that reduce the net are bought before the side that adds to it.
        (YES, 22.0, {("YES", "SELL", "0.48"): 8, ("NO", "BUY", "0.52"): 42}),
        (NO, 20.0, {("NO", "SELL", "0.53"): 8, ("YES", "BUY", "0.47"): 42}),
    ],
)
def test_the_side_that_reduces_the_net_is_paid_first(owned: Outcome, cash: float, paid_first: dict[tuple[str, str, str], float]) -> None:
    world = World(**small(capital=4 + cash))
    world.own(owned, 8, "0.5")
    world.show()
    assert world.working() == paid_first


def test_an_order_shrinks_to_what_can_be_paid_and_the_other_side_is_short() -> None:
    world = World(**small(capital=10.0))
    world.show()
    assert world.working() == {("YES", "BUY", "0.47"): 21.27}


def test_without_balance_aware_quoting_what_cannot_be_paid_in_full_is_not_sent_either() -> None:
    world = World(**small(capital=25.5, balance_aware_quoting=False))
    world.show()
    assert world.working() == {("YES", "BUY", "0.47"): 50}
    world = World(**small(capital=10.0, balance_aware_quoting=False))
    world.show()
    assert world.working() == {}
    assert decision(world).bid == Skipped(Why.SHORT_OF_MONEY)


def test_money_of_a_cancelled_order_is_free_only_when_it_is_gone() -> None:
    world = World(**small(capital=25.0, latency_ms=100))
    world.show()
    world.arrive()
    world.show(bids=UP_BIDS, asks=UP_ASKS)
    assert world.account.free == usdc(1.5)
    for _ in range(3):
        assert not places(world.tick())
    world.arrive(100)
    assert world.working() == {("YES", "BUY", "0.52"): 48.07}


def test_selling_what_we_own_passes_a_low_balance() -> None:
    world = World(**small(capital=18.0 + 0.99))
    world.own(YES, 40, "0.45")
    world.show()
    assert world.working() == {("YES", "SELL", "0.48"): 40}
    assert decision(world).bid == Skipped(Why.LOW_BALANCE)


def test_a_side_that_buys_names_the_low_balance() -> None:
    world = World(**small(capital=0.99))
    world.show()
    assert decision(world).sides == (Skipped(Why.LOW_BALANCE), Skipped(Why.LOW_BALANCE))


def test_selling_what_we_own_passes_the_caps_on_positions() -> None:
    world = World(**small(max_position=200.0, max_net_position=100.0))
    world.own(YES, 230, "0.45")
    world.own(NO, 210, "0.45")
    world.show()
    assert world.working() == {("YES", "SELL", "0.48"): 50, ("NO", "SELL", "0.53"): 40}


def test_beyond_the_net_cap_only_the_side_that_reduces_is_quoted() -> None:
    world = World(**small(max_net_position=100.0, max_position=500.0))
    world.own(YES, 120, "0.45")
    world.show()
    assert world.working() == {("YES", "SELL", "0.48"): 50}
    assert decision(world).bid == Skipped(Why.NET_CAP)


def test_a_side_made_too_small_by_inventory_names_the_net_cap() -> None:
    """Of 100 the net is 92: 4 of 50 shares are left, below the minimum, although the position cap is the nearer one."""
    world = World(**small(max_net_position=100.0, max_position=99.0))
    world.own(YES, 92, "0.45")
    world.show()
    assert decision(world).bid == Skipped(Why.NET_CAP)


def test_at_the_position_cap_of_one_token_the_other_side_goes_on() -> None:
    world = World(**small(max_position=60.0, max_net_position=500.0))
    world.own(YES, 58, "0.45")
    world.show()
    assert decision(world).bid == Skipped(Why.POSITION_CAP)
    assert world.working() == {("YES", "SELL", "0.48"): 50}


# --- recycling


def recycler(owned: Outcome, cost: str, *, cash: float = 2.0, size: float = 40, **params: Any) -> World:
    """A wide quoter with stock and hardly any cash: its own quotes stand far behind the touch."""
    world = World(**small(default_half_spread_bps=1000, capital=size * float(cost) + cash, **params))
    world.own(owned, size, cost)
    world.show()
    return world


@pytest.mark.parametrize("cash", [0.5, 2.0])
@pytest.mark.parametrize(("owned", "cost", "sold"), [(YES, "0.45", "0.48"), (NO, "0.5", "0.53")])
def test_short_of_capital_it_sells_stock_at_the_touch_above_its_cost(cash: float, owned: Outcome, cost: str, sold: str) -> None:
    world = recycler(owned, cost, cash=cash)
    assert world.working()[(owned.value, "SELL", sold)] == 40
    (told,) = of_kind(world.actions, ev.Rebalance)
    assert (told.cause, told.outcome, told.price, told.size) == (ev.Cause.RECYCLE, owned, price(sold), shares(40))
    assert decision(world).cause is ev.Cause.RECYCLE


def test_recycling_is_told_once() -> None:
    world = recycler(YES, "0.45")
    for _ in range(4):
        world.arrive(2_000)
        world.tick()
    assert len(of_kind(world.actions, ev.Rebalance)) == 1


@pytest.mark.parametrize(
    ("cost", "threshold", "recycled"), [("0.4", 0.2, True), ("0.4", 0.21, False), ("0.48", 0.0, True), ("0.48", 0.01, False)]
)
def test_stock_is_recycled_from_the_threshold_above_its_cost_on(cost: str, threshold: float, recycled: bool) -> None:
    world = recycler(YES, cost, recycle_profit_threshold=threshold)
    assert bool(of_kind(world.actions, ev.Rebalance)) == recycled
    assert (("YES", "SELL", "0.48") in world.working()) == recycled
    assert (("YES", "SELL", "0.53") in world.working()) == (not recycled)


def test_with_enough_capital_or_switched_off_nothing_is_recycled() -> None:
    assert not of_kind(recycler(YES, "0.45", cash=500).actions, ev.Rebalance)
    assert not of_kind(recycler(YES, "0.45", position_recycling=False).actions, ev.Rebalance)


def test_recycling_stays_within_the_net_cap() -> None:
    world = World(**small(default_half_spread_bps=1000, capital=300 * 0.45 + 300 * 0.5 + 0.5, max_position=400.0, max_net_position=70.0))
    world.own(YES, 300, "0.45")
    world.own(NO, 300, "0.5")
    world.show()
    assert world.working() == {("YES", "SELL", "0.48"): 70, ("NO", "SELL", "0.53"): 70}


# --- merging


def test_pairs_that_no_order_needs_are_merged_when_cash_cannot_pay_both_sides() -> None:
    """Of 100 YES and 80 NO the orders sell 50 and 40; 40 pairs are left, and 10 USDC do not pay 49.50 for both sides."""
    world = World(**small(capital=95.0 + 10))
    world.own(YES, 100, "0.55")
    world.own(NO, 80, "0.5")
    world.show()
    assert world.working() == {("YES", "SELL", "0.48"): 50, ("NO", "SELL", "0.53"): 40}
    assert of_kind(world.actions, ev.Merge) == [ev.Merge(0, shares(40))]
    (told,) = of_kind(world.actions, ev.Rebalance)
    assert (told.cause, told.outcome, told.price, told.size) == (ev.Cause.MERGE, None, None, shares(40))
    world.tick()
    assert len(of_kind(world.actions, ev.Merge)) == 1, "a merge on its way is not sent again"
    world.arrive(5_000)
    assert world.account.cash == usdc(50)
    assert world.exchange.cash == usdc(50)


@pytest.mark.parametrize(("cash", "merged"), [(49.5, True), (49.51, False)])
def test_with_cash_for_both_sides_pairs_are_kept(cash: float, merged: bool) -> None:
    world = World(**small(capital=100.0 + cash))
    world.own(YES, 100, "0.5")
    world.own(NO, 100, "0.5")
    world.show()
    assert bool(of_kind(world.actions, ev.Merge)) == merged


@pytest.mark.parametrize(("pairs", "merged"), [(54.99, False), (55.0, True)])
def test_pairs_below_the_market_s_minimum_are_not_merged(pairs: float, merged: bool) -> None:
    world = World(**small(capital=pairs + 3))
    world.own(YES, pairs, "0.5")
    world.own(NO, pairs, "0.5")
    world.show()
    assert bool(of_kind(world.actions, ev.Merge)) == merged


def test_stock_is_merged_and_sold_only_once_it_is_final() -> None:
    """Both sides fill, 50 pairs are owned and all cash is spent; a run that winds down wants them merged."""
    world = World(**small(capital=50.0))
    world.show()
    maker, now_ms = world.maker, world.now_ms
    for work in list(maker.desks[0].working.values()):
        placed = work.order
        maker.on(ev.FillReported(f"t-{placed.key}", placed.key, placed.price, placed.size, usdc(0), final=False), now_ms)
        maker.on(ev.OrderGone(placed.key, ev.Ending.FILLED), now_ms)
    assert world.sides() == set()
    actions = [*maker.on(ev.HaltAsked("op", "end of day", reduce_only=True), now_ms)]
    actions += maker.on(ev.FinalityChanged("t-o1", "o1", failed=False), now_ms)
    actions += maker.on(ev.Tick(), now_ms)
    assert not of_kind(actions, ev.Merge)
    maker.on(ev.FinalityChanged("t-o2", "o2", failed=False), now_ms)
    assert of_kind(maker.on(ev.Tick(), now_ms), ev.Merge) == [ev.Merge(0, shares(50))]


def test_stock_that_a_waiting_order_will_sell_is_not_merged_meanwhile() -> None:
    """The touch jumps up: the new bid waits for our old ask, and for a moment no order stands on 30 pairs that both sides want."""
    world = World(**small(capital=30 + 25.0))
    world.own(YES, 30, "0.5")
    world.own(NO, 30, "0.5")
    world.show()
    assert len(world.working()) == 4
    world.arrive()
    world.show(bids=UP_BIDS, asks=UP_ASKS)
    world.arrive()
    assert not of_kind(world.actions, ev.Merge)
    assert world.working()[("YES", "SELL", "0.53")] == world.working()[("NO", "SELL", "0.48")] == 30


def test_a_market_that_is_short_of_money_quotes_both_sides_again_after_another_s_merge() -> None:
    """All but 1.50 USDC sit in 100 pairs of the first market; it needs 20 of them, 80 become cash, of which the second gets half."""
    world = World(market("rich"), market("poor"), **small(default_order_size=20.0, capital=95.0 + 1.5, merge_latency_ms=5000))
    world.own(YES, 100, "0.45")
    world.own(NO, 100, "0.5")
    world.show(1)
    world.show(0)
    assert decision(world, 1).sides == (Skipped(Why.SHORT_OF_MONEY), Skipped(Why.SHORT_OF_MONEY))
    assert of_kind(world.actions, ev.Merge) == [ev.Merge(0, shares(80))]
    world.arrive(4_999)
    world.tick()
    assert world.sides(1) == set()
    world.arrive(1)
    world.tick()
    assert world.account.cash == usdc(81.5)
    assert world.working(1) == {("YES", "BUY", "0.47"): 20, ("NO", "BUY", "0.52"): 20}
    assert world.sides(0) == {BUY, SELL}


# --- reduce-only


@pytest.mark.parametrize(
    ("yes", "no", "order", "skipped"), [(60, 10, ("YES", "SELL", "0.48"), BUY), (10, 45, ("NO", "SELL", "0.53"), SELL)]
)
def test_reduce_only_quotes_the_side_that_reduces_the_net_at_the_touch(
    yes: float, no: float, order: tuple[str, str, str], skipped: Side
) -> None:
    world = World(**small(default_half_spread_bps=1000))
    world.own(YES, yes, "0.45")
    world.own(NO, no, "0.5")
    world.show()
    world.arrive()
    world.hear(ev.HaltAsked("op", "end of day", reduce_only=True))
    world.arrive()
    assert world.working() == {order: abs(yes - no)}
    assert decision(world).sides[0 if skipped is BUY else 1] == Skipped(Why.REDUCE_ONLY)
    (told,) = of_kind(world.actions, ev.Rebalance)
    assert (told.cause, told.size) == (ev.Cause.REDUCE_ONLY, shares(abs(yes - no)))


def test_reduce_only_passes_a_low_balance_and_a_flat_market_is_left_alone() -> None:
    world = World(market("long"), market("flat"), **small(capital=20 * 0.5 + 0.5))
    world.own(YES, 20, "0.5")
    world.hear(ev.HaltAsked("op", "end of day", reduce_only=True))
    world.show(0)
    world.show(1)
    assert world.working(0) == {("YES", "SELL", "0.48"): 20}
    assert world.working(1) == {}
    assert decision(world, 1).sides == (Skipped(Why.REDUCE_ONLY), Skipped(Why.REDUCE_ONLY))


def test_reduce_only_ends_when_it_is_cleared() -> None:
    world = World(**small())
    world.hear(ev.HaltAsked("op", "lunch", reduce_only=True))
    world.show()
    assert world.sides() == set()
    world.hear(ev.Cleared("op", "back"))
    assert world.sides() == {BUY, SELL}


# --- pause and resume


def test_a_data_gap_pauses_and_cancels_and_a_healthy_while_resumes() -> None:
    world = World(market("gone"), market("alive"), **small(max_data_gap_s=30, resume_after_s=5))
    world.show(0)
    world.show(1)
    world.arrive(30_000)
    world.show(1, bids={"0.47": 7}, asks={"0.48": 8})
    assert not of_kind(world.tick(), ev.Pause)
    world.arrive(1)
    paused = world.tick()
    assert of_kind(paused, ev.Pause) == [ev.Pause(0, Why.DATA_GAP)]
    assert len(of_kind(paused, ev.Cancel)) == 2
    world.arrive()
    assert world.sides(0) == set()
    assert world.sides(1) == {BUY, SELL}
    assert decision(world, 0).bid == Skipped(Why.DATA_GAP)

    world.show(0, bids=UP_BIDS, asks=UP_ASKS)
    assert decision(world, 0).bid == Skipped(Why.PAUSED)
    world.tick()
    world.arrive(4_999)
    assert not of_kind(world.tick(), ev.Resume)
    assert world.sides(0) == set()
    world.arrive(1)
    assert of_kind(world.tick(), ev.Resume) == [ev.Resume(0, Why.DATA_GAP)]
    assert world.sides(0) == {BUY, SELL}


def test_a_lost_feed_pauses_at_once_and_losing_it_again_starts_the_wait_anew() -> None:
    world = World(**small(resume_after_s=5))
    world.show()
    world.arrive()

    def lose_and_restore() -> tuple[ev.Action, ...]:
        world.views[0].lost()
        actions = world.hear(ev.FeedLost(0))
        world.show()
        world.views[0].restored()
        world.hear(ev.FeedRestored(0))
        return actions

    assert of_kind(lose_and_restore(), ev.Pause) == [ev.Pause(0, Why.DATA_GAP)]
    world.tick()
    world.arrive(4_000)
    assert not of_kind(lose_and_restore(), ev.Pause), "it is paused already"
    world.tick()
    world.arrive(4_000)
    assert not of_kind(world.tick(), ev.Resume)
    world.arrive(1_000)
    assert of_kind(world.tick(), ev.Resume)


@pytest.mark.parametrize(
    ("bids", "asks", "why"),
    [({"0.49": 10}, {"0.48": 10}, Why.BOOK_CROSSED), ({"0.48": 10}, {"0.48": 10}, Why.BOOK_LOCKED), (BIDS, {}, Why.BOOK_ONE_SIDED)],
)
def test_while_the_book_is_bad_everything_is_taken_back_and_nothing_is_sent(
    bids: dict[str, float], asks: dict[str, float], why: Why
) -> None:
    world = World(**small())
    world.show()
    world.arrive()
    assert len(of_kind(world.show(bids=bids, asks=asks), ev.Cancel)) == 2
    world.arrive()
    world.tick()
    assert world.sides() == set()
    assert decision(world).sides == (Skipped(why), Skipped(why))
    assert world.account.positions[0].mark == price("0.475"), "the mark stays that of the last good book"


# --- halts


def losing(**limits: Any) -> World:
    """Two markets, 100 YES of the first bought at 0.47; its book then falls to a mid of 0.405, a loss of 6.50."""
    world = World(market("falls"), market("other"), **{**small(max_position=500.0, max_net_position=300.0), **limits})
    world.own(YES, 100, "0.47")
    for place in (0, 1):
        world.show(place)
    world.arrive()
    world.tick()
    world.actions.clear()
    return world


@pytest.mark.parametrize(("limit", "why"), [("max_daily_loss", Why.DAILY_LOSS), ("max_drawdown", Why.DRAWDOWN)])
def test_a_loss_halts_at_once_cancels_everything_and_sends_nothing(limit: str, why: Why) -> None:
    world = losing(**{limit: 6.0})
    assert world.sides(0) == world.sides(1) == {BUY, SELL}
    actions = world.show(0, bids=DOWN_BIDS, asks=DOWN_ASKS)
    (halt,) = of_kind(actions, ev.Halt)
    assert halt.why is why
    assert actions[-1] is halt
    assert not places(actions)
    assert {work.state for desk in world.maker.desks for work in desk.working.values()} == {State.CANCELLING}


def test_a_latched_maker_sends_nothing_until_a_person_clears_it() -> None:
    world = losing(max_daily_loss=6.0)
    world.show(0, bids=DOWN_BIDS, asks=DOWN_ASKS)
    world.arrive()
    for book in (UP_BIDS, UP_ASKS), (BIDS, ASKS), (DOWN_BIDS, DOWN_ASKS):
        world.show(0, *book)
        world.show(1, *book)
        world.tick()
        world.arrive()
    assert not places(world.actions)
    assert len(of_kind(world.actions, ev.Halt)) == 1
    assert decision(world, 1).sides == (Skipped(Why.DAILY_LOSS), Skipped(Why.DAILY_LOSS))
    cleared = world.hear(ev.Cleared("op", "looked at it"))
    assert places(cleared)
    assert not of_kind(cleared, ev.Halt)
    assert world.sides(1) == {BUY, SELL}


def test_a_loss_that_a_tick_finds_places_nothing_in_the_same_breath() -> None:
    world = losing(max_drawdown=50.0)
    world.maker.limits.peak = usdc(60)
    for key in list(world.maker.desks[1].working):
        world.maker.forget(key)
    actions = world.tick()
    assert of_kind(actions, ev.Halt)
    assert not places(actions)


def test_a_loss_that_a_resolution_brings_halts() -> None:
    world = losing(max_daily_loss=20.0)
    world.views[0].resolved = True
    for event in world.exchange.resolve(0, Price(0)):
        world.hear(event)
    (halt,) = of_kind(world.actions, ev.Halt)
    assert halt.why is Why.DAILY_LOSS
    world.tick()
    assert not places(world.actions)


def test_a_halt_by_hand_cancels_and_latches() -> None:
    world = World(**small())
    world.show()
    world.arrive()
    actions = world.hear(ev.HaltAsked("op", "something smells"))
    assert len(of_kind(actions, ev.Cancel)) == 2
    assert of_kind(actions, ev.Halt) == [ev.Halt(Why.KILL_LATCHED, "something smells")]
    world.arrive()
    world.tick()
    assert world.sides() == set()
    assert decision(world).sides == (Skipped(Why.KILL_LATCHED), Skipped(Why.KILL_LATCHED))


# --- refusals


def refuse_everything(world: World, reason: ev.Rejection) -> list[ev.Place]:
    """Answer every order of the maker, and every order it sends in reply, with a refusal; return what was sent meanwhile."""
    sent: list[ev.Place] = []
    while refused := [key for desk in world.maker.desks for key in desk.working]:
        assert len(sent) < 50, "a refusal answers a refusal"
        for key in refused:
            sent += places(world.maker.on(ev.OrderRejected(key, reason), world.now_ms))
    return sent


@pytest.mark.parametrize("reason", ev.Rejection)
def test_a_refused_order_is_not_sent_again_in_the_same_breath(reason: ev.Rejection) -> None:
    world = World(**small(num_levels=2))
    world.show()
    assert refuse_everything(world, reason) == []


@pytest.mark.parametrize("reason", [reason for reason in ev.Rejection if reason is not ev.Rejection.NOT_ENOUGH_BALANCE])
def test_after_a_refusal_the_side_waits_for_the_next_tick_or_a_moved_touch(reason: ev.Rejection) -> None:
    world = World(**small(max_error_rate=1.0))
    world.show()
    refuse_everything(world, reason)
    assert len(places(world.tick())) == 2
    refuse_everything(world, reason)
    assert len(places(world.show(bids=UP_BIDS, asks=UP_ASKS))) == 2


def test_a_refusal_on_one_side_leaves_the_other_side_alone() -> None:
    world = World(**small())
    world.show()
    bid, ask = sorted(world.maker.desks[0].working)
    world.maker.on(ev.OrderRejected(bid, ev.Rejection.POST_ONLY_CROSS), world.now_ms)
    assert world.sides() == {SELL}
    world.maker.on(ev.OrderGone(ask, ev.Ending.CANCELLED), world.now_ms)
    assert world.sides() == {SELL}


def test_for_want_of_balance_a_side_waits_until_the_balance_changes() -> None:
    world = World(market("a"), market("b"), **small())
    world.show(0)
    bid, ask = sorted(world.maker.desks[0].working)
    world.exchange.cancel(bid, world.now_ms)
    world.maker.on(ev.OrderRejected(bid, ev.Rejection.NOT_ENOUGH_BALANCE), world.now_ms)
    for book in (UP_BIDS, UP_ASKS), (BIDS, ASKS):
        world.arrive()
        world.show(0, *book)
        world.tick()
        assert decision(world).bid == Skipped(Why.SHORT_OF_MONEY)
    world.arrive()
    assert world.sides(0) == {SELL}
    ask = next(iter(world.maker.desks[0].working))
    world.hear(ev.FillReported("t1", ask, price("0.52"), shares(10), usdc(0), final=True))
    assert BUY in world.sides(0)


def test_stock_is_still_sold_on_a_side_that_may_not_buy_for_want_of_balance() -> None:
    world = World(**small())
    world.own(YES, 30, "0.45")
    world.show()
    bought = next(key for key, work in world.maker.desks[0].working.items() if work.order.outcome is NO)
    world.maker.on(ev.OrderRejected(bought, ev.Rejection.NOT_ENOUGH_BALANCE), world.now_ms)
    world.tick()
    assert world.working() == {("YES", "SELL", "0.48"): 30, ("YES", "BUY", "0.47"): 35}


def test_a_venue_that_refuses_at_once_is_asked_once_a_look() -> None:
    """The paper exchange has no money of ours and no latency: the same instant could go on for ever."""
    world = World(**small(latency_ms=0, max_error_rate=1.0))
    world.exchange.cash = 0
    world.show()
    world.arrive(10)
    assert Counter(type(event) for event in world.heard)[ev.OrderRejected] == 2
    for _ in range(3):
        world.tick()
        world.arrive(10)
    assert Counter(type(event) for event in world.heard)[ev.OrderRejected] == 2


def test_an_order_that_the_market_ran_into_is_sent_again_at_the_next_tick() -> None:
    world = World(**small(latency_ms=100))
    world.show()
    seen = world.views[0]
    seen.level(False, price("0.47"), shares(40), world.now_ms)  # an ask at our bid, before its frame is over
    world.arrive(100)
    assert ev.OrderRejected("o1", ev.Rejection.POST_ONLY_CROSS) in world.heard
    assert world.sides() == {SELL}
    seen.level(False, price("0.47"), 0, world.now_ms)
    world.tick()
    assert world.working() == {("NO", "BUY", "0.52"): 50, ("YES", "BUY", "0.47"): 50}


def test_many_refusals_halt_but_post_only_crossings_do_not() -> None:
    for reason, halted in ((ev.Rejection.POST_ONLY_CROSS, False), (ev.Rejection.MIN_SIZE, True)):
        world = World(**small())
        world.show()
        for _ in range(12):
            refuse_everything(world, reason)
            world.arrive(2_000)
            world.show(bids={"0.47": 1 + world.now_ms % 7}, asks=ASKS)
            world.tick()
        assert bool(of_kind(world.actions, ev.Halt)) == halted
        if halted:
            assert world.maker.latched is Why.ERROR_RATE
            world.hear(ev.Cleared("op", "the minimum was wrong"))
            assert not of_kind(world.tick(), ev.Halt), "what was cleared does not halt again"


# --- what is counted and noted


def test_a_decision_counts_two_sides() -> None:
    world = World(market("a"), market("b"), **small(capital=30.0))
    world.show(0)
    assert (world.maker.decided, dict(world.maker.skipped)) == (1, {Why.SHORT_OF_MONEY: 1})
    world.tick()
    assert (world.maker.decided, dict(world.maker.skipped)) == (2, {Why.SHORT_OF_MONEY: 2, Why.BOOK_INCOMPLETE: 2})


def test_an_order_is_never_placed_without_a_note_of_the_decision_that_it_rests_on() -> None:
    """Also when the decision reads as the one before: here our bid was lost, and the same is sent again."""
    world = World(**small())
    world.show()
    world.arrive()
    bid = next(key for key, work in world.maker.desks[0].working.items() if work.order.yes_side is BUY)
    world.arrive(500)
    actions = world.hear(ev.OrderGone(bid, ev.Ending.CANCELLED))
    (note,), (placed,) = of_kind(actions, ev.Note), places(actions)
    assert note.decision.sides == of_kind(world.actions, ev.Note)[0].decision.sides
    assert world.maker.desks[0].basis[placed.order.key] is note.decision
    assert actions.index(note) < actions.index(placed)


def test_a_decision_is_noted_when_its_sides_change_and_once_a_minute() -> None:
    world = World(**small(max_data_gap_s=600))
    notes = of_kind(world.show(), ev.Note)
    assert [note.decision for note in notes] == [decision(world)]
    world.arrive(2_000)
    assert not of_kind(world.tick(), ev.Note)
    world.arrive(57_999)
    assert not of_kind(world.tick(), ev.Note)
    world.arrive(1)
    assert len(of_kind(world.tick(), ev.Note)) == 1
    assert len(of_kind(world.show(bids=UP_BIDS, asks=UP_ASKS), ev.Note)) == 1


def test_a_note_carries_the_numbers_a_quote_came_from() -> None:
    world = World(**small(default_half_spread_bps=200, capital=1000.0))
    world.own(YES, 25, "0.45")
    (note,) = of_kind(world.show(), ev.Note)
    told, numbers = note.decision, note.decision.numbers
    assert numbers is not None
    assert (numbers.fair, numbers.reservation, numbers.skew) == (47.5, 47.5, 0.0)
    assert numbers.half_spread == pytest.approx(0.95)
    assert (told.best_bid, told.best_ask, told.mid, told.net) == (price("0.47"), price("0.48"), price("0.475"), shares(25))
    assert (numbers.tau_s, told.money) == (5.0, usdc(988.75))


# --- laws over random histories


def check_books(maker: Maker, exchange: PaperExchange) -> None:
    """Money, stock and caps as they must be at any moment, with everything that may still fill filled."""
    params = maker.params
    assert maker.account.free >= -100, "more is promised than is owned, but for the rounding of partial fills"
    assert exchange.cash - exchange.reserved >= -100
    for desk in maker.desks:
        position = maker.account.positions[desk.place]
        rest = {(outcome, side): 0 for outcome in Outcome for side in Side}
        for work in desk.working.values():
            rest[work.order.outcome, work.order.side] += work.left
        bids, asks = rest[YES, BUY] + rest[NO, SELL], rest[YES, SELL] + rest[NO, BUY]
        assert position.yes + rest[YES, BUY] <= params.max_position * ONE
        assert position.no + rest[NO, BUY] <= params.max_position * ONE
        if position.resolved is None:  # what was on its way when the market ended will be refused
            assert position.net + bids <= params.max_net_position * ONE
            assert asks - position.net <= params.max_net_position * ONE
            assert rest[YES, SELL] <= position.yes - position.merging
            assert rest[NO, SELL] <= position.no - position.merging


def check_placed(maker: Maker, place: int) -> None:
    """An order has just been sent: the market may be quoted, and all that stands there stands well."""
    desk = maker.desks[place]
    view = desk.view
    assert maker.latched is None
    assert desk.paused is None
    assert view.fault is None
    assert not view.resolved
    fair = (view.book.best_bid + view.book.best_ask) / 2
    if maker.params.fair_value == "weighted-mid":
        fair = view.book.weighted_mid()
    elif maker.params.fair_value == "micro-price":
        fair = view.micro_price() or fair
    for work in desk.working.values():
        if work.state is not State.CANCELLING:
            assert (fair - work.order.yes_price / view.book.tick) * work.order.yes_side.sign > 0, "through fair value"
    bids, asks = ([work.order.yes_price for work in desk.working.values() if work.order.yes_side is side] for side in Side)
    assert max(bids, default=0) < min(asks, default=ONE), "our own orders would meet"


class Inspector(Watcher):
    """Checks at every record of a run, right after the maker decided."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.noted: dict[str, int] = {}
        """When a decision was last written, by market."""

    def wrote(self, engine: Engine, record: Record) -> None:
        self.kinds[record["kind"]] += 1
        if record["kind"] == "decision":
            self.noted[record["market"]] = record["at_ms"]
        check_books(engine.maker, engine.exchange)
        if record["kind"] == "rejected":
            assert record["reason"] in ("post_only_cross", "market_closed"), record
        if record["kind"] == "place":
            assert self.noted[record["market"]] == record["at_ms"], "an order rests on a decision that nobody can read"
            check_placed(engine.maker, engine.slugs.index(record["market"]))
        if record["kind"] == "cancel":
            place = engine.fold.sent[record["key"]].market
            assert self.noted[engine.slugs[place]] == record["at_ms"], "an order is taken back by a decision that nobody can read"


MARKETS = (market("home", event="game"), market("away", event="game", min_size=15), market("other", tick="0.001"))


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Books that jump, cross and lock, prints through them, silences, lost feeds, a finer tick, an end; three markets."""
    at_ms, rows = NOON_MS, []
    cents = [draw(st.integers(2, 96)) for _ in MARKETS]
    for _ in range(draw(st.integers(5, 40))):
        place = draw(st.integers(0, 2))
        kind = draw(st.sampled_from(["book"] * 6 + ["bad"] + ["print"] * 8 + ["silence", "lost", "restored", "tick", "over"]))
        at_ms += draw(st.sampled_from([0, 0, 20, 60, 150, 1_000, 2_500]))
        size = draw(st.sampled_from([3.0, 12.345678, 80.0, 400.0]))
        if kind == "silence":
            at_ms += draw(st.sampled_from([6_000, 31_000]))
        elif kind in ("book", "bad"):
            cents[place] = bid = min(96, max(2, cents[place] + draw(st.integers(-4, 4))))
            ask = bid + (draw(st.integers(1, 3)) if kind == "book" else draw(st.integers(-1, 0)))
            rows += book_rows(at_ms, {f"0.{bid:02}": size, f"0.{bid - 1:02}": 10.0}, {f"0.{ask:02}": 44.0}, place=place)
        elif kind == "print":
            taker = draw(st.sampled_from(Side))
            through = min(99, max(1, cents[place] + (-2 if taker is SELL else 4)))
            rows += print_rows(at_ms, taker, f"0.{through:02}", size, place=place)
        elif kind == "tick":
            rows.append((at_ms, Kind.TICK, place, 1_000, 0))
        elif kind == "over" and draw(st.booleans()):
            rows.append((at_ms, Kind.RESOLVED, place, draw(st.sampled_from([0, ONE])), 0))
        elif kind in ("lost", "restored"):
            rows.append((at_ms, Kind.LOST if kind == "lost" else Kind.RESTORED, place, 0, 0))
    return rows


any_params = st.builds(
    Params,
    model=st.sampled_from(get_args(Model)),
    fair_value=st.sampled_from(["mid", "weighted-mid", "micro-price"]),
    quote_interval_s=st.sampled_from([0.5, 2.0]),
    num_levels=st.integers(1, 3),
    default_order_size=st.sampled_from([5.0, 20.0, 150.0]),
    default_half_spread_bps=st.sampled_from([30.0, 900.0]),
    reprice_after=st.integers(1, 3),
    capital=st.sampled_from([6.0, 25.0, 1000.0]),
    max_position=st.sampled_from([40.0, 200.0]),
    max_net_position=st.sampled_from([30.0, 100.0]),
    max_event_exposure=st.sampled_from([None, 20.0]),
    max_daily_loss=st.sampled_from([None, 3.0]),
    balance_aware_quoting=st.booleans(),
    merge_latency_ms=st.sampled_from([0, 1_000]),
    latency_ms=st.sampled_from([0, 100, 900]),
    queue_model=st.sampled_from(["risk-averse", "optimistic"]),
    resume_after_s=st.just(1.0),
)


def inspect(rows: list[Row], params: Params, markets: tuple[Market, ...] = MARKETS) -> tuple[Engine, Inspector]:
    inspector = Inspector()
    run = engine(markets, rows, params, inspector)
    run.run()
    assert run.fold.orders.unknown == 0 or run.params.latency_ms
    assert (run.maker.decided + sum(run.maker.skipped.values())) % 2 == 0
    return run, inspector


@settings(max_examples=60, deadline=None)
@given(histories(), any_params)
def test_it_never_sends_what_it_cannot_pay_nor_beyond_a_cap_nor_into_a_bad_market(rows: list[Row], params: Params) -> None:
    inspect(rows, params)


steps = st.tuples(
    st.sampled_from(["book", "sold", "bought", "tick", "wait"]),
    st.integers(0, 1),
    st.integers(-3, 3),
    st.sampled_from([4.0, 11.123456, 70.0]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 3.0, 28.5, 40.0]), min_size=4, max_size=4),
    st.sampled_from(["0.3", "0.5", "0.7"]),
    st.sampled_from([0.4, 3.0, 12.0]),
    st.lists(steps, min_size=5, max_size=40),
    any_params,
)
def test_with_stock_and_hardly_any_cash_it_still_breaks_no_cap_and_pays_for_all(
    stock: list[float], cost: str, cash: float, history: list[tuple[str, int, int, float]], params: Params
) -> None:
    """Here stock is sold, recycled and merged all the time, which a market maker that begins with cash seldom comes to."""
    capital = cash + sum(stock) * float(cost)
    chosen = {**msgspec.structs.asdict(params), "capital": round(capital, 6), "max_net_position": 40.0, "max_position": 60.0}
    world = World(market("home"), market("away", tick="0.001"), **chosen)
    for size, outcome, place in zip(stock, (YES, NO, YES, NO), (0, 0, 1, 1), strict=True):
        if size:
            world.own(outcome, size, cost, place=place)
    cents = [45, 60]
    seen = 0
    for kind, place, move, size in history:
        if kind == "book":
            cents[place] += move
            world.show(place, {f"0.{cents[place] - 1}": size, f"0.{cents[place] - 4}": 5.0}, {f"0.{cents[place] + 1}": 20.0})
        elif kind == "tick":
            world.tick()
        elif kind == "wait":
            world.arrive(400 + 900 * abs(move))
        else:
            world.trade(SELL if kind == "sold" else BUY, f"0.{cents[place] + (-6 if kind == 'sold' else 6)}", size, place=place)
        check_books(world.maker, world.exchange)
        for sent in places(world.actions[seen:]):
            check_placed(world.maker, sent.order.market)
        seen = len(world.actions)
    assert not any(isinstance(event, ev.OrderRejected) and event.reason is ev.Rejection.NOT_ENOUGH_BALANCE for event in world.heard)


def test_the_inspected_histories_do_fill_and_pause() -> None:
    """What the law above looks at does happen: one long history by hand."""
    rows: list[Row] = []
    at_ms = NOON_MS
    for turn in range(30):
        at_ms += 3_000
        cents = 40 + turn % 7
        rows += book_rows(at_ms, {f"0.{cents}": 50.0, f"0.{cents - 1}": 10.0}, {f"0.{cents + 1}": 44.0})
        for taker in (SELL, BUY):
            at_ms += 300 if taker is SELL else 50
            rows += print_rows(at_ms, taker, f"0.{cents + (-2 if taker is SELL else 3)}", 60)
    at_ms += 40_000
    rows += book_rows(at_ms)
    params = Params(default_order_size=20.0, capital=25.0, max_position=200.0, max_daily_loss=None, max_drawdown=None, merge_latency_ms=500)
    run, inspector = inspect(rows, params, MARKETS[:1])
    assert run.fold.fills > 20
    assert run.fold.pauses == {"data_gap": 1}
    assert inspector.kinds["place"] > 40


def test_the_first_level_of_both_sides_is_paid_before_the_second_of_either() -> None:
    world = World(market(), capital=40, default_order_size=50, num_levels=3, max_net_position=500, max_position=500)
    world.show()
    world.tick()
    assert set(world.working()) == {("YES", "BUY", "0.47"), ("NO", "BUY", "0.52")}
