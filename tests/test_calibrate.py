"""Hypothetical orders: which are placed, that they fill as the paper exchange would fill them, and the command that shows it."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from commandline import call, config
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtools import units
from mmtools.commands.replay import MORE_MODELS
from mmtools.lab import findings
from mmtools.lab.calibrate import NO_QUEUE, BadPlan, Found, Hypothetical, Plan, calibrate, shares_of
from mmtools.runs.markets import Markets
from mmtools.trading import events as ev
from mmtools.trading.market import Market, Order, Outcome, Side
from mmtools.trading.paper import PaperExchange
from mmtools.trading.params import Params, QueueModel
from mmtools.units import LOT, ONE, Price, Shares
from mmtools.venues.recording import read
from mmtools.venues.tape import Tape
from mmtools.venues.venue import Feed, Kind, Row

S = 1000
BUY, SELL = Side.BUY, Side.SELL
BTC, NHL = "btc-1h-20251211.jsonl.gz", "nhl-20260607.jsonl.gz"
ALWAYS = ("risk_averse", "base", "optimistic")
Levels = str
"""A side of a book, written "0.49x500 0.48x20"."""


def m(text: str) -> int:
    return units.parse(text)


def market(slug: str = "alpha", tick: str = "0.01", min_size: str = "5") -> Market:
    return Market(
        slug=slug, condition_id=f"0x{slug}", yes_token=f"{slug}-yes", no_token=f"{slug}-no",
        tick=Price(m(tick)), min_size=Shares(m(min_size)),
    )  # fmt: skip


# Rows of a feed of changes


def book(ms: int, bids: Levels, asks: Levels, place: int = 0) -> list[Row]:
    rows: list[Row] = [(ms, Kind.FRAME, place, 0, 1), (ms, Kind.BOOK, place, 0, 0)]
    for kind, levels in ((Kind.BID, bids), (Kind.ASK, asks)):
        rows += [(ms, kind, place, m(price), m(size)) for price, size in (level.split("x") for level in levels.split())]
    return [*rows, (ms, Kind.END, place, -1, -1)]


def change(ms: int, side: Side, price: str, size: str) -> list[Row]:
    kind = Kind.BID if side is BUY else Kind.ASK
    return [(ms, Kind.FRAME, 0, 1, 0), (ms, kind, 0, m(price), m(size)), (ms, Kind.END, 0, -1, -1)]


def opening(bids: Levels = "0.49x500 0.48x200 0.47x90", asks: Levels = "0.53x300 0.54x80 0.55x10") -> list[Row]:
    """A book at 1 s and, so that the feed is one of changes, a change far from it."""
    return [*book(1 * S, bids, asks), *change(1 * S, BUY, "0.01", "1")]


def sold(ms: int, price: str, size: str) -> list[Row]:
    return [(ms, Kind.FRAME, 0, 0, 0), (ms, Kind.SOLD, 0, m(price), m(size))]


def bought(ms: int, price: str, size: str) -> list[Row]:
    return [(ms, Kind.FRAME, 0, 0, 0), (ms, Kind.BOUGHT, 0, m(price), m(size))]


def silence(ms: int) -> list[Row]:
    """Nothing happens until then."""
    return [(ms, Kind.FRAME, 0, 0, 0)]


def tape(*frames: Sequence[Row], markets: Sequence[Market] = ()) -> Tape:
    made = Tape(tuple(markets) or (market(),), clock="exchange", source="a test")
    made.extend([row for frame in frames for row in frame])
    return made


def plan(*, size: str = "50", life_s: float = 20, every_s: float = 1, more: Sequence[QueueModel] = (), **params: Any) -> Plan:
    return Plan.of(Params(**params), size=Shares(m(size)), life_ms=round(life_s * S), every_ms=round(every_s * S), more=more)


def one(found: Found, side: Side, price: str, placed_ms: int) -> Hypothetical:
    (order,) = [o for o in found.orders if (o.side, o.price, o.placed_ms) == (side, m(price), placed_ms)]
    return order


def filled(order: Hypothetical) -> dict[str, str]:
    return {name: units.text(stand.filled) for name, stand in order.stands.items()}


# ---- which orders are placed


def test_orders_stand_at_the_touch_and_one_and_two_ticks_behind_on_both_sides() -> None:
    found = calibrate(tape(opening(), silence(60 * S)), plan(every_s=30))
    assert [(o.side, units.text(o.price), o.behind, o.placed_ms, o.arrived_ms, o.ends_ms) for o in found.orders] == [
        (side, price, behind, 31 * S, 31_100, 51_100)
        for side, prices in ((BUY, ("0.49", "0.48", "0.47")), (SELL, ("0.53", "0.54", "0.55")))
        for behind, price in enumerate(prices)
    ]
    assert found.left_out == {}


def test_every_model_has_the_same_orders() -> None:
    laid = plan(more=("log", "power2"))
    found = calibrate(tape(opening(), sold(5 * S, "0.48", "900"), silence(40 * S)), laid)
    assert list(laid.models) == ["risk_averse", "base", "log", "power2", "optimistic"]
    assert all(list(order.stands) == list(laid.models) for order in found.orders)
    assert len(found.orders) == 6 * 18


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (opening("0.02x500 0.01x90"), "no_legal_price"),
        (opening("0.53x500"), "book_locked"),
        ([*opening(), (2 * S, Kind.TICK, 0, 1000, 0)], "book_incomplete"),
        ([*opening(), (2 * S, Kind.LOST, 0, 0, 0)], "data_gap"),
        ([*opening(), (2 * S, Kind.RESOLVED, 0, ONE, 0)], "not_accepting"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_where_a_maker_would_not_quote_nothing_is_placed(rows: list[Row], reason: str) -> None:
    found = calibrate(tape(rows, silence(30 * S)), plan(every_s=5, life_s=1))
    assert found.left_out[reason] == (5 if reason == "no_legal_price" else 30)
    assert len(found.orders) + sum(found.left_out.values()) == 30


def test_orders_below_the_minimum_of_their_market_are_left_out() -> None:
    found = calibrate(tape(opening(), silence(11 * S)), plan(size="4.99", every_s=10))
    assert (found.orders, found.left_out) == ([], {"below_minimum": 6})


def test_nothing_is_placed_in_a_gap_of_the_feed() -> None:
    found = calibrate(tape(opening(), silence(100 * S)), plan(every_s=10, life_s=1, max_data_gap_s=30.0))
    assert (len(found.orders), found.left_out["data_gap"]) == (18, 36)


def test_an_order_that_would_cross_when_it_arrives_is_left_out() -> None:
    rows = [*opening(), *change(2050, SELL, "0.49", "10"), *change(2050, BUY, "0.49", "0")]
    found = calibrate(tape(rows, silence(3500)), plan(every_s=1, life_s=1))
    assert found.left_out["post_only_cross"] == 1
    assert {(o.side, units.text(o.price)) for o in found.orders if o.placed_ms == 2 * S} == {
        (BUY, "0.48"), (BUY, "0.47"), (SELL, "0.53"), (SELL, "0.54"), (SELL, "0.55"),
    }  # fmt: skip


def test_a_price_whose_queue_nobody_knows_is_left_out_of_all_models() -> None:
    changes = [row for second in range(1, 70) for row in [*change(second * S, BUY, "0.49", "10"), *change(second * S, SELL, "0.53", "5")]]
    found = calibrate(tape(changes, silence(75 * S)), plan(every_s=65, life_s=2))
    assert found.left_out == {"unknown_queue": 4}
    assert [(o.side, units.text(o.price)) for o in found.orders] == [(BUY, "0.49"), (SELL, "0.53")]


def test_an_order_that_would_outlive_the_recording_is_left_out_even_if_it_filled() -> None:
    rows = tape(opening("0.49x1"), sold(3 * S, "0.49", "9000"), silence(21_100))
    laid = plan(every_s=1, life_s=19)
    found = calibrate(rows, laid)
    assert {order.placed_ms for order in found.orders} == {2 * S}
    assert one(found, BUY, "0.49", 2 * S).stands["base"].filled == m("50")
    assert found.left_out == {"recording_ended": 6 * 19}


def test_params_that_name_no_queue_and_sizes_that_no_order_has_are_refused() -> None:
    with pytest.raises(BadPlan, match="queue_model touch is no model of a queue"):
        plan(queue_model="touch")
    for size in (0.0, -5.0, 0.001, 50.005, 1e-7, float("inf"), float("nan")):
        with pytest.raises(BadPlan, match="no order has a size of"):
            shares_of(size)
    assert shares_of(0.29) == m("0.29")


# ---- how they fill


def test_reference_case() -> None:
    rows = [*opening("0.49x500"), *change(5 * S, BUY, "0.49", "400")]
    rows += [row for second in (6, 7, 8, 9) for row in sold(second * S, "0.49", "150")]
    order = one(calibrate(tape(rows, silence(30 * S)), plan(size="100")), BUY, "0.49", 2 * S)
    averse = order.stands["risk_averse"]
    assert (averse.filled, averse.first_ms) == (m("100"), 8 * S)
    assert order.stands["optimistic"].first_ms == 6 * S
    assert filled(one(calibrate(tape(rows, silence(30 * S)), plan(size="100", life_s=6)), BUY, "0.49", 2 * S))["risk_averse"] == "50"


def test_orders_do_not_compete_with_each_other() -> None:
    found = calibrate(tape(opening("0.49x20"), sold(10_500, "0.49", "60"), silence(60 * S)), plan())
    resting = [o for o in found.orders if o.side is BUY and o.behind == 0 and o.arrived_ms <= 10_500]
    assert len(resting) == 9
    assert [filled(order) for order in resting] == [{"risk_averse": "40", "base": "40", "optimistic": "50"}] * 9


def test_a_print_through_the_price_fills_what_stands_before_it() -> None:
    found = calibrate(tape(opening(), bought(3 * S, "0.54", "30"), silence(60 * S)), plan(every_s=1))
    assert filled(one(found, SELL, "0.53", 2 * S)) == dict.fromkeys(ALWAYS, "30")
    assert filled(one(found, SELL, "0.54", 2 * S)) == {"risk_averse": "0", "base": "0", "optimistic": "30"}
    assert filled(one(found, SELL, "0.55", 2 * S)) == dict.fromkeys(ALWAYS, "0")


@pytest.mark.parametrize(("ms", "size"), [(2099, "0"), (2100, "50"), (4099, "50"), (4100, "0")])
def test_an_order_rests_from_its_arrival_for_its_life(ms: int, size: str) -> None:
    found = calibrate(tape(opening("0.49x5"), sold(ms, "0.49", "500"), silence(9 * S)), plan(life_s=2))
    assert filled(one(found, BUY, "0.49", 2 * S)) == dict.fromkeys(ALWAYS, size)


def test_without_latency_an_order_rests_at_once() -> None:
    found = calibrate(tape(opening("0.49x5"), sold(2 * S, "0.49", "500"), silence(9 * S)), plan(life_s=2, latency_ms=0))
    assert filled(one(found, BUY, "0.49", 2 * S)) == dict.fromkeys(ALWAYS, "50")


@pytest.mark.parametrize(
    ("trade_side", "bid", "ask"), [("stated", "50", "0"), ("flipped", "0", "50"), ("unknown", "50", "50")], ids=lambda value: str(value)
)
def test_the_trade_side_is_believed_turned_or_not_asked(trade_side: str, bid: str, ask: str) -> None:
    laid = plan(trade_side=trade_side)
    at_bid, at_ask = sold(3 * S, "0.49", "900"), sold(3 * S, "0.53", "900")
    found = calibrate(tape(opening(), at_bid, at_ask, silence(60 * S)), laid)
    assert filled(one(found, BUY, "0.49", 2 * S)) == dict.fromkeys(ALWAYS, bid)
    assert filled(one(found, SELL, "0.53", 2 * S)) == dict.fromkeys(ALWAYS, ask)


def test_after_the_book_began_anew_only_prints_through_the_price_fill() -> None:
    rows = [*opening("0.49x5"), (3 * S, Kind.LOST, 0, 0, 0), *book(3500, "0.49x1", "0.53x1"), (3500, Kind.RESTORED, 0, 0, 0)]
    found = calibrate(tape(rows, sold(5 * S, "0.49", "30"), silence(60 * S)), plan())
    assert filled(one(found, BUY, "0.49", 2 * S)) == {"risk_averse": "0", "base": "0", "optimistic": "30"}
    assert filled(one(found, BUY, "0.49", 4 * S)) == {"risk_averse": "29", "base": "29", "optimistic": "30"}
    found = calibrate(tape(rows, sold(5 * S, "0.48", "30"), silence(60 * S)), plan())
    assert filled(one(found, BUY, "0.49", 2 * S)) == dict.fromkeys(ALWAYS, "30")


def test_what_left_a_book_that_began_anew_explains_no_print_of_the_new_one() -> None:
    rows = [*opening("0.49x300"), *change(2010, BUY, "0.49", "180"), (2050, Kind.LOST, 0, 0, 0), *book(2060, "0.49x20", "0.53x1")]
    found = calibrate(tape(rows, sold(2150, "0.49", "120"), silence(60 * S)), plan())
    assert filled(one(found, BUY, "0.49", 2 * S)) == dict.fromkeys(ALWAYS, "50")


def test_on_a_feed_of_books_a_print_waits_for_the_next_book_however_late() -> None:
    """120 are printed before the order comes, which still counts them ahead; the book that shows it frees them."""
    asks = "0.53x300"
    rows = [*book(1 * S, "0.49x300", asks), *sold(2050, "0.49", "120"), *sold(3 * S, "0.49", "10"), *book(4 * S, "0.49x170", asks)]
    found = calibrate(tape(rows, sold(4100, "0.49", "171"), silence(60 * S)), plan(max_data_gap_s=100.0))
    assert filled(one(found, BUY, "0.49", 2 * S))["risk_averse"] == "1"


def test_the_end_of_a_market_ends_its_orders() -> None:
    rows = [*opening("0.49x5"), *sold(3 * S, "0.49", "25"), (4 * S, Kind.RESOLVED, 0, 0, 0), *sold(5 * S, "0.49", "900")]
    order = one(calibrate(tape(rows, silence(8 * S)), plan(life_s=90)), BUY, "0.49", 2 * S)
    assert (filled(order)["base"], order.ends_ms) == ("20", 4 * S)
    assert order.stands["base"].measured == [m("20"), 0, 0, 0]


# ---- markouts


def test_a_markout_takes_the_mid_that_held_just_before_its_time() -> None:
    rows = [*opening("0.49x5 0.47x1"), *sold(3 * S, "0.49", "15")]
    # Mid 0.51; at 4 s, the first horizon, it becomes 0.50: that is too late for it, and in time for the one at 8 s.
    rows += [*change(4 * S, BUY, "0.49", "0"), *silence(8 * S), *change(8 * S, BUY, "0.5", "7"), *silence(100 * S)]
    stand = one(calibrate(tape(rows), plan(life_s=40)), BUY, "0.49", 2 * S).stands["risk_averse"]
    assert stand.filled == m("10")
    assert stand.measured == [m("10"), m("10"), m("10"), 0]
    assert [gain // stand.filled for gain in stand.gained[:3]] == [m("0.02"), m("0.01"), m("0.025")]


def test_the_markout_of_an_ask_is_good_when_the_mid_falls() -> None:
    rows = [*opening(asks="0.53x5"), *bought(3 * S, "0.53", "15"), *change(3500, BUY, "0.49", "0"), *silence(60 * S)]
    stand = one(calibrate(tape(rows), plan(life_s=40)), SELL, "0.53", 2 * S).stands["base"]
    assert stand.gained[0] // stand.filled == m("0.53") - m("0.505")


def test_figures_are_in_ticks_and_weighted_by_shares() -> None:
    rows = [*opening("0.49x5 0.48x1 0.47x1"), *silence(30 * S), *sold(33 * S, "0.49", "15"), *change(33_500, BUY, "0.49", "0")]
    rows += [*sold(35 * S, "0.48", "21"), *silence(60 * S)]
    laid = plan(every_s=30, life_s=20)
    document = findings.document(calibrate(tape(rows), laid), laid, [], seed=1)
    base = document["calibration"]["models"]["base"]
    # 10 and 21 shares at 0.49 and 20 at 0.48; the mid is 0.505 from 33.5 s on.
    assert (base["shares_placed"], base["shares"]) == ("300", "51")
    assert (base["fill_rate"], base["touched"], base["interval"]) == (0.17, 0.333333, None)
    assert base["first_fill_s"] == {"low": 2.4, "median": 2.9, "high": 3.4}
    assert base["markouts"]["5"] == {"mean": round((31 * 1.5 + 20 * 2.5) / 51, 6), "interval": None, "shares": "51"}
    assert base["markouts"]["30"] == {"mean": None, "interval": None, "shares": "0"}
    assert [at["shares"] for at in base["distances"].values()] == ["31", "20", "0"]
    assert base["distances"]["2"]["first_fill_s"] is None


def test_minutes_of_markets_are_the_blocks_of_the_intervals() -> None:
    rows = [*opening("0.49x5"), *(row for minute in range(8) for row in sold(minute * 60_000 + 5 * S, "0.49", str(10 + minute)))]
    laid = plan(every_s=2, life_s=5, max_data_gap_s=1000.0)
    found = calibrate(tape(rows, silence(600 * S)), laid)
    touch = findings.document(found, laid, [], seed=1)["calibration"]["models"]["base"]["distances"]["0"]
    assert touch["interval"][0] < touch["fill_rate"] < touch["interval"][1]
    assert findings.document(found, laid, [], seed=1) == findings.document(found, laid, [], seed=1)
    assert findings.document(found, laid, [], seed=2)["calibration"]["models"]["base"]["distances"]["0"]["interval"] != touch["interval"]


# ---- laws: models are ordered order by order, and each order fills as it would alone on the paper exchange

PRICES = st.sampled_from(["0.47", "0.48", "0.49", "0.5", "0.51", "0.52"])
SIZES = st.integers(0, 300).map(str)
WAIT_MS = st.sampled_from([0, 1, 21, 100, 250, 251, 900, 3000])
WHAT = st.sampled_from(["bid", "ask", "sold", "sold", "bought", "bought", "book", "lost", "finer", "resolved"])
STEPS = st.lists(st.tuples(WAIT_MS, WHAT, PRICES, SIZES), min_size=5, max_size=40)
TRADE_SIDES = st.sampled_from(["stated", "unknown", "flipped"])
Steps = list[tuple[int, str, str, str]]


def story(steps: Steps, *, snapshots: bool) -> Tape:
    """A market in which anything may happen; it opens with a good book and ends in a silence."""
    bids, asks = "0.49x120 0.48x40 0.47x75", "0.5x60 0.51x200 0.52x10"
    rows = book(1 * S, bids, asks) if snapshots else opening(bids, asks)
    ms = 2 * S
    for wait_ms, what, price, size in steps:
        ms += wait_ms
        if what in ("sold", "bought"):
            rows += (sold if what == "sold" else bought)(ms, price, str(int(size) + 1))
        elif what == "book" or snapshots:
            rows += book(ms, f"0.49x{size} 0.48x80", f"{max(price, '0.5')}x90 0.53x20")
        elif what in ("bid", "ask"):
            rows += change(ms, BUY if what == "bid" else SELL, price, size)
        elif what == "lost":
            rows += [(ms, Kind.LOST, 0, 0, 0), *book(ms, f"0.48x{size} 0.47x3", "0.51x20"), (ms, Kind.RESTORED, 0, 0, 0)]
        elif what == "finer":
            rows += change(ms, BUY, "0.485", size)
        elif size == "0":
            rows += [(ms, Kind.RESOLVED, 0, ONE, 0)]
    return tape(rows, silence(ms + 7 * S))


def assert_ordered(found: Found, models: Sequence[str]) -> None:
    for order in found.orders:
        averse, first = order.stands["risk_averse"], order.stands["optimistic"]
        for name in models:
            between = order.stands[name]
            assert averse.filled <= between.filled <= first.filled <= order.size
            for earlier, later in ((first, between), (between, averse)):
                assert later.first_ms is None or (earlier.first_ms is not None and earlier.first_ms <= later.first_ms)


def alone_on_paper(feed: Feed, laid: Plan, params: Params, orders: Sequence[Hypothetical]) -> list[int]:
    """Return what each order fills when it is the only one of a paper exchange of its own."""
    markets = Markets(feed.markets)
    slugs = [market.slug for market in feed.markets]
    exchanges = [PaperExchange(markets.views, params, random.Random(1)) for _ in orders]
    for exchange, order in zip(exchanges, orders, strict=True):
        outcome = Outcome.YES if order.side is BUY else Outcome.NO
        price = order.price if order.side is BUY else Price(ONE - order.price)
        sent = Order(key="k", market=slugs.index(order.market), outcome=outcome, side=BUY, price=price, size=order.size)
        exchange.place(sent, order.placed_ms)
        exchange.cancel("k", order.placed_ms + laid.life_ms)
    paper = _Paper(exchanges)
    markets.listeners.append(paper)
    now = 0
    for ms, kind, market, a, b in feed.rows():
        if ms > now:
            for exchange in exchanges:
                while exchange.next_due_ms() <= ms:
                    exchange.arrive()
            now = ms
        markets.row(ms, kind, market, a, b)
    return paper.filled


def assert_the_same(filled: Sequence[int], on_paper: Sequence[int]) -> None:
    """On paper an order is over when less than a lot is left of it."""
    assert len(filled) == len(on_paper)
    assert all(0 <= ours - theirs < LOT for ours, theirs in zip(filled, on_paper, strict=True)), (filled, on_paper)


class _Paper:
    """Hands the rows to many exchanges and counts what fills in each."""

    fills_by_book = False

    def __init__(self, exchanges: Sequence[PaperExchange]) -> None:
        self.exchanges = exchanges
        self.filled = [0] * len(exchanges)

    def decreased(self, market: int, bid: bool, price: int, before: int, after: int, now_ms: int) -> None:
        for exchange in self.exchanges:
            exchange.decreased(market, bid, price, before, after, now_ms)

    def book_given(self, market: int) -> None:
        for exchange in self.exchanges:
            exchange.book_given(market)

    def frame_over(self, market: int, now_ms: int) -> None: ...

    def printed(self, market: int, taker: Side, price: int, size: int, now_ms: int) -> None:
        for place, exchange in enumerate(self.exchanges):
            fills = exchange.printed(market, taker, price, size, now_ms)
            self.filled[place] += sum(fill.size for fill in fills if isinstance(fill, ev.FillReported))

    def resolved(self, market: int, payout: Price, now_ms: int) -> None:
        for exchange in self.exchanges:
            exchange.resolve(market, payout)

    def hear(self, event: ev.Event, now_ms: int) -> None: ...


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, snapshots=st.booleans(), trade_side=TRADE_SIDES, power=st.sampled_from([1.0, 3.0]))
def test_shares_filled_are_ordered_order_by_order(steps: Steps, snapshots: bool, trade_side: str, power: float) -> None:
    laid = plan(life_s=5, more=MORE_MODELS, trade_side=trade_side, queue_power=power)
    assert_ordered(calibrate(story(steps, snapshots=snapshots), laid), ("base", *MORE_MODELS))


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS,
    snapshots=st.booleans(),
    model=st.sampled_from(["risk-averse", "power", "log", "optimistic"]),
    trade_side=TRADE_SIDES,
    latency_ms=st.sampled_from([0, 100, 251]),
)
def test_an_order_fills_as_it_would_alone_on_the_paper_exchange(
    steps: Steps, snapshots: bool, model: QueueModel, trade_side: str, latency_ms: int
) -> None:
    params = Params(capital=1e6, queue_model=model, trade_side=trade_side, latency_ms=latency_ms)  # type: ignore[arg-type]
    laid = Plan.of(params, size=Shares(m("50")), life_ms=5 * S, every_ms=330)
    feed = story(steps, snapshots=snapshots)
    orders = calibrate(feed, laid).orders
    assert_the_same([order.stands["base"].filled for order in orders], alone_on_paper(feed, laid, params, orders))


# ---- recorded markets


@pytest.fixture(scope="module")
def nhl(recordings: Path) -> Found:
    feed = read(recordings / NHL)
    return calibrate(feed, plan(every_s=10, life_s=60, more=("log",)))


@pytest.fixture(scope="module")
def btc(recordings: Path) -> Tape:
    return read(recordings / BTC)


def test_shares_filled_are_ordered_in_a_recorded_game(nhl: Found) -> None:
    assert len(nhl.orders) > 2000
    assert_ordered(nhl, ("base", "log"))
    totals = [sum(order.stands[name].filled for order in nhl.orders) for name in ALWAYS]
    assert 0 < totals[0] < totals[1] < totals[2]


def test_shares_filled_are_ordered_in_a_recorded_hour_of_bitcoin(btc: Tape) -> None:
    found = calibrate(btc, plan(every_s=5, life_s=60, more=MORE_MODELS))
    assert len(found.orders) > 500
    assert_ordered(found, ("base", *MORE_MODELS))


@pytest.mark.parametrize("model", ["risk-averse", "power"])
def test_recorded_orders_fill_as_they_would_alone_on_the_paper_exchange(model: QueueModel, btc: Tape) -> None:
    params = Params(capital=1e6, queue_model=model)
    laid = Plan.of(params, size=Shares(m("50")), life_ms=60 * S, every_ms=47 * S)
    orders = calibrate(btc, laid).orders
    filled = [order.stands["base"].filled for order in orders]
    assert sum(filled) > 0
    assert_the_same(filled, alone_on_paper(btc, laid, params, orders))


def test_the_document_of_a_recorded_game_is_whole(nhl: Found) -> None:
    laid = plan(every_s=10, life_s=60, more=("log",))
    document = findings.document(nhl, laid, [findings.Source(NHL, "ab", nhl.prints)], seed=1)
    found = document["calibration"]
    assert (found["orders"], found["prints"]) == (len(nhl.orders), 483)
    assert document["assumptions"]["recordings"] == [{"name": NHL, "sha256": "ab", "prints": 483}]
    for name, model in found["models"].items():
        assert model["orders"] == sum(at["orders"] for at in model["distances"].values()) == found["orders"], name
        assert m(model["shares"]) == sum(m(at["shares"]) for at in model["distances"].values())
        assert model["interval"][0] < model["fill_rate"] < model["interval"][1]
        for horizon in ("1", "5", "30", "120"):
            at = model["markouts"][horizon]
            assert m(at["shares"]) <= m(model["shares"])
            assert at["interval"][0] <= at["mean"] <= at["interval"][1]
    rates = [found["models"][name]["fill_rate"] for name in ("risk_averse", "base", "log", "optimistic")]
    assert rates == sorted(rates)


# ---- the command


def test_the_models_that_may_be_asked_for_are_all_that_are_not_there_or_no_queue() -> None:
    assert {*MORE_MODELS, *NO_QUEUE, "risk-averse", "optimistic"} == set(get_args(QueueModel))


def test_the_command_prints_one_document_with_its_assumptions(recordings: Path, tmp_path: Path) -> None:
    args = ("--size", "20", "--every", "20", "--queue-model", "log", "--json", "--state", tmp_path)
    said = call("replay", "calibrate", recordings / BTC, *args)
    assert (said.code, said.err) == (0, "")
    document = said.document
    assert document["schema"] == "mmtools.calibration/1"
    assert list(document["calibration"]["models"]) == ["risk_averse", "base", "log", "optimistic"]
    (recording,) = document["assumptions"].pop("recordings")
    assert (recording["name"], recording["prints"], len(recording["sha256"])) == (BTC, 300, 64)
    assert document["assumptions"] == {
        "latency_ms": 100, "explain_ms": 250, "trade_side": "stated", "size": "20", "life_s": 60.0, "every_s": 20.0,
        "max_data_gap_s": 30.0, "seed": 1, "draws": 1000,
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_a_table_and_how_to_read_it(recordings: Path) -> None:
    said = call("replay", "calibrate", recordings / BTC, "--life", "30")
    assert said.code == 0
    assert said.out.startswith("348 hypothetical orders of 50 shares beside 300 prints of btc-1h-20251211.jsonl.gz; ")
    rows = [line.split()[:2] for line in said.out.splitlines() if "%" in line and "[" in line]
    assert rows[:4] == [["risk_averse", "all"], ["touch", rows[1][1]], ["1", "behind"], ["2", "behind"]]
    assert len(rows) == 12
    assert "living 30 s" in said.out
    assert "\nleft out   data_gap " in said.out
    assert "A markout is what a filled share gained" in said.out


def test_set_and_config_change_what_is_assumed(recordings: Path, tmp_path: Path) -> None:
    written = config(tmp_path / "run.yaml", "params:\n  latency_ms: 40\n  queue_power: 2\n  seed: 7\n")
    said = call("replay", "calibrate", recordings / BTC, "--every", "60", "--config", written, "--set", "trade_side=unknown", "--json")
    assumed, models = said.document["assumptions"], said.document["calibration"]["models"]
    assert (assumed["latency_ms"], assumed["trade_side"], assumed["seed"]) == (40, "unknown", 7)
    assert (models["base"]["queue_model"], models["base"]["queue_power"], models["risk_averse"]["queue_power"]) == ("power", 2.0, None)


def test_several_recordings_are_taken_together(recordings: Path) -> None:
    names = (BTC, "mlb-16ede1.jsonl.gz")
    args = ("--every", "60", "--json")
    apart = [call("replay", "calibrate", recordings / name, *args).document for name in names]
    together = call("replay", "calibrate", *(recordings / name for name in names), *args).document
    assert together["calibration"]["orders"] == sum(document["calibration"]["orders"] for document in apart)
    assert together["left_out"]["data_gap"] == sum(document["left_out"]["data_gap"] for document in apart)
    assert [source["name"] for source in together["assumptions"]["recordings"]] == list(names)


def test_a_recording_without_prints_is_named(recordings: Path) -> None:
    said = call("replay", "calibrate", recordings / "mlb-16ede1.jsonl.gz", "--every", "60")
    assert "note       mlb-16ede1.jsonl.gz holds no prints: nothing can fill there" in said.out
    assert "0.0 % [?]" in said.out


@pytest.mark.parametrize(
    ("args", "saying"),
    [
        (("--set", "queue_model=touch"), "queue_model touch is no model of a queue"),
        (("--set", "seed=-1"), "seed is -1"),
        (("--size", "0.001"), "orders are sent in whole hundredths of a share"),
        (("--every", "0"), "--every is 0; it must be between 0.1 and 86400 seconds"),
        (("--every", "nan"), "--every is nan"),
        (("--life", "inf"), "--life is inf"),
        (("--queue-model", "never"), "'never' is not one of"),
        (("--market", "rain"), "has no market rain"),
        (("--picture", "figure.png"), "name a file that ends in .svg"),
        (("--picture", "/no/such/folder/figure.svg"), "there is no folder /no/such/folder"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(args: tuple[str, ...], saying: str, recordings: Path) -> None:
    said = call("replay", "calibrate", recordings / BTC, *args)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("replay calibrate: ")
    assert said.err.count("\n") == 1
    assert saying in said.err


def test_recordings_that_cannot_be_used_are_refused(recordings: Path, tmp_path: Path) -> None:
    gone = call("replay", "calibrate", recordings / BTC, tmp_path / "gone.jsonl.gz")
    assert (gone.code, gone.err) == (2, f"replay calibrate: {tmp_path / 'gone.jsonl.gz'}: there is no such file\n")
    copy = tmp_path / "copy.jsonl.gz"
    copy.write_bytes((recordings / BTC).read_bytes())
    twice = call("replay", "calibrate", recordings / BTC, copy)
    assert (twice.code, f"{BTC} and copy.jsonl.gz are one recording" in twice.err) == (2, True)
    assert call("replay", "calibrate").code == 2
    typo = call("replay", "calibrate", recordings / BTC, "--config", config(tmp_path / "run.yaml", "parms: {}\n"))
    assert typo.code == 78


def test_a_picture_is_written_and_says_what_the_document_says(recordings: Path, tmp_path: Path) -> None:
    picture = tmp_path / "figure.svg"
    args = ("calibrate", recordings / BTC, "--every", "30", "--picture", picture)
    assert call("replay", *args).code == 0
    first = picture.read_bytes()
    assert b"optimistic" in first
    assert call("replay", *args, "--json").document["schema"] == findings.SCHEMA
    assert picture.read_bytes() == first
    assert list(tmp_path.iterdir()) == [picture]
