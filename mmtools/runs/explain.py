"""Why: what was quoted or not at a time, an order or a fill, with every number it came from. From journal records to a document.

Everything stands in the journal; nothing is computed anew but what follows from two of its numbers. Called by `report explain`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmtools.moments import iso
from mmtools.runs.journal import Record
from mmtools.runs.notation import NEUTRAL

SCHEMA = "mmtools.explain/1"

MEANINGS: Mapping[str, str] = {
    "kill_latched": "somebody latched the kill switch",
    "paused": "the market was in a data gap and is not yet healthy for resume_after_s",
    "event": "the market jumped or was swept, and has not been calm for event_cool_off_s",
    "data_gap": "nothing was heard of the market for longer than max_data_gap_s allows",
    "book_incomplete": "there was no whole book, or a better touch was stated than the one known",
    "book_crossed": "the best bid stood above the best ask, which cannot be true",
    "book_locked": "the best bid stood at the best ask: there is no mid",
    "book_empty": "the book was empty",
    "book_one_sided": "one side of the book was empty: there is no mid",
    "facts_unknown": "the live feed did not say when the market ends, whether it accepts orders, or its fees",
    "not_accepting": "the market is resolved, or takes no orders",
    "near_game_start": "the game starts or started within stop_before_game_s",
    "near_resolution": "the market ends within stop_before_resolution_s",
    "daily_loss": "the run halted: max_daily_loss was reached",
    "drawdown": "the run halted: max_drawdown was reached",
    "error_rate": "the run halted: too many requests failed",
    "low_balance": "there was less cash than min_balance_to_quote",
    "position_cap": "max_position left less than the market's minimum",
    "net_cap": "max_net_position left less than the market's minimum",
    "event_cap": "max_event_exposure left less than the market's minimum",
    "tapered": "so near the market's end the net position may not grow",
    "reduce_only": "the market is only sold out of, and this side would not do that",
    "unknown_queue": "nobody had said what rests at this price, so the queue before us would be a guess",
    "below_minimum": "the order size is below the market's minimum",
    "no_legal_price": "the price would be below the first tick or above the last",
    "short_of_money": "it could not be paid, not even the minimum size",
}
"""Of every reason of `market.Why`, in words; tests hold the two together."""


class NotThere(LookupError):
    """The run has nothing of the kind that was asked for; one line that says what there is."""


@dataclass(slots=True)
class OrderStory:
    """What became of one order, as far as the journal tells."""

    placed: Record
    decision: Record | None
    """The one that sent it."""
    accepted: Record | None = None
    rejected: Record | None = None
    cancel: Record | None = None
    cancelled_by: Record | None = None
    """The decision that wanted it gone: the last one before the cancel."""
    fills: list[Record] = field(default_factory=list)
    gone: Record | None = None

    def document(self) -> Record:
        return {
            "key": self.placed["key"],
            "order_id": None if self.accepted is None else self.accepted["order_id"],
            "market": self.placed["market"],
            "token": self.placed["token"],
            "side": self.placed["side"],
            "price": self.placed["price"],
            "size": self.placed["size"],
            "sent_at": iso(self.placed["at_ms"]),
            "accepted_at": _at(self.accepted),
            "rejected": None if self.rejected is None else self.rejected["reason"],
            "cancel_sent_at": _at(self.cancel),
            "gone_at": _at(self.gone),
            "gone": None if self.gone is None else self.gone["cause"],
            "fills": [{"trade_id": r["trade"]["trade_id"], "at": iso(r["at_ms"]), "qty": r["trade"]["fill_qty"]} for r in self.fills],
            "decision": self.decision,
            "cancelled_by": self.cancelled_by,
        }


class Told:
    """The journal read up to some record: what was known and meant then. Feed it every record in order."""

    def __init__(self) -> None:
        self.run: Record = {}
        self.last_ms = 0
        self.decisions: dict[str, Record] = {}
        self.regimes: dict[str, Record] = {}
        self.paused: dict[str, str] = {}
        self.halted: Record | None = None
        self.working: dict[str, OrderStory] = {}
        """Orders sent and not known to be gone."""
        self._taken_up = False
        """Another process goes on from here: its first record says when."""

    def add(self, record: Record) -> OrderStory | None:
        """Take a record in; return the story of the order that it speaks of, if it does."""
        kind = record["kind"]
        self.last_ms = record.get("at_ms", self.last_ms)
        if kind == "run":
            self.run = record
        elif kind == "start":
            self._taken_up = self.run["feed"]["name"] == "live"
            return None
        elif self._taken_up:
            # Nobody was there to see the market; on other feeds the time before is simulated again, and what it led to stands.
            self._taken_up = False
            self.regimes.clear()
            self.paused.clear()
        if kind == "decision":
            self.decisions[record["market"]] = record
        elif kind == "regime":
            self.regimes[record["market"]] = record
        elif kind == "pause":
            self.paused[record["market"]] = record["why"]
        elif kind == "resume":
            self.paused.pop(record["market"], None)
        elif kind in ("halt", "cleared"):
            self.halted = record if kind == "halt" else None
        elif kind == "place":
            story = self.working[record["key"]] = OrderStory(record, self.decisions.get(record["market"]))
            return story
        return self._of_order(kind, record)

    def _of_order(self, kind: str, record: Record) -> OrderStory | None:
        story = self.working.get(record["trade"]["order_key"] if kind == "fill" else record.get("key", ""))
        if story is None or kind == "markout":
            return None
        if kind == "accepted":
            story.accepted = record
        elif kind == "rejected":
            story.rejected = record
            del self.working[record["key"]]
        elif kind == "cancel":
            story.cancel, story.cancelled_by = record, self.decisions.get(story.placed["market"])
        elif kind == "fill":
            story.fills.append(record)
        elif kind == "gone":
            story.gone = record
            del self.working[record["key"]]
        return story


def at_time(records: Iterable[Record], at_ms: int, market: str | None = None) -> Record:
    """Explain every market, or one, as it stood at a time. Raises NotThere outside the run, or for a market that it does not quote."""
    told = Told()
    for record in records:
        if record.get("at_ms", 0) > at_ms:
            break
        told.add(record)
    else:
        if told.run and told.last_ms < at_ms:
            raise NotThere(f"the run went from {iso(told.run['at_ms'])} to {iso(told.last_ms)}; name a time within")
    if not told.run:
        raise NotThere("the run began later than that")
    slugs = [m["slug"] for m in told.run["markets"]]
    if market is not None and market not in slugs:
        raise NotThere(f"the run does not quote market {market}; it quotes {', '.join(slugs)}")
    return {
        **_head(told.run, {"at": iso(at_ms)}),
        "markets": [_market(told, slug, at_ms) for slug in slugs if market in (None, slug)],
    }


def of_order(records: Iterable[Record], order: str) -> Record:
    """Explain an order by our key or the venue's id: why it was sent, and what became of it. Raises NotThere."""
    told = Told()
    story = None
    for record in records:
        spoken_of = told.add(record)
        if story is None and spoken_of is not None and order in (record.get("key"), record.get("order_id")):
            story = spoken_of
    if story is None:
        raise NotThere(f"the run has no order {order}; `--at TIME` shows which rested when")
    return {**_head(told.run, {"order": order}), "order": story.document()}


