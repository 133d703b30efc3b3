"""The units of systemd/: what they say, that `systemd-analyze verify` has nothing to say to it, and that a real user manager runs them."""

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE_S, ROOT, call
from houses import calls, house
from user_manager import LOGIN, UserManager, why_not

from mmtools.errors import Misconfigured
from mmtools.ops import templates
from mmtools.ops.templates import Place
from mmtools.state import StateDir

JOBS = ("status", "alerts", "memory", "prune", "snapshot", "report")
GATEWAY = "openclaw-gateway.service"
NO_MANAGER = why_not()
real = pytest.mark.skipif(NO_MANAGER is not None, reason=f"no real user manager here: {NO_MANAGER}; what the units say is checked above")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return house(tmp_path)


@pytest.fixture
def units(place: Place) -> dict[str, str]:
    return templates.units(place, place.commands())


def parsed(text: str) -> configparser.RawConfigParser:
    unit = configparser.RawConfigParser(strict=False, allow_no_value=True)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read_string(text)
    return unit


def wait_until(reached: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < until, what
        time.sleep(0.02)


# --- what they say


def test_every_job_has_a_service_and_a_timer_and_nothing_is_left_to_fill_in(units: dict[str, str]) -> None:
    jobs = {f"mmtools-{job}.{kind}" for job in JOBS for kind in ("service", "timer")}
    assert units.keys() == jobs | {"quote-run@.service", "mmtools-failed@.service", "mmtools-after-start@.service"}
    assert not [name for name, text in units.items() if re.search(r"@[A-Z]+@", text)]


def test_every_service_is_bounded_and_may_not_become_more_than_it_is(units: dict[str, str]) -> None:
    for name, text in units.items():
        if not name.endswith(".service"):
            continue
        service = parsed(text)["Service"]
        assert service["NoNewPrivileges"] == "yes", name
        assert re.fullmatch(r"(512M|1G)", service["MemoryMax"]), name
        assert service["LimitCORE"] == "0", name
        assert re.fullmatch(r"(\d+|\d+min|1h)", service["TimeoutStartSec"]), name
        assert service["ProtectSystem"] in ("full", "strict"), name
        if name != "quote-run@.service":
            assert (service["Type"], service["Nice"]) == ("oneshot", "10"), name


def test_a_failure_raises_an_alert_and_the_alert_itself_none(units: dict[str, str]) -> None:
    quiet = {"mmtools-alerts.service", "mmtools-failed@.service"}
    for name, text in units.items():
        if name.endswith(".service"):
            assert parsed(text)["Unit"].get("OnFailure") == (None if name in quiet else "mmtools-failed@%n.service"), name


def test_timers_make_up_for_a_night_without_power_where_it_matters_and_do_not_all_ask_at_once(units: dict[str, str]) -> None:
    for job in JOBS:
        timer = parsed(units[f"mmtools-{job}.timer"])["Timer"]
        assert timer["Persistent"] == ("true" if job in ("prune", "snapshot", "report") else "false"), job
        assert timer["RandomizedDelaySec"] != "0", job
        assert timer["FixedRandomDelay"] == "true", job
        assert timer["AccuracySec"] in ("1s", "10s", "1min"), job


def test_a_run_is_watched_started_again_and_not_where_that_does_not_help(units: dict[str, str]) -> None:
    service = parsed(units["quote-run@.service"])["Service"]
    assert (service["Type"], service["NotifyAccess"], service["WatchdogSec"]) == ("notify", "main", "60")
    assert (service["Restart"], service["RestartPreventExitStatus"], service["SuccessExitStatus"]) == ("on-failure", "2 77 78", "130")
    assert service["ExecStart"].endswith('/config/mmtools/runs/%i.yaml" --run-id %i --owner systemd')


def test_a_unit_whose_command_is_not_there_is_left_out_with_its_timer(tmp_path: Path) -> None:
    place = house(tmp_path, ("quote-run", "snapshot"))
    assert templates.units(place, place.commands()).keys() == {"quote-run@.service", "mmtools-snapshot.service", "mmtools-snapshot.timer"}


@pytest.mark.parametrize("folder", ["/a'b", "/a$b", "/a\\b", "/a\nb"])
def test_a_folder_that_cannot_stand_in_a_unit_is_refused(place: Place, folder: str) -> None:
    with pytest.raises(Misconfigured, match="cannot stand in a unit"):
        templates.units(replace(place, state=Path(folder)), place.commands())


def test_every_command_of_a_unit_is_there_and_takes_its_options() -> None:
    """What a unit runs is run with --help behind it: an option that is not there exits 2 even so."""
    services = sorted((ROOT / "systemd").glob("*.service"))
    assert len(services) == 9
    for file in services:
        program, *options = shlex.split(parsed(file.read_text())["Service"]["ExecStart"])
        name = Path(program).name
        assert (ROOT / "bin" / name).is_symlink(), f"{file.name}: bin/{name} is not there"
        assert call(name.replace("-", "_"), *options, "--help").code == 0, file.name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_analyze_has_nothing_to_say(place: Place, units: dict[str, str], tmp_path: Path) -> None:
    """Not even on stderr: an unknown key is only a line there."""
    write(place.units, units)
    write(place.units, {GATEWAY: "[Service]\nExecStart=/bin/sleep 60\n", f"{GATEWAY}.d/mmtools.conf": templates.drop_in(place)})
    said = verify(place, tmp_path)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    (place.units / "mmtools-prune.service").write_text(units["mmtools-prune.service"] + "MemoryMaximum=1G\n")
    assert "MemoryMaximum" in verify(place, tmp_path).stderr


def write(folder: Path, units: dict[str, str]) -> None:
    for name, text in units.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def verify(place: Place, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    runtime = tmp_path / "runtime"
    runtime.mkdir(exist_ok=True)
    return subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", *(str(file) for file in sorted(place.units.iterdir()) if file.is_file())],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


# --- a real user manager

INSTALL = """
import json, sys
from pathlib import Path
from mmtools.ops import installation
from mmtools.ops.templates import Place
from mmtools.state import StateDir
told = {key: value if key in ("path", "user", "host", "carried") else Path(value) for key, value in json.loads(sys.argv[1]).items()}
place, state = Place(**told), StateDir(told["state"])
if sys.argv[2] == "install":
    plan = installation.plan_install(state, place, how="systemd", why="", gateway_unit=None)
else:
    plan = installation.plan_uninstall(state, place)
installation.carry_out(state, plan)
print(json.dumps([plan.is_empty, plan.kept, [argv[0] for argv in (*plan.start, *plan.stop, *plan.after)]]))
"""


class Manager:
    """A user manager with our units; systemctl is called as a login does."""

    def __init__(self, manager: UserManager) -> None:
        self._manager = manager

    def tell(self, *words: str) -> None:
        done = self._manager.run("systemctl", "--user", *words, env=LOGIN)
        assert done.returncode == 0, done.stderr

    def shows(self, unit: str, *keys: str) -> dict[str, str]:
        done = self._manager.run("systemctl", "--user", "show", unit, *(f"--property={key}" for key in keys), env=LOGIN)
        assert done.returncode == 0, done.stderr
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def show(self, unit: str, key: str) -> str:
        return self.shows(unit, key)[key]


@real
def test_a_real_user_manager_runs_every_job_and_recovers_after_a_start_of_the_gateway(place: Place, tmp_path: Path) -> None:
    with UserManager(tmp_path) as started:
        own = replace(place, units=started.home / ".config" / "systemd" / "user")
        write(own.units, templates.units(own, own.commands()))
        drop_in = templates.drop_in(own)
        write(own.units, {GATEWAY: "[Service]\nExecStart=/bin/sleep 60\n", f"{GATEWAY}.d/mmtools.conf": drop_in})
        (place.state / "logs").mkdir(parents=True)
        manager = Manager(started)
        manager.tell("daemon-reload")
        for job in JOBS:
            manager.tell("start", f"mmtools-{job}.service")
            assert manager.show(f"mmtools-{job}.service", "Result") == "success"
        timers = [f"mmtools-{job}.timer" for job in JOBS]
        manager.tell("enable", "--now", *timers)
        for timer in timers:
            assert manager.shows(timer, "ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}
            assert manager.show(timer, "NextElapseUSecRealtime") != ""
        manager.tell("disable", "--now", *timers)
        before = len(calls(place))
        manager.tell("start", GATEWAY)
        wait_until(lambda: len(calls(place)) > before, "nothing was started after the gateway")
        assert calls(place)[before:] == [f"recover --after-start {GATEWAY}"]
        assert manager.show(GATEWAY, "ActiveState") == "active"
        failing = place.root / "bin" / "_launch"
        failing.write_text(failing.read_text() + 'test "${0##*/}" != snapshot\n')
        before = len(calls(place))
        started.run("systemctl", "--user", "start", "mmtools-snapshot.service", env=LOGIN)
        wait_until(lambda: len(calls(place)) > before + 1, "nobody was told")
        assert calls(place)[before:] == ["snapshot", "status-update --alerts"]


@real
@pytest.mark.slow
def test_a_real_user_manager_is_told_of_an_installation_once_and_of_its_end(place: Place, tmp_path: Path) -> None:
    """With the bare environment of cron: nobody names the manager's bus."""
    with UserManager(tmp_path) as started:
        own = replace(place, units=started.home / ".config" / "systemd" / "user")
        told = json.dumps({name: getattr(own, name) for name in Place.__slots__}, default=str)
        manager, timers = Manager(started), [f"mmtools-{job}.timer" for job in JOBS]

        def run(what: str) -> list[object]:
            done = started.run(sys.executable, "-c", INSTALL, told, what, env={"PYTHONPATH": str(ROOT)})
            assert done.returncode == 0, done.stderr
            said: list[object] = json.loads(done.stdout)
            return said

        assert run("install") == [False, [], ["daemon-reload", "enable"]]
        assert {manager.show(timer, "ActiveState") for timer in timers} == {"active"}
        assert run("install") == [True, [], []]
        assert run("uninstall") == [False, [], ["disable", "daemon-reload"]]
        assert {manager.show(timer, "LoadState") for timer in timers} == {"not-found"}
        assert [path for path in own.units.rglob("*") if not path.is_dir()] == []


@real
@pytest.mark.slow
def test_a_real_user_manager_revives_a_frozen_and_a_killed_run_until_its_budget_is_spent(tmp_path: Path) -> None:
    """The real command. Only the times are shorter, and there is no /tmp of its own: it would hide this test's files."""
    with UserManager(tmp_path, lives_s=120) as started:
        config = started.home / ".config"
        own = Place(
            root=ROOT, state=tmp_path / "state", config=config / "mmtools", units=config / "systemd" / "user", cache=tmp_path / "cache",
            path=os.environ["PATH"], user="anna", host="one",
        )  # fmt: skip
        quick = "[Service]\nWatchdogSec=2\nRestartSec=100ms\nPrivateTmp=no\n"
        write(own.units, {**templates.units(own, {"quote-run"}), "quote-run@.service.d/quick.conf": quick})
        write(own.config, {"runs/rain.yaml": "feed: synthetic\nduration_hours: 8000\n"})
        own.state.mkdir()
        manager = Manager(started)
        manager.tell("daemon-reload")
        manager.tell("start", "quote-run@rain.service")  # returns when it is ready
        assert "P&L" in manager.show("quote-run@rain.service", "StatusText")
        died: list[int] = []
        for number in (signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL, signal.SIGKILL):
            wait_until(lambda: is_up(manager, died), f"it is not up again after {len(died)}")
            died.append(int(manager.show("quote-run@rain.service", "MainPID")))
            os.kill(died[-1], number)  # frozen, it is killed by its watchdog
        wait_until(lambda: manager.show("quote-run@rain.service", "ActiveState") == "failed", "it is started again and again")
        assert manager.shows("quote-run@rain.service", "ExecMainStatus", "NRestarts") == {"ExecMainStatus": "77", "NRestarts": "4"}
    state = StateDir(own.state)
    attempts = [record for record in state.records("restarts.jsonl") if record["kind"] == "attempt"]
    assert [(attempt["what"], attempt["owner"]) for attempt in attempts] == [("run:rain", "systemd")] * 3
    alerts: dict[str, Any] = json.loads((own.state / "outbox" / "alerts.json").read_text())["alerts"]
    assert any(key.startswith("start:rain:") and "was restarted 3 times" in alert["text"] for key, alert in alerts.items())


def is_up(manager: Manager, died: list[int]) -> bool:
    shown = manager.shows("quote-run@rain.service", "ActiveState", "MainPID")
    return shown["ActiveState"] == "active" and int(shown["MainPID"]) not in (0, *died)
