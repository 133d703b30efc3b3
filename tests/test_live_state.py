"""The files beside the journal: live_state.json, health.jsonl and trades.jsonl. Every key that is promised, and no invented number."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import RUN_ID, Runner, Script, config, runner_of_the_game, stop

from mmtools.config import RunConfig, Synthetic
from mmtools.runs import session
from mmtools.runs.engine import Engine
from mmtools.runs.live_state import FEWEST_MINUTES, SCHEMA, Trend, rebuild_trades
from mmtools.state import StateDir
from mmtools.trading.params import Params
from mmtools.units import parse
from mmtools.venues.synthetic import SyntheticFeed

Record = dict[str, Any]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    with runner_of_the_game(tmp_path, monkeypatch) as lent:
        yield lent


LIVE_STATE = {
    "": "timestamp run_id status uptime_seconds duration_target_hours progress_pct pnl markets totals system hypothesis_under_test "
    "run_config_path",
    "pnl": "cumulative realized unrealized per_hour_avg max_drawdown sharpe_estimate",
    "markets.hail": "description mid_price best_bid best_ask spread_bps our_bid our_ask why_no_bid why_no_ask position_yes position_no "
    "position_net pnl fills_count fills_per_hour last_fill_ago_s kill_switch data_gap_s internals",
    "markets.hail.internals": "features half_spread_theory_bps half_spread_applied_bps skew_bps toxicity_zscore toxicity_threshold "
    "rewards_adjustment_bps regime",
    "markets.hail.internals.features": "momentum_20 volatility_60 order_flow_imbalance book_imbalance data_quality",
    "totals": "quotes_generated orders_submitted fills fill_rate_pct ws_messages errors",
    "system": "memory_mb cpu_pct ws_connected ws_latency_ms ws_reconnects errors",
}
TRADE = {
    "": "timestamp run_id trade_id market_id market_description side token price size fill_qty fill_price pnl_this_trade pnl_cumulative "
    "pnl_realized pnl_unrealized entry_rationale market_context feature_vector position_after timing kill_switch_state data_gap_seconds",
    "entry_rationale": "strategy trigger spread_model inventory_skew toxic_flow rewards_farming",
    "entry_rationale.spread_model": "optimal_half_spread_bps applied_half_spread_bps volatility_regime liquidity_score",
    "entry_rationale.inventory_skew": "current_net skew_applied_bps direction",
    "entry_rationale.toxic_flow": "detected zscore action",
    "entry_rationale.rewards_farming": "adjustment_bps reason",
    "market_context": "mid_price best_bid best_ask spread_bps depth_bid_usd depth_ask_usd volume_24h time_to_resolution_days",
    "feature_vector": "momentum_20 volatility_60 order_flow_imbalance book_imbalance data_quality",
    "position_after": "qty_yes qty_no net exposure_usd avg_entry_yes avg_entry_no",
    "timing": "quote_to_fill_ms quote_age_ms ws_latency_ms",
}


def at(document: Record, path: str) -> Record:
    for key in filter(None, path.split(".")):
        document = document[key]
    return document


def strict(line: bytes) -> Record:
    """Return a JSON object; a NaN or an Infinity in it fails."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    document: Record = json.loads(line, parse_constant=refuse)
    return document


# --- live_state.json


def test_the_live_state_has_every_key_that_is_promised(runner: Runner) -> None:
    runner.start()
    document = strict(runner.bytes_of("live_state.json"))
    assert document["schema"] == SCHEMA
    for path, keys in LIVE_STATE.items():
        assert set(keys.split()) <= set(at(document, path)), path


