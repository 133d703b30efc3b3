"""`replay --grid`: which sets there are, what a trial is, and that trials are the same wherever they run and however often they stop."""

import itertools
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commandline import ROOT, call, config
from grids import BTC, GRID, Record, btc_tasks, lines, sweep
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_runs import ASKS, BIDS, LOWER_ASKS, LOWER_BIDS, Script, game
from tapes import MARKETS, SMALL, Kept, tapes
from worlds import NOON_MS

from mmtools import units
from mmtools.config import RunConfig
from mmtools.errors import Misconfigured
from mmtools.lab.sweep import MOST_SETS, Grid, recordings, share, tasks
from mmtools.lab.trial import cut, trial
from mmtools.runs.engine import Engine
from mmtools.runs.replay import replay
from mmtools.runs.watcher import Watcher
from mmtools.trading.params import Params
from mmtools.venues.tape import Tape
from mmtools.venues.venue import Kind, Row


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    return config(tmp_path / "small.yaml", GRID)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A recording of 150 s."""
    return game().write(tmp_path / "game.jsonl")


# --- the grid


def test_every_combination_is_a_set_and_the_last_key_turns_fastest(grid_file: Path) -> None:
    grid = Grid(grid_file)
    under = RunConfig(params=Params(seed=7, capital=99))
    sets = grid.sets(grid.based(under))
    assert [tuple(one.values.values()) for one in sets] == [(50, 20), (50, 7), (90, 20), (90, 7), (1500, 20), (1500, 7)]
    params = sets[3].run.params
    assert (params.latency_ms, params.quote_interval_s, params.capital, params.seed) == (90, 7, 12, 7)
    assert (grid.split, grid.objective, grid.name) == (0.6, "risk_averse", "small")


def test_the_example_is_a_grid_with_every_default() -> None:
    example = Grid(ROOT / "configs" / "grid.yaml")
    assert len(example.sets(example.based(RunConfig()))) == 18
    assert (example.objective, example.split) == ("risk_averse", 0.5)


@pytest.mark.parametrize(
    ("written", "saying"),
    [
        ("base: {seed: 2}\n", ":1: there is no grid; add"),
        ("- 1\n", ":1: the file holds a list"),
        ("grid:\n  capitol: [1]\n", ":2: unknown key capitol; did you mean capital?"),
        ("grid:\n  seed: [3, 4]\n  capital:\n    - 20\n    - -1\n", ":5: capital is -1; it must be a number above 0"),
        ("grid:\n  model: [fixed, guess]\n", ':2: model is "guess"; it must be one of'),
        ("grid:\n  capital: 20\n", ":2: grid.capital is only 20; write a list of values"),
        ("grid:\n  capital: []\n", ":2: grid.capital is a list; write a list of values"),
        ("grid:\n  capital: [20, 30,\n    20]\n", ":3: grid.capital has 20 twice"),
        ("grid:\n  max_skew_ticks: [3, 3.0]\n", ":2: grid.max_skew_ticks has 3.0 twice"),
        ("grid:\n  capital: [20]\nbase: {capital: 20}\n", ":2: capital stands in base and in grid"),
        ("base:\n  sede: 2\ngrid:\n  capital: [20]\n", ":2: unknown key base.sede; did you mean seed?"),
        ("grid:\n  capital: [20]\nobjective: profit\n", ':3: objective is "profit"; it must be one of risk_averse'),
        ("grid:\n  capital: [20]\nsplit: 1\n", ":3: split is 1; it must be a number above 0 and below 1"),
        ("grids:\n  capital: [20]\ngrid: {capital: [1]}\n", ":1: unknown key grids; did you mean grid?"),
        ("grid:\n  bracket: [true, false]\n", "the objective risk_averse needs the bracket, and bracket=false has none"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_with_its_line(written: str, saying: str, tmp_path: Path) -> None:
    path = config(tmp_path / "wrong.yaml", written)
    with pytest.raises(Misconfigured) as refused:
        Grid(path).sets(RunConfig())
    assert str(refused.value).startswith(f"{path}:")
    assert saying in str(refused.value)


def test_too_large_a_grid_is_refused_before_it_is_built(tmp_path: Path) -> None:
    values = list(range(1, 18))
    params = ("capital", "latency_ms", "quote_interval_s", "max_skew_ticks")
    path = config(tmp_path / "large.yaml", "grid:\n" + "".join(f"  {param}: {values}\n" for param in params))
    with pytest.raises(Misconfigured, match=f"83,521 combinations, and at most {MOST_SETS:,} are run"):
        Grid(path).sets(RunConfig())


@given(st.integers(0, 40), st.integers(1, 9))
def test_shards_share_a_grid_without_rest_or_overlap(count: int, shards: int) -> None:
    whole: list[Any] = list(range(count))
    shares = [share(whole, number, shards) for number in range(1, shards + 1)]
    assert sorted(itertools.chain(*shares), key=whole.index) == whole
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# --- a trial


def compiled(rows: Sequence[Row]) -> Tape:
    tape = Tape(markets=tuple(MARKETS), clock="receive", source="made up", first_ms=rows[0][0], last_ms=rows[-1][0])
    tape.extend(rows)
    return tape


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tapes(), st.floats(0, 1), st.floats(0, 1))
def test_a_cut_loses_no_row_and_parts_no_instant(rows: list[Row], at: float, until: float) -> None:
    rows = [row for row in rows if row[1] != Kind.CLOCK]  # on live feeds alone
    tape = compiled(rows)
    first, last = sorted(round(NOON_MS + part * (tape.last_ms - NOON_MS)) for part in (at, until))
    fit, judge = (list(part.rows()) for part in cut(tape, first, last))
    assert fit + judge == [row for row in rows if row[0] <= last]
    assert all(row[0] <= first for row in fit)
    assert all(row[0] > first for row in judge)


class Following(Watcher):
    """Keeps all that a run wrote."""

    def __init__(self) -> None:
        self.journal = Kept()

    def wrote(self, engine: Engine, record: Record) -> None:
        self.journal.write(record)
        self.views = engine.views


def followed(rows: Sequence[Row], before: Sequence[Row] | None) -> tuple[Following, Record]:
    following = Following()
    run = RunConfig(feed="recording", recording="none", params=Params(**SMALL))
    earlier = None if before is None else compiled(before)
    return following, replay(run, compiled(rows), run_id="x", watcher=following, before=earlier).document


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tapes(), st.floats(0.1, 0.9))
def test_the_judged_part_knows_what_came_before_and_trades_on_none_of_it(rows: list[Row], at: float) -> None:
    rows = [row for row in rows if row[1] != Kind.CLOCK]
    cut_ms = round(NOON_MS + at * (rows[-1][0] - NOON_MS))
    before, after = ([row for row in rows if (row[0] > cut_ms) is late] for late in (False, True))
    if not after:
        return
    whole, _ = followed(rows, None)
    judged, document = followed(after, before)
    assert min(record["at_ms"] for record in judged.journal.records) >= after[0][0] > cut_ms
    for ours, theirs in zip(judged.views, whole.views, strict=True):
        assert (ours.mark, ours.fault, ours.epoch, ours.book.tick) == (theirs.mark, theirs.fault, theirs.epoch, theirs.book.tick)
        assert ours.volatility(rows[-1][0]) == theirs.volatility(rows[-1][0])
        assert ours.trade_intensity(rows[-1][0]) == theirs.trade_intensity(rows[-1][0])
    assert document["capital"]["start"] == "25"


def test_a_judged_part_without_a_book_of_its_own_quotes_at_once() -> None:
    book = [(NOON_MS, Kind.FRAME, 0, 0, 1), (NOON_MS, Kind.BOOK, 0, 0, 0)]
    levels = [(Kind.BID, "0.47", 120), (Kind.BID, "0.46", 70), (Kind.ASK, "0.48", 30), (Kind.ASK, "0.49", 55)]
    book += [(NOON_MS, kind, 0, units.parse(price), units.of(size)) for kind, price, size in levels]
    book.append((NOON_MS, Kind.END, 0, -1, -1))
    later = NOON_MS + 4_000
    change = [
        row
        for ms in (later, later + 300)
        for row in ((ms, Kind.FRAME, 0, 1, 0), (ms, Kind.BID, 0, units.parse("0.45"), units.of(9)), (ms, Kind.END, 0, -1, -1))
    ]
    _, knowing = followed(change, book)
    _, ignorant = followed(change, None)
    assert (knowing["orders"]["accepted"], knowing["duration_s"]) == (2, 0.3)
    assert ignorant["orders"]["sent"] == 0


def test_parts_of_a_trial_add_up_to_its_figures(recordings_of_btc: list[Record]) -> None:
    fit, judge = recordings_of_btc
    assert (fit["part"], judge["part"], fit["until"]) == ("fit", "judge", judge["from"])
    for line in (fit, judge):
        sums = {name: units.text(sum(map(units.parse, line["blocks"][name]))) for name in ("total", "spread", "risk_averse")}
        assert sums["total"] == line["pnl"]["total"] == line["bracket"]["base"]["pnl"]
        assert sums["spread"] == line["pnl"]["spread"]
        assert sums["risk_averse"] == line["bracket"]["risk_averse"]["pnl"]
        assert line["fills"]["count"] > 0
    assert fit["duration_s"] / 3 == pytest.approx(judge["duration_s"], abs=0.01)


@pytest.fixture(scope="module")
def recordings_of_btc(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """A trial of one set over a real recording, its split at three quarters."""
    grid = Grid(config(tmp_path_factory.mktemp("grid") / "x.yaml", "grid: {max_skew_ticks: [3]}\nsplit: 0.75\n"))
    return trial(btc_tasks(grid, recordings / BTC)[0])


def test_the_fitted_part_is_a_replay_of_a_shorter_recording(recordings_of_btc: list[Record], recordings: Path, tmp_path: Path) -> None:
    fit = recordings_of_btc[0]
    hours = fit["duration_s"] / 3600
    shorter = config(tmp_path / "run.yaml", f"duration_hours: {hours!r}\nparams: {{max_skew_ticks: 3}}\n")
    plain = call("replay", recordings / BTC, "--config", shorter, "--json").document
    assert plain["ledger_sha256"] == fit["ledger_sha256"]
    assert plain["pnl"] == fit["pnl"]
    assert plain["bracket"] == fit["bracket"]


# --- the command


def test_the_best_set_of_the_first_part_is_shown_beside_what_it_did_in_the_second(grid_file: Path, small: Path, tmp_path: Path) -> None:
    said = sweep("--grid", grid_file, small, "--json", "--state", tmp_path / "state")
    assert said.code == 0
    assert said.err == ""
    document = said.document
    kept = lines(tmp_path / "state" / "lab" / "grids" / "small.jsonl")
    assert (document["schema"], document["complete"], document["trials"]) == ("mmtools.grid/1", True, {"asked": 6, "done": 6})
    fitted = {json.dumps(line["set"]): line for line in kept if line["part"] == "fit"}
    assert len(fitted) == 6
    best = max(fitted.values(), key=lambda line: units.parse(line["bracket"]["risk_averse"]["pnl"]))
    assert document["best"]["set"] == document["ranking"][0]["set"] == best["set"]
    assert document["best"]["fit"]["risk_averse"] == best["bracket"]["risk_averse"]["pnl"]
    judged = next(line for line in kept if line["part"] == "judge" and line["set"] == best["set"])
    assert document["best"]["judge"]["total"] == judged["pnl"]["total"]
    assert document["overfitting"]["probability"] is None
    assert "too few" in document["overfitting"]["why"]
    table = sweep("--grid", grid_file, small, "--state", tmp_path / "state").out
    assert "latency_ms=50, quote_interval_s=20" in table
    assert "overfit    unknown: 3 blocks of time are too few" in table
    assert "deflated   unknown: 2 blocks of time are too few" in table
    assert "latency_ms is an assumption about the world" in table


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A recording of 45 minutes, all of which fill alike whoever quotes."""
    script = Script()
    for minute in range(45):
        script.book(60 * minute + 1, BIDS, ASKS).taker(60 * minute + 9.4, "SELL", "0.46", 30)
        script.book(60 * minute + 30, LOWER_BIDS, LOWER_ASKS).taker(60 * minute + 41.2, "BUY", "0.48", 7 + minute)
    return script.write(tmp_path / "long.jsonl")


