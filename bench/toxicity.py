"""The bad maker: a market full of informed takers, quoted with and without `toxicity_widening`, seed by seed.

    python bench/toxicity.py [--seeds N]

Both makers meet the same market of each seed. Prints how often quotes were widened, what either lost on average, and what
widening saved with its 95 % interval over the seeds (paired); exits 1 when that interval reaches down to 0.
"""

import argparse
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmtools.config import RunConfig, Synthetic
from mmtools.runs.engine import Engine
from mmtools.runs.journal import MemoryJournal
from mmtools.runs.session import head
from mmtools.trading.params import Params
from mmtools.units import ONE
from mmtools.venues.synthetic import SyntheticFeed

SEEDS = 50
HOURS = 0.5
INFORMED = Synthetic(informed_share=0.9, trades_per_minute=20, volatility_ticks=0.5, changes_per_minute=10)
"""Nine in ten takers know the fair value, which moves three times as fast as in the demonstration."""


class Decisions(MemoryJournal):
    """Keeps by how many ticks each decision that was written widened the quotes."""

    keeps = True

    def __init__(self) -> None:
        self.widened: list[float] = []

    def write(self, record: dict[str, Any]) -> bool:
        if record["kind"] == "decision" and record["numbers"] is not None:
            self.widened.append(record["numbers"].get("toxicity_ticks", 0.0))
        return True


@dataclass(frozen=True, slots=True)
class Played:
    """One maker on one seed: USDC, and the part of its decisions that were widened and by how many ticks those were on average."""

    total: float
    fills: int
    widened: float
    ticks: float


def play(seed: int, widening: float) -> Played:
    """Quote the market of a seed for half an hour."""
    params = Params(
        seed=seed, toxicity_widening=widening, bracket=False, max_daily_loss=None, max_drawdown=None, quote_interval_s=5.0
    )  # fmt: skip
    run = RunConfig(feed="synthetic", duration_hours=HOURS, synthetic=INFORMED, params=params)
    feed = SyntheticFeed(INFORMED, seed=seed, duration_ms=round(HOURS * 3_600_000))
    journal = Decisions()
    engine = Engine(feed=feed, params=params, journal=journal, head=head("toxicity", run, feed))
    engine.run()
    widened = [ticks for ticks in journal.widened if ticks]
    return Played(
        engine.maker.account.total() / ONE,
        engine.fold.fills,
        len(widened) / len(journal.widened),
        statistics.mean(widened) if widened else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """Pairs of (without, with) over the seeds, and what widening saved: mean and half of its 95 % interval."""

    pairs: list[tuple[Played, Played]]
    saved: float
    interval: float


def compare(seeds: int) -> Compared:
    pairs = [(play(seed, 0.0), play(seed, 1.0)) for seed in range(1, seeds + 1)]
    differences = [widened.total - plain.total for plain, widened in pairs]
    # The normal quantile with a little for the t distribution of some fifty seeds.
    half = 2.01 * statistics.stdev(differences) / math.sqrt(seeds)
    return Compared(pairs, statistics.mean(differences), half)


def main() -> None:
    arguments = argparse.ArgumentParser(description="what toxicity_widening saves among informed takers")
    arguments.add_argument("--seeds", type=int, default=SEEDS)
    seeds = arguments.parse_args().seeds
    found = compare(seeds)
    print(f"{seeds} seeds, {HOURS:g} h each, {INFORMED.informed_share:.0%} of the takers informed\n")
    print(f"{'toxicity_widening':<20}{'total USDC':>12}{'fills':>8}{'widened':>9}{'by ticks':>10}")
    for name, place in (("0", 0), ("1", 1)):
        makers = [pair[place] for pair in found.pairs]
        means = [statistics.mean(getattr(maker, part) for maker in makers) for part in ("total", "fills", "widened", "ticks")]
        print(f"{name:<20}{means[0]:>12.2f}{means[1]:>8.1f}{means[2]:>9.1%}{means[3]:>10.2f}")
    better = sum(widened.total > plain.total for plain, widened in found.pairs)
    print(f"\nsaved {found.saved:.2f} +- {found.interval:.2f} USDC a run (95 %), in {better} of {seeds} seeds")
    sys.exit(0 if found.saved - found.interval > 0 else 1)


if __name__ == "__main__":
    main()
