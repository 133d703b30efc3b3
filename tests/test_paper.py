"""PaperExchange, the queue behind it, and what both read of MarketView: which prints fill us, and when."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmtools import units
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.market import Fill, Market, Order, Outcome, Side
from mmtools.trading.paper import NEVER, PaperExchange
from mmtools.trading.params import Params, QueueModel
from mmtools.trading.queue import UNKNOWN_QUEUE, Model, Pool, Queued, ahead_after_cancel
from mmtools.trading.signals import MarketView
from mmtools.units import ONE, Price, Shares, Usdc
from mmtools.venues.decoder import Decoder
from mmtools.venues.venue import Kind, Row

S = 1000
"""A second of feed time."""
YES, NO, BUY, SELL = Outcome.YES, Outcome.NO, Side.BUY, Side.SELL
MODELS: list[QueueModel] = ["risk-averse", "power", "power2", "power3", "log", "log2", "optimistic"]


def m(text: str) -> int:
    return units.parse(text)


def market(place: int = 0) -> Market:
    return Market(
        slug=f"m{place}",
        condition_id=f"0xc{place}",
        yes_token=f"1{place}",
        no_token=f"2{place}",
        tick=Price(10_000),
        min_size=Shares(m("5")),
    )


class World:
    """Plays the engine's part: rows in, what is due first, decreases handed over at the frame's end. Notes what the venue says."""

    def __init__(self, markets: int = 1, **params: Any) -> None:
        self.params = Params(**{"queue_model": "risk-averse", **params})
        self.views = [MarketView(market(place)) for place in range(markets)]
        self.view = self.views[0]
        self.exchange = PaperExchange(self.views, self.params, random.Random(self.params.seed))
        self.heard: list[tuple[int, ev.Event]] = []
        self.now_ms = 0
        self.orders: dict[str, Order] = {}

    def to(self, ms: int) -> None:
        while self.exchange.next_due_ms() <= ms:
            self.now_ms = self.exchange.next_due_ms()
            self._hear(self.exchange.arrive())
        self.now_ms = ms

    def row(self, row: Row) -> None:
        ms, kind, place, a, b = row
        self.to(ms)
        view, exchange = self.views[place], self.exchange
        if kind in (Kind.BID, Kind.ASK):
            view.level(kind == Kind.BID, a, b, ms)
        elif kind == Kind.FRAME:
            view.frame(ms)
        elif kind == Kind.BOOK:
            view.full_book(ms)
        elif kind == Kind.END:
            was_book = view.reading_book
            view.end(ms, a, b)
            for decrease in view.decreases:
                exchange.decreased(place, *decrease, ms)
            view.decreases.clear()
            if was_book:
                exchange.book_given(place)
            self._hear(exchange.frame_over(place))
        elif kind in (Kind.SOLD, Kind.BOUGHT):
            taker = Side.BUY if kind == Kind.BOUGHT else Side.SELL
            view.printed(taker, a, b, ms)
            self._hear(exchange.printed(place, taker, a, b, ms))
        elif kind == Kind.TICK:
            view.new_tick(Price(a))
        elif kind == Kind.LOST:
            view.lost()
        elif kind == Kind.RESOLVED:
            view.resolved = True
            self._hear(exchange.resolve(place, Price(a)))
        else:
            raise AssertionError(f"no such row here: {row}")

    def book(self, ms: int, bids: str, asks: str, place: int = 0) -> None:
        """A full book, written "0.49x500 0.48x20"."""
        self.row((ms, Kind.FRAME, place, 0, 1))
        self.row((ms, Kind.BOOK, place, 0, 0))
        for kind, levels in ((Kind.BID, bids), (Kind.ASK, asks)):
            for price, size in (level.split("x") for level in levels.split()):
                self.row((ms, kind, place, m(price), m(size)))
        self.row((ms, Kind.END, place, -1, -1))

    def change(self, ms: int, side: Side, price: str, size: str, touch: tuple[str, str] | None = None) -> None:
        stated = (-1, -1) if touch is None else (m(touch[0]), m(touch[1]))
        self.row((ms, Kind.FRAME, 0, 1, 0))
        self.row((ms, Kind.BID if side is BUY else Kind.ASK, 0, m(price), m(size)))
        self.row((ms, Kind.END, 0, *stated))

    def sold(self, ms: int, price: str, size: str) -> None:
        self.row((ms, Kind.SOLD, 0, m(price), m(size)))

    def bought(self, ms: int, price: str, size: str) -> None:
        self.row((ms, Kind.BOUGHT, 0, m(price), m(size)))

    def order(self, ms: int, side: Side, price: str, size: str, outcome: Outcome = YES, place: int = 0) -> str:
        """Send an order; its price is the token's."""
        self.to(ms)
        key = f"o{len(self.orders) + 1}"
        self.orders[key] = Order(key=key, market=place, outcome=outcome, side=side, price=Price(m(price)), size=Shares(m(size)))
        self.exchange.place(self.orders[key], ms)
        return key

    def cancel(self, ms: int, key: str) -> None:
        self.to(ms)
        self.exchange.cancel(key, ms)

    def own(self, yes: str = "0", no: str = "0", cash: str = "1000") -> None:
        """Hold these shares from the start, as if an earlier process had bought them."""
        account = Account(Usdc(m(cash)), len(self.views))
        for outcome, size in ((YES, yes), (NO, no)):
            if m(size):
                account.adjust(0, outcome, Shares(m(size)), Price(m("0.5")))
        self.exchange.take_over(account, trades=0)

    def _hear(self, events: list[ev.Event]) -> None:
        self.heard += [(self.now_ms, event) for event in events]

    def said(self, kind: type[Any]) -> list[Any]:
        return [event for _, event in self.heard if isinstance(event, kind)]

    def fills(self, key: str | None = None) -> list[tuple[int, str]]:
        """(time, size) of every fill, in order."""
        fills = ((ms, event) for ms, event in self.heard if isinstance(event, ev.FillReported))
        return [(ms, units.text(fill.size)) for ms, fill in fills if key in (None, fill.key)]

    def filled(self, key: str | None = None) -> str:
        return units.text(sum(m(size) for _, size in self.fills(key)))

    def refusals(self) -> list[tuple[str, ev.Rejection]]:
        return [(event.key, event.reason) for event in self.said(ev.OrderRejected)]

    def endings(self) -> list[tuple[str, ev.Ending]]:
        return [(event.key, event.cause) for event in self.said(ev.OrderGone)]


def quiet_world(bids: str = "0.49x500", asks: str = "0.53x500", **params: Any) -> World:
    """A book at t = 1 s on a feed of changes: prints and decreases must meet within `explain_ms`."""
    world = World(**params)
    world.book(1 * S, bids, asks)
    world.change(1 * S, BUY, "0.01", "1")
    return world


