"""One run of prune-sessions over a whole installation: every agent by its own way, then what lies elsewhere, and the document of it.

What may go and how it goes is decided in `routes`, `pruning` and `deleting`; here they are put in order. A refused agent does not keep the
others from their turn; the run fails afterwards. Called by the command prune-sessions.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mmtools import moments
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import foreign, leftovers, openclaw, routes, snapshots, standing
from mmtools.ops.leftovers import Ages, Kind, Leftover
from mmtools.ops.openclaw import Agent, Installation
from mmtools.ops.openclaw_program import Program
from mmtools.ops.pruning import Done, Pruner, Rules, prune_others
from mmtools.ops.routes import Route
from mmtools.ops.settings import Settings
from mmtools.ops.trash import NAME, Trash, new_run
from mmtools.ops.undoing import Undo
from mmtools.state import StateDir

SCHEMA = "mmtools.prune/1"
UNDO_SCHEMA = "mmtools.prune_undo/1"
SNAPSHOTS = "snapshots"
BESIDE = (Kind.ORPHANS, Kind.TMP, Kind.DELETED, Kind.CORRUPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the person asked for. agent: only this one, None is all. budget_s: for all that gateways delete; None is a while for each."""

    now_ms: int
    older_than_s: float
    keep_trash_s: float
    what: frozenset[str]
    agent: str | None
    dry_run: bool
    budget_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """An agent, where it stands, and its trash."""

    agent: Agent
    standing: standing.Standing
    trash: Trash


class _Worker(Protocol):
    """Prunes one agent, by its file or through its gateway."""

    def look(self) -> Done: ...
    def prune(self, run: str) -> Done: ...


