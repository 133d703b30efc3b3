"""Installing the jobs for this user: a plan of what would change, and carrying it out. Called by `mmtools-install` alone.

Files outside the state folder are replaced whole, and only those that we wrote: `installed.json` knows each by its hash. One that a person
changed is kept and named. Before anything is changed the hashes of what will stand there are written down too, so whoever was killed in
the middle still knows its own. Which text goes where is `templates`'.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmtools import disk
from mmtools.errors import TryLater
from mmtools.ops import children, crontabs, foreign, systemd, templates
from mmtools.ops.crontabs import Crontab
from mmtools.ops.systemd import Manager
from mmtools.ops.templates import Place
from mmtools.state import StateDir

INSTALLED = "installed.json"
INSTALLED_SCHEMA = "mmtools.installed/1"
CRONTAB = "crontab"
"""Among the names of files, which are paths, the block in the crontab."""
LIMIT_S = 20.0
"""For one call of systemctl."""
NEW = ".mmtools-new"
"""What a kill can leave beside a file; the next run overwrites it."""
ABOUT_LOGS = "What jobs said on stderr, and the daily reports. Nobody reads this back: delete what you like, but not the folder.\n"

DROP_IN = ".d/mmtools.conf"

How = Literal["systemd", "cron"]
Argv = tuple[str, ...]
"""The words of a call behind `systemctl --user`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that becomes another. what: a path, or CRONTAB (its block); before, after: its content, None for nothing."""

    what: str
    before: bytes | None
    after: bytes | None

    @property
    def does(self) -> str:
        return "remove" if self.after is None else "write" if self.before is None else "update"


@dataclass(slots=True, kw_only=True)
class Plan:
    """What is to be done. kept: what stays, and why; start, stop, after: calls of systemctl behind the new files, before the removals and
    behind them; later: what a person has to call; lacking: commands that are not there, whose jobs are left out.
    """

    how: How | None
    why: str
    changes: list[Change] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    start: list[Argv] = field(default_factory=list)
    stop: list[Argv] = field(default_factory=list)
    after: list[Argv] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    known: dict[str, list[str]] = field(default_factory=dict)
    """The hashes of what we wrote, by `what`, as it will be in the end."""
    links: list[Path] = field(default_factory=list)
    """By which timers are enabled that go."""
    crontab: Crontab | None = None
    is_pending: bool = False
    """Whether the service manager has yet to hear of what is written."""

    @property
    def is_empty(self) -> bool:
        return not (self.changes or self.start or self.stop or self.links)


def choose() -> tuple[How, str]:
    """Return how the jobs are best started here, and why."""
    if not systemd.answers(Manager.USER, limit_s=LIMIT_S):
        return "cron", "no user manager of systemd answers"
    stays = lingers()
    if stays is None:
        return "cron", "a user manager answers, but whether it stays when you log out (lingering) is not known"
    if not stays:
        return "cron", "the user manager ends when you log out; `loginctl enable-linger` would keep it"
    return "systemd", "a user manager answers, and lingering is on"


def plan_install(state: StateDir, place: Place, *, how: How, why: str, gateway_unit: str | None) -> Plan:
    """Return what would change. gateway_unit: whose drop-in is to be installed; None leaves those that are there."""
    known, was_pending = _installed(state)
    commands = place.commands()
    plan = Plan(how=how, why=why, lacking=templates.lacking(place, commands), known=dict(known))
    wanted: dict[str, bytes | None] = dict.fromkeys(known)
    wanted.pop(CRONTAB, None)

    settings = str(place.config / "ops.yaml")
    wanted.pop(settings, None)
    if not os.path.lexists(settings):
        wanted[settings] = (place.root / "configs" / "ops.yaml").read_bytes()

    rendered = templates.units(place, commands)
    drop_ins = {name for name in known if name.endswith(DROP_IN)}
    if gateway_unit is not None:
        drop_ins.add(f"{place.units}/{gateway_unit}{DROP_IN}")
    if not set(templates.FOR_DROP_IN) <= rendered.keys():
        drop_ins = set()
    wanted |= {name: templates.drop_in(place).encode() for name in drop_ins}
    units = {name for name in rendered if how == "systemd" or (drop_ins and name in templates.FOR_DROP_IN)}
    wanted |= {str(place.units / name): rendered[name].encode() for name in units}

    _decide_files(plan, place, wanted, known)
    if how == "cron" or CRONTAB in known:
        _decide_crontab(plan, templates.block(place, commands).encode() if how == "cron" else None, known)
    _plan_manager(plan, place, templates.timers(units), was_pending=was_pending)
    if how == "systemd" and lingers() is False:
        plan.later.append("loginctl enable-linger")
    return plan


def plan_uninstall(state: StateDir, place: Place) -> Plan:
    """Return what would be removed: all that we wrote and nobody changed."""
    known, was_pending = _installed(state)
    plan = Plan(how=None, why="asked for", known=dict(known))
    _decide_files(plan, place, {name: None for name in known if name != CRONTAB}, known)
    if CRONTAB in known:
        _decide_crontab(plan, None, known)
    _plan_manager(plan, place, [], was_pending=was_pending)
    return plan


def carry_out(state: StateDir, plan: Plan) -> None:
    """Do it: new jobs first, so that a kill leaves them twice (each locks itself) rather than not at all."""
    known, was_pending = _installed(state)
    if plan.is_empty and (plan.known, plan.is_pending) == (known, was_pending):
        return
    touches_units = any(change.what != CRONTAB for change in plan.changes)
    with state.edit(INSTALLED, schema=INSTALLED_SCHEMA) as body:
        either = sorted({*known, *plan.known})
        body["known"] = {what: list(dict.fromkeys([*known.get(what, []), *plan.known.get(what, [])])) for what in either}
        body["pending"] = was_pending or touches_units
    if plan.how is not None:
        state.write_text("logs/about.txt", ABOUT_LOGS)
    for change in plan.changes:
        if change.after is not None:
            _apply(plan, change, change.after)
    for argv in (*plan.start, *plan.stop):
        _call(argv)
    for change in plan.changes:
        if change.after is None:
            _apply(plan, change, None)
    for link in plan.links:
        _remove(link)
    for argv in plan.after:
        _call(argv)
    if not plan.known:
        state.remove(INSTALLED)
        return
    with state.edit(INSTALLED, schema=INSTALLED_SCHEMA) as body:
        body["known"], body["pending"] = dict(sorted(plan.known.items())), plan.is_pending


# ---- what is there


def _installed(state: StateDir) -> tuple[dict[str, list[str]], bool]:
    """Return the hashes of what we wrote, and whether the service manager has yet to hear of it. Raises Broken: lost is not nothing."""
    body = state.read(INSTALLED, schema=INSTALLED_SCHEMA) or {}
    known: Mapping[str, Any] = body.get("known", {})
    return {str(what): list(hashes) for what, hashes in known.items()}, bool(body.get("pending", False))


def lingers() -> bool | None:
    """Return whether this user's manager stays when nobody is logged in; None when nobody says."""
    ended = children.run(["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"], limit_s=LIMIT_S)
    said = ended.out.decode(errors="replace").strip() if isinstance(ended, children.Ended) and ended.code == 0 else ""
    return {"yes": True, "no": False}.get(said)


