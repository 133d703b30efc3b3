"""The gates in their order, the limits of a run over time, and the caps on lopsided holdings."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from worlds import ASKS, BIDS, NOON_MS, World, market, price, shares, show, usdc, view

from mmtools.trading.market import FeeSchedule, Outcome, Side, Skipped, Why
from mmtools.trading.params import Params
from mmtools.trading.risk import DAY_MS, ERROR_WINDOW_MS, FEWEST_REQUESTS, Caps, Limits, Requests, Stand, gate, in_gap, unknown_facts
from mmtools.trading.signals import MarketView
from mmtools.units import ONE, Shares, Usdc

MIDNIGHT_MS = NOON_MS + DAY_MS // 2
PARAMS = Params(max_data_gap_s=30, stop_before_game_s=60, stop_before_resolution_s=300)


def why(seen: MarketView, *, now_ms: int = NOON_MS) -> Why | None:
    return gate(seen, seen.market, PARAMS, now_ms)


# --- gates


def test_a_good_book_of_an_open_market_passes() -> None:
    assert why(view()) is None


@pytest.mark.parametrize(
    ("bids", "asks", "reason"),
    [
        ({"0.49": 10, "0.47": 20}, {"0.48": 30}, Why.BOOK_CROSSED),
        ({"0.48": 10}, {"0.48": 30, "0.5": 7}, Why.BOOK_LOCKED),
        ({}, {}, Why.BOOK_EMPTY),
        ({"0.47": 20}, {}, Why.BOOK_ONE_SIDED),
        ({}, {"0.48": 30}, Why.BOOK_ONE_SIDED),
    ],
)
def test_a_book_that_is_not_good_closes_the_gate(bids: dict[str, float], asks: dict[str, float], reason: Why) -> None:
    assert why(view(bids, asks)) is reason


def test_a_market_that_never_spoke_has_no_gap_but_no_book_either() -> None:
    silent = MarketView(market())
    assert not in_gap(silent, PARAMS, NOON_MS + DAY_MS)
    assert why(silent) is Why.BOOK_INCOMPLETE


def test_a_market_that_is_over_or_does_not_accept_orders_is_closed() -> None:
    assert why(view(of=market(accepting=False))) is Why.NOT_ACCEPTING
    over = view()
    over.resolved = True
    assert why(over) is Why.NOT_ACCEPTING
    assert why(view(of=market(accepting=True))) is None


@pytest.mark.parametrize(("seconds", "closed"), [(-60, False), (-59.999, True), (0, True), (59.999, True), (60, False)])
def test_near_the_start_of_the_game_nothing_rests_before_and_after_it(seconds: float, closed: bool) -> None:
    game = view(of=market(game_start_ms=NOON_MS), at_ms=NOON_MS + int(seconds * 1000))
    assert why(game, now_ms=NOON_MS + int(seconds * 1000)) is (Why.NEAR_GAME_START if closed else None)


@pytest.mark.parametrize(("ms_left", "closed"), [(300_000, False), (299_999, True), (-5, True)])
def test_near_the_end_of_the_market_nothing_rests(ms_left: int, closed: bool) -> None:
    assert why(view(of=market(end_ms=NOON_MS + ms_left))) is (Why.NEAR_RESOLUTION if closed else None)


def test_the_gates_answer_in_their_order() -> None:
    """Everything is wrong at once; each thing that is put right uncovers the next reason."""
    facts: dict[str, Any] = {"accepting": False, "game_start_ms": NOON_MS + 1, "end_ms": NOON_MS + 2}
    seen = view({"0.5": 10}, {"0.4": 20}, of=market(**facts), at_ms=NOON_MS - 30_001)
    assert why(seen) is Why.DATA_GAP
    show(seen, {"0.5": 10}, {"0.4": 20})
    assert why(seen) is Why.BOOK_CROSSED
    show(seen)
    assert why(seen) is Why.NOT_ACCEPTING
    for fact, next_reason in (("accepting", Why.NEAR_GAME_START), ("game_start_ms", Why.NEAR_RESOLUTION), ("end_ms", None)):
        del facts[fact]
        assert why(view(of=market(**facts))) is next_reason


def test_facts_that_the_source_does_not_give_pass_and_are_named() -> None:
    assert unknown_facts(market()) == ["end date", "whether it accepts orders", "fees", "event"]
    assert unknown_facts(market(end_ms=NOON_MS, accepting=False, event="game")) == ["fees"]


def test_a_fact_that_a_live_source_leaves_out_forbids_quoting_but_an_unknown_event_does_not() -> None:
    told = market(end_ms=NOON_MS + 10 * DAY_MS, accepting=True, fees=FeeSchedule(rate=0.05))
    untold = market(end_ms=None, accepting=True, fees=FeeSchedule(rate=0.05), event="game")
    gates = [gate(view(of=of), of, PARAMS, NOON_MS, facts_required=required) for of in (told, untold) for required in (True, False)]
    assert gates == [None, None, Why.FACTS_UNKNOWN, None]


# --- data gap


def test_a_gap_begins_after_max_data_gap_without_a_frame() -> None:
    seen = view()
    seen.level(True, price("0.4"), shares(7), NOON_MS)
    assert not in_gap(seen, PARAMS, NOON_MS + 30_000)
    assert in_gap(seen, PARAMS, NOON_MS + 30_001)


def test_any_frame_ends_the_gap_of_a_feed_of_changes() -> None:
    seen = view()
    seen.level(True, price("0.4"), shares(7), NOON_MS)
    seen.frame(NOON_MS + 29_000)
    assert not in_gap(seen, PARAMS, NOON_MS + 59_000)


def test_a_feed_of_snapshots_may_be_silent_for_three_of_its_median_intervals() -> None:
    seen = view(at_ms=NOON_MS)
    at_ms = NOON_MS
    for interval_ms in (20_000, 14_000, 90_000):
        at_ms += interval_ms
        show(seen, at_ms=at_ms)
    assert not in_gap(seen, PARAMS, at_ms + 60_000)
    assert in_gap(seen, PARAMS, at_ms + 60_001)


def test_a_lost_connection_is_a_gap_at_once_until_a_book_has_come() -> None:
    seen = view()
    seen.lost()
    assert why(seen) is Why.DATA_GAP
    show(seen)
    seen.restored()
    assert why(seen) is None


# --- losses


def limits(*, daily: float | None = None, drawdown: float | None = None) -> Limits:
    return Limits(Params(max_daily_loss=daily, max_drawdown=drawdown))


def test_the_daily_loss_is_measured_from_the_total_at_midnight_utc() -> None:
    kept = limits(daily=10)
    assert kept.check(usdc(-9.99), MIDNIGHT_MS - 1) is None
    # Yesterday's loss is yesterday's: the new day begins at what is left.
    assert kept.check(usdc(-9.99), MIDNIGHT_MS) is None
    assert kept.check(usdc(-19.98), MIDNIGHT_MS + 5) is None
    breach = kept.check(usdc(-19.99), MIDNIGHT_MS + 6)
    assert breach is not None
    assert breach.why is Why.DAILY_LOSS
    assert "10.00 USDC" in breach.detail


def test_a_gain_of_the_same_day_does_not_raise_the_floor_of_the_daily_loss() -> None:
    kept = limits(daily=10)
    assert kept.check(usdc(25), NOON_MS) is None
    assert kept.check(usdc(-9.99), NOON_MS + 1) is None
    assert kept.check(usdc(-10), NOON_MS + 2) is not None


def test_drawdown_is_measured_from_the_peak_and_no_midnight_forgives_it() -> None:
    kept = limits(drawdown=10)
    for total, at_ms in ((4.0, MIDNIGHT_MS - 2), (-1.0, MIDNIGHT_MS - 1), (-5.99, MIDNIGHT_MS)):
        assert kept.check(usdc(total), at_ms) is None
    breach = kept.check(usdc(-6), MIDNIGHT_MS + 1)
    assert breach is not None
    assert breach.why is Why.DRAWDOWN
    assert (kept.peak, kept.deepest) == (usdc(4), usdc(10))


def test_when_both_are_broken_the_daily_loss_is_named() -> None:
    breach = limits(daily=5, drawdown=5).check(usdc(-5), NOON_MS)
    assert breach is not None
    assert breach.why is Why.DAILY_LOSS


def test_no_limit_is_no_limit() -> None:
    assert limits().check(usdc(-1_000_000), NOON_MS) is None


def test_a_restart_goes_on_from_the_same_day_and_the_same_peak() -> None:
    before = limits(daily=20, drawdown=12)
    before.check(usdc(6), MIDNIGHT_MS - 1)
    before.check(usdc(3), MIDNIGHT_MS)
    after = limits(daily=20, drawdown=12)
    assert before.day is not None
    after.restore(day=before.day, day_began_at=before.day_began_at, peak=before.peak, deepest=before.deepest, last=before.last)
    assert after.check(usdc(-5.99), MIDNIGHT_MS + 1) is None
    breach = after.check(usdc(-6), MIDNIGHT_MS + 2)
    assert breach is not None
    assert breach.why is Why.DRAWDOWN
    assert after.check(usdc(-7), MIDNIGHT_MS + 3) is not None


def test_a_restart_on_the_next_day_counts_from_what_was_last_known() -> None:
    after = limits(daily=50)
    after.restore(day=NOON_MS // DAY_MS, day_began_at=usdc(0), peak=usdc(0), deepest=usdc(0), last=usdc(0))
    assert after.check(usdc(-30), MIDNIGHT_MS + 1) is None
    assert after.day_began_at == usdc(0)


def test_a_drop_before_the_first_look_of_a_day_belongs_to_that_day() -> None:
    kept = limits(daily=10)
    assert kept.check(usdc(4), MIDNIGHT_MS - 1) is None
    breach = kept.check(usdc(-6), MIDNIGHT_MS + 500)
    assert breach is not None
    assert breach.why is Why.DAILY_LOSS


def test_after_a_person_cleared_it_losses_count_anew() -> None:
    kept = limits(daily=10, drawdown=10)
    assert kept.check(usdc(-10), NOON_MS) is not None
    kept.clear(usdc(-10))
    assert kept.check(usdc(-19.99), NOON_MS + 1) is None
    assert kept.check(usdc(-20), NOON_MS + 2) is not None


# --- error rate


def requests(failed: int, fine: int, *, at_ms: int = NOON_MS, max_error_rate: float = 0.2) -> Requests:
    seen = Requests(max_error_rate)
    for place in range(failed + fine):
        seen.note(at_ms + place, failed=place < failed)
    return seen


def test_the_error_rate_needs_twenty_requests() -> None:
    assert FEWEST_REQUESTS == 20
    assert requests(19, 0).check(NOON_MS + 100) is None
    breach = requests(5, 15).check(NOON_MS + 100)
    assert breach is not None
    assert breach.why is Why.ERROR_RATE


def test_an_error_rate_at_its_limit_is_no_breach() -> None:
    assert requests(4, 16).check(NOON_MS + 100) is None
    assert requests(5, 20).check(NOON_MS + 100) is None
    assert requests(6, 20).check(NOON_MS + 100) is not None


def test_only_the_last_five_minutes_count_even_when_nothing_is_sent_since() -> None:
    seen = requests(5, 15)
    assert seen.check(NOON_MS + ERROR_WINDOW_MS - 1) is not None
    assert seen.check(NOON_MS + ERROR_WINDOW_MS) is None


def test_cleared_requests_are_forgotten() -> None:
    seen = requests(20, 0)
    seen.clear()
    assert seen.check(NOON_MS + 100) is None


@given(st.lists(st.tuples(st.integers(0, 40_000), st.booleans()), max_size=80), st.integers(0, 200_000))
@example([(15_000, True)] * 20, 0)
def test_the_window_is_what_a_plain_count_says(steps: list[tuple[int, bool]], later_ms: int) -> None:
    seen, now_ms, noted = Requests(0.25), NOON_MS, []
    for step_ms, failed in steps:
        now_ms += step_ms
        seen.note(now_ms, failed=failed)
        noted.append((now_ms, failed))
    now_ms += later_ms
    recent = [failed for at_ms, failed in noted if at_ms > now_ms - ERROR_WINDOW_MS]
    assert (seen.check(now_ms) is not None) == (len(recent) >= 20 and sum(recent) > len(recent) / 4)


# --- caps


def stand(yes: float = 0, no: float = 0, cost: float = 0, elsewhere: float = 0) -> Stand:
    return Stand(yes=shares(yes), no=shares(no), cost=usdc(cost), elsewhere=usdc(elsewhere))


def caps(**params: Any) -> Caps:
    return Caps(Params(**{"max_position": 200.0, "max_net_position": 100.0, **params}))


@pytest.mark.parametrize(
    ("side", "room", "why"),
    [
        # 150 YES and 90 NO: net +60. A bid may add 40 to the net and 50 to YES, an ask 160 to the other way and 110 to NO.
        (Side.BUY, 40, Why.NET_CAP),
        (Side.SELL, 110, Why.POSITION_CAP),
    ],
)
def test_room_is_the_tighter_of_the_position_and_the_net_cap(side: Side, room: float, why: Why) -> None:
    assert caps().room(side, price("0.4"), stand(yes=150, no=90)) == (shares(room), why)


def test_a_holding_beyond_its_cap_leaves_no_room() -> None:
    assert caps().room(Side.BUY, price("0.4"), stand(yes=260, no=190)) == (Shares(0), Why.POSITION_CAP)
    assert caps().room(Side.BUY, price("0.4"), stand(yes=130)) == (Shares(0), Why.NET_CAP)


def test_event_room_is_what_the_side_loses_per_share_in_its_worse_outcome() -> None:
    """150 YES and 90 NO for 110 USDC: if NO wins 20 are lost, if YES wins 40 are won."""
    held = stand(yes=150, no=90, cost=110, elsewhere=12)
    loose = caps(max_event_exposure=50.0, max_position=1e6, max_net_position=1e6)
    # A bid at 0.4 loses 0.4 a share if NO wins: (50 - 12 - 20) / 0.4.
    assert loose.room(Side.BUY, price("0.4"), held) == (shares(45), Why.EVENT_CAP)
    # An ask at 0.4 loses 0.6 a share if YES wins: (50 - 12 + 40) / 0.6.
    assert loose.room(Side.SELL, price("0.4"), held) == (shares(130), Why.EVENT_CAP)


@given(st.sampled_from(Side), st.integers(1, 99), st.integers(0, 300), st.integers(0, 300), st.integers(0, 60), st.integers(0, 60))
def test_what_fills_the_room_breaks_no_cap(side: Side, cents: int, yes: int, no: int, cost: int, elsewhere: int) -> None:
    at, held = cents * 10_000, stand(yes=yes, no=no, cost=cost, elsewhere=elsewhere)
    limit = caps(max_event_exposure=50.0)
    room, _ = limit.room(side, at, held)
    if not room:
        return
    bought_yes, bought_no = (room, 0) if side is Side.BUY else (0, room)
    price_paid = at if side is Side.BUY else ONE - at
    after_yes, after_no = held.yes + bought_yes, held.no + bought_no
    assert max(after_yes if side is Side.BUY else 0, after_no if side is Side.SELL else 0) <= limit.position
    assert (after_yes - after_no) * side.sign <= limit.net
    pays = after_no if side is Side.BUY else after_yes
    assert limit.event is not None
    assert held.elsewhere + held.cost + room * price_paid / ONE - pays <= limit.event + 1


def test_tapered_caps_shrink_the_net_alone_say_so_and_leave_the_caps_of_the_run_as_they_were() -> None:
    whole = caps(max_event_exposure=50.0)
    less = whole.tapered(0.25)
    assert (less.net, less.position, less.event) == (shares(25), whole.position, whole.event)
    assert less.room(Side.BUY, price("0.4"), stand(yes=20)) == (shares(5), Why.TAPERED)
    assert less.room(Side.SELL, price("0.4"), stand(yes=20)) == (shares(45), Why.TAPERED)
    assert less.room(Side.BUY, price("0.4"), stand(yes=40)) == (Shares(0), Why.TAPERED)
    assert whole.room(Side.BUY, price("0.4"), stand(yes=20)) == (shares(80), Why.NET_CAP)


@given(st.floats(0, 1), st.sampled_from(Side), st.integers(0, 300), st.integers(0, 300))
@example(1.0, Side.BUY, 0, 0)
@example(0.0, Side.SELL, 30, 0)
@example(0.0, Side.BUY, 30, 0)
def test_what_fills_tapered_room_ends_within_the_part_of_the_net_that_is_allowed(part: float, side: Side, yes: int, no: int) -> None:
    held, whole = stand(yes=yes, no=no), caps(max_position=1e6)
    less = whole.tapered(part)
    room, net_room = less.room(side, price("0.4"), held)[0], less.net_room(side, held)
    net = (yes - no) * side.sign * ONE
    assert room == net_room == max(0, int(whole.net * part) - net)
    assert net_room <= whole.net_room(side, held)
    assert (less.net_why is Why.TAPERED) == (part < 1)


def test_two_markets_of_one_event_share_its_exposure() -> None:
    """The first may lose 24.50 USDC on whichever side fills; of 30 for the event 5.50 are left to the second: 11.22 shares at 0.49."""
    world = World(market("home", event="game"), market("away", event="game"), max_event_exposure=30.0)
    for place in (0, 1):
        world.show(place, {"0.49": 100, "0.48": 5}, {"0.51": 70, "0.52": 5})
    world.arrive()
    world.tick()
    assert world.working(0) == {("YES", "BUY", "0.49"): 50, ("NO", "BUY", "0.49"): 50}
    assert world.working(1) == {("YES", "BUY", "0.49"): 11.22, ("NO", "BUY", "0.49"): 11.22}


def test_an_event_without_room_says_so_on_both_sides() -> None:
    world = World(market("home", event="game"), market("away", event="game"), max_event_exposure=25.0)
    for place in (0, 1):
        world.show(place, {"0.49": 100}, {"0.51": 70})
    decision = world.maker.desks[1].decision
    assert decision is not None
    assert decision.sides == (Skipped(Why.EVENT_CAP), Skipped(Why.EVENT_CAP))


@pytest.mark.parametrize("events", [("a", "b"), (None, None)])
def test_markets_of_two_events_or_of_unknown_ones_share_nothing(events: tuple[str | None, str | None]) -> None:
    world = World(market("home", event=events[0]), market("away", event=events[1]), max_event_exposure=30.0)
    for place in (0, 1):
        world.show(place, BIDS, ASKS)
    assert [len(world.working(place)) for place in (0, 1)] == [2, 2]


def test_stock_of_the_event_s_other_market_counts_at_its_worst_loss() -> None:
    world = World(market("home", event="game"), market("away", event="game"), max_event_exposure=30.0)
    world.own(Outcome.YES, 40, "0.5", place=0)
    world.show(1, {"0.39": 100}, {"0.41": 100})
    # 20 may be lost at home, 10 are left: 25.64 lots at 0.39; the ask risks 0.59 a share.
    assert world.working(1) == {("YES", "BUY", "0.39"): 25.64, ("NO", "BUY", "0.59"): 16.94}


def test_usdc_are_shown_with_cents() -> None:
    breach = limits(drawdown=0.5).check(Usdc(-512_345), NOON_MS)
    assert breach is not None
    assert breach.detail == "0.51 USDC below the peak of 0.00 USDC; max_drawdown is 0.50 USDC"
