"""Events and actions as journal records, and a fill's whole trade record. Values in, dicts out; amounts as decimal text.

Called by the engine; `journal.Fold` reads the same records back. docs/state-files.md gives each field's unit.
"""

from dataclasses import asdict

from mmtools.moments import iso
from mmtools.runs.journal import Record
from mmtools.runs.notation import NEUTRAL, maybe_text
from mmtools.trading import events as ev
from mmtools.trading.ledger import Account
from mmtools.trading.maker import Maker
from mmtools.trading.market import Market, Outcome, Quote, RewardTerms, Side, Skipped, Why
from mmtools.trading.signals import DEEP_LEVELS, MarketView
from mmtools.units import ONE, text


def bps(amount: float, of: float | None) -> float | None:
    """Return an amount in hundredths of a percent of another; None when that is unknown."""
    return round(amount / of * 10_000, 4) if of else None


def market_record(market: Market) -> Record:
    """Return what a fold needs to know of a market."""
    return {
        "slug": market.slug,
        "condition_id": market.condition_id,
        "token_ids": [market.yes_token, market.no_token],
        "outcomes": list(market.outcomes),
        "tick_size": text(market.tick),
        "min_order_size": text(market.min_size),
        "neg_risk": market.neg_risk,
        "event": market.event,
        "description": market.description,
        "fees": None if market.fees is None else asdict(market.fees),
        "rewards": None if market.rewards is None else _terms_record(market.rewards),
    }


def _terms_record(terms: RewardTerms) -> Record:
    return {"min_size": text(terms.min_size), "max_spread": text(terms.max_spread), "daily_pool": maybe_text(terms.daily_pool)}


def of_event(event: ev.Event, now_ms: int, slugs: list[str]) -> Record | None:
    """Return what the journal keeps of what the venue said; None when the decision that follows says it all."""
    match event:
        case ev.OrderAccepted(key, order_id):
            return {"kind": "accepted", "at_ms": now_ms, "key": key, "order_id": order_id}
        case ev.OrderRejected(key, reason):
            return {"kind": "rejected", "at_ms": now_ms, "key": key, "reason": reason.value}
        case ev.OrderGone(key, cause):
            return {"kind": "gone", "at_ms": now_ms, "key": key, "cause": cause.value}
        case ev.Merged(market, size):
            return {"kind": "merge", "at_ms": now_ms, "market": slugs[market], "size": text(size)}
        case ev.TickSizeChanged(market, tick, inferred):
            return {"kind": "tick", "at_ms": now_ms, "market": slugs[market], "tick_size": text(tick), "inferred": inferred}
        case ev.FeedLost(market):
            return {"kind": "feed_lost", "at_ms": now_ms, "market": slugs[market]}
        case ev.FeedRestored(market):
            return {"kind": "feed_restored", "at_ms": now_ms, "market": slugs[market]}
        case _:
            return None


def of_resolution(event: ev.MarketResolved, now_ms: int, slug: str, mark: int | None) -> Record:
    """Return the record of a market's end, with the mark that its settlement is measured from."""
    return {"kind": "resolution", "at_ms": now_ms, "market": slug, "payout_yes": text(event.payout), "mark": maybe_text(mark)}


def of_action(action: ev.Action, now_ms: int, slugs: list[str]) -> Record:
    """Return the journal record of what the maker asked for; a fill needs `trade`."""
    match action:
        case ev.Place(order):
            return {
                "kind": "place",
                "at_ms": now_ms,
                "key": order.key,
                "market": slugs[order.market],
                "token": order.outcome.value,
                "side": order.side.value,
                "price": text(order.price),
                "size": text(order.size),
            }
        case ev.Cancel(key):
            return {"kind": "cancel", "at_ms": now_ms, "key": key}
        case ev.Merge(market, size):
            return {"kind": "merge_sent", "at_ms": now_ms, "market": slugs[market], "size": text(size)}
        case ev.Pause(market, why):
            return {"kind": "pause", "at_ms": now_ms, "market": slugs[market], "why": why.value}
        case ev.Resume(market, why):
            return {"kind": "resume", "at_ms": now_ms, "market": slugs[market], "why": why.value}
        case ev.Halt(why, detail):
            return {"kind": "halt", "at_ms": now_ms, "why": why.value, "detail": detail}
        case ev.Rebalance():
            return {
                "kind": "rebalance",
                "at_ms": now_ms,
                "market": slugs[action.market],
                "cause": action.cause.value,
                "token": None if action.outcome is None else action.outcome.value,
                "price": maybe_text(action.price),
                "size": text(action.size),
            }
        case ev.Note(market, decision):
            return {"kind": "decision", "at_ms": now_ms, "market": slugs[market], **decision_record(decision)}
        case ev.RegimeChanged(market, before, now):
            return {
                "kind": "regime",
                "at_ms": now_ms,
                "market": slugs[market],
                "from": before.regime.value,
                "to": now.regime.value,
                "trend": now.trend,
                "cause": now.cause,
            }
        case ev.Judged(measured):
            fill = measured.fill
            return {
                "kind": "markout",
                "at_ms": now_ms,
                "trade_id": fill.trade_id,
                "key": fill.order_key,
                "market": slugs[fill.market],
                "token": fill.outcome.value,
                "size": text(fill.size),
                "horizon_s": measured.horizon_s,
                "mark": maybe_text(measured.mark),
                "per_share": maybe_text(measured.per_share),
            }
        case ev.Warn(market, message):
            return {"kind": "warning", "at_ms": now_ms, "market": slugs[market], "text": message}
        case ev.Filled():
            raise ValueError("a fill is journalled with its trade record")


