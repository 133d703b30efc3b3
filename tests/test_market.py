"""The nouns refuse what must not exist, and turning between token terms and YES terms loses nothing."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmtools.trading.market import TICKS, Fill, Market, Order, Outcome, Quote, Side, Why, yes_price, yes_side
from mmtools.units import ONE, Price, Shares, Usdc


def market(tick: int = 10_000, min_size: int = 5_000_000, no_token: str = "7202") -> Market:
    return Market(slug="rain", condition_id="0xra", yes_token="7101", no_token=no_token, tick=Price(tick), min_size=Shares(min_size))


def order(outcome: Outcome = Outcome.YES, side: Side = Side.BUY, price: int = 300_000, size: int = 7_000_000) -> Order:
    return Order(key="k1", market=0, outcome=outcome, side=side, price=Price(price), size=Shares(size))


def test_every_tick_splits_one_share_evenly_and_has_a_whole_middle() -> None:
    assert list(TICKS) == sorted(TICKS, reverse=True)
    assert all(ONE % tick == 0 and tick % 2 == 0 for tick in TICKS)


@pytest.mark.parametrize("tick", TICKS)
def test_a_market_takes_every_tick_of_the_venue(tick: Price) -> None:
    assert market(tick=tick).tick == tick


@pytest.mark.parametrize("tick", [0, -10_000, 20_000, 500, ONE])
def test_a_market_refuses_any_other_tick(tick: int) -> None:
    with pytest.raises(ValueError, match=rf"rain: tick {tick} "):
        market(tick=tick)


@pytest.mark.parametrize("size", [0, -1])
def test_a_market_refuses_a_minimum_that_is_none(size: int) -> None:
    with pytest.raises(ValueError, match="minimum order size must be above 0"):
        market(min_size=size)


def test_a_market_refuses_one_token_for_both_outcomes() -> None:
    with pytest.raises(ValueError, match="both outcomes have one token id"):
        market(no_token="7101")


def test_what_the_source_does_not_say_is_none() -> None:
    rain = market()
    assert (rain.fees, rain.end_ms, rain.accepting, rain.event, rain.volume_24h) == (None,) * 5


@pytest.mark.parametrize(
    ("outcome", "side", "in_yes_terms"),
    [
        (Outcome.YES, Side.BUY, (Side.BUY, 300_000)),
        (Outcome.YES, Side.SELL, (Side.SELL, 300_000)),
        (Outcome.NO, Side.BUY, (Side.SELL, 700_000)),
        (Outcome.NO, Side.SELL, (Side.BUY, 700_000)),
    ],
)
def test_buying_no_is_an_ask_and_selling_no_is_a_bid_at_one_less_the_price(
    outcome: Outcome, side: Side, in_yes_terms: tuple[Side, int]
) -> None:
    sent = order(outcome, side)
    filled = Fill(
        trade_id="t1", order_key="k1", market=0, outcome=outcome, side=side,
        price=sent.price, size=sent.size, at_ms=5, mark=Price(310_000), fee=Usdc(0),
    )  # fmt: skip
    assert (sent.yes_side, sent.yes_price) == in_yes_terms
    assert (filled.yes_side, filled.yes_price) == in_yes_terms


@given(st.sampled_from(Outcome), st.sampled_from(Side), st.integers(0, ONE))
@example(Outcome.NO, Side.SELL, 0)
@example(Outcome.NO, Side.BUY, ONE)
def test_turning_terms_twice_changes_nothing(outcome: Outcome, side: Side, price: int) -> None:
    assert yes_price(outcome, yes_price(outcome, price)) == price
    assert yes_side(outcome, yes_side(outcome, side)) is side


def test_sides_and_outcomes_have_their_opposites() -> None:
    assert (Side.BUY.opposite, Side.SELL.opposite) == (Side.SELL, Side.BUY)
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)
    assert (Outcome.YES.other, Outcome.NO.other) == (Outcome.NO, Outcome.YES)


@pytest.mark.parametrize("price", [1, ONE - 1])
def test_the_outermost_prices_can_be_quoted(price: int) -> None:
    assert order(price=price).price == Quote(Price(price), Shares(1)).price == price


@pytest.mark.parametrize("price", [-1, 0, ONE, ONE + 1])
def test_an_order_or_a_quote_at_a_price_of_certainty_cannot_exist(price: int) -> None:
    with pytest.raises(ValueError, match=f"order k1: price {price} "):
        order(price=price)
    with pytest.raises(ValueError, match="no such quote"):
        Quote(Price(price), Shares(7_000_000))


@pytest.mark.parametrize("size", [0, -7_000_000])
def test_an_order_or_a_quote_of_nothing_cannot_exist(size: int) -> None:
    with pytest.raises(ValueError, match=f"order k1: size {size} "):
        order(size=size)
    with pytest.raises(ValueError, match="no such quote"):
        Quote(Price(300_000), Shares(size))


def test_records_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        order().size = Shares(1)  # type: ignore[misc]


def test_reasons_are_shown_by_their_own_names() -> None:
    assert all(why.value == why.name.lower() for why in Why)
