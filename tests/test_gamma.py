"""Market discovery against a loopback server with invented markets, and against every recorded record of the real venue."""

import json
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from mmtools import units
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.trading.market import FeeSchedule, Market, RewardTerms
from mmtools.units import Price, Shares, Usdc
from mmtools.venues import gamma

YES = str((5 << 200) | (0xC0FFEE << 64) | 17)
NO = str((9 << 201) | (0xBADCAFE << 66) | 40)
V2_YES = str((1 << 248) | (0xFEED << 130) | (2 << 104) | (137 << 24))
V2_NO = str(int(V2_YES) + 1)
CONDITION = "0x" + "3d" * 32
NOW_MS = 1_790_000_000_000


def record(**changes: Any) -> dict[str, Any]:
    """An open market as the venue describes it; a change to None leaves the field out."""
    facts = {
        "id": "90210",
        "version": "v1",
        "slug": "will-it-hail",
        "question": "Will it hail?",
        "conditionId": CONDITION,
        "outcomes": '["Hail", "Sun"]',
        "outcomePrices": '["0.31", "0.69"]',
        "clobTokenIds": json.dumps([YES, NO]),
        "active": True,
        "closed": False,
        "archived": False,
        "acceptingOrders": True,
        "enableOrderBook": True,
        "negRisk": True,
        "negRiskMarketID": "0x" + "5e" * 32,
        "orderMinSize": 5,
        "orderPriceMinTickSize": 0.0025,
        "volume24hr": 15825.817800000003,
        "endDate": "2026-12-31T00:00:00Z",
        "gameStartTime": "2026-12-30 18:30:00+00",
        "feesEnabled": True,
        "feeSchedule": {"exponent": 1, "rate": 0.05, "takerOnly": True, "rebateRate": 0.25},
        "rewardsMinSize": 50,
        "rewardsMaxSpread": 4.5,
        "clobRewards": [{"rewardsDailyRate": 12.5, "startDate": "2026-01-13", "endDate": "2500-12-31"}],
        "events": [{"slug": "weather-of-the-day"}, {"slug": "another"}],
    }
    return {key: value for key, value in {**facts, **changes}.items() if value is not None}


EXPECTED = Market(
    slug="will-it-hail",
    condition_id=CONDITION,
    yes_token=YES,
    no_token=NO,
    tick=Price(2_500),
    min_size=Shares(5_000_000),
    outcomes=("Hail", "Sun"),
    neg_risk=True,
    description="Will it hail?",
    version="v1",
    event="weather-of-the-day",
    fees=FeeSchedule(rate=0.05, exponent=1.0, rebate_rate=0.25),
    rewards=RewardTerms(min_size=Shares(50_000_000), max_spread=Price(45_000), daily_pool=Usdc(12_500_000)),
    end_ms=int(datetime(2026, 12, 31, tzinfo=UTC).timestamp()) * 1000,
    game_start_ms=int(datetime(2026, 12, 30, 18, 30, tzinfo=UTC).timestamp()) * 1000,
    accepting=True,
    volume_24h=Usdc(15_825_817_800),
)


def read(**changes: Any) -> Market:
    return gamma.read_market(as_decoded(json.dumps(record(**changes))), now_ms=NOW_MS)


def as_decoded(text: str | bytes) -> Any:
    return json.loads(text, parse_float=str, parse_int=str)


# Reading a record


def test_every_field_a_maker_needs_is_read() -> None:
    assert read() == EXPECTED


def test_version_2_trades_position_ids_even_when_both_lists_are_there() -> None:
    market = read(version="v2", positionIds=[V2_YES, V2_NO], conditionId="0x" + "4f" * 31)
    assert (market.yes_token, market.no_token) == (V2_YES, V2_NO)
    assert market.version == "v2"
    assert market.condition_id == "0x" + "4f" * 31 + "00"


def test_version_1_trades_clob_tokens_even_when_both_lists_are_there() -> None:
    assert read(positionIds=[V2_YES, V2_NO]) == EXPECTED


