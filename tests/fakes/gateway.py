"""A fake OpenClaw gateway, a process of its own: HTTP on 127.0.0.1, a store of its era, 20 updates a second if asked. See gateways.py.

It says `{"port": ..., "pid": ...}` on stdout once it listens, and ends on SIGTERM, after --lives-s, and when its parent is gone.
Every update it committed is a line of the file --log: {"n", "op": "put" | "drop", "agent", "key", "entry"}, and so is, as "reload", every
time it saw that somebody else had written its file. `--control FILE` names a JSON
object that is looked at all the time, so that a test can change its mind: see `Mood`. Standard library only, and nothing of mmtools.
"""

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fake_stores as stores
from fake_http import Refusal, listen
from fake_releases import era_of, release_of

DAY_MS = 86_400_000
JOBS_PER_PAGE, SESSIONS_PER_PAGE = 50, 100


class Mood:
    """How the gateway behaves just now: options first, then what the control file says.

    hang: takes connections and answers nothing. html: every path is the control page. unready_s: /readyz and /startupz are 503 until
    the uptime is past it. restart: a counter; each new value is a restart in the same process (uptime starts again) that leaves the
    port closed for restart_s. rate: updates a second. exit: leave with that code at once. version: what the gateway calls itself.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.hang: bool = options.hang
        self.html: bool = options.html
        self.unready_s: float = options.unready_s
        self.rate: float = options.rate
        self.version: str | None = None
        self.restart = 0
        self.restart_s = 0.0
        self.exit: int | None = None
        self._file: Path | None = options.control
        self._read = 0

    def look(self) -> None:
        if self._file is None:
            return
        with suppress(OSError, ValueError):
            changed = self._file.stat().st_mtime_ns
            if changed != self._read:
                vars(self).update(json.loads(self._file.read_text()))
                self._read = changed


class Gateway:
    """The store of each agent, the updates, and what the methods answer."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.root: Path = options.root
        self.release = release_of(options.release)
        self.version = "2026." + ".".join(map(str, self.release))
        self.mood = Mood(options)
        self.born = time.monotonic()
        self.draining = False
        self.agent: str = options.agent
        self.stores = {folder.name: self._store(folder, options) for folder in sorted((self.root / "agents").iterdir())}
        self.changing = threading.Lock()
        self._log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if options.log else None
        self._n = options.log.read_bytes().count(b"\n") if options.log else 0
        self._chance = random.Random(options.seed + self._n)
        self._chats: list[str] = []
        self._runs: list[str] = []
        self._old_ms: int = options.old_ms

    def _store(self, folder: Path, options: argparse.Namespace) -> stores.Store:
        path = folder / "sessions" / "sessions.json"
        era = era_of(self.release)
        if era == "lock":
            return stores.LockedFile(path, self.release, wait_s=options.lock_wait_s, stale_s=options.lock_stale_s, pause_s=options.pause_s)
        if era == "queue":
            return stores.InMemory(path, pause_s=options.pause_s, reloaded=lambda: self._note({"op": "reload", "agent": folder.name}))
        return stores.Database(folder / "agent" / "openclaw-agent.sqlite", path)

    def uptime_ms(self) -> int:
        return int((time.monotonic() - self.born) * 1000)

    # updates

    def commit(self, agent: str, decide: stores.Decide) -> stores.Change:
        """Change a store and log it; one change at a time, as in the one process that the gateway is."""
        with self.changing:
            change = self.stores[agent].change(decide)
            for op, keys in (("put", change.puts), ("drop", change.drops)):
                for key in keys:
                    self._note({"op": op, "agent": agent, "key": key, "entry": change.puts.get(key) if op == "put" else None})
            return change

    def _note(self, record: dict[str, Any]) -> None:
        self._n += 1
        if self._log is not None:
            os.write(self._log, json.dumps({"n": self._n, **record}).encode() + b"\n")

    def update(self) -> None:
        """Do one of the things that a gateway does all day; the number of the update stands in the entry."""
        prefix, chance = f"agent:{self.agent}", self._chance
        kind = chance.choices(("chat", "touch", "run", "old run", "again"), (2, 5, 3, 3, 1))[0]
        if kind == "chat" or not self._chats:
            self._chats.append(f"{prefix}:slack:channel:c{chance.randrange(10**8):08}")
            self._put(self._chats[-1], self._entry(time.time(), origin={"provider": "slack"}))
        elif kind == "touch":
            self._put(chance.choice(self._chats), self._entry(time.time(), origin={"provider": "slack"}))
        elif kind == "again" and self._runs:
            self._put(chance.choice(self._runs), self._entry(time.time() - self._old_ms / 1000))
        else:
            entry = self._entry(time.time() - (self._old_ms / 1000 if kind == "old run" else 0), label="Cron: queue check")
            base = f"{prefix}:cron:{uuid.UUID(int=chance.randrange(3))}"
            self._runs.append(f"{base}:run:{entry['sessionId']}")
            transcript = self.root / "agents" / self.agent / "sessions" / f"{entry['sessionId']}.jsonl"
            transcript.parent.mkdir(parents=True, exist_ok=True)
            transcript.write_text(json.dumps({"type": "session", "version": 3, "id": entry["sessionId"]}) + "\n")
            self._put(base, entry, **{self._runs[-1]: entry})

    def _entry(self, updated_s: float, **more: object) -> stores.Entry:
        session = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        return {"sessionId": session, "updatedAt": int(updated_s * 1000), "inputTokens": self._n + 1, **more}

    def _put(self, key: str, entry: stores.Entry, **more: stores.Entry) -> None:
        self.commit(self.agent, lambda _: stores.Change(puts={key: entry, **more}))

    # methods

    def answer(self, method: str, params: dict[str, Any]) -> object:
        known: dict[str, Callable[[dict[str, Any]], object]] = {
            "health": self._health,
            "status": self._status,
            "sessions.list": self._sessions,
            "sessions.delete": self._delete,
            "sessions.cleanup": self._cleanup,
            "sessions.patch": self._patch,
            "cron.list": self._jobs,
            "system-presence": lambda _: [{"host": "fake", "mode": "gateway"}],
        }
        if method not in known or (method == "sessions.cleanup" and self.release < (6, 11)):
            raise Refusal("INVALID_REQUEST", f"unknown method: {method}")
        try:
            return known[method](params)
        except stores.Unavailable as e:
            raise Refusal("UNAVAILABLE", str(e)) from e

    def _health(self, _: dict[str, Any]) -> object:
        agents = [
            {"agentId": name, "sessions": {"path": str(store.path), "count": len(store.read()), "recent": []}}
            for name, store in self.stores.items()
        ]
        first = agents[0]["sessions"] if agents else {}
        return {"ok": True, "ts": _now_ms(), "durationMs": 1, "channels": {}, "agents": agents, "sessions": first}

    def _status(self, _: dict[str, Any]) -> object:
        said: dict[str, Any] = {"sessions": {}, "tasks": {}}
        if self.release >= (3, 1):
            said["runtimeVersion"] = self.mood.version or self.version
        if self.release >= (9, 0):
            said |= {"pid": os.getpid(), "processMemory": {"rssBytes": 700_000_000}, "shutdownBudget": {"activeWork": 0}}
        return said

    def _sessions(self, params: dict[str, Any]) -> object:
        agent = params.get("agentId", self.agent)
        if agent not in self.stores:
            raise Refusal("INVALID_REQUEST", f"unknown agent: {agent}")
        rows = [{"key": key, **entry} for key, entry in self.stores[agent].read().items() if params.get("search", "") in key]
        rows.sort(key=lambda row: row.get("updatedAt", 0), reverse=True)
        said = {"ts": _now_ms(), "path": str(self.stores[agent].path), "defaults": {}}
        if self.release < (3, 0):  # all of them; a limit cuts the list, and nothing says so
            rows = rows[: params.get("limit", len(rows))]
            return {**said, "count": len(rows), "sessions": rows}
        offset, limit = params.get("offset", 0), params.get("limit", SESSIONS_PER_PAGE)
        page = rows[offset : offset + limit]
        more = offset + len(page) < len(rows)
        paging = {"totalCount": len(rows), "limitApplied": limit, "hasMore": more, "nextOffset": offset + len(page) if more else None}
        return {**said, "count": len(page), **paging, "sessions": page}

    def _delete(self, params: dict[str, Any]) -> object:
        key = params["key"]
        agent = key.split(":")[1] if key.startswith("agent:") and key.count(":") > 1 else self.agent
        if key == f"agent:{agent}:main":
            raise Refusal("INVALID_REQUEST", "cannot delete the main session")
        gone: list[stores.Entry] = []

        def decide(entries: stores.Entries) -> stores.Change:
            entry = entries.get(key)
            if entry is None:
                return stores.Change()
            if entry.get("status") == "running":
                raise Refusal("UNAVAILABLE", f"session {key} is still active; try again in a moment")
            gone.append(entry)
            return stores.Change(drops=frozenset({key}))

        if agent not in self.stores:
            raise Refusal("INVALID_REQUEST", f"unknown agent: {agent}")
        self.commit(agent, decide)
        # Whoever else names the transcript is not asked: the run's base key loses it too.
        archived = [self._archive(agent, entry["sessionId"]) for entry in gone] if params.get("deleteTranscript", True) else []
        return {"ok": True, "key": key, "deleted": bool(gone), "archived": [path for path in archived if path is not None]}

    def _archive(self, agent: str, session: str) -> str | None:
        transcript = self.root / "agents" / agent / "sessions" / f"{session}.jsonl"
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3] + "Z"
        archive = transcript.with_name(f"{transcript.name}.deleted.{stamp}")
        try:
            transcript.rename(archive)
        except FileNotFoundError:
            return None
        return str(archive)

    def _cleanup(self, params: dict[str, Any]) -> object:
        """Cap the store, chats and all: what an enforced cleanup may do that nobody asked for."""
        agent = params.get("agent", self.agent)
        cap = 5000 if self.release >= (9, 3) else 500

        def decide(entries: stores.Entries) -> stores.Change:
            by_age = sorted(entries, key=lambda key: entries[key].get("updatedAt", 0), reverse=True)
            return stores.Change(drops=frozenset(by_age[cap:]))

        before = len(self.stores[agent].read())
        capped = len(self.commit(agent, decide).drops)
        return {
            "agentId": agent, "storePath": str(self.stores[agent].path), "mode": "enforce", "dryRun": False, "beforeCount": before,
            "afterCount": before - capped, "pruned": 0, "capped": capped, "applied": True, "appliedCount": capped,
        }  # fmt: skip

    def _patch(self, params: dict[str, Any]) -> object:
        key = params["key"]
        agent = key.split(":")[1]
        label = {"label": params["label"]} if "label" in params else {}
        put = self.commit(agent, lambda entries: stores.Change(puts={key: {**entries.get(key, self._entry(time.time())), **label}}))
        return {"ok": True, "path": str(self.stores[agent].path), "key": key, "entry": put.puts[key]}

    def _jobs(self, params: dict[str, Any]) -> object:
        try:
            jobs = json.loads((self.root / "cron" / "jobs.json").read_text())["jobs"]
        except FileNotFoundError:
            jobs = []
        except ValueError as e:
            raise Refusal("UNAVAILABLE", f"Failed to parse cron store at {self.root / 'cron' / 'jobs.json'}: {e}") from e
        if self.release < (7, 1):
            return {"jobs": jobs}
        offset, limit = params.get("offset", 0), params.get("limit", JOBS_PER_PAGE)
        page = jobs[offset : offset + limit]
        more = offset + len(page) < len(jobs)
        paging = {"total": len(jobs), "offset": offset, "limit": limit, "hasMore": more, "nextOffset": offset + len(page) if more else None}
        return {"jobs": page, **paging}

    # probes

    def hangs(self) -> bool:
        return self.mood.hang

    def probe(self, path: str) -> tuple[int, object] | None:
        """Return status and JSON of a probe; None where this release has the control page."""
        if self.mood.html or self.release < (3, 7):
            return None
        up = self.uptime_ms()
        ready = up >= self.mood.unready_s * 1000 and not self.draining
        if path in ("/health", "/healthz"):
            return 200, {"ok": True, "status": "live"}
        if path in ("/ready", "/readyz"):
            failing = [] if ready else ["draining" if self.draining else "startup"]
            return 200 if ready else 503, {"ready": ready, "failing": failing, "uptimeMs": up, "eventLoop": {"delayMs": 1}}
        if path == "/startupz" and self.release >= (9, 0):
            status = "started" if ready else ("draining" if self.draining else "starting")
            return 200 if ready else 503, {"ok": ready, "status": status, "version": self.mood.version or self.version, "uptimeMs": up}
        return None


