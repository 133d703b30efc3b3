"""safe-restart against a fake service manager with real processes and sockets: what it proves, what it refuses, what it leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE_S, ROOT, Said, end, wait_until
from fakemanager import FakeManager
from restartworld import UNIT, World

from mmtools import outbox, restarts
from mmtools.ops import handover
from mmtools.ops.systemd import Declined, Manager

GATES = ["rate limit", "memory", "session cleanup", "dry run", "chats", "snapshot", "restart"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with FakeManager(tmp_path, monkeypatch) as manager:
        yield World(tmp_path, manager)


def gate(said: Said, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(passed for passed in said.document["gates"] if passed["name"] == name)
    return found


def marks(said: Said) -> dict[str, str]:
    return {passed["name"]: passed["result"] for passed in said.document["gates"]}


def at_once(count: int, world: World) -> list[int]:
    """Run the command so many times at once, each in a forked child, and return the exit codes."""
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(world.restart().code)
            finally:
                os._exit(99)
        pids.append(pid)
    return sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file of a folder with its time of change and its bytes, locks too."""
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()}


# proof


def test_a_restart_is_proven_by_another_start_that_is_well_and_stays(world: World) -> None:
    world.runs()
    before = world.manager.state(UNIT)
    said = world.restart("--why", "it grew", "--approve", "ada")
    after = world.manager.state(UNIT)
    assert said.code == 0, said.err
    document = said.document
    assert (document["restarted"], document["result"], document["handed_to"]) == (True, "done", None)
    assert [passed["name"] for passed in document["gates"]] == GATES
    assert document["proof"]["end"] == "proven"
    assert document["proof"]["signs"][:2] == ["a new invocation", "a new start of its main process"]
    assert document["proof"]["before"]["invocation_id"] == before["invocation"]
    assert document["proof"]["after"]["invocation_id"] == after["invocation"] != before["invocation"]
    (attempt,) = restarts.attempts(world.state)
    assert (attempt.id, attempt.what, attempt.owner) == (document["attempt"], f"unit:{UNIT}", "safe-restart")
    assert (attempt.why, attempt.result, attempt.steps) == ("it grew, approved by ada", "done", ("order", "watch"))
    assert world.alerts() == {f"restart:{attempt.id}:begin": "info", f"restart:{attempt.id}:end": "info"}
    assert "it grew, approved by ada" in outbox.alerts(world.state)[f"restart:{attempt.id}:begin"]["text"]
    assert world.orders() == 1


@pytest.mark.parametrize(
    "how",
    [pytest.param({"busy_s": 0.5}, id="nothing listens and it works"), pytest.param({"unready_s": 0.5}, id="503 and it is idle")],
)
def test_slow_is_not_dead(world: World, how: dict[str, float]) -> None:
    world.runs()
    world.then(**how)
    said = world.restart()
    assert (said.code, said.document["proof"]["end"]) == (0, "proven"), said.out
    assert said.document["proof"]["seconds"] > 0.5


def test_a_slow_stop_is_waited_for_as_long_as_the_unit_says(world: World) -> None:
    world.manager.add(UNIT, world.serve(stop_s=0.5), timeout_stop="5s")
    world.manager.start(UNIT)
    world.then()
    said = world.restart()
    assert (said.code, said.document["proof"]["end"]) == (0, "proven")
    assert said.document["proof"]["seconds"] > 0.5


@pytest.mark.parametrize(
    ("how", "end", "words"),
    [
        ({"hang": True}, "dead", "uses no processor time"),
        ({"idle_s": 30}, "dead", "uses no processor time"),
        pytest.param({"busy_s": 30}, "not well", "not well within 0.6 s", marks=pytest.mark.slow),
        ({"page": True}, "not well", "no JSON"),
        pytest.param({"unready_s": 30}, "not well", "within 0.6 s: its gateway is not ready: HTTP 503", marks=pytest.mark.slow),
        ({"since_s": 500}, "not well", "another process answers"),
        ({"dies_s": 0.15}, "flapping", "times more by itself"),
        ({"dies_s": 0, "dies_with": 78}, "failed", "another restart is useless"),
    ],
    ids=["hung", "dead", "too slow", "HTML 200", "never ready", "an old process has the port", "flapping", "exit 78"],
)
def test_what_is_not_well_is_not_called_restarted(world: World, how: dict[str, Any], end: str, words: str) -> None:
    world.runs()
    world.then(**how)
    if end == "not well":
        world.settings(start_limit_s=0.6)
    said = world.restart()
    assert (said.code, said.document["result"]) == (1, "failed")
    assert (said.document["proof"]["end"], gate(said, "restart")["result"]) == (end, "refused")
    assert words in said.document["why"]
    (attempt,) = restarts.attempts(world.state)
    assert attempt.result == "failed"
    assert world.alerts()[f"restart:{attempt.id}:end"] == "critical"


