"""Engine: one loop, feed -> views -> Maker -> venue, on the feed's clock; the same for recordings, synthetic markets and live feeds.

It owns time and order: what is due at the venue comes before a timer of the same instant, and both before a row of that
instant. It writes the journal before it acts, and decides nothing about quoting. Called by `session` and `replay`.
"""

import copy
import random
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from mmtools import units
from mmtools.runs import records
from mmtools.runs.fold import Fold
from mmtools.runs.journal import Journal, Record
from mmtools.runs.watcher import Intervention, Watcher
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.maker import Maker
from mmtools.trading.market import Side, Why
from mmtools.trading.paper import PaperExchange
from mmtools.trading.params import Params
from mmtools.trading.signals import MarketView
from mmtools.units import Price, text
from mmtools.venues.venue import Feed, Kind

MINUTE_MS = 60_000
LOOK_EVERY_FRAMES = 64
"""How often, in frames, the engine lets its watcher look at the world outside the feed; a live feed is slow enough for every turn."""


class Status(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    HALTED = "halted"


@dataclass(slots=True)
class Counts:
    """What the feed has said so far."""

    frames: int = 0
    level_changes: int = 0
    prints: int = 0
    books: int = 0


class Engine:
    """One run in motion. `run` moves it to its end; everything else is there to be read while it moves."""

    def __init__(
        self,
        *,
        feed: Feed,
        params: Params,
        journal: Journal,
        watcher: Watcher | None = None,
        head: Record,
        duration_ms: int | None = None,
        past: Fold | None = None,
    ) -> None:
        """head: the journal's first record but for the time. past: what an earlier process of a run on a live feed left."""
        self.feed = feed
        self.params = params
        self.journal = journal
        self.watcher = watcher or Watcher()
        self.slugs = [market.slug for market in feed.markets]
        self.views = [MarketView(market) for market in feed.markets]
        self.exchange = PaperExchange(self.views, params, random.Random(params.seed))
        account = Account(units.Usdc(units.of(params.capital)), len(self.views))
        self.maker = Maker(self.views, params, account, facts_required=feed.name == "live")
        self.fold = past or Fold()
        self.counts = Counts()
        self.now_ms = 0
        self.began_ms = 0
        self.end_ms: int | None = None
        self.status: Status | None = None
        self.stop_asked: Intervention | None = None
        """Set by a signal handler; acted on at the next frame."""
        self.wakes_ns: list[int] = []
        """How long the maker took, each time in the present minute."""
        self.cycles_ns: list[int] = []
        """As `wakes_ns`, for the timer alone, which looks at every market."""
        self._head = head
        self._duration_ms = duration_ms
        self._resumed = past is not None
        self._look_every = 1 if feed.name == "live" else LOOK_EVERY_FRAMES
        self._halt: Record | None = None
        # A gap is noticed by the timer, so it never comes more seldom than a gap is long.
        self._tick_every_ms = round(min(params.quote_interval_s, params.max_data_gap_s) * 1000)
        self._next_tick_ms = 0
        self._next_minute_ms = 0
        self._epochs = [view.epoch for view in self.views]
        self._wrote = False
        self._refused_before: dict[str, int] = {}
        """Books that an earlier process of a run on a live feed refused."""
        if past is not None:
            self._take_up(past)

    # ---- the loop

    def run(self) -> Status:
        """Move to the end of the feed, the duration, a halt or a stop. Raises what the journal raises."""
        views, exchange, counts = self.views, self.exchange, self.counts
        started = False
        for ms, kind, market, a, b in self.feed.rows():
            if not started:
                started = True
                self._begin(ms)
            if ms > self.now_ms and not self._advance(ms):
                break
            if kind == Kind.BID or kind == Kind.ASK:
                views[market].level(kind == Kind.BID, a, b, ms)
            elif kind == Kind.FRAME:
                if not self._look():
                    break
                counts.frames += 1
                counts.level_changes += a
                counts.books += b
                views[market].frame(ms)
            elif kind == Kind.END:
                self._frame_over(market, a, b)
            elif kind == Kind.SOLD or kind == Kind.BOUGHT:
                counts.prints += 1
                taker = Side.BUY if kind == Kind.BOUGHT else Side.SELL
                views[market].printed(taker, b, ms)
                for event in exchange.printed(market, taker, a, b, ms):
                    self._hear(event)
            else:
                self._rare(kind, market, a)
                if kind == Kind.CLOCK and not self._look():
                    break
            if self._wrote:
                self._turn_over()
                # Without latency what was sent just now is due before the next row of this instant.
                if exchange.next_due_ms() <= ms and not self._advance(ms):
                    break
            if self._halt is not None and not self._go_on():
                break
        if not started:
            self._begin(self.fold.last_ms)
        return self._finish()

    def _advance(self, to_ms: int) -> bool:
        """Let everything due up to a time happen; False when the run is over before it."""
        over = self.end_ms is not None and to_ms > self.end_ms
        if over:
            assert self.end_ms is not None
            to_ms = self.end_ms
        while True:
            due_ms = self.exchange.next_due_ms()
            next_ms = min(due_ms, self._next_tick_ms, self._next_minute_ms)
            if next_ms > to_ms:
                break
            self.now_ms = next_ms
            if due_ms == next_ms:
                for event in self.exchange.arrive():
                    self._hear(event)
            elif self._next_tick_ms == next_ms:
                self._next_tick_ms += self._tick_every_ms
                self._hear(ev.Tick())
            else:
                self._next_minute_ms += MINUTE_MS
                self._minute()
            if self._wrote:
                self._turn_over()
            if self._halt is not None and not self._go_on():
                return False
        self.now_ms = to_ms
        return not over

    def _begin(self, ms: int) -> None:
        if not self._resumed:
            self.began_ms = ms
            self._write({**self._head, "at_ms": ms})
        if self._duration_ms is not None:
            self.end_ms = self.began_ms + self._duration_ms
            ms = min(ms, self.end_ms)  # a run on a live feed may be taken up after its time
        self.now_ms = self._next_tick_ms = ms
        self._next_minute_ms = ms + MINUTE_MS

    def _frame_over(self, market: int, stated_bid: int, stated_ask: int) -> None:
        view, exchange, now_ms = self.views[market], self.exchange, self.now_ms
        was_book = view.reading_book
        moved = view.end(now_ms, stated_bid, stated_ask)
        if view.epoch != self._epochs[market]:
            self._new_epoch(market)
        if view.decreases:
            for bid, price, before, after in view.decreases:
                exchange.decreased(market, bid, price, before, after, now_ms)
            view.decreases.clear()
        if was_book:
            exchange.book_given(market)
        if moved:
            self._hear(ev.TouchMoved(market))

    def _rare(self, kind: int, market: int, a: int) -> None:
        """Rows that come seldom."""
        if kind == Kind.BOOK:
            self.views[market].full_book(self.now_ms)
        elif kind == Kind.TICK:
            if a != self.views[market].book.tick:
                self.views[market].new_tick(Price(a))
                self._new_epoch(market)
        elif kind == Kind.RESOLVED:
            if not self.views[market].resolved:  # a feed may say it once for each token
                self.views[market].resolved = True
                for event in self.exchange.resolve(market, Price(a)):
                    self._hear(event)
        elif kind == Kind.LOST:
            self.views[market].lost()
            self._epochs[market] = self.views[market].epoch
            self._hear(ev.FeedLost(market))
        elif kind == Kind.RESTORED:
            self.views[market].restored()
            self._hear(ev.FeedRestored(market))
        elif kind == Kind.ALIVE:
            self.views[market].alive(self.now_ms)

    def _new_epoch(self, market: int) -> None:
        view = self.views[market]
        self._epochs[market] = view.epoch
        self._hear(ev.TickSizeChanged(market, view.book.tick, view.inferred_tick))

    # ---- events in, actions out

    def _hear(self, event: ev.Event) -> None:
        """Journal what happened, ask the maker, journal what it wants, do it."""
        now_ms = self.now_ms
        if isinstance(event, ev.MarketResolved):
            mark = self.maker.account.positions[event.market].mark
            self._write(records.of_resolution(event, now_ms, self.slugs[event.market], mark))
        else:
            record = records.of_event(event, now_ms, self.slugs)
            if record is not None:
                self._write(record)
        began = time.perf_counter_ns()
        actions = self.maker.on(event, now_ms)
        took = time.perf_counter_ns() - began
        (self.cycles_ns if isinstance(event, ev.Tick) else self.wakes_ns).append(took)
        for action in actions:
            self._do(action)

    def _do(self, action: ev.Action) -> None:
        now_ms = self.now_ms
        if isinstance(action, ev.Filled):
            trade = records.trade(action, self.maker, run_id=self._head["run_id"], ws_latency_ms=self._feed_latency_ms())
            self._write({"kind": "fill", "at_ms": now_ms, "trade": trade})
            return
        record = records.of_action(action, now_ms, self.slugs)
        self._write(record)
        match action:
            case ev.Place(order):
                self.exchange.place(order, now_ms)
            case ev.Cancel(key):
                self.exchange.cancel(key, now_ms)
            case ev.Merge(market, size):
                self.exchange.merge(market, size, now_ms)
            case ev.Halt():
                self._halt = record

    def _write(self, record: Record) -> bool:
        """Journal a record; return whether it is new."""
        new = self.journal.write(record)
        self.fold.add(record)
        self._wrote = True
        if new:
            self.watcher.wrote(self, record)
        return new

    def _turn_over(self) -> None:
        self._wrote = False
        self.journal.flush()
        self.watcher.turned(self)

    def _minute(self) -> None:
        new = self._write(self._mark())
        self._turn_over()
        self.watcher.minute(self, repeated=not new)
        self.wakes_ns.clear()
        self.cycles_ns.clear()

    def _mark(self) -> Record:
        """Return the counters, marks and limits as of now: what a fold cannot read from single records."""
        maker, limits = self.maker, self.maker.limits
        positions = maker.account.positions
        refused = dict(self._refused_before)
        for view in self.views:
            for name, count in view.refused.items():
                refused[name] = refused.get(name, 0) + count
        return {
            "kind": "mark",
            "at_ms": self.now_ms,
            "marks": {
                slug: text(p.mark) for slug, p in zip(self.slugs, positions, strict=True) if p.mark is not None and p.resolved is None
            },
            "liquidation": {
                slug: records.maybe_text(records.liquidation(view, maker.account, place))
                for place, (slug, view) in enumerate(zip(self.slugs, self.views, strict=True))
                if positions[place].yes or positions[place].no
            },
            "events": {**asdict(self.counts), "books_refused": refused},
            "quotes": {"decided": maker.decided, "skipped": {why.value: count for why, count in sorted(maker.skipped.items())}},
            "limits": {
                "day": limits.day,
                "day_began_at": text(limits.day_began_at),
                "peak": text(limits.peak),
                "deepest": text(limits.deepest),
            },
        }

    # ---- people

    def _look(self) -> bool:
        """Do what people ask for, or asked for at this frame in an earlier process; False when that ends the run."""
        frame = self.counts.frames
        asked = list(self.watcher.repeated(frame))
        if self.stop_asked is not None:
            if self.journal.repeating():
                # What an earlier process wrote is not caught up with yet: to leave now changes nothing.
                self.status = Status.STOPPED
                return False
            asked.append(self.stop_asked)
        elif frame % self._look_every == 0 and not self.journal.repeating():
            asked += self.watcher.look(self)
        return all(self._obey(intervention) for intervention in asked)

    def _obey(self, asked: Intervention) -> bool:
        """Journal what a person asks for and do it; False when that ends the run."""
        if asked.kind == "halt":
            self._halt_asked(asked)
        else:
            self._write(self._record(asked))
        if asked.kind == "stop":
            self._cancel_all()
        elif asked.kind == "reduce_only":
            self._hear(ev.HaltAsked(asked.by, asked.why, reduce_only=True))
        elif asked.kind == "cleared":
            self._hear(ev.Cleared(asked.by, asked.why))
        if self._halt is not None and not self._go_on():
            return False
        if asked is self.stop_asked:
            self.status = Status.STOPPED
        return self.status is None

    def _record(self, asked: Intervention) -> Record:
        return {
            "kind": asked.kind,
            "at_ms": self.now_ms,
            "frame": self.counts.frames,
            "by": asked.by,
            "why": asked.why,
            "latch": asked.latch,
        }

    def _halt_asked(self, asked: Intervention) -> None:
        for action in self.maker.on(ev.HaltAsked(asked.by, asked.why), self.now_ms):
            if isinstance(action, ev.Halt):
                record = records.of_action(action, self.now_ms, self.slugs)
                self._halt = {**record, "frame": self.counts.frames, "by": asked.by, "latch": asked.latch}
                self._write(self._halt)
            else:
                self._do(action)

    def _go_on(self) -> bool:
        """The run is latched: cancel everything. True when a person has cleared this latch already, as in a repetition."""
        halt, self._halt = self._halt, None
        assert halt is not None
        self._cancel_all()
        self._turn_over()
        cleared = self.watcher.halted(self, halt)
        if cleared is None:
            self.status = Status.HALTED
            return False
        self._write(self._record(cleared))
        self._hear(ev.Cleared(cleared.by, cleared.why))
        return True

    def _cancel_all(self) -> None:
        """Take in that no order rests any more, without quoting anew."""
        for event in self.exchange.close():
            record = records.of_event(event, self.now_ms, self.slugs)
            assert record is not None
            assert isinstance(event, ev.OrderGone)
            self._write(record)
            self.maker.forget(event.key)

    # ---- beginning again and ending

    def _take_up(self, past: Fold) -> None:
        """Go on where an earlier process of a run on a live feed was cut off: its ledger stands, its paper orders are gone."""
        self.began_ms, self.now_ms = past.began_ms, past.last_ms
        if past.mark is not None:
            self._take_up_mark(past.mark)
        seen = past.limits
        if seen.day is not None:
            self.maker.limits.restore(day=seen.day, day_began_at=seen.day_began_at, peak=seen.peak, deepest=seen.deepest, last=seen.last)
        self._let_go(past)
        account = self.maker.account = copy.deepcopy(past.account)
        self.maker.orders_made = past.orders_made
        for desk, counts, position in zip(self.maker.desks, past.markets, account.positions, strict=True):
            desk.fills, desk.last_fill_ms = counts.fills, counts.last_fill_ms
            desk.view.resolved = position.resolved is not None
        if past.latched:
            cleared = self.watcher.halted(self, past.halts[-1])
            assert cleared is not None, "a run that is latched does not start"
            self._write(self._record(cleared))
            self.maker.limits.clear(account.total())
        self.maker.reduce_only = past.reduce_only
        self.exchange.take_over(account, trades=past.fills)

    def _let_go(self, past: Fold) -> None:
        """Journal that orders and merges of the earlier process came to nothing more."""
        for key in list(past.sent):
            cause = ev.Ending.UNKNOWN if key in past.unanswered else ev.Ending.CANCELLED
            self._write({"kind": "gone", "at_ms": self.now_ms, "key": key, "cause": cause.value})
        for slug, position in zip(self.slugs, past.account.positions, strict=True):
            if position.merging:
                self._write({"kind": "merge_gone", "at_ms": self.now_ms, "market": slug, "size": text(position.merging)})

    def _take_up_mark(self, mark: Record) -> None:
        events: dict[str, Any] = dict(mark["events"])
        self._refused_before = events.pop("books_refused")
        self.counts = Counts(**events)
        self.maker.decided = mark["quotes"]["decided"]
        self.maker.skipped.update({Why(why): count for why, count in mark["quotes"]["skipped"].items()})

    def _finish(self) -> Status:
        """Cancel what rests and say how it ended, with a last mark. Who owns the journal syncs it: with that the run is over."""
        if self.status is Status.STOPPED and self.journal.repeating():
            return self.status
        self._cancel_all()
        status = self.status = self.status or Status.FINISHED
        self._write({**self._mark(), "kind": "end", "status": status.value})
        ours, folded = self.maker.account.run_figures(), self.fold.account.run_figures()
        if ours != folded:
            raise AssertionError(f"the journal folds to {folded}, the account says {ours}")
        return status

    def _feed_latency_ms(self) -> float | None:
        stats = getattr(self.feed, "stats", None)
        return None if stats is None else stats.latency_ms
