"""Routing YES terms to token orders, fitting them to money, and comparing them with what rests."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from worlds import order, price, shares, usdc

from mmtools.trading.market import Outcome, Side
from mmtools.trading.orders import KEEP_DOWN_TO, KEEP_UP_TO, SLACK, Changes, Keep, Leg, State, Working, afford, diff, route, stretched
from mmtools.units import LOT, ONE, Price, Shares, text

YES, NO, BUY, SELL = Outcome.YES, Outcome.NO, Side.BUY, Side.SELL
CENT = price("0.01")
MIN = shares(5)

amounts = st.integers(0, 300 * ONE).map(Shares)
prices = st.integers(1, 99).map(lambda cents: Price(cents * CENT))


def leg(outcome: Outcome, side: Side, at: str, size: float, most: float | None = None) -> Leg:
    return Leg(outcome, side, price(at), shares(size), shares(size if most is None else most))


def working(outcome: Outcome, side: Side, at: str, left: float, *, state: State = State.LIVE, key: str = "k1") -> Working:
    return Working(order(outcome, side, at, 100, key=key), shares(left), state, 0)


# --- route


def test_an_ask_sells_yes_from_stock_and_buys_no_at_one_less_price_for_the_rest() -> None:
    legs = route(SELL, price("0.48"), shares(50), room=shares(50), stock=shares(12), min_size=MIN)
    assert legs == (leg(YES, SELL, "0.48", 12), leg(NO, BUY, "0.52", 38))


def test_a_bid_sells_no_from_stock_at_one_less_price_and_buys_yes_for_the_rest() -> None:
    legs = route(BUY, price("0.47"), shares(50), room=shares(50), stock=shares(20), min_size=MIN)
    assert legs == (leg(NO, SELL, "0.53", 20), leg(YES, BUY, "0.47", 30))


@pytest.mark.parametrize("side", Side)
def test_every_leg_stands_on_the_side_and_price_it_was_routed_from(side: Side) -> None:
    legs = route(side, price("0.31"), shares(50), room=shares(50), stock=shares(20), min_size=MIN)
    assert [(routed.yes_side, routed.yes_price) for routed in legs] == [(side, price("0.31"))] * 2


def test_without_stock_all_of_it_is_bought_and_with_enough_none_is() -> None:
    assert route(SELL, price("0.48"), shares(50), shares(50), Shares(0), MIN) == (leg(NO, BUY, "0.52", 50),)
    assert route(SELL, price("0.48"), shares(50), shares(50), shares(90), MIN) == (leg(YES, SELL, "0.48", 50),)


def test_stock_below_the_minimum_is_not_sold_and_its_part_is_bought() -> None:
    assert route(SELL, price("0.48"), shares(50), shares(50), shares(4.99), MIN) == (leg(NO, BUY, "0.52", 50),)


def test_a_rest_below_the_minimum_is_not_bought() -> None:
    assert route(BUY, price("0.47"), shares(50), shares(50), shares(45.01), MIN) == (leg(NO, SELL, "0.53", 45.01),)
    assert route(BUY, price("0.47"), shares(50), shares(50), shares(45), MIN) == (leg(NO, SELL, "0.53", 45), leg(YES, BUY, "0.47", 5))


def test_parts_of_a_lot_are_cut_off() -> None:
    legs = route(SELL, price("0.48"), Shares(50_009_999), shares(60), Shares(12_345_678), MIN)
    assert [routed.size for routed in legs] == [shares(12.34), shares(37.66)]


def test_selling_what_we_own_is_not_limited_by_room_but_uses_it_up() -> None:
    assert route(SELL, price("0.48"), shares(50), Shares(0), shares(30), MIN) == (leg(YES, SELL, "0.48", 30),)
    assert route(SELL, price("0.48"), shares(50), shares(40), shares(30), MIN) == (leg(YES, SELL, "0.48", 30), leg(NO, BUY, "0.52", 10))
    assert route(SELL, price("0.48"), shares(50), shares(20), shares(30), MIN) == (leg(YES, SELL, "0.48", 30),)


@given(st.sampled_from(Side), prices, amounts, amounts, amounts, st.sampled_from([MIN, LOT, shares(15)]))
@example(BUY, price("0.99"), shares(5), shares(5), shares(5), MIN)
@example(SELL, price("0.01"), shares(10), shares(10), shares(5), MIN)
def test_routed_orders_are_legal_and_within_size_stock_and_room(
    side: Side, at: Price, size: Shares, room: Shares, stock: Shares, min_size: Shares
) -> None:
    legs = route(side, at, size, room, stock, min_size)
    sold = sum(routed.size for routed in legs if routed.side is SELL)
    bought = sum(routed.size for routed in legs if routed.side is BUY)
    assert all(routed.size >= min_size and routed.size % LOT == 0 and routed.most == routed.size for routed in legs)
    assert sold <= stock
    assert sold + bought <= size
    assert bought <= max(0, room - sold)
    assert all(routed.yes_side is side and routed.yes_price == at for routed in legs)


# --- afford


def test_a_leg_that_money_pays_exactly_is_left_alone() -> None:
    legs = (leg(YES, BUY, "0.47", 50),)
    assert afford(legs, usdc(23.5), MIN) == legs


def test_a_leg_that_cannot_be_paid_shrinks_to_the_lots_that_can() -> None:
    # 10 USDC less the slack buy 21.2744 shares at 0.47.
    assert afford((leg(YES, BUY, "0.47", 50),), usdc(10), MIN) == (leg(YES, BUY, "0.47", 21.27, most=50),)


def test_what_would_be_below_the_minimum_is_nothing() -> None:
    assert afford((leg(YES, BUY, "0.47", 50),), usdc(2.35), MIN) == ()
    assert afford((leg(YES, BUY, "0.47", 50),), usdc(2.36), MIN) == (leg(YES, BUY, "0.47", 5.01, most=50),)
    assert afford((leg(YES, BUY, "0.47", 50),), -1, MIN) == ()


def test_without_balance_awareness_a_leg_is_paid_whole_or_not_at_all() -> None:
    legs = (leg(NO, BUY, "0.6", 50), leg(NO, BUY, "0.1", 50))
    assert afford(legs, usdc(20), MIN, shrink=False) == (leg(NO, BUY, "0.1", 50),)


def test_the_best_level_is_paid_first() -> None:
    legs = (leg(YES, BUY, "0.47", 20), leg(YES, BUY, "0.46", 20))
    assert afford(legs, usdc(12), MIN) == (leg(YES, BUY, "0.47", 20), leg(YES, BUY, "0.46", 5.65, most=20))


def test_selling_costs_nothing() -> None:
    legs = (leg(NO, SELL, "0.53", 20), leg(YES, BUY, "0.47", 30))
    assert afford(legs, 0, MIN) == legs[:1]


@given(
    st.lists(st.tuples(st.sampled_from(Side), prices, amounts.filter(lambda size: size >= MIN)), max_size=4),
    st.integers(-ONE, 200 * ONE),
    st.booleans(),
)
def test_what_is_paid_never_costs_more_than_the_money(wanted: list[tuple[Side, Price, Shares]], money: int, shrink: bool) -> None:
    legs = [Leg(YES, side, at, size, size) for side, at, size in wanted]
    paid = afford(legs, money, MIN, shrink=shrink)
    assert sum(each.cost for each in paid) <= max(money, 0)
    assert all(MIN <= each.size <= each.most for each in paid)
    assert [each for each in paid if each.side is SELL] == [each for each in legs if each.side is SELL]
    if any(each.size < each.most for each in paid):
        assert sum(each.cost for each in paid) <= money - SLACK + 1


# --- stretched


def test_a_leg_with_a_band_may_be_as_large_as_the_band_and_what_the_others_leave_of_the_limits() -> None:
    near, far = (banded(YES, BUY, at, size, within=("0.4", "0.47"), most=size) for at, size in (("0.46", 50), ("0.44", 60)))
    assert [each.most for each in stretched((near, far), shares(200), shares(200), Shares(0))] == [shares(75), shares(90)]
    assert [each.most for each in stretched((near, far), shares(31), shares(200), Shares(0))] == [shares(75), shares(66)]
    assert [each.most for each in stretched((near, far), shares(200), shares(4), Shares(0))] == [shares(54), shares(60)]


def test_a_sale_is_stretched_by_stock_and_net_alone_and_uses_up_the_room_of_buys() -> None:
    sold, bought = (banded(outcome, side, "0.5", 40, within=("0.4", "0.6"), most=40) for outcome, side in ((YES, SELL), (NO, BUY)))
    assert [each.most for each in stretched((sold, bought), shares(99), Shares(0), shares(7))] == [shares(47), shares(40)]
    assert [each.most for each in stretched((sold, bought), shares(99), shares(24), shares(90))] == [shares(60), shares(44)]


def test_an_ordinary_leg_is_never_larger_than_wanted() -> None:
    assert stretched((leg(YES, BUY, "0.46", 50),), shares(200), shares(200), shares(200)) == (leg(YES, BUY, "0.46", 50),)


@given(st.lists(st.tuples(st.booleans(), amounts, st.floats(1, 3)), max_size=4), amounts, amounts, amounts)
@example([(True, shares(50), 3.0), (False, shares(50), 3.0)], shares(10), shares(10), shares(10))
def test_together_stretched_legs_stay_within_what_is_left_of_the_limits(
    wanted: list[tuple[bool, Shares, float]], net_room: Shares, room: Shares, stock: Shares
) -> None:
    legs = [
        Leg(YES if sells else NO, SELL if sells else BUY, price("0.5"), size, size, Keep((price("0.4"), price("0.6")), 0.5, up_to))
        for sells, size, up_to in wanted
    ]
    found = stretched(legs, net_room, room, stock)
    more = [each.most - each.size for each in found]
    assert [(each.size, each.keep) for each in found] == [(each.size, each.keep) for each in legs]
    assert all(each.size <= each.most <= each.size * each.keep.up_to for each in found)
    assert sum(more) <= net_room
    assert sum(extra for extra, each in zip(more, found, strict=True) if each.side is SELL) <= stock
    assert sum(extra for extra, each in zip(more, found, strict=True) if each.side is BUY) <= room


# --- diff


def compare(wanted: Sequence[Leg], resting: Sequence[Working], *, reprice_after: int = 1, closest: Price | None = None) -> Changes:
    return diff(wanted, resting, tick=CENT, reprice_after=reprice_after, closest=closest)


def test_an_order_at_the_wanted_price_keeps_its_place_in_the_queue() -> None:
    assert compare([leg(YES, BUY, "0.47", 50)], [working(YES, BUY, "0.47", 50)]) == Changes((), ())


@pytest.mark.parametrize(("at", "kept"), [("0.47", True), ("0.48", True), ("0.45", True), ("0.49", False), ("0.44", False)])
def test_a_place_in_the_queue_is_kept_for_less_than_reprice_after_ticks(at: str, kept: bool) -> None:
    resting = working(YES, BUY, at, 50)
    changes = compare([leg(YES, BUY, "0.465", 50)], [resting], reprice_after=2)
    assert changes == Changes(() if kept else (resting,), ())


def test_an_order_through_fair_value_is_not_kept_however_near() -> None:
    bid, ask = working(YES, BUY, "0.48", 50), working(NO, BUY, "0.54", 50)
    assert compare([leg(YES, BUY, "0.47", 50)], [bid], reprice_after=5, closest=price("0.48")).cancel == ()
    assert compare([leg(YES, BUY, "0.47", 50)], [bid], reprice_after=5, closest=price("0.47")).cancel == (bid,)
    assert compare([leg(NO, BUY, "0.53", 50)], [ask], reprice_after=5, closest=price("0.46")).cancel == ()
    assert compare([leg(NO, BUY, "0.53", 50)], [ask], reprice_after=5, closest=price("0.47")).cancel == (ask,)


def test_an_order_of_the_other_token_or_the_other_side_does_not_serve() -> None:
    resting = [working(NO, SELL, "0.5", 50), working(NO, BUY, "0.5", 50)]
    assert compare([leg(YES, BUY, "0.5", 50)], resting).cancel == tuple(resting)


@pytest.mark.parametrize("state", State)
def test_nothing_is_placed_while_a_cancel_flies(state: State) -> None:
    flying = working(YES, BUY, "0.47", 50, state=State.CANCELLING)
    other = working(YES, BUY, "0.46", 50, state=state, key="k2")
    changes = compare([leg(YES, BUY, "0.46", 50), leg(YES, BUY, "0.47", 50)], [flying, other])
    assert changes == Changes((), ())


def test_nothing_is_placed_in_the_same_breath_as_a_cancel() -> None:
    old = working(YES, BUY, "0.45", 50)
    assert compare([leg(YES, BUY, "0.47", 50)], [old]) == Changes((old,), ())
    assert compare([leg(YES, BUY, "0.47", 50)], []) == Changes((), (leg(YES, BUY, "0.47", 50),))


def test_an_order_that_has_mostly_filled_is_replaced() -> None:
    half, less = working(YES, BUY, "0.47", 25), working(YES, BUY, "0.47", 24.99)
    assert compare([leg(YES, BUY, "0.47", 50)], [half]).cancel == ()
    assert compare([leg(YES, BUY, "0.47", 50)], [less]).cancel == (less,)


def test_an_order_larger_than_money_now_allows_stays_while_the_limits_allow_it() -> None:
    resting = working(YES, BUY, "0.47", 50)
    assert compare([leg(YES, BUY, "0.47", 40, most=50)], [resting]).cancel == ()
    assert compare([leg(YES, BUY, "0.47", 39.99, most=50)], [resting]).cancel == (resting,)
    assert compare([leg(YES, BUY, "0.47", 49.99)], [resting]).cancel == (resting,)


def banded(outcome: Outcome, side: Side, at: str, size: float, *, within: tuple[str, str], most: float | None = None) -> Leg:
    """A leg of a band of half to one and a half of its size."""
    keep = Keep((price(within[0]), price(within[1])), 0.5, 1.5)
    return Leg(outcome, side, price(at), shares(size), shares(size * 1.5 if most is None else most), keep)


@pytest.mark.parametrize(("at", "kept"), [("0.449", False), ("0.45", True), ("0.46", True), ("0.48", True), ("0.481", False)])
def test_an_order_keeps_its_place_from_one_end_of_its_band_to_the_other(at: str, kept: bool) -> None:
    bid, ask = working(YES, BUY, at, 50), working(NO, BUY, text(ONE - price(at)), 50)
    assert (compare([banded(YES, BUY, "0.46", 50, within=("0.45", "0.48"))], [bid]).cancel == ()) == kept
    assert (compare([banded(NO, BUY, "0.54", 50, within=("0.45", "0.48"))], [ask]).cancel == ()) == kept


@pytest.mark.parametrize(("left", "kept"), [(24.99, False), (25, True), (75, True), (75.01, False)])
def test_what_is_left_of_an_order_may_lie_between_the_least_and_the_most_of_its_band(left: float, kept: bool) -> None:
    resting = working(YES, BUY, "0.47", left)
    assert (compare([banded(YES, BUY, "0.46", 50, within=("0.45", "0.48"), most=200)], [resting]).cancel == ()) == kept


def test_limits_bind_before_the_most_of_a_band() -> None:
    resting = working(YES, BUY, "0.46", 70)
    assert compare([banded(YES, BUY, "0.46", 50, within=("0.45", "0.48"), most=70)], [resting]).cancel == ()
    assert compare([banded(YES, BUY, "0.46", 50, within=("0.45", "0.48"), most=69.99)], [resting]).cancel == (resting,)


def test_an_order_where_the_next_one_would_stand_is_kept_even_outside_its_band() -> None:
    """Grid, touch and fair value may push a wish out of its band; its order must not be replaced by its like for ever."""
    pushed = banded(YES, BUY, "0.44", 50, within=("0.45", "0.48"))
    assert compare([pushed], [working(YES, BUY, "0.44", 50)]) == Changes((), ())
    assert compare([pushed], [working(YES, BUY, "0.443", 50)], reprice_after=5).cancel != ()


def test_a_band_keeps_nothing_through_fair_value() -> None:
    resting = working(YES, BUY, "0.48", 50)
    assert compare([banded(YES, BUY, "0.46", 50, within=("0.45", "0.48"))], [resting], closest=price("0.47")).cancel == (resting,)


def test_one_order_serves_one_leg() -> None:
    kept = working(YES, BUY, "0.47", 50)
    changes = compare([leg(YES, BUY, "0.47", 50), leg(YES, BUY, "0.46", 50)], [kept], reprice_after=3)
    assert changes == Changes((), (leg(YES, BUY, "0.46", 50),))


legs_of_one_side = st.lists(
    st.builds(
        lambda outcome, cents, size, part: Leg(
            outcome,
            BUY if outcome is YES else SELL,
            Price((cents if outcome is YES else 100 - cents) * CENT),
            Shares(size * LOT),
            Shares((size + part) * LOT),
        ),
        st.sampled_from(Outcome),
        st.integers(40, 46),
        st.integers(500, 6000),
        st.sampled_from([0, 0, 900]),
    ),
    max_size=4,
)
orders_of_one_side = st.lists(
    st.builds(
        lambda outcome, cents, left, state: Working(
            order(outcome, BUY if outcome is YES else SELL, f"0.{cents if outcome is YES else 100 - cents}", 100),
            Shares(left * LOT),
            state,
            0,
        ),
        st.sampled_from(Outcome),
        st.integers(40, 46),
        st.integers(1, 7000),
        st.sampled_from(State),
    ),
    max_size=4,
)


@given(legs_of_one_side, orders_of_one_side, st.integers(1, 4), st.none() | st.integers(40, 46).map(lambda cents: Price(cents * CENT)))
def test_after_the_changes_what_rests_is_within_the_limits(
    wanted: list[Leg], resting: list[Working], reprice_after: int, closest: Price | None
) -> None:
    changes = compare(wanted, resting, reprice_after=reprice_after, closest=closest)
    flying = [work for work in resting if work.state is State.CANCELLING]
    kept = [work for work in resting if work not in changes.cancel and work not in flying]
    for outcome in Outcome:
        most = sum(each.most for each in wanted if each.outcome is outcome)
        stays = sum(work.left for work in kept if work.order.outcome is outcome)
        comes = sum(each.size for each in changes.place if each.outcome is outcome)
        assert stays + comes <= most
    assert not (changes.place and (flying or changes.cancel))
    assert not set(map(id, changes.cancel)) & set(map(id, flying))
    for work in kept:
        assert any(
            abs(work.order.price - each.price) < reprice_after * CENT and each.size * KEEP_DOWN_TO <= work.left <= each.size * KEEP_UP_TO
            for each in wanted
        )
        assert closest is None or work.order.yes_price <= closest
