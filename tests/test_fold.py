"""The fold of a journal: what a run did, read from its records alone."""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_runs import RUN_ID, Runner, runner_of_the_game, stop, through_halts
from tapes import MARKETS as TAPED
from tapes import SMALL, CountedFeed, Ran, tapes

from mmtools.config import Synthetic
from mmtools.errors import Refused
from mmtools.runs import reading, summary
from mmtools.runs.fold import SCHEMA, Fold
from mmtools.runs.markouts import KEPT, Markouts
from mmtools.trading.market import Outcome
from mmtools.trading.markouts import HORIZONS_S
from mmtools.trading.params import Params
from mmtools.units import ONE, parse, text
from mmtools.venues.synthetic import SyntheticFeed
from mmtools.venues.venue import Row

Record = dict[str, Any]

MARKETS = [{"slug": "rain"}, {"slug": "snow"}]
RUN = {"kind": "run", "schema": SCHEMA, "run_id": "r", "at_ms": 1000, "capital": "50", "markets": MARKETS}


def place(key: str, token: str = "YES", side: str = "BUY", price: str = "0.3", size: str = "10", market: str = "snow") -> Record:
    return {"kind": "place", "at_ms": 1100, "key": key, "market": market, "token": token, "side": side, "price": price, "size": size}


def accepted(key: str) -> Record:
    return {"kind": "accepted", "at_ms": 1150, "key": key, "order_id": f"paper-{key}"}


def rejected(key: str, reason: str = "post_only_cross") -> Record:
    return {"kind": "rejected", "at_ms": 1150, "key": key, "reason": reason}


def gone(key: str, cause: str = "cancelled") -> Record:
    return {"kind": "gone", "at_ms": 1300, "key": key, "cause": cause}


def fill(key: str, size: str, *, trade: str = "t1", token: str = "YES", price: str = "0.3", mark: str = "0.35") -> Record:
    record = {
        "trade_id": trade, "order_key": key, "market": "snow", "token": token, "side": "BUY", "fill_price": price, "fill_qty": size,
        "mark": mark, "fee": "0",
    }  # fmt: skip
    return {"kind": "fill", "at_ms": 1200, "trade": record}


def halt(**more: Any) -> Record:
    return {"kind": "halt", "at_ms": 1400, "why": "drawdown", "detail": "too deep", **more}


def asked(kind: str, frame: int = 3, latch: int | None = 0) -> Record:
    return {"kind": kind, "at_ms": 1400, "frame": frame, "by": "anna", "why": "lunch", "latch": latch}


def folded(*records: Record) -> Fold:
    fold = Fold()
    for record in (RUN, *records):
        fold.add(record)
    return fold


def test_sent_orders_are_accepted_rejected_or_unknown() -> None:
    fold = folded(place("o1"), place("o2", "NO"), place("o3"), accepted("o1"), rejected("o2"), gone("o1"))
    orders = fold.orders
    assert (orders.sent, orders.accepted, dict(orders.rejected), orders.unknown) == (3, 1, {"post_only_cross": 1}, 1)
    assert (orders.cancelled, orders.routed, orders.shares_accepted) == (1, 1, parse("10"))
    assert set(fold.sent) == fold.unanswered == {"o3"}
    assert fold.account.reserved == parse("3")


def test_an_order_that_never_arrived_is_unknown_and_not_cancelled() -> None:
    orders = folded(place("o1"), gone("o1", "unknown")).orders
    assert (orders.unknown, orders.cancelled) == (1, 0)


def test_a_fill_is_booked_where_it_belongs_and_counted_once() -> None:
    fold = folded(place("o1"), accepted("o1"), fill("o1", "4"), fill("o1", "4"), fill("o1", "6", trade="t2"))
    assert (fold.fills, fold.shares, fold.notional_e12) == (2, parse("10"), parse("3") * 1_000_000)
    assert [counts.fills for counts in fold.markets] == [0, 2]
    assert fold.markets[1].last_fill_ms == 1200
    assert (fold.account.positions[1].yes, fold.account.cash, fold.account.reserved) == (parse("10"), parse("47"), 0)
    assert fold.account.figures(1).spread == parse("0.5")


