"""prune-sessions beside a gateway that runs: by its file where the lock protects it, through the gateway elsewhere, or not at all."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from commandline import Said, call
from gateways import FakeGateway, put_openclaw_first
from stores import ALONE, FRESH, HOUR_MS, NOW, NOW_MS, SHARED, STALE, STAY, Folder, entries, entry, picture, run_key, settings, small, write

from mmtools.errors import TryLater
from mmtools.ops.deleting import Deleter
from mmtools.ops.leftovers import Ages
from mmtools.ops.openclaw import Installation
from mmtools.ops.openclaw_program import Program
from mmtools.ops.pruning import Pruner, Rules
from mmtools.ops.routes import Route, route, still
from mmtools.ops.standing import Era, Gateway, Standing
from mmtools.ops.trash import Trash

RULES = Rules(now_ms=NOW_MS, older_than_ms=24 * HOUR_MS, sessions=True, ages=Ages(after_s={}))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return small(tmp_path / "openclaw")


class World:
    """A gateway of a release that runs for the folder, and the command that asks it."""

    def __init__(self, folder: Folder, patch: pytest.MonkeyPatch, gateway: FakeGateway) -> None:
        self.folder = folder
        around = folder.root.parent / "around"
        self.calls = around / "calls.jsonl"
        around.mkdir(exist_ok=True)
        program = put_openclaw_first(patch, around, gateway.release, port=gateway.port, calls=self.calls)
        self._config = settings(around, url=gateway.url, program=str(program))

    def prune(self, *args: str) -> Said:
        state = self.folder.root.parent / "around" / "state"
        own = ("--json", "--state", state, "--config", self._config, "--openclaw", self.folder.root, "--now", NOW)
        return call("prune_sessions", *own, *args)

    def asked(self, method: str) -> list[dict[str, Any]]:
        """Return the params of each call of a method."""
        calls = [json.loads(line) for line in self.calls.read_text().splitlines()]
        return [json.loads(words[words.index("--params") + 1]) for words in calls if words[:3] == ["gateway", "call", method]]


def test_in_the_lock_era_the_file_is_written_while_the_gateway_writes(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(folder.root, "2.22", rate=20) as gateway:
        world = World(folder, monkeypatch, gateway)
        gateway.wait_for_updates(3)
        said = world.prune()
        assert said.code == 0, said.err
        gateway.wait_for_updates(3)
        gateway.stop()
        (agent,) = said.document["agents"]
        assert (agent["gateway"], agent["era"], agent["route"]) == ("up", "lock", "file")
        assert agent["entries"]["gone"] == 2
        left = folder.read()
        assert not set(STALE) & set(left)
        assert set(STAY) <= set(left)
        for update in gateway.updates():
            assert left[update["key"]]["inputTokens"] >= update["entry"]["inputTokens"]


@pytest.mark.parametrize(("release", "era"), [("7.1", "queue"), ("9.6", "sqlite")])
def test_where_the_store_is_the_gateways_own_each_stale_run_is_deleted_by_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, release: str, era: str
) -> None:
    with FakeGateway(folder.root, release) as gateway:
        world = World(folder, monkeypatch, gateway)
        said = world.prune()
        assert said.code == 0, said.err
        (agent,) = said.document["agents"]
        assert (agent["gateway"], agent["era"], agent["route"]) == ("up", era, "gateway")
        assert (agent["entries"]["before"], agent["entries"]["gone"], agent["entries"]["left"]) == (6, 2, 0)
        assert [params["key"] for params in world.asked("sessions.delete")] == STALE  # the oldest first
        assert world.asked("sessions.cleanup") == []
        again = world.prune()
        assert again.document["agents"][0]["entries"] == {
            "before": 4, "gone": 0, "kept": 4, "kept_by": {"other": 3, "young": 1, "running": 0}, "left": 0,
        }  # fmt: skip
        assert len(world.asked("sessions.delete")) == 2
    assert (folder.sessions / f"{SHARED}.jsonl").exists()
    assert not (folder.sessions / f"{ALONE}.jsonl").exists()


def test_a_dry_run_asks_the_gateway_for_nothing_but_news(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(folder.root, "9.6") as gateway:
        world = World(folder, monkeypatch, gateway)
        before = picture(folder.root / "agents" / "main" / "sessions")
        said = world.prune("--dry-run")
        assert said.document["agents"][0]["entries"]["gone"] == 2
        assert world.asked("sessions.delete") == []
        assert picture(folder.root / "agents" / "main" / "sessions") == before
        assert folder.runs() == []


def test_files_beside_the_store_are_left_to_the_gateway(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(folder.root, "7.1") as gateway:
        world = World(folder, monkeypatch, gateway)
        before = set(folder.names())
        assert world.prune().document["agents"][0]["files"] == {}
        assert {name for name in before - set(folder.names()) if not name.endswith(".tmp")} == {f"{ALONE}.jsonl"}


def test_what_the_gateway_deleted_is_put_back_only_when_it_is_stopped(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(folder.root, "7.1") as gateway:
        world = World(folder, monkeypatch, gateway)
        run = world.prune().document["run"]
        said = world.prune("--undo", run)
        assert said.code == 77
        assert "stop it" in said.document["error"]["message"]
        gateway.stop()
        said = world.prune("--undo", run)
        assert said.code == 0, said.err
        assert said.document["places"][0]["entries"] == 2
    assert folder.read() == entries()
    assert folder.runs() == []


def test_what_was_not_reached_in_time_is_counted(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(folder.root, "7.1") as gateway:
        World(folder, monkeypatch, gateway)
        installation = Installation.open(str(folder.root))
        trash = Trash(folder.trash, folder.sessions)
        (agent,) = installation.agents()
        program = Program("openclaw", installation.environment)
        done = Deleter(agent=agent, era=Era.QUEUE, program=program, trash=trash, rules=RULES, budget_s=0).prune("20260211T200000Z-1")
        assert (done.gone, done.left) == (0, 2)
        assert folder.runs() == []


def test_a_session_that_runs_is_left_by_the_gateway_and_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list names no status in old releases: the gateway's refusal is the last word."""
    folder = small(tmp_path / "openclaw", store={run_key(ALONE): entry(ALONE, 50), run_key(FRESH): entry(FRESH, 60, status="running")})
    with FakeGateway(folder.root, "7.1") as gateway:
        world = World(folder, monkeypatch, gateway)
        said = world.prune()
        assert said.document["agents"][0]["entries"]["kept_by"]["running"] == 1
        assert [params["key"] for params in world.asked("sessions.delete")] == [run_key(ALONE)]


