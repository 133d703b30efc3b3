"""What is wrong with the facts: a list of findings, worst first. Pure: facts and settings in, findings out; no file, no clock, no memory.

What stands since when, and what is told of it, is `watch`'s. A fact that is not known is never read as well, nor as ill: its area is
named in `blind`, and what was found there before goes on standing.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mmtools.moments import iso
from mmtools.ops.facts import Facts, Job, Live, Recent, Run, Seen, Space, UnitFact
from mmtools.ops.gateway import Health
from mmtools.ops.quoters import Standing
from mmtools.ops.settings import Settings
from mmtools.ops.systemd import NotKnown
from mmtools.outbox import Level
from mmtools.restarts import MOST, Owner

STALE_S = 15.0
"""Three times what a run takes between two writings of its live state."""
HUNG_S = 60.0
"""A run that has its lock and shows nothing new for so long does nothing either: a slow disk takes seconds."""
STARVED_S = 600.0
STORM_PART = 0.2
STORM_REQUESTS = 10
"""Fewer requests than this are no storm, whatever became of them."""
PERIODS_S = {"status-alerts": 60, "safe-restart": 300, "status-update": 900, "snapshot": 3600, "prune-sessions": 86_400, "report": 86_400}
"""How often our jobs run, as crontab/ and systemd/ have them."""
MISSED = 3
"""Periods without a success before a job is overdue; its spread and one hiccup take two."""
CRON_GRACE_S = 600.0
CRON_ERRORS = 2
"""In a row; a single one is shown on the card."""
UNSENT_S = 900.0
LOW_MEMORY = 0.1
LOW_DISK = 0.05
LOW_DISK_BYTES = 200_000_000
FULL_DISK_BYTES = 20_000_000
NOT_AFTER_A_BOOT = {"disabled", "linked", "linked-runtime", "enabled-runtime", "transient"}
RANK = {Level.CRITICAL: 0, Level.WARNING: 1, Level.INFO: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `kind` and `subject` name it for as long as it stands.

    area: the fact it was seen in. since: ISO 8601, where the fact dates it; None: since it is first seen.
    patience_s: how long it must stand before it is told in an alert. ends: whether its end is told, too.
    """

    kind: str
    subject: str
    area: str
    level: Level
    text: str
    since: str | None = None
    patience_s: float = 0.0
    ends: bool = True

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.subject}"


def find(facts: Facts, settings: Settings) -> list[Finding]:
    """Return what is wrong, worst first."""
    found = [
        *_runs(facts),
        *_units(facts, settings),
        *_gateway(facts),
        *_machine(facts),
        *_stores(facts),
        *_crons(facts),
        *_jobs(facts),
        *_outbox(facts, settings),
        *_restarts(facts, settings),
    ]
    return sorted(found, key=lambda finding: RANK[finding.level])


def blind(facts: Facts) -> set[str]:
    """Return the areas of which nothing is known now."""
    single = {
        "runs": facts.runs,
        "gateway": facts.gateway,
        "memory": facts.memory,
        "stores": facts.stores,
        "crons": facts.crons,
        "jobs": facts.jobs,
        "outbox": facts.outbox,
        "restarts": facts.restarts,
        **{f"disk:{what}": disk for what, disk in facts.disks.items()},
        **{f"unit:{name}": unit for name, unit in facts.units.items()},
    }
    return {area for area, fact in single.items() if isinstance(fact, NotKnown)}


# our runs


def _runs(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.runs, NotKnown):
        yield Finding(
            kind="unseen",
            subject="runs",
            area="runs",
            level=Level.WARNING,
            text=f"our runs cannot be seen: {facts.runs.why}",
            patience_s=300,
        )
        return
    for run in facts.runs.value:
        match run.standing:
            case Standing.RUNNING:
                yield from _running(run, facts.now.wall_ms)
            case Standing.CRASHED:
                at = iso(run.live.at_ms) if isinstance(run.live, Seen) else None
                last = f"last seen {at}" if at else "it never showed anything"
                then = "a person must start it again" if run.owner == Owner.NOBODY else f"{run.owner} starts it again"
                text = f"run {run.run_id} crashed: no process holds its lock, {last}; {then}"
                # Who else looks after it gets its time; what nobody or we look after is told at once.
                patience_s = 0 if run.owner in (Owner.NOBODY, Owner.STATUS_UPDATE) else 120
                yield _of(run, "crash", _level(run), text, since=at, patience_s=patience_s, ends=False)
            case Standing.HALTED:
                text = f"run {run.run_id} is halted {run.halt}; look, then `halt --run {run.run_id} --clear --why ...`"
                yield _of(run, "halt", _level(run), text, since=run.halted_at or None, ends=False)
            case Standing.UNKNOWN:
                why = run.live.why if isinstance(run.live, NotKnown) else "its files do not say"
                yield _of(run, "unclear", Level.WARNING, f"how run {run.run_id} stands is not known: {why}", patience_s=60)
            case _:
                pass


