"""Pruning one agent's folder by its files: what may go, moved to the trash, the store replaced, and a look at what is left.

Whether the file may be written at all is decided by `routes` before; how a store is replaced is in `swapping`, what an entry or a file is
taken for in `stale` and `leftovers`. Called by the command prune-sessions.

The order is made for kill -9: the manifest, the old store into the trash, the new store, then the files. A file goes only after no entry
on the disk names it. The next run finishes what a kill left.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import foreign, leftovers
from mmtools.ops.leftovers import Ages, Kind, Leftover, Needed
from mmtools.ops.stale import Judge, Verdict
from mmtools.ops.store import Cutting, Reading, Span, Unreadable, chunks
from mmtools.ops.swapping import Identity, Swap, Swapped, opened
from mmtools.ops.trash import Manifest, Moved, Stage, Trash

ALWAYS_FREE = (Kind.TMP, Kind.DELETED, Kind.CORRUPT)
"""Kinds that no entry needs, whatever it names."""
MOST = 5000
"""Entries of one agent that go in one run, and files: what is known of each stays in memory. The next run takes what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """An entry that goes: its key, its session, the transcript it names in this folder ("" for none), and when it was written."""

    key: str
    session: str
    file: str
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one pass over a store found. needed: by the entries that stay; spans: the bytes that stay; left: entries beyond `MOST`."""

    before: int
    left: int = 0
    verdicts: Counter[Verdict]
    gone: tuple[Gone, ...]
    needed: Needed
    spans: tuple[Span, ...]

    def needed_now(self) -> Needed:
        """What is needed as long as nothing has gone."""
        now = Needed(set(self.needed.ids), set(self.needed.names))
        for gone in self.gone:
            now.ids.add(gone.session)
            now.names.add(gone.file)
        return now


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What goes. sessions: entries of cron runs, with their transcripts."""

    now_ms: int
    older_than_ms: int
    sessions: bool
    ages: Ages


@dataclass(slots=True, kw_only=True)
class Done:
    """What a run did to one folder, or would do. kept: by reason; left, files_left: entries and files that the next run takes."""

    before: int = 0
    gone: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    files: dict[Kind, int] = field(default_factory=dict)
    size: int = 0
    skipped: int = 0
    lock_held_ms: int | None = None
    left: int = 0
    files_left: int = 0
    trash: str | None = None
    finished: list[str] = field(default_factory=list)
    """Earlier runs that had been cut off."""
    keys: list[str] = field(default_factory=list)

    def add(self, moved: Moved) -> None:
        for kind, count in moved.files.items():
            self.files[kind] = self.files.get(kind, 0) + count
        self.size += moved.size
        self.skipped += moved.skipped

    def count(self, survey: Survey, *, went: bool) -> None:
        """Take the counts of a survey. went: what may go does go; else it counts among what is kept, as stale."""
        self.before = survey.before
        if went:
            self.gone, self.keys, self.left = len(survey.gone), [gone.key for gone in survey.gone], survey.left
        shown = [v for v in Verdict if survey.verdicts[v] or not v.odd]
        self.kept = {v.value: survey.verdicts[v] for v in shown if v is not Verdict.STALE}
        if not went and (survey.gone or survey.left):
            self.kept[Verdict.STALE.value] = len(survey.gone) + survey.left


