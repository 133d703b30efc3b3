"""prune-sessions on real folders: what goes, what stays, what comes back, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from commandline import Said, call
from stores import (
    ALONE,
    ARCHIVED,
    CHAT,
    DEAD_JOB,
    FRESH,
    GO,
    HOUR_MS,
    JOB,
    NOW_MS,
    ORPHAN,
    SHARED,
    STALE,
    STAY,
    TOPIC,
    Folder,
    as_openclaw,
    entries,
    entry,
    picture,
    prune,
    run_key,
    settings,
    small,
    write,
)  # fmt: skip

from mmtools import moments
from mmtools.errors import Refused
from mmtools.ops import leftovers, pruning
from mmtools.ops.leftovers import Ages, Leftover
from mmtools.ops.pruning import Pruner, Rules
from mmtools.ops.trash import Manifest, Moved, Trash
from mmtools.state import StateDir


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return small(tmp_path / "openclaw")


def agent_of(said: Said) -> dict[str, Any]:
    assert said.code == 0, said.err
    (agent,) = said.document["agents"]
    assert isinstance(agent, dict)
    return agent


def undo(folder: Folder, *args: str) -> Said:
    (run,) = folder.runs()
    return prune(folder.root, "--undo", run, *args)


# what goes


def test_stale_runs_go_with_their_transcripts_and_what_nobody_needs(folder: Folder) -> None:
    before = folder.names()
    old = folder.store.read_bytes()
    agent = agent_of(prune(folder.root))
    assert list(folder.read()) == STAY
    assert sorted(set(before) - set(folder.names())) == GO
    assert agent["entries"] == {"before": 6, "gone": 2, "kept": 4, "kept_by": {"other": 3, "young": 1, "running": 0}, "left": 0}
    assert agent["files"] == {"sessions": 1, "orphans": 1, "deleted": 1, "corrupt": 1, "tmp": 1}
    assert (agent["gateway"], agent["route"], agent["lock_held_ms"] < 2000) == ("down", "file", True)
    (run,) = folder.runs()
    assert agent["trash"] == str(folder.trash / run)
    assert (folder.trash / run / "sessions.json").read_bytes() == old
    assert sorted(os.listdir(folder.trash / run / "files")) == GO


def test_kept_entries_stay_byte_for_byte(folder: Folder) -> None:
    prune(folder.root)
    kept = {key: value for key, value in entries().items() if key in STAY}
    assert folder.store.read_bytes() == as_openclaw(kept)
    assert folder.store.stat().st_mode & 0o777 == 0o600


def test_the_new_store_has_a_new_time(folder: Folder) -> None:
    """OpenClaw keeps what it read as long as the time of the file is the same."""
    old = folder.store.stat().st_mtime_ns
    prune(folder.root)
    assert folder.store.stat().st_mtime_ns != old


def test_the_transcript_of_a_run_stays_while_its_jobs_base_key_names_it(folder: Folder) -> None:
    prune(folder.root)
    assert run_key(SHARED) not in folder.read()
    assert (folder.sessions / f"{SHARED}.jsonl").exists()


def test_an_entry_with_a_stale_path_still_keeps_the_file_of_that_name(tmp_path: Path) -> None:
    other = entry(CHAT, 900, sessionFile=f"/old/home/agents/main/sessions/{ALONE}.jsonl")
    folder = small(tmp_path / "openclaw", store={run_key(ALONE): entry(ALONE, 50), "agent:main:main": other})
    prune(folder.root)
    assert list(folder.read()) == ["agent:main:main"]
    assert (folder.sessions / f"{ALONE}.jsonl").exists()


def test_a_transcript_that_is_a_link_stays_and_so_does_what_it_leads_to(folder: Folder) -> None:
    precious = folder.root / "precious.jsonl"
    write(precious, b"mine\n", 900)
    (folder.sessions / f"{ALONE}.jsonl").unlink()
    (folder.sessions / f"{ALONE}.jsonl").symlink_to(precious)
    agent_of(prune(folder.root))
    assert run_key(ALONE) not in folder.read()
    assert (folder.sessions / f"{ALONE}.jsonl").is_symlink()
    assert precious.read_bytes() == b"mine\n"


def test_two_entries_of_one_key_both_stay(tmp_path: Path) -> None:
    """JSON.parse takes the last; cutting that one alone would bring the other to life."""
    folder = small(tmp_path / "openclaw")
    text = folder.store.read_bytes()
    twice = text[:-2] + f',\n  "{run_key(ALONE)}": {json.dumps(entry(ALONE, 90))}\n}}'.encode()
    write(folder.store, twice, 0.01)
    agent = agent_of(prune(folder.root))
    assert agent["entries"]["gone"] == 1
    assert agent["entries"]["kept_by"]["key-twice"] == 2
    assert folder.store.read_bytes().count(run_key(ALONE).encode()) == 2
    assert (folder.sessions / f"{ALONE}.jsonl").exists()


def test_a_run_whose_transcript_is_being_written_stays(folder: Folder) -> None:
    write(folder.sessions / f"{ALONE}.jsonl.lock", b"{}", 0.1)
    agent = agent_of(prune(folder.root))
    assert agent["entries"]["kept_by"]["transcript-locked"] == 1
    assert run_key(ALONE) in folder.read()
    assert (folder.sessions / f"{ALONE}.jsonl").exists()


def test_a_clock_that_is_behind_takes_nothing(folder: Folder) -> None:
    before = picture(folder.root)
    agent = agent_of(prune(folder.root, "--now", "2026-01-01T00:00:00Z"))
    assert agent["entries"]["gone"] == 0
    assert agent["entries"]["kept_by"]["updated-at-in-the-future"] == 3
    assert picture(folder.root) == before


def test_only_what_was_asked_for_goes(folder: Folder) -> None:
    before = folder.names()
    agent = agent_of(prune(folder.root, "--what", "orphans", "--what", "tmp"))
    assert agent["entries"]["kept_by"]["stale"] == 2
    assert len(folder.read()) == 6
    assert set(before) - set(folder.names()) == {f"{ORPHAN}.jsonl", GO[-1]}


def test_an_orphan_beside_runs_that_may_stay_is_no_orphan(folder: Folder) -> None:
    """Asked for orphans alone: the transcript of a stale run is still its entry's."""
    agent_of(prune(folder.root, "--what", "orphans", "--older-than", "1h"))
    assert (folder.sessions / f"{ALONE}.jsonl").exists()


