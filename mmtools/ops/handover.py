"""Acting from outside: when this process is part of the unit that it is to restart, another one, outside of it, goes on.

With `KillMode=control-group` a child of a gateway ends with it, in the middle of the restart it ordered. `systemd-run` starts the same
command as a unit of its own. Whether and when, its caller knows.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from mmtools.ops import cgroups, children, systemd
from mmtools.ops.procfs import PROC
from mmtools.ops.systemd import Declined, Manager, NotKnown, Told, Unit

LIMIT_S = 15.0
CARRIED = (
    "PATH", "PYTHONPATH", "MMTOOLS_STATE", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR",
    "OPENCLAW_STATE_DIR", "OPENCLAW_CONFIG_PATH",
)  # fmt: skip
"""What the other process must find as we did: places, never a secret, for all users can read the arguments of systemd-run."""


def is_within(unit: Unit, proc: Path = PROC) -> bool:
    """Return whether this process is in a unit's group, or was started by its main process."""
    own, group = cgroups.own_group(proc), unit.control_group.rstrip("/")
    if group and (own == group or own.startswith(f"{group}/")):
        return True
    return unit.main_pid is not None and unit.main_pid in cgroups.ancestors(os.getpid(), proc)


def start(argv: Sequence[str], name: str, manager: Manager) -> Told | Declined | NotKnown:
    """Start a command as the transient unit `name`, and return once it was started."""
    carried = [f"--setenv={key}={os.environ[key]}" for key in CARRIED if key in os.environ]
    asked = ["systemd-run", f"--{manager.value}", "--quiet", "--collect", "--no-ask-password", f"--unit={name}", *carried, "--", *argv]
    ended = children.run(asked, limit_s=LIMIT_S, env=systemd.environment(manager))
    if isinstance(ended, children.NotRun):
        return NotKnown(ended.why) if ended.late else Declined(ended.why)
    if ended.code == 0:
        return Told()
    return Declined(f"systemd-run failed (exit {ended.code}): {ended.last_words or 'without a word'}")