@pytest.mark.slow
def test_beside_a_gateway_that_hangs_nothing_is_touched(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(folder.root, "7.1") as gateway:
        world = World(folder, monkeypatch, gateway)
        gateway.freeze()
        before = picture(folder.root)
        said = world.prune()
        gateway.thaw()
        assert said.code == 77
        assert picture(folder.root) == before


def test_beside_a_running_gateway_a_broken_store_is_refused_with_the_last_good_copy(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = folder.sessions / "sessions.json.bak.1770000000000"
    write(copy, folder.store.read_bytes(), 9)
    with FakeGateway(folder.root, "7.1") as gateway:
        world = World(folder, monkeypatch, gateway)
        folder.store.write_bytes(folder.store.read_bytes()[:-40])
        before = picture(folder.root)
        said = world.prune()
        assert said.code == 77
        assert said.document["error"]["message"].endswith(f"Last good copy: {copy}")
        assert picture(folder.root) == before
        assert world.asked("sessions.delete") == []


def test_agents_without_sessions_are_nothing_to_do_beside_a_running_gateway(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.root / "agents" / "idle" / "sessions").mkdir(parents=True)
    with FakeGateway(folder.root, "7.1") as gateway:
        world = World(folder, monkeypatch, gateway)
        (folder.root / "agents" / "unknown-to-the-gateway").mkdir()
        said = world.prune()
        assert said.code == 0, said.err
        assert [(agent["agent"], agent["entries"]["before"]) for agent in said.document["agents"]] == [
            ("idle", 0), ("main", 6), ("unknown-to-the-gateway", 0),
        ]  # fmt: skip


def test_a_store_that_appears_under_a_running_gateway_is_not_replaced(tmp_path: Path) -> None:
    stands = Standing(gateway=Gateway.UP, era=None, why="it names no store of the agent main", version=None)
    installation = Installation(tmp_path)
    (tmp_path / "agents" / "main").mkdir(parents=True)
    assert route(installation.agents()[0], stands) is Route.FILE
    with pytest.raises(TryLater, match="keeps one"):
        still(installation, stands, "http://127.0.0.1:9")()


def test_a_store_left_over_beside_a_database_is_not_touched(folder: Folder) -> None:
    database = folder.root / "agents" / "main" / "agent" / "openclaw-agent.sqlite"
    database.parent.mkdir()
    with sqlite3.connect(database) as db:
        db.execute("create table schema_meta (k text primary key, v text)")
    db.close()
    before = picture(folder.root)
    config = settings(folder.root.parent / "around")
    said = call(
        "prune_sessions", "--json", "--state", folder.root.parent / "s", "--config", config, "--openclaw", folder.root, "--now", NOW
    )
    assert said.code == 77
    assert picture(folder.root) == before


def test_a_gateway_that_comes_up_before_the_rename_stops_it(folder: Folder) -> None:
    def came_up() -> None:
        raise TryLater("the gateway came up")

    before = picture(folder.root)
    pruner = Pruner(
        agent="main", folder=folder.sessions, store=folder.store, trash=Trash(folder.trash, folder.sessions), rules=RULES, still=came_up
    )
    with pytest.raises(TryLater, match="came up"):
        pruner.prune("20260211T200000Z-1")
    assert picture(folder.root) == before
