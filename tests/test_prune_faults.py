"""prune-sessions killed, interrupted and out of disk at every change: the old or the new, nothing lost, and the next run finishes."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import PATIENCE_S, ROOT
from faults import ERRORS, KILLS, TREES, every_fault
from faults import Kind as FaultKind
from stores import ALONE, CHAT, GO, NOW, NOW_MS, TMP, Folder, entry, picture, prune, run_key, settings, small

from mmtools.errors import TryLater
from mmtools.ops.leftovers import Ages, Kind
from mmtools.ops.pruning import Pruner, Rules
from mmtools.ops.trash import Trash, new_run
from mmtools.ops.undoing import Undo
from mmtools.state import LEFTOVERS

Go = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return small(tmp_path / "openclaw")


def by_command(folder: Folder, *args: str) -> int:
    said = prune(folder.root, *args)
    print(said.err, file=sys.stderr)
    return said.code


def by_library(folder: Folder, *args: str, older_than_ms: int = 86_400_000) -> int:
    """What the command does with one agent's folder, without what it asks and writes down around that; it is three times as fast."""
    trash = Trash(folder.trash, folder.sessions)
    ages = Ages(after_s={Kind.ORPHANS: 7 * 86_400, Kind.TMP: 3600, Kind.DELETED: 30 * 86_400, Kind.CORRUPT: 7 * 86_400})
    rules = Rules(now_ms=NOW_MS, older_than_ms=older_than_ms, sessions=True, ages=ages)
    try:
        if args:
            if args[1] in trash.runs():
                Undo(trash=trash, run=args[1], store=folder.store, still=lambda: None).undo()
        else:
            pruner = Pruner(agent="main", folder=folder.sessions, store=folder.store, trash=trash, rules=rules, still=lambda: None)
            pruner.prune(new_run(NOW_MS, trash.runs()))
    except TryLater as e:
        print(e, file=sys.stderr)
        return 75
    return 0


def without_trash(folder: Folder) -> dict[str, str]:
    """Return names and contents, but of trash, locks and stores half written."""

    def counts(name: str) -> bool:
        return "mmtools-trash" not in name and not name.endswith(".lock") and (not name.endswith(".tmp") or name.endswith(TMP))

    return {name: what[2] for name, what in picture(folder.root).items() if counts(name)}


def runs(folder: Folder) -> list[str]:
    """Return the runs that any trash holds, the last one first."""
    names = {path.name for trash in folder.root.rglob("mmtools-trash") for path in trash.iterdir()}
    return sorted((name for name in names if not name.endswith(LEFTOVERS)), reverse=True)


def everything_back(folder: Folder, go: Go) -> None:
    for run in runs(folder):
        assert go(folder, "--undo", run) == 0


ALIKE = ("kill-before", "enospc")
"""They differ from kill-half and enospc-half in the writes alone, and only so that the others are the harder case."""
FAULTS = [
    pytest.param(go, kind, id=f"{go.__name__}-{kind}", marks=pytest.mark.slow if go is by_command or kind in ALIKE else ())
    for go in (by_library, by_command)
    for kind in (*KILLS, *ERRORS)
]


@pytest.mark.parametrize(("go", "kind"), FAULTS)
def test_a_fault_anywhere_leaves_the_old_or_the_new_and_the_next_run_finishes(folder: Folder, go: Go, kind: FaultKind) -> None:
    before, old = without_trash(folder), folder.store.read_bytes()
    assert go(folder) == 0
    after, new = without_trash(folder), folder.store.read_bytes()
    everything_back(folder, go)
    assert without_trash(folder) == before
    calls = 0
    for outcome in every_fault(kind, lambda: go(folder), also=TREES):
        calls += 1
        assert outcome.status in (0, 75, None), outcome.stderr
        assert folder.store.read_bytes() in (old, new)
        now = without_trash(folder)
        assert set(after) <= set(now) <= set(before)
        assert folder.store.read_bytes() == new or f"agents/main/sessions/{ALONE}.jsonl" in now
        assert go(folder) == 0
        assert without_trash(folder) == after
        everything_back(folder, go)
        assert without_trash(folder) == before
    assert calls > 25


def test_the_next_run_does_not_finish_what_the_entries_of_today_need(folder: Folder) -> None:
    """Killed before its store was replaced, with a manifest that names transcripts; the next run is told to take older ones only."""
    kept = folder.root.with_name("kept")
    shutil.copytree(folder.root, kept)
    met = set()
    for outcome in every_fault("kill-before", lambda: by_library(folder), also=TREES):
        assert outcome.status in (0, None), outcome.stderr
        assert by_library(folder, older_than_ms=10**12) == 0
        met.add(len(folder.read()))
        sessions = {entry["sessionId"] for entry in folder.read().values()}
        assert (folder.sessions / f"{ALONE}.jsonl").exists() == (ALONE in sessions)
        shutil.rmtree(folder.root)
        shutil.copytree(kept, folder.root)
    assert met == {4, 6}


@pytest.mark.parametrize(("go", "kind"), FAULTS)
def test_a_fault_anywhere_in_undo_loses_nothing_and_undo_again_finishes(folder: Folder, go: Go, kind: FaultKind) -> None:
    before, old = without_trash(folder), folder.store.read_bytes()
    assert go(folder) == 0
    (run,) = runs(folder)
    new, kept = folder.store.read_bytes(), folder.root.with_name("kept")
    shutil.copytree(folder.root, kept)
    calls = 0
    for outcome in every_fault(kind, lambda: go(folder, "--undo", run), also=TREES):
        calls += 1
        assert outcome.status in (0, 75, None), outcome.stderr
        assert folder.store.read_bytes() in (old, new)
        everything_back(folder, go)
        assert without_trash(folder) == before
        shutil.rmtree(folder.root)
        shutil.copytree(kept, folder.root)
    assert calls > 15


def test_sigterm_in_the_middle_is_one_document_and_nothing_half(tmp_path: Path) -> None:
    many = {run_key(f"s{n:05}"): entry(f"s{n:05}", 50, prompt="words " * 4000) for n in range(2000)}
    folder = small(tmp_path / "openclaw", store=many | {"agent:main:main": entry(CHAT, 1)})
    config = settings(tmp_path / "own")
    for wait in range(8):
        argv = [
            sys.executable,
            "-m",
            "mmtools.commands.prune_sessions",
            "--json",
            "--state",
            str(tmp_path / "state"),
            "--config",
            str(config),
        ]
        child = subprocess.Popen(
            [*argv, "--openclaw", str(folder.root), "--now", NOW], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(0.1 + wait * 0.05)
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=PATIENCE_S)
        assert child.returncode in (0, 130, -signal.SIGTERM), err
        assert list(folder.read()) in ([*many, "agent:main:main"], ["agent:main:main"])
        if child.returncode != -signal.SIGTERM:  # it had not yet begun
            assert json.loads(out)["schema"] in ("mmtools.error/1", "mmtools.prune/1")
            assert not [name for name in folder.names() if name.endswith(".tmp") and name != GO[-1]]
            assert "sessions.json.lock" not in folder.names()
    assert prune(folder.root).code == 0
    assert list(folder.read()) == ["agent:main:main"]
