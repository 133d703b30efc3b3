"""The reference strategy over the columns of a compiled tape: `play` quotes both tokens of the tape's market and returns the fills.

    python bench/reference_ours.py compile RECORDING TAPE
    python bench/reference_ours.py rows TAPE
    python bench/reference_ours.py run TAPE
    python bench/reference_ours.py warm TAPE LAPS

`rows` prints how many rows the source had, both tokens counted; `run` the fills; `warm` the CPU seconds of every lap, the tape loaded
again in each; as JSON. Called by bench/reference.py, which holds the fills against hftbacktest's before it measures, and by
tests/test_reference.py, which holds them against a model that walks row by row.

All is in YES terms: the NO book is the YES book read from the other end, so a NO bid is an ask at 1 - price, and the strategy of the NO
token is that of the YES token with the other sign of position, hit by the NO prints. The rules, which are hftbacktest's (risk-averse
queue, no partial fills, no feed latency):

- Rows of a millisecond come before what is due at it: a timer, 1 s after the first row and every second from there, while rows remain
  after it; an order or cancel that arrives, 250 ms after it was sent, the cancel first.
- What the venue did is known 250 ms later. A fill younger than that is unknown at a timer: the position lacks it, the order seems to rest.
- Post-only: an order that would cross the touch on arrival is gone; the next timer sends another. What its level holds then is ahead of it.
- A level's new size, when less than what is ahead, becomes what is ahead. A print of its token at its price takes from that, and fills the
  order when less than nothing is left. A print through its price fills it, and so does the opposite best that comes to its price.
- While a side of the book is empty a timer does nothing. Prices are whole ticks above 0 and below 1.

The touch is what frames state at their ends, and levels where a book does. So only prints, ends of frames and books are looked at one by
one; every other row is a size of one level, which matters only where an order rests or arrives, and is found there by searching for its
price in one byte of each code. A row that nobody asks for costs next to nothing: nine tenths of a dense tape.
"""

import json
import os
import sys
import time
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Protocol

REQUOTE_MS, LATENCY_MS = 1_000, 250
LOT = 50
MOST_LOTS = 10
ONE = 1_000_000
NONE = 0xFFFFF
BOOK, END, SOLD, BOUGHT, NO_SOLD, NO_BOUGHT = 4, 5, 6, 7, 22, 23
WHOLE = 16
BID, ASK = 18, 19
"""Level rows that are frames of their own; inside an explicit frame they lack `WHOLE`."""
LOW, MIDDLE = (0, 2) if sys.byteorder == "little" else (3, 1)
"""The bytes of a code of 32 bits that hold the kind, and bits 4 to 11 of the price, in which neighbouring prices differ."""
LOOKED_AT = bytes(kind in (BOOK, END, SOLD, BOUGHT, NO_SOLD, NO_BOUGHT) for kind in range(256))
WINDOW = 1 << 16


class Columns(Protocol):
    """What is asked of a tape: the columns of one market, as venues.tape describes them."""

    @property
    def times(self) -> "array[int]": ...
    @property
    def codes(self) -> "array[int]": ...
    @property
    def sizes(self) -> "array[int]": ...


class Order:
    """One side of one token, in YES terms: what rests there, one order at most. `price` is `nowhere` when none does, `sent` likewise."""

    __slots__ = ("ahead", "code", "filled_at", "filled_ms", "mark", "nowhere", "number", "price", "seen", "sent", "token")

    def __init__(self, number: int, token: "Token", nowhere: int) -> None:
        self.number, self.token, self.nowhere = number, token, nowhere
        self.price = self.sent = self.filled_at = nowhere
        self.ahead = self.seen = self.code = self.mark = self.filled_ms = 0


class Token:
    """The strategy of one token: its lots in YES terms, and its orders."""

    __slots__ = ("ask", "bid", "lots")

    def __init__(self, number: int) -> None:
        self.lots = 0
        self.bid, self.ask = Order(2 * number, self, 0), Order(2 * number + 1, self, ONE)