def test_sets_that_score_the_same_have_no_best_among_them(grid_file: Path, long: Path, tmp_path: Path) -> None:
    document = sweep("--grid", grid_file, long, "--out", tmp_path / "x.jsonl", "--json").document
    assert (document["complete"], document["best"], len(document["ranking"])) == (True, None, 6)
    assert document["overfitting"]["deflated_why"] == "no set is the best"
    assert document["ranking"][0]["fit"]["orders"] > document["ranking"][0]["fit"]["fills"] > 0
    table = sweep("--grid", grid_file, long, "--out", tmp_path / "x.jsonl").out
    assert "best       none: all sets scored the same in the fitted part" in table
    assert "place" not in table
    assert max(map(len, table.splitlines()[:2])) <= 110


def test_the_only_set_is_the_best_and_no_choice(small: Path, tmp_path: Path) -> None:
    grid_file = config(tmp_path / "x.yaml", GRID.replace("[50, 90, 1500]", "[90]").replace("[20, 7]", "[7]"))
    document = sweep("--grid", grid_file, small, "--out", tmp_path / "x.jsonl", "--json").document
    assert (document["best"]["set"], document["best"]["judge"]["place"]) == ({"latency_ms": 90, "quote_interval_s": 7}, 1)
    assert document["overfitting"]["why"] == document["overfitting"]["deflated_why"] == "one set is no choice"


