"""The synthetic market: its frames tell one consistent story, its chance is repeatable, and its truth is where it says."""

import hashlib
import json
import tracemalloc
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmtools.config import News, Shock, Synthetic
from mmtools.trading.market import Market, RewardTerms
from mmtools.units import ONE, Price, Shares, Usdc, parse
from mmtools.venues.decoder import Decoder
from mmtools.venues.synthetic import FairValue, SyntheticFeed, exponential, normal
from mmtools.venues.venue import Feed, Kind

START_MS = 1_767_225_600_000
MINUTE = 60_000
HOUR = 60 * MINUTE
QUIET: dict[str, Any] = {"volatility_ticks": 0.0, "jumps_per_hour": 0.0}
BUSY = Synthetic(
    markets=2, volatility_ticks=0.4, trades_per_minute=40, trade_size=200, changes_per_minute=120, maker_delay_s=3, half_spread_ticks=0.5
)

SIDES = {"BUY": "bids", "SELL": "asks"}
Ladders = dict[str, dict[str, dict[int, int]]]
"""token -> "BUY" or "SELL" -> price -> size, in millionths."""


def feed(duration_ms: int = 10 * MINUTE, seed: int = 7, **changes: Any) -> SyntheticFeed:
    return SyntheticFeed(Synthetic(**changes), seed=seed, duration_ms=duration_ms)


def digest(of: SyntheticFeed) -> str:
    sha = hashlib.sha256()
    for now_ms, frame in of.messages():
        sha.update(b"%d " % now_ms + frame + b"\n")
    return sha.hexdigest()


def followed(of: SyntheticFeed) -> Iterator[tuple[int, dict[str, Any], Ladders]]:
    """Yield every frame with the books of all tokens after it, built as a client would; a `book` must repeat what is known."""
    books: Ladders = {}
    for now_ms, message in of.messages():
        decoded = json.loads(message)
        frames = decoded if isinstance(decoded, list) else [decoded]
        for frame in frames:
            assert frame["timestamp"] == str(now_ms)
            if frame["event_type"] == "price_change":
                for change in frame["price_changes"]:
                    apply(books[change["asset_id"]][change["side"]], parse(change["price"]), parse(change["size"]))
            elif frame["event_type"] == "book":
                stated = {side: {parse(level["price"]): parse(level["size"]) for level in frame[key]} for side, key in SIDES.items()}
                assert list(stated["BUY"]) == sorted(stated["BUY"])
                assert list(stated["SELL"]) == sorted(stated["SELL"], reverse=True)
                assert stated == books.get(frame["asset_id"], stated)
                books[frame["asset_id"]] = stated
        for frame in frames:
            yield now_ms, frame, books


def apply(levels: dict[int, int], price: int, size: int) -> None:
    if size:
        levels[price] = size
    else:
        del levels[price]


def touch(book: dict[str, dict[int, int]]) -> tuple[int, int]:
    return max(book["BUY"], default=0), min(book["SELL"], default=ONE)


def in_yes_terms(market: Market, frame: dict[str, Any]) -> tuple[str, int, int]:
    """Return a print as (taker's side, price, size)."""
    price, size = parse(frame["price"]), parse(frame["size"])
    if frame["asset_id"] == market.yes_token:
        return frame["side"], price, size
    return ("SELL" if frame["side"] == "BUY" else "BUY"), ONE - price, size


# Chance


def test_one_seed_gives_the_same_bytes_every_time() -> None:
    one = SyntheticFeed(BUSY, seed=7, duration_ms=10 * MINUTE)
    assert digest(one) == digest(one) == digest(SyntheticFeed(BUSY, seed=7, duration_ms=10 * MINUTE))


def test_bytes_are_the_same_on_every_platform() -> None:
    """When this fails because the model was changed on purpose, raise GENERATOR and put the new hash here."""
    pinned = Synthetic(
        markets=2,
        tick=0.005,
        fair=0.37,
        volatility_ticks=0.3,
        trades_per_minute=12,
        trade_size=250,
        informed_share=0.4,
        changes_per_minute=40,
        depth_levels=7,
        level_size=200,
        half_spread_ticks=0.8,
        maker_delay_s=2.5,
        print_lag_ms=21,
        jumps_per_hour=6,
        jump_ticks=4,
        news=(News(at_s=600, ticks=-9),),
        shocks=(Shock(at_s=900, duration_s=300, factor=3),),
        resolves="no",
    )
    assert digest(SyntheticFeed(pinned, seed=1, duration_ms=HOUR)) == "d0a0f95f8fedc126244b40c6847c2054b34083c33193cf357e84463b55d99d04"