# ---- the queue at our price


def test_reference_case() -> None:
    world = World(latency_ms=100)
    world.change(1 * S, BUY, "0.49", "500")
    key = world.order(2 * S, BUY, "0.49", "100")
    world.change(5 * S, BUY, "0.49", "400")
    for second in (6, 7, 8, 9):
        world.sold(second * S, "0.49", "150")
    assert world.fills() == [(8 * S, "50"), (9 * S, "50")]
    assert world.heard[0] == (2100, ev.OrderAccepted(key, world.said(ev.OrderAccepted)[0].order_id))
    assert world.endings() == [(key, ev.Ending.FILLED)]
    world.row((10 * S, Kind.RESOLVED, 0, ONE, 0))
    assert world.exchange.cash == m("1000") - m("49") + m("100")


def test_prints_on_the_other_side_do_not_fill() -> None:
    world = quiet_world()
    world.order(2 * S, BUY, "0.49", "100")
    world.bought(3 * S, "0.49", "5000")
    world.bought(4 * S, "0.53", "5000")
    assert world.fills() == []


def test_prints_at_a_better_price_do_not_reach_us() -> None:
    world = quiet_world("0.50x10 0.49x500")
    world.order(2 * S, BUY, "0.49", "100")
    world.sold(3 * S, "0.50", "5000")
    assert world.fills() == []


def test_an_order_fills_in_parts_of_six_decimals() -> None:
    world = quiet_world("0.49x10", capital=100.0)
    key = world.order(2 * S, BUY, "0.49", "5")
    world.sold(3 * S, "0.49", "11.234567")
    world.sold(4 * S, "0.49", "0.000001")
    world.sold(5 * S, "0.49", "100")
    assert world.fills(key) == [(3 * S, "1.234567"), (4 * S, "0.000001"), (5 * S, "3.765432")]
    paid = [units.pay(m("0.49"), m(size)) for _, size in world.fills()]
    assert world.exchange.cash == m("100") - sum(paid)
    assert world.exchange.reserved == 0


def test_less_than_a_lot_left_is_a_filled_order_and_frees_its_money() -> None:
    world = quiet_world("0.49x1")
    key = world.order(2 * S, BUY, "0.49", "10")
    world.sold(3 * S, "0.49", "10.990001")
    assert world.filled() == "9.990001"
    assert world.endings() == [(key, ev.Ending.FILLED)]
    assert world.exchange.reserved == 0


def test_an_order_inside_the_touch_is_first() -> None:
    world = quiet_world()
    key = world.order(2 * S, BUY, "0.50", "20")
    world.sold(3 * S, "0.50", "7")
    assert world.fills(key) == [(3 * S, "7")]


def test_an_order_fills_at_its_own_price_without_fee() -> None:
    world = quiet_world()
    key = world.order(2 * S, BUY, "0.50", "20")
    world.sold(3 * S, "0.48", "7")
    (fill,) = world.said(ev.FillReported)
    assert (fill.key, fill.price, fill.size, fill.fee, fill.final) == (key, m("0.50"), m("7"), 0, True)


def test_a_print_before_the_order_arrives_does_not_fill_it() -> None:
    world = quiet_world("0.49x5")
    world.order(2 * S, BUY, "0.49", "100")
    world.sold(2 * S + 99, "0.49", "50")
    assert world.fills() == []


# ---- decreases and the prints they belong to


def queued(model: QueueModel = "power", **params: Any) -> World:
    """Our BUY 50 @ 0.49, arrived at 2.1 s, with 300 ahead and 400 behind: a cancel counted wrongly shows in the power model."""
    world = quiet_world("0.49x300", queue_model=model, **params)
    world.order(2 * S, BUY, "0.49", "50")
    world.change(2500, BUY, "0.49", "700")
    return world


def assert_ahead(world: World, shares: str) -> None:
    """What is printed now fills us from the first share after so many."""
    ms = world.now_ms + S
    world.sold(ms, "0.49", shares)
    assert world.fills() == []
    world.sold(ms, "0.49", "1")
    assert world.fills() == [(ms, "1")]


NOT_FIRST = [model for model in MODELS if model != "optimistic"]


@pytest.mark.parametrize("model", NOT_FIRST)
@pytest.mark.parametrize(("decrease_ms", "print_ms"), [(3000, 3021), (3010, 3000), (3000, 3250), (3250, 3000)])
def test_a_decrease_and_its_print_are_counted_once(decrease_ms: int, print_ms: int, model: QueueModel) -> None:
    world = queued(model)
    for ms in sorted((decrease_ms, print_ms)):
        if ms == decrease_ms:
            world.change(ms, BUY, "0.49", "580")
        else:
            world.sold(ms, "0.49", "120")
    assert_ahead(world, "180")


@pytest.mark.parametrize(("decrease_ms", "print_ms", "ahead"), [(3000, 3251, "128.571429"), (3251, 3000, "149.142858")])
def test_a_decrease_too_far_from_a_print_was_a_cancel(decrease_ms: int, print_ms: int, ahead: str) -> None:
    """(1 - 120 / 700) of 300, less the print of 120; or of the 180 that the print had left."""
    world = queued()
    for ms in sorted((decrease_ms, print_ms)):
        if ms == decrease_ms:
            world.change(ms, BUY, "0.49", "580")
        else:
            world.sold(ms, "0.49", "120")
    assert_ahead(world, ahead)


def test_only_what_a_print_does_not_explain_of_a_decrease_is_a_cancel() -> None:
    """260 of 660 ahead when 100 are cancelled: as a level of 660 -> 560, and a part of a millionth stays ahead."""
    world = queued()
    world.change(4 * S, BUY, "0.49", "560")
    world.sold(4 * S + 21, "0.49", "40")
    assert_ahead(world, "220.606061")


def test_a_cancel_before_our_order_came_moves_us_nowhere() -> None:
    world = quiet_world("0.49x400", queue_model="power")
    world.order(2 * S, BUY, "0.49", "50")
    world.change(2050, BUY, "0.49", "300")
    world.change(2500, BUY, "0.49", "700")
    assert_ahead(world, "300")


def test_one_print_explains_decreases_in_parts() -> None:
    world = queued()
    world.change(3000, BUY, "0.49", "630")
    world.change(3010, BUY, "0.49", "580")
    world.sold(3021, "0.49", "120")
    assert_ahead(world, "180")


def test_one_decrease_is_explained_by_prints_in_parts() -> None:
    world = queued()
    world.sold(3000, "0.49", "50")
    world.change(3010, BUY, "0.49", "580")
    world.sold(3021, "0.49", "70")
    assert_ahead(world, "180")