def test_the_live_state_says_what_the_result_says(runner: Runner) -> None:
    outcome = runner.start().document
    shown = runner.live_state()
    assert shown["status"] == "finished"
    assert shown["uptime_seconds"] == 150
    assert shown["timestamp"] == "2026-06-07T12:02:30.000Z"
    assert shown["pnl"]["cumulative"] == outcome["pnl"]["total"]
    assert parse(shown["pnl"]["realized"]) + parse(shown["pnl"]["unrealized"]) == parse(outcome["pnl"]["total"])
    market, position = shown["markets"]["hail"], outcome["position"]["hail"]
    assert [market[f"position_{what}"] for what in ("yes", "no", "net")] == [position[what] for what in ("yes", "no", "net")]
    assert (market["pnl"], market["fills_count"]) == (outcome["markets"]["hail"]["total"], outcome["fills"]["count"])
    totals = shown["totals"]
    assert (totals["orders_submitted"], totals["fills"]) == (outcome["orders"]["sent"], outcome["fills"]["count"])
    assert totals["fill_rate_pct"] == pytest.approx(outcome["fill_rate"] * 100, abs=1e-3)
    assert totals["ws_messages"] == outcome["events"]["frames"]
    assert market["last_fill_ago_s"] == 7
    assert shown["run_config_path"] == str(runner.folder / "run.yaml")


def test_our_quotes_are_shown_while_they_may_rest_and_not_once_they_are_cancelled(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LIVE_STATE_EVERY_S", 0.0)
    seen: list[tuple[Any, Any, Any]] = []

    def look(moving: Engine) -> None:
        market = runner.live_state()["markets"]["hail"]
        seen.append((runner.live_state()["status"], market["our_bid"], market["our_ask"]))

    runner.start(within={3: look})  # the sells of both tokens rest since second 1
    assert seen == [("running", "0.47", "0.48")]
    ended = runner.live_state()["markets"]["hail"]
    assert (ended["our_bid"], ended["our_ask"]) == (None, None)


def test_a_side_that_is_not_quoted_says_why(runner: Runner) -> None:
    runner.start({10: stop})
    market = runner.live_state()["markets"]["hail"]
    assert (market["why_no_bid"], market["why_no_ask"]) == ("short_of_money", None)


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    script = Script().taker(0, "BUY", "0.5", 3).taker(1, "BUY", "0.5", 3)
    runner = Runner(tmp_path, config(script.write(tmp_path / "no-book.jsonl")))
    runner.start()
    shown = runner.live_state()
    market = shown["markets"]["hail"]
    for key in ("mid_price", "best_bid", "best_ask", "spread_bps", "our_bid", "last_fill_ago_s"):
        assert market[key] is None, key
    assert market["why_no_bid"] == "book_incomplete"
    assert shown["totals"]["fill_rate_pct"] is None
    assert shown["system"]["ws_connected"] is None
    assert shown["pnl"]["sharpe_estimate"] is None
    assert (shown["duration_target_hours"], shown["progress_pct"]) == (None, None)


def test_a_run_with_a_duration_shows_its_progress(tmp_path: Path) -> None:
    run = RunConfig(feed="synthetic", duration_hours=0.05, params=Params(max_drawdown=0.5))
    feed = SyntheticFeed(Synthetic(resolves="yes"), seed=1, duration_ms=180_000)
    fractions: list[float] = []
    session.execute(run, feed, StateDir(tmp_path), run_id="s", on_progress=fractions.append)
    shown = json.loads((tmp_path / "runs/s/live_state.json").read_text())
    assert (shown["progress_pct"], shown["duration_target_hours"]) == (100, 0.05)
    assert fractions == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1]


def test_a_halted_run_shows_its_regime(runner: Runner) -> None:
    runner.with_params(max_drawdown=0.03).start()
    market = runner.live_state()["markets"]["hail"]
    assert (market["kill_switch"], market["internals"]["regime"], market["why_no_bid"]) == ("latched", "HALTED", "drawdown")


# --- health.jsonl


def test_health_has_a_line_for_every_minute_of_feed_time(runner: Runner) -> None:
    runner.start()
    lines = [strict(line) for line in runner.bytes_of("health.jsonl").splitlines()]
    assert [line["timestamp"] for line in lines] == ["2026-06-07T12:01:00.000Z", "2026-06-07T12:02:00.000Z"]
    for line in lines:
        assert line["memory_mb"] > 1
        assert line["quote_us_p50"] <= line["quote_us_p99"]
        assert line["cycle_us_p50"] <= line["cycle_us_p99"]
        assert {"cpu_pct", "ws_latency_ms", "ws_reconnects", "errors"} <= set(line)
    assert lines[0]["cycles"] == 4  # the timer rang at 0, 20, 40 and 60 s


