"""replay(): a run at full speed that leaves nothing on disk. The same engine, maker and exchange; only the journal is forgotten."""

from mmtools.config import RunConfig
from mmtools.runs import summary
from mmtools.runs.engine import Engine
from mmtools.runs.journal import MemoryJournal
from mmtools.runs.markets import Markets
from mmtools.runs.session import Outcome, head
from mmtools.runs.skim import Skimmer
from mmtools.runs.watcher import Watcher
from mmtools.trading.paper import NEVER
from mmtools.venues.tape import Tape
from mmtools.venues.venue import Feed


def replay(run: RunConfig, feed: Feed, *, run_id: str, watcher: Watcher | None = None, before: Tape | None = None) -> Outcome:
    """Run a feed to its end, the run's duration or a halt; return what came of it.

    watcher: hears of the records that are made; on a tape it is not asked at every frame. before: what the same markets said
    earlier. Books and signals know it when the run begins, and nobody quoted on it.
    """
    duration_ms = None if run.duration_hours is None else round(run.duration_hours * 3_600_000)
    engine = Engine(
        feed=feed, params=run.params, journal=MemoryJournal(), watcher=watcher, head=head(run_id, run, feed), duration_ms=duration_ms
    )
    if before is not None:
        _warm_up(engine.markets, before)
    # Where orders fill by what the book shows, every frame may be the one that fills.
    status = engine.skim() if isinstance(feed, Tape) and not engine.fills_by_book else engine.run()
    return Outcome(
        status=status, document=summary.document(engine.fold, status=status.value), warnings=summary.warnings(engine.fold), folder=None
    )


def _warm_up(markets: Markets, tape: Tape) -> None:
    """Let the views hear a tape, and nobody else."""
    listeners, markets.listeners = markets.listeners, []
    skimmer = Skimmer(tape, markets)
    while (ms := skimmer.next_ms) != NEVER:
        if not skimmer.skim(NEVER):
            for kind, place, a, b in skimmer.loud():
                markets.row(ms, kind, place, a, b)
                skimmer.settle(place)
    markets.listeners = listeners
