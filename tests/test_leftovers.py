"""What a file beside the store is taken for: only the exact shapes of OpenClaw's names, only plain files, only when nobody needs them."""

import os
from pathlib import Path
from typing import Any

import pytest
from stores import ARCHIVED, CHAT, DAY_H, NOW_MS, ORPHAN, SPOILT, TMP, write

from mmtools.ops import leftovers
from mmtools.ops.leftovers import Ages, File, Kind, Needed

NOW_S = NOW_MS / 1000
DAY_S = DAY_H * 3600
AGES = Ages(
    after_s={
        Kind.ORPHANS: 7 * DAY_S,
        Kind.TMP: 3600,
        Kind.DELETED: 30 * DAY_S,
        Kind.CORRUPT: 7 * DAY_S,
        Kind.CRON_LOGS: 30 * DAY_S,
        Kind.RECORDINGS: 30 * DAY_S,
    }
)


def old(name: str, days: float = 90) -> File:
    return File(name, 1, round((NOW_S - days * DAY_S) * 1e9))


def kinds(*files: File, needed: Needed | None = None, ages: Ages = AGES) -> list[Kind]:
    return [leftover.kind for leftover in leftovers.of_sessions(files, needed or Needed(), ages, NOW_S)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (f"{ORPHAN}.jsonl", Kind.ORPHANS),
        (f"{ORPHAN}-topic-42.jsonl", Kind.ORPHANS),
        (f"{ARCHIVED}.jsonl.deleted.2025-12-31T23-59-59.999Z", Kind.DELETED),
        (f"{ARCHIVED}-topic-7.jsonl.deleted.2025-12-31T23-59-59Z", Kind.DELETED),
        (f"{SPOILT}.jsonl.corrupt", Kind.CORRUPT),
        (TMP, Kind.TMP),
        (f"sessions.json.{ORPHAN}.tmp", Kind.TMP),
    ],
)
def test_old_leftovers_of_exact_shape_go(name: str, kind: Kind) -> None:
    assert kinds(old(name)) == [kind]
    assert kinds(File(name, 1, round(NOW_S * 1e9))) == ([kind] if kind is Kind.DELETED else [])
    assert kinds(old(name), ages=Ages(after_s={})) == []


@pytest.mark.parametrize(
    "name",
    [
        "sessions.json",
        "sessions.json.lock",
        "sessions.json.bak.1770840000000",
        "sessions.json.corrupt",
        "sessions.json.tmp",
        "sessions.json.x.tmp",
        f"sessions.json.-7.{ORPHAN}.tmp",
        "notes.txt",
        "notes.jsonl",
        ".hidden.jsonl",
        f".{ORPHAN}.jsonl",
        f"{ORPHAN}.JSONL",
        f"{ORPHAN.upper()}x.jsonl",
        f"{ORPHAN}-topic-.jsonl",
        f"{ORPHAN}-topic-4a.jsonl",
        f"{ORPHAN}.jsonl\n",
        f"{ORPHAN} .jsonl",
        f"{ORPHAN}.jsonl.lock",
        f"{ORPHAN}.checkpoint.{ARCHIVED}.jsonl",
        f"{ORPHAN}.trajectory.jsonl",
        f"{ORPHAN}.trajectory-path.json",
        f"{ORPHAN}.jsonl.reset.2025-12-31T23-59-59.999Z",
        f"{ORPHAN}.jsonl.bak.2025-12-31T23-59-59.999Z",
        f"{ORPHAN}.jsonl.deleted.yesterday",
        f"{ORPHAN}.jsonl.deleted.2025-02-30T23-59-59.999Z",
        f"{ORPHAN}.jsonl.deleted.2025-12-31T99-59-59.999Z",
        f"{ORPHAN}.jsonl.deleted.2025-12-31T23-59-59.9Z",
        f"{ORPHAN}.jsonl.deleted.2025-12-31T23-59-59.999Z.zst",
        "x.jsonl.deleted.2025-12-31T23-59-59.999Z",
        f"{ORPHAN}.jsonl.corrupt.old",
    ],
)
def test_a_name_of_any_other_shape_is_somebodys(name: str) -> None:
    assert kinds(old(name)) == []


def test_a_leftover_goes_when_its_age_is_past_and_not_before() -> None:
    assert kinds(old(f"{ORPHAN}.jsonl", 7), old(TMP, 1 / 24), old(f"{SPOILT}.jsonl.corrupt", 7)) == []
    assert kinds(old(f"{ORPHAN}.jsonl", 7.01), old(TMP, 1.01 / 24)) == [Kind.ORPHANS, Kind.TMP]


