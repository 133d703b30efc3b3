"""The kill switch of a run: latches are added and cleared, never lost, and an unreadable switch is not an open one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import ERRORS, KILLS, Kind, every_fault

from mmtools.errors import Refused, TryLater
from mmtools.runs.switch import Switch
from mmtools.state import StateDir

HALT = {"kind": "halt", "why": "drawdown", "detail": "4 USDC below the peak"}


@pytest.fixture
def switch(tmp_path: Path) -> Switch:
    return Switch(StateDir(tmp_path), "one")


def latch(switch: Switch, detail: str = "the news is out", *, reduce_only: bool = False) -> None:
    switch.latch(reason="manual", detail=detail, by="anna", reduce_only=reduce_only)


def test_a_run_without_a_switch_is_open(switch: Switch) -> None:
    assert switch.latches() == []
    assert switch.closed() is None


def test_a_latch_closes_until_it_is_cleared_and_both_are_remembered(switch: Switch) -> None:
    latch(switch)
    closed = switch.closed()
    assert closed is not None
    assert (closed["reason"], closed["detail"], closed["by"]) == ("manual", "the news is out", "anna")
    assert switch.clear(by="ben", why="read it") == 1
    assert switch.closed() is None
    (remembered,) = switch.latches()
    assert remembered["detail"] == "the news is out"
    assert (remembered["cleared"]["by"], remembered["cleared"]["why"]) == ("ben", "read it")
    assert remembered["since"] <= remembered["cleared"]["at"]


def test_clearing_opens_every_latch_and_leaves_who_cleared_the_older_ones(switch: Switch) -> None:
    latch(switch, "first")
    switch.clear(by="ben", why="one")
    latch(switch, "second")
    latch(switch, "third", reduce_only=True)
    assert switch.clear(by="carl", why="two") == 2
    assert [each["cleared"]["by"] for each in switch.latches()] == ["ben", "carl", "carl"]


def test_reduce_only_does_not_forbid_a_run(switch: Switch) -> None:
    latch(switch, reduce_only=True)
    assert switch.closed() is None
    latch(switch, "now stop")
    assert (switch.closed() or {})["detail"] == "now stop"


def test_a_halt_in_the_journal_has_one_latch_however_often_it_is_asked_for(switch: Switch) -> None:
    latch(switch, "by hand, while it did not run")
    for _ in range(2):
        found = switch.of_halt(0, HALT)
        assert (found["halt"], found["reason"], found["detail"], found["by"]) == (0, "drawdown", "4 USDC below the peak", "quote-run")
    assert switch.of_halt(1, {**HALT, "detail": "again"})["halt"] == 1
    assert [each["halt"] for each in switch.latches()] == [None, 0, 1]


def test_a_halt_that_a_person_asked_for_is_that_persons_latch(switch: Switch) -> None:
    latch(switch, "first")
    latch(switch, "second")
    found = switch.of_halt(0, {**HALT, "latch": 1, "by": "anna"})
    assert found["detail"] == "second"
    assert len(switch.latches()) == 2


def test_a_run_has_its_own_switch(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    latch(Switch(state, "one"))
    assert Switch(state, "two").closed() is None


@pytest.mark.parametrize("harm", ["cut", "emptied", "edited", "moved aside before"])
def test_a_switch_that_cannot_be_read_is_not_an_open_one(switch: Switch, tmp_path: Path, harm: str) -> None:
    latch(switch)
    path = tmp_path / "runs/one/kill.json"
    harms: dict[str, Callable[[], object]] = {
        "cut": lambda: path.write_bytes(path.read_bytes()[:-30]),
        "emptied": lambda: path.write_bytes(b""),
        "edited": lambda: path.write_text(path.read_text().replace("anna", "otto")),
        "moved aside before": lambda: path.rename(path.with_name("kill.json.broken-20260607T120000Z-1")),
    }
    harms[harm]()
    for _ in range(2):  # the first look moves a broken file aside
        with pytest.raises(Refused):
            switch.closed()
    with pytest.raises(Refused):
        switch.clear(by="ben", why="it does not open")


def test_the_file_is_a_document_that_people_can_read(switch: Switch, tmp_path: Path) -> None:
    latch(switch)
    document = json.loads((tmp_path / "runs/one/kill.json").read_text())
    assert document["schema"] == "mmtools.kill/1"
    assert document["latches"][0]["since"].endswith("Z")


@pytest.mark.parametrize("kind", [*KILLS, *ERRORS])
def test_a_fault_while_latching_leaves_the_old_switch_or_the_new_one(switch: Switch, tmp_path: Path, kind: Kind) -> None:
    def second() -> int:
        try:
            latch(switch, "second")
        except TryLater:
            return 75
        return 0

    path = tmp_path / "runs/one/kill.json"
    latch(switch, "first")
    before = path.read_bytes()
    for outcome in every_fault(kind, second):
        details = [each["detail"] for each in switch.latches()]
        assert details[0] == "first"
        assert details[1:] in ([], ["second"])
        assert details[1:] or outcome.reached
        path.write_bytes(before)
