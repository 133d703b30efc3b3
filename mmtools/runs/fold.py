"""Fold: a run read from its journal, record by record. Account, counts, pauses, halts, limits: what reports and restarts need.

The engine feeds its own Fold while it runs, so a summary at the end and a report of a dead run are the same code.
"""

from collections import Counter
from dataclasses import dataclass, field

from mmtools import units
from mmtools.errors import Refused
from mmtools.runs.journal import LedgerHash, Record
from mmtools.runs.markouts import Markouts
from mmtools.trading.ledger import Account
from mmtools.trading.market import FeeSchedule, Fill, Order, Outcome, Side
from mmtools.trading.params import Params
from mmtools.trading.regime import Regime
from mmtools.trading.rewards import rebate_estimate
from mmtools.trading.risk import Limits
from mmtools.units import Price, Shares, Usdc

SCHEMA = "mmtools.journal/1"


@dataclass(slots=True)
class OrderCounts:
    """Counts of orders; `sent` is always accepted + rejected + unknown."""

    sent: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    routed: int = 0
    """Orders for the NO token: an ask as BUY NO or a bid as SELL NO."""
    shares_accepted: int = 0

    @property
    def unknown(self) -> int:
        return self.sent - self.accepted - self.rejected.total()


@dataclass(slots=True)
class MarketCounts:
    """What one market has seen of fills and of itself."""

    fees: FeeSchedule | None
    """None when nobody said."""
    fills: int = 0
    last_fill_ms: int | None = None
    rebates_e6: int = 0
    """What the fills should bring of the maker rebates, where the schedule is known."""
    markouts: Markouts = field(default_factory=Markouts)
    exit_since_ms: int | None = None
    """Since when what is held is only sold, if it is."""

    @property
    def rebates(self) -> Usdc | None:
        """The estimate of the maker rebates; None when the market's schedule is not known."""
        return None if self.fees is None or self.fees.rebate_rate is None else Usdc(self.rebates_e6)