def survey(fd: int, name: str, judge: Judge) -> Survey:
    """Read a store once. Raises Unreadable when any part of it is not what JSON.parse would take."""
    reading = Reading(fd, name)
    spans: list[tuple[Span, int]] = []  # and the hash of a key that may go, 0 of neighbours that stay
    before = left = 0
    seen: set[int] = set()
    twice: set[int] = set()
    stale: list[tuple[int, Gone]] = []
    verdicts: Counter[Verdict] = Counter()
    needed = Needed()
    for member in reading:
        before += 1
        verdict, mark = judge.judge(member.key, member.value), 0
        if verdict is not Verdict.OTHER:
            mark = hash(member.key) or 1
            if mark in seen:
                twice.add(mark)
            seen.add(mark)
        if verdict is Verdict.STALE and len(stale) < MOST:
            session, file = leftovers.own_names(member.value, Path(name).parent)
            stale.append((mark, Gone(key=member.key, session=session, file=file, updated_at=member.value["updatedAt"])))
            spans.append((member.span, mark))
        else:
            if verdict is Verdict.STALE:
                left += 1
            else:
                verdicts[verdict] += 1
            needed.add(member.value)
            if spans and not spans[-1][1]:
                spans[-1] = ((spans[-1][0][0], member.span[1]), 0)
            else:
                spans.append((member.span, 0))
    # JSON.parse takes the last of two. To cut one would bring the other to life, to cut both would lose what OpenClaw never saw: both stay.
    gone = tuple(g for mark, g in stale if mark not in twice)
    for mark, g in stale:
        if mark in twice:
            needed.ids.add(g.session)
            needed.names.add(g.file)
    verdicts[Verdict.STALE] = len(gone)
    verdicts[Verdict.TWICE] = len(stale) - len(gone)
    cutting = Cutting()
    for span, mark in spans:
        if mark and mark not in twice:
            cutting.cut(span)
        else:
            cutting.keep(span)
    first = spans[0][0][0] if spans else 0
    kept = cutting.spans(reading, first) if spans else []
    return Survey(before=before, left=left, verdicts=verdicts, gone=gone, needed=needed, spans=tuple(kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """The draft of a store without what goes, with the files that go along."""

    survey: Survey
    leftovers: tuple[Leftover, ...]
    files_left: int

    def chunks(self, source: int) -> Iterator[bytes]:
        return chunks(source, self.survey.spans)


class Pruner:
    """One folder of an agent and its trash. still: raises when the file may no longer be written, right before it is."""

    def __init__(self, *, agent: str, folder: Path, store: Path, trash: Trash, rules: Rules, still: Callable[[], None]) -> None:
        if store != folder / leftovers.STORE:
            raise Refused(
                f"the store of agent {agent} is {store}, outside {folder}: where its transcripts lie is not known; nothing was changed"
            )
        self._agent = agent
        self._folder = folder
        self._store = store
        self._trash = trash
        self._rules = rules
        self._still = still

    def look(self) -> Done:
        """Say what `prune` would do, and touch nothing."""
        done = Done()
        draft = self._first_look()
        if draft is not None:
            done.count(draft.survey, went=self._rules.sessions)
            done.files_left = draft.files_left
            if draft.leftovers:
                self._trash.check_place()
            for leftover in draft.leftovers:
                done.add(Moved({leftover.kind: 1}, leftover.file.size))
            done.finished = [run for run, manifest in self._unfinished() if manifest is not None]
        return done

    def prune(self, run: str) -> Done:
        """Do it. Raises Unreadable, and touches nothing, when the store is not whole."""
        done = Done()
        draft = self._first_look()
        if draft is None:
            return done
        self._finish_earlier(draft.survey.needed_now(), done)
        swapped: Swapped[Filtered] | None = None
        if self._rules.sessions and draft.survey.gone:
            del draft  # a large folder is not kept in memory twice
            swapped = self._swap(run)
            draft = swapped.draft if swapped is not None else self._refreshed()
        elif done.finished:
            draft = self._refreshed()
        if swapped is not None:
            done.lock_held_ms = round(swapped.held_s * 1000)
        if swapped is None and draft.leftovers:
            self._plan(run, draft, None)
        done.count(draft.survey, went=self._rules.sessions and (swapped is not None or not draft.survey.gone))
        done.files_left = draft.files_left
        if swapped is not None or draft.leftovers:
            done.add(self._trash.move(self._manifest(run), draft.leftovers))
            self._settle(run)
            if run in self._trash.runs():
                done.trash = str(self._trash.folder / run)
        if swapped is not None or draft.leftovers:
            self._check(run, None if swapped is None else swapped.now, draft.survey)
        return done

    # what there is

    def _first_look(self) -> Filtered | None:
        """Read everything once; None when there is neither a store nor a transcript, which is an agent without sessions."""
        with trusted(self._store, self._trash):
            if is_unused(self._store):
                return None
            with opened(self._store) as (source, _):
                return self._draft_of(source)

    def _refreshed(self) -> Filtered:
        """The leftovers as they are after earlier runs were finished; no entry goes."""
        with opened(self._store) as (source, _):
            draft = self._draft_of(source)
        return replace(draft, leftovers=tuple(leftover for leftover in draft.leftovers if leftover.kind is not Kind.SESSIONS))

    def _draft(self, source: int) -> Filtered | None:
        draft = self._draft_of(source)
        return draft if draft.survey.gone else None

    def _draft_of(self, source: int) -> Filtered:
        rules, now_s = self._rules, self._rules.now_ms / 1000
        with foreign.telling(self._folder, "nothing was changed"):
            being_written = leftovers.being_written(leftovers.files(self._folder), now_s)
        judge = Judge(agent=self._agent, now_ms=rules.now_ms, older_than_ms=rules.older_than_ms, being_written=being_written)
        found = survey(source, str(self._store), judge)
        going: list[Leftover] = []
        with foreign.telling(self._folder, "nothing was changed"):
            if rules.sessions and found.gone:
                ids, names = {gone.session for gone in found.gone}, {gone.file for gone in found.gone}
                going += leftovers.transcripts(leftovers.files(self._folder), ids, names, found.needed)
            going += leftovers.of_sessions(leftovers.files(self._folder), found.needed_now(), rules.ages, now_s)
        return Filtered(survey=found, leftovers=tuple(going[:MOST]), files_left=len(going[MOST:]))

    # what is done

    def _swap(self, run: str) -> Swapped[Filtered] | None:
        swap = Swap(self._store, draft=self._draft, planned=lambda d, digest: self._plan(run, d, digest), last=lambda _: self._keep(run))
        try:
            return swap.run()
        except Exception:
            self._forget(run)
            raise

    def _plan(self, run: str, draft: Filtered, digest: str | None) -> None:
        entries = tuple(gone.key for gone in draft.survey.gone) if digest is not None else ()
        self._trash.write(
            Manifest(run=run, stage=Stage.MOVING, home=str(self._folder), entries=entries, new_sha256=digest, files=draft.leftovers)
        )

    def _keep(self, run: str) -> None:
        self._still()
        with foreign.telling(self._store, "it was not changed"):
            self._trash.keep_store(run, self._store)

    def _manifest(self, run: str) -> Manifest:
        manifest = self._trash.read(run)
        if manifest is None:
            raise Refused(f"{self._trash.folder / run} was removed while it was in use; run again")
        return manifest

    def _settle(self, run: str) -> None:
        """Close a run; one that came to nothing leaves nothing."""
        kept = self._trash.store_of(run)
        self._trash.finish(self._manifest(run), needs_dropping=not kept.exists() or kept.samefile(self._store))

    def _forget(self, run: str) -> None:
        """Leave nothing of a run that failed before it replaced the store; else the next run finishes it."""
        kept = self._trash.store_of(run)
        with suppress(Exception):  # the failure itself is told
            if not kept.exists() or kept.samefile(self._store):
                self._trash.drop(run)

    def _unfinished(self) -> Iterator[tuple[str, Manifest | None]]:
        for run in self._trash.runs():
            manifest = self._trash.read(run)
            if manifest is None or manifest.stage is Stage.MOVING:
                yield run, manifest

    def _finish_earlier(self, needed: Needed, done: Done) -> None:
        for run, manifest in list(self._unfinished()):
            if manifest is not None:
                free = [f for f in manifest.files if f.kind in ALWAYS_FREE or not needed.has(f.file.name)]
                done.add(self._trash.move(manifest, free))
                self._settle(run)
                done.finished.append(run)
            elif self._trash.empty(run):
                self._trash.drop(run)

    def _check(self, run: str, ours: Identity | None, found: Survey) -> None:
        """Read again what is there now. Raises Refused when it is not what it should be. ours: the store that this run put there."""
        gone = {gone.key: gone.updated_at for gone in found.gone} if ours is not None else {}
        entries, back, needed = 0, 0, Needed()
        with opened(self._store) as (source, now):
            for member in Reading(source, str(self._store)):
                entries += 1
                back += member.key in gone and isinstance(member.value, dict) and member.value.get("updatedAt") == gone[member.key]
                needed.add(member.value)
        lost = sorted(name for name in self._trash.moved(run) if needed.has(name))
        expected = found.before - len(found.gone)
        if lost:
            wrong = f"{len(lost)} transcripts that entries need are in the trash, {lost[0]!r} first"
        elif back:
            wrong = f"{back} entries that went are there again: another program wrote the store without reading it first"
        elif now == ours and entries != expected:  # else the gateway has written since
            wrong = f"{entries} entries are left, and {expected} should be"
        else:
            return
        raise Refused(f"{self._store}: {wrong}; look at it, and `prune-sessions --undo {run}` puts everything back")


@contextmanager
def trusted(store: Path, trash: Trash) -> Iterator[None]:
    """Name the last good copy of a store that turns out not to be whole inside."""
    try:
        yield
    except Unreadable as e:
        kept = [trash.store_of(run) for run in reversed(trash.runs())]
        good = next((path for path in [*kept, *leftovers.copies(store.parent)] if is_whole(path)), "none found")
        raise Unreadable(f"{e}; it is left as it is. OpenClaw would take it for an empty store. Last good copy: {good}") from e


def is_unused(store: Path) -> bool:
    """Whether there is neither a store nor a transcript: an agent without sessions. A missing store beside transcripts is a lost one."""
    with foreign.telling(store.parent, "nothing was changed"):
        return not os.path.lexists(store) and not leftovers.has_transcripts(leftovers.files(store.parent))


def is_whole(path: Path) -> bool:
    """Whether a file is a whole store."""
    try:
        with opened(path) as (source, _):
            for _ in Reading(source, str(path)):
                pass
    except (Refused, TryLater, Misconfigured, OSError):
        return False
    return True


def prune_others(trash: Trash, found: list[Leftover], run: str, *, dry_run: bool) -> Done:
    """Move files of a folder that has no store: run histories of cron jobs, recordings."""
    done = Done()
    names = {leftover.file.name for leftover in found}
    if dry_run:
        for leftover in found:
            done.add(Moved({leftover.kind: 1}, leftover.file.size))
        return done
    for earlier in trash.runs():
        manifest = trash.read(earlier)
        if manifest is not None and manifest.stage is Stage.MOVING:
            done.add(trash.move(manifest, [f for f in manifest.files if f.file.name in names]))
            trash.finish(manifest, needs_dropping=True)
            done.finished.append(earlier)
        elif manifest is None and trash.empty(earlier):
            trash.drop(earlier)
    still = [leftover for leftover in found if (trash.home / leftover.file.name).exists()]
    if still:
        manifest = Manifest(run=run, stage=Stage.MOVING, home=str(trash.home), files=tuple(still))
        trash.write(manifest)
        done.add(trash.move(manifest, still))
        trash.finish(manifest, needs_dropping=True)
        done.trash = str(trash.folder / run) if run in trash.runs() else None
    return done
