"""The result of a run: the `mmtools.run/1` document and the table a person reads. Both are made from a Fold alone.

Called when a run ends and by `report`; it computes nothing that the journal does not say.
"""

from typing import Any

from mmtools.moments import iso
from mmtools.runs import notation
from mmtools.runs.fold import Fold
from mmtools.runs.notation import maybe_text
from mmtools.runs.verdict import verdict
from mmtools.trading.ledger import Figures
from mmtools.trading.markouts import HORIZONS_S
from mmtools.units import ONE, parse, text

SCHEMA = "mmtools.run/1"
NO_COUNTERS: dict[str, Any] = {
    "events": {"frames": 0, "level_changes": 0, "prints": 0, "books": 0, "books_refused": {}},
    "quotes": {"decided": 0, "skipped": {}},
    "liquidation": {},
}


def document(fold: Fold, *, status: str | None = None) -> dict[str, Any]:
    """Return the run as one document. status: how it stands when the journal does not say how it ended."""
    counters = fold.mark or NO_COUNTERS
    orders, account, run = fold.orders, fold.account, fold.run
    figures = account.run_figures()
    told = counters.get("rewards", {})
    rewards = {slug: _usdc_e12(told.get(slug)) for slug in fold.slugs}
    rebates = {slug: maybe_text(counts.rebates) for slug, counts in zip(fold.slugs, fold.markets, strict=True)}
    result = {
        "schema": SCHEMA,
        "run_id": run["run_id"],
        "venue": run["venue"],
        "feed": run["feed"]["name"],
        "status": fold.status or status or "unfinished",
        "duration_s": (fold.last_ms - fold.began_ms) / 1000,
        "events": counters["events"],
        "quotes": counters["quotes"],
        "orders": {
            "sent": orders.sent,
            "accepted": orders.accepted,
            "rejected": dict(sorted(orders.rejected.items())),
            "cancelled": orders.cancelled,
            "unknown": orders.unknown,
            "routed": orders.routed,
        },
        "fills": {"count": fold.fills, "shares": text(fold.shares), "notional": text(fold.notional_e12 // ONE)},
        "fill_rate": _ratio(fold.shares, orders.shares_accepted),
        "fills_per_order": _ratio(fold.fills, orders.accepted),
        "pnl": {**_pnl(figures), "liquidation_value": _sum(counters["liquidation"])},
        "bracket": _bracket(counters.get("bracket")),
        "estimates": {"rewards": _sum(rewards), "rebates": _sum(rebates)},
        "markets": {
            slug: {
                **_pnl(account.figures(place)),
                "fills": fold.markets[place].fills,
                "estimates": {"rewards": rewards[slug], "rebates": rebates[slug]},
            }
            for place, slug in enumerate(fold.slugs)
        },
        "markouts": {slug: fold.markets[place].markouts.document() for place, slug in enumerate(fold.slugs)},
        "position": {slug: _position(fold, place) for place, slug in enumerate(fold.slugs)},
        "capital": {"start": run["capital"], "free": text(account.free), "reserved": text(account.reserved)},
        "halts": [{"at": iso(halt["at_ms"]), "why": halt["why"], "detail": halt["detail"]} for halt in fold.halts],
        "pauses": dict(sorted(fold.pauses.items())),
        "rebalances": dict(sorted(fold.rebalances.items())),
        "regimes": dict(sorted(fold.regimes.items())),
        "assumptions": run["assumptions"],
        "ledger_sha256": fold.ledger.hexdigest(),
    }
    return {**result, "verdict": verdict(result)}


def table(result: dict[str, Any], *, warnings: list[str], folder: str | None) -> str:
    """Return the result as a person reads it: the headline, a row per market, what it assumes, where the files are."""
    pnl, orders, fills = result["pnl"], result["orders"], result["fills"]
    hours = result["duration_s"] / 3600
    parts = ("spread", "inventory", "settlement", "total")
    rows = [
        [slug, str(figures["fills"]), *(_money(figures[part]) for part in parts), _held(result, slug)]
        for slug, figures in result["markets"].items()
    ]
    heads = ["market", "fills", *parts, "YES / NO held"]
    lines = [
        f"{result['run_id']}: {result['status']} after {hours:.2f} h of feed time ({result['feed']} feed, {result['venue']} venue)",
        "",
        notation.table(heads, rows, "<>>>>><"),
        "",
        f"P&L        {_money(pnl['total'])} USDC = spread {_money(pnl['spread'])} + inventory {_money(pnl['inventory'])}"
        f" + fees {_money(pnl['fees'])} + rebates {_money(pnl['rebates'])} + settlement {_money(pnl['settlement'])}",
        f"position   worth {_money(pnl['liquidation_value'])} USDC if sold at once; free cash {_money(result['capital']['free'])}"
        f" of {_money(result['capital']['start'])} at the start",
        f"fills      {fills['count']} fills, {_money(fills['shares'])} shares; {_percent(result['fill_rate'])} of the shares accepted",
        f"orders     {orders['sent']} sent, {orders['accepted']} accepted, {sum(orders['rejected'].values())} rejected"
        f"{_counts(orders['rejected'])}, {orders['cancelled']} cancelled, {orders['unknown']} unknown",
        f"quotes     {result['quotes']['decided']} sides decided, {sum(result['quotes']['skipped'].values())} skipped"
        f"{_counts(result['quotes']['skipped'])}",
    ]
    lines += _estimates(result)
    if result["bracket"] is not None:
        makers = "; ".join(
            f"{name} {one['fills']} fills, {_money(one['pnl'])}{'' if one['halted'] is None else ' (halted: ' + one['halted'] + ')'}"
            for name, one in result["bracket"].items()
        )
        lines.append(f"bracket    {makers}")
    lines.append(f"believe    {result['verdict']['headline']}")
    lines += [f"           {reason}" for reason in result["verdict"]["reasons"]]
    lines += [f"halted     {halt['why']}: {halt['detail']}" for halt in result["halts"]]
    if result["pauses"]:
        lines.append(f"pauses     {sum(result['pauses'].values())}{_counts(result['pauses'])}")
    if result["regimes"]:
        lines.append(f"regimes    entered{_counts(result['regimes'])}")
    lines.append(f"assumes    {_assumptions(result['assumptions'])}")
    lines += [f"note       {warning}" for warning in warnings]
    if folder is not None:
        lines.append(f"files      {folder}")
    return "\n".join(lines)


def markout_table(result: dict[str, Any]) -> str | None:
    """Return the markout curve per market and token, in cents per share with standard errors; None without fills."""

    def cell(sums: dict[str, Any]) -> str:
        if sums["per_share"] is None:
            return "unknown"
        error = "" if sums["error"] is None else f" +- {sums['error'] * 100:.2f}"
        return f"{float(sums['per_share']) * 100:+.2f}{error}"

    rows = [
        [slug, token, str(max(sums["fills"] + sums["unknown"] for sums in curve.values())), *(cell(sums) for sums in curve.values())]
        for slug, curves in result["markouts"].items()
        for token, curve in curves.items()
        if any(sums["fills"] + sums["unknown"] for sums in curve.values())
    ]
    if not rows:
        return None
    heads = ["market", "token", "fills", *(f"{horizon_s} s" for horizon_s in HORIZONS_S)]
    table = notation.table(heads, rows, "<<>" + ">" * len(HORIZONS_S))
    return f"markouts, cents a share on the token's own price (below 0: the market went on against us)\n\n{table}"


def warnings(fold: Fold) -> list[str]:
    """Return each warning once, with the markets it was said of."""
    said: dict[str, dict[str, None]] = {}  # a process that takes a run up says all of it again
    for record in fold.warnings:
        said.setdefault(record["text"], {})[record["market"]] = None
    return [f"{message} ({_some(list(slugs))})" for message, slugs in said.items()]


def _some(slugs: list[str]) -> str:
    return ", ".join(slugs) if len(slugs) <= 2 else f"{slugs[0]} and {len(slugs) - 1} more"


def _pnl(figures: Figures) -> dict[str, str]:
    parts = ("total", "spread", "inventory", "fees", "rebates", "settlement")
    return {part: text(getattr(figures, part)) for part in parts}


def _position(fold: Fold, place: int) -> dict[str, str]:
    position = fold.account.positions[place]
    cost = position.cost_yes + position.cost_no
    return {"yes": text(position.yes), "no": text(position.no), "net": text(position.net), "cost": text(cost)}


def _bracket(tallies: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the three makers of the bracket, from the most patient to the luckiest; None for a run without one."""
    if tallies is None:
        return None
    return {
        name: {
            "fills": tallies[name]["fills"],
            "shares": tallies[name]["shares"],
            "fill_rate": _ratio(parse(tallies[name]["shares"]), parse(tallies[name]["shares_accepted"])),
            "pnl": tallies[name]["pnl"],
            "halted": tallies[name]["halted"],
        }
        for name in ("risk_averse", "base", "optimistic")
    }


def _usdc_e12(estimate: dict[str, Any] | None) -> str | None:
    return None if estimate is None else text(int(estimate["usdc_e12"]) // ONE)


def _estimates(result: dict[str, Any]) -> list[str]:
    """Return a line about what might be paid beside the P&L; none where nobody said anything about it."""
    rewards, rebates = result["estimates"]["rewards"], result["estimates"]["rebates"]
    if rewards is None and rebates is None:
        return []
    return [f"estimates  rewards {_money(rewards)}, rebates {_money(rebates)} USDC: apart from the P&L, paid from 1 USDC a day on"]


def _sum(amounts: dict[str, str | None]) -> str | None:
    """Return the sum of amounts; None when one of them is not known."""
    known = [parse(amount) for amount in amounts.values() if amount is not None]
    return text(sum(known)) if len(known) == len(amounts) else None


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _money(amount: str | None) -> str:
    return "unknown" if amount is None else f"{float(amount):,.2f}"


def _percent(ratio: float | None) -> str:
    return "none" if ratio is None else f"{ratio:.1%}"


def _counts(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{name} {count}' for name, count in counts.items())})" if counts else ""


def _held(result: dict[str, Any], slug: str) -> str:
    position = result["position"][slug]
    return f"{_money(position['yes'])} / {_money(position['no'])}"


def _assumptions(assumptions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {'none' if value is None else value}" for name, value in assumptions.items())