class Fold:
    """Raises Refused on a journal that is not one, or whose first record is missing."""

    def __init__(self) -> None:
        self.run: Record = {}
        self.slugs: list[str] = []
        self.account = Account(Usdc(0), 0)
        self.ledger = LedgerHash()
        self.orders = OrderCounts()
        self.markets: list[MarketCounts] = []
        self.fills = 0
        self.shares = 0
        self.notional_e12 = 0
        self.pauses: Counter[str] = Counter()
        self.halts: list[Record] = []
        self.clearings: list[Record] = []
        """How each halt was cleared; one fewer than `halts` while the last one stands."""
        self.warnings: list[Record] = []
        self.rebalances: Counter[str] = Counter()
        self.regimes: Counter[str] = Counter()
        """How often a market entered each."""
        self.mark: Record | None = None
        """The last `mark` record: counters, marks and limits as of then."""
        self.limits = Limits(Params(max_daily_loss=None, max_drawdown=None))
        """The day and the peak as fills and marks tell them; nothing breaks it."""
        self.began_ms = 0
        self.last_ms = 0
        self.status: str | None = None
        """How the last process ended, None when it did not say."""
        self.reduce_only = False
        self.interventions: list[Record] = []
        """What people did to the run while it ran, with the frame at which it took effect."""
        self.sent: dict[str, Order] = {}
        """Orders sent and not known to be gone."""
        self.unanswered: set[str] = set()
        """Keys of those that were neither accepted nor refused."""
        self.orders_made = 0
        self._place: dict[str, int] = {}

    def add(self, record: Record) -> None:
        """Take one record in; records of kinds that move nothing here only move the time."""
        kind = record["kind"]
        if kind == "run":
            self._begin(record)
        elif not self.run:
            raise Refused("the journal does not begin with a run record; it is none of ours or its beginning is lost")
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self, record)
        if "at_ms" in record:
            self.last_ms = record["at_ms"]
            if kind != "end":
                self.status = None
        self.ledger.add(record)

    @property
    def halted(self) -> str | None:
        """The reason of the halt that stands, if one does."""
        return self.halts[-1]["why"] if self.latched else None

    @property
    def latched(self) -> bool:
        """Whether the last halt stands, as far as the journal knows."""
        return len(self.clearings) < len(self.halts)

    # ---- what is only counted: a run that keeps no journal says it without a record

    def placed(self, order: Order) -> None:
        self.sent[order.key] = order
        self.unanswered.add(order.key)
        self.orders_made += 1
        self.orders.sent += 1
        self.orders.routed += order.outcome is Outcome.NO

    def accepted(self, key: str) -> None:
        self.unanswered.discard(key)
        self.orders.accepted += 1
        self.orders.shares_accepted += self.sent[key].size

    def rejected(self, key: str, reason: str) -> None:
        self.orders.rejected[reason] += 1
        self._forget(key)

    def gone(self, key: str, cause: str) -> None:
        self.orders.cancelled += cause == "cancelled"
        self._forget(key)

    def judged(self, place: int, outcome: Outcome, horizon_s: int, per_share: int | None, size: int, at_ms: int) -> None:
        """A fill of a market was measured; the mark was not known where `per_share` is None."""
        self.markets[place].markouts.add(outcome, horizon_s, per_share, size, at_ms)

    def behaves(self, place: int, regime: Regime, at_ms: int) -> None:
        """A market entered a regime."""
        self.regimes[regime.value] += 1
        counts = self.markets[place]
        if regime is Regime.REDUCE_ONLY and counts.exit_since_ms is None:
            counts.exit_since_ms = at_ms
        elif regime in (Regime.QUIET, Regime.TRENDING):
            counts.exit_since_ms = None

    def _forget(self, key: str) -> None:
        self.unanswered.discard(key)
        self.sent.pop(key, None)

    # ---- records

    def _begin(self, record: Record) -> None:
        if record.get("schema") != SCHEMA:
            raise Refused(f"the journal is of schema {record.get('schema')}; this program reads {SCHEMA}")
        self.run = record
        self.began_ms = record["at_ms"]
        self.slugs = [market["slug"] for market in record["markets"]]
        self._place = {slug: place for place, slug in enumerate(self.slugs)}
        self.account = Account(Usdc(units.parse(record["capital"])), len(self.slugs))
        self.markets = [MarketCounts(_fees(market)) for market in record["markets"]]

    def _sent(self, record: Record) -> None:
        order = Order(
            key=record["key"],
            market=self._place[record["market"]],
            outcome=Outcome(record["token"]),
            side=Side(record["side"]),
            price=Price(units.parse(record["price"])),
            size=Shares(units.parse(record["size"])),
        )
        self.account.reserve(order)
        self.placed(order)

    def _accepted(self, record: Record) -> None:
        self.accepted(record["key"])

    def _rejected(self, record: Record) -> None:
        self.account.release(record["key"])
        self.rejected(record["key"], record["reason"])

    def _gone(self, record: Record) -> None:
        self.account.release(record["key"])
        self.gone(record["key"], record["cause"])

    def _filled(self, record: Record) -> None:
        trade = record["trade"]
        place = self._place[trade["market"]]
        fill = Fill(
            trade_id=trade["trade_id"],
            order_key=trade["order_key"],
            market=place,
            outcome=Outcome(trade["token"]),
            side=Side(trade["side"]),
            price=Price(units.parse(trade["fill_price"])),
            size=Shares(units.parse(trade["fill_qty"])),
            at_ms=record["at_ms"],
            mark=Price(units.parse(trade["mark"])),
            fee=Usdc(units.parse(trade["fee"])),
        )
        if not self.account.apply(fill):
            return
        self.fills += 1
        self.shares += fill.size
        self.notional_e12 += fill.price * fill.size
        counts = self.markets[place]
        counts.fills += 1
        counts.last_fill_ms = fill.at_ms
        counts.markouts.made[fill.outcome] += 1
        if counts.fees is not None:
            counts.rebates_e6 += rebate_estimate(counts.fees, fill.price, fill.size) or 0
        self.limits.check(self.account.total(), fill.at_ms)

    def _merge_sent(self, record: Record) -> None:
        self.account.lock_merge(self._place[record["market"]], Shares(units.parse(record["size"])))

    def _merged(self, record: Record) -> None:
        self.account.merge(self._place[record["market"]], Shares(units.parse(record["size"])))

    def _merge_gone(self, record: Record) -> None:
        self.account.unlock_merge(self._place[record["market"]], Shares(units.parse(record["size"])))

    def _resolved(self, record: Record) -> None:
        place = self._place[record["market"]]
        mark = record["mark"]
        if mark is not None:
            self.account.mark(place, Price(units.parse(mark)))
        self.account.resolve(place, Price(units.parse(record["payout_yes"])))

    def _marked(self, record: Record) -> None:
        self.mark = record
        for slug, mid in record["marks"].items():
            self.account.mark(self._place[slug], Price(units.parse(mid)))
        limits = record["limits"]
        if limits["day"] is not None:
            amounts = {name: Usdc(units.parse(limits[name])) for name in ("day_began_at", "peak", "deepest")}
            self.limits.restore(day=limits["day"], **amounts, last=self.account.total())

    def _paused(self, record: Record) -> None:
        self.pauses[record["why"]] += 1

    def _halted(self, record: Record) -> None:
        self.halts.append(record)
        if "frame" in record:
            self.interventions.append(record)

    def _stopped(self, record: Record) -> None:
        self.interventions.append(record)

    def _winds_down(self, record: Record) -> None:
        self.reduce_only = True
        self.interventions.append(record)
        for counts in self.markets:  # an event hides the regime for a while, but the exit's clock runs
            if counts.exit_since_ms is None:
                counts.exit_since_ms = record["at_ms"]

    def _cleared(self, record: Record) -> None:
        self.reduce_only = False
        for counts in self.markets:
            counts.exit_since_ms = None
        self.limits.clear(self.account.total())
        (self.clearings if self.latched else self.interventions).append(record)

    def _judged(self, record: Record) -> None:
        per_share = record["per_share"]
        self.judged(
            self._place[record["market"]],
            Outcome(record["token"]),
            record["horizon_s"],
            None if per_share is None else units.parse(per_share),
            units.parse(record["size"]),
            record["at_ms"],
        )

    def _behaves(self, record: Record) -> None:
        self.behaves(self._place[record["market"]], Regime(record["to"]), record["at_ms"])

    def _warned(self, record: Record) -> None:
        self.warnings.append(record)

    def _rebalanced(self, record: Record) -> None:
        self.rebalances[record["cause"]] += 1

    def _ended(self, record: Record) -> None:
        self._marked(record)
        self.status = record["status"]


def _fees(market: Record) -> FeeSchedule | None:
    """Return the schedule that a run's first record gives of a market; journals of the first release say nothing of it."""
    fees = market.get("fees")
    return None if fees is None else FeeSchedule(**fees)


_HANDLERS = {
    "place": Fold._sent,
    "accepted": Fold._accepted,
    "rejected": Fold._rejected,
    "gone": Fold._gone,
    "fill": Fold._filled,
    "merge_sent": Fold._merge_sent,
    "merge": Fold._merged,
    "merge_gone": Fold._merge_gone,
    "resolution": Fold._resolved,
    "mark": Fold._marked,
    "pause": Fold._paused,
    "halt": Fold._halted,
    "stop": Fold._stopped,
    "reduce_only": Fold._winds_down,
    "cleared": Fold._cleared,
    "warning": Fold._warned,
    "markout": Fold._judged,
    "regime": Fold._behaves,
    "rebalance": Fold._rebalanced,
    "end": Fold._ended,
}
