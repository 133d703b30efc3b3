"""Engine: one loop, feed -> views -> Maker -> venue, on the feed's clock; the same for recordings, synthetic markets and live feeds.

It owns time and order: what is due at the venue comes before a timer of the same instant, and both before a row of that
instant. It writes the journal before it acts, and decides nothing about quoting. Called by `session` and `replay`.
"""

import random
import time
from enum import StrEnum

from mmtools import units
from mmtools.runs import counting, marks, records
from mmtools.runs.bracket import OTHERS, OtherMaker
from mmtools.runs.fold import Fold
from mmtools.runs.journal import Journal, Record
from mmtools.runs.markets import Markets
from mmtools.runs.marks import Counts
from mmtools.runs.skim import Skimmer
from mmtools.runs.watcher import Intervention, Watcher
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.maker import Maker
from mmtools.trading.market import Side
from mmtools.trading.paper import NEVER, PaperExchange
from mmtools.trading.params import Params
from mmtools.trading.rewards import RewardEstimate, sample
from mmtools.units import Price
from mmtools.venues.tape import Tape
from mmtools.venues.venue import Feed, Kind

MINUTE_MS = 60_000
LOOK_EVERY_FRAMES = 64
"""How often, in frames, the engine lets its watcher look at the world outside the feed; a live feed is slow enough for every turn."""


