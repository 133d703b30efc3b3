"""The book says what a naive one of two dicts says, after any sequence of changes, and knows what it does not know."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmtools.trading.book import UNKNOWN, Book, finer_tick
from mmtools.trading.market import TICKS, Why
from mmtools.units import ONE, Price

Change = tuple[bool, int, int]
"""(bid side, tick, size)."""

SHARE = ONE
# Few ticks, so that random changes cross, lock and empty the book; the outermost levels are among them.
CHANGES = st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.sampled_from((0, 1, 333_333, 2 * SHARE, 5_000_001 * SHARE))), max_size=40)
COARSE = Price(100_000)

DISCOVERED_FROM_THE_OUTSIDE: list[Change] = [(True, 1, 2 * SHARE), (False, 9, SHARE), (True, 1, 0), (False, 9, 0)]
CROSSED_THEN_GOOD: list[Change] = [(True, 6, SHARE), (False, 4, 3 * SHARE), (False, 7, 1), (False, 4, 0)]


class NaiveBook:
    """The slow and plain way: sizes by tick, and a search for every question."""

    def __init__(self, tick: int) -> None:
        self.tick, self.top = tick, ONE // tick
        self.sides: dict[bool, dict[int, int]] = {True: {}, False: {}}

    def set(self, bid: bool, at: int, size: int) -> int:
        before = self.sides[bid].get(at, UNKNOWN)
        self.sides[bid][at] = size
        return before

    def levels(self, bid: bool) -> list[tuple[int, int]]:
        """Best first."""
        return sorted(((at, size) for at, size in self.sides[bid].items() if size), reverse=bid)

    def touch(self) -> tuple[int, int]:
        bids, asks = self.levels(True), self.levels(False)
        return bids[0][0] if bids else 0, asks[0][0] if asks else self.top

    def fault(self) -> Why | None:
        bids, asks = self.levels(True), self.levels(False)
        if not bids and not asks:
            return Why.BOOK_EMPTY
        if not bids or not asks:
            return Why.BOOK_ONE_SIDED
        spread = asks[0][0] - bids[0][0]
        return Why.BOOK_CROSSED if spread < 0 else Why.BOOK_LOCKED if spread == 0 else None

    def worth(self, bid: bool, at: int) -> int:
        """USDC in millionths for a share sold into a level: YES to a bid, NO to an ask."""
        return at * self.tick if bid else ONE - at * self.tick

    def depth(self, bid: bool) -> int:
        return sum(size * self.worth(bid, at) for at, size in self.levels(bid)) // ONE

    def proceeds(self, bid: bool, size: int) -> int:
        total = 0
        for at, resting in self.levels(bid):
            total += min(size, resting) * self.worth(bid, at)
            size -= min(size, resting)
        return total // ONE

    def known(self, bid: bool, at: int) -> bool:
        best_bid, best_ask = self.touch()
        return at in self.sides[bid] or best_bid < at < best_ask


def book(bids: dict[int, int], asks: dict[int, int], tick: int = 10_000, *, complete: bool = True) -> Book:
    made = Book(Price(tick))
    for at, size in bids.items():
        made.set_bid(at, size)
    for at, size in asks.items():
        made.set_ask(at, size)
    made.complete = complete
    return made


@given(CHANGES, st.integers(0, 10_000_000 * SHARE))
@example(DISCOVERED_FROM_THE_OUTSIDE, SHARE)
@example(CROSSED_THEN_GOOD, 2)
def test_any_sequence_of_changes_leaves_what_the_naive_book_says(changes: list[Change], sold: int) -> None:
    book, naive = Book(COARSE), NaiveBook(COARSE)
    book.complete = True
    for bid, at, size in changes:
        before = (book.set_bid if bid else book.set_ask)(at, size)
        assert before == naive.set(bid, at, size)
        assert (book.best_bid, book.best_ask) == naive.touch()
        assert book.fault() == naive.fault()
    for bid in (True, False):
        assert book.depth(bid) == naive.depth(bid)
        assert book.proceeds(bid, sold) == naive.proceeds(bid, sold)
        assert [book.queue_known(bid, at) for at in range(1, 10)] == [naive.known(bid, at) for at in range(1, 10)]


@given(CHANGES)
@example(CROSSED_THEN_GOOD)
def test_imbalance_and_weighted_mid_come_from_the_sizes_at_the_touch(changes: list[Change]) -> None:
    book, naive = Book(COARSE), NaiveBook(COARSE)
    book.complete = True
    for bid, at, size in changes:
        (book.set_bid if bid else book.set_ask)(at, size)
        naive.set(bid, at, size)
    bids, asks = naive.levels(True), naive.levels(False)
    if not bids or not asks:
        assert book.imbalance() is None
        return
    (bid_at, bid_size), (ask_at, ask_size) = bids[0], asks[0]
    assert book.imbalance() == pytest.approx((bid_size - ask_size) / (bid_size + ask_size))
    if book.fault() is None:
        assert bid_at <= book.weighted_mid() <= ask_at
        assert book.mid() * 2 == (bid_at + ask_at) * COARSE


def test_a_heavy_bid_lifts_the_weighted_mid_and_makes_the_imbalance_positive() -> None:
    heavy_bid = book({46: 30 * SHARE, 40: 900 * SHARE}, {48: 10 * SHARE, 60: 700 * SHARE})
    assert heavy_bid.imbalance() == 0.5
    assert heavy_bid.weighted_mid() == 47.5
    assert heavy_bid.mid() == 470_000


def test_a_heavy_ask_presses_the_weighted_mid_and_makes_the_imbalance_negative() -> None:
    heavy_ask = book({46: 10 * SHARE}, {48: 30 * SHARE})
    assert heavy_ask.imbalance() == -0.5
    assert heavy_ask.weighted_mid() == 46.5


def test_near_the_touch_each_tick_behind_weighs_half_of_the_one_before() -> None:
    """Bids at 46, none at 45, 44; asks at 48, 49; what lies behind the third tick is not looked at."""
    seen = book({46: 8 * SHARE, 44: 20 * SHARE, 43: 900 * SHARE}, {48: 10 * SHARE, 49: 6 * SHARE, 51: 700 * SHARE})
    assert seen.near_touch(3) == (13 * SHARE, 13 * SHARE)
    assert seen.near_touch(1) == (8 * SHARE, 10 * SHARE)
    assert seen.near_touch(4) == (125.5 * SHARE, 100.5 * SHARE)


def test_near_the_touch_levels_beyond_the_grid_and_unknown_ones_hold_nothing() -> None:
    edge = book({2: 8 * SHARE}, {98: 12 * SHARE, 99: 4 * SHARE})
    assert edge.near_touch(5) == (8 * SHARE, 14 * SHARE)
    assert book({}, {98: 12 * SHARE}).near_touch(2) == (0.0, 12 * SHARE)


def test_what_stands_behind_the_touch_can_turn_the_deep_imbalance_around() -> None:
    thin_front = book({46: 4 * SHARE, 45: 32 * SHARE}, {48: 12 * SHARE, 49: 2 * SHARE})
    assert thin_front.imbalance() == -0.5
    assert thin_front.deep_imbalance(2) == (20 - 13) / 33
    assert book({46: SHARE}, {}).deep_imbalance(2) is None


@given(CHANGES, st.integers(1, 8))
@example(CROSSED_THEN_GOOD, 1)
@example([(True, 1, SHARE), (False, 9, 1)], 8)
def test_deep_imbalance_is_between_1_and_minus_1_mirrors_itself_and_is_the_imbalance_at_one_level(
    changes: list[Change], levels: int
) -> None:
    seen, mirror = Book(COARSE), Book(COARSE)
    for bid, at, size in changes:
        (seen.set_bid if bid else seen.set_ask)(at, size)
        (mirror.set_ask if bid else mirror.set_bid)(10 - at, size)
    deep, turned = seen.deep_imbalance(levels), mirror.deep_imbalance(levels)
    assert seen.deep_imbalance(1) == seen.imbalance()
    assert (deep is None) == (seen.imbalance() is None)
    if deep is not None:
        assert -1 <= deep <= 1
        assert turned == -deep


def test_the_middle_of_a_touch_one_tick_wide_is_exact_on_the_finest_grid() -> None:
    assert book({9_998: SHARE}, {9_999: SHARE}, tick=100).mid() == 999_850


@pytest.mark.parametrize(
    ("bids", "asks", "fault"),
    [
        ({}, {}, Why.BOOK_EMPTY),
        ({46: SHARE}, {}, Why.BOOK_ONE_SIDED),
        ({}, {48: SHARE}, Why.BOOK_ONE_SIDED),
        ({48: SHARE}, {48: 2 * SHARE}, Why.BOOK_LOCKED),
        ({49: SHARE}, {48: 2 * SHARE}, Why.BOOK_CROSSED),
        ({47: SHARE}, {48: 2 * SHARE}, None),
        ({1: SHARE}, {99: 2 * SHARE}, None),
        ({99: SHARE}, {1: 2 * SHARE}, Why.BOOK_CROSSED),
    ],
)
def test_each_fault_has_its_name(bids: dict[int, int], asks: dict[int, int], fault: Why | None) -> None:
    assert book(bids, asks).fault() is fault


@pytest.mark.parametrize(("bids", "asks"), [({}, {}), ({47: SHARE}, {48: SHARE}), ({49: SHARE}, {48: SHARE})])
def test_a_book_that_was_never_seen_whole_is_incomplete_whatever_it_holds(bids: dict[int, int], asks: dict[int, int]) -> None:
    assert book(bids, asks, complete=False).fault() is Why.BOOK_INCOMPLETE


def test_a_level_that_was_never_named_is_unknown_and_one_that_was_taken_away_is_empty() -> None:
    seen = book({46: SHARE, 44: SHARE}, {49: SHARE, 52: SHARE})
    assert seen.set_bid(44, 0) == SHARE
    assert seen.queue_known(True, 44)
    assert not seen.queue_known(True, 45)
    assert seen.queue_known(False, 52)
    assert not seen.queue_known(False, 50)


def test_between_the_touch_nobody_rests_so_the_queue_is_known() -> None:
    seen = book({46: SHARE}, {49: SHARE})
    assert [at for at in range(1, 100) if seen.queue_known(True, at)] == [46, 47, 48]
    assert [at for at in range(1, 100) if seen.queue_known(False, at)] == [47, 48, 49]


def test_a_bid_at_the_best_ask_has_an_unknown_queue() -> None:
    assert not book({46: SHARE}, {47: SHARE}).queue_known(True, 47)


def test_depth_counts_bids_at_their_price_and_asks_at_what_buyers_of_no_put_up() -> None:
    deep = book({40: 10 * SHARE, 20: 5 * SHARE}, {70: 10 * SHARE, 90: 1})
    assert deep.depth(bid=True) == 5 * ONE
    assert deep.depth(bid=False) == 3 * ONE  # the one millionth of a share at 0.90 is worth less than a millionth


def test_proceeds_walk_down_the_bids_and_up_the_asks() -> None:
    deep = book({40: 10 * SHARE, 20: 5 * SHARE}, {70: 10 * SHARE, 90: 5 * SHARE})
    assert deep.proceeds(True, 12 * SHARE) == 4_400_000
    assert deep.proceeds(False, 12 * SHARE) == 3_200_000


def test_what_finds_no_level_brings_nothing() -> None:
    deep = book({40: 10 * SHARE}, {})
    assert deep.proceeds(True, 1_000 * SHARE) == 4 * ONE
    assert deep.proceeds(False, 1_000 * SHARE) == 0
    assert deep.proceeds(True, 0) == 0


@pytest.mark.parametrize(
    ("tick", "price", "finer"),
    [
        (100_000, 450_000, 10_000),
        (10_000, 475_000, 5_000),
        (10_000, 472_500, 2_500),
        (10_000, 47_000, 1_000),
        (10_000, 999_900, 100),
        (5_000, 472_500, 2_500),
        (5_000, 471_000, 1_000),
        (2_500, 471_000, 100),  # 0.001 fits the price, but not every price of the old grid
        (1_000, 471_100, 100),
    ],
)
def test_a_price_between_two_ticks_means_the_coarsest_tick_that_fits_old_and_new(tick: int, price: int, finer: int) -> None:
    assert finer_tick(Price(tick), price) == finer


@pytest.mark.parametrize(("tick", "price"), [(10_000, 123_456), (100, 150), (100, 1)])
def test_a_price_that_fits_no_tick_of_the_venue_has_none(tick: int, price: int) -> None:
    assert finer_tick(Price(tick), price) is None


@given(st.sampled_from(TICKS), st.integers(1, ONE - 1))
def test_a_finer_tick_keeps_every_price_of_the_old_grid(tick: Price, price: int) -> None:
    fitting = [t for t in TICKS if t < tick and tick % t == 0 and price % t == 0]
    assert finer_tick(tick, price) == (max(fitting) if fitting else None)
