"""Where to quote: a bid and an ask in YES terms. Opinions are floats in ticks; they are snapped to the grid once, here.

A model says where to quote before the grid is thought of (`Unsnapped`), `adjusted` moves that for who trades with us; `snap` makes
legal prices of it: bid < fair < ask, at least one tick apart, never crossing the market. `ladder` sets the rungs behind them.
Money and limits are the business of `planner`, tokens that of `orders`. Called by the planner; `MODELS` is where a new model is added.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from mmtools import units
from mmtools.trading.market import Side
from mmtools.trading.orders import KEEP_DOWN_TO, KEEP_UP_TO
from mmtools.trading.params import DEFAULT_BANDS, Params
from mmtools.units import ONE, Shares

FARTHEST, WIDEST, NARROWEST = 12.0, 32.0, 1e-9
"""Bounds in log-odds: how far the reservation price and a quote may be from 0.5, and how near a quote may be to the reservation price.

Floats next to 1 are 1.1e-16 apart. At 32 a price is 1.3e-14 short of 1 and at 12 a distance of 1e-9 is 6e-15 of price, so neither
is lost in rounding. Nothing else is: 12 is 0.000006, a sixteenth of the finest tick, and quotes further out are off every grid.
"""


class Inputs(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a model looks at: prices in ticks, sigma in ticks per square root of a second."""

    fair: float
    mid: float
    inventory: float
    """YES less NO, in multiples of `default_order_size`."""
    sigma: float
    tau_s: float
    best_bid: int
    best_ask: int
    top: int
    """Ticks in one USDC."""


class Unsnapped(msgspec.Struct, frozen=True, gc=False):
    """Where a model would quote on a grid of no width: bid < ask, in ticks."""

    reservation: float
    bid: float
    ask: float

    @property
    def half_spread(self) -> float:
        return (self.ask - self.bid) / 2


def fixed(inputs: Inputs, params: Params) -> Unsnapped:
    """Half-spread of `default_half_spread_bps` of the mid, around the reservation price of Avellaneda & Stoikov."""
    return _around(inputs.fair - _lean(inputs, params), inputs.mid * params.default_half_spread_bps / 10_000)


def avellaneda_stoikov(inputs: Inputs, params: Params) -> Unsnapped:
    """Avellaneda & Stoikov 2008: gamma sigma^2 tau + (2 / gamma) ln(1 + gamma / k) from bid to ask, around r = s - q gamma sigma^2 tau."""
    gamma, k = params.gamma_risk_aversion, params.order_arrival_decay_per_tick
    half = (gamma * inputs.sigma**2 * inputs.tau_s + 2 / gamma * math.log1p(gamma / k)) / 2
    return _around(inputs.fair - _lean(inputs, params), half)


def glft(inputs: Inputs, params: Params) -> Unsnapped:
    """Gueant, Lehalle & Fernandez-Tapia, closed form for no horizon: equations 4.6 and 4.7 of arXiv 1605.01862, xi = gamma, Delta = 1.

    c1 = ln(1 + gamma / k) / gamma; c2 = sqrt(gamma / (2 A k) (1 + gamma / k)^(k / gamma + 1)); half-spread c1 + sigma c2 / 2, skew
    q sigma c2. tau does not enter.
    """
    gamma, k, arrivals = params.gamma_risk_aversion, params.order_arrival_decay_per_tick, params.order_arrival_per_s
    log = math.log1p(gamma / k)
    # In logs, because 1 + gamma / k forgets a small gamma / k before the power makes e of it. Where `Coefficient` ends c2 is 1e15.
    c2 = math.exp((math.log(gamma / (2 * arrivals * k)) + (k / gamma + 1) * log) / 2)
    return _around(inputs.fair - _capped(inputs.inventory * inputs.sigma * c2, params), log / gamma + inputs.sigma * c2 / 2)


