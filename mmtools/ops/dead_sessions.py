"""The gateway's dead sessions as a step of a recovery: counted, and pruned by the means of prune-sessions, in bounded time.

Only cron runs that are over go, by the ages of ops.yaml and to the trash; what else lies beside a store is left to prune-sessions.
Whether it may be done is decided by the caller, `recovery` alone.
"""

from typing import Any

from mmtools.errors import TryLater
from mmtools.moments import now_ms
from mmtools.ops.settings import Settings
from mmtools.state import StateDir

JOB = "prune-sessions"
LIMIT_S = 120.0
"""For what the gateway itself must delete; what is left over is taken by the next prune-sessions."""


def waiting(state: StateDir, settings: Settings) -> int:
    """Return how many would go, or wait for a run that was cut off to be finished; nothing is changed.

    Raises what prune-sessions raises: Refused where it is not known which store is in use.
    """
    if state.is_locked(JOB):
        raise TryLater(f"{JOB} is running: its lock is held; wait for it to end, and run again")
    return sum(agent["entries"]["gone"] + len(agent["finished"]) for agent in _pruned(state, settings, dry_run=True))


def prune(state: StateDir, settings: Settings) -> str:
    """Let them go, and say how many went."""
    with state.lock(JOB):
        agents = _pruned(state, settings, dry_run=False)
    gone, left = (sum(agent["entries"][which] for agent in agents) for which in ("gone", "left"))
    cut = sum(len(agent["finished"]) for agent in agents)
    words = [f"{gone} gone", *([f"{left} left to {JOB}"] if left else []), *([f"{cut} earlier runs finished"] if cut else [])]
    return ", ".join(words)


def _pruned(state: StateDir, settings: Settings, *, dry_run: bool) -> list[dict[str, Any]]:
    from mmtools.ops.housekeeping import Housekeeping, Wish
    from mmtools.ops.leftovers import Kind

    ages = settings.sessions
    wish = Wish(
        now_ms=now_ms(),
        older_than_s=ages.older_than_h * 3600,
        keep_trash_s=ages.keep_trash_h * 3600,
        what=frozenset({Kind.SESSIONS}),
        agent=None,
        dry_run=dry_run,
        budget_s=LIMIT_S,
    )
    agents: list[dict[str, Any]] = Housekeeping(settings, None, state, wish).prune()["agents"]
    return agents
