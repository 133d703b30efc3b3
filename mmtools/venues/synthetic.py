"""A seeded market whose fair value is known: the wire frames of the market channel, made from chance alone.

Per market: a FairValue walks, other makers keep a ladder of levels around it as they see it (late), takers eat from the
ladder. Each draws from a stream of its own, so other takers meet the same fair value. Only `random()` is drawn, and only
+ - * / and sqrt are applied to it: the same seed gives the same bytes on every platform and Python. Nothing here hears
of our orders: like a recording, this market does not react to us. `runs` reads the rows; tests and `lab` read `fair` too.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from heapq import merge
from random import Random

import msgspec

from mmtools import units
from mmtools.config import Synthetic
from mmtools.trading.market import FeeSchedule, Market, Outcome, RewardTerms, Side, yes_side
from mmtools.units import ONE, Price, Shares, Usdc
from mmtools.venues.decoder import Decoder
from mmtools.venues.venue import Row

GENERATOR = "mmtools.synthetic/1"
"""Part of ids and of `sha256`: raise it when the same settings give other frames."""
STEP_MS = 250.0
"""How often the fair value diffuses and the other makers look."""
BOOK_EVERY_MS = 600_000.0
PULL = 0.75
"""Part of the run after which the fair value of a market that resolves is drawn towards its end."""
FEES = FeeSchedule(rate=0.05, exponent=1.0, rebate_rate=0.25)

Draw = Callable[[], float]
"""Uniform in [0, 1)."""
Change = tuple[Side, int, int]
"""A level's new total: BUY for a bid and SELL for an ask, the price in ticks, the size in hundredths of a share."""
Message = tuple[int, int, bytes, float]
"""(time in ms UTC, place of the market, wire frame, fair value in millionths)."""