def test_pairs_in_a_merge_are_locked_until_they_are_merged_or_the_merge_is_given_up() -> None:
    both = (
        place("o1"),
        fill("o1", "10"),
        place("o2", "NO", price="0.6"),
        fill("o2", "8", trade="t2", token="NO", price="0.6", mark="0.37"),
    )
    sent = {"kind": "merge_sent", "at_ms": 1500, "market": "snow", "size": "6"}
    assert folded(*both, sent).account.positions[1].merging == parse("6")
    given_up = folded(*both, sent, {**sent, "kind": "merge_gone"}, {**sent, "size": "8"})
    assert given_up.account.positions[1].merging == parse("8")
    merged = folded(*both, sent, {**sent, "kind": "merge"}).account.positions[1]
    assert (merged.merging, merged.yes, merged.no) == (0, parse("4"), parse("2"))


def test_a_resolution_settles_from_the_mark_that_it_names() -> None:
    fold = folded(place("o1"), fill("o1", "10"), {"kind": "resolution", "at_ms": 1600, "market": "snow", "payout_yes": "1", "mark": "0.5"})
    figures = fold.account.figures(1)
    assert (figures.spread, figures.inventory, figures.settlement, figures.total) == (parse("0.5"), parse("1.5"), parse("5"), parse("7"))


def test_a_mark_moves_inventory_and_is_kept_for_what_single_records_do_not_say() -> None:
    mark = {"kind": "mark", "at_ms": 1700, "marks": {"snow": "0.4"}, "limits": {"day": None}}
    fold = folded(place("o1"), fill("o1", "10"), mark)
    assert fold.account.figures(1).inventory == parse("0.5")
    assert fold.mark == mark


def test_a_halt_stands_until_it_is_cleared() -> None:
    assert not folded().latched
    assert folded(halt()).latched
    cleared = folded(halt(), asked("cleared", latch=None), halt(detail="again"))
    assert cleared.latched
    assert [record["by"] for record in cleared.clearings] == ["anna"]
    assert cleared.interventions == []


def test_what_people_asked_for_is_kept_with_its_frame_and_limits_are_not() -> None:
    by_hand = halt(frame=7, by="anna", latch=0)
    fold = folded(halt(), asked("cleared", latch=None), by_hand, asked("cleared", latch=None), asked("stop", 9, None))
    assert fold.interventions == [by_hand, asked("stop", 9, None)]


def test_winding_down_ends_when_it_is_cleared_and_when_a_halt_is() -> None:
    assert folded(asked("reduce_only")).reduce_only
    ended = folded(asked("reduce_only"), asked("cleared", 5))
    assert not ended.reduce_only
    assert [record["kind"] for record in ended.interventions] == ["reduce_only", "cleared"]
    assert not folded(asked("reduce_only"), halt(), asked("cleared", latch=None)).reduce_only


def test_a_run_that_goes_on_after_its_end_has_not_ended() -> None:
    end = {"kind": "end", "at_ms": 1800, "marks": {}, "limits": {"day": None}, "status": "stopped"}
    start = {"kind": "start", "wall": "2026-06-07T12:00:00Z"}
    assert folded(end).status == "stopped"
    assert folded(end, start).status == "stopped"
    assert folded(end, start, place("o1")).status is None


def test_counts_of_pauses_rebalances_and_warnings_are_kept() -> None:
    pause = {"kind": "pause", "at_ms": 1, "market": "rain", "why": "data_gap"}
    fold = folded(pause, pause, {"kind": "rebalance", "at_ms": 1, "market": "rain", "cause": "recycle"})
    assert (dict(fold.pauses), dict(fold.rebalances)) == ({"data_gap": 2}, {"recycle": 1})
    warning = {"kind": "warning", "at_ms": 1, "market": "rain", "text": "mind the gap"}
    fold = folded(warning, {**warning, "market": "snow"}, warning)
    assert summary.warnings(fold) == ["mind the gap (rain, snow)"]


def test_kinds_that_are_not_known_only_move_the_time() -> None:
    fold = folded({"kind": "from_the_future", "at_ms": 4321})
    assert fold.last_ms == 4321
    assert fold.account.cash == parse("50")


@pytest.mark.parametrize("first", [place("o1"), {**RUN, "schema": "mmtools.journal/9"}, {"kind": "start"}])
def test_a_journal_that_does_not_begin_as_one_is_refused(first: Record) -> None:
    with pytest.raises(Refused):
        Fold().add(first)


