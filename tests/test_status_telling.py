"""status-update tells: chats and a board on 127.0.0.1 get what is due, one that hangs keeps nobody else from it, and no secret shows."""

import socket
from collections.abc import Iterator
from pathlib import Path

import fake_chats
import pytest
from commandline import Said, call, config
from fake_chats import Chat
from fake_mission_control import TOKEN, MissionControl
from status_worlds import HANGS, be_alone, place_systemctl

from mmtools import outbox
from mmtools.ops import post
from mmtools.outbox import Level
from mmtools.state import StateDir


class World:
    """A state folder with an alert that waits, and settings with chats and a board."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, StateDir(folder / "state")
        self.ops = folder / "ops.yaml"
        self._lines: list[str] = []
        outbox.raise_alert(self.state, "key:1", "the news @everyone", level=Level.WARNING, source="a test")

    def secret(self, name: str, text: str) -> Path:
        file = self.folder / f"{name}.secret"
        file.write_text(text)
        file.chmod(0o600)
        return file

    def add_chats(self, **chats: Chat) -> None:
        self._lines.append("chats:")
        for name, chat in chats.items():
            self._lines.append(f"  - name: {name}\n    url: {{file: {self.secret(name, chat.url)}}}")

    def add_board(self, board: MissionControl, task: str) -> None:
        token = self.secret("board", TOKEN)
        self._lines.append(f"mission_control:\n  url: {board.url}\n  board: {board.board}\n  task: {task}\n  token: {{file: {token}}}")

    def add(self, text: str) -> None:
        self._lines.append(text)

    def update(self, *args: str) -> Said:
        config(self.ops, "\n".join(self._lines) + "\n")
        return call("status_update", "--state", self.state.root, "--config", self.ops, "--json", *args)

    def written(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.state.root.rglob("*")) if path.is_file())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    be_alone(tmp_path, monkeypatch)
    return World(tmp_path)


@pytest.fixture
def chat() -> Iterator[Chat]:
    with Chat() as fake:
        yield fake


@pytest.fixture
def board() -> Iterator[MissionControl]:
    with MissionControl() as fake:
        yield fake


def test_alerts_and_the_card_go_out_once_and_a_card_without_news_does_not(world: World, chat: Chat, board: MissionControl) -> None:
    task = board.add("status")["id"]
    world.add_chats(phone=chat)
    world.add_board(board, task)
    first = world.update()
    assert first.code == 0
    assert first.document["told"]["board"] == {"did": "written", "why": ""}
    assert first.document["told"]["chats"]["phone"]["keys"] == ["key:1"]
    assert len(chat.received) == 2
    assert "the news" in chat.texts[0]
    assert chat.texts[1].startswith("mmtools on ")
    assert board.tasks[0]["description"].startswith("mmtools on ")
    second = world.update()
    assert second.document["told"] == {
        "chats": {"phone": {"alerts": None, "keys": [], "status": None, "status_is_due": False}},
        "waiting": [],
        "busy": False,
        "board": {"did": "unchanged", "why": ""},
    }
    assert len(chat.received) == 2
    assert board.asked["PATCH"] == 1


def test_the_job_of_every_minute_sends_alerts_and_nothing_else(world: World, chat: Chat, board: MissionControl) -> None:
    world.add_chats(phone=chat)
    world.add_board(board, board.add("status")["id"])
    told = world.update("--alerts").document["told"]
    assert (told["chats"]["phone"]["alerts"], told["chats"]["phone"]["status"], told["board"]) == ("sent", None, None)
    assert len(chat.received) == 1
    assert board.asked.total() == 0


@pytest.mark.parametrize("option", ["--no-send", "--dry-run"])
def test_nothing_leaves_the_machine_when_it_must_not(option: str, world: World, chat: Chat, board: MissionControl) -> None:
    world.add_chats(phone=chat)
    world.add_board(board, board.add("status")["id"])
    said = world.update(option)
    assert said.code == 0
    assert (chat.received, board.asked.total()) == ([], 0)
    if option == "--dry-run":
        assert said.document["told"]["chats"]["phone"]["keys"] == ["key:1"]
    assert post.pending(world.state) == ["key:1"]


@pytest.mark.slow
def test_though_everything_hangs_the_chat_that_answers_gets_its_message(world: World, chat: Chat) -> None:
    place_systemctl(world.folder, before=HANGS)
    (world.folder / "openclaw").mkdir()
    with Chat(fake_chats.NEVER) as hanging, socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        world.add_chats(hangs=hanging, phone=chat)
        token = world.secret("board", TOKEN)
        world.add(f"mission_control:\n  url: {address}\n  board: b\n  task: t\n  token: {{file: {token}}}")
        world.add(f"openclaw:\n  url: {address}")
        said = world.update()
        assert said.code == 1
        told = said.document["told"]
        assert told["chats"]["phone"]["alerts"] == "sent"
        assert told["chats"]["hangs"]["alerts"] != "sent"
        assert told["board"]["did"] == "failed"
        assert any("the news" in text for text in chat.texts)


def test_while_another_one_sends_it_waits_and_then_leaves_it_to_that_one(world: World, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add_chats(phone=chat)
    with monkeypatch.context() as patch, world.state.lock(post.LOCK):
        patch.setattr("mmtools.commands.status_update.LIMIT_S", 3.0)
        said = world.update()
    assert said.code == 0
    assert said.document["told"]["busy"] is True
    assert chat.received == []
    assert world.update().document["told"]["busy"] is False
    assert chat.received


def test_no_secret_shows_and_nobody_is_called(world: World, chat: Chat, board: MissionControl) -> None:
    world.add_chats(phone=chat)
    world.add_board(board, "no such task")
    said = world.update()
    assert said.document["told"]["board"]["did"] == "refused"
    for secret in (chat.token, TOKEN, chat.url):
        assert secret not in said.out + said.err
        assert secret.encode() not in world.written()
    assert chat.received
    assert "@everyone" not in "".join(chat.texts)