def test_html_200_counts_when_the_gateways_own_command_calls_it_well(world: World) -> None:
    world.runs()
    world.then(page=True)
    program = world.folder / "openclaw-of-this-test"
    program.write_text('#!/bin/sh\n[ "$1 $2 $3" = "gateway call health" ] && echo \'note: {"ok": true, "agents": []}\'\n')
    program.chmod(0o755)
    world.config.write_text(world.config.read_text().replace("/nowhere/openclaw", str(program)))
    said = world.restart()
    assert (said.code, said.document["proof"]["end"]) == (0, "proven"), said.out
    assert "its own command calls it well" in said.document["why"]


def test_the_same_pid_is_fine_when_the_uptime_began_again(world: World) -> None:
    control = world.folder / "control"
    world.manager.add(UNIT, world.serve(control=control))
    world.manager.start(UNIT)
    world.manager.add(UNIT, world.serve(control=control), deaf=True)
    pid = world.manager.state(UNIT)["pid"]
    world.settings(settle_s=0.5)  # for so long the order may go unheard
    process = world.start()
    world.manager.wait_for_calls("restart")
    control.touch()
    said = end(process)
    assert (said.code, said.document["proof"]["end"]) == (0, "proven"), said.out
    assert said.document["proof"]["signs"] == ["an uptime shorter than the time since the order"]
    assert said.document["proof"]["after"]["main_pid"] == pid


def test_the_same_start_after_the_order_is_no_restart(world: World) -> None:
    world.runs()
    world.manager.add(UNIT, world.serve(), deaf=True)
    said = world.restart()
    assert (said.code, said.document["proof"]["end"], said.document["restarted"]) == (1, "not restarted", False)


@pytest.mark.slow
def test_a_manager_that_falls_silent_is_not_a_unit_that_stayed_as_it_was(world: World) -> None:
    world.manager.add(UNIT, world.serve(stop_s=30), stop_s=30, timeout_stop="1ms")
    world.manager.start(UNIT)
    world.settings(settle_s=20)
    process = world.start()
    wait_for_step(world, "watch", process)
    world.manager.mood("no bus")
    said = end(process)
    assert (said.code, said.document["proof"]["end"]) == (1, "not known"), said.out


def test_a_unit_that_is_not_the_gateway_is_proven_by_the_managers_word(world: World) -> None:
    world.manager.add("llama.service", world.serve(page=True))
    world.manager.start("llama.service")
    said = world.restart("llama", "--manager", "system")
    assert (said.code, said.document["proof"]["end"], said.document["unit"]) == (0, "proven", "llama.service"), said.out
    assert said.document["proof"]["probe"] is None
    assert all("--system" in words for words in world.manager.calls("restart"))


# the gates


def test_memory_below_the_watermark_needs_no_restart_and_costs_no_attempt(world: World) -> None:
    world.runs()
    world.settings("memory:\n  watermark_mb: 100000\n")
    said = world.restart()
    assert (said.code, said.document["result"], said.document["restarted"]) == (0, "needless", False)
    assert marks(said) == {"rate limit": "passed", "memory": "passed"}
    assert restarts.attempts(world.state) == []
    assert world.orders() == 0


def test_a_monitor_acts_later_than_a_person(world: World) -> None:
    world.runs()
    used = world.restart("--dry-run").document["memory"]["used_bytes"]
    world.settings(f"memory:\n  watermark_mb: {used / 0.75 / 1e6}\n")
    by_monitor, by_person = world.restart("--dry-run", "--auto"), world.restart("--dry-run")
    assert (by_monitor.document["result"], by_person.document["result"]) == ("needless", "would restart")


def test_memory_that_is_not_known_is_not_little(world: World) -> None:
    world.runs()
    world.settings("memory:\n  act_above: 0.5\n")
    said = world.restart()
    assert (said.code, marks(said)["memory"]) == (77, "not_known")
    assert "watermark_mb" in said.document["why"]
    assert world.orders() == 0
    forced = world.restart("--force", "--why", "it answers nothing", "--dry-run")
    assert (forced.code, marks(forced)["memory"]) == (0, "skipped")
    assert forced.document["why"].endswith("would be restarted: it answers nothing")


def test_the_budget_holds_for_a_person_who_insists_too(world: World) -> None:
    world.runs()
    world.settings(most_per_hour=2)
    insist = ("--force", "--why", "once more")
    assert [world.restart(*insist).code for _ in range(3)] == [0, 0, 77]
    said = world.restart(*insist)
    assert marks(said) == {"rate limit": "refused"}
    assert world.orders() == 2


