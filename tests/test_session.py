"""A run on disk: starting it again, stopping and halting it, and what people do meanwhile."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from faults import run_with_fault
from small_runs import (
    CLEARED,
    LOWER_ASKS,
    LOWER_BIDS,
    PARAMS,
    RUN_ID,
    Runner,
    Script,
    config,
    game,
    latch_once,
    runner_of_the_game,
    stop,
    through_halts,
    to_the_end,
)

from mmtools import cli
from mmtools import config as configs
from mmtools.commands.quote_run import main as quote_run
from mmtools.commands.report import main as report
from mmtools.errors import Refused, TryLater
from mmtools.runs import reading, session, summary
from mmtools.runs.engine import Engine, Status
from mmtools.runs.replay import replay
from mmtools.units import parse


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    with runner_of_the_game(tmp_path, monkeypatch) as lent:
        yield lent


# --- starting again


def test_a_finished_run_is_refused_and_nothing_of_it_changes(runner: Runner) -> None:
    runner.start()
    before = runner.files()
    with pytest.raises(Refused, match=r"run small is finished; .*--fresh"):
        runner.start()
    assert runner.files() == before
    assert len(runner.history()) == 1


def test_a_finished_run_that_died_before_its_line_of_history_gets_it_when_it_is_refused(runner: Runner) -> None:
    runner.start()
    runner.state.remove(session.HISTORY)
    with pytest.raises(Refused, match="finished"):
        runner.start()
    assert [line["run_id"] for line in runner.history()] == [RUN_ID]


def test_fresh_starts_anew(runner: Runner) -> None:
    stopped = runner.start({3: stop})
    assert stopped.status is Status.STOPPED
    outcome = runner.start(fresh=True)
    assert outcome.status is Status.FINISHED
    assert runner.of_kind("stop") == []
    assert runner.of_kind("start") == []


def test_fresh_does_not_open_a_closed_switch(runner: Runner) -> None:
    """Else `--fresh` in a crontab would undo every halt."""
    assert runner.with_params(max_drawdown=0.03).start().status is Status.HALTED
    before = runner.files()
    with pytest.raises(Refused, match="halted since"):
        runner.with_params(max_drawdown=0.03).start(fresh=True)
    assert runner.files() == before
    runner.switch.clear(**CLEARED)
    assert runner.start(fresh=True).status is Status.FINISHED
    assert runner.switch.latches() == []


def test_another_config_is_refused_with_the_keys_that_differ(runner: Runner) -> None:
    runner.start({3: stop})
    before = runner.files()
    other = runner.with_params(seed=7, capital=13.5)
    with pytest.raises(Refused) as refused:
        other.start()
    assert "params.capital: 12 -> 13.5; params.seed: 1 -> 7" in str(refused.value)
    assert runner.files() == before


def test_another_config_is_refused_even_when_the_old_one_cannot_be_read(runner: Runner) -> None:
    runner.start({3: stop})
    (runner.folder / "run.yaml").write_text("params: {seeed: 3}\n")
    with pytest.raises(Refused, match="another config"):
        runner.with_params(seed=7).start()


def test_a_remark_on_the_run_is_no_other_config(runner: Runner) -> None:
    runner.start({3: stop})
    again = Runner(runner.state.root, msgspec.structs.replace(runner.run, hypothesis="H2", started_at="2026-06-08T00:00:00Z"))
    assert again.start().status is Status.FINISHED


def test_another_recording_is_refused(runner: Runner, tmp_path: Path) -> None:
    runner.start({3: stop})
    before = runner.files()
    other = game().taker(160, "BUY", "0.5", 3).write(tmp_path / "other.jsonl")
    with pytest.raises(Refused, match=r"started on another feed \(recording [0-9a-f]{12}, now recording [0-9a-f]{12}\)"):
        Runner(runner.state.root, config(other)).start()
    assert runner.files() == before


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("decision", '"fair_ticks":47.5', '"fair_ticks":47.6'),
        ("fill", '"pnl_cumulative":"0.05"', '"pnl_cumulative":"0.06"'),
        ("accepted", '"order_id":"paper-o2"', '"order_id":"paper-o3"'),
        ("cancel", '"kind":"cancel","at_ms":1780833601000,"key":"o2"', '"kind":"cancel","at_ms":1780833601001,"key":"o2"'),
    ],
)
def test_a_journal_that_says_something_else_is_refused_and_not_appended_to(runner: Runner, kind: str, old: str, new: str) -> None:
    runner.start({6: stop})
    journal = runner.bytes_of("journal.jsonl").decode()
    assert old in journal
    edited = journal.replace(old, new, 1).encode()
    (runner.folder / "journal.jsonl").write_bytes(edited)
    with pytest.raises(Refused, match=rf"is not what the same run would write now \({kind} there, {kind} here\)"):
        runner.start()
    assert runner.bytes_of("journal.jsonl") == edited


@pytest.mark.parametrize("harm", ["a line is missing", "an order of more than there is", "a record without its kind"])
def test_a_journal_that_contradicts_itself_is_refused_in_one_line_that_names_the_record(runner: Runner, harm: str) -> None:
    runner.start({6: stop})
    lines = runner.bytes_of("journal.jsonl").decode().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if '"kind":"place"' in line)
    if harm == "a line is missing":
        del lines[at]
    elif harm == "an order of more than there is":
        lines[at] = lines[at].replace('"size":"10"', '"size":"10000"')
    else:
        lines[at] = lines[at].replace('"kind"', '"kindness"')
    (runner.folder / "journal.jsonl").write_text("".join(lines))
    with pytest.raises(Refused, match=r"line \d+ of its journal does not follow from those before it") as refused:
        runner.start()
    assert "\n" not in str(refused.value)
    assert runner.bytes_of("journal.jsonl") == "".join(lines).encode()


def test_a_run_that_is_running_is_not_started_twice(runner: Runner) -> None:
    with runner.state.lock(f"runs/{RUN_ID}"), pytest.raises(TryLater, match="is running"):
        runner.start()
    assert not runner.folder.exists()


def test_a_second_process_on_a_run_is_told_to_try_later(runner: Runner) -> None:
    refused: list[int] = []

    def start_another(moving: Engine) -> None:
        refused.append(run_with_fault(1_000, "eio", lambda: expect(TryLater, runner)).status or 0)

    assert runner.start({4: start_another}).status is Status.FINISHED
    assert refused == [7]


def expect(error: type[Exception], runner: Runner) -> int:
    """Return 7 when starting raises this error."""
    try:
        runner.start()
    except error:
        return 7
    return 1


@pytest.mark.parametrize("name", ["journal.jsonl", "trades.jsonl", "health.jsonl", "bracket-optimistic.jsonl"])
def test_a_torn_line_at_the_end_is_healed(runner: Runner, name: str) -> None:
    expected = to_the_end(runner)
    runner.forget()
    runner.cut_off(9)
    (runner.folder / name).open("ab").write(b'{"kind":"fill","trade":{"fi')
    assert to_the_end(runner) == expected
    assert all(msgspec.json.decode(line) for line in runner.bytes_of(name).splitlines())


@pytest.mark.parametrize("harm", ["deleted", "edited", "cut", "longer"])
def test_trades_are_made_again_from_the_journal(runner: Runner, harm: str) -> None:
    expected = to_the_end(runner)
    runner.forget()
    runner.cut_off(9)
    trades = runner.bytes_of("trades.jsonl")
    lines = trades.splitlines(keepends=True)
    edited = {
        "deleted": b"",
        "edited": trades.replace(b'"fill_qty":"4"', b'"fill_qty":"9"'),
        "cut": b"".join(lines[:-1]),
        "longer": trades + lines[0],
    }
    assert edited[harm] != trades
    if harm == "deleted":
        (runner.folder / "trades.jsonl").unlink()
    else:
        (runner.folder / "trades.jsonl").write_bytes(edited[harm])
    assert to_the_end(runner) == expected


def test_the_run_yaml_is_the_config_with_every_default(runner: Runner) -> None:
    runner.start()
    assert configs.load(runner.folder / "run.yaml") == runner.run
    assert "resume_after_s: 5" in runner.bytes_of("run.yaml").decode()


def test_a_run_whose_removal_was_cut_off_is_no_run(runner: Runner) -> None:
    runner.start()
    runner.folder.rename(runner.folder.with_name(f"{RUN_ID}.removed"))
    assert reading.runs(runner.state) == []


# --- stopping


def test_a_stop_cancels_what_rests_and_keeps_what_is_owned(runner: Runner) -> None:
    outcome = runner.start({4: stop})
    assert outcome.status is Status.STOPPED
    assert outcome.document["status"] == "stopped"
    assert outcome.document["position"]["hail"]["no"] == "10"
    (stopped,) = runner.of_kind("stop")
    assert (stopped["frame"], stopped["by"]) == (4, "SIGTERM")
    told = runner.told()
    after = told[told.index(stopped) + 1 :]
    assert [(record["kind"], record["cause"]) for record in after] == [("gone", "cancelled")] * 2
    assert outcome.document["capital"]["reserved"] == "0"
    assert runner.live_state()["status"] == "stopped"
    assert runner.history() == []


def test_a_stopped_run_repeats_its_stop_and_goes_on_to_the_end(runner: Runner) -> None:
    runner.start({4: stop})
    stopped = runner.told()
    assert runner.start().status is Status.FINISHED
    assert runner.told()[: len(stopped)] == stopped
    assert runner.told()[len(stopped)]["kind"] != "stop"
    assert len(runner.history()) == 1
    again = runner.left()
    runner.forget()
    runner.start({4: stop})
    assert to_the_end(runner) == again


def test_a_run_stopped_at_every_frame_goes_on_each_time(runner: Runner) -> None:
    for frame in range(12):
        assert runner.start({frame: stop}).status is Status.STOPPED
    assert [record["frame"] for record in runner.of_kind("stop")] == list(range(12))
    assert runner.start().status is Status.FINISHED


def test_a_stop_during_the_repetition_changes_nothing_on_disk(runner: Runner) -> None:
    first = runner.start({9: stop})
    before = runner.files()
    outcome = runner.start({4: stop})
    assert outcome.status is Status.STOPPED
    assert outcome.document == first.document
    assert runner.files() == before
    assert runner.start().status is Status.FINISHED


# --- halting


def test_a_broken_limit_halts_latches_and_is_refused_until_it_is_cleared(runner: Runner) -> None:
    limited = runner.with_params(max_drawdown=0.03)
    outcome = limited.start()
    assert outcome.status is Status.HALTED
    assert outcome.document["status"] == "halted"
    assert [halt["why"] for halt in outcome.document["halts"]] == ["drawdown"]
    assert outcome.document["capital"]["reserved"] == "0"
    latch = runner.switch.closed()
    assert latch is not None
    assert (latch["reason"], latch["by"]) == ("drawdown", "quote-run")
    before = limited.files()
    with pytest.raises(Refused, match=r"run small is halted since .* by quote-run: drawdown, .*; look, then `halt --run small --clear"):
        limited.start()
    assert limited.files() == before
    assert runner.live_state()["status"] == "halted"


def test_a_halt_is_exit_77_of_the_command(runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yaml = tmp_path / "run.yaml"
    yaml.write_text(f"run_id: {RUN_ID}\nrecording: {runner.run.recording}\nparams: {json.dumps({**PARAMS, 'max_drawdown': 0.03})}\n")
    command = ["--config", str(yaml), "--state", str(runner.state.root), "--json"]
    assert cli.run(quote_run, command) == 77
    assert json.loads(capsys.readouterr().out)["status"] == "halted"
    assert cli.run(quote_run, command) == 77
    assert len(capsys.readouterr().err.splitlines()) == 2  # what is run, and why not
    assert cli.run(report, [RUN_ID, "--state", str(runner.state.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "halted"


def test_a_cleared_run_goes_on_may_halt_again_and_ends(runner: Runner) -> None:
    limited = runner.with_params(max_drawdown=0.03)
    ended = to_the_end(limited, through_halts)
    halts, cleared = limited.of_kind("halt"), limited.of_kind("cleared")
    assert len(halts) >= 2
    assert len(cleared) == len(halts) == len(runner.switch.latches())
    assert {(record["by"], record["why"]) for record in cleared} == {("ben", "looked")}
    assert [latch["halt"] for latch in runner.switch.latches()] == list(range(len(halts)))
    runner.forget()
    assert to_the_end(limited, through_halts) == ended


def test_a_halt_whose_latch_was_lost_to_a_kill_is_latched_by_the_next_start(runner: Runner) -> None:
    limited = runner.with_params(max_drawdown=0.03)
    limited.start()
    (runner.folder / "kill.json").unlink()
    with pytest.raises(Refused, match="halted since"):
        limited.start()
    assert [(latch["halt"], latch["cleared"]) for latch in runner.switch.latches()] == [(0, None)]


def test_the_journal_remembers_who_cleared_a_halt_when_the_switch_is_lost(runner: Runner) -> None:
    limited = runner.with_params(max_drawdown=0.03)
    limited.start()
    runner.switch.clear(**CLEARED)
    assert limited.start({8: stop}).status is Status.STOPPED
    (runner.folder / "kill.json").unlink()
    again = limited.start({9: stop})
    assert again.status is Status.STOPPED
    assert len(limited.of_kind("halt")) == 1


def test_a_halt_by_hand_takes_effect_at_a_frame_that_the_journal_names(runner: Runner) -> None:
    outcome = runner.start({5: latch_once(runner)})
    assert outcome.status is Status.HALTED
    (halt,) = runner.of_kind("halt")
    assert (halt["frame"], halt["by"], halt["why"], halt["detail"], halt["latch"]) == (5, "anna", "kill_latched", "lunch", 0)
    assert len(runner.switch.latches()) == 1
    with pytest.raises(Refused, match="by anna: manual, lunch"):
        runner.start()
    runner.switch.clear(**CLEARED)
    assert runner.start().status is Status.FINISHED
    (cleared,) = runner.of_kind("cleared")
    assert (cleared["frame"], cleared["by"]) == (5, "ben")


def test_a_halt_by_hand_does_not_hide_a_limit_that_breaks_in_the_same_frame(runner: Runner) -> None:
    limited = runner.with_params(max_drawdown=0.03)
    frame = limited.start().document["events"]["frames"] - 1
    runner.forget()
    assert limited.start(within={frame: latch_once(runner)}).status is Status.HALTED
    assert [(latch["reason"], latch["halt"]) for latch in runner.switch.latches()] == [("manual", None), ("drawdown", 0)]
    assert [halt["why"] for halt in limited.of_kind("halt")] == ["drawdown"]
    assert through_halts(limited).status is Status.FINISHED
    assert limited.of_kind("cleared")[0]["frame"] == frame + 1


def test_a_limit_that_breaks_after_a_repeated_halt_by_hand_is_a_halt_of_its_own(runner: Runner) -> None:
    limited = runner.with_params(max_drawdown=0.03)
    outcome = through_halts(limited, before={2: latch_once(runner)})
    whys = [halt["why"] for halt in outcome.document["halts"]]
    assert whys[0] == "kill_latched"
    assert set(whys[1:]) == {"drawdown"}
    assert [latch["halt"] for latch in runner.switch.latches()] == [None, *range(1, len(whys))]


def test_a_run_halted_while_it_does_not_run_does_not_start_and_is_later_the_undisturbed_one(runner: Runner) -> None:
    runner.start({6: stop})
    expected = to_the_end(runner)
    runner.forget()
    runner.start({6: stop})
    runner.switch.latch(reason="manual", detail="holiday", by="anna")
    with pytest.raises(Refused, match=r"halted since .* by anna"):
        runner.start()
    runner.switch.clear(**CLEARED)
    ended = to_the_end(runner)
    assert (ended.document, ended.told, ended.trades, ended.others) == (
        expected.document, expected.told, expected.trades, expected.others,
    )  # fmt: skip
    assert runner.of_kind("halt") == []


def test_reduce_only_winds_down_and_its_end_quotes_both_sides_again(runner: Runner) -> None:
    document = runner.start_with_people().document
    (asked,) = runner.of_kind("reduce_only")
    (cleared,) = runner.of_kind("cleared")
    assert (asked["frame"], asked["by"], asked["latch"]) == (5, "anna", 0)
    assert (cleared["frame"], cleared["by"], cleared["latch"]) == (7, "ben", 0)
    told = runner.told()
    between = told[told.index(asked) : told.index(cleared)]
    assert [record for record in between if record["kind"] == "place"] == []
    assert [record["size"] for record in between if record["kind"] == "merge"] == ["6"]
    after = {(record["token"], record["side"]) for record in told[told.index(cleared) :] if record["kind"] == "place"}
    assert {("YES", "BUY"), ("NO", "BUY")} <= after
    assert document["quotes"]["skipped"]["reduce_only"] > 0
    assert document["rebalances"] == {"merge": 1}


def test_reduce_only_asked_while_not_running_takes_effect_at_the_next_start(runner: Runner) -> None:
    runner.start({5: stop})
    runner.switch.latch(reason="manual", detail="wind down", by="anna", reduce_only=True)
    assert runner.start().status is Status.FINISHED
    (asked,) = runner.of_kind("reduce_only")
    assert asked["frame"] == 6  # at 5 the stop is repeated still
    assert runner.live_state()["markets"]["hail"]["kill_switch"] == "reduce_only"


def test_a_broken_kill_switch_is_not_an_open_one(runner: Runner) -> None:
    runner.start({5: stop})
    (runner.folder / "kill.json").write_text('{"latches": []}\n')
    with pytest.raises(Refused, match=r"kill\.json"):
        runner.start()


# --- the result


def test_the_document_is_the_fold_of_the_journal_on_disk(runner: Runner) -> None:
    outcome = runner.start_with_people()
    fold = reading.fold_of(runner.state, RUN_ID)
    assert summary.document(fold) == outcome.document
    assert summary.warnings(fold) == outcome.warnings


def test_the_parts_of_the_result_add_up(runner: Runner) -> None:
    document = runner.start_with_people().document
    parts = ("spread", "inventory", "fees", "rebates", "settlement")
    for figures in (document["pnl"], *document["markets"].values()):
        assert parse(figures["total"]) == sum(parse(figures[part]) for part in parts)
    orders = document["orders"]
    assert orders["sent"] == orders["accepted"] + sum(orders["rejected"].values()) + orders["unknown"]
    assert orders["sent"] == len(runner.of_kind("place"))
    assert document["fills"]["count"] == len(runner.of_kind("fill"))


def test_the_same_run_under_another_name_has_the_same_ledger(runner: Runner) -> None:
    first = runner.start().document
    other = session.execute(runner.run, runner.feed, runner.state, run_id="other").document
    replayed = replay(runner.run, runner.feed, run_id="replayed").document
    for document in (other, replayed):
        assert {**document, "run_id": RUN_ID} == first
    assert [line["run_id"] for line in runner.history()] == [RUN_ID, "other"]


def test_the_ledger_hash_changes_with_one_fill(runner: Runner, tmp_path: Path) -> None:
    more = game().taker(149, "SELL", "0.45", 0.5).write(tmp_path / "more.jsonl")
    document = Runner(tmp_path / "state", config(more)).start().document
    first = runner.start().document
    assert document["fills"]["count"] == first["fills"]["count"] + 1
    assert document["ledger_sha256"] != first["ledger_sha256"]


def test_orders_that_rest_at_the_end_are_cancelled(tmp_path: Path) -> None:
    script = Script().book(0).book(30, LOWER_BIDS, LOWER_ASKS).book(30.02)
    orders = Runner(tmp_path / "state", config(script.write(tmp_path / "short.jsonl"), latency_ms=40)).start().document["orders"]
    assert (orders["sent"], orders["accepted"], orders["unknown"], orders["cancelled"]) == (2, 2, 0, 2)


def test_orders_in_flight_at_the_end_are_unknown(tmp_path: Path) -> None:
    script = Script().book(0).book(0.02, LOWER_BIDS, LOWER_ASKS)
    runner = Runner(tmp_path / "state", config(script.write(tmp_path / "cut.jsonl"), latency_ms=40))
    orders = runner.start().document["orders"]
    assert (orders["sent"], orders["accepted"], orders["unknown"], orders["cancelled"]) == (2, 0, 2, 0)
    assert [record["cause"] for record in runner.of_kind("gone")] == ["unknown"] * 2


def test_a_resolution_pays_out_and_is_settlement(tmp_path: Path) -> None:
    script = Script().book(0).taker(1, "SELL", "0.46", 30).book(10).resolved(20, yes=True)
    runner = Runner(tmp_path / "state", config(script.write(tmp_path / "over.jsonl")))
    document = runner.start().document
    assert document["pnl"]["settlement"] == "5.25"  # 10 YES marked at 0.475
    assert document["position"]["hail"] == {"yes": "0", "no": "0", "net": "0", "cost": "0"}
    assert document["capital"] == {"start": "12", "free": "17.3", "reserved": "0"}
    (resolution,) = runner.of_kind("resolution")
    assert (resolution["payout_yes"], resolution["mark"]) == ("1", "0.475")
    assert [record["cause"] for record in runner.of_kind("gone")][-2:] == ["resolved"] * 2
