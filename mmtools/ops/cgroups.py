"""The control groups (v2) that units live in, read as files: where they lie, who is in them, the processor time they used.

On a hybrid machine v2 lies in `unified`; with v1 alone there is none. It only reads; roots are arguments, so that a test can build its own.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from mmtools.ops import procfs
from mmtools.ops.procfs import PROC
from mmtools.ops.systemd import NotKnown, Unit

ROOT = Path("/sys/fs/cgroup")


def tree(root: Path = ROOT) -> Path | NotKnown:
    """Return where the v2 tree begins."""
    for place in (root, root / "unified"):
        if (place / "cgroup.controllers").exists():
            return place
    return NotKnown("this machine has no cgroup v2")


def folder(unit: Unit, root: Path = ROOT) -> Path | NotKnown:
    """Return the folder of a unit's group."""
    base = tree(root)
    if isinstance(base, NotKnown):
        return base
    path = base / unit.control_group.lstrip("/")
    if not unit.control_group.strip("/") or ".." in path.parts:
        return NotKnown(f"{unit.name} has no control group: it does not run")
    return path if path.is_dir() else NotKnown(f"the control group of {unit.name} is not there")


def above(path: Path, root: Path = ROOT) -> Iterator[Path]:
    """Yield a group's folder and those above it, up to and without the root of the tree."""
    base = tree(root)
    while not isinstance(base, NotKnown) and path != base and base in path.parents:
        yield path
        path = path.parent


def pids(unit: Unit, root: Path = ROOT, proc: Path = PROC) -> set[int] | NotKnown:
    """Return the processes of a unit: those in its group, else its main process and all that it started."""
    path = folder(unit, root)
    if isinstance(path, Path):
        found: set[int] = set()
        for place, _, files in os.walk(path):
            if "cgroup.procs" in files:
                try:
                    found.update(int(word) for word in Path(place, "cgroup.procs").read_text().split())
                except (OSError, ValueError):
                    continue  # a group that just ended, or a threaded one: its processes are in the one above
        if found:
            return found
    if unit.main_pid is None:
        return NotKnown(f"{unit.name} has no main process")
    return _descendants(unit.main_pid, proc)


def cpu_s(unit: Unit, root: Path = ROOT, proc: Path = PROC) -> float | NotKnown:
    """Return the processor time a unit used so far; only differences say something, and only while its processes are the same."""
    path = folder(unit, root)
    if isinstance(path, Path):
        micros = read_fields(path / "cpu.stat").get("usage_usec")
        if micros is not None:
            return micros / 1e6
    alive = pids(unit, root, proc)
    if isinstance(alive, NotKnown):
        return alive
    ticks = [said.family_ticks for said in (procfs.stat(pid, proc) for pid in alive) if said is not None]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else NotKnown(f"the processes of {unit.name} are gone")


def own_group(proc: Path = PROC) -> str:
    """Return the group this process is in, "" when that is not known: on a hybrid machine systemd's own v1 tree counts."""
    named = procfs.groups("self", proc)
    return next((path for path in (named.get("name=systemd", ""), named.get("", "")) if path.strip("/")), "")


def ancestors(pid: int, proc: Path = PROC) -> set[int]:
    """Return the processes that a process comes from, without itself."""
    found: set[int] = set()
    while (said := procfs.stat(pid, proc)) is not None and (pid := said.parent) > 0 and pid not in found:
        found.add(pid)
    return found


def names(pids: set[int], proc: Path = PROC) -> list[str]:
    """Return what each process calls itself; those that are gone are left out."""
    found = []
    for pid in pids:
        try:
            found.append((proc / str(pid) / "comm").read_text(errors="replace").strip())
        except OSError:
            continue
    return found


def read_fields(path: Path) -> dict[str, int]:
    """Return the numbers of a file of `name number` lines; {} when it cannot be read."""
    found = {}
    try:
        for line in path.read_text().splitlines():
            name, _, number = line.partition(" ")
            if number.isdecimal():
                found[name] = int(number)
    except OSError:
        return {}
    return found


def _descendants(pid: int, proc: Path) -> set[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir(proc):
        if name.isdecimal() and (said := procfs.stat(int(name), proc)) is not None:
            children.setdefault(said.parent, []).append(int(name))
    found, waiting = set(), [pid]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += children.get(each, [])
    return found
