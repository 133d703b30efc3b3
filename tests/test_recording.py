"""Reading recordings: the real ones by their counts, and everything that can be wrong with a file."""

import gzip
import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmtools.trading.market import FeeSchedule, Market, RewardTerms
from mmtools.units import Price, Shares, Usdc
from mmtools.venues.recording import BadRecording, read
from mmtools.venues.tape import Tape
from mmtools.venues.venue import Kind

RAIN: dict[str, Any] = {
    "condition_id": "0xra",
    "slug": "rain",
    "outcomes": ["Wet", "Dry"],
    "token_ids": ["7101", "7202"],
    "tick_size": "0.01",
    "min_order_size": "5",
    "neg_risk": False,
}
SNOW = {**RAIN, "condition_id": "0xsn", "slug": "snow", "token_ids": ["8303", "8404"], "tick_size": "0.001", "min_order_size": "15"}
HEADER: dict[str, Any] = {"schema": "mmtools.recording/1", "source": "here", "clock": "receive", "markets": [RAIN, SNOW]}
START = 1_790_000_000_000


def trade(market: dict[str, Any] = RAIN, *, price: str = "0.31", size: str = "2") -> dict[str, Any]:
    asset = market["token_ids"][0]
    return {
        "event_type": "last_trade_price",
        "market": market["condition_id"],
        "asset_id": asset,
        "price": price,
        "size": size,
        "side": "BUY",
    }


def lines(*documents: object) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


GOOD = lines(HEADER, [START, trade()], [START + 7, trade(SNOW, price="0.62")], [START + 9, trade(price="0.33")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tape.jsonl.gz"


def read_bytes(path: Path, content: bytes, *markets: str) -> Tape:
    path.write_bytes(content)
    return read(path, markets)


def refusal(path: Path, content: bytes, *markets: str) -> str:
    with pytest.raises(BadRecording) as refused:
        read_bytes(path, content, *markets)
    why = str(refused.value)
    assert why.startswith(f"{path}:")
    assert why.isprintable()
    return why.removeprefix(f"{path}:")


# Real recordings


def counts(tape: Tape) -> tuple[int, int, int, int]:
    """Frames, level changes, prints, books of either token."""
    changes = books = prints = 0
    for _, kind, _, a, b in tape.rows():
        changes += a if kind == Kind.FRAME else 0
        books += kind == Kind.FRAME and b == 1
        prints += kind in (Kind.SOLD, Kind.BOUGHT)
    return tape.frames, changes, prints, books


@pytest.fixture(scope="module")
def nhl(recordings: Path) -> Tape:
    return read(recordings / "nhl-20260607.jsonl.gz")


def test_the_game_has_the_frames_changes_and_prints_it_is_known_to_have(nhl: Tape) -> None:
    assert counts(nhl) == (86_560, 206_365, 483, 0)
    assert (nhl.clock, nhl.has_books, nhl.clock_steps, len(nhl.markets)) == ("exchange", False, 0, 6)
    assert nhl.first_ms == 1_780_795_851_472
    assert (nhl.last_ms - nhl.first_ms) // 1000 == 849
    assert Counter(row[1] for row in nhl.rows())[Kind.END] == 86_560 - 483


def test_prints_on_the_second_token_are_turned(nhl: Tape, recordings: Path) -> None:
    turned = [(row[0], row[2], row[1], row[3], row[4]) for row in nhl.rows() if row[1] in (Kind.SOLD, Kind.BOUGHT)]
    conditions = [market.condition_id for market in nhl.markets]
    stated, on_no = [], 0
    with gzip.open(recordings / "nhl-20260607.jsonl.gz") as file:
        for line in file:
            if b"last_trade_price" not in line:
                continue
            now, frame = json.loads(line)
            place = conditions.index(frame["market"])
            price, bought = round(float(frame["price"]) * 1_000_000), frame["side"] == "BUY"
            if frame["asset_id"] == nhl.markets[place].no_token:
                price, bought, on_no = 1_000_000 - price, not bought, on_no + 1
            stated.append((now, place, Kind.BOUGHT if bought else Kind.SOLD, price, round(float(frame["size"]) * 1_000_000)))
    assert turned == stated
    assert on_no == 222


def test_rows_of_a_recording_stand_in_order_of_time_and_frames_begin_with_frame(nhl: Tape) -> None:
    last, open_frame = 0, False
    for now, kind, place, _, _ in nhl.rows():
        assert now >= last
        assert 0 <= place < 6
        assert kind == Kind.FRAME or open_frame
        open_frame, last = kind != Kind.END, now


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("btc-1h-20251211", (900, 0, 300, 600)),
        ("mlb-1693f7", (334, 0, 0, 334)),
        ("iran-will-the-iran-ceasefire-continue-through-may", (721, 0, 0, 721)),
    ],
)
def test_recordings_of_books_have_the_counts_they_are_known_to_have(recordings: Path, name: str, expected: tuple[int, ...]) -> None:
    tape = read(recordings / f"{name}.jsonl.gz")
    assert counts(tape) == expected
    assert tape.has_books


