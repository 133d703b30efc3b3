"""Dead sessions in a recovery: pruned as prune-sessions does it, once and to the trash, where the rules and the store allow it."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import Said, call
from faults import ERRORS, KILLS, Kind, Outcome, every_fault, run_with_fault
from gateways import FakeGateway, put_openclaw_first
from machines import Machine, died_once, machine_with

from mmtools import outbox
from mmtools.errors import TryLater
from mmtools.moments import Moment, now_ms
from mmtools.ops import dead_sessions, recovery, settings, snapshots

HOUR_MS = 3_600_000
DEAD, FRESH = "agent:main:cron:8a6a:run:51b4", "agent:main:cron:8a6a:run:77c0"


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with machine_with(died_once(tmp_path_factory), tmp_path, monkeypatch) as lent:
        lent.stop()
        fill(lent)
        snapshots.take(lent.state, load(lent), why="test")
        yield lent


def load(machine: Machine) -> settings.Settings:
    return settings.load(str(machine.settings))


def store(machine: Machine) -> Path:
    return machine.claw / "agents/main/sessions/sessions.json"


def fill(machine: Machine) -> None:
    """Put a chat, a cron run of two hours ago, and one of two days ago into the store."""
    ages_h = {"agent:main:main": 240, DEAD: 48, FRESH: 2}
    entries = {key: {"sessionId": key.rpartition(":")[2], "updatedAt": now_ms() - hours * HOUR_MS} for key, hours in ages_h.items()}
    store(machine).write_text(json.dumps(entries, indent=2))


def keys(machine: Machine) -> list[str]:
    return list(json.loads(store(machine).read_text()))


def recover(machine: Machine, *args: str) -> Said:
    return call("recover", "--state", machine.state.root, "--config", machine.settings, "--json", *args)


def results(said: Said) -> dict[str, tuple[str, str]]:
    return {each["key"]: (each["result"], each["detail"]) for each in said.document["results"]}


def test_a_dead_session_goes_once_to_the_trash_and_is_told(machine: Machine) -> None:
    before = machine.tree()
    dry = recover(machine, "--dry-run")
    assert (dry.code, dry.document["plan"]) == (0, [{"key": "sessions", "what": "prune 1 dead sessions", "act": True, "why": ""}])
    assert machine.tree() == before
    said = recover(machine)
    assert (said.code, results(said)) == (0, {"sessions": ("done", "1 gone")})
    assert keys(machine) == ["agent:main:main", FRESH]
    (alert,) = [alert["text"] for key, alert in outbox.alerts(machine.state).items() if key.startswith("recover:")]
    assert "prune 1 dead sessions: done, 1 gone" in alert
    again = recover(machine)
    assert (again.code, again.document["plan"]) == (0, [])
    (trash,) = (machine.claw / "agents/main/mmtools-trash").iterdir()
    undone = call("prune_sessions", "--state", machine.state.root, "--config", machine.settings, "--json", "--undo", trash.name)
    assert (undone.code, keys(machine)) == (0, ["agent:main:main", DEAD, FRESH])


def test_what_else_lies_beside_the_store_is_left_to_prune_sessions(machine: Machine) -> None:
    stray = store(machine).with_name("sessions.json.77.60000000-1111-4222-8333-555555555555.tmp")
    stray.write_text("{}")
    os.utime(stray, (1_770_000_000, 1_770_000_000))
    assert results(recover(machine))["sessions"][0] == "done"
    assert stray.exists()


@pytest.mark.parametrize(("level", "words"), [("forbidden", "is forbidden"), ("high", "nobody approves it here")])
def test_what_the_rules_do_not_allow_is_left_and_no_failure(machine: Machine, level: str, words: str) -> None:
    machine.configure(f"policy: {{prune-sessions: {{level: {level}}}}}\n")
    said = recover(machine)
    result, detail = results(said)["sessions"]
    assert (said.code, result) == (0, "left")
    assert words in detail
    assert DEAD in keys(machine)


def test_a_store_of_which_nobody_knows_whether_it_is_in_use_is_left_and_no_failure(machine: Machine) -> None:
    database = machine.claw / "agents/main/agent/openclaw-agent.sqlite"
    database.parent.mkdir()
    database.write_bytes(b"")
    said = recover(machine)
    result, detail = results(said)["sessions"]
    assert (said.code, result) == (0, "left")
    assert "which store is in use is not known" in detail
    assert DEAD in keys(machine)


def test_a_store_that_is_broken_is_left_as_it_is(machine: Machine) -> None:
    cut = store(machine).read_bytes()[:-9]
    store(machine).write_bytes(cut)
    said = recover(machine)
    assert (said.code, results(said)["sessions"][0]) == (0, "left")
    assert store(machine).read_bytes() == cut


def test_without_an_openclaw_there_is_nothing_to_prune_whatever_the_rules_say(machine: Machine) -> None:
    machine.configure("policy: {prune-sessions: {level: forbidden}}\n")
    shutil.rmtree(machine.claw)
    assert recover(machine).document["plan"] == []


def test_while_prune_sessions_runs_they_are_left_to_it(machine: Machine) -> None:
    chosen, steps = planned(machine)
    with machine.state.lock("prune-sessions"):
        said = recover(machine)
        assert (said.code, results(said)["sessions"][0]) == (0, "left")
        (ended,) = recovery.carry_out(machine.state, load(machine), chosen, steps, why="test")  # it began between plan and act
        assert ended.result is recovery.Result.LATER
    assert DEAD in keys(machine)
    assert results(recover(machine))["sessions"][0] == "done"


def test_what_a_running_gateway_keeps_in_memory_is_deleted_by_the_gateway(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(machine.claw, "7.1") as gateway:
        put_openclaw_first(monkeypatch, machine.folder, "7.1", port=gateway.port)
        machine.program("openclaw", (machine.folder / "fake-bin" / "openclaw").read_text())
        machine.configure(url=gateway.url)
        with monkeypatch.context() as patch:
            patch.setattr(dead_sessions, "LIMIT_S", 0.0)
            assert results(recover(machine))["sessions"] == ("done", "0 gone, 1 left to prune-sessions")
        assert results(recover(machine))["sessions"] == ("done", "1 gone")
        assert recover(machine).document["plan"] == []
        gateway.stop()
    assert keys(machine) == ["agent:main:main", FRESH]


def planned(machine: Machine) -> tuple[snapshots.Snapshot, list[recovery.Step]]:
    now = Moment.now()
    chosen, _ = recovery.choose(machine.state, None, now)
    return chosen, recovery.plan(machine.state, load(machine), chosen, now=now)


def test_a_recovery_that_is_killed_in_the_middle_leaves_the_old_store_or_the_new_one(machine: Machine) -> None:
    survive(machine, "kill-after", lambda fn: (run_with_fault(n, "kill-after", fn) for n in range(3, 40, 6)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KILLS, *ERRORS])
def test_a_recovery_that_fails_anywhere_leaves_the_old_store_or_the_new_one(machine: Machine, kind: Kind) -> None:
    survive(machine, kind, lambda fn: every_fault(kind, fn))


def survive(machine: Machine, kind: Kind, faults: Callable[[Callable[[], int]], Iterator[Outcome]]) -> None:
    loaded = load(machine)
    old = store(machine).read_bytes()

    def go() -> int:
        try:
            with machine.state.lock("recover"):
                recovery.carry_out(machine.state, loaded, *planned(machine), why="test")
        except TryLater:
            return 75
        return 0

    reached = set()
    for outcome in faults(go):
        if kind in KILLS and outcome.signal is not None:
            assert outcome.signal == signal.SIGKILL, outcome.stderr
        else:  # a removal of what is not there kills nobody
            assert outcome.status in ((0, 75) if outcome.reached else (0,)), outcome.stderr
        reached.add(str(outcome.at).partition("(")[0])
        there = store(machine).read_bytes()
        assert there == old or json.loads(there).keys() == {"agent:main:main", FRESH}, outcome
        assert go() == 0
        assert keys(machine) == ["agent:main:main", FRESH], outcome
        body: dict[str, Any] = machine.told(f"recoveries/{snapshots.ids(machine.state)[0]}.json")
        assert body["steps"]["sessions"]["result"] == "done", outcome
        assert [key for key in outbox.alerts(machine.state) if key.startswith("recover:")], outcome
        store(machine).write_bytes(old)
        for name in ("recoveries", "outbox"):
            shutil.rmtree(machine.state.path(name))
        shutil.rmtree(machine.claw / "agents/main/mmtools-trash", ignore_errors=True)
    assert len(reached) > 2