def test_another_seed_gives_another_market() -> None:
    one, other = feed(seed=1), feed(seed=2)
    assert digest(one) != digest(other)
    assert one.markets[0].yes_token != other.markets[0].yes_token
    assert one.sha256 != other.sha256


def test_sha256_names_settings_seed_and_duration() -> None:
    assert feed().sha256 == feed().sha256
    assert len({feed().sha256, feed(fair=0.4).sha256, feed(seed=8).sha256, feed(11 * MINUTE).sha256}) == 4


def test_exponential_and_normal_have_their_moments() -> None:
    draw = Random(3).random
    waits = [exponential(draw) for _ in range(40_000)]
    moves = [normal(draw) for _ in range(40_000)]
    assert sum(waits) / 40_000 == pytest.approx(1, abs=0.02)
    assert sum(wait * wait for wait in waits) / 40_000 == pytest.approx(2, abs=0.1)
    assert sum(wait > 2 for wait in waits) / 40_000 == pytest.approx(0.1353, abs=0.006)
    assert sum(moves) / 40_000 == pytest.approx(0, abs=0.02)
    assert sum(move * move for move in moves) / 40_000 == pytest.approx(1, abs=0.02)


# What the market says of itself


def test_markets_have_invented_ids_that_clients_take_for_real_ones() -> None:
    two: Feed = feed(markets=2, tick=0.001, min_order_size=15)
    assert [market.slug for market in two.markets] == ["synthetic-1", "synthetic-2"]
    tokens = [token for market in two.markets for token in (market.yes_token, market.no_token)]
    assert len({*tokens, *(market.condition_id for market in two.markets)}) == 6
    assert all(int(token) & (((1 << 64) - 1) << 40) for token in tokens)
    market = two.markets[1]
    assert (market.tick, market.min_size, market.accepting, market.end_ms) == (1_000, 15_000_000, True, None)
    assert market.fees is not None


def test_rewards_are_terms_of_every_market_and_change_no_frame() -> None:
    plain, paid = feed(markets=2), feed(markets=2, rewards_daily_pool=40.5, rewards_max_spread=0.045, rewards_min_size=50)
    assert [market.rewards for market in plain.markets] == [None, None]
    terms = RewardTerms(min_size=Shares(50_000_000), max_spread=Price(45_000), daily_pool=Usdc(40_500_000))
    assert [market.rewards for market in paid.markets] == [terms, terms]
    assert digest(paid) == digest(plain)


def test_end_is_known_when_the_market_resolves() -> None:
    assert feed(HOUR, resolves="no").markets[0].end_ms == START_MS + HOUR


def test_start_without_zone_is_utc() -> None:
    assert next(feed(start="2026-01-01T00:00:00").messages())[0] == START_MS


# Frames


def test_every_message_decodes_and_rows_are_in_order() -> None:
    busy = SyntheticFeed(BUSY, seed=3, duration_ms=25 * MINUTE)
    decoder = Decoder(busy.markets)
    decoded = [row for now_ms, frame in busy.messages() for row in decoder.rows(now_ms, frame)]
    assert list(busy.rows()) == decoded
    assert all(earlier[0] <= later[0] for earlier, later in pairwise(decoded))
    kinds = {row[1] for row in decoded}
    assert kinds == {Kind.FRAME, Kind.BID, Kind.ASK, Kind.BOOK, Kind.END, Kind.SOLD, Kind.BOUGHT}


def test_first_message_of_a_market_is_the_array_of_both_books_and_they_come_again() -> None:
    one = feed(25 * MINUTE)
    _, first = next(one.messages())
    yes, no = json.loads(first)
    market = one.markets[0]
    assert (yes["asset_id"], no["asset_id"]) == (market.yes_token, market.no_token)
    assert all(book["event_type"] == "book" and book["hash"] == "" and book["tick_size"] == "0.01" for book in (yes, no))
    assert len(yes["bids"]) == len(no["asks"]) == 10
    books = [now_ms - START_MS for now_ms, frame, _ in followed(one) if frame["event_type"] == "book"]
    assert books == [0, 0, 10 * MINUTE, 10 * MINUTE, 20 * MINUTE, 20 * MINUTE]


