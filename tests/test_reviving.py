"""status-update --recover starts a crashed run again: only its own, only what crashed, within policy and budget, and once."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE_S, Record, Said, call, config, start, wait_for_journal
from status_worlds import be_alone

from mmtools import outbox, restarts
from mmtools.ops.quoters import Standing, quoter
from mmtools.restarts import Owner
from mmtools.runs.switch import Switch
from mmtools.state import StateDir


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with two runs that were killed while they moved: ours, and that of a unit."""
    folder = tmp_path_factory.mktemp("made")
    for owner in (Owner.STATUS_UPDATE, Owner.SYSTEMD):
        text = f"feed: synthetic\nduration_hours: 8000\nrun_id: of-{owner}\nowner: {owner}\n"
        process = start(folder / "state", "--config", config(folder / f"{owner}.yaml", text))
        wait_for_journal(folder / "state" / "runs" / f"of-{owner}", process)
        process.kill()
        process.communicate(timeout=PATIENCE_S)
    return folder / "state"


@pytest.fixture
def state(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateDir]:
    be_alone(tmp_path, monkeypatch)
    copy = StateDir(Path(shutil.copytree(made, tmp_path / "state")))
    yield copy
    if copy.is_locked("runs/of-status-update"):
        stop(copy)


def stop(state: StateDir) -> None:
    """End the run that was started again, by its own id, and wait until it has let go."""
    live = quoter(state, "of-status-update").live
    assert live is not None
    os.kill(live["pid"], signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    while state.is_locked("runs/of-status-update"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def recover(state: StateDir, *args: str | Path) -> Said:
    return call("status_update", "--alerts", "--recover", "--no-send", "--json", "--state", state.root, *args)


def only(said: Said) -> Record:
    found: Record
    (found,) = said.document["revivals"]
    return found


def levels(state: StateDir, prefix: str) -> list[Any]:
    return [alert["level"] for key, alert in outbox.alerts(state).items() if key.startswith(prefix)]


def test_its_own_crashed_run_goes_on_and_that_of_another_is_left_alone(state: StateDir) -> None:
    first = recover(state)
    assert first.code == 1
    assert (only(first)["run_id"], only(first)["revived"]) == ("of-status-update", True)
    assert quoter(state, "of-status-update").standing is Standing.RUNNING
    assert quoter(state, "of-systemd").standing is Standing.CRASHED
    assert [(each.what, each.owner, each.result) for each in restarts.attempts(state)] == [
        ("run:of-status-update", "status-update", "done")
    ]
    assert levels(state, "revived:of-status-update:") == ["info"]
    second = recover(state)
    assert second.document["revivals"] == []
    assert len(restarts.attempts(state)) == 1


def test_without_the_option_nothing_is_started(state: StateDir) -> None:
    said = call("status_update", "--no-send", "--json", "--state", state.root)
    assert said.document["revivals"] is None
    assert restarts.attempts(state) == []
    assert quoter(state, "of-status-update").standing is Standing.CRASHED


def test_a_dry_run_says_what_it_would_do_and_does_not(state: StateDir) -> None:
    said = recover(state, "--dry-run")
    assert only(said) == {"run_id": "of-status-update", "revived": None, "why": "it would be started again"}
    assert restarts.attempts(state) == []
    assert quoter(state, "of-status-update").standing is Standing.CRASHED


def test_a_run_that_was_halted_is_not_started(state: StateDir) -> None:
    Switch(state, "of-status-update").latch(reason="manual", detail="the news is out", by="anna")
    assert recover(state).document["revivals"] == []
    assert restarts.attempts(state) == []


def test_what_the_policy_forbids_is_told_and_not_done(state: StateDir, tmp_path: Path) -> None:
    ops = config(tmp_path / "ops.yaml", "policy:\n  recover-run:\n    level: forbidden\n")
    for _ in range(2):
        said = recover(state, "--config", ops)
        assert only(said)["revived"] is False
        assert "forbidden" in only(said)["why"]
    assert levels(state, "not-revived:of-status-update:") == ["critical"]
    assert restarts.attempts(state) == []


@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_a_run_whose_budget_is_spent_stays_where_it_is(option: list[str], state: StateDir) -> None:
    for n in range(restarts.MOST):
        restarts.attempt(state, "run:of-status-update", owner=Owner.STATUS_UPDATE, why=f"crash {n}")
    said = only(recover(state, *option))
    assert said["revived"] is False
    assert "3 times within 60 minutes" in said["why"]
    assert len(restarts.attempts(state)) == restarts.MOST