def test_ages_of_the_settings_and_of_the_command_line(folder: Folder) -> None:
    config = settings(folder.root.parent / "own", more="sessions:\n  older_than_h: 40\n  orphans_after_h: 1000\n")
    said = prune(folder.root, "--config", config)
    assert list(set(entries()) - set(folder.read())) == [run_key(ALONE)]
    assert "orphans" not in agent_of(said)["files"]
    agent_of(prune(folder.root, "--older-than", "90m"))
    assert run_key(FRESH) not in folder.read()
    assert (folder.sessions / f"{FRESH}.jsonl").exists() is False


def test_run_histories_of_dead_jobs_go_and_come_back(folder: Folder) -> None:
    before = picture(folder.root)
    runs = folder.root / "cron" / "runs"
    said = prune(folder.root, "--what", "cron-logs")
    assert said.document["others"][0]["files"] == {"cron-logs": 1}
    assert [path.name for path in runs.iterdir()] == [f"{JOB}.jsonl"]
    assert prune(folder.root, "--undo", said.document["run"]).code == 0
    assert (runs / f"{DEAD_JOB}.jsonl").read_bytes() == b'{"ts":2}\n'
    assert picture(folder.root) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"jobs": {}}', b'{"jobs": [{"name": "x"}]}', None])
def test_run_histories_stay_when_it_is_not_known_which_jobs_exist(folder: Folder, content: bytes | None) -> None:
    jobs = folder.root / "cron" / "jobs.json"
    if content is None:
        jobs.unlink()
    else:
        jobs.write_bytes(content)
    said = prune(folder.root, "--what", "cron-logs")
    assert said.code == 0
    assert "cron-logs were left" in said.document["notes"][0]
    assert (folder.root / "cron" / "runs" / f"{DEAD_JOB}.jsonl").exists()


def test_recordings_that_no_unfinished_run_names_go(folder: Folder) -> None:
    state = folder.root.parent / "openclaw-mmtools" / "state"
    for name in ("used", "unused"):
        write(state / "recordings" / f"{name}.jsonl.gz", b"x", 60 * 24)
    write(state / "runs" / "r1" / "run.yaml", b"recording: recordings/used.jsonl.gz\n", 1)
    said = prune(folder.root, "--what", "recordings")
    assert said.document["others"][0]["files"] == {"recordings": 1}
    assert os.listdir(state / "recordings") == ["used.jsonl.gz"]
    assert prune(folder.root, "--undo", said.document["run"]).code == 0
    assert sorted(os.listdir(state / "recordings")) == ["unused.jsonl.gz", "used.jsonl.gz"]


