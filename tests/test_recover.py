"""Recoveries: what is refused, what is planned and proven, and that each step is done once, whatever was killed in between."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE_S, ROOT, Said, call, main_of, records
from faults import ERRORS, KILLS, Kind, every_fault
from machines import RUN, Board, Machine, board, died_once, gateway, machine_with

from mmtools import outbox, restarts
from mmtools.errors import TryLater
from mmtools.moments import Moment
from mmtools.ops import quoters, recovery, revive, snapshots
from mmtools.ops import settings as ops_settings
from mmtools.ops.quoters import Standing
from mmtools.restarts import Owner
from mmtools.runs.switch import Switch

AGENT = "0a7e5b1c-1111-4222-8333-444455556666"
OPENCLAW = """#!/bin/sh
echo "$*" >>{log}
{does}
"""


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with machine_with(died_once(tmp_path_factory), tmp_path, monkeypatch) as lent:
        yield lent


def load(machine: Machine) -> ops_settings.Settings:
    return ops_settings.load(str(machine.settings))


def snapshot_while_running(machine: Machine) -> str:
    """Take a snapshot while a process holds the run's lock, as it does when it runs; return its id."""
    with machine.state.lock(f"runs/{RUN}"):
        return snapshot(machine)


def snapshot(machine: Machine) -> str:
    return snapshots.take(machine.state, load(machine), why="test").snapshot.id


def recover(machine: Machine, *args: str) -> Said:
    return call("recover", "--state", machine.state.root, "--config", machine.settings, "--json", *args)


def results(said: Said) -> dict[str, str]:
    """Return what became of each step, but for the dead sessions: a gateway that only answers probes does not say which store it uses."""
    return {each["key"]: each["result"] for each in said.document["results"] if each["key"] != "sessions"}


def rewrite(machine: Machine, snapshot_id: str, **changes: Any) -> None:
    """Put something else into a manifest, its checksum right."""
    name = f"snapshots/{snapshot_id}/manifest.json"
    body = machine.state.verify(name, schema=snapshots.SCHEMA)
    machine.state.write(name, body | changes, schema=snapshots.SCHEMA)


def moved(machine: Machine, snapshot_id: str, *, wall_ms: int = 0, boot_s: float = 0.0, boot_id: str | None = None) -> None:
    when = machine.told(f"snapshots/{snapshot_id}/manifest.json")["when"]
    when = when | {"wall_ms": when["wall_ms"] + wall_ms, "boot_s": when["boot_s"] + boot_s, "boot_id": boot_id or when["boot_id"]}
    rewrite(machine, snapshot_id, when=when)


def standing(machine: Machine) -> Standing:
    return quoters.quoter(machine.state, RUN).standing


# what is refused


OTHER_BOOT = "0b5f8e3c-0000-4000-8000-000000000000"
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("another machine", "another machine"),
        ("a newer version", "use the newer one"),
        ("a newer schema", "mmtools.snapshot/9"),
        ("too old", "hours old"),
        ("too old, before a reboot", "hours old"),
        ("the future", "from the future"),
        ("the future, by another boot", "from the future"),
        ("damaged", "damaged"),
    ],
)
def test_a_snapshot_that_says_nothing_of_here_and_now_is_refused(machine: Machine, what: str, words: str) -> None:
    taken = snapshot_while_running(machine)
    match what:
        case "another machine":
            rewrite(machine, taken, host="0" * 32)
        case "a newer version":
            rewrite(machine, taken, version="99.0.0")
        case "a newer schema":
            name = f"snapshots/{taken}/manifest.json"
            machine.state.write(name, machine.state.verify(name, schema=snapshots.SCHEMA), schema="mmtools.snapshot/9")
        case "too old":
            moved(machine, taken, wall_ms=DAY_MS, boot_s=-86_401)  # the wall clock was set back a day since
        case "too old, before a reboot":
            moved(machine, taken, wall_ms=-DAY_MS - 1000, boot_id=OTHER_BOOT)
        case "the future":
            moved(machine, taken, boot_s=100)
        case "the future, by another boot":
            moved(machine, taken, wall_ms=61_000 + 60_000, boot_id=OTHER_BOOT)
        case "damaged":
            path = machine.state.path(f"snapshots/{taken}/files/runs/{RUN}/run.yaml")
            path.write_bytes(path.read_bytes() + b" ")
    for args in ((taken,), (taken, "--dry-run")):
        said = recover(machine, *args)
        assert said.code == 77
        assert words in said.document["error"]["message"]
    assert recover(machine).code == 77  # nor is it taken by default
    assert machine.launches() == []


