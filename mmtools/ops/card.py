"""The status card: what a person reads on a phone, at most 1,900 characters of plain text, the most important line first.

Pure: facts and findings in, text out. Every figure was asked for at the time in the first line, or carries its own age; what is old says
since when. Nothing in it can call anybody in a chat: names of runs, cron jobs and units come from outside.
"""

from collections.abc import Iterator, Mapping, Sequence

from mmtools.moments import iso
from mmtools.ops import findings as judged
from mmtools.ops.chat import defused
from mmtools.ops.facts import Facts, Job, Live, Run, Seen
from mmtools.ops.findings import Finding
from mmtools.ops.quoters import Standing
from mmtools.ops.systemd import NotKnown
from mmtools.outbox import Level

MOST = 1900
"""UTF-16 units, as chats count: 2,000 are what the narrowest of them takes."""
LONGEST_LINE = 300
MOST_MARKETS = 6
"""Lines of one run."""


def card(facts: Facts, findings: Sequence[Finding], since: Mapping[str, str]) -> str:
    """Return the card. since: when each finding began, by its name, where that is known."""
    lines = [*_findings(findings, since), *_facts(facts)]
    return fit(_head(facts, findings), lines)


def changes(facts: Facts, findings: Sequence[Finding]) -> list[str]:
    """Return what makes a card worth sending anew: all but ages, and P&L in steps of a tenth of a USDC."""
    said = sorted(finding.name for finding in findings)
    if isinstance(facts.runs, Seen):
        for run in facts.runs.value:
            said.append(f"{run.run_id} {run.standing.value}")
            if isinstance(run.live, Seen):
                live = run.live.value
                said.append(f"{run.run_id} {_rounded(live.pnl.cumulative)} {live.totals.fills} {_sides(live)}")
    said += [f"{name} {unit.value.unit.active_state}" for name, unit in facts.units.items() if isinstance(unit, Seen)]
    if isinstance(facts.gateway, Seen):
        said.append(f"gateway {facts.gateway.value.health.value}")
    return said


def fit(head: str, lines: Sequence[str]) -> str:
    """Return the first line and as many whole ones after it as there is room for; the last one says how many are missing."""
    shown = [_line(line) for line in (head, *lines)]
    text = "\n".join(shown)
    kept = len(shown)
    while _units(text) > MOST:
        kept -= 1
        text = "\n".join([*shown[:kept], f"+{len(shown) - kept} more"])
    return text


