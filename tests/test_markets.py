"""What the rows of a feed mean: who is told what, in which order, and when the view is current."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from tapes import MARKETS, tapes
from worlds import BIDS, NOON_MS, book_rows, market

from mmtools import units
from mmtools.runs.markets import Markets
from mmtools.trading import events as ev
from mmtools.trading.market import Market, Side
from mmtools.units import Price, parse
from mmtools.venues.venue import Kind, Row

Told = tuple[Any, ...]


class Ear:
    """Writes down what it is told, with the book that it could see then."""

    fills_by_book = True

    def __init__(self, name: str, told: list[Told]) -> None:
        self.name, self.told = name, told
        self.markets: Markets

    def decreased(self, market: int, bid: bool, price: int, before: int, after: int, now_ms: int) -> None:
        self.say("decreased", market, bid, price, before, after, now_ms)

    def book_given(self, market: int) -> None:
        self.say("book given", market)

    def frame_over(self, market: int, now_ms: int) -> None:
        self.say("frame over", market, now_ms)

    def printed(self, market: int, taker: Side, price: int, size: int, now_ms: int) -> None:
        self.say("printed", market, taker, price, size, now_ms)

    def resolved(self, market: int, payout: Price, now_ms: int) -> None:
        self.say("resolved", market, payout, now_ms)

    def hear(self, event: ev.Event, now_ms: int) -> None:
        self.say(event, now_ms)

    def say(self, *what: Any) -> None:
        self.told.append((self.name, *what))


def at(seconds: float) -> int:
    return NOON_MS + round(seconds * 1000)


def heard(rows: Sequence[Row], *, of: Sequence[Market] | None = None, ears: str = "a", after: int = 0) -> list[Told]:
    """Return what each ear was told, in order, of the rows from the `after`th on."""
    told: list[Told] = []
    markets = Markets(of or [market("one"), market("two")], [Ear(name, told) for name in ears])
    for number, (ms, kind, place, a, b) in enumerate(rows):
        if number == after:
            told.clear()
        markets.row(ms, kind, place, a, b)
    return told


BOOK = book_rows(at(0))


def frame(ms: int, *rows: Row, place: int = 0) -> list[Row]:
    return [(ms, Kind.FRAME, place, len(rows), 0), *rows]


def end(ms: int, bid: str | None = None, ask: str | None = None, place: int = 0) -> Row:
    return (ms, Kind.END, place, -1 if bid is None else parse(bid), -1 if ask is None else parse(ask))


# --- what a row tells


def test_a_first_book_is_given_and_moves_the_touch() -> None:
    assert heard(book_rows(at(3), place=1)) == [("a", "book given", 1), ("a", "frame over", 1, at(3)), ("a", ev.TouchMoved(1), at(3))]


def test_a_change_tells_its_decreases_then_that_it_is_over_then_that_the_touch_moved() -> None:
    rows = BOOK + frame(at(1), (at(1), Kind.BID, 0, parse("0.47"), 0), (at(1), Kind.ASK, 0, parse("0.49"), units.of(150)), end(at(1)))
    assert heard(rows, after=len(BOOK)) == [
        ("a", "decreased", 0, True, parse("0.47"), units.of(120), 0, at(1)),
        ("a", "decreased", 0, False, parse("0.49"), units.of(200), units.of(150), at(1)),
        ("a", "frame over", 0, at(1)),
        ("a", ev.TouchMoved(0), at(1)),
    ]


def test_growth_behind_the_touch_is_only_a_frame() -> None:
    rows = BOOK + frame(at(1), (at(1), Kind.BID, 0, parse("0.45"), units.of(51)), end(at(1)))
    assert heard(rows, after=len(BOOK)) == [("a", "frame over", 0, at(1))]


def test_decreases_are_told_once() -> None:
    change = frame(at(1), (at(1), Kind.BID, 0, parse("0.45"), 0), end(at(1)))
    rows = BOOK + change + frame(at(2), end(at(2)))
    assert [told[1] for told in heard(rows, after=len(BOOK))] == ["decreased", "frame over", "frame over"]


def test_a_level_that_a_full_book_lacks_is_a_decrease_before_the_book_is_given() -> None:
    rows = BOOK + book_rows(at(9), {"0.47": 120, "0.45": 50})
    assert heard(rows, after=len(BOOK)) == [
        ("a", "decreased", 0, True, parse("0.46"), units.of(300), 0, at(9)), ("a", "book given", 0), ("a", "frame over", 0, at(9)),
    ]  # fmt: skip


def test_a_level_beyond_the_stated_touch_is_a_decrease_to_nothing() -> None:
    rows = BOOK + frame(at(1), end(at(1), "0.46", "0.48"))
    assert heard(rows, after=len(BOOK))[0] == ("a", "decreased", 0, True, parse("0.47"), units.of(120), 0, at(1))


@pytest.mark.parametrize(("kind", "taker"), [(Kind.SOLD, Side.SELL), (Kind.BOUGHT, Side.BUY)])
def test_a_print_tells_the_side_of_its_taker(kind: int, taker: Side) -> None:
    rows = BOOK + frame(at(1), (at(1), kind, 0, parse("0.475"), units.of(7.5)))
    assert heard(rows, after=len(BOOK)) == [("a", "printed", 0, taker, parse("0.475"), units.of(7.5), at(1))]


def test_a_resolution_is_told_once_however_often_it_is_said() -> None:
    over: list[Row] = [*frame(at(1)), (at(1), Kind.RESOLVED, 0, 1_000_000, 0)]
    assert heard(BOOK + over + over, after=len(BOOK)) == [("a", "resolved", 0, 1_000_000, at(1))]


def test_a_stated_tick_is_a_new_grid_and_the_same_one_is_nothing() -> None:
    rows = [*BOOK, (at(1), Kind.TICK, 0, 10_000, 0), (at(2), Kind.TICK, 0, 1_000, 0)]
    assert heard(rows, after=len(BOOK)) == [("a", ev.TickSizeChanged(0, Price(1_000), False), at(2))]


def test_a_tick_that_a_price_gave_away_is_told_at_the_frames_end_before_all_else() -> None:
    rows = BOOK + frame(at(1), (at(1), Kind.BID, 0, parse("0.474"), units.of(3)), end(at(1)))
    told = heard(rows, after=len(BOOK))
    assert told[0] == ("a", ev.TickSizeChanged(0, Price(1_000), True), at(1))
    assert [what for _, what, *_ in told[1:]] == ["frame over", ev.TouchMoved(0)]


def test_a_lost_feed_is_no_new_tick() -> None:
    rows = [*BOOK, (at(1), Kind.LOST, 0, 0, 0), (at(2), Kind.RESTORED, 0, 0, 0), *book_rows(at(2))]
    told = heard(rows, after=len(BOOK))
    assert told[:2] == [("a", ev.FeedLost(0), at(1)), ("a", ev.FeedRestored(0), at(2))]
    assert not [what for _, what, *_ in told if isinstance(what, ev.TickSizeChanged)]


@pytest.mark.parametrize("kind", [Kind.FRAME, Kind.ALIVE, Kind.BOOK])
def test_a_row_that_only_moves_the_view_tells_nobody(kind: int) -> None:
    assert heard([*BOOK, (at(1), kind, 0, 0, 0)], after=len(BOOK)) == []


def test_everyone_hears_all_of_a_frame_in_the_order_of_the_listeners() -> None:
    rows = BOOK + frame(at(1), (at(1), Kind.BID, 0, parse("0.47"), 0), end(at(1)))
    told = heard(rows, ears="ab", after=len(BOOK))
    assert [(name, what) for name, what, *_ in told] == [
        ("a", "decreased"), ("a", "frame over"), ("b", "decreased"), ("b", "frame over"), ("a", ev.TouchMoved(0)), ("b", ev.TouchMoved(0)),
    ]  # fmt: skip


def test_the_view_is_current_when_anyone_is_told() -> None:
    seen: list[tuple[int, int]] = []

    class Looking(Ear):
        def say(self, *what: Any) -> None:
            book = self.markets.views[0].book
            seen.append((book.best_bid, book.bids[47]))

    ear = Looking("a", [])
    markets = ear.markets = Markets([market("one")], [ear])
    for ms, kind, place, a, b in BOOK + frame(at(1), (at(1), Kind.BID, 0, parse("0.47"), 0), end(at(1))):
        markets.row(ms, kind, place, a, b)
    assert seen == [(47, units.of(BIDS["0.47"]))] * 3 + [(46, 0)] * 3


# --- level rows straight into the views


def states(markets: Markets) -> list[Told]:
    return [
        (view.book.bids, view.book.asks, view.book.tick, view.mark, view.fault, view.epoch, view.resolved, view.volatility(at(10**6)))
        for view in markets.views
    ]


@settings(max_examples=60, deadline=None)
@given(rows=tapes())
def test_level_rows_straight_into_the_views_are_the_same_as_through_row(rows: list[Row]) -> None:
    slow: list[Told] = []
    fast: list[Told] = []
    through, straight = Markets(MARKETS, [Ear("a", slow)]), Markets(MARKETS, [Ear("a", fast)])
    for ms, kind, place, a, b in rows:
        if kind == Kind.CLOCK:
            continue
        through.row(ms, kind, place, a, b)
        if kind in (Kind.BID, Kind.ASK):
            straight.views[place].level(kind == Kind.BID, a, b, ms)
        else:
            straight.row(ms, kind, place, a, b)
    assert fast == slow
    assert states(straight) == states(through)
