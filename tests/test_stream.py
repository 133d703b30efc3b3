"""The live feed against servers on loopback: what it sends, what it yields, what it counts, and that it always ends."""

import itertools
import json
import signal
import threading
import time
from collections.abc import Callable
from random import Random
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import BookServer, Gone, Peer, WebSocketServer, send_slowly, unused_port

from mmtools.trading.market import Market
from mmtools.units import Price, Shares
from mmtools.venues.stream import LiveFeed, Timing, backoff_ms, steady_clock
from mmtools.venues.venue import Kind, Row

FIRST = Market(slug="first", condition_id="0x1", yes_token="11", no_token="12", tick=Price(10_000), min_size=Shares(5_000_000))
SECOND = Market(slug="second", condition_id="0x2", yes_token="21", no_token="22", tick=Price(1_000), min_size=Shares(5_000_000))
QUICK = Timing(turn=20, ping=30, dead=5_000, quiet=5_000, doubt=40, connect=2_000, rest=2_000)
BOUND_MS = 5_000


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def book(market: Market, bid: str, ask: str, *, token: str | None = None, stamp: int = 1_700_000_000_000) -> dict[str, object]:
    return {
        "event_type": "book",
        "market": market.condition_id,
        "asset_id": token or market.yes_token,
        "timestamp": str(stamp),
        "hash": "",
        "bids": [{"price": "0.02", "size": "900"}, {"price": bid, "size": "30"}],
        "asks": [{"price": "0.99", "size": "800"}, {"price": ask, "size": "70"}],
    }


def change(market: Market, price: str, size: str, side: str, bid: str, ask: str, *, stamp: int = 1_700_000_001_000) -> str:
    one = {"asset_id": market.yes_token, "price": price, "size": size, "side": side, "hash": "", "best_bid": bid, "best_ask": ask}
    return json.dumps({"event_type": "price_change", "market": market.condition_id, "timestamp": str(stamp), "price_changes": [one]})


def trade(market: Market, price: str, size: str, side: str, token: str) -> str:
    sent = {"event_type": "last_trade_price", "market": market.condition_id, "asset_id": token, "price": price, "size": size, "side": side}
    return json.dumps({**sent, "fee_rate_bps": "0", "timestamp": "1700000002000"})


SNAPSHOT = json.dumps([book(FIRST, "0.45", "0.47"), book(FIRST, "0.53", "0.55", token="12"), book(SECOND, "0.801", "0.812")])


def snapshot_then(*frames: str | bytes, hang_up: bool = False, pong: bool = True) -> Callable[[Peer], None]:
    """A server that waits for the subscription, sends the snapshot and the frames in one write, and stays unless it hangs up."""

    def script(peer: Peer) -> None:
        assert peer.receive() is not None
        peer.send(SNAPSHOT, *frames)
        if not hang_up:
            peer.serve(pong=pong)

    return script


def silent(peer: Peer) -> None:
    peer.serve()


def feed_of(server: WebSocketServer, *, timing: Timing = QUICK, duration_ms: int = BOUND_MS, **more: object) -> LiveFeed:
    arguments = {"rest": f"http://127.0.0.1:{unused_port()}", "rng": Random(1), **more}
    return LiveFeed([FIRST, SECOND], url=server.url, duration_ms=duration_ms, timing=timing, **arguments)  # type: ignore[arg-type]


def until(feed: LiveFeed, enough: Callable[[list[Row]], bool]) -> list[Row]:
    """Read until there is enough, then end the feed as its user would, and fail if there never is."""
    rows: list[Row] = []
    for row in feed.rows():
        rows.append(row)
        if enough(rows):
            feed.stop()
    assert enough(rows), f"the feed ended first; errors {feed.stats.errors}"
    return rows


def said(rows: list[Row], *kinds: int) -> list[tuple[int, int, int, int]]:
    """The rows without their times; of these kinds only, or all but CLOCK."""
    return [row[1:] for row in rows if (row[1] in kinds if kinds else row[1] != Kind.CLOCK)]


def has(kind: int, count: int = 1) -> Callable[[list[Row]], bool]:
    return lambda rows: sum(row[1] == kind for row in rows) >= count


# what is sent


def test_every_token_is_subscribed_right_after_connecting() -> None:
    with WebSocketServer(snapshot_then()) as server:
        until(feed_of(server), has(Kind.END, 2))
    assert server.peers[0].path == "/ws/market"
    assert json.loads(server.peers[0].received[0]) == {
        "type": "market",
        "assets_ids": ["11", "12", "21", "22"],
        "custom_feature_enabled": True,
    }


