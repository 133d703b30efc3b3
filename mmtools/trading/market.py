"""The nouns: a market, its tokens, our orders and fills, and why a side is not quoted. No behaviour beyond turning terms.

"YES terms" is the one book a market has: a bid buys YES or sells NO at 1 - price, an ask sells YES or buys NO at 1 - price.
Everything is decided in YES terms; only `orders.route` makes token orders. Everyone in `trading/` imports from here.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from mmtools.units import ONE, Price, Shares, Usdc

TICKS = (Price(100_000), Price(10_000), Price(5_000), Price(2_500), Price(1_000), Price(100))
"""Every tick the venue allows, coarsest first: 0.1, 0.01, 0.005, 0.0025, 0.001, 0.0001."""


class Side(StrEnum):
    """Of a token order; in YES terms BUY is the bid and SELL the ask."""

    BUY = "BUY"
    SELL = "SELL"

    sign: int
    """1 of BUY, -1 of SELL."""
    opposite: "Side"
    # Enum's own is a Python function, and sides are keys wherever something is decided.
    __hash__ = str.__hash__


Side.BUY.sign, Side.SELL.sign = 1, -1
Side.BUY.opposite, Side.SELL.opposite = Side.SELL, Side.BUY


class Outcome(StrEnum):
    """Which of a market's two tokens; the venue's first outcome is YES whatever its name."""

    YES = "YES"
    NO = "NO"

    other: "Outcome"
    __hash__ = str.__hash__


Outcome.YES.other, Outcome.NO.other = Outcome.NO, Outcome.YES


def yes_price(outcome: Outcome, price: int) -> Price:
    """Return a token price in YES terms; its own inverse."""
    return Price(price if outcome is Outcome.YES else ONE - price)


def yes_side(outcome: Outcome, side: Side) -> Side:
    """Return a token side in YES terms (selling NO is a bid); its own inverse."""
    return side if outcome is Outcome.YES else side.opposite


class OfToken:
    """What has a token, a side and a price can be read in YES terms."""

    __slots__ = ()
    outcome: Outcome
    side: Side
    price: Price

    @property
    def yes_side(self) -> Side:
        return yes_side(self.outcome, self.side)

    @property
    def yes_price(self) -> Price:
        return yes_price(self.outcome, self.price)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeSchedule:
    """A taker pays shares x rate x (p (1 - p)) ^ exponent USDC; makers of the market share `rebate_rate` of that. Makers pay nothing."""

    rate: float
    exponent: float = 1.0
    rebate_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTerms:
    """What a resting order needs to score for liquidity rewards; `daily_pool` is None when the venue did not say."""

    min_size: Shares
    max_spread: Price
    daily_pool: Usdc | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """One binary market as its venue describes it. None means that the source does not say, never "no"."""

    slug: str
    condition_id: str
    yes_token: str
    no_token: str
    tick: Price
    min_size: Shares
    outcomes: tuple[str, str] = ("Yes", "No")
    neg_risk: bool = False
    description: str | None = None
    version: str | None = None
    event: str | None = None
    fees: FeeSchedule | None = None
    rewards: RewardTerms | None = None
    end_ms: int | None = None
    game_start_ms: int | None = None
    accepting: bool | None = None
    volume_24h: Usdc | None = None

    def __post_init__(self) -> None:
        if self.tick not in TICKS:
            raise ValueError(f"{self.slug}: tick {self.tick} millionths is none of the venue's")
        if self.min_size <= 0:
            raise ValueError(f"{self.slug}: the minimum order size must be above 0")
        if self.yes_token == self.no_token:
            raise ValueError(f"{self.slug}: both outcomes have one token id")


class Order(OfToken, msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A post-only limit order for one token. `market` is the market's place in the run's list; `key` is our own name for it."""

    key: str
    market: int
    outcome: Outcome
    side: Side
    price: Price
    size: Shares

    def __post_init__(self) -> None:
        if not 0 < self.price < ONE:
            raise ValueError(f"order {self.key}: price {self.price} is not between 0 and 1")
        if self.size <= 0:
            raise ValueError(f"order {self.key}: size {self.size} is not above 0")


class Fill(OfToken, msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A part of one of our orders that traded. `price` is the token's; `mark` is the mid in YES terms of the last good book before it.

    Keyed by (trade_id, order_key): one trade can fill several of our orders.
    """

    trade_id: str
    order_key: str
    market: int
    outcome: Outcome
    side: Side
    price: Price
    size: Shares
    at_ms: int
    mark: Price
    fee: Usdc


class Why(StrEnum):
    """Why a side is not quoted. The order is that of the gates; the values are what counts, journals and reports show."""

    KILL_LATCHED = "kill_latched"
    PAUSED = "paused"
    DATA_GAP = "data_gap"
    BOOK_INCOMPLETE = "book_incomplete"
    BOOK_CROSSED = "book_crossed"
    BOOK_LOCKED = "book_locked"
    BOOK_EMPTY = "book_empty"
    BOOK_ONE_SIDED = "book_one_sided"
    FACTS_UNKNOWN = "facts_unknown"
    NOT_ACCEPTING = "not_accepting"
    NEAR_GAME_START = "near_game_start"
    NEAR_RESOLUTION = "near_resolution"
    EVENT = "event"
    DAILY_LOSS = "daily_loss"
    DRAWDOWN = "drawdown"
    ERROR_RATE = "error_rate"
    LOW_BALANCE = "low_balance"
    POSITION_CAP = "position_cap"
    NET_CAP = "net_cap"
    EVENT_CAP = "event_cap"
    TAPERED = "tapered"
    REDUCE_ONLY = "reduce_only"
    UNKNOWN_QUEUE = "unknown_queue"
    BELOW_MINIMUM = "below_minimum"
    NO_LEGAL_PRICE = "no_legal_price"
    SHORT_OF_MONEY = "short_of_money"

    __hash__ = str.__hash__


class Quote(msgspec.Struct, frozen=True, gc=False):
    """One side in YES terms that we want to stand for."""

    price: Price
    size: Shares

    def __post_init__(self) -> None:
        if not 0 < self.price < ONE or self.size <= 0:
            raise ValueError(f"no such quote: {self.size} at {self.price}")


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """One side that we do not stand for, and why."""

    why: Why
