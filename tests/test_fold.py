"""The fold of a journal: what a run did, read from its records alone."""

from pathlib import Path
from typing import Any

import pytest
from small_runs import RUN_ID, Runner, runner_of_the_game, stop, through_halts

from mmtools.errors import Refused
from mmtools.runs import session, summary
from mmtools.runs.fold import SCHEMA, Fold
from mmtools.units import parse

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
        assert runner.start({8: stop}).document == summary.document(session.fold_of(runner.state, RUN_ID))
        assert runner.start().document == summary.document(session.fold_of(runner.state, RUN_ID))
        runner.forget()
        halting: Runner = runner.with_params(max_drawdown=0.03)
        assert through_halts(halting).document == summary.document(session.fold_of(runner.state, RUN_ID))


def test_a_run_that_is_not_there_or_never_wrote_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with runner_of_the_game(tmp_path, monkeypatch) as runner:
        with pytest.raises(Refused, match="there is no run small"):
            session.fold_of(runner.state, RUN_ID)
        runner.state.log(f"runs/{RUN_ID}/journal.jsonl").close()
        with pytest.raises(Refused, match="cut off before it wrote anything"):
            session.fold_of(runner.state, RUN_ID)
        assert runner.start().document["status"] == "finished"
