"""The strategy that engines are compared with (bench/reference_ours.py) fills what a model fills that walks row by row.

The model is slow and plain: each token in its own terms, with its own book of levels, and everything that happens an event on one heap.
That ours agrees with hftbacktest is checked by bench/reference.py, where hftbacktest is at hand.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from worlds import market

from bench.reference_ours import LOT, MOST_LOTS, play
from mmtools.units import ONE
from mmtools.venues.tape import Tape
from mmtools.venues.venue import Kind, Row

START_MS = 1_700_000_000_400
TICK, GRID = 10_000, 100
YES, NO = 0, 1

Fill = tuple[int, int, int, int]
"""Token, ms, 1 when it bought, price in ticks of the token."""


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def other(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY


@dataclass(frozen=True)
class Level:
    """A level of the YES book now holds so many shares."""

    side: Side
    price: int
    size: int


@dataclass(frozen=True)
class Print:
    """A taker of a token, in that token's terms."""

    token: int
    side: Side
    price: int
    size: int


@dataclass(frozen=True)
class Book:
    """The whole YES book."""

    bids: dict[int, int]
    asks: dict[int, int]


@dataclass(frozen=True)
class Silence:
    """A frame that says nothing of the YES book."""


What = Level | Print | Book | Silence
Event = tuple[int, What]


# ---- the model


class Rank(IntEnum):
    """What comes first in the same millisecond."""

    ROW = 0
    ARRIVAL = 1
    KNOWN = 2
    TIMER = 3


@dataclass
class Resting:
    number: int
    price: int
    ahead: int


@dataclass
class Model:
    """The strategy of one token, its venue, and the time between them."""

    token: int
    fills: list[Fill] = field(default_factory=list)
    levels: dict[Side, dict[int, int]] = field(default_factory=lambda: {Side.BUY: {}, Side.SELL: {}})
    resting: dict[Side, Resting] = field(default_factory=dict)
    position: int = 0
    believed: dict[Side, tuple[int, int]] = field(default_factory=dict)
    """Number and price of the order that each side seems to have."""
    heap: list[tuple[int, Rank, int, tuple[object, ...]]] = field(default_factory=list)
    numbers: int = 0

    def run(self, events: Sequence[Event]) -> list[Fill]:
        first_ms, last_ms = events[0][0], events[-1][0]
        for ms, what in events:
            self.at(ms, Rank.ROW, what)
        for ms in range(first_ms + 1_000, last_ms, 1_000):
            self.at(ms, Rank.TIMER)
        while self.heap:
            ms, rank, _, what_happens = heapq.heappop(self.heap)
            match rank, what_happens:
                case Rank.ROW, (Level() as level,):
                    self.level(ms, level)
                case Rank.ROW, (Print() as taken,):
                    self.printed(ms, taken)
                case Rank.ROW, (Book() as book,):
                    self.book(ms, book)
                case Rank.ARRIVAL, (Side() as side, int(old), int(number), int(price)):
                    self.arrive(ms, side, old, number, price)
                case Rank.KNOWN, (Side() as side, int(number), int(shares)):
                    self.position += shares
                    if self.believed.get(side, (0, 0))[0] == number:
                        del self.believed[side]
                case Rank.TIMER, ():
                    self.timer(ms)
        return self.fills

    def at(self, ms: int, rank: Rank, *what: object) -> None:
        self.numbers += 1
        heapq.heappush(self.heap, (ms, rank, self.numbers, what))

    def best(self, side: Side) -> int | None:
        prices = [price for price, size in self.levels[side].items() if size]
        if not prices:
            return None
        return max(prices) if side is Side.BUY else min(prices)

    def crosses(self, side: Side, price: int) -> bool:
        opposite = self.best(side.other)
        return opposite is not None and (price >= opposite if side is Side.BUY else price <= opposite)

    def level(self, ms: int, level: Level) -> None:
        side, price = (level.side, level.price) if self.token == YES else (level.side.other, GRID - level.price)
        self.levels[side][price] = level.size
        ours = self.resting.get(side)
        if ours is not None and ours.price == price:
            ours.ahead = min(ours.ahead, level.size)
        self.reached(ms)

    def reached(self, ms: int) -> None:
        for side, ours in list(self.resting.items()):
            if self.crosses(side, ours.price):
                self.fill(ms, side)

    def book(self, ms: int, book: Book) -> None:
        self.levels = {Side.BUY: {}, Side.SELL: {}}
        for side, named in ((Side.BUY, book.bids), (Side.SELL, book.asks)):
            for price, size in named.items():
                self.level(ms, Level(side, price, size))

    def printed(self, ms: int, taken: Print) -> None:
        side = taken.side.other
        ours = self.resting.get(side)
        if taken.token != self.token or ours is None:
            return
        if ours.price == taken.price:
            ours.ahead -= taken.size
            if ours.ahead < 0:
                self.fill(ms, side)
        elif (ours.price > taken.price) if side is Side.BUY else (ours.price < taken.price):
            self.fill(ms, side)

    def fill(self, ms: int, side: Side) -> None:
        ours = self.resting.pop(side)
        self.fills.append((self.token, ms, int(side is Side.BUY), ours.price))
        self.at(ms + 250, Rank.KNOWN, side, ours.number, LOT if side is Side.BUY else -LOT)

    def arrive(self, ms: int, side: Side, old: int, number: int, price: int) -> None:
        if old and side in self.resting and self.resting[side].number == old:
            del self.resting[side]
        if not number:
            return
        if self.crosses(side, price):
            self.at(ms + 250, Rank.KNOWN, side, number, 0)
        else:
            self.resting[side] = Resting(number, price, self.levels[side].get(price, 0))

    def timer(self, ms: int) -> None:
        bid, ask = self.best(Side.BUY), self.best(Side.SELL)
        if bid is None or ask is None:
            return
        mid = (bid + ask) / 2 - 0.5 * self.position / LOT
        wanted_bid = min(math.floor(mid - 0.5), ask - 1) if self.position < LOT * MOST_LOTS else 0
        wanted_ask = max(math.ceil(mid + 0.5), bid + 1) if self.position > -LOT * MOST_LOTS else 0
        for side, price in ((Side.BUY, wanted_bid), (Side.SELL, wanted_ask)):
            price = price if 0 < price < GRID else 0
            old, old_price = self.believed.get(side, (0, 0))
            if price == old_price:
                continue
            self.numbers += 1
            self.at(ms + 250, Rank.ARRIVAL, side, old, self.numbers if price else 0, price)
            if price:
                self.believed[side] = self.numbers - 1, price
            else:
                del self.believed[side]


