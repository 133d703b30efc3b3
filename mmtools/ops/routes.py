"""Which way the sessions of an agent may be changed: by its file, or by asking the gateway, or not at all. Called by prune-sessions.

Three eras guard the store in three ways, and a wrong guess loses sessions without a word: so whatever is not known is refused. The
standing itself is found out by `standing`.
"""

import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path

from mmtools.errors import Refused, TryLater
from mmtools.ops.openclaw import Agent, Installation
from mmtools.ops.standing import Era, Gateway, Standing, whether_down
from mmtools.ops.trash import NAME, Trash

LAST_LOOK_S = 2.0


class Route(StrEnum):
    """FILE: sessions.json is written, under its lock. GATEWAY: each session is deleted by the gateway's own call."""

    FILE = "file"
    GATEWAY = "gateway"


def route(agent: Agent, standing: Standing) -> Route:
    """Return the way. Raises Refused, saying why, when there is none."""
    nothing = not os.path.lexists(agent.store) and not os.path.lexists(agent.database)
    match standing.gateway, standing.era:
        case Gateway.UNKNOWN, _:
            raise Refused(f"agent {agent.id}: whether the gateway runs is not known ({standing.why}); nothing was changed, see to it first")
        case _, None if nothing:
            return Route.FILE  # there is nothing to confuse; what a missing store means is seen there, and one that appears is `still`'s
        case _, None:
            raise Refused(f"agent {agent.id}: which store is in use is not known ({standing.why}); nothing was changed, see to it first")
        case Gateway.DOWN, Era.SQLITE:
            raise Refused(f"agent {agent.id}: its sessions are in SQLite, and only the gateway may write them; start it and run again")
        case Gateway.DOWN, _:
            return Route.FILE
        case Gateway.UP, Era.LOCK:
            return Route.FILE
        case _:
            return Route.GATEWAY


def still(installation: Installation, standing: Standing, url: str) -> Callable[[], None]:
    """Return what is asked right before a store is replaced: where the gateway was down, it must still be. It takes milliseconds."""

    def ask() -> None:
        if standing.gateway is not Gateway.DOWN:
            if standing.era is not Era.LOCK:
                raise TryLater("there was no store, and now the gateway keeps one; nothing was changed, run again")
            return
        down, why = whether_down(installation, url=url, limit_s=LAST_LOOK_S)
        if not down:
            raise TryLater(f"the gateway was down and may be up now ({why}); nothing was changed, run again")

    return ask


def sessions_of(agent: Agent, others: Iterable[Agent]) -> Path:
    """Return the folder of an agent's store and transcripts. Raises Refused where it is not the agent's alone."""
    folder = agent.store.parent
    if agent.store.name != "sessions.json" or any(other.store.parent == folder for other in others if other.id != agent.id):
        raise Refused(
            f"agent {agent.id}: its store is {agent.store}, in a folder that session.store does not give to it alone, so whose the "
            "transcripts there are is not known; nothing was changed"
        )
    return folder


def trash_of(agent: Agent, folder: Path) -> Trash:
    """Return the trash of an agent, beside its sessions."""
    if folder.parent == agent.folder:
        return Trash(agent.folder / NAME, folder)
    return Trash(folder.with_name(f"{folder.name}.{NAME}"), folder)
