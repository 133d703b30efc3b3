"""The reference strategy on nautilus_trader's BacktestEngine: book deltas and trade ticks of both tokens. Run by bench/reference.py.

    python bench/reference_nautilus.py prepare RECORDING FOLDER
    python bench/reference_nautilus.py run FOLDER

`prepare` writes a parquet catalog, `run` plays it and prints how many orders were sent and filled. The logic of the orders is the same; the
fills are not those of the two others, because its venue knows no queue: an order is filled when the other side's best comes to its price,
by as much as is there, and a print at its price does nothing. Imports nothing of mmtools; nautilus_trader is the peer's own.
"""

import argparse
import gzip
import json
import math
import sys
from decimal import Decimal
from pathlib import Path

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.backtest.models import LatencyModel
from nautilus_trader.common.config import LoggingConfig
from nautilus_trader.model.currencies import USDC
from nautilus_trader.model.data import BookOrder, OrderBookDelta, TradeTick
from nautilus_trader.model.enums import (
    AccountType,
    AggressorSide,
    AssetClass,
    BookAction,
    BookType,
    OmsType,
    OrderSide,
    TimeInForce,
)
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, TraderId, Venue
from nautilus_trader.model.instruments import BinaryOption
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.risk.config import RiskEngineConfig
from nautilus_trader.trading.strategy import Strategy, StrategyConfig

MS = 1_000_000
VENUE = Venue("POLYMARKET")
SIZE = Quantity.from_int(50)
LAST_BIT = 128
"""Flag of a delta that ends its event: without it the engine waits for more before it shows the book."""


def token(name: str, tick: str) -> BinaryOption:
    return BinaryOption(
        instrument_id=InstrumentId(Symbol(name), VENUE),
        raw_symbol=Symbol(name),
        asset_class=AssetClass.ALTERNATIVE,
        currency=USDC,
        price_precision=len(tick) - 2,
        size_precision=0,
        price_increment=Price.from_str(tick),
        size_increment=Quantity.from_int(1),
        activation_ns=0,
        expiration_ns=1 << 62,
        ts_event=0,
        ts_init=0,
        maker_fee=Decimal(0),
        taker_fee=Decimal(0),
    )


def prepare(recording: Path, folder: Path) -> None:
    """Write the catalog: its own format, and the fastest that it reads."""
    deltas, trades = [], []
    with gzip.open(recording, "rt") as lines:
        (market,) = json.loads(next(lines))["markets"]
        tick = market["tick_size"]
        tokens = dict(zip(market["token_ids"], (token("YES", tick), token("NO", tick)), strict=True))
        places = len(tick) - 2

        def level(of: BinaryOption, side: OrderSide, at: str, size: str, now: int, last: bool) -> None:
            price = Price.from_str(f"{float(at):.{places}f}")
            action = BookAction.UPDATE if size != "0" else BookAction.DELETE
            order = BookOrder(side, price, Quantity.from_str(size), 0)
            deltas.append(OrderBookDelta(of.id, action, order, LAST_BIT if last else 0, 0, now, now))

        for line in lines:
            ms, frame = json.loads(line)
            now = ms * MS
            if frame["event_type"] == "price_change":
                for change in frame["price_changes"]:
                    side = OrderSide.BUY if change["side"] == "BUY" else OrderSide.SELL
                    level(tokens[change["asset_id"]], side, change["price"], change["size"], now, True)
            elif frame["event_type"] == "last_trade_price":
                of = tokens[frame["asset_id"]]
                side = AggressorSide.BUYER if frame["side"] == "BUY" else AggressorSide.SELLER
                price, size = Price.from_str(frame["price"]), Quantity.from_str(frame["size"])
                trades.append(TradeTick(of.id, price, size, side, TradeId(str(len(trades))), now, now))
            else:
                yes, no = tokens.values()
                stated = [(entry, OrderSide.BUY) for entry in frame["bids"]] + [(entry, OrderSide.SELL) for entry in frame["asks"]]
                for of in (yes, no):
                    deltas.append(OrderBookDelta.clear(of.id, 0, now, now))
                    for number, (entry, side) in enumerate(stated, 1):
                        turned = OrderSide.SELL if side == OrderSide.BUY else OrderSide.BUY
                        price = entry["price"] if of is yes else str(1 - Decimal(entry["price"]))
                        level(of, side if of is yes else turned, price, entry["size"], now, number == len(stated))
    folder.mkdir(parents=True, exist_ok=True)
    catalog = ParquetDataCatalog(str(folder))
    catalog.write_data(list(tokens.values()))
    catalog.write_data(deltas)
    catalog.write_data(trades)
    (folder / "tick").write_text(tick)


