"""What a feed says, row by row: the one language that recordings, the synthetic market and the live socket all speak.

A wire frame becomes: FRAME, then its level or print rows in YES terms, then END when it changed the book. Level rows of
the NO token are mirrors and are dropped (their frames still count and still prove that the feed lives); prints are not
mirrors and are turned. `runs.engine` is the only reader; `venues.decoder` turns frames to rows.
"""

from collections.abc import Iterator
from typing import Final, Protocol

from mmtools.trading.market import Market

Row = tuple[int, int, int, int, int]
"""(time in ms UTC, kind, place of the market in the feed's list, a, b); what a and b hold is said by the kind. -1 is unknown or none."""


class Kind:
    """Kinds of row, with what `a` and `b` hold. Prices and sizes are millionths in YES terms.

    Plain integers, no IntEnum: they are compared once or more for every row, and an enum's members compare six times slower.
    """

    CLOCK: Final = 0
    """Time went by in silence (live feeds only; the market is -1)."""
    FRAME: Final = 1
    """A frame of this market begins. a: level changes in it, both tokens counted; b: 1 for a `book` of either, 2 for a print of NO."""
    BID: Final = 2
    """The bid level at price a now holds size b; 0 is gone."""
    ASK: Final = 3
    """The ask level at price a now holds size b."""
    BOOK: Final = 4
    """A full book of the YES token follows, as BID and ASK rows: a level that it does not name holds nothing."""
    END: Final = 5
    """The frame is over. a, b: the best bid and ask that it stated (-1 when it stated none, 0 and ONE when a side is empty)."""
    SOLD: Final = 6
    """A taker sold at price a, size b: the print that fills bids."""
    BOUGHT: Final = 7
    """A taker bought at price a, size b: the print that fills asks."""
    TICK: Final = 8
    """The tick is now a: the book starts anew."""
    RESOLVED: Final = 9
    """The market is over; a share of YES pays a."""
    LOST: Final = 10
    """The feed of this market is gone: drop the book until a new one comes."""
    RESTORED: Final = 11
    """The feed of this market is back."""
    ALIVE: Final = 12
    """Silence of this market is known to be real: the connection answers and a REST book agrees with ours (live only)."""


class Feed(Protocol):
    """A source of rows, in order of time. `markets[i]` is the market that rows call i."""

    name: str
    """"recording", "synthetic" or "live"."""
    markets: tuple[Market, ...]
    sha256: str
    """Names what the feed says: another hash is another feed."""

    def rows(self) -> Iterator[Row]:
        """Yield the rows from the first one. A recording or synthetic feed yields the same rows every time."""
        ...
