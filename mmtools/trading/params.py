"""The knobs of a maker, named as people write them in a run config, in the units they write them in.

Only values and what makes a value impossible; the reasons for each default stand in configs/paper.yaml. `config` reads
them from YAML; the modules of `trading/` turn what they need into millionths or ticks once, when they are built.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mmtools import units

Positive = Annotated[float, Meta(gt=0)]
Seconds = Annotated[float, Meta(ge=0.001)]
"""Becomes milliseconds, of which 0 would be no interval at all."""
NotNegative = Annotated[float, Meta(ge=0)]
Coefficient = Annotated[float, Meta(ge=1e-6, le=1e6)]
"""Of a formula that divides by it: further out, floats have nothing left to say."""
Fraction = Annotated[float, Meta(gt=0, le=1)]
Model = Literal["fixed", "avellaneda-stoikov", "glft", "logit", "bands"]
FairValue = Literal["mid", "weighted-mid", "micro-price"]
QueueModel = Literal["risk-averse", "power", "power2", "power3", "log", "log2", "optimistic", "never", "touch"]
"""`never` and `touch` are no models of a queue: they are what a naive paper mode does, to hold beside the others."""
TradeSide = Literal["stated", "unknown", "flipped"]

AMOUNTS = (
    "default_order_size",
    "max_position",
    "max_net_position",
    "max_event_exposure",
    "capital",
    "max_daily_loss",
    "max_drawdown",
    "min_balance_to_quote",
)
"""The fields that become millionths: at most six decimals."""


def require_millionths(struct: msgspec.Struct, names: Iterable[str]) -> None:
    """Raise ValueError when one of these fields has more than six decimals; None is no number."""
    for name in names:
        number = getattr(struct, name)
        if number is not None:
            try:
                units.of(number)
            except ValueError as e:
                raise ValueError(f"`{name}`: {e}; write it with at most six decimals") from None


class Band(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rung of the model `bands`, on both sides: margins in USDC from the reservation price, sizes in shares.

    An order is placed at the average margin with the average size, and stays while it is within the least and the most of both.
    """

    min_margin: Positive
    avg_margin: Positive
    max_margin: Positive
    min_size: Positive
    avg_size: Positive
    max_size: Positive

    def __post_init__(self) -> None:
        for what in ("margin", "size"):
            least, average, most = (getattr(self, f"{name}_{what}") for name in ("min", "avg", "max"))
            if not least <= average <= most:
                raise ValueError(f"`bands`: min_{what} {least:g}, avg_{what} {average:g} and max_{what} {most:g} must not fall")
        require_millionths(self, ("min_size", "avg_size", "max_size"))


DEFAULT_BANDS = (
    Band(min_margin=0.005, avg_margin=0.01, max_margin=0.02, min_size=25.0, avg_size=50.0, max_size=75.0),
    Band(min_margin=0.02, avg_margin=0.03, max_margin=0.04, min_size=50.0, avg_size=100.0, max_size=150.0),
)
"""The ladder of the model `bands` where none is given."""


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares and USDC are plain numbers here; None switches a limit off. Raises ValueError for what must not exist."""

    # what to quote
    model: Model = "fixed"
    quote_interval_s: Seconds = 2.0
    num_levels: Annotated[int, Meta(ge=1, le=20)] = 1
    default_order_size: Annotated[float, Meta(ge=0.01)] = 50.0
    default_half_spread_bps: Positive = 50.0
    gamma_risk_aversion: Coefficient = 0.3
    horizon_s: Positive = 5.0
    order_arrival_decay_per_tick: Coefficient = 2.0
    order_arrival_per_s: Coefficient = 0.1
    bands: Annotated[tuple[Band, ...], Meta(max_length=20)] = ()
    max_skew_ticks: NotNegative = 5.0
    reprice_after: Annotated[int, Meta(ge=1)] = 1
    fair_value: FairValue = "mid"
    rewards_farming: bool = False

    # who trades with us, and what the market does
    toxicity_widening: NotNegative = 1.0
    toxicity_horizon_s: Literal[1, 5, 30, 120] = 30
    toxicity_zscore: NotNegative = 1.0
    event_jump_ticks: Positive = 3.0
    event_jump_sigmas: NotNegative = 4.0
    event_sweep_levels: Annotated[int, Meta(ge=2)] = 3
    event_cool_off_s: NotNegative = 5.0
    trend_sigmas: Positive | None = 2.0
    trend_step_ticks: NotNegative = 1.0
    exit_step_s: Seconds = 30.0
    taper_before_resolution_s: NotNegative = 1800.0

    # limits
    capital: Positive = 1000.0
    max_position: Positive = 200.0
    max_net_position: Positive = 100.0
    max_event_exposure: Positive | None = None
    max_daily_loss: Positive | None = 100.0
    max_drawdown: Positive | None = 100.0
    max_error_rate: Fraction = 0.2
    max_data_gap_s: Seconds = 30.0
    resume_after_s: NotNegative = 5.0
    stop_before_game_s: NotNegative = 60.0
    stop_before_resolution_s: NotNegative = 300.0

    # money
    balance_aware_quoting: bool = True
    min_balance_to_quote: NotNegative = 1.0
    position_recycling: bool = True
    recycle_profit_threshold: NotNegative = 0.01
    merge_latency_ms: Annotated[int, Meta(ge=0)] = 5000

    # paper
    latency_ms: Annotated[int, Meta(ge=0)] = 100
    queue_model: QueueModel = "power"
    queue_power: Positive = 1.0
    trade_side: TradeSide = "stated"
    explain_ms: Annotated[int, Meta(ge=0)] = 250
    fill_probability_override: Fraction | None = None
    bracket: bool = True
    seed: Annotated[int, Meta(ge=0)] = 1

    def __post_init__(self) -> None:
        require_millionths(self, AMOUNTS)
        for nearer, farther in pairwise(self.bands):
            if not nearer.max_margin <= farther.min_margin:
                raise ValueError(
                    f"`bands`: a band up to {nearer.max_margin:g} and one from {farther.min_margin:g} overlap or stand in the wrong order; "
                    "write them from the nearest on, each beginning where the one before ends or later"
                )