def _level(run: Run) -> Level:
    """Return how bad it is that a run stands still: a replay that nobody looks after has a person in front of it."""
    return Level.CRITICAL if run.clocked or run.owner != Owner.NOBODY or run.venue != "paper" else Level.WARNING


def _running(run: Run, now_ms: int) -> Iterator[Finding]:
    if isinstance(run.live, NotKnown):
        text = f"run {run.run_id} is running and shows nothing: {run.live.why}"
        yield _of(run, "unclear", Level.WARNING, text, patience_s=120)
        return
    live, age_s = run.live.value, run.live.age_s(now_ms)
    if age_s > HUNG_S:
        text = f"run {run.run_id} hangs: its process holds the lock and has shown nothing since {iso(run.live.at_ms)}"
        # A machine that slept wakes with old figures; the next look tells.
        yield _of(run, "hung", _level(run), text, since=iso(run.live.at_ms), patience_s=50)
        return
    said = {alarm.kind for alarm in live.alarms or ()}
    for alarm in live.alarms or ():
        # A run tells of the beginning and the end of its own alarms; here they are only shown, under the same key.
        text = f"run {run.run_id}: {alarm.kind} since {alarm.since}" + (f", {alarm.cause}" if alarm.cause else "")
        yield _of(run, alarm.kind, Level.WARNING, text, since=alarm.since, ends=False)
    if run.clocked and isinstance(run.recent, Recent):
        if "starved" not in said:
            yield from _starved(run, live, run.recent, now_ms)
        if "storm" not in said:
            yield from _storm(run, run.recent)


def _starved(run: Run, live: Live, recent: Recent, now_ms: int) -> Iterator[Finding]:
    bare_s = (now_ms - recent.bare_ms) / 1000
    winding_down = all(market.kill_switch == "reduce_only" for market in live.markets.values())
    if live.quotes or bare_s < STARVED_S or winding_down:
        return
    since = iso(recent.bare_ms)
    text = f"run {run.run_id} is starved: no order of ours has rested in any market since {since}{'' if recent.dated else ' or before'}; "
    yield _of(run, "starved", Level.WARNING, text + cause(live), since=since if recent.dated else None)


def cause(live: Live) -> str:
    """Return why a run does not quote: the most frequent reason of its sides."""
    whys = Counter(why for market in live.markets.values() for why in (market.why_no_bid, market.why_no_ask) if why is not None)
    if not whys:
        return "it wants to, but no order rests"
    ((why, count),) = whys.most_common(1)
    return f"{why} on {count} of {2 * len(live.markets)} sides"


def _storm(run: Run, recent: Recent) -> Iterator[Finding]:
    refused = sum(recent.refused.values())
    if recent.requests < STORM_REQUESTS or refused <= STORM_PART * recent.requests:
        return
    reason = max(recent.refused, key=lambda each: recent.refused[each])
    text = (
        f"run {run.run_id}: {refused} of {recent.requests} orders of the last 15 minutes were refused, "
        f"most for {reason} ({recent.refused[reason]})"
    )
    yield _of(run, "storm", Level.WARNING, text)


def _of(run: Run, kind: str, level: Level, text: str, *, since: str | None = None, patience_s: float = 0.0, ends: bool = True) -> Finding:
    return Finding(kind=kind, subject=run.run_id, area="runs", level=level, text=text, since=since, patience_s=patience_s, ends=ends)


# the gateway and other units