def test_a_print_that_came_before_our_order_frees_the_queue_when_its_decrease_comes_after() -> None:
    world = quiet_world("0.49x300")
    world.order(2900, BUY, "0.49", "50")
    world.sold(2990, "0.49", "120")
    world.change(3010, BUY, "0.49", "180")
    world.sold(4 * S, "0.49", "181")
    assert world.fills() == [(4 * S, "1")]


def test_a_decrease_before_our_order_came_keeps_its_print_from_our_queue() -> None:
    world = quiet_world("0.49x300")
    world.order(2900, BUY, "0.49", "50")
    world.change(2990, BUY, "0.49", "180")
    world.sold(3011, "0.49", "120")
    world.sold(4 * S, "0.49", "180")
    assert world.fills() == []
    world.sold(5 * S, "0.49", "1")
    assert world.fills() == [(5 * S, "1")]


def test_a_decrease_before_our_order_came_keeps_its_print_from_filling_through_us() -> None:
    """A sweep takes 0.49 and a part of 0.48; our bid of 0.49 arrives before the feed prints the sweep."""
    world = quiet_world("0.49x30 0.48x500")
    world.order(2900, BUY, "0.49", "50")
    world.change(2990, BUY, "0.49", "0")
    world.change(2991, BUY, "0.48", "380")
    world.sold(3011, "0.48", "120.003")
    assert world.fills() == []
    world.sold(3050, "0.48", "20")
    assert world.fills() == [(3050, "20")]


def test_only_the_part_of_a_print_that_came_after_our_order_counts() -> None:
    world = quiet_world("0.49x300")
    world.order(2900, BUY, "0.49", "50")
    world.change(2990, BUY, "0.49", "280")
    world.sold(3011, "0.49", "310")
    assert world.fills() == [(3011, "10")]


@pytest.mark.parametrize(("level", "ahead"), [("299.990001", "300"), ("299.99", "299.99")])
def test_a_residue_under_a_hundredth_of_a_share_is_no_cancel(level: str, ahead: str) -> None:
    world = quiet_world("0.49x300")
    world.order(2 * S, BUY, "0.49", "50")
    world.change(3 * S, BUY, "0.49", level)
    assert_ahead(world, ahead)


@pytest.mark.parametrize(("decrease_ms", "print_ms"), [(3000, 3021), (3010, 3000)])
def test_a_residue_between_a_decrease_and_its_print_is_no_cancel(decrease_ms: int, print_ms: int) -> None:
    world = queued()
    for ms in sorted((decrease_ms, print_ms)):
        if ms == decrease_ms:
            world.change(ms, BUY, "0.49", "579.990001")
        else:
            world.sold(ms, "0.49", "120")
    assert_ahead(world, "180")


def test_a_trimmed_level_is_a_decrease_to_nothing() -> None:
    world = quiet_world("0.49x300 0.48x40")
    world.order(2 * S, BUY, "0.49", "50")
    world.change(3 * S, BUY, "0.48", "41", touch=("0.48", "0.53"))
    world.change(4 * S, BUY, "0.49", "70", touch=("0.49", "0.53"))
    world.sold(5 * S, "0.49", "1")
    assert world.fills() == [(5 * S, "1")]


def test_shares_that_join_the_level_stand_behind_us() -> None:
    world = quiet_world("0.49x100")
    world.order(2 * S, BUY, "0.49", "50")
    world.change(3 * S, BUY, "0.49", "900")
    world.sold(4 * S, "0.49", "101")
    assert world.fills() == [(4 * S, "1")]


# ---- feeds of snapshots


def queued_on_snapshots() -> World:
    """As `queued`, but the feed sends a book a minute and nothing between but prints."""
    world = World(queue_model="power")
    world.book(1 * S, "0.49x300", "0.53x500")
    world.order(2 * S, BUY, "0.49", "50")
    world.book(61 * S, "0.49x700", "0.53x500")
    return world


@pytest.mark.parametrize("print_s", [62, 90, 120])
def test_prints_since_the_last_book_explain_its_decreases_however_old(print_s: int) -> None:
    world = queued_on_snapshots()
    world.sold(print_s * S, "0.49", "120")
    world.book(121 * S, "0.49x580", "0.53x500")
    assert_ahead(world, "180")


def test_prints_before_the_last_book_explain_nothing_more() -> None:
    world = queued_on_snapshots()
    world.sold(62 * S, "0.49", "120")
    world.book(121 * S, "0.49x700", "0.53x500")
    world.book(181 * S, "0.49x580", "0.53x500")
    assert_ahead(world, "149.142858")


def test_a_full_book_on_a_feed_of_changes_leaves_prints_waiting_for_their_decrease() -> None:
    world = queued()
    world.sold(3000, "0.49", "120")
    world.book(3005, "0.49x700", "0.53x500")
    world.change(3010, BUY, "0.49", "580")
    assert_ahead(world, "180")


def test_a_level_that_a_full_book_does_not_name_is_a_decrease_to_nothing() -> None:
    world = World()
    world.book(1 * S, "0.49x300 0.48x9", "0.53x500")
    world.order(2 * S, BUY, "0.49", "50")
    world.book(61 * S, "0.48x9", "0.53x500")
    world.book(121 * S, "0.49x80", "0.53x500")
    world.sold(122 * S, "0.49", "1")
    assert world.fills() == [(122 * S, "1")]


# ---- prints through our price, and more than one order


def test_a_print_through_our_price_fills_at_most_its_size_best_price_first() -> None:
    world = quiet_world("0.49x500 0.48x500 0.47x500")
    low = world.order(2 * S, BUY, "0.48", "30")
    high = world.order(2 * S, BUY, "0.49", "20")
    world.sold(3 * S, "0.47", "35")
    assert world.fills(high) == [(3 * S, "20")]
    assert world.fills(low) == [(3 * S, "15")]


def test_a_print_through_our_asks_fills_the_lowest_first() -> None:
    world = quiet_world("0.40x500", "0.52x500 0.51x500")
    world.own(yes="100")
    high = world.order(2 * S, SELL, "0.52", "30")
    low = world.order(2 * S, SELL, "0.51", "20")
    world.bought(3 * S, "0.53", "35")
    assert world.fills(low) == [(3 * S, "20")]
    assert world.fills(high) == [(3 * S, "15")]


def test_a_print_through_our_price_leaves_us_first_in_the_queue() -> None:
    world = quiet_world("0.49x500 0.48x500")
    world.order(2 * S, BUY, "0.49", "30")
    world.sold(3 * S, "0.48", "10")
    world.sold(4 * S, "0.49", "5")
    assert world.fills() == [(3 * S, "10"), (4 * S, "5")]


