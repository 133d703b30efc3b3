"""A fake service manager for tests, with real processes as its units. What it does is in tests/fakes/systemctl.py.

    with FakeManager(tmp_path, monkeypatch) as manager:
        manager.add("openclaw-gateway.service", served(port=port, busy_s=0.5))
        manager.start("openclaw-gateway.service")

All of it ends with the `with` block, and by itself within a minute.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from commandline import PATIENCE_S

FAKES = Path(__file__).parent / "fakes"


def served(*, runs: list[str] | None = None, **options: object) -> list[str]:
    """Return the command of tests/fakes/served.py; the options are its own, with underscores."""
    argv = [sys.executable, "-S", str(FAKES / "served.py")]
    for name, value in options.items():
        if value is not False:
            argv += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return [*argv, *(["--runs", *runs] if runs else [])]


class FakeManager:
    """The programs `systemctl` and `systemd-run` first on PATH, and the folder they share."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "systemd"
        self.folder.mkdir()
        place = folder / "systemd-bin"
        place.mkdir()
        for name, fake in (("systemctl", "systemctl.py"), ("systemd-run", "systemd_run.py")):
            program = place / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{FAKES / fake}" "$@"\n')
            program.chmod(0o755)
        patch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("FAKE_SYSTEMD", str(self.folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        (self.folder / "end").touch()
        self.wait(lambda: not any(self.state(path.stem).get("keeper") for path in self.folder.glob("*.state")))

    def add(self, name: str, argv: list[str], **settings: Any) -> None:
        """Write a unit, or write it anew: a start that comes later takes it."""
        new = self.folder / f"{name}.new"
        new.write_text(json.dumps({"argv": argv, **settings}))
        new.replace(self.folder / f"{name}.unit")

    def start(self, name: str) -> None:
        """Start a unit and wait until it says that it listens (`served` does)."""
        assert os.spawnlp(os.P_WAIT, "systemctl", "systemctl", "--user", "start", "--", name) == 0
        self.wait_for_port(name)

    def wait_for_port(self, name: str) -> None:
        """Wait until the unit's present start says that it listens."""
        self.wait(lambda: b"port" in self._words(name))

    def _words(self, name: str) -> bytes:
        try:
            return (self.folder / f"{name}.log").read_bytes()
        except FileNotFoundError:
            return b""

    def state(self, name: str) -> dict[str, Any]:
        """Return how a unit stands."""
        try:
            found: dict[str, Any] = json.loads((self.folder / f"{name}.state").read_text())
        except FileNotFoundError:
            return {}
        return found

    def mood(self, mood: str) -> None:
        """Change how systemctl itself behaves: "hang", "no bus", "" as usual."""
        (self.folder / "mood").write_text(json.dumps(mood))

    def calls(self, verb: str) -> list[list[str]]:
        """Return the calls of a verb so far, each with all its words."""
        path = self.folder / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [words for words in map(json.loads, lines) if verb in words]

    def wait_for_calls(self, verb: str) -> list[list[str]]:
        """Wait until there is a call of a verb, and return all."""
        self.wait(lambda: bool(self.calls(verb)))
        return self.calls(verb)

    def wait_for(self, name: str) -> str:
        """Wait until a command that systemd-run started has ended, and return what it wrote."""
        self.wait(lambda: (self.folder / f"{name}.exit").exists())
        return (self.folder / f"{name}.log").read_text()

    @staticmethod
    def wait(reached: Callable[[], bool]) -> None:
        """Wait for something that the units do."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing of the kind within {PATIENCE_S} s")
            time.sleep(0.01)
