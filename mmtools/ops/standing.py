"""Whether an OpenClaw gateway runs, and who may write the store of an agent: what must be known before anything is pruned.

Releases guard the store in three ways (`Era`), and a wrong guess loses sessions: every fact has a witness, and where two witnesses
disagree nothing is known. `look` asks them all, `judge` says what follows and asks nobody. Nothing is written here, no database is
opened, and what is done about an answer is decided by the caller.
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mmtools.ops import gateway, gateway_process
from mmtools.ops.openclaw import Agent, Installation
from mmtools.ops.openclaw_program import LIMIT_S, NoReply, Program

CLOCK_S = 2.0
"""How exactly the start of a process can be known."""

_RELEASE = re.compile(r"(\d{4})\.(\d+)\.(\d+)(-beta)?")


class Gateway(StrEnum):
    """UP: it runs and names this installation. DOWN: nobody listens and no process of it is there. UNKNOWN: anything else."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


class Era(StrEnum):
    """Who may write the store. While the gateway is UP only LOCK lets an outsider; everything else goes through the gateway."""

    LOCK = "lock"
    """sessions.json, guarded by sessions.json.lock: to 2026.4.29."""
    QUEUE = "queue"
    """sessions.json, kept in the gateway's memory: 2026.5.2 to 7.1, and 7.33 to 7.35."""
    FILE = "file"
    """sessions.json, LOCK or QUEUE: which is not known. While the gateway is DOWN it does not matter; while it is UP it is as QUEUE."""
    SQLITE = "sqlite"
    """A database, and only the gateway writes it: from 2026.7.2-beta.1 on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How things stand for an agent's store. era: None when it is not known; why: for people.

    version: the release of the gateway, else of the command; None when neither says it.
    """

    gateway: Gateway
    era: Era | None
    why: str
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All witnesses, asked once for all agents; `judge` says what follows.

    health: what the gateway says through the command; None where it was not worth asking. gateway_version: what the gateway that runs
    calls itself, which is not always the release of the command.
    """

    probe: gateway.Probe
    processes: tuple[gateway_process.Process, ...] | gateway_process.Unseen
    health: Mapping[str, Any] | NoReply | None
    gateway_version: str | None
    program_version: str | NoReply | None


def standing(installation: Installation, agent: Agent, *, program: str, url: str, limit_s: float = LIMIT_S) -> Standing:
    """Return how things stand for one agent; for several agents, `look` once and `judge` each. limit_s: for each question."""
    return judge(look(installation, program=program, url=url, limit_s=limit_s), agent)


def look(installation: Installation, *, program: str, url: str, limit_s: float = LIMIT_S) -> Look:
    """Ask the port, the processes, and where they leave something open the command: up to three calls of it."""
    command = Program(program, installation.environment)
    probe = gateway.probe(url, limit_s=min(limit_s, gateway.LIMIT_S))
    processes = gateway_process.of_folder(installation.root)
    health: Mapping[str, Any] | NoReply | None = None
    said = probe.version
    program_version: str | NoReply | None = None
    if probe.health not in (gateway.Health.HUNG, gateway.Health.ODD):
        program_version = command.version(limit_s)
        if probe.health is not gateway.Health.DOWN:
            health = command.health(limit_s)
            if said is None and not isinstance(health, NoReply):
                status = command.call("status", limit_s=limit_s)
                version = status.get("runtimeVersion") if isinstance(status, dict) else None
                said = version if isinstance(version, str) else None
    return Look(probe=probe, processes=processes, health=health, gateway_version=said, program_version=program_version)


def judge(looked: Look, agent: Agent) -> Standing:
    """Return what the witnesses say together about one agent's store."""
    state, why = _whether_it_runs(looked)
    if state is Gateway.UP and isinstance(looked.health, Mapping):
        state, era, more = _as_named(looked.health, agent, looked)
    elif state is Gateway.UP:
        era, more = _era_by_age(agent, looked)
    elif state is Gateway.DOWN:
        era, more = _era_at_rest(agent, looked.program_version)
    else:
        era, more = None, ""
    version = looked.gateway_version or (looked.program_version if isinstance(looked.program_version, str) else None)
    return Standing(gateway=state, era=era, why=f"{why}; {more}" if more else why, version=version)


def whether_down(installation: Installation, *, url: str, limit_s: float = gateway.LIMIT_S) -> tuple[bool, str]:
    """Return whether the gateway is certainly down, and why; quick, for a last look before the store is written."""
    probe = gateway.probe(url, limit_s=limit_s)
    processes = gateway_process.of_folder(installation.root)
    state, why = _whether_it_runs(Look(probe=probe, processes=processes, health=None, gateway_version=None, program_version=None))
    return state is Gateway.DOWN, why


def _whether_it_runs(looked: Look) -> tuple[Gateway, str]:
    probe, processes = looked.probe, looked.processes
    if probe.health is gateway.Health.DOWN:
        if isinstance(processes, gateway_process.Unseen):
            return Gateway.UNKNOWN, f"nobody listens, but whether a gateway process runs is not known: {processes.why}"
        if processes:
            return Gateway.UNKNOWN, f"nobody listens, but a gateway process runs (pid {processes[0].pid}): it starts, stops or is stuck"
        return Gateway.DOWN, "nobody listens and no gateway process runs"
    if probe.health in (gateway.Health.HUNG, gateway.Health.ODD):
        return Gateway.UNKNOWN, f"the port answers, but not as a gateway that is well ({probe.why})"
    if isinstance(looked.health, Mapping):
        return Gateway.UP, "the gateway answers"
    reason = looked.health.why if looked.health is not None else "it was not asked"
    if probe.health is gateway.Health.PAGE:
        return (
            Gateway.UNKNOWN,
            f"the port answers with a page, as any server may, and no call came through ({reason})",
        )
    if isinstance(processes, gateway_process.Unseen) or not processes:
        return Gateway.UNKNOWN, f"the port answers a health probe, but no gateway process is seen and no call came through ({reason})"
    return Gateway.UP, f"the gateway answers its probe, but no call came through ({reason})"


