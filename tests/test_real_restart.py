"""safe-restart against a real `systemd --user`, where the machine can run one; test_safe_restart.py has the fake one."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import PATIENCE_S, ROOT
from fakemanager import served
from loopback import unused_port
from user_manager import LOGIN, UserManager, why_not

from mmtools import restarts
from mmtools.state import StateDir

UNIT = "openclaw-gateway.service"
SAFE_RESTART = [sys.executable, "-P", "-m", "mmtools.commands.safe_restart"]

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"no real user manager here ({why_not()}): the fake one stands in for it")


class World:
    """A gateway as a real user unit, its settings, and a state folder."""

    def __init__(self, folder: Path, manager: UserManager) -> None:
        self.manager, self.port = manager, unused_port()
        self.state = StateDir(folder / "state")
        self.config, self.root = folder / "ops.yaml", folder / "openclaw"
        self.root.mkdir()
        (self.root / "openclaw.json").write_text("{}")
        self.config.write_text(
            f"openclaw:\n  url: http://127.0.0.1:{self.port}\n  root: {self.root}\n"
            "memory:\n  watermark_mb: 1\nrestart:\n  start_limit_s: 10\n  settle_s: 0.1\n  snapshot: false\n"
            "policy:\n  prune-sessions: {level: forbidden}\n"
        )

    def args(self, *more: str) -> list[str]:
        return ["--json", "--state", str(self.state.root), "--config", str(self.config), *more]

    def starts(self, argv: list[str], *settings: str) -> None:
        """Write the unit, and start it."""
        words = " ".join(f'"{word}"' for word in argv)
        lines = ["[Service]", f"ExecStart={words}", f"Environment=PYTHONPATH={ROOT}", *settings]
        self.manager.add(UNIT, "\n".join(lines) + "\n")
        for verb in (("daemon-reload",), ("start", UNIT)):
            said = self.manager.run("systemctl", "--user", *verb, env=LOGIN)
            assert said.returncode == 0, said.stderr

    def invocation(self) -> str:
        return self.manager.run("systemctl", "--user", "show", "--value", "-p", "InvocationID", UNIT, env=LOGIN).stdout.strip()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with UserManager(tmp_path) as manager:
        yield World(tmp_path, manager)


def test_a_real_user_unit_is_restarted_and_proven(world: World) -> None:
    world.starts(served(port=world.port, busy_s=0.1), "Restart=always", "RestartSec=5", "TimeoutStopSec=330")
    before = world.invocation()
    said = world.manager.run(*SAFE_RESTART, *world.args(), env={"PYTHONPATH": str(ROOT)})
    assert said.returncode == 0, said.stdout + said.stderr
    proof = json.loads(said.stdout)["proof"]
    assert (proof["end"], proof["before"]["invocation_id"], proof["after"]["invocation_id"]) == ("proven", before, world.invocation())
    assert proof["signs"][:2] == ["a new invocation", "a new start of its main process"]
    assert proof["probe"]["uptime_ms"] < proof["seconds"] * 1000


def test_a_real_user_unit_that_does_not_come_back_is_said_to_have_failed(world: World) -> None:
    world.starts(served(port=world.port))
    world.manager.add(UNIT, f'[Service]\nExecStart="{sys.executable}" -c "raise SystemExit(78)"\n')
    assert world.manager.run("systemctl", "--user", "daemon-reload", env=LOGIN).returncode == 0
    said = world.manager.run(*SAFE_RESTART, *world.args(), env={"PYTHONPATH": str(ROOT)})
    assert said.returncode == 1, said.stdout + said.stderr
    document = json.loads(said.stdout)
    assert document["proof"]["end"] == "failed"
    assert "another restart is useless" in document["why"]


def test_a_child_of_a_real_user_unit_hands_over_to_systemd_run_and_outlives_it(world: World, tmp_path: Path) -> None:
    # Once only: the next start of the gateway starts it again.
    once = tmp_path / "once"
    child = ["sh", "-c", f"[ -e '{once}' ] && exec sleep 60; : > '{once}'; exec {' '.join([*SAFE_RESTART, *world.args()])}"]
    world.starts(served(port=world.port, runs=child), "KillMode=control-group")
    deadline = time.monotonic() + PATIENCE_S
    while not any(past.result for past in restarts.attempts(world.state)) and time.monotonic() < deadline:
        time.sleep(0.02)
    (attempt,) = restarts.attempts(world.state)
    assert (attempt.result, attempt.steps) == ("done", ("handed over", "taken up", "order", "watch")), attempt.detail
