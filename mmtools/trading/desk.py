"""Desk: what the maker keeps for one market; plan(): how much to quote where, by which tokens, with which money.

Pure arithmetic over the view, the account, the params and the numbers the maker hands in. Called by `maker` alone;
reports read a desk's state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import Self

from mmtools import units
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.market import Market, Order, Outcome, Quote, Side, Skipped, Why, yes_price
from mmtools.trading.orders import Leg, Working, afford, route
from mmtools.trading.params import Params
from mmtools.trading.quoting import MODELS, Inputs, Unsnapped, closest, skew, snap
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
        self.refused: dict[tuple[Outcome, Side], ev.Rejection] = {}
        """Kinds of token order that the venue refused, each until `look_again` or `balance_changed`."""
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
        self.refused = {kind: reason for kind, reason in self.refused.items() if reason is ev.Rejection.NOT_ENOUGH_BALANCE}

    def balance_changed(self) -> None:
        """Cash or shares are others than before: what was refused for want of them may be sent again."""
        self.refused = {kind: reason for kind, reason in self.refused.items() if reason is not ev.Rejection.NOT_ENOUGH_BALANCE}

    def payable(self, legs: Sequence[Leg]) -> tuple[Leg, ...]:
        """Return the legs without those of a kind for which the venue says that the balance is not there."""
        return tuple(leg for leg in legs if self.refused.get((leg.outcome, leg.side)) is not ev.Rejection.NOT_ENOUGH_BALANCE)

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
    closest: dict[Side, int] = field(default_factory=dict)
    """The prices in YES terms, in millionths, beyond which an order would stand through fair value; empty where nothing is wanted."""
    money: int = 0
    rebalance: ev.Rebalance | None = None

    @classmethod
    def nothing(cls, why: Why) -> Self:
        return cls(quotes={side: Skipped(why) for side in Side})

    def sold(self, outcome: Outcome) -> Shares:
        """Return how much of a token the plan wants to sell."""
        legs = (leg for side in Side for leg in self.legs[side])
        return Shares(sum(leg.size for leg in legs if leg.side is Side.SELL and leg.outcome is outcome))

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
        highest, lowest = closest(self.inputs.fair)
        self.closest = {Side.BUY: highest, Side.SELL: lowest}
        """The prices, in ticks, that are not through fair value."""

    def plan(self, money: Usdc, *, reduce_only: bool) -> Plan:
        """Return what to want: the side that reduces |net| is paid first, then the bid."""
        first = Side.SELL if self.net > 0 else Side.BUY
        unsnapped = MODELS[self.params.model](self.inputs, self.params)
        plan = Plan(order=(first, first.opposite), inputs=self.inputs, unsnapped=unsnapped, money=money)
        plan.closest = {side: at * self.book.tick for side, at in self.closest.items()}
        if reduce_only:
            self._wind_down(plan)
            return plan
        snapped = snap(unsnapped, self.inputs)
        wished = {side: self._wish(side, snapped.bid if side is Side.BUY else snapped.ask) for side in plan.order}
        paid = self._pay({side: legs for side, (legs, _) in wished.items()}, plan.order, money)
        short = self.low_balance
        for side, (legs, quote) in wished.items():
            short = short or paid[side] != legs
            self._settle(plan, side, paid[side], quote if paid[side] or not legs else Skipped(Why.SHORT_OF_MONEY))
        if short and self.params.position_recycling:
            self._recycle(plan)
        return plan

    def _pay(self, wished: dict[Side, tuple[Leg, ...]], order: tuple[Side, Side], money: int) -> dict[Side, tuple[Leg, ...]]:
        """Return the legs that money can pay: the first level of both sides before the second of either."""
        paid: dict[Side, tuple[Leg, ...]] = dict.fromkeys(order, ())
        levels = {side: [tuple(legs) for _, legs in groupby(wished[side], key=lambda leg: leg.yes_price)] for side in order}
        for both in zip_longest(*(levels[side] for side in order), fillvalue=()):
            for side, legs in zip(order, both, strict=True):
                now = afford(self.desk.payable(legs), money, self.desk.market.min_size, shrink=self.params.balance_aware_quoting)
                money -= sum(leg.cost for leg in now)
                paid[side] += now
        return paid

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
        net_room = self.caps.net_room(side, self.stand)
        if size < self.desk.market.min_size:
            why = Why.NET_CAP
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
            most = Shares(min(size, net_room))
            routed = route(side, Price(at * self.book.tick), most, room, stock, self.desk.market.min_size)
            taken = sum(leg.size for leg in routed)
            room, net_room = Shares(max(0, room - taken)), Shares(net_room - taken)
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
        """Capital is short: sell stock at the touch where that is `recycle_profit_threshold` above its cost, unless the quote is better."""
        position = self.account.positions[self.desk.place]
        for side in Side:
            owned = _owned(side)
            stock = Shares(min(self.desk.stock(owned, self.account), self.caps.net_room(side, self.stand)))
            if stock < self.desk.market.min_size:
                continue
            at = self._join(side)
            price = at * self.book.tick
            cost = position.cost(owned) * units.ONE / position.held(owned)
            # The noise of the floats is far below a millionth.
            if yes_price(owned, price) < cost * (1 + self.params.recycle_profit_threshold) - 0.001:
                continue
            if not plan.legs[side] or (price - plan.legs[side][0].yes_price) * side.sign > 0:
                self._sell(plan, side, at, stock, ev.Cause.RECYCLE)

    def _join(self, side: Side) -> int:
        """Return the touch of a side, or the nearest tick that is not through fair value."""
        if side is Side.SELL:
            return max(self.book.best_ask, self.closest[side])
        return min(self.book.best_bid, self.closest[side])

    def _sell(self, plan: Plan, side: Side, at: int, stock: Shares, cause: ev.Cause) -> None:
        if not 1 <= at < self.book.top or not self.book.queue_known(side is Side.BUY, at):
            return
        legs = self.desk.payable(route(side, Price(at * self.book.tick), stock, Shares(0), stock, self.desk.market.min_size))
        if not legs:
            return
        self._settle(plan, side, legs, plan.quotes[side])
        plan.rebalance = ev.Rebalance(market=self.desk.place, cause=cause, outcome=legs[0].outcome, price=legs[0].price, size=legs[0].size)


def _owned(side: Side) -> Outcome:
    """Return the token that a side sells: YES for an ask, NO for a bid."""
    return Outcome.YES if side is Side.SELL else Outcome.NO
