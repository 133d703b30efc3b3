"""Skimmer: the rows of a tape that change nothing but a size behind the touch, taken in without an object or a call for each.

They are most rows of a recording, and nobody has to hear of them: no touch moves, no order fills, no timer looks. What they do to
a view and who is told of a level that lost size is what `markets.Markets` does with the same frame; a test holds one against the
other on every kind of tape. All other rows come back as `loud`, for `Markets.row`. Called by `engine`.
"""

from itertools import chain

from mmtools.runs.markets import Markets
from mmtools.trading.paper import NEVER
from mmtools.trading.signals import MarketView
from mmtools.venues.tape import FIELD, NONE, WHOLE, Tape
from mmtools.venues.venue import Kind

_WHOLE = (Kind.BID | WHOLE, Kind.ASK | WHOLE)
_NO_ROW = (NEVER, 0, 0)

Loud = tuple[int, int, int, int]
"""A row without its time: kind, market, a, b."""
_Side = tuple[list[int], int, int, int, int, int, bool, int]
"""A side of a market behind whose touch all is calm: its levels and tick; the first level and the last that are behind the touch, and
the touch itself; until when; whether it is the bids; the market's place."""


class Skimmer:
    """Reads one tape once, from its beginning; the caller says until when, and is told what is loud."""

    def __init__(self, tape: Tape, markets: Markets) -> None:
        self.next_ms: int = NEVER
        """When the row at hand is; NEVER when all are read."""
        self.last_ms = 0
        """When the last calm row was."""
        self._markets = markets
        self._listeners = markets.listeners
        self._shift, self._places = tape.shift, (1 << tape.shift - 5) - 1
        self._rows = zip(tape.times, tape.codes, tape.sizes, strict=True)
        self._row = _NO_ROW
        self._stated = [(-1, -1)] * len(markets.views)
        self._calm: dict[int, _Side] = {}
        """By what a code has below its price: the kind of row and the market's place."""
        self._read(next(self._rows, _NO_ROW))

    def skim(self, until_ms: int) -> int:
        """Take in calm rows before a time, to the first that is not; return how many, each a frame of two changes."""
        calm, shift, below, listeners = self._calm, self._shift, (1 << self._shift) - 1, self._listeners
        frames, last_ms = [0] * len(self._stated), [0] * len(self._stated)
        row = _NO_ROW
        for row in chain((self._row,), self._rows):
            ms, code, size = row
            side = calm.get(code & below)
            if side is None or ms >= until_ms:
                break
            levels, tick, first, last, touch, ends_ms, bid, place = side
            price = code >> shift
            level = price // tick
            if ms >= ends_ms or level * tick != price or not (first <= level <= last or (level == touch and size)):
                break
            before = levels[level]
            levels[level] = size
            frames[place] += 1
            last_ms[place] = ms
            if size < before:
                for listener in listeners:
                    listener.decreased(place, bid, price, before, size, ms)
        else:
            row = _NO_ROW
        self._read(row)
        for place, count in enumerate(frames):
            if count:
                self._markets.views[place].calm_frames(count, last_ms[place])
                self.last_ms = max(self.last_ms, last_ms[place])
        return sum(frames)

    def loud(self) -> list[Loud]:
        """Return what the row at hand stands for, with those of the same instant behind it that are loud anyhow; `settle` is next."""
        ms, code, size = row = self._row
        rows: list[Loud] = []
        while True:
            kind, place, a = code & 15, code >> 5 & self._places, code >> self._shift
            whole = code & WHOLE
            if kind in (Kind.SOLD, Kind.BOUGHT):
                rows += ((Kind.FRAME, place, 0, 2 if whole else 0), (kind, place, a, size))
            elif whole:
                rows += ((Kind.FRAME, place, 2, 0), (kind, place, a, size), (Kind.END, place, *self._stated[place]))
            elif kind == Kind.END:
                self._stated[place] = (-1 if a == NONE else a, size)
                rows.append((kind, place, *self._stated[place]))
            else:
                rows.append((kind, place, a, size))
            row = next(self._rows, _NO_ROW)
            if row[0] != ms or row[1] & FIELD in _WHOLE:
                break
            _, code, size = row
        self._read(row)
        return rows

    def settle(self, place: int) -> None:
        """Take in what loud rows have made of a market."""
        view: MarketView = self._markets.views[place]
        book, at, ends_ms = view.book, place << 5, view.next_look_ms
        if view.is_calm():
            bid, ask = book.best_bid, book.best_ask
            self._calm[Kind.BID | WHOLE | at] = (book.bids, book.tick, 1, bid - 1, bid, ends_ms, True, place)
            self._calm[Kind.ASK | WHOLE | at] = (book.asks, book.tick, ask + 1, book.top - 1, ask, ends_ms, False, place)
        else:
            self._calm.pop(Kind.BID | WHOLE | at, None)
            self._calm.pop(Kind.ASK | WHOLE | at, None)

    def _read(self, row: tuple[int, int, int]) -> None:
        self._row, self.next_ms = row, row[0]