class SyntheticFeed:
    """The feed of `settings.markets` independent markets over `duration_ms`, or of those among them that `only` names by slug.

    `fair[place]` is the true value of a YES share in millionths at the last message that `messages` or `rows` yielded of
    that market.
    """

    name = "synthetic"

    def __init__(self, settings: Synthetic, *, seed: int, duration_ms: int, only: Collection[str] = ()) -> None:
        """Raises ValueError for a run of no length, or when `only` names a market that is none of the feed's."""
        if duration_ms <= 0:
            raise ValueError(f"a run of {duration_ms} ms is no run")
        tick = Price(units.of(settings.tick))
        self._settings, self._seed, self._duration_ms = settings, seed, duration_ms
        self._start_ms = _start_ms(settings.start)
        end_ms = None if settings.resolves is None else self._start_ms + duration_ms
        markets = [_market(settings, tick, seed, number, end_ms) for number in range(settings.markets)]
        slugs = [market.slug for market in markets]
        for slug in only:
            if slug not in slugs:
                raise ValueError(f"market {slug} is none of the synthetic feed's ({', '.join(slugs)})")
        self._numbers = [number for number, slug in enumerate(slugs) if not only or slug in only]
        self.markets = tuple(markets[number] for number in self._numbers)
        self.fair = [settings.fair * ONE] * len(self.markets)
        self.sha256 = hashlib.sha256(msgspec.json.encode([GENERATOR, settings, seed, duration_ms, self._numbers])).hexdigest()

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Yield (received ms, wire frame) in order of time, from the first one at every call."""
        for now_ms, place, frame, fair in merge(*(self._one(place) for place in range(len(self.markets)))):
            self.fair[place] = fair
            yield now_ms, frame

    def rows(self) -> Iterator[Row]:
        decoder = Decoder(self.markets)
        for now_ms, frame in self.messages():
            yield from decoder.rows(now_ms, frame)

    def _one(self, place: int) -> Iterator[Message]:
        seed = f"{self._seed}/{self._numbers[place]}"
        simulation = _Simulation(self._settings, self.markets[place], seed=seed, duration_ms=self._duration_ms)
        for now_ms, frame, fair in simulation.run(self._start_ms):
            yield now_ms, place, frame, fair


class FairValue:
    """What a YES share of one market is worth, in ticks, known only to informed takers and to tests.

    It diffuses (reflected at one tick from either end), jumps by a coin, and hears news; news and jumps stop at the
    ends. When the market resolves it is a Brownian bridge to the winner's end over the last quarter of the run.
    """

    def __init__(self, settings: Synthetic, *, ticks: int, duration_ms: int, draw: Draw) -> None:
        self.ticks = settings.fair * ticks
        self.now_ms = 0.0
        self._low, self._high = 1.0, ticks - 1.0
        self._end_ms = float(duration_ms)
        self._volatility = settings.volatility_ticks
        self._goal = {None: None, "yes": self._high, "no": self._low}[settings.resolves]
        self._shocks = [(shock.at_s * 1000, (shock.at_s + shock.duration_s) * 1000, shock.factor) for shock in settings.shocks]
        # steps end where a shock begins or ends, so that each has one volatility
        breaks = [(at_ms, 0.0) for begin, end, _ in self._shocks for at_ms in (begin, end)]
        self._breaks = deque(sorted(breaks + [(news.at_s * 1000, news.ticks) for news in settings.news]))
        self._draw = draw
        self._jumps_per_minute, self._jump_ticks = settings.jumps_per_hour / 60, settings.jump_ticks
        self._jump_ms = wait_ms(draw, self._jumps_per_minute)
        self.next_ms = self._next()
        """When `advance` will move it next; infinity after the end."""

    def advance(self) -> None:
        """Move on to `next_ms`."""
        elapsed, left = self.next_ms - self.now_ms, self._end_ms - self.now_ms
        move = self._volatility * self._factor() * math.sqrt(elapsed / 1000) * normal(self._draw)
        if self._goal is not None and self.now_ms >= PULL * self._end_ms:
            move = (self._goal - self.ticks) * (elapsed / left) + move * math.sqrt(1 - elapsed / left)
        self.ticks = _reflected(self.ticks + move, self._low, self._high)
        self.now_ms = self.next_ms
        while self._jump_ms <= self.now_ms:
            self._leap(self._jump_ticks if self._draw() < 0.5 else -self._jump_ticks)
            self._jump_ms += wait_ms(self._draw, self._jumps_per_minute)
        while self._breaks and self._breaks[0][0] <= self.now_ms:
            self._leap(self._breaks.popleft()[1])
        self.next_ms = self._next()

    def _next(self) -> float:
        if self.now_ms >= self._end_ms:
            return math.inf
        broken = self._breaks[0][0] if self._breaks else math.inf
        return min(self.now_ms + STEP_MS, self._jump_ms, broken, self._end_ms)

    def _factor(self) -> float:
        factor = 1.0
        for begin, end, times in self._shocks:
            if begin <= self.now_ms < end:
                factor *= times
        return factor

    def _leap(self, ticks: float) -> None:
        self.ticks = min(max(self.ticks + ticks, self._low), self._high)


class _Makers:
    """The other makers: `depth_levels` levels a side, in ticks and hundredths of a share, about the fair value they see.

    Bids stay at or under `_tops[0]` and asks at or above `_tops[1]`, which is higher: the book cannot lock or cross.
    """

    def __init__(self, settings: Synthetic, *, ticks: int, fair: float, draw: Draw) -> None:
        self.levels: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        self._ticks, self._draw = ticks, draw
        self._depth, self._mean = settings.depth_levels, settings.level_size * 100
        self._half_spread, self._delay_ms = settings.half_spread_ticks, settings.maker_delay_s * 1000
        self._sights: deque[tuple[float, float]] = deque()
        self._tops = (0, ticks)
        self._requote(fair)

    @property
    def touch(self) -> tuple[int, int]:
        """Best bid and best ask; 0 and `ticks` where a side is empty."""
        return max(self.levels[Side.BUY], default=0), min(self.levels[Side.SELL], default=self._ticks)

    def look(self, now_ms: float, fair: float) -> list[Change]:
        """Note the fair value of now, and follow the one of `maker_delay_s` ago."""
        self._sights.append((now_ms + self._delay_ms, fair))
        seen = None
        while self._sights and self._sights[0][0] <= now_ms:
            seen = self._sights.popleft()[1]
        return [] if seen is None else self._requote(seen)

    def fidget(self) -> list[Change]:
        """Add to, cut or refill one level of one side, more often near the touch."""
        side = Side.BUY if self._draw() < 0.5 else Side.SELL
        ladder, levels, depth = self._ladder(side), self.levels[side], self._draw()
        level = ladder[int(len(ladder) * depth * depth)]
        size, wanted = levels.get(level, 0), self._size()
        levels[level] = size + round((wanted - size) * self._draw()) if size else wanted
        return [] if levels[level] == size else [(side, level, levels[level])]

    def _requote(self, seen: float) -> list[Change]:
        bid, ask = math.floor(seen - self._half_spread), math.ceil(seen + self._half_spread)
        tops = min(max(bid, 1), self._ticks - 2), min(max(ask, 2), self._ticks - 1)
        if tops == self._tops:
            return []
        self._tops = tops
        changes: list[Change] = []
        for side, levels in self.levels.items():
            ladder = self._ladder(side)
            changes += [(side, level, 0) for level in levels if level not in ladder]
            changes += [(side, level, self._size()) for level in ladder if level not in levels]
        self.apply(changes)
        return changes

    def apply(self, changes: list[Change]) -> None:
        for side, level, size in changes:
            if size:
                self.levels[side][level] = size
            else:
                del self.levels[side][level]

    def _ladder(self, side: Side) -> range:
        bid, ask = self._tops
        if side is Side.BUY:
            return range(bid, max(bid - self._depth, 0), -1)
        return range(ask, min(ask + self._depth, self._ticks))

    def _size(self) -> int:
        return max(1, round(self._mean * (0.5 + self._draw())))


class _Takers:
    """Those who take: by a coin, or, when informed, only what the fair value says is cheap or dear."""

    def __init__(self, settings: Synthetic, *, draw: Draw) -> None:
        self._informed, self._mean, self._draw = settings.informed_share, settings.trade_size * 100, draw

    def take(self, makers: _Makers, fair: float) -> tuple[Side, list[tuple[int, int]]] | None:
        """Return a taker's side in YES terms and what it eats, (price, size) from the touch on; None when there is nothing to take."""
        informed = self._draw() < self._informed
        bid, ask = makers.touch
        if informed and bid <= fair <= ask:
            return None
        buys = fair > ask if informed else self._draw() < 0.5
        side = Side.BUY if buys else Side.SELL
        resting = makers.levels[side.opposite]
        left = max(1, round(self._mean * exponential(self._draw)))
        eaten: list[tuple[int, int]] = []
        for level in sorted(resting, reverse=not buys):
            if left == 0 or (informed and (fair <= level if buys else fair >= level)):
                break
            size = min(left, resting[level])
            eaten.append((level, size))
            left -= size
        return (side, eaten) if eaten else None

    def token(self) -> Outcome:
        """Return the token on which a taker gets what it wants, by a coin."""
        return Outcome.YES if self._draw() < 0.5 else Outcome.NO


