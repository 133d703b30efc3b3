"""What is under way that a restart would cut: our own jobs, and what the gateway says of its turns. It asks; waiting is its caller's.

A gateway that does not say is not one that has nothing to do: then `unknown` says why. Each question to it is a process of some
hundred MB: only who must know asks.
"""

from dataclasses import dataclass

from mmtools.ops import jobs
from mmtools.ops.openclaw import Installation
from mmtools.ops.openclaw_program import NoReply, Program
from mmtools.ops.settings import OpenClaw
from mmtools.state import StateDir

LOOKING = frozenset({"status-update", "status-alerts", "snapshot"})
"""Jobs of ours that only look: a restart costs them nothing."""
RECENT_MINUTES = 60
"""A session that calls itself running and was not written to for longer was cut long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is under way, for people. unknown: why there may be more, "" when all is known."""

    names: tuple[str, ...]
    unknown: str = ""

    @property
    def none(self) -> bool:
        return not self.names and not self.unknown


def of_jobs(state: StateDir, *, but: str) -> Work:
    """Return our own jobs that run and do something, without the one that asks."""
    return Work(names=tuple(name for name in jobs.all_jobs(state) if name not in LOOKING | {but} and state.is_locked(name)))


def of_gateway(claw: OpenClaw) -> Work:
    """Return what a gateway is doing: its own count where it has one, else the sessions that call themselves running."""
    program = _program(claw)
    said = program.call("status")
    if not isinstance(said, dict):
        return Work(names=(), unknown=said.why if isinstance(said, NoReply) else "status answered no object")
    budget = said.get("shutdownBudget")
    active = budget.get("activeWork") if isinstance(budget, dict) else None
    if isinstance(active, int) and not isinstance(active, bool):
        return Work(names=(f"{active} of the gateway's own",) if active else ())
    said = program.call("sessions.list", {"activeMinutes": RECENT_MINUTES, "limit": 1000})
    rows = said.get("sessions") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(rows, list):
        return Work(names=(), unknown=said.why if isinstance(said, NoReply) else "the gateway listed no sessions")
    found = [row for row in rows if isinstance(row, dict)]
    names = tuple(str(row.get("key")) for row in found if row.get("status") == "running")
    if said.get("hasMore"):
        return Work(names=names, unknown="the gateway listed not all of its sessions")
    telling = not found or any("status" in row for row in found)
    return Work(names=names, unknown="" if telling else "this release does not say which sessions run")


def is_well(claw: OpenClaw) -> bool | None:
    """Return whether the gateway's own command calls it well; None when it does not say. For releases without JSON probes."""
    said = _program(claw).health()
    return None if isinstance(said, NoReply) or not isinstance(said.get("ok"), bool) else bool(said["ok"])


def installation(claw: OpenClaw) -> Installation:
    """Return the gateway's folder and config, as ops.yaml or the environment names them."""
    return Installation.open(claw.root, claw.config)


def _program(claw: OpenClaw) -> Program:
    return Program(claw.program, installation(claw).environment)