def test_every_agent_has_its_own_store_and_trash(folder: Folder) -> None:
    ops = small(folder.root, store={run_key(ALONE, agent="ops"): entry(ALONE, 50), run_key(SHARED): entry(SHARED, 50)}, agent="ops")
    said = prune(folder.root)
    assert [agent["agent"] for agent in said.document["agents"]] == ["main", "ops"]
    assert said.document["agents"][1]["entries"]["kept_by"]["of-another-agent"] == 1
    assert list(ops.read()) == [run_key(SHARED)]
    assert folder.runs() == ops.runs() == [said.document["run"]]
    again = small(folder.root, store={run_key(ALONE, agent="ops"): entry(ALONE, 50)}, agent="ops")
    assert prune(folder.root, "--agent", "main").document["agents"][0]["entries"]["gone"] == 0
    assert len(again.read()) == 1


def test_a_store_of_which_all_goes_is_left_empty(tmp_path: Path) -> None:
    folder = small(tmp_path / "openclaw", store={run_key(ALONE): entry(ALONE, 50)})
    agent_of(prune(folder.root))
    assert folder.store.read_bytes() == b"{}"
    before = small(tmp_path / "twin", store={run_key(ALONE): entry(ALONE, 50)})
    undo(folder)
    assert picture(folder.root) == picture(before.root)


def test_an_agent_without_sessions_is_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "openclaw" / "agents" / "main").mkdir(parents=True)
    assert agent_of(prune(tmp_path / "openclaw"))["entries"]["before"] == 0


def test_a_second_run_finds_nothing_and_leaves_no_trace(folder: Folder) -> None:
    prune(folder.root)
    before = picture(folder.root)
    agent = agent_of(prune(folder.root))
    assert (agent["entries"]["gone"], agent["files"], agent["trash"]) == (0, {}, None)
    assert picture(folder.root) == before


def test_files_that_vanish_while_a_folder_is_read_are_not_there(tmp_path: Path) -> None:
    """A gateway makes and removes a lock and a half-written store with every update."""
    busy = """
import os, signal
signal.alarm(60)
while True:
    for n in range(50): os.close(os.open(f"{n}.tmp", os.O_CREAT | os.O_WRONLY))
    for n in range(50): os.unlink(f"{n}.tmp")
"""
    (tmp_path / "sessions.json").touch()
    with subprocess.Popen([sys.executable, "-S", "-c", busy], cwd=tmp_path) as gateway:
        try:
            for _ in range(3000):
                assert "sessions.json" in {file.name for file in leftovers.files(tmp_path)}
        finally:
            gateway.kill()


# dry run


def test_a_dry_run_takes_the_same_decisions_and_changes_nothing(folder: Folder) -> None:
    around = folder.root.parent / "openclaw-mmtools"
    settings(around)
    before = picture(folder.root), picture(around)
    dry = prune(folder.root, "--dry-run").document
    assert (picture(folder.root), picture(around)) == before
    real = prune(folder.root).document
    for document in (dry, real):
        del document["run"], document["dry_run"], document["agents"][0]["lock_held_ms"]
        for each in (document["agents"][0], document["others"][0]):
            del each["trash"]
    assert dry == real


def test_a_dry_undo_changes_nothing(folder: Folder) -> None:
    prune(folder.root)
    before = picture(folder.root)
    said = undo(folder, "--dry-run")
    assert picture(folder.root) == before
    places = said.document["places"]
    assert undo(folder).document["places"] == places


# undo and trash


def test_undo_puts_everything_back_as_it_was(folder: Folder) -> None:
    before = picture(folder.root)
    old = folder.store.stat().st_mtime_ns
    prune(folder.root)
    said = undo(folder)
    assert said.code == 0, said.err
    assert picture(folder.root) == before
    assert folder.store.stat().st_mtime_ns != old


