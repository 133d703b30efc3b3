#!/usr/bin/env python3
"""Make a synthetic recording of one market of any length, for benchmarks and engine comparisons (not a market to earn on).

Exchange events arrive as a Poisson process (50 a second); about 5 % are trades at the touch, the rest change one level near it; a slow
random fair value pulls the touch along. Level changes appear on both tokens in one price_change frame, a trade once, on the taker's token.
Writes a wire-form recording (mmtools.recording/1). The same seed gives the same lines on any Python from 3.11 on; their packing is zlib's.

usage: make_tape.py OUT.jsonl.gz [--rows 1000000] [--ticks 100] [--seed 7] [--print-lag-ms 0]
--rows          token rows: a level change counts two (one per token), a trade one
--ticks         100 (tick 0.01) or 1000 (tick 0.001)
--print-lag-ms  0: print first, its decrease after it (comparing engines); 21: decrease first, print later (as the real feed)
"""

import argparse
import gzip
import io
import json
import random

YES = "77194726158210796949047323339125271902179989777093709359638389338608753093290"
NO = "15438945231642159389809464667825054380435997955418741871927677867721750618658"
MARKET = "0x" + "5e" * 32
START_MS = 1_700_000_000_000


def price(ticks, grid):
    places = 2 if grid == 100 else 3
    return f"{ticks / grid:.{places}f}"


def events(rows, grid, seed):
    """Yield (ms, kind, side, price_ticks, size, best_bid, best_ask) in YES terms.

    The kind is "book" once, then "level" (size = new size) and "trade".
    """
    rng = random.Random(seed)
    depth = 50 if grid > 200 else grid // 2 - 2
    half = grid // 2
    bids, asks = [0] * (grid + 1), [0] * (grid + 1)
    best_bid, best_ask = half - 1, half + 1
    for k in range(depth):
        for side, at in ((bids, best_bid - k), (asks, best_ask + k)):
            if 1 <= at <= grid - 1:
                side[at] = rng.randrange(50, 3000)
    now, fair, made = 0.0, float(half), 0
    yield START_MS, "book", list(bids), list(asks), 0, best_bid, best_ask
    while made < rows:
        now += rng.expovariate(1 / 20.0)
        fair = min(max(fair + rng.gauss(0, 0.01 * grid / 100), 0.2 * grid), 0.8 * grid)
        rising = fair > (best_bid + best_ask) / 2
        ms = START_MS + int(now)
        if rng.random() < 0.0526:
            buy = rng.random() < (0.65 if rising else 0.35)
            at, book = (best_ask, asks) if buy else (best_bid, bids)
            size = min(int(rng.expovariate(1 / 120)) + 1, book[at]) if rng.random() >= 0.03 else book[at]
            book[at] -= size
            yield ms, "trade", "BUY" if buy else "SELL", at, size, best_bid, best_ask
            changed, side = at, "SELL" if buy else "BUY"
            made += 1
        else:
            bid = rng.random() < 0.5
            k = min(int(rng.expovariate(1 / (8.0 if grid <= 200 else 14.0))), depth - 1)
            inside = best_ask - best_bid > 1 and rng.random() < (0.30 if bid == rising else 0.03)
            at = (best_bid + 1 if inside else best_bid - k) if bid else (best_ask - 1 if inside else best_ask + k)
            at = min(max(at, 1), grid - 1)
            book = bids if bid else asks
            gone = 0.10
            if k == 0 and not inside:
                gone = 0.12 if bid != rising else 0.02
            draw, size = rng.random(), book[at]
            if size and draw < gone:
                size = 0
            elif size and draw < 0.5:
                size = max(1, size - int(rng.expovariate(1 / 150)) - 1)
            else:
                size += int(rng.expovariate(1 / 200)) + 5
            book[at] = size
            changed, side = at, "BUY" if bid else "SELL"
        best_bid = next((p for p in range(best_ask - 1, 0, -1) if bids[p]), 0)
        best_ask = next((p for p in range(best_bid + 1, grid) if asks[p]), grid)
        made += 2
        yield ms, "level", side, changed, (bids if side == "BUY" else asks)[changed], best_bid, best_ask


def frames(rows, grid, seed, lag_ms):
    """Yield [received_ms, frame] in time order; with a lag, prints are held back behind their decrease."""
    held = []
    for ms, kind, side, at, size, bid, ask in events(rows, grid, seed):
        while held and held[0][0] <= ms:
            yield held.pop(0)
        stamp = str(ms)
        if kind == "book":
            bids, asks = side, at
            up = [{"price": price(p, grid), "size": str(q)} for p, q in enumerate(bids) if q]
            down = [{"price": price(p, grid), "size": str(q)} for p, q in reversed(list(enumerate(asks))) if q]
            yield [ms, {"event_type": "book", "market": MARKET, "asset_id": YES, "timestamp": stamp, "hash": "", "bids": up, "asks": down}]
        elif kind == "trade":
            # half of the takers trade the other token: buying YES at p is selling NO at 1 - p
            other = size % 2 == 1
            token, at_price = (NO, grid - at) if other else (YES, at)
            taker = ({"BUY": "SELL", "SELL": "BUY"}[side]) if other else side
            frame = {
                "event_type": "last_trade_price",
                "market": MARKET,
                "asset_id": token,
                "price": price(at_price, grid),
                "size": str(size),
                "side": taker,
                "fee_rate_bps": "0",
            }
            if lag_ms:
                held.append([ms + lag_ms, {**frame, "timestamp": str(ms + lag_ms)}])
            else:
                yield [ms, {**frame, "timestamp": stamp}]
        else:
            flip = {"BUY": "SELL", "SELL": "BUY"}[side]
            yield [
                ms,
                {
                    "event_type": "price_change",
                    "market": MARKET,
                    "timestamp": stamp,
                    "price_changes": [
                        {
                            "asset_id": YES,
                            "price": price(at, grid),
                            "size": str(size),
                            "side": side,
                            "hash": "",
                            "best_bid": price(bid, grid),
                            "best_ask": price(ask, grid),
                        },
                        {
                            "asset_id": NO,
                            "price": price(grid - at, grid),
                            "size": str(size),
                            "side": flip,
                            "hash": "",
                            "best_bid": price(grid - ask, grid),
                            "best_ask": price(grid - bid, grid),
                        },
                    ],
                },
            ]
    yield from held


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=1_000_000)
    parser.add_argument("--ticks", type=int, choices=(100, 1000), default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--print-lag-ms", type=int, default=0)
    args = parser.parse_args()
    header = {
        "schema": "mmtools.recording/1",
        "source": f"make_tape.py --rows {args.rows} --ticks {args.ticks} --seed {args.seed} --print-lag-ms {args.print_lag_ms}",
        "clock": "exchange",
        "markets": [
            {
                "condition_id": MARKET,
                "slug": "synthetic-tape",
                "outcomes": ["Yes", "No"],
                "token_ids": [YES, NO],
                "tick_size": price(1, args.ticks),
                "min_order_size": "5",
                "neg_risk": False,
            }
        ],
    }
    dump = json.JSONEncoder(separators=(",", ":")).encode
    count = trades = 0
    with (
        open(args.out, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="", compresslevel=6) as packed,
        io.TextIOWrapper(packed, encoding="ascii") as out,
    ):
        out.write(dump(header) + "\n")
        for line in frames(args.rows, args.ticks, args.seed, args.print_lag_ms):
            out.write(dump(line) + "\n")
            count += 1
            trades += line[1]["event_type"] == "last_trade_price"
    print(f"{args.out}: {count} frames, {trades} trades")


if __name__ == "__main__":
    main()
