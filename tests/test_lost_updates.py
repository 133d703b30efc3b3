"""No update is lost: a gateway writes 20 times a second while prune-sessions runs again and again, in every era.

Looked at is the end: every update of the gateway is in its store, nothing that was pruned came back but by a newer update, nothing that
was not pruned is gone, and what was pruned was a cron run that is over and old. Where the gateway keeps the store in its memory, its
file was never written behind its back.

Each world runs for MMTOOLS_LOST_UPDATES_S seconds (60), two of them for 3 s in every run of the tests.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from commandline import PATIENCE_S, Said, call, config
from gateways import FakeGateway, Record, make_installation, put_openclaw_first, read_store

from mmtools.ops.trash import Trash

SHORT_S = 3.0
LONG_S = float(os.environ.get("MMTOOLS_LOST_UPDATES_S", "60"))
DAY_MS = 86_400_000
RUN = re.compile(r"agent:main:cron:[^:]+:run:[^:]+")
RATE = 20


def first_entries() -> dict[str, Record]:
    """Chats, and runs that are over: those of a job share an entry with its base key."""
    now_ms = int(time.time() * 1000)
    entries: dict[str, Record] = {"agent:main:main": {"sessionId": "main-1", "updatedAt": now_ms}}
    for n in range(12):
        entries[f"agent:main:telegram:direct:{n}"] = {"sessionId": f"chat-{n}", "updatedAt": now_ms - n * DAY_MS}
    for n in range(30):
        entry = {"sessionId": f"run-{n}", "updatedAt": now_ms - 3 * DAY_MS + n, "label": "Cron: first"}
        entries[f"agent:main:cron:first:run:run-{n}"] = entry
    entries["agent:main:cron:first"] = {"sessionId": "run-29", "updatedAt": now_ms - 3 * DAY_MS + 29, "label": "Cron: first"}
    return entries


@dataclass
class Tally:
    """What the prunes came to: exit codes, and how many sessions went by which route."""

    codes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    gone: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: list[str] = field(default_factory=list)

    def add(self, said: Said) -> None:
        self.codes[said.code] += 1
        if said.code == 0:
            for agent in said.document["agents"]:
                self.gone[agent["route"]] += agent["entries"]["gone"]
        elif said.code not in (75, 77):
            self.failures.append(said.err)


@contextmanager
def restarting(gateway: FakeGateway, *, every_s: float, down_s: float) -> Iterator[None]:
    """Stop and start a gateway all the while; it is up again afterwards."""
    over = threading.Event()

    def turn() -> None:
        while not over.wait(every_s):
            gateway.stop()
            over.wait(down_s)
            gateway.start()

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def in_database(root: Path) -> dict[str, Record]:
    with closing(sqlite3.connect(root / "agents" / "main" / "agent" / "openclaw-agent.sqlite")) as db:
        return {key: json.loads(entry) for key, entry in db.execute("select key, entry from sessions")}


def taken_from_the_file(root: Path) -> dict[str, list[Record]]:
    """Return the entries that prunes took out of the file themselves, by key."""
    taken: dict[str, list[Record]] = defaultdict(list)
    for manifest in (root / "agents" / "main" / "mmtools-trash").glob("*/manifest.json"):
        told = json.loads(manifest.read_text())
        if not told["by_gateway"] and told["entries"]:
            before = read_store(manifest.with_name("sessions.json"))
            for key in told["entries"]:
                taken[key].append(before[key])
    return taken


def expected(first: dict[str, Record], updates: list[Record], taken: dict[str, list[Record]]) -> dict[str, Record]:
    """Return what must be in the store: the last word on each key, but for a last entry that was pruned."""
    last: dict[str, Record | None] = dict(first)
    for update in updates:
        if update["op"] != "reload":
            last[update["key"]] = update["entry"]
    return {key: entry for key, entry in last.items() if entry is not None and entry not in taken.get(key, ())}


def prove(tmp_path: Path, patch: pytest.MonkeyPatch, release: str, *, seconds: float, restarts: bool) -> tuple[Tally, list[Record]]:
    """Run one world and check its end."""
    first = first_entries()
    root = make_installation(tmp_path / "openclaw", {"main": first})
    # Started again it takes a moment until it reads the store, as a real one does: 4 s at least from its process to its first answer.
    gateway = FakeGateway(root, release, rate=RATE, pause_s=0.015, lives_s=seconds + PATIENCE_S, start_s=0.3 if restarts else 0)
    tally = Tally()
    with gateway:
        put_openclaw_first(patch, tmp_path, release, port=gateway.port)
        settings = config(tmp_path / "ops.yaml", f"openclaw:\n  url: {gateway.url}\n")
        where: list[str | Path] = ["--openclaw", root, "--state", tmp_path / "state", "--config", settings]
        began_s = time.monotonic()
        with restarting(gateway, every_s=min(1.5, seconds / 4), down_s=0.7) if restarts else nullcontext():
            while time.monotonic() - began_s < seconds:
                tally.add(call("prune_sessions", "--json", "--what", "sessions", *where))
        gateway.wait_for_updates(5)
        assert gateway.stop() == 0
    updates = gateway.updates()
    taken = taken_from_the_file(root)
    found = in_database(root) if release == "9.6" else read_store(root / "agents" / "main" / "sessions" / "sessions.json")
    wanted = expected(first, updates, taken)
    assert not tally.failures
    twice = {key for key, entries in taken.items() if any(entry in entries[:n] for n, entry in enumerate(entries))}
    assert twice == set(), "came back, and was pruned again"
    assert {key for key in wanted if key not in found} == set(), "lost"
    assert {key for key in found if key not in wanted} == set(), "came back"
    assert found == wanted

    old_ms = time.time() * 1000 - DAY_MS
    dropped = {update["key"] for update in updates if update["op"] == "drop"}
    assert all(RUN.fullmatch(key) for key in (*taken, *dropped))
    assert all(entry["updatedAt"] < old_ms for entries in taken.values() for entry in entries)
    transcripts = {path.stem for path in (root / "agents" / "main" / "sessions").glob("*.jsonl")}
    written = [*first.values(), *(update["entry"] for update in updates if update["op"] == "put" and "label" in update["entry"])]
    had_one = {entry["sessionId"] for entry in written}
    assert {entry["sessionId"] for entry in found.values()} & had_one <= transcripts
    return tally, updates


def count(op: str, updates: list[Record]) -> int:
    return sum(update["op"] == op for update in updates)


def check_lock_era(tmp_path: Path, patch: pytest.MonkeyPatch, *, seconds: float, restarts: bool) -> None:
    tally, updates = prove(tmp_path, patch, "4.29", seconds=seconds, restarts=restarts)
    assert tally.gone["file"] > 30
    assert not tally.gone["gateway"]
    if not restarts:
        assert len(updates) > seconds * RATE / 2, "the gateway was kept from its work"


def check_queue_era(tmp_path: Path, patch: pytest.MonkeyPatch, *, seconds: float, restarts: bool) -> None:
    tally, updates = prove(tmp_path, patch, "7.1", seconds=seconds, restarts=restarts)
    assert count("reload", updates) == 0, "its file was written behind its back"
    assert count("drop", updates) + tally.gone["file"] > 30
    if not restarts:
        assert not tally.gone["file"]


def check_sqlite_era(tmp_path: Path, patch: pytest.MonkeyPatch, *, seconds: float, restarts: bool) -> None:
    tally, updates = prove(tmp_path, patch, "9.6", seconds=seconds, restarts=restarts)
    assert not tally.gone["file"]
    assert count("drop", updates) > (0 if restarts else 30)


ERAS = {"lock": check_lock_era, "queue": check_queue_era, "sqlite": check_sqlite_era}


@pytest.mark.parametrize(("era", "restarts"), [("lock", False), ("queue", True)])
def test_no_update_is_lost_in_a_short_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: str, restarts: bool) -> None:
    ERAS[era](tmp_path, monkeypatch, seconds=SHORT_S, restarts=restarts)


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarting"])
@pytest.mark.parametrize("era", ERAS)
def test_no_update_is_lost_in_a_long_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: str, restarts: bool) -> None:
    ERAS[era](tmp_path, monkeypatch, seconds=LONG_S, restarts=restarts)


REPLACE = """
import os, sys
store, parent = sys.argv[1], int(sys.argv[2])
while os.getppid() == parent:
    open(store + ".new", "w").close()
    os.replace(store + ".new", store)
"""


def test_a_store_that_is_replaced_all_the_while_can_be_kept(tmp_path: Path) -> None:
    """Linux fails one link in twelve here, of a file that is there at every moment."""
    store = tmp_path / "sessions" / "sessions.json"
    store.parent.mkdir()
    store.touch()
    (tmp_path / "trash" / "a-run").mkdir(parents=True)
    trash = Trash(tmp_path / "trash", store.parent)
    with subprocess.Popen([sys.executable, "-S", "-c", REPLACE, str(store), str(os.getpid())]) as gateway:
        try:
            for _ in range(300):
                trash.keep_store("a-run", store)
        finally:
            gateway.kill()
    store.unlink()
    with pytest.raises(FileNotFoundError):
        trash.keep_store("a-run", store)
