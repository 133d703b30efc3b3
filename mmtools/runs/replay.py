"""replay(): a run at full speed that leaves nothing on disk. The same engine, maker and exchange; only the journal is forgotten."""

from mmtools.config import RunConfig
from mmtools.runs import summary
from mmtools.runs.engine import Engine
from mmtools.runs.journal import MemoryJournal
from mmtools.runs.markets import Markets
from mmtools.runs.session import Outcome, head
from mmtools.runs.watcher import Watcher
from mmtools.venues.venue import Feed, Kind


def replay(run: RunConfig, feed: Feed, *, run_id: str, watcher: Watcher | None = None, before: Feed | None = None) -> Outcome:
    """Run a feed to its end, the run's duration or a halt; return what came of it.

    before: what the same markets said earlier. Books and signals know it when the run begins, and nobody quoted on it.
    """
    duration_ms = None if run.duration_hours is None else round(run.duration_hours * 3_600_000)
    engine = Engine(
        feed=feed, params=run.params, journal=MemoryJournal(), watcher=watcher, head=head(run_id, run, feed), duration_ms=duration_ms
    )
    if before is not None:
        _warm_up(engine.markets, before)
    status = engine.run()
    return Outcome(
        status=status, document=summary.document(engine.fold, status=status.value), warnings=summary.warnings(engine.fold), folder=None
    )


def _warm_up(markets: Markets, feed: Feed) -> None:
    """Let the views hear a feed, and nobody else."""
    listeners, markets.listeners = markets.listeners, []
    views = markets.views
    for ms, kind, market, a, b in feed.rows():
        if kind == Kind.BID or kind == Kind.ASK:
            views[market].level(kind == Kind.BID, a, b, ms)
        elif kind != Kind.CLOCK:
            markets.row(ms, kind, market, a, b)
    markets.listeners = listeners
