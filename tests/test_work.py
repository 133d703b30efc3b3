"""What a restart would cut: said by a program in the place of `openclaw`, which answers what it is told to."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmtools.ops import work
from mmtools.ops.settings import OpenClaw
from mmtools.ops.work import Work


def claw(folder: Path, *, code: int = 0, **answers: Any) -> OpenClaw:
    """Return the settings of a gateway whose command answers each method ("sessions_list" for sessions.list) with what is given."""
    program = folder / "openclaw"
    for method, answer in answers.items():
        (folder / method.replace("_", ".")).write_text(f"a note first\n{json.dumps(answer)}\n")
    program.write_text(f'#!/bin/sh\n[ "$1 $2" = "gateway call" ] || exit 9\ncat "{folder}/$3" || exit 1\nexit {code}\n')
    program.chmod(0o755)
    return OpenClaw(program=str(program), root=str(folder))


def sessions(*statuses: str | None, **more: Any) -> dict[str, Any]:
    rows = [{"key": f"agent:main:{n}", **({} if status is None else {"status": status})} for n, status in enumerate(statuses)]
    return {"sessions": rows, **more}


@pytest.mark.parametrize(
    ("answers", "names", "unknown"),
    [
        ({"status": {"shutdownBudget": {"activeWork": 3}}}, ("3 of the gateway's own",), ""),
        ({"status": {"shutdownBudget": {"activeWork": 0}}}, (), ""),
        ({"status": {}, "sessions_list": sessions("done", "running", "failed", "running")}, ("agent:main:1", "agent:main:3"), ""),
        ({"status": {}, "sessions_list": sessions("done")}, (), ""),
        ({"status": {}, "sessions_list": sessions()}, (), ""),
        ({"status": {}, "sessions_list": sessions(None, None)}, (), "does not say which sessions run"),
        ({"status": {}, "sessions_list": sessions("running", hasMore=True)}, ("agent:main:0",), "not all of its sessions"),
        ({"status": {}, "sessions_list": {}}, (), "listed no sessions"),
    ],
    ids=["counted", "counted none", "by status", "none runs", "no session", "an old release", "a page of more", "no list"],
)
def test_what_a_gateway_does_is_what_it_says_and_no_word_is_not_nothing(
    tmp_path: Path, answers: dict[str, Any], names: tuple[str, ...], unknown: str
) -> None:
    found = work.of_gateway(claw(tmp_path, **answers))
    assert found.names == names
    assert unknown in found.unknown
    assert bool(found.unknown) == bool(unknown)


def test_a_command_that_fails_or_is_not_there_tells_nothing(tmp_path: Path) -> None:
    failing = claw(tmp_path, code=1, status={"ok": False, "error": {"kind": "closed", "message": "gateway closed (1006)"}})
    for asked in (failing, OpenClaw(program=str(tmp_path / "nowhere"), root=str(tmp_path))):
        found = work.of_gateway(asked)
        assert (found.names, bool(found.unknown), found.none) == ((), True, False)
        assert work.is_well(asked) is None


@pytest.mark.parametrize(("said", "well"), [({"ok": True, "agents": []}, True), ({"agents": []}, None)])
def test_a_gateway_is_well_when_its_command_says_so(tmp_path: Path, said: dict[str, Any], well: bool | None) -> None:
    assert work.is_well(claw(tmp_path, health=said)) is well


def test_nothing_is_under_way_only_when_all_is_known() -> None:
    assert Work(names=()).none
    assert not Work(names=(), unknown="it does not say").none