@pytest.mark.parametrize("version", [None, "v3", "1", 2, ["v1"]])
def test_a_missing_or_unknown_version_is_refused_and_never_assumed(version: object) -> None:
    with pytest.raises(Refused, match="will-it-hail: the venue states"):
        read(version=version, positionIds=[V2_YES, V2_NO])


@pytest.mark.parametrize(
    ("missing", "field"), [("event", "events"), ("description", "question"), ("accepting", "acceptingOrders"), ("end_ms", "endDate")]
)
def test_what_the_venue_does_not_say_is_none(missing: str, field: str) -> None:
    market = read(**{field: None})
    assert getattr(market, missing) == ("0x" + "5e" * 32 if missing == "event" else None)


@pytest.mark.parametrize(
    "field", ["closed", "outcomes", "clobTokenIds", "conditionId", "orderMinSize", "orderPriceMinTickSize", "negRisk", "slug"]
)
def test_a_record_without_what_a_maker_cannot_do_without_is_broken_and_says_what_is_missing(field: str) -> None:
    with pytest.raises(TryLater, match=f"{field} is missing"):
        read(**{field: None})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("closed", "no"),
        ("outcomes", "Yes, No"),
        ("outcomes", [1, {}]),
        ("clobTokenIds", "[]"),
        ("clobTokenIds", '["12", "0x34"]'),
        ("conditionId", "0x12"),
        ("orderPriceMinTickSize", 0.02),
        ("orderPriceMinTickSize", -0.01),
        ("orderPriceMinTickSize", "NaN"),
        ("orderMinSize", 0),
        ("orderMinSize", 5.00000001),
        ("orderMinSize", "1e99"),
        ("endDate", "soon"),
        ("endDate", "2026-13-01"),
        ("gameStartTime", 1790000000),
        ("feeSchedule", "5 %"),
        ("feeSchedule", {"rate": 0.05}),
        ("feeSchedule", {"rate": -1, "exponent": 1}),
        ("rewardsMaxSpread", True),
        ("clobRewards", {}),
        ("clobRewards", [{"rewardsDailyRate": "lots"}]),
        ("events", ["weather"]),
        ("acceptingOrders", "yes"),
        ("volume24hr", []),
    ],
)
def test_a_wrong_value_is_a_broken_answer_that_names_the_market(field: str, value: object) -> None:
    with pytest.raises(TryLater, match="will-it-hail"):
        read(**{field: value})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"closed": True}, "closed"),
        ({"closed": True, "version": None, "orderMinSize": None}, "closed"),
        ({"archived": True}, "archived"),
        ({"enableOrderBook": False}, "no order book"),
        ({"outcomes": '["Up", "Down", "Same"]'}, "3 outcomes"),
    ],
)
def test_a_market_that_cannot_be_quoted_is_a_wrong_configuration(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Misconfigured, match=f"will-it-hail: .*{why}"):
        read(**changes)


def test_fees_switched_off_are_known_to_be_nothing_and_fees_unstated_are_unknown() -> None:
    assert read(feesEnabled=False).fees == FeeSchedule(rate=0.0)
    assert read(feeSchedule=None).fees is None
    assert read(feesEnabled=None, feeSchedule=None).fees is None
    assert read(feesEnabled=None).fees == EXPECTED.fees
    assert read(feeSchedule={"rate": 0.07, "exponent": 2, "takerOnly": True}).fees == FeeSchedule(rate=0.07, exponent=2.0)


def test_a_market_where_makers_pay_is_refused() -> None:
    with pytest.raises(Refused, match="makers pay"):
        read(feeSchedule={"rate": 0.05, "exponent": 1, "takerOnly": False})


def test_only_reward_programmes_that_run_today_count() -> None:
    programmes = [
        {"rewardsDailyRate": 0.001, "startDate": "2026-09-21", "endDate": "2026-09-21"},
        {"rewardsDailyRate": 300, "startDate": "2026-01-01", "endDate": "2026-09-20"},
        {"rewardsDailyRate": 70, "startDate": "2026-09-22"},
        {"rewardsDailyRate": 2},
    ]
    rewards = read(clobRewards=programmes).rewards
    assert rewards is not None
    assert rewards.daily_pool == Usdc(2_001_000)  # NOW_MS lies on 2026-09-21


