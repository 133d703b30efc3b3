"""Reading runs: which there are, how each stands, and one of them folded from its journal. Called by `session`, `report` and `halt`.

Nothing here writes or moves a run, and naming runs loads nothing that trades: `halt` and an empty `report --list` start fast.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mmtools.errors import Refused
from mmtools.state import LEFTOVERS, StateDir

if TYPE_CHECKING:
    from mmtools.runs.fold import Fold

A_FEW_RECORDS = 4096
"""What is read within a fraction of a second."""


def runs(state: StateDir) -> list[str]:
    """Return the ids of all runs that have a journal, the one written to last at the end."""
    found: list[tuple[int, str]] = []
    for name in state.names("runs/*/journal.jsonl"):
        path = state.path(name)
        if not path.parent.name.endswith(LEFTOVERS):
            with suppress(FileNotFoundError):  # thrown away by --fresh just now
                found.append((path.stat().st_mtime_ns, path.parent.name))
    return [run_id for _, run_id in sorted(found)]


def status_of(state: StateDir, run_id: str, fold: "Fold") -> str:
    """Return how a run stands: as its journal says it ended, else whether someone holds its lock."""
    if fold.status is not None:
        return fold.status
    return "running" if state.is_locked(f"runs/{run_id}") else "halted" if fold.latched else "unfinished"


def fold_of(state: StateDir, run_id: str, on_records: Callable[[], None] = lambda: None) -> "Fold":
    """Return a run as its journal tells it. Raises Refused when there is no such run or its journal is broken.

    on_records: called now and then while the journal is read; a long one takes minutes.
    """
    from mmtools.runs.fold import Fold

    name = f"runs/{run_id}/journal.jsonl"
    if not state.exists(name):
        raise Refused(f"there is no run {run_id} in {state.root}; `report` without a run takes the newest")
    fold = Fold()
    remedy = "restore it, or give another run_id, or --fresh to throw it away"
    fold_in(fold, state, name, f"run {run_id}: line {{}} of its journal", remedy, on_records)
    if not fold.run:
        raise Refused(f"run {run_id} was cut off before it wrote anything; run it again")
    return fold


def fold_in(fold: "Fold", state: StateDir, name: str, what: str, remedy: str, on_records: Callable[[], None] = lambda: None) -> None:
    """Add every record of a file. Raises Refused at one that does not follow; what: names it, with {} for its line; remedy: what to do."""
    for number, record in enumerate(now_and_then(state.records(name), on_records), start=1):
        try:
            fold.add(record)
        except (LookupError, ValueError, TypeError, AttributeError) as e:  # whatever a hand-made record can lack or contradict
            raise Refused(f"{what.format(number)} does not follow from those before it; {state.path(name)}: {remedy}") from e


def now_and_then(records: Iterator[dict[str, Any]], call: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Yield the records, and call something before the first of every few thousand of them."""
    for number, record in enumerate(records):
        if not number % A_FEW_RECORDS:
            call()
        yield record
