"""The engine: the order of things at one instant, the end of a run, what the feed says of itself, and that nothing grows."""

import gc
from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import Any

import pytest
from worlds import NOON_MS, ListFeed, book_rows, market, print_rows

from mmtools.config import Synthetic
from mmtools.runs import records
from mmtools.runs.engine import Engine, Status
from mmtools.runs.fold import SCHEMA
from mmtools.runs.journal import MemoryJournal
from mmtools.runs.watcher import Intervention, Watcher
from mmtools.trading.market import Market, Side
from mmtools.trading.params import Params
from mmtools.units import ONE, parse
from mmtools.venues.synthetic import SyntheticFeed
from mmtools.venues.venue import Feed, Kind, Row

Record = dict[str, Any]
LOWER_BIDS, LOWER_ASKS = {"0.46": 120, "0.45": 310}, {"0.47": 80, "0.49": 10}
FACTS: Record = {"event": "e", "accepting": True}


class Journal(MemoryJournal):
    """Keeps its records for the test to look at."""

    keeps = True

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> bool:
        self.records.append(record)
        return True


def head(feed: Feed, params: Params) -> Record:
    markets = [records.market_record(m) for m in feed.markets]
    return {"kind": "run", "schema": SCHEMA, "run_id": "tested", "capital": f"{params.capital:g}", "markets": markets}


class Run:
    """An engine over a feed, and all that it journalled."""

    def __init__(self, feed: Feed, *, watcher: Watcher | None = None, duration_s: float | None = None, **params: Any) -> None:
        self.journal = Journal()
        chosen = Params(**{"default_order_size": 10.0, "capital": 12.0, **params})
        self.engine = Engine(
            feed=feed, params=chosen, journal=self.journal, watcher=watcher, head=head(feed, chosen),
            duration_ms=None if duration_s is None else round(duration_s * 1000),
        )  # fmt: skip
        self.status = self.engine.run()

    def kinds(self, at_s: float | None = None) -> list[str]:
        return [r["kind"] for r in self.journal.records if at_s is None or r.get("at_ms") == NOON_MS + at_s * 1000]

    def of_kind(self, kind: str) -> list[Record]:
        return [record for record in self.journal.records if record["kind"] == kind]


def run(rows: Sequence[Row], *, markets: Sequence[Market] | None = None, **more: Any) -> Run:
    return Run(ListFeed(markets or [market(**FACTS)], rows), **more)


def at(seconds: float) -> int:
    return NOON_MS + round(seconds * 1000)


# --- the order of things


def test_what_is_due_comes_before_the_timer_and_both_before_a_row_of_that_instant() -> None:
    """At second 2: the orders arrive, the timer finds a gap that the row would end, and the row's print fills the order."""
    rows = book_rows(at(0)) + print_rows(at(2), Side.SELL, "0.46", 30)
    ran = run(rows, quote_interval_s=2, latency_ms=2000, max_data_gap_s=1)
    now = [kind for kind in ran.kinds(2) if kind in ("accepted", "pause", "fill")]
    assert now == ["accepted", "accepted", "pause", "fill"]


def test_without_latency_an_order_rests_before_the_next_row_of_its_instant() -> None:
    rows = book_rows(at(0)) + print_rows(at(0), Side.SELL, "0.46", 30)
    assert run(rows, latency_ms=0).engine.fold.fills == 1
    assert run(rows, latency_ms=1).engine.fold.fills == 0


def test_the_timer_rings_from_the_first_row_on_every_interval() -> None:
    rings: list[int] = []

    class Counting(Watcher):
        def minute(self, engine: Engine, *, repeated: bool) -> None:
            rings.append(len(engine.cycles_ns))

    run(book_rows(at(0)) + book_rows(at(121)), quote_interval_s=20, watcher=Counting())
    assert rings == [4, 3]  # at 0, 20, 40, 60; at 80, 100, 120


