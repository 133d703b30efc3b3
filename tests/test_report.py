"""report from outside: the result of a run again, whatever became of the run, and the list of runs."""

import signal
from pathlib import Path

import pytest
from commandline import Run, call, config, end, main_of, quote, start, wait_for_journal
from faults import run_with_fault

from mmtools import cli

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


def test_the_table_shows_what_the_run_showed(tmp_path: Path) -> None:
    said = call("quote_run", "--config", config(tmp_path / "run.yaml", SHORT + "run_id: shown\n"), "--state", tmp_path)
    assert call("report", "shown", "--state", tmp_path).out == said.out


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
