"""The bracket: two makers beside the run's own, which change nothing of it and are what runs of their own would be."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from small_runs import Runner, runner_of_the_game, stop
from tapes import CountedFeed, People, Ran, ran, tapes
from worlds import NOON_MS, book_rows, print_rows

from mmtools.config import Synthetic
from mmtools.runs.bracket import OTHERS
from mmtools.runs.engine import Status
from mmtools.runs.journal import LEDGER_KINDS, canonical
from mmtools.runs.watcher import Intervention
from mmtools.trading.market import Side
from mmtools.trading.params import Params
from mmtools.units import parse
from mmtools.venues import recording
from mmtools.venues.synthetic import SyntheticFeed
from mmtools.venues.venue import Feed, Kind, Row

Record = dict[str, Any]


def at(seconds: float) -> int:
    return NOON_MS + round(seconds * 1000)


WIND_DOWN = Intervention(kind="reduce_only", by="anna", why="news", latch=0)
QUOTE_AGAIN = Intervention(kind="cleared", by="ben", why="read them", latch=0)
HALT = Intervention(kind="halt", by="anna", why="lunch", latch=1)
STOP = Intervention(kind="stop", by="SIGTERM", why="asked to end")


@st.composite
def people(draw: st.DrawFn) -> People:
    """What people do, at which frame: winding down and its end in this order, a halt that is cleared, a stop."""
    frames = st.integers(2, 30)
    first, second = sorted((draw(frames), draw(frames)))
    acts: dict[int, list[Intervention]] = {}
    if draw(st.booleans()):
        acts[first] = [WIND_DOWN]
        acts.setdefault(second, []).append(QUOTE_AGAIN)
    for act in draw(st.lists(st.sampled_from([HALT, STOP]), max_size=1)):
        acts.setdefault(draw(frames), []).append(act)
    return acts


SETTINGS = st.fixed_dictionaries(
    {
        "queue_model": st.sampled_from(["power", "log2", "touch", "never"]),
        "latency_ms": st.sampled_from([0, 1, 20, 400]),
        "max_drawdown": st.sampled_from([None, 0.02, 0.1, 0.5]),
    }
)
BROKE = book_rows(at(0), {"0.47": 8}) + print_rows(at(5), Side.SELL, "0.47", 8) + book_rows(at(8), {"0.44": 40}, {"0.46": 30})
"""The queue of 8 is traded and no more: only who stands first in it has bought, and loses when the market falls."""


def without_bracket(journal: Sequence[Record]) -> list[Record]:
    """Return a journal as it would be if nobody stood beside the run's own maker."""
    same = []
    for record in journal:
        if record["kind"] == "run":
            record = {**record, "config_sha256": None}
        same.append({**record, "bracket": None} if "bracket" in record else record)
    return same


def assert_own_maker_notices_nothing(alone: Ran, beside: Ran) -> None:
    assert beside.document["ledger_sha256"] == alone.document["ledger_sha256"]
    assert without_bracket(beside.journal) == without_bracket(alone.journal)
    assert alone.document["bracket"] is None
    assert alone.others == {name: [] for name in OTHERS}


def assert_others_are_runs_of_their_own(beside: Ran, alone: dict[str, Ran]) -> None:
    for name, own in alone.items():
        shown, document = beside.document["bracket"][name], own.document
        kept = [record for record in beside.others[name] if record["kind"] in LEDGER_KINDS]
        if own.status is Status.HALTED and any(record["kind"] == "cleared" for record in beside.others[name]):
            continue  # with the run's own maker it was told to go on, which the run of its own was not
        assert {**shown, "halted": None} == {
            "fills": document["fills"]["count"], "shares": document["fills"]["shares"], "fill_rate": document["fill_rate"],
            "pnl": document["pnl"]["total"], "halted": None,
        }, name  # fmt: skip
        if own.status is Status.HALTED:
            assert shown["halted"] == document["halts"][-1]["why"]
            # Pairs under way and what a resolution pays still come; nothing is traded any more.
            after = kept[len(own.of_kind(*LEDGER_KINDS)) :]
            assert {record["kind"] for record in after} <= {"merge", "resolution"}
            kept = kept[: len(kept) - len(after)]
        assert kept == own.of_kind(*LEDGER_KINDS), name
        assert [r["at_ms"] for r in beside.others[name] if r["kind"] == "halt"] == [r["at_ms"] for r in own.of_kind("halt")], name