def test_a_gap_is_noticed_however_seldom_quotes_are_looked_at() -> None:
    """Silence until second 98: the order that lay through it is gone when the print comes."""
    rows = book_rows(at(0)) + print_rows(at(98), Side.SELL, "0.46", 30)
    ran = run(rows, quote_interval_s=120, max_data_gap_s=30)
    assert ran.engine.fold.pauses == {"data_gap": 1}
    assert ran.engine.fold.fills == 0


def test_a_record_stands_in_the_journal_before_the_venue_hears_of_it() -> None:
    rows = book_rows(at(0)) + book_rows(at(10), LOWER_BIDS, LOWER_ASKS) + book_rows(at(20))
    ran = run(rows, latency_ms=50)
    sent: set[str] = set()
    for record in ran.journal.records:
        if record["kind"] == "place":
            sent.add(record["key"])
        if record["kind"] in ("accepted", "gone", "cancel"):
            assert record["key"] in sent
    assert len(sent) >= 4


# --- the end


def test_the_duration_ends_a_run_exactly_and_a_row_of_that_instant_counts() -> None:
    rows = book_rows(at(0)) + print_rows(at(30), Side.SELL, "0.46", 30) + print_rows(at(30.001), Side.BUY, "0.49", 30)
    ran = run(rows, duration_s=30)
    assert ran.status is Status.FINISHED
    assert ran.engine.now_ms == at(30)
    assert [record["trade"]["side"] for record in ran.of_kind("fill")] == ["BUY"]
    assert ran.of_kind("end")[0]["at_ms"] == at(30)


def test_what_is_due_until_the_end_still_happens_when_the_feed_speaks_only_later() -> None:
    ran = run(book_rows(at(0)) + book_rows(at(500)), duration_s=90, quote_interval_s=30, max_data_gap_s=600)
    assert ran.engine.now_ms == at(90)
    assert [record["at_ms"] for record in ran.of_kind("mark")] == [at(60)]
    assert ran.engine.counts.frames == 1


def test_a_feed_that_is_shorter_than_the_duration_ends_the_run() -> None:
    ran = run(book_rows(at(0)) + book_rows(at(10)), duration_s=90)
    assert (ran.status, ran.engine.now_ms) == (Status.FINISHED, at(10))


def test_a_feed_that_says_nothing_is_a_run_that_did_nothing() -> None:
    ran = run([])
    assert ran.kinds() == ["run", "end"]
    assert ran.status is Status.FINISHED


def test_at_the_end_nothing_rests_and_nothing_is_reserved() -> None:
    ran = run(book_rows(at(0)) + book_rows(at(10), LOWER_BIDS, LOWER_ASKS))
    sent = {record["key"] for record in ran.of_kind("place")}
    assert sent == {record["key"] for record in ran.of_kind("gone")}
    assert ran.engine.maker.account.reserved == 0
    assert ran.kinds()[-1] == "end"


# --- resolution, ticks, loss of the feed


def test_a_resolution_cancels_and_pays_and_ends_quoting() -> None:
    rows = book_rows(at(0)) + print_rows(at(1), Side.SELL, "0.46", 30) + book_rows(at(5))
    rows += [(at(9), Kind.FRAME, 0, 0, 0), (at(9), Kind.RESOLVED, 0, ONE, 0), *book_rows(at(20))]
    ran = run(rows)
    assert {record["cause"] for record in ran.of_kind("gone") if record["at_ms"] == at(9)} == {"resolved"}
    assert ran.engine.maker.account.cash == parse("17.3")
    assert all(record["at_ms"] < at(9) for record in ran.of_kind("place"))
    decision = ran.of_kind("decision")[-1]
    assert (decision["bid"], decision["ask"]) == ({"why": "not_accepting"}, {"why": "not_accepting"})


def test_a_resolution_that_is_said_for_both_tokens_is_one() -> None:
    over: list[Row] = [(at(9), Kind.FRAME, 0, 0, 0), (at(9), Kind.RESOLVED, 0, ONE, 0)]
    ran = run(book_rows(at(0)) + print_rows(at(1), Side.SELL, "0.46", 30) + over + over)
    assert len(ran.of_kind("resolution")) == 1
    assert ran.engine.maker.account.cash == parse("17.3")


