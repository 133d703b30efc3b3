"""A checkout for tests of what is installed: our templates, and programs in bin/ that only note how they were called. No checks here."""

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from commandline import ROOT

from mmtools.ops.templates import Place

COMMANDS = ("halt", "quote-run", "report", "status-update", "safe-restart", "prune-sessions", "snapshot", "recover")
LAUNCH = """#!/bin/sh
echo "${0##*/}${1+ }$*" >>"${0%/*}/../calls"
"""


def house(folder: Path, commands: Iterable[str] = COMMANDS) -> Place:
    """Return a place all of whose folders lie in one that has no name to be proud of."""
    folder = folder / "a b%c"
    root = folder / "mmtools"
    (root / "bin").mkdir(parents=True)
    launch = root / "bin" / "_launch"
    launch.write_text(LAUNCH)
    launch.chmod(0o755)
    for name in commands:
        (root / "bin" / name).symlink_to("_launch")
    for name in ("systemd", "crontab", "configs"):
        shutil.copytree(ROOT / name, root / name)
    config = folder / "config"
    return Place(
        root=root, state=folder / "state", config=config / "mmtools", units=config / "systemd" / "user", cache=folder / "cache",
        path="/usr/bin:/bin", user="anna", host="one",
    )  # fmt: skip


def calls(place: Place) -> list[str]:
    """Return how the programs of the house were called."""
    file = place.root / "calls"
    return file.read_text().splitlines() if file.exists() else []


def put_on_path(folder: Path, **programs: str) -> str:
    """Put fakes of tests/fakes first on PATH, each under the name of a program; return the PATH."""
    folder.mkdir(exist_ok=True)
    for name, fake in programs.items():
        program = folder / name
        program.write_text(f"#!{sys.executable} -IS\n" + (ROOT / "tests" / "fakes" / f"{fake}.py").read_text())
        program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
