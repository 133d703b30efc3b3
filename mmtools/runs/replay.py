"""replay(): a run at full speed that leaves nothing on disk. The same engine, maker and exchange; only the journal is forgotten."""

from mmtools.config import RunConfig
from mmtools.runs import summary
from mmtools.runs.engine import Engine
from mmtools.runs.journal import MemoryJournal
from mmtools.runs.session import Outcome, head
from mmtools.venues.tapefile import Tape
from mmtools.venues.venue import Feed


def replay(run: RunConfig, feed: Feed, *, run_id: str) -> Outcome:
    """Run a feed to its end, the run's duration or a halt; return what came of it."""
    duration_ms = None if run.duration_hours is None else round(run.duration_hours * 3_600_000)
    engine = Engine(feed=feed, params=run.params, journal=MemoryJournal(), head=head(run_id, run, feed), duration_ms=duration_ms)
    # Where orders fill by what the book shows, every frame may be the one that fills.
    status = engine.skim(feed) if isinstance(feed, Tape) and run.params.queue_model != "touch" else engine.run()
    return Outcome(
        status=status, document=summary.document(engine.fold, status=status.value), warnings=summary.warnings(engine.fold), folder=None
    )
