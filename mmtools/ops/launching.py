"""Starting a program that outlives whoever starts it: as a unit of the user manager, else in a session of its own.

A child of a gateway or of a timer's service ends with its group (`KillMode=control-group`); a unit of its own does not. What the
program is, and how one sees that it does its work, its caller knows. Called by `revive` and `recover`.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmtools.ops import children, systemd
from mmtools.ops.systemd import Manager, environment
from mmtools.state import StateDir

if TYPE_CHECKING:
    import subprocess

BIN = Path(__file__).parents[2] / "bin"
"""Where the launchers are in a checkout; an installed package has none, and its commands are called by their modules."""
MANAGER_LIMIT_S = 15.0
CARRIED = ("PATH", "PYTHONPATH", "HOME", "TZ", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "OPENCLAW_STATE_DIR", "OPENCLAW_CONFIG_PATH")
"""What a program started by the manager finds as we do: places, no secrets, for all users can read the words of systemd-run."""


@dataclass(slots=True, kw_only=True)
class Launched:
    """A program that was started. how: for people. child: where it is one of ours, else the manager has it as `unit`."""

    how: str
    unit: str | None = None
    child: "subprocess.Popen[bytes] | None" = None

    def ended(self) -> bool | None:
        """Return whether it has ended; None when that is not known."""
        if self.child is not None:
            return self.child.poll() is not None
        return None if self.unit is None else _unit_ended(self.unit)

    @property
    def code(self) -> int | None:
        return None if self.child is None else self.child.returncode


@dataclass(frozen=True, slots=True)
class NotLaunched:
    """why: for people."""

    why: str


def command(name: str) -> list[str]:
    """Return the words that call one of our commands: the link in bin/, or its module where there is none."""
    link = BIN / name
    return [str(link)] if link.exists() else [sys.executable, "-P", "-m", f"mmtools.commands.{name.replace('-', '_')}"]


def launch(state: StateDir, argv: Sequence[str], *, unit: str, words: str) -> Launched | NotLaunched:
    """Start a program, what it says appended to the state file `words`. unit: its name where the manager starts it."""
    import subprocess

    out = state.open_words(words)
    try:
        if systemd.answers(Manager.USER, limit_s=MANAGER_LIMIT_S):
            asked = _ask_manager(unit, state.path(words), argv)
            if asked is not None:
                return asked
        child = subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", start_new_session=True)
    except OSError as e:
        return NotLaunched(f"{argv[0]} cannot be started ({e.strerror})")
    finally:
        os.close(out)
    return Launched(how=f"as process {child.pid}", child=child)


def _ask_manager(unit: str, log: Path, argv: Sequence[str]) -> Launched | NotLaunched | None:
    """Have a unit started; None when there is no systemd-run."""
    asked = [
        "systemd-run", "--user", "--quiet", "--collect", "--no-ask-password", f"--unit={unit}", "--working-directory=/",
        f"--property=StandardOutput=append:{log}", f"--property=StandardError=append:{log}",
        *[f"--setenv={name}={os.environ[name]}" for name in CARRIED if name in os.environ], "--", *argv,
    ]  # fmt: skip
    ended = children.run(asked, limit_s=MANAGER_LIMIT_S, env=environment(Manager.USER))
    if isinstance(ended, children.NotRun):
        return Launched(how=f"as {unit}, of which the manager said nothing", unit=unit) if ended.late else None
    if ended.code == 0:
        return Launched(how=f"as {unit}", unit=unit)
    if _unit_ended(unit) is False:
        return Launched(how=f"as {unit}, which had been started before", unit=unit)
    return NotLaunched(f"systemd-run failed (exit {ended.code}): {ended.last_words or 'without a word'}")


def _unit_ended(unit: str) -> bool | None:
    ended = children.run(["systemctl", "--user", "is-active", unit], limit_s=MANAGER_LIMIT_S, env=environment(Manager.USER))
    if isinstance(ended, children.NotRun):
        return None
    said = ended.out.strip()
    return said in (b"inactive", b"failed", b"unknown") if said else None