def of_fill(records: Iterable[Record], trade_id: str) -> Record:
    """Explain a fill by its trade id: what it was, the order it filled, what the mid did after it. Raises NotThere."""
    told = Told()
    found: list[tuple[Record, OrderStory]] = []
    markouts: list[Record] = []
    for record in records:
        story = told.add(record)
        if record["kind"] == "fill" and record["trade"]["trade_id"] == trade_id and story is not None:
            found.append((record["trade"], story))
        elif record["kind"] == "markout" and record["trade_id"] == trade_id:
            markouts.append(record)
    if not found:
        raise NotThere(f"the run has no fill {trade_id}; trades.jsonl names them")
    return {
        **_head(told.run, {"fill": trade_id}),
        "fills": [
            {
                "trade": trade,
                "markouts": [
                    {"horizon_s": m["horizon_s"], "mark": m["mark"], "per_share": m["per_share"]}
                    for m in markouts
                    if m["key"] == trade["order_key"]
                ],
                "order": story.document(),
            }
            for trade, story in found
        ],
    }


def _head(run: Record, asked: Record) -> Record:
    return {"schema": SCHEMA, "run_id": run["run_id"], "asked": asked}


def _market(told: Told, slug: str, at_ms: int) -> Record:
    decision, regime = told.decisions.get(slug), told.regimes.get(slug)
    return {
        "market": slug,
        "decision": decision,
        "decision_age_s": None if decision is None else (at_ms - decision["at_ms"]) / 1000,
        "regime": None if regime is None else {"regime": regime["to"], "cause": regime["cause"], "since": iso(regime["at_ms"])},
        "paused": told.paused.get(slug),
        "halted": None if told.halted is None else {"why": told.halted["why"], "detail": told.halted["detail"]},
        "orders": [story.document() for story in told.working.values() if story.placed["market"] == slug],
    }


