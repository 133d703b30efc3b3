"""The live market channel as a Feed: one public WebSocket, read in the thread of whoever iterates `rows()`.

Here are connecting, subscribing, keeping alive, losing and finding again, and when a market is silent. How messages come out of the
socket stands in `frames`; what they mean, in `decoder`; whether a silent book is still true, in `restcheck`; what is done about a loss
is the engine's, the only caller. No secrets.
"""

import hashlib
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent import futures
from contextlib import closing, suppress
from dataclasses import dataclass, field
from random import Random

import msgspec
from websocket import WebSocketException

from mmtools.trading.market import Market
from mmtools.units import ONE
from mmtools.venues import decoder, restcheck
from mmtools.venues.frames import FrameSocket
from mmtools.venues.venue import Kind, Row

URL = "wss://ws-subscriptions-clob.polymarket.com/ws/market"
REST = "https://clob.polymarket.com"
CHECKS_AT_ONCE = 4

_OBJECT = ord("{")
_END = Kind.END
_STAMP = re.compile(rb'"timestamp":\s*"?(\d{1,15})')


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long things take or may take, in ms."""

    turn: int = 100
    """The longest silence between two rows."""
    ping: int = 10_000
    dead: int = 30_000
    """Without a PONG for this long the connection is given up."""
    quiet: int = 20_000
    """A market silent for this long is checked over REST; a connection silent for this long from its start is given up."""
    doubt: int = 2_000
    """How long a REST book may differ from ours before it counts: a frame that explains it may be under way."""
    connect: int = 10_000
    """From resolving the name to the subscription sent."""
    rest: int = 5_000
    """For one REST answer."""


@dataclass(slots=True)
class Stats:
    """What the engine shows of the connection.

    Keys of `errors`: bad_frame (dropped), connect_failed, connect_timeout, connection_lost, no_pong, no_snapshot (each began a
    reconnection), rest_disagrees (did too), rest_failed (a check without a usable answer).
    """

    connected: bool = False
    reconnects: int = 0
    messages: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    stamped: tuple[int, bytes] | None = None
    """The last frame that tells its time, and when it was received. Nobody asks at every frame, so it is not read at every frame."""

    @property
    def latency_ms(self) -> float | None:
        """Receive time less the frame's own timestamp, of the last frame; None before the first, or when that has none."""
        if self.stamped is None:
            return None
        received_ms, frame = self.stamped
        stamp = _STAMP.search(frame)
        return None if stamp is None else float(received_ms - int(stamp[1]))


