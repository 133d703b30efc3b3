"""MarketView: what becomes a book and when, what is trimmed and refused, and that every signal keeps its promise."""

import math
import pickle
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmtools.trading.market import Market, Side, Why
from mmtools.trading.signals import Decrease, MarketView
from mmtools.units import ONE, Price, Shares
from mmtools.venues import recording
from mmtools.venues.tape import Tape
from mmtools.venues.venue import Kind

T0 = 1_780_000_000_000
MINUTE = 60_000
SHARE = ONE
CENT = 10_000

Level = tuple[bool, int, int]
"""(bid side, price, size) in millionths."""
Ladder = dict[int, int]
"""Price -> size."""
Touch = tuple[int, int]
UNSTATED: Touch = (-1, -1)


def view(tick: int = CENT) -> MarketView:
    return MarketView(
        Market(slug="rain", condition_id="0xra", yes_token="7101", no_token="7202", tick=Price(tick), min_size=Shares(5 * SHARE))
    )


def change(of: MarketView, now_ms: int, *levels: Level, stated: Touch = UNSTATED) -> list[Decrease]:
    """Feed one `price_change` frame; return the levels that lost size in it."""
    of.frame(now_ms)
    for bid, price, size in levels:
        of.level(bid, price, size, now_ms)
    of.end(now_ms, *stated)
    return emptied(of)


def book(of: MarketView, now_ms: int, bids: Ladder, asks: Ladder) -> list[Decrease]:
    """Feed one `book` frame of the YES token."""
    of.frame(now_ms)
    of.full_book(now_ms)
    for bid, levels in ((True, bids), (False, asks)):
        for price, size in levels.items():
            of.level(bid, price, size, now_ms)
    of.end(now_ms, *UNSTATED)
    return emptied(of)


def emptied(of: MarketView) -> list[Decrease]:
    decreases = list(of.decreases)
    of.decreases.clear()
    return decreases


def printed(of: MarketView, now_ms: int, taker: Side, shares: float) -> None:
    of.frame(now_ms)
    of.printed(taker, 475_000, round(shares * SHARE), now_ms)


def verdict(of: MarketView) -> tuple[Why | None, int | None]:
    """Why the book is not good, and the mark."""
    return of.fault, of.mark


def touch(of: MarketView) -> Touch:
    return of.book.best_bid * of.book.tick, of.book.best_ask * of.book.tick


def one_tick_book(of: MarketView, now_ms: int, bid: int) -> None:
    """A full book with its bid at a tick, one tick wide."""
    tick = of.book.tick
    book(of, now_ms, {bid * tick: 10 * SHARE}, {(bid + 1) * tick: 30 * SHARE})


GOOD: tuple[Ladder, Ladder] = ({460_000: 20 * SHARE, 450_000: 70 * SHARE}, {480_000: 30 * SHARE, 500_000: 90 * SHARE})
CROSSED: tuple[Ladder, Ladder] = ({490_000: 20 * SHARE}, {480_000: 30 * SHARE})
LOCKED: tuple[Ladder, Ladder] = ({480_000: 20 * SHARE}, {480_000: 30 * SHARE})
BIDS_ONLY: tuple[Ladder, Ladder] = ({460_000: 20 * SHARE}, {})
ASKS_ONLY: tuple[Ladder, Ladder] = ({}, {480_000: 30 * SHARE})
EMPTY: tuple[Ladder, Ladder] = ({}, {})


# When there is a book


def test_one_full_book_is_a_book() -> None:
    rain = view()
    assert rain.fault is Why.BOOK_INCOMPLETE
    book(rain, T0, *GOOD)
    assert (verdict(rain), touch(rain)) == ((None, 470_000), (460_000, 480_000))


def test_changes_alone_become_a_book_after_a_minute_and_not_earlier() -> None:
    rain = view()
    change(rain, T0, (True, 460_000, SHARE), (False, 480_000, 2 * SHARE))
    change(rain, T0 + MINUTE - 1, (True, 450_000, SHARE))
    assert verdict(rain) == (Why.BOOK_INCOMPLETE, None)
    change(rain, T0 + MINUTE, (True, 440_000, SHARE))
    assert verdict(rain) == (None, 470_000)


def test_prints_and_silence_do_not_make_a_book() -> None:
    rain = view()
    printed(rain, T0, Side.BUY, 5)
    printed(rain, T0 + 10 * MINUTE, Side.SELL, 5)
    assert rain.fault is Why.BOOK_INCOMPLETE


def test_the_minute_of_changes_begins_with_the_first_change() -> None:
    rain = view()
    printed(rain, T0, Side.BUY, 5)
    change(rain, T0 + 30_000, (True, 460_000, SHARE), (False, 480_000, 2 * SHARE))
    change(rain, T0 + MINUTE + 29_999, (True, 460_000, SHARE))
    assert rain.fault is Why.BOOK_INCOMPLETE


def test_end_tells_when_the_touch_or_the_fault_is_another_and_only_then() -> None:
    rain = view()
    rain.full_book(T0)
    rain.level(True, 460_000, SHARE, T0)
    rain.level(False, 480_000, SHARE, T0)
    assert rain.end(T0, *UNSTATED)
    rain.level(True, 460_000, 5 * SHARE, T0 + 1)
    rain.level(True, 450_000, 5 * SHARE, T0 + 1)
    assert not rain.end(T0 + 1, *UNSTATED)
    rain.level(False, 460_000, SHARE, T0 + 2)
    assert rain.end(T0 + 2, *UNSTATED)
    assert rain.fault is Why.BOOK_LOCKED


