"""Whole replay engines compared: the reference strategy on our tape, on hftbacktest and on nautilus_trader, over the same recordings.

    python bench/reference.py [RECORDING...] [--rounds N] [--seeds N] [--only-check] [--without-nautilus] [--without-long]

The strategy, made to compare engines and not to earn: each token is quoted on its own book, 50 shares a side, every second of tape time.
mid = (best bid + best ask) / 2 less half a tick for every 50 shares held; bid = floor(mid - 0.5), at most a tick below the best ask; ask =
ceil(mid + 0.5), at least a tick above the best bid; no bid from 500 shares, no ask from -500. An unchanged price keeps its order, another
cancels and replaces it. 250 ms to the venue, post-only, a risk-averse queue, whole orders filled. Without RECORDING there are two of
make_tape.py, of a million token rows each, with 100 and 1,000 ticks.

First ours must give the fills, positions and cash of hftbacktest, on the recordings and on smaller ones of other seeds: the script ends at
the first difference. Nautilus' venue has no queue, so its fills are its own. Then programs take turns, and medians count:

(a) whole processes, each from a file in its engine's own format, by wall time;
(b) warm: the strategy compiled and run before, loading included, by CPU time; rows are token rows of the source, for both;
(c) ours alone, 10 million rows against 100,000, by CPU time.

What is made is kept under $XDG_CACHE_HOME/mmtools-bench (else ~/.cache), and the peers with it, which come from the package index. Prints
tables, exits 1 when a bar is missed.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from measure import PYTHON, ROOT, machine, medians, run

PEERS = {
    "hftbacktest": ("hftbacktest==2.4.4", "numba==0.68.1", "numpy==2.2.6"),
    "nautilus": ("nautilus_trader==1.221.0", "numpy==2.4.6", "pandas==2.3.3", "pyarrow==26.0.1"),
}
FASTER = {"hftbacktest": 10.0, "nautilus": 40.0}
FASTER_WARM = 1.3
PEAK_MB, LONG_PEAK_MB = 40.0, 150.0
EVEN = 0.15
LAPS = 7
SHARES = 50

Fill = tuple[int, int, int, int, int]
"""Token (0 is YES), ms at the venue, 1 when it bought, price in ticks, shares."""


def main() -> None:
    arguments = argparse.ArgumentParser(description="compares the reference strategy on three engines")
    arguments.add_argument("recordings", nargs="*", type=Path, help="default: two of make_tape.py")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seeds", type=int, default=4, help="how many smaller recordings are checked as well, of each tick size")
    arguments.add_argument("--only-check", action="store_true", help="measure nothing")
    arguments.add_argument("--without-nautilus", action="store_true")
    arguments.add_argument("--without-long", action="store_true", help="leave (c) out")
    given = arguments.parse_args()
    recordings = [recording_of(path) for path in given.recordings] or [made(1_000_000, ticks) for ticks in (100, 1_000)]
    for recording in recordings + [made(100_000, ticks, seed) for seed in range(1, given.seeds + 1) for ticks in (100, 1_000)]:
        check(recording)
    if given.only_check:
        return
    print(f"\n{machine()}; medians of {given.rounds} rounds")
    peers = ["hftbacktest"] if given.without_nautilus else ["hftbacktest", "nautilus"]
    held = [bar for recording in recordings for bar in (whole(recording, peers, given.rounds), warm(recording, given.rounds))]
    if not given.without_long:
        held.append(long(given.rounds))
    sys.exit(0 if all(held) else 1)


# ---- what is played, in every engine's own format


@dataclass(frozen=True, slots=True)
class Recording:
    name: str
    file: Path | None
    """None when it can be made again."""
    made_by: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return kept() / self.name

    @property
    def tape(self) -> Path:
        return self._prepared("tape", "reference_ours.py", PYTHON, "compile")

    @property
    def hftbacktest(self) -> Path:
        return self._prepared("hftbacktest", "reference_hftbacktest.py", peer("hftbacktest"), "prepare")

    @property
    def nautilus(self) -> Path:
        return self._prepared("nautilus", "reference_nautilus.py", peer("nautilus"), "prepare")

    def _prepared(self, name: str, script: str, python: tuple[str, ...], verb: str) -> Path:
        path, begun = self.folder / name, self.folder / f"{name}.new"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(begun, ignore_errors=True)
            run((*python, str(ROOT / "bench" / script), verb, str(self._source()), str(begun)))
            begun.rename(path)
        return path

    def _source(self) -> Path:
        if self.file is not None:
            return self.file
        path = self.folder / "recording.jsonl.gz"
        if not path.exists():
            tell(f"making {self.name}")
            begun = path.with_suffix(".new")
            run(("nice", *PYTHON, str(ROOT / "bench" / "make_tape.py"), str(begun), *self.made_by))
            begun.rename(path)
        return path

    def forget_source(self) -> None:
        (self.folder / "recording.jsonl.gz").unlink(missing_ok=True)


def made(rows: int, ticks: int, seed: int = 7) -> Recording:
    by = ("--rows", str(rows), "--ticks", str(ticks), "--seed", str(seed))
    return Recording(f"rows-{rows}-ticks-{ticks}-seed-{seed}", None, by)


def recording_of(path: Path) -> Recording:
    with path.open("rb") as file:
        return Recording(hashlib.file_digest(file, "sha256").hexdigest()[:16], path.resolve())


def kept() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmtools-bench"


@cache
def peer(name: str) -> tuple[str, ...]:
    """Return the Python of a peer, in an environment of its own that is made when it is missing or has other versions."""
    folder = kept() / "peers" / name
    python, has = folder / "bin" / "python", folder / "has"
    if not has.exists() or has.read_text().split() != [*PEERS[name]]:
        tell(f"installing {' '.join(PEERS[name])}")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run((sys.executable, "-m", "venv", str(folder)), check=True)
        subprocess.run((str(python), "-m", "pip", "install", "-qq", *PEERS[name]), check=True)
        has.write_text("\n".join(PEERS[name]))
    return str(python), "-P"


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


# ---- the programs


def ours(verb: str, recording: Recording, *more: str) -> tuple[str, ...]:
    return (*PYTHON, str(ROOT / "bench" / "reference_ours.py"), verb, str(recording.tape), *more)


def hftbacktest(verb: str, recording: Recording, *more: str) -> tuple[str, ...]:
    return (*peer("hftbacktest"), str(ROOT / "bench" / "reference_hftbacktest.py"), verb, str(recording.hftbacktest), *more)


def nautilus(recording: Recording) -> tuple[str, ...]:
    return (*peer("nautilus"), str(ROOT / "bench" / "reference_nautilus.py"), "run", str(recording.nautilus))


def printed_by(argv: tuple[str, ...]) -> str:
    with tempfile.NamedTemporaryFile(prefix="mmtools-bench-") as output:
        run(argv, output=Path(output.name))
        return Path(output.name).read_text()


# ---- equal results first


def check(recording: Recording) -> None:
    """Hold our fills against hftbacktest's, and what follows from its executed quantities; end the program when they differ."""
    mine: list[Fill] = sorted((*fill, SHARES) for fill in json.loads(printed_by(ours("run", recording))))
    theirs: list[Fill] = sorted(tuple(fill) for fill in json.loads(printed_by(hftbacktest("run", recording))))
    for number, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        if one != other:
            sys.exit(f"{recording.name}: fill {number} is {one} with us, {other} with hftbacktest (token, ms, bought, ticks, shares)")
    if mine != theirs or positions(mine) != positions(theirs):
        sys.exit(f"{recording.name}: {len(mine)} fills with us, {len(theirs)} with hftbacktest; one ends before the other")
    outcome = "; ".join(f"{name} {shares:+} shares, {cash:+} tick-shares" for name, (shares, cash) in positions(mine).items())
    print(f"{recording.name}: {len(mine)} fills, the same as hftbacktest's; {outcome}")


