"""The files beside a store, by name and age: which entry needs one, and which nobody needs any more. It reads names and times.

Only names of the exact shapes that OpenClaw gives are known here; whatever else lies in the folder is somebody's, and so is everything
that is not a plain file: links are neither followed nor moved. `.reset`, `.bak`, checkpoints and trajectories are left as well.
Called by `pruning`.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

STORE = "sessions.json"
LOCK_STALE_S = 30 * 60
"""A transcript's own lock counts for so long."""

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_transcript = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*?)(?:-topic-[0-9]+)?\.jsonl")
_orphan = re.compile(rf"{_UUID}(?:-topic-[0-9]+)?\.jsonl")
_deleted = re.compile(
    rf"({_UUID})(?:-topic-[0-9]+)?\.jsonl\.deleted\.([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}-[0-9]{{2}}-[0-9]{{2}}(?:\.[0-9]{{3}})?Z)"
)
_corrupt = re.compile(rf"({_UUID})(?:-topic-[0-9]+)?\.jsonl\.corrupt")
_tmp = re.compile(rf"sessions\.json\.(?:[0-9]+\.)?{_UUID}\.tmp")
_lock = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*?)(?:-topic-[0-9]+)?\.jsonl\.lock")
_copy = re.compile(r"sessions\.json\.bak\.([0-9]{1,16})")
_cron_log = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)\.jsonl")


class Kind(StrEnum):
    """What a file is taken for."""

    SESSIONS = "sessions"
    """The transcript of an entry that goes."""
    ORPHANS = "orphans"
    TMP = "tmp"
    DELETED = "deleted"
    CORRUPT = "corrupt"
    CRON_LOGS = "cron-logs"
    RECORDINGS = "recordings"


@dataclass(frozen=True, slots=True)
class File:
    """A plain file as it was seen."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that may go, and as what."""

    kind: Kind
    file: File


@dataclass(slots=True)
class Needed:
    """Whose files are needed: of entries that stay. `add` each of them, then ask."""

    ids: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    """What `sessionFile` names, without its folder: that may be stale."""

    def add(self, entry: Any) -> None:
        """Take what an entry names, however odd the rest of it is."""
        if isinstance(entry, Mapping):
            session, file = entry.get("sessionId"), entry.get("sessionFile")
            if isinstance(session, str):
                self.ids.add(session)
            if isinstance(file, str):
                self.names.add(os.path.basename(file))

    def has(self, name: str) -> bool:
        """Whether an entry needs the transcript of this name."""
        found = _transcript.fullmatch(name)
        return name in self.names or name.removesuffix(".jsonl") in self.ids or (found is not None and found[1] in self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ages:
    """After how many seconds leftovers of each kind go; a kind that is not named stays."""

    after_s: Mapping[Kind, float]

    def old(self, kind: Kind, age_s: float) -> bool:
        return kind in self.after_s and age_s > self.after_s[kind]


def files(folder: Path) -> Iterator[File]:
    """Yield the plain files of a folder; none when there is no folder. Raises OSError. A folder can have a hundred thousand of them."""
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # a lock or a half-written store of a gateway at work is gone as soon as it is seen
                    status = entry.stat(follow_symlinks=False)
                    yield File(entry.name, status.st_size, status.st_mtime_ns)


def is_plain(path: Path, file: File) -> bool:
    """Whether there still is a plain file at `path`, and the one that was seen."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns)


def own_names(entry: Mapping[str, Any], folder: Path) -> tuple[str, str]:
    """Return the id of an entry, and the name that its `sessionFile` gives in this very folder; "" when it gives none."""
    session, path = entry.get("sessionId"), entry.get("sessionFile")
    if isinstance(path, str) and os.path.dirname(path) == str(folder) and _transcript.fullmatch(os.path.basename(path)):
        return str(session), os.path.basename(path)
    return str(session), ""


def transcripts(seen: Iterable[File], ids: set[str], names: set[str], needed: Needed) -> Iterator[Leftover]:
    """Yield the transcripts of the entries with these ids and names that no entry needs which stays."""
    for file in seen:
        found = _transcript.fullmatch(file.name)
        if found is None:
            continue
        own = file.name in names or found[1] in ids or file.name.removesuffix(".jsonl") in ids
        if own and not needed.has(file.name):
            yield Leftover(Kind.SESSIONS, file)


def of_sessions(seen: Iterable[File], needed: Needed, ages: Ages, now_s: float) -> Iterator[Leftover]:
    """Yield what lies in a sessions folder and nobody needs. needed: by every entry, those that go included."""
    for file in seen:
        kind = _kind(file, needed, ages, now_s)
        if kind is not None:
            yield Leftover(kind, file)


def _kind(file: File, needed: Needed, ages: Ages, now_s: float) -> Kind | None:
    age_s = now_s - file.mtime_ns / 1e9
    if _orphan.fullmatch(file.name):
        return Kind.ORPHANS if ages.old(Kind.ORPHANS, age_s) and not needed.has(file.name) else None
    if _tmp.fullmatch(file.name):
        return Kind.TMP if ages.old(Kind.TMP, age_s) else None
    if found := _corrupt.fullmatch(file.name):
        return Kind.CORRUPT if ages.old(Kind.CORRUPT, age_s) and found[1] not in needed.ids else None
    if found := _deleted.fullmatch(file.name):
        stamp = _stamp(found[2])
        old = stamp is not None and ages.old(Kind.DELETED, now_s - stamp)
        return Kind.DELETED if old and found[1] not in needed.ids else None
    return None


def _stamp(text: str) -> float | None:
    """Return the time that the name of an archive says, in seconds; None when there is no such day."""
    day, _, time = text.removesuffix("Z").partition("T")
    try:
        return datetime.fromisoformat(f"{day}T{time.replace('-', ':')}").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def being_written(seen: Iterable[File], now_s: float) -> frozenset[str]:
    """Return the sessions whose transcript has a lock beside it that is not stale."""
    found = ((_lock.fullmatch(file.name), file) for file in seen)
    return frozenset(match[1] for match, file in found if match is not None and now_s - file.mtime_ns / 1e9 <= LOCK_STALE_S)


def has_transcripts(seen: Iterable[File]) -> bool:
    return any(_transcript.fullmatch(file.name) for file in seen)


def copies(folder: Path) -> list[Path]:
    """Return OpenClaw's own rotation copies of the store, the newest first."""
    found = [(int(match[1]), file.name) for file in files(folder) if (match := _copy.fullmatch(file.name))]
    return [folder / name for _, name in sorted(found, reverse=True)]


def cron_logs(seen: Iterable[File], jobs: frozenset[str], ages: Ages, now_s: float) -> Iterator[Leftover]:
    """Yield the run histories of jobs that no longer exist. jobs: the ids of all that do."""
    for file in seen:
        found = _cron_log.fullmatch(file.name)
        if found is not None and found[1] not in jobs and ages.old(Kind.CRON_LOGS, now_s - file.mtime_ns / 1e9):
            yield Leftover(Kind.CRON_LOGS, file)


def recordings(seen: Iterable[File], configs: Iterable[str], ages: Ages, now_s: float) -> Iterator[Leftover]:
    """Yield the recordings that no config names. configs: the texts of the run configs whose runs may go on."""
    texts = list(configs)
    for file in seen:
        old = file.name.isascii() and file.name.endswith(".jsonl.gz") and ages.old(Kind.RECORDINGS, now_s - file.mtime_ns / 1e9)
        if old and not any(file.name in text for text in texts):  # looked for as text: rather one too many is kept
            yield Leftover(Kind.RECORDINGS, file)