def test_what_our_better_order_took_of_a_print_reaches_no_other() -> None:
    world = quiet_world("0.48x10")
    better = world.order(2 * S, BUY, "0.49", "30")
    at = world.order(2 * S, BUY, "0.48", "30")
    world.sold(3 * S, "0.48", "45")
    assert (world.filled(better), world.filled(at)) == ("30", "5")


def test_two_orders_at_one_price_never_share_a_share_of_a_print() -> None:
    """SELL YES and BUY NO are one ask: 10 and 20 of ours behind 5, and 15 came between them."""
    world = quiet_world("0.40x9", "0.53x5")
    world.own(yes="10")
    first = world.order(2 * S, SELL, "0.53", "10")
    world.change(3 * S, SELL, "0.53", "20")
    second = world.order(4 * S, BUY, "0.47", "20", NO)
    for second_s, size in ((5, "4"), (6, "3"), (7, "9"), (8, "14.5"), (9, "10")):
        world.bought(second_s * S, "0.53", size)
    assert world.fills(first) == [(6 * S, "2"), (7 * S, "8")]
    # 40.5 were printed: 5 + 10 of ours + 15 others + 10.5, and the print of 9 gave us 8 of it.
    assert world.fills(second) == [(8 * S, "0.5"), (9 * S, "10")]


def test_no_prints_fill_yes_quotes() -> None:
    """A taker who buys NO at 0.51 sells YES at 0.49; who sells NO at 0.47 buys YES at 0.53."""
    world = quiet_world("0.49x10", "0.53x20")
    world.own(yes="50")
    bid = world.order(2 * S, BUY, "0.49", "30")
    ask = world.order(2 * S, SELL, "0.53", "30")
    decoder = Decoder([world.view.market])
    for ms, price, size, side in ((3 * S, "0.51", "14", "BUY"), (4 * S, "0.47", "26", "SELL")):
        frame = {"event_type": "last_trade_price", "market": "0xc0", "asset_id": "20", "price": price, "size": size, "side": side}
        for row in decoder.rows(ms, msgspec.json.encode(frame)):
            world.row(row)
    assert world.fills(bid) == [(3 * S, "4")]
    assert world.fills(ask) == [(4 * S, "6")]


def test_buying_no_rests_and_fills_as_an_ask() -> None:
    world = quiet_world("0.49x10", "0.53x20", capital=100.0)
    key = world.order(2 * S, BUY, "0.47", "30", NO)
    world.sold(3 * S, "0.53", "500")
    world.bought(4 * S, "0.53", "26")
    assert world.fills() == [(4 * S, "6")]
    assert world.said(ev.FillReported)[0].price == m("0.47")
    assert world.exchange.cash == m("100") - m("2.82")
    assert world.exchange.reserved == m("0.47") * 24
    world.row((5 * S, Kind.RESOLVED, 0, 0, 0))
    assert world.exchange.cash == m("100") - m("2.82") + m("6")
    assert world.endings() == [(key, ev.Ending.RESOLVED)]


def test_selling_no_rests_and_fills_as_a_bid() -> None:
    world = quiet_world("0.49x10", "0.53x20")
    world.own(no="30", cash="7")
    world.order(2 * S, SELL, "0.51", "30", NO)
    world.bought(3 * S, "0.49", "500")
    world.sold(4 * S, "0.49", "16")
    assert world.fills() == [(4 * S, "6")]
    assert world.exchange.cash == m("7") + m("3.06")


# ---- cancels in flight


def test_an_order_can_fill_while_its_cancel_flies() -> None:
    world = quiet_world("0.49x10", latency_ms=100)
    key = world.order(2 * S, BUY, "0.49", "30")
    world.cancel(3000, key)
    world.sold(3099, "0.49", "14")
    world.sold(3100, "0.49", "100")
    assert world.fills() == [(3099, "4")]
    assert world.endings() == [(key, ev.Ending.CANCELLED)]
    assert world.exchange.reserved == 0


def test_a_cancel_after_the_fill_is_silent() -> None:
    world = quiet_world("0.49x10")
    key = world.order(2 * S, BUY, "0.49", "30")
    world.cancel(3000, key)
    world.sold(3050, "0.49", "40")
    world.to(4 * S)
    assert world.endings() == [(key, ev.Ending.FILLED)]


def test_a_cancel_after_a_refusal_is_silent() -> None:
    world = quiet_world()
    key = world.order(2 * S, BUY, "0.53", "30")
    world.cancel(2050, key)
    world.to(3 * S)
    assert [event for _, event in world.heard] == [ev.OrderRejected(key, ev.Rejection.POST_ONLY_CROSS)]


def test_what_is_on_its_way_arrives_in_the_order_of_sending() -> None:
    world = quiet_world(latency_ms=0)
    key = world.order(2 * S, BUY, "0.49", "30")
    world.cancel(2 * S, key)
    world.to(2 * S)
    assert [type(event) for _, event in world.heard] == [ev.OrderAccepted, ev.OrderGone]
    assert world.exchange.next_due_ms() == NEVER


# ---- unknown queues


def test_a_level_never_seen_has_an_unknown_queue() -> None:
    world = World()
    world.change(1 * S, BUY, "0.47", "5")
    world.order(2 * S, BUY, "0.48", "30")
    world.order(2 * S, BUY, "0.46", "30")
    world.sold(3 * S, "0.48", "900")
    world.sold(3 * S, "0.46", "7")
    assert world.fills() == [(3 * S, "7")]


def test_a_decrease_tells_nothing_to_an_order_whose_queue_is_unknown() -> None:
    """The level is named, and shrinks, only after we came: by a print from before us, then by a cancel."""
    world = World(queue_model="power")
    world.change(1 * S, BUY, "0.47", "5")
    world.order(1950, BUY, "0.46", "30")
    world.sold(2 * S, "0.46", "60")
    world.change(2100, BUY, "0.46", "900")
    world.change(2110, BUY, "0.46", "840")
    world.change(2500, BUY, "0.46", "600")
    world.sold(4 * S, "0.46", "5000")
    assert world.fills() == []


def new_tick(world: World) -> None:
    world.row((3 * S, Kind.TICK, 0, m("0.001"), 0))


def lost_feed(world: World) -> None:
    world.row((3 * S, Kind.LOST, 0, 0, 0))


def price_off_the_grid(world: World) -> None:
    world.change(3 * S, SELL, "0.611", "10")


@pytest.mark.parametrize("new_epoch", [new_tick, lost_feed, price_off_the_grid])
def test_a_new_epoch_makes_queues_unknown_for_all_but_prints_through(new_epoch: Any) -> None:
    world = quiet_world("0.49x10")
    world.order(2 * S, BUY, "0.49", "30")
    new_epoch(world)
    world.sold(4 * S, "0.49", "900")
    assert world.fills() == []
    world.sold(5 * S, "0.48", "12")
    world.sold(6 * S, "0.49", "3")
    assert world.fills() == [(5 * S, "12"), (6 * S, "3")]


