"""Random tapes and what becomes of runs on them, for tests that hold one way of running against another. No checks.

A tape is a list of rows of two markets: whole books, changes, prints, and now and then what comes seldom. `Ran` is an engine
over rows that has run, with all that it and the bracket's other makers wrote.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from worlds import NOON_MS, book_rows, market

from mmtools import units
from mmtools.config import RunConfig
from mmtools.runs import session, summary
from mmtools.runs.bracket import OTHERS
from mmtools.runs.engine import Engine
from mmtools.runs.journal import MemoryJournal, canonical
from mmtools.runs.watcher import Intervention, Watcher
from mmtools.trading.market import FeeSchedule, Market, RewardTerms
from mmtools.trading.params import Params
from mmtools.units import ONE, Price
from mmtools.venues.venue import Feed, Kind, Row

Record = dict[str, Any]
People = Mapping[int, Sequence[Intervention]]

CENT = 10_000
TERMS = RewardTerms(min_size=units.Shares(5 * ONE), max_spread=Price(3 * CENT), daily_pool=units.Usdc(86 * ONE))
MARKETS = [
    market("one", event="e", accepting=True, fees=FeeSchedule(rate=0.07, rebate_rate=0.25), rewards=TERMS),
    market("two", event="e", accepting=True, min_size=7),
]
SMALL: Record = {
    "default_order_size": 10.0, "capital": 25.0, "max_position": 40.0, "max_net_position": 30.0, "latency_ms": 20, "merge_latency_ms": 700,
    "resume_after_s": 1.0, "event_cool_off_s": 0.5,
}  # fmt: skip
"""Params under which little money moves often."""

PAUSES = st.sampled_from([0, 1, 20, 90, 333, 1001, 1001, 3000, 5000, 41_000])
SIZES = st.sampled_from([4, 7.25, 12, 30, 120])


def _ladder(best: int, step: int, sizes: Sequence[float]) -> dict[str, float]:
    return {units.text((best + step * place) * CENT): size for place, size in enumerate(sizes)}


@st.composite
def _books(draw: st.DrawFn, ms: int, place: int) -> list[Row]:
    bid = draw(st.integers(45, 47))
    ask = bid + draw(st.integers(1, 2))
    sizes = st.lists(SIZES, min_size=2, max_size=4)
    return book_rows(ms, _ladder(bid, -1, draw(sizes)), _ladder(ask, 1, draw(sizes)), place=place)


@st.composite
def _changes(draw: st.DrawFn, ms: int, place: int) -> list[Row]:
    level = st.tuples(st.sampled_from([Kind.BID, Kind.ASK]), st.integers(45, 50), st.one_of(st.just(0), SIZES))
    rows: list[Row] = [
        (ms, kind, place, cents * CENT, units.of(size)) for kind, cents, size in draw(st.lists(level, min_size=1, max_size=4))
    ]
    stated = draw(st.sampled_from([(-1, -1), (46 * CENT, 49 * CENT), (47 * CENT, 48 * CENT)]))
    return [(ms, Kind.FRAME, place, len(rows), 0), *rows, (ms, Kind.END, place, *stated)]


@st.composite
def _prints(draw: st.DrawFn, ms: int, place: int) -> list[Row]:
    kind, size = draw(st.sampled_from([Kind.SOLD, Kind.BOUGHT])), draw(SIZES)
    cents = draw(st.integers(45, 47) if kind == Kind.SOLD else st.integers(47, 49))
    return [(ms, Kind.FRAME, place, 0, 0), (ms, kind, place, cents * CENT, units.of(size))]


@st.composite
def _seldom(draw: st.DrawFn, ms: int, place: int) -> list[Row]:
    frame: Row = (ms, Kind.FRAME, place, 0, 0)
    return draw(
        st.sampled_from(
            [
                [(ms, Kind.CLOCK, -1, 0, 0)],
                [(ms, Kind.ALIVE, place, 0, 0)],
                [frame, (ms, Kind.TICK, place, 1000, 0)],
                [frame, (ms, Kind.TICK, place, CENT, 0)],
                [frame, (ms, Kind.BID, place, 474_000, units.of(9)), (ms, Kind.END, place, -1, -1)],
                [(ms, Kind.LOST, place, 0, 0)],
                [(ms, Kind.RESTORED, place, 0, 0)],
                [frame, (ms, Kind.RESOLVED, place, ONE, 0)],
            ]
        )
    )


@st.composite
def tapes(draw: st.DrawFn, *, most: int = 40) -> list[Row]:
    """Rows of `MARKETS`; they begin with a book of each."""
    ms = NOON_MS
    rows = [*book_rows(ms), *book_rows(ms, {"0.46": 30, "0.45": 310}, {"0.48": 12, "0.49": 40}, place=1)]
    kinds = st.sampled_from([_books, _changes, _changes, _prints, _prints, _prints])
    for _ in range(draw(st.integers(most // 4, most))):
        ms += draw(PAUSES)
        place = draw(st.sampled_from([0, 0, 1]))
        step = _seldom if draw(st.integers(0, 19)) == 13 else draw(kinds)
        rows += draw(step(ms, place))
    return rows


class CountedFeed:
    """Rows from a list; counts those that were asked for."""

    name = "recording"
    sha256 = "no recording"

    def __init__(self, rows: Sequence[Row], markets: Sequence[Market] = MARKETS) -> None:
        self.markets = tuple(markets)
        self.heard = 0
        self._rows = rows

    def rows(self) -> Iterator[Row]:
        for row in self._rows:
            self.heard += 1
            yield row


class Kept(MemoryJournal):
    """A journal in memory that can be looked at."""

    keeps = True

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> bool:
        self.records.append(record)
        return True


class Noting(Watcher):
    """Does what people do at frames, clears what they halted, and notes what the bracket's other makers keep."""

    def __init__(self, people: People) -> None:
        self.others: dict[str, list[Record]] = {name: [] for name in OTHERS}
        self._people = people

    def repeated(self, frame: int) -> Sequence[Intervention]:
        return self._people.get(frame, ())

    def halted(self, engine: Engine, halt: Record) -> Intervention | None:
        return Intervention(kind="cleared", by="ben", why="looked") if "frame" in halt else None

    def other_wrote(self, engine: Engine, name: str, record: Record) -> None:
        self.others[name].append(canonical(record))


class Ran:
    """An engine that has run to its end."""

    def __init__(self, feed: Feed, params: Params, people: People | None = None, duration_ms: int | None = None) -> None:
        run = RunConfig(feed="recording", recording="none", params=params)
        journal, noting = Kept(), Noting(people or {})
        head = session.head("ran", run, feed)
        self.engine = Engine(feed=feed, params=params, journal=journal, watcher=noting, head=head, duration_ms=duration_ms)
        self.status = self.engine.run()
        self.document = summary.document(self.engine.fold)
        self.journal, self.others = journal.records, noting.others

    def of_kind(self, *kinds: str) -> list[Record]:
        return [canonical(record) for record in self.journal if record["kind"] in kinds]


def ran(rows: Sequence[Row], people: People | None = None, **params: Any) -> Ran:
    return Ran(CountedFeed(rows), Params(**{**SMALL, **params}), people)
