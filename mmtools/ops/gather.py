"""Gathering: every fact of `facts` asked for at once, each in a thread of its own, and all of them within a few seconds.

Whatever does not answer in time is `NotKnown`: a hung bus, a hung gateway or a dead network disk costs its own fact and no other.
Nothing is changed here, and nothing is judged.
"""

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmtools import outbox, restarts
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.moments import Moment
from mmtools.ops import gateway, jobs, memory, openclaw_facts, run_facts, systemd
from mmtools.ops.facts import Backlog, Facts, Job, Seen, Space, UnitFact
from mmtools.ops.installation import INSTALLED
from mmtools.ops.openclaw import Installation
from mmtools.ops.quoters import ms_of
from mmtools.ops.settings import Settings
from mmtools.ops.systemd import Manager, NotKnown
from mmtools.state import StateDir

LIMIT_S = 4.5
"""For all facts together."""
ASK_S = 2.0
"""For one question to a program or a server. A program that does not listen takes a second more to end."""


def gather(state: StateDir, settings: Settings, *, limit_s: float = LIMIT_S) -> Facts:
    """Ask for everything. A bug in one of the questions is raised, once all have ended."""
    now, installation = Moment.now(), Installation.open(settings.openclaw.root, settings.openclaw.config)
    wanted: dict[Manager, list[str]] = {Manager.USER: [settings.openclaw.unit]}
    for service in settings.services:
        wanted.setdefault(Manager(service.manager), []).append(service.unit)
    questions: dict[str, Callable[[], Any]] = {
        "runs": lambda: run_facts.runs(state, now.wall_ms),
        "gateway": lambda: Seen(gateway.probe(settings.openclaw.url, limit_s=ASK_S), now.wall_ms),
        "memory": lambda: _memory(now.wall_ms),
        "state": lambda: _space(state.root, now.wall_ms),
        "root": lambda: _space(installation.root, now.wall_ms),
        "here": lambda: _is_there(installation.root),
        "stores": lambda: openclaw_facts.stores(installation, now.wall_ms),
        "crons": lambda: openclaw_facts.crons(installation, now.wall_ms),
        "jobs": lambda: Seen(_jobs(state), now.wall_ms),
        "installed": lambda: state.exists(INSTALLED),
        "outbox": lambda: Seen(_backlog(state), now.wall_ms),
        "restarts": lambda: Seen(_restarts(state, now), now.wall_ms),
        **{f"units {manager}": _asking(names, manager, settings, now.wall_ms) for manager, names in wanted.items()},
    }
    told = _all(questions, limit_s)
    runs = told["runs"]
    units: dict[str, Seen[UnitFact] | NotKnown] = {}
    for manager, names in wanted.items():
        said = told[f"units {manager}"]
        units |= {f"{manager}/{name}": said if isinstance(said, NotKnown) else said[name] for name in names}
    return Facts(
        now=now,
        host=socket.gethostname(),
        openclaw=told["here"] is not False,
        runs=runs if isinstance(runs, NotKnown) else Seen(runs[0], now.wall_ms),
        older_runs=0 if isinstance(runs, NotKnown) else runs[1],
        units=units,
        gateway=told["gateway"],
        memory=told["memory"],
        disks={"state": told["state"], "gateway": told["root"]} if told["here"] is not False else {"state": told["state"]},
        stores=told["stores"],
        crons=told["crons"],
        jobs=told["jobs"],
        installed=told["installed"] is not False,
        outbox=told["outbox"],
        restarts=told["restarts"],
    )


def _all(questions: Mapping[str, Callable[[], Any]], limit_s: float) -> dict[str, Any]:
    """Return the answers by name; what has not answered when the time is over is not known."""
    answers: dict[str, Any] = {}
    bugs: list[Exception] = []
    # Not Thread.join: after an interrupt it takes a thread that goes on for one that has ended.
    ended = {name: threading.Event() for name in questions}

    def ask(name: str, question: Callable[[], Any]) -> None:
        try:
            answers[name] = question()
        except (TryLater, Refused, Misconfigured) as e:
            answers[name] = NotKnown(str(e))
        except OSError as e:
            answers[name] = NotKnown(e.strerror or type(e).__name__)
        except Exception as e:
            bugs.append(e)
        finally:
            ended[name].set()

    deadline = time.monotonic() + limit_s

    def wait() -> None:
        for event in ended.values():
            event.wait(max(0.0, deadline - time.monotonic()))

    for each in questions.items():
        threading.Thread(target=ask, args=each, daemon=True).start()
    try:
        wait()
    except BaseException:
        wait()  # a program that was asked is ended by its thread: who leaves now would leave it behind
        raise
    if bugs:
        raise bugs[0]
    return {name: answers.get(name, NotKnown(f"no answer within {limit_s:g} s")) for name in questions}


def _asking(names: list[str], manager: Manager, settings: Settings, now_ms: int) -> Callable[[], Any]:
    def ask() -> dict[str, Seen[UnitFact]] | NotKnown:
        shown = systemd.show(list(dict.fromkeys(names)), manager=manager, limit_s=ASK_S)
        if isinstance(shown, NotKnown):
            return shown
        found = {}
        for name, unit in shown.items():
            marked_mb = settings.memory.watermark_mb if name == settings.openclaw.unit else None
            size = memory.use(unit) if unit.runs else NotKnown("it does not run")
            found[name] = Seen(UnitFact(unit=unit, memory=size, mark=memory.watermark(unit, marked_mb)), now_ms)
        return found

    return ask


def _memory(now_ms: int) -> Seen[Space] | NotKnown:
    try:
        with open("/proc/meminfo") as lines:
            said = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
        return Seen(Space(free=said["MemAvailable"], size=said["MemTotal"]), now_ms)
    except (OSError, LookupError, ValueError):
        return NotKnown("/proc/meminfo does not say")


def _space(folder: Path, now_ms: int) -> Seen[Space]:
    """Return what the file system of a folder has, that of the nearest one above it while it is not there."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    said = os.statvfs(folder)
    return Seen(Space(free=said.f_bavail * said.f_frsize, size=said.f_blocks * said.f_frsize), now_ms)


def _jobs(state: StateDir) -> dict[str, Job]:
    return {
        name: Job(
            last_success_ms=ms_of(job.get("last_success")),
            failures=job.get("failures", 0),
            failing_since=job.get("failing_since") or "",
            error=job.get("error") or "",
            started_ms=ms_of(job.get("last_start")) or 0,
        )
        for name, job in jobs.all_jobs(state).items()
    }


def _backlog(state: StateDir) -> Backlog:
    unsent = [alert["raised_ms"] for alert in outbox.alerts(state).values() if alert["sent_ms"] is None]
    return Backlog(unsent=len(unsent), oldest_ms=min(unsent, default=None))


def _is_there(folder: Path) -> bool:
    """Whether there is such a folder. Raises OSError when that is not known, where Path.is_dir may say no."""
    try:
        return stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _restarts(state: StateDir, now: Moment) -> dict[str, int]:
    counts: dict[str, int] = {}
    for attempt in restarts.attempts(state):
        if now.since(attempt.at) < restarts.WITHIN_S:
            counts[attempt.what] = counts.get(attempt.what, 0) + 1
    return counts
