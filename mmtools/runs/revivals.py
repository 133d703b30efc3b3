"""Who may start a run that died, and how often: its owner, and the budget of `restarts`. Called by `session`, before a run is touched.

A run has at most one owner. Whoever else starts it again is refused, so that two who watch it never both do; and each revival is
counted once, by its launcher (`--revival`) or here. A person's start counts for the owner: the budget is the run's.
"""

from mmtools import config, restarts
from mmtools.errors import Misconfigured, Refused
from mmtools.moments import Moment
from mmtools.restarts import Owner
from mmtools.runs import live_state
from mmtools.state import StateDir


def owner_of(state: StateDir, run_id: str, *, configured: Owner, starter: Owner | None) -> Owner:
    """Return the run's owner: what its config says, else what it recorded, else who starts it.

    starter: who says that it starts the run; None is a person. Raises Refused when that is another than the run's own.
    """
    own = configured if configured is not Owner.NOBODY else _recorded(state, run_id, starter)
    if own is Owner.NOBODY:
        return starter or own
    if starter not in (None, own):
        raise Refused(
            f"run {run_id} belongs to {own}, and {starter} may not start it; "
            f"leave it to {own}, or write `owner: {starter}` into its config to move it"
        )
    return own


def count(state: StateDir, run_id: str, owner: Owner, *, revival: str | None) -> str | None:
    """Count this start, when it revives the run, and return the attempt's id; None when nothing was to be counted.

    To be called under the run's lock. revival: the attempt that the launcher has counted. Raises Refused when the budget is spent, and
    when the launcher's attempt is none for this run.
    """
    if revival is not None:
        _check(state, run_id, owner, revival)
        return None
    if owner is Owner.NOBODY or not _died(state, run_id):
        return None
    return restarts.attempt(state, f"run:{run_id}", owner=owner, why="it had not ended in order")


def _recorded(state: StateDir, run_id: str, starter: Owner | None) -> Owner:
    """Return the owner that the run's files name. Raises Refused when somebody else starts it and they do not say."""
    if not state.exists(f"runs/{run_id}/run.yaml"):
        return Owner.NOBODY
    try:
        named = (_shown(state, run_id) or {}).get("owner") or config.load(state.path(f"runs/{run_id}/run.yaml")).owner
        return Owner(str(named))
    except (Misconfigured, ValueError) as e:
        if starter is None:
            return Owner.NOBODY
        raise Refused(f"nobody can tell whose run {run_id} is ({e}); write `owner: {starter}` into its config if it is {starter}'s") from e


def _died(state: StateDir, run_id: str) -> bool:
    """Whether a process began the run and did not end it in order. No journal is folded: what dies while it folds has been counted."""
    if not state.exists(f"runs/{run_id}/journal.jsonl"):
        return False
    shown = _shown(state, run_id)
    return shown is None or shown.get("status") == "running"  # nothing to read: it died before its first word, or lost it


def _shown(state: StateDir, run_id: str) -> dict[str, object] | None:
    try:
        return state.read(f"runs/{run_id}/live_state.json", schema=live_state.SCHEMA)
    except (Refused, Misconfigured):  # broken, or another version's; it is written anew
        return None


def _check(state: StateDir, run_id: str, owner: Owner, revival: str) -> None:
    for past in restarts.attempts(state):
        if (past.id, past.what, past.owner) == (revival, f"run:{run_id}", owner) and Moment.now().since(past.at) < restarts.WITHIN_S:
            return
    raise Refused(f"{owner} counted no revival {revival} of run {run_id} within the last hour; leave --revival out, and it is counted here")
