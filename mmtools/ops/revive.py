"""Starting a run that died, once, by its owner: counted first, then launched so that it outlives whoever launches it.

Only a run that crashed comes back, and only by the owner it names: one that was halted, stopped or finished stays so, and one that
starves is running. Called by `recovery` and by `status-update`; when to call it, they know.
"""

import os
import time
from dataclasses import dataclass
from itertools import pairwise

from mmtools import restarts
from mmtools.errors import Refused
from mmtools.ops import launching, processes
from mmtools.ops.launching import Launched, NotLaunched
from mmtools.ops.masking import masked
from mmtools.ops.processes import Process
from mmtools.ops.quoters import Quoter, Standing, quoter
from mmtools.restarts import Owner
from mmtools.state import StateDir

STARTED_WITHIN_S = 60.0
"""How long a launched run may take until it holds its lock: it reads its recording, or finds its markets, before that."""
STAYS_S = 1.0
"""How long it must then hold it: a run that is refused lets go at once."""
ASKED_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Revived:
    """The run is under way again, and holds its lock. attempt: what it was counted as; None when it had been launched before."""

    attempt: str | None
    how: str


@dataclass(frozen=True, slots=True)
class NotRevived:
    """why: for people. unknown: it was launched, and whether it runs is not known; else it does not run."""

    why: str
    unknown: bool = False


def command(state: StateDir, run_id: str, owner: str) -> list[str]:
    """Return the words that start a run again."""
    config = str(state.path(f"runs/{run_id}/run.yaml"))
    return [*launching.command("quote-run"), "--config", config, "--run-id", run_id, "--state", str(state.root), "--owner", owner]


def objection(state: StateDir, run: Quoter, owner: Owner) -> str | None:
    """Return why `owner` may not start this run again; None when it may."""
    if run.standing is not Standing.CRASHED:
        return f"it is {run.standing}" + (f" ({run.why})" if run.why else "")
    if run.owner != owner:
        return f"it belongs to {run.owner}, and {owner} may not start it"
    if run.venue != "paper":
        return f"it trades on {run.venue}; only runs on paper are started again by themselves"
    if not state.exists(f"runs/{run.run_id}/run.yaml"):
        return "its run.yaml is gone"
    return None


def revive(state: StateDir, run_id: str, owner: Owner, why: str) -> Revived | NotRevived:
    """Start a run that crashed, and wait until it holds its lock or has ended. Raises TryLater while another one revives it.

    One that was launched before, by somebody who was killed, is waited for and not launched again.
    """
    with state.lock(f"revive/{run_id}"):
        against = objection(state, quoter(state, run_id), owner)
        if against is not None:
            return NotRevived(against)
        if launched_before(state, run_id):
            return _seen(state, run_id, _Seen(how="as it had been launched before"), None)
        try:
            attempt = restarts.attempt(state, f"run:{run_id}", owner=owner, why=why)
        except Refused as e:
            return NotRevived(str(e))
        argv = [*command(state, run_id, owner), "--revival", attempt]
        words = f"runs/{run_id}/revived.log"
        said = state.path(words).stat().st_size if state.exists(words) else 0
        launched = launching.launch(state, argv, unit=f"mmtools-run-{run_id}.service", words=words)
        if isinstance(launched, NotLaunched):
            result: Revived | NotRevived = NotRevived(launched.why)
        else:
            result = _seen(state, run_id, _Seen(how=launched.how, launched=launched, said=said), attempt)
        outcome = "done" if isinstance(result, Revived) else "not known" if result.unknown else "failed"
        restarts.outcome(state, attempt, outcome, result.how if isinstance(result, Revived) else result.why)
        return result


def launched_before(state: StateDir, run_id: str) -> list[Process]:
    """Return the processes that were started to be this run."""

    wanted = {masked(["--run-id", run_id]), masked(["--state", str(state.root)])}

    def is_it(process: Process) -> bool:
        words = process.argv
        named = any(word.rpartition("/")[2] in ("quote-run", "mmtools.commands.quote_run") for word in words)
        return named and wanted <= set(pairwise(words))

    return processes.find(is_it)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What is to become the run. launched: by us, None for processes that were found. said: how long its log was before."""

    how: str
    launched: Launched | None = None
    said: int = 0

    @property
    def every_s(self) -> float:
        """How often to ask whether it ended: of a child it costs nothing, else a program or a look at all processes."""
        return 0.0 if self.launched is not None and self.launched.child is not None else ASKED_EVERY_S


def _seen(state: StateDir, run_id: str, it: _Seen, attempt: str | None) -> Revived | NotRevived:
    """Wait until the run holds its lock for a while, or what was launched has ended."""
    deadline = time.monotonic() + STARTED_WITHIN_S
    held_since: float | None = None
    next_ask = 0.0
    while time.monotonic() < deadline:
        if time.monotonic() >= next_ask:
            next_ask = time.monotonic() + it.every_s
            if it.launched.ended() if it.launched is not None else not launched_before(state, run_id):
                standing = quoter(state, run_id).standing
                if standing in (Standing.FINISHED, Standing.STOPPED, Standing.HALTED):
                    return Revived(attempt, f"{it.how}, and is {standing} since")
                return NotRevived(_last_words(state, run_id, it))
        if state.is_locked(f"runs/{run_id}"):
            held_since = held_since or time.monotonic()
            if time.monotonic() - held_since >= STAYS_S:
                return Revived(attempt, it.how)
        else:
            held_since = None
        time.sleep(0.02)
    return NotRevived(f"it was launched {it.how}, and did not take its lock within {STARTED_WITHIN_S:g} s", unknown=True)


def _last_words(state: StateDir, run_id: str, it: _Seen) -> str:
    code = it.launched.code if it.launched is not None else None
    try:
        with open(state.path(f"runs/{run_id}/revived.log"), "rb") as log:
            log.seek(max(it.said, os.fstat(log.fileno()).st_size - 4096))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    said = f": {lines[-1][:300]}" if lines else ""
    return f"it was launched and ended{'' if code is None else f' with {code}'}{said}"