def test_text_pings_go_out_while_the_market_is_silent_and_their_pongs_are_no_messages() -> None:
    with WebSocketServer(snapshot_then()) as server:
        feed = feed_of(server)
        until(feed, lambda rows: server.peers != [] and server.peers[0].received.count("PING") >= 3)
    assert feed.stats.messages == 1
    assert not feed.stats.errors


def test_stopping_says_goodbye() -> None:
    with WebSocketServer(snapshot_then()) as server:
        until(feed_of(server), has(Kind.END, 2))
        assert server.peers[0].said_goodbye.wait(3)


# what is yielded


def test_the_array_snapshot_becomes_yes_books_without_lost_or_restored() -> None:
    with WebSocketServer(snapshot_then()) as server:
        feed = feed_of(server)
        rows = until(feed, has(Kind.END, 2))
    assert said(rows) == [
        (Kind.FRAME, 0, 0, 1),
        (Kind.BOOK, 0, 0, 0),
        (Kind.BID, 0, 20_000, 900_000_000),
        (Kind.BID, 0, 450_000, 30_000_000),
        (Kind.ASK, 0, 990_000, 800_000_000),
        (Kind.ASK, 0, 470_000, 70_000_000),
        (Kind.END, 0, -1, -1),
        (Kind.FRAME, 0, 0, 1),
        (Kind.FRAME, 1, 0, 1),
        (Kind.BOOK, 1, 0, 0),
        (Kind.BID, 1, 20_000, 900_000_000),
        (Kind.BID, 1, 801_000, 30_000_000),
        (Kind.ASK, 1, 990_000, 800_000_000),
        (Kind.ASK, 1, 812_000, 70_000_000),
        (Kind.END, 1, -1, -1),
    ]
    assert (feed.name, feed.markets, len(feed.sha256)) == ("live", (FIRST, SECOND), 64)


def test_frames_waiting_in_one_packet_each_get_their_own_receive_time() -> None:
    ticks = itertools.count(1_700_000_000_000)
    changes = [change(FIRST, "0.44", size, "BUY", "0.45", "0.47") for size in ("1", "2", "3")]
    with WebSocketServer(snapshot_then(*changes)) as server:
        rows = until(feed_of(server, clock=lambda: next(ticks), duration_ms=10**9), has(Kind.END, 5))
    times = [row[0] for row in rows if row[1] == Kind.FRAME and row[4] == 0]
    assert len(set(times)) == 3
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_silence_is_told_by_clock_rows() -> None:
    with WebSocketServer(silent) as server:
        rows = until(feed_of(server), lambda rows: has(Kind.CLOCK, 5)(rows) and server.peers[0].received != [])
    assert {row[1:] for row in rows} == {(Kind.CLOCK, -1, 0, 0)}


def test_level_rows_before_the_first_book_are_held_back_but_prints_are_not() -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        early = change(FIRST, "0.44", "5", "BUY", "0.44", "0.48"), trade(FIRST, "0.55", "4", "BUY", "12")
        peer.send(*early, json.dumps(book(FIRST, "0.45", "0.47")))
        peer.serve()

    with WebSocketServer(script) as server:
        rows = said(until(feed_of(server), has(Kind.END)))
    assert rows[:4] == [(Kind.FRAME, 0, 1, 0), (Kind.FRAME, 0, 0, 0), (Kind.SOLD, 0, 450_000, 4_000_000), (Kind.FRAME, 0, 0, 1)]
    assert rows[4] == (Kind.BOOK, 0, 0, 0)


def test_changes_wait_for_the_book_and_pass_after_it_alone_as_in_an_array() -> None:
    early, late = change(FIRST, "0.44", "5", "BUY", "0.44", "0.48"), change(FIRST, "0.46", "7", "SELL", "0.45", "0.46")
    alone, in_array = (LiveFeed([FIRST, SECOND], duration_ms=None) for _ in range(2))
    for message, kinds in (
        (early, [Kind.FRAME]),
        (json.dumps(book(FIRST, "0.45", "0.47")), [Kind.FRAME, Kind.BOOK, Kind.BID, Kind.BID, Kind.ASK, Kind.ASK, Kind.END]),
        (late, [Kind.FRAME, Kind.ASK, Kind.END]),
        (change(SECOND, "0.804", "9", "BUY", "0.803", "0.812"), [Kind.FRAME]),
    ):
        rows = alone.read(5, message.encode())
        assert [row[1] for row in rows] == kinds
        assert in_array.read(5, f"[{message}]".encode()) == rows


