"""Our runs as the machine sees them: which process lives, which died, which must not come back. All of `ops` asks here.

A run is known by its lock and its files, never by a PID, and no journal is folded: this is asked every minute. It reads and changes
nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.runs.reading import runs
from mmtools.runs.switch import Switch
from mmtools.state import StateDir

LIVE_STATE_SCHEMA = "mmtools.live_state/1"


class Standing(StrEnum):
    RUNNING = "running"
    """A process holds its lock."""
    CRASHED = "crashed"
    """No process holds its lock, and it was not ended in order: the only one that may be revived."""
    HALTED = "halted"
    STOPPED = "stopped"
    FINISHED = "finished"
    UNKNOWN = "unknown"
    """Its files do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoter:
    """One run. live: the body of its live_state.json as last written, None when there is none to read; written_ms: when that was.

    owner: who may revive it, "nobody" when it names none. venue: "not known" when neither its live state nor its journal says.
    why: what is known of an unknown standing, "" otherwise.
    """

    run_id: str
    standing: Standing
    live: Mapping[str, Any] | None
    written_ms: int | None
    owner: str
    venue: str
    why: str = ""

    def age_s(self, now_ms: int) -> float | None:
        """Return how old what it shows is; None when it shows nothing."""
        return None if self.written_ms is None else max(0.0, (now_ms - self.written_ms) / 1000)


def quoters(state: StateDir) -> list[Quoter]:
    """Return every run that has a journal, the one written to last at the end."""
    return [quoter(state, run_id) for run_id in runs(state)]


def quoter(state: StateDir, run_id: str) -> Quoter:
    live: Mapping[str, Any] | None
    held = state.is_locked(f"runs/{run_id}")
    try:
        live, why = state.read(f"runs/{run_id}/live_state.json", schema=LIVE_STATE_SCHEMA), ""
    except (Refused, Misconfigured, TryLater) as e:
        live, why = None, str(e)
    standing = _standing(state, run_id, live, held)
    return Quoter(
        run_id=run_id,
        standing=standing,
        live=live,
        written_ms=None if live is None else ms_of(live.get("written_at")),
        owner=str((live or {}).get("owner") or "nobody"),
        venue=str((live or {}).get("venue") or _venue(state, run_id)),
        why=why or "it wrote no live state" if standing is Standing.UNKNOWN else "",
    )


def live_runs(state: StateDir) -> list[str]:
    """Return the runs with real money whose lock is held, and those of which nobody can tell."""
    return [q.run_id for q in quoters(state) if q.venue != "paper" and q.standing in (Standing.RUNNING, Standing.UNKNOWN)]


def _venue(state: StateDir, run_id: str) -> str:
    """Return where a run trades, as its journal begins: what cannot show how it stands may still hold real money.

    Before its first record a run has done nothing anywhere: that is on paper.
    """
    try:
        first = next(state.records(f"runs/{run_id}/journal.jsonl"), {"venue": "paper"})
    except (Refused, Misconfigured, TryLater):
        first = {}
    return str(first.get("venue") or "not known")


def _standing(state: StateDir, run_id: str, live: Mapping[str, Any] | None, held: bool) -> Standing:
    """Return how a run stands. held: whether its lock was held before `live` was read: one that ends meanwhile has not crashed."""
    if held:
        return Standing.RUNNING
    try:
        if Switch(state, run_id).closed() is not None:
            return Standing.HALTED
    except (Refused, Misconfigured, TryLater):
        return Standing.UNKNOWN
    said = None if live is None else live.get("status")
    if said == "running":  # it may have started meanwhile
        return Standing.RUNNING if state.is_locked(f"runs/{run_id}") else Standing.CRASHED
    return Standing(said) if said in ("halted", "stopped", "finished") else Standing.UNKNOWN


def ms_of(text: Any) -> int | None:
    """Return an ISO 8601 time in ms UTC; None for what is none."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (TypeError, ValueError):
        return None