def test_undo_of_a_store_that_was_written_since_adds_what_is_missing_at_its_end(folder: Folder) -> None:
    old = folder.store.read_bytes()
    prune(folder.root)
    now = {**folder.read(), "agent:main:new": entry("new", 0), run_key(SHARED): entry(SHARED, 0)}
    write(folder.store, as_openclaw(now), 0)
    said = undo(folder)
    assert (said.document["places"][0]["entries"], said.document["places"][0]["exact"]) == (1, False)
    assert folder.read() == {**now, run_key(ALONE): entries()[run_key(ALONE)]}
    text = folder.store.read_bytes()
    at = old.index(run_key(ALONE).encode())
    assert old[at - 1 : old.index(b"}", at) + 1] in text
    assert text.startswith(as_openclaw(now)[:-2])
    assert folder.runs() == []


def test_undo_fills_an_empty_store_in_openclaws_form(folder: Folder) -> None:
    prune(folder.root)
    write(folder.store, b"{}", 0)
    undo(folder)
    assert folder.store.read_bytes() == as_openclaw({key: entries()[key] for key in STALE})


def test_undo_never_takes_the_place_of_a_file(folder: Folder) -> None:
    prune(folder.root)
    write(folder.sessions / f"{ALONE}.jsonl", b"newer\n", 0)
    said = undo(folder)
    assert said.code == 1
    assert said.document["in_the_way"] == [f"{ALONE}.jsonl"]
    assert (folder.sessions / f"{ALONE}.jsonl").read_bytes() == b"newer\n"
    (folder.sessions / f"{ALONE}.jsonl").unlink()
    assert undo(folder).code == 0
    assert b"newer" not in (folder.sessions / f"{ALONE}.jsonl").read_bytes()
    assert folder.runs() == []


def test_undo_of_an_unknown_run_names_those_there_are(folder: Folder) -> None:
    prune(folder.root)
    said = prune(folder.root, "--undo", "20200101T000000Z-1")
    assert said.code == 77
    assert folder.runs()[0] in said.document["error"]["message"]
    assert prune(folder.root, "--undo", "../../etc").code == 77


def test_undo_leaves_a_broken_store_alone(folder: Folder) -> None:
    prune(folder.root)
    folder.store.write_bytes(b"{")
    before = picture(folder.root)
    said = undo(folder)
    assert said.code == 77
    assert str(folder.trash) in said.document["error"]["message"]
    assert picture(folder.root) == before


def test_undo_of_two_runs_the_later_first_gives_the_old_store(folder: Folder) -> None:
    before = picture(folder.root)
    runs = [prune(folder.root, "--older-than", age).document["run"] for age in ("40h", "24h")]
    for run in reversed(runs):
        assert prune(folder.root, "--undo", run).code == 0
    assert picture(folder.root) == before


def test_trash_is_kept_for_its_time_and_then_goes(folder: Folder) -> None:
    run = prune(folder.root).document["run"]
    later = ("--now", "2026-02-18T19:00:00Z", "--what", "tmp")
    assert agent_of(prune(folder.root, *later))["purged"] == []
    assert folder.runs() == [run]
    assert agent_of(prune(folder.root, *later, "--keep-trash", "6d", "--dry-run"))["purged"] == [run]
    assert folder.runs() == [run]
    assert agent_of(prune(folder.root, *later, "--keep-trash", "6d"))["purged"] == [run]
    assert not folder.trash.exists()


def test_nothing_else_in_the_trash_folder_is_purged(folder: Folder) -> None:
    prune(folder.root)
    write(folder.trash / "notes" / "x", b"mine", 9000)
    agent_of(prune(folder.root, "--keep-trash", "0s", "--now", "2027-01-01T00:00:00Z", "--what", "tmp"))
    assert folder.runs() == ["notes"]


# refusals

BROKEN: list[bytes | None] = [b"", b"\0" * 99, b"[]", b"null", b'{"a": 1', b'{"a": "\xff"}', b"{} {}", None]


@pytest.mark.parametrize("content", BROKEN)
def test_beside_a_broken_store_nothing_is_touched(folder: Folder, content: bytes | None) -> None:
    copy = folder.sessions / "sessions.json.bak.1770000000000"
    write(folder.sessions / "sessions.json.bak.1770000000001", b"{", 9)
    write(copy, folder.store.read_bytes(), 9)
    folder.store.unlink()
    if content is not None:
        folder.store.write_bytes(content)
    before = picture(folder.root)
    for args in ((), ("--dry-run",)):
        said = prune(folder.root, *args)
        assert said.code == 77
        assert said.document["error"]["message"].endswith(f"Last good copy: {copy}")
        assert picture(folder.root) == before


def test_without_a_good_copy_it_says_so(folder: Folder) -> None:
    folder.store.write_bytes(b"")
    assert "Last good copy: none found" in prune(folder.root).document["error"]["message"]