def test_the_fold_of_every_prefix_of_a_journal_is_in_balance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with runner_of_the_game(tmp_path, monkeypatch) as runner:
        runner.start_with_people()
        fold = Fold()
        for record in runner.journal():
            fold.add(record)
            assert fold.orders.sent == fold.orders.accepted + fold.orders.rejected.total() + fold.orders.unknown
            assert fold.unanswered <= set(fold.sent)
            assert 0 <= fold.account.reserved <= fold.account.cash
            document = summary.document(fold) if "assumptions" in fold.run else {}
            assert document["fills"]["count"] == fold.fills
        assert fold.sent == {}


def test_the_journal_on_disk_folds_to_what_the_engine_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with runner_of_the_game(tmp_path, monkeypatch) as runner:
        assert runner.start({8: stop}).document == summary.document(reading.fold_of(runner.state, RUN_ID))
        assert runner.start().document == summary.document(reading.fold_of(runner.state, RUN_ID))
        runner.forget()
        halting: Runner = runner.with_params(max_drawdown=0.03)
        assert through_halts(halting).document == summary.document(reading.fold_of(runner.state, RUN_ID))


def test_a_run_that_is_not_there_or_never_wrote_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with runner_of_the_game(tmp_path, monkeypatch) as runner:
        with pytest.raises(Refused, match="there is no run small"):
            reading.fold_of(runner.state, RUN_ID)
        runner.state.log(f"runs/{RUN_ID}/journal.jsonl").close()
        with pytest.raises(Refused, match="cut off before it wrote anything"):
            reading.fold_of(runner.state, RUN_ID)
        assert runner.start().document["status"] == "finished"


# --- regimes, rebates, markouts


def regime(to: str, at_ms: int, market: str = "snow") -> Record:
    return {"kind": "regime", "at_ms": at_ms, "market": market, "from": "QUIET", "to": to, "trend": 0, "cause": "seen"}


def test_regimes_are_counted_as_they_are_entered() -> None:
    fold = folded(regime("EVENT", 10), regime("QUIET", 20), regime("EVENT", 30, "rain"))
    assert fold.regimes == {"EVENT": 2, "QUIET": 1}


@pytest.mark.parametrize(
    ("records", "since"),
    [
        ([regime("REDUCE_ONLY", 10)], 10),
        ([regime("REDUCE_ONLY", 10), regime("EVENT", 20), regime("REDUCE_ONLY", 30)], 10),
        ([regime("REDUCE_ONLY", 10), regime("QUIET", 20)], None),
        ([regime("REDUCE_ONLY", 10), regime("TRENDING", 20), regime("REDUCE_ONLY", 30)], 30),
        ([regime("EVENT", 10), asked("reduce_only")], 1400),
        ([regime("REDUCE_ONLY", 10), asked("reduce_only")], 10),
        ([regime("EVENT", 10)], None),
    ],
)
def test_the_clock_of_an_exit_runs_through_events_and_ends_with_it(records: list[Record], since: int | None) -> None:
    fold = folded(*records)
    assert fold.markets[1].exit_since_ms == since
    assert fold.markets[0].exit_since_ms == (1400 if since == 1400 or records[-1]["kind"] == "reduce_only" else None)


def test_rebates_are_estimated_fill_by_fill_where_the_schedule_is_known() -> None:
    fees = {"rate": 0.07, "exponent": 1.0, "rebate_rate": 0.25}
    for schedule, expected in ((fees, "0.03675"), ({**fees, "rebate_rate": None}, None), (None, None)):
        fold = Fold()
        for record in (
            {**RUN, "markets": [{"slug": "rain"}, {"slug": "snow", "fees": schedule}]},
            place("o1"),
            fill("o1", "4"),
            fill("o1", "6", trade="t2"),
        ):
            fold.add(record)
        rebates = fold.markets[1].rebates
        assert (None if rebates is None else text(rebates)) == expected  # 10 x 0.07 x 0.3 x 0.7 x 0.25
        assert fold.account.figures(1).rebates == 0
        assert fold.markets[0].rebates is None


MEASURED = st.tuples(
    st.sampled_from(list(Outcome)),
    st.sampled_from(HORIZONS_S),
    st.one_of(st.none(), st.integers(-ONE, ONE)),
    st.integers(1, 500 * ONE),
)


