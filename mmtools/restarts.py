"""One budget for every revival of a unit or a run: `restarts.jsonl`, with who revives what, and why. Used by `runs` and `ops`.

An attempt is counted, on the disk, before anything is done: a program that is killed in the middle has spent it. Time since an attempt is
the kernel's own (since boot) as long as the machine was not started anew, so that no jump of the clock gives a budget back. Nothing is
revived here.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from mmtools.errors import Refused
from mmtools.moments import Moment, iso, now_ms
from mmtools.state import StateDir

FILE = "restarts.jsonl"
SCHEMA = "mmtools.restarts/1"
MOST = 3
WITHIN_S = 3600.0
TAKEN_UP_WITHIN_S = 600.0
"""How old an attempt may be that one process hands over to another."""
WAIT_S = 2.0
"""How long one may wait for another who is counting."""


class Owner(StrEnum):
    """Who revives a run or a unit. A run names one, and nobody else may."""

    NOBODY = "nobody"
    SYSTEMD = "systemd"
    STATUS_UPDATE = "status-update"
    SMOKE_TEST = "smoke-test"
    RECOVER = "recover"
    SAFE_RESTART = "safe-restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One revival that was begun. result: how it ended, None when nobody wrote that down: it goes on, or was cut.

    steps: how far it came, in its owner's words, the newest last.
    """

    id: str
    what: str
    owner: str
    why: str
    at: Moment
    result: str | None
    detail: str
    steps: tuple[str, ...] = ()


def attempt(
    state: StateDir, what: str, *, owner: Owner, why: str, most: int = MOST, within_s: float = WITHIN_S, now: Moment | None = None
) -> str:
    """Count one revival of `what` ("unit:NAME", "run:ID") before it is made, and return its id.

    Raises Refused when `most` were begun within the last `within_s`, TryLater while another process counts.
    """
    with state.lock("restarts", WAIT_S):
        moment = now or Moment.now()
        within_budget(state, what, most=most, within_s=within_s, now=moment)
        number = f"{datetime.fromtimestamp(moment.wall_ms / 1000, UTC):%Y%m%dT%H%M%S}Z-{os.getpid()}-{len(attempts(state)) + 1}"
        state.append(
            FILE,
            {
                "kind": "attempt",
                "id": number,
                "what": what,
                "owner": owner.value,
                "why": why,
                "at": iso(moment.wall_ms),
                "wall_ms": moment.wall_ms,
                "boot_id": moment.boot_id,
                "boot_s": round(moment.boot_s, 3),
            },
        )
        return number


def within_budget(state: StateDir, what: str, *, most: int = MOST, within_s: float = WITHIN_S, now: Moment | None = None) -> list[Attempt]:
    """Return the attempts within the last `within_s` when one more may be made; it counts nothing. Raises Refused when none may."""
    moment = now or Moment.now()
    recent = [past for past in attempts(state) if past.what == what and moment.since(past.at) < within_s]
    if len(recent) >= most:
        oldest = max(moment.since(past.at) for past in recent)
        raise Refused(
            f"{what} was restarted {len(recent)} times within {within_s / 60:g} minutes, the most that is allowed; look why it "
            f"does not stay up (the newest: {recent[-1].owner}, {recent[-1].why}); "
            f"one more is allowed in {(within_s - oldest) / 60:.0f} minutes"
        )
    return recent


def step(state: StateDir, attempt_id: str, name: str) -> None:
    """Write down how far an attempt has come, before the next thing is done: what a kill cut can then be told."""
    state.append(FILE, {"kind": "step", "id": attempt_id, "name": name, "at": iso(now_ms())})


def outcome(state: StateDir, attempt_id: str, result: str, detail: str = "") -> None:
    """Write down how an attempt ended: "done", "failed", or another word of its owner's."""
    state.append(FILE, {"kind": "outcome", "id": attempt_id, "result": result, "detail": detail, "at": iso(now_ms())})


def attempts(state: StateDir) -> list[Attempt]:
    """Return all attempts, oldest first. Raises Broken when the file cannot be read: that is not "none"."""
    outcomes: dict[str, dict[str, Any]] = {}
    begun: list[dict[str, Any]] = []
    steps: dict[str, list[str]] = {}
    for record in _records(state):
        if record["kind"] == "attempt":
            begun.append(record)
        elif record["kind"] == "step":
            steps.setdefault(record["id"], []).append(record["name"])
        else:
            outcomes[record["id"]] = record
    return [
        Attempt(
            id=record["id"],
            what=record["what"],
            owner=record["owner"],
            why=record["why"],
            at=Moment(wall_ms=record["wall_ms"], boot_id=record["boot_id"], boot_s=record["boot_s"]),
            result=outcomes[record["id"]]["result"] if record["id"] in outcomes else None,
            detail=outcomes[record["id"]]["detail"] if record["id"] in outcomes else "",
            steps=tuple(steps.get(record["id"], ())),
        )
        for record in begun
    ]


def _records(state: StateDir) -> Iterator[dict[str, Any]]:
    needed = {
        "attempt": {"id", "what", "owner", "why", "wall_ms", "boot_id", "boot_s"},
        "step": {"id", "name"},
        "outcome": {"id", "result", "detail"},
    }
    for record in state.records(FILE):
        kind = record.get("kind")
        if kind not in needed or not needed[kind] <= record.keys():
            raise Refused(f"{state.path(FILE)} holds a record of another kind; restore the file, or cut that line out by hand")
        yield record