def _now_ms() -> int:
    return int(time.time() * 1000)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--release", default="7.1")
    parser.add_argument("--agent", default="main", help="whose store the updates go to")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--control", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--old-ms", type=int, default=2 * DAY_MS, help="how old the old cron runs are that it writes")
    parser.add_argument("--pause-s", type=float, default=0, help="how long a write is under way")
    parser.add_argument("--lock-wait-s", type=float, default=10)
    parser.add_argument("--lock-stale-s", type=float, default=30)
    parser.add_argument("--lives-s", type=float, default=120)
    parser.add_argument("--dies-s", type=float, help="exit 1 after so long: a unit that flaps")
    parser.add_argument("--start-s", type=float, default=0, help="nothing listens for so long")
    parser.add_argument("--stop-s", type=float, default=0, help="how long it drains after SIGTERM")
    parser.add_argument("--unready-s", type=float, default=0)
    parser.add_argument("--hang", action="store_true")
    parser.add_argument("--html", action="store_true")
    return parser.parse_args()


class Stop:
    """Whether SIGTERM came. No threading.Event: its `set` in a signal handler can wait for ever for its own `wait`."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True

    def within(self, seconds: float) -> bool:
        """Wait that long, or until it comes; return whether it came."""
        deadline = time.monotonic() + seconds
        while not self.asked and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.02))
        return self.asked


def main() -> int:
    options = _options()
    with suppress(OSError):
        Path("/proc/self/comm").write_text("openclaw-gateway")  # the kernel cuts it to 15 characters, as it does the real one's
    parent, born = os.getppid(), time.monotonic()
    stop = Stop()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if stop.within(options.start_s):
        return 0
    gateway = Gateway(options)
    server = listen(options.port, gateway)
    port = server.server_port
    print(json.dumps({"port": port, "pid": os.getpid()}), flush=True)
    restarts, due = gateway.mood.restart, time.monotonic()
    while not stop.asked and os.getppid() == parent:
        gateway.mood.look()
        age = time.monotonic() - born
        if gateway.mood.exit is not None:
            return gateway.mood.exit
        if options.dies_s is not None and age > options.dies_s:
            return 1
        if age > options.lives_s:
            return 0
        if gateway.mood.restart != restarts:
            restarts = gateway.mood.restart
            server.shutdown()
            server.server_close()
            stop.within(gateway.mood.restart_s)
            gateway.born = time.monotonic()
            server = listen(port, gateway)
        if gateway.mood.rate <= 0:
            stop.within(0.02)
        elif time.monotonic() < due:
            stop.within(min(0.02, due - time.monotonic()))
        else:
            due = max(due + 1 / gateway.mood.rate, time.monotonic() - 1)
            with suppress(stores.Unavailable):
                gateway.update()
    gateway.draining = True
    drained = time.monotonic() + options.stop_s
    while time.monotonic() < drained and time.monotonic() - born < options.lives_s:
        time.sleep(0.01)
    gateway.changing.acquire()  # a change that is under way is finished and logged; none begins any more
    return 0


if __name__ == "__main__":
    sys.exit(main())
