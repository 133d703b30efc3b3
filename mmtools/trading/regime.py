"""The regime of a market: how it behaves now, and what that means for our quotes. The desk holds a `Watch`; the maker asks it.

QUIET: quote as the model says. TRENDING: the side that the trend runs into steps back. EVENT: everything is pulled until it has
been calm for a while. REDUCE_ONLY: only what is owned is sold, for less the longer it takes. HALTED: nothing, for a person.
Only what the view and the clock say goes in; limits and money are the business of `risk`.
"""

import math
from enum import StrEnum

import msgspec

from mmtools.trading.market import Market
from mmtools.trading.params import Params
from mmtools.trading.signals import MOMENTUM_MS, MarketView

LEAST_TREND_TICKS = 2.0
"""A smaller move is the flicker of a mid between two ticks, however calm the market was."""
TREND_ENDS_BELOW = 0.5
"""Part of the threshold under which a trend is over: so that one that lies at the threshold does not come and go."""


class Regime(StrEnum):
    QUIET = "QUIET"
    TRENDING = "TRENDING"
    EVENT = "EVENT"
    REDUCE_ONLY = "REDUCE_ONLY"
    HALTED = "HALTED"


class Stance(msgspec.Struct, frozen=True, gc=False):
    """A regime, why, and since when. `trend` is 1 in a rising market, -1 in a falling one, else 0."""

    regime: Regime
    cause: str
    since_ms: int
    trend: int = 0


class Watch:
    """The regime of one market over time. Mutable: `look` moves it."""

    def __init__(self, params: Params) -> None:
        self.stance = Stance(Regime.QUIET, "the start", 0)
        self.exit_since_ms: int | None = None
        """Since when stock is only sold, events in between included."""
        self._params = params
        self._calm_at_ms = 0
        self._event = ""

    def restore(self, exit_since_ms: int) -> None:
        """An earlier process of this run has been selling out since then."""
        self.exit_since_ms = exit_since_ms

    def look(self, view: MarketView, now_ms: int, *, halted: str | None, exit_cause: str | None) -> bool:
        """See how the market behaves now; return whether the regime, or the direction of its trend, is another than before.

        halted: why nothing is quoted until a person looks, if so. exit_cause: why only what is owned may be sold, if so.
        """
        if exit_cause is None:
            self.exit_since_ms = None
        elif self.exit_since_ms is None:
            self.exit_since_ms = now_ms
        regime, cause, trend = self._regime(view, now_ms, halted, exit_cause)
        if (regime, trend) == (self.stance.regime, self.stance.trend):
            return False
        self.stance = Stance(regime, cause, now_ms, trend)
        return True

    def concession(self, now_ms: int) -> int:
        """Return by how many ticks the exit asks less than the touch by now."""
        if self.exit_since_ms is None:
            return 0
        return int((now_ms - self.exit_since_ms) / (self._params.exit_step_s * 1000))

    def _regime(self, view: MarketView, now_ms: int, halted: str | None, exit_cause: str | None) -> tuple[Regime, str, int]:
        if halted is not None:
            return Regime.HALTED, halted, 0
        event = self._new_event(view, now_ms)
        if event is not None:
            at_ms, self._event = event
            self._calm_at_ms = max(self._calm_at_ms, at_ms + round(self._params.event_cool_off_s * 1000))
        if now_ms < self._calm_at_ms:
            return Regime.EVENT, self._event, 0
        if exit_cause is not None:
            return Regime.REDUCE_ONLY, exit_cause, 0
        trend, cause = self._trend(view, now_ms)
        if trend:
            return Regime.TRENDING, cause, trend
        return Regime.QUIET, "nothing unusual", 0

    def _new_event(self, view: MarketView, now_ms: int) -> tuple[int, str] | None:
        """Return when it happened and what, if it lies within the last second: the cool-off must not depend on when somebody looks."""
        params = self._params
        if params.event_cool_off_s == 0 or view.fault is not None:
            return None
        jump = view.jump(now_ms)
        if jump and jump >= params.event_jump_ticks:
            usual = view.usual_volatility
            if usual is None or jump >= params.event_jump_sigmas * usual:
                return view.moved_ms, f"the mid moved {jump:g} ticks within a second"
        swept = view.sweep(now_ms)
        if swept >= params.event_sweep_levels:
            return view.printed_ms, f"takers of one side reached {swept} prices within a second"
        return None

    def _trend(self, view: MarketView, now_ms: int) -> tuple[int, str]:
        """Return the direction of the trend, 0 for none, and the cause."""
        params = self._params
        if params.trend_sigmas is None:
            return 0, ""
        momentum = view.momentum(now_ms)
        if momentum is None or abs(momentum) < LEAST_TREND_TICKS * TREND_ENDS_BELOW * view.book.tick:
            return 0, ""
        sigma = view.long_volatility(now_ms)
        if sigma is None:
            return 0, ""
        ticks = momentum / view.book.tick
        usual = sigma * math.sqrt(MOMENTUM_MS / 1000)
        needed = max(params.trend_sigmas * usual, LEAST_TREND_TICKS)
        direction = 1 if ticks > 0 else -1
        if self.stance.trend == direction:
            needed *= TREND_ENDS_BELOW
        if abs(ticks) < needed:
            return 0, ""
        return (
            direction,
            f"the mid moved {ticks:+g} ticks in {MOMENTUM_MS // 1000} s, {abs(ticks) / max(usual, 1e-9):.1f} standard deviations",
        )


TAPER_STEPS = 10
"""In how many steps the taper falls: a size that shrank at every look would give the place in the queue away every time."""


def taper(market: Market, params: Params, now_ms: int) -> float:
    """Return the part of the net position that is still allowed before the market's end: 1 far from it, 0 when quoting stops.

    1 where nobody said when the market ends.
    """
    if market.end_ms is None or params.taper_before_resolution_s == 0:
        return 1.0
    left_s = (market.end_ms - now_ms) / 1000 - params.stop_before_resolution_s
    part = min(max(left_s / params.taper_before_resolution_s, 0.0), 1.0)
    return math.floor(part * TAPER_STEPS) / TAPER_STEPS
