"""The live feed on paper, end to end: a market directory and a market channel on loopback, the real command, the real files."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from loopback import Gone, Peer, WebSocketServer

from mmtools.runs import reading
from mmtools.state import StateDir

YES = str((5 << 200) | (0xC0FFEE << 64) | 17)
NO = str((9 << 201) | (0xBADCAFE << 66) | 40)
CONDITION = "0x" + "3d" * 32
MARKET = {
    "id": "90210", "version": "v1", "slug": "will-it-hail", "question": "Will it hail?", "conditionId": CONDITION,
    "outcomes": '["Yes", "No"]', "clobTokenIds": json.dumps([YES, NO]), "active": True, "closed": False, "archived": False,
    "acceptingOrders": True, "enableOrderBook": True, "negRisk": False, "orderMinSize": 5, "orderPriceMinTickSize": 0.01,
    "endDate": "2099-12-31T00:00:00Z", "feesEnabled": False, "events": [{"slug": "weather"}],
}  # fmt: skip


@contextmanager
def market_directory() -> Iterator[str]:
    """Answer GET /markets/slug/will-it-hail."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(MARKET).encode()
            self.send_response(200 if self.path.startswith("/markets/slug/will-it-hail") else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def book(token: str, bid: str, ask: str) -> dict[str, Any]:
    bids, asks = [{"price": bid, "size": "300"}], [{"price": ask, "size": "200"}]
    return {"event_type": "book", "market": CONDITION, "asset_id": token, "timestamp": stamp(), "hash": "", "bids": bids, "asks": asks}


def stamp() -> str:
    return str(round(time.time() * 1000))


def market_that_sells(prints: int) -> Callable[[Peer], None]:
    """Return a script: a book of both tokens, then takers who buy NO, which is selling YES through any bid above 0.40."""

    def play(peer: Peer) -> None:
        subscription = json.loads(peer.receive() or "{}")
        assert sorted(subscription["assets_ids"]) == sorted([YES, NO])
        peer.send(json.dumps([book(YES, "0.44", "0.47"), book(NO, "0.53", "0.56")]))
        until = time.monotonic() + 20
        left = prints
        while time.monotonic() < until:
            time.sleep(0.1)
            print_ = {
                "event_type": "last_trade_price", "asset_id": NO, "market": CONDITION, "price": "0.6", "size": "7.5", "side": "BUY",
                "fee_rate_bps": "0", "timestamp": stamp(),
            }  # fmt: skip
            if left > 0:
                peer.send(json.dumps(print_))
            left -= 1
            if peer.receive(0.01) == "PING":
                peer.send("PONG")

    def gone_is_fine(peer: Peer) -> None:
        try:
            play(peer)
        except Gone:
            return

    return gone_is_fine


@contextmanager
def quote_run(config: Path, state: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start the command as a program; it is killed when the block ends before it does."""
    command = [sys.executable, "-m", "mmtools.commands.quote_run", "--config", str(config), "--state", str(state), "--json"]
    root = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=root)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 20
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it did not come to this in time"
        time.sleep(0.02)


def journal(state: Path) -> list[dict[str, Any]]:
    return list(StateDir(state).records("runs/hail/journal.jsonl"))


def kinds(state: Path, kind: str) -> int:
    return sum(record["kind"] == kind for record in journal(state))


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(gamma: str, stream: str) -> Path:
        path = tmp_path / "live.yaml"
        path.write_text(
            f"run_id: hail\nfeed: live\nmarkets: [will-it-hail]\nendpoints: {{gamma: '{gamma}', clob: '{gamma}', stream: '{stream}'}}\n"
            "params: {quote_interval_s: 0.1, latency_ms: 10, default_order_size: 20, resume_after_s: 0}\n"
        )
        return path

    return write


def test_the_live_feed_on_paper_quotes_fills_and_ends_in_order_on_sigterm(tmp_path: Path, config: Callable[[str, str], Path]) -> None:
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


def test_a_killed_run_on_the_live_feed_goes_on_with_what_it_owned(tmp_path: Path, config: Callable[[str, str], Path]) -> None:
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