# Levels that lose size


def test_only_known_levels_that_shrink_are_decreases() -> None:
    rain = view()
    assert change(rain, T0, (True, 460_000, 500 * SHARE), (False, 480_000, 0)) == []
    assert change(rain, T0 + 1, (True, 460_000, 400 * SHARE)) == [(True, 460_000, 500 * SHARE, 400 * SHARE)]
    assert change(rain, T0 + 2, (True, 460_000, 450 * SHARE), (True, 460_000, 450 * SHARE), (False, 480_000, 7 * SHARE)) == []
    assert change(rain, T0 + 3, (False, 480_000, 0)) == [(False, 480_000, 7 * SHARE, 0)]


def test_a_full_book_replaces_the_old_one_and_what_vanished_is_a_decrease() -> None:
    rain = view()
    book(rain, T0, {460_000: 20 * SHARE, 450_000: 70 * SHARE}, {480_000: 30 * SHARE, 500_000: 90 * SHARE})
    decreases = book(rain, T0 + 1000, {450_000: 80 * SHARE, 440_000: 5 * SHARE}, {480_000: 10 * SHARE, 490_000: SHARE})
    assert sorted(decreases) == [
        (False, 480_000, 30 * SHARE, 10 * SHARE),
        (False, 500_000, 90 * SHARE, 0),
        (True, 460_000, 20 * SHARE, 0),
    ]
    assert touch(rain) == (450_000, 480_000)
    assert rain.book.queue_known(True, 3)  # a full book says of every level that it does not name that it is empty


PRICES = st.integers(1, 99).map(lambda tick: tick * CENT)
LEVELS = st.dictionaries(PRICES, st.integers(1, 5 * SHARE), max_size=8)


@given(LEVELS, LEVELS, LEVELS, LEVELS)
@example({10_000: 1}, {990_000: 1}, {}, {})
def test_the_decreases_between_two_books_are_the_levels_that_hold_less(
    bids: Ladder, asks: Ladder, later_bids: Ladder, later_asks: Ladder
) -> None:
    rain = view()
    book(rain, T0, bids, asks)
    decreases = book(rain, T0 + 1, later_bids, later_asks)
    expected = [
        (bid, price, size, now.get(price, 0))
        for bid, before, now in ((True, bids, later_bids), (False, asks, later_asks))
        for price, size in before.items()
        if now.get(price, 0) < size
    ]
    assert sorted(decreases) == sorted(expected)


@pytest.mark.parametrize("price", [0, ONE])
def test_a_level_at_a_price_of_certainty_is_no_level(price: int) -> None:
    rain = view()
    book(rain, T0, *GOOD)
    change(rain, T0 + 1, (True, price, SHARE), (False, price, SHARE))
    assert touch(rain) == (460_000, 480_000)
    assert rain.snapshots_only()


# The stated touch


def test_levels_beyond_the_stated_touch_are_trimmed_as_decreases_to_nothing() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    decreases = change(rain, T0 + 1, (False, 520_000, SHARE), stated=(450_000, 500_000))
    assert sorted(decreases) == [(False, 480_000, 30 * SHARE, 0), (True, 460_000, 20 * SHARE, 0)]
    assert touch(rain) == (450_000, 500_000)
    assert rain.book.queue_known(True, 46)


def test_the_stated_touch_describes_the_book_after_the_whole_frame() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    decreases = change(rain, T0 + 1, (True, 470_000, SHARE), (True, 470_000, 0), (True, 460_000, 25 * SHARE), stated=(460_000, 480_000))
    assert decreases == [(True, 470_000, SHARE, 0)]
    assert touch(rain) == (460_000, 480_000)


def test_a_stated_bid_of_0_empties_the_bids_and_leaves_the_asks() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    decreases = change(rain, T0 + 1, stated=(0, 480_000))
    assert decreases == [(True, 460_000, 20 * SHARE, 0), (True, 450_000, 70 * SHARE, 0)]
    assert (rain.fault, touch(rain)) == (Why.BOOK_ONE_SIDED, (0, 480_000))


def test_a_stated_ask_of_1_empties_the_asks_and_leaves_the_bids() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    decreases = change(rain, T0 + 1, stated=(460_000, ONE))
    assert decreases == [(False, 480_000, 30 * SHARE, 0), (False, 500_000, 90 * SHARE, 0)]
    assert (rain.fault, touch(rain)) == (Why.BOOK_ONE_SIDED, (460_000, ONE))


def test_a_side_without_a_stated_touch_is_not_trimmed() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    assert change(rain, T0 + 1, stated=(450_000, -1)) == [(True, 460_000, 20 * SHARE, 0)]
    assert touch(rain) == (450_000, 480_000)


