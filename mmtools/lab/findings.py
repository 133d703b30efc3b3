"""What calibration found: the `mmtools.calibration/1` document, and the table and sentences a person reads.

Both are made from the orders and their plan alone. Intervals come from blocks of one market and one minute of placement;
each is drawn with the same seed, so that it does not depend on which others were asked for.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mmtools.lab import metrics
from mmtools.lab.calibrate import BEHIND, Found, Hypothetical, Plan, Stand
from mmtools.runs import notation
from mmtools.trading.markouts import HORIZONS_S
from mmtools.units import text

SCHEMA = "mmtools.calibration/1"
MINUTE_MS = 60_000
UNKNOWN = "?"
READ_WIDTH = 110

READ_IT = (
    "Prints are real; where an order stood among the others is a guess, and a queue model is such a guess. Nobody saw these orders, so all"
    " others traded and cancelled as if they were not there. The truth should lie between risk_averse and optimistic: where those two are"
    " far apart, believe no single figure.",
    "Brackets hold 95 % of the rates that minutes like these would give. They know neither other days nor that the markets of one game"
    " move together, so they are too narrow; ? is unknown.",
    "A markout is what a filled share gained against the mid so much later, in ticks: below zero, those who traded knew better. The orders"
    " stand still for all of their life, which a maker would not; and the time to fill is that of orders that filled.",
)


@dataclass(frozen=True, slots=True)
class Source:
    """A recording that was read."""

    name: str
    sha256: str
    prints: int
    """Trades in it: without them nothing can fill."""


def document(found: Found, plan: Plan, sources: Sequence[Source], *, seed: int) -> dict[str, Any]:
    """Return all figures. Those of a model are over all distances; `distances` holds them apart, by ticks behind the touch."""
    return {
        "schema": SCHEMA,
        "calibration": {
            "orders": len(found.orders),
            "prints": sum(source.prints for source in sources),
            "models": {
                name: {
                    "queue_model": model.name,
                    "queue_power": model.power if model.name.startswith("power") else None,
                    **_figures(found.orders, name, seed),
                    "distances": {
                        str(behind): _figures([order for order in found.orders if order.behind == behind], name, seed) for behind in BEHIND
                    },
                }
                for name, model in plan.models.items()
            },
        },
        "left_out": dict(sorted(found.left_out.items())),
        "assumptions": {
            "latency_ms": plan.latency_ms,
            "explain_ms": plan.explain_ms,
            "trade_side": plan.trade_side,
            "size": text(plan.size),
            "life_s": plan.life_ms / 1000,
            "every_s": plan.every_ms / 1000,
            "max_data_gap_s": plan.max_gap_ms / 1000,
            "seed": seed,
            "draws": metrics.DRAWS,
            "recordings": [{"name": source.name, "sha256": source.sha256, "prints": source.prints} for source in sources],
        },
    }


def table(result: dict[str, Any]) -> str:
    """Return the result as a person reads it: a row per model and distance, what was left out, what it assumes, how to read it."""
    import textwrap

    found, assumed = result["calibration"], result["assumptions"]
    rows = []
    for name, model in found["models"].items():
        rows.append([name, "all", *_cells(model)])
        rows += [["", "touch" if behind == "0" else f"{behind} behind", *_cells(at)] for behind, at in model["distances"].items()]
    heads = ["model", "distance", "orders", "fill rate", "s to fill", *(f"+{horizon_s} s" for horizon_s in HORIZONS_S)]
    recordings = ", ".join(source["name"] for source in assumed["recordings"])
    silent = [source["name"] for source in assumed["recordings"] if not source["prints"]]
    lines = [
        f"{found['orders']} hypothetical orders of {assumed['size']} shares beside {found['prints']} prints of {recordings};"
        " the right half is the markout, in ticks per share",
        "",
        notation.table(heads, rows, "<<" + ">" * (len(heads) - 2)),
        "",
        f"left out   {_counts(result['left_out'])}",
        f"assumes    an order at the touch and {BEHIND[1]} and {BEHIND[-1]} ticks behind it, on both sides, every {assumed['every_s']:g} s"
        f" in each market, living {assumed['life_s']:g} s; it arrives {assumed['latency_ms']} ms late; trade_side {assumed['trade_side']},"
        f" explain_ms {assumed['explain_ms']}, seed {assumed['seed']}",
        *(f"note       {name} holds no prints: nothing can fill there, and its orders say nothing" for name in silent),
        "",
        *(line for paragraph in READ_IT for line in textwrap.wrap(paragraph, READ_WIDTH)),
    ]
    return "\n".join(lines)


def _figures(orders: Sequence[Hypothetical], model: str, seed: int) -> dict[str, Any]:
    """Return what became of orders in one model's queue."""
    stands = [order.stands[model] for order in orders]
    touched = [stand for stand in stands if stand.first_ms is not None]
    rates = _blocks(stands, lambda stand: (stand.filled, stand.order.size))
    seconds = metrics.quartiles((stand.first_ms - stand.order.arrived_ms) / 1000 for stand in touched if stand.first_ms is not None)
    return {
        "orders": len(orders),
        "shares_placed": text(sum(order.size for order in orders)),
        "shares": text(sum(stand.filled for stand in stands)),
        "fill_rate": _rounded(metrics.ratio(rates)),
        "interval": _interval(rates, seed),
        "touched": _rounded(metrics.ratio([(len(touched), len(orders))])),
        "first_fill_s": None if seconds is None else {part: _rounded(value) for part, value in seconds._asdict().items()},
        "markouts": {str(horizon_s): _markout(touched, place, seed) for place, horizon_s in enumerate(HORIZONS_S)},
    }


def _markout(touched: Sequence[Stand], place: int, seed: int) -> dict[str, Any]:
    """Return the mean markout at one horizon, in ticks per share, weighted by shares."""
    gains = _blocks(touched, lambda stand: (stand.gained[place] / stand.order.tick, stand.measured[place]))
    return {
        "mean": _rounded(metrics.ratio(gains)),
        "interval": _interval(gains, seed),
        "shares": text(sum(stand.measured[place] for stand in touched)),
    }


def _blocks(stands: Iterable[Stand], parts: Callable[[Stand], tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the sums of numerators and denominators of what was placed in one market within one minute."""
    blocks: dict[tuple[str, int], tuple[float, float]] = {}
    for stand in stands:
        key = (stand.order.market, stand.order.placed_ms // MINUTE_MS)
        above, below = blocks.get(key, (0, 0))
        numerator, denominator = parts(stand)
        blocks[key] = (above + numerator, below + denominator)
    return list(blocks.values())


def _interval(blocks: Sequence[tuple[float, float]], seed: int) -> list[float | None] | None:
    interval = metrics.ratio_interval(blocks, random.Random(seed))
    return None if interval is None else [_rounded(bound) for bound in interval]


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


def _cells(figures: dict[str, Any]) -> list[str]:
    rate, interval, seconds = figures["fill_rate"], figures["interval"], figures["first_fill_s"]
    bounds = UNKNOWN if interval is None else f"{100 * interval[0]:.1f}, {100 * interval[1]:.1f}"
    return [
        str(figures["orders"]),
        UNKNOWN if rate is None else f"{100 * rate:.1f} % [{bounds}]",
        UNKNOWN if seconds is None else f"{seconds['median']:.1f}",
        *(UNKNOWN if at["mean"] is None else f"{at['mean']:+.2f}" for at in figures["markouts"].values()),
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"