def test_rewards_unstated_are_unknown_and_no_rewards_are_a_spread_of_nothing() -> None:
    assert read(rewardsMinSize=None).rewards is None
    assert read(rewardsMinSize=0, rewardsMaxSpread=0, clobRewards=None).rewards == RewardTerms(min_size=Shares(0), max_spread=Price(0))
    rewards = read(rewardsMaxSpread=0.2, clobRewards=[]).rewards
    assert rewards == RewardTerms(min_size=Shares(50_000_000), max_spread=Price(2_000), daily_pool=Usdc(0))


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("2026-12-31T00:00:00Z", "2026-12-31T00:00:00.000+00:00"),
        ("2026-12-31T00:00:00.37498Z", "2026-12-31T00:00:00.374+00:00"),
        ("2026-12-30 18:30:00+00", "2026-12-30T18:30:00.000+00:00"),
        ("2026-12-30 18:30:00-05:00", "2026-12-30T23:30:00.000+00:00"),
        ("2026-12-30 18:30:00", "2026-12-30T18:30:00.000+00:00"),
        ("2026-12-30", "2026-12-30T00:00:00.000+00:00"),
    ],
)
def test_every_form_of_a_time_is_read_as_utc(written: str, iso: str) -> None:
    start = read(gameStartTime=written).game_start_ms
    assert start is not None
    assert datetime.fromtimestamp(start / 1000, UTC).isoformat(timespec="milliseconds") == iso


def test_an_empty_time_is_an_unknown_time() -> None:
    assert read(gameStartTime="").game_start_ms is None


@given(st.integers(1, 10**15))
def test_amounts_come_through_to_the_millionth(amount: int) -> None:
    facts = as_decoded(json.dumps(record()).replace('"orderMinSize": 5,', f'"orderMinSize": {units.text(amount)},'))
    assert gamma.read_market(facts, now_ms=NOW_MS).min_size == amount


@given(
    st.dictionaries(
        st.sampled_from(sorted(record())),
        st.none() | st.booleans() | st.text(max_size=9) | st.lists(st.text(max_size=3), max_size=3) | st.floats(-1, 1e9).map(str),
        max_size=4,
    )
)
def test_any_record_is_read_or_refused_in_one_line(changes: dict[str, Any]) -> None:
    try:
        read(**changes)
    except (TryLater, Misconfigured, Refused) as e:
        assert "\n" not in str(e)  # noqa: PT017 - what is asserted holds for each of the refusals


# Asking the venue