@pytest.mark.parametrize("new_epoch", [new_tick, lost_feed, price_off_the_grid])
def test_an_order_that_arrives_in_a_new_epoch_does_not_know_its_queue(new_epoch: Any) -> None:
    world = quiet_world("0.49x10")
    world.order(3 * S - 50, BUY, "0.49", "30")
    new_epoch(world)
    world.sold(4 * S, "0.49", "900")
    assert len(world.said(ev.OrderAccepted)) == 1
    assert world.fills() == []
    world.sold(5 * S, "0.48", "12")
    assert world.fills() == [(5 * S, "12")]


def test_nothing_of_the_old_epoch_explains_anything_in_the_new_one() -> None:
    world = quiet_world("0.49x300", explain_ms=5000)
    world.change(2000, BUY, "0.49", "180")
    new_tick(world)
    world.book(3 * S, "0.49x180", "0.53x9")
    world.order(3 * S, BUY, "0.49", "30")
    world.sold(3500, "0.49", "182")
    assert world.fills() == [(3500, "2")]


def test_the_optimistic_queue_is_first_at_every_print_of_any_epoch() -> None:
    world = quiet_world("0.49x10", queue_model="optimistic")
    world.order(2 * S, BUY, "0.49", "30")
    world.sold(2500, "0.49", "1")
    new_tick(world)
    world.order(3 * S, BUY, "0.495", "30")
    world.sold(4 * S, "0.495", "2")
    world.sold(5 * S, "0.49", "29")
    assert world.fills() == [(2500, "1"), (4 * S, "2"), (5 * S, "28"), (5 * S, "1")]


# ---- naive fills


def test_whatever_rests_at_the_touch_fills_at_the_frames_end_whole_and_without_a_print() -> None:
    world = quiet_world(queue_model="touch")
    world.own(yes="50")
    at_touch, behind, ask = (world.order(2 * S, *what) for what in ((BUY, "0.49", "30"), (BUY, "0.48", "7"), (SELL, "0.53", "12")))
    world.sold(2500, "0.48", "900")
    assert world.fills() == []
    world.change(3 * S, BUY, "0.1", "5")
    assert [world.fills(key) for key in (at_touch, behind, ask)] == [[(3 * S, "30")], [], [(3 * S, "12")]]
    world.change(4 * S, BUY, "0.49", "0")
    world.change(4 * S, BUY, "0.48", "1")
    assert world.fills(behind) == [(4 * S, "7")]


def test_an_order_that_the_touch_has_left_standing_alone_is_the_touch() -> None:
    world = quiet_world("0.49x500 0.47x5", queue_model="touch")
    world.order(2 * S, BUY, "0.49", "30")
    world.change(2050, BUY, "0.49", "0")
    assert world.fills() == []
    world.change(3 * S, BUY, "0.46", "3")
    assert world.fills() == [(3 * S, "30")]


def test_inside_the_touch_we_are_it() -> None:
    world = quiet_world(queue_model="touch")
    world.order(2 * S, BUY, "0.51", "30")
    world.change(3 * S, BUY, "0.1", "5")
    assert world.fills() == [(3 * S, "30")]


@pytest.mark.parametrize(("bids", "asks"), [("", "0.53x5"), ("0.49x5", ""), ("0.54x5", "0.53x5")])
def test_a_bad_book_has_no_touch_that_fills(bids: str, asks: str) -> None:
    world = quiet_world(queue_model="touch")
    world.order(2 * S, BUY, "0.49", "30")
    world.book(3 * S, bids, asks)
    assert world.fills() == []


# ---- what the feed says of the taker, and thinning


@pytest.mark.parametrize(("trade_side", "filled"), [("stated", ["bid"]), ("flipped", ["ask"]), ("unknown", ["bid", "ask"])])
def test_trade_side_says_whom_a_print_fills(trade_side: str, filled: list[str]) -> None:
    world = quiet_world("0.49x10", "0.51x500", trade_side=trade_side)
    world.own(yes="50")
    names = {world.order(2 * S, BUY, "0.49", "30"): "bid", world.order(2 * S, SELL, "0.51", "30"): "ask"}
    world.sold(3 * S, "0.49", "14")
    world.sold(4 * S, "0.51", "514")
    fills = [names[fill.key] for fill in world.said(ev.FillReported)]
    assert fills == filled


def test_fill_probability_override_thins_fills_by_the_seed() -> None:
    def filled(seed: int, chance: float | None) -> int:
        world = quiet_world("0.48x1", fill_probability_override=chance, seed=seed)
        world.order(2 * S, BUY, "0.49", "1000")
        for print_s in range(3, 203):
            world.sold(print_s * S, "0.49", "2")
        return m(world.filled()) // ONE

    assert filled(1, None) == filled(1, 1.0) == 400
    assert filled(1, 0.25) == filled(1, 0.25)
    assert filled(1, 0.25) != filled(2, 0.25)
    assert 60 <= filled(1, 0.25) <= 140


# ---- refusals and reservations


@pytest.mark.parametrize(
    ("side", "price", "size", "outcome", "reason"),
    [
        (BUY, "0.53", "10", YES, ev.Rejection.POST_ONLY_CROSS),
        (BUY, "0.52", "10", YES, None),
        (BUY, "0.51", "10", NO, ev.Rejection.POST_ONLY_CROSS),
        (BUY, "0.5", "10", NO, None),
        (SELL, "0.49", "10", YES, ev.Rejection.POST_ONLY_CROSS),
        (SELL, "0.47", "10", NO, ev.Rejection.POST_ONLY_CROSS),
        (SELL, "0.5", "10", YES, None),
        (SELL, "0.5", "10.01", YES, ev.Rejection.NOT_ENOUGH_BALANCE),
        (SELL, "0.49", "6", NO, ev.Rejection.NOT_ENOUGH_BALANCE),
        (BUY, "0.5", "50", YES, None),
        (BUY, "0.5", "50.01", YES, ev.Rejection.NOT_ENOUGH_BALANCE),
        (BUY, "0.495", "10", YES, ev.Rejection.TICK),
        (BUY, "0.495", "10", NO, ev.Rejection.TICK),
        (BUY, "0.49", "4.99", YES, ev.Rejection.MIN_SIZE),
        (BUY, "0.49", "5", YES, None),
    ],
)
def test_what_a_venue_would_refuse_is_refused(side: Side, price: str, size: str, outcome: Outcome, reason: ev.Rejection | None) -> None:
    world = quiet_world("0.49x10", "0.53x10")
    world.own(yes="10", no="5", cash="25")
    key = world.order(2 * S, side, price, size, outcome)
    world.to(3 * S)
    assert world.refusals() == ([] if reason is None else [(key, reason)])
    assert len(world.said(ev.OrderAccepted)) == (reason is None)
    assert (world.exchange.reserved > 0) == (reason is None and side is BUY)


