"""Which OpenClaw gateway processes run, read from /proc: the second witness beside the port. Called by `openclaw`.

No process is touched, and nothing is decided here. A process that may be a gateway of the folder counts as one.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmtools.ops import procfs
from mmtools.ops.procfs import PROC

COMM = "openclaw-gatewa"
"""Of a running gateway: the kernel cuts its title to 15 characters."""
OTHER_WORK = frozenset(
    {"call", "status", "probe", "health", "discover", "restart", "stop", "start", "install", "uninstall", "usage-cost", "--help", "-h"}
)
"""What follows `openclaw gateway` when the process is no gateway but talks about one."""


@dataclass(frozen=True, slots=True)
class Process:
    """started_s: when it began, in seconds since 1970; None when that cannot be read."""

    pid: int
    started_s: float | None


@dataclass(frozen=True, slots=True)
class Unseen:
    """Which processes run is not known. why: for people."""

    why: str


def of_folder(root: Path, proc: Path = PROC) -> tuple[Process, ...] | Unseen:
    """Return the gateways of this user, and of the owner of `root`, but those whose environment says that they serve another folder."""
    users = {os.geteuid()}
    with suppress(OSError):
        users.add(root.stat().st_uid)
    try:
        pids = sorted(int(name) for name in os.listdir(proc) if name.isdigit())
    except OSError as e:
        return Unseen(f"{proc} cannot be read ({e.strerror})")
    if os.getpid() not in pids:
        return Unseen(f"{proc} does not show the processes of this machine")
    folders = [proc / str(pid) for pid in pids]
    ours = (folder for folder in folders if _is_gateway(folder, users) and not _serves_another(folder, root))
    return tuple(Process(int(folder.name), _started_s(folder)) for folder in ours)


def _is_gateway(folder: Path, users: set[int]) -> bool:
    try:
        said = procfs.stat(int(folder.name), folder.parent)
        if folder.stat().st_uid not in users or (said is not None and said.ended):
            return False
        if (folder / "comm").read_text(errors="replace").strip() == COMM:
            return True
        return is_gateway_call((folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0"))
    except (OSError, IndexError):
        return False  # it ended meanwhile: what /proc shows of this user can be read


def is_gateway_call(argv: Sequence[str]) -> bool:
    """Whether a command line is `openclaw ... gateway` that runs one, by that name or as the script of a node process."""
    for n, word in enumerate(argv):
        if os.path.basename(word) in ("openclaw", "openclaw.mjs") or ("/openclaw/" in word and word.endswith((".js", ".mjs"))):
            after = argv[n + 1 :]
            return "gateway" in after and not OTHER_WORK & set(after[after.index("gateway") + 1 :])
    return argv[0] == "openclaw-gateway"


def _serves_another(folder: Path, root: Path) -> bool:
    """Whether the process was started for another state folder; one that does not say so, or cannot be read, may serve ours."""
    try:
        environ = dict(variable.partition(b"=")[::2] for variable in (folder / "environ").read_bytes().split(b"\0"))
        argv = (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    named, home = environ.get(b"OPENCLAW_STATE_DIR", b""), environ.get(b"HOME", b"")
    if not named and os.path.isabs(home) and not any(word.startswith(b"--profile") or word == b"--dev" for word in argv):
        named = home + b"/.openclaw"  # what OpenClaw takes when nothing names another
    if b"OPENCLAW_PROFILE" in environ or not os.path.isabs(named):
        return False
    return os.path.realpath(named) != os.path.realpath(os.fsencode(root))


def _started_s(folder: Path) -> float | None:
    said = procfs.stat(int(folder.name), folder.parent)
    if said is None:
        return None
    with suppress(OSError, ValueError, IndexError, StopIteration):
        booted = next(line for line in (folder.parent / "stat").read_text().splitlines() if line.startswith("btime "))
        return int(booted.split()[1]) + said.start_ticks / os.sysconf("SC_CLK_TCK")
    return None
