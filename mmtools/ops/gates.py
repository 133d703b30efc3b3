"""The gates of a restart that look and change nothing, but for the session cleanup: rate limit, memory, cleanup, dry run.

What each found is a value; going through them in order, and acting, is `restarting`'s. An unknown is not a pass: without --force it stops.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from mmtools import restarts
from mmtools.errors import Refused, TryLater
from mmtools.ops import checks, memory, policy, systemd, work
from mmtools.ops.settings import Settings
from mmtools.ops.systemd import Manager, NotKnown, Unit
from mmtools.state import StateDir

JOB: Final = "safe-restart"
WITHIN_S = 3600.0


class Gate(StrEnum):
    """The gates, in their order."""

    RATE_LIMIT = "rate limit"
    MEMORY = "memory"
    CLEANUP = "session cleanup"
    DRY_RUN = "dry run"
    CHATS = "chats"
    SNAPSHOT = "snapshot"
    RESTART = "restart"


class Mark(StrEnum):
    """How a gate was met."""

    PASSED = "passed"
    REFUSED = "refused"
    SKIPPED = "skipped"
    NOT_KNOWN = "not_known"


@dataclass(frozen=True, slots=True)
class Found:
    """What a gate found. stop: it does not let us through."""

    mark: Mark
    why: str
    stop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One gate in the document."""

    name: Gate
    result: Mark
    why: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the caller wants. approved_by: the person who takes it on, None when nobody does; attempt: one that was handed over to us.

    again: the command that goes on from outside, called with an attempt's id.
    """

    unit: str
    manager: Manager
    auto: bool
    drain: bool
    force: bool
    why: str
    approved_by: str | None
    dry_run: bool
    attempt: str | None
    again: Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Helpers:
    """Other commands of ours, each bounded in time, None where this installation has it not. prune is told whether it is a dry run."""

    prune: Callable[[bool], Found] | None = None
    tell: Callable[[], Found] | None = None
    snapshot: Callable[[str], Found] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The memory of the unit against its watermark."""

    use: memory.Use
    watermark: memory.Watermark

    @property
    def part(self) -> float:
        return self.use.size / self.watermark.size

    def __str__(self) -> str:
        used, mark = self.use.size // memory.MB, self.watermark.size // memory.MB
        return f"{used} MB ({self.use.source.value}) are {self.part:.0%} of {mark} MB ({self.watermark.source})"


