"""Undoing a run of prune-sessions: its files out of the trash, its entries back into the store. Called by the command prune-sessions.

A store that nobody has written since gets its exact old bytes. One that was written since keeps all that it has, and what is not there any
more is put at its end, byte for byte. Whether the file may be written is decided by `routes` before.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mmtools.errors import Refused
from mmtools.ops.store import Reading, Span, Unreadable, chunks
from mmtools.ops.swapping import Swap, opened
from mmtools.ops.trash import Manifest, Stage, Trash


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What was put back. exact: the store has its old bytes; in_the_way: files in whose place others lie now, still in the trash."""

    entries: int
    exact: bool
    files: int
    in_the_way: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exact:
    """The store as it was."""

    entries: int
    old: int
    exact: bool = True

    def chunks(self, source: int) -> Iterator[bytes]:
        return chunks(self.old, [(0, os.fstat(self.old).st_size)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Longer:
    """The store as it is, with old entries at its end. last: where its last entry ends, None when it has none; ends: what follows that."""

    entries: int
    old: int
    spans: tuple[Span, ...]
    opening: Span
    last: int | None
    ends: Span
    exact: bool = False

    def chunks(self, source: int) -> Iterator[bytes]:
        yield from chunks(source, [(0, self.last if self.last is not None else self.opening[1])])
        for n, span in enumerate(self.spans):
            yield b"\n  " if self.last is None and n == 0 else b",\n  "
            yield from chunks(self.old, [span])
        if self.last is None:
            yield b"\n"
        yield from chunks(source, [self.ends])


class Undo:
    """The undoing of one run in one trash. store: None where there is no store. still: raises when the store may not be written."""

    def __init__(self, *, trash: Trash, run: str, store: Path | None, still: Callable[[], None]) -> None:
        manifest = trash.read(run)
        if manifest is None:
            raise Refused(
                f"{trash.folder / run} has no manifest: that run was cut off before it changed anything, there is nothing to undo"
            )
        self._manifest: Manifest = manifest
        self._trash = trash
        self._store = store
        self._still = still

    def look(self) -> Undone:
        """Say what `undo` would do, and touch nothing."""
        files = self._trash.moved(self._manifest.run)
        in_the_way = tuple(sorted(name for name in files if os.path.lexists(self._trash.home / name)))
        entries, exact = self._in_store(change=False)
        return Undone(entries=entries, exact=exact, files=len(files) - len(in_the_way), in_the_way=in_the_way)

    def undo(self) -> Undone:
        """Do it; again after a kill finishes it. The trash of the run goes when all is back."""
        if self._manifest.stage is not Stage.UNDOING:
            self._in_store(change=False)  # refuses a broken store before anything moves
            self._trash.write(replace(self._manifest, stage=Stage.UNDOING))
        files, in_the_way = self._trash.put_back(self._manifest)
        entries, exact = self._in_store(change=True)
        if not in_the_way:
            self._trash.drop(self._manifest.run)
        return Undone(entries=entries, exact=exact, files=files, in_the_way=tuple(in_the_way))

    def _in_store(self, *, change: bool) -> tuple[int, bool]:
        """Put the entries back, or only say how many there are to put back and whether that gives the old bytes."""
        if self._store is None or not self._manifest.entries:
            return 0, False
        kept = self._trash.store_of(self._manifest.run)
        if not kept.exists() or (self._store.exists() and kept.samefile(self._store)):
            return 0, False  # cut off before the store was replaced
        try:
            with opened(kept) as (old, _):
                if change:
                    swap: Swap[_Exact | _Longer] = Swap(
                        self._store,
                        draft=lambda now: self._draft(now, old),
                        planned=lambda draft, digest: None,
                        last=lambda _: self._still(),
                    )
                    swapped = swap.run()
                    draft = None if swapped is None else swapped.draft
                else:
                    with opened(self._store) as (now, _):
                        draft = self._draft(now, old)
        except Unreadable as e:
            raise Unreadable(f"{e}; the store was not touched. The store from before the run is {kept}") from e
        return (0, False) if draft is None else (draft.entries, draft.exact)

    def _draft(self, now: int, old: int) -> _Exact | _Longer | None:
        if self._manifest.new_sha256 is not None and _sha256(now) == self._manifest.new_sha256:
            return _Exact(entries=len(self._manifest.entries), old=old)
        missing, last = set(self._manifest.entries), None
        reading = Reading(now, str(self._store))
        for member in reading:
            missing.discard(member.key)
            last = member.span[1]
        if not missing:
            return None
        spans = tuple(member.span for member in Reading(old, "the store in the trash") if member.key in missing)
        ends = (last if last is not None else reading.closing[0], reading.size)
        return _Longer(entries=len(spans), old=old, spans=spans, opening=reading.opening, last=last, ends=ends)


def _sha256(fd: int) -> str:
    digest = hashlib.sha256()
    for chunk in chunks(fd, [(0, os.fstat(fd).st_size)]):
        digest.update(chunk)
    return digest.hexdigest()
