"""status-update from outside: on real state folders with real runs, a manager that is a program on PATH, and a gateway that may hang."""

import hashlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE_S, ROOT, Said, call, config, end, main_of, quote, start, wait_for_journal
from faults import ERRORS, KILLS, Kind, every_fault
from small_runs import runner_of_the_game
from status_worlds import HANGS, be_alone, place_systemctl

from mmtools import cli, outbox
from mmtools.ops import jobs
from mmtools.runs import session
from mmtools.state import StateDir

SHORT = "feed: synthetic\nduration_hours: 0.05\nrun_id: game\n"
ENDLESS = "feed: synthetic\nduration_hours: 8000\nrun_id: endless\n"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be_alone(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two state folders: with a run that ended in order, and with one that was killed while it moved besides."""
    folder = tmp_path_factory.mktemp("made")
    state = quote(folder / "ended", "--config", config(folder / "run.yaml", SHORT)).state
    crashed = Path(shutil.copytree(state, folder / "crashed"))
    process = start(crashed, "--config", config(folder / "endless.yaml", ENDLESS))
    wait_for_journal(crashed / "runs" / "endless", process)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    return folder


@pytest.fixture
def state(made: Path, tmp_path: Path) -> Path:
    """A state folder with a run that ended in order."""
    return Path(shutil.copytree(made / "ended", tmp_path / "state"))


@pytest.fixture
def crashed(made: Path, tmp_path: Path) -> Path:
    """The same with a run that was killed while it moved."""
    return Path(shutil.copytree(made / "crashed", tmp_path / "state"))


@pytest.fixture
def hung() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def update(state: Path, *args: str | Path) -> Said:
    return call("status_update", "--no-send", "--state", state, *args)


def process_of(state: Path, *args: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "mmtools.commands.status_update", "--no-send", "--json", "--state", str(state), *map(str, args)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def kinds(said: Said) -> list[str]:
    return [f"{finding['kind']}:{finding['subject']}" for finding in said.document["findings"]]


def alerts_of(state: Path) -> dict[str, Any]:
    return dict(outbox.alerts(StateDir(state)))


def tree(*folders: Path) -> dict[str, tuple[str, int]]:
    """Return content and time of change of everything under folders."""
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "", path.stat().st_mtime_ns)
        for folder in folders
        for path in sorted(folder.rglob("*"))
    }


# --- what it shows


def test_where_all_is_well_it_exits_with_0_and_shows_the_runs(state: Path) -> None:
    said = update(state)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].endswith(": nothing is wrong")
    assert lines[1].startswith("run game (paper): finished, P&L ")
    assert json.loads((state / "outbox" / "status.json").read_text())["text"] == said.out.rstrip("\n")


def test_an_empty_folder_is_well(tmp_path: Path) -> None:
    said = update(tmp_path / "none")
    assert said.code == 0
    assert "no run of the last day" in said.out


def test_a_run_that_was_killed_is_crashed_and_told_once(crashed: Path) -> None:
    first, second = update(crashed, "--json"), update(crashed, "--json")
    assert first.code == second.code == 1
    assert kinds(first) == kinds(second) == ["crash:endless"]
    (run,) = (run for run in first.document["facts"]["runs"]["value"] if run["run_id"] == "endless")
    assert run["standing"] == "crashed"
    (alert,) = first.document["alerts"]
    assert second.document["alerts"] == []
    assert alert["key"] == f"crash:endless:{run['live']['at']}"
    assert list(alerts_of(crashed)) == [alert["key"]]


def test_a_run_that_lives_is_shown_as_running_by_its_lock(state: Path, tmp_path: Path) -> None:
    process = start(state, "--config", config(tmp_path / "endless.yaml", ENDLESS))
    try:
        wait_for_journal(state / "runs" / "endless", process)
        said = update(state)
        assert said.code == 0
        assert "run endless (paper): running, P&L " in said.out
    finally:
        process.send_signal(signal.SIGTERM)
        end(process)


def test_the_document_holds_every_fact_with_its_time(state: Path) -> None:
    document = update(state, "--json").document
    assert document["schema"] == "mmtools.status_update/1"
    assert document["findings"] == document["alerts"] == []
    assert document["card"].splitlines()[0].startswith("mmtools on ")
    shown = document["facts"]
    for name in ("runs", "gateway", "memory", "stores", "crons", "jobs", "outbox", "restarts"):
        assert shown[name].keys() == {"at", "value"}, name
    assert shown["units"] == {"user/openclaw-gateway.service": shown["units"]["user/openclaw-gateway.service"]}
    assert {"at", "value"} == shown["disks"]["state"].keys()


def test_the_job_of_every_minute_makes_no_status_and_shows_only_what_is_wrong(crashed: Path) -> None:
    said = update(crashed, "--alerts")
    assert said.code == 1
    assert len(said.out.splitlines()) == 2
    assert said.out.splitlines()[1].startswith("WARNING: run endless crashed")
    assert not (crashed / "outbox" / "status.json").exists()
    assert list(alerts_of(crashed))
    assert (crashed / "jobs" / "status-alerts.json").exists()


def test_the_figures_for_prometheus_are_written_where_the_option_or_the_settings_say(state: Path, tmp_path: Path) -> None:
    by_option, by_settings = tmp_path / "a.prom", tmp_path / "b.prom"
    ops = config(tmp_path / "ops.yaml", f"textfile: {by_settings}\n")
    assert update(state, "--config", ops, "--textfile", by_option).code == 0
    assert not by_settings.exists()
    assert update(state, "--config", ops, "--alerts").code == 0
    for file in (by_option, by_settings):
        assert 'mmtools_run_up{run="game",venue="paper"} 0\n' in file.read_text()


def test_a_textfile_that_cannot_be_written_keeps_no_alert_back(crashed: Path, tmp_path: Path) -> None:
    said = update(crashed, "--textfile", tmp_path / "none" / "a.prom", "--json")
    assert said.code == 78
    assert "a.prom" in said.document["error"]["message"]
    assert any(key.startswith("crash:endless") for key in alerts_of(crashed))
    assert (crashed / "outbox" / "status.json").exists()


@pytest.mark.parametrize(("text", "code"), [("openclaw: 7\n", 78), ("nonsense: 1\n", 78)])
def test_wrong_settings_are_said(text: str, code: int, state: Path, tmp_path: Path) -> None:
    said = update(state, "--config", config(tmp_path / "ops.yaml", text), "--json")
    assert (said.code, said.document["error"]["kind"]) == (code, "misconfigured")


# --- alone, interrupted, without a trace


@pytest.mark.parametrize("args", [[], ["--alerts"], ["--dry-run"]])
def test_a_second_one_at_once_is_told_to_try_later(args: list[str], state: Path) -> None:
    with StateDir(state).lock("status-alerts" if "--alerts" in args else "status-update"):
        said = update(state, *args, "--json")
    assert (said.code, said.document["error"]["kind"]) == (75, "try_later")


def test_the_job_of_every_minute_and_that_of_every_hour_do_not_wait_for_each_other(state: Path) -> None:
    with StateDir(state).lock("status-alerts"):
        assert update(state).code == 0


def test_a_dry_run_decides_the_same_and_changes_no_byte(crashed: Path, tmp_path: Path) -> None:
    (crashed / "runs" / "game" / "live_state.json").write_text("{broken")
    file = tmp_path / "a.prom"
    before = tree(crashed, tmp_path)
    dry = update(crashed, "--dry-run", "--json", "--textfile", file)
    assert tree(crashed, tmp_path) == before
    wet = update(crashed, "--json", "--textfile", file)
    assert kinds(dry) == kinds(wet) == ["crash:endless", "unclear:game"]
    assert dry.code == wet.code == 1
    assert [alert["key"] for alert in dry.document["alerts"]] == [alert["key"] for alert in wet.document["alerts"]]


def test_sigterm_while_it_asks_ends_it_with_one_document_and_130(state: Path, tmp_path: Path) -> None:
    place_systemctl(tmp_path, before=HANGS)
    process = process_of(state)
    locks = state / "locks" / "status-update.lock"
    try:
        while not (locks.exists() and StateDir(state).is_locked("status-update")):
            assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
    said = end(process)
    assert (said.code, said.document["error"]["kind"]) == (130, "interrupted")
    assert not StateDir(state).is_locked("status-update")


def test_it_ends_soon_though_everything_it_asks_hangs(hung: str, crashed: Path, tmp_path: Path) -> None:
    place_systemctl(tmp_path, before=HANGS)
    (tmp_path / "openclaw").mkdir()
    ops = config(tmp_path / "ops.yaml", f"openclaw:\n  url: {hung}\nservices:\n  - unit: model.service\n    manager: system\n")
    said = end(process_of(crashed, "--config", ops))
    assert said.code == 1
    assert {"gateway:openclaw", "crash:endless", "unseen:system/model.service"} <= set(kinds(said))
    assert said.document["facts"]["gateway"]["value"]["health"] == "hung"


# --- killed, and a disk that is full


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder, in memory where that can be, with a small run that was killed."""
    with runner_of_the_game(tmp_path, monkeypatch) as runner:
        monkeypatch.setattr(session, "LIVE_STATE_EVERY_S", 0.0)
        runner.cut_off(5)
        yield runner.state.root


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in ("kill-after", "enospc-half") else pytest.mark.slow) for kind in (*KILLS, *ERRORS)]
)
def test_killed_or_out_of_disk_anywhere_it_says_so_and_the_next_one_tells_what_there_is_once(
    kind: Kind, dead: Path, tmp_path: Path
) -> None:
    file, state = tmp_path / "a.prom", dead.parent / "copy"
    args = ["--no-send", "--textfile", str(file), "--json", "--state", str(state)]
    shutil.copytree(dead, state)
    hits = 0
    for outcome in every_fault(kind, lambda: cli.run(main_of("status_update"), args)):
        assert outcome.signal == (signal.SIGKILL if outcome.reached and kind in KILLS else None)
        if outcome.signal is None:
            assert outcome.status in (1, 75), outcome.stderr
            assert json.loads(outcome.stdout)["schema"] == ("mmtools.error/1" if outcome.status == 75 else "mmtools.status_update/1")
        assert call("status_update", *args).code == 1
        assert len([key for key in alerts_of(state) if key.startswith("crash:")]) == 1
        assert file.read_text().endswith("\n")
        assert (state / "outbox" / "status.json").exists()
        assert jobs.all_jobs(StateDir(state))["status-update"]["failures"] == 0
        hits += outcome.reached
        shutil.rmtree(state)
        shutil.copytree(dead, state)
    assert hits > 20