class _Simulation:
    """One market from its first book to its last frame: whose turn it is, and what the channel says of it."""

    def __init__(self, settings: Synthetic, market: Market, *, seed: str, duration_ms: int) -> None:
        ticks = ONE // market.tick
        self._fair = FairValue(settings, ticks=ticks, duration_ms=duration_ms, draw=Random(f"{seed}/fair").random)
        self._makers = _Makers(settings, ticks=ticks, fair=self._fair.ticks, draw=Random(f"{seed}/makers").random)
        self._takers = _Takers(settings, draw=Random(f"{seed}/takers").random)
        self._change_times, self._taker_times = Random(f"{seed}/change times").random, Random(f"{seed}/taker times").random
        self._settings, self._market, self._end_ms = settings, market, float(duration_ms)
        self._wire = _Wire(market)
        self._prints: deque[tuple[float, Outcome, Side, int, int]] = deque()

    def run(self, start_ms: int) -> Iterator[tuple[int, bytes, float]]:
        """Yield (time in ms UTC, wire frame, fair value in millionths)."""
        unit = float(self._market.tick)
        books = self._wire.books(start_ms, self._makers.levels)
        yield start_ms, b"[" + b",".join(books) + b"]", self._fair.ticks * unit
        for now_ms, frames in self._turns(start_ms):
            for frame in frames:
                yield start_ms + int(now_ms), frame, self._fair.ticks * unit
        if self._settings.resolves is not None:
            winner = Outcome.YES if self._settings.resolves == "yes" else Outcome.NO
            at_ms = start_ms + int(self._end_ms)
            yield at_ms, self._wire.resolved(at_ms, winner), float(ONE) if winner is Outcome.YES else 0.0

    def _turns(self, start_ms: int) -> Iterator[tuple[float, list[bytes]]]:
        fair, makers, wire, prints = self._fair, self._makers, self._wire, self._prints
        changes_per_minute, trades_per_minute = self._settings.changes_per_minute, self._settings.trades_per_minute
        change_ms, take_ms = wait_ms(self._change_times, changes_per_minute), wait_ms(self._taker_times, trades_per_minute)
        book_ms = BOOK_EVERY_MS
        while True:
            print_ms = prints[0][0] if prints else math.inf
            now_ms = min(fair.next_ms, print_ms, change_ms, take_ms, book_ms)
            if now_ms > self._end_ms:
                return
            at_ms = start_ms + int(now_ms)
            if now_ms == fair.next_ms:
                fair.advance()
                changes = makers.look(now_ms, fair.ticks)
            elif now_ms == print_ms:
                yield now_ms, [wire.print(at_ms, *prints.popleft()[1:])]
                continue
            elif now_ms == change_ms:
                changes = makers.fidget()
                change_ms += wait_ms(self._change_times, changes_per_minute)
            elif now_ms == take_ms:
                # a taker whose print would come after the end stays away: every decrease by a trade has its print
                changes = self._take(now_ms) if now_ms + self._settings.print_lag_ms <= self._end_ms else []
                take_ms += wait_ms(self._taker_times, trades_per_minute)
            else:
                yield now_ms, wire.books(at_ms, makers.levels)
                book_ms += BOOK_EVERY_MS
                continue
            if changes:
                yield now_ms, [wire.changes(at_ms, changes, *makers.touch)]

    def _take(self, now_ms: float) -> list[Change]:
        taken = self._takers.take(self._makers, self._fair.ticks)
        if taken is None:
            return []
        side, eaten = taken
        token, resting = self._takers.token(), self._makers.levels[side.opposite]
        self._prints.extend((now_ms + self._settings.print_lag_ms, token, side, level, size) for level, size in eaten)
        changes = [(side.opposite, level, resting[level] - size) for level, size in eaten]
        self._makers.apply(changes)
        return changes