def test_a_stated_touch_better_than_ours_is_a_level_never_seen_so_the_book_is_incomplete_until_it_agrees() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    change(rain, T0 + 1, stated=(470_000, 480_000))
    assert verdict(rain) == (Why.BOOK_INCOMPLETE, 470_000)
    change(rain, T0 + 2, (False, 520_000, SHARE))
    assert rain.fault is Why.BOOK_INCOMPLETE
    change(rain, T0 + 3, (True, 470_000, SHARE), stated=(470_000, 480_000))
    assert verdict(rain) == (None, 475_000)
    change(rain, T0 + 4, stated=(460_000, 470_000))
    assert rain.fault is Why.BOOK_INCOMPLETE
    book(rain, T0 + 5, *GOOD)
    assert verdict(rain) == (None, 470_000)


def test_data_quality_is_the_part_of_stated_touches_that_were_ours() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    assert rain.data_quality() is None
    change(rain, T0 + 1, stated=(460_000, 480_000))
    change(rain, T0 + 2, stated=(470_000, 480_000))
    change(rain, T0 + 3, stated=(-1, 500_000))
    change(rain, T0 + 4, (True, 470_000, SHARE), stated=(470_000, -1))
    change(rain, T0 + 5, (True, 440_000, SHARE))
    assert rain.data_quality() == 0.75


@given(st.lists(st.tuples(st.booleans(), PRICES, st.sampled_from((0, SHARE, 3 * SHARE)), st.booleans()), max_size=30))
def test_a_feed_that_forgets_removals_but_states_the_touch_is_followed(changes: list[tuple[bool, int, int, bool]]) -> None:
    """The feed's book is never crossed: a level beyond the other side's best takes those levels away, and no row says so."""
    rain = view()
    bids: Ladder = {}
    asks: Ladder = {}
    for now_ms, (bid, price, size, silent) in enumerate(changes, T0):
        own, other = (bids, asks) if bid else (asks, bids)
        own[price] = size
        if size:
            other.update({at: 0 for at in other if (at <= price if bid else at >= price)})
        best_bid = max((at for at, held in bids.items() if held), default=0)
        best_ask = min((at for at, held in asks.items() if held), default=ONE)
        change(rain, now_ms, *(() if silent and not size else ((bid, price, size),)), stated=(best_bid, best_ask))
        assert touch(rain) == (best_bid, best_ask)


# The tick


