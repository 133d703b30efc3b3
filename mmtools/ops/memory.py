"""How much memory a unit uses, and against which mark that is much. It reads; what follows from it is decided elsewhere.

The kernel's figure is `memory.current` without `inactive_file`, the page cache that costs nothing to give back. Where a group has no
memory files the resident memory of its processes is added up: pages that they share are counted for each of them, so it says its source.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mmtools.ops import cgroups
from mmtools.ops.cgroups import ROOT
from mmtools.ops.procfs import PROC
from mmtools.ops.systemd import NotKnown, Unit

MB = 1_000_000


class Source(StrEnum):
    CGROUP = "cgroup"
    RESIDENT = "resident memory of its processes"


@dataclass(frozen=True, slots=True)
class Use:
    """Bytes in use, and who says so."""

    size: int
    source: Source


@dataclass(frozen=True, slots=True)
class Watermark:
    """Bytes that a unit should stay below, and what sets them: a file of a group, a setting of the unit, or ops.yaml."""

    size: int
    source: str


def use(unit: Unit, *, root: Path = ROOT, proc: Path = PROC) -> Use | NotKnown:
    """Return what a unit uses."""
    path = cgroups.folder(unit, root)
    if isinstance(path, Path):
        current, inactive = _limit(path / "memory.current"), cgroups.read_fields(path / "memory.stat").get("inactive_file")
        if current is not None and inactive is not None:
            return Use(max(0, current - inactive), Source.CGROUP)
    alive = cgroups.pids(unit, root, proc)
    if isinstance(alive, NotKnown):
        return alive
    sizes = [size for size in (_resident(pid, proc) for pid in alive) if size is not None]
    return Use(sum(sizes), Source.RESIDENT) if sizes else NotKnown(f"the processes of {unit.name} are gone")


def watermark(unit: Unit, configured_mb: float | None, *, root: Path = ROOT) -> Watermark | NotKnown:
    """Return the smallest limit that the kernel enforces on the way up from the unit's group, else what ops.yaml says.

    memory.high comes before memory.max of the same group; one far above a slice's memory.max would be no warning of it.
    """
    path = cgroups.folder(unit, root)
    groups = list(cgroups.above(path, root)) if isinstance(path, Path) else []
    limits = [
        (size, f"{name} of {group.name}")
        for group in groups
        for name in ("memory.high", "memory.max")
        if (size := _limit(group / name))  # 0 is a way to have memory given back, and no mark to stay below
    ]
    if limits:
        return Watermark(*min(limits))
    # Where the kernel enforces none, a limit on the unit is still what a person wrote.
    for size, name in ((unit.memory_high, "MemoryHigh"), (unit.memory_max, "MemoryMax")):
        if size:
            return Watermark(size, f"{name}= of {unit.name}")
    if configured_mb is not None:
        return Watermark(round(configured_mb * MB), "memory.watermark_mb")
    return NotKnown(f"nothing limits the memory of {unit.name}; set MemoryHigh= for it, or `memory: watermark_mb:` in ops.yaml")


def _limit(path: Path) -> int | None:
    """Return the bytes in a file; None for "max", and when it cannot be read."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _resident(pid: int, proc: Path) -> int | None:
    """Return the VmRSS of a process in bytes; None when it is gone, 0 for one without memory of its own (it ended)."""
    try:
        lines = (proc / str(pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return None
    words = next((line.split() for line in lines if line.startswith("VmRSS:")), [])
    return int(words[1]) * 1024 if len(words) > 1 else 0
