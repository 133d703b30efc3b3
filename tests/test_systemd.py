"""What `systemctl` says, read; a fake one for what a real one seldom does, and a real user manager where the machine can run one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakemanager import FakeManager, served
from user_manager import LOGIN, UserManager, why_not

from mmtools.ops import systemd
from mmtools.ops.systemd import Declined, Manager, NotKnown, Told, Unit

ASK = """
import sys
from mmtools.ops import systemd
print(systemd.show(sys.argv[1:], manager=systemd.Manager.USER))
print(systemd.running(systemd.Manager.USER))
print(systemd.restart("quiet.service", manager=systemd.Manager.USER))
print(systemd.restart("nothing.service", manager=systemd.Manager.USER))
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManager]:
    with FakeManager(tmp_path, monkeypatch) as manager:
        yield manager


def one(name: str) -> Unit:
    found = systemd.show_one(name, manager=Manager.USER)
    assert isinstance(found, Unit)
    return found


def test_units_are_told_apart_by_name_and_one_that_is_not_there_says_so(manager: FakeManager) -> None:
    manager.add("first.service", served(), timeout_stop="5min 30s", memory_high="734003200", kill_mode="process")
    manager.add("second.service", served(), timeout_stop="infinity", load_state="loaded", unit_file_state="static")
    manager.start("first.service")
    found = systemd.show(["second.service", "nothing.service", "first.service"], manager=Manager.USER)
    assert isinstance(found, dict)
    first, second, nothing = found["first.service"], found["second.service"], found["nothing.service"]
    state = manager.state("first.service")
    assert (first.found, first.runs, first.main_pid, first.invocation_id) == (True, True, state["pid"], state["invocation"])
    assert (first.started_monotonic_us, first.timeout_stop_s, first.memory_high) == (state["started_us"], 330.0, 734_003_200)
    assert (first.kill_mode, first.memory_max, first.n_restarts) == ("process", None, 0)
    assert (second.found, second.runs, second.main_pid, second.started_monotonic_us) == (True, False, None, None)
    assert (second.timeout_stop_s, second.unit_file_state, second.active_state) == (float("inf"), "static", "inactive")
    assert (nothing.found, nothing.load_state) == (False, "not-found")
    assert systemd.running(Manager.USER) == ["first.service"]
    assert systemd.is_enabled("second.service", manager=Manager.USER) == "static"


def test_units_are_found_by_name_and_pattern_and_what_is_not_there_is_left_out(manager: FakeManager) -> None:
    manager.add("mmtools-card.service", served())
    manager.add("mmtools-pings.service", served())
    manager.start("mmtools-card.service")
    found = systemd.find(["mmtools-*", "nothing.service"], manager=Manager.USER)
    assert isinstance(found, dict)
    assert sorted(found) == ["mmtools-card.service", "mmtools-pings.service"]
    card, pings = found["mmtools-card.service"], found["mmtools-pings.service"]
    assert (card.name, card.runs, card.active_since.endswith(" UTC")) == ("mmtools-card.service", True, True)
    assert (pings.runs, pings.active_since) == (False, "")
    assert systemd.find(["quote-run@*"], manager=Manager.USER) == {}
    assert systemd.find([], manager=Manager.USER) == {}
    with pytest.raises(ValueError, match="no pattern"):
        systemd.find(["--all"], manager=Manager.USER)
    manager.mood("no bus")
    assert isinstance(systemd.find(["mmtools-*"], manager=Manager.USER), NotKnown)


def test_an_order_is_taken_or_declined_in_the_managers_words(manager: FakeManager) -> None:
    manager.add("one.service", served())
    manager.start("one.service")
    before = one("one.service")
    assert systemd.restart("one.service", manager=Manager.USER, no_block=False) == Told()
    assert one("one.service").invocation_id != before.invocation_id
    assert systemd.stop("one.service", manager=Manager.USER, no_block=False) == Told()
    assert one("one.service").active_state == "inactive"
    refused = systemd.start("nothing.service", manager=Manager.USER)
    assert isinstance(refused, Declined)
    assert "not found" in refused.why


def test_a_manager_that_does_not_answer_is_not_a_unit_that_is_down(manager: FakeManager) -> None:
    manager.add("one.service", served())
    manager.mood("no bus")
    for answer in (
        systemd.show(["one.service"], manager=Manager.USER),
        systemd.running(Manager.USER),
        systemd.restart("one.service", manager=Manager.USER),
        systemd.is_enabled("one.service", manager=Manager.USER),
    ):
        assert isinstance(answer, NotKnown)
        assert "No medium found" in answer.why
    manager.mood("hang")
    late = systemd.show_one("one.service", manager=Manager.USER, limit_s=0.2)
    assert isinstance(late, NotKnown)
    assert "did not end within 0.2 s" in late.why


def test_without_systemctl_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(systemd.show_one("one.service", manager=Manager.SYSTEM), NotKnown)


@pytest.mark.parametrize("name", ["--now", "a b.service", "one", "../one.service", "one.service\n", ""])
def test_what_is_no_name_of_a_unit_is_never_handed_on(manager: FakeManager, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a unit"):
        systemd.restart(name, manager=Manager.USER)
    assert manager.calls("restart") == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5min 30s", 330.0), ("90s", 90.0), ("1min 30s", 90.0), ("1h 1min 500ms", 3660.5), ("2w 3d", 1_468_800.0), ("250us", 0.00025),
        ("0", 0.0), ("infinity", float("inf")), ("", None), ("soon", None), ("5 parsecs", None), ("-5s", None),
    ],
)  # fmt: skip
def test_spans_of_time_are_read_as_systemd_writes_them(text: str, seconds: float | None) -> None:
    assert systemd._span(text) == seconds


@pytest.mark.skipif(why_not() is not None, reason=f"no real user manager here: {why_not()}; the fake one is asked above")
def test_a_real_user_manager_is_asked_without_the_environment_of_a_login(tmp_path: Path) -> None:
    with UserManager(tmp_path) as manager:
        manager.add("quiet.service", "[Service]\nExecStart=/bin/sleep 60\nTimeoutStopSec=330\nMemoryHigh=700M\n")
        assert manager.run("systemctl", "--user", "--runtime", "daemon-reload", env=LOGIN).returncode == 0
        assert manager.run("systemctl", "--user", "start", "quiet.service", env=LOGIN).returncode == 0
        said = manager.run(
            sys.executable, "-c", ASK, "quiet.service", "nothing.service", env={"PYTHONPATH": str(Path(__file__).parents[1])}
        )
    assert said.returncode == 0, said.stderr
    units, running, restarted, refused = said.stdout.splitlines()
    assert "active_state='active', sub_state='running'" in units
    assert "timeout_stop_s=330.0" in units
    assert f"memory_high={700 * 1024 * 1024}" in units
    assert "load_state='not-found'" in units
    assert (running, restarted) == ("['quiet.service']", "Told()")
    assert refused.startswith("Declined(")