def test_a_price_off_the_grid_makes_the_tick_finer_and_begins_the_book_anew() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    assert change(rain, T0 + 1, (True, 460_000, 5 * SHARE), (True, 467_500, 4 * SHARE)) == []
    assert (rain.book.tick, rain.epoch, rain.inferred_tick) == (2_500, 1, True)
    assert verdict(rain) == (Why.BOOK_INCOMPLETE, 470_000)
    assert touch(rain) == (467_500, ONE)
    assert not rain.book.queue_known(True, 460_000 // 2_500)


def test_a_stated_touch_off_the_grid_makes_the_tick_finer_too() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    assert change(rain, T0 + 1, (True, 440_000, SHARE), stated=(460_000, 471_000)) == []
    assert (rain.book.tick, rain.epoch, rain.inferred_tick) == (1_000, 1, True)
    assert rain.fault is Why.BOOK_INCOMPLETE


def test_a_grid_that_was_inferred_needs_its_own_minute_of_changes() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    begun = T0 + 10 * MINUTE
    change(rain, begun, (True, 465_000, 4 * SHARE), (False, 480_000, 4 * SHARE))
    change(rain, begun + MINUTE - 1, (True, 450_000, SHARE))
    assert rain.fault is Why.BOOK_INCOMPLETE
    change(rain, begun + MINUTE, (True, 450_000, SHARE))
    assert verdict(rain) == (None, 472_500)


def test_a_full_book_off_the_grid_keeps_all_its_levels_on_the_finer_one() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    decreases = book(rain, T0 + 1, {460_000: 2 * SHARE, 455_000: 3 * SHARE, 440_000: SHARE}, {490_000: 5 * SHARE, 500_000: SHARE})
    assert (rain.book.tick, rain.epoch, rain.inferred_tick, rain.fault) == (5_000, 1, True, None)
    assert [(at * 5_000, size) for at, size in enumerate(rain.book.bids) if size > 0] == [
        (440_000, SHARE),
        (455_000, 3 * SHARE),
        (460_000, 2 * SHARE),
    ]
    assert [(at * 5_000, size) for at, size in enumerate(rain.book.asks) if size > 0] == [(490_000, 5 * SHARE), (500_000, SHARE)]
    assert decreases == []  # of the old grid nothing stands, so nothing of it can shrink
    assert book(rain, T0 + 2, {460_000: SHARE}, {490_000: 5 * SHARE, 500_000: SHARE}) == [
        (True, 440_000, SHARE, 0),
        (True, 455_000, 3 * SHARE, 0),
        (True, 460_000, 2 * SHARE, SHARE),
    ]


def test_a_price_that_fits_no_tick_of_the_venue_is_counted_and_left_out() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    change(rain, T0 + 1, (True, 466_666, SHARE), stated=(460_000, 480_000))
    change(rain, T0 + 2, stated=(455_555, 480_000))
    assert (rain.off_grid, rain.epoch, rain.fault, touch(rain)) == (2, 0, None, (460_000, 480_000))


def test_a_tick_that_the_feed_states_begins_the_book_anew() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    change(rain, T0 + 1, (True, 465_000, SHARE))
    rain.new_tick(Price(1_000))
    assert (rain.book.tick, rain.book.top, rain.epoch, rain.inferred_tick) == (1_000, 1_000, 2, False)
    assert (rain.fault, rain.mark, touch(rain)) == (Why.BOOK_INCOMPLETE, 470_000, (0, ONE))
    book(rain, T0 + 2, {461_000: SHARE}, {462_000: SHARE})
    assert verdict(rain) == (None, 461_500)


# Books that are refused, and the mark


@pytest.mark.parametrize(
    ("bad", "name", "fault"),
    [
        (CROSSED, "crossed", Why.BOOK_CROSSED),
        (LOCKED, "locked", Why.BOOK_LOCKED),
        (BIDS_ONLY, "one_sided", Why.BOOK_ONE_SIDED),
        (ASKS_ONLY, "one_sided", Why.BOOK_ONE_SIDED),
        (EMPTY, "empty", Why.BOOK_EMPTY),
    ],
)
def test_a_bad_book_is_counted_once_and_does_not_move_the_mark(bad: tuple[Ladder, Ladder], name: str, fault: Why) -> None:
    rain = view()
    book(rain, T0, *GOOD)
    book(rain, T0 + 1, *bad)
    assert (rain.fault, rain.mark, rain.refused) == (fault, 470_000, {name: 1})
    book(rain, T0 + 2, {470_000: SHARE}, {480_000: SHARE})
    assert (rain.fault, rain.mark, rain.refused) == (None, 475_000, {name: 1})


def test_a_market_that_only_had_bad_books_has_no_mark() -> None:
    rain = view()
    book(rain, T0, *CROSSED)
    book(rain, T0 + 1, *LOCKED)
    assert rain.mark is None
    assert rain.refused == {"crossed": 1, "locked": 1}


def test_changes_that_cross_the_book_are_a_fault_but_no_refused_book() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    change(rain, T0 + 1, (True, 490_000, SHARE))
    assert (rain.fault, rain.mark, rain.refused) == (Why.BOOK_CROSSED, 470_000, {})


@given(st.lists(st.tuples(LEVELS, LEVELS), max_size=12))
@example([GOOD, CROSSED, EMPTY, GOOD])
def test_the_mark_is_the_mid_of_the_last_good_book(books: list[tuple[Ladder, Ladder]]) -> None:
    rain = view()
    mark = None
    for now_ms, (bids, asks) in enumerate(books, T0):
        book(rain, now_ms, bids, asks)
        good = bool(bids and asks) and max(bids) < min(asks)
        mark = (max(bids) + min(asks)) // 2 if good else mark
        assert (rain.mark, rain.fault is None) == (mark, good)


# Volatility


def walk(seed: int, sigma: float, ticks: int, seconds: int) -> list[float]:
    """A fair value in ticks, a hundred times a second, that moves sigma ticks per square root of a second and stays on the grid."""
    rng = random.Random(seed)
    at, path = ticks / 2, []
    for _ in range(100 * seconds):
        at += rng.gauss(0, sigma / 10)
        at = 4 - at if at < 2 else 2 * (ticks - 2) - at if at > ticks - 2 else at
        path.append(at)
    return path


def measured(path: Sequence[float], tick: int, every: int) -> tuple[float, float]:
    """Return the mean `volatility`, and the last `long_volatility`, of a book one tick wide around every so-manieth value of a path."""
    rain = view(tick)
    variances: list[float] = []
    bid = None
    for step in range(0, len(path), every):
        now_ms = T0 + 10 * step
        before, bid = bid, math.floor(path[step])
        if before is None:
            one_tick_book(rain, now_ms, bid)
        elif bid != before:
            come = ((True, bid * tick, SHARE), (False, (bid + 1) * tick, 2 * SHARE))
            change(rain, now_ms, *come, (True, before * tick, 0), (False, (before + 1) * tick, 0))
        if step % 6000 == 0 and step:
            variances.append((rain.volatility(now_ms) or math.nan) ** 2)
    return math.sqrt(sum(variances) / len(variances)), rain.long_volatility(now_ms) or math.nan


@pytest.mark.parametrize(("sigma", "tick"), [(1.0, 10_000), (4.0, 1_000)])
def test_the_same_diffusion_has_the_same_volatility_at_1_10_and_100_updates_a_second(sigma: float, tick: int) -> None:
    path = walk(3, sigma, ONE // tick, 1800)
    short, long = zip(*(measured(path, tick, every) for every in (100, 10, 1)), strict=True)
    assert max(short) / min(short) < 1.1
    assert max(long) / min(long) < 1.1
    # A book one tick wide adds its rounding, 1/6 of a square tick a second.
    assert short == pytest.approx([math.sqrt(sigma**2 + 1 / 6)] * 3, rel=0.1)
    assert long == pytest.approx([math.sqrt(sigma**2 + 1 / 6)] * 3, rel=0.1)


def test_volatility_is_in_ticks_of_the_present_grid() -> None:
    coarse, fine = view(10_000), view(1_000)
    for second in range(300):
        one_tick_book(coarse, T0 + 1000 * second, 50 + 2 * (second % 2))
        one_tick_book(fine, T0 + 1000 * second, 500 + 20 * (second % 2))
    assert coarse.volatility(T0 + 300_000) == pytest.approx(2, rel=0.02)
    assert fine.volatility(T0 + 300_000) == pytest.approx(20, rel=0.02)


def test_flicker_within_a_second_is_no_volatility() -> None:
    rain = view()
    for ms in range(0, 60_000, 50):
        one_tick_book(rain, T0 + ms, 51 if 100 <= ms % 1000 < 900 and ms % 100 else 50)
    assert rain.volatility(T0 + 60_000) == 0.0


def test_a_jump_counts_at_once_and_fades_while_nothing_moves() -> None:
    rain = view()
    one_tick_book(rain, T0, 50)
    assert rain.volatility(T0 + 120_000) == 0.0
    one_tick_book(rain, T0 + 120_500, 56)
    at_once = rain.volatility(T0 + 120_500) or 0.0
    assert at_once == pytest.approx(6 / math.sqrt(60 * (1 - math.exp(-2))), rel=0.01)
    later = [rain.volatility(T0 + 120_500 + minutes * MINUTE) or 0.0 for minutes in (1, 2, 5)]
    assert at_once > later[0] > later[1] > later[2] > 0
    long = rain.long_volatility(T0 + 120_500 + 5 * MINUTE)
    assert long is not None
    assert long > later[2]


def test_volatility_is_unknown_before_there_is_a_second_of_history() -> None:
    rain = view()
    assert (rain.volatility(T0), rain.long_volatility(T0)) == (None, None)
    one_tick_book(rain, T0, 50)
    assert rain.volatility(T0 + 999) is None
    assert rain.volatility(T0 + 1000) == 0.0


def test_a_move_of_the_touch_under_a_bad_book_is_no_volatility() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    for second in range(1, 60):
        book(rain, T0 + 1000 * second, {490_000 + 10_000 * (second % 9): SHARE}, {480_000: SHARE})
    assert rain.volatility(T0 + 60_000) == 0.0


# Momentum and flow


def test_momentum_is_unknown_until_there_are_20_seconds_of_history() -> None:
    rain = view()
    assert rain.momentum(T0) is None
    one_tick_book(rain, T0, 50)
    one_tick_book(rain, T0 + 19_000, 53)
    assert rain.momentum(T0 + 19_999) is None
    assert rain.momentum(T0 + 20_000) == 30_000


def test_momentum_is_the_mid_now_less_that_of_exactly_20_seconds_ago() -> None:
    rain = view()
    for second, bid in ((0, 50), (5, 40), (9, 47), (24, 44)):
        one_tick_book(rain, T0 + 1000 * second, bid)
    assert rain.momentum(T0 + 24_999) == -60_000
    assert rain.momentum(T0 + 25_000) == 40_000
    assert rain.momentum(T0 + 28_999) == 40_000
    assert rain.momentum(T0 + 29_000) == -30_000


@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(1, 98)), min_size=1, max_size=40), st.integers(0, 30_000))
def test_momentum_remembers_every_mid_it_needs(moves: list[tuple[int, int]], wait_ms: int) -> None:
    rain = view()
    now_ms, history = T0, []
    for pause_ms, bid in moves:
        now_ms += pause_ms
        one_tick_book(rain, now_ms, bid)
        history.append((now_ms, bid))
    now_ms += wait_ms
    then = [bid for at_ms, bid in history if at_ms <= now_ms - 20_000]
    assert rain.momentum(now_ms) == ((history[-1][1] - then[-1]) * CENT if then else None)


