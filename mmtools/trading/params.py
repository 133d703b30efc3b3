"""The knobs of a maker, named as people write them in a run config, in the units they write them in.

Only values and what makes a value impossible; the reasons for each default stand in configs/paper.yaml. `config` reads
them from YAML; the modules of `trading/` turn what they need into millionths or ticks once, when they are built.
"""

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
Model = Literal["fixed", "avellaneda-stoikov"]
QueueModel = Literal["risk-averse", "power", "power2", "power3", "log", "log2", "optimistic"]
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
    max_skew_ticks: NotNegative = 5.0
    reprice_after: Annotated[int, Meta(ge=1)] = 1
    fair_value: Literal["mid", "weighted-mid"] = "mid"

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
    seed: Annotated[int, Meta(ge=0)] = 1

    def __post_init__(self) -> None:
        for name in AMOUNTS:
            number = getattr(self, name)
            if number is not None:
                try:
                    units.of(number)
                except ValueError as e:
                    raise ValueError(f"`{name}`: {e}; write it with at most six decimals") from None
