"""What a maker hears and what it asks for. Values only; `maker.on` takes an Event and returns Actions, `runs.engine` carries them.

`market` is the market's place in the run's list everywhere. The venue's own names (order ids, trade ids) are strings.
"""

from enum import StrEnum

import msgspec
from msgspec.structs import replace

from mmtools.trading.market import Fill, Order, Outcome, Quote, Skipped, Why
from mmtools.trading.markouts import Measured
from mmtools.trading.quoting import Adjustments, Inputs, Unsnapped
from mmtools.trading.regime import Regime, Stance
from mmtools.units import Price, Shares, Usdc


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The timer: every market is looked at."""


class TouchMoved(msgspec.Struct, frozen=True, gc=False):
    """The best bid or ask of a market, or whether its book is good, is another than before the frame."""

    market: int


class TickSizeChanged(msgspec.Struct, frozen=True, gc=False):
    """The grid is new and the book starts anew; `inferred` when a price off the old grid gave it away."""

    market: int
    tick: Price
    inferred: bool


class MarketResolved(msgspec.Struct, frozen=True, gc=False):
    """The market is over; a share of YES pays `payout`."""

    market: int
    payout: Price


class OrderAccepted(msgspec.Struct, frozen=True, gc=False):
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


class OrderRejected(msgspec.Struct, frozen=True, gc=False):
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


class OrderGone(msgspec.Struct, frozen=True, gc=False):
    """The order rests no more; its money is free from now on."""

    key: str
    cause: Ending


class FillReported(msgspec.Struct, frozen=True, gc=False):
    """A part of our order traded at the token price `price`; `final` when it can no longer fail."""

    trade_id: str
    key: str
    price: Price
    size: Shares
    fee: Usdc
    final: bool


class FinalityChanged(msgspec.Struct, frozen=True, gc=False):
    """A trade on its way to the chain arrived (`failed` False) or is taken back (`failed` True)."""

    trade_id: str
    key: str
    failed: bool


class Merged(msgspec.Struct, frozen=True, gc=False):
    """So many pairs of YES and NO became USDC."""

    market: int
    size: Shares


class FeedLost(msgspec.Struct, frozen=True, gc=False):
    """Nothing is known of the market any more."""

    market: int


class FeedRestored(msgspec.Struct, frozen=True, gc=False):
    """A fresh book of the market is there."""

    market: int


class HaltAsked(msgspec.Struct, frozen=True, gc=False):
    """A person latched the kill switch; with `reduce_only` the run winds down instead of ending."""

    by: str
    why: str
    reduce_only: bool = False


class Cleared(msgspec.Struct, frozen=True, gc=False):
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


class Place(msgspec.Struct, frozen=True, gc=False):
    """Send this order, post-only."""

    order: Order


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """Take this order back."""

    key: str


class Merge(msgspec.Struct, frozen=True, gc=False):
    """Turn so many pairs of YES and NO into USDC."""

    market: int
    size: Shares


class Pause(msgspec.Struct, frozen=True, gc=False):
    """The market is not quoted until it is healthy again."""

    market: int
    why: Why


class Resume(msgspec.Struct, frozen=True, gc=False):
    """The market is quoted again."""

    market: int
    why: Why
    """What it was paused for."""


class Halt(msgspec.Struct, frozen=True, gc=False):
    """The run ends and stays latched for a person."""

    why: Why
    detail: str


class Cause(StrEnum):
    """Why stock is moved other than by the two quotes."""

    RECYCLE = "recycle"
    MERGE = "merge"
    REDUCE_ONLY = "reduce_only"


class Rebalance(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Stock is sold or merged for its own sake. `price` is the token's; None for a merge."""

    market: int
    cause: Cause
    outcome: Outcome | None
    price: Price | None
    size: Shares


class SideNumbers(msgspec.Struct, frozen=True, gc=False):
    """How one side came to its price and size, in the order in which it happened. Prices in ticks in YES terms, sizes in millionths."""

    wish: float
    """Where the model and its adjustments would stand if there were no grid."""
    closest: int
    """The price nearest to fair value that is not through it."""
    first: int | None
    """Where the first level stands on the grid; None when no legal price is left."""
    size: Shares
    """Of one level, after inventory and the taper."""
    room: Shares
    """What the limits on buying leave to the whole side ..."""
    cap: Why
    """... and the one that leaves least."""
    net_room: Shares
    stock: Shares
    """What is owned of the token that this side sells."""


