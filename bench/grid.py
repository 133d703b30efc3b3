"""The bar of grids: 64 sets over 1e6 rows on two cores, at least 1.9 x as fast as on one.

    python bench/grid.py RECORDING [--sets N] [--rounds N]

RECORDING is a tape of 1e6 rows for the bar, or a smaller one to try. One core and two take turns, each in a state folder that
holds nothing; the ratio is of median wall time, so the machine must have nothing else to do. Prints a table, exits 1 when the
bar is missed.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from measure import Used, command, machine, run

FASTER = 1.9
SETS = 64


def main() -> None:
    arguments = argparse.ArgumentParser(description="measures a grid on one core and on two")
    arguments.add_argument("recording")
    arguments.add_argument("--sets", type=int, default=SETS)
    arguments.add_argument("--rounds", type=int, default=1)
    given = arguments.parse_args()
    if not Path(given.recording).is_file():
        arguments.error(f"there is no recording {given.recording}; give its path")
    used: dict[int, list[Used]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="mmtools-bench-") as folder:
        grid = Path(folder) / "grid.yaml"
        # Wider and wider quotes: every set has orders and fills of its own, and about as much to do.
        spreads = [50 + place for place in range(given.sets)]
        grid.write_text(f"objective: total\nbase:\n  bracket: false\ngrid:\n  default_half_spread_bps: {spreads}\n")
        for _ in range(given.rounds):
            for jobs in used:
                used[jobs].append(run(command("replay", "--grid", str(grid), given.recording, "--jobs", str(jobs), "--json")))
    print(f"{given.recording}, {given.sets} sets\n{machine()}; medians of {given.rounds} rounds\n")
    print(f"{'cores':<8}{'CPU s':>9}{'wall s':>9}{'s a set':>9}{'peak MB':>9}")
    for jobs, runs in used.items():
        cpu_s, wall_s, peak_mb = (statistics.median(getattr(one, part) for one in runs) for part in ("cpu_s", "wall_s", "peak_mb"))
        print(f"{jobs:<8}{cpu_s:>9.1f}{wall_s:>9.1f}{wall_s / given.sets:>9.2f}{peak_mb:>9.1f}")
    one, two = (statistics.median(one.wall_s for one in runs) for runs in used.values())
    held = one / two >= FASTER
    print(f"\nbar {'held' if held else 'MISSED'}: two cores are {one / two:.2f} x as fast as one (at least {FASTER:g})")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