def positions(fills: list[Fill]) -> dict[str, tuple[int, int]]:
    """Return each token's final position, and its cash in ticks times shares."""
    ended = {}
    for token, name in enumerate(("YES", "NO")):
        signed = [(size if bought else -size, price) for of, _, bought, price, size in fills if of == token]
        ended[name] = sum(size for size, _ in signed), -sum(size * price for size, price in signed)
    return ended


# ---- then the measures


def whole(recording: Recording, peers: list[str], rounds: int) -> bool:
    argvs = {"mmtools": ours("run", recording), "hftbacktest": hftbacktest("run", recording)}
    if "nautilus" in peers:
        argvs["nautilus"] = nautilus(recording)
    used = medians({name: partial(run, argv) for name, argv in argvs.items()}, rounds)
    one = used["mmtools"]
    print(f"\n(a) {recording.name}, whole processes\n\n{'engine':<16}{'CPU s':>9}{'wall s':>9}{'peak MB':>9}{'ratio':>8}{'bar':>6}")
    held = one.peak_mb <= PEAK_MB
    print(f"{'mmtools':<16}{one.cpu_s:>9.3f}{one.wall_s:>9.3f}{one.peak_mb:>9.1f}{'' if held else f'  MISSED: at most {PEAK_MB:g} MB'}")
    for name in peers:
        ratio = used[name].wall_s / one.wall_s
        held = held and ratio >= FASTER[name]
        row = f"{name:<16}{used[name].cpu_s:>9.3f}{used[name].wall_s:>9.3f}{used[name].peak_mb:>9.1f}{ratio:>8.1f}{FASTER[name]:>6g}"
        print(row + ("" if ratio >= FASTER[name] else "  MISSED"))
    if "nautilus" in peers:
        print("nautilus' orders follow the same logic; its venue knows no queue, so its fills are its own")
    return held