def test_a_new_tick_pulls_what_rests_until_a_book_on_it_has_come() -> None:
    rows = [*book_rows(at(0)), (at(5), Kind.FRAME, 0, 0, 0), (at(5), Kind.TICK, 0, 1000, 0)]
    rows += book_rows(at(10), {"0.472": 120}, {"0.474": 80})
    ran = run(rows + book_rows(at(11), {"0.472": 120}, {"0.474": 80}))
    (tick,) = ran.of_kind("tick")
    assert (tick["tick_size"], tick["inferred"]) == ("0.001", False)
    assert ran.kinds(5).count("cancel") == 2
    later = [record["price"] for record in ran.of_kind("place") if record["at_ms"] >= at(10)]
    assert later == ["0.47", "0.524"]  # on the old grid 0.47 and 0.52


def test_a_lost_feed_cancels_and_a_restored_one_with_a_book_is_quoted_again_after_a_while() -> None:
    rows = [*book_rows(at(0)), (at(5), Kind.LOST, 0, 0, 0), (at(8), Kind.RESTORED, 0, 0, 0)]
    for second in (8, 12, 16, 20):
        rows += book_rows(at(second))
    ran = run(rows, resume_after_s=5)
    assert ran.kinds(5)[:2] == ["feed_lost", "pause"]
    assert ran.kinds(5).count("cancel") == 2
    assert "feed_restored" in ran.kinds(8)
    (resumed,) = ran.of_kind("resume")
    assert resumed["at_ms"] >= at(13)
    assert [record["at_ms"] >= resumed["at_ms"] for record in ran.of_kind("place") if record["at_ms"] > at(5)] == [True, True]


def test_markets_go_by_their_place_and_share_one_account() -> None:
    one, two = market("one", **FACTS), market("two", **FACTS)
    rows = book_rows(at(0)) + book_rows(at(0), LOWER_BIDS, LOWER_ASKS, place=1)
    ran = run(rows + print_rows(at(5), Side.SELL, "0.45", 30, place=1) + book_rows(at(10)), markets=[one, two], capital=40.0)
    (fill,) = ran.of_kind("fill")
    assert (fill["trade"]["market"], fill["trade"]["fill_price"]) == ("two", "0.46")
    assert [position.yes for position in ran.engine.maker.account.positions] == [0, parse("10")]


# --- people


class Told(Watcher):
    """Tells the engine things at frames, and remembers halts."""

    def __init__(self, asked: dict[int, Sequence[Intervention]], cleared: Intervention | None = None) -> None:
        self.asked, self.cleared = asked, cleared
        self.halts: list[Record] = []

    def repeated(self, frame: int) -> Sequence[Intervention]:
        return self.asked.get(frame, ())

    def halted(self, engine: Engine, halt: Record) -> Intervention | None:
        self.halts.append(halt)
        return self.cleared


HALT = Intervention(kind="halt", by="anna", why="lunch", latch=2)
CLEARED = Intervention(kind="cleared", by="ben", why="back")
QUIET = book_rows(at(0)) + book_rows(at(5)) + book_rows(at(10))


def test_a_halt_cancels_everything_and_ends_the_run_with_what_it_owns() -> None:
    watcher = Told({2: [HALT]})
    ran = run(QUIET, watcher=watcher)
    assert ran.status is Status.HALTED
    assert [(halt["by"], halt["detail"], halt["frame"], halt["latch"]) for halt in watcher.halts] == [("anna", "lunch", 2, 2)]
    assert ran.kinds()[-3:] == ["gone", "gone", "end"]
    assert ran.of_kind("end")[0]["status"] == "halted"


def test_a_halt_that_was_cleared_is_quoted_past_at_once() -> None:
    ran = run(QUIET + book_rows(at(12)), watcher=Told({2: [HALT]}, CLEARED))
    assert ran.status is Status.FINISHED
    halted = ran.kinds().index("halt")
    after = ran.kinds()[halted:]
    assert after[: after.index("cleared")].count("gone") == 2
    assert after[after.index("cleared") :].count("place") == 2


