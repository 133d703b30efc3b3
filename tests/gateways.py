"""Fake OpenClaw for tests: a gateway process on 127.0.0.1 and an `openclaw` on PATH, of any release. What they do is in tests/fakes/.

    with FakeGateway(root, "7.1", rate=20) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, "7.1", port=gateway.port)
        gateway.tell(hang=True)

Every process stops by itself within `lives_s`, and when its `with` block ends; no test ends a process it did not start.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from commandline import PATIENCE_S, wait_until

FAKES = Path(__file__).parent / "fakes"

Record = dict[str, Any]


class FakeGateway:
    """A gateway process for the folder `root`; the options are those of tests/fakes/gateway.py with underscores.

    Without `wait` it may not listen yet when the block begins; its port must then be given.
    """

    def __init__(
        self, root: Path, release: str = "7.1", *, port: int = 0, wait: bool = True, lives_s: float = 60, **options: object
    ) -> None:
        self.root, self.release = root, release
        self.log = root.parent / f"{root.name}-updates.jsonl"
        """One line per committed update; a gateway started again for the same folder appends to it."""
        self._control = root.parent / f"{root.name}-control.json"
        self._options = {"lives_s": lives_s, **options}
        self._process: subprocess.Popen[str] | None = None
        self._wait = wait
        self.port = port

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start it, on the same port as before if it ran."""
        (self.root / "agents").mkdir(parents=True, exist_ok=True)
        self._control.unlink(missing_ok=True)
        self.log.touch()
        own = {"root": self.root, "release": self.release, "log": self.log, "control": self._control, "port": self.port}
        argv = [sys.executable, "-S", str(FAKES / "gateway.py")]
        for name, value in {**own, **self._options}.items():
            if value is True:
                argv.append(f"--{name.replace('_', '-')}")
            elif value is not False:
                argv += [f"--{name.replace('_', '-')}", str(value)]
        environment = {**os.environ, "OPENCLAW_STATE_DIR": str(self.root)}
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        if self._wait:
            self.wait_for_port()

    def wait_for_port(self) -> None:
        process = self._running()
        assert process.stdout is not None
        timer = threading.Timer(PATIENCE_S, process.kill)
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        if not line:
            raise AssertionError(f"the fake gateway ended before it listened: {process.communicate()[1]}")
        self.port = json.loads(line)["port"]

    def tell(self, **mood: object) -> None:
        """Change its mind, see `Mood` in the fake; what was told before and is not told again stays as it was."""
        new = self._control.with_suffix(".new")
        new.write_text(json.dumps(mood))
        new.replace(self._control)

    def updates(self) -> list[Record]:
        """Return every update it committed, in order."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def wait_for_updates(self, count: int) -> None:
        """Wait until there are so many more than now."""
        goal = self.log.read_bytes().count(b"\n") + count
        wait_until(lambda: self.log.read_bytes().count(b"\n") >= goal, self._running())

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> int:
        """Ask it to stop, wait for it, and return its exit code."""
        process = self._running()
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
        return process.returncode

    def wait(self) -> int:
        """Wait until it ends of its own will, and return its exit code."""
        process = self._running()
        process.communicate(timeout=PATIENCE_S)
        return process.returncode

    def kill(self) -> None:
        process = self._running()
        process.kill()
        process.communicate(timeout=PATIENCE_S)

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None:
            raise AssertionError("the fake gateway was not started")
        return self._process


def put_openclaw_first(patch: pytest.MonkeyPatch, folder: Path, release: str, *, port: int, **settings: object) -> Path:
    """Put a fake `openclaw` first on PATH and return it; it talks to `port`. `settings`: sleep_s, notes, calls, cost of the fake."""
    place = folder / "fake-bin"
    place.mkdir(exist_ok=True)
    program = place / "openclaw"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{FAKES / "openclaw.py"}" "$@"\n')
    program.chmod(0o755)
    if str(place) not in os.environ["PATH"].split(os.pathsep):
        patch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("FAKE_OPENCLAW")]:
        patch.delenv(name)
    patch.setenv("FAKE_OPENCLAW", release)
    patch.setenv("FAKE_OPENCLAW_PORT", str(port))
    for name, value in settings.items():
        patch.setenv(f"FAKE_OPENCLAW_{name.upper()}", str(value))
    return program


def make_installation(root: Path, stores: Mapping[str, Mapping[str, Record]], *, jobs: Iterable[Record] = ()) -> Path:
    """Write a small installation of the file eras: a store per agent with a transcript for each entry, and a cron store."""
    for agent, entries in stores.items():
        sessions = root / "agents" / agent / "sessions"
        sessions.mkdir(parents=True)
        write_store(sessions / "sessions.json", entries)
        for entry in entries.values():
            header = {"type": "session", "version": 3, "id": entry["sessionId"]}
            (sessions / f"{entry['sessionId']}.jsonl").write_text(json.dumps(header) + "\n")
    (root / "cron").mkdir(parents=True)
    (root / "cron" / "jobs.json").write_text(json.dumps({"version": 1, "jobs": list(jobs)}, indent=2))
    return root


def write_store(path: Path, entries: Mapping[str, Record]) -> None:
    """Write a store as OpenClaw does: beside, then renamed."""
    new = path.with_name("sessions.json.1.made-by-a-test.tmp")
    new.write_text(json.dumps(entries, indent=2, ensure_ascii=False))
    new.chmod(0o600)
    new.replace(path)


def read_store(path: Path) -> dict[str, Record]:
    """Return the entries of a store; raises when it is not whole."""
    found: dict[str, Record] = json.loads(path.read_text())
    return found
