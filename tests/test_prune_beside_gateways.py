"""prune-sessions again and again beside a gateway that writes 20 times a second, in each era: no update is lost, in either direction."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from commandline import Said, call
from gateways import FakeGateway, make_installation, put_openclaw_first
from stores import settings

from mmtools.ops.stale import Judge, Verdict

RUNS_S = 60.0
CHAT = "agent:main:slack:channel:c0abcd1234"
FIRST = {CHAT: {"sessionId": "c-1", "updatedAt": 1770573855797, "inputTokens": 0}}

Entries = dict[str, dict[str, Any]]

pytestmark = pytest.mark.slow


def prune_for(seconds: float, root: Path, config: Path) -> list[Said]:
    """Prune all the time, by the real clock, and return what each run said."""
    said, began = [], time.monotonic()
    while time.monotonic() - began < seconds:
        own = ("--json", "--state", root.with_name("state"), "--config", config, "--openclaw", root, "--what", "sessions")
        said.append(call("prune_sessions", *own))
        assert said[-1].code == 0, said[-1].err
    return said


def is_stale(key: str, entry: dict[str, Any]) -> bool:
    return Judge(agent="main", now_ms=int(time.time() * 1000), older_than_ms=86_400_000).judge(key, entry) is Verdict.STALE


def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: FakeGateway) -> Path:
    program = put_openclaw_first(monkeypatch, tmp_path, gateway.release, port=gateway.port)
    return settings(tmp_path / "around", url=gateway.url, program=str(program))


@pytest.mark.parametrize("release", ["2.9", "2.22", "4.29"])
def test_beside_a_gateway_of_the_lock_era_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    root = make_installation(tmp_path / "openclaw", {"main": FIRST})
    with FakeGateway(root, release, rate=20, lives_s=3 * RUNS_S) as gateway:
        said = prune_for(RUNS_S, root, world(tmp_path, monkeypatch, gateway))
        gateway.stop()
        last: Entries = {**FIRST, **{update["key"]: update["entry"] for update in gateway.updates()}}
    assert all(each.document["agents"][0]["route"] == "file" for each in said)
    left: Entries = json.loads((root / "agents/main/sessions/sessions.json").read_text())
    taken: Entries = {}
    trash = root / "agents" / "main" / "mmtools-trash"
    for each in said:
        run = trash / each.document["run"]
        if run.exists():
            before = json.loads((run / "sessions.json").read_text())
            for key in json.loads((run / "manifest.json").read_text())["entries"]:
                taken[key] = before[key]
                assert is_stale(key, before[key])
    assert len(taken) > 20
    # Every entry carries the number of its update, so one that is there is the last one, or an update was lost.
    assert {key: entry for key, entry in left.items() if entry != last[key]} == {}
    assert {key for key in last if key not in left and taken.get(key) != last[key]} == set()
    assert {key for key, entry in taken.items() if left.get(key) == entry} == set()


@pytest.mark.parametrize("release", ["7.1", "9.6"])
def test_beside_a_gateway_that_keeps_its_store_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    root = make_installation(tmp_path / "openclaw", {"main": FIRST})
    with FakeGateway(root, release, rate=20, lives_s=3 * RUNS_S) as gateway:
        said = prune_for(RUNS_S, root, world(tmp_path, monkeypatch, gateway))
        gateway.stop()
        updates = gateway.updates()
    expected: Entries = dict(FIRST)
    dropped = 0
    for update in updates:
        assert update["op"] != "reload", "somebody else wrote the store"
        if update["op"] == "put":
            expected[update["key"]] = update["entry"]
        else:
            assert is_stale(update["key"], expected.pop(update["key"]))
            dropped += 1
    assert all(each.document["agents"][0]["route"] == "gateway" for each in said)
    assert dropped == sum(each.document["agents"][0]["entries"]["gone"] for each in said) > 20
    if release == "7.1":
        left = json.loads((root / "agents/main/sessions/sessions.json").read_text())
    else:
        with closing(sqlite3.connect(root / "agents/main/agent/openclaw-agent.sqlite")) as db:
            left = {key: json.loads(entry) for key, entry in db.execute("select key, entry from sessions")}
    assert left == expected