@given(measured=st.lists(MEASURED, max_size=25))
@example(measured=[(Outcome.NO, 5, -1, 3)])
@example(measured=[(Outcome.YES, 30, 10_000, 7 * ONE), (Outcome.YES, 30, 10_000, 2 * ONE)])
@example(measured=[(Outcome.YES, 1, None, 7), (Outcome.YES, 1, -3, 1), (Outcome.YES, 1, 4, 3)])
def test_markouts_are_means_weighted_by_shares_with_their_standard_error(measured: list[tuple[Outcome, int, int | None, int]]) -> None:
    markouts = Markouts()
    for number, (outcome, horizon_s, per_share, size) in enumerate(measured):
        markouts.add(outcome, horizon_s, per_share, size, number)
        markouts.made[outcome] += 1  # each is judged at one horizon, and at the others not yet
    document = markouts.document()
    for outcome in Outcome:
        for horizon_s in HORIZONS_S:
            shown = document[outcome][str(horizon_s)]
            here = [(value, size) for o, h, value, size in measured if (o, h) == (outcome, horizon_s)]
            known = [(Fraction(value), size) for value, size in here if value is not None]
            made = sum(token == outcome for token, *_ in measured)
            shares = sum(size for _, size in known)
            assert (shown["fills"], shown["unknown"], parse(shown["shares"])) == (len(known), made - len(known), shares)
            if not known:
                assert (shown["per_share"], shown["error"]) == (None, None)
                continue
            mean = sum(value * size for value, size in known) / shares
            assert shown["per_share"] == text(math.floor(mean))
            if len(known) == 1:
                assert shown["error"] is None
                continue
            variance = sum((value - mean) ** 2 * size for value, size in known) / shares
            effective = Fraction(shares**2, sum(size**2 for _, size in known))
            assert shown["error"] == pytest.approx(math.sqrt(variance / max(effective - 1, Fraction(1, 2))) / ONE, abs=2e-6)


def test_the_standard_error_of_equal_fills_is_the_textbooks() -> None:
    markouts = Markouts()
    for cents in (1, 2, 6):
        markouts.add(Outcome.NO, 5, cents * 10_000, 4 * ONE, 1)
    shown = markouts.document()["NO"]["5"]
    assert (shown["per_share"], shown["error"]) == ("0.03", round(math.sqrt(7 / 3) / 100, 6))


def test_the_last_markouts_are_kept_for_each_horizon() -> None:
    markouts = Markouts()
    for number in range(KEPT + 3):
        for horizon_s in HORIZONS_S:
            markouts.add(Outcome.YES, horizon_s, number if horizon_s == 5 else None, ONE, number)
    assert list(markouts.recent[5]) == [(number, number) for number in range(3, KEPT + 3)]
    assert list(markouts.recent[30]) == []


# --- documents


PARTS = ("spread", "inventory", "fees", "rebates", "settlement")


def assert_adds_up(document: Record) -> None:
    for figures in (document["pnl"], *document["markets"].values()):
        assert parse(figures["total"]) == sum(parse(figures[part]) for part in PARTS)
    for part in ("total", *PARTS):
        assert parse(document["pnl"][part]) == sum(parse(market[part]) for market in document["markets"].values())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=tapes(), model=st.sampled_from(["power", "touch"]))
def test_the_split_adds_up_to_the_last_millionth_at_every_record(rows: list[Row], model: Any) -> None:
    journal = Ran(CountedFeed(rows), Params(**{**SMALL, "queue_model": model, "bracket": False})).journal
    fold = Fold()
    for record in journal:
        fold.add(record)
        if record["kind"] in ("fill", "merge", "resolution", "mark", "end"):
            assert_adds_up(summary.document(fold))


def as_of_the_first_release(journal: Sequence[Record]) -> list[Record]:
    """Return a journal without what release 0.1.0 did not write."""
    old = []
    for record in journal:
        if record["kind"] in ("regime", "markout"):
            continue
        kept = {name: value for name, value in record.items() if name not in ("bracket", "rewards", "numbers", "regime")}
        if record["kind"] == "run":
            kept["markets"] = [
                {name: value for name, value in m.items() if name not in ("fees", "rewards", "description")} for m in record["markets"]
            ]
        old.append(kept)
    return old