class Housekeeping:
    """One run. root: the installation given on the command line, None is that of the settings."""

    def __init__(self, settings: Settings, root: str | None, state: StateDir, wish: Wish) -> None:
        self._settings = settings
        self._state = state
        self._wish = wish
        self._began_s = time.monotonic()
        config = settings.openclaw.config if root is None else None
        self._installation = Installation.open(root or settings.openclaw.root, config)
        named = root or settings.openclaw.root or os.environ.get("OPENCLAW_STATE_DIR")
        self._absent = not named and wish.agent is None and not self._installation.root.exists()
        if not self._absent and not self._installation.root.is_dir():
            raise Misconfigured(f"{self._installation.root} is no folder; name OpenClaw's state folder with --openclaw DIR")
        self._agents = self._installation.agents()
        if wish.agent is not None and wish.agent not in {agent.id for agent in self._agents}:
            known = ", ".join(agent.id for agent in self._agents) or "none"
            raise Misconfigured(f"there is no agent {wish.agent} in {self._installation.root}; there is: {known}")
        ages = settings.sessions
        hours = {
            Kind.ORPHANS: ages.orphans_after_h,
            Kind.TMP: ages.tmp_after_h,
            Kind.DELETED: ages.archives_after_h,
            Kind.CORRUPT: ages.corrupt_after_h,
            Kind.CRON_LOGS: ages.cron_logs_after_h,
            Kind.RECORDINGS: ages.recordings_after_h,
        }
        self._rules = Rules(
            now_ms=wish.now_ms,
            older_than_ms=round(wish.older_than_s * 1000),
            sessions=Kind.SESSIONS in wish.what,
            ages=Ages(after_s={kind: h * 3600 for kind, h in hours.items() if kind in wish.what}),
        )

    # pruning

    def prune(self) -> dict[str, Any]:
        """Prune what was asked for and return the document. Raises the first refusal when all that could be done is done."""
        run = new_run(self._wish.now_ms, self._runs())
        agents, problems = [], []
        for place in self._places():
            try:
                agents.append(self._agent(place, run))
            except (Refused, TryLater, Misconfigured) as e:
                problems.append(e)
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "run": None if self._wish.dry_run else run,
            "dry_run": self._wish.dry_run,
            "now": moments.iso(self._wish.now_ms),
            "older_than_s": self._wish.older_than_s,
            "agents": agents,
            "others": [],
            "snapshots": [],
            "notes": [],
        }
        if self._absent:
            document["notes"].append(f"there is no OpenClaw on this machine ({self._installation.root} is not there)")
        try:
            if not problems:
                self._prune_others(run, document)
        except (Refused, TryLater, Misconfigured) as e:
            problems.append(e)
        if problems:
            done = "; ".join(f"agent {each['agent']}: {each['entries']['gone']} sessions gone" for each in agents)
            words = [str(problem) for problem in problems] + ([f"meanwhile {done}"] if done else [])
            raise _worst(problems)("; ".join(words)) from problems[0]
        return document

    def _prune_others(self, run: str, document: dict[str, Any]) -> None:
        for kind, trash, found in self._others(document["notes"]):
            outcome = prune_others(trash, found, run, dry_run=self._wish.dry_run)
            document["others"].append({"kind": kind, **self._files(outcome), "purged": self._purge(trash)})
        if SNAPSHOTS in self._wish.what:
            document["snapshots"] = snapshots.prune(self._state, self._settings.snapshots.keep, dry_run=self._wish.dry_run)

    def _places(self) -> Iterator[_Place]:
        look = None
        for agent in self._agents:
            if self._wish.agent in (None, agent.id):
                if look is None:
                    look = standing.look(self._installation, program=self._settings.openclaw.program, url=self._settings.openclaw.url)
                yield _Place(agent, standing.judge(look, agent), routes.trash_of(agent, agent.store.parent))

    def _agent(self, place: _Place, run: str) -> dict[str, Any]:
        agent, stands = place.agent, place.standing
        way = routes.route(agent, stands)
        worker = self._by_file(place) if way is Route.FILE else self._by_gateway(place)
        done = worker.look() if self._wish.dry_run else worker.prune(run)
        return {
            "agent": agent.id,
            "gateway": stands.gateway,
            "era": stands.era,
            "version": stands.version,
            "route": way,
            "entries": {"before": done.before, "gone": done.gone, "kept": sum(done.kept.values()), "kept_by": done.kept, "left": done.left},
            "lock_held_ms": done.lock_held_ms,
            **self._files(done),
            "purged": self._purge(place.trash),
        }

    def _by_file(self, place: _Place) -> _Worker:
        folder = routes.sessions_of(place.agent, self._agents)
        still = routes.still(self._installation, place.standing, self._settings.openclaw.url)
        return Pruner(agent=place.agent.id, folder=folder, store=place.agent.store, trash=place.trash, rules=self._rules, still=still)

    def _by_gateway(self, place: _Place) -> _Worker:
        from mmtools.ops.deleting import BUDGET_S, Deleter

        budget_s = BUDGET_S if self._wish.budget_s is None else self._wish.budget_s - (time.monotonic() - self._began_s)
        program = Program(self._settings.openclaw.program, self._installation.environment)
        assert place.standing.era is not None, "routes.route refuses that"
        return Deleter(agent=place.agent, era=place.standing.era, program=program, trash=place.trash, rules=self._rules, budget_s=budget_s)

    def _files(self, done: Done) -> dict[str, Any]:
        return {
            "files": {str(kind): count for kind, count in sorted(done.files.items())},
            "files_left": done.files_left,
            "bytes": done.size,
            "skipped": done.skipped,
            "trash": done.trash,
            "finished": done.finished,
        }

    def _purge(self, trash: Trash) -> list[str]:
        """Remove for good what has been in a trash for long enough, and return the runs; in a dry run only name them."""
        old = trash.old(self._wish.now_ms, self._wish.keep_trash_s)
        if not self._wish.dry_run:
            trash.sweep()
            for run in old:
                trash.drop(run)
        return old

    # what has no store

    def _others(self, notes: list[str]) -> Iterator[tuple[Kind, Trash, list[Leftover]]]:
        if Kind.CRON_LOGS in self._wish.what and self._wish.agent is None:
            found = self._cron_logs(notes)
            if found is not None:
                yield Kind.CRON_LOGS, self._cron_trash(), found
        if Kind.RECORDINGS in self._wish.what:
            yield Kind.RECORDINGS, self._recordings_trash(), self._recordings()

    def _cron_logs(self, notes: list[str]) -> list[Leftover] | None:
        """Return the run histories of jobs that no longer exist; None, with a note, where it is not known which do."""
        trash = self._cron_trash()
        with foreign.telling(trash.home, "no run histories were taken"):
            seen = list(leftovers.files(trash.home))
        if not seen:
            return None
        jobs = openclaw.cron_jobs_file(self._installation)
        if isinstance(jobs, openclaw.Unreadable):
            notes.append(f"cron-logs were left: {jobs.why}")
            return None
        if (self._installation.root / "state" / "openclaw.sqlite").exists():
            notes.append("cron-logs were left: the cron store is in SQLite, so jobs.json may not name every job")
            return None
        ids = frozenset(str(job["id"]) for job in jobs)
        return list(leftovers.cron_logs(seen, ids, self._rules.ages, self._wish.now_ms / 1000))

    def _recordings(self) -> list[Leftover]:
        from mmtools.ops import quoters

        configs = []
        for name in self._state.names("runs/*/run.yaml"):
            if quoters.quoter(self._state, name.split("/")[1]).standing is not quoters.Standing.FINISHED:
                configs.append(self._state.path(name).read_text(errors="replace"))
        home = self._recordings_trash().home
        with foreign.telling(home, "no recordings were taken"):
            seen = list(leftovers.files(home))
        return list(leftovers.recordings(seen, configs, self._rules.ages, self._wish.now_ms / 1000))

    def _cron_trash(self) -> Trash:
        cron = self._installation.root / "cron"
        return Trash(cron / NAME, cron / "runs")

    def _recordings_trash(self) -> Trash:
        return Trash(self._state.path("recordings-trash"), self._state.path("recordings"))

    # undoing

    def undo(self, run: str) -> dict[str, Any]:
        """Put back what a run took, everywhere, and return the document. Nothing is put back where one agent's store may not be written."""
        wanted: list[tuple[str, Undo]] = []
        for agent in self._agents:
            trash = routes.trash_of(agent, agent.store.parent)
            if self._wish.agent in (None, agent.id) and run in trash.runs():
                wanted.append((agent.id, self._undo_of(agent, trash, run)))
        for name, trash in (("cron-logs", self._cron_trash()), ("recordings", self._recordings_trash())):
            if self._wish.agent is None and run in trash.runs():
                wanted.append((name, Undo(trash=trash, run=run, store=None, still=lambda: None)))
        if not wanted:
            there = ", ".join(sorted(self._runs())) or "none"
            raise Refused(f"no trash holds a run {run}; those there are: {there}")
        places: list[dict[str, Any]] = []
        for name, undo in wanted:
            undone = undo.look() if self._wish.dry_run else undo.undo()
            places.append(
                {"place": name, "entries": undone.entries, "exact": undone.exact, "files": undone.files, "in_the_way": undone.in_the_way}
            )
        in_the_way = [name for place in places for name in place["in_the_way"]]
        return {"schema": UNDO_SCHEMA, "run": run, "dry_run": self._wish.dry_run, "places": places, "in_the_way": in_the_way}

    def _undo_of(self, agent: Agent, trash: Trash, run: str) -> Undo:
        place = next(place for place in self._places() if place.agent.id == agent.id)
        if routes.route(agent, place.standing) is not Route.FILE:
            raise Refused(
                f"agent {agent.id}: the gateway runs and keeps the store itself, so entries cannot be put back; stop it, keep it stopped, "
                f"and run `prune-sessions --undo {run}` again"
            )
        still = routes.still(self._installation, place.standing, self._settings.openclaw.url)
        return Undo(trash=trash, run=run, store=agent.store, still=still)

    def _runs(self) -> set[str]:
        trashes = [routes.trash_of(agent, agent.store.parent) for agent in self._agents]
        return {run for trash in [*trashes, self._cron_trash(), self._recordings_trash()] for run in trash.runs()}


def _worst(problems: Sequence[Exception]) -> type[Exception]:
    """Return the error to raise for several: what a person must look at before what passes by itself."""
    return next((kind for kind in (Refused, Misconfigured) if any(isinstance(p, kind) for p in problems)), TryLater)