class _Wire:
    """The market channel's JSON about one market; levels and sides come in YES terms, and both tokens go out."""

    def __init__(self, market: Market) -> None:
        self._market, self._ticks = market, ONE // market.tick
        digits = len(units.text(market.tick)) - len("0.")
        between = (f"0.{level * market.tick:06d}"[: 2 + digits] for level in range(1, self._ticks))
        self._prices = ["0", *between, "1"]
        self._tokens = {Outcome.YES: market.yes_token, Outcome.NO: market.no_token}

    def changes(self, at_ms: int, changes: list[Change], bid: int, ask: int) -> bytes:
        prices, ticks, yes, no = self._prices, self._ticks, self._market.yes_token, self._market.no_token
        yes_touch = f'"hash":"","best_bid":"{prices[bid]}","best_ask":"{prices[ask]}"'
        no_touch = f'"hash":"","best_bid":"{prices[ticks - ask]}","best_ask":"{prices[ticks - bid]}"'
        entries = ",".join(
            f'{{"asset_id":"{yes}","price":"{prices[level]}","size":"{_size(size)}","side":"{side.value}",{yes_touch}}},'
            f'{{"asset_id":"{no}","price":"{prices[ticks - level]}","size":"{_size(size)}","side":"{side.opposite.value}",{no_touch}}}'
            for side, level, size in changes
        )
        return self._frame("price_change", f'"price_changes":[{entries}]', at_ms)

    def books(self, at_ms: int, levels: dict[Side, dict[int, int]]) -> list[bytes]:
        return [self._book(at_ms, outcome, levels) for outcome in Outcome]

    def print(self, at_ms: int, token: Outcome, side: Side, level: int, size: int) -> bytes:
        price = self._prices[level if token is Outcome.YES else self._ticks - level]
        body = f'"price":"{price}","size":"{_size(size)}","side":"{yes_side(token, side).value}","fee_rate_bps":"0"'
        return self._frame("last_trade_price", f'"asset_id":"{self._tokens[token]}",{body}', at_ms)

    def resolved(self, at_ms: int, winner: Outcome) -> bytes:
        market = self._market
        name = market.outcomes[0 if winner is Outcome.YES else 1]
        body = f'"winning_asset_id":"{self._tokens[winner]}","winning_outcome":"{name}"'
        ids = f'"id":"{market.slug}","assets_ids":["{market.yes_token}","{market.no_token}"]'
        return self._frame("market_resolved", f"{ids},{body}", at_ms)

    def _book(self, at_ms: int, token: Outcome, levels: dict[Side, dict[int, int]]) -> bytes:
        turned = {yes_side(token, side): ladder for side, ladder in levels.items()}
        bids = self._ladder(token, turned[Side.BUY], falling=False)
        asks = self._ladder(token, turned[Side.SELL], falling=True)
        tick = units.text(self._market.tick)
        body = f'"asset_id":"{self._tokens[token]}","hash":"","bids":[{bids}],"asks":[{asks}],"tick_size":"{tick}"'
        return self._frame("book", body, at_ms)

    def _ladder(self, token: Outcome, levels: dict[int, int], *, falling: bool) -> str:
        own = {level if token is Outcome.YES else self._ticks - level: size for level, size in levels.items()}
        return ",".join(f'{{"price":"{self._prices[level]}","size":"{_size(own[level])}"}}' for level in sorted(own, reverse=falling))

    def _frame(self, event: str, body: str, at_ms: int) -> bytes:
        return f'{{"event_type":"{event}","market":"{self._market.condition_id}",{body},"timestamp":"{at_ms}"}}'.encode()