class TokenConfig(StrategyConfig, frozen=True):
    instrument_id: InstrumentId
    ticks: int


class Token(Strategy):
    """Quotes one token; its own tick arithmetic in integers, as the others'."""

    def __init__(self, config: TokenConfig) -> None:
        super().__init__(config)
        self.sent = self.fills = self.position = 0
        self.bid = self.ask = None

    def on_start(self) -> None:
        self.instrument = self.cache.instrument(self.config.instrument_id)
        self.subscribe_order_book_at_interval(self.config.instrument_id, BookType.L2_MBP, interval_ms=1_000)
        self.subscribe_trade_ticks(self.config.instrument_id)

    def on_order_book(self, book) -> None:
        best_bid, best_ask = book.best_bid_price(), book.best_ask_price()
        if best_bid is None or best_ask is None:
            return
        ticks = self.config.ticks
        best_bid, best_ask = round(float(best_bid) * ticks), round(float(best_ask) * ticks)
        skewed = (best_bid + best_ask) / 2 - 0.5 * self.position / 50
        bid = min(math.floor(skewed - 0.5), best_ask - 1) if self.position < 500 else 0
        ask = max(math.ceil(skewed + 0.5), best_bid + 1) if self.position > -500 else 0
        self.bid = self.replace(self.bid, OrderSide.BUY, bid)
        self.ask = self.replace(self.ask, OrderSide.SELL, ask)

    def replace(self, order, side: OrderSide, at: int):
        """Keep an order whose price has not changed, else cancel it and send another; 0 is none."""
        if not 0 < at < self.config.ticks:
            at = 0
        price = self.instrument.make_price(at / self.config.ticks)
        if order is not None and not order.is_closed:
            if at and order.price == price:
                return order
            self.cancel_order(order)
        if not at:
            return None
        order = self.order_factory.limit(self.config.instrument_id, side, SIZE, price, TimeInForce.GTC, post_only=True)
        self.submit_order(order)
        self.sent += 1
        return order

    def on_order_filled(self, event) -> None:
        self.fills += 1
        size = int(event.last_qty)
        self.position += size if event.order_side == OrderSide.BUY else -size


def run(folder: Path) -> dict[str, int]:
    tick = (folder / "tick").read_text()
    engine = BacktestEngine(
        BacktestEngineConfig(
            trader_id=TraderId("BENCH-001"),
            logging=LoggingConfig(bypass_logging=True),
            risk_engine=RiskEngineConfig(bypass=True),
            run_analysis=False,
        )
    )
    engine.add_venue(
        venue=VENUE,
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        base_currency=USDC,
        starting_balances=[Money(1_000_000, USDC)],
        latency_model=LatencyModel(base_latency_nanos=250 * MS),
        book_type=BookType.L2_MBP,
        trade_execution=True,
        use_reduce_only=False,
    )
    strategies = []
    catalog = ParquetDataCatalog(str(folder))
    for name in ("YES", "NO"):
        instrument = token(name, tick)
        engine.add_instrument(instrument)
        engine.add_data(catalog.trade_ticks([str(instrument.id)]), sort=False)
        strategies.append(Token(TokenConfig(instrument_id=instrument.id, ticks=round(1 / float(tick)), order_id_tag=name)))
        engine.add_strategy(strategies[-1])
    for number, strategy in enumerate(strategies):
        # Sorted once, at the end; what is of one millisecond stays in this order, a print before the level it came from.
        engine.add_data(catalog.order_book_deltas([str(strategy.config.instrument_id)]), sort=number == len(strategies) - 1)
    engine.run()
    return {
        "sent": sum(strategy.sent for strategy in strategies),
        "fills": sum(strategy.fills for strategy in strategies),
        "events": engine.iteration,
    }


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", choices=("prepare", "run"))
    arguments.add_argument("paths", nargs="+", type=Path)
    given = arguments.parse_args()
    if given.what == "prepare":
        prepare(*given.paths)
    else:
        json.dump(run(*given.paths), sys.stdout)


if __name__ == "__main__":
    main()
