"""Grids over small recordings, for tests of `replay --grid`. No checks in here."""

import json
from pathlib import Path
from typing import Any

from commandline import Said, call

from mmtools.config import RunConfig
from mmtools.lab.sweep import Grid, Task, recordings, tasks

Record = dict[str, Any]
BTC = "btc-1h-20251211.jsonl.gz"
GRID = """
base: {capital: 12, default_order_size: 10, max_data_gap_s: 100}
grid:
  latency_ms: [50, 90, 1500]
  quote_interval_s: [20, 7]
split: 0.6
"""


def sweep(*args: str | Path, jobs: int = 1) -> Said:
    return call("replay", *args, "--jobs", str(jobs))


def lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def btc_tasks(grid: Grid, path: Path) -> list[Task]:
    run = RunConfig(feed="recording", recording=str(path))
    return tasks(grid.sets(grid.based(run)), recordings([str(path)]), grid.split)