def decision_record(decision: ev.Decision) -> Record:
    """Return a decision with its inputs; prices of the model in ticks."""

    def side(quote: Quote | Skipped) -> Record:
        if isinstance(quote, Skipped):
            return {"why": quote.why.value}
        return {"price": text(quote.price), "size": text(quote.size)}

    numbers = decision.numbers
    return {
        "bid": side(decision.bid),
        "ask": side(decision.ask),
        "best_bid": maybe_text(decision.best_bid),
        "best_ask": maybe_text(decision.best_ask),
        "tick_size": text(decision.tick),
        "fair_ticks": None if numbers is None else _rounded(numbers.fair),
        "reservation_ticks": None if numbers is None else _rounded(numbers.reservation),
        "half_spread_ticks": None if numbers is None else _rounded(numbers.half_spread),
        "skew_ticks": None if numbers is None else _rounded(numbers.skew),
        "sigma_ticks": None if numbers is None else _rounded(numbers.sigma),
        "tau_s": None if numbers is None else numbers.tau_s,
        "net": text(decision.net),
        "money": text(decision.money),
        "cause": None if decision.cause is None else decision.cause.value,
        "regime": decision.regime.value,
        "numbers": None if numbers is None else numbers_record(numbers),
    }


def numbers_record(numbers: ev.Numbers) -> Record:
    """Return what else a decision was made of; prices and distances in ticks, and of adjustments those that changed something."""

    def side(one: ev.SideNumbers | None) -> Record | None:
        if one is None:
            return None
        return {
            "wish_ticks": _rounded(one.wish),
            "closest_ticks": one.closest,
            "first_ticks": one.first,
            "size": text(one.size),
            "room": text(one.room),
            "cap": one.cap.value,
            "net_room": text(one.net_room),
            "stock": text(one.stock),
        }

    adjustments = {
        "toxicity_ticks": _rounded(numbers.toxicity),
        "toxicity_zscore": _rounded(numbers.toxicity_zscore),
        "rewards_ticks": _rounded(numbers.rewards),
        "rewards_reason": numbers.rewards_reason,
        "trend_ticks": _rounded(numbers.trend),
        "taper": _rounded(numbers.taper),
        "concession_ticks": numbers.concession,
    }
    return {
        "model": numbers.model,
        "fair_value": numbers.fair_value,
        "sigma_short_ticks": _rounded(numbers.sigma_short),
        "sigma_long_ticks": _rounded(numbers.sigma_long),
        "model_bid_ticks": _rounded(numbers.model_bid),
        "model_ask_ticks": _rounded(numbers.model_ask),
        **{name: number for name, number in adjustments.items() if number != NEUTRAL[name]},
        "bid": side(numbers.bid),
        "ask": side(numbers.ask),
    }


def signals(view: MarketView, now_ms: int) -> Record:
    """Return the signals that a decision does not name itself."""
    shown = features(view, now_ms)
    return {name: shown[name] for name in shown if not name.startswith("volatility")}


def features(view: MarketView, now_ms: int) -> Record:
    """Return the signals as trades and live states show them; null is not known yet."""
    return {
        "momentum_20": maybe_text(view.momentum(now_ms)),
        "volatility_60": _rounded(view.volatility(now_ms)),
        "volatility_600": _rounded(view.long_volatility(now_ms)),
        "order_flow_imbalance": _rounded(view.order_flow_imbalance(now_ms)),
        "trade_intensity": _rounded(view.trade_intensity(now_ms)),
        "book_imbalance": _rounded(view.book.imbalance()),
        "deep_imbalance": _rounded(view.book.deep_imbalance(DEEP_LEVELS)),
        "micro_price": _micro_price(view),
        "data_quality": _rounded(view.data_quality()),
    }


def _micro_price(view: MarketView) -> float | None:
    micro = view.micro_price()
    return None if micro is None else round(micro * view.book.tick / ONE, 6)


