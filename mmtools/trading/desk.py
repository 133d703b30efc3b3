"""Desk: what the maker keeps for one market; plan(): how much to quote where, by which tokens, with which money.

Pure arithmetic over the view, the account, the params and the numbers the maker hands in. Called by `maker` alone;
reports read a desk's state.
"""

import math
from dataclasses import dataclass, field
from typing import Self

from mmtools import units
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.market import Market, Outcome, Quote, Side, Skipped, Why
from mmtools.trading.orders import Leg, Working, afford, route
from mmtools.trading.params import Params
from mmtools.trading.quoting import MODELS, Inputs, Unsnapped, skew, snap
from mmtools.trading.risk import Caps, Stand
from mmtools.trading.signals import MarketView
from mmtools.units import Price, Shares, Usdc


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
        self.merging = Shares(0)
        self.rebalancing: ev.Rebalance | None = None
        self.noted: tuple[Quote | Skipped, Quote | Skipped] | None = None
        self.noted_ms = 0
        self.told_of_touch = False
        self.fills = 0
        self.last_fill_ms: int | None = None

    @property
    def market(self) -> Market:
        return self.view.market

    @property
    def open(self) -> bool:
        """Whether the market can still trade, as far as anyone said."""
        return not self.view.resolved and self.market.accepting is not False

    def stock(self, outcome: Outcome, account: Account) -> Shares:
        """Return what we could sell of a token if our own resting sales of it were taken back."""
        selling = (work.left for work in self.working.values() if work.order.side is Side.SELL and work.order.outcome is outcome)
        return Shares(account.free_stock(self.place, outcome) + sum(selling))

    def would_meet_own(self, leg: Leg) -> bool:
        """Whether a leg would trade with an order of ours that may still rest on the other side."""
        at = leg.yes_price
        ours = (work.order.yes_price for work in self.working.values() if work.order.yes_side is not leg.yes_side)
        return any(at <= other if leg.yes_side is Side.SELL else at >= other for other in ours)


@dataclass(slots=True)
class Plan:
    """What is wanted on both sides, legs or why not, and the numbers behind it."""

    order: tuple[Side, Side] = (Side.BUY, Side.SELL)
    legs: dict[Side, tuple[Leg, ...]] = field(default_factory=lambda: {Side.BUY: (), Side.SELL: ()})
    """Of every level, best level first."""
    quotes: dict[Side, Quote | Skipped] = field(default_factory=dict)
    inputs: Inputs | None = None
    unsnapped: Unsnapped | None = None
    money: int = 0
    rebalance: ev.Rebalance | None = None

    @classmethod
    def nothing(cls, why: Why) -> Self:
        return cls(quotes={side: Skipped(why) for side in Side})

    def decision(self, desk: Desk, account: Account, now_ms: int) -> ev.Decision:
        """Return the plan as journals show it."""
        book, view, position = desk.view.book, desk.view, account.positions[desk.place]
        model, inputs = self.unsnapped, self.inputs
        return ev.Decision(
            at_ms=now_ms,
            bid=self.quotes[Side.BUY],
            ask=self.quotes[Side.SELL],
            best_bid=Price(book.best_bid * book.tick) if book.best_bid else None,
            best_ask=Price(book.best_ask * book.tick) if book.best_ask < book.top else None,
            mid=view.mark,
            tick=book.tick,
            fair=None if inputs is None else inputs.fair,
            reservation=None if model is None else model.reservation,
            half_spread=None if model is None else model.half_spread,
            skew=None if inputs is None else skew(inputs, desk.params),
            sigma=None if inputs is None else inputs.sigma,
            tau_s=None if inputs is None else inputs.tau_s,
            net=position.net,
            cause=None if self.rebalance is None else self.rebalance.cause,
            money=Usdc(self.money),
        )


