"""The other makers of a bracket: the same strategy on the same feed under another queue, beside the run's own maker.

Each has its own account and paper exchange and acts on its own fills, so the three diverge; what they earn brackets what the
run's maker can be believed to earn. They keep their fills and totals, no journal, and nothing of theirs touches the run's
ledger. Called by `engine`, which owns the order of things in time.
"""

import random
from collections.abc import Callable

import msgspec

from mmtools import units
from mmtools.runs import records
from mmtools.runs.journal import Record
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.maker import Maker
from mmtools.trading.market import Side
from mmtools.trading.paper import PaperExchange
from mmtools.trading.params import Params, QueueModel
from mmtools.trading.signals import MarketView
from mmtools.units import Price, text

OTHERS: dict[str, QueueModel] = {"risk_averse": "risk-averse", "optimistic": "optimistic"}
"""Name in results -> queue model. The third of the bracket is the run's own maker, `base`."""

Write = Callable[[str, Record], None]
"""Takes the maker's name and what moved its money."""


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

    def __init__(self, name: str, views: list[MarketView], params: Params, *, run_id: str, facts_required: bool, write: Write) -> None:
        params = msgspec.structs.replace(params, queue_model=OTHERS[name])
        self.name = name
        self.fills = 0
        self.shares = 0
        self.shares_accepted = 0
        self.halted: str | None = None
        """The limit that it broke: it does nothing more then, as a run of its own would."""
        self._views = views
        self._run_id = run_id
        self._write = write
        self._slugs = [view.market.slug for view in views]
        self._exchange = PaperExchange(views, params, random.Random(params.seed))
        self._maker = Maker(views, params, Account(units.Usdc(units.of(params.capital)), len(views)), facts_required=facts_required)

    def tally(self) -> Record:
        return tally(self.fills, self.shares, self.shares_accepted, self._maker.account.total(), self.halted)

    def take_up(self, account: Account, before: Record, *, fills: int, shares: int, reduce_only: bool) -> None:
        """Go on where an earlier process of a run on a live feed was cut off. before: its tally in the last mark."""
        self.fills, self.shares, self.halted = fills, shares, before["halted"]
        self.shares_accepted = units.parse(before["shares_accepted"])
        self._maker.account = account
        self._maker.reduce_only = reduce_only
        self._exchange.take_over(account, trades=fills)

    # ---- the market

    def decreased(self, market: int, bid: bool, price: int, before: int, after: int, now_ms: int) -> None:
        self._exchange.decreased(market, bid, price, before, after, now_ms)

    def book_given(self, market: int) -> None:
        self._exchange.book_given(market)

    def frame_over(self, market: int, now_ms: int) -> None:
        """Nothing: neither of the two models fills by a book."""

    def printed(self, market: int, taker: Side, price: int, size: int, now_ms: int) -> None:
        for event in self._exchange.printed(market, taker, price, size, now_ms):
            self.hear(event, now_ms)

    def resolved(self, market: int, payout: Price, now_ms: int) -> None:
        for event in self._exchange.resolve(market, payout):
            self.hear(event, now_ms)

    def arrive(self, until_ms: int) -> None:
        """Let what is due at the exchange by then happen."""
        while self._exchange.next_due_ms() <= until_ms:
            now_ms = self._exchange.next_due_ms()
            for event in self._exchange.arrive():
                self.hear(event, now_ms)

    # ---- events in, actions out

    def hear(self, event: ev.Event, now_ms: int) -> None:
        if isinstance(event, ev.Cleared):
            self.halted = None
        if self.halted is not None:
            return
        match event:
            case ev.OrderAccepted(key):
                self.shares_accepted += self._maker.account.remaining(key)
            case ev.Merged():
                self._keep(records.of_event(event, now_ms, self._slugs))
            case ev.MarketResolved(market):
                mark = self._maker.account.positions[market].mark
                self._keep(records.of_resolution(event, now_ms, self._slugs[market], mark))
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
                trade = records.trade(action, self._maker, run_id=self._run_id, ws_latency_ms=None)
                self._keep({"kind": "fill", "at_ms": now_ms, "trade": trade})
            case ev.Halt(why):
                self.halted = why.value
                for gone in self._exchange.close():
                    assert isinstance(gone, ev.OrderGone)
                    self._maker.forget(gone.key)

    def _keep(self, record: Record | None) -> None:
        if record is not None:
            self._write(self.name, record)