@pytest.mark.parametrize(("tick", "price", "wide"), [(0.1, "0.4", 1), (0.01, "0.49", 2), (0.0025, "0.4975", 4), (0.0001, "0.4999", 4)])
def test_prices_have_the_decimals_of_the_tick(tick: float, price: str, wide: int) -> None:
    _, first = next(feed(tick=tick).messages())
    assert json.loads(first)[0]["bids"][-1]["price"] == price
    assert {len(level["price"]) for level in json.loads(first)[1]["asks"]} == {2 + wide}


def test_without_takers_and_changes_a_still_market_says_nothing_but_books() -> None:
    still = feed(21 * MINUTE, trades_per_minute=0, changes_per_minute=0, **QUIET)
    assert [frame["event_type"] for _, frame, _ in followed(still)] == ["book"] * 6


ODD = Synthetic(tick=0.1, fair=0.9, volatility_ticks=3, depth_levels=1, level_size=0.001, trades_per_minute=300, print_lag_ms=0)


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        Synthetic,
        markets=st.integers(1, 2),
        tick=st.sampled_from([0.1, 0.01, 0.0025]),
        fair=st.floats(0.1, 0.9),
        volatility_ticks=st.floats(0, 5),
        trades_per_minute=st.floats(0, 200),
        trade_size=st.floats(0.01, 5000),
        informed_share=st.floats(0, 1),
        changes_per_minute=st.floats(0, 200),
        depth_levels=st.integers(1, 15),
        level_size=st.floats(0.01, 1000),
        half_spread_ticks=st.floats(0.01, 120),
        maker_delay_s=st.floats(0, 30),
        print_lag_ms=st.integers(0, 300),
        jumps_per_hour=st.floats(0, 200),
        jump_ticks=st.floats(0.1, 200),
        news=st.lists(st.builds(News, at_s=st.floats(0, 70), ticks=st.floats(-200, 200)), max_size=2).map(tuple),
        resolves=st.sampled_from([None, "yes", "no"]),
    ),
    st.integers(0, 2**40),
)
@example(ODD, 1)
def test_book_never_crosses_and_is_what_the_frames_state(synthetic: Synthetic, seed: int) -> None:
    market_feed = SyntheticFeed(synthetic, seed=seed, duration_ms=MINUTE)
    markets = {market.condition_id: market for market in market_feed.markets}
    last_ms = START_MS
    for now_ms, frame, books in followed(market_feed):
        assert last_ms <= now_ms <= START_MS + MINUTE
        last_ms = now_ms
        market = markets[frame["market"]]
        yes, no = books[market.yes_token], books[market.no_token]
        bid, ask = touch(yes)
        assert bid < ask
        if frame["event_type"] != "price_change":
            continue
        assert no == {"BUY": {ONE - p: s for p, s in yes["SELL"].items()}, "SELL": {ONE - p: s for p, s in yes["BUY"].items()}}
        for change in frame["price_changes"]:
            stated = parse(change["best_bid"]), parse(change["best_ask"])
            assert stated == ((bid, ask) if change["asset_id"] == market.yes_token else (ONE - ask, ONE - bid))


# Other makers


def test_other_makers_see_the_fair_value_late() -> None:
    late = feed(
        MINUTE, maker_delay_s=4, half_spread_ticks=1.5, trades_per_minute=0, changes_per_minute=0, news=(News(at_s=10, ticks=5),), **QUIET
    )
    market = late.markets[0]
    touches = {now_ms - START_MS: touch(books[market.yes_token]) for now_ms, _, books in followed(late)}
    assert touches == {0: (480_000, 520_000), 14_000: (530_000, 570_000)}


