"""Putting a new store in the place of the old one: OpenClaw and a kill meet the one or the other. Called by `pruning` and `undoing`.

Everything is prepared without the lock: the store is read, the new one is written beside it and brought to the disk. Under the lock it is
only looked at whether the store is still the one that was read, and renamed; where it has changed and a pass is quick, it is prepared
anew under the lock. What the new store holds is the draft's matter.
"""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from uuid import uuid4

from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import foreign, storelock
from mmtools.ops.store import Unreadable, write

TRIES = 5
QUICK_S = 1.5
"""A pass that took no longer may be done again under the lock, which is then held under 2 s."""


class Draft(Protocol):
    """What the new store will hold."""

    def chunks(self, source: int) -> Iterator[bytes]:
        """Yield its bytes. source: the old store, open."""


D = TypeVar("D", bound=Draft)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file, and in which state."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Identity":
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swapped(Generic[D]):
    """What was done: by which draft, for how long the lock was held, and which file is the store now."""

    draft: D
    held_s: float
    now: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared(Generic[D]):
    draft: D
    seen: Identity
    new: Path
    took_s: float


class Swap(Generic[D]):
    """One replacement of a store.

    draft: reads the open store and says what shall be in its place; None when it may stay. planned: hears of the draft and the SHA-256
    of what it makes before anything is changed. last: runs under the lock right before the rename; it may raise, and nothing is changed.
    """

    def __init__(
        self, store: Path, *, draft: Callable[[int], D | None], planned: Callable[[D, str], None], last: Callable[[Path], None]
    ) -> None:
        self._store = store
        self._draft = draft
        self._planned = planned
        self._last = last

    def run(self) -> Swapped[D] | None:
        """Do it; None when there was nothing to do. Raises TryLater when the store never stands still, or the lock is not to be had."""
        real = Path(os.path.realpath(self._store.parent)) / self._store.name
        for _ in range(TRIES):
            with self._prepared() as prepared:
                if prepared is None:
                    return None
                with storelock.holding(real.with_name(f"{real.name}.lock")) as held:
                    if self._stands(prepared.seen):
                        return self._replace(prepared, held)
                    if prepared.took_s <= QUICK_S:
                        with self._prepared() as again:  # nobody who honours the lock writes now
                            if again is None:
                                return None
                            if self._stands(again.seen):
                                return self._replace(again, held)
        raise TryLater(f"{self._store} changed each of {TRIES} times while it was read; nothing was changed, run again when it is quieter")

    @contextmanager
    def _prepared(self) -> Iterator[_Prepared[D] | None]:
        began_s = time.monotonic()
        with opened(self._store) as (source, seen):
            draft = self._draft(source)
            if draft is None:
                yield None
                return
            new = self._store.with_name(f"{self._store.name}.{os.getpid()}.{uuid4()}.tmp")  # OpenClaw clears away its own of this name
            try:
                with foreign.telling(new, "the store was not changed"):
                    digest = self._write(draft, source, new)
                self._planned(draft, digest)
                yield _Prepared(draft=draft, seen=seen, new=new, took_s=time.monotonic() - began_s)
            finally:
                with suppress(OSError):
                    os.unlink(new)

    def _write(self, draft: D, source: int, new: Path) -> str:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        digest = hashlib.sha256()
        try:
            os.fchmod(fd, stat.S_IMODE(os.fstat(source).st_mode))
            for chunk in draft.chunks(source):
                digest.update(chunk)
                write(fd, chunk)
            os.fsync(fd)
        finally:
            os.close(fd)
        return digest.hexdigest()

    def _stands(self, seen: Identity) -> bool:
        try:
            return Identity.of(os.lstat(self._store)) == seen
        except FileNotFoundError:
            return False

    def _replace(self, prepared: _Prepared[D], held: storelock.Held) -> Swapped[D]:
        self._last(self._store)
        held.check()
        if not self._stands(prepared.seen):
            raise TryLater(f"{self._store} was changed by a program that does not honour its lock; nothing was changed, run again later")
        now = Identity.of(os.lstat(prepared.new))
        with foreign.telling(self._store, "it is the old one or the new one, whole"):
            os.replace(prepared.new, self._store)
        held_s = held.held_s()
        foreign.keep(self._store.parent)
        return Swapped(draft=prepared.draft, held_s=held_s, now=now)


@contextmanager
def opened(store: Path) -> Iterator[tuple[int, Identity]]:
    """Open a store for reading. Raises Refused when it is no plain file, Misconfigured when it is another user's."""
    with foreign.telling(store, "it was not read"):
        try:
            fd = os.open(store, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Unreadable(f"{store} is missing") from None
        except OSError as e:
            if e.errno == errno.ELOOP:
                raise Refused(f"{store} is a link, and what is renamed would take its place; name the real folder") from None
            raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"{store} is no plain file")
        if status.st_uid != os.geteuid():
            raise Misconfigured(
                f"{store} belongs to user {status.st_uid}; run this as that user, or the gateway could not read what it writes"
            )
        yield fd, Identity.of(status)
    finally:
        os.close(fd)