def age(seconds: float) -> str:
    """Return a span in one unit, rounded down."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _line(text: str) -> str:
    """Return a text as one printable line that calls nobody."""
    line = "".join(c for c in defused(text.replace("\n", " ")) if c.isprintable())
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"


def _head(facts: Facts, findings: Sequence[Finding]) -> str:
    critical, warnings = (sum(finding.level is level for finding in findings) for level in (Level.CRITICAL, Level.WARNING))
    said = [f"{critical} critical"] * bool(critical) + [f"{warnings} warning{'s' * (warnings > 1)}"] * bool(warnings)
    return f"mmtools on {facts.host} as of {iso(facts.now.wall_ms)[:-5]}Z: {', '.join(said) or 'nothing is wrong'}"


def _findings(findings: Sequence[Finding], since: Mapping[str, str]) -> Iterator[str]:
    for finding in findings:
        when = finding.since or since.get(finding.name)
        yield f"{finding.level.value.upper()}: {finding.text}" + (f" (since {when})" if when and when not in finding.text else "")


def _facts(facts: Facts) -> Iterator[str]:
    if isinstance(facts.runs, NotKnown):
        yield f"runs: not known, {facts.runs.why}"
    else:
        for run in facts.runs.value:
            yield from _run(run, facts.now.wall_ms)
        if not facts.runs.value:
            yield "no run of the last day"
        if facts.older_runs:
            yield f"older runs: {facts.older_runs}"
    if facts.openclaw:
        yield from _gateway(facts)
    yield from _units_of(facts)
    yield from _machine(facts)
    yield from _jobs(facts)


def _run(run: Run, now_ms: int) -> Iterator[str]:
    if isinstance(run.live, NotKnown):
        yield f"run {run.run_id} ({run.venue}): {run.standing.value}; figures not known, {run.live.why}"
        return
    live, seen_s = run.live.value, run.live.age_s(now_ms)
    figures = f"P&L {_or_unknown(live.pnl.cumulative)} USDC, fills {_or_unknown(live.totals.fills)}"
    if run.standing is not Standing.RUNNING:
        yield f"run {run.run_id} ({run.venue}): {run.standing.value}, {figures}, as of {iso(run.live.at_ms)} ({age(seen_s)} ago)"
        return
    stale = seen_s > judged.STALE_S
    when = f"stale since {iso(run.live.at_ms)}" if stale else f"{age(seen_s)} ago"
    yield f"run {run.run_id} ({run.venue}): running, {figures}, {_sides(live)}, {when}"
    if stale:
        return
    for number, (slug, market) in enumerate(live.markets.items()):
        if number == MOST_MARKETS and len(live.markets) > MOST_MARKETS + 1:
            yield f"  and {len(live.markets) - MOST_MARKETS} markets more"
            return
        bid = f"bid {market.our_bid}" if market.our_bid is not None else f"no bid ({market.why_no_bid or 'not resting'})"
        ask = f"ask {market.our_ask}" if market.our_ask is not None else f"no ask ({market.why_no_ask or 'not resting'})"
        yield f"  {slug}: {bid}, {ask}, net {_or_unknown(market.position_net)}, P&L {_or_unknown(market.pnl)}"


def _sides(live: Live) -> str:
    """Say on which sides it quotes."""
    markets = live.markets.values()
    bids, asks = sum(market.our_bid is not None for market in markets), sum(market.our_ask is not None for market in markets)
    if not bids and not asks:
        return f"quotes nothing, {judged.cause(live)}"
    return f"bids in {bids} and asks in {asks} of {len(markets)} market{'s' * (len(markets) != 1)}"


def _gateway(facts: Facts) -> Iterator[str]:
    if isinstance(facts.gateway, NotKnown):
        yield f"gateway: not known, {facts.gateway.why}"
    else:
        probe = facts.gateway.value
        up = "" if probe.uptime_ms is None else f", up for {age(probe.uptime_ms / 1000)}"
        yield f"gateway: {probe.health.value} ({probe.why}){up}"
    if isinstance(facts.stores, NotKnown):
        yield f"sessions: not known, {facts.stores.why}"
    else:
        for store in facts.stores.value:
            entries = "" if store.entries is None else f", {store.entries} entries"
            yield f"sessions of {store.agent}: {_mb(store.size)}{entries}{', BROKEN' * bool(store.broken)}"
    if isinstance(facts.crons, NotKnown):
        yield f"crons: not known, {facts.crons.why}"
    elif facts.crons.value:
        failing = sum(cron.errors > 0 for cron in facts.crons.value)
        written = age(facts.crons.age_s(facts.now.wall_ms))
        yield f"crons: {len(facts.crons.value)} enabled, {failing} failed at their last run; as written {written} ago"


def _units_of(facts: Facts) -> Iterator[str]:
    for name, fact in facts.units.items():
        if isinstance(fact, NotKnown):
            if facts.openclaw:
                yield f"{name}: not known, {fact.why}"
        elif fact.value.unit.found:
            unit, memory, mark = fact.value.unit, fact.value.memory, fact.value.mark
            said = [f"{unit.active_state} ({unit.sub_state})", unit.unit_file_state]
            if not isinstance(memory, NotKnown):
                said.append(f"memory {_mb(memory.size)}" + ("" if isinstance(mark, NotKnown) else f" of {_mb(mark.size)}"))
            if unit.n_restarts:
                said.append(f"restarted {unit.n_restarts} times by its manager")
            yield f"{name}: {', '.join(filter(None, said))}"


def _machine(facts: Facts) -> Iterator[str]:
    memory = facts.memory
    free = f"not known, {memory.why}" if isinstance(memory, NotKnown) else f"{_mb(memory.value.free)} of {_mb(memory.value.size)} free"
    disks = [
        f"{what}: " + (f"not known, {disk.why}" if isinstance(disk, NotKnown) else f"{_mb(disk.value.free)} free")
        for what, disk in facts.disks.items()
    ]
    yield f"memory: {free}; disk {'; '.join(disks)}"


def _jobs(facts: Facts) -> Iterator[str]:
    if isinstance(facts.jobs, NotKnown):
        yield f"jobs: not known, {facts.jobs.why}"
    elif facts.jobs.value:
        yield "jobs: " + ", ".join(f"{name} {_job(job, facts.now.wall_ms)}" for name, job in sorted(facts.jobs.value.items()))
    if isinstance(facts.outbox, NotKnown):
        yield f"outbox: not known, {facts.outbox.why}"
    elif facts.outbox.value.oldest_ms is not None:
        oldest = age((facts.now.wall_ms - facts.outbox.value.oldest_ms) / 1000)
        yield f"outbox: {facts.outbox.value.unsent} unsent, the oldest {oldest} old"
    if isinstance(facts.restarts, NotKnown):
        yield f"restarts: not known, {facts.restarts.why}"
    elif facts.restarts.value:
        yield "restarts of the last hour: " + ", ".join(f"{what} {count}" for what, count in sorted(facts.restarts.value.items()))


def _job(job: Job, now_ms: int) -> str:
    well = "never ended well" if job.last_success_ms is None else f"well {age(max(0, now_ms - job.last_success_ms) / 1000)} ago"
    return f"{well}, failed {job.failures} times since" if job.failures else well


def _or_unknown(value: object) -> str:
    return "not known" if value is None else str(value)


def _rounded(amount: str | None) -> str:
    try:
        return f"{float(amount or ''):.1f}"
    except ValueError:
        return "not known"


def _mb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 10_000_000_000 else f"{size / 1e6:.0f} MB"
