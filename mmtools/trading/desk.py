"""Desk: what the maker keeps for one market: what rests, what was decided last, what its fills have shown.

Only what is so; what to want is `planner`'s. Called by `maker` and `planner`; reports read a desk's state.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmtools import units
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.market import Market, Order, Outcome, Quote, Side, Skipped, Why
from mmtools.trading.markouts import Markouts, Toxicity
from mmtools.trading.orders import Leg, Working
from mmtools.trading.params import Params
from mmtools.trading.quoting import Rung, rungs
from mmtools.trading.regime import Watch
from mmtools.trading.signals import MarketView
from mmtools.units import Shares, Usdc

if TYPE_CHECKING:
    from mmtools.trading.planner import Facts, Plan

_OUTCOMES = tuple(Outcome)
_NO_STOCK = dict.fromkeys(Outcome, Shares(0))


class Desk:
    """One market of the run. Mutable; the maker writes, the run's reports read."""

    def __init__(self, place: int, view: MarketView, params: Params) -> None:
        self.place = place
        self.view = view
        self.params = params
        self.order_size = Shares(units.of(params.default_order_size))
        self.working: dict[str, Working] = {}
        self.basis: dict[str, ev.Decision] = {}
        """The decision that sent each working order."""
        self.decision: ev.Decision | None = None
        self.paused: Why | None = None
        self.healthy_since_ms: int | None = None
        self.refused: dict[tuple[Outcome, Side], ev.Rejection] = {}
        """Kinds of token order that the venue refused, each until `look_again` or `balance_changed`."""
        self.merging = Shares(0)
        self.rebalancing: ev.Rebalance | None = None
        self.noted: tuple[Quote | Skipped, Quote | Skipped] | None = None
        self.noted_ms = 0
        self.told_of_touch = False
        self.fills = 0
        self.last_fill_ms: int | None = None
        self.markouts = Markouts()
        self.toxicity = Toxicity(params)
        self.watch = Watch(params)
        self.plans: dict[Facts, Plan] = {}
        """The planner's memory of what it has wanted here."""
        self._rungs: tuple[int, tuple[Rung, ...]] | None = None

    def rungs(self) -> tuple[Rung, ...]:
        """Return the ladder of the model on the grid of now."""
        tick = self.view.book.tick
        if self._rungs is None or self._rungs[0] != tick:
            self._rungs = tick, rungs(self.params, tick)
        return self._rungs[1]

    @property
    def market(self) -> Market:
        return self.view.market

    @property
    def open(self) -> bool:
        """Whether the market can still trade, as far as anyone said."""
        return not self.view.resolved and self.market.accepting is not False

    def stock(self, account: Account) -> dict[Outcome, Shares]:
        """Return what we could sell of each token if our own resting sales of it were taken back."""
        position = account.positions[self.place]
        if not position.yes and not position.no:
            return _NO_STOCK
        stock = {outcome: account.free_stock(self.place, outcome) for outcome in _OUTCOMES}
        for work in self.working.values():
            if work.order.side is Side.SELL:
                stock[work.order.outcome] = Shares(stock[work.order.outcome] + work.left)
        return stock

    def exposure(self, account: Account) -> Usdc:
        """Return what is lost in the market's worse outcome if every order fills that loses there: bids if NO wins, asks if YES does."""
        position = account.positions[self.place]
        cost = position.cost_yes + position.cost_no
        if_no, if_yes = cost - position.no, cost - position.yes
        for work in self.working.values():
            order = work.order
            if order.yes_side is Side.BUY:
                if_no += units.pay(order.yes_price, work.left)
            else:
                if_yes += units.pay(units.ONE - order.yes_price, work.left)
        return Usdc(max(0, if_no, if_yes))

    def refuse(self, order: Order, reason: ev.Rejection) -> None:
        """Take notice that the venue refused an order: the same again at once would be refused again."""
        kind = (order.outcome, order.side)
        if self.refused.get(kind) is not ev.Rejection.NOT_ENOUGH_BALANCE:
            self.refused[kind] = reason

    def look_again(self) -> None:
        """Time went by or the market moved: what was refused for another reason than money may be sent again."""
        if self.refused:
            self.refused = {kind: reason for kind, reason in self.refused.items() if reason is ev.Rejection.NOT_ENOUGH_BALANCE}

    def balance_changed(self) -> None:
        """Cash or shares are others than before: what was refused for want of them may be sent again."""
        if self.refused:
            self.refused = {kind: reason for kind, reason in self.refused.items() if reason is not ev.Rejection.NOT_ENOUGH_BALANCE}

    def payable(self, legs: Sequence[Leg]) -> tuple[Leg, ...]:
        """Return the legs without those of a kind for which the venue says that the balance is not there."""
        return tuple(leg for leg in legs if self.refused.get((leg.outcome, leg.side)) is not ev.Rejection.NOT_ENOUGH_BALANCE)

    def would_meet_own(self, leg: Leg) -> bool:
        """Whether a leg would trade with an order of ours that may still rest on the other side."""
        at, side = leg.yes_price, leg.yes_side
        ours = (work.yes_price for work in self.working.values() if work.yes_side is not side)
        return any(at <= other if side is Side.SELL else at >= other for other in ours)
