"""What it costs to start: `--help` of every command (at most 5 x `python -c pass`), an offline command (at most 8 x).

    python bench/cold_start.py [--rounds N]

The programs take turns, and the ratios are of median CPU time: wall time says more about the neighbours. `bin/_launch`, a
shell and one `cmp`, is left out. Prints a table, exits 1 when a bar is missed.
"""

import argparse
import functools
import sys

from measure import NOTHING, ROOT, command, machine, medians, run

HELP, OFFLINE = 5.0, 8.0
BARE = "python -c pass"


def main() -> None:
    arguments = argparse.ArgumentParser(description="measures the start of commands")
    arguments.add_argument("--rounds", type=int, default=15)
    given = arguments.parse_args()
    names = sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_symlink())
    bars = {f"{name} --help": HELP for name in names} | {"report --list": OFFLINE}
    programs = {BARE: NOTHING} | {line: command(*line.split()) for line in bars}
    used = medians({name: functools.partial(run, argv) for name, argv in programs.items()}, given.rounds)
    print(f"{machine()}; medians of {given.rounds} rounds\n")
    print(f"{'program':<20}{'CPU ms':>8}{'wall ms':>9}{'peak MB':>9}{'ratio':>8}{'bar':>6}")
    missed = False
    for name, one in used.items():
        ratio, bar = one.cpu_s / used[BARE].cpu_s, bars.get(name)
        missed = missed or (bar is not None and ratio > bar)
        row = f"{name:<20}{one.cpu_s * 1000:>8.1f}{one.wall_s * 1000:>9.1f}{one.peak_mb:>9.1f}{ratio:>8.2f}"
        print(row + ("" if bar is None else f"{bar:>6g}{'' if ratio <= bar else '  MISSED'}"))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