def alone(rows: Sequence[Row], acts: People | None = None, **params: Any) -> dict[str, Ran]:
    return {name: ran(rows, acts, **{**params, "queue_model": model, "bracket": False}) for name, model in OTHERS.items()}


# --- nothing of the run's own


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=tapes(), acts=people(), params=SETTINGS)
@example(rows=BROKE, acts={}, params={"latency_ms": 0, "max_drawdown": 0.1})
def test_the_runs_own_maker_is_the_same_with_and_without_the_others(rows: list[Row], acts: People, params: Record) -> None:
    assert_own_maker_notices_nothing(ran(rows, acts, bracket=False, **params), ran(rows, acts, **params))


def compare_on(feed_of: Callable[[], Feed], duration_ms: int | None = None, **params: Any) -> Ran:
    """Run with and without the bracket, and each of the others on its own; return the one with it."""
    chosen = Params(**params)
    beside = Ran(feed_of(), chosen, duration_ms=duration_ms)
    assert_own_maker_notices_nothing(Ran(feed_of(), replace(chosen, bracket=False), duration_ms=duration_ms), beside)
    own = {
        name: Ran(feed_of(), replace(chosen, bracket=False, queue_model=model), duration_ms=duration_ms) for name, model in OTHERS.items()
    }
    assert_others_are_runs_of_their_own(beside, own)
    return beside


def test_a_simulated_market_brackets_its_run() -> None:
    def feed() -> Feed:
        return SyntheticFeed(Synthetic(resolves="no"), seed=5, duration_ms=1_500_000)

    beside = compare_on(feed, capital=60.0, default_order_size=20.0)
    assert list(beside.document["bracket"]) == ["risk_averse", "base", "optimistic"]
    fills = [one["fills"] for one in beside.document["bracket"].values()]
    assert fills[0] > 10
    assert fills[0] != fills[2]
    assert beside.of_kind("resolution", "merge")


@pytest.mark.parametrize(
    ("name", "minutes", "params"),
    [("nhl-20260607", 4, {}), ("btc-1h-20251211", 5, {"latency_ms": 0}), ("nhl-20260607", 6, {"max_drawdown": 0.4})],
)
def test_a_recorded_market_brackets_its_run(recordings: Path, name: str, minutes: int, params: Record) -> None:
    tape = recording.read(recordings / f"{name}.jsonl.gz")
    beside = compare_on(lambda: tape, duration_ms=minutes * 60_000, **params)
    assert beside.document["bracket"]["optimistic"]["fills"] > beside.document["bracket"]["risk_averse"]["fills"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nhl-20260607", "btc-1h-20251211"])
@pytest.mark.parametrize("latency_ms", [0, 100])
def test_a_whole_recording_brackets_its_run(recordings: Path, name: str, latency_ms: int) -> None:
    tape = recording.read(recordings / f"{name}.jsonl.gz")
    compare_on(lambda: tape, latency_ms=latency_ms)


# --- each as a run of its own


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=tapes(), acts=people(), params=SETTINGS)
@example(rows=BROKE, acts={}, params={"latency_ms": 20, "max_drawdown": 0.1})
def test_each_of_the_others_is_what_a_run_of_its_own_would_be(rows: list[Row], acts: People, params: Record) -> None:
    beside = ran(rows, acts, **params)
    assert isinstance(beside.engine.feed, CountedFeed)
    assert_others_are_runs_of_their_own(beside, alone(rows[: beside.engine.feed.heard], acts, **params))


