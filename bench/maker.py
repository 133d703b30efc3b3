"""The full maker on the reference tape: rows a second of a replay, base alone and with the bracket, and what a wake of the maker costs.

    python bench/maker.py [RECORDING] [--rounds N]

Model avellaneda-stoikov, everything else by default: all gates, regimes, toxicity, markouts, the queue model. Rows are token rows of the
source, a level change on both tokens counting two. CPU is that of the replay alone, the tape loaded before; loading stands beside it.
Wakes are calls of the base maker; what one takes is measured in a run of its own, since the clock takes its part. Without RECORDING it is
the one that make_tape.py makes (1,000,000 rows, 100 ticks, seed 7). Prints a table, exits 1 when a bar is missed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from measure import PYTHON, machine, run
from reference import made

ROWS_PER_S = {"base alone": 0.5e6, "with the bracket": 0.2e6}
CHILD = """
import json, pathlib, sys, time
from mmtools.config import RunConfig
from mmtools.runs.engine import Engine
from mmtools.runs.journal import MemoryJournal
from mmtools.runs.session import head
from mmtools.trading.params import Params
from mmtools.venues import recording

path, bracket, timed = pathlib.Path(sys.argv[1]), sys.argv[2] == "with the bracket", sys.argv[3] == "timed"
params = Params(model="avellaneda-stoikov", bracket=bracket)
began = time.process_time()
tape = recording.read(path)
loading_s = time.process_time() - began
config = RunConfig(feed="recording", recording=str(path), params=params)
engine = Engine(feed=tape, params=params, journal=MemoryJournal(), head=head("bench", config, tape))
wakes = taken_ns = 0
on = engine.maker.on
def counted(event, now_ms):
    global wakes, taken_ns
    wakes += 1
    began = time.perf_counter_ns()
    actions = on(event, now_ms)
    taken_ns += time.perf_counter_ns() - began
    return actions
if timed:
    engine.maker.on = counted
began = time.process_time()
engine.skim()
cpu_s = time.process_time() - began
counts = engine.counts
print(json.dumps({
    "rows": counts.level_changes + counts.prints, "loading_s": loading_s, "cpu_s": cpu_s, "wakes": wakes, "taken_s": taken_ns / 1e9,
    "orders": engine.fold.orders.sent, "fills": engine.fold.fills, "total": engine.maker.account.total() / 1e6,
}))
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description="measures the maker on the reference tape")
    arguments.add_argument("recording", nargs="?", type=Path, help="default: one of make_tape.py")
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    path = given.recording or made(1_000_000, 100).path
    replay(path, "base alone", "plain")  # compiles the tape, and warms the disk's caches
    taken: dict[str, list[dict[str, Any]]] = {makers: [] for makers in ROWS_PER_S}
    for _ in range(given.rounds):
        for makers, runs in taken.items():
            runs.append(replay(path, makers, "plain"))
    watched = replay(path, "base alone", "timed")
    print(f"{path}\n{machine()}; medians of {given.rounds} rounds\n")
    print(f"{'makers':<18}{'rows':>10}{'CPU s':>8}{'rows/s':>11}{'bar':>9}{'loading s':>11}")
    held = []
    for makers, runs in taken.items():
        cpu_s = median(one["cpu_s"] for one in runs)
        rate = runs[0]["rows"] / cpu_s
        held.append(rate >= ROWS_PER_S[makers])
        loading_s = median(one["loading_s"] for one in runs)
        row = f"{makers:<18}{runs[0]['rows']:>10,}{cpu_s:>8.2f}{rate:>11,.0f}{ROWS_PER_S[makers]:>9,.0f}{loading_s:>11.3f}"
        print(row + ("" if held[-1] else "  MISSED"))
    print(
        f"\nbase: {watched['wakes']:,} wakes, {watched['taken_s'] / watched['wakes'] * 1e6:.0f} microseconds each;"
        f" {watched['orders']:,} orders, {watched['fills']:,} fills, {watched['total']:+.2f} USDC"
    )
    sys.exit(0 if all(held) else 1)


def replay(path: Path, makers: str, how: str) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile() as out:
        run((*PYTHON, "-c", CHILD, str(path), makers, how), output=Path(out.name))
        found: dict[str, Any] = json.loads(Path(out.name).read_text())
    return found


if __name__ == "__main__":
    main()