def test_minutes_that_are_simulated_again_get_no_second_line(runner: Runner) -> None:
    runner.cut_off(8)
    assert len(runner.bytes_of("health.jsonl").splitlines()) == 2
    before = runner.bytes_of("health.jsonl")
    runner.start()
    assert runner.bytes_of("health.jsonl") == before


# --- trades.jsonl


def test_a_trade_has_every_key_that_is_promised_and_stands_in_the_journal_as_it_is(runner: Runner) -> None:
    runner.start()
    trades = [strict(line) for line in runner.bytes_of("trades.jsonl").splitlines()]
    assert trades == [record["trade"] for record in runner.of_kind("fill")]
    for trade in trades:
        for path, keys in TRADE.items():
            assert set(keys.split()) <= set(at(trade, path)), path


def test_trades_tell_of_themselves_and_of_where_the_run_stands(runner: Runner) -> None:
    runner.start()
    first, second, third, *_ = [record["trade"] for record in runner.of_kind("fill")]
    assert (first["side"], first["token"], first["fill_price"], first["fill_qty"], first["size"]) == ("BUY", "YES", "0.47", "10", "10")
    assert (second["side"], second["token"], second["fill_price"]) == ("BUY", "NO", "0.52")
    assert (third["side"], third["fill_qty"], third["size"]) == ("SELL", "4", "10")
    assert [trade["pnl_this_trade"] for trade in (first, second, third)] == ["0.05", "0.05", "0.02"]
    assert [trade["pnl_cumulative"] for trade in (first, second, third)] == ["0.05", "0.1", "0.12"]
    assert first["timestamp"] == "2026-06-07T12:00:01.000Z"
    assert first["timing"]["quote_to_fill_ms"] == 1000
    assert first["timing"]["quote_age_ms"] == 950
    assert second["position_after"] == {
        "qty_yes": "10", "qty_no": "10", "net": "0", "exposure_usd": "0", "avg_entry_yes": "0.47", "avg_entry_no": "0.52",
    }  # fmt: skip
    assert (second["market_context"]["best_bid"], second["market_context"]["best_ask"]) == ("0.47", "0.48")
    assert third["market_context"]["mid_price"] == "0.465"
    assert third["kill_switch_state"] == "clear"


def test_trades_are_left_alone_when_they_are_what_the_journal_says(runner: Runner) -> None:
    runner.start()
    path = runner.folder / "trades.jsonl"
    before = path.stat()
    rebuild_trades(runner.state, RUN_ID)
    assert path.stat().st_ino == before.st_ino
    path.unlink()
    rebuild_trades(runner.state, RUN_ID)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [record["trade"] for record in runner.of_kind("fill")]


# --- the Sharpe ratio


def sharpe(totals: list[int], began_at: int = 0) -> float | None:
    trend = Trend(began_at)
    for total in totals:
        trend.minute(total)
    return trend.sharpe()


def test_the_sharpe_ratio_is_mean_over_deviation_of_minutes_in_a_year() -> None:
    changes = [300_000, -100_000] * 20
    totals = [sum(changes[: n + 1]) for n in range(len(changes))]
    assert sharpe(totals) == pytest.approx(0.1 / 0.2 * math.sqrt(365 * 24 * 60), rel=1e-4)


def test_a_short_or_a_flat_history_has_no_sharpe_ratio() -> None:
    assert sharpe([100, 0] * (FEWEST_MINUTES // 2 - 1)) is None
    assert sharpe([7_000_000] * 100, began_at=7_000_000) is None


def test_what_a_run_had_earned_before_it_was_taken_up_is_no_change_of_its_first_minute() -> None:
    totals = [5_000_000 + (n % 3) * 1000 for n in range(60)]
    assert sharpe(totals, began_at=5_000_000) == sharpe([total - 5_000_000 for total in totals])