def test_a_frame_that_trickles_in_leaves_room_for_the_clock() -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        send_slowly(peer, SNAPSHOT, pieces=60, pause_s=0.003)
        peer.serve()

    with WebSocketServer(script) as server:
        feed = feed_of(server)
        rows = until(feed, has(Kind.END, 2))
    assert len(said(rows)) == 15
    assert has(Kind.CLOCK, 3)(rows)
    assert not feed.stats.errors


def test_garbage_is_dropped_and_counted_and_the_stream_goes_on() -> None:
    garbage: list[str | bytes] = [
        b"\xff\xfe\x00",
        '{"event_type":"book"',
        "PINGPONG",
        "[1,2]",
        change(FIRST, "-3", "5", "BUY", "0.4", "0.5"),
        "",
        "null",
    ]
    with WebSocketServer(snapshot_then(*garbage, change(SECOND, "0.803", "9", "BUY", "0.803", "0.812"))) as server:
        feed = feed_of(server)
        rows = until(feed, has(Kind.END, 3))
    assert said(rows)[-3:] == [(Kind.FRAME, 1, 1, 0), (Kind.BID, 1, 803_000, 9_000_000), (Kind.END, 1, 803_000, 812_000)]
    assert feed.stats.errors == {"bad_frame": 7}
    assert (feed.stats.messages, feed.stats.reconnects, len(server.peers)) == (9, 0, 1)


def test_latency_is_receive_time_less_the_stamp_of_the_frame_and_a_snapshot_has_none() -> None:
    late = change(FIRST, "0.44", "5", "BUY", "0.45", "0.47", stamp=1_700_000_000_000)
    seen: list[float | None] = []
    with WebSocketServer(snapshot_then(late)) as server:
        feed = feed_of(server, clock=lambda: 1_700_000_000_037)
        for row in feed.rows():
            if row[1] == Kind.END:
                seen.append(feed.stats.latency_ms)
            if len(seen) == 3:
                feed.stop()
    assert seen == [None, None, 37.0]


# losing and finding again


@pytest.mark.parametrize("politely", [True, False])
def test_each_market_is_lost_and_restored_only_by_its_own_yes_book(politely: bool) -> None:
    def first(peer: Peer) -> None:
        snapshot_then(hang_up=True)(peer)
        if politely:
            peer.send_close()
            peer.receive(1)

    def second(peer: Peer) -> None:
        peer.receive()
        peer.send(
            change(FIRST, "0.40", "5", "BUY", "0.40", "0.48"),
            json.dumps([book(FIRST, "0.53", "0.55", token="12")]),
            json.dumps([book(SECOND, "0.805", "0.815")]),
            json.dumps(book(FIRST, "0.44", "0.46")),
        )
        peer.serve()

    with WebSocketServer(first, second) as server:
        feed = feed_of(server)
        rows = until(feed, has(Kind.END, 4))
    told = said(rows)
    after = told[told.index((Kind.LOST, 0, 0, 0)) :]
    assert after[:6] == [
        (Kind.LOST, 0, 0, 0),
        (Kind.LOST, 1, 0, 0),
        (Kind.FRAME, 0, 1, 0),
        (Kind.FRAME, 0, 0, 1),
        (Kind.RESTORED, 1, 0, 0),
        (Kind.FRAME, 1, 0, 1),
    ]
    assert after[12:15] == [(Kind.RESTORED, 0, 0, 0), (Kind.FRAME, 0, 0, 1), (Kind.BOOK, 0, 0, 0)]
    assert said(rows, Kind.LOST, Kind.RESTORED) == [(Kind.LOST, 0, 0, 0), (Kind.LOST, 1, 0, 0), *after[4:5], *after[12:13]]
    assert feed.stats.errors == {"connection_lost": 1}
    assert feed.stats.reconnects == 1
    assert server.peers[0].received[0] == server.peers[1].received[0]


def test_a_market_not_yet_restored_is_not_lost_a_second_time() -> None:
    def only_second_market(peer: Peer) -> None:
        peer.receive()
        peer.send(json.dumps([book(SECOND, "0.805", "0.815")]))

    with WebSocketServer(snapshot_then(hang_up=True), only_second_market, snapshot_then()) as server:
        rows = until(feed_of(server), has(Kind.RESTORED, 3))
    assert [row[1:3] for row in rows if row[1] in (Kind.LOST, Kind.RESTORED)] == [
        (Kind.LOST, 0),
        (Kind.LOST, 1),
        (Kind.RESTORED, 1),
        (Kind.LOST, 1),
        (Kind.RESTORED, 0),
        (Kind.RESTORED, 1),
    ]