def trade(booked: ev.Filled, maker: Maker, *, run_id: str, ws_latency_ms: float | None) -> Record:
    """Return the whole record of a fill, as trades.jsonl has it. Called right after the account has booked it."""
    fill, decision = booked.fill, booked.decision
    desk, account = maker.desks[fill.market], maker.account
    view, market, position = desk.view, desk.market, account.positions[fill.market]
    mid, tick, numbers = decision.mid, decision.tick, decision.numbers
    total = account.total()
    realised = sum(p.realised + p.fees + p.rebates for p in account.positions)
    captured = fill.yes_side.sign * (fill.mark - fill.yes_price) * fill.size // ONE
    silent_ms = view.silent_ms(fill.at_ms)
    return {
        "timestamp": iso(fill.at_ms),
        "run_id": run_id,
        "trade_id": fill.trade_id,
        "order_key": fill.order_key,
        "market_id": market.condition_id,
        "market": market.slug,
        "market_description": market.description or market.slug,
        "side": fill.side.value,
        "token": fill.outcome.value,
        "price": text(fill.price),
        "size": text(booked.order_size),
        "fill_qty": text(fill.size),
        "fill_price": text(fill.price),
        "fee": text(fill.fee),
        "mark": text(fill.mark),
        "pnl_this_trade": text(captured),
        "pnl_cumulative": text(total),
        "pnl_realized": text(realised),
        "pnl_unrealized": text(total - realised),
        "entry_rationale": {
            "strategy": maker.params.model,
            "trigger": decision.cause.value if decision.cause is not None and fill.side is Side.SELL else "quote",
            "spread_model": {
                "optimal_half_spread_bps": None if numbers is None else bps(numbers.half_spread * tick, mid),
                "applied_half_spread_bps": None if mid is None else bps(abs(fill.yes_price - mid), mid),
                "volatility_regime": decision.regime.value,
                "liquidity_score": _rounded(sum(view.book.near_touch(DEEP_LEVELS)) / desk.order_size),
            },
            "inventory_skew": {
                "current_net": text(decision.net),
                "skew_applied_bps": None if numbers is None else bps(numbers.skew * tick, mid),
                "direction": "long" if decision.net > 0 else "short" if decision.net < 0 else "flat",
            },
            "toxic_flow": toxic_flow(numbers),
            "rewards_farming": {
                "adjustment_bps": None if numbers is None else bps(0.0 - numbers.rewards * tick, mid),
                "reason": None if numbers is None else numbers.rewards_reason,
            },
        },
        "market_context": market_context(view, fill.at_ms),
        "feature_vector": features(view, fill.at_ms),
        "position_after": {
            "qty_yes": text(position.yes),
            "qty_no": text(position.no),
            "net": text(position.net),
            "exposure_usd": text(account.worst_loss(fill.market)),
            "avg_entry_yes": average_entry(account, fill.market, Outcome.YES),
            "avg_entry_no": average_entry(account, fill.market, Outcome.NO),
        },
        "timing": {
            "quote_to_fill_ms": fill.at_ms - booked.sent_ms,
            "quote_age_ms": None if booked.accepted_ms is None else fill.at_ms - booked.accepted_ms,
            "ws_latency_ms": ws_latency_ms,
        },
        "kill_switch_state": kill_switch_state(maker),
        "data_gap_seconds": None if silent_ms is None else silent_ms / 1000,
    }


def toxic_flow(numbers: ev.Numbers | None) -> Record:
    """Return what our own markouts had said of the flow when the order was decided; null before the first of them."""
    if numbers is None or numbers.toxicity_zscore is None:
        return {"detected": None, "zscore": None, "action": None}
    action = f"widened by {numbers.toxicity:.2f} ticks" if numbers.toxicity else "none"
    return {"detected": numbers.toxicity > 0, "zscore": _rounded(numbers.toxicity_zscore), "action": action}


def kill_switch_state(maker: Maker) -> str:
    """Return "latched", "reduce_only" or "clear"."""
    return "latched" if maker.latched is not None else "reduce_only" if maker.reduce_only else "clear"


def market_context(view: MarketView, now_ms: int) -> Record:
    """Return the touch and depth of the book at hand; a side that is empty is null."""
    book, market = view.book, view.market
    bid = book.best_bid * book.tick if book.best_bid else None
    ask = book.best_ask * book.tick if book.best_ask < book.top else None
    return {
        "mid_price": maybe_text(view.mark),
        "best_bid": maybe_text(bid),
        "best_ask": maybe_text(ask),
        "spread_bps": None if bid is None or ask is None else bps(ask - bid, view.mark),
        "depth_bid_usd": text(book.depth(bid=True)),
        "depth_ask_usd": text(book.depth(bid=False)),
        "volume_24h": maybe_text(market.volume_24h),
        "time_to_resolution_days": None if market.end_ms is None else round((market.end_ms - now_ms) / 86_400_000, 6),
    }


def average_entry(account: Account, market: int, outcome: Outcome) -> str | None:
    """Return the average price paid for what is held of a token, rounded down; None when nothing is held."""
    position = account.positions[market]
    held = position.held(outcome)
    return text(position.cost(outcome) * ONE // held) if held else None


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


def liquidation(view: MarketView, account: Account, market: int) -> int | None:
    """Return what the position would bring if pairs were merged and the rest sold at once into the book at hand, in millionths.

    None when that book says nothing: crossed, locked or incomplete. A side that is empty brings nothing.
    """
    position = account.positions[market]
    pairs = min(position.yes, position.no)
    if position.net and view.fault in (Why.BOOK_CROSSED, Why.BOOK_LOCKED, Why.BOOK_INCOMPLETE):
        return None
    book = view.book
    return pairs + book.proceeds(True, position.yes - pairs) + book.proceeds(False, position.no - pairs)