def test_takers_who_buy_make_the_order_flow_positive() -> None:
    rain = view()
    assert rain.order_flow_imbalance(T0) is None
    printed(rain, T0, Side.BUY, 300)
    printed(rain, T0, Side.SELL, 100)
    assert rain.order_flow_imbalance(T0) == pytest.approx(0.5)
    printed(rain, T0, Side.SELL, 800)
    assert rain.order_flow_imbalance(T0) == pytest.approx(-0.5)
    assert rain.order_flow_imbalance(T0 + 30_000) == pytest.approx(-0.5)


def test_old_prints_weigh_less_and_at_last_nothing() -> None:
    rain = view()
    printed(rain, T0, Side.BUY, 100)
    printed(rain, T0 + 60_000, Side.SELL, 100)
    assert rain.order_flow_imbalance(T0 + 60_000) == pytest.approx((math.exp(-1) - 1) / (math.exp(-1) + 1))
    assert rain.order_flow_imbalance(T0 + 3600_000) is None


# Jumps, sweeps and how often takers trade


def test_a_jump_is_the_farthest_that_the_mid_stood_from_here_within_a_second() -> None:
    rain = view()
    change(rain, T0, (True, 470_000, SHARE), (False, 480_000, SHARE))
    rain.book.complete = True
    assert rain.jump(T0) == 0.0
    for ms, bid in ((0, 47), (10_000, 52), (10_400, 49), (10_900, 51)):
        one_tick_book(rain, T0 + ms, bid)
    assert rain.jump(T0 + 10_900) == 4.0  # from 47, where it stood until 900 ms ago
    assert rain.jump(T0 + 10_999) == 4.0
    assert rain.jump(T0 + 11_000) == 2.0  # from 49; 52 is nearer
    assert rain.jump(T0 + 11_900) == 0.0


