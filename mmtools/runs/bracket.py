"""The other makers of a bracket: the same strategy on the same feed under another queue, beside the run's own maker.

Each has its own account and paper exchange and acts on its own fills, so the three diverge; what they earn brackets what the
run's maker can be believed to earn. Each is exactly what a run of its own would be: the same orders, fills and halts. They keep
their fills and totals, no journal, and nothing of theirs touches the run's ledger. Called by `engine`, which owns the order of
things in time.
"""

import random
from collections.abc import Callable

import msgspec

from mmtools import units
from mmtools.runs import records
from mmtools.runs.fold import Fold
from mmtools.runs.journal import Record
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.maker import Maker
from mmtools.trading.market import Side, Why
from mmtools.trading.paper import PaperExchange
from mmtools.trading.params import Params, QueueModel
from mmtools.trading.signals import MarketView
from mmtools.units import Price, text

OTHERS: dict[str, QueueModel] = {"risk_averse": "risk-averse", "optimistic": "optimistic"}
"""Name in results -> queue model. The third of the bracket is the run's own maker, `base`."""

Write = Callable[[str, Record], None]
"""Takes the maker's name and what moved its money, or ended and began its quoting."""


def tally(fills: int, shares: int, shares_accepted: int, total: int, halted: str | None) -> Record:
    """Return what a mark keeps of a maker of the bracket."""
    return {
        "fills": fills,
        "shares": text(shares),
        "shares_accepted": text(shares_accepted),
        "pnl": text(total),
        "halted": halted,
    }


