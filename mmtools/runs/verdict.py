"""The verdict: how far a paper result may be believed, and why. From the `mmtools.run/1` document to a few plain sentences.

It judges what the result leans on, never whether the strategy is good. Called by `summary` alone; all it needs is the document.
"""

from typing import Any

from mmtools.units import ONE, parse

FEWEST_FILLS = 30
"""Below it a result is an anecdote: its sign hangs on a fill or two."""
SURE = 2.0
"""Standard errors from 0 at which a markout is no accident."""
JUDGED_AT_S = "30"
A_DAY_S = 86_400


def verdict(result: dict[str, Any]) -> dict[str, Any]:
    """Return {"believe", "headline", "reasons"}.

    believe: "nothing" (the fills are made up or there are none), "sign" (all of the bracket earn, or all lose), "neither sign" (the
    place in the queue decides it), "this queue model only" (there is no bracket).
    """
    believe, headline = _judge(result)
    return {"believe": believe, "headline": headline, "reasons": [] if believe == "nothing" else _reasons(result)}


def _judge(result: dict[str, Any]) -> tuple[str, str]:
    model, bracket, fills = result["assumptions"]["queue_model"], result["bracket"], result["fills"]
    if model == "never":
        return "nothing", f"nothing of this: no order fills here, so it shows no profit and no loss{_instead(bracket)}"
    if model == "touch":
        most = "" if bracket is None else f"; first at every print a maker got {_shares(bracket['optimistic'])} shares"
        return "nothing", (
            f"nothing of this: whatever stands at the touch fills, {_shares(fills)} shares without a trade that reached them"
            f"{most}{_instead(bracket)}"
        )
    if fills["count"] == 0 and bracket is None:
        return "nothing", "nothing yet: no trade reached an order"
    if fills["count"] == 0 and bracket["optimistic"]["fills"] == 0:
        return "nothing", "nothing yet: no trade reached an order, not even first in the queue"
    if bracket is None:
        return "this queue model only", f"queue_model {model} alone says so; run it with `bracket: true` to see how much hangs on it"
    totals = [parse(one["pnl"]) for one in bracket.values()]
    if all(total < 0 for total in totals):
        return "sign", f"the loss on this feed: the maker loses wherever it stands in the queue, {_range(bracket)}"
    if all(total > 0 for total in totals):
        return "sign", f"the profit on this feed, not its size: the maker earns wherever it stands in the queue, {_range(bracket)}"
    return "neither sign", f"neither profit nor loss: the place in the queue decides it, {_range(bracket)}"


def _instead(bracket: dict[str, Any] | None) -> str:
    """Say which figures are to be believed in place of naive ones."""
    if bracket is None:
        return ""
    patient, lucky = bracket["risk_averse"], bracket["optimistic"]
    return f"; look at the others of the bracket, {_usdc(patient)} with a patient queue and {_usdc(lucky)} first in it"


def _range(bracket: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_usdc(one)}" for name, one in bracket.items())


def _usdc(one: dict[str, Any]) -> str:
    return f"{parse(one['pnl']) / ONE:,.2f}"


def _shares(one: dict[str, Any]) -> str:
    return f"{parse(one['shares']) / ONE:,.0f}"


def _reasons(result: dict[str, Any]) -> list[str]:
    """Return what else a careful reader should know before believing it."""
    assumed, count = result["assumptions"], result["fills"]["count"]
    reasons = []
    model = assumed["queue_model"]
    power = f" {assumed['queue_power']:g}" if model.startswith("power") else ""
    bounds = "" if result["bracket"] is None else "; risk_averse is the most patient guess, optimistic an upper bound and no guess"
    reasons.append(f"the headline assumes queue_model {model}{power}{bounds}")
    for name, one in (result["bracket"] or {}).items():
        if one["halted"] is not None:
            reasons.append(f"{name} halted ({one['halted']}) and stands still from then on")
    if count < FEWEST_FILLS:
        few = "1 fill is" if count == 1 else f"{count} fills are"
        reasons.append(f"{few} an anecdote: from about {FEWEST_FILLS} on a result begins to say something")
    if result["duration_s"] < A_DAY_S:
        reasons.append(f"{result['duration_s'] / 3600:.2f} h of market time are one draw: another day may have the other sign")
    if assumed["trade_side"] != "stated":
        reasons.append(f"trade_side {assumed['trade_side']} does not read the prints as the feed states them")
    if assumed["fill_probability_override"] is not None:
        reasons.append("fills are thinned on purpose (fill_probability_override)")
    if assumed["latency_ms"] == 0:
        reasons.append("latency_ms 0: nobody's orders and cancels take no time")
    return [*reasons, *_markout(result)]


def _markout(result: dict[str, Any]) -> list[str]:
    """Say what the market did after the fills, where that is no accident: the tokens' fills weighed by shares."""
    curves = [curve[JUDGED_AT_S] for tokens in result["markouts"].values() for curve in tokens.values()]
    known = [one for one in curves if one["per_share"] is not None and one["error"] is not None]
    shares = sum(parse(one["shares"]) for one in known)
    if not shares:
        return []
    parts = [(parse(one["shares"]) / shares, parse(one["per_share"]) / ONE, one["error"]) for one in known]
    mean = sum(part * value for part, value, _ in parts)
    error = sum((part * one) ** 2 for part, _, one in parts) ** 0.5
    if not error or abs(mean) < SURE * error:
        return [
            f"{JUDGED_AT_S} s after its fills the market stood {mean * 100:+.2f} +- {error * 100:.2f} cents a share from them: no sure sign"
        ]
    which = "went on against it" if mean < 0 else "paid it"
    return [f"{JUDGED_AT_S} s after its fills the market {which}: {mean * 100:+.2f} +- {error * 100:.2f} cents a share"]