def test_a_limit_that_only_the_lucky_one_breaks_ends_only_its_quoting() -> None:
    later = book_rows(at(20)) + print_rows(at(25), Side.SELL, "0.46", 90) + book_rows(at(30))
    beside = ran(BROKE + later, max_drawdown=0.1)
    bracket = beside.document["bracket"]
    assert {name: one["halted"] for name, one in bracket.items()} == {"risk_averse": None, "base": None, "optimistic": "drawdown"}
    assert (bracket["optimistic"]["fills"], bracket["optimistic"]["pnl"]) == (1, "-0.16")  # 8 bought at 0.47, marked at 0.45
    assert bracket["base"]["fills"] > 0
    assert beside.status is Status.FINISHED
    assert beside.document["halts"] == []


def test_a_limit_that_only_the_runs_own_maker_breaks_ends_the_run_where_the_others_stand() -> None:
    later = book_rows(at(20)) + print_rows(at(25), Side.SELL, "0.46", 900)
    # Whatever stands at the touch fills, though nothing was traded there.
    untraded = book_rows(at(0)) + book_rows(at(2)) + book_rows(at(8), {"0.44": 40}, {"0.46": 30})
    beside = ran(untraded + later, max_drawdown=0.1, queue_model="touch")
    bracket = beside.document["bracket"]
    assert beside.status is Status.HALTED
    assert {name: (one["fills"], one["halted"]) for name, one in bracket.items()} == {
        "risk_averse": (0, None), "base": (3, "drawdown"), "optimistic": (0, None),
    }  # fmt: skip


def test_a_second_fill_of_the_print_that_breaks_the_limit_counts() -> None:
    """The cancels fly when the print comes: its first fill ends the quoting, but does not unsay the second."""
    fallen = book_rows(at(5), {"0.43": 4, "0.42": 9}, {"0.45": 4, "0.46": 9})
    rows = [*book_rows(at(0)), *fallen, *print_rows(at(5.1), Side.SELL, "0.43", 25), *book_rows(at(9))]
    params: Record = {"max_drawdown": 0.2, "num_levels": 2, "latency_ms": 400, "queue_model": "never", "capital": 80.0}
    beside = ran(rows, **params)
    assert_others_are_runs_of_their_own(beside, alone(rows, **params))
    (first, halt, second) = beside.others["optimistic"]
    assert [record["kind"] for record in (first, halt, second)] == ["fill", "halt", "fill"]
    assert beside.document["bracket"]["optimistic"]["pnl"] == "-0.5"  # 10 at 0.47 and 10 at 0.46, marked at 0.44


def test_a_halt_of_the_run_halts_all_three_and_its_clearing_lets_all_go_on() -> None:
    rows = [*BROKE, *book_rows(at(20)), *book_rows(at(25)), *print_rows(at(30), Side.SELL, "0.46", 900)]
    beside = ran(rows, {4: [HALT]})
    assert [(r["kind"], r.get("why")) for r in beside.others["risk_averse"][:2]] == [("halt", "kill_latched"), ("cleared", "looked")]
    assert [r["kind"] for r in beside.others["optimistic"]] == ["fill", "halt", "cleared", "fill"]
    assert {one["halted"] for one in beside.document["bracket"].values()} == {None}


def test_the_end_of_winding_down_wakes_nobody_who_broke_a_limit() -> None:
    rows = [*BROKE, *book_rows(at(20)), *book_rows(at(25)), *book_rows(at(30)), *print_rows(at(35), Side.SELL, "0.46", 900)]
    beside = ran(rows, {4: [WIND_DOWN], 5: [QUOTE_AGAIN]}, max_drawdown=0.1)
    assert [r["kind"] for r in beside.others["optimistic"]] == ["fill", "halt"]
    assert beside.document["bracket"]["optimistic"]["halted"] == "drawdown"
    assert beside.document["bracket"]["risk_averse"]["fills"] == 1