def test_a_connection_that_answers_no_ping_is_given_up() -> None:
    timing = Timing(turn=10, ping=20, dead=200, quiet=5_000)
    with WebSocketServer(snapshot_then(pong=False), snapshot_then()) as server:
        feed = feed_of(server, timing=timing)
        until(feed, has(Kind.RESTORED, 2))
    assert feed.stats.errors == {"no_pong": 1}
    assert "PING" in server.peers[0].received


def test_a_slow_reader_is_no_reason_to_give_a_connection_up() -> None:
    timing = Timing(turn=10, ping=20, dead=280, quiet=5_000)
    with WebSocketServer(snapshot_then()) as server:
        feed = feed_of(server, timing=timing)
        ends = 0
        for row in feed.rows():
            if row[1] == Kind.END:
                time.sleep(0.3)
                ends += 1
            if ends == 2 and server.peers[0].received.count("PING") >= 3:
                feed.stop()
    assert not feed.stats.errors


def test_a_connection_that_never_sends_a_frame_is_given_up() -> None:
    with WebSocketServer(silent, snapshot_then()) as server:
        feed = feed_of(server, timing=Timing(turn=10, ping=20, quiet=100))
        until(feed, has(Kind.RESTORED, 2))
    assert feed.stats.errors == {"no_snapshot": 1}


def test_without_anybody_listening_the_feed_says_lost_once_keeps_trying_and_ends_with_its_duration() -> None:
    feed = LiveFeed([FIRST, SECOND], url=f"ws://127.0.0.1:{unused_port()}", duration_ms=700, rng=Random(1), timing=QUICK)
    rows = list(feed.rows())
    assert said(rows) == [(Kind.LOST, 0, 0, 0), (Kind.LOST, 1, 0, 0)]
    assert rows[-1][1] == Kind.CLOCK
    assert feed.stats.errors["connect_failed"] >= 2
    assert not feed.stats.connected
    assert feed.stats.reconnects == 0


def test_a_server_that_never_answers_the_handshake_holds_nobody_up() -> None:
    with WebSocketServer(silent, shake_hands=False) as server:
        feed = feed_of(server, timing=Timing(turn=10, connect=80), duration_ms=300)
        rows = list(feed.rows())
    assert said(rows) == [(Kind.LOST, 0, 0, 0), (Kind.LOST, 1, 0, 0)]
    assert feed.stats.errors
    assert set(feed.stats.errors) <= {"connect_timeout", "connect_failed"}
    assert has(Kind.CLOCK, 5)(rows)


