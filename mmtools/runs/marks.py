"""Marks: what the journal keeps once a minute that no single record says, and how a run on a live feed goes on from the last one.

Counters of the feed and of quotes, mids, limits, the bracket, estimates. `engine` writes a mark every minute and at the end; a
fold reads them. `take_up` is the other direction: an engine that has not moved yet is brought to where an earlier process of
its run was cut off.
"""

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mmtools.runs import records
from mmtools.runs.bracket import tally
from mmtools.runs.fold import Fold
from mmtools.runs.journal import Record
from mmtools.runs.notation import maybe_text
from mmtools.trading import events as ev
from mmtools.trading.market import Why
from mmtools.trading.rewards import RewardEstimate
from mmtools.units import text

if TYPE_CHECKING:
    from mmtools.runs.engine import Engine


@dataclass(slots=True)
class Counts:
    """What the feed has said so far."""

    frames: int = 0
    level_changes: int = 0
    prints: int = 0
    books: int = 0


def mark(engine: "Engine") -> Record:
    """Return the counters, marks and limits as of now: what a fold cannot read from single records."""
    maker, limits = engine.maker, engine.maker.limits
    positions = maker.account.positions
    refused = dict(engine.refused_before)
    for view in engine.views:
        for name, count in view.refused.items():
            refused[name] = refused.get(name, 0) + count
    return {
        "kind": "mark",
        "at_ms": engine.now_ms,
        "marks": {slug: text(p.mark) for slug, p in zip(engine.slugs, positions, strict=True) if p.mark is not None and p.resolved is None},
        "liquidation": {
            slug: maybe_text(records.liquidation(view, maker.account, place))
            for place, (slug, view) in enumerate(zip(engine.slugs, engine.views, strict=True))
            if positions[place].yes or positions[place].no
        },
        "events": {**asdict(engine.counts), "books_refused": refused},
        "bracket": _bracket(engine),
        "rewards": {slug: _rewards(estimate) for slug, estimate in zip(engine.slugs, engine.rewards, strict=True)},
        "quotes": {"decided": maker.decided, "skipped": {why.value: count for why, count in sorted(maker.skipped.items())}},
        "limits": {
            "day": limits.day,
            "day_began_at": text(limits.day_began_at),
            "peak": text(limits.peak),
            "deepest": text(limits.deepest),
        },
    }


def _bracket(engine: "Engine") -> Record | None:
    if not engine.others:
        return None
    fold = engine.fold
    own = tally(fold.fills, fold.shares, fold.orders.shares_accepted, engine.maker.account.total(), fold.halted)
    return {"base": own, **{other.name: other.tally() for other in engine.others}}


def _rewards(estimate: RewardEstimate) -> Record | None:
    """Return what liquidity rewards would have brought by now; None where the venue named no terms or no pool."""
    if not estimate.known:
        return None
    return {"samples": estimate.samples, "scored": estimate.scored, "usdc_e12": str(estimate.usdc_e12)}


# ---- and back


def take_up(engine: "Engine", past: Fold) -> None:
    """Go on where an earlier process of a run on a live feed was cut off: its ledger stands, its paper orders are gone."""
    kept = [engine.watcher.other_past(past, other.name) for other in engine.others]  # first, for it may raise
    maker = engine.maker
    engine.began_ms, engine.now_ms = past.began_ms, past.last_ms
    if past.mark is not None:
        _counters(engine, past.mark)
    seen = past.limits
    if seen.day is not None:
        maker.limits.restore(day=seen.day, day_began_at=seen.day_began_at, peak=seen.peak, deepest=seen.deepest, last=seen.last)
    _let_go(engine, past)
    account = maker.account = copy.deepcopy(past.account)
    maker.orders_made = past.orders_made
    for desk, counts, position in zip(maker.desks, past.markets, account.positions, strict=True):
        desk.fills, desk.last_fill_ms = counts.fills, counts.last_fill_ms
        desk.view.resolved = position.resolved is not None
        for per_share, at_ms in counts.markouts.recent[desk.toxicity.horizon_s]:
            desk.toxicity.add(per_share, at_ms)
        if counts.exit_since_ms is not None:
            desk.watch.restore(counts.exit_since_ms)
    cleared = engine.cleared_since(past.halts[-1]) if past.latched else None
    if cleared is not None:
        maker.limits.clear(account.total())
    maker.reduce_only = past.reduce_only
    engine.exchange.take_over(account, trades=past.fills)
    for other, told in zip(engine.others, kept, strict=True):
        if told is not None:
            other.take_up(told, past)
        if cleared is not None:
            other.go_on(cleared, engine.now_ms)


def _let_go(engine: "Engine", past: Fold) -> None:
    """Journal that orders and merges of the earlier process came to nothing more."""
    for key in list(past.sent):
        cause = ev.Ending.UNKNOWN if key in past.unanswered else ev.Ending.CANCELLED
        engine.write({"kind": "gone", "at_ms": engine.now_ms, "key": key, "cause": cause.value})
    for slug, position in zip(engine.slugs, past.account.positions, strict=True):
        if position.merging:
            engine.write({"kind": "merge_gone", "at_ms": engine.now_ms, "market": slug, "size": text(position.merging)})


def _counters(engine: "Engine", last: Record) -> None:
    events: dict[str, Any] = dict(last["events"])
    engine.refused_before = events.pop("books_refused")
    engine.counts = Counts(**events)
    for slug, estimate in zip(engine.slugs, engine.rewards, strict=True):
        record = last["rewards"][slug]
        if record is not None and estimate.known:
            estimate.samples, estimate.scored, estimate.usdc_e12 = record["samples"], record["scored"], int(record["usdc_e12"])
    engine.maker.decided = last["quotes"]["decided"]
    engine.maker.skipped.update({Why(why): count for why, count in last["quotes"]["skipped"].items()})
