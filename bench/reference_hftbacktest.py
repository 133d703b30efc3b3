"""The reference strategy on hftbacktest: one asset for each token, both tokens' books. Run by bench/reference.py in the peers' environment.

    python bench/reference_hftbacktest.py prepare RECORDING FOLDER
    python bench/reference_hftbacktest.py run FOLDER
    python bench/reference_hftbacktest.py warm FOLDER [--yes-only] [--laps N]

`prepare` writes yes.npz and no.npz, not compressed, which loads fastest. `run` prints the fills, `warm` the CPU seconds of every lap
after the strategy was compiled, files read again in each. The depth is the vector, a fifth faster here than the hash map. Imports
nothing of mmtools; numpy and hftbacktest are the peer's own.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
from hftbacktest import (
    BUY,
    BUY_EVENT,
    DEPTH_CLEAR_EVENT,
    DEPTH_EVENT,
    DEPTH_SNAPSHOT_EVENT,
    EXCH_EVENT,
    FILLED,
    GTX,
    LIMIT,
    LOCAL_EVENT,
    NEW,
    SELL_EVENT,
    TRADE_EVENT,
    BacktestAsset,
    ROIVectorMarketDepthBacktest,
)
from hftbacktest.types import event_dtype
from numba import njit

MS = 1_000_000
BOTH = EXCH_EVENT | LOCAL_EVENT
NO_TICK = 1 << 31
"""Beyond every price: hftbacktest gives the extremes of an integer for the best of an empty side."""
MOST_FILLS = 200_000


def prepare(recording: Path, folder: Path) -> None:
    """Write the events of each token, and the tick: what hftbacktest reads instead of frames."""
    with gzip.open(recording, "rt") as lines:
        (market,) = json.loads(next(lines))["markets"]
        events: dict[str, list[tuple[int, int, int, float, float, int, int, float]]] = {token: [] for token in market["token_ids"]}
        for line in lines:
            ms, frame = json.loads(line)

            def add(token: str, kind: int, at: str, size: str, now: int = ms * MS) -> None:
                events[token].append((BOTH | kind, now, now, float(at), float(size), 0, 0, 0.0))

            if frame["event_type"] == "price_change":
                for change in frame["price_changes"]:
                    side = BUY_EVENT if change["side"] == "BUY" else SELL_EVENT
                    add(change["asset_id"], DEPTH_EVENT | side, change["price"], change["size"])
            elif frame["event_type"] == "last_trade_price":
                side = BUY_EVENT if frame["side"] == "BUY" else SELL_EVENT
                add(frame["asset_id"], TRADE_EVENT | side, frame["price"], frame["size"])
            else:
                yes, no = market["token_ids"]
                mirrored = [(no, SELL_EVENT, frame["bids"], True), (no, BUY_EVENT, frame["asks"], True)]
                stated = [(yes, BUY_EVENT, frame["bids"], False), (yes, SELL_EVENT, frame["asks"], False)]
                for token in (yes, no):
                    add(token, DEPTH_CLEAR_EVENT, "0", "0")
                for token, side, levels, mirror in stated + mirrored:
                    for level in levels:
                        at = str(round(1 - float(level["price"]), 6)) if mirror else level["price"]
                        add(token, DEPTH_SNAPSHOT_EVENT | side, at, level["size"])
    folder.mkdir(parents=True, exist_ok=True)
    for name, token in zip(("yes", "no"), market["token_ids"], strict=True):
        np.savez(folder / f"{name}.npz", data=np.array(events[token], dtype=event_dtype))
    (folder / "tick").write_text(market["tick_size"])


def asset(path: Path, tick: float) -> BacktestAsset:
    return (
        BacktestAsset()
        .data([str(path)])
        .linear_asset(1.0)
        .constant_order_latency(250 * MS, 250 * MS)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(tick)
        .lot_size(0.000001)
        .roi_lb(0.0)
        .roi_ub(1.0)
        .last_trades_capacity(0)
    )


@njit
def strategy(hbt, fills):
    """Play to the end of the data; return how many fills were put into `fills`: asset, ms at the venue, bought, price in ticks, size."""
    found, next_id = 0, 1
    positions = np.zeros(hbt.num_assets, np.int64)
    live = True
    while live:
        live = hbt.elapse(1_000 * MS) == 0
        for n in range(hbt.num_assets):
            depth, orders = hbt.depth(n), hbt.orders(n)
            bid_id, bid_at, ask_id, ask_at = 0, 0, 0, 0
            values = orders.values()
            while values.has_next():
                order = values.get()
                if order.status == FILLED:
                    bought = order.side == BUY
                    size = int(order.exec_qty)
                    positions[n] += size if bought else -size
                    fills[found, 0] = n
                    fills[found, 1] = order.exch_timestamp // MS
                    fills[found, 2] = bought
                    fills[found, 3] = order.exec_price_tick
                    fills[found, 4] = size
                    found += 1
                elif order.status == NEW and order.side == BUY:
                    bid_id, bid_at = order.order_id, order.price_tick
                elif order.status == NEW:
                    ask_id, ask_at = order.order_id, order.price_tick
            hbt.clear_inactive_orders(n)
            best_bid, best_ask, tick = depth.best_bid_tick, depth.best_ask_tick, depth.tick_size
            if not live or best_bid < 0 or best_ask > NO_TICK:
                continue
            skewed = (best_bid + best_ask) / 2 - 0.5 * positions[n] / 50
            bid = min(int(np.floor(skewed - 0.5)), best_ask - 1) if positions[n] < 500 else 0
            ask = max(int(np.ceil(skewed + 0.5)), best_bid + 1) if positions[n] > -500 else 0
            bid = max(bid, 0)
            ask = ask if ask < round(1 / tick) else 0
            if bid_at != bid and bid_id:
                hbt.cancel(n, bid_id, False)
            if ask_at != ask and ask_id:
                hbt.cancel(n, ask_id, False)
            if bid and bid_at != bid:
                hbt.submit_buy_order(n, next_id, bid * tick, 50.0, GTX, LIMIT, False)
                next_id += 1
            if ask and ask_at != ask:
                hbt.submit_sell_order(n, next_id, ask * tick, 50.0, GTX, LIMIT, False)
                next_id += 1
    return found


def play(folder: Path, yes_only: bool):
    tick = float((folder / "tick").read_text())
    assets = [asset(folder / f"{name}.npz", tick) for name in (("yes",) if yes_only else ("yes", "no"))]
    hbt = ROIVectorMarketDepthBacktest(assets)
    fills = np.zeros((MOST_FILLS, 5), np.int64)
    found = strategy(hbt, fills)
    hbt.close()
    return fills[:found]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", choices=("prepare", "run", "warm"))
    arguments.add_argument("paths", nargs="+", type=Path)
    arguments.add_argument("--yes-only", action="store_true")
    arguments.add_argument("--laps", type=int, default=5)
    given = arguments.parse_args()
    if given.what == "prepare":
        prepare(*given.paths)
        return
    (folder,) = given.paths
    fills = play(folder, given.yes_only)
    if given.what == "run":
        print(json.dumps(fills.tolist()))
        return
    laps = []
    for _ in range(given.laps):
        began = time.process_time()
        play(folder, given.yes_only)
        laps.append(time.process_time() - began)
    print(json.dumps(laps))


if __name__ == "__main__":
    main()