@pytest.mark.parametrize(
    "answer", [b"\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 503 No\r\n\r\n", b"HTTP/1.1 1o1 x\r\n\r\n", b"\xff\xfe\n", b""]
)
def test_an_answer_that_is_no_handshake_is_a_failed_attempt(answer: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.send_raw(answer)

    def shakes_hands(peer: Peer) -> None:
        peer.shake_hands()
        snapshot_then()(peer)

    with WebSocketServer(script, shakes_hands, shake_hands=False) as server:
        feed = feed_of(server)
        until(feed, has(Kind.RESTORED, 2))
    assert feed.stats.errors == {"connect_failed": 1}


def test_a_frame_that_breaks_the_protocol_is_a_lost_connection() -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send_raw(b"\xff\x00")
        peer.serve()

    with WebSocketServer(script, snapshot_then()) as server:
        feed = feed_of(server)
        until(feed, has(Kind.RESTORED, 2))
    assert feed.stats.errors == {"connection_lost": 1}


def test_a_connection_that_comes_about_too_late_is_closed() -> None:
    gone, feed_is_over = threading.Event(), threading.Event()

    def late(peer: Peer) -> None:
        assert feed_is_over.wait(3)
        peer.shake_hands()
        try:
            peer.serve()
        except Gone:
            gone.set()
            raise

    with WebSocketServer(late, shake_hands=False) as server:
        assert set(said(list(feed_of(server, duration_ms=50).rows()))) == set()
        feed_is_over.set()
        assert gone.wait(3)


class LoadedDice(Random):
    """Always draws the least, and remembers the most that it could have drawn."""

    def __init__(self) -> None:
        super().__init__(0)
        self.most: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.most.append(b)
        return a


def test_backoff_grows_until_a_connection_says_something() -> None:
    def hangs_up(peer: Peer) -> None:
        peer.receive()

    dice = LoadedDice()
    with WebSocketServer(hangs_up, hangs_up, hangs_up, snapshot_then(hang_up=True), hangs_up, snapshot_then()) as server:
        feed = feed_of(server, rng=dice)
        until(feed, has(Kind.RESTORED, 4))
    assert dice.most == [250, 500, 1000, 250, 500]
    assert feed.stats.reconnects == 5


# silence


def rest_book(token: str, bid: str, ask: str) -> dict[str, object]:
    levels = {"bids": [{"price": "0.03", "size": "8"}, {"price": bid, "size": "1"}], "asks": [{"price": ask, "size": "1"}]}
    return {"market": "0x", "asset_id": token, "timestamp": "1", "hash": "", **levels}


SILENCE = Timing(turn=10, ping=25, quiet=80, doubt=60)


def test_a_silent_market_whose_rest_book_agrees_is_alive() -> None:
    moved = change(FIRST, "0.46", "5", "BUY", "0.46", "0.47")
    with (
        BookServer({"11": rest_book("11", "0.46", "0.47"), "21": rest_book("21", "0.801", "0.812")}) as rest,
        WebSocketServer(snapshot_then(moved)) as server,
    ):
        feed = feed_of(server, timing=SILENCE, rest=rest.url)
        rows = until(feed, has(Kind.ALIVE, 4))
        asked = list(rest.asked)
    assert set(said(rows, Kind.ALIVE)) == {(Kind.ALIVE, 0, 0, 0), (Kind.ALIVE, 1, 0, 0)}
    assert not has(Kind.LOST)(rows)
    assert set(asked) == {"11", "21"}
    assert asked.count("11") <= (rows[-1][0] - rows[0][0]) / SILENCE.quiet


def test_an_empty_side_is_a_touch_that_can_agree() -> None:
    bare = {**book(FIRST, "0.45", "0.47"), "bids": []}

    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(json.dumps([bare]))
        peer.serve()

    with BookServer({"11": {**rest_book("11", "0.45", "0.47"), "bids": []}}) as rest, WebSocketServer(script) as server:
        rows = until(feed_of(server, timing=SILENCE, rest=rest.url), has(Kind.ALIVE))
    assert said(rows, Kind.ALIVE, Kind.LOST) == [(Kind.ALIVE, 0, 0, 0)]


def test_a_rest_book_that_disagrees_costs_the_connection() -> None:
    wrong = rest_book("11", "0.44", "0.47")
    with (
        BookServer({"11": wrong, "21": rest_book("21", "0.801", "0.812")}) as rest,
        WebSocketServer(snapshot_then()) as server,
    ):
        feed = feed_of(server, timing=SILENCE, rest=rest.url)
        rows = until(feed, has(Kind.RESTORED, 2))
    assert feed.stats.errors["rest_disagrees"] == 1
    assert said(rows, Kind.LOST) == [(Kind.LOST, 0, 0, 0), (Kind.LOST, 1, 0, 0)]
    assert (Kind.ALIVE, 0, 0, 0) not in said(rows)


def test_an_answer_that_a_frame_overtook_proves_nothing_and_rest_is_asked_again() -> None:
    answers = itertools.chain([rest_book("11", "0.46", "0.47")], itertools.repeat(rest_book("11", "0.44", "0.47")))
    with BookServer({"11": lambda: next(answers)}, delay_s=0.15) as rest:

        def moves_once_asked(peer: Peer) -> None:
            peer.receive()
            peer.send(json.dumps([book(FIRST, "0.45", "0.47")]))
            while not rest.asked:
                if peer.receive(0.01) == "PING":
                    peer.send("PONG")
            peer.send(change(FIRST, "0.45", "0", "BUY", "0.44", "0.47"))
            peer.serve()

        with WebSocketServer(moves_once_asked) as server:
            feed = feed_of(server, timing=SILENCE, rest=rest.url)
            rows = until(feed, has(Kind.ALIVE))
        assert rest.asked.count("11") >= 2
    assert said(rows, Kind.ALIVE, Kind.LOST) == [(Kind.ALIVE, 0, 0, 0)]


@pytest.mark.parametrize("answer", [500, 404, {"error": "no"}, [], rest_book("99", "0.45", "0.47"), rest_book("11", "x", "0.47")])
def test_a_rest_answer_that_is_no_book_is_counted_and_proves_nothing(answer: object) -> None:
    with BookServer({"11": answer, "21": rest_book("21", "0.801", "0.812")}) as rest, WebSocketServer(snapshot_then()) as server:
        feed = feed_of(server, timing=SILENCE, rest=rest.url)
        rows = until(feed, lambda rows: feed.stats.errors["rest_failed"] > 0 and has(Kind.ALIVE)(rows))
    assert set(said(rows, Kind.ALIVE, Kind.LOST)) == {(Kind.ALIVE, 1, 0, 0)}


def test_a_rest_server_that_stalls_or_is_gone_does_not_hold_the_rows_up() -> None:
    with BookServer({}, delay_s=3) as rest, WebSocketServer(snapshot_then()) as server:
        feed = feed_of(server, timing=Timing(turn=10, ping=15, quiet=80, rest=60), rest=rest.url)
        rows = until(feed, lambda rows: feed.stats.errors["rest_failed"] >= 4)
    assert not has(Kind.ALIVE)(rows)
    assert not has(Kind.LOST)(rows)


@pytest.mark.parametrize("ping", [25, 60])
def test_silence_without_pongs_is_never_called_alive(ping: int) -> None:
    with (
        BookServer({"11": rest_book("11", "0.45", "0.47"), "21": rest_book("21", "0.801", "0.812")}) as rest,
        WebSocketServer(snapshot_then(pong=False)) as server,
    ):
        feed = feed_of(server, timing=Timing(turn=10, ping=ping, quiet=80), rest=rest.url)
        rows = until(feed, lambda rows: len(rest.asked) >= 4)
    assert not has(Kind.ALIVE)(rows)


# ending


def test_a_signal_handler_can_stop_it() -> None:
    with WebSocketServer(snapshot_then()) as server:
        feed = feed_of(server, duration_ms=60_000)

        def handler(number: int, frame: FrameType | None) -> None:
            feed.stop()

        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.15)
            rows = list(feed.rows())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert rows[-1][0] - rows[0][0] < 30_000
    assert not feed.stats.connected