def _units(facts: Facts, settings: Settings) -> Iterator[Finding]:
    asked_for = {f"{service.manager}/{service.unit}" for service in settings.services}
    for name, fact in facts.units.items():
        expected = name in asked_for or facts.openclaw
        if isinstance(fact, NotKnown):
            if expected:
                text = f"how {name} stands is not known: {fact.why}"
                yield Finding(kind="unseen", subject=name, area=f"unit:{name}", level=Level.WARNING, text=text, patience_s=300)
        elif fact.value.unit.found or name in asked_for:
            yield from _unit(name, fact.value, settings, is_named=name in asked_for)


def _unit(name: str, fact: UnitFact, settings: Settings, *, is_named: bool) -> Iterator[Finding]:
    unit, area = fact.unit, f"unit:{name}"
    if not unit.found:
        yield Finding(kind="unit", subject=name, area=area, level=Level.WARNING, text=f"{name} is not there; ops.yaml names it")
    elif unit.active_state == "failed":
        text = f"{name} failed ({unit.result or 'no reason given'}); see `journalctl --{unit.manager} -u {unit.name}`"
        yield Finding(kind="unit", subject=name, area=area, level=Level.CRITICAL, text=text)
    elif unit.active_state == "inactive" and not is_named and unit.unit_file_state in NOT_AFTER_A_BOOT:
        return  # a gateway that is run in another way
    elif unit.active_state == "inactive":
        yield Finding(kind="unit", subject=name, area=area, level=Level.WARNING, text=f"{name} is stopped", patience_s=60)
    elif not unit.runs:
        text = f"{name} is {unit.active_state} ({unit.sub_state})"
        yield Finding(kind="unit", subject=name, area=area, level=Level.WARNING, text=text, patience_s=600)
    if unit.active_state == "active" and unit.unit_file_state in NOT_AFTER_A_BOOT:
        cure = f"`systemctl --{unit.manager} enable {unit.name}`"
        text = f"{name} runs and is {unit.unit_file_state}: it will not come back after a boot; {cure}"
        yield Finding(kind="not-enabled", subject=name, area=area, level=Level.WARNING, text=text)
    if unit.n_restarts:
        # The count begins anew when a person starts the unit; it stands in the name, so that each is told once.
        text = f"{name} was restarted by its manager, {unit.n_restarts} times by now"
        yield Finding(kind="restarted", subject=f"{name}:{unit.n_restarts}", area=area, level=Level.INFO, text=text, ends=False)
    if not isinstance(fact.memory, NotKnown) and not isinstance(fact.mark, NotKnown):
        part = fact.memory.size / fact.mark.size
        if part > settings.memory.auto_above:
            text = f"{name} uses {part:.0%} of the memory it may have ({fact.memory.size / 1e6:.0f} MB; {fact.mark.source})"
            yield Finding(kind="unit-memory", subject=name, area=area, level=Level.WARNING, text=text, patience_s=300)


def _gateway(facts: Facts) -> Iterator[Finding]:
    if not facts.openclaw:
        return
    if isinstance(facts.gateway, NotKnown):
        text = f"whether the gateway is well is not known: {facts.gateway.why}"
        yield Finding(kind="unseen", subject="gateway", area="gateway", level=Level.WARNING, text=text, patience_s=300)
        return
    probe = facts.gateway.value
    levels = {Health.HUNG: (Level.CRITICAL, 60), Health.DOWN: (Level.CRITICAL, 60), Health.NOT_READY: (Level.WARNING, 300)}
    if probe.health in levels or probe.health is Health.ODD:
        level, patience_s = levels.get(probe.health, (Level.WARNING, 300))
        yield Finding(
            kind="gateway",
            subject="openclaw",
            area="gateway",
            level=level,
            text=f"the gateway is {probe.health.value}: {probe.why}",
            patience_s=patience_s,
        )


def _stores(facts: Facts) -> Iterator[Finding]:
    if not isinstance(facts.stores, NotKnown):
        for store in facts.stores.value:
            if store.broken:
                text = (
                    f"the session store of agent {store.agent} is broken: {store.broken}; the gateway would take it for an empty one. "
                    "Stop the gateway, and restore it from a snapshot"
                )
                yield Finding(kind="store", subject=store.agent, area="stores", level=Level.CRITICAL, text=text)