def test_the_trash_of_a_broken_store_is_not_purged(folder: Folder) -> None:
    run = prune(folder.root).document["run"]
    folder.store.write_bytes(b"")
    said = prune(folder.root, "--keep-trash", "0s", "--now", "2027-01-01T00:00:00Z")
    assert said.code == 77
    assert str(folder.trash / run / "sessions.json") in said.document["error"]["message"]
    assert folder.runs() == [run]


def test_a_broken_store_does_not_keep_another_agent_from_its_turn(folder: Folder) -> None:
    ops = small(folder.root, store={run_key(ALONE, agent="ops"): entry(ALONE, 50)}, agent="ops")
    folder.store.write_bytes(b"")
    said = prune(folder.root)
    assert said.code == 77
    assert "meanwhile agent ops: 1 sessions gone" in said.document["error"]["message"]
    assert ops.read() == {}


def test_a_store_that_is_a_link_or_a_folder_is_refused(folder: Folder) -> None:
    elsewhere = folder.root / "elsewhere.json"
    folder.store.rename(elsewhere)
    folder.store.symlink_to(elsewhere)
    assert prune(folder.root).code == 77
    folder.store.unlink()
    folder.store.mkdir()
    assert prune(folder.root).code == 77
    assert elsewhere.exists()


def test_a_store_in_a_folder_that_agents_share_is_refused(folder: Folder) -> None:
    (folder.root / "openclaw.json").write_text(f'{{session: {{store: "{folder.root}/stores/{{agentId}}.json"}}}}')
    write(folder.root / "stores" / "main.json", b"{}", 1)
    said = prune(folder.root)
    assert said.code == 77
    assert "does not give to it alone" in said.document["error"]["message"]


def test_a_store_that_was_moved_has_its_trash_beside_it(folder: Folder) -> None:
    place = folder.root / "moved" / "main"
    place.parent.mkdir()
    folder.sessions.rename(place)
    (folder.root / "openclaw.json").write_text(f'{{session: {{store: "{folder.root}/moved/{{agentId}}/sessions.json"}}}}')
    agent = agent_of(prune(folder.root))
    assert agent["entries"]["gone"] == 2
    assert agent["trash"].startswith(f"{place}.mmtools-trash/")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--older-than", "soon"), 2),
        (("--keep-trash", "-1d"), 2),
        (("--now", "yesterday"), 2),
        (("--now", "2026-02-11T20:00:00"), 2),
        (("--now", "9999-12-31T23:59:59-12:00"), 2),
        (("--what", "everything"), 2),
        (("--undo", "x", "--what", "tmp"), 2),
        (("--agent", "nobody"), 78),
        (("--openclaw", "/nonexistent"), 78),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(folder: Folder, args: tuple[str, ...], code: int) -> None:
    before = picture(folder.root)
    said = prune(folder.root, *args)
    assert said.code == code
    assert said.document["schema"] == "mmtools.error/1"
    assert picture(folder.root) == before


# locks, kills, full disks


@pytest.mark.slow
def test_a_lock_of_a_living_process_is_respected(folder: Folder) -> None:
    lock = folder.sessions / "sessions.json.lock"
    lock.write_text(json.dumps({"pid": os.getpid(), "createdAt": moments.iso(moments.now_ms() + 3_600_000)}))
    before = picture(folder.root)
    os.utime(lock, (time.time() + 3600, time.time() + 3600))
    said = prune(folder.root)
    assert said.code == 75
    assert f"held by process {os.getpid()}" in said.document["error"]["message"]
    lock.touch()
    assert {name: what[2] for name, what in picture(folder.root).items()} == {name: what[2] for name, what in before.items()}


def test_a_second_run_at_once_is_told_to_come_back(folder: Folder) -> None:
    beside = folder.root.parent / "openclaw-mmtools"
    settings(beside)
    before = picture(folder.root)
    with StateDir(beside / "state").lock("prune-sessions"):
        for args in ((), ("--dry-run",)):
            assert prune(folder.root, *args).code == 75
    assert picture(folder.root) == before


def test_no_key_of_a_session_is_in_what_it_prints(folder: Folder) -> None:
    said = prune(folder.root)
    assert JOB not in said.out + said.err
    config = settings(folder.root.parent / "own")
    text = call("prune_sessions", "--state", folder.root.parent / "s", "--config", config, "--openclaw", folder.root, "--dry-run").out
    assert not [word for word in (CHAT, TOPIC, ARCHIVED) if word in text]


