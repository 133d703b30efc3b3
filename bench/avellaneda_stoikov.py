"""The simulation of Avellaneda & Stoikov 2008 (Quantitative Finance 8(3), 217-224), played by our model of that name.

    python bench/avellaneda_stoikov.py [--paths N] [--seed N]

The price starts at 100 and moves +- sigma sqrt(dt) each step; a quote at distance d from it fills with probability
A exp(-k d) dt. One tick is one unit of price. Prints what the inventory strategy and the symmetric one (the same spread around the price)
earn beside the paper's figures of 1,000 paths; exits 1 when an inventory row misses its bar. 20,000 paths take about a minute.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from mmtools.trading.params import Params
from mmtools.trading.quoting import MODELS, Inputs

START, T, SIGMA, DT, K, A = 100.0, 1.0, 2.0, 0.005, 1.5, 140.0
PROFIT_WITHIN, DEVIATIONS_WITHIN, SPREAD_WITHIN = 0.7, 0.08, 0.01
"""What an inventory row may be off: profit and spread in ticks, both standard deviations in parts of the paper's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Means over all paths: spread and profit in ticks, final inventory in units."""

    spread: float
    profit: float
    profit_deviation: float
    final_q: float
    final_q_deviation: float


def _paper(spread: float, profit: float, profit_deviation: float, final_q: float, final_q_deviation: float) -> Result:
    return Result(spread=spread, profit=profit, profit_deviation=profit_deviation, final_q=final_q, final_q_deviation=final_q_deviation)


INVENTORY: Mapping[float, Result] = {
    0.1: _paper(1.49, 65.0, 6.6, 0.08, 2.9),
    0.01: _paper(1.35, 68.6, 8.7, 0.12, 5.1),
    1.0: _paper(3.02, 31.4, 5.0, 0.02, 1.7),
}
"""The paper's tables by gamma. The third spread is 3.02 there; its own formula makes 3.03 of it."""
SYMMETRIC: Mapping[float, Result] = {
    0.1: _paper(1.49, 68.4, 12.7, 0.26, 8.4),
    0.01: _paper(1.35, 68.8, 12.8, 0.09, 8.7),
    1.0: _paper(3.02, 44.0, 11.0, 0.00, 5.1),
}


def average_spread(gamma: float) -> float:
    """Return the mean over all steps of gamma sigma^2 (T - t) + (2 / gamma) ln(1 + gamma / k), which no chance enters."""
    return gamma * SIGMA**2 * T / 2 * (1 + DT) + 2 / gamma * math.log1p(gamma / K)


def simulate(gamma: float, chance: Random, paths: int, *, symmetric: bool = False) -> Result:
    """Return what `paths` paths come to."""
    params = Params(model="avellaneda-stoikov", gamma_risk_aversion=gamma, order_arrival_decay_per_tick=K, max_skew_ticks=1e9)
    runs = [_path(params, chance, symmetric) for _ in range(paths)]
    spreads, profits, inventories = zip(*runs, strict=True)
    return Result(
        spread=statistics.fmean(spreads),
        profit=statistics.fmean(profits),
        profit_deviation=statistics.stdev(profits),
        final_q=statistics.fmean(inventories),
        final_q_deviation=statistics.stdev(inventories),
    )


def _path(params: Params, chance: Random, symmetric: bool) -> tuple[float, float, int]:
    """Return average spread, profit and final inventory of one path."""
    model, draw = MODELS[params.model], chance.random
    s, cash, q, spreads = START, 0.0, 0, 0.0
    steps, move = round(T / DT), SIGMA * math.sqrt(DT)
    for step in range(steps):
        wish = model(
            Inputs(fair=s, mid=s, inventory=q, sigma=SIGMA, tau_s=T - step * DT, best_bid=99, best_ask=101, top=1000),
            params,
        )
        half = wish.half_spread
        spreads += 2 * half
        bid, ask = (s - half, s + half) if symmetric else (wish.bid, wish.ask)
        # A large inventory puts a quote beyond the price, where A exp(-k d) dt is more than certain and `draw` always below it.
        bought, sold = draw() < A * math.exp(-K * (s - bid)) * DT, draw() < A * math.exp(-K * (ask - s)) * DT
        if bought:
            cash, q = cash - bid, q + 1
        if sold:
            cash, q = cash + ask, q - 1
        s += move if draw() < 0.5 else -move
    return spreads / steps, cash + q * s, q


def misses(gamma: float, found: Result) -> list[str]:
    """Return in what an inventory row is off by more than it may."""
    paper = INVENTORY[gamma]
    limits = {
        "spread": (found.spread, average_spread(gamma), SPREAD_WITHIN),
        "profit": (found.profit, paper.profit, PROFIT_WITHIN),
        "std profit": (found.profit_deviation, paper.profit_deviation, DEVIATIONS_WITHIN * paper.profit_deviation),
        "std final q": (found.final_q_deviation, paper.final_q_deviation, DEVIATIONS_WITHIN * paper.final_q_deviation),
    }
    return [
        f"gamma {gamma:g}: {name} is {is_:.3f}, {bar:.3f} +- {within:.3f} was asked"
        for name, (is_, bar, within) in limits.items()
        if not abs(is_ - bar) <= within
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description="plays the simulation of Avellaneda & Stoikov 2008")
    arguments.add_argument("--paths", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    if given.paths < 1000:
        arguments.error("the bars are for 1,000 paths or more")
    print(f"{given.paths} paths, seed {given.seed}; each figure beside the paper's\n")
    print(f"{'gamma':<7}{'strategy':<12}{'spread':>14}{'profit':>16}{'std profit':>16}{'final q':>16}{'std final q':>15}")
    missed: list[str] = []
    for gamma in INVENTORY:
        for strategy, paper in (("inventory", INVENTORY[gamma]), ("symmetric", SYMMETRIC[gamma])):
            found = simulate(gamma, Random(given.seed), given.paths, symmetric=strategy == "symmetric")
            print(
                f"{gamma:<7g}{strategy:<12}"
                f"{found.spread:>8.3f} {paper.spread:>5.2f}"
                f"{found.profit:>10.2f} {paper.profit:>5.1f}"
                f"{found.profit_deviation:>10.2f} {paper.profit_deviation:>5.1f}"
                f"{found.final_q:>10.2f} {paper.final_q:>5.2f}"
                f"{found.final_q_deviation:>9.2f} {paper.final_q_deviation:>5.1f}"
            )
            if strategy == "inventory":
                missed += misses(gamma, found)
    print("\n" + ("\n".join(f"bar MISSED: {line}" for line in missed) or "bar held by the inventory strategy at every gamma"))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