# a unit that failed


def test_a_unit_that_failed_is_told_of_each_time_and_a_job_of_ours_once_a_day_for_each_way(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd starts it for each failure (OnFailure=), and names the unit in its environment."""

    def told(unit: str, exit_code: str, invocation: str) -> int:
        for name, value in (("UNIT", unit), ("SERVICE_RESULT", "exit-code"), ("EXIT_STATUS", exit_code), ("INVOCATION_ID", invocation)):
            monkeypatch.setenv(f"MONITOR_{name}", value)
        call("status_update", "--alerts", "--no-send", "--state", state)
        alerts = [each for key, each in outbox.alerts(StateDir(state)).items() if key.startswith(f"unit:{unit}:")]
        assert alerts[-1]["text"] == f"{unit} failed (exit-code, exit {exit_code}); `journalctl --user -u {unit}` has its last words"
        return len(alerts)

    assert [told("openclaw-gateway.service", "1", "a"), told("openclaw-gateway.service", "1", "b")] == [1, 2]
    monkeypatch.setattr(time, "time_ns", lambda: 1_795_737_600_000_000_000)  # midnight is not to fall between two of them
    assert [told("mmtools-memory.service", *each) for each in (("77", "c"), ("77", "d"), ("70", "e"))] == [1, 1, 2]