def test_a_clock_that_was_set_back_makes_no_snapshot_of_this_boot_the_futures(machine: Machine) -> None:
    taken = snapshot_while_running(machine)
    moved(machine, taken, wall_ms=2 * 3_600_000)
    assert recover(machine, "--dry-run").document["snapshot"] == taken


def test_a_clock_that_was_set_back_makes_no_old_snapshot_the_newest(machine: Machine) -> None:
    old, ahead = snapshot(machine), "20990101T000000.000000Z"
    machine.state.path(f"snapshots/{old}").rename(machine.state.path(f"snapshots/{ahead}"))
    rewrite(machine, ahead, id=ahead)
    young = snapshot(machine)
    assert recover(machine, "--dry-run").document["snapshot"] == young


def test_after_a_reboot_a_young_snapshot_counts(machine: Machine) -> None:
    taken = snapshot_while_running(machine)
    moved(machine, taken, wall_ms=-600_000, boot_id=OTHER_BOOT)
    said = recover(machine, "--dry-run")
    assert said.document["age_s"] >= 600
    assert [step["key"] for step in said.document["plan"] if step["act"]] == [f"run:{RUN}"]


def test_an_older_one_is_taken_when_asked_for(machine: Machine) -> None:
    taken = snapshot_while_running(machine)
    moved(machine, taken, wall_ms=-2 * DAY_MS, boot_id=OTHER_BOOT)
    assert recover(machine, "--dry-run", "--max-age", "7d").document["snapshot"] == taken
    assert recover(machine, "--max-age", "soon").code == 2


def test_without_an_id_the_newest_good_one_is_taken_and_the_damaged_are_named(machine: Machine) -> None:
    good, bad = snapshot_while_running(machine), snapshot_while_running(machine)
    machine.state.path(f"snapshots/{bad}/files/runs/{RUN}/run.yaml").unlink()
    said = recover(machine, "--dry-run")
    assert (said.code, said.document["snapshot"], said.document["damaged"]) == (1, good, [bad])


def test_no_snapshot_is_refused_but_no_failure_after_a_start(machine: Machine) -> None:
    assert recover(machine).code == 77
    said = recover(machine, "--after-start", "openclaw-gateway.service")
    assert (said.code, said.document["started"]) == (0, False)


