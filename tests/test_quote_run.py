"""quote-run from outside: recorded markets and the demo, wrong input, signals, kills, a full disk. As a user meets it."""

import gzip
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from commandline import (
    COMMANDS,
    ROOT,
    Record,
    Run,
    call,
    config,
    end,
    main_of,
    open_orders,
    quote,
    quote_once,
    records,
    start,
    wait_for_journal,
)
from faults import every_fault, run_with_fault

from mmtools import cli
from mmtools import config as configs
from mmtools.units import LOT, ONE, parse, pay, receive

NHL = "nhl-20260607.jsonl.gz"
BTC = "btc-1h-20251211.jsonl.gz"
IRAN = "iran-will-the-iran-ceasefire-continue-through-may.jsonl.gz"
MARKET_1, MARKET_6 = "nhl-final-game-4-market-1", "nhl-final-game-4-market-6"
PROD = ROOT / "configs" / "prod-002.yaml"
PARTS = ("spread", "inventory", "fees", "rebates", "settlement")
SHORT = "feed: synthetic\nduration_hours: 0.05\n"
ENDLESS = "feed: synthetic\nduration_hours: 8000\nrun_id: long\n"


@pytest.fixture(scope="session")
def nhl(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return quote_once(tmp_path_factory, "--recording", recordings / NHL)


@pytest.fixture(scope="session")
def small(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """$25 at 30 bps on one market of the game: `configs/prod-002.yaml`."""
    return quote_once(tmp_path_factory, "--config", PROD, "--recording", recordings / NHL, "--market", MARKET_1)


# --- recorded markets


def assert_adds_up(document: Record) -> None:
    """The parts make the total, and the markets the run, to the last millionth; counts of orders agree too."""
    pnl, markets = document["pnl"], document["markets"]
    for figures in (pnl, *markets.values()):
        assert parse(figures["total"]) == sum(parse(figures[part]) for part in PARTS)
    for part in ("total", *PARTS):
        assert parse(pnl[part]) == sum(parse(figures[part]) for figures in markets.values())
    orders = document["orders"]
    assert orders["sent"] == orders["accepted"] + sum(orders["rejected"].values()) + orders["unknown"]
    assert document["fills"]["count"] == sum(figures["fills"] for figures in markets.values())


def test_the_nhl_recording_is_quoted_in_six_markets_with_real_fills(nhl: Run) -> None:
    document = nhl.document
    assert document["events"] == {"frames": 86_560, "level_changes": 206_365, "prints": 483, "books": 0, "books_refused": {}}
    assert len(document["markets"]) == 6
    assert sum(figures["fills"] > 0 for figures in document["markets"].values()) >= 3
    assert document["schema"] == "mmtools.run/1"
    assert (document["status"], document["feed"], document["venue"]) == ("finished", "recording", "paper")
    assert document["duration_s"] == pytest.approx(849.8, abs=0.1)
    assert parse(document["pnl"]["spread"]) != 0 != parse(document["pnl"]["inventory"])
    assert document["quotes"]["decided"] > 1000
    assert_adds_up(document)


def test_the_files_of_a_run_say_what_its_document_says(nhl: Run) -> None:
    document, journal = nhl.document, nhl.journal()
    trades = records(nhl.folder / "trades.jsonl")
    assert [record["trade"] for record in journal if record["kind"] == "fill"] == trades
    assert len(trades) == document["fills"]["count"]
    assert sum(parse(trade["fill_qty"]) for trade in trades) == parse(document["fills"]["shares"])
    live = json.loads((nhl.folder / "live_state.json").read_text())
    assert (live["run_id"], live["status"]) == (nhl.id, "finished")
    assert live["pnl"]["cumulative"] == document["pnl"]["total"]
    assert {slug: (m["position_yes"], m["position_no"]) for slug, m in live["markets"].items()} == {
        slug: (p["yes"], p["no"]) for slug, p in document["position"].items()
    }
    (history,) = records(nhl.state / "runs" / "history.jsonl")
    assert (history["run_id"], history["ledger_sha256"]) == (nhl.id, document["ledger_sha256"])
    assert configs.load(nhl.folder / "run.yaml").recording is not None
    assert not open_orders(journal)
    assert document["capital"]["reserved"] == "0"


def test_a_second_run_of_a_recording_is_the_same_but_for_its_id(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    first = quote_once(tmp_path_factory, "--recording", recordings / BTC)
    second = quote(first.state, "--recording", recordings / BTC, "--run-id", "second")
    assert {**first.document, "run_id": "second"} == second.document
    assert first.document["fills"]["count"] > 0
    assert_adds_up(first.document)


def test_the_touch_of_a_one_tick_market_is_quoted(small: Run) -> None:
    decisions = [r for r in small.journal() if r["kind"] == "decision" and r["best_bid"] and r["best_ask"]]
    narrow = [d for d in decisions if parse(d["best_ask"]) - parse(d["best_bid"]) == parse(d["tick_size"]) == parse("0.01")]
    assert any(d["bid"].get("price") == d["best_bid"] for d in narrow)
    assert any(d["ask"].get("price") == d["best_ask"] for d in narrow)


def test_a_tick_that_got_finer_pulls_the_orders_and_begins_a_new_grid(nhl: Run) -> None:
    journal = nhl.journal()
    (tick,) = [r for r in journal if r["kind"] == "tick"]
    assert (tick["market"], tick["tick_size"], tick["inferred"]) == (MARKET_6, "0.001", True)
    assert (tick["at_ms"] - journal[0]["at_ms"]) / 1000 == pytest.approx(445.5, abs=0.1)
    at = journal.index(tick)
    of_6 = {r["key"] for r in journal if r["kind"] == "place" and r["market"] == MARKET_6}
    resting = open_orders(journal[:at]) & of_6
    assert resting
    cancelled = {r["key"] for r in journal if r["kind"] == "cancel" and r["at_ms"] <= tick["at_ms"]}
    assert resting <= cancelled
    later = [parse(r["price"]) for r in journal[at:] if r["kind"] == "place" and r["market"] == MARKET_6]
    assert all(price % parse("0.001") == 0 for price in later)
    assert any(price % parse("0.01") for price in later)


# --- books that must not be quoted


def books(recording: Path) -> Iterator[tuple[int, str]]:
    """Yield time and kind (good, crossed, locked, one_sided) of every YES book in a recording, read without our own reader."""
    with gzip.open(recording, "rt") as lines:
        header = json.loads(next(lines))
        yes = header["markets"][0]["token_ids"][0]
        for line in lines:
            at_ms, frame = json.loads(line)
            if frame["event_type"] == "book" and frame["asset_id"] == yes:
                bids, asks = ([parse(level["price"]) for level in frame[side]] for side in ("bids", "asks"))
                if not bids or not asks:
                    yield at_ms, "one_sided"
                else:
                    yield at_ms, "crossed" if max(bids) > min(asks) else "locked" if max(bids) == min(asks) else "good"


def test_crossed_and_locked_books_are_refused_and_no_order_is_sent_on_them(recordings: Path, tmp_path: Path) -> None:
    # A look every 10 s is a dozen for each book; the default of 2 s would say nothing more, five times slower.
    slower = config(tmp_path / "slower.yaml", "params: {quote_interval_s: 10}\n")
    run = quote(tmp_path, "--config", slower, "--recording", recordings / IRAN)
    assert run.document["events"]["books_refused"] == {"crossed": 171, "locked": 148}
    seen = list(books(recordings / IRAN))
    assert sum(kind != "good" for _, kind in seen) == 171 + 148
    placed = [record["at_ms"] for record in run.journal() if record["kind"] == "place"]
    assert placed
    bad = [(since, until) for (since, kind), (until, _) in pairwise([*seen, (sys.maxsize, "end")]) if kind != "good"]
    # At the very instant of a bad book an order may go out just before it, and at its end right after the good one.
    assert [at_ms for at_ms in placed for since, until in bad if since < at_ms < until] == []


# --- a small account


class Purse:
    """What an account could pay, counted from the journal with the little arithmetic that it takes."""

    def __init__(self, cash: str) -> None:
        self.cash = parse(cash)
        self.orders: dict[str, tuple[str, str, int, int]] = {}
        """Side, token, price and what is left of each."""
        self.held = {"YES": 0, "NO": 0}
        self.merging = 0

    @property
    def free(self) -> int:
        return self.cash - sum(pay(price, left) for side, _, price, left in self.orders.values() if side == "BUY")

    def stock(self, token: str) -> int:
        return self.held[token] - self.merging - sum(left for side, of, _, left in self.orders.values() if (side, of) == ("SELL", token))

    def take(self, record: Record) -> None:
        match record["kind"]:
            case "place":
                self.orders[record["key"]] = record["side"], record["token"], parse(record["price"]), parse(record["size"])
            case "gone" | "rejected":
                del self.orders[record["key"]]
            case "fill":
                trade = record["trade"]
                size, price = parse(trade["fill_qty"]), parse(trade["fill_price"])
                sign = 1 if trade["side"] == "BUY" else -1
                self.held[trade["token"]] += sign * size
                self.cash -= pay(price, size) if sign > 0 else -receive(price, size)
                side, token, at, left = self.orders[trade["order_key"]]
                self.orders[trade["order_key"]] = side, token, at, left - size
            case "merge_sent":
                self.merging += parse(record["size"])
            case "merge":
                size = parse(record["size"])
                self.cash, self.merging = self.cash + size, self.merging - size
                self.held = {token: held - size for token, held in self.held.items()}


def assert_always_paid_for(run: Run, cash: str) -> None:
    purse, placed = Purse(cash), 0
    for record in run.journal():
        purse.take(record)
        placed += record["kind"] == "place"
        assert purse.free >= 0, record
        assert min(purse.stock("YES"), purse.stock("NO")) >= 0, record
    assert placed > 50
    assert "not_enough_balance" not in run.document["orders"]["rejected"]
    (position,) = run.document["position"].values()
    assert (purse.held["YES"], purse.held["NO"]) == (parse(position["yes"]), parse(position["no"]))
    assert purse.cash == parse(run.document["capital"]["free"])


def test_a_25_dollar_run_never_sends_what_it_cannot_pay(recordings: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    poor = config(tmp_path / "poor.yaml", "params:\n  capital: 25\n")
    run = quote_once(tmp_path_factory, "--config", poor, "--recording", recordings / NHL, "--market", MARKET_1)
    assert run.document["capital"]["start"] == "25"
    assert run.document["fills"]["count"] > 0
    assert_always_paid_for(run, "25")
    assert list(run.document["markets"]) == [MARKET_1]


def test_the_small_account_of_prod_002_never_sends_what_it_cannot_pay(small: Run) -> None:
    assert_always_paid_for(small, "25")
    assert small.document["quotes"]["skipped"]["short_of_money"] > 0


def test_orders_are_whole_lots_of_at_least_the_minimum(small: Run) -> None:
    sizes = [parse(record["size"]) for record in small.journal() if record["kind"] == "place"]
    assert all(size >= 5 * ONE and size % LOT == 0 for size in sizes)


# --- the demo and the shipped configs


def test_the_demo_ends_with_a_readable_result_and_leaves_its_files(tmp_path: Path) -> None:
    said = call("quote_run", "--demo", "--state", tmp_path)
    assert said.code == 0
    (folder,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert str(folder) in said.out
    assert folder.name in said.err
    assert "finished after 4.00 h" in said.out
    for word in ("P&L", "fills", "orders", "assumes", "synthetic-1"):
        assert word in said.out
    for file in ("run.yaml", "journal.jsonl", "trades.jsonl", "live_state.json", "health.jsonl"):
        assert (folder / file).stat().st_size > 0
    assert len(records(folder / "health.jsonl")) >= 240


def test_a_second_demo_is_another_run_with_the_same_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtools.commands.quote_run.DEMO_HOURS", 0.5)
    args = ["--demo", "--json", "--state", str(tmp_path)]
    # Each in a process of its own, as a user's are; no fault comes that late.
    first, second = (json.loads(run_with_fault(sys.maxsize, "eio", lambda: cli.run(main_of("quote_run"), args)).stdout) for _ in range(2))
    assert first["run_id"] != second["run_id"]
    assert first["ledger_sha256"] == second["ledger_sha256"]
    assert first["fills"]["count"] > 0
    assert_adds_up(first)
    assert [line["run_id"] for line in records(tmp_path / "runs" / "history.jsonl")] == [first["run_id"], second["run_id"]]


@pytest.mark.parametrize("name", ["paper.yaml", "prod-002.yaml"])
def test_the_shipped_configs_run_to_their_end(name: str, tmp_path: Path) -> None:
    shipped = (ROOT / "configs" / name).read_text()
    hours = next(line for line in shipped.splitlines() if line.startswith("duration_hours:"))
    run = quote(tmp_path, "--config", config(tmp_path / name, shipped.replace(hours, "duration_hours: 0.5")))
    assert run.document["status"] == "finished"
    assert run.document["duration_s"] == pytest.approx(1800, abs=1)
    assert run.document["fills"]["count"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper.yaml", "prod-002.yaml"])
def test_the_shipped_configs_run_to_their_end_as_they_are(name: str, tmp_path: Path) -> None:
    run = quote(tmp_path, "--config", ROOT / "configs" / name)
    assert run.document["status"] == "finished"
    assert_adds_up(run.document)


# --- wrong input

MARKETS = [
    {
        "condition_id": f"0x{slug}", "slug": slug, "outcomes": ["Yes", "No"], "token_ids": [f"{place}1", f"{place}2"],
        "tick_size": "0.01", "min_order_size": "5", "neg_risk": False,
    }
    for place, slug in enumerate(("rain", "snow"), start=1)
]  # fmt: skip
HEADER = {"schema": "mmtools.recording/1", "source": "made up", "clock": "exchange", "markets": MARKETS}
FRAME = [1_780_000_000_000, {"event_type": "book", "market": "0xrain", "asset_id": "11", "bids": [], "asks": []}]


def recorded(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def wrong_recording(case: str, folder: Path) -> tuple[Path, str]:
    """Return a recording that is wrong in some way, and what the complaint must say."""
    path = folder / "wrong.jsonl"
    first, second = MARKETS
    match case:
        case "missing":
            return path, "no such file"
        case "folder":
            return folder, "directory"
        case "cut":
            whole = gzip.compress("\n".join(json.dumps(line) for line in [HEADER, *[FRAME] * 2000]).encode())
            path.write_bytes(whole[: len(whole) // 2])
            return path, "cut short"
        case "garbage":
            return recorded(path, HEADER, FRAME, "what is this", FRAME), ":3: not JSON"
        case "array":
            return recorded(path, HEADER, FRAME, [1, 2, 3]), ":3: not a line of a recording"
        case "array at once":
            return recorded(path, [{"event_type": "book"}]), ":1: the header is missing"
        case "schema":
            return recorded(path, {**HEADER, "schema": "mmtools.recording/7"}, FRAME), "mmtools.recording/7"
        case "empty":
            return recorded(path), "empty"
        case "two of one name":
            return recorded(path, {**HEADER, "markets": [first, {**second, "slug": "rain"}]}, FRAME), "two markets are named rain"
    raise AssertionError(case)


WRONG_RECORDINGS = ("missing", "folder", "cut", "garbage", "array", "array at once", "schema", "empty", "two of one name")


def assert_refused(command: str, args: list[str | Path], *, code: int, kind: str, saying: str, state: Path) -> None:
    """One line, the right code, with --json one document, and nothing left."""
    said = call(command, *args, "--state", state)
    assert said.code == code, said.err
    assert said.err.count("\n") == 1
    assert saying in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    told = call(command, *args, "--state", state, "--json")
    assert (told.code, told.err) == (said.code, said.err)
    assert told.out.count("\n") == 1
    document = told.document
    assert (document["schema"], document["exit_code"], document["error"]["kind"]) == ("mmtools.error/1", code, kind)
    assert saying in document["error"]["message"]
    assert not (state / "runs").exists()


@pytest.mark.parametrize("case", WRONG_RECORDINGS)
def test_a_wrong_recording_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    path, saying = wrong_recording(case, tmp_path)
    assert_refused("quote_run", ["--recording", path], code=2, kind="usage", saying=saying, state=tmp_path / "state")


@pytest.mark.parametrize("case", ["missing", "garbage"])
def test_a_wrong_recording_that_the_config_names_is_the_configs_fault(case: str, tmp_path: Path) -> None:
    path, saying = wrong_recording(case, tmp_path)
    named = config(tmp_path / "run.yaml", f"recording: {path.name}\n")
    assert_refused("quote_run", ["--config", named], code=78, kind="misconfigured", saying=saying, state=tmp_path / "state")


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        ("params:\n  seed: 3\n  gama_risk_aversion: 0.3\n", ":3: unknown key params.gama_risk_aversion; did you mean gamma_risk_aversion?"),
        ("params:\n  default_order_size: -50\n", ":2: params.default_order_size is -50; it must be a number at least 0.01"),
        ("feed: live\nmarkets: [rain, snow, rain]\n", '"rain" is named twice'),
        ("params: {markets: [rain, rain]}\n", '"rain" is named twice'),
        ("feed: synthetic\nmarkets: [rain]\n", "market rain is none of the synthetic feed's"),
        ("params: [1, 2]\n", ":1: params is a list; it must be a mapping"),
        ("params:\n\tseed: 1\n", ":2: indented with a tab"),
        ("duration_hours: .inf\n", "not a finite number"),
        ("run_id: ../elsewhere\n", "cannot name a folder"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_refused_in_one_line(text: str, saying: str, tmp_path: Path) -> None:
    path = config(tmp_path / "run.yaml", text)
    assert_refused("quote_run", ["--config", path], code=78, kind="misconfigured", saying=saying, state=tmp_path / "state")


@pytest.mark.parametrize(
    ("args", "saying"),
    [
        ([], "say what to quote"),
        (["--demo", "--recording", "some.jsonl"], "--demo brings its own market"),
        (["--demo", "--config", "configs/paper.yaml"], "--demo brings its own market"),
        (["--demo", "--market", "rain"], "--demo brings its own market"),
        (["--demo", "--run-id", "../elsewhere"], "--run-id"),
        (["--demo", "--run-id", ""], "--run-id"),
        (["--demo", "--run-id", "history.jsonl"], "--run-id"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--config", "configs"], "configs"),
        (["--config", "configs/paper.yaml", "--market", "rain"], "market rain is none of the synthetic feed's"),
        (["--config", "configs/paper.yaml", "--market", "will it rain"], "--market"),
        (["--nonsense"], "--nonsense"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_in_one_line(args: list[str], saying: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert_refused("quote_run", [*args], code=2, kind="usage", saying=saying, state=tmp_path / "state")


def test_a_market_that_a_recording_does_not_hold_is_refused(tmp_path: Path) -> None:
    path = recorded(tmp_path / "weather.jsonl", HEADER, FRAME)
    state = tmp_path / "state"
    asked: list[str | Path] = ["--market", "snov"]
    assert_refused("quote_run", ["--recording", path, *asked], code=2, kind="usage", saying="did you mean snow?", state=state)
    named = config(tmp_path / "run.yaml", "recording: weather.jsonl\n")
    assert_refused("quote_run", ["--config", named, *asked], code=2, kind="usage", saying="did you mean snow?", state=state)
    both = config(tmp_path / "both.yaml", "recording: weather.jsonl\nmarkets: [snov]\n")
    assert_refused("quote_run", ["--config", both], code=78, kind="misconfigured", saying="did you mean snow?", state=state)


def test_a_recording_on_the_command_line_stands_in_for_the_feed_of_the_config(tmp_path: Path) -> None:
    path = recorded(tmp_path / "weather.jsonl", HEADER, FRAME)
    run = quote(
        tmp_path / "state", "--config", ROOT / "configs" / "paper.yaml", "--recording", path, "--market", "snow", "--market", "rain"
    )
    assert run.document["feed"] == "recording"
    assert list(run.document["markets"]) == ["snow", "rain"]


# --- a config as people have it, on a feed that is not there

PEOPLES = """\
run_id: smoke-001
started_at: "2026-02-11T09:30:00Z"
duration_hours: 4
hypothesis: "H1"
params:
  quote_interval_s: 2.0
  num_levels: 1
  default_order_size: 50
  default_half_spread_bps: 50
  gamma_risk_aversion: 0.3
  fill_probability_override: 0.20
  markets:
    - will-it-rain-on-sunday
    - will-it-snow-on-monday
parent_run: null
changes_from_parent: null
"""


def test_a_config_as_people_write_it_loads_as_it_is(tmp_path: Path) -> None:
    run = configs.load(config(tmp_path / "run.yaml", PEOPLES))
    assert (run.feed, run.markets) == ("live", ("will-it-rain-on-sunday", "will-it-snow-on-monday"))
    assert (run.run_id, run.duration_hours, run.params.fill_probability_override) == ("smoke-001", 4, 0.2)


def test_a_live_feed_out_of_reach_is_told_in_one_line_to_be_tried_later(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_again:
        nobody = f"127.0.0.1:{closed_again.getsockname()[1]}"
    path = config(tmp_path / "run.yaml", PEOPLES + f"endpoints: {{gamma: 'http://{nobody}'}}\n")
    saying = f"will-it-rain-on-sunday: cannot reach {nobody}"
    assert_refused("quote_run", ["--config", path], code=75, kind="try_later", saying=saying, state=tmp_path / "state")


# --- signals, kills, two at once


def test_sigterm_ends_a_run_in_order(tmp_path: Path) -> None:
    process = start(tmp_path, "--config", config(tmp_path / "long.yaml", ENDLESS), "--json")
    wait_for_journal(tmp_path / "runs" / "long", process)
    process.send_signal(signal.SIGTERM)
    said = end(process)
    assert said.code == 0, said.err
    run = Run(tmp_path, said.document)
    assert run.document["status"] == "stopped"
    assert run.document["capital"]["reserved"] == "0"
    assert_adds_up(run.document)
    journal = run.journal()
    assert not open_orders(journal)
    assert [(r["kind"], r.get("by")) for r in journal if r["kind"] in ("stop", "end")] == [("stop", "SIGTERM"), ("end", None)]
    live = json.loads((run.folder / "live_state.json").read_text())
    assert (live["status"], live["pnl"]["cumulative"]) == ("stopped", run.document["pnl"]["total"])
    assert not (tmp_path / "runs" / "history.jsonl").exists()


def test_ctrl_c_ends_a_run_in_order_with_130(tmp_path: Path) -> None:
    process = start(tmp_path, "--config", config(tmp_path / "long.yaml", ENDLESS))
    wait_for_journal(tmp_path / "runs" / "long", process)
    process.send_signal(signal.SIGINT)
    said = end(process)
    assert said.code == 130, said.err
    assert said.out.startswith("long: stopped after")
    assert "P&L" in said.out
    assert "Traceback" not in said.err
    assert not open_orders(records(tmp_path / "runs" / "long" / "journal.jsonl"))


def test_a_run_that_is_running_is_not_started_twice(tmp_path: Path) -> None:
    path = config(tmp_path / "long.yaml", ENDLESS)
    process = start(tmp_path, "--config", path, "--json")
    wait_for_journal(tmp_path / "runs" / "long", process)
    for args in ([], ["--fresh"]):
        said = call("quote_run", "--config", path, "--state", tmp_path, "--json", *args)
        assert said.code == 75
        assert said.document["error"]["kind"] == "try_later"
        assert "is running" in said.err
    process.send_signal(signal.SIGTERM)
    assert end(process).code == 0


def test_a_killed_run_goes_on_to_the_ledger_of_one_that_was_left_alone(tmp_path: Path) -> None:
    path = config(tmp_path / "run.yaml", "feed: synthetic\nduration_hours: 0.6\nrun_id: killed\n")
    undisturbed = quote(tmp_path / "apart", "--config", path)
    folder = tmp_path / "runs" / "killed"
    for size in (60_000, 250_000):  # the second kill finds a journal that was gone on with
        process = start(tmp_path, "--config", path)
        wait_for_journal(folder, process, size=size)
        process.kill()
        assert end(process).code == -signal.SIGKILL
    again = quote(tmp_path, "--config", path)
    assert again.document == undisturbed.document
    assert undisturbed.document["fills"]["count"] > 0
    assert records(folder / "trades.jsonl") == records(undisturbed.folder / "trades.jsonl")


def test_a_stopped_run_goes_on_and_finishes(tmp_path: Path) -> None:
    path = config(tmp_path / "run.yaml", "feed: synthetic\nduration_hours: 0.6\nrun_id: stopped\n")
    process = start(tmp_path, "--config", path, "--json")
    wait_for_journal(tmp_path / "runs" / "stopped", process)
    process.send_signal(signal.SIGTERM)
    stopped = end(process).document
    assert stopped["status"] == "stopped"
    finished = quote(tmp_path, "--config", path).document
    assert finished["status"] == "finished"
    assert finished["duration_s"] == pytest.approx(2160, abs=1)
    assert finished["fills"]["count"] > stopped["fills"]["count"]
    assert_adds_up(finished)


def test_a_finished_run_is_refused_unless_it_is_thrown_away(tmp_path: Path) -> None:
    path = config(tmp_path / "run.yaml", SHORT + "run_id: once\n")
    first = quote(tmp_path, "--config", path)
    journal = (first.folder / "journal.jsonl").read_bytes()
    said = call("quote_run", "--config", path, "--state", tmp_path)
    assert said.code == 77
    assert "run once is finished" in said.err
    assert (first.folder / "journal.jsonl").read_bytes() == journal
    assert quote(tmp_path, "--config", path, "--fresh").document == first.document


def test_another_config_under_the_same_run_id_is_refused_and_named(tmp_path: Path) -> None:
    path = config(tmp_path / "run.yaml", ENDLESS)
    process = start(tmp_path, "--config", path)
    wait_for_journal(tmp_path / "runs" / "long", process)
    process.send_signal(signal.SIGTERM)
    assert end(process).code == 0
    journal = (tmp_path / "runs" / "long" / "journal.jsonl").read_bytes()
    other = config(tmp_path / "other.yaml", ENDLESS + "params: {seed: 2}\n")
    said = call("quote_run", "--config", other, "--state", tmp_path)
    assert said.code == 77
    assert "params.seed: 1 -> 2" in said.err
    assert (tmp_path / "runs" / "long" / "journal.jsonl").read_bytes() == journal


# --- a full disk


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = config(tmp_path / "run.yaml", "feed: synthetic\nduration_hours: 0.004\nrun_id: full\n")
    state = tmp_path / "state"
    args = ["--config", str(path), "--state", str(state)]
    undisturbed = quote(tmp_path / "apart", "--config", path).document
    reached = 0
    for outcome in every_fault("enospc", lambda: cli.run(main_of("quote_run"), args)):
        assert outcome.status == (75 if outcome.reached else 0), outcome
        if outcome.reached:
            reached += 1
            *before, complaint = outcome.stderr.splitlines()
            assert before == ["full: synthetic feed of synthetic-1, on paper"]
            assert complaint.startswith("quote-run: ")
            assert "free space" in complaint
            said = call("quote_run", *args)
            assert said.code == 0 or "is finished" in said.err  # the last writes come after the run's end is on disk
        assert call("report", "full", "--state", state, "--json").document == undisturbed
        assert len(records(state / "runs" / "history.jsonl")) == 1
        shutil.rmtree(state)
    assert reached > 10


def test_a_state_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said = call("quote_run", "--demo", "--state", tmp_path / "file" / "state")
    assert said.code == 78
    assert said.err.splitlines()[-1].startswith("quote-run: ")
    assert "Traceback" not in said.err


# --- help and speed of starting


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_shows_an_example_and_the_exit_codes(command: str) -> None:
    said = call(command, "--help")
    assert said.code == 0
    name = command.replace("_", "-")
    body = said.out[said.out.index("Example:") :]
    assert f"  {name}" in body
    for code in (0, 2, 75, 77, 78):
        assert f"\n  {code} " in body[body.index("Exit codes:") :]
    assert said.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    script = (
        f"import sys, mmtools.cli as cli; from mmtools.commands.{command} import main; code = cli.run(main, ['--help'])\n"
        "print(sorted({'requests', 'psutil', 'websocket', 'yaml', 'msgspec'} & set(sys.modules)), file=sys.stderr)\n"
        "raise SystemExit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
