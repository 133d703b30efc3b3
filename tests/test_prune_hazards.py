"""prune-sessions on folders as they are found in the field, every hazard of their maker, checked by the maker itself afterwards."""

import importlib.util
import io
import json
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from stores import Folder, picture, prune

Make = Callable[..., Folder]

UNREADABLE = "refused, and nothing is touched"
DONE = "all stale runs go, the rest is as it was"
LATER = "a living process holds the lock"
HAZARDS = {
    "truncated-store": UNREADABLE,
    "empty-store": UNREADABLE,
    "nul-store": UNREADABLE,
    "array-store": UNREADABLE,
    "not-utf8": UNREADABLE,
    "sqlite-era": UNREADABLE,
    "duplicate-key": DONE,
    "bad-entries": DONE,
    "missing-transcripts": DONE,
    "outside-sessionfile": DONE,
    "symlink-transcript": DONE,
    "stale-lock": DONE,
    "odd-names": DONE,
    "unicode-keys": DONE,
    "live-lock": LATER,
}
"""Every hazard that the maker knows, and what must come of it."""


@pytest.fixture(scope="session")
def maker(session_stores: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_session_store", session_stores)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make(maker: ModuleType, tmp_path: Path) -> Make:
    def made(*args: str) -> Folder:
        root = tmp_path / "openclaw"
        with redirect_stdout(io.StringIO()):
            assert maker.main(["--out", str(root), *args]) == 0
        return Folder(root)

    return made


SMALL = ("--scale", "0.02", "--transcripts", "small")


def manifest(folder: Folder) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder.root / "MANIFEST.json").read_text())
    return read


def verified(maker: ModuleType, folder: Folder) -> dict[str, Any]:
    """Let the maker look whether every promise was kept, and return what it counted."""
    said = io.StringIO()
    with redirect_stdout(said):
        code = maker.main(["--verify", str(folder.root)])
    assert code == 0, said.getvalue()
    counted: dict[str, Any] = json.loads(said.getvalue().splitlines()[0])
    return counted


def test_every_hazard_of_the_maker_has_its_row_here(maker: ModuleType) -> None:
    assert set(HAZARDS) == set(maker.HAZARDS)


@pytest.mark.parametrize("hazard", [name for name, outcome in HAZARDS.items() if outcome is UNREADABLE])
def test_a_store_that_cannot_be_trusted_is_not_touched(maker: ModuleType, make: Make, hazard: str) -> None:
    folder = make(*SMALL, "--hazard", hazard)
    before = picture(folder.root)
    said = prune(folder.root)
    assert said.code == 77
    assert said.document["error"]["kind"] == "refused"
    assert picture(folder.root) == before
    verified(maker, folder)


@pytest.mark.parametrize("hazard", [name for name, outcome in HAZARDS.items() if outcome is DONE])
def test_what_is_odd_is_kept_and_what_is_stale_goes_and_comes_back(maker: ModuleType, make: Make, hazard: str) -> None:
    check(maker, make(*SMALL, "--hazard", hazard))


def test_all_that_is_odd_at_once(maker: ModuleType, make: Make) -> None:
    check(maker, make(*SMALL, *(word for name, outcome in HAZARDS.items() if outcome is DONE for word in ("--hazard", name))))


def check(maker: ModuleType, folder: Folder) -> None:
    before, expected = picture(folder.root), manifest(folder)
    said = prune(folder.root)
    assert said.code == 0, said.err
    (agent,) = said.document["agents"]
    assert agent["entries"]["gone"] == len(expected["stale_keys"])
    assert verified(maker, folder)["stale_left"] == 0
    for transcript in expected["shared_transcripts"]:
        assert (folder.sessions / transcript).exists() or transcript in expected["missing_transcripts"]
    assert prune(folder.root, "--undo", said.document["run"]).code == 0
    after = picture(folder.root)
    if "stale-lock" in expected["arguments"]["hazard"]:  # taken over, as OpenClaw does
        assert "agents/main/sessions/sessions.json.lock" not in after
        del before["agents/main/sessions/sessions.json.lock"]
    assert after == before


def test_odd_entries_are_counted_by_what_is_odd_about_them(make: Make) -> None:
    (agent,) = prune(make(*SMALL, "--hazard", "bad-entries").root).document["agents"]
    odd = {name: count for name, count in agent["entries"]["kept_by"].items() if name not in ("other", "young", "running")}
    assert odd == {
        "of-another-agent": 1,
        "no-object": 3,
        "no-updated-at": 2,
        "updated-at-not-positive": 1,
        "updated-at-in-the-future": 1,
        "session-id-no-file-name": 1,
    }


@pytest.mark.slow
def test_a_living_lock_is_waited_for_and_then_left(maker: ModuleType, make: Make) -> None:
    folder = make(*SMALL, "--hazard", "live-lock", "--lock-pid", str(os.getppid()))
    before = picture(folder.root)
    assert prune(folder.root).code == 75
    assert picture(folder.root) == before
    (folder.sessions / "sessions.json.lock").unlink()
    check(maker, folder)


@pytest.mark.slow
def test_the_incident_in_its_full_size(maker: ModuleType, make: Make) -> None:
    folder = make()
    before = picture(folder.root)
    said = prune(folder.root)
    (agent,) = said.document["agents"]
    assert (agent["entries"]["before"], agent["entries"]["gone"], agent["entries"]["kept"]) == (2255, 2115, 140)
    assert agent["lock_held_ms"] < 2000
    assert verified(maker, folder) == {
        "entries_before": 2255,
        "entries_after": 140,
        "stale_left": 0,
        "files_before": 3787,
        "files_after": 3787 - sum(agent["files"].values()),
        "problems": 0,
    }
    expected = manifest(folder)
    assert len(expected["base_keys"]) == 46
    left = folder.read()
    for key in expected["base_keys"]:
        assert (folder.sessions / f"{left[key]['sessionId']}.jsonl").exists()
    assert prune(folder.root, "--undo", said.document["run"]).code == 0
    assert picture(folder.root) == before