def logit(inputs: Inputs, params: Params) -> Unsnapped:
    """Quotes in log-odds, which never leave (0, 1); the keys keep their meaning in ticks.

    At the fair value p one unit of log-odds is w = p (1 - p) `top` ticks. With sigma / w, gamma w and k w, quotes that are near the
    fair value beside w are those of `avellaneda_stoikov`.
    """
    fair, top = inputs.fair, inputs.top
    w = fair * (1 - fair / top)
    quotes = partial(
        log_odds,
        gamma=params.gamma_risk_aversion * w,
        sigma_b=inputs.sigma / w,
        tau=inputs.tau_s,
        k=params.order_arrival_decay_per_tick * w,
    )
    reservation, bid, ask = quotes(fair / top, inputs.inventory)
    if abs(reservation * top - fair) > params.max_skew_ticks:
        reservation, bid, ask = quotes((fair - math.copysign(params.max_skew_ticks, inputs.inventory)) / top, 0.0)
    return Unsnapped(reservation * top, bid * top, ask * top)


def log_odds(p: float, q: float, *, gamma: float, sigma_b: float, tau: float, k: float) -> tuple[float, float, float]:
    """Return reservation price, bid and ask as probabilities; in x = ln(p / (1 - p)) they are r_x and r_x -+ d_x (arXiv 2510.15205).

    r_x = x - q gamma sigma_b^2 tau; 2 d_x = gamma sigma_b^2 tau + (2 / gamma) ln(1 + gamma / k). The paper prints 2 / k in the second
    term, which then vanishes with gamma; with the 2 / gamma of Avellaneda & Stoikov 2008 it tends to 2 / k, as theirs does.
    p is at least 0.0001 and at most 0.9999. 0 < bid < reservation < ask < 1, and the bid is 1 - ask of (1 - p, -q).
    """
    risk = gamma * sigma_b**2 * tau
    r = math.log(p / (1 - p)) - q * risk
    d = max(NARROWEST, (risk + 2 / gamma * math.log1p(gamma / k)) / 2)
    return (
        _probability(max(-FARTHEST, min(FARTHEST, r))),
        _probability(max(-WIDEST, min(FARTHEST - NARROWEST, r - d))),
        _probability(max(NARROWEST - FARTHEST, min(WIDEST, r + d))),
    )