def _crons(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.crons, NotKnown):
        return
    for cron in facts.crons.value:
        if cron.errors >= CRON_ERRORS:
            text = f"cron job {cron.name} failed, {cron.errors} times in a row"
            yield Finding(kind="cron", subject=cron.name, area="crons", level=Level.WARNING, text=text)
        elif cron.next_ms is not None and facts.now.wall_ms - cron.next_ms > CRON_GRACE_S * 1000:
            text = f"cron job {cron.name} is overdue since {iso(cron.next_ms)}"
            yield Finding(kind="cron-overdue", subject=cron.name, area="crons", level=Level.WARNING, text=text, patience_s=120)


# the machine


def _machine(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.memory, Seen) and facts.memory.value.free < LOW_MEMORY * facts.memory.value.size:
        text = f"the machine has {_mb(facts.memory.value.free)} of memory left"
        yield Finding(kind="memory", subject="machine", area="memory", level=Level.WARNING, text=text, patience_s=120)
    for what, fact in facts.disks.items():
        if isinstance(fact, Seen) and is_low(fact.value):
            kind, level = ("disk-full", Level.CRITICAL) if fact.value.free < FULL_DISK_BYTES else ("disk", Level.WARNING)
            text = f"the disk of the {what} folder has {_mb(fact.value.free)} left"
            yield Finding(kind=kind, subject=what, area=f"disk:{what}", level=level, text=text)


def is_low(disk: Space) -> bool:
    return disk.free < LOW_DISK_BYTES or disk.free < LOW_DISK * disk.size


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


# our own jobs


def _jobs(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.jobs, NotKnown):
        text = f"how our jobs ended is not known: {facts.jobs.why}"
        yield Finding(kind="unseen", subject="jobs", area="jobs", level=Level.WARNING, text=text)
        return
    for name, job in facts.jobs.value.items():
        yield from _job(name, job, facts)


def _job(name: str, job: Job, facts: Facts) -> Iterator[Finding]:
    if job.failures:
        # The job tells of its failure itself, under this key.
        text = f"{name} failed {job.failures} times since {job.failing_since}: {job.error}"
        yield Finding(
            kind="job", subject=name, area="jobs", level=Level.WARNING, text=text, since=job.failing_since, patience_s=3600, ends=False
        )
    limit_s = MISSED * PERIODS_S.get(name, 0)
    if (
        not limit_s or not facts.installed or job.failures or facts.now.boot_s < limit_s
    ):  # a machine that was off has missed what it has missed
        return
    last_ms = job.last_success_ms or job.started_ms
    if facts.now.wall_ms - last_ms > limit_s * 1000:
        text = f"{name} is overdue: it last ended well at {iso(last_ms)}, and is due every {PERIODS_S[name] // 60} minutes"
        yield Finding(kind="overdue", subject=name, area="jobs", level=Level.WARNING, text=text, since=iso(last_ms))


def _outbox(facts: Facts, settings: Settings) -> Iterator[Finding]:
    if isinstance(facts.outbox, NotKnown):
        text = f"unsent alerts may be lost: {facts.outbox.why}"
        yield Finding(kind="unseen", subject="outbox", area="outbox", level=Level.WARNING, text=text)
        return
    oldest_ms = facts.outbox.value.oldest_ms
    if oldest_ms is not None and any(chat.alerts for chat in settings.chats) and facts.now.wall_ms - oldest_ms > UNSENT_S * 1000:
        text = f"{facts.outbox.value.unsent} alerts wait to be sent, the oldest since {iso(oldest_ms)}"
        yield Finding(kind="unsent", subject="outbox", area="outbox", level=Level.WARNING, text=text, ends=False)


def _restarts(facts: Facts, settings: Settings) -> Iterator[Finding]:
    if isinstance(facts.restarts, NotKnown):
        text = f"how often what was restarted is not known: {facts.restarts.why}"
        yield Finding(kind="unseen", subject="restarts", area="restarts", level=Level.WARNING, text=text)
        return
    for what, count in facts.restarts.value.items():
        if count >= (settings.restart.most_per_hour if what.startswith("unit:") else MOST):
            text = f"{what} was restarted {count} times within the hour: no more is allowed"
            yield Finding(kind="budget", subject=what, area="restarts", level=Level.WARNING, text=text)
