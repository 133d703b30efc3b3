"""Where pruned files wait: one folder a run with a manifest, files moved by rename, put back by `undo`, purged when old.

A trash belongs to one home folder and lies beside it, on the same file system. The manifest is written before anything moves, so that a
run that was killed is finished or undone by it. What is worth moving, and what the store in it means, is not known here. Called by
`pruning`, `undoing` and `swapping`.

    <trash>/<run>/manifest.json    what goes, and how far it got
    <trash>/<run>/sessions.json    the old store, the very file
    <trash>/<run>/files/<name>     the files
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec

from mmtools import disk
from mmtools.errors import Refused
from mmtools.ops import foreign
from mmtools.ops.leftovers import Kind, Leftover, is_plain
from mmtools.state import Broken, StateDir

SCHEMA = "mmtools.prune_manifest/1"
NAME = "mmtools-trash"
LINK_TRIES = 100
"""Against a gateway that replaces its store; one try in a few hundred meets it, beside one that does nothing else."""

_MANIFEST = "manifest.json"
_STORE = "sessions.json"
_FILES = "files"
_run = re.compile(r"([0-9]{8}T[0-9]{6}Z)-[0-9]+(?:-[0-9]+)?")


class Stage(StrEnum):
    """How far a run got."""

    MOVING = "moving"
    """It may have been cut off anywhere; the next run finishes it."""
    MOVED = "moved"
    UNDOING = "undoing"
    """Being put back: nothing finishes it but undo itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What one run takes from one home. new_sha256: of the store as the run left it, None when it left the store alone."""

    run: str
    stage: Stage
    home: str
    entries: tuple[str, ...] = ()
    """The keys that go from the store, in their order."""
    new_sha256: str | None = None
    files: tuple[Leftover, ...] = ()
    by_gateway: bool = False
    """The entries were deleted by the gateway, with their transcripts; the store in the trash is from before that."""


@dataclass(slots=True)
class Moved:
    """What was moved, by kind, and what was found changed or gone and left alone."""

    files: dict[Kind, int] = field(default_factory=dict)
    size: int = 0
    skipped: int = 0


def new_run(now_ms: int, taken: Iterable[str]) -> str:
    """Return the id of a run: when it began, and its PID."""
    first = run = f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    names, n = set(taken), 1
    while run in names:
        n += 1
        run = f"{first}-{n}"
    return run


class Trash:
    """The trash of one home folder. Nothing is created before the first run."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self._state = StateDir(folder, leave_broken=True)  # a dry run reads manifests, too, and may not even move one aside

    def runs(self) -> list[str]:
        """Return the runs that lie here, the oldest first."""
        return [name for name in self._state.names("*") if _run.fullmatch(name)]

    def read(self, run: str) -> Manifest | None:
        """Return what a run took; None when it was cut off before it took anything. Raises Refused when its manifest is broken."""
        body = self._state.read(f"{run}/{_MANIFEST}", schema=SCHEMA)
        if body is None:
            return None
        try:
            return msgspec.convert(body, Manifest)
        except msgspec.ValidationError as e:
            raise Refused(f"{self.folder / run / _MANIFEST} says what this version does not know ({e}); look at it by hand") from e

    def write(self, manifest: Manifest) -> None:
        self.check_place()
        self._state.write(f"{manifest.run}/{_MANIFEST}", msgspec.to_builtins(manifest), schema=SCHEMA)

    def store_of(self, run: str) -> Path:
        """Return where the old store of a run lies, if it has one."""
        return self.folder / run / _STORE

    def keep_store(self, run: str, store: Path) -> None:
        """Let the trash have the very file that is about to be replaced. Raises OSError."""
        kept = self.store_of(run)
        with suppress(FileNotFoundError):
            os.unlink(kept)
        for n in range(LINK_TRIES):
            try:
                os.link(store, kept, follow_symlinks=False)
                break
            except FileNotFoundError:
                # Linux says so, too, of a file that is there all the time, when another process renames a new one over it just then.
                if n == LINK_TRIES - 1 or not store.exists():
                    raise
        disk.sync(kept.parent)

    def move(self, manifest: Manifest, leftovers: Iterable[Leftover]) -> Moved:
        """Move files of the manifest here; one that has changed since it was seen stays."""
        moved = Moved()
        into = self.folder / manifest.run / _FILES
        for leftover in leftovers:
            name, path = leftover.file.name, self.home / leftover.file.name
            with foreign.telling(path, "it is where it was, or in the trash; run again to finish"):
                foreign.make_folder(into)
                if not is_plain(path, leftover.file):
                    moved.skipped += 1
                    continue
                os.rename(path, into / name)
            moved.files[leftover.kind] = moved.files.get(leftover.kind, 0) + 1
            moved.size += leftover.file.size
        if moved.files:
            foreign.keep(into)
            foreign.keep(self.home)
        return moved

    def moved(self, run: str) -> frozenset[str]:
        """Return the names of the files of a run that lie here."""
        files = self.folder / run / _FILES
        return frozenset(os.listdir(files)) if files.is_dir() else frozenset()

    def finish(self, manifest: Manifest, *, needs_dropping: bool) -> None:
        """Say that a run is over; one that took nothing leaves nothing. needs_dropping: the store here is not worth keeping."""
        if needs_dropping and not self.moved(manifest.run):
            self.drop(manifest.run)
        else:
            self.write(replace(manifest, stage=Stage.MOVED))

    def put_back(self, manifest: Manifest) -> tuple[int, list[str]]:
        """Put the files of a run back and return how many, and the names of those in whose place something else lies now."""
        folder, back, in_the_way = self.folder / manifest.run / _FILES, 0, []
        for leftover in manifest.files:
            here, home = folder / leftover.file.name, self.home / leftover.file.name
            with foreign.telling(home, "it is in the trash or back; undo again to finish"):
                if not os.path.lexists(here):
                    continue
                try:
                    os.link(here, home, follow_symlinks=False)  # not a rename: that would take the place of another file
                except FileExistsError:
                    if not os.path.samestat(os.lstat(here), os.lstat(home)):
                        in_the_way.append(leftover.file.name)
                        continue
                os.unlink(here)
            back += 1
        if back:
            foreign.keep(self.home)
        return back, in_the_way

    def drop(self, run: str) -> None:
        """Remove all of a run for good, and the trash when it was the last."""
        self._state.remove_tree(run)
        with suppress(OSError):  # not empty, or not there
            os.rmdir(self.folder)

    def old(self, now_ms: int, keep_s: float) -> list[str]:
        """Return the runs that have lain here for longer than `keep_s`, and are not on their way back."""
        return [run for run in self.runs() if now_ms / 1000 - _began_s(run) > keep_s and not self._is_undoing(run)]

    def sweep(self) -> None:
        """Remove what kills have left of removals."""
        for doomed in sorted(self.folder.glob("*.removed")):
            if _run.fullmatch(doomed.stem):
                self.drop(doomed.stem)

    def empty(self, run: str) -> bool:
        """Whether a run was cut off before its manifest was written: then it has nothing."""
        return not {entry.name for entry in os.scandir(self.folder / run)} - {f"{_MANIFEST}.new"}

    def _is_undoing(self, run: str) -> bool:
        try:
            manifest = self.read(run)
        except Broken:
            return True  # a person must look first
        return manifest is not None and manifest.stage is Stage.UNDOING

    def check_place(self) -> None:
        """Raise Refused when files cannot be moved here by rename."""
        place = self.folder if self.folder.exists() else self.folder.parent
        if os.stat(place).st_dev != os.stat(self.home).st_dev:
            raise Refused(
                f"{place} and {self.home} are on different file systems, and files are moved by rename alone; nothing was changed"
            )


def _began_s(run: str) -> float:
    found = _run.fullmatch(run)
    return datetime.strptime(found[1] if found else "", "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