def modelled(events: Sequence[Event]) -> list[Fill]:
    return sorted(fill for token in (YES, NO) for fill in Model(token).run(events))


# ---- the same events as a tape


def tape_of(events: Iterable[Event]) -> Tape:
    tape = Tape(markets=(market("one"),), clock="exchange", source="a test")
    levels: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
    for ms, what in events:
        tape.extend(rows_of(ms, what, levels))
    return tape


def rows_of(ms: int, what: What, levels: dict[Side, dict[int, int]]) -> list[Row]:
    def level(side: Side, price: int, size: int) -> Row:
        levels[side][price] = size
        return ms, Kind.BID if side is Side.BUY else Kind.ASK, 0, price * TICK, size * ONE

    match what:
        case Silence():
            return [(ms, Kind.FRAME, 0, 0, 1)]
        case Book():
            levels.update({Side.BUY: {}, Side.SELL: {}})
            named = [level(Side.BUY, *bid) for bid in what.bids.items()] + [level(Side.SELL, *ask) for ask in what.asks.items()]
            return [(ms, Kind.FRAME, 0, 0, 1), (ms, Kind.BOOK, 0, 0, 0), *named, (ms, Kind.END, 0, -1, -1)]
        case Level():
            row = level(what.side, what.price, what.size)
            bid, ask = touch(levels)
            return [(ms, Kind.FRAME, 0, 2, 0), row, (ms, Kind.END, 0, bid * TICK, ask * TICK)]
        case Print():
            price, side = (what.price, what.side) if what.token == YES else (GRID - what.price, what.side.other)
            kind = Kind.BOUGHT if side is Side.BUY else Kind.SOLD
            return [(ms, Kind.FRAME, 0, 0, 2 if what.token == NO else 0), (ms, kind, 0, price * TICK, what.size * ONE)]


def touch(levels: dict[Side, dict[int, int]]) -> tuple[int, int]:
    bids = [price for price, size in levels[Side.BUY].items() if size]
    asks = [price for price, size in levels[Side.SELL].items() if size]
    return max(bids, default=0), min(asks, default=GRID)


