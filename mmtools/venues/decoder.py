"""Wire frames of the market channel turned into rows (`Decoder`).

Only the form of frames and what they mean: no files, no sockets, no clock. What a row is stands in `venues.venue`. Called by
`recording` (every frame of a file, once), by the live stream and by the synthetic market, so that all three speak one language.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import msgspec

from mmtools import units
from mmtools.trading.market import TICKS, Market
from mmtools.units import ONE
from mmtools.venues.venue import Kind, Row

_FRAME, _BID, _ASK, _END = Kind.FRAME, Kind.BID, Kind.ASK, Kind.END
"""For the frames that nearly all are: a global is found in a quarter of the time that an attribute of a class takes."""

MOST_SHARES = 1_000_000_000_000 * ONE
"""A size above this is nonsense, and millions of times more would not fit a column."""


class BadFrame(ValueError):
    """A frame that is not what the market channel sends, or that speaks of what we do not know; one line that says what."""


# The frames, as far as rows need them: what else a frame holds is skipped unread. Without gc: they hold no cycles.


class Change(msgspec.Struct, gc=False):
    asset_id: str
    price: str
    size: str
    side: Literal["BUY", "SELL"]
    best_bid: str | None = None
    best_ask: str | None = None


class Level(msgspec.Struct, gc=False):
    price: str
    size: str


class Message(msgspec.Struct, gc=False, tag_field="event_type"):
    """What all frames share: their kind, and the condition id of their market."""

    market: str


class PriceChange(Message, gc=False, tag="price_change"):
    price_changes: list[Change]


class Book(Message, gc=False, tag="book"):
    asset_id: str
    bids: list[Level]
    asks: list[Level]
    tick_size: str | None = None


class Print(Message, gc=False, tag="last_trade_price"):
    asset_id: str
    price: str
    size: str
    side: Literal["BUY", "SELL"]


class TickSizeChange(Message, gc=False, tag="tick_size_change"):
    asset_id: str
    new_tick_size: str


class BestBidAsk(Message, gc=False, tag="best_bid_ask"):
    asset_id: str


class MarketResolved(Message, gc=False, tag="market_resolved"):
    winning_asset_id: str


class NewMarket(msgspec.Struct, gc=False, tag_field="event_type", tag="new_market"):
    """Of every new market of the venue: never one of ours, so nothing of it is read."""


AnyMessage = PriceChange | Book | Print | TickSizeChange | BestBidAsk | MarketResolved | NewMarket
EVENTS = ("price_change", "book", "last_trade_price", "tick_size_change", "best_bid_ask", "market_resolved", "new_market")

_decode = msgspec.json.Decoder(AnyMessage | list[AnyMessage]).decode


class _Changes(msgspec.Struct, gc=False):
    """A PriceChange whose kind stands behind all the rest, where the venue puts it: a tag would be looked for before anything is read."""

    market: str
    price_changes: list[Change]
    event_type: Literal["price_change"]


_CHANGES_END = b'"event_type":"price_change"}'
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_decode_changes = msgspec.json.Decoder(_Changes).decode


_MILLIONTHS = (1_000_000, 100_000, 10_000, 1_000, 100, 10, 1)
"""What the last digit stands for, by the number of decimals."""


def _plain(text: str) -> int | None:
    """Return what `units.parse` does of a text of the common kind, in a third of its time; None for any other.

    On a busy feed one frame in four names a size that was never heard of before.
    """
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    if not (0 < len(whole) <= 15 and len(fraction) <= 6 and (fraction or not point) and digits.isdigit() and digits.isascii()):
        return None
    return int(digits) * _MILLIONTHS[len(fraction)]


class _Amounts(dict[str, int]):
    """Decimal text -> millionths from 0 to `most`. Most texts recur, and a dict that fills itself is faster than a cached call."""

    def __init__(self, what: str, most: int) -> None:
        self._what, self._most = what, most

    def __missing__(self, text: str) -> int:
        amount = _plain(text)
        if amount is None:
            try:
                amount = units.parse(text)
            except ValueError as e:
                raise BadFrame(f"{self._what}: {shown(str(e))}") from None
        if not 0 <= amount <= self._most:
            raise BadFrame(f"{self._what} {shown(text)} is not between 0 and {units.text(self._most)}")
        if len(self) >= 4_096:  # a live feed never ends
            self.clear()
        self[text] = amount
        return amount


@dataclass(slots=True)
class _Known:
    """A market that frames may speak of. `place` is -1 when its rows are not wanted; `tick` is the last one stated, 0 when lost."""

    slug: str
    yes: str
    no: str
    place: int
    tick: int

    def is_yes(self, asset_id: str) -> bool:
        if asset_id == self.yes:
            return True
        if asset_id == self.no:
            return False
        raise self.stranger(asset_id)

    def stranger(self, asset_id: str) -> BadFrame:
        return BadFrame(f"asset {shown(asset_id)} is not of market {self.slug}")


class _ByCondition(dict[str, _Known]):
    """Condition id -> market."""

    def __missing__(self, condition_id: str) -> NoReturn:
        raise BadFrame(f"frame of market {shown(condition_id)}, which is not among the known ones")


class Decoder:
    """Turns frames into rows. It remembers each market's tick and nothing else."""

    def __init__(self, markets: Sequence[Market], *, only: Collection[str] | None = None) -> None:
        """`markets`: all that frames may speak of; `only`: slugs of those whose rows are wanted (None: all), in the order of `markets`."""
        self.markets = tuple(market for market in markets if only is None or market.slug in only)
        places = {market.slug: place for place, market in enumerate(self.markets)}
        known = ((m.condition_id, _Known(m.slug, m.yes_token, m.no_token, places.get(m.slug, -1), m.tick)) for m in markets)
        self._known = _ByCondition(known)
        self._prices = _Amounts("price", ONE)
        self._sizes = _Amounts("size", MOST_SHARES)
        self._asks = _Amounts("best_ask", MOST_SHARES)  # above 1 is one of the ways to say "none"

    def rows(self, now_ms: int, frame: bytes | msgspec.Raw) -> list[Row]:
        """Return the rows of one message of the channel: a JSON object, or an array of them. Raises BadFrame, and then no row counts."""
        if type(frame) is not bytes:
            frame = bytes(frame)
        if frame.endswith(_CHANGES_END):
            try:
                changes = _decode_changes(frame)
            except _UNREADABLE:
                pass  # what is wrong with it is said below
            else:
                return self._changes(now_ms, changes.price_changes, self._known[changes.market])
        try:
            messages = _decode(frame)
        except _UNREADABLE as e:
            raise BadFrame(_what_is_wrong(frame, e)) from None
        rows: list[Row] = []
        try:
            for message in messages if isinstance(messages, list) else (messages,):
                self._turn(now_ms, message, rows)
        except BadFrame:
            for _, kind, place, _, _ in rows:
                if kind == Kind.TICK:  # nobody will hear of it: whoever states it next must be heard
                    self._known[self.markets[place].condition_id].tick = 0
            raise
        return rows

    def _turn(self, now: int, message: AnyMessage, rows: list[Row]) -> None:
        if isinstance(message, NewMarket):
            return
        if isinstance(message, MarketResolved | BestBidAsk) and message.market not in self._known:
            return  # sent of more markets than were subscribed
        known = self._known[message.market]
        if known.place < 0:
            return
        if isinstance(message, PriceChange):
            rows += self._changes(now, message.price_changes, known)
        elif isinstance(message, Book):
            self._book(now, message, known, rows)
        elif isinstance(message, Print):
            self._print(now, message, known, rows)
        elif isinstance(message, TickSizeChange):
            known.is_yes(message.asset_id)
            rows.append((now, Kind.FRAME, known.place, 0, 0))
            self._tick(now, message.new_tick_size, known, rows)
        elif isinstance(message, MarketResolved):
            rows.append((now, Kind.FRAME, known.place, 0, 0))
            rows.append((now, Kind.RESOLVED, known.place, ONE if known.is_yes(message.winning_asset_id) else 0, 0))
        else:
            known.is_yes(message.asset_id)
            rows.append((now, Kind.FRAME, known.place, 0, 0))

    def _changes(self, now: int, changes: list[Change], known: _Known) -> list[Row]:
        if known.place < 0:
            return []
        place, yes, no, prices, sizes = known.place, known.yes, known.no, self._prices, self._sizes
        rows: list[Row] = [(now, _FRAME, place, len(changes), 0)]
        last: Change | None = None
        last_is_yes = False
        for change in changes:
            price, size, asset = prices[change.price], sizes[change.size], change.asset_id
            if asset == yes:
                rows.append((now, _BID if change.side == "BUY" else _ASK, place, price, size))
                last, last_is_yes = change, True
            elif asset != no:
                raise known.stranger(asset)
            elif not last_is_yes:
                last = change
        if last is None:
            bid = ask = -1
        else:
            bid = prices[last.best_bid] if last.best_bid else -1
            ask = self._asks[last.best_ask] if last.best_ask else -1
            if ask == 0 or ask > ONE:  # an empty side
                ask = ONE
            if not last_is_yes:
                bid, ask = (-1 if ask < 0 else ONE - ask), (-1 if bid < 0 else ONE - bid)
        rows.append((now, _END, place, bid, ask))
        return rows

    def _book(self, now: int, message: Book, known: _Known, rows: list[Row]) -> None:
        place = known.place
        rows.append((now, Kind.FRAME, place, 0, 1))
        bids, asks = self._levels(message.bids), self._levels(message.asks)
        if not known.is_yes(message.asset_id):
            return
        if message.tick_size is not None:
            self._tick(now, message.tick_size, known, rows)
        rows.append((now, Kind.BOOK, place, 0, 0))
        rows.extend((now, Kind.BID, place, price, size) for price, size in bids.items() if size)
        rows.extend((now, Kind.ASK, place, price, size) for price, size in asks.items() if size)
        rows.append((now, Kind.END, place, -1, -1))

    def _levels(self, levels: list[Level]) -> dict[int, int]:
        prices, sizes = self._prices, self._sizes
        return {prices[level.price]: sizes[level.size] for level in levels}

    def _print(self, now: int, message: Print, known: _Known, rows: list[Row]) -> None:
        price, size, bought = self._prices[message.price], self._sizes[message.size], message.side == "BUY"
        yes = known.is_yes(message.asset_id)
        if not yes:
            price, bought = ONE - price, not bought
        rows.append((now, Kind.FRAME, known.place, 0, 0 if yes or not size else 2))
        if size:
            rows.append((now, Kind.BOUGHT if bought else Kind.SOLD, known.place, price, size))

    def _tick(self, now: int, text: str, known: _Known, rows: list[Row]) -> None:
        """Add a Kind.TICK row when the tick is another one than known: a change is sent once for each token, but happens once."""
        tick = self._prices[text]
        if tick not in TICKS:
            raise BadFrame(f"tick {shown(text)} is none of the venue's: {', '.join(units.text(t) for t in TICKS)}")
        if tick != known.tick:
            known.tick = tick
            rows.append((now, Kind.TICK, known.place, tick, 0))


def shown(text: str) -> str:
    """Return foreign text fit for one line of a message: nothing unprintable, nothing endless."""
    plain = "".join(char if char.isprintable() else "?" for char in text[:90])
    return plain if len(text) <= 90 else f"{plain}..."


def _what_is_wrong(frame: bytes | msgspec.Raw, error: Exception) -> str:
    """Return what keeps a frame from being one of ours; slow, for frames that were refused."""
    try:
        messages = msgspec.json.decode(frame)
    except _UNREADABLE:
        return "not JSON" if not isinstance(error, RecursionError) else "JSON nested too deep"
    for message in messages if isinstance(messages, list) else [messages]:
        if not isinstance(message, dict):
            return "not a frame: neither a JSON object nor an array of them"
        event = message.get("event_type")
        if "changes" in message or (event == "price_change" and "price_changes" not in message and "price" in message):
            return "frame in the form before 2025-09-15 (`price_change` without `price_changes`)"
        if event is None:
            return "frame without `event_type`"
        if event not in EVENTS:
            return f"unknown event type {shown(str(event))}"
    return shown(str(error))