def _are_running(timers: Sequence[str]) -> bool:
    """Whether all timers are enabled and active, as the manager says."""
    if not timers:
        return True
    ended = _systemctl("show", "--property=ActiveState", "--property=UnitFileState", *timers)
    if isinstance(ended, children.NotRun) or ended.code != 0:
        return False
    lines = ended.out.decode(errors="replace").split()
    return lines.count("ActiveState=active") == lines.count("UnitFileState=enabled") == len(timers)


def _systemctl(*words: str) -> children.Ended | children.NotRun:
    return children.run(["systemctl", "--user", *words], limit_s=LIMIT_S, env=systemd.environment(Manager.USER))


# ---- deciding


def _decide_files(plan: Plan, place: Place, wanted: Mapping[str, bytes | None], known: Mapping[str, Sequence[str]]) -> None:
    for name, after in sorted(wanted.items()):
        path = Path(name)
        if after is None and path == place.units / "quote-run@.service":
            runs = sorted(link.name for link in place.units.glob("*.wants/quote-run@*.service"))
            if runs:
                plan.kept.append(
                    f"{name}: {', '.join(runs)} still enabled; `systemctl --user disable --now {' '.join(runs)}`, and run again"
                )
                continue
        with _told(path):
            is_foreign = path.is_symlink() or (path.exists() and not path.is_file())
        _decide(plan, name, None if is_foreign else _content(path), after, known, is_foreign=is_foreign)