@dataclass(slots=True)
class Entrance:
    """The four gates that lead to a restart, for one call. needless: why none is needed, "" while one is."""

    state: StateDir
    settings: Settings
    wish: Wish
    helpers: Helpers
    unit: Unit | NotKnown
    measured: Measured | NotKnown
    needless: str = ""

    @property
    def is_gateway(self) -> bool:
        return self.wish.unit == self.settings.openclaw.unit

    @property
    def what(self) -> str:
        return f"unit:{self.wish.unit}"

    def rate_limit(self) -> Found:
        most = self.settings.restart.most_per_hour
        try:
            recent = restarts.within_budget(self.state, self.what, most=most, within_s=WITHIN_S)
        except Refused as e:
            return Found(Mark.REFUSED, str(e), stop=True)
        return Found(Mark.PASSED, f"{len(recent)} of {most} within the hour")

    def memory_use(self) -> Found:
        self.unit = systemd.show_one(self.wish.unit, manager=self.wish.manager)
        self.measured = self._measure()
        if self.wish.force:
            return Found(Mark.SKIPPED, f"--force; {self.memory_words()}")
        if self.wish.auto and (nothing := self._nothing_to_watch()):
            self.needless = f"not restarted: {nothing}"
            return Found(Mark.PASSED, nothing)
        if isinstance(self.measured, NotKnown):
            self._settle()
            why = f"{self.measured.why}; or say --force --why TEXT when memory is not the reason"
            return Found(Mark.NOT_KNOWN, f"how much of its memory {self.wish.unit} uses is not known: {why}", stop=True)
        if self.measured.part > self._act_above:
            return Found(Mark.PASSED, f"{self.measured}, above {self._act_above:.0%}")
        self.needless = f"not restarted: {self.measured}, and up to {self._act_above:.0%} nothing is done"
        return Found(Mark.PASSED, f"{self.measured}, not above {self._act_above:.0%}: no restart is needed")

    def _nothing_to_watch(self) -> str:
        """Say why a monitor has nothing to look at here; "" when it has. A unit that should run and does not is another's finding."""
        root = work.installation(self.settings.openclaw).root
        if self.is_gateway and not root.exists():
            return f"there is no OpenClaw on this machine ({root} is not there)"
        if isinstance(self.unit, Unit) and self.unit.found and self.unit.active_state in ("inactive", "failed"):
            return f"{self.unit.name} does not run ({self.unit.active_state}), so it uses no memory"
        return ""

    def _settle(self) -> None:
        """Raise TryLater while the service manager is at work on the unit: what could not be read will be there again."""
        again = systemd.show_one(self.wish.unit, manager=self.wish.manager)
        if isinstance(again, Unit) and isinstance(self.unit, Unit):
            moves = again.job is not None or again.active_state not in ("active", "inactive", "failed")
            if moves or again.main_pid != self.unit.main_pid:
                now = f"{again.active_state} ({again.sub_state})"
                raise TryLater(f"{again.name} is {now}: its manager is at work on it; run again when it is done")

    def session_cleanup(self) -> Found:
        if not self.is_gateway or self.wish.force:
            why = "--force" if self.wish.force else f"{self.wish.unit} is not the gateway"
            return Found(Mark.SKIPPED, why)
        if self.helpers.prune is None:
            return Found(Mark.SKIPPED, "prune-sessions is not installed")
        verdict = policy.judge(self.settings, "prune-sessions", self._facts(), approved_by=self.wish.approved_by)
        if not verdict.allowed:
            return Found(Mark.SKIPPED, verdict.why)
        found = self.helpers.prune(self.wish.dry_run)
        if self.wish.dry_run:
            return found
        self.unit = systemd.show_one(self.wish.unit, manager=self.wish.manager)
        again = self._measure()
        if not isinstance(again, NotKnown):
            self.measured = again
            if again.part <= self._act_above:
                self.needless = f"not restarted: after the session cleanup {again}, and up to {self._act_above:.0%} nothing is done"
        return Found(found.mark, f"{found.why}; then {self.memory_words()}", stop=found.stop)

    def dry_run(self) -> Found:
        facts = [checks.is_loaded(self.unit), policy.disk_ok(self._folders())]
        if self.is_gateway:
            config = checks.config_parses(work.installation(self.settings.openclaw))
            facts.append(policy.Fact(True, f"{config.why} (--force)") if config.holds is None and self.wish.force else config)
        action = "restart-gateway" if self.is_gateway else "restart-unit"
        verdict = policy.judge(self.settings, action, self._facts(), approved_by=self.wish.approved_by)
        against = [fact.why for fact in facts if not fact.holds] + ([] if verdict.allowed else [verdict.why])
        if not against:
            return Found(Mark.PASSED, "; ".join([*(fact.why for fact in facts), verdict.why]))
        unknown = verdict.allowed and all(fact.holds is not False for fact in facts)
        return Found(Mark.NOT_KNOWN if unknown else Mark.REFUSED, "; ".join(against), stop=True)

    # what they look at

    def _measure(self) -> Measured | NotKnown:
        unit = self.unit
        if isinstance(unit, NotKnown):
            return unit
        if not unit.found:
            return NotKnown(f"the {unit.manager.value} manager has no unit {unit.name}; name another, or --manager")
        if unit.active_state in ("inactive", "failed"):
            return NotKnown(f"it is {unit.active_state}")
        mark = memory.watermark(unit, self.settings.memory.watermark_mb)
        used = memory.use(unit)
        if isinstance(used, NotKnown):
            return used
        return mark if isinstance(mark, NotKnown) else Measured(use=used, watermark=mark)

    @property
    def _act_above(self) -> float:
        return self.settings.memory.auto_above if self.wish.auto else self.settings.memory.act_above

    def memory_words(self) -> str:
        return self.measured.why if isinstance(self.measured, NotKnown) else str(self.measured)

    def _facts(self) -> policy.Facts:
        return {
            "no_live_run": lambda: policy.no_live_run(self.state),
            "no_running_work": self._no_running_work,
            "disk_ok": lambda: policy.disk_ok(self._folders()),
            "memory_high": self._memory_high,
        }

    def _memory_high(self) -> policy.Fact:
        if not isinstance(self.measured, Measured):
            return policy.Fact(None, self.memory_words())
        return policy.Fact(self.measured.part > self.settings.memory.act_above, str(self.measured))

    def _no_running_work(self) -> policy.Fact:
        found = self.under_way()
        if found.names:
            return policy.Fact(False, f"{', '.join(found.names[:5])} {'runs' if len(found.names) == 1 else 'run'}")
        return policy.Fact(None, found.unknown) if found.unknown else policy.Fact(True, "nothing is under way")

    def under_way(self) -> work.Work:
        ours = work.of_jobs(self.state, but=JOB)
        theirs = work.of_gateway(self.settings.openclaw) if self.is_gateway else work.Work(names=())
        return work.Work(names=ours.names + theirs.names, unknown=theirs.unknown)

    def _folders(self) -> list[Path]:
        return [self.state.root, *([work.installation(self.settings.openclaw).root] if self.is_gateway else [])]