# what is left, what came back


def test_beyond_its_measure_a_run_leaves_the_rest_to_the_next(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of each entry stays in memory, and a store can have a hundred thousand."""
    monkeypatch.setattr(pruning, "MOST", 1)
    before = picture(folder.root)
    dry, first = agent_of(prune(folder.root, "--dry-run")), prune(folder.root)
    agent = agent_of(first)
    for each in (dry, agent):
        assert (each["entries"]["gone"], each["entries"]["left"], each["entries"]["kept"], each["files_left"]) == (1, 1, 4, 4)
        assert each["files"] == {"sessions": 1}
    assert list(set(entries()) - set(folder.read())) == [run_key(ALONE)]
    second = prune(folder.root)
    assert (agent_of(second)["entries"]["gone"], agent_of(second)["entries"]["left"]) == (1, 0)
    assert list(folder.read()) == STAY
    for said in (second, first):
        assert prune(folder.root, "--undo", said.document["run"]).code == 0
    assert picture(folder.root) == before


def test_what_is_beyond_the_measure_is_counted_where_sessions_are_not_asked_for(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "MOST", 1)
    text = folder.store.read_bytes()
    again = json.dumps(entry(ALONE, 90))
    for store in (text, text[:-2] + f',\n  "{run_key(ALONE)}": {again}\n}}'.encode()):  # in the second all that is in measure stands twice
        write(folder.store, store, 0.01)
        entries_ = agent_of(prune(folder.root, "--what", "tmp"))["entries"]
        assert entries_["kept"] == entries_["before"]


def test_entries_that_another_program_wrote_back_are_not_called_gone(folder: Folder) -> None:
    class Meanwhile(Trash):
        """Beside it runs a program that writes what it has in memory, as soon as the store is replaced."""

        def move(self, manifest: Manifest, going: Iterable[Leftover]) -> Moved:
            folder.store.write_bytes(as_openclaw(entries()))
            return super().move(manifest, going)

    rules = Rules(now_ms=NOW_MS, older_than_ms=24 * HOUR_MS, sessions=True, ages=Ages(after_s={}))
    trash = Meanwhile(folder.trash, folder.sessions)
    pruner = Pruner(agent="main", folder=folder.sessions, store=folder.store, trash=trash, rules=rules, still=lambda: None)
    with pytest.raises(Refused, match=r"1 transcripts that entries need are in the trash.*--undo"):
        pruner.prune("20260211T200000Z-1")
    assert prune(folder.root, "--undo", "20260211T200000Z-1").code == 0
    assert (folder.sessions / f"{ALONE}.jsonl").exists()
    assert folder.read() == entries()


def test_a_broken_manifest_is_left_for_a_person_even_by_a_dry_run(folder: Folder) -> None:
    write(folder.trash / "20260211T190000Z-1" / "manifest.json", b"{", 1)
    before = picture(folder.root)
    for args in (("--dry-run",), ()):
        said = prune(folder.root, *args, "--what", "tmp")
        assert said.code == 77
        assert "manifest.json" in said.document["error"]["message"]
        assert picture(folder.root) == before


def test_a_folder_of_run_histories_that_is_none_is_told(folder: Folder) -> None:
    shutil.rmtree(folder.root / "cron" / "runs")
    (folder.root / "cron" / "runs").touch()
    said = prune(folder.root)
    assert said.code == 78
    assert "meanwhile agent main: 2 sessions gone" in said.document["error"]["message"]


def test_a_trash_that_is_a_link_to_another_file_system_is_refused(folder: Folder, tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no file system of its own")
    with tempfile.TemporaryDirectory(dir=elsewhere) as other:
        folder.trash.symlink_to(other)
        for args in (("--dry-run",), ()):
            assert "different file systems" in prune(folder.root, *args).document["error"]["message"]


def test_a_trash_on_another_file_system_is_refused_by_a_dry_run_as_well(folder: Folder, tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no file system of its own")
    with tempfile.TemporaryDirectory(dir=elsewhere) as other:
        shutil.copytree(folder.sessions, f"{other}/sessions")
        shutil.rmtree(folder.sessions)
        folder.sessions.symlink_to(f"{other}/sessions")
        before = picture(Path(other))
        for args in (("--dry-run",), ()):
            assert prune(folder.root, *args).code == 77
        assert picture(Path(other)) == before
