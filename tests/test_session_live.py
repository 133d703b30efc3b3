"""A live feed on paper: a run that was killed goes on with its ledger, and without its orders."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from faults import Kind, every_fault
from small_runs import CLEARED, LOWER_ASKS, LOWER_BIDS, PARAMS, RUN_ID, LiveFeed, Runner, Script, game, latch_once, runner_of_the_game, stop

from mmtools.config import RunConfig
from mmtools.errors import Refused
from mmtools.runs import reading, summary
from mmtools.runs.bracket import OTHERS
from mmtools.runs.engine import Engine, Status
from mmtools.runs.fold import Fold
from mmtools.trading.markouts import Toxicity
from mmtools.trading.params import Params
from mmtools.units import ONE, Price, parse, text

Record = dict[str, Any]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    with runner_of_the_game(tmp_path, monkeypatch) as lent:
        yield lent


def live(runner: Runner, script: Script, tmp_path: Path, **params: Any) -> Runner:
    """Return the same run on another part of the live feed."""
    run = RunConfig(feed="live", markets=("hail",), params=Params(**{**PARAMS, **params}))
    return Runner(runner.state.root, run, LiveFeed(script, tmp_path))


def later() -> Script:
    """What comes after `game` was cut off at minute 2 or before."""
    script = Script().book(200).taker(202, "SELL", "0.46", 30).taker(202, "BUY", "0.49", 30).book(215, LOWER_BIDS, LOWER_ASKS)
    return script.taker(225, "BUY", "0.48", 30).book(280)


def assert_is_consistent(runner: Runner) -> None:
    """Nothing is counted twice: every key and trade is there once, and the files agree."""
    keys = [record["key"] for record in runner.of_kind("place")]
    trades = [record["trade"] for record in runner.of_kind("fill")]
    assert len(set(keys)) == len(keys)
    assert len({trade["trade_id"] for trade in trades}) == len(trades)
    assert [json.loads(line) for line in runner.bytes_of("trades.jsonl").splitlines()] == trades
    gone = [record["key"] for record in runner.of_kind("gone") + runner.of_kind("rejected")]
    assert sorted(gone) == sorted(keys)
    account = reading.fold_of(runner.state, RUN_ID).account
    bought = dict.fromkeys(("YES", "NO"), 0)
    cash = parse("12")
    for trade in trades:
        sign = 1 if trade["side"] == "BUY" else -1
        bought[trade["token"]] += sign * parse(trade["fill_qty"])
        money = parse(trade["fill_price"]) * parse(trade["fill_qty"])
        cash -= sign * (-(-money // ONE) if sign > 0 else money // ONE)
    merged = sum(parse(record["size"]) for record in runner.of_kind("merge"))
    position = account.positions[0]
    assert (position.yes, position.no) == (bought["YES"] - merged, bought["NO"] - merged)
    assert (account.cash, account.reserved, position.merging) == (cash + merged, 0, 0)


def test_a_live_run_goes_on_with_its_ledger_and_without_its_orders(runner: Runner, tmp_path: Path) -> None:
    live(runner, game(), tmp_path).cut_off(5)
    before = reading.fold_of(runner.state, RUN_ID)
    assert set(before.sent) == {"o5", "o6"}
    again = live(runner, later(), tmp_path)
    document = again.start().document
    assert [record["cause"] for record in again.of_kind("gone") if record["key"] in ("o5", "o6")] == ["cancelled"] * 2
    fills, orders = again.of_kind("fill"), again.of_kind("place")
    assert len(fills) > before.fills == 3
    assert [record["trade"]["trade_id"] for record in fills] == [f"paper-t{n}" for n in range(1, len(fills) + 1)]
    assert [record["key"] for record in orders] == [f"o{n}" for n in range(1, len(orders) + 1)]
    assert document["duration_s"] == 280
    assert document["fills"]["count"] == len(fills)
    assert document == summary.document(reading.fold_of(again.state, RUN_ID))
    assert [record["wall"] > "2026" for record in again.of_kind("start")] == [True]
    assert_is_consistent(again)


def test_an_order_of_a_live_run_that_nobody_had_answered_is_unknown_after_a_kill(runner: Runner, tmp_path: Path) -> None:
    live(runner, Script().book(0).book(0.02), tmp_path, latency_ms=40).cut_off(1)
    again = live(runner, Script().book(60), tmp_path, latency_ms=40)
    orders = again.start({1: stop}).document["orders"]
    first = [record for record in again.of_kind("gone") if record["key"] in ("o1", "o2")]
    assert [record["cause"] for record in first] == ["unknown"] * 2
    assert orders["cancelled"] == 0
    assert orders["unknown"] == orders["sent"] - orders["accepted"]


def test_pairs_that_a_killed_live_run_was_merging_can_be_merged_again(runner: Runner, tmp_path: Path) -> None:
    script = game().book(151)
    first = live(runner, script, tmp_path, merge_latency_ms=30_000)
    wind_down = {4: lambda moving: runner.switch.latch(reason="manual", detail="out", by="anna", reduce_only=True)}
    first.cut_off(6, wind_down)
    assert [record["size"] for record in first.of_kind("merge_sent")] == ["6"]
    assert first.of_kind("merge") == []
    again = live(runner, later(), tmp_path, merge_latency_ms=30_000)
    document = again.start().document
    assert [record["size"] for record in again.of_kind("merge_gone")] == ["6"]
    assert [record["size"] for record in again.of_kind("merge_sent")] == ["6", "6"]
    assert [record["size"] for record in again.of_kind("merge")] == ["6"]
    assert document["capital"]["free"] == "9.98"
    assert_is_consistent(again)


def test_the_limits_of_a_live_run_outlive_it(runner: Runner, tmp_path: Path) -> None:
    live(runner, game(), tmp_path).cut_off(7)
    left = reading.fold_of(runner.state, RUN_ID)
    assert left.mark is not None
    assert left.mark["limits"]["deepest"] == "0"
    assert (text(left.limits.peak), text(left.limits.deepest)) == ("0.12", "0.0025"), "the fill after the last mark counts"
    seen: list[tuple[str, str]] = []

    def look(moving: Engine) -> None:
        limits = moving.maker.limits
        seen.append((text(limits.peak), text(limits.deepest)))

    live(runner, later(), tmp_path).start({0: look})
    assert seen == [("0.12", "0.0025")]


def test_a_live_run_that_had_lost_before_the_kill_halts_on_what_it_loses_after(runner: Runner, tmp_path: Path) -> None:
    """Between 0.12 at the peak before the kill and 0.08 after it, neither part alone loses 0.07."""
    calm = Script().book(200).book(210, {"0.43": 200}, {"0.44": 150}).book(215)
    live(runner, game(), tmp_path, max_drawdown=0.07).cut_off(7)
    outcome = live(runner, calm, tmp_path, max_drawdown=0.07).start()
    assert outcome.status is Status.HALTED
    (halt,) = outcome.document["halts"]
    assert "below the peak of 0.12" in halt["detail"]


def test_a_halted_live_run_is_refused_until_cleared_and_says_who_cleared_it(runner: Runner, tmp_path: Path) -> None:
    assert live(runner, game(), tmp_path, max_drawdown=0.03).start().status is Status.HALTED
    again = live(runner, later(), tmp_path, max_drawdown=0.03)
    with pytest.raises(Refused, match="halted since"):
        again.start()
    runner.switch.clear(**CLEARED)
    assert again.start({2: stop}).status is Status.STOPPED
    (cleared,) = again.of_kind("cleared")
    assert (cleared["by"], cleared["why"]) == ("ben", "looked")
    assert_is_consistent(again)


def test_a_live_run_killed_between_its_halt_and_the_latch_does_not_start(runner: Runner, tmp_path: Path) -> None:
    live(runner, game(), tmp_path, max_drawdown=0.03).start()
    (runner.folder / "kill.json").unlink()
    with pytest.raises(Refused, match="halted since"):
        live(runner, later(), tmp_path, max_drawdown=0.03).start()


def test_the_second_halt_of_a_live_run_is_a_latch_of_its_own(runner: Runner, tmp_path: Path) -> None:
    live(runner, game(), tmp_path, max_drawdown=0.03).start()
    runner.switch.clear(**CLEARED)
    again = live(runner, later(), tmp_path, max_drawdown=0.03)
    assert again.start().status is Status.HALTED
    assert [(latch["halt"], latch["cleared"] is None) for latch in runner.switch.latches()] == [(0, False), (1, True)]


def test_a_live_run_that_winds_down_still_does_after_a_kill(runner: Runner, tmp_path: Path) -> None:
    runner.switch.latch(reason="manual", detail="out", by="anna", reduce_only=True)
    live(runner, game(), tmp_path).cut_off(3)
    again = live(runner, later(), tmp_path)
    again.start()
    assert again.of_kind("place") == []
    assert len(again.of_kind("reduce_only")) == 1
    assert again.live_state()["markets"]["hail"]["kill_switch"] == "reduce_only"


def test_a_live_run_whose_winding_down_was_cleared_while_it_was_dead_quotes_again(runner: Runner, tmp_path: Path) -> None:
    runner.switch.latch(reason="manual", detail="out", by="anna", reduce_only=True)
    live(runner, game(), tmp_path).cut_off(3)
    runner.switch.clear(**CLEARED)
    again = live(runner, later(), tmp_path)
    again.start()
    (cleared,) = again.of_kind("cleared")
    assert (cleared["by"], cleared["latch"]) == ("ben", 0)
    assert {record["token"] for record in again.of_kind("place")} >= {"YES", "NO"}


def test_a_live_run_taken_up_after_its_time_ends_at_once_and_at_its_time(runner: Runner, tmp_path: Path) -> None:
    first, again = live(runner, game(), tmp_path), live(runner, later(), tmp_path)
    first.run = again.run = msgspec.structs.replace(first.run, duration_hours=180 / 3600)
    first.cut_off(7)
    fills = len(first.of_kind("fill"))
    outcome = again.start()
    assert outcome.status is Status.FINISHED
    assert outcome.document["duration_s"] == 180
    assert len(again.of_kind("fill")) == fills
    assert_is_consistent(again)


def test_a_live_run_whose_market_was_over_pays_out_once(runner: Runner, tmp_path: Path) -> None:
    over = Script().book(0).taker(1, "SELL", "0.46", 30).book(10).resolved(20, yes=True).book(30)
    live(runner, over, tmp_path).cut_off(4)
    again = live(runner, Script().resolved(100, yes=True).book(101), tmp_path)
    document = again.start().document
    assert document["capital"]["free"] == "17.3"
    assert len(again.of_kind("resolution")) == 1
    assert again.of_kind("place")[-1]["at_ms"] < again.of_kind("resolution")[0]["at_ms"]


def test_the_warnings_of_a_live_run_are_shown_once_however_often_it_is_started(runner: Runner, tmp_path: Path) -> None:
    first = live(runner, game(), tmp_path)
    first.cut_off(3)
    said = summary.warnings(reading.fold_of(runner.state, RUN_ID))
    assert said
    assert live(runner, later(), tmp_path).start().warnings == said


# --- the bracket's other makers


FALLING = Script().book(0, {"0.47": 8}, {"0.48": 500, "0.5": 9}).taker(5, "SELL", "0.47", 8).book(8, {"0.44": 40}, {"0.46": 300})
"""The queue of 8 is traded and no more: only who stands first in it has bought, and loses when the market falls."""


def fills_of_others(runner: Runner) -> dict[str, list[Record]]:
    return {name: [r["trade"] for r in runner.of_other(name) if r["kind"] == "fill"] for name in OTHERS}


@pytest.mark.parametrize("frame", range(1, 10))
def test_the_others_of_a_live_run_go_on_with_their_totals_wherever_it_was_killed(runner: Runner, tmp_path: Path, frame: int) -> None:
    """Before the first minute is over no mark has told of them: their files have."""
    live(runner, game(), tmp_path).cut_off(frame)
    before, mark = fills_of_others(runner), reading.fold_of(runner.state, RUN_ID).mark
    again = live(runner, later(), tmp_path)
    taken_up: dict[str, Record] = {}
    document = again.start({0: lambda moving: taken_up.update({other.name: other.tally() for other in moving.others})}).document
    for name, fills in fills_of_others(again).items():
        accepted = parse(taken_up[name]["shares_accepted"])
        assert taken_up[name]["fills"] == len(before[name])
        if mark is None:
            assert accepted == sum(parse(trade["fill_qty"]) for trade in before[name])
        else:
            assert accepted == parse(mark["bracket"][name]["shares_accepted"]) > sum(parse(trade["fill_qty"]) for trade in before[name])
        shown = document["bracket"][name]
        assert fills[: len(before[name])] == before[name]
        assert len(fills) > len(before[name])
        assert [trade["trade_id"] for trade in fills] == [f"paper-t{n}" for n in range(1, len(fills) + 1)]
        assert (shown["fills"], parse(shown["shares"])) == (len(fills), sum(parse(trade["fill_qty"]) for trade in fills))
        assert 0 < shown["fill_rate"] <= 1
        kept = Fold()
        for record in (again.of_kind("run")[0], *again.of_other(name)):
            kept.add(record)
        kept.account.mark(0, Price(parse("0.475")))  # of the last book
        assert parse(shown["pnl"]) == kept.account.total()


def test_one_of_the_others_that_had_halted_before_the_kill_does_nothing_after_it(runner: Runner, tmp_path: Path) -> None:
    script = FALLING.book(20).book(70).book(75)
    live(runner, script, tmp_path, max_drawdown=0.1).cut_off(5)
    assert [record["kind"] for record in runner.of_other("optimistic")] == ["fill", "halt"]
    again = live(runner, Script().book(200).taker(202, "SELL", "0.46", 900).book(215), tmp_path, max_drawdown=0.1)
    bracket = again.start().document["bracket"]
    assert [record["kind"] for record in again.of_other("optimistic")] == ["fill", "halt"]
    assert (bracket["optimistic"]["pnl"], bracket["optimistic"]["halted"]) == ("-0.16", "drawdown")
    assert bracket["risk_averse"]["halted"] is None
    assert bracket["risk_averse"]["fills"] > 0


def test_one_of_the_others_that_had_halted_just_before_the_kill_has_still_halted(runner: Runner, tmp_path: Path) -> None:
    """No mark has told of it."""
    live(runner, FALLING.book(20), tmp_path, max_drawdown=0.1).cut_off(3)
    assert runner.of_kind("mark") == []
    bracket = live(runner, later(), tmp_path, max_drawdown=0.1).start().document["bracket"]
    assert bracket["optimistic"]["halted"] == "drawdown"


def test_clearing_a_halted_live_run_lets_all_three_go_on(runner: Runner, tmp_path: Path) -> None:
    live(runner, game(), tmp_path).start({4: latch_once(runner)})
    assert {name: runner.of_other(name)[-1]["kind"] for name in OTHERS} == dict.fromkeys(OTHERS, "halt")
    before = fills_of_others(runner)
    runner.switch.clear(**CLEARED)
    again = live(runner, later(), tmp_path)
    bracket = again.start().document["bracket"]
    for name, fills in fills_of_others(again).items():
        assert bracket[name]["halted"] is None
        assert len(fills) > len(before[name])
        (cleared,) = [record for record in again.of_other(name) if record["kind"] == "cleared"]
        assert (cleared["by"], cleared["why"]) == ("ben", "looked")


def test_the_limits_of_the_others_outlive_a_live_run(runner: Runner, tmp_path: Path) -> None:
    live(runner, game(), tmp_path).cut_off(7)
    seen: list[list[str]] = []

    def look(moving: Engine) -> None:
        seen.append([text(other._maker.limits.peak) for other in moving.others])

    live(runner, later(), tmp_path).start({0: look})
    assert seen == [["0.12", "0.12"]]


def test_a_file_of_the_bracket_that_contradicts_itself_is_refused_in_one_line_and_nothing_is_written(
    runner: Runner, tmp_path: Path
) -> None:
    live(runner, game(), tmp_path).cut_off(7)
    file = runner.folder / "bracket-optimistic.jsonl"
    file.write_text(file.read_text().replace('"market":"hail"', '"market":"snow"', 1))
    journal = runner.bytes_of("journal.jsonl")
    with pytest.raises(Refused, match=r"line 1 of bracket-optimistic does not follow .*optimistic\.jsonl: delete it") as refused:
        live(runner, later(), tmp_path).start()
    assert "\n" not in str(refused.value)
    assert runner.bytes_of("journal.jsonl") == journal
    file.unlink()
    assert live(runner, later(), tmp_path).start().document["bracket"]["optimistic"]["fills"] > 0


# --- rewards, toxicity, the exit's clock


def test_rewards_toxicity_and_the_exits_clock_outlive_a_live_run(runner: Runner, tmp_path: Path) -> None:
    terms = {"min_size": "5", "max_spread": "0.03", "daily_pool": "86"}
    params = {"toxicity_horizon_s": 5, "max_net_position": 40, "capital": 50}

    def wind_down(moving: Engine) -> None:
        runner.switch.latch(reason="manual", detail="out", by="anna", reduce_only=True)

    whole = Script(rewards=terms).book(0).taker(1, "SELL", "0.46", 30).book(12).taker(31, "SELL", "0.46", 30).book(61).book(122).book(123)
    live(runner, whole, tmp_path, **params).cut_off(6, {5: wind_down})
    before = reading.fold_of(runner.state, RUN_ID)
    assert before.mark is not None
    told = before.mark["rewards"]["hail"]
    again = Script(rewards=terms).book(200).book(330)

    def look(moving: Engine) -> None:
        desk, estimate = moving.maker.desks[0], moving.rewards[0]
        seen.append((desk.watch.exit_since_ms, estimate.samples, estimate.scored, str(estimate.usdc_e12)))
        zscores.append(desk.toxicity.zscore(before.last_ms, 10_000))

    seen: list[tuple[int | None, int, int, str]] = []
    zscores: list[float | None] = []
    live(runner, again, tmp_path, **params).start({0: look})
    (asked,) = runner.of_kind("reduce_only")
    assert told["scored"] >= 1
    assert seen == [(asked["at_ms"], told["samples"], told["scored"], told["usdc_e12"])]
    evidence = Toxicity(Params(toxicity_horizon_s=5))
    judged = [r for r in runner.of_kind("markout") if r["horizon_s"] == 5 and r["at_ms"] <= before.last_ms]
    for record in judged:
        evidence.add(parse(record["per_share"]), record["at_ms"])
    assert len(judged) == 2
    assert zscores == [evidence.zscore(before.last_ms, 10_000)]
    after = reading.fold_of(runner.state, RUN_ID).mark
    assert after is not None
    assert after["rewards"]["hail"]["samples"] > told["samples"]


def kill_at_every_write_of_a_live_run(runner: Runner, kind: Kind, tmp_path: Path) -> None:
    def play() -> int:
        live(runner, game(), tmp_path).start()
        return 0

    for outcome in every_fault(kind, play):
        assert outcome.signal == (signal.SIGKILL if outcome.reached else None), outcome.stderr
        if not outcome.reached:
            return
        again = live(runner, later(), tmp_path)
        if not again.of_kind("end"):  # else it was over
            document = again.start().document
            assert document == summary.document(reading.fold_of(again.state, RUN_ID))
        assert_is_consistent(again)
        runner.forget()


def test_a_live_run_killed_within_any_write_goes_on_with_what_it_owns(runner: Runner, tmp_path: Path) -> None:
    kill_at_every_write_of_a_live_run(runner, "kill-half", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kill-before", "kill-after"])
def test_a_live_run_killed_around_any_write_goes_on_with_what_it_owns(runner: Runner, kind: Kind, tmp_path: Path) -> None:
    kill_at_every_write_of_a_live_run(runner, kind, tmp_path)