def test_sets_that_did_the_same_are_counted(small: Path, tmp_path: Path) -> None:
    grid_file = config(tmp_path / "x.yaml", "base: {max_data_gap_s: 100}\ngrid: {max_drawdown: [null, 900, 800], capital: [12, 0.5]}\n")
    document = sweep("--grid", grid_file, small, "--out", tmp_path / "x.jsonl", "--json").document
    assert "4 of 6 sets did exactly what one before them in the grid did; each counts as a try all the same" in document["notes"]


def test_with_enough_time_the_risk_of_overfitting_is_a_number(long: Path, tmp_path: Path) -> None:
    sizes = GRID.replace("default_order_size: 10, ", "").replace("latency_ms: [50, 90, 1500]", "default_order_size: [10, 7, 5]")
    grid_file = config(tmp_path / "sizes.yaml", sizes)
    document = sweep("--grid", grid_file, long, "--out", tmp_path / "x.jsonl", "--json").document
    risk = document["overfitting"]
    assert (risk["why"], risk["blocks"]) == (None, 45)
    assert 0 < risk["ways"] <= 924
    assert 0 <= risk["probability"] <= 1
    assert 0 <= risk["deflated"] <= 1
    assert document["best"]["fit"]["interval"][0] < document["best"]["fit"]["per_hour"] < document["best"]["fit"]["interval"][1]
    table = sweep("--grid", grid_file, long, "--out", tmp_path / "x.jsonl").out
    assert f"overfit    {risk['probability']:.2f} ({risk['ways']} ways to halve 45 blocks of time" in table
    assert risk["tries"] == 6
    assert f"deflated   {risk['deflated']:.2f} is the probability that the best of 6 worthless sets would look worse" in table


