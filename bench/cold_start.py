"""What it costs to start: `--help` of every command (at most 5 x `python -c pass`), commands that need no network (at most 8 x).

    python bench/cold_start.py [--rounds N]

Those commands look at an empty state folder and at one that holds a run of six simulated minutes, whose kill switch was latched
and cleared. The programs take turns, and the ratios are of median CPU time: wall time says more about the neighbours.
`bin/_launch`, a shell and one `cmp`, is left out. Prints a table, exits 1 when a bar is missed.
"""

import argparse
import functools
import sys
import tempfile
from pathlib import Path

from measure import NOTHING, ROOT, command, machine, medians, run

HELP, OFFLINE = 5.0, 8.0
BARE = "python -c pass"
RUN_ID = "short"
CONFIG = f"run_id: {RUN_ID}\nfeed: synthetic\nduration_hours: 0.1\n"
ON_NOTHING = ("report --list", "halt")
ON_A_RUN = (
    "report --list",
    "report --list --json",
    f"report {RUN_ID}",
    f"report {RUN_ID} --json",
    f"report explain {RUN_ID} --order o17",
    f"report explain {RUN_ID} --order o17 --json",
    "halt",
    "halt --json",
)


def main() -> None:
    arguments = argparse.ArgumentParser(description="measures the start of commands")
    arguments.add_argument("--rounds", type=int, default=15)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmtools-cold-") as folder:
        missed = measure(given.rounds, filled(Path(folder)))
    sys.exit(1 if missed else 0)


def filled(folder: Path) -> Path:
    """Return a state folder with one finished run, whose kill switch is open again."""
    config, state = folder / "run.yaml", folder / "state"
    config.write_text(CONFIG)
    run(command("quote-run", "--config", str(config)), state=state)
    for change in ((), ("--clear",)):
        run(command("halt", "--run", RUN_ID, "--why", "measuring", *change), state=state)
    return state


def measure(rounds: int, state: Path) -> bool:
    """Print what every program takes; return whether one of them takes too much."""
    names = sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_symlink())
    bars = {f"{name} --help": HELP for name in names}
    programs = {BARE: functools.partial(run, NOTHING)} | {line: functools.partial(run, command(*line.split())) for line in bars}
    for lines, where, folder in ((ON_NOTHING, "empty", None), (ON_A_RUN, "a run", state)):
        for line in lines:
            name = f"{line} ({where})"
            bars[name], programs[name] = OFFLINE, functools.partial(run, command(*line.split()), state=folder)
    used = medians(programs, rounds)
    print(f"{machine()}; medians of {rounds} rounds\n")
    print(f"{'program':<48}{'CPU ms':>8}{'wall ms':>9}{'peak MB':>9}{'ratio':>8}{'bar':>6}")
    missed = False
    for name, one in used.items():
        ratio, bar = one.cpu_s / used[BARE].cpu_s, bars.get(name)
        missed = missed or (bar is not None and ratio > bar)
        row = f"{name:<48}{one.cpu_s * 1000:>8.1f}{one.wall_s * 1000:>9.1f}{one.peak_mb:>9.1f}{ratio:>8.2f}"
        print(row + ("" if bar is None else f"{bar:>6g}{'' if ratio <= bar else '  MISSED'}"))
    return missed


if __name__ == "__main__":
    main()
