"""What runs and what is owned on this machine now, part by part: units, processes, our runs, the gateway, the board's tasks.

Each part is present, none, or not known with the reason: nothing is guessed, and a question without an answer is never "none". It asks,
and changes nothing. Files are copied by `snapshots`; what the gateway keeps in its files is read by `gateway_files`.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.moments import iso
from mmtools.ops import gateway, mission_control, processes, revive, systemd
from mmtools.ops.procfs import PROC
from mmtools.ops.quoters import Quoter, Standing, quoters
from mmtools.ops.settings import Settings
from mmtools.state import StateDir

if TYPE_CHECKING:
    from mmtools.runs.fold import Fold

MANAGER_LIMIT_S = 5.0
PROBE_LIMIT_S = 3.0
MOST_FOLDED = 256 << 20
"""Bytes of a journal that is folded; of a longer one, positions are taken from the run's live state."""
LONGEST_TITLE = 300
_OVER = (Standing.FINISHED, Standing.STOPPED)
_NAMES = ("mmtools", "openclaw", "quote-run")


class Is(StrEnum):
    PRESENT = "present"
    NONE = "none"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of what there is. content: of a present one; why: of one that is not known."""

    standing: Is
    content: Any = None
    why: str = ""

    def document(self) -> dict[str, Any]:
        match self.standing:
            case Is.PRESENT:
                return {"is": self.standing.value, "content": self.content}
            case Is.NONE:
                return {"is": self.standing.value}
            case Is.NOT_KNOWN:
                return {"is": self.standing.value, "why": self.why}


def present(content: Any) -> Part:
    return Part(Is.PRESENT, content)


def none() -> Part:
    return Part(Is.NONE)


def not_known(why: str) -> Part:
    return Part(Is.NOT_KNOWN, why=why)


def parts(state: StateDir, settings: Settings) -> dict[str, Part]:
    """Return every part that is no file of the gateway's; at most about a minute when everything hangs."""
    return {
        "units_user": units(settings, "user"),
        "units_system": units(settings, "system"),
        "processes": all_processes(settings),
        "runs": runs(state),
        "gateway": gateway_health(settings),
        "tasks": tasks(settings),
    }


def units(settings: Settings, manager: str) -> Part:
    """Return how the units that concern us stand: the gateway's, the services of ops.yaml, and our own, by their patterns."""
    named = [service.unit for service in settings.services if service.manager == manager]
    wanted = dict.fromkeys([settings.openclaw.unit, *named, "mmtools-*", "quote-run@*"])
    found = systemd.find(list(wanted), manager=systemd.Manager(manager), limit_s=MANAGER_LIMIT_S)
    if isinstance(found, systemd.NotKnown):
        return not_known(found.why)
    return present({name: _unit(unit) for name, unit in found.items()}) if found else none()


def _unit(unit: systemd.Unit) -> dict[str, str]:
    """Return what is kept of a unit, by systemd's own names."""
    return {
        "LoadState": unit.load_state,
        "ActiveState": unit.active_state,
        "SubState": unit.sub_state,
        "MainPID": str(unit.main_pid or 0),
        "InvocationID": unit.invocation_id,
        "NRestarts": "" if unit.n_restarts is None else str(unit.n_restarts),
        "ActiveEnterTimestamp": unit.active_since,
    }


def all_processes(settings: Settings) -> Part:
    """Return this user's processes that name mmtools or OpenClaw, or belong to a unit that concerns us; command lines masked."""
    wanted = {settings.openclaw.unit, *(service.unit for service in settings.services)}

    def concerns(process: processes.Process) -> bool:
        named = any(name in word for word in (*process.argv[:4], process.exe or "") for name in _NAMES)
        return process.pid != os.getpid() and (named or process.unit in wanted)

    try:
        found = processes.find(concerns)
    except OSError as e:
        return not_known(f"{PROC} cannot be read ({e.strerror})")
    return present([asdict(process) for process in found]) if found else none()


