"""Whether a gateway runs and who may write the store: each row of what the witnesses can say, and every way in which they disagree.

What must never happen: DOWN while anything of a gateway is there, LOCK without the running gateway's own word for it, and a database
installation taken for a file or the other way round.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from commandline import PATIENCE_S
from gateways import FakeGateway, make_installation, put_openclaw_first
from loopback import unused_port
from serving import Handler, serving

from mmtools.ops import gateway_process
from mmtools.ops.openclaw import Agent, Installation
from mmtools.ops.openclaw_program import Kind, NoReply
from mmtools.ops.standing import Era, Gateway, Look, Standing, judge, look, standing, whether_down

LIMIT_S = 30.0
DOWN, UP, UNKNOWN = Gateway.DOWN, Gateway.UP, Gateway.UNKNOWN
ENTRY = {"agent:main:main": {"sessionId": "m-1", "updatedAt": 5}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_installation(tmp_path / "openclaw", {"main": ENTRY})


class World:
    """An installation, a port, and the command on PATH."""

    def __init__(self, root: Path, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
        self.installation = Installation(root)
        self._tmp_path, self._patch = tmp_path, patch

    @property
    def agent(self) -> Agent:
        return self.installation.agents()[0]

    def look(self, port: int, release: str | None, limit_s: float = LIMIT_S, **settings: object) -> Look:
        """Ask the witnesses, with a command of that release on PATH, or none."""
        program = str(self._tmp_path / "missing")
        if release is not None:
            program = str(put_openclaw_first(self._patch, self._tmp_path, release, port=port, **settings))
        return look(self.installation, program=program, url=f"http://127.0.0.1:{port}", limit_s=limit_s)

    def stand(self, port: int, release: str | None, limit_s: float = LIMIT_S, **settings: object) -> Standing:
        return judge(self.look(port, release, limit_s, **settings), self.agent)


@pytest.fixture
def world(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(root, tmp_path, monkeypatch)


def files(world: World, *, store: bool = True, database: bool = False) -> None:
    if not store:
        world.agent.store.unlink()
    if database:
        world.agent.database.parent.mkdir(parents=True, exist_ok=True)
        world.agent.database.write_bytes(b"SQLite format 3\0")


# the gateway is down


@pytest.fixture(scope="module")
def at_rest(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """What the port and the processes say when there is no gateway."""
    nobody = Installation(tmp_path_factory.mktemp("nobody"))
    return look(nobody, program=str(nobody.root / "missing"), url=f"http://127.0.0.1:{unused_port()}")


@pytest.mark.parametrize(
    ("release", "store", "database", "era"),
    [
        ("2.9", True, False, Era.LOCK),
        ("7.1", True, False, Era.QUEUE),
        (None, True, False, Era.FILE),
        ("5.1", True, False, Era.FILE),  # between the eras
        ("9.6", True, False, None),  # it will import the file when it starts
        ("9.6", False, True, Era.SQLITE),
        ("7.1", False, True, None),  # from 2026.5.30 on a database was there while sessions were still in the file
        (None, False, True, None),
        ("9.6", True, True, None),
        ("7.1", True, True, None),
        (None, True, True, None),
        ("7.1", False, False, Era.QUEUE),
        (None, False, False, None),
    ],
)
def test_at_rest_the_one_file_that_is_there_counts_if_the_release_agrees(
    world: World, at_rest: Look, release: str | None, store: bool, database: bool, era: Era | None
) -> None:
    files(world, store=store, database=database)
    stands = judge(replace(at_rest, program_version=release and f"2026.{release}"), world.agent)
    assert (stands.gateway, stands.era) == (DOWN, era), stands.why
    assert stands.version == (release and f"2026.{release}")


def test_at_rest_the_command_is_asked_for_its_release_alone(world: World, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    stands = world.stand(unused_port(), "5.2", calls=calls)
    assert (stands.gateway, stands.era, stands.version) == (DOWN, Era.QUEUE, "2026.5.2")
    assert [json.loads(line) for line in calls.read_text().splitlines()] == [["--version"]]
    assert (world.stand(unused_port(), None).gateway, world.stand(unused_port(), None).era) == (DOWN, Era.FILE)


@pytest.mark.parametrize(
    ("release", "era"),
    [
        ("2025.12.30", Era.LOCK),
        ("2026.2.6-3", Era.LOCK),
        ("2026.4.29", Era.LOCK),
        ("2026.4.30", None),
        ("2026.5.1", None),
        ("2026.5.2-beta.1", None),
        ("2026.5.2", Era.QUEUE),
        ("2026.6.1-beta.2", Era.QUEUE),
        ("2026.7.1", Era.QUEUE),
        ("2026.7.1-2", Era.QUEUE),
        ("2026.7.2-beta.1", Era.SQLITE),
        ("2026.7.32", Era.SQLITE),
        ("2026.7.33", Era.QUEUE),
        ("2026.7.35", Era.QUEUE),
        ("2026.7.36", None),
        ("2026.8.1", Era.SQLITE),
        ("2027.1.1", Era.SQLITE),
        ("dev", None),
    ],
)
def test_the_era_of_each_release(world: World, at_rest: Look, release: str, era: Era | None) -> None:
    files(world, store=False)
    assert judge(replace(at_rest, program_version=release), world.agent).era is era


def test_a_store_that_cannot_be_looked_at_is_not_one_that_is_missing(world: World) -> None:
    sessions = world.agent.store.parent
    for path in sessions.iterdir():
        path.unlink()
    sessions.rmdir()
    sessions.symlink_to(sessions)
    stands = world.stand(unused_port(), "7.1")
    assert (stands.gateway, stands.era) == (DOWN, None)
    assert "cannot be seen" in stands.why


def test_a_command_that_hangs_leaves_the_release_open(world: World) -> None:
    stands = world.stand(unused_port(), "7.1", limit_s=0.3, sleep_s=60)
    assert (stands.gateway, stands.era, stands.version) == (DOWN, Era.FILE, None)


# a closed port is not enough


def test_a_gateway_that_has_not_opened_its_port_is_not_down(world: World, root: Path) -> None:
    port = unused_port()
    with FakeGateway(root, "7.1", port=port, wait=False, start_s=60) as gateway:
        _until(lambda: Path(f"/proc/{gateway.pid}/comm").read_text() == "openclaw-gatewa\n")
        stands = world.stand(port, "7.1")
        assert (stands.gateway, stands.era) == (UNKNOWN, None)
        assert f"pid {gateway.pid}" in stands.why
        assert whether_down(world.installation, url=f"http://127.0.0.1:{port}")[0] is False
        gateway.kill()
        assert whether_down(world.installation, url=f"http://127.0.0.1:{port}") == (True, "nobody listens and no gateway process runs")


def test_a_gateway_of_another_folder_is_not_ours(world: World, tmp_path: Path) -> None:
    other = make_installation(tmp_path / "other", {"main": ENTRY})
    with FakeGateway(other, "7.1"):
        assert world.stand(unused_port(), "7.1").gateway is DOWN


def test_a_frozen_gateway_is_unknown_and_costs_no_call_of_the_command(world: World, root: Path, tmp_path: Path) -> None:
    with FakeGateway(root, "2.22") as gateway:
        gateway.freeze()
        calls = tmp_path / "calls"
        stands = world.stand(gateway.port, "2.22", limit_s=0.3, calls=calls)
        assert (stands.gateway, stands.era) == (UNKNOWN, None)
        assert not calls.exists()
        assert not whether_down(world.installation, url=gateway.url, limit_s=0.3)[0]


# the gateway answers


@pytest.mark.parametrize(
    ("release", "era"),
    [
        ("2.9", Era.LOCK),
        ("4.29", Era.LOCK),
        ("7.1", Era.QUEUE),
        ("7.33", Era.QUEUE),
        ("9.6", Era.SQLITE),
    ],
)
def test_a_running_gateway_and_its_command_agree(world: World, root: Path, release: str, era: Era) -> None:
    with FakeGateway(root, release) as gateway:
        stands = world.stand(gateway.port, release)
    assert (stands.gateway, stands.era, stands.version) == (UP, era, f"2026.{release}"), stands.why


def test_a_gateway_that_is_not_ready_runs_all_the_same(world: World, root: Path) -> None:
    with FakeGateway(root, "9.6", unready_s=60) as gateway:
        stands = world.stand(gateway.port, "9.6")
    assert (stands.gateway, stands.era) == (UP, Era.SQLITE)


@pytest.mark.parametrize(("running", "command"), [("4.29", "5.2"), ("7.1", "9.6"), ("9.6", "7.1"), ("7.1", "5.1")])
def test_a_command_of_another_era_than_the_gateway_that_runs_is_a_disagreement(
    world: World, root: Path, running: str, command: str
) -> None:
    with FakeGateway(root, running) as gateway:
        stands = world.stand(gateway.port, command)
    assert (stands.gateway, stands.era) == (UP, None)
    assert f"2026.{running}" in stands.why
    assert f"2026.{command}" in stands.why


def test_a_gateway_of_another_release_of_the_same_era_is_no_disagreement(world: World, root: Path) -> None:
    with FakeGateway(root, "5.2") as gateway:
        stands = world.stand(gateway.port, "7.1")
    assert (stands.gateway, stands.era, stands.version) == (UP, Era.QUEUE, "2026.5.2")


@pytest.mark.parametrize(("release", "calls_itself"), [("7.1", "2026.9.6"), ("9.6", "2026.7.1")])
def test_a_gateway_whose_release_does_not_fit_its_store_is_a_disagreement(
    world: World, root: Path, release: str, calls_itself: str
) -> None:
    with FakeGateway(root, release) as gateway:
        gateway.tell(version=calls_itself)
        _until(lambda: world.stand(gateway.port, calls_itself.removeprefix("2026.")).version == calls_itself)
        stands = world.stand(gateway.port, calls_itself.removeprefix("2026."))
    assert (stands.gateway, stands.era) == (UP, None)


def test_a_file_written_since_a_database_gateway_started_is_a_disagreement(world: World, root: Path) -> None:
    with FakeGateway(root, "9.6") as gateway:
        os.utime(world.agent.store, (time.time() + 60, time.time() + 60))
        stands = world.stand(gateway.port, "9.6")
    assert (stands.gateway, stands.era) == (UP, None)
    assert "written since" in stands.why


def test_a_gateway_that_keeps_another_folder_is_not_this_installations(world: World, root: Path, tmp_path: Path) -> None:
    other = make_installation(tmp_path / "other", {"main": ENTRY})
    with FakeGateway(other, "7.1") as gateway:
        stands = world.stand(gateway.port, "7.1")
    assert (stands.gateway, stands.era) == (UNKNOWN, None)
    assert str(other) in stands.why


def test_a_folder_reached_by_a_link_is_the_same_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(root)
    with FakeGateway(root, "7.1") as gateway:
        assert World(tmp_path / "link", tmp_path, monkeypatch).stand(gateway.port, "7.1").era is Era.QUEUE


def test_one_call_asks_and_judges(world: World, root: Path) -> None:
    with FakeGateway(root, "7.1") as gateway:
        looked = world.look(gateway.port, "7.1")
        asked = standing(world.installation, world.agent, program="openclaw", url=gateway.url, limit_s=LIMIT_S)
    assert asked == judge(looked, world.agent)


def test_an_agent_that_the_gateway_does_not_name_has_no_known_era(world: World, root: Path) -> None:
    with FakeGateway(root, "7.1") as gateway:
        (root / "agents" / "added-later" / "sessions").mkdir(parents=True)
        stands = world.stand(gateway.port, "7.1")  # of the first agent: "added-later"
    assert (stands.gateway, stands.era) == (UP, None)
    assert "added-later" in stands.why


# no call comes through


def test_a_live_probe_with_its_process_is_up_but_names_no_store(world: World, root: Path) -> None:
    os.utime(world.agent.store, (1_770_000_000, 1_770_000_000))
    with FakeGateway(root, "7.1") as gateway:
        stands = world.stand(gateway.port, None)
        assert (stands.gateway, stands.era) == (UP, None)


def test_then_a_file_written_since_the_start_is_in_use_but_by_which_era_is_open(world: World, root: Path) -> None:
    with FakeGateway(root, "7.1") as gateway:
        os.utime(world.agent.store, (time.time() + 60, time.time() + 60))
        assert (world.stand(gateway.port, None).gateway, world.stand(gateway.port, None).era) == (UP, Era.FILE)
    with FakeGateway(root, "9.6") as gateway:
        assert world.stand(gateway.port, None).era is None  # its own word is a release that keeps no file


def test_a_page_alone_may_be_any_server(world: World, root: Path) -> None:
    with FakeGateway(root, "2.9") as gateway:
        assert (world.stand(gateway.port, None).gateway, world.stand(gateway.port, None).era) == (UNKNOWN, None)


def test_a_gateway_with_probes_is_lock_only_by_its_own_word(world: World, root: Path) -> None:
    with FakeGateway(root, "4.29") as gateway:
        looked = world.look(gateway.port, "4.29")
    assert looked.gateway_version == "2026.4.29"
    assert judge(looked, world.agent).era is Era.LOCK
    silent = replace(looked, gateway_version=None, program_version="2026.4.29")
    assert judge(silent, world.agent).era is Era.FILE


def test_without_any_release_a_named_file_is_of_an_open_era(world: World, root: Path) -> None:
    with FakeGateway(root, "2.9") as gateway:
        looked = world.look(gateway.port, "2.9")
    silent = replace(looked, gateway_version=None, program_version=NoReply(Kind.TIMEOUT, ""))
    assert judge(silent, world.agent).era is Era.FILE


# the port of somebody else


@contextmanager
def foreign(body: bytes, kind: str, status: int = 200) -> Iterator[int]:
    class Asked(Handler):
        def do_GET(self) -> None:
            self.say(status, body, {"Content-Type": kind})

        do_POST = do_GET

    with serving(Asked) as url:
        yield int(url.rpartition(":")[2])


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"<html>another program</html>", "text/html", 200),
        (b'{"ok": true}', "application/json", 200),  # Mission Control's own /healthz
        (b"not found", "text/plain", 404),
        (b'{"detail": "busy"}', "application/json", 503),
    ],
)
@pytest.mark.parametrize("release", [None, "7.1"])
def test_a_foreign_server_on_the_port_is_neither_up_nor_down(
    world: World, body: bytes, kind: str, status: int, release: str | None
) -> None:
    with foreign(body, kind, status) as port:
        stands = world.stand(port, release)
        assert (stands.gateway, stands.era) == (UNKNOWN, None), stands.why


def test_a_port_that_hangs_up_is_neither_up_nor_down(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        assert world.stand(listener.getsockname()[1], "7.1").gateway is UNKNOWN


# processes


@pytest.mark.parametrize(
    ("line", "is_gateway"),
    [
        ("openclaw-gateway", True),
        ("openclaw gateway", True),
        ("/usr/local/bin/openclaw gateway --port 18789 --verbose", True),
        ("node /usr/lib/node_modules/openclaw/dist/index.js gateway --port 18789", True),
        ("node --max-old-space-size=512 /opt/openclaw/openclaw.mjs --profile x gateway run", True),
        ("openclaw gateway call health --json", False),
        ("node /usr/lib/node_modules/openclaw/dist/index.js gateway restart --safe", False),
        ("openclaw sessions --json", False),
        ("openclaw", False),
        ("vim /home/ops/.openclaw/gateway", False),
        ("python3 -m mmtools.commands.prune_sessions --openclaw /home/ops/.openclaw", False),
        ("", False),
    ],
)
def test_a_command_line_that_runs_a_gateway_is_told_from_one_that_asks_it(line: str, is_gateway: bool) -> None:
    assert gateway_process.is_gateway_call(line.split(" ")) is is_gateway


def test_a_gateway_is_known_by_its_command_line_before_it_has_its_title(root: Path, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "openclaw"
    script.parent.mkdir()
    script.write_text("import time; time.sleep(30)")
    argv = [sys.executable, "-S", str(script), "gateway", "--port", "1"]
    child = subprocess.Popen(argv, env={**os.environ, "OPENCLAW_STATE_DIR": str(root)})
    try:
        _until(lambda: b"gateway" in Path(f"/proc/{child.pid}/cmdline").read_bytes())
        found = gateway_process.of_folder(root)
        assert isinstance(found, tuple)
        assert [process.pid for process in found] == [child.pid]
        started_s = found[0].started_s
        assert started_s is not None
        assert abs(started_s - time.time()) < PATIENCE_S
        assert gateway_process.of_folder(tmp_path / "another") == ()
    finally:
        child.kill()
        child.wait(PATIENCE_S)


def test_a_dead_gateway_that_nobody_has_waited_for_does_not_run(root: Path) -> None:
    with FakeGateway(root) as gateway:
        os.kill(gateway.pid, signal.SIGKILL)
        _until(lambda: Path(f"/proc/{gateway.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        assert Path(f"/proc/{gateway.pid}/comm").read_text() == "openclaw-gatewa\n"
        assert gateway_process.of_folder(root) == ()


@pytest.mark.parametrize(
    ("environment", "more", "counts"),
    [
        (None, "", True),  # of another user: it cannot be read
        (b"A=1", "", True),
        (b"HOME=home", "", True),
        (b"OPENCLAW_STATE_DIR=relative\0HOME=/home/ops", "", True),
        (b"HOME=/home/ops\0OPENCLAW_PROFILE=work", "", True),  # where the folder of a profile is, is not known
        (b"HOME=/home/ops", "--profile\0work\0", True),
        (b"HOME=/home/ops", "--dev\0", True),
        (b"A=1\0OPENCLAW_STATE_DIR={root}/../openclaw\0HOME=/home/ops", "", True),
        (b"HOME={root}/home", "", True),
        (b"HOME=/home/ops", "", False),
        (b"A=1\0OPENCLAW_STATE_DIR=/srv/other\0B=2", "", False),
    ],
)
def test_a_process_that_does_not_say_whose_it_is_counts_as_ours(
    root: Path, tmp_path: Path, environment: bytes | None, more: str, counts: bool
) -> None:
    """In a folder made like /proc: a process like this one would be everybody's for as long as it runs."""
    (root / "home").mkdir(parents=True, exist_ok=True)
    (root / "home" / ".openclaw").symlink_to(root)
    for pid, line in ((os.getpid(), "pytest"), (77, f"openclaw\0gateway\0{more}")):
        folder = tmp_path / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "comm").write_text("node\n")
        (folder / "stat").write_text(f"{pid} (a) b) S 1")
        (folder / "cmdline").write_text(line)
    if environment is not None:
        (tmp_path / "proc" / "77" / "environ").write_bytes(environment.replace(b"{root}", bytes(root)))
    assert gateway_process.of_folder(root, tmp_path / "proc") == ((gateway_process.Process(77, None),) if counts else ())


def test_processes_that_cannot_be_read_leave_a_closed_port_open_to_doubt(world: World, root: Path, tmp_path: Path) -> None:
    looked = world.look(unused_port(), "7.1")
    assert judge(looked, world.agent).gateway is DOWN
    (tmp_path / "proc" / "1").mkdir(parents=True)
    for proc in (tmp_path / "missing", tmp_path / "proc"):  # the second shows other processes than ours
        unseen = gateway_process.of_folder(root, proc)
        assert isinstance(unseen, gateway_process.Unseen)
        assert judge(replace(looked, processes=unseen), world.agent).gateway is UNKNOWN


def test_nothing_is_changed_by_looking(world: World, root: Path) -> None:
    def tree() -> dict[str, tuple[int, int, bytes]]:
        return {str(path): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}

    with FakeGateway(root, "7.1") as gateway:
        before = tree()
        world.stand(gateway.port, "7.1")
    world.stand(unused_port(), "7.1")
    assert tree() == before
    assert json.loads(world.agent.store.read_text()) == ENTRY


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)