def test_a_larger_grid_runs_only_what_is_new(grid_file: Path, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "trials.jsonl"
    sweep("--grid", grid_file, small, "--out", out)
    larger = config(tmp_path / "larger.yaml", GRID.replace("[20, 7]", "[20, 7, 11]"))
    before = out.read_bytes()
    assert sweep("--grid", larger, small, "--out", out, "--json").document["trials"] == {"asked": 9, "done": 9}
    assert out.read_bytes().startswith(before)
    assert {line["set"]["quote_interval_s"] for line in lines(out)[12:]} == {11}
    other = config(tmp_path / "other.yaml", GRID.replace("0.6", "0.5"))
    assert sweep("--grid", other, small, "--out", out, "--json").document["trials"] == {"asked": 6, "done": 6}
    assert len(lines(out)) == 18 + 12


def test_shards_put_together_in_any_order_are_the_grid(grid_file: Path, small: Path, tmp_path: Path) -> None:
    whole = sweep("--grid", grid_file, small, "--out", tmp_path / "whole.jsonl", "--json").document
    parts = [tmp_path / f"part{number}.jsonl" for number in (1, 2, 3, 4)]
    for number, part in enumerate(parts, start=1):
        said = sweep("--grid", grid_file, small, "--out", part, "--shard", f"{number}/4", "--json").document
        assert (said["complete"], said["best"], said["trials"]["done"]) == (False, None, 2 if number < 3 else 1)
    assert "1 of 6 are done" in sweep("--grid", grid_file, small, "--out", parts[3], "--shard", "4/4").out
    mixed = "".join(part.read_text() for part in [*parts, parts[2]]).splitlines(keepends=True)
    random.Random(5).shuffle(mixed)
    together = config(tmp_path / "together.jsonl", "".join(mixed))
    assert sweep("--grid", grid_file, small, "--out", together, "--json").document == whole
    assert together.read_text() == "".join(mixed)


def test_splits_that_differ_in_the_last_digit_are_other_trials(small: Path, tmp_path: Path) -> None:
    grid_file, run = config(tmp_path / "x.yaml", "grid: {max_skew_ticks: [3]}\n"), RunConfig(feed="recording", recording="x")
    sets, over = Grid(grid_file).sets(run), recordings([str(small)])
    keys = {tasks(sets, over, split)[0].key("fit") for split in (0.3, 0.30000000000000004, 0.3000001)}
    assert len(keys) == 3


def test_a_part_without_duration_is_refused(grid_file: Path, small: Path, tmp_path: Path) -> None:
    bare = Script().book(0).write(tmp_path / "bare.jsonl")
    said = sweep("--grid", grid_file, bare, "--out", tmp_path / "x.jsonl")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "one part has no duration" in said.err
    early = config(tmp_path / "early.yaml", GRID.replace("split: 0.6", "split: 0.000000001"))
    said = sweep("--grid", early, small, "--out", tmp_path / "x.jsonl")
    assert (said.code, "cut at 1e-09 of 150 s, one part has no duration" in said.err) == (2, True)


def test_a_bad_last_recording_is_told_before_the_first_trial(grid_file: Path, small: Path, tmp_path: Path) -> None:
    torn = config(tmp_path / "torn.jsonl", small.read_text()[:-40])
    out = tmp_path / "x.jsonl"
    said = sweep("--grid", grid_file, small, torn, "--out", out)
    assert (said.code, said.err.startswith(f"replay: {torn}:"), out.exists()) == (2, True, False)
    other = Script(slug="rain").book(3).book(90).write(tmp_path / "rain.jsonl")
    said = sweep("--grid", grid_file, small, other, "--market", "hail", "--out", out)
    assert (said.code, "has no market hail" in said.err, out.exists()) == (2, True, False)


def test_a_grid_over_a_pipe_is_refused_without_waiting_for_it(grid_file: Path, small: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for args in ((pipe,), (small, "--out", pipe)):
        said = sweep("--grid", grid_file, *args, "--state", tmp_path / "state")
        assert (said.code, "pipe: is no regular file" in said.err) == (2, True)


def test_a_set_that_breaks_a_limit_is_a_result_like_any_other(small: Path, tmp_path: Path) -> None:
    strict = config(tmp_path / "strict.yaml", GRID.replace("latency_ms: [50, 90, 1500]", "max_drawdown: [null, 0.01]"))
    said = sweep("--grid", strict, small, "--out", tmp_path / "x.jsonl", "--json")
    assert said.code == 0
    assert sorted(one["fit"]["halted"] for one in said.document["ranking"]) == [0, 0, 1, 1]
    assert "2 of the sets broke a limit somewhere and earned nothing from then on" in said.document["notes"]


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        (["--jobs", "2"], "--jobs goes with --grid"),
        (["--shard", "1/2"], "--shard goes with --grid"),
        (["--backend", "dask"], "--backend goes with --grid"),
        (["GAME"], "one recording at a time"),
        (["--grid", "GRID", "--shard", "0/2"], "say I/N with 1 <= I <= N"),
        (["--grid", "GRID", "--shard", "3/2"], "say I/N with 1 <= I <= N"),
        (["--grid", "GRID", "--shard", "2"], "say I/N with 1 <= I <= N"),
        (["--grid", "GRID", "--shard", ""], "say I/N with 1 <= I <= N"),
        (["--grid", "GRID", "--shard", "1/" + "7" * 5000], "say I/N with 1 <= I <= N"),
        (["--grid", "GRID", "--backend", "dask", "--scheduler", ""], "say tcp://HOST:PORT"),
        (["--grid", "GRID", "--backend", "dask", "--scheduler", "foo://x:1"], "say tcp://HOST:PORT"),
        (["--grid", "GRID", "--backend", "dask", "--scheduler", "tcp://10.0.0.1"], "say tcp://HOST:PORT"),
        (["--grid", "GRID", "--backend", "dask", "--scheduler", "tcp://10.0.0.1:65536"], "say tcp://HOST:PORT"),
        (["--grid", "GRID", "--out", ""], "--out names no file"),
        (["--grid", "GRID", "--out", "/proc/x.jsonl"], "--out /proc/x.jsonl: cannot be written"),
        (["--grid", "GRID", "--out", "/dev/full"], "--out /dev/full: is no regular file"),
        (["--grid", "GRID", "--out", "x" * 300], "xxx: cannot be written (File name too long)"),
        (["--grid", "GRID", "--out", "/dev/null/x.jsonl"], "--out /dev/null/x.jsonl: cannot be written"),
        (["--grid", "GRID", "--backend", "dask"], "--backend dask and --scheduler ADDRESS go together"),
        (["--grid", "GRID", "--scheduler", "tcp://127.0.0.1:1"], "--backend dask and --scheduler ADDRESS go together"),
        (["--grid", "GRID", "GAME"], "are one recording"),
        (["--grid", "GRID", "--set", "latency_ms=3"], "the grid varies it"),
        (["--grid", "GRID", "--market", "rain"], "has no market rain"),
        (["--grid", "GRID", "/nowhere/x.jsonl"], "/nowhere/x.jsonl: there is no such file"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(
    options: list[str], saying: str, grid_file: Path, small: Path, tmp_path: Path
) -> None:
    named = {"GRID": str(grid_file), "GAME": str(small)}
    said = call("replay", small, *(named.get(option, option) for option in options), "--state", tmp_path / "state")
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert saying in said.err
    assert not (tmp_path / "state").exists()