def test_levels_are_added_to_cut_and_refilled_about_their_mean() -> None:
    grew = shrank = refilled = 0
    sizes: list[int] = []
    fidgety = feed(HOUR, changes_per_minute=120, trades_per_minute=20, trade_size=200, level_size=300, **QUIET)
    known: dict[tuple[str, str], int] = {}
    for _, frame, books in followed(fidgety):
        for change in frame.get("price_changes", [])[::2]:
            level, size = (change["side"], change["price"]), parse(change["size"])
            before = known.get(level)
            if before is not None:
                grew += size > before
                shrank += 0 < size < before
                refilled += before == 0 < size
            known[level] = size
        sizes += books[fidgety.markets[0].yes_token]["BUY"].values()
    assert min(grew, shrank) > 500
    assert refilled > 20
    assert sum(sizes) / len(sizes) == pytest.approx(300 * ONE, rel=0.15)


# Takers


def prints(of: SyntheticFeed) -> Iterator[tuple[int, Market, dict[str, Any], dict[str, dict[int, int]]]]:
    """Yield (time, market, frame, YES book) of every print."""
    markets = {market.condition_id: market for market in of.markets}
    for now_ms, frame, books in followed(of):
        if frame["event_type"] == "last_trade_price":
            market = markets[frame["market"]]
            yield now_ms, market, frame, books[market.yes_token]


def test_every_print_follows_the_decrease_it_caused_by_the_lag() -> None:
    busy = SyntheticFeed(BUSY, seed=5, duration_ms=15 * MINUTE)
    markets = {market.condition_id: market for market in busy.markets}
    sizes: dict[tuple[str, str, int], int] = {}
    decreases: set[tuple[int, str, str, int, int]] = set()
    seen = 0
    for now_ms, frame, books in followed(busy):
        market = markets[frame["market"]]
        if frame["event_type"] == "last_trade_price":
            side, price, size = in_yes_terms(market, frame)
            resting = "BUY" if side == "SELL" else "SELL"
            assert (now_ms - 21, market.slug, resting, price, size) in decreases
            seen += 1
        elif frame["event_type"] == "price_change":
            yes = [change for change in frame["price_changes"] if change["asset_id"] == market.yes_token]
            for change in yes:
                level, total = (market.slug, change["side"], parse(change["price"])), parse(change["size"])
                decreases.add((now_ms, *level, sizes.get(level, 0) - total))
                sizes[level] = total
        else:
            for side in SIDES:
                sizes |= {(market.slug, side, price): size for price, size in books[market.yes_token][side].items()}
    assert seen > 800


def test_every_decrease_by_a_trade_has_its_print_before_the_end() -> None:
    lagging = feed(MINUTE, print_lag_ms=20_000, trades_per_minute=60, changes_per_minute=0, informed_share=0, level_size=5_000, **QUIET)
    frames = [(now_ms, frame) for now_ms, frame, _ in followed(lagging)]
    taken = [now_ms for now_ms, frame in frames if frame["event_type"] == "price_change"]
    printed = [now_ms for now_ms, frame in frames if frame["event_type"] == "last_trade_price"]
    assert len(printed) > 20
    assert printed == [now_ms + 20_000 for now_ms in taken]


def test_prints_stand_on_either_token_and_eat_from_the_touch() -> None:
    busy = SyntheticFeed(BUSY, seed=5, duration_ms=15 * MINUTE)
    on_yes = on_no = swept = 0
    for _, market, frame, book in prints(busy):
        bid, ask = touch(book)
        side, price, _ = in_yes_terms(market, frame)
        on_yes += frame["asset_id"] == market.yes_token
        on_no += frame["asset_id"] == market.no_token
        # what was eaten is at the touch or no longer there
        swept += price <= ask if side == "BUY" else price >= bid
    assert on_yes / (on_yes + on_no) == pytest.approx(0.5, abs=0.1)
    assert swept / (on_yes + on_no) > 0.98


def test_traded_size_and_rate_are_as_set() -> None:
    deep = feed(2 * HOUR, informed_share=0, trades_per_minute=30, trade_size=40, level_size=10_000, changes_per_minute=0, **QUIET)
    sizes = [parse(frame["size"]) for _, _, frame, _ in prints(deep)]
    assert len(sizes) == pytest.approx(3600, rel=0.06)
    assert sum(sizes) / len(sizes) == pytest.approx(40 * ONE, rel=0.06)