class Fills:
    """The fills in order of time, as columns: when, whose, at which price in YES terms.

    `numbers`: 0 a YES bid, 1 a YES ask, 2 a NO ask (which is a bid for YES), 3 a NO bid.
    """

    __slots__ = ("ms", "numbers", "prices")

    def __init__(self) -> None:
        self.ms, self.numbers, self.prices = array("q"), array("B"), array("q")

    def add(self, ms: int, number: int, price: int) -> None:
        self.ms.append(ms)
        self.numbers.append(number)
        self.prices.append(price)

    def of_tokens(self, tick: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (token, ms, whether it bought, price in ticks), in the token's own terms: 0 is YES, 1 is NO."""
        for ms, number, price in zip(self.ms, self.numbers, self.prices, strict=True):
            token, sold = divmod(number, 2)
            yield token, ms, int(token == sold), (ONE - price if token else price) // tick


def play(tape: Columns, tick: int) -> Fills:
    """Play the strategy over the whole tape. `tick` in millionths.

    Its parts are inner functions because they share its variables: as attributes those would cost more than the work done on them.
    """
    times, codes, sizes = tape.times, tape.codes, tape.sizes
    if codes.itemsize != 4:
        raise ValueError("the reference strategy plays tapes of one market")
    marks = bytearray()
    find, rfind = marks.find, marks.rfind
    yes, no = Token(0), Token(1)
    yes_bid, yes_ask, no_bid, no_ask = yes.bid, yes.ask, no.bid, no.ask
    tokens = ((yes, yes_bid, yes_ask), (no, no_bid, no_ask))
    hit_by = {SOLD: yes_bid, NO_SOLD: no_bid, BOUGHT: yes_ask, NO_BOUGHT: no_ask}
    under_way: list[Order] = []
    fills = Fills()
    best_bid, best_ask, book_row, last_row, last_fill_ms = 0, ONE, 0, 0, 0
    timer_ms = due_ms = times[0] + REQUOTE_MS

    def filled(order: Order, ms: int) -> None:
        nonlocal last_fill_ms
        fills.add(ms, order.number, order.price)
        order.token.lots += -1 if order.nowhere else 1
        order.filled_at, order.filled_ms, order.price = order.price, ms, order.nowhere
        last_fill_ms = ms

    def arrive(row: int) -> None:
        """Let what is under way arrive before this row."""
        for order in under_way:
            price = order.sent
            order.price = order.nowhere
            if price == order.nowhere:
                continue
            if order.nowhere:
                if price <= best_bid:
                    continue
                code, is_inside = price << 12 | ASK, price < best_ask
            else:
                if price >= best_ask:
                    continue
                code, is_inside = price << 12 | BID, price > best_bid
            order.price, order.code, order.seen = price, code, row
            order.mark = mark = price >> 4 & 255
            at = -1
            if not is_inside:
                at = rfind(mark, book_row, row)
                while at >= 0 and codes[at] | WHOLE != code:
                    at = rfind(mark, book_row, at)
            order.ahead = sizes[at] if at >= 0 else 0
        under_way.clear()

    def requote(now_ms: int) -> None:
        """Send what each side that no longer rests where it should. Shifted and halved, prices in ticks need no fractions."""
        ticks = (best_bid + best_ask) // tick
        since_ms = now_ms - LATENCY_MS
        for token, bid, ask in tokens:
            bid_at, ask_at, lots = bid.price, ask.price, token.lots
            if last_fill_ms > since_ms:
                if bid.filled_ms > since_ms:
                    bid_at = bid.filled_at
                    lots -= 1
                if ask.filled_ms > since_ms:
                    ask_at = ask.filled_at
                    lots += 1
            wanted = (ticks - lots - 1 >> 1) * tick if lots < MOST_LOTS else 0
            if wanted >= best_ask:
                wanted = best_ask - tick
            if wanted < 0:
                wanted = 0
            if wanted != bid_at:
                bid.sent = wanted
                under_way.append(bid)
            wanted = (ticks - lots + 2 >> 1) * tick if lots > -MOST_LOTS else ONE
            if wanted <= best_bid:
                wanted = best_bid + tick
            if wanted > ONE:
                wanted = ONE
            if wanted != ask_at:
                ask.sent = wanted
                under_way.append(ask)

    def advance(ms: int, row: int) -> None:
        """Do what is due before the time of this row, which is `ms`."""
        nonlocal due_ms, timer_ms
        while due_ms < ms:
            if due_ms != timer_ms:
                arrive(bisect_right(times, due_ms, last_row, row))
                due_ms = timer_ms
            else:
                timer_ms += REQUOTE_MS
                if best_bid > 0 and best_ask < ONE:
                    requote(due_ms)
                due_ms = due_ms + LATENCY_MS if under_way else timer_ms

    for start in range(0, len(codes), WINDOW):
        window = codes[start : start + WINDOW].tobytes()
        marks += window[MIDDLE::4]
        row = start - 1
        for between in window[LOW::4].translate(LOOKED_AT).split(b"\1")[:-1]:
            row += len(between) + 1
            ms = times[row]
            if due_ms < ms:
                advance(ms, row)
            last_row = row
            code = codes[row]
            price = code >> 12
            kind = code & 31
            if kind == END:
                best_bid, best_ask = (price, sizes[row]) if price != NONE else _touch_of_book(tape, book_row, row)
                if best_ask <= yes_bid.price:
                    filled(yes_bid, ms)
                if best_ask <= no_bid.price:
                    filled(no_bid, ms)
                if best_bid >= yes_ask.price:
                    filled(yes_ask, ms)
                if best_bid >= no_ask.price:
                    filled(no_ask, ms)
            elif kind == BOOK:
                book_row = row
            else:
                order = hit_by[kind]
                if price == order.price:
                    ahead, size = order.ahead, sizes[row]
                    if ahead >= size:
                        code, mark = order.code, order.mark
                        at = find(mark, order.seen, row)
                        while at >= 0:
                            if codes[at] | WHOLE == code and sizes[at] < ahead:
                                ahead = sizes[at]
                            at = find(mark, at + 1, row)
                        order.ahead, order.seen = ahead - size, row + 1
                    if ahead < size:
                        filled(order, ms)
                elif price > order.price if order.nowhere else price < order.price:
                    filled(order, ms)
    return fills


def _touch_of_book(tape: Columns, book: int, end: int) -> tuple[int, int]:
    """Return the touch of the levels between the rows `book` and `end`, 0 and ONE for an empty side. ValueError when no book ends there.

    A book states no touch. So a change after it that stands for itself, as one that states the same, states none either.
    """
    codes, sizes = tape.codes, tape.sizes
    bids, asks = [0], [ONE]
    for row in range(book + 1, end):
        if sizes[row]:
            (asks if codes[row] & 1 else bids).append(codes[row] >> 12)
    after = (codes[row] & 31 for row in range(end + 1, len(codes)))
    follows = next((kind for kind in after if kind in (BOOK, END, BID, ASK)), END)
    if codes[book] & 31 != BOOK or any(code & 31 == END for code in codes[book:end]) or follows in (BID, ASK):
        raise ValueError(f"row {end}: a frame that states no touch, or one after it; the reference strategy needs one")
    return max(bids), min(asks)


class Tape:
    """A tape file, loaded."""

    def __init__(self, path: str) -> None:
        from mmtools.venues import tape as tapefile

        with open(path, "rb") as file:
            label, (self.times, self.codes, self.sizes) = tapefile.read(file)
        (market,) = json.loads(label.header)["markets"]
        self.tick = round(float(market["tick_size"]) * ONE)

    def rows_of_source(self) -> int:
        """Count a level change twice, once for each token, and a print once."""
        kinds = self.codes.tobytes()[LOW::4]
        levels = sum(kinds.count(kind) for kind in (BID, ASK, BID - WHOLE, ASK - WHOLE))
        return 2 * levels + sum(kinds.count(kind) for kind in (SOLD, BOUGHT, NO_SOLD, NO_BOUGHT))


def compile_tape(recording: str, path: str) -> None:
    """Compile a recording as `replay` does, with a cache of its own, from which the tape is taken."""
    import tempfile
    from pathlib import Path

    from mmtools.venues.recording import read

    with tempfile.TemporaryDirectory(prefix="mmtools-bench-", dir=os.path.dirname(path)) as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        read(Path(recording))
        (kept,) = Path(cache).rglob("*.tape")
        kept.replace(path)


def laps(path: str, number: int) -> list[float]:
    taken = []
    for _ in range(number):
        began = time.process_time()
        tape = Tape(path)
        play(tape, tape.tick)
        taken.append(time.process_time() - began)
    return taken


def main() -> None:
    match sys.argv[1:]:
        case ["compile", recording, path]:
            compile_tape(recording, path)
        case ["rows", path]:
            print(Tape(path).rows_of_source())
        case ["run", path]:
            tape = Tape(path)
            print(json.dumps(list(play(tape, tape.tick).of_tokens(tape.tick))))
        case ["warm", path, number]:
            print(json.dumps(laps(path, int(number))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
