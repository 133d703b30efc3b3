"""Our runs as facts: what each shows in live_state.json, and what the last minutes of its journal say. It reads and changes nothing.

A journal is read backwards from its end, for a quarter of an hour of feed time and for a bounded number of bytes: this is asked every
minute. What it all means is judged in `findings`.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.moments import iso
from mmtools.ops import quoters
from mmtools.ops.facts import Live, Recent, Run, Seen
from mmtools.ops.quoters import Quoter, Standing
from mmtools.ops.systemd import NotKnown
from mmtools.runs.switch import Switch
from mmtools.state import StateDir

WINDOW_MS = 15 * 60_000
MOST_BYTES = 32 * 1024 * 1024
"""Of a journal that are read; a quarter of an hour of a wild market is a tenth of it."""
BLOCK = 256 * 1024
STEP_MS = 120_000
"""Feed time and wall time further apart than this are two times: a recording, or a simulation."""
SHOWN_MS = {Standing.FINISHED: 86_400_000, Standing.STOPPED: 86_400_000}
"""How long a run that is over in order is still looked at, since it was last written."""
LONGER_MS = 7 * 86_400_000
"""The same for one that was halted, crashed or cannot be read; one with real money is looked at for good."""


class _Line(msgspec.Struct):
    kind: str
    at_ms: int | None = None
    reason: str | None = None
    cause: str | None = None


_line = msgspec.json.Decoder(_Line)


def runs(state: StateDir, now_ms: int) -> tuple[tuple[Run, ...], int]:
    """Return the runs worth a look, those that run first, and how many others there are."""
    shown, older = [], 0
    for quoter in quoters.quoters(state):
        if _is_old(state, quoter, now_ms):
            older += 1
        else:
            shown.append(_run(state, quoter))
    return tuple(sorted(shown, key=lambda run: (run.standing is not Standing.RUNNING, run.run_id))), older


def _is_old(state: StateDir, quoter: Quoter, now_ms: int) -> bool:
    if quoter.standing is Standing.RUNNING or quoter.venue != "paper":
        return False
    at_ms = quoter.written_ms
    if at_ms is None:
        with suppress(OSError):
            at_ms = int(state.path(f"runs/{quoter.run_id}/journal.jsonl").stat().st_mtime * 1000)
    return at_ms is not None and now_ms - at_ms > SHOWN_MS.get(quoter.standing, LONGER_MS)


def _run(state: StateDir, quoter: Quoter) -> Run:
    live = _live(quoter)
    halted_at, halt = _halt(state, quoter)
    return Run(
        run_id=quoter.run_id,
        standing=quoter.standing,
        venue=quoter.venue,
        owner=quoter.owner,
        live=live,
        recent=recent(state, quoter.run_id) if quoter.standing is Standing.RUNNING else NotKnown("it does not run"),
        clocked=isinstance(live, Seen) and abs((quoters.ms_of(live.value.timestamp) or 0) - live.at_ms) < STEP_MS,
        halt=halt,
        halted_at=halted_at,
    )


def _live(quoter: Quoter) -> Seen[Live] | NotKnown:
    if quoter.live is None:
        return NotKnown(quoter.why or "it wrote no live state yet")
    if quoter.written_ms is None:
        return NotKnown("its live state does not say when it was written")
    try:
        return Seen(msgspec.convert(quoter.live, Live), quoter.written_ms)
    except msgspec.ValidationError as e:
        return NotKnown(f"its live state has another shape ({e})")


def _halt(state: StateDir, quoter: Quoter) -> tuple[str, str]:
    if quoter.standing is not Standing.HALTED:
        return "", ""
    with suppress(Refused, Misconfigured, TryLater):
        latch = Switch(state, quoter.run_id).closed()
        if latch is not None:
            return latch["since"], f"by {latch['by']}: {latch['reason']}, {latch['detail']}"
    return "" if quoter.written_ms is None else iso(quoter.written_ms), "its switch does not say why"


def recent(state: StateDir, run_id: str) -> Recent | NotKnown:
    """Return what the end of a journal says; its last line may be half written."""
    path = state.path(f"runs/{run_id}/journal.jsonl")
    last_ms = bare_ms = None
    oldest_ms, dated = 0, True
    requests, refused = 0, Counter[str]()
    try:
        for line in _backwards(path):
            record = _decoded(line)
            if record is None or record.at_ms is None:
                continue
            if last_ms is None:
                last_ms = record.at_ms
            if last_ms - record.at_ms > WINDOW_MS:
                dated = bare_ms is not None
                break
            oldest_ms = record.at_ms
            requests += record.kind == "place"
            if record.kind == "rejected":
                refused[record.reason or "no reason"] += 1
            # `unknown`: it was under way when a process ended; whether it ever rested, nobody knows.
            rested = record.kind in ("accepted", "fill") or (record.kind == "gone" and record.cause != "unknown")
            if rested and bare_ms is None:
                bare_ms = record.at_ms
    except OSError as e:
        return NotKnown(f"{path} cannot be read ({e.strerror})")
    if last_ms is None:
        return NotKnown("its journal says nothing yet")
    crossed = refused.pop("post_only_cross", 0)
    return Recent(
        last_ms=last_ms,
        requests=requests,
        refused=dict(refused),
        crossed=crossed,
        bare_ms=oldest_ms if bare_ms is None else bare_ms,
        dated=dated,
    )


def _decoded(line: bytes) -> _Line | None:
    """Return a record; None for a line that is being written, or is broken: that is its run's to refuse, at its next start."""
    try:
        return _line.decode(line)
    except (ValueError, RecursionError):
        return None


def _backwards(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, the last one first, as far as MOST_BYTES go; nothing when it is longer and all of that is one line."""
    with path.open("rb") as file:
        at = os.fstat(file.fileno()).st_size
        floor = max(0, at - MOST_BYTES)
        rest = b""
        while at > floor:
            start = max(floor, at - BLOCK)
            file.seek(start)
            lines = (file.read(at - start) + rest).split(b"\n")
            at, rest = start, lines[0]
            yield from (line for line in reversed(lines[1:]) if line)
        if at == 0 and rest:
            yield rest
