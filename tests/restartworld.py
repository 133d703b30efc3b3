"""A gateway that runs as a fake unit, with the settings and the state folder that safe-restart is tested with. No checks in here."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from commandline import ROOT, Said, call
from fakemanager import FakeManager, served
from loopback import unused_port

from mmtools import outbox
from mmtools.state import StateDir

UNIT = "openclaw-gateway.service"


class World:
    """A gateway that runs as a fake unit, the settings that name it, and a state folder."""

    def __init__(self, folder: Path, manager: FakeManager) -> None:
        self.folder, self.manager = folder, manager
        self.port = unused_port()
        self.state = StateDir(folder / "state")
        self.root = folder / "openclaw"
        self.root.mkdir()
        (self.root / "openclaw.json").write_text('{"gateway": {"port": 1}, // a comment\n}')
        self.config = folder / "ops.yaml"
        self.settings()

    def settings(self, more: str = "", **restart: object) -> None:
        """Write ops.yaml; the process of a few MB is far above its watermark of 1 MB, and no other command of ours is called."""
        lines = {"start_limit_s": 10, "settle_s": 0.1, "drain_limit_s": 0.3, "snapshot": "false", **restart}
        own = "".join(f"  {key}: {value}\n" for key, value in lines.items())
        claw = f"openclaw:\n  url: http://127.0.0.1:{self.port}\n  root: {self.root}\n  program: /nowhere/openclaw\n"
        memory = "" if "memory:" in more else "memory:\n  watermark_mb: 1\n"
        policy = "" if "policy:" in more else "policy:\n  prune-sessions: {level: forbidden}\n"
        self.config.write_text(f"{claw}{memory}{policy}restart:\n{own}{more}")

    def serve(self, **options: object) -> list[str]:
        return served(port=self.port, **options)  # type: ignore[arg-type]

    def runs(self, **settings: Any) -> None:
        """Start the unit, well."""
        self.manager.add(UNIT, self.serve(), **settings)
        self.manager.start(UNIT)

    def then(self, **options: object) -> None:
        """Say how the next start goes."""
        self.manager.add(UNIT, self.serve(**options))

    def args(self, *more: str) -> list[str]:
        return ["--json", "--state", str(self.state.root), "--config", str(self.config), *more]

    def restart(self, *more: str) -> Said:
        return call("safe_restart", *self.args(*more))

    def start(self, *more: str) -> "subprocess.Popen[str]":
        """Start the command as a process of its own."""
        argv = [sys.executable, "-P", "-m", "mmtools.commands.safe_restart", *self.args(*more)]
        return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def orders(self) -> int:
        return len(self.manager.calls("restart"))

    def alerts(self) -> dict[str, str]:
        """Return level by key."""
        return {key: alert["level"] for key, alert in outbox.alerts(self.state).items()}