def test_the_book_at_arrival_decides_whether_an_order_crosses() -> None:
    world = quiet_world("0.49x10", "0.53x10", latency_ms=100)
    key = world.order(2 * S, BUY, "0.5", "10")
    world.change(2050, SELL, "0.5", "7")
    world.to(3 * S)
    assert world.refusals() == [(key, ev.Rejection.POST_ONLY_CROSS)]


def test_a_resolved_market_takes_no_order() -> None:
    world = quiet_world()
    key = world.order(2 * S, BUY, "0.49", "10")
    world.row((2050, Kind.RESOLVED, 0, ONE, 0))
    world.to(3 * S)
    assert world.refusals() == [(key, ev.Rejection.MARKET_CLOSED)]


def test_a_second_buy_over_the_balance_is_refused_until_a_cancel() -> None:
    """The venue's own example: 25 USDC, 30 @ 0.45 locks 13.50 and leaves 11.50, whatever the market."""
    world = World(markets=2, capital=25.0)
    for place in (0, 1):
        world.book(1 * S, "0.45x100", "0.53x100", place)
    first = world.order(2 * S, BUY, "0.45", "30")
    second = world.order(2 * S, BUY, "0.45", "30", place=1)
    world.to(3 * S)
    assert world.refusals() == [(second, ev.Rejection.NOT_ENOUGH_BALANCE)]
    assert world.exchange.reserved == m("13.5")
    again = world.order(3 * S, BUY, "0.45", "30", place=1)
    world.cancel(4 * S, first)
    then = world.order(4 * S, BUY, "0.45", "30", place=1)
    world.to(5 * S)
    assert [key for key, _ in world.refusals()] == [second, again]
    assert [event.key for event in world.said(ev.OrderAccepted)] == [first, then]


def test_resting_sells_reserve_their_token() -> None:
    world = quiet_world()
    world.own(yes="20", no="20")
    world.order(2 * S, SELL, "0.53", "12")
    no_more = world.order(2 * S, SELL, "0.54", "9")
    world.order(2 * S, SELL, "0.51", "20", NO)
    world.to(3 * S)
    assert world.refusals() == [(no_more, ev.Rejection.NOT_ENOUGH_BALANCE)]


def test_order_ids_are_never_used_twice() -> None:
    world = quiet_world()
    for _ in range(3):
        world.order(2 * S, BUY, "0.49", "10")
    world.to(3 * S)
    ids = [event.order_id for event in world.said(ev.OrderAccepted)]
    assert len(set(ids)) == 3


# ---- merges, resolution, the end


def test_a_merge_takes_its_time_and_locks_the_pairs_meanwhile() -> None:
    world = quiet_world("0.49x10", "0.53x10", merge_latency_ms=5000)
    world.own(yes="30", no="20", cash="1")
    world.to(2 * S)
    world.exchange.merge(0, Shares(m("20")), 2 * S)
    sells_more = world.order(2 * S, SELL, "0.53", "10.01")
    world.order(2 * S, SELL, "0.53", "10")
    world.to(7 * S - 1)
    assert world.refusals() == [(sells_more, ev.Rejection.NOT_ENOUGH_BALANCE)]
    with pytest.raises(ValueError, match="cannot merge 5 pairs of m0: YES is short"):
        world.exchange.merge(0, Shares(m("5")), 3 * S)
    assert (world.said(ev.Merged), world.exchange.cash) == ([], m("1"))
    world.to(7 * S)
    assert world.said(ev.Merged) == [ev.Merged(0, Shares(m("20")))]
    assert world.exchange.cash == m("21")


def test_a_merge_that_is_refused_locks_nothing() -> None:
    world = quiet_world()
    world.own(yes="30", no="20")
    with pytest.raises(ValueError, match="NO is short"):
        world.exchange.merge(0, Shares(m("25")), 2 * S)
    world.order(2 * S, SELL, "0.53", "30")
    world.to(3 * S)
    assert world.refusals() == []


def test_resolution_cancels_what_rests_and_pays_what_is_held() -> None:
    world = World(markets=2)
    for place in (0, 1):
        world.book(1 * S, "0.49x10", "0.53x10", place)
    world.own(yes="30.000001", no="7", cash="40")
    sell = world.order(2 * S, SELL, "0.53", "30")
    buy = world.order(2 * S, BUY, "0.49", "10")
    elsewhere = world.order(2 * S, BUY, "0.49", "20", place=1)
    world.exchange.merge(0, Shares(m("0.000001")), 2 * S)
    world.row((3 * S, Kind.RESOLVED, 0, m("0.3"), 0))
    assert world.endings() == [(sell, ev.Ending.RESOLVED), (buy, ev.Ending.RESOLVED)]
    assert world.said(ev.MarketResolved) == [ev.MarketResolved(0, Price(m("0.3")))]
    # 9.0000003 and 4.9, rounded down once.
    assert world.exchange.cash == m("40") + m("13.9")
    assert world.exchange.reserved == m("9.8")
    world.to(60 * S)
    assert world.said(ev.Merged) == []
    world.exchange.close()
    assert elsewhere not in dict(world.endings())


def test_closing_cancels_what_rests_and_does_not_know_what_flies() -> None:
    world = quiet_world()
    world.own(yes="20", no="20", cash="100")
    resting = world.order(2 * S, BUY, "0.49", "10")
    world.exchange.merge(0, Shares(m("5")), 2 * S)
    leaving = world.order(2500, SELL, "0.53", "10")
    world.cancel(3000, leaving)
    flying = [world.order(3000, BUY, "0.48", "10"), world.order(3010, BUY, "0.47", "10")]
    events = world.exchange.close()
    assert events == [
        ev.OrderGone(resting, ev.Ending.CANCELLED),
        ev.OrderGone(leaving, ev.Ending.CANCELLED),
        *(ev.OrderGone(key, ev.Ending.UNKNOWN) for key in flying),
    ]
    assert world.exchange.reserved == 0
    world.to(60 * S)
    assert world.said(ev.Merged) == [ev.Merged(0, Shares(m("5")))]
    assert len(world.said(ev.OrderAccepted)) == 2


def test_taking_over_goes_on_with_what_the_account_says() -> None:
    world = quiet_world("0.49x1")
    account = Account(Usdc(m("10")), 1)
    account.mark(0, Price(m("0.5")))
    bought = Fill(
        trade_id="paper-t1", order_key="o0", market=0, outcome=YES, side=BUY, price=Price(m("0.4")), size=Shares(m("8")), at_ms=0,
        mark=Price(m("0.5")), fee=Usdc(0),
    )  # fmt: skip
    account.apply(bought)
    world.exchange.take_over(account, trades=1)
    world.order(2 * S, SELL, "0.5", "8")
    world.bought(3 * S, "0.5", "8")
    assert world.exchange.cash == m("10") - m("3.2") + m("4")
    assert [fill.trade_id for fill in world.said(ev.FillReported)] == ["paper-t2"]


