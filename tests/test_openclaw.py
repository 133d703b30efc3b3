"""An installation on disk: its agents and where each keeps its sessions. What cannot be read is never taken for empty."""

import json
from pathlib import Path

import pytest
from gateways import make_installation

from mmtools.errors import Refused
from mmtools.ops.openclaw import Installation, Unreadable, cron_jobs_file, subagent_runs_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    entry = {"sessionId": "s-1", "updatedAt": 1}
    return make_installation(tmp_path / "openclaw", {"work": {"agent:work:main": entry}, "main": {}}, jobs=[{"id": "j-2"}, {"id": "j-1"}])


def stores(root: Path) -> list[str]:
    return [str(agent.store) for agent in Installation(root).agents()]


def test_agents_are_the_folders_in_order_and_nothing_else(root: Path) -> None:
    (root / "agents" / "not an agent").mkdir()
    (root / "agents" / ".hidden").mkdir()
    (root / "agents" / "afile").touch()
    agents = Installation(root).agents()
    assert [agent.id for agent in agents] == ["main", "work"]
    assert agents[1].folder == root / "agents" / "work"
    assert agents[1].store == root / "agents" / "work" / "sessions" / "sessions.json"
    assert agents[1].database == root / "agents" / "work" / "agent" / "openclaw-agent.sqlite"


def test_without_an_installation_there_are_no_agents(tmp_path: Path) -> None:
    assert Installation(tmp_path / "nothing").agents() == ()


def test_where_it_is_follows_openclaw_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OPENCLAW_STATE_DIR", raising=False)
    monkeypatch.delenv("OPENCLAW_CONFIG_PATH", raising=False)
    assert Installation.open(None).root == tmp_path / ".openclaw"
    assert Installation.open(None).config == tmp_path / ".openclaw" / "openclaw.json"
    monkeypatch.setenv("OPENCLAW_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OPENCLAW_CONFIG_PATH", str(tmp_path / "elsewhere.json"))
    here = Installation.open(None)
    assert (here.root, here.config) == (tmp_path / "state", tmp_path / "elsewhere.json")
    assert here.environment == {"OPENCLAW_STATE_DIR": str(tmp_path / "state"), "OPENCLAW_CONFIG_PATH": str(tmp_path / "elsewhere.json")}
    named = Installation.open("~/other")
    assert (named.root, named.config) == (tmp_path / "other", tmp_path / "other" / "openclaw.json")
    assert named.environment["OPENCLAW_CONFIG_PATH"] == str(tmp_path / "other" / "openclaw.json")  # else the command would follow ours


def test_a_config_of_json5_may_move_the_store(root: Path, tmp_path: Path) -> None:
    config = f"{{ // ours\n gateway: {{port: 1}},\n session: {{store: '{tmp_path}/moved/{{agentId}}/s.json',}},\n}}"
    (root / "openclaw.json").write_text(config)
    assert stores(root) == [f"{tmp_path}/moved/main/s.json", f"{tmp_path}/moved/work/s.json"]


@pytest.mark.parametrize("config", ["{}", "{session: {}}", "{session: {reset: 'daily'}}", '{"session": {"store": null}}'])
def test_a_config_that_does_not_move_the_store_leaves_it(root: Path, config: str) -> None:
    (root / "openclaw.json").write_text(config)
    assert stores(root) == [str(root / "agents" / name / "sessions" / "sessions.json") for name in ("main", "work")]


@pytest.mark.parametrize(
    "config",
    [
        "{session: {store: ",
        "",
        "[]",
        "{session: []}",
        "{session: {store: 5}}",
        "{session: {store: 'relative/{agentId}.json'}}",
        "{session: {store: '/x/${HOME}/{agentId}.json'}}",
        "{session: {store: '/x/{agent}/s.json'}}",
        "{$include: './more.json'}",
        "{session: {$include: './session.json'}}",
    ],
)
def test_where_a_config_leaves_the_store_open_nothing_is_guessed(root: Path, config: str) -> None:
    (root / "openclaw.json").write_text(config)
    with pytest.raises(Refused, match=r"openclaw\.json"):
        Installation(root).agents()


def test_an_include_beside_a_named_store_changes_nothing(root: Path) -> None:
    (root / "openclaw.json").write_text("{$include: './more.json', session: {store: '/x/{agentId}.json'}}")
    assert stores(root) == ["/x/main.json", "/x/work.json"]


def test_jobs_are_read_as_they_are(root: Path) -> None:
    assert cron_jobs_file(Installation(root)) == ({"id": "j-2"}, {"id": "j-1"})


@pytest.mark.parametrize("content", ["", '{"version": 1, "jobs": [', "[]", '{"jobs": {}}', '{"jobs": [{"name": "no id"}]}', "[" * 100_000])
def test_a_cron_store_that_cannot_be_read_is_not_one_without_jobs(root: Path, content: str) -> None:
    (root / "cron" / "jobs.json").write_text(content)
    found = cron_jobs_file(Installation(root))
    assert isinstance(found, Unreadable)
    assert not found.absent


def test_bytes_that_are_no_text_are_unreadable(root: Path) -> None:
    (root / "cron" / "jobs.json").write_bytes(b'{"jobs": [{"id": "\xff"}]}')
    assert isinstance(cron_jobs_file(Installation(root)), Unreadable)


def test_a_cron_store_that_is_not_there_says_so(root: Path) -> None:
    (root / "cron" / "jobs.json").unlink()
    found = cron_jobs_file(Installation(root))
    assert isinstance(found, Unreadable)
    assert found.absent


def test_the_register_of_sub_agents_is_handed_on_as_it_is(root: Path) -> None:
    assert isinstance(subagent_runs_file(Installation(root)), Unreadable)
    (root / "subagents").mkdir()
    (root / "subagents" / "runs.json").write_text(json.dumps({"version": 2, "runs": {"r": {"odd": [1]}}}))
    assert subagent_runs_file(Installation(root)) == {"version": 2, "runs": {"r": {"odd": [1]}}}