def steady_clock(wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> Callable[[], int]:
    """Return a clock of ms UTC that never steps back: the wall time of now, then what passes on the monotonic clock."""
    offset = wall() - monotonic()
    return lambda: int((offset + monotonic()) * 1000)


def backoff_ms(failures: int, rng: Random) -> float:
    """Return how long to wait before the next attempt; `failures` counts those since a connection last said something."""
    return rng.uniform(0, min(30_000, 250 * 2 ** min(failures, 7)))


class LiveFeed:
    """A Feed (`venue.Feed`) of the markets' YES and NO tokens, to be read once.

    Level rows of a market are held back until its first `book` on this connection, so that no book is built on a gap.
    LOST and RESTORED alternate per market; RESTORED stands right before the rows of the fresh book.
    """

    def __init__(
        self,
        markets: Sequence[Market],
        *,
        url: str = URL,
        rest: str = REST,
        clock: Callable[[], int] | None = None,
        duration_ms: int | None,
        rng: Random | None = None,
        timing: Timing | None = None,
    ) -> None:
        """clock: ms UTC that never steps back (default: `steady_clock`). duration_ms: from the first row; None is until `stop`."""
        self.name = "live"
        self.markets = tuple(markets)
        self.stats = Stats()
        self._tokens = [token for market in self.markets for token in (market.yes_token, market.no_token)]
        self.sha256 = hashlib.sha256("\n".join(self._tokens).encode()).hexdigest()
        """Of the tokens, in order: a live feed has no content to hash beforehand."""
        self._url = url
        self._rest = rest
        self._clock = clock or steady_clock()
        self._duration_ms = duration_ms
        self._rng = rng or Random()
        self._timing = timing or Timing()
        self._decoder = decoder.Decoder(self.markets)
        self._watches = [_Watch() for _ in self.markets]
        self._checks: list[restcheck.Check] = []
        self._end_ms: float = math.inf
        self._ask_ms = 0
        """Before this time no market can have been silent for long enough to be asked about."""
        self._stopped = False
        self._failures = 0
        self._connections = 0

    def stop(self) -> None:
        """End `rows()` within about two turns. Only sets a flag: an Event's lock could be held by the thread a signal interrupts."""
        self._stopped = True

    def rows(self) -> Iterator[Row]:
        """Yield rows as frames come, and a CLOCK row for each turn without any, until `stop` or the end of the duration.

        No trouble of the network ends it: what is lost is said (LOST), counted (`stats.errors`) and tried again.
        """
        with closing(self._turns()) as turns:
            for rows in turns:
                yield from rows

    def _turns(self) -> Generator[list[Row]]:
        """Yield the rows of each turn, never none."""
        if self._duration_ms is not None:
            self._end_ms = self._clock() + self._duration_ms
        while not self._over():
            try:
                link = yield from self._connect()
                if link is not None:
                    yield from self._listen(link)
            except _Lost as loss:
                self.stats.errors[loss.cause] += 1
                if lost := self._lose():
                    yield lost
                yield from self._wait(backoff_ms(self._failures, self._rng))
                self._failures += 1

    def _over(self) -> bool:
        return self._stopped or self._clock() >= self._end_ms

    def _tick(self) -> list[Row]:
        return [(self._clock(), Kind.CLOCK, -1, 0, 0)]

    def _wait(self, delay_ms: float) -> Iterator[list[Row]]:
        until_ms = self._clock() + delay_ms
        while not self._over() and (left_ms := until_ms - self._clock()) > 0:
            time.sleep(min(left_ms, self._timing.turn) / 1000)
            yield self._tick()

    # connecting

    def _connect(self) -> Generator[list[Row], None, "_Link | None"]:
        """Return a subscribed connection; None when the feed is over first. Raises _Lost when none comes about in time."""
        attempt = restcheck.in_thread(self._open)
        limit_ms = self._clock() + self._timing.connect
        socket: FrameSocket | None = None
        try:
            while not attempt.done():
                futures.wait([attempt], timeout=self._timing.turn / 1000)
                yield self._tick()
                if self._over():
                    return None
                if self._clock() >= limit_ms:
                    raise _Lost("connect_timeout")
            socket = attempt.result()
        except (WebSocketException, OSError, ValueError) as e:
            raise _Lost("connect_failed") from e
        finally:
            if socket is None:  # also when the generator is closed: the attempt may still succeed, with nobody to close it
                attempt.add_done_callback(_discard)
        self._connections += 1
        self.stats.reconnects = self._connections - 1
        return _Link(socket, self._timing, self._clock())

    def _open(self) -> FrameSocket:
        """Connect and subscribe. In a thread of its own, because resolving a name cannot be given a time limit."""
        socket = FrameSocket()
        socket.settimeout(self._timing.connect / 1000)
        socket.connect(self._url)  # type: ignore[no-untyped-call]
        try:
            request = {"type": "market", "assets_ids": self._tokens, "custom_feature_enabled": True}
            socket.send(msgspec.json.encode(request).decode())
            socket.settimeout(self._timing.turn / 1000)
        except BaseException:
            socket.shutdown()  # type: ignore[no-untyped-call]
            raise
        return socket

    def _lose(self) -> list[Row]:
        now = self._clock()
        lost: list[Row] = []
        for market, watch in enumerate(self._watches):
            if not watch.lost:
                watch.lost = True
                lost.append((now, Kind.LOST, market, 0, 0))
        return lost

    # listening

    def _listen(self, link: "_Link") -> Iterator[list[Row]]:
        """Yield what one connection says until the feed is over. Raises _Lost when the connection is."""
        now = self._clock()
        self._checks.clear()
        self._ask_ms = 0
        for watch in self._watches:
            watch.start(now)
        heard = False
        self.stats.connected = True
        try:
            while not self._stopped and now < self._end_ms:
                link.beat(now)
                rows = self._check_silence(now, link) if self._checks or now >= self._ask_ms else []
                frame = link.receive()
                now = self._clock()
                if frame == b"PONG":
                    link.note_pong(now)
                elif frame is not None:
                    heard, self._failures = True, 0
                    rows = rows + self.read(now, frame) if rows else self.read(now, frame)
                elif not heard and now - link.opened_ms >= self._timing.quiet:
                    raise _Lost("no_snapshot")
                yield rows or [(now, Kind.CLOCK, -1, 0, 0)]
                came_ms, now = now, self._clock()
                if now > came_ms:
                    self._excuse(now - came_ms, link)
        finally:
            self.stats.connected = False
            link.close()

    def _excuse(self, held_ms: int, link: "_Link") -> None:
        """Do not hold against the venue the time that the reader of our rows took: what we wait for may lie in the buffer."""
        link.pong_ms += held_ms
        for check in self._checks:
            check.excuse(held_ms)

    def read(self, now: int, frame: bytes) -> list[Row]:
        """Return what a message of the channel says, received at `now`, of the books that we have seen the whole of; for `rows`."""
        self.stats.messages += 1
        try:
            rows = self._decoder.rows(now, frame)
        except decoder.BadFrame:
            self.stats.errors["bad_frame"] += 1
            return []
        if frame[0] != _OBJECT:
            return self._pass(rows)
        # Not of the snapshot, an array: it is stamped with the last change of each book, which may be long ago.
        self.stats.stamped = (now, frame)
        if not rows:
            return rows
        end = rows[-1]
        if end[1] != _END or rows[0][4]:  # anything but a frame of changes
            return self._pass(rows)
        return rows if self._watches[end[2]].passes_changes(end) else rows[:1]

    def _pass(self, rows: list[Row]) -> list[Row]:
        """Return the rows that speak of books of which we have seen the whole, each RESTORED before its first book after a loss."""
        passed: list[Row] = []
        for market in sorted({row[2] for row in rows if row[1] == Kind.BOOK}):
            if self._watches[market].lost:
                self._watches[market].lost = False
                passed.append((rows[0][0], Kind.RESTORED, market, 0, 0))
        passed += [row for row in rows if self._watches[row[2]].passes(row)]
        return passed

    # silence

    def _check_silence(self, now: int, link: "_Link") -> list[Row]:
        """Ask REST about markets that have been silent, and return ALIVE rows where it agrees. Raises _Lost where it does not."""
        alive: list[Row] = []
        for check in self._checks[:]:
            watch = self._watches[check.market]
            verdict = check.verdict(now, watch.heard_ms, watch.touch)
            if verdict == "open":
                continue
            if verdict == "disagrees":
                raise _Lost("rest_disagrees")
            self._checks.remove(check)
            if verdict == "failed":
                self.stats.errors["rest_failed"] += 1
            elif verdict == "agrees" and link.answers(now):
                alive.append((now, Kind.ALIVE, check.market, 0, 0))
        if now >= self._ask_ms:
            self._ask(now)
        return alive

    def _ask(self, now: int) -> None:
        quiet = self._timing.quiet
        self._ask_ms = now + quiet
        for market, watch in enumerate(self._watches):
            if watch.touch is None:
                continue
            due_ms = max(watch.heard_ms, watch.checked_ms) + quiet
            if now >= due_ms and len(self._checks) < CHECKS_AT_ONCE:
                watch.checked_ms = now
                token, timing = self.markets[market].yes_token, self._timing
                check = restcheck.ask(self._rest, token, market=market, now=now, limit_ms=timing.rest, doubt_ms=timing.doubt)
                self._checks.append(check)
            else:
                self._ask_ms = min(self._ask_ms, due_ms)


class _Lost(Exception):
    """The connection is of no more use; `cause` is what is counted."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(slots=True)
class _Watch:
    """What one connection has shown of one market; `touch` is the best bid and ask in YES terms, None while unknown."""

    lost: bool = False
    awaiting_book: bool = True
    touch: tuple[int, int] | None = None
    heard_ms: int = 0
    checked_ms: int = 0
    in_book: bool = False
    bid: int = 0
    ask: int = ONE

    def start(self, now: int) -> None:
        """A new connection begins: nothing is known."""
        self.awaiting_book, self.in_book, self.touch = True, False, None
        self.heard_ms = self.checked_ms = now

    def passes_changes(self, end: Row) -> bool:
        """Note a frame of level changes, as nearly all are, by its last row alone; as `passes` of each of its rows."""
        self.heard_ms, _, _, bid, ask = end
        self.in_book = False
        if self.awaiting_book:
            return False
        self.touch = (bid, ask) if bid >= 0 and ask >= 0 else None
        return True

    def passes(self, row: Row) -> bool:
        """Note what a row says; False when it speaks of a book of which we have not seen the whole."""
        at_ms, kind, _, a, b = row
        if kind == Kind.FRAME:
            self.heard_ms, self.in_book = at_ms, False
        elif kind == Kind.BOOK:
            self.awaiting_book, self.in_book, self.bid, self.ask = False, True, 0, ONE
        elif kind in (Kind.TICK, Kind.RESOLVED):
            self.touch = None
        elif kind in (Kind.BID, Kind.ASK, Kind.END):
            if self.awaiting_book:
                return False
            self._level_or_end(kind, a, b)
        return True

    def _level_or_end(self, kind: int, a: int, b: int) -> None:
        if kind == Kind.END:
            if a >= 0 and b >= 0:
                self.touch = (a, b)
            else:
                self.touch = (self.bid, self.ask) if self.in_book else None
        elif b > 0 and kind == Kind.BID:
            self.bid = max(self.bid, a)
        elif b > 0:
            self.ask = min(self.ask, a)


class _Link:
    """One open connection, its PINGs and its PONGs."""

    def __init__(self, socket: FrameSocket, timing: Timing, now: int) -> None:
        self.opened_ms = now
        self.pong_ms = now
        self._socket = socket
        self._timing = timing
        self._turn_s = timing.turn / 1000
        self._ping_ms = now
        self._ponged = False

    def receive(self) -> bytes | None:
        """Return the next text or binary frame; None when a turn passes without one. Raises _Lost."""
        try:
            return self._socket.receive(self._turn_s)
        except (WebSocketException, OSError) as e:
            raise _Lost("connection_lost") from e

    def beat(self, now: int) -> None:
        """Send the PING that is due. Raises _Lost when the connection does not take it, or answers none any more."""
        if now - self.pong_ms >= self._timing.dead:
            raise _Lost("no_pong")
        if now - self._ping_ms >= self._timing.ping:
            self._ping_ms = now
            try:
                self._socket.send("PING")
            except (WebSocketException, OSError) as e:
                raise _Lost("connection_lost") from e

    def note_pong(self, now: int) -> None:
        self.pong_ms, self._ponged = now, True

    def answers(self, now: int) -> bool:
        """Say whether PONGs arrive: the last PING but one is answered."""
        return self._ponged and now - self.pong_ms <= 2 * self._timing.ping

    def close(self) -> None:
        """Say goodbye without waiting for an answer."""
        with suppress(WebSocketException, OSError):
            self._socket.send_close()
        self._socket.shutdown()  # type: ignore[no-untyped-call]


def _discard(attempt: "futures.Future[FrameSocket]") -> None:
    if attempt.exception() is None:
        attempt.result().shutdown()  # type: ignore[no-untyped-call]
