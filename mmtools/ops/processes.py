"""Processes of this machine, as /proc shows them: which they are, and whether one still lives.

A PID alone names nothing: it is used again, and after a reboot by somebody else. With the time it was started and the boot it does.
Command lines are masked when they are read, so nothing that holds a Process holds a secret. Nothing is started or ended here.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from mmtools import moments
from mmtools.ops import procfs
from mmtools.ops.masking import masked
from mmtools.ops.procfs import PROC


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process. start_ticks: when it was started, in clock ticks since boot. argv: its command line, masked.

    cwd, exe: None when this user may not know. unit: the service or scope whose cgroup it is in, None when it is in none.
    """

    pid: int
    start_ticks: int
    boot_id: str
    argv: tuple[str, ...]
    cwd: str | None
    exe: str | None
    unit: str | None


def find(predicate: Callable[[Process], bool]) -> list[Process]:
    """Return the living processes of this user that the predicate takes, by PID; what ends while it is looked at is left out."""
    own = os.getuid()
    found = []
    for entry in sorted((name for name in os.listdir(PROC) if name.isascii() and name.isdigit()), key=int):
        try:
            if os.stat(PROC / entry).st_uid != own:
                continue
        except OSError:
            continue
        process = read(int(entry))
        if process is not None and predicate(process):
            found.append(process)
    return found


def read(pid: int) -> Process | None:
    """Return the process with this PID; None when there is none that lives."""
    start = _start(pid)
    if start is None:
        return None
    try:
        line = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    if _start(pid) != start:  # another took the number while we looked
        return None
    words = line.decode(errors="replace").rstrip("\0").split("\0") if line else []
    if len(words) == 1:  # a title, such as `openclaw-gateway`, or nginx's, is one word with spaces
        words = words[0].split()
    return Process(
        pid=pid,
        start_ticks=start,
        boot_id=moments.boot_id(),
        argv=masked(words),
        cwd=_link(pid, "cwd"),
        exe=_link(pid, "exe"),
        unit=_unit(pid),
    )


def is_same(process: Process) -> bool:
    """Return whether this very process still lives: its number, its start and its boot."""
    return process.boot_id == moments.boot_id() and process.boot_id != "" and _start(process.pid) == process.start_ticks


def _start(pid: int) -> int | None:
    """Return when a process was started; None for none, and for one that has ended and waits for its parent."""
    found = procfs.stat(pid)
    return None if found is None or found.ended else found.start_ticks


def _link(pid: int, name: str) -> str | None:
    try:
        return os.readlink(PROC / str(pid) / name)
    except OSError:
        return None


def _unit(pid: int) -> str | None:
    """Return the innermost service or scope of a process's group."""
    named = procfs.groups(pid)
    for path in (named.get("name=systemd", ""), named.get("", "")):
        units = [part for part in path.split("/") if part.endswith((".service", ".scope"))]
        if units:
            return units[-1]
    return None
