"""The live feed on paper, end to end: a market directory and a market channel on loopback, the real command, the real files."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hail import journal, kinds, market_directory, market_that_sells, quote_run, wait_for, write_config
from loopback import WebSocketServer

from mmtools.runs import reading
from mmtools.state import StateDir

Config = Callable[[str, str], Path]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return lambda gamma, stream: write_config(tmp_path / "live.yaml", gamma, stream)


def test_the_live_feed_on_paper_quotes_fills_and_ends_in_order_on_sigterm(tmp_path: Path, config: Config) -> None:
    state = tmp_path / "state"
    with (
        market_directory() as gamma,
        WebSocketServer(market_that_sells(3)) as server,
        quote_run(config(gamma, server.url), state) as process,
    ):
        wait_for(lambda: kinds(state, "fill") >= 3, process)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=10)
    assert process.returncode == 0, stderr
    result = json.loads(stdout)
    assert (result["feed"], result["venue"], result["status"]) == ("live", "paper", "stopped")
    assert result["fills"] == {"count": 3, "shares": "22.5", "notional": "10.125"}
    assert result["position"]["will-it-hail"]["yes"] == "22.5"
    assert result["orders"]["cancelled"] >= 1
    assert "Traceback" not in stderr
    shown = json.loads((state / "runs/hail/live_state.json").read_text())
    assert shown["status"] == "stopped"
    assert shown["system"]["ws_reconnects"] == 0
    assert shown["markets"]["will-it-hail"]["position_yes"] == "22.5"


def test_a_killed_run_on_the_live_feed_goes_on_with_what_it_owned(tmp_path: Path, config: Config) -> None:
    state = tmp_path / "state"
    with market_directory() as gamma, WebSocketServer(market_that_sells(2), market_that_sells(1)) as server:
        path = config(gamma, server.url)
        with quote_run(path, state) as process:
            wait_for(lambda: kinds(state, "fill") >= 2, process)
            process.kill()
            process.communicate()
        before = reading.fold_of(StateDir(state), "hail")
        with quote_run(path, state) as process:
            wait_for(lambda: kinds(state, "fill") >= 3, process)
            process.send_signal(signal.SIGTERM)
            stdout, stderr = process.communicate(timeout=10)
    assert process.returncode == 0, stderr
    result = json.loads(stdout)
    assert before.account.positions[0].yes == 15_000_000
    assert result["position"]["will-it-hail"]["yes"] == "22.5"
    assert result["fills"]["count"] == 3
    assert len({record["trade"]["trade_id"] for record in journal(state) if record["kind"] == "fill"}) == 3
    restarted = [record["kind"] for record in journal(state)].index("start")
    given_up = [record for record in journal(state)[restarted:] if record["kind"] == "gone"]
    assert {record["key"] for record in given_up} >= set(before.sent)
    trades = [json.loads(line) for line in (state / "runs/hail/trades.jsonl").read_text().splitlines()]
    assert [trade["fill_qty"] for trade in trades] == ["7.5", "7.5", "7.5"]