def test_a_journal_of_the_first_release_is_reported_with_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with runner_of_the_game(tmp_path, monkeypatch) as runner:
        outcome = runner.start_with_people()
        fold = Fold()
        for record in as_of_the_first_release(runner.journal()):
            fold.add(record)
    document = summary.document(fold)
    unknown = {"bracket": None, "regimes": {}, "estimates": {"rewards": None, "rebates": None}}
    assert {name: document[name] for name in unknown} == unknown
    same = ("status", "pnl", "fills", "orders", "quotes", "position", "capital", "fill_rate", "rebalances", "ledger_sha256")
    assert {name: document[name] for name in same} == {name: outcome.document[name] for name in same}
    assert document["verdict"]["believe"] == "this queue model only"
    table = summary.table(document, warnings=[], folder=None)
    assert "estimates" not in table
    assert "bracket    " not in table
    judged = [at["per_share"] for curves in document["markouts"].values() for curve in curves.values() for at in curve.values()]
    assert set(judged) == {None}
    assert summary.markout_table(outcome.document) is not None


# --- rewards


def rewarded(seed: int = 1, **more: Any) -> Ran:
    settings = Synthetic(**{"rewards_daily_pool": 864.0, "trades_per_minute": 2.0, "volatility_ticks": 0.05, "jumps_per_hour": 0.0, **more})
    return Ran(SyntheticFeed(settings, seed=3, duration_ms=620_000), Params(seed=seed, bracket=False))


def test_rewards_are_sampled_once_in_every_minute_at_the_same_moments_for_one_seed() -> None:
    one, again, other = rewarded(), rewarded(), rewarded(seed=2)
    (slug,) = one.engine.slugs
    samples = [mark["rewards"][slug]["samples"] for mark in one.of_kind("mark")]
    assert samples == list(range(1, 11))
    assert again.journal == one.journal
    estimates = [[mark["rewards"][slug]["usdc_e12"] for mark in run.of_kind("mark")] for run in (one, other)]
    assert estimates[0] != estimates[1]
    shown = one.document["estimates"]["rewards"]
    assert 0 < parse(shown) < parse("864") * 10 // 1440
    assert shown == one.document["markets"][slug]["estimates"]["rewards"]


def test_a_market_that_is_over_is_not_sampled_any_more() -> None:
    feed = SyntheticFeed(Synthetic(rewards_daily_pool=864.0, resolves="yes"), seed=3, duration_ms=200_000)
    rows = list(feed.rows())
    quiet: list[Row] = [(rows[-1][0] + 400_000, 1, 0, 0, 0)]
    run = Ran(CountedFeed(rows + quiet, feed.markets), Params(bracket=False))
    (slug,) = run.engine.slugs
    samples = [mark["rewards"][slug]["samples"] for mark in run.of_kind("mark")]
    assert samples[:3] == [1, 2, 3]
    assert len(samples) == 10
    assert 3 <= samples[-1] <= 4


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=tapes())
def test_rewards_and_rebates_stand_beside_the_result_and_change_nothing_of_it(rows: list[Row]) -> None:
    params = Params(**{**SMALL, "bracket": False})
    known = Ran(CountedFeed(rows), params)
    unknown = Ran(CountedFeed(rows, [replace(m, rewards=None, fees=None) for m in TAPED]), params)
    assert known.document["ledger_sha256"] == unknown.document["ledger_sha256"]
    assert known.document["pnl"] == unknown.document["pnl"]
    assert known.document["pnl"]["rebates"] == "0"
    assert all(record["rewards"] == {"one": None, "two": None} for record in unknown.of_kind("mark", "end"))
    assert unknown.document["estimates"] == {"rewards": None, "rebates": None}
    first, second = (known.document["markets"][slug]["estimates"] for slug in ("one", "two"))
    assert second == {"rewards": None, "rebates": None}
    assert parse(first["rewards"]) >= 0
    fees = TAPED[0].fees
    assert fees is not None
    fills = [
        (parse(r["trade"]["fill_price"]), parse(r["trade"]["fill_qty"])) for r in known.of_kind("fill") if r["trade"]["market"] == "one"
    ]
    naive = sum(size * fees.rate * (price / ONE) * (1 - price / ONE) * (fees.rebate_rate or 0) for price, size in fills)
    assert parse(first["rebates"]) == pytest.approx(naive, abs=len(fills) + 0.01)