def _at(record: Record | None) -> str | None:
    return None if record is None else iso(record["at_ms"])


# ---- in words


def text_of(document: Record, params: Mapping[str, Any]) -> str:
    """Return an explanation as a person reads it. params: those of the run's config, empty when they cannot be read."""
    lines: list[str] = []
    for market in document.get("markets", []):
        lines += [*_market_lines(market, document["asked"]["at"], params), ""]
    if "order" in document:
        lines += _order_lines(document["order"], params)
    for fill in document.get("fills", []):
        lines += [*_fill_lines(fill), "", *_order_lines(fill["order"], params), ""]
    return "\n".join(lines).rstrip()


def _market_lines(market: Record, at: str, params: Mapping[str, Any]) -> Iterator[str]:
    decision = market["decision"]
    yield f"{market['market']} at {at}"
    if market["halted"] is not None:
        yield f"  halted      {market['halted']['why']}: {market['halted']['detail']}"
    if market["paused"] is not None:
        yield f"  paused      {market['paused']}"
    if market["regime"] is not None:
        yield f"  regime      {market['regime']['regime']} since {market['regime']['since']}: {market['regime']['cause']}"
    if decision is None:
        yield "  decided     nothing yet"
        return
    yield f"  decided     {market['decision_age_s']:.3f} s before; what was decided since then came to the same quotes"
    yield from _decision_lines(decision, params)
    for order in market["orders"]:
        state = "under way" if order["accepted_at"] is None else f"rests since {order['accepted_at']}"
        leaving = "" if order["cancel_sent_at"] is None else f", cancel sent {order['cancel_sent_at']}"
        yield f"  order       {order['key']} {order['side']} {order['token']} {order['size']} @ {order['price']}: {state}{leaving}"


def _decision_lines(decision: Record, params: Mapping[str, Any]) -> Iterator[str]:
    yield f"  book        {decision['best_bid'] or 'no bid'} / {decision['best_ask'] or 'no ask'}, tick {decision['tick_size']}"
    yield f"  position    net {decision['net']} shares; {decision['money']} USDC to spend here"
    numbers = decision.get("numbers")
    if numbers is not None:
        yield from _model_lines(decision, {**NEUTRAL, **numbers}, params)
    for side in ("bid", "ask"):
        yield f"  {side:<11} {_side_words(decision, side)}"
    if decision["cause"] is not None:
        yield f"  moved       {decision['cause']}: stock is sold for its own sake"


def _model_lines(decision: Record, numbers: Record, params: Mapping[str, Any]) -> Iterator[str]:
    yield f"  fair        {decision['fair_ticks']:g} ticks, the {numbers['fair_value']}"
    yield (
        f"  volatility  {_or_unknown(numbers['sigma_short_ticks'])} over a minute, {_or_unknown(numbers['sigma_long_ticks'])} over ten, "
        f"so {decision['sigma_ticks']:g} ticks per root second; tau {decision['tau_s']:g} s"
    )
    yield f"  skew        {decision['skew_ticks']:g} ticks for the inventory: reservation price {decision['reservation_ticks']:g}"
    used = ", ".join(f"{name} {params[name]:g}" for name in _USED_BY.get(numbers["model"], ()) if name in params)
    yield (
        f"  model       {numbers['model']}{f' ({used})' if used else ''}: half-spread {decision['half_spread_ticks']:g}, "
        f"bid {numbers['model_bid_ticks']:g}, ask {numbers['model_ask_ticks']:g}"
    )
    zscore = numbers["toxicity_zscore"]
    if zscore is not None:
        yield f"  toxicity    markouts of our fills {zscore:+.2f} standard errors from 0: widened by {numbers['toxicity_ticks']:g} ticks"
    if numbers["rewards_reason"] is not None:
        yield f"  rewards     nearer by {numbers['rewards_ticks']:g} ticks a side: {numbers['rewards_reason']}"
    if numbers["trend_ticks"]:
        yield f"  trend       the {'ask' if numbers['trend_ticks'] > 0 else 'bid'} steps back by {abs(numbers['trend_ticks']):g} ticks"
    if numbers["taper"] != 1:
        yield f"  taper       {numbers['taper']:.1%} of the net position is allowed so near the end"
    if numbers["concession_ticks"]:
        yield f"  exit        asks {numbers['concession_ticks']} ticks less than the touch by now"


