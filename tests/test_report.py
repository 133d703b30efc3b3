"""report from outside: the result of a run again, whatever became of the run, and the list of runs."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from commandline import Run, call, config, end, main_of, quote, start, wait_for_journal
from faults import run_with_fault

from mmtools import cli, outbox
from mmtools.ops import jobs
from mmtools.state import StateDir
from mmtools.trading.market import Outcome, yes_price
from mmtools.units import parse

SHORT = "feed: synthetic\nduration_hours: 0.1\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("report")
    return quote(folder / "state", "--config", config(folder / "run.yaml", SHORT + "run_id: done\n"))


def killed_run(state: Path, path: Path, *, at_write: int) -> None:
    """Leave what a run leaves that is killed at that change to the disk."""
    args = ["--config", str(path), "--state", str(state)]
    outcome = run_with_fault(at_write, "kill-before", lambda: cli.run(main_of("quote_run"), args))
    assert outcome.signal == signal.SIGKILL


def statuses(state: Path) -> dict[str, str]:
    said = call("report", "--list", "--state", state, "--json")
    assert said.code == 0
    assert said.document["schema"] == "mmtools.runs/1"
    return {line["run_id"]: line["status"] for line in said.document["runs"]}


def test_the_report_of_a_finished_run_is_what_the_run_said_itself(finished: Run) -> None:
    assert call("report", "done", "--state", finished.state, "--json").document == finished.document


def test_the_table_shows_what_the_run_showed_and_the_markouts_of_its_fills(tmp_path: Path) -> None:
    said = call("quote_run", "--config", config(tmp_path / "run.yaml", SHORT + "run_id: shown\n"), "--state", tmp_path)
    shown = call("report", "shown", "--state", tmp_path).out
    assert shown.startswith(said.out)
    curves = call("report", "shown", "--state", tmp_path, "--json").document["markouts"]["synthetic-1"]
    for token, curve in curves.items():
        row = re.search(rf"synthetic-1 +{token} +(\d+) .*", shown.removeprefix(said.out))
        assert (row is not None) == (curve["1"]["fills"] > 0)
        for at in curve.values():
            assert row is None or at["per_share"] is None or f"{float(at['per_share']) * 100:+.2f}" in row[0]


EXPLAINED = "feed: synthetic\nduration_hours: 0.5\nrun_id: asked\n"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("asked")
    return quote(folder, "--config", config(folder / "run.yaml", EXPLAINED))


def explained(run: Run, *arguments: str) -> dict[str, Any]:
    said = call("report", "explain", run.id, *arguments, "--state", run.state, "--json")
    assert said.code == 0
    assert said.document["schema"] == "mmtools.explain/1"
    assert said.document["run_id"] == run.id
    return said.document


def test_a_fill_is_explained_by_its_trade_its_order_and_the_decision_that_sent_it(asked: Run) -> None:
    trades = [json.loads(line) for line in (asked.folder / "trades.jsonl").read_text().splitlines()]
    trade = trades[len(trades) // 2]
    (told,) = explained(asked, "--fill", trade["trade_id"])["fills"]
    assert told["trade"] == trade
    order = told["order"]
    assert (order["key"], order["price"], order["size"]) == (trade["order_key"], trade["price"], trade["size"])
    decision = order["decision"]
    quoted = decision["bid" if (trade["token"] == "YES") == (trade["side"] == "BUY") else "ask"]
    assert parse(quoted["price"]) == yes_price(Outcome(trade["token"]), parse(trade["price"]))
    assert decision["fair_ticks"] - decision["skew_ticks"] == pytest.approx(decision["reservation_ticks"], abs=2e-6)
    assert explained(asked, "--order", order["key"])["order"] == order
    assert explained(asked, "--order", order["order_id"])["order"] == order


def test_a_moment_is_explained_by_the_last_decision_before_it_and_what_rested(asked: Run) -> None:
    (market,) = explained(asked, "--at", "2026-01-01T00:06:00Z", "--market", "synthetic-1")["markets"]
    assert 0 <= market["decision_age_s"] <= 60
    assert market["orders"]
    assert all(order["gone_at"] is None for order in market["orders"])
    said = call("report", "explain", asked.id, "--at", "2026-01-01T00:06:00Z", "--state", asked.state)
    for word in ("regime", "fair", "volatility", "skew", "model", "bid", "ask", "gamma_risk_aversion"):
        assert word in said.out
    assert said.err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "saying"),
    [
        ((), 2, "say one of --at TIME, --order ID and --fill ID"),
        (("--fill", "paper-t1", "--order", "o1"), 2, "say one of"),
        (("--order", "o1", "--market", "synthetic-1"), 2, "--market goes with --at"),
        (("--at", "noon"), 2, "--at noon: is no time in ISO 8601"),
        (("--at", "2031-01-01"), 2, "name a time within"),
        (("--at", "2020-01-01"), 2, "the run began later than that"),
        (("--at", "2026-01-01T00:06:00Z", "--market", "elsewhere"), 2, "does not quote market elsewhere; it quotes synthetic-1"),
        (("--order", "o999999"), 2, "the run has no order o999999"),
        (("--fill", "paper-t999999"), 2, "the run has no fill paper-t999999"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_line(arguments: tuple[str, ...], code: int, saying: str, asked: Run) -> None:
    said = call("report", "explain", asked.id, *arguments, "--state", asked.state)
    assert (said.code, said.out) == (code, "")
    assert saying in said.err
    assert said.err.count("\n") == 1


def test_an_unknown_run_is_not_explained(asked: Run) -> None:
    said = call("report", "explain", "nobody", "--fill", "paper-t1", "--state", asked.state)
    assert said.code == 77
    assert "there is no run nobody" in said.err


def test_without_a_name_it_is_the_newest(tmp_path: Path) -> None:
    for run_id in ("zebra", "aardvark"):
        quote(tmp_path, "--config", config(tmp_path / "run.yaml", SHORT + f"run_id: {run_id}\n"))
    assert call("report", "--state", tmp_path, "--json").document["run_id"] == "aardvark"
    assert list(statuses(tmp_path)) == ["zebra", "aardvark"]


def test_a_report_changes_nothing(finished: Run) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in finished.state.rglob("*")}
    call("report", "done", "--state", finished.state)
    call("report", "--list", "--state", finished.state)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in finished.state.rglob("*")} == before


def test_a_killed_run_is_reported_as_unfinished(tmp_path: Path) -> None:
    path = config(tmp_path / "run.yaml", SHORT + "run_id: killed\n")
    killed_run(tmp_path, path, at_write=120)
    document = call("report", "killed", "--state", tmp_path, "--json").document
    assert document["status"] == "unfinished"
    assert 0 < document["duration_s"] < 360
    assert document["orders"]["sent"] > 0
    assert statuses(tmp_path) == {"killed": "unfinished"}


def test_each_run_of_the_list_has_its_status(tmp_path: Path) -> None:
    quote(tmp_path, "--config", config(tmp_path / "a.yaml", SHORT + "run_id: a-done\n"))
    halting = config(tmp_path / "b.yaml", SHORT + "run_id: b-halted\nparams: {max_drawdown: 0.01}\n")
    assert call("quote_run", "--config", halting, "--state", tmp_path).code == 77
    killed_run(tmp_path, config(tmp_path / "c.yaml", SHORT + "run_id: c-killed\n"), at_write=120)
    process = start(tmp_path, "--config", config(tmp_path / "d.yaml", "feed: synthetic\nduration_hours: 8000\nrun_id: d-long\n"))
    wait_for_journal(tmp_path / "runs" / "d-long", process)
    expected = {"a-done": "finished", "b-halted": "halted", "c-killed": "unfinished"}
    assert statuses(tmp_path) == {**expected, "d-long": "running"}
    assert call("report", "d-long", "--state", tmp_path, "--json").document["status"] == "running"
    process.send_signal(signal.SIGTERM)
    assert end(process).code == 0
    assert statuses(tmp_path) == {**expected, "d-long": "stopped"}
    table = call("report", "--list", "--state", tmp_path).out
    assert [line.split()[:2] for line in table.splitlines()[2:]] == [list(line) for line in statuses(tmp_path).items()]


def test_a_run_that_cannot_be_read_is_named_and_hides_no_other(tmp_path: Path) -> None:
    quote(tmp_path, "--config", config(tmp_path / "run.yaml", SHORT + "run_id: good\n"))
    for run_id, journal in (("empty", ""), ("torn", "{\nnot JSON\n{}\n")):
        (tmp_path / "runs" / run_id).mkdir()
        (tmp_path / "runs" / run_id / "journal.jsonl").write_text(journal)
    assert statuses(tmp_path) == {"good": "finished", "empty": "unreadable", "torn": "unreadable"}
    assert call("report", "--list", "--state", tmp_path).out.count("unreadable") == 2
    for run_id in ("empty", "torn"):
        said = call("report", run_id, "--state", tmp_path)
        assert said.code == 77
        assert said.err.count("\n") == 1


@pytest.mark.parametrize("name", ["nobody", "../done", "."])
def test_a_run_that_is_not_there_is_refused(finished: Run, name: str) -> None:
    said = call("report", name, "--state", finished.state, "--json")
    assert said.code == 77
    assert said.err == f"report: there is no run {name} in {finished.state}; `report --list` names those there are\n"
    assert said.document["error"]["kind"] == "refused"


def test_without_any_run_it_says_how_to_make_one(tmp_path: Path) -> None:
    said = call("report", "--state", tmp_path / "state")
    assert said.code == 77
    assert "quote-run --demo" in said.err
    assert call("report", "--list", "--state", tmp_path / "state").out == "no runs yet\n"
    assert not (tmp_path / "state").exists()


def test_as_a_job_it_keeps_how_it_ended_and_no_run_yet_is_no_failure(tmp_path: Path) -> None:
    assert call("report", "--state", tmp_path).code == 77
    said = call("report", "--job", "--state", tmp_path)
    assert (said.code, said.out) == (0, "no runs yet\n")
    quote(tmp_path, "--config", config(tmp_path / "run.yaml", "duration_hours: 0.05\n"), "--run-id", "small")
    assert call("report", "--job", "--state", tmp_path).out == call("report", "--state", tmp_path).out
    state = StateDir(tmp_path)
    assert jobs.all_jobs(state)["report"]["failures"] == 0
    journal = tmp_path / "runs" / "small" / "journal.jsonl"
    journal.write_bytes(b"{}\n" + journal.read_bytes())
    assert call("report", "--job", "--state", tmp_path).code == 77
    (alert,) = outbox.alerts(state).values()
    assert alert["text"].startswith("report failed: run small: line 1 of its journal")