def test_of_twenty_at_once_one_acts(world: World) -> None:
    world.runs()
    assert at_once(20, world) == [0, *[75] * 19]
    assert world.orders() == 1
    assert len(restarts.attempts(world.state)) == 1


def test_a_dry_run_takes_the_same_decisions_and_changes_no_byte(world: World) -> None:
    world.runs()
    world.settings(most_per_hour=1)
    calls = world.manager.folder / "calls.jsonl"
    before = tree(world.folder)
    said = world.restart("--dry-run")
    assert (said.code, said.document["result"]) == (0, "would restart")
    assert marks(said) == dict(zip(GATES, ["passed", "passed", "skipped", "passed", "skipped", "skipped", "skipped"], strict=True))
    assert {path: was for path, was in tree(world.folder).items() if path != str(calls)} == {
        path: was for path, was in before.items() if path != str(calls)
    }
    assert world.restart().code == 0
    assert (world.restart("--dry-run").code, world.restart().code) == (77, 77)
    assert world.orders() == 1


@pytest.mark.parametrize(
    ("config", "plain", "forced"),
    [
        ('{"gateway": {"port": 18789,},} // the end', 0, 0),
        ("[]", 77, 77),
        ('{"gateway": {"port": 18789', 77, 77),
        ("{gateway: {mode: 'local', port: 0x4965}}", 0, 0),
        (None, 77, 0),
    ],
    ids=["with comments and last commas", "no object", "cut", "JSON5", "none"],
)
def test_a_gateway_is_not_stopped_when_its_config_would_not_start_it(world: World, config: str | None, plain: int, forced: int) -> None:
    world.runs()
    if config is None:
        (world.root / "openclaw.json").unlink()
    else:
        (world.root / "openclaw.json").write_text(config)
    assert world.restart("--dry-run").code == plain
    assert world.restart("--dry-run", "--force", "--why", "it is stuck").code == forced


def test_a_unit_that_is_not_there_and_a_manager_that_is_mute_are_told_apart(world: World) -> None:
    insist = ("--force", "--why", "it is stuck")
    absent = world.restart("nothing.service", *insist)
    assert (absent.code, marks(absent)["dry run"]) == (77, "refused")
    assert "not-found" in absent.document["why"]
    world.manager.mood("no bus")
    mute = world.restart(*insist)
    assert (mute.code, marks(mute)["dry run"]) == (77, "not_known")
    assert "connect to bus" in mute.document["why"]
    assert restarts.attempts(world.state) == []


def test_a_unit_that_a_person_masked_is_left_alone(world: World) -> None:
    world.manager.add(UNIT, world.serve(), load_state="masked")
    said = world.restart("--force", "--why", "it is down")
    assert (said.code, marks(said)["dry run"]) == (77, "refused")


@pytest.mark.parametrize(
    ("rule", "options", "code"),
    [
        ("{level: forbidden}", (), 77),
        ("{level: forbidden}", ("--force", "--why", "now", "--approve", "ada"), 77),
        ("{level: high}", (), 77),
        ("{level: high}", ("--auto",), 77),
        ("{level: high}", ("--approve", "ada"), 0),
        ("{level: low, when: [memory_high, disk_ok, no_live_run]}", ("--auto",), 0),
        ("{level: low, when: [no_running_work]}", ("--force", "--why", "now"), 77),
    ],
)
def test_the_policy_is_asked_whatever_else_is_said(world: World, rule: str, options: tuple[str, ...], code: int) -> None:
    world.runs()
    world.settings(f"policy:\n  prune-sessions: {{level: forbidden}}\n  restart-gateway: {rule}\n")
    assert world.restart("--dry-run", *options).code == code


def test_running_work_is_waited_for_until_the_time_is_over_and_named(world: World) -> None:
    world.runs()
    for name in ("prune-sessions", "recover", "status-alerts"):
        with world.state.edit(f"jobs/{name}.json", schema="mmtools.job/1") as job:
            job["failures"] = 0
    with world.state.lock("prune-sessions"), world.state.lock("status-alerts"):
        said = world.restart("--drain")
    assert said.code == 0, said.err
    drained = said.document["drained"]
    assert (drained["cut"], drained["seconds"] >= 0.3) == (["prune-sessions"], True)
    assert "cannot be started" in drained["unknown"]
    assert restarts.attempts(world.state)[0].steps == ("drain", "order", "watch")


@pytest.mark.parametrize(
    "options",
    [
        ("--force",),
        ("--force", "--auto", "--why", "x"),
        ("--auto", "--approve", "ada"),
        ("--dry-run", "--as-attempt", "x"),
        ("a b",),
        ("logrotate.timer",),
    ],
)
def test_options_that_contradict_each_other_are_refused(world: World, options: tuple[str, ...]) -> None:
    assert world.restart(*options).code == 2


