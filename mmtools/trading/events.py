"""What a maker hears and what it asks for. Values only; `maker.on` takes an Event and returns Actions, `runs.engine` carries them.

`market` is the market's place in the run's list everywhere. The venue's own names (order ids, trade ids) are strings.
"""

from dataclasses import dataclass
from enum import StrEnum

from mmtools.trading.market import Fill, Order, Outcome, Quote, Skipped, Why
from mmtools.units import Price, Shares, Usdc


@dataclass(frozen=True, slots=True)
class Tick:
    """The timer: every market is looked at."""


@dataclass(frozen=True, slots=True)
class TouchMoved:
    """The best bid or ask of a market, or whether its book is good, is another than before the frame."""

    market: int


@dataclass(frozen=True, slots=True)
class TickSizeChanged:
    """The grid is new and the book starts anew; `inferred` when a price off the old grid gave it away."""

    market: int
    tick: Price
    inferred: bool


@dataclass(frozen=True, slots=True)
class MarketResolved:
    """The market is over; a share of YES pays `payout`."""

    market: int
    payout: Price


@dataclass(frozen=True, slots=True)
class OrderAccepted:
    """The order rests (or filled at once: then its fills follow)."""

    key: str
    order_id: str


class Rejection(StrEnum):
    """Why a venue refuses an order."""

    POST_ONLY_CROSS = "post_only_cross"
    NOT_ENOUGH_BALANCE = "not_enough_balance"
    TICK = "tick"
    MIN_SIZE = "min_size"
    MARKET_CLOSED = "market_closed"


@dataclass(frozen=True, slots=True)
class OrderRejected:
    """The order never rested."""

    key: str
    reason: Rejection


class Ending(StrEnum):
    """How a resting order ended."""

    FILLED = "filled"
    CANCELLED = "cancelled"
    RESOLVED = "resolved"
    UNKNOWN = "unknown"
    """In flight when the run ended: it may have rested or not."""


@dataclass(frozen=True, slots=True)
class OrderGone:
    """The order rests no more; its money is free from now on."""

    key: str
    cause: Ending


@dataclass(frozen=True, slots=True)
class FillReported:
    """A part of our order traded at the token price `price`; `final` when it can no longer fail."""

    trade_id: str
    key: str
    price: Price
    size: Shares
    fee: Usdc
    final: bool


@dataclass(frozen=True, slots=True)
class FinalityChanged:
    """A trade on its way to the chain arrived (`failed` False) or is taken back (`failed` True)."""

    trade_id: str
    key: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Merged:
    """So many pairs of YES and NO became USDC."""

    market: int
    size: Shares


@dataclass(frozen=True, slots=True)
class FeedLost:
    """Nothing is known of the market any more."""

    market: int


@dataclass(frozen=True, slots=True)
class FeedRestored:
    """A fresh book of the market is there."""

    market: int


@dataclass(frozen=True, slots=True)
class HaltAsked:
    """A person latched the kill switch; with `reduce_only` the run winds down instead of ending."""

    by: str
    why: str
    reduce_only: bool = False


@dataclass(frozen=True, slots=True)
class Cleared:
    """A person cleared the latch: limits count anew from here."""

    by: str
    why: str


Event = (
    Tick
    | TouchMoved
    | TickSizeChanged
    | MarketResolved
    | OrderAccepted
    | OrderRejected
    | OrderGone
    | FillReported
    | FinalityChanged
    | Merged
    | FeedLost
    | FeedRestored
    | HaltAsked
    | Cleared
)


@dataclass(frozen=True, slots=True)
class Place:
    """Send this order, post-only."""

    order: Order


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take this order back."""

    key: str


@dataclass(frozen=True, slots=True)
class Merge:
    """Turn so many pairs of YES and NO into USDC."""

    market: int
    size: Shares


@dataclass(frozen=True, slots=True)
class Pause:
    """The market is not quoted until it is healthy again."""

    market: int
    why: Why


@dataclass(frozen=True, slots=True)
class Resume:
    """The market is quoted again."""

    market: int
    why: Why
    """What it was paused for."""


@dataclass(frozen=True, slots=True)
class Halt:
    """The run ends and stays latched for a person."""

    why: Why
    detail: str


class Cause(StrEnum):
    """Why stock is moved other than by the two quotes."""

    RECYCLE = "recycle"
    MERGE = "merge"
    REDUCE_ONLY = "reduce_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """Stock is sold or merged for its own sake. `price` is the token's; None for a merge."""

    market: int
    cause: Cause
    outcome: Outcome | None
    price: Price | None
    size: Shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Both sides of one market at one time, and the numbers they came from. Prices of the model in ticks; None where no model ran.

    `bid` and `ask` are the first level; sizes are what all its token orders add up to.
    """

    at_ms: int
    bid: Quote | Skipped
    ask: Quote | Skipped
    best_bid: Price | None
    best_ask: Price | None
    mid: Price | None
    tick: Price
    fair: float | None = None
    reservation: float | None = None
    half_spread: float | None = None
    """As the model says, before the grid."""
    skew: float | None = None
    sigma: float | None = None
    tau_s: float | None = None
    net: Shares
    cause: "Cause | None" = None
    """Why a side sells for its own sake, if one does."""
    money: Usdc
    """What this market might have spent."""

    @property
    def sides(self) -> tuple[Quote | Skipped, Quote | Skipped]:
        return self.bid, self.ask


@dataclass(frozen=True, slots=True)
class Note:
    """What was decided, when it or its reason changed, and once a minute."""

    market: int
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The account has booked this fill. The times are those of its order, the decision the one that sent it."""

    fill: Fill
    order_size: Shares
    sent_ms: int
    accepted_ms: int | None
    decision: Decision


@dataclass(frozen=True, slots=True)
class Warn:
    """Something a person should know once."""

    market: int
    text: str


Action = Place | Cancel | Merge | Pause | Resume | Halt | Rebalance | Note | Warn | Filled