def test_a_maker_that_halted_keeps_its_total_and_takes_in_what_becomes_of_its_stock() -> None:
    """A run of its own would have ended; were it cleared, the market's end must not be news to it."""
    over: list[Row] = [(at(40), Kind.FRAME, 0, 0, 0), (at(40), Kind.RESOLVED, 0, 1_000_000, 0)]
    beside = ran(BROKE + book_rows(at(20)) + over, max_drawdown=0.1)
    assert [r["kind"] for r in beside.others["optimistic"]] == ["fill", "halt", "resolution"]
    assert beside.document["bracket"]["optimistic"]["pnl"] == "-0.16"


def test_without_latency_an_order_of_the_others_rests_before_the_next_row_of_its_instant() -> None:
    rows = book_rows(at(0), {"0.47": 8}) + print_rows(at(0), Side.SELL, "0.47", 8)
    assert ran(rows, latency_ms=0).document["bracket"]["optimistic"]["fills"] == 1
    assert ran(rows, latency_ms=1).document["bracket"]["optimistic"]["fills"] == 0


def test_no_bracket_is_no_bracket() -> None:
    beside = ran(BROKE, bracket=False)
    assert (beside.engine.others, beside.document["bracket"]) == ([], None)


# --- on disk


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    with runner_of_the_game(tmp_path, monkeypatch) as lent:
        yield lent


def bracket_files(runner: Runner) -> dict[str, bytes]:
    return {name: content for name, content in runner.files().items() if name.startswith("bracket-")}


def test_each_has_a_file_with_what_moved_its_money(runner: Runner, tmp_path: Path) -> None:
    document = runner.start_with_people().document
    assert set(bracket_files(runner)) == {"bracket-risk_averse.jsonl", "bracket-optimistic.jsonl"}
    for name, model in OTHERS.items():
        kept, shown = runner.of_other(name), document["bracket"][name]
        fills = [record["trade"] for record in kept if record["kind"] == "fill"]
        assert shown["fills"] == len(fills) > 3
        assert parse(shown["shares"]) == sum(parse(trade["fill_qty"]) for trade in fills)
        params = replace(runner.run.params, queue_model=model, bracket=False)
        own = Runner(tmp_path / name, replace(runner.run, params=params), runner.feed)
        own.start_with_people()
        assert canonical(kept) == [canonical(record) for record in own.told() if record["kind"] in LEDGER_KINDS]
        assert bracket_files(own) == {}


def test_a_kill_before_any_frame_leaves_the_files_of_an_undisturbed_run(runner: Runner) -> None:
    expected = runner.start().document
    whole, frames = bracket_files(runner), expected["events"]["frames"]
    for frame in range(1, frames):
        runner.forget()
        runner.cut_off(frame)
        for name, content in bracket_files(runner).items():
            assert whole[name].startswith(content)
        assert runner.start().document == expected
        assert bracket_files(runner) == whole


def test_files_that_are_gone_or_cut_are_made_again_by_a_simulation(runner: Runner) -> None:
    runner.start()
    whole = bracket_files(runner)
    runner.forget()
    runner.cut_off(9)
    (runner.folder / "bracket-optimistic.jsonl").unlink()
    patient = runner.folder / "bracket-risk_averse.jsonl"
    patient.write_bytes(patient.read_bytes().splitlines(keepends=True)[0])
    runner.start()
    assert bracket_files(runner) == whole


@pytest.mark.parametrize("frame", range(1, 9))
def test_a_stop_that_is_taken_back_is_for_the_others_what_it_is_for_a_run_of_their_own(runner: Runner, tmp_path: Path, frame: int) -> None:
    runner.start({frame: stop})
    before = runner.files()
    assert runner.start({frame - 1: stop}).status is Status.STOPPED  # while it is repeated still
    assert runner.files() == before
    bracket = runner.start().document["bracket"]
    for name, model in OTHERS.items():
        params = replace(runner.run.params, queue_model=model, bracket=False)
        own = Runner(tmp_path / name, replace(runner.run, params=params), runner.feed)
        own.start({frame: stop})
        document = own.start().document
        assert (bracket[name]["pnl"], bracket[name]["fill_rate"]) == (document["pnl"]["total"], document["fill_rate"])
