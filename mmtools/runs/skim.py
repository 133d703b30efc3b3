"""Skimmer: the rows of a tape that change nothing but a size behind the touch, taken in without an object or a call for each.

They are most rows of a recording, and nobody has to hear of them: no touch moves, no order fills, no timer looks. What they do to
a view and who is told of a level that lost size is what `markets.Markets` does with the same frame; a test holds one against the
other on every kind of tape. All other rows come back as `loud`, for `Markets.row`. Called by `engine`.
"""

from itertools import chain

from mmtools.runs.markets import Markets
from mmtools.trading.paper import NEVER
from mmtools.trading.signals import MarketView
from mmtools.units import ONE
from mmtools.venues.tapefile import FIELD, NONE, WHOLE, Tape
from mmtools.venues.venue import Kind

_BID, _ASK = Kind.BID | WHOLE, Kind.ASK | WHOLE
_NO_ROW = (NEVER, 0, 0)
_NO_BID, _NO_ASK = -1, ONE + 1
"""Touches of a market that is not calm: no level is behind them."""

Loud = tuple[int, int, int, int]
"""A row without its time: kind, market, a, b."""


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
        self._row = (NEVER, 0, 0)
        self._stated = [(-1, -1)] * len(markets.views)
        # One entry for each market, so that a row needs no view: what `MarketView.calm_touch` says, its book, and its next look.
        self._bid_touch = [_NO_BID for _ in markets.views]
        self._ask_touch = [_NO_ASK for _ in markets.views]
        self._bids = [view.book.bids for view in markets.views]
        self._asks = [view.book.asks for view in markets.views]
        self._ticks = [int(view.book.tick) for view in markets.views]
        self._looks = [0 for _ in markets.views]
        self._read(next(self._rows, _NO_ROW))

    def skim(self, until_ms: int) -> int:
        """Take in calm rows before a time, to the first that is not; return how many, each a frame of two changes."""
        bid_touch, ask_touch, looks, ticks = self._bid_touch, self._ask_touch, self._looks, self._ticks
        shift, places = self._shift, self._places
        frames, last_ms = [0] * len(ticks), [0] * len(ticks)
        row = _NO_ROW
        for row in chain((self._row,), self._rows):
            ms, code, size = row
            place, price = code >> 5 & places, code >> shift
            if code & FIELD == _BID:
                bid, touch, levels = True, bid_touch[place], self._bids[place]
                calm = 0 < price < touch or (price == touch and size)
            elif code & FIELD == _ASK:
                bid, touch, levels = False, ask_touch[place], self._asks[place]
                calm = touch < price < ONE or (price == touch and size)
            else:
                break
            tick = ticks[place]
            level = price // tick
            if not calm or ms >= until_ms or ms >= looks[place] or level * tick != price:
                break
            before = levels[level]
            levels[level] = size
            frames[place] += 1
            last_ms[place] = ms
            if size < before:
                for listener in self._listeners:
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
            if row[0] != ms or row[1] & FIELD in (_BID, _ASK):
                break
            _, code, size = row
        self._read(row)
        return rows

    def settle(self, place: int) -> None:
        """Take in what loud rows have made of a market."""
        view: MarketView = self._markets.views[place]
        self._bid_touch[place], self._ask_touch[place] = view.calm_touch() or (_NO_BID, _NO_ASK)
        self._bids[place], self._asks[place], self._ticks[place] = view.book.bids, view.book.asks, view.book.tick
        self._looks[place] = view.next_look_ms

    def _read(self, row: tuple[int, int, int]) -> None:
        self._row, self.next_ms = row, row[0]
