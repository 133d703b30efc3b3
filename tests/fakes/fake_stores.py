"""The session store as a gateway of each era keeps it: under a lock file, in memory, in SQLite. Part of the fake gateway.

Written from what the releases do, good and bad: a broken file is read as an empty store, nothing is synced, a lock that is too old
is taken from a living owner. Standard library only, and nothing of mmtools.
"""

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

Entry = dict[str, Any]
Entries = dict[str, Entry]


@dataclass
class Change:
    """What one update does to a store: rows to put, rows to drop."""

    puts: Mapping[str, Entry] = field(default_factory=dict)
    drops: frozenset[str] = frozenset()

    def apply(self, entries: Entries) -> None:
        entries.update(self.puts)
        for key in self.drops:
            entries.pop(key, None)


Decide = Callable[[Entries], Change]
"""From the entries as they stand to what is changed; called where the era reads, so that nothing comes between."""


class Unavailable(Exception):
    """The store could not be changed in time."""


class Store(Protocol):
    path: Path

    def read(self) -> Entries: ...

    def change(self, decide: Decide) -> Change: ...


def parse(path: Path) -> Entries:
    """Read a store as every file-era release does: what cannot be read is empty."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, entries: Entries, pause_s: float) -> None:
    """Write beside and rename, without a sync; `pause_s` passes while the write is under way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4()}.tmp")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(json.dumps(entries, indent=2, ensure_ascii=False))
    time.sleep(pause_s)
    os.replace(beside, path)


class LockedFile:
    """To 2026.4.29: `<store>.lock` is taken, the file is read again, written beside and renamed."""

    def __init__(self, path: Path, release: tuple[int, ...], *, wait_s: float, stale_s: float, pause_s: float) -> None:
        self.path = path
        self.lock = path.with_name(path.name + ".lock")
        self.taken_over = 0
        self._release = release
        self._wait_s, self._stale_s, self._pause_s = wait_s, stale_s, pause_s

    def read(self) -> Entries:
        return parse(self.path)

    def change(self, decide: Decide) -> Change:
        self._take()
        try:
            entries = parse(self.path)
            change = decide(entries)
            change.apply(entries)
            _write(self.path, entries, self._pause_s)
        finally:
            with suppress(FileNotFoundError):
                self.lock.unlink()
        return change

    def _take(self) -> None:
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                fd = os.open(self.lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                if self._is_stale():
                    self.taken_over += 1
                    with suppress(FileNotFoundError):
                        self.lock.unlink()
                    continue
                if time.monotonic() >= deadline:
                    raise Unavailable(f"timeout acquiring session store lock: {self.lock}") from None
                time.sleep(0.025)
                continue
            with open(fd, "w") as out:
                out.write(self._content())
            return

    def _content(self) -> str:
        if self._release < (2, 17):
            return json.dumps({"pid": os.getpid(), "startedAt": int(time.time() * 1000)}, separators=(",", ":"))
        created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        content: dict[str, object] = {"pid": os.getpid(), "createdAt": created}
        if self._release >= (3, 2):
            content["starttime"] = start_ticks(os.getpid())
        return json.dumps(content, indent=2)

    def _is_stale(self) -> bool:
        try:
            age_s = time.time() - self.lock.stat().st_mtime
            text = self.lock.read_text()
        except (OSError, UnicodeDecodeError):
            return False
        if self._release < (2, 17):
            return age_s > self._stale_s
        try:
            content = json.loads(text)
        except ValueError:
            return age_s > self._stale_s
        if not isinstance(content, dict):
            return age_s > self._stale_s
        pid = content.get("pid")
        if not isinstance(pid, int) or not Path(f"/proc/{pid}").exists():
            return True
        started = content.get("starttime")
        if self._release >= (3, 2) and isinstance(started, int) and started != start_ticks(pid):
            return True
        try:
            created = datetime.fromisoformat(content["createdAt"])
        except (KeyError, TypeError, ValueError):
            return True
        return (datetime.now(UTC) - created).total_seconds() > self._stale_s


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in ticks since boot: field 22 of its stat."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return None


class InMemory:
    """2026.5.2 to 2026.7.1 and 2026.7.33-35: memory is the truth; an outside rename is seen between writes, and lost during one."""

    def __init__(self, path: Path, *, pause_s: float, reloaded: Callable[[], None]) -> None:
        self.path = path
        self._pause_s, self._reloaded = pause_s, reloaded
        self._one = threading.Lock()  # a reader in another thread would take our own rename for an outside one
        self._entries = parse(path)
        self._seen = self._stamp()

    def read(self) -> Entries:
        with self._one:
            self._look()
            return dict(self._entries)

    def change(self, decide: Decide) -> Change:
        with self._one:
            self._look()
            change = decide(self._entries)
            change.apply(self._entries)
            _write(self.path, self._entries, self._pause_s)
            self._seen = self._stamp()
            return change

    def _look(self) -> None:
        if self._stamp() != self._seen:
            self._entries, self._seen = parse(self.path), self._stamp()
            self._reloaded()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_size


class Database:
    """From 2026.7.2: rows in SQLite. The tables are a stand-in: the real ones change with every release and nobody may know them."""

    def __init__(self, path: Path, imported: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._open()) as db, db:
            db.execute("pragma journal_mode = wal")
            db.execute("create table if not exists sessions (key text primary key, entry text not null)")
            if not db.execute("select 1 from sessions limit 1").fetchone():
                db.executemany("insert into sessions values (?, ?)", [(key, json.dumps(entry)) for key, entry in parse(imported).items()])

    def read(self) -> Entries:
        with closing(self._open()) as db:
            return {key: json.loads(entry) for key, entry in db.execute("select key, entry from sessions")}

    def change(self, decide: Decide) -> Change:
        with closing(self._open()) as db, db:
            db.execute("begin immediate")
            change = decide({key: json.loads(entry) for key, entry in db.execute("select key, entry from sessions")})
            db.executemany("insert or replace into sessions values (?, ?)", [(key, json.dumps(e)) for key, e in change.puts.items()])
            db.executemany("delete from sessions where key = ?", [(key,) for key in change.drops])
        return change

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=10)
