"""Run programs as children, in turn, and take the medians of what the kernel says they used. Shared by the benchmarks.

It imports nothing of mmtools: a child's peak memory begins at that of the process that started it, so this one stays small.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = (sys.executable, "-P")
NOTHING = (*PYTHON, "-c", "pass")


@dataclass(frozen=True, slots=True)
class Used:
    """What one child used, itself and its children: seconds of CPU (user and system), seconds of wall time, MB at the peak."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def command(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the argv of a command of bin/, without `_launch`: what the shell script adds is the same for all."""
    return (*PYTHON, "-m", f"mmtools.commands.{name.replace('-', '_')}", *arguments)


def run(argv: Sequence[str], *, output: Path | None = None, state: Path | None = None, first_time: bool = False) -> Used:
    """Run a program to its end, in a state folder that is thrown away when none is given. Ends this process when it fails.

    first_time: with an empty cache, so that recordings are compiled.
    """
    with tempfile.TemporaryDirectory(prefix="mmtools-bench-") as thrown_away, open(output or os.devnull, "wb") as out:
        # No PYTHON* variable of whoever measures: without compiled modules on the disk, say, every start would take twice as long.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment |= {"PYTHONPATH": str(ROOT), "MMTOOLS_STATE": str(state or thrown_away)}
        if first_time:
            environment["XDG_CACHE_HOME"] = thrown_away
        errors = Path(thrown_away) / "stderr"
        with errors.open("wb") as err:
            began = time.perf_counter()
            child = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            _, status, usage = os.wait4(child.pid, 0)
            wall_s = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"exit {child.returncode}: {' '.join(argv)}\n{errors.read_text(errors='replace')}")
    return Used(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss * 1024 / 1e6)


def medians(programs: Mapping[str, Callable[[], Used]], rounds: int) -> dict[str, Used]:
    """Run all programs, round by round, and return the medians of each: what disturbs the machine meets all of them alike.

    The first round only warms the caches of the disk and of compiled modules; it does not count.
    """
    taken: dict[str, list[Used]] = {name: [] for name in programs}
    for lap in range(rounds + 1):
        for name, program in programs.items():
            used = program()
            if lap:
                taken[name].append(used)
        if sys.stderr.isatty():
            print(f"\rround {lap} of {rounds}", end="" if lap < rounds else "\n", file=sys.stderr, flush=True)
    return {
        name: Used(*(statistics.median(getattr(used, part) for used in runs) for part in ("cpu_s", "wall_s", "peak_mb")))
        for name, runs in taken.items()
    }


def machine() -> str:
    """Return what the figures were taken on; a load near the number of cores means that they were taken in a crowd."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown processor")
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{model}, {os.cpu_count()} cores, Python {version}, load {os.getloadavg()[0]:.1f}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