def markouts(informed_share: float, after_ms: int = 5_000) -> list[float]:
    """Return, per print, what the fair value is later less what it was, in ticks, as the taker's gain on the mid of the print."""
    market_feed = feed(
        HOUR, seed=11, volatility_ticks=0.4, maker_delay_s=5, half_spread_ticks=0.5, trades_per_minute=60, informed_share=informed_share,
        level_size=300,  # deep enough that a taker seldom moves the mid of its own print
    )  # fmt: skip
    gains: list[float] = []
    waiting: deque[tuple[int, int, float]] = deque()
    market = market_feed.markets[0]
    for now_ms, frame, books in followed(market_feed):
        fair = market_feed.fair[0]
        while waiting and waiting[0][0] <= now_ms:
            _, sign, mid = waiting.popleft()
            gains.append(sign * (fair - mid) / market.tick)
        if frame["event_type"] == "last_trade_price":
            side, _, _ = in_yes_terms(market, frame)
            waiting.append((now_ms + after_ms, 1 if side == "BUY" else -1, sum(touch(books[market.yes_token])) / 2))
    return gains


def test_informed_takers_are_right_and_noise_takers_are_not() -> None:
    informed, noise = markouts(1.0), markouts(0.0)
    assert min(len(informed), len(noise)) > 250
    assert sum(informed) / len(informed) > 1
    assert sum(noise) / len(noise) == pytest.approx(0, abs=0.1)


def test_informed_takers_take_only_what_the_fair_value_beats() -> None:
    sharp = feed(HOUR, volatility_ticks=0.5, maker_delay_s=5, half_spread_ticks=0.5, trades_per_minute=60, informed_share=1, print_lag_ms=0)
    seen = 0
    for _, market, frame, _ in prints(sharp):
        side, price, _ = in_yes_terms(market, frame)
        assert price < sharp.fair[0] if side == "BUY" else price > sharp.fair[0]
        seen += 1
    assert seen > 50


def test_other_takers_meet_the_same_fair_value() -> None:
    def path(trades_per_minute: float) -> dict[int, float]:
        quiet = feed(HOUR, seed=4, changes_per_minute=120, trades_per_minute=trades_per_minute)
        return {now_ms: quiet.fair[0] for now_ms, _ in quiet.messages()}

    few, many = path(1), path(30)
    assert len(few.keys() & many.keys()) > 1000
    assert all(few[now_ms] == many[now_ms] for now_ms in few.keys() & many.keys())


# The fair value


def fair_path(duration_ms: int, seed: int = 1, **changes: Any) -> list[tuple[float, float]]:
    value = FairValue(Synthetic(**changes), ticks=100, duration_ms=duration_ms, draw=Random(seed).random)
    path = [(value.now_ms, value.ticks)]
    while value.next_ms <= duration_ms:
        value.advance()
        path.append((value.now_ms, value.ticks))
    return path


def variance_per_second(path: list[tuple[float, float]], begin_s: float, end_s: float) -> float:
    within = [ticks for now_ms, ticks in path if begin_s * 1000 <= now_ms <= end_s * 1000]
    return sum((later - earlier) ** 2 for earlier, later in pairwise(within)) / (end_s - begin_s)


def test_volatility_is_per_square_root_of_a_second_and_shocks_multiply_it() -> None:
    shocks = (Shock(at_s=1000.1, duration_s=999.9, factor=4), Shock(at_s=1500, duration_s=500, factor=0.5))
    path = fair_path(HOUR, volatility_ticks=0.1, jumps_per_hour=0, shocks=shocks)
    assert variance_per_second(path, 0, 1000) == pytest.approx(0.01, rel=0.1)
    assert variance_per_second(path, 1000.1, 1500) == pytest.approx(0.16, rel=0.1)
    assert variance_per_second(path, 1500, 2000) == pytest.approx(0.04, rel=0.1)
    assert variance_per_second(path, 2000, 3600) == pytest.approx(0.01, rel=0.1)


def test_news_moves_the_fair_value_by_its_ticks_at_its_time() -> None:
    news = (News(at_s=90.3, ticks=-7.5), News(at_s=30, ticks=12))
    at = dict(fair_path(2 * MINUTE, news=news, **QUIET))
    assert (at[29_750], at[30_000], at[90_250], at[90_300], at[120_000]) == (50, 62, 62, 54.5, 54.5)


def test_news_beyond_the_end_of_prices_stops_there() -> None:
    assert fair_path(MINUTE, news=(News(at_s=1, ticks=500),), **QUIET)[-1][1] == 99


