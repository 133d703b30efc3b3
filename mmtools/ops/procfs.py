"""What /proc says of one process, as numbers: its state, its parent, when it was started, what it used; and the groups it is in.

Nothing is decided here and nothing is kept: a PID alone names nothing, see `processes`. `proc` is an argument so that a test, or a look
from elsewhere, can have its own. Called by whatever in `ops` looks at processes.
"""

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """Of /proc/PID/stat. start_ticks: since boot; own_ticks: of processor time; family_ticks: with that of children it waited for."""

    state: str
    parent: int
    start_ticks: int
    own_ticks: int
    family_ticks: int

    @property
    def ended(self) -> bool:
        """Whether it only waits for its parent."""
        return self.state in "ZX"


def stat(pid: int, proc: Path = PROC) -> Stat | None:
    """Return what is said of a process; None when there is none, or its file cannot be read."""
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
        fields = text.rpartition(")")[2].split()  # proc(5) numbers them from 3 on; the name before may hold anything
        used = [int(field) for field in fields[11:15]]
        return Stat(
            state=fields[0], parent=int(fields[1]), start_ticks=int(fields[19]), own_ticks=used[0] + used[1], family_ticks=sum(used)
        )
    except (OSError, ValueError, IndexError):
        return None


def groups(pid: int | str, proc: Path = PROC) -> dict[str, str]:
    """Return the control groups of a process ("self" is this one) by their controllers: "" is v2, "name=systemd" systemd's own of v1."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    return {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2)}