def test_a_unit_that_its_manager_is_at_work_on_is_tried_later(world: World) -> None:
    world.manager.add(UNIT, world.serve(stop_s=1))
    world.manager.start(UNIT)
    subprocess.run(["systemctl", "--user", "restart", "--no-block", "--", UNIT], check=True, timeout=PATIENCE_S)
    world.settings("memory:\n  act_above: 0.5\n")
    said = world.restart()
    assert (said.code, "manager is at work" in said.document["error"]["message"]) == (75, True), said.out
    assert restarts.attempts(world.state) == []


# handing over


def test_a_child_of_the_gateway_hands_over_and_the_attempt_is_counted_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = world.folder / "go"
    argv = [sys.executable, "-P", "-m", "mmtools.commands.safe_restart", *world.args()]
    child = ["sh", "-c", f'until [ -e "{trigger}" ]; do sleep 0.02; done; rm "{trigger}"; exec "$@"', "sh", *argv]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    world.manager.add(UNIT, world.serve(runs=child))
    world.manager.start(UNIT)
    trigger.touch()
    (asked,) = world.manager.wait_for_calls("systemd-run")
    name = next(word.removeprefix("--unit=") for word in asked if word.startswith("--unit="))
    wrote = world.manager.wait_for(name)
    (attempt,) = restarts.attempts(world.state)
    assert name == f"mmtools-safe-restart-{attempt.id}.service"
    assert (attempt.result, attempt.steps) == ("done", ("handed over", "taken up", "order", "watch")), wrote
    assert "of 1 MB (memory.watermark_mb)" in outbox.alerts(world.state)[f"restart:{attempt.id}:begin"]["text"]
    assert world.orders() == 1


def test_a_child_that_cannot_hand_over_restarts_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.manager.folder / "no systemd-run").touch()
    argv = [sys.executable, "-P", "-m", "mmtools.commands.safe_restart", *world.args()]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    world.manager.add(UNIT, world.serve(runs=argv))
    world.manager.start(UNIT)
    world.manager.wait_for_calls("systemd-run")
    world.manager.wait(lambda: any(past.result for past in restarts.attempts(world.state)))
    (attempt,) = restarts.attempts(world.state)
    assert (attempt.result, attempt.steps) == ("refused", ("handed over",))
    assert "Access denied" in attempt.detail
    assert world.orders() == 0


def test_what_could_not_be_called_was_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = handover.start(["true"], "x.service", Manager.USER)
    assert isinstance(told, Declined)
    assert "systemd-run cannot be started" in told.why


def test_an_attempt_is_taken_up_once_and_by_nobody_who_makes_one_up(world: World) -> None:
    world.runs()
    for made_up in ("x", "20260101T000000Z-1-1"):
        said = world.restart("--as-attempt", made_up)
        assert said.code == 77
        assert "no attempt that waits" in said.document["error"]["message"]
    number = restarts.attempt(world.state, f"unit:{UNIT}", owner=restarts.Owner.SAFE_RESTART, why="asked by an agent")
    assert world.restart("--as-attempt", number).code == 77
    restarts.step(world.state, number, "handed over")
    assert [world.restart("--as-attempt", number).code for _ in range(2)] == [0, 77]
    assert world.orders() == 1


# cut short


@pytest.mark.parametrize("step", ["order", pytest.param("watch", marks=pytest.mark.slow)])
def test_a_kill_leaves_how_far_it_came_and_the_next_run_finishes(world: World, step: str) -> None:
    world.runs()
    world.settings(settle_s=2)
    process = world.start()
    wait_for_step(world, step, process)
    process.kill()
    end(process)
    (attempt,) = restarts.attempts(world.state)
    assert attempt.result is None
    assert step in attempt.steps
    world.settings()
    world.manager.wait(lambda: is_done(world.restart()))  # the order may come through after the kill, and be under way
    assert [past.result for past in restarts.attempts(world.state)] == [None, "done"]


def test_sigterm_while_it_watches_is_written_down_and_told(world: World) -> None:
    world.runs()
    world.settings(settle_s=20)
    process = world.start()
    wait_for_step(world, "watch", process)
    process.send_signal(signal.SIGTERM)
    said = end(process)
    assert (said.code, said.document["error"]["kind"]) == (130, "interrupted")
    (attempt,) = restarts.attempts(world.state)
    assert attempt.result == "interrupted"
    assert world.alerts()[f"restart:{attempt.id}:end"] == "warning"


def is_done(said: Said) -> bool:
    assert said.code in (0, 75), said.out
    return said.code == 0 and said.document["result"] == "done"


def wait_for_step(world: World, step: str, process: "subprocess.Popen[str]") -> None:
    wait_until(lambda: any(step in past.steps for past in restarts.attempts(world.state)), process)
