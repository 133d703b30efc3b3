"""Risk policy: what each level lets through, and conditions that do not hold or are not known."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mmtools.ops import policy
from mmtools.ops.policy import Fact
from mmtools.ops.settings import Policy, Rule, Settings
from mmtools.state import StateDir

FACTS = {
    "no_live_run": lambda: Fact(True, "none is live"),
    "disk_ok": lambda: Fact(False, "the disk is full"),
    "no_running_work": lambda: Fact(None, "the gateway does not say"),
}


def judge(level: str, *when: str, approved_by: str | None = None) -> policy.Verdict:
    rule = msgspec.convert({"level": level, "when": when}, Rule)
    return policy.judge(Settings(policy=Policy(restart_unit=rule)), "restart-unit", FACTS, approved_by=approved_by)


@pytest.mark.parametrize(
    ("level", "approved_by", "allowed"),
    [
        ("low", None, True), ("medium", None, True), ("high", None, False), ("high", "ada", True), ("forbidden", None, False),
        ("forbidden", "ada", False),
    ],
)  # fmt: skip
def test_each_level_lets_through_what_it_says(level: str, approved_by: str | None, allowed: bool) -> None:
    assert judge(level, "no_live_run", approved_by=approved_by).allowed is allowed


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (("disk_ok",), "disk_ok does not hold: the disk is full"),
        (("no_running_work",), "no_running_work is not known: the gateway does not say"),
        (("memory_high",), "memory_high is not known: nobody can tell here"),
        (("no_live_run", "no_running_work", "disk_ok"), "no_running_work is not known: the gateway does not say; disk_ok does not hold"),
    ],
)
@pytest.mark.parametrize(("level", "approved_by"), [("low", None), ("medium", None), ("high", "ada")])
def test_a_condition_that_does_not_hold_or_is_not_known_stops_all_levels(
    when: tuple[str, ...], words: str, level: str, approved_by: str | None
) -> None:
    verdict = judge(level, *when, approved_by=approved_by)
    assert not verdict.allowed
    assert words in verdict.why


def test_only_the_conditions_that_a_rule_names_are_looked_up() -> None:
    asked: list[str] = []

    def look(name: str) -> Fact:
        asked.append(name)
        return Fact(True, "")

    rule = Rule(level="low", when=("memory_high",))
    facts = {name: (lambda name=name: look(name)) for name in ("no_live_run", "memory_high", "disk_ok")}
    assert policy.judge(Settings(policy=Policy(restart_gateway=rule)), "restart-gateway", facts).allowed
    assert asked == ["memory_high"]


def test_a_run_with_real_money_or_of_which_nobody_can_tell_is_live(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert policy.no_live_run(state).holds
    folder = tmp_path / "runs" / "r1"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text("")
    state.write("runs/r1/live_state.json", {"status": "running", "venue": "polymarket"}, schema="mmtools.live_state/1")
    assert policy.no_live_run(state).holds
    with state.lock("runs/r1"):
        fact = policy.no_live_run(state)
    assert (fact.holds, "r1" in fact.why) == (False, True)


@pytest.mark.parametrize(
    ("level", "when", "words"),
    [
        ("medium", ("no_live_run",), None),
        ("high", (), "nobody approves it here"),
        ("forbidden", (), "is forbidden in ops.yaml"),
        ("low", ("no_running_work",), "no_running_work is not known"),
    ],
)
def test_a_command_that_nobody_approves_does_what_is_low_or_medium(tmp_path: Path, level: Any, when: Any, words: str | None) -> None:
    against = policy.objection(StateDir(tmp_path), Settings(policy=Policy(recover_tasks=Rule(level=level, when=when))), "recover-tasks")
    assert against is None if words is None else words in str(against)


@pytest.mark.parametrize(
    ("free_mb", "whole_mb", "holds"),
    [(150, 1000, False), (250, 1000, True), (250, 10_000, False), (600, 10_000, True), (1900, 2_000_000, False), (2100, 2_000_000, True)],
)
def test_a_twentieth_of_the_disk_is_to_be_free_but_no_more_than_a_restart_can_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mb: int, whole_mb: int, holds: bool
) -> None:
    room = os.statvfs_result((4096, 1_000_000, whole_mb, free_mb, free_mb, 1, 1, 1, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda place: room)
    assert policy.disk_ok([tmp_path]).holds is holds


def test_room_on_the_disk_is_that_of_each_folder_or_of_what_there_is_of_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "LEAST_FREE", 1)
    monkeypatch.setattr(policy, "LEAST_FREE_PART", 0.0)
    assert policy.disk_ok([tmp_path / "not" / "there", tmp_path]).holds
    monkeypatch.setattr(policy, "LEAST_FREE", 10**18)
    fact = policy.disk_ok([tmp_path])
    assert (fact.holds, str(tmp_path) in fact.why) == (False, True)
