"""What a run shows while it moves: live_state.json, trades.jsonl, health.jsonl. All can be made again from the journal but health.

`session` calls it; `status-update`, `dashboard` and people read the files. It decides nothing and never feeds back.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from mmtools.moments import iso
from mmtools.runs.alarms import Alarm
from mmtools.runs.engine import Engine
from mmtools.runs.journal import Record
from mmtools.runs.notation import maybe_text
from mmtools.runs.reading import now_and_then
from mmtools.runs.records import average_entry, bps, features, kill_switch_state, market_context
from mmtools.state import StateDir
from mmtools.trading.desk import Desk
from mmtools.trading.events import Rejection
from mmtools.trading.market import Outcome, Quote, Side, Skipped
from mmtools.units import ONE, text

SCHEMA = "mmtools.live_state/1"
FEWEST_MINUTES = 30
"""Of history, before a Sharpe ratio is more than noise."""
MINUTES_A_YEAR = 365 * 24 * 60

encode = msgspec.json.Encoder().encode


def now_iso() -> str:
    """Return the wall time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Trend:
    """The total, minute by minute, in three sums: what a Sharpe ratio needs."""

    def __init__(self, total: int = 0) -> None:
        """total: where it stands already, when a run is taken up."""
        self._last = total
        self._count = 0
        self._sum = 0.0
        self._squares = 0.0

    def minute(self, total: int) -> None:
        change = (total - self._last) / ONE
        self._last = total
        self._count += 1
        self._sum += change
        self._squares += change * change

    def sharpe(self) -> float | None:
        """Return mean over deviation of the changes per minute, annualised; None with too little history or no change."""
        if self._count < FEWEST_MINUTES:
            return None
        mean = self._sum / self._count
        variance = self._squares / self._count - mean * mean
        return round(mean / math.sqrt(variance) * math.sqrt(MINUTES_A_YEAR), 4) if variance > 1e-18 else None


class Process:
    """This process: memory, CPU."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._began = time.monotonic()

    def memory_mb(self) -> float:
        return round(self._process.memory_info().rss / 1e6, 1)

    def cpu_pct(self) -> float:
        """Return CPU time over wall time since the start, in percent of one core."""
        elapsed = time.monotonic() - self._began
        times = os.times()
        return round((times.user + times.system) / elapsed * 100, 1) if elapsed > 0 else 0.0


def live_state(
    engine: Engine, *, process: Process, trend: Trend, config_path: str | None, owner: str, alarms: Sequence[Alarm], untold: int
) -> Record:
    """Return the whole document; what is not known is null. untold: alerts that the outbox did not take."""
    maker, account, fold = engine.maker, engine.maker.account, engine.fold
    elapsed_ms = engine.now_ms - engine.began_ms
    total = account.total()
    realised = sum(p.realised + p.fees + p.rebates for p in account.positions)
    target_ms = None if engine.end_ms is None else engine.end_ms - engine.began_ms
    hours = elapsed_ms / 3_600_000
    orders = fold.orders
    return {
        "timestamp": iso(engine.now_ms),
        "written_at": now_iso(),
        "run_id": fold.run["run_id"],
        "venue": fold.run["venue"],
        "owner": owner,
        "pid": os.getpid(),
        "status": "running" if engine.status is None else engine.status.value,
        "uptime_seconds": elapsed_ms / 1000,
        "duration_target_hours": None if target_ms is None else target_ms / 3_600_000,
        "progress_pct": None if not target_ms else round(min(100.0, elapsed_ms / target_ms * 100), 3),
        "pnl": {
            "cumulative": text(total),
            "realized": text(realised),
            "unrealized": text(total - realised),
            "per_hour_avg": round(total / ONE / hours, 6) if hours > 0 else None,
            "max_drawdown": text(maker.limits.deepest),
            "sharpe_estimate": trend.sharpe(),
        },
        "markets": {slug: _market(engine, desk, hours) for slug, desk in zip(engine.slugs, maker.desks, strict=True)},
        "totals": {
            "quotes_generated": maker.decided,
            "orders_submitted": orders.sent,
            "fills": fold.fills,
            "fill_rate_pct": round(fold.shares / orders.shares_accepted * 100, 4) if orders.shares_accepted else None,
            "ws_messages": engine.counts.frames,
            "errors": sum(_errors(engine, untold).values()),
        },
        "alarms": [{"kind": alarm.kind.value, "since": iso(alarm.since_ms), "cause": alarm.cause} for alarm in alarms],
        "system": {"memory_mb": process.memory_mb(), "cpu_pct": process.cpu_pct(), **_socket(engine, untold)},
        "hypothesis_under_test": fold.run["hypothesis"],
        "run_config_path": config_path,
    }


def _market(engine: Engine, desk: Desk, hours: float) -> Record:
    view, decision, now_ms = desk.view, desk.decision, engine.now_ms
    position = engine.maker.account.positions[desk.place]
    context = market_context(view, now_ms)
    silent_ms = view.silent_ms(now_ms)
    bid = None if decision is None else decision.bid
    ask = None if decision is None else decision.ask
    return {
        "description": view.market.description or view.market.slug,
        **{key: context[key] for key in ("mid_price", "best_bid", "best_ask", "spread_bps")},
        "our_bid": _best(desk, Side.BUY),
        "our_ask": _best(desk, Side.SELL),
        "why_no_bid": why(bid),
        "why_no_ask": why(ask),
        "position_yes": text(position.yes),
        "position_no": text(position.no),
        "position_net": text(position.net),
        "avg_entry_yes": average_entry(engine.maker.account, desk.place, Outcome.YES),
        "avg_entry_no": average_entry(engine.maker.account, desk.place, Outcome.NO),
        "pnl": text(position.total),
        "fills_count": desk.fills,
        "fills_per_hour": round(desk.fills / hours, 4) if hours > 0 else None,
        "last_fill_ago_s": None if desk.last_fill_ms is None else (now_ms - desk.last_fill_ms) / 1000,
        "kill_switch": kill_switch_state(engine.maker),
        "data_gap_s": None if silent_ms is None else silent_ms / 1000,
        "internals": _internals(engine, desk),
    }


def _internals(engine: Engine, desk: Desk) -> Record:
    decision, view, now_ms = desk.decision, desk.view, engine.now_ms
    theory = applied = skew = rewards = None
    if decision is not None and decision.mid is not None:
        mid, numbers = decision.mid, decision.numbers
        if numbers is not None:
            theory, skew, rewards = (bps(n * decision.tick, mid) for n in (numbers.half_spread, numbers.skew, 0.0 - numbers.rewards))
        if isinstance(decision.bid, Quote) and isinstance(decision.ask, Quote):
            applied = bps((decision.ask.price - decision.bid.price) / 2, mid)
    zscore = desk.toxicity.zscore(now_ms, view.book.tick)
    return {
        "features": features(view, now_ms),
        "half_spread_theory_bps": theory,
        "half_spread_applied_bps": applied,
        "skew_bps": skew,
        "toxicity_zscore": None if zscore is None else round(zscore, 6),
        "toxicity_threshold": -engine.params.toxicity_zscore,
        "rewards_adjustment_bps": rewards,
        "regime": desk.watch.stance.regime.value,
        "regime_cause": desk.watch.stance.cause,
    }


def _best(desk: Desk, side: Side) -> str | None:
    """Return the best price, in YES terms, of our orders that may rest on a side."""
    prices = [work.order.yes_price for work in desk.working.values() if work.order.yes_side is side]
    return maybe_text(max(prices, key=lambda price: price * side.sign, default=None))


def why(side: Quote | Skipped | None) -> str | None:
    """Return why a side is not quoted; None when it is, or when nobody has decided yet."""
    return side.why.value if isinstance(side, Skipped) else None


def refused(engine: Engine) -> Counter[str]:
    """Return the refused orders by reason, but those that would have crossed.

    A post-only order that the market outran is a part of quoting, as for the error rate.
    """
    reasons = Counter(engine.fold.orders.rejected)
    del reasons[Rejection.POST_ONLY_CROSS]
    return reasons


def _errors(engine: Engine, untold: int) -> dict[str, int]:
    """Return what went wrong by its name: the feed's errors, refused orders, alerts that the outbox did not take."""
    stats = getattr(engine.feed, "stats", None)
    errors = Counter({} if stats is None else stats.errors) + refused(engine) + Counter(alert_untold=untold)
    return dict(sorted(errors.items()))