def test_a_jump_is_in_ticks_of_the_present_grid() -> None:
    rain = view(1_000)
    change(rain, T0, (True, 470_000, SHARE))
    one_tick_book(rain, T0 + 1, 470)
    one_tick_book(rain, T0 + 500, 487)
    assert rain.jump(T0 + 500) == 17.0


@given(st.lists(st.tuples(st.integers(0, 1_500), st.integers(1, 98)), min_size=1, max_size=30), st.integers(0, 1_500))
@example([(0, 10), (0, 20), (0, 15)], 0)
@example([(0, 10), (5, 20)], 1_000)
def test_a_jump_is_what_a_plain_search_of_the_second_says(moves: list[tuple[int, int]], wait_ms: int) -> None:
    rain = view()
    change(rain, T0, (True, 10_000, SHARE))
    now_ms, history = T0, []
    for pause_ms, bid in moves:
        now_ms += pause_ms
        one_tick_book(rain, now_ms, bid)
        history.append((now_ms, bid))
    now_ms += wait_ms
    ends = [at_ms for at_ms, _ in history[1:]] + [now_ms + 1]
    stood = [bid for (_, bid), until_ms in zip(history, ends, strict=True) if until_ms > now_ms - 1_000]
    assert rain.jump(now_ms) == max(abs(bid - history[-1][1]) for bid in stood)


def sold_at(of: MarketView, now_ms: int, taker: Side, *prices: int) -> None:
    of.frame(now_ms)
    for price in prices:
        of.printed(taker, price, SHARE, now_ms)


def test_a_sweep_counts_the_prices_of_one_side_within_a_second() -> None:
    rain = view()
    assert rain.sweep(T0) == 0
    sold_at(rain, T0, Side.BUY, 480_000, 490_000, 490_000)
    sold_at(rain, T0 + 500, Side.SELL, 470_000)
    assert rain.sweep(T0 + 500) == 2
    sold_at(rain, T0 + 999, Side.BUY, 500_000)
    assert rain.sweep(T0 + 999) == 3
    assert rain.sweep(T0 + 1_000) == 1


@pytest.mark.parametrize("per_s", [0.2, 5.0])
def test_trade_intensity_is_the_rate_of_takers_from_the_first_minute_on_whenever_one_asks(per_s: float) -> None:
    """Poisson prints; the mean over many markets, asked at odd moments, is the rate from the first minute on."""
    rng = random.Random(4)
    asked: dict[int, list[float]] = {7_300: [], 61_700: [], 300_100: []}
    for _ in range(150):
        rain, now_ms, due = view(), T0, sorted(asked)
        rain.frame(T0)
        while due:
            now_ms += round(rng.expovariate(per_s) * 1000)
            while due and T0 + due[0] < now_ms:
                asked[due[0]].append(rain.trade_intensity(T0 + due.pop(0)) or 0.0)
            printed(rain, now_ms, rng.choice(list(Side)), 5)
    for found in asked.values():
        assert sum(found) / len(found) == pytest.approx(per_s, rel=0.15)


@given(st.lists(st.integers(0, 200_000), max_size=10), st.lists(st.integers(0, 400_000), max_size=10))
def test_asking_for_a_rate_changes_no_later_answer(prints: list[int], questions: list[int]) -> None:
    asked, left_alone = view(), view()
    for rain in (asked, left_alone):
        rain.frame(T0)
    for ms, asks in sorted([(ms, False) for ms in prints] + [(ms, True) for ms in questions]):
        for rain in (asked, left_alone):
            if not asks:
                printed(rain, T0 + ms, Side.BUY, 3)
            elif rain is asked:
                rain.trade_intensity(T0 + ms)
                rain.flow(T0 + ms)
                rain.sweep(T0 + ms)
    now_ms = T0 + 400_001
    assert (asked.trade_intensity(now_ms), asked.flow(now_ms)) == (left_alone.trade_intensity(now_ms), left_alone.flow(now_ms))


def test_flow_is_the_shares_a_second_of_the_average_side_also_in_the_first_minute() -> None:
    rain = view()
    assert (rain.flow(T0), rain.trade_intensity(T0)) == (0.0, None)
    for second in range(600):
        printed(rain, T0 + 1000 * second, Side.BUY, 30)
        printed(rain, T0 + 1000 * second, Side.SELL, 10)
        if second in (10, 60, 599):
            # the print of this second has not faded at all yet: half a second too much
            assert rain.flow(T0 + 1000 * second + 500) == pytest.approx(20, rel=0.06)
            assert rain.trade_intensity(T0 + 1000 * second + 500) == pytest.approx(2, rel=0.06)
    assert rain.flow(T0 + 599_000 + MINUTE) == pytest.approx(20 / math.e, rel=0.02)


def test_usual_volatility_is_that_of_a_second_or_two_ago() -> None:
    rain = view()
    change(rain, T0, (True, 10_000, SHARE))
    for second in range(121):
        one_tick_book(rain, T0 + 1000 * second, 50 + 2 * (second % 2))
    before = rain.usual_volatility
    assert before == pytest.approx(2, rel=0.05)
    one_tick_book(rain, T0 + 120_600, 90)
    assert rain.usual_volatility == before
    one_tick_book(rain, T0 + 121_599, 90)
    assert rain.usual_volatility == pytest.approx(2, rel=0.05), "the jump is 999 ms old"
    one_tick_book(rain, T0 + 122_600, 90)
    assert (rain.usual_volatility or 0) > 3