def played(events: Sequence[Event]) -> list[Fill]:
    return sorted(play(tape_of(events), TICK).of_tokens(TICK))


# ---- random events that never cross the book

GAPS = st.sampled_from([0, 0, 1, 20, 130, 249, 250, 251, 400, 749, 750, 751, 1_000])
SIZES = st.sampled_from([0, 0, 1, 20, 60, 90, 200])
TAKEN = st.sampled_from([1, 20, 61, 150, 400])
LEVELS = st.builds(lambda side, off, size: ("level", side, off, size), st.sampled_from(Side), st.integers(-1, 4), SIZES)
PRINTS = st.builds(
    lambda token, side, off, size: ("print", token, side, off, size),
    st.sampled_from([YES, NO]),
    st.sampled_from(Side),
    st.integers(-2, 2),
    TAKEN,
)
BOOKS = st.builds(
    lambda bid, spread, sizes: ("book", bid, spread, sizes),
    st.integers(44, 52),
    st.integers(1, 4),
    st.lists(SIZES, min_size=2, max_size=6),
)
STEPS = st.tuples(GAPS, st.one_of(LEVELS, LEVELS, LEVELS, PRINTS, PRINTS, PRINTS, BOOKS, st.just(("silence",))))


@st.composite
def tapes(draw: st.DrawFn) -> list[Event]:
    """Events on a book that is never crossed: a level is placed from the other side's best outwards, a print near the touch."""
    levels = {Side.BUY: {48: 60, 47: 20, 45: 200}, Side.SELL: {50: 90, 51: 1, 54: 60}}
    events: list[Event] = [(START_MS, Book(dict(levels[Side.BUY]), dict(levels[Side.SELL])))]
    ms = START_MS
    for gap, step in draw(st.lists(STEPS, min_size=10, max_size=80)):
        ms += gap
        bid, ask = touch(levels)
        what: What
        match step:
            case ("level", Side() as side, int(off), int(size)):
                nearest = (ask if ask < GRID else 52) - 1 if side is Side.BUY else (bid if bid else 47) + 1
                price = nearest - max(off, 0) if side is Side.BUY else nearest + max(off, 0)
                levels[side][price] = size
                what = Level(side, price, size)
            case ("print", int(token), Side() as side, int(off), int(size)):
                best = (ask if side is Side.BUY else bid) or 46
                price = min(best, 55) + off
                what = Print(token, side, price, size) if token == YES else Print(token, side.other, GRID - price, size)
            case ("book", int(at), int(spread), list(sizes)):
                half = len(sizes) // 2
                bids = {at - place: size for place, size in enumerate(sizes[:half]) if size}
                asks = {at + spread + place: size for place, size in enumerate(sizes[half:]) if size}
                levels = {Side.BUY: dict(bids), Side.SELL: dict(asks)}
                what = Book(bids, asks)
            case _:
                what = Silence()
        events.append((ms, what))
    return events


def at_ms(*steps: tuple[int, What]) -> list[Event]:
    """Events at so many ms after a first book of 48 x 60 to 50 x 90."""
    return [(START_MS, Book({48: 60, 47: 20}, {50: 90, 51: 30})), *((START_MS + ms, what) for ms, what in steps)]


END = (9_000, Silence())
"""Timers run while rows remain."""


@settings(max_examples=300)
@given(tapes())
@example(at_ms((1_800, Print(YES, Side.SELL, 48, 61)), (1_900, Level(Side.BUY, 48, 10)), (2_600, Print(YES, Side.SELL, 48, 11)), END))
def test_fills_are_those_of_a_model_that_walks_row_by_row(events: list[Event]) -> None:
    assert played(events) == modelled(events)


@given(tapes())
def test_the_events_of_the_law_never_cross_the_book(events: list[Event]) -> None:
    levels: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
    for ms, what in events:
        rows_of(ms, what, levels)
        bid, ask = touch(levels)
        assert bid < ask


def test_a_print_at_our_price_fills_only_what_lies_beyond_the_size_ahead() -> None:
    behind_60 = at_ms((1_300, Print(YES, Side.SELL, 48, 60)), END)
    assert played(behind_60) == []
    assert played(at_ms((1_300, Print(YES, Side.SELL, 48, 61)), END)) == [(YES, START_MS + 1_300, 1, 48)]