def _era_of_release(version: str) -> Era | None:
    """Return the era of "2026.7.1"; None for releases between the eras, and for what is no release."""
    found = _RELEASE.match(version)
    if found is None:
        return None
    release, beta = tuple(int(part) for part in found.groups()[:3]), found[4] is not None
    if release <= (2026, 4, 29):
        return Era.LOCK
    if (2026, 7, 33) <= release <= (2026, 7, 35) or ((2026, 5, 2) <= release <= (2026, 7, 1) and not (beta and release == (2026, 5, 2))):
        return Era.QUEUE
    if (2026, 7, 2) <= release < (2026, 7, 33) or release >= (2026, 8, 1):
        return Era.SQLITE
    return None


def _exists(path: Path) -> bool | None:
    """Whether there is a file; None when that cannot be known."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    return True


def _era_at_rest(agent: Agent, version: str | NoReply | None) -> tuple[Era | None, str]:
    """Return the era of a store whose gateway is down: by the one file that is there, if the command's release does not disagree."""
    store, database = _exists(agent.store), _exists(agent.database)
    by_release = _era_of_release(version) if isinstance(version, str) else None
    if store is None or database is None:
        return None, "which store there is cannot be seen"
    if store and database:
        return None, "sessions.json and a database are both there, and only a running gateway can say which is in use"
    if not store and not database:
        return by_release, f"there is no store; the command is {version}" if by_release else "there is no store and no known release"
    if store and by_release is Era.SQLITE:
        return None, f"only sessions.json is there, but the command is {version}, which keeps sessions in a database"
    if store and by_release is None:
        return Era.FILE, "only sessions.json is there; the release is not known"
    if database and by_release is not Era.SQLITE:
        return None, f"only a database is there, which proves little, and the command is {version if by_release else 'of no known release'}"
    return by_release, f"only {agent.store.name if store else agent.database.name} is there; the command is {version}"


def _as_named(health: Mapping[str, Any], agent: Agent, looked: Look) -> tuple[Gateway, Era | None, str]:
    """Return what follows from the store that the gateway names for the agent."""
    named = _named_store(health, agent)
    if named is None:
        return Gateway.UP, None, f"it names no store of the agent {agent.id}"
    named, store, database = (os.path.realpath(path) for path in (named, agent.store, agent.database))
    if named not in (store, database):
        return Gateway.UNKNOWN, None, f"but it keeps the sessions of {agent.id} in {named}: it is not the gateway of this installation"
    return Gateway.UP, *_era_of_named(named == database, agent, looked)


def _named_store(health: Mapping[str, Any], agent: Agent) -> str | None:
    """Return the path that `health` names for the agent."""
    listed = health.get("agents")
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict) and each.get("agentId") == agent.id:
            path = each["sessions"].get("path") if isinstance(each.get("sessions"), dict) else None
            return path if isinstance(path, str) and os.path.isabs(path) else None
    return None


def _era_of_named(in_database: bool, agent: Agent, looked: Look) -> tuple[Era | None, str]:
    """Return the era of the store that the running gateway names, if nothing disagrees."""
    told = looked.gateway_version
    eras = {
        _era_of_release(version)
        for version in (told, looked.program_version if isinstance(looked.program_version, str) else None)
        if version is not None
    }
    names = f"it names {agent.database.name if in_database else agent.store.name}"
    if len(eras) > 1:
        return None, f"{names}, but the gateway is {told} and the command {looked.program_version}: restart the gateway"
    by_release = next(iter(eras), None)
    if in_database:
        if eras and by_release is not Era.SQLITE:
            return None, f"{names}, but its release is {told or looked.program_version}"
        if _written_since(agent.store, looked):
            return None, f"{names}, but sessions.json was written since it started"
        return Era.SQLITE, names
    if by_release is Era.SQLITE:
        return None, f"{names}, but its release is {told or looked.program_version}"
    if by_release is None:
        return Era.FILE, f"{names}; its release is not known"
    if by_release is Era.LOCK and told is None and looked.probe.health is not gateway.Health.PAGE:
        # The command may be older than the gateway that runs, and only a gateway that surely takes the lock lets us write.
        return Era.FILE, f"{names}; the command is {looked.program_version}, and the gateway does not say what it is"
    return by_release, f"{names} and is {told or looked.program_version}"


def _era_by_age(agent: Agent, looked: Look) -> tuple[Era | None, str]:
    """Return the era where the gateway runs but names no store: a sessions.json that was written since it started is in use."""
    if _written_since(agent.store, looked):
        by_release = _era_of_release(looked.gateway_version) if looked.gateway_version else None
        if by_release is Era.SQLITE:
            return None, f"sessions.json was written since it started, but it is {looked.gateway_version}"
        return by_release or Era.FILE, "sessions.json was written since it started, so it is in use"
    return None, "which store it uses is not known"


def _written_since(store: Path, looked: Look) -> bool:
    """Whether sessions.json was surely written after the gateway started."""
    starts = [process.started_s for process in looked.processes] if isinstance(looked.processes, tuple) else []
    started_s = max((each for each in starts if each is not None), default=None)
    if looked.probe.uptime_ms is not None:  # a restart in the same process is later than the process
        started_s = max(started_s or 0.0, time.time() - looked.probe.uptime_ms / 1000)
    try:
        return started_s is not None and store.stat().st_mtime > started_s + CLOCK_S
    except OSError:
        return False
