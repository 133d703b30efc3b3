"""Run configs: YAML into frozen structs, refused with file, line and what is allowed; and back into YAML with every default.

The values of `params` stand in `trading.params`; here is what surrounds them. Used by the rooms above `trading/`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mmtools.trading.params import NotNegative, Params, Positive

Share = Annotated[float, Meta(ge=0, le=1)]


class Shock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `at_s` after the start, for `duration_s`, the fair value moves `factor` times as much."""

    at_s: NotNegative
    duration_s: Positive
    factor: Positive


class News(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At `at_s` after the start the fair value jumps by `ticks` (down when negative)."""

    at_s: NotNegative
    ticks: float


class Synthetic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A seeded market with known fair value (the seed is `params.seed`). Rates are Poisson means, per market."""

    markets: Annotated[int, Meta(ge=1, le=20)] = 1
    start: str = "2026-01-01T00:00:00Z"
    tick: float = 0.01
    min_order_size: Positive = 5.0
    fair: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    volatility_ticks: NotNegative = 0.05
    """Of the fair value, per square root of a second."""
    trades_per_minute: NotNegative = 6.0
    trade_size: Positive = 40.0
    """Mean, shares (exponential)."""
    informed_share: Share = 0.3
    """Part of the takers who know the fair value; the rest buy or sell by a coin."""
    changes_per_minute: NotNegative = 60.0
    """Level changes by the other makers that no trade causes."""
    depth_levels: Annotated[int, Meta(ge=1, le=50)] = 10
    level_size: Positive = 300.0
    """Mean size that other makers keep at a level."""
    half_spread_ticks: Positive = 1.0
    """How far from the fair value, as they see it, the other makers begin."""
    maker_delay_s: NotNegative = 1.0
    """How late the other makers see the fair value: what informed takers live on."""
    print_lag_ms: Annotated[int, Meta(ge=0)] = 21
    """How long after its level decrease a print is stamped, as on the real feed."""
    jumps_per_hour: NotNegative = 0.5
    jump_ticks: Positive = 3.0
    news: tuple[News, ...] = ()
    shocks: tuple[Shock, ...] = ()
    resolves: Literal["yes", "no"] | None = None
    """How the market ends at the end of the run; None leaves it open."""


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run as a person writes it. `started_at`, `hypothesis`, `parent_run` and `changes_from_parent` are recorded, not obeyed."""

    run_id: str | None = None
    started_at: str | None = None
    duration_hours: Positive | None = None
    hypothesis: str | None = None
    parent_run: str | None = None
    changes_from_parent: str | dict[str, object] | list[object] | None = None
    feed: Literal["live", "recording", "synthetic"] = "live"
    recording: str | None = None
    """Path of the recording, for feed: recording; relative to the config file."""
    markets: tuple[str, ...] = ()
    """Slugs; none means every market of a recording or synthetic feed."""
    synthetic: Synthetic = Synthetic()
    params: Params = Params()
