"""A restart of one unit through seven gates, each of which can say no, and a proof at the end. Called by the command safe-restart.

Nobody is signalled and nothing is killed here: the service manager is asked to restart, once. The attempt is counted on the disk before
the first thing that others see, and each step is written down before it is done, so that a kill at any instant can be told from the
records. The gates that other commands do (the sessions, the chats, the snapshot) come in as `Helpers`.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from mmtools import outbox, restarts
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.moments import Moment
from mmtools.ops import cgroups, gateway, handover, systemd, work
from mmtools.ops.gates import JOB, WITHIN_S, Entrance, Found, Gate, Mark, Passage, Wish
from mmtools.ops.proof import Before, End, Limits, Proof, watch
from mmtools.ops.settings import Settings
from mmtools.ops.systemd import Declined, NotKnown, Unit
from mmtools.restarts import Owner
from mmtools.state import StateDir

DRAIN_PAUSE_S = 15.0


class Result(StrEnum):
    """How it ended. The first four stand in restarts.jsonl too."""

    DONE = "done"
    FAILED = "failed"
    """It was ordered, and is not proven well."""
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    NEEDLESS = "needless"
    HANDED_OVER = "handed over"
    WOULD_RESTART = "would restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How long running work was waited for, what the restart cut all the same, and why there may be more ("" when all is known)."""

    seconds: float
    cut: tuple[str, ...]
    unknown: str


