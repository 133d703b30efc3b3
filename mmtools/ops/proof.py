"""Whether a unit really was restarted, and is well: watched from the order on until it is proven or given up. It only looks.

Proven is: the service manager calls it running, it is another start than before (a new invocation, a new start of its main process, or
an uptime shorter than the time since the order), its JSON probe was good several times in a row for `settle_s`, and it was not started
again in that time. A PID proves nothing, neither does HTTP 200. Slow is not dead: nobody listens for minutes while a large gateway
starts, so it is called dead only when it uses no processor time either. `restarting` calls this.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mmtools.ops import cgroups, gateway, systemd
from mmtools.ops.gateway import Health, Probe
from mmtools.ops.procfs import PROC
from mmtools.ops.systemd import NotKnown, Unit

STOP_S = 90.0
"""What systemd gives a unit to stop that does not say."""
SLACK_S = 5.0
"""For an order to be taken up, and for a kill after the time to stop."""
LONGEST_S = 3600.0
"""For a unit whose time to stop is without a limit."""
PAUSE_S = 2.0
IN_A_ROW = 3
"""Good answers that prove, and bad ones that may condemn."""
IDLE = 0.01
"""Of a processor: who uses less than this part of it does nothing."""
STARTS_ALLOWED = 1
"""Starts after the first that are no flapping yet: the port may still have been taken."""
USELESS = 78
"""The exit code by which an OpenClaw gateway says that its config is wrong, or that another one has its port."""


class End(StrEnum):
    """How the watch ended."""

    PROVEN = "proven"
    NOT_RESTARTED = "not restarted"
    """The start is the old one."""
    FAILED = "failed"
    """The service manager gave it up."""
    FLAPPING = "flapping"
    """It is started again and again."""
    DEAD = "dead"
    """It answers nothing and does nothing."""
    NOT_WELL = "not well"
    """It did not become well in time."""
    NOT_KNOWN = "not known"
    """Nobody could be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How it ended and why. signs: what shows that it is another start; unit, probe: as last seen, None when never."""

    end: End
    why: str
    signs: tuple[str, ...]
    seconds: float
    polls: int
    unit: Unit | None
    probe: Probe | None

    @property
    def proven(self) -> bool:
        return self.end is End.PROVEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """A unit before the order, and when that was given, by time.monotonic()."""

    unit: Unit
    ordered_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """start_s: from the new start to the first good answer; settle_s: how long all must then be well."""

    start_s: float
    settle_s: float

    @property
    def pause_s(self) -> float:
        return min(PAUSE_S, self.settle_s / IN_A_ROW, self.start_s / 10)

    @property
    def probe_s(self) -> float:
        return min(gateway.LIMIT_S, max(0.5, self.settle_s))


def watch(
    before: Before,
    limits: Limits,
    ask: Callable[[float], Probe] | None,
    *,
    confirm: Callable[[], bool | None] | None = None,
    root: Path = cgroups.ROOT,
    proc: Path = PROC,
) -> Proof:
    """Watch until it is proven or given up. ask: the probe of its gateway, with a limit in seconds; None for a unit without one.

    confirm: asked, once it answers with a page, whether its own command calls it well; None is not known. It may take a minute.
    """
    return _Watch(before, limits, ask, confirm, root, proc).run()


def stop_limit_s(unit: Unit) -> float:
    """Return how long a unit may rightly take to stop."""
    if unit.active_state in ("inactive", "failed"):
        return SLACK_S
    return min(STOP_S if unit.timeout_stop_s is None else unit.timeout_stop_s, LONGEST_S) + SLACK_S


@dataclass(slots=True)
class _Watch:
    before: Before
    limits: Limits
    ask: Callable[[float], Probe] | None
    confirm: Callable[[], bool | None] | None
    root: Path
    proc: Path
    polls: int = 0
    unit: Unit | None = None
    probe: Probe | None = None
    signs: tuple[str, ...] = ()
    new_since: float | None = None
    restarts: int = 0
    good_since: float | None = None
    good: int = 0
    idle_old_since: float | None = None
    bad_since: float | None = None
    bad: int = 0
    cpu_at_bad: float | None = None
    confirmed: bool = False
    confirm_after: float = 0.0
    mute: bool = False
    """The service manager did not answer when it was asked last."""
    said: str = "it was not looked at"

    def run(self) -> Proof:
        stop_by = self.before.ordered_s + stop_limit_s(self.before.unit)
        while True:
            end = self._look()
            now = time.monotonic()
            if end is None and self.new_since is None and now > stop_by:
                end = self._too_late_to_stop()
            if end is None and self.new_since is not None and now > self.new_since + self.limits.start_s + self.limits.settle_s:
                self.said = f"not well within {self.limits.start_s:g} s: {self.said}"
                end = End.NOT_KNOWN if self.mute else End.NOT_WELL
            if end is not None:
                return self._proof(end)
            time.sleep(self.limits.pause_s)

    def _proof(self, end: End) -> Proof:
        took_s = time.monotonic() - self.before.ordered_s
        return Proof(end=end, why=self.said, signs=self.signs, seconds=round(took_s, 3), polls=self.polls, unit=self.unit, probe=self.probe)

    def _too_late_to_stop(self) -> End:
        if self.mute or self.unit is None:
            return End.NOT_KNOWN
        self.said = f"it is still the old start, {self.unit.active_state} ({self.unit.sub_state}), after the time it may take to stop"
        return End.NOT_RESTARTED

    def _look(self) -> End | None:
        """Look once; None while nothing is decided."""
        self.polls += 1
        found = systemd.show_one(self.before.unit.name, manager=self.before.unit.manager)
        self.mute = isinstance(found, NotKnown)
        if isinstance(found, NotKnown):
            self.said = found.why
            self._not_good()
            return None
        previous, self.unit = self.unit, found
        probe, last = (self.ask(self.limits.probe_s) if self.ask and found.active_state == "active" else None), self.probe
        self.probe = probe
        if self.new_since is None:
            return self._wait_for_another_start(found, probe)
        self._count_starts(found, previous, probe, last)
        if self.restarts > STARTS_ALLOWED:
            self.said = f"it was started {self.restarts} times more by itself ({found.result or found.sub_state})"
            return End.FLAPPING
        return self._given_up(found) or self._health(found, probe)

    # another start

    def _wait_for_another_start(self, unit: Unit, probe: Probe | None) -> End | None:
        self.signs = self._signs(unit, probe)
        now = time.monotonic()
        if self.signs:
            self.new_since = now
            return self._given_up(unit) or self._health(unit, probe)
        self.said = f"it is the old start, {unit.active_state} ({unit.sub_state})"
        # An order that is neither waiting nor under way was dropped: nothing more will come of it.
        if not unit.runs or unit.job is not None:
            self.idle_old_since = None
            return self._given_up(unit) if unit.job is None and unit.active_state == "failed" else None
        self.idle_old_since = now if self.idle_old_since is None else self.idle_old_since
        if now - self.idle_old_since <= self.limits.settle_s:
            return None
        self.said = "it runs on as it did before: same start, and no order waits"
        return End.NOT_RESTARTED

    def _signs(self, unit: Unit, probe: Probe | None) -> tuple[str, ...]:
        old, signs = self.before.unit, []
        if unit.main_pid is not None or unit.active_state == "failed":
            if unit.invocation_id and unit.invocation_id != old.invocation_id:
                signs.append("a new invocation")
            if unit.started_monotonic_us and unit.started_monotonic_us != old.started_monotonic_us:
                signs.append("a new start of its main process")
        if probe is not None and probe.uptime_ms is not None and probe.uptime_ms / 1000 < time.monotonic() - self.before.ordered_s:
            signs.append("an uptime shorter than the time since the order")
        return tuple(signs)

    def _count_starts(self, unit: Unit, previous: Unit | None, probe: Probe | None, last: Probe | None) -> None:
        """Count the starts after the first: by the manager, or within the process."""
        if previous is None:
            return
        more = max(0, (unit.n_restarts or 0) - (previous.n_restarts or 0))
        if not more and unit.invocation_id != previous.invocation_id and unit.invocation_id and previous.invocation_id:
            more = 1
        elif not more and probe and last and probe.uptime_ms is not None and last.uptime_ms is not None:
            more = int(probe.uptime_ms < last.uptime_ms)
        if more:
            self.restarts += more
            self.confirmed = False
            self._not_good()
            self._not_bad()

    def _given_up(self, unit: Unit) -> End | None:
        if unit.active_state not in ("failed", "inactive") or unit.job is not None:
            return None
        self.said = f"it is {unit.active_state} ({unit.result or unit.sub_state}, exit {unit.exec_main_status})"
        if unit.exec_main_status == USELESS:
            self.said += ": its config is wrong, or another gateway has its port; another restart is useless"
        return End.FAILED

    # well or not

    def _health(self, unit: Unit, probe: Probe | None) -> End | None:
        if not unit.runs:
            self.said = f"the service manager calls it {unit.active_state} ({unit.sub_state})"
            self._not_good()
            self._not_bad()
            return None
        if self.ask is None:
            return self._well("the service manager calls it running")
        if probe is None:
            return None
        self.said = f"its gateway is {probe.health.value}: {probe.why}"
        if probe.health is Health.LIVE:
            age_s = time.monotonic() - self.before.ordered_s
            if probe.uptime_ms is not None and probe.uptime_ms / 1000 > age_s + SLACK_S:
                self.said = f"another process answers, {probe.uptime_ms / 1000:.0f} s old: the order is {age_s:.0f} s old"
                self._not_good()
                return None
            return self._well(self.said)
        if probe.health is Health.PAGE and self._confirmed():
            return self._well("its own command calls it well, and it answers")
        self._not_good()
        if probe.health in (Health.NOT_READY, Health.PAGE):
            self._not_bad()
            return None
        return self._dead(unit)

    def _well(self, why: str) -> End | None:
        now = time.monotonic()
        self._not_bad()
        self.good += 1
        if self.good_since is None:
            self.good_since = now
        if self.good < IN_A_ROW or now - self.good_since < self.limits.settle_s:
            return None
        self.said = f"{why}, {self.good} times in a row for {now - self.good_since:.1f} s"
        return End.PROVEN

    def _confirmed(self) -> bool:
        """Return whether the gateway's command called it well since this start; asked again only after a while, for it is dear."""
        if not self.confirmed and self.confirm is not None and time.monotonic() >= self.confirm_after:
            well = self.confirm()
            self.confirmed = well is True
            self.confirm_after = time.monotonic() + self.limits.settle_s
            self.said += f"; its own command {'does not say' if well is None else 'calls it ' + ('well' if well else 'not well')}"
        return self.confirmed

    def _dead(self, unit: Unit) -> End | None:
        """Return DEAD after several bad answers in a row during which the unit used no processor time."""
        now, used = time.monotonic(), cgroups.cpu_s(unit, self.root, self.proc)
        if isinstance(used, NotKnown):
            return None
        if self.bad_since is None or self.cpu_at_bad is None or used - self.cpu_at_bad > IDLE * max(now - self.bad_since, 1):
            self.bad_since, self.cpu_at_bad, self.bad = now, used, 1
            return None
        self.bad += 1
        if self.bad < IN_A_ROW or now - self.bad_since < self.limits.settle_s:
            return None
        self.said += f"; {self.bad} times in a row, and it uses no processor time"
        return End.DEAD

    def _not_good(self) -> None:
        self.good_since, self.good = None, 0

    def _not_bad(self) -> None:
        self.bad_since, self.cpu_at_bad, self.bad = None, None, 0