def test_a_smaller_level_moves_us_forward_and_a_larger_one_not_back() -> None:
    moved = at_ms((1_300, Level(Side.BUY, 48, 10)), (1_350, Level(Side.BUY, 48, 500)), (1_400, Print(YES, Side.SELL, 48, 11)), END)
    assert played(moved) == [(YES, START_MS + 1_400, 1, 48)]


def test_what_a_print_took_and_the_level_after_it_both_count() -> None:
    first, then, last = Print(YES, Side.SELL, 48, 20), Level(Side.BUY, 48, 10), Print(YES, Side.SELL, 48, 11)
    taken = at_ms((1_200, Level(Side.SELL, 51, 29)), (1_300, first), (1_300, then), (1_400, last), END)
    assert played(taken) == [(YES, START_MS + 1_400, 1, 48)]
    assert modelled(taken) == played(taken)


def test_a_level_that_the_last_book_does_not_name_holds_nothing_ahead_of_us() -> None:
    bought = (1_300, Print(YES, Side.SELL, 47, 1))  # one lot long, we bid a tick below the best
    again = at_ms(bought, (1_500, Book({49: 5}, {50: 90})), (2_300, Print(YES, Side.SELL, 48, 1)), END)
    assert played(again) == [(YES, START_MS + 1_300, 1, 48), (YES, START_MS + 2_300, 1, 48)]


def test_an_order_that_would_lock_the_book_on_arrival_never_rests() -> None:
    locks_ask = at_ms((1_100, Level(Side.SELL, 50, 0)), (1_150, Level(Side.BUY, 50, 5)), (1_400, Print(YES, Side.BUY, 52, 7)), END)
    locks_bid = at_ms((1_100, Level(Side.BUY, 48, 0)), (1_150, Level(Side.SELL, 48, 5)), (1_400, Print(YES, Side.SELL, 30, 7)), END)
    assert played(locks_ask) == played(locks_bid) == []


def test_a_token_is_filled_by_its_own_prints() -> None:
    assert played(at_ms((1_300, Print(NO, Side.BUY, 52, 400)), END)) == [(NO, START_MS + 1_300, 0, 52)]
    assert played(at_ms((1_300, Print(YES, Side.SELL, 48, 400)), END)) == [(YES, START_MS + 1_300, 1, 48)]


def test_an_order_rests_from_250_ms_after_its_timer_and_after_the_rows_of_that_millisecond() -> None:
    assert played(at_ms((1_250, Print(YES, Side.SELL, 47, 400)), END)) == []
    assert played(at_ms((1_251, Print(YES, Side.SELL, 47, 400)), END)) == [(YES, START_MS + 1_251, 1, 48)]


def test_the_opposite_best_that_comes_to_our_price_fills_both_tokens() -> None:
    locked = at_ms((1_300, Level(Side.BUY, 48, 0)), (1_400, Level(Side.SELL, 48, 7)), END)
    assert played(locked) == [(YES, START_MS + 1_400, 1, 48), (NO, START_MS + 1_400, 0, 52)]


@pytest.mark.parametrize(("ms", "fills"), [(1_750, 2), (1_751, 1)])
def test_a_timer_knows_of_fills_250_ms_old_and_replaces_what_they_took(ms: int, fills: int) -> None:
    sold = at_ms((ms, Print(YES, Side.SELL, 47, 1)), (2_400, Print(YES, Side.SELL, 46, 1)), END)
    assert played(sold) == modelled(sold)
    assert len(played(sold)) == fills


def test_ten_lots_are_the_most_that_a_token_holds() -> None:
    through = [(1_000 * second + 300, Print(YES, Side.SELL, 30, 1)) for second in range(1, 20)]
    fills = played(at_ms(*through, (25_000, Silence())))
    assert len(fills) == MOST_LOTS
    assert fills == modelled(at_ms(*through, (25_000, Silence())))
    assert fills[0][3] > fills[-1][3]


@pytest.mark.parametrize("stated_before", [False, True])
def test_a_frame_without_a_touch_is_refused(stated_before: bool) -> None:
    tape = tape_of(at_ms((9_000, Level(Side.BUY, 49, 5)) if stated_before else END))
    ms = START_MS + 9_500
    tape.extend([(ms, Kind.FRAME, 0, 2, 0), (ms, Kind.BID, 0, 48 * TICK, ONE), (ms, Kind.END, 0, -1, -1)])
    with pytest.raises(ValueError, match="states no touch"):
        play(tape, TICK)
