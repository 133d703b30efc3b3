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
from mmtools.trading.markouts import Markouts, Toxicity
from mmtools.trading.orders import ORDINARY, Keep, Leg, Working, afford, route, stretched
from mmtools.trading.params import FairValue, Params
from mmtools.trading.quoting import MODELS, Adjustments, Inputs, Rung, Unsnapped, adjusted, closest, ladder, rungs, snap
from mmtools.trading.regime import Regime, Watch, taper
from mmtools.trading.rewards import Farming, adjusted_mid, book_scores, farmed_half_spread
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
        self.markouts = Markouts()
        self.toxicity = Toxicity(params)
        self.watch = Watch(params)
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
    numbers: ev.Numbers | None = None
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
        return ev.Decision(
            at_ms=now_ms,
            bid=self.quotes[Side.BUY],
            ask=self.quotes[Side.SELL],
            best_bid=Price(book.best_bid * book.tick) if book.best_bid else None,
            best_ask=Price(book.best_ask * book.tick) if book.best_ask < book.top else None,
            mid=view.mark,
            tick=book.tick,
            regime=desk.watch.stance.regime,
            net=position.net,
            numbers=self.numbers,
            cause=None if self.rebalance is None else self.rebalance.cause,
            money=Usdc(self.money),
        )


class Planner:
    """Plans one market at one moment; `plan` is the way in."""

    def __init__(self, desk: Desk, account: Account, caps: Caps, *, elsewhere: Usdc, low_balance: bool, now_ms: int) -> None:
        position = account.positions[desk.place]
        self.desk, self.account, self.low_balance, self.now_ms = desk, account, low_balance, now_ms
        self.params, self.book = desk.params, desk.view.book
        self.net = position.net
        self.stand = Stand(yes=position.yes, no=position.no, cost=Usdc(position.cost_yes + position.cost_no), elsewhere=elsewhere)
        self.taper = taper(desk.market, desk.params, now_ms)
        self.caps = caps.tapered(self.taper)
        self.inputs = self._inputs(now_ms)
        highest, lowest = closest(self.inputs.fair)
        self.closest = {Side.BUY: highest, Side.SELL: lowest}
        """The prices, in ticks, that are not through fair value."""
        self.sides: dict[Side, ev.SideNumbers] = {}
        self.farming: Farming | None = None

    def plan(self, money: Usdc) -> Plan:
        """Return what to want: the side that reduces |net| is paid first, then the bid."""
        first = Side.SELL if self.net > 0 else Side.BUY
        model = MODELS[self.params.model](self.inputs, self.params)
        adjustments = self._adjustments(model)
        plan = Plan(order=(first, first.opposite), money=money)
        plan.closest = {side: at * self.book.tick for side, at in self.closest.items()}
        if self.desk.watch.stance.regime is Regime.REDUCE_ONLY:
            self._wind_down(plan)
        else:
            self._quote(plan, model, adjusted(model, adjustments), money)
        plan.numbers = self._numbers(model, adjustments)
        return plan

    def _quote(self, plan: Plan, model: Unsnapped, wish: Unsnapped, money: Usdc) -> None:
        """model: the quotes before adjustments. wish: those after them."""
        snapped = snap(wish, self.inputs)
        wished = {
            Side.BUY: self._wish(Side.BUY, snapped.bid, wish.bid, model.reservation + wish.bid - model.bid),
            Side.SELL: self._wish(Side.SELL, snapped.ask, wish.ask, model.reservation + wish.ask - model.ask),
        }
        paid = self._pay({side: legs for side, (legs, _) in wished.items()}, plan.order, money)
        short = self.low_balance
        for side in plan.order:
            legs, quote = wished[side]
            short = short or paid[side] != legs
            self._settle(plan, side, paid[side], quote if paid[side] or not legs else Skipped(Why.SHORT_OF_MONEY))
        if short and self.params.position_recycling:
            self._recycle(plan)

    def _adjustments(self, model: Unsnapped) -> Adjustments:
        """Return what is changed about the model's quotes: for who trades with us, for rewards, for a trend."""
        toxicity = self.desk.toxicity.widening(self.now_ms, self.book.tick)
        if self.params.rewards_farming:
            self.farming = self._farm(model.half_spread + toxicity)
        return Adjustments(
            toxicity=toxicity,
            rewards=0.0 if self.farming is None else self.farming.tighten,
            trend=self.desk.watch.stance.trend * self.params.trend_step_ticks,
        )

    def _farm(self, half_spread: float) -> Farming:
        """Ask whether liquidity rewards pay for quoting nearer."""
        terms, book, view, now_ms = self.desk.market.rewards, self.book, self.desk.view, self.now_ms
        others = (0.0, 0.0)
        if terms is not None:
            mid = adjusted_mid(book, terms.min_size)
            others = book_scores(book, self.inputs.mid if mid is None else mid, terms)
        market_half_spread = (book.best_ask - book.best_bid) / 2
        markout = self.desk.toxicity.mean(now_ms, book.tick)
        return farmed_half_spread(
            half_spread=half_spread,
            size=self.desk.rungs()[0].size,
            terms=terms,
            tick=book.tick,
            others=others,
            flow_per_s=view.flow(now_ms),
            decay_per_tick=self.params.order_arrival_decay_per_tick,
            market_half_spread=market_half_spread,
            # Our fills earn about the touch, and then what the market does: what is missing was lost to those who knew.
            adverse_ticks=None if markout is None else max(0.0, market_half_spread - markout),
        )

    def _numbers(self, model: Unsnapped, adjustments: Adjustments) -> ev.Numbers:
        view, inputs = self.desk.view, self.inputs
        return ev.Numbers(
            model=self.params.model,
            fair=inputs.fair,
            fair_value=self.fair_value,
            mid=inputs.mid,
            inventory=inputs.inventory,
            sigma_short=self.sigma_short,
            sigma_long=self.sigma_long,
            sigma=inputs.sigma,
            tau_s=inputs.tau_s,
            skew=inputs.fair - model.reservation,
            reservation=model.reservation,
            model_bid=model.bid,
            model_ask=model.ask,
            toxicity=adjustments.toxicity,
            toxicity_zscore=self.desk.toxicity.zscore(self.now_ms, view.book.tick),
            rewards=adjustments.rewards,
            rewards_reason=None if self.farming is None else self.farming.reason,
            trend=adjustments.trend,
            taper=self.taper,
            concession=self.desk.watch.concession(self.now_ms),
            bid=self.sides.get(Side.BUY),
            ask=self.sides.get(Side.SELL),
        )

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
        self.sigma_short, self.sigma_long = view.volatility(now_ms), view.long_volatility(now_ms)
        tau_s = self.params.horizon_s
        if market.end_ms is not None:
            tau_s = max(0.0, min(tau_s, (market.end_ms - now_ms) / 1000))
        self.fair_value, fair = self._fair(mid)
        return Inputs(
            fair=fair,
            mid=mid,
            inventory=self.net / self.desk.order_size,
            # The higher of the short and the long view: a lull does not make a market safe.
            sigma=max(self.sigma_short or 0.0, self.sigma_long or 0.0),
            tau_s=tau_s,
            best_bid=book.best_bid,
            best_ask=book.best_ask,
            top=book.top,
        )

    def _fair(self, mid: float) -> tuple[FairValue, float]:
        """Return the fair value in ticks and which one it is."""
        wanted = self.params.fair_value
        if wanted == "weighted-mid":
            return wanted, self.book.weighted_mid()
        micro = self.desk.view.micro_price() if wanted == "micro-price" else None
        return ("mid", mid) if micro is None else ("micro-price", micro)

    def _wish(self, side: Side, first: int | None, wish: float, bands_from: float) -> tuple[tuple[Leg, ...], Quote | Skipped]:
        """Return the legs that limits allow on one side, money aside; and what the side is called when there are none.

        bands_from: where the margins of bands count from, in ticks: the reservation price, moved as far as adjustments moved the wish.
        """
        ladder_of = self.desk.rungs()
        size = self._size(side, ladder_of[0])
        net_room = self.caps.net_room(side, self.stand)
        stock = self.desk.stock(_owned(side), self.account)
        room, why = Shares(0), Why.NO_LEGAL_PRICE
        if first is not None:
            room, why = self.caps.room(side, first * self.book.tick, self.stand)
        self.sides[side] = ev.SideNumbers(
            wish=wish, closest=self.closest[side], first=first, size=size, room=room, cap=why, net_room=net_room, stock=stock
        )
        if first is None:
            return (), Skipped(Why.NO_LEGAL_PRICE)
        if ladder_of[0].size < self.desk.market.min_size:
            return (), Skipped(Why.BELOW_MINIMUM)
        if size < self.desk.market.min_size:
            why = self.caps.net_why
        if self.low_balance:
            room, why = Shares(0), Why.LOW_BALANCE
        legs: list[Leg] = []
        for rung, at in zip(ladder_of, ladder(side, first, wish, ladder_of), strict=True):
            if not 1 <= at < self.book.top:
                break
            if not self.book.queue_known(side is Side.BUY, at):
                why = Why.UNKNOWN_QUEUE
                continue
            size = Shares(min(self._size(side, rung), net_room))
            keep = self._keep(side, rung, bands_from)
            routed = route(side, Price(at * self.book.tick), size, room, stock, self.desk.market.min_size, keep=keep)
            taken = sum(leg.size for leg in routed)
            room, net_room = Shares(max(0, room - taken)), Shares(net_room - taken)
            stock = Shares(stock - sum(leg.size for leg in routed if leg.side is Side.SELL))
            legs += routed
        return stretched(legs, net_room, room, stock), Skipped(why)

    def _keep(self, side: Side, rung: Rung, bands_from: float) -> Keep:
        """Return which resting order may serve as a rung."""
        if rung.near is None or rung.far is None:
            return ORDINARY
        near, far = (round((bands_from - margin * side.sign) * self.book.tick) for margin in (rung.near, rung.far))
        return Keep((min(near, far), max(near, far)), rung.down_to, rung.up_to)

    def _size(self, side: Side, rung: Rung) -> Shares:
        """Return the order size: the side that would add to inventory is made smaller the more of it there is."""
        if self.net * side.sign <= 0:
            # Beyond 0 it adds too: near the market's end no more than the taper allows.
            return Shares(min(rung.size, self.caps.net_room(side, self.stand)))
        return units.lots(rung.size * max(0, self.caps.net - abs(self.net)) // max(self.caps.net, 1))

    def _settle(self, plan: Plan, side: Side, legs: tuple[Leg, ...], otherwise: Quote | Skipped) -> None:
        plan.legs[side] = legs
        if legs:
            at = legs[0].yes_price
            plan.quotes[side] = Quote(at, Shares(sum(leg.size for leg in legs if leg.yes_price == at)))
        else:
            plan.quotes[side] = otherwise

    def _wind_down(self, plan: Plan) -> None:
        """Quote only the side that sells what we own of the larger token: at the touch first, for a tick less the longer it takes.

        The exit may stand through fair value, which no quote may: to wait for a better price is what it gives up. It never takes.
        """
        for side in Side:
            plan.quotes[side] = Skipped(Why.REDUCE_ONLY)
        if self.net == 0:
            return
        side = Side.SELL if self.net > 0 else Side.BUY
        at = self._join(side)
        concession = self.desk.watch.concession(self.now_ms)
        if concession:
            last = self.book.best_bid + 1 if side is Side.SELL else self.book.best_ask - 1
            at = max(at - concession, last) if side is Side.SELL else min(at + concession, last)
            plan.closest.clear()
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