def test_after_a_start_another_process_recovers_and_the_unit_does_not_wait_for_it(machine: Machine) -> None:
    machine.stop()
    snapshot(machine)
    restarts.attempt(machine.state, "unit:openclaw-gateway.service", owner=Owner.SAFE_RESTART, why="memory")
    machine.program("recover", f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m mmtools.commands.recover "$@"\n')
    log = machine.state.path("recoveries/after-start.log")
    with machine.state.lock("recover"):  # were it not handed over, it would have to try later
        said = recover(machine, "--after-start", "openclaw-gateway.service")
        assert (said.code, said.document["schema"], said.document["started"]) == (0, "mmtools.recover_handed/1", True)
        deadline = time.monotonic() + PATIENCE_S
        while "is held" not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    recover(machine, "--after-start", "openclaw-gateway.service")
    while restarts.attempts(machine.state)[0].result != "cut":
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def test_which_of_the_processes_are_gone_is_told_by_more_than_their_numbers(machine: Machine) -> None:
    with subprocess.Popen([sys.executable, "-c", "print('up', flush=True); input()", "openclaw"], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        taken = snapshot_while_running(machine)
        assert other.pid not in [each["pid"] for each in recover(machine, "--dry-run").document["gone"]]
        parts = machine.told(f"snapshots/{taken}/manifest.json")["parts"]
        for process in parts["processes"]["content"]:
            process["start_ticks"] -= 1  # as if the number had been another's
        rewrite(machine, taken, parts=parts)
        assert other.pid in [each["pid"] for each in recover(machine, "--dry-run").document["gone"]]
        other.communicate("\n")


def test_a_dry_run_leaves_even_a_broken_document_where_it_is(machine: Machine) -> None:
    snapshot_while_running(machine)
    live = machine.state.path(f"runs/{RUN}/live_state.json")
    live.write_bytes(live.read_bytes()[:-9])
    before = machine.tree()
    said = recover(machine, "--dry-run")
    assert said.code == 1
    assert "it is unknown" in said.document["plan"][0]["why"]
    assert call("snapshot", "--state", machine.state.root, "--config", machine.settings, "--dry-run").code == 0
    assert machine.tree() == before


# runs


def test_a_run_that_died_is_started_again_once_and_told_once(machine: Machine) -> None:
    taken = snapshot_while_running(machine)
    assert standing(machine) is Standing.CRASHED
    said = recover(machine, "--why", "power came back")
    assert (said.code, results(said)) == (0, {f"run:{RUN}": "done"})
    assert standing(machine) is Standing.RUNNING
    assert said.document["snapshot"] == taken
    (attempt,) = restarts.attempts(machine.state)
    assert (attempt.what, attempt.owner, attempt.why, attempt.result) == (f"run:{RUN}", "recover", "power came back", "done")
    again = recover(machine)
    assert (again.code, again.document["plan"], again.document["results"]) == (0, [], [])
    (launch,) = machine.launches()
    run = machine.state.path(f"runs/{RUN}/run.yaml")
    words = f"--config {run} --run-id {RUN} --state {machine.state.root} --owner recover --revival {attempt.id}"
    assert launch.partition(" ")[2] == words
    (alert,) = [each for key, each in outbox.alerts(machine.state).items() if key.startswith(f"recover:{taken}")]
    assert (alert["level"], alert["times"]) == ("info", 1)
    assert f"start run {RUN} again: done" in alert["text"]
    assert machine.told(f"recoveries/{taken}.json")["steps"][f"run:{RUN}"]["result"] == "done"


def test_a_launched_run_is_in_a_session_of_its_own_and_holds_none_of_our_locks(machine: Machine) -> None:
    snapshot_while_running(machine)
    recover(machine)
    (pid,) = [int(line.split()[0]) for line in machine.launches()]
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert not machine.state.is_locked("recover")
    assert not machine.state.is_locked(f"revive/{RUN}")


def test_a_dry_run_shows_the_plan_and_changes_nothing(machine: Machine) -> None:
    snapshot_while_running(machine)
    before = machine.tree()
    said = recover(machine, "--dry-run")
    assert said.code == 0
    assert said.document["plan"] == [{"key": f"run:{RUN}", "what": f"start run {RUN} again", "act": True, "why": ""}]
    assert said.document["results"] is None
    assert machine.tree() == before
    plain = call("recover", "--state", machine.state.root, "--config", machine.settings, "--dry-run")
    assert plain.out.splitlines()[1:] == [f"would start run {RUN} again"]
    assert [step["key"] for step in recover(machine).document["plan"]] == [f"run:{RUN}"]


@pytest.mark.parametrize("owner", ["systemd", "status-update", "smoke-test", "nobody"])
def test_a_run_that_belongs_to_another_is_left_to_it(machine: Machine, owner: str) -> None:
    machine.set_owner(owner)
    snapshot_while_running(machine)
    said = recover(machine)
    assert (said.code, results(said)) == (1 if owner == "nobody" else 0, {f"run:{RUN}": "left"})
    assert f"it belongs to {owner}" in said.document["plan"][0]["why"]
    assert machine.launches() == []
    assert restarts.attempts(machine.state) == []


def test_a_halted_run_is_never_started_again(machine: Machine) -> None:
    snapshot_while_running(machine)
    Switch(machine.state, RUN).latch(reason="manual", detail="the news is out", by="ben")
    said = recover(machine)
    assert results(said) == {f"run:{RUN}": "left"}
    assert machine.launches() == []


def test_a_run_with_real_money_is_never_started_again(machine: Machine) -> None:
    with machine.state.edit(f"runs/{RUN}/live_state.json", schema=quoters.LIVE_STATE_SCHEMA) as live:
        live["venue"] = "polymarket"
    snapshot_while_running(machine)
    said = recover(machine)
    assert (said.code, results(said)) == (1, {f"run:{RUN}": "left"})
    assert machine.launches() == []


@pytest.mark.parametrize("status", ["stopped", "finished", "odd"])
def test_a_run_that_ended_or_does_not_say_is_not_started_again(machine: Machine, status: str) -> None:
    snapshot_while_running(machine)
    with machine.state.edit(f"runs/{RUN}/live_state.json", schema=quoters.LIVE_STATE_SCHEMA) as live:
        live["status"] = status
    assert recover(machine).code == (1 if status == "odd" else 0)
    assert machine.launches() == []


def test_a_run_that_had_died_just_before_the_snapshot_is_started_again_when_an_older_one_saw_it_run(machine: Machine) -> None:
    dead = snapshot(machine)
    said = recover(machine, dead)
    assert (said.code, results(said)) == (1, {f"run:{RUN}": "left"})
    shutil.rmtree(machine.state.path(f"snapshots/{dead}"))
    snapshot_while_running(machine)
    snapshot(machine)
    assert results(recover(machine)) == {f"run:{RUN}": "done"}


def test_the_budget_holds_and_is_told_once(machine: Machine) -> None:
    machine.fake_quote_run(does="echo it cannot be >&2; exit 78")
    with machine.settings.open("a") as settings:
        settings.write("restart:\n  most_per_hour: 9\n")  # of a unit: quote-run counts its own, and knows no ops.yaml
    taken = snapshot_while_running(machine)
    for _ in range(restarts.MOST):
        said = recover(machine)
        assert (said.code, results(said)) == (1, {f"run:{RUN}": "failed"})
        assert said.document["results"][0]["detail"] == "it was launched and ended with 78: it cannot be"
    said = recover(machine)
    assert (said.code, results(said)) == (1, {f"run:{RUN}": "failed"})
    assert "the most that is allowed" in said.document["results"][0]["detail"]
    assert len(machine.launches()) == restarts.MOST
    assert len([key for key in outbox.alerts(machine.state) if key.startswith(f"recover:{taken}")]) == 1
    assert [each.result for each in restarts.attempts(machine.state)] == ["failed"] * restarts.MOST


def test_what_the_rules_forbid_is_left(machine: Machine) -> None:
    machine.configure("policy: {recover-run: {level: forbidden}}\n")
    snapshot_while_running(machine)
    said = recover(machine)
    assert (said.code, results(said)) == (1, {f"run:{RUN}": "left"})
    assert "forbidden" in said.document["plan"][0]["why"]
    machine.configure("policy: {recover-run: {level: low, when: [no_live_run]}}\n")
    assert results(recover(machine)) == {f"run:{RUN}": "done"}


def test_only_one_recovers_and_only_one_revives(machine: Machine) -> None:
    snapshot_while_running(machine)
    with machine.state.lock("recover"):
        for args in ((), ("--dry-run",)):
            assert recover(machine, *args).code == 75
    with machine.state.lock(f"revive/{RUN}"):
        said = recover(machine)
        assert (said.code, results(said)) == (75, {f"run:{RUN}": "later"})
    assert machine.launches() == []
    assert restarts.attempts(machine.state) == []


def test_the_user_manager_starts_the_run_when_it_answers(machine: Machine) -> None:
    machine.program("systemctl", '#!/bin/sh\ncase "$*" in *is-active*) echo active ;; esac\n')
    log = machine.folder / "asked"
    text = f'#!/bin/sh\necho "$*" >>{log}\nwhile [ "$1" != -- ]; do shift; done\nshift\nsetsid "$@" >/dev/null 2>&1 </dev/null &\n'
    machine.program("systemd-run", text)
    snapshot_while_running(machine)
    said = recover(machine)
    assert results(said) == {f"run:{RUN}": "done"}
    assert said.document["results"][0]["detail"] == f"it runs as mmtools-run-{RUN}.service"
    (asked,) = log.read_text().splitlines()
    assert asked.startswith(f"--user --quiet --collect --no-ask-password --unit=mmtools-run-{RUN}.service --working-directory=/")
    assert len(machine.launches()) == 1


def test_a_run_that_was_launched_before_is_waited_for_and_not_launched_again(machine: Machine) -> None:
    machine.fake_quote_run(does="while [ ! -e " + str(machine.folder / "go") + " ]; do sleep 0.02; done")
    state, argv = machine.state, revive.command(machine.state, RUN, "recover")
    with subprocess.Popen(argv) as early:
        deadline = time.monotonic() + PATIENCE_S
        while not revive.launched_before(state, RUN):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        script = (
            "import sys\nfrom mmtools.ops import revive\nfrom mmtools.restarts import Owner\nfrom mmtools.state import StateDir\n"
            "revive.STAYS_S = 0.05\nprint(revive.revive(StateDir.open(sys.argv[1]), sys.argv[2], Owner.RECOVER, 'test'))"
        )
        late = subprocess.Popen([sys.executable, "-c", script, str(state.root), RUN], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        while not state.is_locked(f"revive/{RUN}"):
            assert late.poll() is None
            time.sleep(0.01)
        (machine.folder / "go").touch()
        out, _ = late.communicate(timeout=PATIENCE_S)
        assert out.startswith("Revived(attempt=None"), out
        assert restarts.attempts(state) == []
        assert [int(line.split()[0]) for line in machine.launches()] == [early.pid]
        machine.end_launched()


def test_a_recovery_that_is_killed_anywhere_goes_on_and_starts_the_run_once(machine: Machine) -> None:
    survive(machine, "kill-after")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kill-before", "kill-half", *ERRORS])
def test_a_recovery_that_fails_anywhere_goes_on_and_starts_the_run_once(machine: Machine, kind: Kind) -> None:
    survive(machine, kind)


def survive(machine: Machine, kind: Kind) -> None:
    machine.systemctl("inactive")
    taken = snapshot_while_running(machine)
    loaded = load(machine)
    kept = {name: machine.state.path(name).read_bytes() for name in (f"runs/{RUN}/live_state.json",)}

    def go() -> int:
        try:
            with machine.state.lock("recover"):
                now = Moment.now()
                chosen, _ = recovery.choose(machine.state, None, now)
                steps = recovery.plan(machine.state, loaded, chosen, now=now)
                recovery.carry_out(machine.state, loaded, chosen, steps, why="test")
        except TryLater:
            return 75
        return 0

    launched = 0
    for outcome in every_fault(kind, go):
        if kind in KILLS:
            assert outcome.signal == (signal.SIGKILL if outcome.reached else None), outcome.stderr
        else:
            assert outcome.status in ((0, 75) if outcome.reached else (0,)), outcome.stderr
        assert go() == 0
        assert len(machine.launches()) == 1, outcome
        launched += 1
        assert standing(machine) is Standing.RUNNING
        steps = machine.told(f"recoveries/{taken}.json")["steps"]
        assert steps[f"run:{RUN}"]["result"] == "done", outcome
        attempts = restarts.attempts(machine.state)
        assert all(each.result is not None for each in attempts), outcome
        assert 1 <= len(attempts) <= 2  # one that a kill has cut before anything was launched, spent
        told = [each for key, each in outbox.alerts(machine.state).items() if key.startswith("recover:")]
        assert len(told) == 1 if kind in KILLS else told, outcome
        machine.end_launched()
        (machine.folder / "launches").unlink()
        for name in ("recoveries", "outbox"):
            shutil.rmtree(machine.state.path(name))
        machine.state.path("restarts.jsonl").unlink()
        for name, content in kept.items():
            machine.state.path(name).write_bytes(content)
    assert launched > 10


# restarts that were cut


def test_a_restart_that_was_cut_off_gets_its_outcome(machine: Machine) -> None:
    machine.stop()
    snapshot(machine)
    cut = restarts.attempt(machine.state, "unit:openclaw-gateway.service", owner=Owner.SAFE_RESTART, why="memory")
    with machine.state.lock("safe-restart"):
        assert f"attempt:{cut}" not in results(recover(machine))  # it goes on
    said = recover(machine)
    assert results(said)[f"attempt:{cut}"] == "done"
    (attempt,) = restarts.attempts(machine.state)
    since = "it is active since Fri 2026-11-27 01:00:00 UTC"
    assert (attempt.result, attempt.detail) == ("cut", f"the restart was cut off before its first step, nothing was ordered; {since}")
    assert f"attempt:{cut}" not in results(recover(machine))


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (["handed over", "taken up", "snapshot"], "at the step 'snapshot', nothing was ordered"),
        (["order"], "at the step 'order', it may be ordered"),
        (["snapshot", "order", "watch"], "at the step 'watch', it was ordered"),
    ],
)
def test_how_far_a_restart_came_that_was_cut_off_is_told(machine: Machine, steps: list[str], words: str) -> None:
    snapshot(machine)
    cut = restarts.attempt(machine.state, "unit:openclaw-gateway.service", owner=Owner.SAFE_RESTART, why="memory")
    for step in steps:
        restarts.step(machine.state, cut, step)
    recover(machine)
    (attempt,) = restarts.attempts(machine.state)
    assert words in attempt.detail


def test_a_restart_that_was_handed_over_and_not_taken_up_yet_is_not_cut(machine: Machine) -> None:
    snapshot(machine)
    handed = restarts.attempt(machine.state, "unit:openclaw-gateway.service", owner=Owner.SAFE_RESTART, why="memory")
    restarts.step(machine.state, handed, "handed over")
    recover(machine)
    (attempt,) = restarts.attempts(machine.state)
    assert attempt.result is None


def test_a_unit_that_ran_and_does_not_is_told_of_and_not_started(machine: Machine) -> None:
    machine.stop()
    snapshot(machine)
    machine.systemctl("failed")
    said = recover(machine)
    assert said.code == 1
    step = said.document["plan"][-1]
    assert (step["key"], step["act"]) == ("unit:openclaw-gateway.service", False)
    assert step["why"].startswith("it was active and is failed")
    machine.program("systemctl", "#!/bin/sh\nexit 1\n")
    assert "not known" in recover(machine).document["plan"][-1]["why"]


# tasks


def task(task_id: str, agent: str | None = AGENT) -> dict[str, Any]:
    return {"id": task_id, "title": task_id, "status": "in_progress", "assigned_agent_id": agent, "updated_at": "2026-03-02T04:20:00"}


@contextmanager
def at_work(
    machine: Machine, sessions: Any, *, up: bool = True, uptime_ms: int = 60_000, code: int = 0, not_ready: int = 0
) -> Iterator[Board]:
    """A board with a task of an agent, snapshotted; the gateway then names these sessions."""
    machine.stop()
    (machine.claw / "agents" / f"mc-{AGENT}" / "sessions").mkdir(parents=True)
    with board() as lent, gateway(uptime_ms, not_ready=not_ready) as url:
        token = machine.folder / "token"
        token.write_text("b0ard")
        token.chmod(0o600)
        there = f"mission_control: {{url: '{lent.url}', board: b1, task: t0, token: {{file: {token}}}}}\n"
        machine.configure(there, **({"url": url} if up else {}))
        said = {"sessions": sessions, "count": 1} if isinstance(sessions, list) else sessions
        does = f"echo note\ncat <<'END'\n{json.dumps(said)}\nEND\nexit {code}"
        machine.program("openclaw", OPENCLAW.format(log=machine.folder / "asked", does=does))
        lent.tasks = [task("t1")]
        snapshot(machine)
        yield lent


def test_a_task_whose_worker_is_gone_goes_back_to_the_inbox_once(machine: Machine) -> None:
    with at_work(machine, [{"key": "agent:mc:main", "status": "done", "updatedAt": 1}]) as lent:
        said = recover(machine)
        assert results(said)["task:t1"] == "done"
        assert lent.tasks[0]["status"] == "inbox"
        lent.tasks = [task("t1")]  # a worker took it again
        assert "task:t1" not in results(recover(machine))
        assert len(lent.patches()) == 1
    asked = [line for line in (machine.folder / "asked").read_text().splitlines() if "sessions.list" in line]
    assert asked == [f'gateway call sessions.list --params {{"agentId":"mc-{AGENT}"}} --timeout 30000 --json']


@pytest.mark.parametrize(
    ("sessions", "why"),
    [
        ([{"key": "k", "status": "running", "updatedAt": 1}], "session k is running"),
        ([{"key": "k", "updatedAt": 9_999_999_999_999}], "does not say whether it runs"),
        ([{"key": "k"}], "does not say whether it runs"),
        ({"sessions": [], "hasMore": True}, "says that there is more and not where"),
        ({"sessions": None}, "answered without a list of sessions"),
        ({"ok": False}, "answered without a list of sessions"),
    ],
)
def test_a_worker_that_is_not_proven_gone_keeps_its_task(machine: Machine, sessions: Any, why: str) -> None:
    with at_work(machine, sessions) as lent:
        said = recover(machine)
        assert results(said)["task:t1"] == "left"
        assert why in next(step["why"] for step in said.document["plan"] if step["key"] == "task:t1")
        assert lent.patches() == []


def test_a_gateway_that_is_down_or_cannot_be_asked_proves_nothing(machine: Machine) -> None:
    with at_work(machine, [], up=False) as lent:
        assert results(recover(machine))["task:t1"] == "left"
        assert lent.patches() == []
    shutil.rmtree(machine.claw / "agents" / f"mc-{AGENT}")
    with at_work(machine, [], code=1) as lent:
        assert "sessions are not known" in next(step["why"] for step in recover(machine).document["plan"] if step["key"] == "task:t1")
        assert lent.patches() == []


def test_a_gateway_that_is_starting_is_waited_for(machine: Machine) -> None:
    with at_work(machine, [], not_ready=3) as lent:
        assert results(recover(machine)) == {"task:t1": "left"}
        assert results(recover(machine, "--wait-gateway", "1m")) == {"task:t1": "done"}
        assert len(lent.patches()) == 1


def test_an_old_session_of_a_gateway_started_since_is_over(machine: Machine) -> None:
    with at_work(machine, [{"key": "k", "updatedAt": 1_770_573_855_796}], uptime_ms=5000) as lent:
        assert results(recover(machine))["task:t1"] == "done"
        assert len(lent.patches()) == 1


def test_a_task_of_nobody_of_another_or_of_an_unknown_agent_is_left(machine: Machine) -> None:
    with at_work(machine, []) as lent:
        lent.tasks = [task("t1", agent="somebody-else"), task("t2", agent=None), task("t3", agent="unknown-4711")]
        snapshot(machine)
        lent.tasks[0]["assigned_agent_id"] = AGENT  # it changed hands since the snapshot
        assert results(recover(machine)) == {"task:t2": "left", "task:t3": "left"}
        assert lent.patches() == []


@pytest.mark.parametrize(
    ("answer", "code", "result"),
    [
        ((409, {"detail": {"code": "task_blocked_cannot_transition"}}), 1, "failed"),
        ((403, {"detail": "no"}), 1, "failed"),
        ((405, {"detail": "Method Not Allowed"}), 1, "failed"),
        ((429, {"detail": "Too Many Requests"}), 75, "later"),
        ((503, {"detail": "down"}), 1, "not known"),
        ((200, {"status": "in_progress"}), 1, "not known"),
        ((200, {"id": "t1", "status": "review"}), 1, "failed"),
    ],
)
def test_a_board_that_does_not_take_it_is_heard(machine: Machine, answer: tuple[int, Any], code: int, result: str) -> None:
    with at_work(machine, []) as lent:
        lent.answer = answer
        said = recover(machine)
        assert (said.code, results(said)["task:t1"]) == (code, result)
        lent.answer = None
        assert results(recover(machine))["task:t1"] == "done"


def test_a_board_that_is_silent_now_is_not_a_board_without_tasks(machine: Machine) -> None:
    with at_work(machine, []) as lent:
        lent.down = True
        said = recover(machine)
        assert (said.code, results(said)) == (1, {"tasks": "left"})


def test_a_task_of_which_nobody_knows_whether_it_went_back_is_looked_for_again(machine: Machine) -> None:
    with at_work(machine, []) as lent:
        lent.answer = (503, {"detail": "down"})
        assert results(recover(machine)) == {"task:t1": "not known"}
        lent.down = True
        taken = recover(machine).document["snapshot"]
        steps = machine.state.path(f"recoveries/{taken}.json")
        assert json.loads(steps.read_text())["steps"]["task:t1"]["result"] == "not known"  # silence is no sign of it
        lent.down = False
        lent.tasks[0]["status"] = "inbox"
        assert results(recover(machine)) == {}
        assert json.loads(steps.read_text())["steps"]["task:t1"]["result"] == "done"


# the real thing


def test_a_real_run_killed_in_the_middle_comes_back_and_goes_on(machine: Machine) -> None:
    journal = machine.state.path(f"runs/{RUN}/journal.jsonl")
    takes = {parameter.name for parameter in main_of("quote_run").params}
    drop = "" if "revival" in takes else "set -- $(echo \"$*\" | sed 's/--owner [a-z-]*//; s/--revival [^ ]*//')\n"
    log = f'echo "$$ $*" >>{machine.folder / "launches"}\n'
    machine.program("quote-run", f'#!/bin/sh\n{log}{drop}PYTHONPATH={ROOT} exec {sys.executable} -m mmtools.commands.quote_run "$@"\n')
    snapshot_while_running(machine)
    before = journal.read_bytes()
    said = recover(machine)
    assert results(said) == {f"run:{RUN}": "done"}, said.out
    (pid,) = [int(line.split()[0]) for line in machine.launches()]
    deadline = time.monotonic() + PATIENCE_S
    while journal.stat().st_size < len(before) + 20_000:
        assert time.monotonic() < deadline, machine.state.path(f"runs/{RUN}/revived.log").read_text()
        time.sleep(0.02)
    os.kill(pid, signal.SIGTERM)
    while standing(machine) is Standing.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert standing(machine) is Standing.STOPPED
    assert {record["run_id"] for record in records(journal) if "run_id" in record} == {RUN}
    assert [record["kind"] for record in records(journal)].count("run") == 1