_FORMULA = ("gamma_risk_aversion", "order_arrival_decay_per_tick", "max_skew_ticks")
_USED_BY: Mapping[str, tuple[str, ...]] = {
    "fixed": ("default_half_spread_bps", "gamma_risk_aversion", "max_skew_ticks"),
    "avellaneda-stoikov": _FORMULA,
    "glft": ("order_arrival_per_s", *_FORMULA),
    "logit": _FORMULA,
    "bands": ("gamma_risk_aversion", "max_skew_ticks"),
}
"""The params shown beside each model."""


def _side_words(decision: Record, side: str) -> str:
    """Return how one side came about: from the model's wish over the grid and the limits to the quote, or why there is none."""
    told, numbers = decision[side], decision.get("numbers")
    one = None if numbers is None else numbers[side]
    steps = []
    if one is not None:
        first = "no legal price" if one["first_ticks"] is None else f"tick {one['first_ticks']}"
        steps.append(f"wish {one['wish_ticks']:g}, fair value allows {one['closest_ticks']}: {first}")
        steps.append(f"size {one['size']}, room {one['room']} ({one['cap']}), net room {one['net_room']}, stock {one['stock']}")
    if "why" in told:
        steps.append(f"not quoted, {told['why']}: {MEANINGS.get(told['why'], 'a reason this program does not know')}")
    else:
        steps.append(f"{told['size']} @ {told['price']} in YES terms")
    return "; ".join(steps)


def _order_lines(order: Record, params: Mapping[str, Any]) -> Iterator[str]:
    yield f"order {order['key']}: {order['side']} {order['token']} {order['size']} @ {order['price']} in {order['market']}"
    yield f"  sent        {order['sent_at']}"
    if order["rejected"] is not None:
        yield f"  refused     {order['rejected']}"
    elif order["accepted_at"] is not None:
        yield f"  accepted    {order['accepted_at']} as {order['order_id']}"
    for fill in order["fills"]:
        yield f"  filled      {fill['qty']} at {fill['at']} ({fill['trade_id']})"
    if order["cancel_sent_at"] is not None:
        yield f"  cancel sent {order['cancel_sent_at']}"
    if order["gone_at"] is not None:
        unasked = order["gone"] == "cancelled" and order["cancel_sent_at"] is None
        yield f"  gone        {order['gone_at']}: {order['gone']}{', as all are when a run stops, halts or ends' if unasked else ''}"
    if order["decision"] is None:
        yield "why it was sent, the journal does not say"
    else:
        yield f"the decision that sent it, {iso(order['decision']['at_ms'])}"
        yield from _decision_lines(order["decision"], params)
    if order["cancelled_by"] is not None:
        yield f"the last decision before its cancel, {iso(order['cancelled_by']['at_ms'])}"
        yield from _decision_lines(order["cancelled_by"], params)


def _fill_lines(fill: Record) -> Iterator[str]:
    trade = fill["trade"]
    yield f"fill {trade['trade_id']}: {trade['side']} {trade['token']} {trade['fill_qty']} @ {trade['fill_price']} in {trade['market']}"
    yield f"  at          {trade['timestamp']}, {trade['timing']['quote_to_fill_ms']} ms after the order was sent"
    yield f"  mid         {trade['mark']} in YES terms: the fill earned {trade['pnl_this_trade']} USDC against it"
    for one in fill["markouts"]:
        yield f"  {one['horizon_s']:>3} s later {one['mark'] or 'unknown'}: {one['per_share'] or 'unknown'} USDC a share"


def _or_unknown(number: float | None) -> str:
    return "unknown" if number is None else f"{number:g}"