class OtherMaker:
    """One of them. A `markets.Listener`; the engine also tells it the time, the timer and what people do."""

    def __init__(
        self, name: str, views: list[MarketView], params: Params, *, run_id: str, facts_required: bool, write: Write | None
    ) -> None:
        """write: None where nobody keeps what it does."""
        params = msgspec.structs.replace(params, queue_model=OTHERS[name])
        self.name = name
        self.fills = 0
        self.shares = 0
        self.shares_accepted = 0
        self.halted: str | None = None
        """The limit that it broke, or that a person halted the run: then it quotes no more and its total stands still."""
        self._views = views
        self._run_id = run_id
        self._write = write
        self._slugs = [view.market.slug for view in views]
        self._exchange = PaperExchange(views, params, random.Random(params.seed))
        self.fills_by_book = False
        self.decreased = self._exchange.decreased
        self.book_given = self._exchange.book_given
        # Its exchange is its own and reports every fill once, final at once: there is no trade to know again.
        account = Account(units.Usdc(units.of(params.capital)), len(views), remembered=0)
        self._maker = Maker(views, params, account, facts_required=facts_required)
        self._closing = False
        """It has halted, and what made it halt is not over yet."""
        self._stands_at: int | None = None
        """The total of a halted one."""

    def tally(self) -> Record:
        total = self._maker.account.total() if self._stands_at is None else self._stands_at
        return tally(self.fills, self.shares, self.shares_accepted, total, self.halted)

    def take_up(self, kept: Fold, past: Fold) -> None:
        """Go on where an earlier process of a run on a live feed was cut off. What toxicity had learned begins anew.

        kept: what this maker has kept of itself. past: the run; orders accepted after its last mark are not counted.
        """
        mark = past.mark
        account, maker, seen = kept.account, self._maker, kept.limits
        self.fills, self.shares, self.shares_accepted = kept.fills, kept.shares, kept.shares
        if mark is not None and mark["at_ms"] >= kept.last_ms:
            for place, slug in enumerate(self._slugs):
                if slug in mark["marks"]:
                    account.mark(place, Price(units.parse(mark["marks"][slug])))
        before = None if mark is None else mark["bracket"][self.name]
        if before is not None:
            self.shares_accepted = max(units.parse(before["shares_accepted"]), kept.shares)
        if seen.day is not None:
            maker.limits.restore(day=seen.day, day_began_at=seen.day_began_at, peak=seen.peak, deepest=seen.deepest, last=seen.last)
        maker.account, maker.reduce_only = account, past.reduce_only
        for desk, counts in zip(maker.desks, past.markets, strict=True):
            if counts.exit_since_ms is not None:
                desk.watch.restore(counts.exit_since_ms)
        self._exchange.take_over(account, trades=kept.fills)
        if kept.halted is not None:
            self.halted, maker.latched = kept.halted, Why(kept.halted)
            stood = before is not None and before["halted"] is not None
            self._stands_at = units.parse(before["pnl"]) if before is not None and stood else account.total()

    # ---- the market

    def frame_over(self, market: int, now_ms: int) -> None:
        """Nothing: neither of the two models fills by a book."""

    def printed(self, market: int, taker: Side, price: int, size: int, now_ms: int) -> None:
        for event in self._exchange.printed(market, taker, price, size, now_ms):
            self.hear(event, now_ms)

    def resolved(self, market: int, payout: Price, now_ms: int) -> None:
        for event in self._exchange.resolve(market, payout):
            self.hear(event, now_ms)

    def next_due_ms(self) -> int:
        """Return when the next thing on its way to the exchange arrives."""
        return self._exchange.next_due_ms()

    def arrive(self, until_ms: int) -> None:
        """Let what is due at the exchange by then happen."""
        self._settle()
        while self._exchange.next_due_ms() <= until_ms:
            now_ms = self._exchange.next_due_ms()
            for event in self._exchange.arrive():
                self.hear(event, now_ms)
            self._settle()

    # ---- people

    def go_on(self, cleared: ev.Cleared, now_ms: int) -> None:
        """A halt of the run was cleared: if this one has halted too, it goes on as well."""
        self._settle()
        if self.halted is not None:
            self.halted = self._stands_at = None
            self._keep({"kind": "cleared", "at_ms": now_ms, "by": cleared.by, "why": cleared.why})
            self.hear(cleared, now_ms)

    def cancel_all(self) -> None:
        """Take in that no order rests any more, without quoting anew."""
        for gone in self._exchange.close():
            assert isinstance(gone, ev.OrderGone)
            self._maker.forget(gone.key)

    def _settle(self) -> None:
        """End quoting once what broke the limit is over, as the engine does."""
        if self._closing:
            self._closing = False
            self.cancel_all()
            self._stands_at = self._maker.account.total()

    # ---- events in, actions out

    def hear(self, event: ev.Event, now_ms: int) -> None:
        """Do what the maker wants. A halted one hears what becomes of what it owns, but quotes nothing: its maker is latched."""
        match event:
            case ev.Cleared() if self.halted is not None:
                return  # winding down is over for the others; a halt ends by `go_on`
            case ev.OrderAccepted(key):
                self.shares_accepted += self._maker.account.remaining(key)
            case ev.Merged() | ev.MarketResolved() if self._write is not None:
                self._keep(self._record(event, now_ms))
        for action in self._maker.on(event, now_ms):
            self._do(action, now_ms)

    def _do(self, action: ev.Action, now_ms: int) -> None:
        match action:
            case ev.Place(order):
                self._exchange.place(order, now_ms)
            case ev.Cancel(key):
                self._exchange.cancel(key, now_ms)
            case ev.Merge(market, size):
                self._exchange.merge(market, size, now_ms)
            case ev.Filled():
                self.fills += 1
                self.shares += action.fill.size
                if self._write is not None:
                    trade = records.trade(action, self._maker, run_id=self._run_id, ws_latency_ms=None)
                    self._keep({"kind": "fill", "at_ms": now_ms, "trade": trade})
            case ev.Halt(why) if self.halted is None:
                self.halted, self._closing = why.value, True
                self._keep(records.of_action(action, now_ms, self._slugs))

    def _record(self, event: ev.Merged | ev.MarketResolved, now_ms: int) -> Record | None:
        if isinstance(event, ev.Merged):
            return records.of_event(event, now_ms, self._slugs)
        mark = self._maker.account.positions[event.market].mark
        return records.of_resolution(event, now_ms, self._slugs[event.market], mark)

    def _keep(self, record: Record | None) -> None:
        if record is not None and self._write is not None:
            self._write(self.name, record)
