"""Starting again what crashed and is ours to start: runs whose owner is status-update, as far as policy and budget allow.

A run that was halted, stopped or finished, that starves, or that another one looks after is left alone: `revive` sees to that. What was
done, and what could not be done, is told in an alert. Called by `status-update`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mmtools import outbox, restarts
from mmtools.errors import Refused
from mmtools.moments import iso
from mmtools.ops import policy, quoters, revive
from mmtools.ops.facts import Facts, Run, Seen
from mmtools.ops.quoters import Standing
from mmtools.ops.settings import Settings
from mmtools.outbox import Level
from mmtools.restarts import Owner
from mmtools.state import StateDir

ACTION = "recover-run"
WHY = "it crashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revival:
    """What became of one run that crashed. revived: None in a dry run that would have started it, and when nobody knows."""

    run_id: str
    revived: bool | None
    why: str


def revive_all(state: StateDir, settings: Settings, facts: Facts, *, dry_run: bool = False) -> list[Revival]:
    """Start what crashed and is ours, one after the other, and tell of each. A dry run says what it would do."""
    return [_revive(state, settings, run, dry_run) for run in _ours(facts)]


def _ours(facts: Facts) -> Iterator[Run]:
    if isinstance(facts.runs, Seen):
        yield from (run for run in facts.runs.value if run.standing is Standing.CRASHED and run.owner == Owner.STATUS_UPDATE)


def _revive(state: StateDir, settings: Settings, run: Run, dry_run: bool) -> Revival:
    against = _objection(state, settings, run)
    if dry_run:
        return Revival(run_id=run.run_id, revived=None if against is None else False, why=against or "it would be started again")
    if against is None:
        result = revive.revive(state, run.run_id, Owner.STATUS_UPDATE, WHY)
        if isinstance(result, revive.Revived):
            text = f"run {run.run_id} had crashed and was started again, {result.how}"
            _tell(state, f"revived:{run.run_id}:{result.attempt or _since(run)}", text, Level.INFO)
            return Revival(run_id=run.run_id, revived=True, why=result.how)
        against, unknown = result.why, result.unknown
    else:
        unknown = False
    text = f"whether run {run.run_id} runs again is not known" if unknown else f"run {run.run_id} crashed and is not started again"
    _tell(state, f"not-revived:{run.run_id}:{_since(run)}", f"{text}: {against}", Level.WARNING if unknown else Level.CRITICAL)
    return Revival(run_id=run.run_id, revived=None if unknown else False, why=against)


def _objection(state: StateDir, settings: Settings, run: Run) -> str | None:
    """Return why a run may not be started again now; None when it may."""
    against = revive.objection(state, quoters.quoter(state, run.run_id), Owner.STATUS_UPDATE)
    if against is not None:
        return against
    against = policy.objection(state, settings, ACTION)
    if against is not None:
        return against
    try:
        restarts.within_budget(state, f"run:{run.run_id}")
    except Refused as e:
        return str(e)
    return None


def _since(run: Run) -> str:
    """Return what tells this crash from another one of the run."""
    return iso(run.live.at_ms) if isinstance(run.live, Seen) else "unseen"


def _tell(state: StateDir, key: str, text: str, level: Level) -> None:
    outbox.raise_alert(state, key, text, level=level, source="status-update")