def test_a_limit_that_breaks_when_people_act_is_one_halt() -> None:
    """Winding down looks at the limits: the halt that follows from it comes before whatever else was asked."""
    falling = book_rows(at(0)) + print_rows(at(1), Side.SELL, "0.46", 30) + book_rows(at(5), {"0.3": 100}, {"0.32": 100})
    wind_down = Intervention(kind="reduce_only", by="anna", why="out")
    watcher = Told({3: [wind_down, HALT]}, CLEARED)
    ran = run(falling + book_rows(at(9), {"0.3": 100}, {"0.32": 100}), watcher=watcher, max_drawdown=1.0)
    assert len(watcher.halts) == len(ran.of_kind("halt")) == len(ran.of_kind("cleared"))


def test_a_stop_cancels_and_ends_at_the_next_frame() -> None:
    class Signal(Watcher):
        def look(self, engine: Engine) -> Sequence[Intervention]:
            engine.stop_asked = Intervention(kind="stop", by="SIGTERM", why="asked to end")
            return ()

    ran = run(QUIET, watcher=Signal())
    assert (ran.status, ran.engine.counts.frames) == (Status.STOPPED, 1)
    assert [record["frame"] for record in ran.of_kind("stop")] == [1]


@pytest.mark.parametrize(("name", "looks"), [("recording", 1), ("live", 4)])
def test_a_live_feed_is_looked_up_from_at_every_turn_even_in_silence(name: str, looks: int) -> None:
    seen: list[int] = []

    class Looking(Watcher):
        def look(self, engine: Engine) -> Sequence[Intervention]:
            seen.append(engine.now_ms)
            return ()

    feed = ListFeed([market(**FACTS)], [*book_rows(at(0)), *book_rows(at(1)), (at(2), Kind.CLOCK, -1, 0, 0), *book_rows(at(3))])
    feed.name = name
    Run(feed, watcher=Looking())
    assert len(seen) == looks


# --- nothing grows


def footprint(engine: Engine) -> int:
    """Return how many objects the engine holds on to, but for the feed and what it remembers a fixed number of: trades, markouts."""
    accounts = (engine.maker.account, engine.fold.account, *(other._maker.account for other in engine.others))
    skipped = [engine.feed, engine.watcher, *(account._finished for account in accounts)]
    skipped += [counts.markouts.recent for counts in engine.fold.markets]
    seen = {id(thing) for thing in skipped}
    found, left = 0, [engine.__dict__]
    while left:
        thing: Any = left.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType | str | int | float):
            continue
        seen.add(id(thing))
        found += 1 + (len(thing) if isinstance(thing, list | tuple | dict | set) else 0)
        left += gc.get_referents(thing)
    return found


def grown(minutes: Sequence[int]) -> list[int]:
    """Return the footprint of a busy run after so many minutes."""
    sizes: list[int] = []

    class Weighing(Watcher):
        def __init__(self) -> None:
            self.minutes = 0

        def minute(self, engine: Engine, *, repeated: bool) -> None:
            self.minutes += 1
            if self.minutes in minutes:
                sizes.append(footprint(engine))

    settings = Synthetic(trades_per_minute=120, changes_per_minute=200, trade_size=150)
    feed = SyntheticFeed(settings, seed=3, duration_ms=max(minutes) * 60_000 + 1000)
    params = Params(capital=500, max_drawdown=None, max_daily_loss=None, quote_interval_s=1, event_cool_off_s=0)
    engine = Engine(feed=feed, params=params, journal=MemoryJournal(), watcher=Weighing(), head=head(feed, params))
    engine.run()
    assert engine.fold.fills > max(minutes)
    return sizes


def test_what_the_engine_holds_does_not_grow_with_frames_orders_or_fills() -> None:
    early, late = grown([10, 30])
    assert late < early * 1.1


@pytest.mark.slow
def test_eight_hours_hold_no_more_than_two() -> None:
    """By then every price has been met: the exchange keeps a pool for each, which the grid bounds."""
    early, late = grown([120, 480])
    assert late < early * 1.1
