"""Planner: how much to quote where in one market at one moment, by which tokens, with which money.

Pure arithmetic over the desk, the account, the caps and the money the maker hands in. Where to quote is `quoting`'s opinion, how
far limits go is `risk`'s; here they meet. Called by `maker` alone, tens of thousands of times an hour of tape: it makes few
objects, and asks nothing twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import Self

from mmtools import units
from mmtools.trading import events as ev
from mmtools.trading.desk import Desk
from mmtools.trading.ledger import Account
from mmtools.trading.market import Outcome, Quote, Side, Skipped, Why, yes_price
from mmtools.trading.orders import ORDINARY, Keep, Leg, afford, route, stretched
from mmtools.trading.params import FairValue
from mmtools.trading.quoting import MODELS, NO_ADJUSTMENTS, Adjustments, Inputs, Rung, Snapped, Unsnapped, adjusted, closest, ladder, snap
from mmtools.trading.regime import Regime, taper
from mmtools.trading.rewards import Farming, adjusted_mid, book_scores, farmed_half_spread
from mmtools.trading.risk import Caps, Stand
from mmtools.units import Price, Shares, Usdc

_BID_FIRST, _ASK_FIRST = (Side.BUY, Side.SELL), (Side.SELL, Side.BUY)
_SKIPPED = {why: Skipped(why) for why in Why}

_PLANS_KEPT = 8
"""Per market: enough for a touch that goes to and fro. Each fill makes all of them old."""

Legs = tuple[Leg, ...]
Facts = tuple[int | float | None, ...]


@dataclass(slots=True)
class Plan:
    """What is wanted on both sides, legs or why not, and the numbers behind it. One that was made is kept and never changed."""

    order: tuple[Side, Side] = _BID_FIRST
    legs: dict[Side, Legs] = field(default_factory=lambda: {Side.BUY: (), Side.SELL: ()})
    """Of every level, best level first."""
    quotes: dict[Side, Quote | Skipped] = field(default_factory=dict)
    sides: dict[Side, ev.SideNumbers] = field(default_factory=dict)
    """How each side came to its size; their wishes are those of the moment of planning."""
    closest: dict[Side, int] = field(default_factory=dict)
    """The prices in YES terms, in millionths, beyond which an order would stand through fair value; empty where nothing is wanted."""
    money: int = 0
    rebalance: ev.Rebalance | None = None

    @classmethod
    def nothing(cls, why: Why) -> Self:
        return cls(quotes={Side.BUY: _SKIPPED[why], Side.SELL: _SKIPPED[why]})

    def sold(self, outcome: Outcome) -> Shares:
        """Return how much of a token the plan wants to sell."""
        legs = (leg for side in Side for leg in self.legs[side])
        return Shares(sum(leg.size for leg in legs if leg.side is Side.SELL and leg.outcome is outcome))

    def decision(self, desk: Desk, account: Account, now_ms: int, thought: ev.Thought | None) -> ev.Decision:
        """Return the plan as journals show it; thought: what it came from, None where a gate said no."""
        view = desk.view
        book = view.book
        return ev.Decision(
            at_ms=now_ms,
            bid=self.quotes[Side.BUY],
            ask=self.quotes[Side.SELL],
            best_bid=Price(book.best_bid * book.tick) if book.best_bid else None,
            best_ask=Price(book.best_ask * book.tick) if book.best_ask < book.top else None,
            mid=view.mark,
            tick=book.tick,
            regime=desk.watch.stance.regime,
            net=account.positions[desk.place].net,
            thought=thought,
            cause=None if self.rebalance is None else self.rebalance.cause,
            money=Usdc(self.money),
        )


class Planner:
    """Plans one market at one moment; `plan` is the way in."""

    __slots__ = (
        "account", "book", "caps", "closest", "desk", "fair_value", "farming", "inputs", "low_balance", "min_size", "net", "now_ms",
        "params", "sigma_long", "sigma_short", "stand", "stock", "taper", "thought", "tick", "view",
    )  # fmt: skip

    def __init__(self, desk: Desk, account: Account, caps: Caps, *, elsewhere: Usdc, low_balance: bool, now_ms: int) -> None:
        position = account.positions[desk.place]
        self.desk, self.account, self.low_balance, self.now_ms = desk, account, low_balance, now_ms
        self.params, self.view, self.min_size = desk.params, desk.view, desk.market.min_size
        self.book = book = desk.view.book
        self.tick = book.tick
        self.stand = Stand(yes=position.yes, no=position.no, cost=Usdc(position.cost_yes + position.cost_no), elsewhere=elsewhere)
        self.net = position.yes - position.no
        self.taper = taper(desk.market, desk.params, now_ms)
        self.caps = caps.tapered(self.taper)
        self.inputs = self._inputs(now_ms)
        highest, lowest = closest(self.inputs.fair)
        self.closest = {Side.BUY: highest, Side.SELL: lowest}
        """The prices, in ticks, that are not through fair value."""
        self.stock = desk.stock(account)
        self.farming: Farming | None = None
        self.thought: ev.Thought | None = None
        """What the plan came from, once there is one."""

    def plan(self, money: Usdc) -> Plan:
        """Return what to want: the side that reduces |net| is paid first, then the bid."""
        model = MODELS[self.params.model](self.inputs, self.params)
        adjustments = self._adjustments(model)
        wish = adjusted(model, adjustments)
        if self.desk.watch.stance.regime is Regime.REDUCE_ONLY:
            self._wind_down(plan := self._blank(money))
        else:
            plan = self._planned(model, wish, money)
        self.thought = ev.Thought(
            self.params.model,
            self.fair_value,
            self.sigma_short,
            self.sigma_long,
            self.inputs,
            model,
            adjustments,
            wish,
            self.desk.toxicity.evidence(self.now_ms, self.tick),
            None if self.farming is None else self.farming.reason,
            self.taper,
            self.desk.watch.concession(self.now_ms),
            plan.sides.get(Side.BUY),
            plan.sides.get(Side.SELL),
        )
        return plan

    def _planned(self, model: Unsnapped, wish: Unsnapped, money: Usdc) -> Plan:
        """Return what limits and money leave of a wish. Touches come back, and sides that are gone are asked for again: where all that a
        plan comes from is as it was, it is the plan that was made then.
        """
        snapped, plans = snap(wish, self.inputs), self.desk.plans
        facts = self._facts(snapped, money)
        plan = None if facts is None else plans.get(facts)
        if plan is None:
            plan = self._blank(money)
            short = self._quote(plan, snapped, model, wish, money)
            if facts is not None and not short:
                if len(plans) >= _PLANS_KEPT:
                    plans.clear()
                plans[facts] = plan
        return plan

    def _blank(self, money: Usdc) -> Plan:
        closest = {Side.BUY: self.closest[Side.BUY] * self.tick, Side.SELL: self.closest[Side.SELL] * self.tick}
        return Plan(order=_ASK_FIRST if self.net > 0 else _BID_FIRST, closest=closest, money=money)

    def _facts(self, snapped: Snapped, money: Usdc) -> Facts | None:
        """Return all that a plan comes from, as long as a side is one order and nothing is short or was refused; else None.

        Not in it: params, the market's minimum and our caps, which never change; the rungs, which the tick decides.
        """
        rungs, book, stand, bid, ask = self.desk.rungs(), self.book, self.stand, snapped.bid, snapped.ask
        if len(rungs) > 1 or rungs[0].near is not None or self.desk.refused or self.low_balance:
            return None
        event = self.caps.event is not None
        return (
            bid,
            ask,
            self.closest[Side.BUY],
            self.closest[Side.SELL],
            bid is None or book.queue_known(True, bid),
            ask is None or book.queue_known(False, ask),
            self.tick,
            stand.yes,
            stand.no,
            self.stock[Outcome.YES],
            self.stock[Outcome.NO],
            money,
            self.taper,
            stand.cost if event else 0,
            stand.elsewhere if event else 0,
        )

    def _quote(self, plan: Plan, snapped: Snapped, model: Unsnapped, wish: Unsnapped, money: Usdc) -> bool:
        """Fill the plan in; return whether money is short. model: the quotes before adjustments. wish: those after them."""
        at = model.reservation
        bids, no_bid = self._wish(plan, Side.BUY, snapped.bid, wish.bid, at + wish.bid - model.bid)
        asks, no_ask = self._wish(plan, Side.SELL, snapped.ask, wish.ask, at + wish.ask - model.ask)
        wished, otherwise = {Side.BUY: bids, Side.SELL: asks}, {Side.BUY: no_bid, Side.SELL: no_ask}
        paid = self._pay(wished, plan.order, money)
        short = self.low_balance
        for side in plan.order:
            legs, affordable = wished[side], paid[side]
            short = short or affordable != legs
            self._settle(plan, side, affordable, otherwise[side] if affordable or not legs else _SKIPPED[Why.SHORT_OF_MONEY])
        if short and self.params.position_recycling:
            self._recycle(plan)
        return short

    # ---- the model and what is changed about it

    def _inputs(self, now_ms: int) -> Inputs:
        view, book, end_ms = self.view, self.book, self.desk.market.end_ms
        mid = (book.best_bid + book.best_ask) / 2
        short, long = self.sigma_short, self.sigma_long = view.volatility(now_ms), view.long_volatility(now_ms)
        tau_s = self.params.horizon_s
        if end_ms is not None:
            tau_s = max(0.0, min(tau_s, (end_ms - now_ms) / 1000))
        self.fair_value, fair = self._fair(mid)
        return Inputs(
            fair=fair,
            mid=mid,
            inventory=self.net / self.desk.order_size,
            # The higher of the short and the long view: a lull does not make a market safe.
            sigma=max(short or 0.0, long or 0.0),
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
        micro = self.view.micro_price() if wanted == "micro-price" else None
        return ("mid", mid) if micro is None else ("micro-price", micro)

    def _adjustments(self, model: Unsnapped) -> Adjustments:
        """Return what is changed about the model's quotes: for who trades with us, for rewards, for a trend."""
        toxicity = self.desk.toxicity.widening(self.now_ms, self.tick)
        if self.params.rewards_farming:
            self.farming = self._farm(model.half_spread + toxicity)
        trend = self.desk.watch.stance.trend
        if not (toxicity or trend or self.farming):
            return NO_ADJUSTMENTS
        rewards = 0.0 if self.farming is None else self.farming.tighten
        return Adjustments(toxicity=toxicity, rewards=rewards, trend=trend * self.params.trend_step_ticks)

    def _farm(self, half_spread: float) -> Farming:
        """Ask whether liquidity rewards pay for quoting nearer."""
        terms, book, view, now_ms = self.desk.market.rewards, self.book, self.view, self.now_ms
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

    # ---- limits

    def _wish(self, plan: Plan, side: Side, first: int | None, wish: float, bands_from: float) -> tuple[Legs, Skipped]:
        """Return the legs that limits allow on one side, money aside; and what the side is called when there are none.

        bands_from: where the margins of bands count from, in ticks: the reservation price, moved as far as adjustments moved the wish.
        """
        rungs, caps, bid = self.desk.rungs(), self.caps, side is Side.BUY
        net_room = caps.net_room(side, self.stand)
        size = self._size(side, rungs[0], net_room)
        stock = self.stock[Outcome.NO if bid else Outcome.YES]
        room, why = (Shares(0), Why.NO_LEGAL_PRICE) if first is None else caps.room(side, first * self.tick, self.stand, net_room)
        plan.sides[side] = ev.SideNumbers(wish, self.closest[side], first, size, room, why, net_room, stock)
        if first is None:
            return (), _SKIPPED[Why.NO_LEGAL_PRICE]
        if rungs[0].size < self.min_size:
            return (), _SKIPPED[Why.BELOW_MINIMUM]
        if size < self.min_size:
            why = caps.net_why
        if self.low_balance:
            room, why = Shares(0), Why.LOW_BALANCE
        if len(rungs) == 1 and rungs[0].near is None:
            if not self.book.queue_known(bid, first):
                return (), _SKIPPED[Why.UNKNOWN_QUEUE]
            wanted = size if size < net_room else net_room
            return route(side, Price(first * self.tick), wanted, room, stock, self.min_size), _SKIPPED[why]
        return self._ladder(side, ladder(side, first, wish, rungs), bands_from, room, net_room, stock, why)

    def _ladder(
        self, side: Side, prices: Sequence[int], bands_from: float, room: Shares, net_room: Shares, stock: Shares, why: Why
    ) -> tuple[Legs, Skipped]:
        """Return the legs of several rungs, or of one with a band; each takes from what limits and stock leave to the next."""
        rungs, bid = self.desk.rungs(), side is Side.BUY
        legs: Legs = ()
        for rung, at in zip(rungs, prices, strict=True):
            if not 1 <= at < self.book.top:
                break
            if not self.book.queue_known(bid, at):
                why = Why.UNKNOWN_QUEUE
                continue
            size = Shares(min(self._size(side, rung, net_room), net_room))
            keep = ORDINARY if rung.near is None or rung.far is None else self._band(side, rung, rung.near, rung.far, bands_from)
            routed = route(side, Price(at * self.tick), size, room, stock, self.min_size, keep=keep)
            for leg in routed:
                room, net_room = Shares(max(0, room - leg.size)), Shares(net_room - leg.size)
                if leg.side is Side.SELL:
                    stock = Shares(stock - leg.size)
            legs += routed
        return stretched(legs, net_room, room, stock), _SKIPPED[why]

    def _band(self, side: Side, rung: Rung, near: float, far: float, bands_from: float) -> Keep:
        """Return which resting order may serve as a rung that has a band."""
        one, other = (round((bands_from - margin * side.sign) * self.tick) for margin in (near, far))
        return Keep((min(one, other), max(one, other)), rung.down_to, rung.up_to)

    def _size(self, side: Side, rung: Rung, net_room: Shares) -> Shares:
        """Return the order size: the side that would add to inventory is made smaller the more of it there is."""
        if self.net * side.sign <= 0:
            # Beyond 0 it adds too: near the market's end no more than the taper allows.
            return rung.size if rung.size <= net_room else net_room
        return units.lots(rung.size * max(0, self.caps.net - abs(self.net)) // max(self.caps.net, 1))

    # ---- money

    def _pay(self, wished: Mapping[Side, Legs], order: tuple[Side, Side], money: int) -> Mapping[Side, Legs]:
        """Return the legs that money can pay: the first level of both sides before the second of either."""
        if not self.desk.refused:
            left = money
            for legs in wished.values():
                for leg in legs:
                    left -= leg.cost
            if left >= 0:
                return wished
        paid: dict[Side, Legs] = dict.fromkeys(order, ())
        levels = {side: [tuple(legs) for _, legs in groupby(wished[side], key=lambda leg: leg.yes_price)] for side in order}
        for both in zip_longest(*(levels[side] for side in order), fillvalue=()):
            for side, legs in zip(order, both, strict=True):
                now = afford(self.desk.payable(legs), money, self.min_size, shrink=self.params.balance_aware_quoting)
                money -= sum(leg.cost for leg in now)
                paid[side] += now
        return paid

    def _settle(self, plan: Plan, side: Side, legs: Legs, otherwise: Quote | Skipped) -> None:
        plan.legs[side] = legs
        if not legs:
            plan.quotes[side] = otherwise
            return
        at = legs[0].yes_price
        size = legs[0].size if len(legs) == 1 else Shares(sum(leg.size for leg in legs if leg.yes_price == at))
        plan.quotes[side] = Quote(at, size)

    # ---- stock that is sold for its own sake

    def _wind_down(self, plan: Plan) -> None:
        """Quote only the side that sells what we own of the larger token: at the touch first, for a tick less the longer it takes.

        The exit may stand through fair value, which no quote may: to wait for a better price is what it gives up. It never takes.
        """
        for side in Side:
            plan.quotes[side] = _SKIPPED[Why.REDUCE_ONLY]
        if self.net == 0:
            return
        side = Side.SELL if self.net > 0 else Side.BUY
        at = self._join(side)
        concession = self.desk.watch.concession(self.now_ms)
        if concession:
            last = self.book.best_bid + 1 if side is Side.SELL else self.book.best_ask - 1
            at = max(at - concession, last) if side is Side.SELL else min(at + concession, last)
            plan.closest.clear()
        stock = Shares(min(self.stock[_owned(side)], abs(self.net)))
        self._sell(plan, side, at, stock, ev.Cause.REDUCE_ONLY)

    def _recycle(self, plan: Plan) -> None:
        """Capital is short: sell stock at the touch where that is `recycle_profit_threshold` above its cost, unless the quote is better."""
        position = self.account.positions[self.desk.place]
        for side in Side:
            owned = _owned(side)
            stock = Shares(min(self.stock[owned], self.caps.net_room(side, self.stand)))
            if stock < self.min_size:
                continue
            at = self._join(side)
            price = at * self.tick
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
        legs = self.desk.payable(route(side, Price(at * self.tick), stock, Shares(0), stock, self.min_size))
        if not legs:
            return
        self._settle(plan, side, legs, plan.quotes[side])
        plan.rebalance = ev.Rebalance(market=self.desk.place, cause=cause, outcome=legs[0].outcome, price=legs[0].price, size=legs[0].size)


def _owned(side: Side) -> Outcome:
    """Return the token that a side sells: YES for an ask, NO for a bid."""
    return Outcome.YES if side is Side.SELL else Outcome.NO