@pytest.mark.parametrize("listening", [True, False])
def test_another_thread_can_stop_it(listening: bool) -> None:
    with WebSocketServer(snapshot_then()) as server:
        url = server.url if listening else f"ws://127.0.0.1:{unused_port()}"
        feed = LiveFeed([FIRST], url=url, duration_ms=60_000, timing=QUICK)
        threading.Timer(0.1, feed.stop).start()
        rows = list(feed.rows())
    assert rows[-1][0] - rows[0][0] < 30_000


def test_the_duration_ends_it() -> None:
    with WebSocketServer(snapshot_then()) as server:
        rows = list(feed_of(server, duration_ms=150).rows())
    assert has(Kind.END, 2)(rows)


def test_leaving_the_loop_closes_the_connection() -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        try:
            snapshot_then()(peer)
        except Gone:
            gone.set()

    with WebSocketServer(script) as server:
        rows = feed_of(server).rows()
        next(row for row in rows if row[1] == Kind.END)
        rows.close()  # type: ignore[attr-defined]
        assert gone.wait(3)


# time and chance


def test_the_clock_does_not_follow_a_wall_clock_that_steps_back() -> None:
    wall, monotonic = [1_000.5], [7.0]
    clock = steady_clock(lambda: wall[0], lambda: monotonic[0])
    assert clock() == 1_000_500
    wall[0], monotonic[0] = 400.0, 7.25
    assert clock() == 1_000_750


@given(st.integers(min_value=0, max_value=10_000), st.integers())
def test_backoff_stays_within_its_bounds(failures: int, seed: int) -> None:
    assert 0 <= backoff_ms(failures, Random(seed)) <= min(30_000, 250 * 2 ** min(failures, 20))


def test_backoff_grows_to_half_a_minute() -> None:
    assert max(backoff_ms(0, Random(seed)) for seed in range(200)) <= 250
    assert 29_000 < max(backoff_ms(50, Random(seed)) for seed in range(200)) <= 30_000


def test_a_duration_of_nothing_yields_nothing_and_connects_nowhere() -> None:
    feed = LiveFeed([FIRST], url=f"ws://127.0.0.1:{unused_port()}", duration_ms=0)
    assert list(feed.rows()) == []
    assert not feed.stats.errors
