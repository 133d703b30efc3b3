"""Telling those outside: the outbox to the chats and the card to the board, side by side, until a deadline. Called by `status-update`.

How a chat or a board is spoken to, and when again, is known to `post` and `mission_control`; here is only that one does not wait for the
other, and nobody for long.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import mission_control, post
from mmtools.ops.facts import Facts, Seen
from mmtools.ops.findings import Finding
from mmtools.ops.mission_control import Card, Figure
from mmtools.ops.settings import Settings
from mmtools.state import StateDir

BOARD_LIMIT_S = 2.5
"""For one question to the board; a card takes one, or a few when it is not known whether the last one arrived."""
LEAST_S = 1.5
"""Less time than this is not worth a try."""
AGAIN_S = 0.1


@dataclass(slots=True)
class Told:
    """What was told. busy: another sender was at work all the time; what is due then goes out with it, or with the next one."""

    sent: post.Sent | None = None
    busy: bool = False
    board: Card | None = None
    failures: list[Exception] = field(default_factory=list)


def tell(state: StateDir, settings: Settings, deadline: float, *, board: "OnBoard | None", dry_run: bool) -> Told:
    """Send what is due until `deadline`, by time.monotonic(). board: the card, None for alerts alone."""
    told = Told()
    if dry_run:
        told.sent = _sent(state, settings, deadline, told, status=board is not None, dry_run=True)
        return told
    thread = None
    if board is not None and settings.mission_control is not None:
        thread = threading.Thread(target=_write_card, args=(state, settings, board, told), daemon=True)
        thread.start()
    told.sent = _sent(state, settings, deadline, told, status=board is not None, dry_run=False)
    if thread is not None:
        thread.join(
            max(0.0, deadline - time.monotonic())
        )  # what is later than this goes on until we end; the next one looks what became of it
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBoard:
    """What goes on the board's card. figures: what makes it worth writing anew."""

    text: str
    figures: Mapping[str, Figure]
    now_ms: int


def figures(facts: Facts, findings: Sequence[Finding]) -> dict[str, Figure]:
    """Return the figures of a card: findings, and of each run how it stands, its money and its fills."""
    found: dict[str, Figure] = {"findings": sorted(finding.name for finding in findings)}
    if isinstance(facts.gateway, Seen) and facts.openclaw:
        found["gateway"] = facts.gateway.value.health.value
    if isinstance(facts.runs, Seen):
        for run in facts.runs.value:
            found[f"{run.run_id} stands"] = run.standing.value
            if isinstance(run.live, Seen):
                live = run.live.value
                found[f"{run.run_id} pnl"] = _number(live.pnl.cumulative)
                found[f"{run.run_id} fills"] = live.totals.fills
                found[f"{run.run_id} quotes"] = live.quotes
    return found


def document(told: Told) -> dict[str, Any]:
    """Return what was told for a JSON document."""
    chats = {}
    for name, report in (told.sent.chats if told.sent is not None else {}).items():
        chats[name] = {
            "alerts": None if report.alerts is None else report.alerts.kind.value,
            "keys": list(report.keys),
            "status": None if report.status is None else report.status.kind.value,
            "status_is_due": report.status_is_due,
        }
    return {
        "chats": chats,
        "waiting": None if told.sent is None else list(told.sent.waiting),
        "busy": told.busy,
        "board": None if told.board is None else {"did": told.board.did.value, "why": told.board.why},
    }


def _sent(state: StateDir, settings: Settings, deadline: float, told: Told, *, status: bool, dry_run: bool) -> post.Sent | None:
    """Send, once another sender is through; the job of every minute and that of every quarter begin at the same moment."""
    while True:
        left_s = deadline - time.monotonic() - post.SPARE_S
        try:
            return post.send(state, settings, limit_s=min(post.LIMIT_S, max(LEAST_S, left_s)), status=status, dry_run=dry_run)
        except TryLater as e:
            if not state.is_locked(post.LOCK):
                told.failures.append(e)
                return None
            if left_s < LEAST_S or dry_run:
                told.busy = True
                return None
        except (Refused, Misconfigured) as e:
            told.failures.append(e)
            return None
        time.sleep(AGAIN_S)


def _write_card(state: StateDir, settings: Settings, board: OnBoard, told: Told) -> None:
    try:
        told.board = mission_control.update_card(state, settings, board.text, board.figures, board.now_ms, limit_s=BOARD_LIMIT_S)
    except (TryLater, Refused, Misconfigured) as e:
        told.failures.append(e)


def _number(amount: str | None) -> float | None:
    try:
        return None if amount is None else float(amount)
    except ValueError:
        return None
