"""sd_notify: what a run says to the service manager that started it, on a real datagram socket; and when it stops saying it."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commandline import PATIENCE_S
from hail import market_directory, market_that_sells, quote_run, write_config
from loopback import WebSocketServer, unused_port
from small_runs import RUN_ID, Interrupted, runner_of_the_game

from mmtools.runs import session
from mmtools.runs.engine import Engine
from mmtools.runs.notify import EXTEND_EVERY_S, Notifier

ENDLESS = "feed: synthetic\nduration_hours: 8000\nrun_id: hail\n"
WATCHDOG_S = 0.4


class Manager:
    """What a service manager hears. `heard` holds every word so far, in order."""

    def __init__(self, address: str) -> None:
        self.heard: list[str] = []
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0.01)

    def listen(self) -> list[str]:
        """Take in all that has been said; return what is new."""
        new: list[str] = []
        while True:
            try:
                new += self._socket.recv(65536).decode().split("\n")
            except TimeoutError:
                self.heard += new
                return new

    def wait_for(self, word: str) -> None:
        """Wait until a word is said that begins so and was not heard before."""
        until = time.monotonic() + PATIENCE_S
        while not any(said.startswith(word) for said in self.listen()):
            assert time.monotonic() < until, f"no {word}; heard {self.heard}"

    def close(self) -> None:
        self._socket.close()

    @property
    def kinds(self) -> list[str]:
        """The words without their values, each once, in the order in which they came first."""
        return list(dict.fromkeys(word.partition("=")[0] for word in self.heard))


@contextmanager
def listening(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    try:
        yield manager
    finally:
        manager.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with listening(str(tmp_path / "notify")) as lent:
        yield lent


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    path = tmp_path / "endless.yaml"
    path.write_text(ENDLESS)
    return path


def environment(manager: Manager) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


# --- the words


def test_without_a_socket_nothing_is_told() -> None:
    for named in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "@"}, {"NOTIFY_SOCKET": "relative"}, {"WATCHDOG_USEC": "5"}):
        assert Notifier.of(named) is None


def test_the_start_is_said_once_and_on_one_line_and_after_it_that_the_loop_turns(manager: Manager) -> None:
    notifier = Notifier(manager.address, watchdog_s=60)
    notifier.ready("all\nwell")
    notifier.ready("again")
    assert manager.listen() == ["READY=1", "STATUS=all well", "WATCHDOG=1"]
    notifier.status("P&L +0.12")
    notifier.stopping()
    assert manager.listen() == ["STATUS=P&L +0.12", "STOPPING=1"]
    notifier.close()


def test_an_abstract_socket_is_spoken_to_as_well() -> None:
    with listening(f"@mmtools-test-{os.getpid()}") as manager:
        notifier = Notifier.of({"NOTIFY_SOCKET": manager.address})
        assert notifier is not None
        notifier.ready("up")
        notifier.close()
        assert manager.listen() == ["READY=1", "STATUS=up"]


def test_a_sign_of_life_comes_at_least_twice_within_the_time_of_the_watchdog_and_not_at_every_turn(manager: Manager) -> None:
    clock = Clock()
    notifier = Notifier(manager.address, watchdog_s=60, clock=clock)
    for _ in range(1200):  # turns of a tenth of a second: twice its time
        notifier.beat()
        clock.now_s += 0.1
    notifier.close()
    assert 4 <= manager.listen().count("WATCHDOG=1") <= 9


def test_without_a_watchdog_there_is_no_sign_of_life(manager: Manager) -> None:
    for named in ({}, {"WATCHDOG_USEC": "junk"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}):
        notifier = Notifier.of({"NOTIFY_SOCKET": manager.address, **named})
        assert notifier is not None
        notifier.beat()
        notifier.close()
    assert manager.listen() == []


def test_more_time_is_asked_for_now_and_then(manager: Manager) -> None:
    clock = Clock()
    notifier = Notifier(manager.address, clock=clock)
    for _ in range(3):
        notifier.extend()
        notifier.extend()
        clock.now_s += EXTEND_EVERY_S
    notifier.close()
    assert manager.listen() == ["EXTEND_TIMEOUT_USEC=120000000"] * 3


def test_a_manager_that_is_gone_or_does_not_read_disturbs_nobody(tmp_path: Path, manager: Manager) -> None:
    nobody = Notifier(str(tmp_path / "nobody"))
    nobody.status("anyone?")
    nobody.close()
    deaf = Notifier(manager.address)
    for _ in range(5000):
        deaf.status("x" * 500)  # more than its buffer holds
    deaf.close()


def test_a_manager_that_is_busy_hears_of_the_start_once_it_reads_again(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    for _ in range(5000):
        notifier.status("x" * 500)
    notifier.ready("it begins")
    assert not notifier.is_ready
    manager.listen()
    notifier.ready("it begins")
    assert notifier.is_ready
    assert "READY=1" in manager.listen()
    notifier.close()


# --- a real run


def test_a_run_says_when_it_is_ready_how_it_goes_that_it_lives_and_that_it_ends(tmp_path: Path, manager: Manager, endless: Path) -> None:
    with quote_run(endless, tmp_path / "state", env=environment(manager)) as process:
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    manager.listen()
    assert [kind for kind in manager.kinds if kind != "EXTEND_TIMEOUT_USEC"] == ["READY", "STATUS", "WATCHDOG", "STOPPING"]
    (status,) = [word for word in manager.heard if word.startswith("STATUS=")]
    assert "P&L +0.00 USDC, 0 fills; 0 orders rest in 0 of 1 markets; running 0.0 h" in status


def test_a_frozen_run_gives_no_sign_of_life_and_one_that_goes_on_does(tmp_path: Path, manager: Manager, endless: Path) -> None:
    with quote_run(endless, tmp_path / "state", env=environment(manager)) as process:
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1")
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        manager.listen()
        time.sleep(2 * WATCHDOG_S)
        assert manager.listen() == []
        process.send_signal(signal.SIGCONT)
        manager.wait_for("WATCHDOG=1")


def test_a_run_that_is_repeated_asks_for_time_before_it_is_ready(tmp_path: Path, manager: Manager, endless: Path) -> None:
    state = tmp_path / "state"
    with quote_run(endless, state, env=environment(manager)) as process:
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1")
        process.kill()
    manager.listen()
    manager.heard.clear()
    with quote_run(endless, state, env=environment(manager)):
        manager.wait_for("READY=1")
    assert manager.kinds[0] == "EXTEND_TIMEOUT_USEC"


def test_a_run_is_not_ready_while_it_repeats_what_an_earlier_process_did(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[bool, bool]] = set()
    moving: list[Engine] = []
    notifier = Notifier(manager.address)

    def look() -> None:
        seen.add((moving[0].journal.repeating(), notifier.is_ready))

    with runner_of_the_game(tmp_path, monkeypatch) as runner:
        runner.cut_off(6)
        feed = Interrupted(runner.feed, dict.fromkeys(range(1, 10), look), {})
        session.execute(runner.run, feed, runner.state, run_id=RUN_ID, notifier=notifier, on_engine=moving.append)
    assert (True, True) not in seen
    assert seen >= {(True, False), (False, True)}


def live(tmp_path: Path, gamma: str, stream: str) -> Path:
    return write_config(tmp_path / "live.yaml", gamma, stream)


def test_a_run_on_the_live_feed_is_ready_when_it_is_connected(tmp_path: Path, manager: Manager) -> None:
    with market_directory() as gamma, WebSocketServer(market_that_sells(0)) as server:
        with quote_run(live(tmp_path, gamma, server.url), tmp_path / "state", env=environment(manager)) as process:
            manager.wait_for("READY=1")
            assert server.peers
            manager.wait_for("WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
        manager.listen()
    assert manager.heard[-1] == "STOPPING=1"


def test_a_run_that_does_not_reach_the_venue_asks_for_time_and_gives_no_sign_that_it_is_ready(tmp_path: Path, manager: Manager) -> None:
    with market_directory() as gamma:
        nobody = f"ws://127.0.0.1:{unused_port()}/ws/market"
        with quote_run(live(tmp_path, gamma, nobody), tmp_path / "state", env=environment(manager)) as process:
            manager.wait_for("EXTEND_TIMEOUT_USEC")
            wait = tmp_path / "state/runs/hail/live_state.json"
            _wait(wait.exists)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
        manager.listen()
    assert "READY=1" not in manager.heard


def _wait(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.01)