def _decide_crontab(plan: Plan, after: bytes | None, known: Mapping[str, Sequence[str]]) -> None:
    plan.crontab = crontabs.read()
    _decide(plan, CRONTAB, plan.crontab.block, after, known)


def _decide(
    plan: Plan, what: str, before: bytes | None, after: bytes | None, known: Mapping[str, Sequence[str]], *, is_foreign: bool = False
) -> None:
    """Add the change of one thing, or why it stays; and note whose it will be."""
    if is_foreign or (before is not None and before != after and _hash(before) not in known.get(what, ())):
        shown = "the block in the crontab" if what == CRONTAB else what
        plan.kept.append(f"{shown}: changed by hand, or not ours; remove it yourself if it should go")
        if plan.how is None:
            plan.known.pop(what, None)
        return
    if after is None:
        plan.known.pop(what, None)
    else:
        plan.known[what] = [_hash(after)]
    if before != after:
        plan.changes.append(Change(what=what, before=before, after=after))


def _plan_manager(plan: Plan, place: Place, timers: Sequence[str], *, was_pending: bool) -> None:
    """Add what the service manager has to be told. It need not answer: then a person tells it, or the next run."""
    gone = [Path(c.what).name for c in plan.changes if c.after is None and c.what.endswith(".timer")]
    plan.links = [link for name in gone for link in sorted(place.units.glob(f"*.wants/{name}")) if link.is_symlink()]
    writes = any(c.after is not None and Path(c.what).is_relative_to(place.units) for c in plan.changes)
    removes = any(c.after is None and Path(c.what).is_relative_to(place.units) for c in plan.changes)
    if not (timers or writes or removes or was_pending):
        return
    reload: Argv = ("daemon-reload",)
    enable: Argv = ("enable", "--now", *timers)
    if not systemd.answers(Manager.USER, limit_s=LIMIT_S):
        plan.is_pending = writes or removes or was_pending
        calls = [*([reload] if plan.is_pending else []), *([enable] if timers and plan.is_pending else [])]
        plan.later += [" ".join(("systemctl", "--user", *argv)) for argv in calls]
        return
    if writes or was_pending or not _are_running(timers):
        plan.start = [reload, *([enable] if timers else [])]
    if gone:
        plan.stop = [("disable", "--now", *gone)]
    if removes:
        plan.after = [reload]


# ---- doing


def _apply(plan: Plan, change: Change, after: bytes | None) -> None:
    if change.what == CRONTAB:
        now = crontabs.read()
        if now != plan.crontab:
            raise TryLater("the crontab was changed by another just now; run again")
        crontabs.write(now.with_block(after))
    elif after is None:
        _remove(Path(change.what))
    else:
        _put(Path(change.what), after)


def _call(argv: Argv) -> None:
    ended = _systemctl(*argv)
    if isinstance(ended, children.NotRun):
        raise TryLater(f"{ended.why}; run again")
    if ended.code != 0:
        raise TryLater(f"`systemctl --user {' '.join(argv)}` failed: {ended.last_words or f'exit {ended.code}'}; look, and run again")


def _content(path: Path) -> bytes | None:
    with _told(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _put(path: Path, content: bytes) -> None:
    """Replace a file whole, for good; a reader or a kill meets the old one or the new one."""
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        foreign.replace(path, content, new=path.with_name(path.name + NEW), mode=0o600 if path.suffix == ".yaml" else 0o644)


def _remove(path: Path) -> None:
    """Remove a file or link, and a folder of drop-ins that held nothing else."""
    with _told(path):
        with suppress(FileNotFoundError):
            os.unlink(path)
        if not path.parent.is_dir():
            return
        disk.sync(path.parent)
        if path.parent.name.endswith((".d", ".wants")):
            with suppress(OSError):
                path.parent.rmdir()


def _hash(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _told(path: Path) -> AbstractContextManager[None]:
    return foreign.telling(path, "what was there before is whole")
