"""Maker: one Account and one Desk per market; an event in, actions out. The same maker quotes in replay, on paper and live.

`on` is the whole strategy: it keeps the books of what was sent and what came back, asks `risk` whether, `quoting` where,
`planner` how much, `orders` by which tokens, and compares with what rests. Called by `runs.engine`, which carries the
actions. No files, no clock, no chance.
"""

from collections.abc import Sequence

from mmtools.trading import events as ev
from mmtools.trading.desk import Desk
from mmtools.trading.ledger import Account
from mmtools.trading.market import Fill, Order, Outcome, Quote, Side, Why
from mmtools.trading.orders import SLACK, Leg, State, Working, diff
from mmtools.trading.params import Params
from mmtools.trading.planner import Plan, Planner
from mmtools.trading.regime import Regime, taper
from mmtools.trading.risk import Caps, Limits, Requests, gate, in_gap, unknown_facts
from mmtools.trading.signals import MarketView
from mmtools.units import ONE, Shares, Usdc, of, pay, text

NOTE_EVERY_MS = 60_000


class Maker:
    """Raises ValueError when an event speaks of an order that was never placed."""

    def __init__(self, views: Sequence[MarketView], params: Params, account: Account, *, facts_required: bool = False) -> None:
        """facts_required: whether a market whose source leaves out what a gate asks for is not quoted (live feeds)."""
        self.account = account
        self.params = params
        self.desks = [Desk(place, view, params) for place, view in enumerate(views)]
        self.limits = Limits(params)
        self.requests = Requests(params.max_error_rate)
        self.latched: Why | None = None
        self.reduce_only = False
        self.decided = 0
        """Sides that were quoted, counted per decision."""
        self.skipped: dict[Why, int] = {}
        self.orders_made = 0
        self._caps = Caps(params)
        self._min_balance = of(params.min_balance_to_quote)
        self._facts_required = facts_required
        self._started = False
        self._desk_of: dict[str, Desk] = {}

    def on(self, event: ev.Event, now_ms: int) -> tuple[ev.Action, ...]:
        """Take notice of an event; return what to do, in order."""
        match event:
            case ev.Tick():
                return tuple(self._tick(now_ms))
            case ev.TouchMoved(market):
                return tuple(self._touch_moved(self.desks[market], now_ms))
            case ev.OrderAccepted(key):
                self._accepted(key, now_ms)
                return ()
            case ev.OrderRejected(key, reason):
                return tuple(self._rejected(key, reason, now_ms))
            case ev.OrderGone(key):
                return tuple(self._gone(key, now_ms))
            case ev.FillReported():
                return tuple(self._filled(event, now_ms))
            case ev.FinalityChanged(trade_id, key, failed):
                (self.account.reverse if failed else self.account.finalise)(trade_id, key)
                self._balance_changed()
                return ()
            case ev.Merged(market, size):
                self.account.merge(market, size)
                self.desks[market].merging = Shares(0)
                self._balance_changed()
                return tuple(self._quote([self.desks[market]], now_ms))
            case ev.MarketResolved(market, payout):
                judged = self._judge(self.desks[market], now_ms)
                self.account.resolve(market, payout)
                self._balance_changed()
                return (*judged, *self._quote([self.desks[market]], now_ms))
            case ev.TickSizeChanged(market):
                return tuple(self._quote([self.desks[market]], now_ms))
            case ev.FeedLost(market):
                desk = self.desks[market]
                return (*self._pause(desk, Why.DATA_GAP), *self._quote([desk], now_ms))
            case ev.FeedRestored(market):
                return tuple(self._quote([self.desks[market]], now_ms))
            case ev.HaltAsked(_, why, reduce_only):
                if reduce_only:
                    self.reduce_only = True
                    return tuple(self._quote(self.desks, now_ms))
                return tuple(self._halt(Why.KILL_LATCHED, why, now_ms))
            case ev.Cleared():
                self.latched, self.reduce_only = None, False
                self.limits.clear(self.account.total())
                self.requests.clear()
                return tuple(self._quote(self.desks, now_ms))

    # ---- time and limits

    def _tick(self, now_ms: int) -> list[ev.Action]:
        actions: list[ev.Action] = []
        if not self._started:
            self._started = True
            for desk in self.desks:
                missing = unknown_facts(desk.market)
                if missing:
                    so = "only an unknown event passes" if self._facts_required else "the gates that ask for it pass"
                    actions.append(ev.Warn(desk.place, f"the feed does not say: {', '.join(missing)}; {so}"))
        for desk in self.desks:
            actions += self._judge(desk, now_ms)
            actions += self._watch_gap(desk, now_ms)
            desk.look_again()
        return actions + self._quote(self.desks, now_ms)

    def _judge(self, desk: Desk, now_ms: int) -> list[ev.Action]:
        """Measure the fills whose time has come; call it before the mark moves. In a gap, and once it is over, nobody knows the mid."""
        position = self.account.positions[desk.place]
        # One that the last tick saw may have lasted until just now, whatever this frame says.
        gap_at_tick = desk.paused is Why.DATA_GAP and desk.healthy_since_ms is None
        known = position.resolved is None and not (gap_at_tick or in_gap(desk.view, self.params, now_ms))
        mark = position.mark if known else None
        actions: list[ev.Action] = []
        for measured in desk.markouts.due(now_ms, mark):
            if measured.per_share is not None and measured.horizon_s == desk.toxicity.horizon_s:
                desk.toxicity.add(measured.per_share, now_ms)
            actions.append(ev.Judged(measured))
        return actions

    def _halt(self, why: Why, detail: str, now_ms: int) -> list[ev.Action]:
        self.latched = why
        return [*self._decide(self.desks, now_ms), ev.Halt(why, detail)]

    def _watch_gap(self, desk: Desk, now_ms: int) -> list[ev.Action]:
        if desk.view.resolved:
            return []
        if in_gap(desk.view, self.params, now_ms):
            return self._pause(desk, Why.DATA_GAP)
        if desk.paused is None:
            return []
        if desk.healthy_since_ms is None:
            desk.healthy_since_ms = now_ms
        if now_ms - desk.healthy_since_ms < self.params.resume_after_s * 1000:
            return []
        why, desk.paused = desk.paused, None
        return [ev.Resume(desk.place, why)]

    def _pause(self, desk: Desk, why: Why) -> list[ev.Action]:
        desk.healthy_since_ms = None
        if desk.paused is not None:
            return []
        desk.paused = why
        return [ev.Pause(desk.place, why)]

    # ---- what the venue says

    def _accepted(self, key: str, now_ms: int) -> None:
        self.requests.note(now_ms, failed=False)
        desk = self._desk_of.get(key)
        if desk is not None:
            work = desk.working[key]
            work.accepted_ms = now_ms
            if work.state is State.SENT:
                work.state = State.LIVE

    def _rejected(self, key: str, reason: ev.Rejection, now_ms: int) -> list[ev.Action]:
        self.requests.note(now_ms, failed=reason is not ev.Rejection.POST_ONLY_CROSS)
        desk = self._desk_of.get(key)
        if desk is not None:
            desk.refuse(desk.working[key].order, reason)
        return self._gone(key, now_ms)

    def _gone(self, key: str, now_ms: int) -> list[ev.Action]:
        desk = self.forget(key)
        return [] if desk is None else self._quote([desk], now_ms)

    def _balance_changed(self) -> None:
        for desk in self.desks:
            desk.balance_changed()

    def forget(self, key: str) -> Desk | None:
        """Free what an order held that rests no more; return its desk, None when the order was not known."""
        desk = self._desk_of.pop(key, None)
        if desk is not None:
            self.account.release(key)
            del desk.working[key], desk.basis[key]
        return desk

    def _filled(self, event: ev.FillReported, now_ms: int) -> list[ev.Action]:
        desk = self._desk_of.get(event.key)
        if desk is None or desk.view.mark is None:
            raise ValueError(f"a fill of order {event.key}, which was not placed here")
        work = desk.working[event.key]
        order = work.order
        judged = self._judge(desk, now_ms)  # the account takes the fill's mark for its own
        fill = Fill(
            trade_id=event.trade_id, order_key=event.key, market=desk.place, outcome=order.outcome, side=order.side,
            price=event.price, size=event.size, at_ms=now_ms, mark=desk.view.mark, fee=event.fee,
        )  # fmt: skip
        if not self.account.apply(fill, final=event.final):
            return judged
        work.left = Shares(work.left - event.size)
        desk.fills += 1
        desk.last_fill_ms = now_ms
        desk.markouts.filled(fill)
        self._balance_changed()
        booked = ev.Filled(
            fill=fill, order_size=order.size, sent_ms=work.sent_ms, accepted_ms=work.accepted_ms, decision=desk.basis[event.key]
        )
        return [*judged, booked, *self._quote([desk], now_ms)]

    def _touch_moved(self, desk: Desk, now_ms: int) -> list[ev.Action]:
        judged = self._judge(desk, now_ms)
        if desk.view.fault is None and desk.view.mark is not None:
            self.account.mark(desk.place, desk.view.mark)
        desk.look_again()
        return judged + self._quote([desk], now_ms)

    # ---- quoting

    def _quote(self, desks: Sequence[Desk], now_ms: int) -> list[ev.Action]:
        """Look at the limits of the run first: a broken one halts it, and nothing is placed. Else decide these markets anew."""
        breach = self.limits.check(self.account.total(), now_ms) or self.requests.check(now_ms)
        if breach is not None and self.latched is None:
            return self._halt(breach.why, breach.detail, now_ms)
        return self._decide(desks, now_ms)

    def _decide(self, desks: Sequence[Desk], now_ms: int) -> list[ev.Action]:
        if len(desks) == 1:
            return self._decide_one(desks[0], now_ms)
        return [action for desk in desks for action in self._decide_one(desk, now_ms)]

    def _decide_one(self, desk: Desk, now_ms: int) -> list[ev.Action]:
        """Decide both sides of a market and change what rests accordingly."""
        actions = self._look_at_regime(desk, now_ms)
        why = self._blocked(desk, now_ms)
        wanted, thought = (Plan.nothing(why), None) if why is not None else self._plan(desk, now_ms)
        decision = desk.decision = wanted.decision(desk, self.account, now_ms, thought)
        self._count(decision)
        first, second = wanted.order
        changes = self._change(desk, first, wanted, decision, now_ms)
        changes += self._change(desk, second, wanted, decision, now_ms)
        actions += self._note(desk, decision, now_ms, acting=bool(changes))
        actions += self._rebalanced(desk, wanted.rebalance)
        actions += changes
        if why is None:
            actions += self._merge(desk, wanted)
        return actions

    def _look_at_regime(self, desk: Desk, now_ms: int) -> list[ev.Action]:
        before = desk.watch.stance
        halted = None if self.latched is None else self.latched.value
        if not desk.watch.look(desk.view, now_ms, halted=halted, exit_cause=self._exit_cause(desk, now_ms)):
            return []
        return [ev.RegimeChanged(desk.place, before, desk.watch.stance)]

    def _exit_cause(self, desk: Desk, now_ms: int) -> str | None:
        """Return why only what is owned may be sold, if so: a person said it, or the end is too near for anything else."""
        if self.reduce_only:
            return "asked for by hand"
        part = taper(desk.market, self.params, now_ms)
        if part < 1.0 and self._caps.net * part < desk.market.min_size:
            return "the market's end is near"
        return None

    def _blocked(self, desk: Desk, now_ms: int) -> Why | None:
        if self.latched is not None:
            return self.latched
        why = gate(desk.view, desk.market, self.params, now_ms, facts_required=self._facts_required)
        if desk.paused is not None:
            return Why.DATA_GAP if why is Why.DATA_GAP else Why.PAUSED
        if why is None and desk.watch.stance.regime is Regime.EVENT:
            return Why.EVENT
        return why

    def _plan(self, desk: Desk, now_ms: int) -> tuple[Plan, ev.Thought | None]:
        planner = Planner(
            desk,
            self.account,
            self._caps,
            elsewhere=self._elsewhere(desk),
            low_balance=self.account.cash < self._min_balance,
            now_ms=now_ms,
        )
        return planner.plan(self._money(desk)), planner.thought

    def _elsewhere(self, desk: Desk) -> Usdc:
        """Return what the event's other markets lose at worst; a market whose event is unknown stands alone."""
        event = desk.market.event
        if event is None or self._caps.event is None:
            return Usdc(0)
        others = (other for other in self.desks if other is not desk and other.market.event == event)
        return Usdc(sum(other.exposure(self.account) for other in others))

    def _money(self, desk: Desk) -> Usdc:
        """Return what this market may spend on resting buys: its share of all cash, as far as no other market holds it.

        Markets are served in the order of the config, an equal share each; one whose share cannot pay two minimum orders
        passes it on to the next.
        """
        carried = mine = 0
        sharing = [other for other in self.desks if other.open]
        for other in sharing:
            share = self.account.cash // len(sharing) + carried
            # A bid and an ask together reserve less than one USDC a share.
            carried = share if share < other.market.min_size else 0
            if other is desk:
                mine = share - carried
                break
        return Usdc(min(mine, self.account.free + self.account.resting_buys(desk.place)))

    def _change(self, desk: Desk, side: Side, wanted: Plan, decision: ev.Decision, now_ms: int) -> list[ev.Action]:
        working = [work for work in desk.working.values() if work.yes_side is side]
        changes = diff(
            wanted.legs[side],
            working,
            tick=desk.view.book.tick,
            reprice_after=self.params.reprice_after,
            closest=wanted.closest.get(side),
        )
        actions: list[ev.Action] = []
        for work in changes.cancel:
            work.state = State.CANCELLING
            self.requests.note(now_ms, failed=False)
            actions.append(ev.Cancel(work.order.key))
        for leg in changes.place:
            # What cannot be paid, sold or stood beside our own other side yet is asked for again when that has gone.
            # What the venue has just refused waits as well, so that a refusal never answers a refusal.
            if not self._fits(desk, leg) or desk.would_meet_own(leg) or (leg.outcome, leg.side) in desk.refused:
                continue
            self.orders_made += 1
            order = Order(key=f"o{self.orders_made}", market=desk.place, outcome=leg.outcome, side=leg.side, price=leg.price, size=leg.size)
            self.account.reserve(order)
            desk.working[order.key] = Working(order, order.size, State.SENT, now_ms)
            desk.basis[order.key] = decision
            self._desk_of[order.key] = desk
            actions.append(ev.Place(order))
        return actions

    def _fits(self, desk: Desk, leg: Leg) -> bool:
        if leg.side is Side.BUY:
            return leg.cost <= self.account.free
        return leg.size <= self.account.free_stock(desk.place, leg.outcome)

    def _rebalanced(self, desk: Desk, moved: ev.Rebalance | None) -> list[ev.Action]:
        """Tell of stock that is sold for its own sake, once per price."""
        before, desk.rebalancing = desk.rebalancing, moved
        told = before is not None and moved is not None and (before.cause, before.price) == (moved.cause, moved.price)
        return [] if moved is None or told else [moved]

    def _merge(self, desk: Desk, wanted: Plan) -> list[ev.Action]:
        """Merge pairs that no order needs, when cash is too short to buy both sides."""
        position = self.account.positions[desk.place]
        if position.yes < desk.market.min_size or position.no < desk.market.min_size:
            return []
        book = desk.view.book
        both = pay(ONE - (book.best_ask - book.best_bid) * book.tick, desk.order_size)
        if desk.merging or self.account.free >= both + SLACK:
            return []
        pairs = Shares(min(self._spare(desk, outcome, wanted) for outcome in Outcome))
        if pairs < desk.market.min_size:
            return []
        desk.merging = pairs
        self.account.lock_merge(desk.place, pairs)
        return [
            ev.Rebalance(market=desk.place, cause=ev.Cause.MERGE, outcome=None, price=None, size=pairs),
            ev.Merge(desk.place, pairs),
        ]

    def _spare(self, desk: Desk, outcome: Outcome, wanted: Plan) -> Shares:
        """Return the stock that no order sells, nor one that is wanted but waits for another to go."""
        free = self.account.free_stock(desk.place, outcome)
        return Shares(min(free, desk.stock(self.account)[outcome] - wanted.sold(outcome)))

    def _count(self, decision: ev.Decision) -> None:
        for side in (decision.bid, decision.ask):
            if isinstance(side, Quote):
                self.decided += 1
            else:
                self.skipped[side.why] = self.skipped.get(side.why, 0) + 1

    def _note(self, desk: Desk, decision: ev.Decision, now_ms: int, *, acting: bool) -> list[ev.Action]:
        """Tell of a decision when it or its reason changed, once a minute, and whenever an order is sent or taken back by it."""
        actions: list[ev.Action] = []
        if not desk.told_of_touch and decision.thought is not None and decision.thought.unsnapped.half_spread < 0.5:
            desk.told_of_touch = True
            actions.append(
                ev.Warn(desk.place, f"the spread wished for is below the tick of {text(decision.tick)}: the touch is what it comes to")
            )
        if acting or decision.sides != desk.noted or now_ms - desk.noted_ms >= NOTE_EVERY_MS:
            desk.noted, desk.noted_ms = decision.sides, now_ms
            actions.append(ev.Note(desk.place, decision))
        return actions