def test_there_is_no_micro_price_on_a_bad_book_nor_before_there_is_enough_of_a_past() -> None:
    rain = view()
    rng = random.Random(2)
    for second in range(400):
        heavy = rng.random() < 0.5
        book(rain, T0 + 1000 * second, {500_000: (9 if heavy else 1) * SHARE}, {510_000: (1 if heavy else 9) * SHARE})
        if second == 200:
            assert rain.micro_price() is None
    assert rain.micro_price() == 50.5
    book(rain, T0 + 400_000, *CROSSED)
    assert rain.micro_price() is None
    book(rain, T0 + 401_000, {500_000: SHARE}, {510_000: SHARE})
    assert rain.micro_price() == 50.5
    rain.new_tick(Price(1_000))
    book(rain, T0 + 402_000, {500_000: SHARE}, {510_000: SHARE})
    assert rain.micro_price() is None, "what was learned was in ticks of the old grid"


def test_the_micro_price_leans_to_the_side_after_which_the_mid_moved() -> None:
    """In every third second the bid is heavy, and the mid then goes up; otherwise the touch is even and the mid goes nowhere or back."""
    rain = view()
    for second in range(900):
        bid = (500_000, 500_000, 510_000)[second % 3]
        book(rain, T0 + 1000 * second, {bid: (9 if second % 3 == 1 else 3) * SHARE}, {bid + CENT: (1 if second % 3 == 1 else 3) * SHARE})
    book(rain, T0 + 900_000, {500_000: 9 * SHARE}, {510_000: SHARE})
    micro = rain.micro_price()
    assert micro is not None
    assert 50.7 < micro < 51


# Silence


def test_any_frame_renews_a_feed_of_changes() -> None:
    rain = view()
    assert rain.silent_ms(T0) is None
    book(rain, T0, *GOOD)
    change(rain, T0 + 1000, (True, 440_000, SHARE))
    assert rain.silent_ms(T0 + 31_000) == 30_000
    printed(rain, T0 + 31_000, Side.BUY, 5)
    assert rain.silent_ms(T0 + 33_000) == 2_000
    assert not rain.snapshots_only()


def test_prints_do_not_renew_the_book_of_a_feed_of_snapshots() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    printed(rain, T0 + 20_000, Side.BUY, 5)
    assert rain.snapshots_only()
    assert rain.silent_ms(T0 + 31_000) == 31_000
    book(rain, T0 + 31_000, *CROSSED)
    assert rain.silent_ms(T0 + 31_000) == 0


def test_a_feed_that_has_sent_only_prints_is_not_silent_but_has_no_book_to_quote_on() -> None:
    rain = view()
    printed(rain, T0, Side.BUY, 5)
    printed(rain, T0 + 100_000, Side.SELL, 5)
    assert rain.silent_ms(T0 + 101_000) == 1_000
    assert rain.fault is Why.BOOK_INCOMPLETE


def test_a_feed_of_changes_may_be_silent_for_the_configured_time_however_rare_its_books() -> None:
    rain = view()
    for minute in range(5):
        book(rain, T0 + minute * MINUTE, *GOOD)
    change(rain, T0 + 5 * MINUTE, (True, 440_000, SHARE))
    assert rain.gap_limit_ms(30_000) == 30_000


def test_a_feed_of_slow_snapshots_may_be_silent_for_three_times_the_median_between_its_books() -> None:
    rain = view()
    assert rain.gap_limit_ms(30_000) == 30_000
    now_ms = T0
    for interval_s in (0, 60, 70, 900, 50, 62):
        now_ms += interval_s * 1000
        book(rain, now_ms, *GOOD)
        printed(rain, now_ms + 10, Side.BUY, 5)
    assert rain.gap_limit_ms(30_000) == 3 * 62_000
    assert rain.gap_limit_ms(500_000) == 500_000


def test_the_median_follows_a_feed_that_becomes_faster() -> None:
    rain = view()
    now_ms = T0
    for interval_s in [60] * 300 + [20] * 101:
        now_ms += interval_s * 1000
        book(rain, now_ms, *GOOD)
    assert rain.gap_limit_ms(30_000) == 60_000


def test_silence_known_to_be_real_is_no_silence() -> None:
    snapshots, changes = view(), view()
    book(snapshots, T0, *GOOD)
    book(changes, T0, *GOOD)
    change(changes, T0, (True, 440_000, SHARE))
    for rain in (snapshots, changes):
        rain.alive(T0 + 40_000)
        assert rain.silent_ms(T0 + 41_000) == 1_000
        book(rain, T0 + 50_000, *GOOD)
        assert rain.silent_ms(T0 + 50_000) == 0


# A lost feed


