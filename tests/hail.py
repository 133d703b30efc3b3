"""A live market on loopback, `will-it-hail`: its directory, its channel as scripts, `quote-run` on it as a program. No checks here."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopback import Gone, Peer
from serving import Handler, serving

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

    class Asked(Handler):
        def do_GET(self) -> None:
            self.say(200 if self.path.startswith("/markets/slug/will-it-hail") else 404, json.dumps(MARKET).encode())

    with serving(Asked) as url:
        yield url


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
def quote_run(config: Path, state: Path, *args: str, env: Mapping[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    """Start the command as a program; it is killed when the block ends before it does. env: added to ours."""
    command = [sys.executable, "-m", "mmtools.commands.quote_run", "--config", str(config), "--state", str(state), "--json", *args]
    root = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root), **(env or {})}
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


def write_config(path: Path, gamma: str, stream: str, more: str = "") -> Path:
    """Write a run of that market. more: lines to add."""
    path.write_text(
        f"run_id: hail\nfeed: live\nmarkets: [will-it-hail]\nendpoints: {{gamma: '{gamma}', clob: '{gamma}', stream: '{stream}'}}\n"
        f"params: {{quote_interval_s: 0.1, latency_ms: 10, default_order_size: 20, resume_after_s: 0}}\n{more}"
    )
    return path