class Status(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    HALTED = "halted"


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
        self.markets = Markets(feed.markets, [self])
        self.views = self.markets.views
        self.exchange = PaperExchange(self.views, params, random.Random(params.seed))
        self.fills_by_book = self.exchange.fills_by_book
        self.decreased = self.exchange.decreased
        self.book_given = self.exchange.book_given
        account = Account(units.Usdc(units.of(params.capital)), len(self.views))
        facts_required = feed.name == "live"
        self.maker = Maker(self.views, params, account, facts_required=facts_required)
        self.others = [
            OtherMaker(
                name,
                self.views,
                params,
                run_id=head["run_id"],
                facts_required=facts_required,
                write=self._other_wrote if journal.keeps else None,
            )
            for name in (OTHERS if params.bracket else ())
        ]
        """The other makers of the bracket."""
        self.markets.listeners += self.others
        self.rewards = [RewardEstimate(market.rewards) for market in feed.markets]
        """What liquidity rewards would have brought: an estimate, apart from the account."""
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
        self._counts_only = not journal.keeps
        self._duration_ms = duration_ms
        self._resumed = past is not None
        self._look_every = 1 if feed.name == "live" else LOOK_EVERY_FRAMES
        self._halt: Record | None = None
        # A gap is noticed by the timer, so it never comes more seldom than a gap is long.
        self._tick_every_ms = round(min(params.quote_interval_s, params.max_data_gap_s) * 1000)
        self._next_tick_ms = 0
        self._next_minute_ms = 0
        self._minute_of_sample_ms = 0
        self._sample_at = random.Random(f"{params.seed}/rewards")
        self._next_sample_ms = NEVER
        self._wrote = False
        self.refused_before: dict[str, int] = {}
        """Books that an earlier process of a run on a live feed refused."""
        if past is not None:
            marks.take_up(self, past)

    # ---- the loop

    def run(self) -> Status:
        """Move to the end of the feed, the duration, a halt or a stop. Raises what the journal raises."""
        started = False
        for ms, kind, market, a, b in self.feed.rows():
            if not started:
                started = True
                self._begin(ms)
            if ms > self.now_ms and not self._advance(ms):
                break
            if not self._take(ms, kind, market, a, b):
                break
        if not started:
            self._begin(self.fold.last_ms)
        return self._finish()

    def skim(self) -> Status:
        """As `run`, on a feed that is a tape: rows that move no touch cost next to nothing. Nobody is asked at every frame, as the watcher
        of a run is that people may halt. Raises ValueError where every frame may fill an order.
        """
        tape = self.feed
        if not isinstance(tape, Tape) or self.fills_by_book:
            raise ValueError("only tapes are skimmed, and not where orders fill by what the book shows")
        skimmer, counts = Skimmer(tape, self.markets), self.counts
        self._begin(self.fold.last_ms if skimmer.next_ms == NEVER else skimmer.next_ms)
        while (ms := skimmer.next_ms) != NEVER:
            due_ms = self._due_ms()
            if ms >= due_ms:
                if ms > self.now_ms and not self._advance(ms):
                    break
                due_ms = self._due_ms()
            self.now_ms = ms
            calm = skimmer.skim(due_ms)
            if calm:
                counts.frames += calm
                counts.level_changes += 2 * calm
                self.now_ms = skimmer.last_ms
                continue
            for kind, place, a, b in skimmer.loud():
                if not self._take(ms, kind, place, a, b):
                    return self._finish()
                skimmer.settle(place)
        return self._finish()

    def _take(self, ms: int, kind: int, market: int, a: int, b: int) -> bool:
        """Take in a row, of now; False when the run is over with it."""
        if kind == Kind.BID or kind == Kind.ASK:
            self.views[market].level(kind == Kind.BID, a, b, ms)
            return True
        if kind == Kind.FRAME:
            if not self._look():
                return False
            counts = self.counts
            counts.frames += 1
            counts.level_changes += a
            counts.books += b == 1
            self.views[market].frame(ms)
        elif kind == Kind.CLOCK:
            if not self._look():
                return False
        else:
            self.counts.prints += kind == Kind.SOLD or kind == Kind.BOUGHT
            self.markets.row(self.now_ms, kind, market, a, b)
            for other in self.others:
                other.arrive(ms)
        if self._halt is not None and not self._go_on():
            return False
        if self._wrote:
            self._turn_over()
            # Without latency what was sent just now is due before the next row of this instant.
            for other in self.others:
                other.arrive(ms)
            return self.exchange.next_due_ms() > ms or self._advance(ms)
        return True

    def _due_ms(self) -> int:
        """Return when something happens that no row brings about; what is due then comes before the rows of that instant."""
        due_ms = min(self.exchange.next_due_ms(), self._next_tick_ms, self._next_minute_ms, self._next_sample_ms)
        for other in self.others:
            due_ms = min(due_ms, other.next_due_ms())
        return due_ms if self.end_ms is None else min(due_ms, self.end_ms + 1)

    def _advance(self, to_ms: int) -> bool:
        """Let everything due up to a time happen; False when the run is over before it."""
        over = self.end_ms is not None and to_ms > self.end_ms
        if over:
            assert self.end_ms is not None
            to_ms = self.end_ms
        while True:
            due_ms = self.exchange.next_due_ms()
            next_ms = min(due_ms, self._next_tick_ms, self._next_minute_ms, self._next_sample_ms)
            for other in self.others:
                other.arrive(min(next_ms, to_ms))
            if next_ms > to_ms:
                break
            self.now_ms = next_ms
            if due_ms == next_ms:
                for event in self.exchange.arrive():
                    self._hear(event)
            elif self._next_tick_ms == next_ms:
                self._next_tick_ms += self._tick_every_ms
                self._hear_all(ev.Tick())
            elif self._next_sample_ms == next_ms:
                self._sample_rewards()
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
            self.write({**self._head, "at_ms": ms})
        if self._duration_ms is not None:
            self.end_ms = self.began_ms + self._duration_ms
            ms = min(ms, self.end_ms)  # a run on a live feed may be taken up after its time
        self.now_ms = self._next_tick_ms = ms
        self._next_minute_ms = ms + MINUTE_MS
        if any(estimate.known for estimate in self.rewards):
            self._minute_of_sample_ms = ms
            self._next_sample_ms = ms + self._offset_ms()

    # ---- what the rows mean to the run's own maker (a markets.Listener)

    def frame_over(self, market: int, now_ms: int) -> None:
        for event in self.exchange.frame_over(market):
            self._hear(event)

    def printed(self, market: int, taker: Side, price: int, size: int, now_ms: int) -> None:
        for event in self.exchange.printed(market, taker, price, size, now_ms):
            self._hear(event)

    def resolved(self, market: int, payout: Price, now_ms: int) -> None:
        for event in self.exchange.resolve(market, payout):
            self._hear(event)

    def hear(self, event: ev.Event, now_ms: int) -> None:
        self._hear(event)

    # ---- events in, actions out

    def _hear_all(self, event: ev.Event) -> None:
        """Tell every maker of the bracket what concerns each of them."""
        self._hear(event)
        for other in self.others:
            other.hear(event, self.now_ms)

    def _hear(self, event: ev.Event) -> None:
        """Journal what happened, ask the maker, journal what it wants, do it."""
        now_ms = self.now_ms
        if self._counts_only:
            if not isinstance(event, ev.TouchMoved | ev.Tick | ev.FillReported):
                self._count_event(event)
            for action in self.maker.on(event, now_ms):
                self._do(action)
            return
        self._journal_event(event)
        began = time.perf_counter_ns()
        actions = self.maker.on(event, now_ms)
        took = time.perf_counter_ns() - began
        (self.cycles_ns if isinstance(event, ev.Tick) else self.wakes_ns).append(took)
        for action in actions:
            self._do(action)

    def _count_event(self, event: ev.Event) -> None:
        if counting.count_event(self.fold, event):
            self._wrote = True
        else:
            self._journal_event(event)

    def _journal_event(self, event: ev.Event) -> None:
        if isinstance(event, ev.MarketResolved):
            mark = self.maker.account.positions[event.market].mark
            self.write(records.of_resolution(event, self.now_ms, self.slugs[event.market], mark))
        else:
            record = records.of_event(event, self.now_ms, self.slugs)
            if record is not None:
                self.write(record)

    def _do(self, action: ev.Action) -> None:
        now_ms = self.now_ms
        if self._counts_only and counting.count_action(self.fold, action, now_ms):
            self._wrote = True
        else:
            self._journal_action(action)
        if isinstance(action, ev.Place):
            self.exchange.place(action.order, now_ms)
        elif isinstance(action, ev.Cancel):
            self.exchange.cancel(action.key, now_ms)
        elif isinstance(action, ev.Merge):
            self.exchange.merge(action.market, action.size, now_ms)

    def _journal_action(self, action: ev.Action) -> None:
        now_ms = self.now_ms
        if isinstance(action, ev.Filled):
            trade = records.trade(action, self.maker, run_id=self._head["run_id"], ws_latency_ms=self._feed_latency_ms())
            self.write({"kind": "fill", "at_ms": now_ms, "trade": trade})
            return
        record = records.of_action(action, now_ms, self.slugs)
        if isinstance(action, ev.Note):
            record["signals"] = records.signals(self.views[action.market], now_ms)
        self.write(record)
        if isinstance(action, ev.Halt):
            self._halt = record

    def write(self, record: Record) -> bool:
        """Journal a record; return whether it is new."""
        new = self.journal.write(record)
        self.fold.add(record)
        self._wrote = True
        if new:
            self.watcher.wrote(self, record)
        return new

    def _other_wrote(self, name: str, record: Record) -> None:
        """A maker of the bracket did something worth keeping: it is kept apart, and never touches the journal."""
        self.watcher.other_wrote(self, name, record)
        self._wrote = True

    def _offset_ms(self) -> int:
        return int(self._sample_at.random() * MINUTE_MS)

    def _sample_rewards(self) -> None:
        """Once in every minute, at a moment that nobody knows before, as the venue does: how our resting orders score."""
        self._minute_of_sample_ms += MINUTE_MS
        self._next_sample_ms = self._minute_of_sample_ms + self._offset_ms()
        for estimate, view, desk in zip(self.rewards, self.views, self.maker.desks, strict=True):
            if estimate.terms is not None and not view.resolved:
                resting = (work for work in desk.working.values() if work.accepted_ms is not None)
                ours = ((work.order.yes_side, work.order.yes_price, work.left) for work in resting)
                estimate.add(None if view.fault is not None else sample(view.book, ours, estimate.terms))

    def _turn_over(self) -> None:
        self._wrote = False
        self.journal.flush()
        self.watcher.turned(self)

    def _minute(self) -> None:
        new = self.write(marks.mark(self))
        self._turn_over()
        self.watcher.minute(self, repeated=not new)
        self.wakes_ns.clear()
        self.cycles_ns.clear()

    # ---- people

    def _look(self) -> bool:
        """Do what people ask for, or asked for at this frame in an earlier process; False when that ends the run."""
        frame = self.counts.frames
        asked = self.watcher.repeated(frame)
        if self.stop_asked is not None:
            if self.journal.repeating():
                # What an earlier process wrote is not caught up with yet: to leave now changes nothing.
                self.status = Status.STOPPED
                return False
            asked = [*asked, self.stop_asked]
        elif frame % self._look_every == 0 and not self.journal.repeating():
            asked = [*asked, *self.watcher.look(self)]
        return not asked or all(self._obey(intervention) for intervention in asked)

    def _obey(self, asked: Intervention) -> bool:
        """Journal what a person asks for and do it; False when that ends the run."""
        if asked.kind == "halt":
            self._halt_asked(asked)
        else:
            self.write(self._record(asked))
        if asked.kind == "stop":
            self._cancel_all()
            for other in self.others:
                other.cancel_all()
        elif asked.kind == "reduce_only":
            self._hear_all(ev.HaltAsked(asked.by, asked.why, reduce_only=True))
        elif asked.kind == "cleared":
            self._hear_all(ev.Cleared(asked.by, asked.why))
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
        event = ev.HaltAsked(asked.by, asked.why)
        for other in self.others:
            other.hear(event, self.now_ms)
        actions = self.maker.on(event, self.now_ms)
        for action in actions:
            if isinstance(action, ev.Halt):
                record = records.of_action(action, self.now_ms, self.slugs)
                self._halt = {**record, "frame": self.counts.frames, "by": asked.by, "latch": asked.latch}
                # Before what follows from it: a repetition learns from this record that there is something to repeat.
                self.write(self._halt)
        for action in actions:
            if not isinstance(action, ev.Halt):
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
        self.write(self._record(cleared))
        event = ev.Cleared(cleared.by, cleared.why)
        self._hear(event)
        for other in self.others:
            other.go_on(event, self.now_ms)
        return True

    def cleared_since(self, halt: Record) -> ev.Cleared:
        """Journal how a halt of an earlier process was cleared, without which the run would not have started."""
        cleared = self.watcher.halted(self, halt)
        assert cleared is not None, "a run that is latched does not start"
        self.write(self._record(cleared))
        return ev.Cleared(cleared.by, cleared.why)

    def _cancel_all(self) -> None:
        """Take in that no order rests any more, without quoting anew."""
        for event in self.exchange.close():
            record = records.of_event(event, self.now_ms, self.slugs)
            assert record is not None
            assert isinstance(event, ev.OrderGone)
            self.write(record)
            self.maker.forget(event.key)

    # ---- the end

    def _finish(self) -> Status:
        """Cancel what rests and say how it ended, with a last mark. Who owns the journal syncs it: with that the run is over."""
        if self.status is Status.STOPPED and self.journal.repeating():
            return self.status
        self._cancel_all()
        status = self.status = self.status or Status.FINISHED
        self.write({**marks.mark(self), "kind": "end", "status": status.value})
        ours, folded = self.maker.account.run_figures(), self.fold.account.run_figures()
        if ours != folded:
            raise AssertionError(f"the journal folds to {folded}, the account says {ours}")
        return status

    def _feed_latency_ms(self) -> float | None:
        stats = getattr(self.feed, "stats", None)
        return None if stats is None else stats.latency_ms