class Numbers(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a model and its adjustments made of a market. Prices and distances in ticks, volatility per square root of a second."""

    model: str
    fair: float
    fair_value: str
    """Which fair value it is; the mid stands in for a micro-price that is not known yet."""
    mid: float
    inventory: float
    """In orders."""
    sigma_short: float | None
    sigma_long: float | None
    sigma: float
    """The higher of the two; 0 while neither is known."""
    tau_s: float
    skew: float
    reservation: float
    model_bid: float
    model_ask: float
    toxicity: float
    """Added to the distance of either side: what our fills lose on average."""
    toxicity_zscore: float | None
    rewards: float
    """Taken off the distance of either side."""
    rewards_reason: str | None
    """None when rewards are not farmed."""
    trend: float
    """By how much the ask (above 0) or the bid (below) steps back from a trend."""
    taper: float
    """Part of the net position that is still allowed before the market's end."""
    concession: int
    """By how much an exit asks less than the touch."""
    bid: SideNumbers | None
    ask: SideNumbers | None

    @property
    def half_spread(self) -> float:
        """As the model says, before adjustments and the grid."""
        return (self.model_ask - self.model_bid) / 2


class Thought(msgspec.Struct, frozen=True, gc=False):
    """What a decision was made of, as it lay at hand. Most decisions are read by nobody: `numbers` sorts it for those who do."""

    model: str
    fair_value: str
    sigma_short: float | None
    sigma_long: float | None
    inputs: Inputs
    unsnapped: Unsnapped
    adjustments: Adjustments
    wish: Unsnapped
    """The quotes after adjustments."""
    evidence: tuple[float, float] | None
    rewards_reason: str | None
    taper: float
    concession: int
    bid: SideNumbers | None
    ask: SideNumbers | None
    """Their own wishes may be of an earlier moment."""

    def numbers(self) -> Numbers:
        inputs, unsnapped, adjustments = self.inputs, self.unsnapped, self.adjustments
        return Numbers(
            model=self.model,
            fair=inputs.fair,
            fair_value=self.fair_value,
            mid=inputs.mid,
            inventory=inputs.inventory,
            sigma_short=self.sigma_short,
            sigma_long=self.sigma_long,
            sigma=inputs.sigma,
            tau_s=inputs.tau_s,
            skew=inputs.fair - unsnapped.reservation,
            reservation=unsnapped.reservation,
            model_bid=unsnapped.bid,
            model_ask=unsnapped.ask,
            toxicity=adjustments.toxicity,
            toxicity_zscore=None if self.evidence is None else self.evidence[1],
            rewards=adjustments.rewards,
            rewards_reason=self.rewards_reason,
            trend=adjustments.trend,
            taper=self.taper,
            concession=self.concession,
            bid=None if self.bid is None else replace(self.bid, wish=self.wish.bid),
            ask=None if self.ask is None else replace(self.ask, wish=self.wish.ask),
        )


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Both sides of one market at one time, and the numbers they came from.

    `bid` and `ask` are the first level; sizes are what all its token orders add up to.
    """

    at_ms: int
    bid: Quote | Skipped
    ask: Quote | Skipped
    best_bid: Price | None
    best_ask: Price | None
    mid: Price | None
    tick: Price
    regime: Regime
    net: Shares
    thought: Thought | None
    """None where no model ran, because a gate said no."""
    cause: Cause | None = None
    """Why a side sells for its own sake, if one does."""
    money: Usdc
    """What this market might have spent."""

    @property
    def numbers(self) -> Numbers | None:
        """What the model and its adjustments made of the market; None where no model ran."""
        return None if self.thought is None else self.thought.numbers()

    @property
    def sides(self) -> tuple[Quote | Skipped, Quote | Skipped]:
        return self.bid, self.ask


class Note(msgspec.Struct, frozen=True, gc=False):
    """What was decided, when it or its reason changed, and once a minute."""

    market: int
    decision: Decision


class Filled(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The account has booked this fill. The times are those of its order, the decision the one that sent it."""

    fill: Fill
    order_size: Shares
    sent_ms: int
    accepted_ms: int | None
    decision: Decision


class Warn(msgspec.Struct, frozen=True, gc=False):
    """Something a person should know once."""

    market: int
    text: str


class RegimeChanged(msgspec.Struct, frozen=True, gc=False):
    """A market behaves otherwise than before."""

    market: int
    before: Stance
    now: Stance


class Judged(msgspec.Struct, frozen=True, gc=False):
    """A fill has been measured at one horizon."""

    measured: Measured


Action = Place | Cancel | Merge | Pause | Resume | Halt | Rebalance | Note | Warn | Filled | RegimeChanged | Judged