def test_jumps_come_at_their_rate_and_size() -> None:
    path = fair_path(24 * HOUR, volatility_ticks=0, jumps_per_hour=20, jump_ticks=2)
    moves = [later - earlier for (_, earlier), (_, later) in pairwise(path) if later != earlier]
    assert len(moves) == pytest.approx(480, rel=0.15)
    assert {abs(move) for move in moves} <= {1, 2}
    assert sum(abs(move) == 2 for move in moves) > 0.9 * len(moves)


def test_fair_value_is_reflected_inside_the_prices() -> None:
    values = [ticks for _, ticks in fair_path(HOUR, volatility_ticks=30)]
    assert min(values) >= 1
    assert max(values) <= 99
    assert max(values) - min(values) > 90


@pytest.mark.parametrize(("resolves", "paid", "near"), [("yes", ONE, 990_000), ("no", 0, 10_000)])
def test_market_resolves_to_the_named_winner_with_the_fair_value_near_it_before(resolves: str, paid: int, near: int) -> None:
    ending = feed(HOUR, seed=3, resolves=resolves)
    market = ending.markets[0]
    fairs = [(now_ms, ending.fair[0]) for now_ms, _ in ending.messages()]
    assert next(fair for now_ms, fair in reversed(fairs) if now_ms <= START_MS + HOUR - 1000) == pytest.approx(near, abs=5_000)
    assert fairs[-1] == (START_MS + HOUR, paid)
    assert list(ending.rows())[-1] == (START_MS + HOUR, Kind.RESOLVED, 0, paid, 0)
    *_, (_, frame, _) = followed(ending)
    assert frame["winning_asset_id"] == (market.yes_token if resolves == "yes" else market.no_token)
    assert frame["winning_outcome"].lower() == resolves
    assert frame["assets_ids"] == [market.yes_token, market.no_token]


# Several markets, long runs


def test_adding_a_market_leaves_the_others_as_they_were() -> None:
    one, three = feed(seed=9), feed(seed=9, markets=3)
    first = three.markets[0].condition_id.encode()
    assert [message for message in three.messages() if first in message[1]] == list(one.messages())
    times = [now_ms for now_ms, _ in three.messages()]
    assert times == sorted(times)


def test_markets_move_apart() -> None:
    changes: dict[str, Any] = {"volatility_ticks": 0.5, "jumps_per_hour": 0.0}
    two = feed(HOUR, seed=2, markets=2, changes_per_minute=120, **changes)
    samples: list[tuple[float, float]] = []
    for now_ms, _ in two.messages():
        if now_ms >= START_MS + 5_000 * len(samples):
            samples.append((two.fair[0], two.fair[1]))
    moves = [(a[0] - b[0], a[1] - b[1]) for b, a in pairwise(samples)]
    both = sum(x * y for x, y in moves)
    assert abs(both) < 0.12 * (sum(x * x for x, _ in moves) * sum(y * y for _, y in moves)) ** 0.5


def test_memory_does_not_grow_with_the_run() -> None:
    messages = SyntheticFeed(BUSY, seed=1, duration_ms=24 * HOUR).messages()

    def consume(until_ms: int) -> None:
        for now_ms, _ in messages:
            if now_ms >= START_MS + until_ms:
                return

    tracemalloc.start()
    try:
        consume(3 * MINUTE)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        consume(30 * MINUTE)
        assert tracemalloc.get_traced_memory()[1] - before < 50_000
    finally:
        tracemalloc.stop()


def test_a_choice_of_markets_says_of_them_what_the_whole_feed_says() -> None:
    whole = SyntheticFeed(Synthetic(markets=3), seed=5, duration_ms=60_000)
    some = SyntheticFeed(Synthetic(markets=3), seed=5, duration_ms=60_000, only=["synthetic-3"])
    assert [market.slug for market in some.markets] == ["synthetic-3"]
    third = whole.markets[2].condition_id.encode()
    assert list(some.messages()) == [(ms, frame) for ms, frame in whole.messages() if third in frame]
    assert some.sha256 != whole.sha256
    with pytest.raises(ValueError, match="market gold is none of the synthetic feed's"):
        SyntheticFeed(Synthetic(markets=3), seed=5, duration_ms=60_000, only=["gold"])