def runs(state: StateDir) -> Part:
    """Return our runs: those that are over by name and standing, all others with what they own and what rests."""
    try:
        found = quoters(state)
    except (Refused, Misconfigured, TryLater) as e:
        return not_known(str(e))
    return present({run.run_id: _run(state, run) for run in found}) if found else none()


def _run(state: StateDir, run: Quoter) -> dict[str, Any]:
    told: dict[str, Any] = {
        "standing": run.standing.value,
        "why": run.why,
        "owner": run.owner,
        "venue": run.venue,
        "written_at": (run.live or {}).get("written_at"),
    }
    if run.standing in _OVER:
        return told
    return {
        **told,
        "owned": _owned(state, run).document(),
        "config": str(state.path(f"runs/{run.run_id}/run.yaml")),
        "command": revive.command(state, run.run_id, run.owner),
    }


def _owned(state: StateDir, run: Quoter) -> Part:
    """Return cash, positions and resting orders, from the journal; without the orders, and a little older, where that is too long."""
    journal = state.path(f"runs/{run.run_id}/journal.jsonl")
    try:
        size = journal.stat().st_size
        if size > MOST_FOLDED:
            return _shown(run, f"its journal has {size} bytes, and {MOST_FOLDED} are folded")
        from mmtools.runs.reading import fold_of

        return present(_folded(fold_of(state, run.run_id)))
    except (Refused, Misconfigured, TryLater) as e:
        return not_known(str(e))
    except OSError as e:
        return not_known(f"its journal cannot be read ({e.strerror})")


def _folded(fold: "Fold") -> dict[str, Any]:
    from mmtools.units import text

    return {
        "from": "journal",
        "at_ms": fold.last_ms,
        "cash": text(fold.account.cash),
        "positions": {
            slug: {"yes": text(position.yes), "no": text(position.no)}
            for slug, position in zip(fold.slugs, fold.account.positions, strict=True)
            if position.yes or position.no
        },
        "resting": [
            {
                "key": order.key,
                "market": fold.slugs[order.market],
                "token": order.outcome.value,
                "side": order.side.value,
                "price": text(order.price),
                "size": text(order.size),
                "answered": order.key not in fold.unanswered,
            }
            for order in fold.sent.values()
        ],
    }


def _shown(run: Quoter, why: str) -> Part:
    markets = (run.live or {}).get("markets")
    if not isinstance(markets, Mapping):
        return not_known(f"{why}, and its live state shows no markets")
    try:
        positions = {slug: {"yes": market["position_yes"], "no": market["position_no"]} for slug, market in markets.items()}
    except (KeyError, TypeError):
        return not_known(f"{why}, and its live state shows no positions")
    return present({"from": "live_state", "why": why, "positions": positions, "resting": None})


def gateway_health(settings: Settings) -> Part:
    """Return what the gateway says of itself over HTTP; that nobody listens is none, what does not say is not known."""
    said = gateway.probe(settings.openclaw.url, limit_s=PROBE_LIMIT_S)
    if said.health is gateway.Health.DOWN:
        return none()
    if said.health in (gateway.Health.HUNG, gateway.Health.ODD):
        return not_known(f"the gateway is {said.health}: {said.why}")
    return present({"health": said.health.value, "why": said.why, "version": said.version, "uptime_ms": said.uptime_ms})


def tasks(settings: Settings) -> Part:
    """Return the board's tasks in progress; none where no board is named, or it has no such task."""
    if settings.mission_control is None:
        return none()
    try:
        found = mission_control.tasks(settings)
    except (TryLater, Refused, Misconfigured) as e:
        return not_known(str(e))
    return present([_task(task) for task in found]) if found else none()


def _task(task: mission_control.Task) -> dict[str, Any]:
    changed = None if task.updated_ms is None else iso(task.updated_ms)
    return {"id": task.id, "title": task.title[:LONGEST_TITLE], "agent": task.assigned_agent_id, "updated_at": changed}