class Planner:
    """Plans one market at one moment; `plan` is the way in."""

    def __init__(self, desk: Desk, account: Account, caps: Caps, *, elsewhere: Usdc, low_balance: bool, now_ms: int) -> None:
        position = account.positions[desk.place]
        self.desk, self.account, self.caps, self.low_balance = desk, account, caps, low_balance
        self.params, self.book = desk.params, desk.view.book
        self.net = position.net
        self.stand = Stand(yes=position.yes, no=position.no, cost=Usdc(position.cost_yes + position.cost_no), elsewhere=elsewhere)
        self.inputs = self._inputs(now_ms)

    def plan(self, money: Usdc, *, reduce_only: bool) -> Plan:
        """Return what to want: the side that reduces |net| is paid first, then the bid."""
        first = Side.SELL if self.net > 0 else Side.BUY
        unsnapped = MODELS[self.params.model](self.inputs, self.params)
        plan = Plan(order=(first, first.opposite), inputs=self.inputs, unsnapped=unsnapped, money=money)
        if reduce_only:
            self._wind_down(plan)
            return plan
        snapped = snap(unsnapped, self.inputs)
        left = int(money)
        short = False
        for side in plan.order:
            at = snapped.bid if side is Side.BUY else snapped.ask
            wished, quote = self._wish(side, at)
            paid = afford(wished, left, self.desk.market.min_size, shrink=self.params.balance_aware_quoting)
            left -= sum(leg.cost for leg in paid)
            short = short or paid != wished
            self._settle(plan, side, paid, quote if paid or not wished else Skipped(Why.SHORT_OF_MONEY))
        if short and self.params.position_recycling:
            self._recycle(plan)
        return plan

    def _inputs(self, now_ms: int) -> Inputs:
        view, book, market = self.desk.view, self.book, self.desk.market
        mid = (book.best_bid + book.best_ask) / 2
        volatilities = [v for v in (view.volatility(now_ms), view.long_volatility(now_ms)) if v is not None]
        tau_s = self.params.horizon_s
        if market.end_ms is not None:
            tau_s = max(0.0, min(tau_s, (market.end_ms - now_ms) / 1000))
        return Inputs(
            fair=book.weighted_mid() if self.params.fair_value == "weighted-mid" else mid,
            mid=mid,
            inventory=self.net / self.desk.order_size,
            # The higher of the short and the long view: a lull does not make a market safe.
            sigma=max(volatilities, default=0.0),
            tau_s=tau_s,
            best_bid=book.best_bid,
            best_ask=book.best_ask,
            top=book.top,
        )

    def _wish(self, side: Side, first: int | None) -> tuple[tuple[Leg, ...], Quote | Skipped]:
        """Return the legs that limits allow on one side, money aside; and what the side is called when there are none."""
        if first is None:
            return (), Skipped(Why.NO_LEGAL_PRICE)
        if self.desk.order_size < self.desk.market.min_size:
            return (), Skipped(Why.BELOW_MINIMUM)
        size = self._size(side)
        room, why = self.caps.room(side, first * self.book.tick, self.stand)
        if self.low_balance:
            room, why = Shares(0), Why.LOW_BALANCE
        stock = self.desk.stock(_owned(side), self.account)
        legs: list[Leg] = []
        for level in range(self.params.num_levels):
            at = first - level * side.sign
            if not 1 <= at < self.book.top:
                break
            if not self.book.queue_known(side is Side.BUY, at):
                why = Why.UNKNOWN_QUEUE
                continue
            routed = route(side, Price(at * self.book.tick), size, room, stock, self.desk.market.min_size)
            room = Shares(max(0, room - sum(leg.size for leg in routed)))
            stock = Shares(stock - sum(leg.size for leg in routed if leg.side is Side.SELL))
            legs += routed
        return tuple(legs), Skipped(why)

    def _size(self, side: Side) -> Shares:
        """Return the order size: the side that would add to inventory is made smaller the more of it there is."""
        size = self.desk.order_size
        if self.net * side.sign <= 0:
            return size
        return units.lots(size * max(0, self.caps.net - abs(self.net)) // self.caps.net)

    def _settle(self, plan: Plan, side: Side, legs: tuple[Leg, ...], otherwise: Quote | Skipped) -> None:
        plan.legs[side] = legs
        if legs:
            at = legs[0].yes_price
            plan.quotes[side] = Quote(at, Shares(sum(leg.size for leg in legs if leg.yes_price == at)))
        else:
            plan.quotes[side] = otherwise

    def _wind_down(self, plan: Plan) -> None:
        """Quote only the side that sells what we own of the larger token, at the touch."""
        for side in Side:
            plan.quotes[side] = Skipped(Why.REDUCE_ONLY)
        if self.net == 0:
            return
        side = Side.SELL if self.net > 0 else Side.BUY
        at = self._join(side)
        stock = Shares(min(self.desk.stock(_owned(side), self.account), abs(self.net)))
        self._sell(plan, side, at, stock, ev.Cause.REDUCE_ONLY)

    def _recycle(self, plan: Plan) -> None:
        """Capital is short: sell stock at the touch where that is `recycle_profit_threshold` above its cost."""
        position = self.account.positions[self.desk.place]
        for side in Side:
            owned = _owned(side)
            stock = self.desk.stock(owned, self.account)
            if stock < self.desk.market.min_size:
                continue
            cost_in_ticks = position.cost(owned) * units.ONE / position.held(owned) / self.book.tick
            least = math.ceil(cost_in_ticks * (1 + self.params.recycle_profit_threshold))
            if side is Side.SELL:
                at = max(least, self._join(side))
                better = not plan.legs[side] or at * self.book.tick < plan.legs[side][0].yes_price
            else:
                at = min(self.book.top - least, self._join(side))
                better = not plan.legs[side] or at * self.book.tick > plan.legs[side][0].yes_price
            if better:
                self._sell(plan, side, at, stock, ev.Cause.RECYCLE)

    def _join(self, side: Side) -> int:
        """Return the touch of a side, or the nearest tick that is not through fair value."""
        if side is Side.SELL:
            return max(self.book.best_ask, math.floor(self.inputs.fair) + 1)
        return min(self.book.best_bid, math.ceil(self.inputs.fair) - 1)

    def _sell(self, plan: Plan, side: Side, at: int, stock: Shares, cause: ev.Cause) -> None:
        if not 1 <= at < self.book.top or not self.book.queue_known(side is Side.BUY, at):
            return
        legs = route(side, Price(at * self.book.tick), stock, Shares(0), stock, self.desk.market.min_size)
        if not legs:
            return
        self._settle(plan, side, legs, plan.quotes[side])
        plan.rebalance = ev.Rebalance(market=self.desk.place, cause=cause, outcome=legs[0].outcome, price=legs[0].price, size=legs[0].size)


def _owned(side: Side) -> Outcome:
    """Return the token that a side sells: YES for an ask, NO for a bid."""
    return Outcome.YES if side is Side.SELL else Outcome.NO