def _socket(engine: Engine, untold: int) -> Record:
    """Return what is known of the connection; null where the feed has none."""
    stats = getattr(engine.feed, "stats", None)
    errors = _errors(engine, untold)
    if stats is None:
        return {"ws_connected": None, "ws_latency_ms": None, "ws_reconnects": None, "errors": errors}
    return {
        "ws_connected": stats.connected,
        "ws_latency_ms": stats.latency_ms,
        "ws_reconnects": stats.reconnects,
        "errors": errors,
    }


def health(engine: Engine, process: Process, *, untold: int) -> Record:
    """Return a line of health.jsonl: how the last minute of feed time went for this process. untold: as for `live_state`."""
    return {
        "timestamp": iso(engine.now_ms),
        "written_at": now_iso(),
        **_latency("cycle", engine.cycles_ns),
        **_latency("quote", engine.wakes_ns),
        "frames": engine.counts.frames,
        "memory_mb": process.memory_mb(),
        "cpu_pct": process.cpu_pct(),
        **_socket(engine, untold),
    }


def _latency(what: str, took_ns: list[int]) -> Record:
    ordered = sorted(took_ns)

    def at(part: float) -> float | None:
        return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))] / 1000, 1) if ordered else None

    return {f"{what}s": len(ordered), f"{what}_us_p50": at(0.5), f"{what}_us_p99": at(0.99)}


def trades_of(records: Iterator[Record]) -> Iterator[Record]:
    """Yield the trade records of a journal, in order."""
    return (record["trade"] for record in records if record["kind"] == "fill")


def rebuild_trades(state: StateDir, run_id: str, on_records: Callable[[], None] = lambda: None) -> None:
    """Make trades.jsonl what the journal says, when it is not. on_records: called now and then while the journal is read."""
    journal, name = f"runs/{run_id}/journal.jsonl", f"runs/{run_id}/trades.jsonl"
    written = state.raw_records(name)
    same = all(next(written, None) == encode(trade) for trade in trades_of(now_and_then(state.records(journal), on_records)))
    if same and next(written, None) is None:
        return
    state.write_text(name, "".join(encode(trade).decode() + "\n" for trade in trades_of(state.records(journal))))
