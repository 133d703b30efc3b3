"""The service manager, asked and told through `systemctl`: how units stand, and their restart, stop and start. Called by all of `ops`.

A unit that is not there is an answer (`load_state` not-found); a manager that does not answer is `NotKnown`, never "inactive".
No decision about what to do, no state files; nobody is signalled.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mmtools.ops import children

LIMIT_S = 15.0
"""For one call of systemctl: it answers in some 10 ms, or hangs with its bus."""

_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "MainPID", "ExecMainStatus", "NRestarts", "InvocationID",
    "ActiveEnterTimestamp", "ExecMainStartTimestampMonotonic", "TimeoutStartUSec", "TimeoutStopUSec", "ControlGroup", "KillMode",
    "MemoryHigh", "MemoryMax", "Job",
)  # fmt: skip
_SPANS = {"y": 31_557_600, "month": 2_629_800, "w": 604_800, "d": 86_400, "h": 3600, "min": 60, "s": 1, "ms": 1e-3, "us": 1e-6}
_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}\.(service|slice|scope|socket|timer|target)")
_PATTERN = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@*-]{0,239}")


class Manager(StrEnum):
    """Which service manager: that of this user, or the machine's."""

    USER = "user"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class NotKnown:
    """No answer, or one that says nothing. why: a phrase for people."""

    why: str


@dataclass(frozen=True, slots=True)
class Declined:
    """The manager heard, and did not do it. why: its words."""

    why: str


@dataclass(frozen=True, slots=True)
class Told:
    """The manager took the order; with `no_block` the work goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """How one unit stands. A number is None, a text "", where the manager does not say.

    active_since: when it became active, in the manager's words. started_monotonic_us: when its main process was started, by the clock of
    time.monotonic(). timeout_*_s: inf without a limit.
    memory_high, memory_max: bytes as set on the unit itself. job: the number of an order that is not carried out yet.
    """

    name: str
    manager: Manager
    load_state: str
    active_state: str
    sub_state: str
    unit_file_state: str
    result: str
    main_pid: int | None
    exec_main_status: int | None
    n_restarts: int | None
    invocation_id: str
    active_since: str
    started_monotonic_us: int | None
    timeout_start_s: float | None
    timeout_stop_s: float | None
    control_group: str
    kill_mode: str
    memory_high: int | None
    memory_max: int | None
    job: int | None

    @property
    def found(self) -> bool:
        return self.load_state != "not-found"

    @property
    def runs(self) -> bool:
        return self.active_state == "active" and self.sub_state == "running"


def show(names: Sequence[str], *, manager: Manager, limit_s: float = LIMIT_S) -> dict[str, Unit] | NotKnown:
    """Return how units stand, by name; one that is not found is among them and says so."""
    for name in names:
        _check(name)
    if not names:
        return {}
    blocks = _show(names, manager, limit_s)
    if isinstance(blocks, NotKnown):
        return blocks
    if len(blocks) != len(names):
        return NotKnown(f"systemctl show said something else than how {', '.join(names)} stand")
    return {name: _unit(name, manager, block) for name, block in zip(names, blocks, strict=True)}


def find(patterns: Sequence[str], *, manager: Manager, limit_s: float = LIMIT_S) -> dict[str, Unit] | NotKnown:
    """Return how the units stand that are there, each by its own name: of names, and of patterns such as "mmtools-*"."""
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f"{pattern!r} is no pattern of names of units")
    if not patterns:
        return {}
    blocks = _show(patterns, manager, limit_s)
    if isinstance(blocks, NotKnown):
        return blocks
    units = [_unit(block["Id"], manager, block) for block in blocks]
    return {unit.name: unit for unit in units if unit.found}


def show_one(name: str, *, manager: Manager, limit_s: float = LIMIT_S) -> Unit | NotKnown:
    """Return how one unit stands."""
    found = show([name], manager=manager, limit_s=limit_s)
    return found if isinstance(found, NotKnown) else found[name]


def running(manager: Manager, *, limit_s: float = LIMIT_S) -> list[str] | NotKnown:
    """Return the names of the services that run."""
    said = _call(["list-units", "--type=service", "--state=running", "--plain", "--no-legend", "--full"], manager, limit_s)
    if isinstance(said, Declined | NotKnown):
        return NotKnown(said.why)
    names = [line.split()[0] for line in said.splitlines() if line.strip()]
    odd = [name for name in names if not name.endswith(".service")]
    return NotKnown(f"systemctl list-units named {odd[0]!r}, which is no service") if odd else names


def answers(manager: Manager, *, limit_s: float = LIMIT_S) -> bool:
    """Return whether the manager is there and answers."""
    return isinstance(_call(["show-environment"], manager, limit_s), str)


def is_enabled(name: str, *, manager: Manager, limit_s: float = LIMIT_S) -> str | NotKnown:
    """Return "enabled", "disabled", "static", ... in systemd's own words; "" for a unit without a file."""
    unit = show_one(name, manager=manager, limit_s=limit_s)
    return unit if isinstance(unit, NotKnown) else unit.unit_file_state