# ---- the queue models


COLUMNS: list[tuple[QueueModel, float]] = [
    ("risk-averse", 1), ("power", 1), ("power", 2), ("power", 3), ("power2", 2), ("power3", 2), ("log", 1), ("log2", 1),
]  # fmt: skip
TABLE = [
    ((500, 800, 400), (400, 250, 205.882, 171.053, 156.25, 343.75, 291.454, 400)),
    ((500, 800, 700), (500, 437.5, 426.471, 417.763, 414.062, 460.938, 447.864, 485.361)),
    ((100, 800, 700), (100, 87.5, 98.0, 99.709, 76.562, 98.438, 58.674, 98.005)),
    ((700, 800, 700), (700, 612.5, 602.0, 600.291, 601.562, 623.438, 641.326, 669.028)),
]
FIRST_FILL = (510, 440, 430, 420, 420, 470, 450, 490)


@pytest.mark.parametrize(("case", "expected"), TABLE, ids=str)
def test_queue_models_agree_with_their_table(case: tuple[int, int, int], expected: tuple[float, ...]) -> None:
    found = [ahead_after_cancel(model, power, *case) for model, power in COLUMNS]
    assert found == pytest.approx(expected, abs=0.0006)


@pytest.mark.parametrize(("column", "printed"), list(zip(COLUMNS, FIRST_FILL, strict=True)), ids=str)
def test_an_order_of_ten_first_fills_at_the_volume_that_its_model_says(column: tuple[QueueModel, float], printed: int) -> None:
    model, power = column
    world = quiet_world("0.49x500", queue_model=model, queue_power=power)
    world.order(2 * S, BUY, "0.49", "10")
    world.change(3 * S, BUY, "0.49", "800")
    world.change(4 * S, BUY, "0.49", "700")
    volume = 0
    while not world.endings():
        volume += 10
        world.sold(5 * S + volume * 100, "0.49", "10")
        if world.fills():
            assert volume in (printed, printed + 10)
    assert world.fills()[0][0] == 5 * S + printed * 100
    assert volume == printed + (10 if model != "risk-averse" else 0)


@pytest.mark.parametrize("model", MODELS)
def test_an_emptied_level_leaves_nobody_ahead(model: QueueModel) -> None:
    assert ahead_after_cancel(model, 1.0, 300, 500, 0) == 0


@settings(deadline=None)
@given(
    model=st.sampled_from(MODELS),
    power=st.floats(0.01, 1000),
    ahead=st.floats(0, 1e9),
    before=st.floats(0, 1e9),
    part=st.floats(0, 1),
)
@example(model="power", power=1000.0, ahead=500.0, before=800.0, part=0.5)
@example(model="power", power=1000.0, ahead=1e-6, before=1e-6, part=0.5)
@example(model="log2", power=1.0, ahead=5e-7, before=1e-6, part=0.5)
@example(model="power3", power=1.0, ahead=0.0, before=0.0, part=0.5)
def test_a_cancel_never_puts_more_ahead_nor_more_than_the_level_holds(
    model: QueueModel, power: float, ahead: float, before: float, part: float
) -> None:
    after = before * part
    left = ahead_after_cancel(model, power, ahead, before, after)
    assert 0 <= left <= ahead_after_cancel("risk-averse", power, ahead, before, after) == min(ahead, after)


# ---- laws

LEVELS = ("0.47", "0.48", "0.49", "0.5", "0.51", "0.52")
LOTS = st.integers(500, 20_000).map(lambda lots: units.text(lots * units.LOT))
SIZES = st.integers(0, 400 * ONE).map(units.text)
STEP_MS = st.sampled_from([0, 1, 21, 100, 250, 251, 3000])
LEVEL_CHANGE = st.tuples(st.just("level"), st.sampled_from([BUY, SELL]), st.sampled_from(LEVELS), SIZES)
PRINT = st.tuples(st.just("print"), st.sampled_from([BUY, SELL]), st.sampled_from(LEVELS), SIZES.filter(lambda size: size != "0"))
ORDER = st.tuples(st.just("order"), st.sampled_from([BUY, SELL]), st.sampled_from(LEVELS), LOTS)
CANCEL = st.tuples(st.just("cancel"), st.just(BUY), st.just("0.49"), st.just("0"))
EPOCH = st.tuples(st.just("epoch"), st.just(BUY), st.just("0.49"), st.just("0"))
LEVEL_EVENT = st.tuples(STEP_MS, st.sampled_from(["print", "less", "less", "more"]), st.integers(1, 300 * ONE))
LevelEvent = tuple[int, str, int]
Step = tuple[int, tuple[str, Side, str, str], Outcome]


def steps(*kinds: st.SearchStrategy[tuple[str, Side, str, str]]) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.tuples(STEP_MS, st.one_of(*kinds), st.sampled_from(list(Outcome))), max_size=40)


def act(world: World, step: Step) -> None:
    wait_ms, (kind, side, price, size), outcome = step
    ms = world.now_ms + wait_ms
    if kind == "level":
        world.change(ms, side, price, size)
    elif kind == "print":
        (world.sold if side is SELL else world.bought)(ms, price, size)
    elif kind == "order":
        # `side` and `price` are in YES terms; the token says how.
        token_side, token_price = (side, price) if outcome is YES else (side.opposite, units.text(ONE - m(price)))
        world.order(ms, token_side, token_price, size, outcome)
    elif kind == "cancel" and world.orders:
        world.cancel(ms, next(iter(reversed(world.orders))))
    elif kind == "epoch":
        world.row((ms, Kind.LOST, 0, 0, 0))


@settings(deadline=None)
@given(model=st.sampled_from(MODELS), story=steps(LEVEL_CHANGE, LEVEL_CHANGE, ORDER, CANCEL, EPOCH))
def test_level_changes_alone_never_fill(model: QueueModel, story: list[Step]) -> None:
    world = quiet_world(queue_model=model)
    world.own(yes="500", no="500")
    for step in story:
        act(world, step)
    world.to(world.now_ms + 10 * S)
    assert world.fills() == []


@settings(max_examples=50, deadline=None)
@given(story=steps(LEVEL_CHANGE, PRINT, ORDER, ORDER, CANCEL, EPOCH))
@example(story=[(0, ("order", BUY, "0.49", "30"), YES), (250, ("print", SELL, "0.48", "400"), YES)])
def test_never_is_never(story: list[Step]) -> None:
    world = quiet_world(queue_model="never")
    world.own(yes="500", no="500")
    for step in story:
        act(world, step)
    world.to(world.now_ms + 10 * S)
    assert world.fills() == []