def test_a_lost_feed_leaves_no_book_to_quote_on_until_a_full_one_comes() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    rain.lost()
    assert (rain.fault, rain.connected, rain.epoch, touch(rain)) == (Why.BOOK_INCOMPLETE, False, 1, (0, ONE))
    assert rain.mark == 470_000  # what we own keeps its last value
    rain.restored()
    change(rain, T0 + 1000, (True, 460_000, SHARE), (False, 480_000, SHARE), stated=(460_000, 480_000))
    assert (rain.fault, rain.connected) == (Why.BOOK_INCOMPLETE, True)
    assert not rain.book.queue_known(True, 45)
    assert book(rain, T0 + 2000, {450_000: SHARE}, {460_000: SHARE}) == [(True, 460_000, SHARE, 0), (False, 480_000, SHARE, 0)]
    assert verdict(rain) == (None, 455_000)


def test_a_feed_lost_within_a_frame_leaves_nothing_of_it() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    rain.level(True, 460_000, SHARE, T0 + 1)
    rain.full_book(T0 + 1)
    rain.lost()
    assert (rain.decreases, rain.reading_book) == ([], False)
    rain.end(T0 + 1, *UNSTATED)
    assert rain.fault is Why.BOOK_INCOMPLETE


def test_the_time_without_a_feed_is_no_interval_between_its_books() -> None:
    rain = view()
    book(rain, T0, *GOOD)
    rain.lost()
    book(rain, T0 + 60 * MINUTE, *GOOD)
    rain.restored()
    assert rain.gap_limit_ms(30_000) == 30_000
    assert rain.silent_ms(T0 + 60 * MINUTE + 500) == 500


# For long


def test_a_view_does_not_grow_with_the_length_of_the_run() -> None:
    rain = view()
    rng = random.Random(5)
    sizes = []
    for step in range(40_000):  # five updates a second, so a good two hours; hardly ever twice the same mid
        now_ms = T0 + 200 * step
        bid = CENT * rng.randrange(1, 98)
        if step % 50 == 0:
            book(rain, now_ms, {bid: SHARE}, {bid + CENT: SHARE})
        else:
            change(rain, now_ms, (True, bid, SHARE), (False, bid + CENT, SHARE), stated=(bid, bid + CENT))
        printed(rain, now_ms, rng.choice(list(Side)), 5)
        if step in (10_000, 39_999):
            sizes.append(len(pickle.dumps(rain)))
    assert sizes[1] < 1.05 * sizes[0]


# Real markets


def played(tape: Tape, views: Sequence[MarketView]) -> Iterator[tuple[int, int, Touch]]:
    """Feed a tape to its views as the engine does; yield (time, place, stated touch) at each end of a frame, then empty the decreases."""
    for now_ms, kind, place, a, b in tape.rows():
        rain = views[place]
        if kind in (Kind.BID, Kind.ASK):
            rain.level(kind == Kind.BID, a, b, now_ms)
        elif kind == Kind.FRAME:
            rain.frame(now_ms)
        elif kind == Kind.BOOK:
            rain.full_book(now_ms)
        elif kind in (Kind.SOLD, Kind.BOUGHT):
            rain.printed(Side.BUY if kind == Kind.BOUGHT else Side.SELL, a, b, now_ms)
        else:
            assert kind == Kind.END
            rain.end(now_ms, a, b)
            yield now_ms, place, (a, b)
            rain.decreases.clear()


@pytest.mark.parametrize(
    ("name", "books", "refused"),
    [
        ("iran-will-the-iran-ceasefire-continue-through-may", 721, {"crossed": 171, "locked": 148}),
        ("iran-will-the-iranian-regime-fall-by-june-30", 233, {"locked": 22}),
        ("iran-will-the-iranian-regime-fall-by-may-31", 64, {}),
    ],
)
def test_crossed_and_locked_books_of_real_markets_are_refused_and_never_good(
    recordings: Path, name: str, books: int, refused: dict[str, int]
) -> None:
    tape = recording.read(recordings / f"{name}.jsonl.gz")
    rain = MarketView(tape.markets[0])
    good = 0
    for _ in played(tape, [rain]):
        best_bid, best_ask = touch(rain)
        assert (rain.fault is None) == (0 < best_bid < best_ask < ONE)
        if rain.fault is None:
            good += 1
            assert rain.mark == (best_bid + best_ask) // 2
    assert rain.refused == refused
    assert good == books - sum(refused.values())


def test_six_real_markets_of_changes_become_books_after_a_minute_and_agree_with_every_stated_touch(recordings: Path) -> None:
    tape = recording.read(recordings / "nhl-20260607.jsonl.gz")
    views = [MarketView(market) for market in tape.markets]
    epochs = [0] * len(views)
    begun_ms: dict[int, int] = {}
    grids: list[tuple[int, int, int, bool]] = []
    for now_ms, place, stated in played(tape, views):
        rain = views[place]
        if rain.epoch != epochs[place]:
            epochs[place] = rain.epoch
            begun_ms[place] = now_ms
            grids.append((place, now_ms - tape.first_ms, rain.book.tick, rain.inferred_tick))
        if now_ms - begun_ms.setdefault(place, now_ms) < MINUTE:
            assert rain.fault is Why.BOOK_INCOMPLETE
        else:
            assert rain.book.complete
            assert touch(rain) == tuple(ours if said < 0 else said for ours, said in zip(touch(rain), stated, strict=True))
    assert grids == [(5, 445_504, 1_000, True)]
    assert [rain.book.tick for rain in views] == [10_000] * 5 + [1_000]
    assert all((rain.data_quality() or 0) > 0.97 and rain.off_grid == 0 for rain in views)
