"""Where to quote: a bid and an ask in YES terms. Opinions are floats in ticks; they are snapped to the grid once, here.

A model says where to quote before the grid is thought of (`unsnapped`); `snap` makes legal prices of it: bid < fair < ask,
at least one tick apart, never crossing the market. Sizes and money are the business of `desk`, tokens that of `orders`.
Called by the desk; `MODELS` is where a new model is added.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from mmtools.trading.params import Params


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
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


@dataclass(frozen=True, slots=True)
class Unsnapped:
    """Where a model would quote on a grid of no width: bid < ask, in ticks."""

    reservation: float
    bid: float
    ask: float

    @property
    def half_spread(self) -> float:
        return (self.ask - self.bid) / 2


def skew(inputs: Inputs, params: Params) -> float:
    """Return by how many ticks inventory lowers the reservation price: q gamma sigma^2 tau (Avellaneda & Stoikov 2008).

    Capped by `max_skew_ticks` both ways.
    """
    wish = inputs.inventory * params.gamma_risk_aversion * inputs.sigma**2 * inputs.tau_s
    return max(-params.max_skew_ticks, min(params.max_skew_ticks, wish))


def fixed(inputs: Inputs, params: Params) -> Unsnapped:
    """Half-spread of `default_half_spread_bps` of the mid, around the skewed reservation price."""
    reservation = inputs.fair - skew(inputs, params)
    half = inputs.mid * params.default_half_spread_bps / 10_000
    return Unsnapped(reservation, reservation - half, reservation + half)


def avellaneda_stoikov(inputs: Inputs, params: Params) -> Unsnapped:
    """Avellaneda & Stoikov 2008: gamma sigma^2 tau + (2 / gamma) ln(1 + gamma / k) from bid to ask, around r = s - q gamma sigma^2 tau."""
    gamma, k = params.gamma_risk_aversion, params.order_arrival_decay_per_tick
    reservation = inputs.fair - skew(inputs, params)
    half = (gamma * inputs.sigma**2 * inputs.tau_s + 2 / gamma * math.log1p(gamma / k)) / 2
    return Unsnapped(reservation, reservation - half, reservation + half)


MODELS: dict[str, Callable[[Inputs, Params], Unsnapped]] = {"fixed": fixed, "avellaneda-stoikov": avellaneda_stoikov}


@dataclass(frozen=True, slots=True)
class Snapped:
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