def bands(inputs: Inputs, params: Params) -> Unsnapped:
    """The average margin of the first rung, around the reservation price of Avellaneda & Stoikov; the other rungs are in `rungs`."""
    first = (params.bands or DEFAULT_BANDS)[0]
    return _around(inputs.fair - _lean(inputs, params), _ticks(first.avg_margin, ONE // inputs.top))


MODELS: dict[str, Callable[[Inputs, Params], Unsnapped]] = {
    "fixed": fixed,
    "avellaneda-stoikov": avellaneda_stoikov,
    "glft": glft,
    "logit": logit,
    "bands": bands,
}


def _lean(inputs: Inputs, params: Params) -> float:
    """Return q gamma sigma^2 tau (Avellaneda & Stoikov 2008), capped."""
    return _capped(inputs.inventory * params.gamma_risk_aversion * inputs.sigma**2 * inputs.tau_s, params)


def _capped(wish: float, params: Params) -> float:
    return max(-params.max_skew_ticks, min(params.max_skew_ticks, wish))


def _around(reservation: float, half: float) -> Unsnapped:
    return Unsnapped(reservation, reservation - half, reservation + half)


def _probability(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _ticks(margin: float, tick: int) -> float:
    """Return a margin in USDC as ticks, to twelve digits: 0.0079 is 79 ticks of 0.0001, and not the float that is next to 79."""
    return float(f"{margin * ONE / tick:.12g}")


class Adjustments(msgspec.Struct, frozen=True, gc=False):
    """What is changed about any model's quotes, in ticks."""

    toxicity: float = 0.0
    """Added to the distance of both quotes."""
    rewards: float = 0.0
    """Taken off it."""
    trend: float = 0.0
    """Above 0 takers lift asks, and the ask steps up by so much; below 0 the bid steps down."""

    def __post_init__(self) -> None:
        if not (self.toxicity >= 0 and self.rewards >= 0):
            raise ValueError(f"toxicity {self.toxicity} and rewards {self.rewards} must be at least 0 ticks")


NO_ADJUSTMENTS = Adjustments()
LEAST_HALF = 0.05
"""Ticks from the reservation price that rewards leave of a wider quote."""


def adjusted(unsnapped: Unsnapped, adjustments: Adjustments) -> Unsnapped:
    """Return a model's quotes with the adjustments; the reservation price stays. Without any they come back as they were, to the bit."""
    if adjustments is NO_ADJUSTMENTS:
        return unsnapped
    at, toxicity, rewards = unsnapped.reservation, adjustments.toxicity, adjustments.rewards
    bid, ask = unsnapped.bid - toxicity, unsnapped.ask + toxicity
    bid, ask = min(bid + rewards, max(bid, at - LEAST_HALF)), max(ask - rewards, min(ask, at + LEAST_HALF))
    return Unsnapped(at, bid + min(0.0, adjustments.trend), ask + max(0.0, adjustments.trend))


class Snapped(msgspec.Struct, frozen=True, gc=False):
    """The first level of each side in ticks; None where no legal price is left (below the first tick or above the last)."""

    bid: int | None
    ask: int | None


def closest(fair: float) -> tuple[int, int]:
    """Return the highest bid and the lowest ask, in ticks, that are not through fair value."""
    return math.ceil(fair) - 1, math.floor(fair) + 1


def snap(unsnapped: Unsnapped, inputs: Inputs) -> Snapped:
    """Return legal prices: the bid rounded down, the ask up, neither through fair value, neither taking from the market."""
    highest, lowest = closest(inputs.fair)
    bid = min(math.floor(unsnapped.bid), highest, inputs.best_ask - 1)
    ask = max(math.ceil(unsnapped.ask), lowest, inputs.best_bid + 1)
    return Snapped(bid if bid >= 1 else None, ask if ask <= inputs.top - 1 else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One order of the ladder on a side, and how long a resting order serves as it."""

    behind: float
    """Ticks behind the first rung."""
    size: Shares
    near: float | None
    """Ticks from the reservation price, the least at which a resting order keeps its place; None leaves that to `reprice_after`."""
    far: float | None
    """... and the most."""
    down_to: float
    """Parts of the wanted size between which what is left of a resting order is still good."""
    up_to: float


def rungs(params: Params, tick: int) -> tuple[Rung, ...]:
    """Return the ladder of the chosen model, best rung first: the bands, or `num_levels` rungs a tick apart. tick: millionths."""
    if params.model != "bands":
        size = Shares(units.of(params.default_order_size))
        return tuple(
            Rung(behind=float(level), size=size, near=None, far=None, down_to=KEEP_DOWN_TO, up_to=KEEP_UP_TO)
            for level in range(params.num_levels)
        )
    chosen = params.bands or DEFAULT_BANDS
    first = _ticks(chosen[0].avg_margin, tick)
    return tuple(
        Rung(
            behind=_ticks(band.avg_margin, tick) - first,
            size=Shares(units.of(band.avg_size)),
            near=_ticks(band.min_margin, tick),
            far=_ticks(band.max_margin, tick),
            down_to=band.min_size / band.avg_size,
            up_to=band.max_size / band.avg_size,
        )
        for band in chosen
    )


def ladder(side: Side, first: int, wish: float, rungs: Sequence[Rung]) -> tuple[int, ...]:
    """Return the price of each rung in ticks, rounded away from fair value and at least one behind the rung before; it may be off the grid.

    first: the first rung as `snap` returned it. wish: the model's bid or ask before that, from which the other rungs count, so that a
    first rung that had to give way to the touch does not move them.
    """
    prices = [first]
    for rung in rungs[1:]:
        if side is Side.BUY:
            prices.append(min(math.floor(wish - rung.behind), prices[-1] - 1))
        else:
            prices.append(max(math.ceil(wish + rung.behind), prices[-1] + 1))
    return tuple(prices)
