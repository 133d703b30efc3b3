"""What an action of ours may do by itself: the rules of ops.yaml, and the conditions they name. Nothing is acted on here.

low and medium act when their conditions hold; high needs a person who takes it on; forbidden never acts. A condition of which nothing
is known does not hold, and no option lifts one.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtools.ops import quoters
from mmtools.ops.settings import Settings
from mmtools.state import StateDir

LEAST_FREE = 200_000_000
LEAST_FREE_PART = 0.05
ENOUGH_FREE = 2_000_000_000
"""Whatever the size of the disk: a twentieth of a large one is more than any restart writes."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Whether a condition holds, None when that is not known, and why, for people."""

    holds: bool | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an action may be done now. why: what speaks against it, or who allowed it."""

    action: str
    level: str
    allowed: bool
    why: str


Facts = Mapping[str, Callable[[], Fact]]
"""How each condition is looked up, by its name in ops.yaml; only those that a rule names are."""


def judge(settings: Settings, action: str, facts: Facts, *, approved_by: str | None = None) -> Verdict:
    """Return whether `action` may be done. approved_by: the person who takes it on, None when nobody does."""
    rule = settings.rule(action)
    if rule.level == "forbidden":
        return _verdict(action, rule.level, f"`policy: {action}` is forbidden in ops.yaml")
    if rule.level == "high" and approved_by is None:
        why = f"`policy: {action}` is high in ops.yaml: it needs a person; call it at a terminal, or with --approve NAME"
        return _verdict(action, rule.level, why)
    against = []
    for name in rule.when:
        fact = facts[name]() if name in facts else Fact(None, "nobody can tell here")
        if not fact.holds:
            against.append(f"{name} {'is not known' if fact.holds is None else 'does not hold'}: {fact.why}")
    if against:
        return _verdict(action, rule.level, "; ".join(against))
    by = f", approved by {approved_by}" if rule.level == "high" else ""
    return Verdict(action=action, level=rule.level, allowed=True, why=f"{action} is {rule.level}{by}")


def objection(state: StateDir, settings: Settings, action: str) -> str | None:
    """Return why a command that nobody can approve may not do `action` now; None when it may."""
    if settings.rule(action).level == "high":
        return f"`policy: {action}` is high in ops.yaml, and nobody approves it here; do it by hand, or make it medium"
    known: Facts = {"no_live_run": lambda: no_live_run(state), "disk_ok": lambda: disk_ok([state.root])}
    verdict = judge(settings, action, known)
    return None if verdict.allowed else verdict.why


def no_live_run(state: StateDir) -> Fact:
    """Whether no run with real money is under way."""
    live = quoters.live_runs(state)
    return Fact(False, f"{', '.join(live)} may be trading real money; halt it, or wait") if live else Fact(True, "no run is live")


def disk_ok(folders: Sequence[Path]) -> Fact:
    """Whether each folder (or what is there of its path) has room for what a restart writes."""
    for folder in folders:
        place = next(part for part in (folder, *folder.parents) if part.exists())
        try:
            room = os.statvfs(place)
        except OSError as e:
            return Fact(None, f"{place}: {e.strerror}")
        free, whole = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
        needed = max(LEAST_FREE, min(round(whole * LEAST_FREE_PART), ENOUGH_FREE))
        if free < needed:
            why = f"{place} has {free // 1_000_000} MB free of {whole // 1_000_000} MB; make room: {needed // 1_000_000} MB are needed"
            return Fact(False, why)
    return Fact(True, "there is room on the disk")


def _verdict(action: str, level: str, why: str) -> Verdict:
    return Verdict(action=action, level=level, allowed=False, why=why)
