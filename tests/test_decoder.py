"""Wire frames to rows: every event of the market channel, both tokens, and everything a frame can have wrong with it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmtools.trading.market import Market
from mmtools.units import ONE, Price, Shares, parse, text
from mmtools.venues.decoder import BadFrame, Decoder
from mmtools.venues.tape import Tape
from mmtools.venues.venue import Feed, Kind, Row

NOW = 1_790_000_000_123
RAIN = Market(slug="rain", condition_id="0xra", yes_token="7101", no_token="7202", tick=Price(10_000), min_size=Shares(5_000_000))
SNOW = Market(slug="snow", condition_id="0xsn", yes_token="8303", no_token="8404", tick=Price(1_000), min_size=Shares(15_000_000))
YES, NO = RAIN.yes_token, RAIN.no_token


def encoded(message: object) -> bytes:
    return json.dumps(message).encode()


def without(message: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != key}


def as_sent(message: object) -> bytes:
    """As the venue writes it: its kind last, and no spaces."""
    if isinstance(message, dict) and "event_type" in message:
        message = {**without(message, "event_type"), "event_type": message["event_type"]}
    return json.dumps(message, separators=(",", ":")).encode()


def rows(message: object, decoder: Decoder | None = None) -> list[Row]:
    return (decoder or Decoder([RAIN, SNOW])).rows(NOW, encoded(message))


def said(found: Sequence[Row]) -> list[tuple[int, int, int]]:
    """Rows of the first market, less what is the same in all."""
    assert all((now, place) == (NOW, 0) for now, _, place, _, _ in found)
    return [(kind, a, b) for _, kind, _, a, b in found]


def change(asset: str, side: str, price: str, size: str, **touch: str | None) -> dict[str, Any]:
    return {"asset_id": asset, "side": side, "price": price, "size": size, "hash": "aa", **touch}


def price_change(*changes: Mapping[str, Any], market: str = "0xra") -> dict[str, Any]:
    return {"event_type": "price_change", "market": market, "timestamp": "1", "price_changes": list(changes)}


def book(asset: str, bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]], **more: object) -> dict[str, Any]:
    return {
        "event_type": "book",
        "market": "0xra",
        "asset_id": asset,
        "bids": [{"price": price, "size": size} for price, size in bids],
        "asks": [{"price": price, "size": size} for price, size in asks],
        **more,
    }


def trade(asset: str, side: str, price: str, size: str) -> dict[str, Any]:
    return {"event_type": "last_trade_price", "market": "0xra", "asset_id": asset, "side": side, "price": price, "size": size}


def tick_change(asset: str, new: str) -> dict[str, Any]:
    return {"event_type": "tick_size_change", "market": "0xra", "asset_id": asset, "old_tick_size": "0.01", "new_tick_size": new}


def resolved(winner: str, market: str = "0xra") -> dict[str, Any]:
    return {"event_type": "market_resolved", "market": market, "assets_ids": [YES, NO], "winning_asset_id": winner}


BEST = {"event_type": "best_bid_ask", "market": "0xra", "asset_id": NO, "best_bid": "0.2", "best_ask": "0.4", "spread": "0.2"}
NEW = {"event_type": "new_market", "id": "12", "market": "0xff", "slug": "hail", "assets_ids": ["1", "2"], "active": True}


# Changes of levels


def test_changes_of_the_yes_token_become_level_rows_in_their_order_and_those_of_no_are_only_counted() -> None:
    frame = price_change(
        change(YES, "BUY", "0.31", "198.25", best_bid="0.35", best_ask="0.39"),
        change(NO, "SELL", "0.69", "198.25", best_bid="0.61", best_ask="0.65"),
        change(YES, "SELL", "0.4", "0", best_bid="0.36", best_ask="0.41"),
        change(NO, "BUY", "0.6", "0", best_bid="0.59", best_ask="0.64"),
        change(YES, "BUY", "0.36", "7", best_bid="0.36", best_ask="0.41"),
    )
    assert said(rows(frame)) == [
        (Kind.FRAME, 5, 0),
        (Kind.BID, 310_000, 198_250_000),
        (Kind.ASK, 400_000, 0),
        (Kind.BID, 360_000, 7_000_000),
        (Kind.END, 360_000, 410_000),
    ]


def test_a_change_of_no_after_the_last_one_of_yes_does_not_state_the_touch() -> None:
    frame = price_change(
        change(YES, "BUY", "0.31", "1", best_bid="0.35", best_ask="0.39"),
        change(NO, "SELL", "0.69", "1", best_bid="0.5", best_ask="0.52"),
    )
    assert rows(frame)[-1][3:] == (350_000, 390_000)


def test_a_frame_of_no_changes_alone_states_the_touch_turned_and_no_level() -> None:
    first, last = (
        change(NO, "SELL", "0.9", "1", best_bid="0.1", best_ask="0.2"),
        change(NO, "SELL", "0.7", "3", best_bid="0.62", best_ask="0.65"),
    )
    assert said(rows(price_change(first, last))) == [(Kind.FRAME, 2, 0), (Kind.END, 350_000, 380_000)]


@pytest.mark.parametrize(
    ("asset", "touch", "end"),
    [
        (YES, {}, (-1, -1)),
        (YES, {"best_bid": None, "best_ask": ""}, (-1, -1)),
        (YES, {"best_bid": "0.35"}, (350_000, -1)),
        (YES, {"best_bid": "0", "best_ask": "0.39"}, (0, 390_000)),
        (YES, {"best_bid": "0.35", "best_ask": "0"}, (350_000, ONE)),
        (YES, {"best_bid": "0.35", "best_ask": "1"}, (350_000, ONE)),
        (YES, {"best_bid": "0.35", "best_ask": "1.01"}, (350_000, ONE)),
        (NO, {"best_bid": "0.61"}, (-1, 390_000)),
        (NO, {"best_ask": "0.65"}, (350_000, -1)),
        (NO, {"best_bid": "0", "best_ask": "0.65"}, (350_000, ONE)),
        (NO, {"best_bid": "0.61", "best_ask": "1"}, (0, 390_000)),
        (NO, {"best_bid": "0", "best_ask": "0"}, (0, ONE)),
    ],
)
def test_a_stated_touch_tells_unknown_from_empty(asset: str, touch: dict[str, str | None], end: tuple[int, int]) -> None:
    assert rows(price_change(change(asset, "BUY", "0.3", "4", **touch)))[-1] == (NOW, Kind.END, 0, *end)


def test_a_price_off_the_known_tick_grid_is_kept() -> None:
    assert said(rows(price_change(change(YES, "BUY", "0.314", "4"))))[1] == (Kind.BID, 314_000, 4_000_000)


def test_a_frame_without_changes_still_counts() -> None:
    assert said(rows(price_change())) == [(Kind.FRAME, 0, 0), (Kind.END, -1, -1)]


# Books


def test_a_book_of_yes_becomes_its_levels_without_empty_ones() -> None:
    frame = book(YES, [("0.44", "100"), ("0.45", "30.5")], [("0.49", "0"), ("0.48", "50"), ("0.47", "20")], tick_size="0.01")
    assert said(rows(frame)) == [
        (Kind.FRAME, 0, 1),
        (Kind.BOOK, 0, 0),
        (Kind.BID, 440_000, 100_000_000),
        (Kind.BID, 450_000, 30_500_000),
        (Kind.ASK, 480_000, 50_000_000),
        (Kind.ASK, 470_000, 20_000_000),
        (Kind.END, -1, -1),
    ]


def test_the_last_of_two_levels_at_one_price_wins_also_when_it_is_empty() -> None:
    frame = book(YES, [("0.44", "100"), ("0.40", "6"), ("0.440", "3")], [("0.48", "50"), ("0.48", "0")])
    assert said(rows(frame))[2:-1] == [(Kind.BID, 440_000, 3_000_000), (Kind.BID, 400_000, 6_000_000)]


def test_an_empty_book_is_a_book() -> None:
    assert said(rows(book(YES, [], []))) == [(Kind.FRAME, 0, 1), (Kind.BOOK, 0, 0), (Kind.END, -1, -1)]


def test_a_book_of_no_proves_only_that_the_feed_lives() -> None:
    decoder = Decoder([RAIN])
    assert said(rows(book(NO, [("0.52", "20")], [("0.55", "30")], tick_size="0.001"), decoder)) == [(Kind.FRAME, 0, 1)]
    assert (Kind.TICK, 1_000, 0) in said(rows(tick_change(YES, "0.001"), decoder))


def test_a_book_that_states_another_tick_says_so_once_and_before_its_levels() -> None:
    decoder, frame = Decoder([RAIN]), book(YES, [("0.441", "9")], [], tick_size="0.001")
    assert said(rows(frame, decoder))[:3] == [(Kind.FRAME, 0, 1), (Kind.TICK, 1_000, 0), (Kind.BOOK, 0, 0)]
    assert said(rows(frame, decoder))[:2] == [(Kind.FRAME, 0, 1), (Kind.BOOK, 0, 0)]


def test_an_array_is_each_of_its_frames() -> None:
    other = {**book(SNOW.yes_token, [("0.2", "5")], []), "market": "0xsn"}
    found = rows([book(YES, [("0.44", "9")], []), book(NO, [], [("0.56", "9")]), other])
    assert [(kind, place) for _, kind, place, _, _ in found] == [
        (Kind.FRAME, 0),
        (Kind.BOOK, 0),
        (Kind.BID, 0),
        (Kind.END, 0),
        (Kind.FRAME, 0),
        (Kind.FRAME, 1),
        (Kind.BOOK, 1),
        (Kind.BID, 1),
        (Kind.END, 1),
    ]
    assert rows([]) == []


# Prints


@pytest.mark.parametrize(
    ("asset", "side", "row"),
    [
        (YES, "BUY", (Kind.BOUGHT, 313_700, 4_250_000)),
        (YES, "SELL", (Kind.SOLD, 313_700, 4_250_000)),
        (NO, "BUY", (Kind.SOLD, 686_300, 4_250_000)),
        (NO, "SELL", (Kind.BOUGHT, 686_300, 4_250_000)),
    ],
)
def test_a_print_is_turned_to_yes_terms_and_may_stand_off_the_tick_grid(asset: str, side: str, row: tuple[int, int, int]) -> None:
    assert said(rows(trade(asset, side, "0.3137", "4.25"))) == [(Kind.FRAME, 0, 2 if asset == NO else 0), row]


def test_a_print_of_nothing_is_only_a_frame() -> None:
    assert said(rows(trade(YES, "BUY", "0.31", "0"))) == [(Kind.FRAME, 0, 0)]


# Ticks, ends and the rest


def test_a_tick_change_sent_for_both_tokens_happens_once() -> None:
    decoder = Decoder([RAIN])
    assert said(rows(tick_change(NO, "0.001"), decoder)) == [(Kind.FRAME, 0, 0), (Kind.TICK, 1_000, 0)]
    assert said(rows(tick_change(YES, "0.001"), decoder)) == [(Kind.FRAME, 0, 0)]
    assert said(rows(tick_change(YES, "0.01"), decoder)) == [(Kind.FRAME, 0, 0), (Kind.TICK, 10_000, 0)]


def test_a_tick_lost_with_a_bad_message_is_said_again() -> None:
    decoder = Decoder([RAIN])
    with pytest.raises(BadFrame, match="not between"):
        rows([tick_change(YES, "0.001"), trade(YES, "BUY", "1.5", "2")], decoder)
    assert (Kind.TICK, 1_000, 0) in said(rows(tick_change(NO, "0.001"), decoder))


def test_resolution_pays_by_the_winning_token() -> None:
    assert said(rows(resolved(YES))) == [(Kind.FRAME, 0, 0), (Kind.RESOLVED, ONE, 0)]
    assert said(rows(resolved(NO))) == [(Kind.FRAME, 0, 0), (Kind.RESOLVED, 0, 0)]


def test_best_bid_ask_proves_only_that_the_feed_lives_and_new_markets_say_nothing() -> None:
    assert said(rows(BEST)) == [(Kind.FRAME, 0, 0)]
    assert rows(NEW) == []


@pytest.mark.parametrize("frame", [{**BEST, "market": "0xff"}, resolved("1", market="0xff"), NEW])
def test_frames_that_come_unasked_for_other_markets_are_ignored(frame: object) -> None:
    assert rows(frame) == []


# Which markets


def test_wanted_markets_are_numbered_anew_and_the_others_are_silent() -> None:
    decoder = Decoder([RAIN, SNOW], only={"snow"})
    assert decoder.markets == (SNOW,)
    assert rows(price_change(change(YES, "BUY", "0.3", "4")), decoder) == []
    frame = price_change(change(SNOW.yes_token, "BUY", "0.3", "4"), market="0xsn")
    assert [place for _, _, place, _, _ in rows(frame, decoder)] == [0, 0, 0]
    assert Decoder([RAIN, SNOW]).markets == (RAIN, SNOW)


# Amounts


@given(st.one_of(st.from_regex(r"-?[0-9]{0,16}\.?[0-9]{0,8}", fullmatch=True), st.text(max_size=6)))
@example("198.25")
@example("5.")
@example(".48")
@example(".")
@example("0.0000001")
@example("1.5000000")
@example("1.-5")
@example("²")
@example("١٢")
@example("1_0")
@example(" 7")
@example("0000000000000007")
@example("000000000000000007")
def test_a_size_is_what_the_units_read_and_no_other_text_is_one(written: str) -> None:
    frame = price_change(change(YES, "BUY", "0.3", written))
    try:
        amount = parse(written)
    except ValueError:
        amount = -1
    if 0 <= amount <= 10**18:
        assert said(rows(frame))[1] == (Kind.BID, 300_000, amount)
    else:
        with pytest.raises(BadFrame):
            rows(frame)


# What is refused


CHANGE = change(YES, "BUY", "0.3", "4")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (price_change(change(YES, "BUY", "1.01", "4")), "price 1.01 is not between 0 and 1"),
        (price_change(change(YES, "BUY", "-0.1", "4")), "price -0.1 is not between"),
        (price_change(change(YES, "BUY", "0.3", "-4")), "size -4 is not between"),
        (price_change(change(YES, "BUY", "0.3", "9999999999999")), "size 9999999999999 is not between"),
        (price_change(change(NO, "BUY", "0.3", "-4")), "size -4"),
        (price_change(change(YES, "BUY", "NaN", "4")), "'NaN' is not a plain decimal"),
        (price_change(change(YES, "BUY", "0.3", "Infinity")), "'Infinity' is not a plain decimal"),
        (price_change(change(YES, "BUY", "3e-1", "4")), "'3e-1' is not a plain decimal"),
        (price_change(change(YES, "BUY", "", "4")), "'' is not a plain decimal"),
        (price_change(change(YES, "BUY", "0.3000001", "4")), "more than six decimals"),
        (price_change(change(YES, "BUY", "0.3", "4", best_bid="1.2")), "price 1.2"),
        (price_change(change(YES, "BUY", "0.3", "4", best_ask="-1")), "best_ask -1"),
        (price_change(change(YES, "BID", "0.3", "4")), "'BID'"),
        (price_change(change("999", "BUY", "0.3", "4")), "asset 999 is not of market rain"),
        (price_change(change(SNOW.yes_token, "BUY", "0.3", "4")), "asset 8303 is not of market rain"),
        (price_change({**CHANGE, "price": 0.3}), r"Expected `str`, got `float`.*price"),
        (price_change(without(CHANGE, "size")), "missing required field `size`"),
        (price_change(CHANGE, market="0xff"), "market 0xff, which is not among"),
        (without(price_change(CHANGE), "market"), "missing required field `market`"),
        (without(price_change(CHANGE), "price_changes"), "missing required field `price_changes`"),
        (without(price_change(CHANGE), "event_type"), "without `event_type`"),
        ({**price_change(CHANGE), "event_type": "last_rites"}, "unknown event type last_rites"),
        ({**price_change(CHANGE), "event_type": 7}, "unknown event type 7"),
        ({"event_type": "price_change", "market": "0xra", "asset_id": YES, "changes": [CHANGE]}, "in the form before 2025-09-15"),
        ({"event_type": "price_change", "market": "0xra", **CHANGE}, "in the form before 2025-09-15"),
        (book(YES, [("0.4", "-1")], []), "size -1"),
        (book(YES, [], [("1.4", "1")]), "price 1.4"),
        (book(NO, [("0.4", "?")], []), "'\\?' is not a plain decimal"),
        (book("999", [], []), "asset 999"),
        (book(YES, [], [], tick_size="0.02"), "tick 0.02 is none of the venue's: 0.1, 0.01"),
        (without(book(YES, [], []), "asks"), "missing required field `asks`"),
        (trade(YES, "BUY", "0.3", "-4"), "size -4"),
        (trade(NO, "SELL", "2", "4"), "price 2"),
        (trade("999", "BUY", "0.3", "4"), "asset 999"),
        (without(trade(YES, "BUY", "0.3", "4"), "side"), "missing required field `side`"),
        (tick_change(YES, "0.03"), "tick 0.03"),
        (tick_change("999", "0.001"), "asset 999"),
        (resolved("999"), "asset 999"),
        ({**BEST, "asset_id": "999"}, "asset 999"),
        ([trade(YES, "BUY", "0.3", "4"), "PONG"], "neither a JSON object nor an array"),
        ("PONG", "neither a JSON object nor an array"),
        (None, "neither a JSON object nor an array"),
    ],
)
def test_a_bad_frame_is_refused_in_one_line_that_says_why(message: object, why: str) -> None:
    for frame in (encoded(message), as_sent(message)):
        with pytest.raises(BadFrame, match=why) as refusal:
            Decoder([RAIN, SNOW]).rows(NOW, frame)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("frame", [b"", b"PONG", b"{", b'{"event_type":"book"}x', b"\xff\xfe", b'{"event_type":"\xff"}', b"[" * 100_000])
def test_bytes_that_are_not_json_are_refused(frame: bytes) -> None:
    with pytest.raises(BadFrame, match="JSON"):
        Decoder([RAIN]).rows(NOW, frame)


def test_foreign_text_in_a_refusal_is_cut_and_printable() -> None:
    with pytest.raises(BadFrame) as refusal:
        rows({**price_change(CHANGE), "market": "\x1b[2J\n" + "x" * 500})
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 200


# Laws

PRICES = st.integers(1, ONE - 1)
SIZES = st.integers(1, 10**12)


@given(st.sampled_from(["BUY", "SELL"]), PRICES, SIZES)
@example("BUY", 1, 1)
@example("SELL", ONE - 1, 10**12)
def test_a_print_says_the_same_on_either_token(side: str, price: int, size: int) -> None:
    other = "SELL" if side == "BUY" else "BUY"
    on_yes, on_no = rows(trade(YES, side, text(price), text(size))), rows(trade(NO, other, text(ONE - price), text(size)))
    assert on_yes[1:] == on_no[1:]
    assert (said(on_yes)[0], said(on_no)[0]) == ((Kind.FRAME, 0, 0), (Kind.FRAME, 0, 2))


@given(
    st.lists(st.tuples(st.sampled_from(["BUY", "SELL"]), PRICES, st.integers(0, 10**12)), min_size=1, max_size=8),
    st.integers(0, ONE - 1),
    st.integers(1, ONE),
)
@example([("BUY", 310_000, 0)], 0, ONE)
@example([("SELL", ONE - 1, 5)], ONE - 1, 1)
def test_mirrored_changes_add_no_level_and_state_the_same_touch(changes: list[tuple[str, int, int]], bid: int, ask: int) -> None:
    yes = [change(YES, side, text(p), text(s), best_bid=text(bid), best_ask=text(ask)) for side, p, s in changes]
    no = [
        change(NO, "SELL" if side == "BUY" else "BUY", text(ONE - p), text(s), best_bid=text(ONE - ask), best_ask=text(ONE - bid))
        for side, p, s in changes
    ]
    both = [c for pair in zip(yes, no, strict=True) for c in pair]
    assert rows(price_change(*both))[1:] == rows(price_change(*yes))[1:]
    assert rows(price_change(*no))[1:] == rows(price_change(*yes))[-1:]
    assert rows(price_change(*both))[0][3] == 2 * len(changes)


CHANGES = st.builds(
    change,
    st.sampled_from([YES, YES, NO, NO, SNOW.yes_token]),
    st.sampled_from(["BUY", "SELL", "SELL", "HOLD"]),
    st.one_of(PRICES.map(text), st.sampled_from(["0.5", "0", "1.5", "?"])),
    st.one_of(SIZES.map(text), st.sampled_from(["0", "-1"])),
    best_bid=st.one_of(st.none(), st.integers(0, ONE).map(text), st.just("")),
    best_ask=st.one_of(st.none(), st.integers(0, ONE + 1).map(text), st.just("")),
)


@given(st.lists(CHANGES, max_size=5), st.sampled_from(["0xra", "0xra", "0xsn", "0xff"]))
@example([change(NO, "BUY", "0.31", "7", best_bid="0.3", best_ask="0.36"), change(YES, "SELL", "0.69", "7")], "0xra")
@example([change(YES, "SELL", "0.7", "7"), change(NO, "BUY", "1.5", "7")], "0xra")
def test_changes_say_the_same_wherever_their_kind_stands(changes: list[dict[str, Any]], market: str) -> None:
    message = price_change(*changes, market=market)
    for decoder in (Decoder([RAIN, SNOW]), Decoder([RAIN, SNOW], only={"snow"})):
        assert outcome(decoder, as_sent(message)) == outcome(decoder, encoded(message))


def outcome(decoder: Decoder, frame: bytes) -> list[Row] | str:
    try:
        return decoder.rows(NOW, frame)
    except BadFrame as e:
        return str(e)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"event_type":"book","market":"0xra","price_changes":[],"event_type":"price_change"}',
        b'{"market":"0xra","price_changes":[],"x":{"event_type":"price_change"}',
        b'[{"market":"0xra","price_changes":[],"event_type":"price_change"}',
        b'{"market":"0xra","price_changes":{},"event_type":"price_change"}',
        b'{"market":"0x\xff","price_changes":[],"event_type":"price_change"}',
        b'"event_type":"price_change"}',
    ],
)
def test_an_ending_alone_makes_no_frame_of_changes(frame: bytes) -> None:
    with pytest.raises(BadFrame):
        Decoder([RAIN]).rows(NOW, frame)


@given(st.dictionaries(PRICES, st.integers(0, 10**12), max_size=12), st.dictionaries(PRICES, st.integers(0, 10**12), max_size=12))
def test_the_rows_of_a_book_are_its_levels(bids: dict[int, int], asks: dict[int, int]) -> None:
    frame = book(YES, [(text(p), text(s)) for p, s in bids.items()], [(text(p), text(s)) for p, s in asks.items()])
    found = said(rows(frame))
    assert {a: b for kind, a, b in found if kind == Kind.BID} == {p: s for p, s in bids.items() if s}
    assert {a: b for kind, a, b in found if kind == Kind.ASK} == {p: s for p, s in asks.items() if s}


# Tape


def test_a_tape_gives_back_what_was_put_on_it_every_time() -> None:
    tape: Tape = Tape((RAIN, SNOW), clock="receive", source="here")
    first, second = rows(book(YES, [("0.4", "1000000000000")], [])), rows(trade(NO, "BUY", "0.3", "0.000001"))
    tape.extend(first)
    tape.extend([])
    tape.extend(second)
    feed: Feed = tape
    assert list(feed.rows()) == list(feed.rows()) == first + second
    assert (feed.name, tape.frames, tape.has_books) == ("recording", 2, True)


def test_a_tape_of_changes_alone_has_no_books() -> None:
    tape = Tape((RAIN,), clock="exchange", source="here")
    assert (list(tape.rows()), tape.frames, tape.has_books) == ([], 0, False)
    tape.extend(rows(price_change(CHANGE)) + rows(book(NO, [], [])))
    assert (tape.frames, tape.has_books) == (2, False)


# Real and reference messages of others


def markets_for(message: Any) -> list[Market]:
    """Markets that make the assets of a sample known: each stands as the YES token, unless it is second in its frame."""
    frame = message[0] if isinstance(message, list) else message
    assets = [c["asset_id"] for c in frame.get("price_changes", ())] or frame.get("assets_ids") or [frame["asset_id"]]
    yes, *others = dict.fromkeys([*assets, "1"])
    tick, least = Price(10_000), Shares(5_000_000)
    return [Market(slug="sample", condition_id=frame["market"], yes_token=yes, no_token=others[0], tick=tick, min_size=least)]


@pytest.mark.parametrize(
    ("sample", "kinds"),
    [
        ("python/ws_messages/book.json", {Kind.FRAME, Kind.BOOK, Kind.BID, Kind.ASK, Kind.END}),
        ("python/ws_messages/last_trade_price.json", {Kind.FRAME, Kind.SOLD}),
        ("python/ws_messages/price_change_v2.json", {Kind.FRAME, Kind.BID, Kind.END}),
        ("python/ws_messages/tick_size_change.json", {Kind.FRAME, Kind.TICK}),
        ("rust/ws_market_best_bid_ask_msg.json", {Kind.FRAME}),
        ("rust/ws_market_book_msg.json", {Kind.FRAME, Kind.BOOK, Kind.BID, Kind.ASK, Kind.END}),
        ("rust/ws_market_last_trade_msg.json", {Kind.FRAME, Kind.BOUGHT}),
        ("rust/ws_market_new_market_msg.json", set()),
        ("rust/ws_market_price_change_msg.json", {Kind.FRAME, Kind.BID, Kind.END}),
        ("rust/ws_market_resolved_msg.json", {Kind.FRAME, Kind.RESOLVED}),
        ("rust/ws_market_tick_size_msg.json", {Kind.FRAME}),
    ],
)
def test_reference_messages_decode(market_data: Path, sample: str, kinds: set[int]) -> None:
    frame = (market_data / "polymarket" / "wire-samples" / "nautilus" / sample).read_bytes()
    decoder = Decoder(markets_for(json.loads(frame)))
    assert {kind for _, kind, _, _, _ in decoder.rows(NOW, frame)} == kinds


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        ("python/ws_messages/price_change.json", "in the form before 2025-09-15"),
        ("python/ws_messages/order_placement.json", "unknown event type order"),
        ("rust/ws_book_snapshot.json", "without `event_type`"),
        ("rust/ws_last_trade.json", "without `event_type`"),
        ("rust/ws_quotes.json", "without `event_type`"),
        ("rust/ws_tick_size_change.json", "without `event_type`"),
        ("rust/ws_user_trade_msg.json", "unknown event type trade"),
    ],
)
def test_reference_messages_of_another_form_are_refused(market_data: Path, sample: str, why: str) -> None:
    frame = (market_data / "polymarket" / "wire-samples" / "nautilus" / sample).read_bytes()
    with pytest.raises(BadFrame, match=why):
        Decoder([RAIN]).rows(NOW, frame)


def test_real_books_and_trades_decode(market_data: Path) -> None:
    folder = market_data / "polymarket" / "wire-samples" / "ssmd"
    for line in (folder / "polymarket_book.jsonl").read_bytes().splitlines():
        frame = json.loads(line)
        found = Decoder(markets_for(frame)).rows(NOW, line)
        assert len([row for row in found if row[1] in (Kind.BID, Kind.ASK)]) == len(frame["bids"]) + len(frame["asks"])
        assert (Kind.TICK in {row[1] for row in found}) == (frame["tick_size"] == "0.001")
    for line in (folder / "polymarket_trade.jsonl").read_bytes().splitlines():
        frame = json.loads(line)
        row = Decoder(markets_for(frame)).rows(NOW, line)[1]
        assert (row[1], text(row[3])) == (Kind.SOLD if frame["side"] == "SELL" else Kind.BOUGHT, frame["price"])