def test_every_recording_is_read_and_named_by_the_hash_of_its_bytes(recordings: Path) -> None:
    for path in sorted(recordings.glob("[!n]*.gz")):
        tape = read(path)
        assert tape.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert tape.frames > 0


def test_one_market_of_the_game_is_the_rows_of_that_market_numbered_anew(nhl: Tape, recordings: Path) -> None:
    slug = nhl.markets[4].slug
    tape = read(recordings / "nhl-20260607.jsonl.gz", [slug])
    assert [market.slug for market in tape.markets] == [slug]
    assert list(tape.rows()) == [(now, kind, 0, a, b) for now, kind, place, a, b in nhl.rows() if place == 4]
    assert (tape.first_ms, tape.last_ms, tape.sha256) == (nhl.first_ms, nhl.last_ms, nhl.sha256)


# What a file may look like


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.rstrip(b"\n"),
        GOOD.replace(b"\n", b"\r\n"),
        gzip.compress(GOOD),
        gzip.compress(GOOD[:200]) + gzip.compress(b"") + gzip.compress(GOOD[200:]),
        gzip.compress(GOOD) + bytes(512),
    ],
    ids=["plain", "no last newline", "crlf", "gzip", "three members", "padded gzip"],
)
def test_forms_of_a_file_that_hold_the_same(path: Path, content: bytes) -> None:
    tape = read_bytes(path, content)
    assert [(now, kind, place) for now, kind, place, _, _ in tape.rows() if kind != Kind.FRAME] == [
        (START, Kind.BOUGHT, 0),
        (START + 7, Kind.BOUGHT, 1),
        (START + 9, Kind.BOUGHT, 0),
    ]
    assert (tape.source, tape.clock, tape.first_ms, tape.last_ms, tape.frames) == ("here", "receive", START, START + 9, 3)
    assert tape.sha256 == hashlib.sha256(content).hexdigest()


def test_frames_may_come_as_arrays(path: Path) -> None:
    tape = read_bytes(path, lines(HEADER, [START, []], [START + 5, [trade(), trade(SNOW)]]))
    assert (tape.frames, tape.first_ms, tape.last_ms) == (2, START, START + 5)


def test_markets_come_in_the_order_they_were_asked_for(path: Path) -> None:
    tape = read_bytes(path, GOOD, "snow", "rain", "snow")
    assert [market.slug for market in tape.markets] == ["snow", "rain"]
    assert [(now - START, place) for now, kind, place, _, _ in tape.rows() if kind == Kind.FRAME] == [(0, 1), (7, 0), (9, 1)]


def test_a_market_asked_for_may_be_silent(path: Path) -> None:
    tape = read_bytes(path, lines(HEADER, [START, trade()], [START + 60_000, trade()]), "snow")
    assert (tape.frames, tape.last_ms - tape.first_ms) == (0, 60_000)


def test_a_time_that_steps_back_is_held_and_counted(path: Path) -> None:
    content = lines(HEADER, *([START + offset, trade()] for offset in (0, 50, 20, 49, 51, 10)))
    tape = read_bytes(path, content)
    assert [now - START for now, kind, _, _, _ in tape.rows() if kind == Kind.FRAME] == [0, 50, 50, 50, 51, 51]
    assert (tape.clock_steps, tape.last_ms) == (3, START + 51)


