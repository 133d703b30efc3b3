"""The bars of the recorded hockey game, 86,560 frames of six markets: quote-run, and replay for the first time and from its tape.

    python bench/nhl.py [RECORDING] [--rounds N]

Without RECORDING it is polymarket/recordings/nhl-20260607.jsonl.gz under $MMTOOLS_MARKET_DATA. Every part is a whole program
of its own, measured from outside and in turn with the others; the share of a part is the difference of two of them. Prints
a table, exits 1 when the bar is missed.
"""

import argparse
import functools
import os
import sys
from pathlib import Path

from measure import NOTHING, PYTHON, Used, command, machine, medians, run

CPU_S, PEAK_MB = 10.0, 120.0
FIRST_S, AGAIN_S = 6.0, 1.5
"""Of replay, with the bracket: where the recording is compiled, and where its tape is kept."""

IMPORTS = """
import sys
import mmtools.commands.quote_run, mmtools.runs.feeds, mmtools.runs.session, mmtools.venues.recording
"""
READ = IMPORTS + "import pathlib; mmtools.venues.recording.read(pathlib.Path(sys.argv[1]))"
LOADS = """
import gzip, json, sys
for line in gzip.open(sys.argv[1]) if sys.argv[1].endswith(".gz") else open(sys.argv[1], "rb"):
    json.loads(line)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description="measures quote-run over a recording")
    arguments.add_argument("recording", nargs="?", help="default: the hockey game under $MMTOOLS_MARKET_DATA")
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    path = given.recording or os.path.join(os.environ.get("MMTOOLS_MARKET_DATA", ""), "polymarket", "recordings", "nhl-20260607.jsonl.gz")
    if not Path(path).is_file():
        arguments.error(f"there is no recording {path}; give its path, or set MMTOOLS_MARKET_DATA")
    programs = {
        "python -c pass": NOTHING,
        "json.loads of every line": (*PYTHON, "-c", LOADS, path),
        "imports alone": (*PYTHON, "-c", IMPORTS),
        "imports, reading": (*PYTHON, "-c", READ, path),
        "replay": command("replay", path, "--json"),
        "replay, no bracket": command("replay", path, "--json", "--set", "bracket=false"),
        "quote-run": command("quote-run", "--recording", path, "--json"),
    }
    measured = {name: functools.partial(run, argv) for name, argv in programs.items()}
    measured["replay, first time"] = functools.partial(run, programs["replay"], first_time=True)
    used = medians(measured, given.rounds)
    print(f"{path}\n{machine()}; medians of {given.rounds} rounds\n")
    print(f"{'program':<26}{'CPU s':>8}{'wall s':>8}{'peak MB':>9}")
    for name, one in used.items():
        print(f"{name:<26}{one.cpu_s:>8.2f}{one.wall_s:>8.2f}{one.peak_mb:>9.1f}")
    print_parts(used)
    whole = used["quote-run"]
    against = (f"{whole.cpu_s / used[name].cpu_s:.1f} x {name}" for name in ("python -c pass", "json.loads of every line"))
    print(f"\nquote-run is {' and '.join(against)}, in CPU")
    held = whole.cpu_s <= CPU_S and whole.peak_mb <= PEAK_MB
    print(
        f"bar {'held' if held else 'MISSED'}: {whole.cpu_s:.2f} s of CPU (at most {CPU_S:g}), {whole.peak_mb:.1f} MB (at most {PEAK_MB:g})"
    )
    for name, bar in (("replay, first time", FIRST_S), ("replay", AGAIN_S)):
        cpu_s = used[name].cpu_s
        held = held and cpu_s <= bar
        print(f"bar {'held' if cpu_s <= bar else 'MISSED'}: {name} {cpu_s:.2f} s of CPU (at most {bar:g})")
    sys.exit(0 if held else 1)


def print_parts(used: dict[str, Used]) -> None:
    """Print where the CPU time of quote-run goes. Reading: unzip, decode, compile to a tape; loop: everything that replay does after it."""
    imports, read, loop, whole = (used[name].cpu_s for name in ("imports alone", "imports, reading", "replay", "quote-run"))
    parts = {"starting": imports, "reading": read - imports, "the loop": loop - read, "journal and files": whole - loop}
    print("\nof quote-run's CPU: " + ", ".join(f"{name} {cpu_s:.2f} s ({cpu_s / whole:.0%})" for name, cpu_s in parts.items()))


if __name__ == "__main__":
    main()