class Venue:
    """A loopback server with a list of answers per path (the last one stays); it keeps what it was asked."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.asked: list[str] = []
        self.answers: dict[str, list[tuple[int, dict[str, str], bytes]]] = {}
        self.over = threading.Event()

    def will_answer(self, path: str, body: object, *, status: int = 200, **headers: str) -> None:
        written = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault(path, []).append((status, named, written))

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        waiting = self.answers.get(path, [(404, {}, b'{"type":"not found error"}')])
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    venue: Venue

    def do_GET(self) -> None:
        self.venue.asked.append(self.path)
        status, headers, body = self.venue.answer(urlsplit(self.path).path)
        if status == 0:  # hang up
            self.close_connection = True
            return
        if body == b"HANG":
            self.venue.over.wait(30)
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body == b"DRIP":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(OSError):
                while not self.venue.over.wait(0.02):
                    self.wfile.write(b"1\r\n \r\n")
            self.close_connection = True
            return
        if headers.get("Transfer-Encoding") == "chunked":
            self.end_headers()
            half = len(body) // 2
            for piece in (body[:half], body[half:], b""):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            return
        self.send_header("Content-Length", headers.get("Claim", str(len(body))))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)
        self.close_connection = "Claim" in headers

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def venue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Venue]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = type("VenueHandler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        here = Venue(f"http://127.0.0.1:{server.server_address[1]}")
        handler.venue = here  # type: ignore[attr-defined]
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        serving.start()
        yield here
        here.over.set()
        server.shutdown()
        serving.join()


HAIL = "/markets/slug/will-it-hail"


def find(venue: Venue, *names: str, timeout_s: float = 5) -> tuple[Market, ...]:
    return gamma.find(names, base=venue.base, timeout_s=timeout_s)


def test_markets_come_in_the_order_they_were_named(venue: Venue) -> None:
    other = "0x" + "7a" * 32
    venue.will_answer(HAIL, record())
    venue.will_answer("/markets", [record(slug="will-it-snow", conditionId=other)])
    assert [market.slug for market in find(venue, other, "will-it-hail")] == ["will-it-snow", "will-it-hail"]
    assert parse_qs(urlsplit(venue.asked[0]).query) == {"condition_ids": [other]}
    assert venue.asked[1] == HAIL


def test_the_whole_market_comes_through_the_wire(venue: Venue) -> None:
    venue.will_answer(HAIL, record())
    assert find(venue, "will-it-hail") == (EXPECTED,)
    venue.will_answer("/markets", [record(slug="another", conditionId="0x" + "11" * 32), record()])
    assert find(venue, CONDITION.replace("d", "D")) == (EXPECTED,)


def test_a_chunked_answer_is_read_whole(venue: Venue) -> None:
    venue.will_answer(HAIL, record(), Transfer_Encoding="chunked")
    assert find(venue, "will-it-hail") == (EXPECTED,)


def test_no_names_ask_nothing(venue: Venue) -> None:
    assert find(venue) == ()
    assert venue.asked == []


def test_a_given_session_is_used_and_stays_open(venue: Venue) -> None:
    venue.will_answer(HAIL, record())
    with requests.Session() as session:
        for _ in range(2):
            assert gamma.find(["will-it-hail"], base=venue.base + "/", session=session) == (EXPECTED,)


def test_a_version_2_condition_is_asked_in_both_its_forms(venue: Venue) -> None:
    short = "0x" + "4f" * 31
    venue.will_answer("/markets", [record(version="v2", positionIds=[V2_YES, V2_NO], conditionId=short)])
    for name in (short, short + "00"):
        assert [market.condition_id for market in find(venue, name)] == [short + "00"]
    assert [parse_qs(urlsplit(path).query)["condition_ids"] for path in venue.asked] == [[short + "00", short]] * 2


@pytest.mark.parametrize(
    "name", ["", "../events", "a b", "x?closed=true", "https://polymarket.com/event/x", "0x12ab", "0x" + "3d" * 33, "é"]
)
def test_what_is_neither_slug_nor_condition_id_is_never_asked(venue: Venue, name: str) -> None:
    with pytest.raises(Misconfigured, match="neither a slug"):
        find(venue, name)
    assert venue.asked == []


def test_one_market_named_twice_is_a_wrong_configuration(venue: Venue) -> None:
    venue.will_answer(HAIL, record())
    venue.will_answer("/markets", [record()])
    with pytest.raises(Misconfigured, match=f"will-it-hail and {CONDITION} are one market"):
        find(venue, "will-it-hail", CONDITION)
    with pytest.raises(Misconfigured, match="will-it-hail and will-it-hail are one market"):
        find(venue, "will-it-hail", "will-it-hail")


def test_an_unknown_name_is_a_wrong_configuration_that_names_it(venue: Venue) -> None:
    with pytest.raises(Misconfigured, match=r"will-it-rian: .*knows no such market"):
        find(venue, "will-it-rian")
    venue.will_answer("/markets", [])
    with pytest.raises(Misconfigured, match=f"{CONDITION}: no open market"):
        find(venue, CONDITION)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (HAIL, b"<html>maintenance</html>"),
        (HAIL, b""),
        (HAIL, b"\xff\xfe"),
        (HAIL, b'{"slug": NaN}'),
        (HAIL, b"[" * 100_000),
        (HAIL, b"null"),
        (HAIL, [record()]),
        (HAIL, record(slug="will-it-snow")),
        (HAIL, record(clobTokenIds=None)),
        ("/markets", record()),
        ("/markets", [record(conditionId="0x" + "11" * 32)]),
        ("/markets", [7]),
    ],
)
def test_a_broken_answer_is_one_line_to_try_later(venue: Venue, path: str, body: object) -> None:
    venue.will_answer(path, body)
    name = "will-it-hail" if path == HAIL else CONDITION
    with pytest.raises(TryLater, match="answer is broken") as broken:
        find(venue, name)
    assert str(broken.value).startswith(name)
    assert "\n" not in str(broken.value)
    assert len(venue.asked) == 1


@pytest.mark.parametrize(
    ("headers", "when"), [({"Retry_After": "17"}, "in 17 s"), ({"Retry_After": "later"}, "in a minute"), ({}, "in a minute")]
)
def test_a_rate_limit_is_obeyed_without_asking_again(venue: Venue, headers: dict[str, str], when: str) -> None:
    venue.will_answer(HAIL, {}, status=429, **headers)
    with pytest.raises(TryLater, match=f"run again {when}"):
        find(venue, "will-it-hail")
    assert len(venue.asked) == 1


def test_a_failing_server_is_asked_twice_and_no_more(venue: Venue) -> None:
    venue.will_answer(HAIL, {}, status=503)
    with pytest.raises(TryLater, match="HTTP 503"):
        find(venue, "will-it-hail")
    assert len(venue.asked) == 2


@pytest.mark.parametrize("status", [0, 500, 502])
def test_one_failure_is_forgiven(venue: Venue, status: int) -> None:
    venue.will_answer(HAIL, {}, status=status)
    venue.will_answer(HAIL, record())
    assert find(venue, "will-it-hail") == (EXPECTED,)
    assert len(venue.asked) == 2


def test_a_server_that_hangs_up_or_is_not_there_is_one_line(venue: Venue) -> None:
    venue.will_answer(HAIL, {}, status=0)
    with pytest.raises(TryLater, match=r"cannot reach 127\.0\.0\.1:\d+"):
        find(venue, "will-it-hail")
    assert len(venue.asked) == 2
    with pytest.raises(TryLater, match=r"cannot reach 127\.0\.0\.1:1 "):
        gamma.find(["will-it-hail"], base="http://127.0.0.1:1")


def test_an_answer_cut_short_is_no_answer(venue: Venue) -> None:
    venue.will_answer(HAIL, record(), Claim="100000")
    with pytest.raises(TryLater, match="cannot reach"):
        find(venue, "will-it-hail")


@pytest.mark.parametrize("body", [b"HANG", b"DRIP"])
def test_a_server_that_takes_too_long_is_left(venue: Venue, body: bytes) -> None:
    venue.will_answer(HAIL, body)
    with pytest.raises(TryLater, match=r"did not answer within 0\.1 s"):
        find(venue, "will-it-hail", timeout_s=0.1)
    assert len(venue.asked) == 1


def test_an_endless_answer_is_cut_off(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gamma, "MAX_ANSWER", 100_000)
    venue.will_answer(HAIL, b" " * 5_000_000)
    with pytest.raises(TryLater, match="longer than 100000 bytes"):
        find(venue, "will-it-hail")


def test_a_redirect_is_not_followed(venue: Venue) -> None:
    venue.will_answer(HAIL, {}, status=302, Location=f"{venue.base}/elsewhere")
    venue.will_answer("/elsewhere", record())
    with pytest.raises(TryLater, match="HTTP 302"):
        find(venue, "will-it-hail")
    assert venue.asked == [HAIL]


# The real venue, as recorded. Its records are older than the version field, which the test adds.


def unpacked(path: Path) -> bytes:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    return subprocess.run(["zstd", "-dc", str(path)], capture_output=True, check=True).stdout


def outcome_of(facts: dict[str, Any]) -> str:
    """Read one recorded market and check it against its record; return "read", or the reason for the refusal."""
    facts = {**facts, "version": "v1"}
    try:
        market = gamma.read_market(facts, now_ms=NOW_MS)
    except (Misconfigured, TryLater) as e:
        assert facts["slug"] in str(e)  # noqa: PT017 - a refusal is one of the two good ends
        return str(e).partition(": ")[2]
    assert [market.yes_token, market.no_token] == json.loads(facts["clobTokenIds"])
    assert market.condition_id == facts["conditionId"]
    assert list(market.outcomes) == json.loads(facts["outcomes"])
    assert units.text(market.tick) == facts["orderPriceMinTickSize"]
    assert units.text(market.min_size) == facts["orderMinSize"]
    assert market.rewards is not None
    assert units.text(market.rewards.max_spread * 100) == facts["rewardsMaxSpread"].removesuffix(".0")
    assert market.end_ms is not None
    assert (market.game_start_ms is None) == ("gameStartTime" not in facts)
    assert gamma.read_market({**facts, "slug": "x"}, now_ms=NOW_MS) == replace(market, slug="x")
    return "read"


CLOSED = "this market is closed; choose another"
ARCHIVED = "this market is archived; choose another"


def test_every_market_recorded_on_20251109_is_read_or_refused_with_a_reason(market_data: Path) -> None:
    lines = unpacked(market_data / "polymarket" / "rest-samples" / "gamma-markets-20251109" / "2025-11-09.jsonl.zst").splitlines()
    outcomes = Counter(outcome_of(as_decoded(line)) for line in lines)
    assert outcomes == {"read": 312}


def test_every_iran_market_recorded_on_20260302_is_read_or_refused_with_a_reason(market_data: Path) -> None:
    events = as_decoded(unpacked(market_data / "polymarket" / "rest-samples" / "gamma-events-iran-20260302" / "polymarket_raw.json.zst"))
    markets = [market for event in events for market in event["markets"]]
    assert Counter(outcome_of(market) for market in markets) == {"read": 19, CLOSED: 219, ARCHIVED: 4}
    facts = next(market for market in markets if market["slug"] == "will-the-iranian-regime-fall-by-june-30")
    regime = gamma.read_market({**facts, "version": "v1"}, now_ms=NOW_MS)
    assert regime.rewards is not None
    assert (regime.tick, regime.min_size, regime.neg_risk) == (Price(10_000), Shares(5_000_000), False)
    assert (regime.rewards.min_size, regime.rewards.max_spread) == (Shares(200_000_000), Price(45_000))
    assert regime.fees == FeeSchedule(rate=0.0)


def test_single_recorded_markets_are_read_or_refused_with_a_reason(market_data: Path) -> None:
    folder = market_data / "polymarket" / "wire-samples" / "nautilus" / "rust"
    outcomes = {path.stem: outcome_of(as_decoded(path.read_bytes())) for path in folder.glob("gamma_market*.json")}
    assert outcomes.pop("gamma_market") == "read"
    assert len(outcomes) == 6
    assert set(outcomes.values()) == {CLOSED}
    events = as_decoded((folder / "gamma_event.json").read_bytes())
    assert [outcome_of(market) for event in events for market in event["markets"]] == ["read", "read"]


def test_recorded_sports_fees_are_read_when_the_market_was_open(market_data: Path) -> None:
    path = market_data / "polymarket" / "wire-samples" / "nautilus" / "rust" / "gamma_market_sports_market_money_line.json"
    facts = {**as_decoded(path.read_bytes()), "version": "v1", "closed": False}
    market = gamma.read_market(facts, now_ms=NOW_MS)
    assert market.fees == FeeSchedule(rate=0.03, exponent=1.0, rebate_rate=0.25)
    assert market.event == "cs2-faze-ill-2026-04-05"
    assert market.game_start_ms == int(datetime(2026, 4, 5, 15, 10, tzinfo=UTC).timestamp()) * 1000
    assert market.accepting is False


def test_a_recorded_market_without_a_version_is_refused(market_data: Path) -> None:
    path = market_data / "polymarket" / "wire-samples" / "nautilus" / "rust" / "gamma_market.json"
    with pytest.raises(Refused, match="no version"):
        gamma.read_market(as_decoded(path.read_bytes()), now_ms=NOW_MS)