def test_a_header_says_what_the_market_is(path: Path) -> None:
    told = {
        **RAIN,
        "token_ids_invented": True,
        "neg_risk": True,
        "description": "Will it rain?",
        "event": "weather",
        "fees": {"rate": 0.05, "exponent": 2, "rebate_rate": 0.25},
        "rewards": {"min_size": "50", "max_spread": "0.045", "daily_pool": "12.5"},
        "end": "2026-12-31T00:00:00Z",
        "game_start": "2026-12-30T20:00:00.250+02:00",
        "accepting": False,
        "version": "v1",
    }
    tape = read_bytes(path, lines({**HEADER, "clock_invented": False, "markets": [told, SNOW]}, [START, trade()]))
    assert tape.markets[0] == Market(
        slug="rain",
        condition_id="0xra",
        yes_token="7101",
        no_token="7202",
        tick=Price(10_000),
        min_size=Shares(5_000_000),
        outcomes=("Wet", "Dry"),
        neg_risk=True,
        description="Will it rain?",
        event="weather",
        fees=FeeSchedule(rate=0.05, exponent=2, rebate_rate=0.25),
        rewards=RewardTerms(min_size=Shares(50_000_000), max_spread=Price(45_000), daily_pool=Usdc(12_500_000)),
        end_ms=1_798_675_200_000,
        game_start_ms=1_798_653_600_250,
        accepting=False,
        version="v1",
    )
    silent = tape.markets[1]
    assert (silent.fees, silent.rewards, silent.end_ms, silent.game_start_ms, silent.accepting, silent.version) == (None,) * 6


# What is refused


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match="there is no such file"):
        read(tmp_path / "missing.gz")
    with pytest.raises(BadRecording, match="is a directory"):
        read(tmp_path)
    (tmp_path / "file").write_bytes(GOOD)
    with pytest.raises(BadRecording, match="cannot be read: Not a directory"):
        read(tmp_path / "file" / "inside")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_we_may_not_read_is_refused(path: Path) -> None:
    path.write_bytes(GOOD)
    path.chmod(0)
    with pytest.raises(BadRecording, match="permission denied"):
        read(path)


def test_empty_files_are_refused(path: Path) -> None:
    assert refusal(path, b"") == " is empty"
    assert refusal(path, gzip.compress(b"")) == " is empty"
    assert refusal(path, lines(HEADER)) == " holds no frames, only the header"


@pytest.mark.parametrize("kept", [2, 5, 12, 100, -9, -8, -1])
def test_a_gzip_cut_anywhere_is_refused(path: Path, kept: int) -> None:
    assert "the gzip is cut short" in refusal(path, gzip.compress(GOOD)[:kept])


