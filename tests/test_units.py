"""Integer millionths: exact both ways, and rounding only ever against us."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmtools.trading.market import TICKS
from mmtools.units import LOT, ONE, lots, of, parse, pay, receive, text

amounts = st.integers(-(10**15) * ONE + 1, 10**15 * ONE - 1)
"""All that `parse` reads: 15 digits before the point."""
prices = st.integers(1, ONE - 1)
sizes = st.integers(0, 10**9 * ONE)

NOT_MONEY = r"plain decimal|six decimals"


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("0.29", 290_000),  # math.floor(0.29 * 100) is 28
        ("0.000001", 1),
        ("-0.5", -500_000),
        ("-0", 0),
        ("007", 7_000_000),
        ("1.100000000000000000", 1_100_000),
        ("999999999999999.999999", 10**21 - 1),
    ],
)
def test_decimal_text_is_read_exactly(written: str, amount: int) -> None:
    assert parse(written) == amount


@pytest.mark.parametrize(
    "written", ["", " 1", "1\n", "+1", ".", "-.", "5.", "1e-3", "1,5", "1_000", "0x1", "--1", "nan", "inf", "٣", "½", "0.0000001", "1" * 16]
)
def test_what_is_no_plain_decimal_of_six_places_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=NOT_MONEY):
        parse(written)


@given(amounts)
@example(-1)
@example(10**21 - 1)
def test_text_reads_back_as_the_same_amount_and_is_the_shortest(amount: int) -> None:
    written = text(amount)
    assert parse(written) == amount
    assert Decimal(written) * ONE == amount
    assert "." not in written or not written.endswith(("0", "."))


def test_amounts_are_written_as_a_person_would() -> None:
    assert [text(amount) for amount in (290_000, 50_000_000, 0, -1, -1_500_000, 1)] == ["0.29", "50", "0", "-0.000001", "-1.5", "0.000001"]


@given(st.integers(-(10**9) * ONE, 10**9 * ONE))
@example(1)  # its float is written 1e-06
@example(-99)
@example(290_000)
def test_a_number_means_what_a_person_wrote(amount: int) -> None:
    assert of(float(text(amount))) == amount


@pytest.mark.parametrize("number", [1e-7, 0.1 + 0.2, 1 / 3, 1e15, 1e16, 1e300, float("nan"), float("inf"), float("-inf"), True])
def test_numbers_finer_or_larger_than_money_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match=NOT_MONEY):
        of(number)


def test_whole_numbers_are_numbers_too() -> None:
    assert of(50) == of(50.0) == 50_000_000


@given(prices, sizes)
@example(333_333, 1)
@example(ONE - 1, 1)
def test_rounding_is_against_us_and_less_than_a_millionth(price: int, size: int) -> None:
    exact = Decimal(price) * size / ONE
    assert exact <= pay(price, size) < exact + 1
    assert exact - 1 < receive(price, size) <= exact


@given(prices, sizes)
def test_what_one_side_pays_and_the_other_receives_makes_whole_shares(price: int, size: int) -> None:
    assert pay(price, size) + receive(ONE - price, size) == size


@given(st.sampled_from(TICKS), st.integers(1, 9_999), st.integers(0, 10**9))
@example(TICKS[-1], 1, 1)
def test_valid_orders_never_round(tick: int, ticks: int, in_lots: int) -> None:
    price, size = ticks * tick % ONE, in_lots * LOT
    assert pay(price, size) == receive(price, size)


def test_cost_and_proceeds_by_hand() -> None:
    assert pay(490_000, 100 * ONE) == 49 * ONE
    assert (pay(333_333, 1_500_001), receive(333_333, 1_500_001)) == (500_000, 499_999)
    assert (pay(1, 1), receive(1, 1)) == (1, 0)


@given(st.integers(-(10**12), 10**12))
@example(LOT - 1)
@example(LOT)
@example(-1)
def test_lots_cut_down_and_never_below_nothing(size: int) -> None:
    cut = lots(size)
    assert cut % LOT == 0
    assert cut == 0 if size < LOT else size - LOT < cut <= size