@dataclass(slots=True)
class Restarting:
    """One call of safe-restart on its way through the gates; `run` takes it through, the fields say how far it came."""

    entrance: Entrance
    passed: list[Passage] = field(default_factory=list)
    result: Result = Result.REFUSED
    why: str = ""
    attempt: str | None = None
    reason: str = ""
    """Why, as it stands in restarts.jsonl."""
    handed_to: str | None = None
    drained: Drained | None = None
    cut: list[str] = field(default_factory=list)
    proof: Proof | None = None
    ordered: bool = False

    @property
    def state(self) -> StateDir:
        return self.entrance.state

    @property
    def settings(self) -> Settings:
        return self.entrance.settings

    @property
    def wish(self) -> Wish:
        return self.entrance.wish

    def run(self) -> None:
        """Go through the gates. Raises Refused when one says no, TryLater and Misconfigured as state files do."""
        entrance = self.entrance
        if self.wish.attempt is not None:
            self._take_up(self.wish.attempt)
            self._act(self.wish.attempt)
            return
        for gate, look in (
            (Gate.RATE_LIMIT, entrance.rate_limit),
            (Gate.MEMORY, entrance.memory_use),
            (Gate.CLEANUP, entrance.session_cleanup),
            (Gate.DRY_RUN, entrance.dry_run),
        ):
            self._pass(gate, look)
            if entrance.needless:
                self._end(Result.NEEDLESS, entrance.needless)
                return
        self.reason = self.wish.why or entrance.memory_words()
        if self.wish.approved_by:
            self.reason += f", approved by {self.wish.approved_by}"
        if self.wish.dry_run:
            for gate in (Gate.CHATS, Gate.SNAPSHOT, Gate.RESTART):
                self.passed.append(Passage(name=gate, result=Mark.SKIPPED, why="a dry run ends here", seconds=0.0))
            self._end(Result.WOULD_RESTART, f"{self.wish.unit} would be restarted: {self.reason}")
            return
        most = self.settings.restart.most_per_hour
        self.attempt = restarts.attempt(self.state, entrance.what, owner=Owner.SAFE_RESTART, why=self.reason, most=most, within_s=WITHIN_S)
        if isinstance(entrance.unit, Unit) and handover.is_within(entrance.unit):
            self._hand_over(self.attempt)
        else:
            self._act(self.attempt)

    def _hand_over(self, attempt: str) -> None:
        name = f"mmtools-safe-restart-{attempt}.service"
        restarts.step(self.state, attempt, "handed over")
        told = handover.start(self.wish.again(attempt), name, self.wish.manager)
        if isinstance(told, Declined):
            restarts.outcome(self.state, attempt, Result.REFUSED.value, told.why)
            why = f"this process is a child of {self.wish.unit} and would end with it, and handing over failed: {told.why}"
            self._pass(Gate.RESTART, lambda: Found(Mark.REFUSED, why, stop=True))
        self.handed_to = name
        how = f"{name} goes on, because this process is a child of {self.wish.unit} and would end with it"
        doubt = f"; whether it was started is not known ({told.why})" if isinstance(told, NotKnown) else ""
        self._end(Result.HANDED_OVER, f"{how}{doubt}; see `journalctl --{self.wish.manager.value} -u {name}`")

    def _take_up(self, attempt: str) -> None:
        """Go on with what another process began, once: it is counted already."""
        found = next((past for past in restarts.attempts(self.state) if past.id == attempt), None)
        age_s = 0.0 if found is None else Moment.now().since(found.at)
        mine = found is not None and found.what == self.entrance.what and found.owner == Owner.SAFE_RESTART and found.result is None
        if found is None or not mine or found.steps != ("handed over",) or age_s > restarts.TAKEN_UP_WITHIN_S:
            raise Refused(f"{attempt} is no attempt that waits to be taken up for {self.wish.unit}; call safe-restart without --as-attempt")
        restarts.step(self.state, attempt, "taken up")
        self.attempt, self.reason = attempt, found.why
        for gate in (Gate.RATE_LIMIT, Gate.MEMORY, Gate.CLEANUP, Gate.DRY_RUN):
            self.passed.append(Passage(name=gate, result=Mark.PASSED, why=f"by the process that began {attempt}", seconds=0.0))

    def _act(self, attempt: str) -> None:
        try:
            self._pass(Gate.CHATS, self._tell)
            self._drain(attempt)
            self._pass(Gate.SNAPSHOT, lambda: self._snapshot(attempt))
            self._pass(Gate.RESTART, lambda: self._restart(attempt))
        except BaseException as e:
            self._cut_short(attempt, e)
            raise
        try:
            restarts.outcome(self.state, attempt, self.result.value, self.why)
        finally:
            self._say_how_it_ended()

    def _tell(self) -> Found:
        text = f"{self.wish.unit} is being restarted: {self.reason}"
        if self.wish.drain and not self.wish.force:
            text += f"; running work gets up to {self.settings.restart.drain_limit_s:g} s"
        try:
            self._alert("begin", text, outbox.Level.INFO)
        except (TryLater, Misconfigured, Refused) as e:  # a restart that is needed does not wait for the chats
            return Found(Mark.NOT_KNOWN, str(e))
        tell = self.entrance.helpers.tell
        return Found(Mark.PASSED, "in the outbox; status-update sends it") if tell is None else tell()

    def _drain(self, attempt: str) -> None:
        """Wait until nothing is under way, or the time is over."""
        if not self.wish.drain or self.wish.force:
            return
        restarts.step(self.state, attempt, "drain")
        began, limit_s = time.monotonic(), self.settings.restart.drain_limit_s
        while True:
            found = self.entrance.under_way()
            left_s = began + limit_s - time.monotonic()
            if found.none or left_s <= 0:
                break
            time.sleep(min(DRAIN_PAUSE_S, limit_s / 10, left_s))
        self.drained = Drained(seconds=round(time.monotonic() - began, 3), cut=found.names, unknown=found.unknown)

    def _snapshot(self, attempt: str) -> Found:
        if not self.settings.restart.snapshot:
            return Found(Mark.SKIPPED, "`restart: snapshot` is false in ops.yaml")
        if self.entrance.helpers.snapshot is None:
            return Found(Mark.SKIPPED, "snapshot is not installed")
        restarts.step(self.state, attempt, "snapshot")
        found = self.entrance.helpers.snapshot(f"before the restart {attempt} of {self.wish.unit}")
        if not found.stop or not self.wish.force:
            return found
        restarts.step(self.state, attempt, "no snapshot")
        return Found(found.mark, f"{found.why}; --force goes on without", stop=False)

    def _restart(self, attempt: str) -> Found:
        # Looked at anew: if it restarted by itself meanwhile, that start is the old one.
        unit = self.entrance.unit = systemd.show_one(self.wish.unit, manager=self.wish.manager)
        if isinstance(unit, NotKnown):
            return Found(Mark.NOT_KNOWN, f"{unit.why}; nothing was ordered", stop=True)
        self.cut = self._others(unit)
        restarts.step(self.state, attempt, "order")
        self.ordered = True
        before = Before(unit=unit, ordered_s=time.monotonic())
        told = systemd.restart(self.wish.unit, manager=self.wish.manager)
        if isinstance(told, Declined):
            self._end(Result.FAILED, f"{self.wish.unit} was not restarted: {told.why}")
            return Found(Mark.REFUSED, told.why)
        # Also when nobody knows whether the order was heard: what follows shows it.
        with suppress(TryLater, Misconfigured):  # a disk that takes no more must not end the watch
            restarts.step(self.state, attempt, "watch")
        self.proof = self._watch(before)
        if self.proof.proven:
            self._end(Result.DONE, f"{self.wish.unit} was restarted and is well after {self.proof.seconds:.1f} s: {self.proof.why}")
            return Found(Mark.PASSED, f"{', '.join(self.proof.signs)}; {self.proof.why}")
        self._end(Result.FAILED, f"{self.wish.unit} is not proven well ({self.proof.end.value}): {self.proof.why}")
        mark = Mark.NOT_KNOWN if self.proof.end is End.NOT_KNOWN else Mark.REFUSED
        return Found(mark, f"{self.proof.end.value}: {self.proof.why}")

    def _watch(self, before: Before) -> Proof:
        limits = Limits(start_s=self.settings.restart.start_limit_s, settle_s=self.settings.restart.settle_s)
        if not self.entrance.is_gateway or self.settings.restart.health == "none":
            return watch(before, limits, None)
        claw = self.settings.openclaw
        return watch(before, limits, lambda s: gateway.probe(claw.url, limit_s=s), confirm=lambda: work.is_well(claw))

    def _others(self, unit: Unit) -> list[str]:
        """Return the processes that end with the unit's main process."""
        if unit.kill_mode not in ("control-group", "mixed"):
            return []
        alive = cgroups.pids(unit)
        return [] if isinstance(alive, NotKnown) else sorted(cgroups.names(alive - {unit.main_pid}))

    # words and records

    def _pass(self, gate: Gate, look: Callable[[], Found]) -> None:
        began = time.monotonic()
        found = look()
        self.passed.append(Passage(name=gate, result=found.mark, why=found.why, seconds=round(time.monotonic() - began, 3)))
        if found.stop:
            self.why = f"{self.wish.unit} was not restarted ({gate.value}): {found.why}"
            raise Refused(self.why)

    def _end(self, result: Result, why: str) -> None:
        self.result, self.why = result, why

    def _cut_short(self, attempt: str, error: BaseException) -> None:
        """Write down how a cut attempt ended, as far as the disk still lets us."""
        self.result = Result.REFUSED if isinstance(error, Refused) else Result.INTERRUPTED
        detail = str(error) or "interrupted"
        with suppress(TryLater, Misconfigured, Refused):
            restarts.outcome(self.state, attempt, self.result.value, detail)
            text = f"the restart of {self.wish.unit} was ordered and not watched to its end ({detail}); look whether it is well"
            self._alert("end", text if self.ordered else f"{self.wish.unit} was not restarted: {detail}", outbox.Level.WARNING)

    def _say_how_it_ended(self) -> None:
        level = outbox.Level.INFO if self.result is Result.DONE else outbox.Level.CRITICAL
        lost = [*self.cut, *(self.drained.cut if self.drained else ())]
        cut = f"; it cut: {', '.join(lost[:10])}" if lost else ""
        look = "" if self.result is Result.DONE else f"; look at `journalctl --{self.wish.manager.value} -u {self.wish.unit}`"
        self._alert("end", f"{self.why}{cut}{look}", level)
        if self.entrance.helpers.tell is not None:
            self.entrance.helpers.tell()

    def _alert(self, part: str, text: str, level: outbox.Level) -> None:
        outbox.raise_alert(self.state, f"restart:{self.attempt}:{part}", text, level=level, source=JOB)
