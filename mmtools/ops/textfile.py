"""The facts as a text file for Prometheus, read by the textfile collector of node_exporter. What is not known has no line.

`METRICS` names every metric with its type, its words and its labels; nothing else can be written, and configs/grafana uses no other. The
file usually lies outside the state folder, in the collector's, and others read it: it is replaced whole, mode 0644.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from mmtools.errors import Misconfigured, TryLater
from mmtools.ops import foreign
from mmtools.ops.facts import Facts, Recent, Run, Seen
from mmtools.ops.findings import PERIODS_S, Finding
from mmtools.ops.gateway import Health
from mmtools.ops.quoters import Standing
from mmtools.ops.systemd import NotKnown
from mmtools.outbox import Level
from mmtools.state import StateDir

WAIT_S = 2.0


class Metric(NamedTuple):
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One line. labels: the values of the metric's labels, in their order."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, Metric] = {
    "mmtools_status_timestamp_seconds": Metric("gauge", "When the facts of this file were gathered."),
    "mmtools_findings_count": Metric("gauge", "What is wrong now, by level.", ("level",)),
    "mmtools_run_up": Metric("gauge", "Whether a process of the run lives: 1 or 0.", ("run", "venue")),
    "mmtools_run_crashed": Metric("gauge", "Whether the run ended without an order to: 1 or 0.", ("run", "venue")),
    "mmtools_run_state_age_seconds": Metric("gauge", "Age of what the run shows, when the facts were gathered.", ("run",)),
    "mmtools_run_pnl_usdc": Metric("gauge", "P&L of the run since it began.", ("run",)),
    "mmtools_run_fills_total": Metric("counter", "Fills of the run.", ("run",)),
    "mmtools_run_orders_total": Metric("counter", "Orders that the run sent.", ("run",)),
    "mmtools_run_recent_requests_count": Metric("gauge", "Orders sent in the last 15 minutes of the run.", ("run",)),
    "mmtools_run_recent_refusals_count": Metric("gauge", "Of these, refused but for crossing, by reason.", ("run", "reason")),
    "mmtools_market_pnl_usdc": Metric("gauge", "P&L of a market of a run.", ("run", "market")),
    "mmtools_market_position_shares": Metric("gauge", "YES less NO that is held.", ("run", "market")),
    "mmtools_market_quoting_sides": Metric("gauge", "Whether we quote this side: 1 or 0. Not of replays.", ("run", "market", "side")),
    "mmtools_memory_available_bytes": Metric("gauge", "Memory of the machine that can be had."),
    "mmtools_memory_size_bytes": Metric("gauge", "Memory of the machine."),
    "mmtools_disk_free_bytes": Metric("gauge", "Free on the file system of a folder.", ("folder",)),
    "mmtools_disk_size_bytes": Metric("gauge", "Size of the file system of a folder.", ("folder",)),
    "mmtools_unit_active": Metric("gauge", "Whether the unit is active: 1 or 0.", ("manager", "unit")),
    "mmtools_unit_enabled": Metric("gauge", "Whether the unit comes back after a boot: 1 or 0.", ("manager", "unit")),
    "mmtools_unit_restarts_total": Metric("counter", "Restarts of the unit by its manager.", ("manager", "unit")),
    "mmtools_unit_memory_bytes": Metric("gauge", "Memory that the unit uses.", ("manager", "unit")),
    "mmtools_unit_memory_mark_bytes": Metric("gauge", "Memory that the unit should stay below.", ("manager", "unit")),
    "mmtools_gateway_up": Metric("gauge", "Whether the gateway says that it is well: 1 or 0; no line when that is not known."),
    "mmtools_session_store_bytes": Metric("gauge", "Size of the session store of an agent.", ("agent",)),
    "mmtools_session_store_entries_count": Metric("gauge", "Entries in the session store of an agent.", ("agent",)),
    "mmtools_session_store_broken": Metric("gauge", "Whether the session store of an agent is broken: 1 or 0.", ("agent",)),
    "mmtools_cron_errors_count": Metric("gauge", "Failures in a row of a cron job of the gateway.", ("cron",)),
    "mmtools_cron_overdue_seconds": Metric("gauge", "How long a cron job of the gateway is overdue.", ("cron",)),
    "mmtools_last_success_timestamp_seconds": Metric("gauge", "When the command last ended well.", ("command",)),
    "mmtools_job_period_seconds": Metric("gauge", "How often the command is due.", ("command",)),
    "mmtools_job_failures_count": Metric("gauge", "Failures in a row of the command.", ("command",)),
    "mmtools_outbox_unsent_count": Metric("gauge", "Alerts that are not sent yet."),
    "mmtools_outbox_oldest_age_seconds": Metric("gauge", "Age of the oldest of these, 0 when there is none."),
    "mmtools_restarts_last_hour_count": Metric("gauge", "Revivals of units and runs in the last hour.", ("what",)),
}  # fmt: skip


def text(facts: Facts, findings: Sequence[Finding]) -> str:
    """Return the file: each metric with its words and type once, its lines below, no times, an end of line at the end."""
    by_name: dict[str, dict[tuple[str, ...], float]] = {}
    for sample in samples(facts, findings):
        if len(sample.labels) != len(METRICS[sample.name].labels):
            raise ValueError(f"{sample.name} has the labels {METRICS[sample.name].labels}, not {sample.labels}")
        if math.isfinite(sample.value):
            by_name.setdefault(sample.name, {})[sample.labels] = sample.value  # two lines of one series would spoil the whole file
    lines = []
    for name, metric in METRICS.items():
        if name in by_name:
            lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
            lines += [f"{name}{_labels(metric.labels, values)} {_number(value)}" for values, value in by_name[name].items()]
    return "\n".join(lines) + "\n"


def write(state: StateDir, path: Path, content: str) -> None:
    """Replace the file: written beside it under a name that no collector reads, then renamed; a kill leaves the old one or the new one.

    state: whose lock keeps two writers apart. Raises Misconfigured and TryLater, with the old file whole.
    """
    new = path.with_name(path.name + ".new")
    with state.lock("textfile", WAIT_S):
        try:
            foreign.replace(path, content.encode("utf-8", "replace"), new=new, mode=0o644)
        except OSError as e:
            if isinstance(e, FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError):
                cure = "see that its folder is there and that this user may write in it, or choose another `textfile`"
                raise Misconfigured(f"{path}: {e.strerror}; what was there before is whole; {cure}") from e
            raise TryLater(f"{path}: {e.strerror}; what was there before is whole; see the disk and run again") from e


def samples(facts: Facts, findings: Sequence[Finding]) -> Iterator[Sample]:
    """Yield every line there is to write."""
    yield Sample("mmtools_status_timestamp_seconds", facts.now.wall_ms / 1000)
    counts = Counter(finding.level for finding in findings)
    yield from (Sample("mmtools_findings_count", counts[level], (level.value,)) for level in Level)
    if isinstance(facts.runs, Seen):
        for run in facts.runs.value:
            yield from _run(run, facts.now.wall_ms)
    if isinstance(facts.memory, Seen):
        yield Sample("mmtools_memory_available_bytes", facts.memory.value.free)
        yield Sample("mmtools_memory_size_bytes", facts.memory.value.size)
    for what, disk in facts.disks.items():
        if isinstance(disk, Seen):
            yield Sample("mmtools_disk_free_bytes", disk.value.free, (what,))
            yield Sample("mmtools_disk_size_bytes", disk.value.size, (what,))
    yield from _units(facts)
    yield from _gateway(facts)
    yield from _jobs(facts)


def _run(run: Run, now_ms: int) -> Iterator[Sample]:
    if run.standing is not Standing.UNKNOWN:
        yield Sample("mmtools_run_up", run.standing is Standing.RUNNING, (run.run_id, run.venue))
        yield Sample("mmtools_run_crashed", run.standing is Standing.CRASHED, (run.run_id, run.venue))
    if isinstance(run.live, Seen):
        live, runs = run.live.value, run.standing is Standing.RUNNING
        yield Sample("mmtools_run_state_age_seconds", run.live.age_s(now_ms), (run.run_id,))
        yield from _amount("mmtools_run_pnl_usdc", live.pnl.cumulative, run.run_id)
        if live.totals.fills is not None:
            yield Sample("mmtools_run_fills_total", live.totals.fills, (run.run_id,))
        if live.totals.orders_submitted is not None:
            yield Sample("mmtools_run_orders_total", live.totals.orders_submitted, (run.run_id,))
        for slug, market in live.markets.items():
            yield from _amount("mmtools_market_pnl_usdc", market.pnl, run.run_id, slug)
            yield from _amount("mmtools_market_position_shares", market.position_net, run.run_id, slug)
            for side, price in (("bid", market.our_bid), ("ask", market.our_ask)) if run.clocked else ():
                yield Sample("mmtools_market_quoting_sides", runs and price is not None, (run.run_id, slug, side))
    if isinstance(run.recent, Recent):
        yield Sample("mmtools_run_recent_requests_count", run.recent.requests, (run.run_id,))
        for reason, count in run.recent.refused.items():
            yield Sample("mmtools_run_recent_refusals_count", count, (run.run_id, reason))


def _units(facts: Facts) -> Iterator[Sample]:
    for name, fact in facts.units.items():
        if isinstance(fact, NotKnown) or not fact.value.unit.found:
            continue
        unit, labels = fact.value.unit, tuple(name.split("/", 1))
        yield Sample("mmtools_unit_active", unit.active_state == "active", labels)
        if unit.unit_file_state:
            yield Sample("mmtools_unit_enabled", unit.unit_file_state in ("enabled", "static", "generated", "alias", "indirect"), labels)
        if unit.n_restarts is not None:
            yield Sample("mmtools_unit_restarts_total", unit.n_restarts, labels)
        if not isinstance(fact.value.memory, NotKnown):
            yield Sample("mmtools_unit_memory_bytes", fact.value.memory.size, labels)
        if not isinstance(fact.value.mark, NotKnown):
            yield Sample("mmtools_unit_memory_mark_bytes", fact.value.mark.size, labels)


def _gateway(facts: Facts) -> Iterator[Sample]:
    if not facts.openclaw:
        return
    known = {Health.LIVE: 1, Health.NOT_READY: 0, Health.HUNG: 0, Health.DOWN: 0}
    if isinstance(facts.gateway, Seen) and facts.gateway.value.health in known:
        yield Sample("mmtools_gateway_up", known[facts.gateway.value.health])
    if isinstance(facts.stores, Seen):
        for store in facts.stores.value:
            yield Sample("mmtools_session_store_bytes", store.size, (store.agent,))
            yield Sample("mmtools_session_store_broken", bool(store.broken), (store.agent,))
            if store.entries is not None:
                yield Sample("mmtools_session_store_entries_count", store.entries, (store.agent,))
    if isinstance(facts.crons, Seen):
        for cron in facts.crons.value:
            yield Sample("mmtools_cron_errors_count", cron.errors, (cron.name,))
            if cron.next_ms is not None:
                yield Sample("mmtools_cron_overdue_seconds", max(0, facts.now.wall_ms - cron.next_ms) / 1000, (cron.name,))


def _jobs(facts: Facts) -> Iterator[Sample]:
    if isinstance(facts.jobs, Seen):
        for name, job in facts.jobs.value.items():
            yield Sample("mmtools_job_failures_count", job.failures, (name,))
            if job.last_success_ms is not None:
                yield Sample("mmtools_last_success_timestamp_seconds", job.last_success_ms / 1000, (name,))
            if facts.installed and name in PERIODS_S:
                yield Sample("mmtools_job_period_seconds", PERIODS_S[name], (name,))
    if isinstance(facts.outbox, Seen):
        oldest_ms = facts.outbox.value.oldest_ms
        yield Sample("mmtools_outbox_unsent_count", facts.outbox.value.unsent)
        yield Sample("mmtools_outbox_oldest_age_seconds", 0 if oldest_ms is None else max(0, facts.now.wall_ms - oldest_ms) / 1000)
    if isinstance(facts.restarts, Seen):
        for what, count in facts.restarts.value.items():
            yield Sample("mmtools_restarts_last_hour_count", count, (what,))


def _amount(name: str, amount: str | None, *labels: str) -> Iterator[Sample]:
    """Yield the line of an amount of decimal text, if it is known."""
    with suppress(ValueError):
        if amount is not None:
            yield Sample(name, float(amount), labels)


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    escaped = (value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for value in values)
    return "{" + ",".join(f'{name}="{value}"' for name, value in zip(names, escaped, strict=True)) + "}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