def restart(name: str, *, manager: Manager, no_block: bool = True, limit_s: float = LIMIT_S) -> Told | Declined | NotKnown:
    """Order a restart. Told proves nothing of how it went; after NotKnown it may be under way."""
    return _order("restart", name, manager, no_block, limit_s)


def stop(name: str, *, manager: Manager, no_block: bool = True, limit_s: float = LIMIT_S) -> Told | Declined | NotKnown:
    """Order a stop; as `restart`."""
    return _order("stop", name, manager, no_block, limit_s)


def start(name: str, *, manager: Manager, no_block: bool = True, limit_s: float = LIMIT_S) -> Told | Declined | NotKnown:
    """Order a start; as `restart`."""
    return _order("start", name, manager, no_block, limit_s)


def environment(manager: Manager) -> dict[str, str]:
    """Return what a child needs in its environment to reach the manager, from cron too, which sets none of it."""
    added = {"LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    runtime = f"/run/user/{os.getuid()}"
    if manager is Manager.USER and not os.environ.get("XDG_RUNTIME_DIR") and os.path.isdir(runtime):
        added["XDG_RUNTIME_DIR"] = runtime
    return added


def _order(verb: str, name: str, manager: Manager, no_block: bool, limit_s: float) -> Told | Declined | NotKnown:
    _check(name)
    said = _call([verb, *(["--no-block"] if no_block else []), "--", name], manager, limit_s)
    return Told() if isinstance(said, str) else said


def _show(names: Sequence[str], manager: Manager, limit_s: float) -> list[dict[str, str]] | NotKnown:
    said = _call(["show", f"--property=Id,{','.join(_PROPERTIES)}", "--", *names], manager, limit_s)
    if isinstance(said, Declined | NotKnown):
        return NotKnown(said.why)
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in said.split("\n\n") if block.strip()]
    if any(not {"Id", "LoadState", "ActiveState"} <= block.keys() for block in blocks):
        return NotKnown(f"systemctl show said something else than how {', '.join(names)} stand")
    return blocks


def _call(words: Sequence[str], manager: Manager, limit_s: float) -> str | Declined | NotKnown:
    argv = ["systemctl", f"--{manager.value}", "--no-pager", "--no-ask-password", *words]
    ended = children.run(argv, limit_s=limit_s, env=environment(manager))
    if isinstance(ended, children.NotRun):
        return NotKnown(ended.why)
    if ended.code == 0:
        return ended.out.decode(errors="replace")
    why = f"systemctl --{manager.value} {words[0]} failed (exit {ended.code}): {ended.last_words or 'without a word'}"
    # No bus, no init, no reply: nobody there heard the order.
    unheard = ended.code < 0 or any(phrase in ended.err for phrase in (b"connect to bus", b"as init system", b"timed out", b"Transport"))
    return NotKnown(why) if unheard else Declined(why)


def is_name(name: str) -> bool:
    """Return whether this can be the name of a unit; all that is handed to systemctl must be."""
    return _NAME.fullmatch(name) is not None


def _check(name: str) -> None:
    if not is_name(name):
        raise ValueError(f"{name!r} is no name of a unit")


def _unit(name: str, manager: Manager, said: dict[str, str]) -> Unit:
    return Unit(
        name=name,
        manager=manager,
        load_state=said["LoadState"],
        active_state=said["ActiveState"],
        sub_state=said.get("SubState", ""),
        unit_file_state=said.get("UnitFileState", ""),
        result=said.get("Result", ""),
        main_pid=_number(said.get("MainPID")) or None,
        exec_main_status=_number(said.get("ExecMainStatus")),
        n_restarts=_number(said.get("NRestarts")),
        invocation_id=said.get("InvocationID", ""),
        active_since=said.get("ActiveEnterTimestamp", ""),
        started_monotonic_us=_number(said.get("ExecMainStartTimestampMonotonic")) or None,
        timeout_start_s=_span(said.get("TimeoutStartUSec", "")),
        timeout_stop_s=_span(said.get("TimeoutStopUSec", "")),
        control_group=said.get("ControlGroup", ""),
        kill_mode=said.get("KillMode", ""),
        memory_high=_number(said.get("MemoryHigh")),
        memory_max=_number(said.get("MemoryMax")),
        job=_number(said.get("Job")) or None,
    )


def _number(text: str | None) -> int | None:
    """Return a number; None for "infinity", "[not set]" and whatever else is none."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) else None


def _span(text: str) -> float | None:
    """Return the seconds of "5min 30s"; inf for "infinity", None for what is no span."""
    if text == "infinity":
        return float("inf")
    total = 0.0
    for word in text.split():
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-z]*)", word, re.ASCII)
        if found is None or (found[2] or "us") not in _SPANS:
            return None
        total += float(found[1]) * _SPANS[found[2] or "us"]
    return total if text.strip() else None
