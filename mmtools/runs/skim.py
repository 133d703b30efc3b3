"""Skimmer: the rows of a tape that change nothing but a size behind the touch, taken in without an object or a call for each.

They are most rows of a recording, and nobody has to hear of them: no touch moves, no order fills, no timer looks. What they do to
a view and who is told of a level that lost size is what `markets.Markets` does with the same frame; a test holds one against the
other on every kind of tape. All other rows come back as `loud`, for `Markets.row`. Called by `engine`.
"""

from collections.abc import Iterator

from mmtools.runs.markets import Markets
from mmtools.trading.signals import MarketView
from mmtools.units import ONE
from mmtools.venues.tapefile import FIELD, NONE, WHOLE, Tape
from mmtools.venues.venue import Kind

_BID, _ASK = Kind.BID | WHOLE, Kind.ASK | WHOLE
_NO_BID, _NO_ASK = -1, ONE + 1
"""Touches of a market that is not calm: no level is behind them."""

PIECE = 256
"""Rows taken at once: the columns are copied so far each time, and no farther where something stirs all the time."""

Loud = tuple[int, int, int, int]
"""A row without its time: kind, market, a, b."""


class Skimmer:
    """Reads one tape once, from its beginning; the caller says how far, and is told where a row was loud."""

    def __init__(self, tape: Tape, markets: Markets) -> None:
        self._tape = tape
        self._markets = markets
        self._stated = [(-1, -1)] * len(markets.views)
        # One entry for each market, so that a row needs no view: what `MarketView.calm_touch` says, its book, and its next look.
        self._bid_touch = [_NO_BID for _ in markets.views]
        self._ask_touch = [_NO_ASK for _ in markets.views]
        self._bids = [view.book.bids for view in markets.views]
        self._asks = [view.book.asks for view in markets.views]
        self._ticks = [int(view.book.tick) for view in markets.views]
        self._looks = [0 for _ in markets.views]

    def skim(self, begin: int, end: int) -> int:
        """Take in calm rows from `begin` on; return where it stopped: at one that is not, at `end`, or after a `PIECE`. Each is a frame."""
        tape = self._tape
        shift, mask = tape.shift, (1 << tape.shift - 5) - 1
        bid_touch, ask_touch, looks, ticks = self._bid_touch, self._ask_touch, self._looks, self._ticks
        frames, last_ms = [0] * len(ticks), [0] * len(ticks)
        at, end = begin, min(end, begin + PIECE)
        for at, ms, code, size in zip(range(begin, end), tape.times[begin:end], tape.codes[begin:end], tape.sizes[begin:end], strict=True):
            place, price = code >> 5 & mask, code >> shift
            if code & FIELD == _BID:
                touch, levels = bid_touch[place], self._bids[place]
                calm = 0 < price < touch or (price == touch and size)
            elif code & FIELD == _ASK:
                touch, levels = ask_touch[place], self._asks[place]
                calm = touch < price < ONE or (price == touch and size)
            else:
                break
            level, off = divmod(price, ticks[place])
            if not calm or off or ms >= looks[place]:
                break
            before = levels[level]
            levels[level] = size
            frames[place] += 1
            last_ms[place] = ms
            if size < before:
                for listener in self._markets.listeners:
                    listener.decreased(place, levels is self._bids[place], price, before, size, ms)
        else:
            at = end
        for view, count, ms in zip(self._markets.views, frames, last_ms, strict=True):
            if count:
                view.calm_frames(count, ms)
        return at

    def loud(self, at: int) -> Iterator[Loud]:
        """Yield the rows that the one at this place of the tape stands for, to be taken in one by one."""
        tape = self._tape
        code, size, shift = tape.codes[at], tape.sizes[at], tape.shift
        kind, place, a = code & 15, code >> 5 & (1 << shift - 5) - 1, code >> shift
        if code & FIELD in (_BID, _ASK):
            yield (Kind.FRAME, place, 2, 0)
            yield (kind, place, a, size)
            yield (Kind.END, place, *self._stated[place])
        elif kind in (Kind.SOLD, Kind.BOUGHT):
            yield (Kind.FRAME, place, 0, 2 if code & WHOLE else 0)
            yield (kind, place, a, size)
        elif kind == Kind.END:
            self._stated[place] = (-1 if a == NONE else a, size)
            yield (kind, place, *self._stated[place])
        else:
            yield (kind, place, a, size)
        self._look_at(place)

    def _look_at(self, place: int) -> None:
        """Take in what loud rows have made of a market."""
        view: MarketView = self._markets.views[place]
        self._bid_touch[place], self._ask_touch[place] = view.calm_touch() or (_NO_BID, _NO_ASK)
        self._bids[place], self._asks[place], self._ticks[place] = view.book.bids, view.book.asks, view.book.tick
        self._looks[place] = view.next_look_ms