def test_a_damaged_gzip_is_refused(path: Path) -> None:
    good = gzip.compress(GOOD)
    checksum = bytes(byte ^ 0x55 for byte in good[-8:-4])
    assert "the gzip is damaged" in refusal(path, good[:-8] + checksum + good[-4:])
    assert "the gzip is damaged" in refusal(path, good + b"more")
    assert "the gzip is damaged" in refusal(path, b"\x1f\x8bnot gzip at all")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"garbage", "not JSON"),
        (b"", "the line is blank"),
        (b"  \r", "the line is blank"),
        (b'[1790000000009,{"event_type":"book"', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1, 2, 3]", "not a line of a recording"),
        (b"[]", "not a line of a recording"),
        (b'{"event_type": "book"}', "not a line of a recording"),
        (b"[1790000000009, 5]", "not a frame: neither a JSON object nor an array"),
        (b'[1790000000009, ["a"]]', "not a frame"),
        (b'["1790000000009", {}]', "the time '1790000000009' is no integer"),
        (b"[1790000000009.5, {}]", "the time 1790000000009.5 is no integer"),
        (b"[true, {}]", "the time True is no integer"),
        (b"[0, []]", "0 is no time"),
        (b"[-5, []]", "-5 is no time"),
        (b"[999999999999999, []]", "999999999999999 is no time"),
        (b"[99999999999999999999999, []]", "99999999999999999999999"),
        (b"[1790000000009, {}]", "without `event_type`"),
        (lines([START + 9, {**trade(), "price": "1.5"}])[:-1], "price 1.5 is not between 0 and 1"),
        (lines([START + 9, {**trade(), "market": "0xff"}])[:-1], "market 0xff, which is not among"),
        (lines([START + 9, {"event_type": "price_change", "market": "0xra", "changes": []}])[:-1], "in the form before 2025-09-15"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(path: Path, line: bytes, why: str) -> None:
    content = lines(HEADER, [START, trade()]) + line + b"\n" + lines([START + 10, trade()])
    for whole in (content, gzip.compress(content)):
        message = refusal(path, whole)
        assert message.startswith("3: ")
        assert why in message


def test_a_bad_line_far_into_a_file_is_refused_by_its_number(path: Path) -> None:
    content = lines(HEADER, *([START + n, trade()] for n in range(3000))) + b"garbage\n"
    assert refusal(path, content) == "3002: not JSON"


def test_a_line_cut_at_the_end_is_refused(path: Path) -> None:
    assert refusal(path, GOOD[:-3]) == "4: not JSON"


def test_a_line_without_end_is_refused_before_it_fills_the_memory(path: Path) -> None:
    assert refusal(path, lines(HEADER) + bytes(40 * 1024 * 1024)) == "2: the line is longer than any frame"


def test_a_long_line_is_read(path: Path) -> None:
    bids = [{"price": f"0.{tick:04d}", "size": "7"} for tick in range(1, 10_000)]
    book = {"event_type": "book", "market": "0xra", "asset_id": "7101", "bids": bids, "asks": []}
    tape = read_bytes(path, lines(HEADER, [START, trade()], [START + 1, book], [START + 2, trade()]))
    assert sum(kind == Kind.BID for _, kind, _, _, _ in tape.rows()) == 9_999


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ([START, trade()], "the header is missing"),
        (trade(), "the header is missing"),
        (17, "the header is missing"),
        ({**HEADER, "schema": "mmtools.recording/2"}, "the schema is 'mmtools.recording/2'; this program reads mmtools.recording/1"),
        ({**HEADER, "schema": 1}, "the schema is 1;"),
        ({**HEADER, "colour": "red"}, "unknown field `colour`"),
        ({**HEADER, "clock": "sundial"}, "sundial"),
        ({**HEADER, "markets": []}, "length >= 1"),
        ({**HEADER, "markets": [7]}, "Expected `object`, got `int`"),
        ({**HEADER, "markets": "rain"}, "Expected `array`, got `str`"),
        ({"schema": HEADER["schema"], "clock": "receive", "markets": [RAIN]}, "missing required field `source`"),
        ({**HEADER, "markets": [RAIN, {**SNOW, "slug": "rain"}]}, "two markets are named rain"),
        ({**HEADER, "markets": [RAIN, {**SNOW, "condition_id": "0xra"}]}, "two markets have the condition id 0xra"),
        ({**HEADER, "markets": [RAIN, {**SNOW, "token_ids": ["8303", "7101"]}]}, "snow has a token id that another market has too"),
    ],
)
def test_a_bad_header_is_refused(path: Path, first: object, why: str) -> None:
    message = refusal(path, lines(first, [START, trade()]))
    assert message.startswith("1: ")
    assert why in message


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("tick_size", "0.02", "rain: tick_size 0.02 is none of the venue's: 0.1, 0.01, 0.005"),
        ("tick_size", "fine", "rain: tick_size: 'fine' is not a plain decimal"),
        ("tick_size", 0.01, "Expected `str`, got `float`"),
        ("min_order_size", "0", "must be above 0"),
        ("min_order_size", "-5", "rain: min_order_size -5 is negative"),
        ("token_ids", ["7101", "7101"], "both outcomes have one token id"),
        ("token_ids", ["7101"], "length 2"),
        ("token_ids", ["7101", "0xff"], "matching regex"),
        ("outcomes", ["Yes"], "length 2"),
        ("slug", "", "matching regex"),
        ("slug", "no such\nslug", "matching regex"),
        ("slug", "rain\n", "matching regex"),
        ("colour", "red", "unknown field `colour`"),
        ("rewards", {"min_size": "50", "max_spread": "-1"}, "rain: rewards.max_spread -1 is negative"),
        ("fees", {"rate": -1}, ">= 0"),
        ("end", "tomorrow", "rain: end tomorrow is no ISO 8601 time"),
        ("game_start", "2026-12-31T00:00:00", "is no ISO 8601 time with its zone"),
    ],
)
def test_a_market_that_cannot_be_is_refused(path: Path, key: str, value: object, why: str) -> None:
    message = refusal(path, lines({**HEADER, "markets": [{**RAIN, key: value}, SNOW]}, [START, trade(SNOW)]))
    assert message.startswith("1: ")
    assert why in message


def test_a_market_without_a_field_it_needs_is_refused(path: Path) -> None:
    market = {key: value for key, value in RAIN.items() if key != "neg_risk"}
    assert "missing required field `neg_risk`" in refusal(path, lines({**HEADER, "markets": [market]}, [START, trade()]))


def test_a_first_line_that_is_not_json_is_refused(path: Path) -> None:
    assert refusal(path, b"\x89PNG\r\n\x1a\n").startswith("1: not JSON; the first line of a recording is its header")


def test_asking_for_a_market_that_is_not_there_names_those_that_are(path: Path) -> None:
    assert refusal(path, GOOD, "rain", "snwo") == " has no market snwo (did you mean snow?); it has rain, snow"
    assert refusal(path, GOOD, "xyzzy") == " has no market xyzzy; it has rain, snow"