def test_what_any_entry_names_is_needed() -> None:
    needed = Needed()
    entries: tuple[Any, ...] = (
        {"sessionId": ORPHAN},
        {"sessionId": "a", "sessionFile": f"/stale/home/{ARCHIVED}.jsonl"},
        {"sessionId": 7, "sessionFile": None},
        None,
        [],
        "text",
    )
    for entry in entries:
        needed.add(entry)
    names = [f"{ORPHAN}.jsonl", f"{ORPHAN}-topic-3.jsonl", f"{ARCHIVED}.jsonl"]
    assert kinds(*map(old, names), old(f"{CHAT}.jsonl"), needed=needed) == [Kind.ORPHANS]
    assert kinds(old(f"{ORPHAN}.jsonl.corrupt"), old(f"{ORPHAN}.jsonl.deleted.2025-01-01T00-00-00Z"), needed=needed) == []


def test_transcripts_of_what_goes_stay_when_an_entry_that_stays_names_them() -> None:
    seen = [old(f"{ORPHAN}.jsonl"), old(f"{ORPHAN}-topic-3.jsonl"), old(f"{CHAT}.jsonl"), old(f"{ORPHAN}.jsonl.lock")]
    gone = [found.file.name for found in leftovers.transcripts(seen, {ORPHAN}, set(), Needed())]
    assert gone == [f"{ORPHAN}.jsonl", f"{ORPHAN}-topic-3.jsonl"]
    assert list(leftovers.transcripts(seen, {ORPHAN}, set(), Needed(ids={ORPHAN}))) == []
    by_name = Needed(names={f"{ORPHAN}-topic-3.jsonl"})
    assert [found.file.name for found in leftovers.transcripts(seen, {ORPHAN}, set(), by_name)] == [f"{ORPHAN}.jsonl"]


def test_a_session_file_counts_for_its_entry_only_in_its_own_folder(tmp_path: Path) -> None:
    def name(path: str) -> str:
        return leftovers.own_names({"sessionId": "a", "sessionFile": path}, tmp_path)[1]

    assert name(f"{tmp_path}/{ORPHAN}.jsonl") == f"{ORPHAN}.jsonl"
    for path in (
        f"/etc/{ORPHAN}.jsonl",
        f"{tmp_path}/../{ORPHAN}.jsonl",
        f"{tmp_path}/sessions.json",
        f"{tmp_path}/x/../{ORPHAN}.jsonl",
        "",
    ):
        assert name(path) == ""


def test_links_and_folders_are_not_files(tmp_path: Path) -> None:
    write(tmp_path / "real.jsonl", b"x", 1)
    os.symlink(tmp_path / "real.jsonl", tmp_path / f"{ORPHAN}.jsonl")
    (tmp_path / f"{ARCHIVED}.jsonl").mkdir()
    os.mkfifo(tmp_path / f"{SPOILT}.jsonl")
    assert [file.name for file in leftovers.files(tmp_path)] == ["real.jsonl"]
    assert list(leftovers.files(tmp_path / "missing")) == []


def test_a_transcript_lock_counts_for_half_an_hour() -> None:
    locks = [old(f"{ORPHAN}.jsonl.lock", 0.02), old(f"{CHAT}-topic-4.jsonl.lock", 0.001), old(f"{ARCHIVED}.jsonl.lock", 0.03)]
    assert leftovers.being_written(locks, NOW_S) == {ORPHAN, CHAT}


def test_run_histories_of_jobs_that_exist_stay() -> None:
    seen = [old("job-a.jsonl"), old("job-b.jsonl"), old("job-c.jsonl", 3), old("job-d.jsonl.bak"), old(".jsonl")]
    assert [found.file.name for found in leftovers.cron_logs(seen, frozenset({"job-a"}), AGES, NOW_S)] == ["job-b.jsonl"]


def test_recordings_that_a_config_names_stay() -> None:
    seen = [old("game.jsonl.gz"), old("race.jsonl.gz"), old("new.jsonl.gz", 2), old("game.jsonl")]
    configs = ["feed: recording\nrecording: ../x/game.jsonl.gz\n", ""]
    assert [found.file.name for found in leftovers.recordings(seen, configs, AGES, NOW_S)] == ["race.jsonl.gz"]