def warm(recording: Recording, rounds: int) -> bool:
    laps = str(LAPS)
    took = taken(
        {
            "mmtools": ours("warm", recording, laps),
            "hftbacktest": hftbacktest("warm", recording, "--laps", laps),
            "hftbacktest, YES rows only": hftbacktest("warm", recording, "--laps", laps, "--yes-only"),
        },
        rounds,
    )
    rows = rows_of(recording)
    print(f"\n(b) {recording.name}, warm, loading included\n\n{'engine':<28}{'CPU ms':>8}{'rows/s':>14}{'ratio':>8}{'bar':>6}")
    held = True
    for name, lap_s in took.items():
        ratio = lap_s / took["mmtools"]
        row = f"{name:<28}{lap_s * 1000:>8.1f}{rows / lap_s:>14,.0f}"
        if name == "hftbacktest":
            held = ratio >= FASTER_WARM
            row += f"{ratio:>8.2f}{FASTER_WARM:>6g}{'' if held else '  MISSED'}"
        elif name != "mmtools":
            row += f"{ratio:>8.2f}"
        print(row)
    return held


def long(rounds: int) -> bool:
    short, tall = made(100_000, 100), made(10_000_000, 100)
    took = taken({"short": ours("warm", short, str(30 * LAPS)), "tall": ours("warm", tall, "3")}, rounds)
    tall.forget_source()
    whole_of = medians({"tall": partial(run, ours("run", tall))}, rounds)["tall"]
    rates = {name: rows_of(recording) / took[name] for name, recording in (("short", short), ("tall", tall))}
    apart = abs(rates["tall"] / rates["short"] - 1)
    held = apart <= EVEN and whole_of.peak_mb <= LONG_PEAK_MB
    print("\n(c) mmtools alone")
    print(f"100,000 rows {rates['short']:,.0f} rows/s, 10,000,000 rows {rates['tall']:,.0f} rows/s: {apart:.0%} apart (at most {EVEN:.0%})")
    print(f"10,000,000 rows, whole process: {whole_of.wall_s:.2f} s, {whole_of.peak_mb:.1f} MB (at most {LONG_PEAK_MB:g})")
    print(f"bar {'held' if held else 'MISSED'}")
    return held


def taken(programs: Mapping[str, tuple[str, ...]], rounds: int) -> dict[str, float]:
    """Run all programs, round by round, and return the median of the laps of each, in CPU seconds."""
    laps: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, argv in programs.items():
            laps[name] += json.loads(printed_by(argv))
    return {name: statistics.median(of) for name, of in laps.items()}


def rows_of(recording: Recording) -> int:
    return int(printed_by(ours("rows", recording)))


if __name__ == "__main__":
    main()
