"""Regimes begin and end as the keys say, on real views; pulled, stepped back and winding down as each of them asks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from worlds import ASKS, BIDS, NOON_MS, Levels, World, book_rows, engine, market, of_kind, price, print_rows, shares, show

from mmtools.runs.engine import Engine
from mmtools.runs.journal import Record
from mmtools.runs.watcher import Watcher
from mmtools.trading import events as ev
from mmtools.trading.market import Market, Outcome, Side, Skipped, Why
from mmtools.trading.orders import State
from mmtools.trading.params import Params
from mmtools.trading.regime import Regime, Watch, taper
from mmtools.trading.signals import MarketView
from mmtools.units import ONE, Price, text
from mmtools.venues.venue import Row

YES, NO, BUY, SELL = Outcome.YES, Outcome.NO, Side.BUY, Side.SELL
QUIET, TRENDING, EVENT, REDUCE_ONLY, HALTED = Regime
CENT, MILLI = 10_000, 1_000


def touch(bid: int, tick: int = CENT, *, wide: int = 1) -> tuple[Levels, Levels]:
    """A book with its bid at a tick."""
    return {text(bid * tick): 120, text((bid - 1) * tick): 300}, {text((bid + wide) * tick): 80, text((bid + wide + 1) * tick): 200}


@dataclass
class Watched:
    """A view and its watch on one clock; every step looks, as each event of a maker does."""

    view: MarketView
    watch: Watch
    now_ms: int = NOON_MS
    halted: str | None = None
    exit_cause: str | None = None
    changes: int = 0

    def look(self) -> Regime:
        self.changes += self.watch.look(self.view, self.now_ms, halted=self.halted, exit_cause=self.exit_cause)
        return self.watch.stance.regime

    def after(self, ms: int) -> Regime:
        """Look after a time of silence."""
        self.now_ms += ms
        return self.look()

    def moved(self, bid: int, ms: int = 0) -> Regime:
        """The touch is another one by a frame of changes."""
        self.now_ms += ms
        seen, tick = self.view, self.view.book.tick
        seen.frame(self.now_ms)
        for of_bids, best, at, size in ((True, seen.book.best_bid, bid, 120), (False, seen.book.best_ask, bid + 1, 80)):
            seen.level(of_bids, at * tick, shares(size), self.now_ms)
            if best != at:
                seen.level(of_bids, best * tick, 0, self.now_ms)
        seen.end(self.now_ms, bid * tick, (bid + 1) * tick)
        seen.decreases.clear()
        return self.look()

    def printed(self, taker: Side, at: int) -> Regime:
        self.view.frame(self.now_ms)
        self.view.printed(taker, at * self.view.book.tick, shares(9), self.now_ms)
        return self.look()


def watched(bid: int = 47, *, tick: str = "0.01", calm_s: int = 0, **params: Any) -> Watched:
    """A market of changes with its bid at a tick, that stood still for a while."""
    seen = MarketView(market(tick=tick))
    began_ms = NOON_MS - calm_s * 1000
    show(seen, *touch(bid, seen.book.tick), at_ms=began_ms)
    of = Watched(seen, Watch(Params(**params)), began_ms)
    for _ in range(calm_s):
        of.moved(bid, 1_000)
    of.moved(bid)
    return of


# --- jumps


def test_a_market_begins_quiet_and_a_first_book_is_no_jump() -> None:
    of = watched(80)
    assert (of.look(), of.changes) == (QUIET, 0)


@pytest.mark.parametrize(("ticks", "regime"), [(2, QUIET), (-2, QUIET), (3, EVENT), (-3, EVENT)])
def test_a_jump_of_event_jump_ticks_is_an_event_either_way(ticks: int, regime: Regime) -> None:
    of = watched(calm_s=30)
    assert of.moved(47 + ticks) is regime


def test_small_moves_within_a_second_add_up_and_slower_ones_do_not() -> None:
    fast, slow = watched(calm_s=30), watched(calm_s=30, trend_sigmas=None)
    assert [fast.moved(47 + step, 450) for step in (1, 2, 3)] == [QUIET, QUIET, EVENT]
    assert [slow.moved(47 + step, 550) for step in range(1, 9)] == [QUIET] * 8


def test_a_mid_that_is_back_where_it_was_has_not_jumped_but_one_look_between_saw_it() -> None:
    of = watched(calm_s=30)
    assert [of.moved(49, 100), of.moved(46, 100), of.moved(47, 100)] == [QUIET, EVENT, EVENT]
    assert of.watch.stance.cause == "the mid moved 3 ticks within a second"


def test_where_ticks_are_fine_a_jump_must_be_unusual_too() -> None:
    """A market of 0.001 that flickers five ticks a second: six in a second are nothing there, 40 are."""
    rough = watched(470, tick="0.001", trend_sigmas=None)
    for second in range(120):
        rough.moved(470 + 5 * (second % 2), 1_000)
    usual = rough.view.usual_volatility
    assert usual == pytest.approx(5.0, rel=0.02)
    assert rough.moved(481, 1_000) is QUIET
    assert rough.moved(470, 1_000) is QUIET
    assert rough.moved(470 + 40, 1_000) is EVENT
    calm = watched(470, tick="0.001", calm_s=120)
    assert calm.moved(481, 1_000) is EVENT


def test_the_jump_itself_is_no_part_of_what_is_usual_however_often_one_looks_within_its_second() -> None:
    of = watched(470, tick="0.001", calm_s=600)
    assert of.moved(480, 300) is EVENT
    for _ in range(6):
        of.after(100)
        of.moved(480, 0)
        assert of.view.usual_volatility == 0.0


def test_when_the_grid_gets_finer_what_is_usual_is_so_on_the_new_grid() -> None:
    of = watched(50, trend_sigmas=None)
    for second in range(120):
        of.moved(50 + second % 2, 1_000)
    assert of.view.usual_volatility == pytest.approx(1.0, rel=0.02)
    of.view.new_tick(Price(MILLI))
    show(of.view, *touch(505, MILLI), at_ms=of.now_ms)
    assert of.view.usual_volatility == pytest.approx(10.0, rel=0.02)
    assert of.moved(525, 500) is QUIET, "two ticks of the old grid"


@pytest.mark.parametrize(("every_s", "regime"), [(1, EVENT), (2, EVENT), (3, QUIET), (60, QUIET)])
def test_between_slow_snapshots_nobody_saw_a_jump(every_s: int, regime: Regime) -> None:
    seen, watch = MarketView(market()), Watch(Params(trend_sigmas=None))
    now_ms = NOON_MS
    for _ in range(5):
        now_ms += every_s * 1000
        show(seen, *touch(47), at_ms=now_ms)
    show(seen, *touch(53), at_ms=now_ms + every_s * 1000)
    watch.look(seen, now_ms + every_s * 1000, halted=None, exit_cause=None)
    assert watch.stance.regime is regime


def test_a_market_that_is_elsewhere_after_a_lost_feed_has_not_jumped_but_jumps_from_there() -> None:
    of = watched(calm_s=30, trend_sigmas=None)
    of.view.lost()
    of.now_ms += 600_000
    show(of.view, *touch(60), at_ms=of.now_ms)
    of.view.restored()
    assert of.look() is QUIET
    assert of.moved(64, 300) is EVENT
    same = watched(calm_s=30)
    same.view.lost()
    show(same.view, *touch(47), at_ms=same.now_ms)
    same.view.restored()
    assert [same.look(), same.moved(51, 300)] == [QUIET, EVENT], "also where the mid is the one from before the loss"


def test_a_jump_is_seen_when_the_book_is_good_again() -> None:
    of = watched(calm_s=30)
    of.now_ms += 1_000
    of.view.frame(of.now_ms)
    of.view.level(True, 52 * CENT, shares(10), of.now_ms)
    of.view.end(of.now_ms, -1, -1)
    assert (of.view.fault, of.look()) == (Why.BOOK_CROSSED, QUIET)
    assert of.moved(52, 400) is EVENT


# --- sweeps


def test_takers_of_one_side_at_three_prices_within_a_second_are_an_event() -> None:
    of = watched()
    assert [of.printed(BUY, at) for at in (48, 48, 49)] == [QUIET] * 3
    of.now_ms += 999
    assert of.printed(BUY, 50) is EVENT
    assert of.watch.stance.cause == "takers of one side reached 3 prices within a second"


def test_takers_of_both_sides_or_of_another_second_are_none() -> None:
    of = watched()
    assert [of.printed(side, at) for side, at in ((BUY, 48), (SELL, 47), (BUY, 49), (SELL, 46), (SELL, 46))] == [QUIET] * 5
    of.now_ms += 1_000
    assert [of.printed(SELL, at) for at in (46, 45)] == [QUIET] * 2
    assert of.printed(SELL, 44) is EVENT


# --- how long an event lasts


@pytest.mark.parametrize("looks", [(), (1,), (400, 999), (999,)])
def test_an_event_is_over_event_cool_off_after_the_jump_whoever_looked_when(looks: Sequence[int]) -> None:
    of = watched(calm_s=30, event_cool_off_s=5, trend_sigmas=None)
    of.moved(51)
    jumped_ms = of.now_ms
    for ms in (*looks, 4_999):
        of.now_ms = jumped_ms + ms
        assert of.look() is EVENT
    assert of.after(1) is QUIET
    assert of.changes == 2


@pytest.mark.parametrize("look_ms", [None, 900])
def test_an_event_is_over_event_cool_off_after_the_last_print_of_a_sweep(look_ms: int | None) -> None:
    of = watched(event_cool_off_s=2.5)
    for at in (48, 49, 50):
        of.printed(BUY, at)
    of.after(look_ms or 0)
    assert of.after(2_499 - (look_ms or 0)) is EVENT
    assert of.after(1) is QUIET


def test_another_jump_in_the_cool_off_begins_it_anew_and_is_no_new_regime() -> None:
    of = watched(calm_s=30, event_cool_off_s=5, trend_sigmas=None)
    of.moved(51)
    of.moved(47, 4_000)
    assert of.after(4_999) is EVENT
    assert of.after(1) is QUIET
    assert of.changes == 2


def test_a_cool_off_of_0_looks_for_no_events() -> None:
    of = watched(calm_s=30, event_cool_off_s=0, trend_sigmas=None)
    assert of.moved(70) is QUIET
    assert [of.printed(BUY, at) for at in (71, 72, 73)] == [QUIET] * 3


# --- trends


def drifting(**params: Any) -> Watched:
    """A market that moved a tick to and fro every four seconds for ten minutes, then rested: 2.2 ticks in 20 s are usual."""
    of = watched(47, event_cool_off_s=0, **params)
    for second in range(600):
        of.moved(47 + (second // 4) % 2, 1_000)
    of.moved(47, 0)
    of.moved(47, 25_000)
    sigma = of.view.long_volatility(of.now_ms)
    assert sigma is not None
    assert sigma * 20**0.5 == pytest.approx(2.17, abs=0.01)
    return of


@pytest.mark.parametrize("up", [1, -1])
def test_a_move_of_trend_sigmas_within_20_s_is_a_trend_in_its_direction(up: int) -> None:
    of = drifting(trend_sigmas=2)
    assert [of.moved(47 + up * step, 2_000) for step in range(1, 6)] == [QUIET] * 4 + [TRENDING]
    assert of.watch.stance.trend == up
    assert of.watch.stance.cause == f"the mid moved {5 * up:+d} ticks in 20 s, 2.3 standard deviations"


def test_a_trend_ends_below_half_of_what_began_it_and_one_at_the_threshold_does_not_come_and_go() -> None:
    of = drifting(trend_sigmas=2)
    for step in range(1, 7):
        of.moved(47 + step, 1_000)
    assert of.look() is TRENDING
    changes = of.changes
    assert [of.moved(50 + step % 2, 500) for step in range(8)] == [TRENDING] * 8
    assert of.moved(49, 500) is QUIET
    assert [of.moved(50 + step % 2, 500) for step in range(4)] == [QUIET] * 4
    assert of.changes == changes + 1


def test_a_trend_fades_when_the_market_stands_still() -> None:
    of = drifting(trend_sigmas=2)
    for step in range(1, 7):
        of.moved(47 + step, 1_000)
    assert of.after(13_000) is TRENDING
    assert of.after(7_000) is QUIET


def test_a_move_of_less_than_two_ticks_is_no_trend_however_calm_it_was() -> None:
    of = watched(calm_s=600, event_cool_off_s=0, trend_sigmas=0.1)
    assert of.moved(48) is QUIET
    assert of.moved(49, 900) is TRENDING


def test_without_trend_sigmas_there_are_no_trends() -> None:
    of = drifting(trend_sigmas=None)
    assert [of.moved(47 + step, 500) for step in range(30)] == [QUIET] * 30


# --- which one it is


def test_halted_before_event_before_reduce_only_before_trending() -> None:
    of = drifting(trend_sigmas=2)
    of.watch = Watch(Params(trend_sigmas=2, event_cool_off_s=5))
    of.halted, of.exit_cause = "drawdown", "asked for by hand"
    of.moved(54)
    assert (of.watch.stance.regime, of.watch.stance.cause) == (HALTED, "drawdown")
    of.halted = None
    assert of.look() is EVENT
    assert of.after(5_000) is REDUCE_ONLY
    assert of.watch.stance.cause == "asked for by hand"
    of.exit_cause = None
    assert of.look() is TRENDING
    assert of.changes == 4


def test_an_event_during_an_exit_keeps_the_clock_of_the_exit() -> None:
    of = watched(calm_s=30, exit_step_s=10, event_cool_off_s=5, trend_sigmas=None)
    of.exit_cause = "asked for by hand"
    of.look()
    began_ms = of.now_ms
    assert of.moved(51, 8_000) is EVENT
    assert of.after(5_000) is REDUCE_ONLY
    assert of.watch.stance.since_ms == began_ms + 13_000
    assert [of.watch.concession(began_ms + ms) for ms in (0, 9_999, 10_000, 29_999, 30_000)] == [0, 0, 1, 2, 3]
    of.exit_cause = None
    of.look()
    assert of.watch.concession(of.now_ms) == 0


def test_an_exit_of_an_earlier_process_goes_on_from_when_it_began() -> None:
    of = watched(exit_step_s=10)
    of.watch.restore(NOON_MS - 25_000)
    of.exit_cause = "asked for by hand"
    of.look()
    assert of.watch.concession(NOON_MS) == 2


# --- through the maker


def changed(actions: Sequence[ev.Action]) -> list[tuple[Regime, Regime]]:
    return [(each.before.regime, each.now.regime) for each in of_kind(actions, ev.RegimeChanged)]


def quoting(*markets: Market, **params: Any) -> World:
    """A maker at a touch of changes, 30 calm seconds old."""
    world = World(*markets, **{"max_daily_loss": None, "max_drawdown": None, "max_skew_ticks": 0.0, "resume_after_s": 0.0, **params})
    for place, seen in enumerate(world.views):
        world.show(place)
        seen.level(True, price("0.01"), shares(5), world.now_ms)  # changes are what this feed speaks in
    for _ in range(15):
        world.arrive(2_000)
        for seen in world.views:
            seen.frame(world.now_ms)
        world.tick()
    world.actions.clear()
    return world


def resting(world: World) -> dict[Side, str]:
    """Where our best orders stand in YES terms, cancelled ones left out."""
    found: dict[Side, int] = {}
    for work in world.maker.desks[0].working.values():
        side, at = work.order.yes_side, work.order.yes_price
        found[side] = max(found.get(side, at), at, key=lambda each: each * side.sign)
    return {side: text(at) for side, at in found.items()}


def test_an_event_pulls_all_orders_says_so_once_and_ends_in_new_quotes() -> None:
    world = quoting(num_levels=2, trend_sigmas=None)
    assert len(world.working()) == 4
    jumped = world.show(bids=touch(53)[0], asks=touch(53)[1])
    assert len(of_kind(jumped, ev.Cancel)) == 4
    assert not of_kind(jumped, ev.Place)
    (told,) = of_kind(jumped, ev.RegimeChanged)
    assert (told.market, told.now.cause, told.now.since_ms) == (0, "the mid moved 6 ticks within a second", world.now_ms)
    decision = world.maker.desks[0].decision
    assert decision is not None
    assert (decision.sides, decision.regime) == ((Skipped(Why.EVENT), Skipped(Why.EVENT)), EVENT)
    for _ in range(4):
        world.arrive(1_200)
        world.tick()
    assert world.working() == {}
    world.arrive(200)
    world.tick()
    assert resting(world) == {BUY: "0.53", SELL: "0.54"}
    assert changed(world.actions) == [(QUIET, EVENT), (EVENT, QUIET)]


@pytest.mark.parametrize(("step", "stands"), [(1, {BUY: "0.5", SELL: "0.52"}), (-1, {BUY: "0.43", SELL: "0.45"})])
def test_in_a_trend_the_side_that_it_runs_into_steps_back_and_the_other_stays(step: int, stands: dict[Side, str]) -> None:
    world = quoting(trend_step_ticks=1)
    for at in range(1, 4):
        world.arrive(1_500)
        world.show(bids=touch(47 + step * at)[0], asks=touch(47 + step * at)[1])
    world.arrive(500)
    world.tick()
    assert changed(world.actions) == [(QUIET, TRENDING)]
    assert resting(world) == stands
    (told,) = of_kind(world.actions, ev.RegimeChanged)
    assert told.now.trend == step


def leaving(owned: Outcome = YES, bid: int = 47, *, wide: int = 4, tick: str = "0.01", size: float = 60, **params: Any) -> World:
    """A maker told to wind down who owns stock, at a touch some ticks wide."""
    of = market(tick=tick)
    world = World(of, **{"max_daily_loss": None, "max_drawdown": None, "max_data_gap_s": 10_000, "latency_ms": 0, **params})
    world.own(owned, size, "0.45")
    world.show(0, *touch(bid, of.tick, wide=wide))
    world.arrive(1)
    world.hear(ev.HaltAsked("op", "enough", reduce_only=True))
    world.arrive(1)
    return world


@pytest.mark.parametrize(
    ("owned", "side", "asked"),
    [(YES, SELL, ["0.51", "0.5", "0.49", "0.48", "0.48"]), (NO, BUY, ["0.47", "0.48", "0.49", "0.5", "0.5"])],
)
def test_an_exit_begins_at_the_touch_and_gives_a_tick_every_exit_step_up_to_one_from_the_other_side(
    owned: Outcome, side: Side, asked: list[str]
) -> None:
    world = leaving(owned, exit_step_s=30)
    for at in asked:
        assert resting(world) == {side: at}
        world.arrive(30_000)
        world.tick()
        world.arrive(10)
    assert not any(isinstance(event, ev.OrderRejected) for event in world.heard)


def test_an_exit_follows_the_touch_and_keeps_what_it_had_given() -> None:
    world = leaving(exit_step_s=30)
    world.arrive(30_000)
    world.show(0, *touch(52, wide=4))
    world.arrive(10)
    assert resting(world) == {SELL: "0.55"}
    decision = world.maker.desks[0].decision
    assert decision is not None
    assert decision.numbers is not None
    assert decision.numbers.concession == 1


@settings(deadline=None)
@given(
    st.sampled_from(Outcome),
    st.sampled_from(["0.01", "0.001"]),
    st.lists(st.tuples(st.integers(-4, 4), st.integers(1, 6), st.integers(0, 25_000)), min_size=1, max_size=12),
)
@example(YES, "0.01", [(0, 1, 0), (0, 1, 20_000)])
@example(NO, "0.01", [(4, 1, 20_000), (-4, 6, 20_000), (-4, 1, 25_000)])
def test_an_exit_order_never_takes_wherever_the_book_goes(owned: Outcome, tick: str, moves: list[tuple[int, int, int]]) -> None:
    world = leaving(owned, 47 if tick == "0.01" else 470, tick=tick, exit_step_s=5, event_cool_off_s=0.0)
    bid = 47 if tick == "0.01" else 470
    sent = 0
    for move, wide, wait_ms in moves:
        bid += move
        world.show(0, *touch(bid, world.views[0].book.tick, wide=wide))
        world.arrive(wait_ms)
        world.tick()
        book = world.views[0].book
        for placed in of_kind(world.actions[sent:], ev.Place):
            assert (placed.order.outcome, placed.order.side) in ((owned, SELL), (YES, BUY), (NO, BUY))
        for work in world.maker.desks[0].working.values():
            order = work.order
            if order.yes_side is SELL:
                assert order.yes_price > book.best_bid * book.tick
            else:
                assert order.yes_price < book.best_ask * book.tick
        sent = len(world.actions)
        world.arrive(1)
    crossed = [event for event in world.heard if isinstance(event, ev.OrderRejected)]
    assert not crossed


def test_a_maker_that_is_halted_says_so_once_and_what_for() -> None:
    world = quoting(max_drawdown=1.0, trend_sigmas=None, event_cool_off_s=0)
    world.maker.limits.peak = world.account.cash
    world.tick()
    world.arrive(2_000)
    world.tick()
    (told,) = of_kind(world.actions, ev.RegimeChanged)
    assert (told.now.regime, told.now.cause) == (HALTED, "drawdown")


# --- the taper


ENDS = NOON_MS + 10_000_000


@pytest.mark.parametrize(
    ("left_s", "part"),
    [(10_000, 1.0), (2_100, 1.0), (2_099, 0.9), (1_200, 0.5), (1_199, 0.4), (480, 0.1), (479, 0.0), (300, 0.0), (0, 0.0), (-9, 0.0)],
)
def test_the_taper_falls_from_1_to_0_before_quoting_stops_a_tenth_at_a_time(left_s: int, part: float) -> None:
    of = market(end_ms=ENDS)
    chosen = Params(taper_before_resolution_s=1800, stop_before_resolution_s=300)
    assert taper(of, chosen, ENDS - left_s * 1000) == pytest.approx(part)


def test_without_an_end_or_a_taper_all_of_the_net_is_allowed() -> None:
    assert taper(market(), Params(), ENDS) == 1.0
    assert taper(market(end_ms=ENDS), Params(taper_before_resolution_s=0), ENDS - 1) == 1.0


def ending(left_s: float, *, owned: float = 0, **params: Any) -> World:
    """A maker whose market ends so soon."""
    world = World(
        market(end_ms=NOON_MS + int(left_s * 1000)),
        **{"max_daily_loss": None, "max_drawdown": None, "max_net_position": 100.0, "max_skew_ticks": 0.0, **params},
    )
    if owned:
        world.own(YES, owned, "0.45")
    world.show()
    return world


def test_the_room_of_both_sides_shrinks_with_the_net_that_is_allowed() -> None:
    """Halfway through the taper 50 of 100 are allowed, a fifth before its end 20."""
    assert ending(1_200).working() == {("YES", "BUY", "0.47"): 50, ("NO", "BUY", "0.52"): 50}
    assert ending(300 + 360).working() == {("YES", "BUY", "0.47"): 20, ("NO", "BUY", "0.52"): 20}
    assert ending(300 + 360, owned=15).working() == {("YES", "SELL", "0.48"): 15, ("NO", "BUY", "0.52"): 20, ("YES", "BUY", "0.47"): 5}


def test_a_net_beyond_what_is_allowed_is_only_reduced_and_the_side_that_adds_says_why() -> None:
    world = ending(300 + 360, owned=40)
    assert world.working() == {("YES", "SELL", "0.48"): 40, ("NO", "BUY", "0.52"): 10}
    decision = world.maker.desks[0].decision
    assert decision is not None
    assert decision.bid == Skipped(Why.TAPERED)
    assert decision.numbers is not None
    assert decision.numbers.taper == pytest.approx(0.2)


def test_when_less_than_an_order_is_allowed_the_market_winds_down_and_then_stops() -> None:
    """The last tenth of the taper, 180 s, allows 10 of 100 shares as it begins, and then nothing."""
    world = ending(300 + 180, owned=30, event_cool_off_s=0.0)
    assert changed(world.actions) == []
    world.arrive(1_000)
    world.tick()
    (told,) = of_kind(world.actions, ev.RegimeChanged)
    assert (told.now.regime, told.now.cause) == (REDUCE_ONLY, "the market's end is near")
    world.arrive(1_000)
    assert world.working() == {("YES", "SELL", "0.48"): 30}
    world.arrive(178_001)
    world.show(bids={"0.47": 9}, asks={"0.48": 9})
    world.tick()
    world.arrive(1_000)
    decision = world.maker.desks[0].decision
    assert decision is not None
    assert decision.sides == (Skipped(Why.NEAR_RESOLUTION), Skipped(Why.NEAR_RESOLUTION))
    assert world.working() == {}


class Tapered(Watcher):
    """Checks at every order that is placed what the net may become if all of it fills."""

    def __init__(self) -> None:
        self.placed = 0
        self.regimes: list[str] = []

    def wrote(self, engine: Engine, record: Record) -> None:
        if record["kind"] == "regime":
            self.regimes.append(record["to"])
        if record["kind"] != "place":
            return
        self.placed += 1
        maker, desk = engine.maker, engine.maker.desks[0]
        allowed = int(maker.params.max_net_position * ONE * taper(desk.market, maker.params, engine.now_ms))
        net = maker.account.positions[0].net
        for side in Side:
            stays = (work for work in desk.working.values() if work.state is not State.CANCELLING)
            left = sum(work.left for work in stays if work.order.yes_side is side)
            if desk.watch.stance.regime is not REDUCE_ONLY:
                assert left == 0 or net * side.sign + left <= allowed
            else:
                assert left == 0 or net * side.sign + left <= 0


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["fixed", "bands"]),
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from([20_000, 45_000, 7_000]), st.integers(-2, 2), st.sampled_from(Side), st.sampled_from([8.0, 33.0, 90.0])),
        min_size=10,
        max_size=30,
    ),
)
def test_towards_the_end_no_side_may_add_more_than_what_is_still_allowed(
    model: Any, levels: int, story: list[tuple[int, int, Side, float]]
) -> None:
    rows: list[Row] = []
    at_ms, bid = NOON_MS, 47
    for pause_ms, move, taker, size in story:
        at_ms, bid = at_ms + pause_ms, bid + move
        rows += book_rows(at_ms, *touch(bid))
        rows += print_rows(at_ms + 400, taker, f"0.{bid - 1 if taker is SELL else bid + 2}", size)
    params = Params(
        model=model, num_levels=levels, taper_before_resolution_s=600, stop_before_resolution_s=60, max_data_gap_s=60, bracket=False,
        max_daily_loss=None, max_drawdown=None,
    )  # fmt: skip
    watcher = Tapered()
    engine([market(end_ms=NOON_MS + 700_000)], rows, params, watcher).run()
    assert watcher.placed


def test_a_run_journals_each_change_of_regime_once_on_its_way_to_the_end() -> None:
    rows: list[Row] = []
    for second in range(0, 240, 2):
        rows += book_rows(NOON_MS + second * 1000, *(touch(53) if second >= 60 else (BIDS, ASKS)))
    watcher = Tapered()
    params = Params(taper_before_resolution_s=120, stop_before_resolution_s=60, trend_sigmas=None, bracket=False)
    engine([market(end_ms=NOON_MS + 270_000)], rows, params, watcher).run()
    assert watcher.regimes == ["EVENT", "QUIET", "REDUCE_ONLY"]