def exponential(draw: Draw) -> float:
    """Return an exponential variate of mean 1 by von Neumann's comparisons: a logarithm may differ by platform, these cannot."""
    whole = 0
    while True:
        first = lowest = draw()
        falls = 1
        while (following := draw()) < lowest:
            lowest = following
            falls += 1
        if falls % 2:
            return whole + first
        whole += 1


def normal(draw: Draw) -> float:
    """Return a nearly normal variate of mean 0 and variance 1: three uniforms; sums of it are as good as normal."""
    return 2 * (draw() + draw() + draw() - 1.5)


def wait_ms(draw: Draw, per_minute: float) -> float:
    """Return the time until the next event of a Poisson process; infinity at rate 0."""
    return exponential(draw) * 60_000 / per_minute if per_minute else math.inf


def _reflected(value: float, low: float, high: float) -> float:
    if low <= value <= high:
        return value
    span = high - low
    folded = (value - low) % (2 * span)
    return low + min(folded, 2 * span - folded)


def _size(hundredths: int) -> str:
    return f"{hundredths / 100:.2f}" if hundredths else "0"


def _start_ms(start: str) -> int:
    at = datetime.fromisoformat(start)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _market(settings: Synthetic, tick: Price, seed: int, place: int, end_ms: int | None) -> Market:
    def invented(what: str) -> str:
        return hashlib.sha256(f"{GENERATOR}/{seed}/{place}/{what}".encode()).hexdigest()

    slug = f"synthetic-{place + 1}"
    return Market(
        slug=slug,
        condition_id="0x" + invented("condition"),
        yes_token=str(int(invented("yes"), 16)),
        no_token=str(int(invented("no"), 16)),
        tick=tick,
        min_size=Shares(units.of(settings.min_order_size)),
        description=f"Synthetic market {place + 1} of seed {seed}",
        version="v1",
        event=slug,
        fees=FEES,
        rewards=_rewards(settings),
        end_ms=end_ms,
        accepting=True,
    )


def _rewards(settings: Synthetic) -> RewardTerms | None:
    if settings.rewards_daily_pool is None:
        return None
    return RewardTerms(
        min_size=Shares(units.of(settings.rewards_min_size)),
        max_spread=Price(units.of(settings.rewards_max_spread)),
        daily_pool=Usdc(units.of(settings.rewards_daily_pool)),
    )
