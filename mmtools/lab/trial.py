"""One trial of a grid: a set on one recording, fitted on the first part of its time and judged on the second.

Each part is a run of its own that begins with all its capital and nothing held; books and signals of the second have heard the
first, on which nobody quoted there. A worker calls `trial`, whose lines `trialfile` keeps; `replay --grid` calls `check` first.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mmtools import __version__
from mmtools.config import RunConfig
from mmtools.errors import Misconfigured
from mmtools.lab.sweep import Part, Record, Task
from mmtools.moments import iso
from mmtools.runs.replay import replay
from mmtools.runs.watcher import Watcher
from mmtools.units import parse, text
from mmtools.venues.recording import BadRecording
from mmtools.venues.recording import read as read_recording
from mmtools.venues.tape import Tape
from mmtools.venues.venue import Row

if TYPE_CHECKING:
    from mmtools.runs.engine import Engine

SCHEMA = "mmtools.trial/1"
MINUTE_MS = 60_000
MOST_BLOCKS = 60
"""Into which the P&L of a part is split at most; a line must not grow with the recording."""
_ROWS_COPIED = 4_096


def trial(task: Task) -> list[Record]:
    """Run a set on both parts of a recording; return their lines. Raises BadRecording, and Misconfigured under another version."""
    if task.version != __version__:
        raise Misconfigured(f"a worker has mmtools {__version__} and the grid was started by {task.version}; install one version on all")
    run = task.run
    assert run.recording is not None
    fit, judge = _parts(run.recording, run.markets, task.recording.sha256, task.split, run.duration_hours)
    run = msgspec.structs.replace(run, duration_hours=None)
    return [_line(task, run, "fit", fit, None), _line(task, run, "judge", judge, fit)]


def check(tasks: Iterable[Task]) -> None:
    """Read every recording of these tasks once, so that a bad last one costs no grid its time. Raises BadRecording."""
    for task in {task.recording.sha256: task for task in tasks}.values():
        run = task.run
        assert run.recording is not None
        _cut_of(run.recording, run.markets, task.recording.sha256, task.split, run.duration_hours)


@lru_cache(maxsize=1)
def _parts(path: str, markets: tuple[str, ...], sha256: str, split: float, duration_hours: float | None) -> tuple[Tape, Tape]:
    """Return a recording cut in two. A worker keeps the last one: its next task is most likely about the same."""
    return cut(*_cut_of(path, markets, sha256, split, duration_hours))


def _cut_of(path: str, markets: tuple[str, ...], sha256: str, split: float, duration_hours: float | None) -> tuple[Tape, int, int]:
    """Return a recording, the instant at which it is cut, and its last one."""
    tape = read_recording(Path(path), markets)
    if tape.sha256 != sha256:
        raise BadRecording(f"{path}: is another recording than the one that the grid was started over")
    last_ms = tape.last_ms
    if duration_hours is not None:
        last_ms = min(last_ms, tape.first_ms + round(duration_hours * 3_600_000))
    at_ms = tape.first_ms + round(split * (last_ms - tape.first_ms))
    if not tape.first_ms < at_ms < last_ms:
        raise BadRecording(
            f"{path}: cut at {split:g} of {(last_ms - tape.first_ms) / 1000:g} s, one part has no duration; "
            "use a longer recording, or a `split` nearer the middle"
        )
    return tape, at_ms, last_ms


def cut(tape: Tape, at_ms: int, last_ms: int) -> tuple[Tape, Tape]:
    """Return the rows up to an instant, and those after it up to the last one. No frame is cut: all its rows bear one time."""
    fit, judge = _empty(tape, tape.first_ms, at_ms), _empty(tape, at_ms, last_ms)
    rows = tape.rows()
    while copied := list(islice(rows, _ROWS_COPIED)):
        fit.extend(_between(copied, 0, at_ms))
        judge.extend(_between(copied, at_ms + 1, last_ms))
    return fit, judge


def _empty(of: Tape, first_ms: int, last_ms: int) -> Tape:
    return Tape(markets=of.markets, clock=of.clock, source=of.source, sha256=f"{of.sha256}@{first_ms}", first_ms=first_ms, last_ms=last_ms)


def _between(rows: Sequence[Row], first_ms: int, last_ms: int) -> Sequence[Row]:
    if first_ms <= rows[0][0] and rows[-1][0] <= last_ms:
        return rows
    return [row for row in rows if first_ms <= row[0] <= last_ms]


# --- what is measured


class _Totals(NamedTuple):
    """What was earned until some time, in millionths."""

    total: int
    spread: int
    risk_averse: int
    """Of that maker of the bracket; 0 for a run without one."""


class _Minutes(Watcher):
    """Follows a run minute by minute, as its marks are written: what each block of time brought, and the drawdown."""

    def __init__(self, first_ms: int, last_ms: int) -> None:
        minutes = max(-(-(last_ms - first_ms) // MINUTE_MS), 1)
        self.block_ms = MINUTE_MS * -(-minutes // MOST_BLOCKS)
        self.drawdown = "0"
        self.bracket = False
        self._first_ms = first_ms
        self._blocks = [[0, 0, 0] for _ in range(-(-minutes * MINUTE_MS // self.block_ms))]
        self._before = _Totals(0, 0, 0)

    def wrote(self, engine: "Engine", record: Record) -> None:
        if record["kind"] not in ("mark", "end"):
            return
        figures, bracket = engine.maker.account.run_figures(), record["bracket"]
        self.bracket = bracket is not None
        self.drawdown = record["limits"]["deepest"]
        now = _Totals(figures.total, figures.spread, parse(bracket["risk_averse"]["pnl"]) if bracket else 0)
        place = (record["at_ms"] - self._first_ms - 1) // self.block_ms
        block = self._blocks[min(max(place, 0), len(self._blocks) - 1)]
        for column, (before, after) in enumerate(zip(self._before, now, strict=True)):
            block[column] += after - before
        self._before = now

    def document(self) -> Record:
        """Return the blocks, column by column; a run that was halted earned nothing in those it did not see."""
        columns = {name: [text(block[column]) for block in self._blocks] for column, name in enumerate(_Totals._fields)}
        return {"seconds": self.block_ms // 1000, **columns, "risk_averse": columns["risk_averse"] if self.bracket else None}


def _line(task: Task, run: RunConfig, part: Part, feed: Tape, before: Tape | None) -> Record:
    minutes = _Minutes(feed.first_ms, feed.last_ms)
    outcome = replay(run, feed, run_id=f"grid-{part}", watcher=minutes, before=before)
    ran = outcome.document
    return {
        "schema": SCHEMA,
        "key": task.key(part),
        "version": task.version,
        "set": task.values,
        "recording": {"name": task.recording.name, "sha256": task.recording.sha256},
        "part": part,
        "from": iso(feed.first_ms),
        "until": iso(feed.last_ms),
        "duration_s": (feed.last_ms - feed.first_ms) / 1000,
        "status": ran["status"],
        "halts": [halt["why"] for halt in ran["halts"]],
        "orders": ran["orders"]["accepted"],
        "fills": ran["fills"],
        "fill_rate": ran["fill_rate"],
        "pnl": ran["pnl"],
        "drawdown": minutes.drawdown,
        "bracket": ran["bracket"],
        "blocks": minutes.document(),
        "ledger_sha256": ran["ledger_sha256"],
    }