@settings(max_examples=80, deadline=None)
@given(story=steps(LEVEL_CHANGE, LEVEL_CHANGE, PRINT, ORDER, ORDER, CANCEL))
@example(story=[(0, ("order", BUY, "0.49", "30"), YES), (3000, ("level", SELL, "0.52", "5"), YES)])
def test_after_a_frame_nothing_rests_at_the_touch_that_fills_and_nothing_behind_it_has_filled(story: list[Step]) -> None:
    world = quiet_world(queue_model="touch")
    world.own(yes="500", no="500")
    for step in story:
        before = len(world.heard)
        act(world, step)
        book, fills = world.view.book, [event for _, event in world.heard[before:] if isinstance(event, ev.FillReported)]
        touch = {BUY: book.best_bid * book.tick, SELL: book.best_ask * book.tick}
        for fill in fills:
            order = world.orders[fill.key]
            assert step[1][0] == "level"
            assert (order.yes_price - touch[order.yes_side]) * order.yes_side.sign >= 0
        if step[1][0] == "level" and world.view.fault is None:
            done = {key for key, _ in world.endings() + world.refusals()}
            resting = [
                order for key, order in world.orders.items() if key not in done and key in {e.key for e in world.said(ev.OrderAccepted)}
            ]
            assert all((order.yes_price - touch[order.yes_side]) * order.yes_side.sign < 0 for order in resting)


@settings(max_examples=150, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    trade_side=st.sampled_from(["stated", "flipped"]),
    story=steps(LEVEL_CHANGE, PRINT, ORDER, CANCEL, EPOCH),
)
def test_no_more_fills_than_was_printed_at_or_through_the_price(model: QueueModel, trade_side: str, story: list[Step]) -> None:
    world = quiet_world(queue_model=model, trade_side=trade_side)
    world.own(yes="500", no="500")
    reached: dict[str, int] = {}
    for step in story:
        act(world, step)
        _, (kind, taker, price, size), _ = step
        fills = [event for _, event in world.heard if isinstance(event, ev.FillReported)]
        world.heard = [(ms, event) for ms, event in world.heard if not isinstance(event, ev.FillReported)]
        if kind != "print":
            assert fills == []
            continue
        maker = taker.opposite if trade_side == "stated" else taker
        assert sum(fill.size for fill in fills) <= m(size)
        for fill in fills:
            order = world.orders[fill.key]
            assert order.yes_side is maker
            assert (order.yes_price - m(price)) * maker.sign >= 0
            reached[fill.key] = reached.get(fill.key, 0) + fill.size
    assert all(size <= world.orders[key].size for key, size in reached.items())


@settings(max_examples=150, deadline=None)
@given(model=st.sampled_from(MODELS), chance=st.sampled_from([None, 0.5]), story=steps(LEVEL_CHANGE, PRINT, ORDER, ORDER, CANCEL))
def test_nothing_is_spent_or_sold_that_is_not_there(model: QueueModel, chance: float | None, story: list[Step]) -> None:
    world = quiet_world(queue_model=model, fill_probability_override=chance)
    world.own(yes="150", no="90", cash="120")
    stock, cash = {YES: m("150"), NO: m("90")}, m("120")
    fills = 0
    for step in story:
        act(world, step)
        for fill in world.said(ev.FillReported)[fills:]:
            order = world.orders[fill.key]
            cash -= units.pay(fill.price, fill.size) if order.side is BUY else -units.receive(fill.price, fill.size)
            stock[order.outcome] += order.side.sign * fill.size
            fills += 1
        assert min(stock.values()) >= 0
        assert world.exchange.cash == cash
        assert world.exchange.reserved >= 0
        # Each partial fill may round up by a millionth.
        assert world.exchange.cash - world.exchange.reserved >= -fills
    world.exchange.close()
    assert world.exchange.reserved == 0


@settings(max_examples=150, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    side=st.sampled_from([BUY, SELL]),
    before=steps(LEVEL_CHANGE, PRINT),
    after=steps(LEVEL_CHANGE, PRINT, PRINT, EPOCH),
)
def test_the_same_order_never_fills_earlier_in_a_risk_averse_queue(
    model: QueueModel, side: Side, before: list[Step], after: list[Step]
) -> None:
    worlds = [quiet_world(queue_model=name) for name in ("risk-averse", model, "optimistic")]
    for world in worlds:
        world.own(yes="500", no="500")
    order: Step = (0, ("order", side, "0.49", "60"), YES)
    for step in [*before, order, *after]:
        for world in worlds:
            act(world, step)
        averse, between, first = (m(world.filled()) for world in worlds)
        assert averse <= between <= first


@settings(deadline=None)
@given(
    model=st.sampled_from(MODELS),
    level=st.integers(0, 800 * ONE),
    before=st.lists(LEVEL_EVENT, max_size=3),
    after=st.lists(LEVEL_EVENT, max_size=20),
    snapshots=st.booleans(),
)
def test_the_queue_ahead_never_grows_nor_passes_what_the_level_holds(
    model: QueueModel, level: int, before: list[LevelEvent], after: list[LevelEvent], snapshots: bool
) -> None:
    """One price alone; prints eat what stands ahead as the exchange lets them."""
    pool = Pool(explain_ms=250)
    known, unknown = Queued(Model(model), 0, 0), Queued(Model(model), UNKNOWN_QUEUE, 0)
    ours: list[Queued] = []
    now_ms = turn = 0
    for wait_ms, what, size in [*before, (0, "we come", 0), *after]:
        now_ms += wait_ms
        turn += 1
        if what == "we come":
            known.ahead, known.turn, unknown.turn = level, turn, turn
            ours = [known, unknown]
        was_ahead = known.ahead
        if what == "print":
            shown = pool.printed(ours, size, turn, now_ms, snapshots=snapshots)
            assert sum(shares for _, shares in shown) <= size
            known.ahead -= min(known.ahead, size - sum(shares for at, shares in shown if at < known.turn))
        elif what == "more":
            level += size
        elif what == "less":
            pool.decreased(ours, level, max(level - size, 0), turn, now_ms, snapshots=snapshots)
            level = max(level - size, 0)
        assert 0 <= known.ahead <= was_ahead
        assert unknown.ahead == UNKNOWN_QUEUE
    # Whatever still waits is over by now; what was taken for rounding may stay ahead.
    pool.decreased(ours, level, level, turn + 1, now_ms + 10 * S, snapshots=snapshots)
    assert known.ahead <= level + len([*before, *after]) * units.LOT
