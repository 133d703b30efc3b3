"""A machine for tests of status-update: a manager that is a program on PATH, no settings, no gateway of its own. No checks in here."""

import os
import stat
from pathlib import Path

import pytest

SYSTEMCTL = """#!/bin/sh
{before}
for word; do
  [ "$word" = show-environment ] && exit 1
done
while [ "$1" != -- ]; do shift || exit 1; done
shift
for name; do printf 'Id=%s\\nLoadState=not-found\\nActiveState=inactive\\nSubState=dead\\n\\n' "$name"; done
"""
"""A manager that knows no unit and takes no order; a shell script, for it is called hundreds of times."""
HANGS = "exec sleep 60"


def be_alone(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Ask neither the service manager nor the gateway of the machine that this runs on, nor read its settings."""
    place_systemctl(folder)
    patch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    patch.setenv("OPENCLAW_STATE_DIR", str(folder / "openclaw"))


def place_systemctl(folder: Path, *, before: str = "") -> None:
    """Put the program there. before: what it does first."""
    program = folder / "bin" / "systemctl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(SYSTEMCTL.format(before=before))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
