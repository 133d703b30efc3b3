"""Snapshots: what they hold, that nothing in them is guessed, that they are whole or not there, and that no flipped byte stays unseen."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from commandline import Said, call, end, start, wait_for_journal
from faults import ERRORS, KILLS, TREES, Kind, every_fault
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import CONFIG_SECRET, LONG, RUN, SESSIONS, Board, Machine, board, died_once, gateway, machine_with

from mmtools.errors import TryLater
from mmtools.moments import Moment
from mmtools.ops import gateway_files, snapshots
from mmtools.ops import settings as ops_settings
from mmtools.ops.masking import MASK
from mmtools.state import StateDir

SECRET = "s3cret-0f-a-f0reign-process"
TOKEN = "b0ard-t0ken-4711"


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with machine_with(died_once(tmp_path_factory), tmp_path, monkeypatch) as lent:
        yield lent


def snapshot(machine: Machine, *args: str) -> Said:
    return call("snapshot", "--state", machine.state.root, "--config", machine.settings, "--json", *args)


def taken(machine: Machine, *args: str) -> dict[str, Any]:
    said = snapshot(machine, *args)
    assert said.code in (0, 1), said.err
    return said.document


def verify(machine: Machine, *args: str) -> Said:
    return call("snapshot", "verify", "--state", machine.state.root, "--json", *args)


def copied(machine: Machine, document: dict[str, Any], name: str) -> Path:
    return machine.state.path(f"snapshots/{document['id']}/files/{name}")


def test_a_snapshot_holds_units_runs_gateway_and_files(machine: Machine) -> None:
    with gateway(uptime_ms=60_000) as url:
        machine.configure(url=url)
        said = snapshot(machine, "--why", "a look")
    document = said.document
    parts, files = document["parts"], document["files"]
    assert said.code == 0, said.out
    assert (document["schema"], document["why"], document["dry_run"]) == ("mmtools.snapshot/1", "a look", False)
    assert parts["units_user"]["content"] == {
        "openclaw-gateway.service": {
            "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "MainPID": "42", "InvocationID": "aa", "NRestarts": "0",
            "ActiveEnterTimestamp": "Fri 2026-11-27 01:00:00 UTC",
        }
    }  # fmt: skip
    assert parts["units_system"] == {
        "is": "not known",
        "why": "systemctl --system show failed (exit 1): Failed to connect to bus: Host is down",
    }
    assert parts["gateway"]["content"]["uptime_ms"] == 60_000
    assert parts["tasks"] == {"is": "none"}
    assert parts["sessions"]["content"]["main"]["content"] == {"count": 2, "index": "index/main.jsonl", "whole": True}
    assert [job["id"] for job in parts["cron"]["content"]] == ["8a6a"]
    assert parts["subagents"] == {"is": "present", "content": {}}
    run = parts["runs"]["content"][RUN]
    assert (run["standing"], run["owner"], run["venue"]) == ("crashed", "recover", "paper")
    assert run["command"][1:5] == ["--config", str(machine.state.path(f"runs/{RUN}/run.yaml")), "--run-id", RUN]
    expected = {f"runs/{RUN}/run.yaml", f"runs/{RUN}/live_state.json", "ops.yaml", "openclaw/openclaw.json", "openclaw/cron/jobs.json"}
    assert expected <= files.keys()
    assert copied(machine, document, "openclaw/agents/main/sessions/sessions.json").read_text() == json.dumps(SESSIONS, indent=2)
    assert files["openclaw/openclaw.json"]["mode"] == "0640"
    index = copied(machine, document, "openclaw/index/main.jsonl").read_text().splitlines()
    assert [json.loads(line)["sessionId"] for line in index] == ["5e55-main", "51b4"]
    assert "bulk" not in "".join(index)
    assert verify(machine).code == 0


def test_positions_and_resting_orders_are_those_of_the_journal(machine: Machine) -> None:
    report = call("report", RUN, "--state", machine.state.root, "--json").document
    owned = taken(machine)["parts"]["runs"]["content"][RUN]["owned"]["content"]
    journal = [json.loads(line) for line in machine.state.path(f"runs/{RUN}/journal.jsonl").read_text().splitlines()]
    open_keys: set[str] = set()
    for record in journal:
        if record["kind"] == "place":
            open_keys.add(record["key"])
        elif record["kind"] in ("gone", "rejected"):
            open_keys.discard(record["key"])
    assert owned["from"] == "journal"
    assert {order["key"] for order in owned["resting"]} == open_keys
    assert open_keys
    assert owned["positions"].keys() <= report["markets"].keys()


def test_a_run_that_is_writing_its_journal_is_read_between_two_records(machine: Machine) -> None:
    config = machine.folder / "run.yaml"
    config.write_text(LONG)
    process = start(machine.state.root, "--config", config, "--run-id", "busy")
    try:
        wait_for_journal(machine.state.path("runs/busy"), process)
        for _ in range(3):
            run = taken(machine)["parts"]["runs"]["content"]["busy"]
            assert run["standing"] == "running"
            assert run["owned"]["is"] == "present", run
    finally:
        process.kill()
        end(process)
    assert verify(machine).code == 0


def test_a_broken_store_is_recorded_as_broken_and_never_as_empty(machine: Machine) -> None:
    store = machine.claw / "agents/main/sessions/sessions.json"
    store.write_text(store.read_text()[:-40])
    (machine.claw / "cron/jobs.json").write_text('{"version": 1, "jobs": [{"id": 7}]}')
    said = snapshot(machine)
    parts = said.document["parts"]
    assert said.code == 1
    assert parts["sessions"]["content"]["main"]["is"] == "not known"
    assert "broken" in parts["sessions"]["content"]["main"]["why"]
    assert parts["cron"]["is"] == "not known"
    files = said.document["files"]
    assert "cut off" in files["openclaw/agents/main/sessions/sessions.json"]["broken"]
    assert copied(machine, said.document, "openclaw/agents/main/sessions/sessions.json").read_bytes() == store.read_bytes()


@pytest.mark.parametrize(
    "content", ["", "[]", "null", '{"a": {}} x', '{"a": {},}', '{"a": 1}', '{"a": {"n": NaN}}', '{"a" {}}', '{"a": {}', "\ufeff{}"]
)
def test_what_the_gateway_would_take_for_an_empty_store_is_broken(machine: Machine, content: str) -> None:
    (machine.claw / "agents/main/sessions/sessions.json").write_text(content)
    assert taken(machine)["parts"]["sessions"]["content"]["main"]["is"] == "not known"


def test_a_folder_that_is_not_there_is_none_and_one_without_a_store_is_not_known(machine: Machine) -> None:
    assert taken(machine, "--openclaw", str(machine.folder / "nowhere"))["parts"]["sessions"] == {"is": "none"}
    (machine.folder / "empty").mkdir()
    assert taken(machine, "--openclaw", str(machine.folder / "empty"))["parts"]["sessions"]["is"] == "not known"


def test_a_store_that_may_not_be_the_one_in_use_is_doubted(machine: Machine) -> None:
    config = machine.claw / "openclaw.json"
    content = taken(machine)["parts"]["sessions"]["content"]["main"]["content"]
    assert "doubt" not in content
    config.write_text('{session: {$include: "./more.json"}}')
    assert "whether another file moves" in taken(machine)["parts"]["sessions"]["content"]["main"]["content"]["doubt"]
    config.write_text("{session: {")  # a gateway that cannot start any more is when a copy is wanted most
    assert taken(machine)["parts"]["sessions"]["content"]["main"]["content"]["count"] == 2
    config.write_text("{}")
    (machine.claw / "agents/main/agent").mkdir()
    (machine.claw / "agents/main/agent/openclaw-agent.sqlite").write_bytes(b"")
    assert "a database lies beside" in taken(machine)["parts"]["sessions"]["content"]["main"]["content"]["doubt"]


def test_a_store_that_the_config_moves_is_followed(machine: Machine) -> None:
    (machine.claw / "openclaw.json").write_text(f"{{session: {{store: '{machine.folder}/moved/{{agentId}}.json'}}}}")
    document = taken(machine)
    assert document["parts"]["sessions"] == {"is": "not known", "why": "no store of sessions is where it should be"}
    moved = machine.folder / "moved" / "main.json"
    moved.parent.mkdir()
    moved.write_text('{"agent:main:main": {"sessionId": "5e55"}}')
    document = taken(machine)
    assert document["parts"]["sessions"]["content"]["main"]["content"]["count"] == 1
    assert document["files"]["openclaw/agents/main/sessions/sessions.json"]["source"] == str(moved)


def test_of_a_store_that_is_too_big_the_index_is_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_files, "MOST_STORE", 100)
    document = taken(machine)
    assert document["files"]["openclaw/agents/main/sessions/sessions.json"]["fate"] == "too big"
    assert document["parts"]["sessions"]["content"]["main"]["content"] == {"count": 2, "index": "index/main.jsonl", "whole": False}
    assert verify(machine).code == 0


@pytest.mark.slow
def test_a_store_of_a_gigabyte_is_indexed_in_little_memory(machine: Machine) -> None:
    store = machine.claw / "agents/main/sessions/sessions.json"
    with store.open("w") as out:
        out.write("{\n")
        for n in range(10_000):
            entry = {"sessionId": f"{n:08x}", "updatedAt": n, "skillsSnapshot": {"prompt": "x" * 100_000}}
            out.write(f'{"," if n else ""}"agent:main:cron:a:run:{n:08x}": {json.dumps(entry)}\n')
        out.write("}")
    code = (
        "import sys\nfrom mmtools import cli\nfrom mmtools.commands.snapshot import main\ncode = cli.run(main, sys.argv[1:])\n"
        # Not ru_maxrss: a child inherits in it what this process had.
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(peak, file=sys.stderr)\nsys.exit(code)"
    )
    argv = [sys.executable, "-c", code, "--state", str(machine.state.root), "--config", str(machine.settings), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parts"]["sessions"]["content"]["main"]["content"]["count"] == 10_000
    assert int(done.stderr.split()[-1]) < 60_000


def database(machine: Machine) -> Path:
    path = machine.claw / "agents/main/agent/openclaw-agent.sqlite"
    path.parent.mkdir()
    (machine.claw / "agents/main/sessions/sessions.json").unlink()
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode=wal")
        made.execute("CREATE TABLE sessions(key)")
        made.execute("INSERT INTO sessions VALUES ('old')")
        made.commit()
    return path


def keys_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as read:
        return [key for (key,) in read.execute("SELECT key FROM sessions")]


def test_a_database_that_is_written_to_is_copied_with_what_is_still_in_its_log(machine: Machine) -> None:
    path = database(machine)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("INSERT INTO sessions VALUES ('in the log')")
        writer.commit()
        document = taken(machine)
    main = document["parts"]["sessions"]["content"]["main"]
    assert main == {"is": "not known", "why": "its sessions are in a database, whose tables are not read"}
    assert verify(machine).code == 0
    assert keys_in(copied(machine, document, "openclaw/agents/main/agent/openclaw-agent.sqlite")) == ["old", "in the log"]


def test_a_database_at_rest_is_copied_and_nothing_is_left_beside_it(machine: Machine) -> None:
    path = database(machine)
    document = taken(machine)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert verify(machine).code == 0
    assert keys_in(copied(machine, document, "openclaw/agents/main/agent/openclaw-agent.sqlite")) == ["old"]


def test_a_database_whose_writer_died_is_copied_with_its_log(machine: Machine) -> None:
    path = database(machine)
    code = (
        "import os, sqlite3, sys\nmade = sqlite3.connect(sys.argv[1])\nmade.execute(\"INSERT INTO sessions VALUES ('logged')\")\n"
        "made.commit()\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    path.with_name(path.name + "-shm").unlink()
    document = taken(machine)
    assert keys_in(copied(machine, document, "openclaw/agents/main/agent/openclaw-agent.sqlite")) == ["old", "logged"]


def test_what_is_no_database_is_not_taken_for_one(machine: Machine) -> None:
    path = database(machine)
    path.write_bytes(b"no database" * 1000)
    path.with_name(path.name + "-shm").write_bytes(b"")
    said = snapshot(machine)
    assert said.code == 1
    assert said.document["files"]["openclaw/agents/main/agent/openclaw-agent.sqlite"]["fate"] == "unreadable"
    assert verify(machine).code == 0


# the board


@contextmanager
def with_board(machine: Machine) -> Iterator[Board]:
    with board() as lent:
        token = machine.folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        machine.configure(f"mission_control: {{url: '{lent.url}', board: b1, task: t0, token: {{file: {token}}}}}\n")
        yield lent


def task(task_id: str, status: str = "in_progress", agent: str | None = "a1") -> dict[str, Any]:
    return {
        "id": task_id,
        "title": f"do {task_id}",
        "status": status,
        "assigned_agent_id": agent,
        "updated_at": "2026-03-02T04:20:00.326859",
    }


def test_all_pages_of_tasks_in_progress_are_taken(machine: Machine) -> None:
    with with_board(machine) as lent:
        lent.page = 2
        lent.tasks = [task(f"t{n}") for n in range(5)] + [task("t9", status="review")]
        found = taken(machine)["parts"]["tasks"]["content"]
        assert lent.tokens == {f"Bearer {TOKEN}"}
    assert [each["id"] for each in found] == ["t0", "t1", "t2", "t3", "t4"]
    assert found[0] == {"id": "t0", "title": "do t0", "agent": "a1", "updated_at": "2026-03-02T04:20:00.327Z"}


def test_a_board_that_does_not_answer_is_not_a_board_without_tasks(machine: Machine) -> None:
    with with_board(machine) as lent:
        lent.down = True
        said = snapshot(machine)
        lent.down = False
        lent.page, lent.shrinks, lent.tasks = 2, True, [task(f"t{n}") for n in range(5)]
        assert "changed while it was read" in taken(machine)["parts"]["tasks"]["why"]
    assert said.document["parts"]["tasks"] == {"is": "not known", "why": "Mission Control: HTTP 503, down; run again later"}
    assert said.code == 1
    assert taken(machine)["parts"]["tasks"]["why"].startswith("Mission Control: ")


# secrets


def test_no_secret_is_stored_or_shown_but_in_the_copied_config(machine: Machine) -> None:
    argv = [
        sys.executable,
        "-c",
        "print('up', flush=True); input()",
        "openclaw",
        "--token",
        SECRET,
        f"--api-key={SECRET}",
        f"https://x:{SECRET}@h/{SECRET}",
    ]
    with with_board(machine), subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as foreign:
        assert foreign.stdout is not None
        assert foreign.stdout.readline() == "up\n"
        said = snapshot(machine)
        foreign.communicate("\n")
    found = [each for each in said.document["parts"]["processes"]["content"] if each["pid"] == foreign.pid]
    assert found[0]["argv"][-4:] == ["--token", MASK, f"--api-key={MASK}", f"https://h/{MASK}"]
    for path in machine.state.path("snapshots").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0
        if path.is_file() and path.name != "openclaw.json":
            content = path.read_bytes()
            assert all(secret.encode() not in content for secret in (SECRET, TOKEN, CONFIG_SECRET)), path
    assert all(secret not in said.out + said.err for secret in (SECRET, TOKEN, CONFIG_SECRET))


# whole or not there


def load(machine: Machine) -> ops_settings.Settings:
    return ops_settings.load(str(machine.settings))


def small(machine: Machine) -> StateDir:
    """Leave one store and no run, so that a loop over every call is short."""
    for name in ("subagents/runs.json", "cron/jobs.json", "openclaw.json"):
        (machine.claw / name).unlink()
    machine.configure("snapshots: {keep: 2}\n")
    return StateDir(machine.folder / "small")


def survive(machine: Machine, kind: Kind) -> None:
    state = small(machine)
    loaded = load(machine)
    time.sleep(0.03)
    first = snapshots.take(state, loaded, why="first").snapshot.id
    hit: set[str] = set()

    def fn() -> int:
        try:
            snapshots.take(state, loaded, why="again")
        except TryLater:
            return 75
        return 0

    for outcome in every_fault(kind, fn, also=TREES):
        there = snapshots.ids(state)
        assert there, outcome
        assert all(snapshots.is_good(state, each) for each in there), outcome
        assert len(there) <= 3  # two, and one that could not be removed
        if kind in KILLS:
            assert outcome.signal == (signal.SIGKILL if outcome.reached else None), outcome.stderr
        else:
            assert outcome.status in ((75, 0) if outcome.reached else (0,)), outcome.stderr
        hit.add(str(outcome.at).partition("(")[0])
    assert {"write", "fsync", "replace", "rename", "mkdir"} <= hit
    assert first not in snapshots.ids(state)
    assert len(snapshots.ids(state)) == 2
    assert {path.name for path in state.path("snapshots").iterdir()} == set(snapshots.ids(state))


def test_a_kill_anywhere_leaves_whole_snapshots_alone(machine: Machine) -> None:
    survive(machine, "kill-half")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in (*KILLS, *ERRORS) if kind != "kill-half"])
def test_any_fault_anywhere_leaves_whole_snapshots_alone(machine: Machine, kind: Kind) -> None:
    survive(machine, kind)


def test_two_at_once_is_try_later(machine: Machine) -> None:
    for name in ("snapshot", "snapshots"):
        with machine.state.lock(name):
            for args in ((), ("--dry-run",)):
                said = snapshot(machine, *args)
                assert (said.code, said.document["error"]["kind"]) == (75, "try_later")
    assert snapshots.ids(machine.state) == []


def test_a_dry_run_changes_nothing_and_says_what_would_be_taken_and_removed(machine: Machine) -> None:
    machine.configure("snapshots: {keep: 1}\n")
    before_id = taken(machine)["id"]
    before = machine.tree()
    said = snapshot(machine, "--dry-run")
    assert said.code == 0
    assert machine.tree() == before
    document = said.document
    assert document["dry_run"] is True
    assert document["removed"] == [before_id]
    real = taken(machine)
    assert real["removed"] == [before_id]
    assert document["files"].keys() == {name for name in real["files"] if not name.startswith("openclaw/index/")}
    assert document["parts"]["runs"]["content"][RUN]["owned"] == real["parts"]["runs"]["content"][RUN]["owned"]


def test_sigterm_ends_it_with_a_document_and_leaves_nothing(machine: Machine) -> None:
    machine.program("systemctl", "#!/bin/sh\nexec sleep 30\n")
    argv = [
        sys.executable,
        "-m",
        "mmtools.commands.snapshot",
        "--state",
        str(machine.state.root),
        "--config",
        str(machine.settings),
        "--json",
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        while not machine.state.is_locked("snapshots"):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["error"]["kind"] == "interrupted"
    assert list(machine.state.path("snapshots").glob("*")) == []


# verifying


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, str]]:
    """A machine with one good snapshot; who damages it puts it right again."""
    with pytest.MonkeyPatch.context() as patch, machine_with(died_once(tmp_path_factory), tmp_path_factory.mktemp("one"), patch) as lent:
        yield lent, taken(lent)["id"]


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_verify_finds_every_flipped_byte(one: tuple[Machine, str], data: st.DataObject) -> None:
    machine, snapshot_id = one
    files = sorted(path for path in machine.state.path(f"snapshots/{snapshot_id}").rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = data.draw(st.integers(1, 255))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ flipped]) + whole[at + 1 :])
    try:
        problems = snapshots.verify(machine.state, snapshot_id)
        assert problems
        assert path.exists()  # nothing is moved aside by looking
    finally:
        path.write_bytes(whole)
    assert snapshots.verify(machine.state, snapshot_id) == []


def test_a_space_in_the_manifest_that_is_a_tab_is_found(one: tuple[Machine, str]) -> None:
    machine, snapshot_id = one
    path = machine.state.path(f"snapshots/{snapshot_id}/manifest.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'\n  "', b'\n \t"', 1))
    said = verify(machine)
    path.write_bytes(whole)
    assert said.code == 1
    assert "written otherwise" in said.document["snapshots"][snapshot_id]["problems"][0]


def test_missing_extra_cut_and_linked_files_are_named(machine: Machine) -> None:
    document = taken(machine)
    folder = machine.state.path(f"snapshots/{document['id']}")
    (folder / "files/ops.yaml").unlink()
    (folder / "files/more").write_text("x")
    (folder / "files/openclaw/linked").symlink_to(machine.claw)
    config = folder / "files/openclaw/openclaw.json"
    config.unlink()
    config.symlink_to(machine.claw / "openclaw.json")
    jobs = folder / "files/openclaw/cron/jobs.json"
    jobs.write_text(jobs.read_text()[:-1])
    said = verify(machine, document["id"])
    assert said.code == 1
    problems = said.document["snapshots"][document["id"]]["problems"]
    assert [problem.split()[0] for problem in problems] == [
        "files/more", "files/openclaw/linked", "files/openclaw/cron/jobs.json", "files/openclaw/openclaw.json", "files/ops.yaml",
    ]  # fmt: skip


def test_verify_without_snapshots_is_good_and_of_an_unknown_one_is_refused(machine: Machine) -> None:
    assert (verify(machine).code, verify(machine).document["snapshots"]) == (0, {})
    assert verify(machine, "20260101T000000.000000Z").code == 77
    assert verify(machine, "../runs").code == 77


# keeping


def test_ids_sort_by_time_and_no_two_are_alike(machine: Machine) -> None:
    made = [snapshots._new_id(machine.state) for _ in range(2)]
    assert made == sorted(set(made))
    ids = [taken(machine)["id"] for _ in range(5)]
    assert ids == sorted(set(ids)) == snapshots.ids(machine.state)
    said = call("snapshot", "--list", "--state", machine.state.root, "--json")
    assert [each["id"] for each in said.document["snapshots"]] == ids


def test_the_newest_are_kept(machine: Machine) -> None:
    ids = [taken(machine, "--keep", "3")["id"] for _ in range(5)]
    assert snapshots.ids(machine.state) == ids[2:]
    assert snapshots.prune(machine.state, 1, dry_run=True) == ids[2:4]
    assert snapshots.prune(machine.state, 1) == ids[2:4]
    assert snapshots.ids(machine.state) == ids[4:]


def damage(machine: Machine, snapshot_id: str) -> None:
    path = machine.state.path(f"snapshots/{snapshot_id}/files/ops.yaml")
    path.write_bytes(path.read_bytes() + b"#")


def test_a_good_one_of_the_last_day_stays_when_the_newest_are_damaged(machine: Machine) -> None:
    ids = [taken(machine)["id"] for _ in range(4)]
    damage(machine, ids[2])
    damage(machine, ids[3])
    assert snapshots.prune(machine.state, 1) == [ids[0], ids[2]]
    assert snapshots.ids(machine.state) == [ids[1], ids[3]]
    later = Moment.now()
    tomorrow = Moment(wall_ms=later.wall_ms + 90_000_000, boot_id=later.boot_id, boot_s=later.boot_s + 90_000)
    assert snapshots.prune(machine.state, 1, tomorrow) == [ids[1]]


def test_snapshots_from_the_future_push_out_no_new_one(machine: Machine) -> None:
    ids = [taken(machine)["id"] for _ in range(2)]
    os.rename(machine.state.path(f"snapshots/{ids[1]}"), machine.state.path("snapshots/20990101T000000.000000Z"))
    new = taken(machine, "--keep", "2")
    assert new["removed"] == ["20990101T000000.000000Z"]
    assert snapshots.ids(machine.state) == [ids[0], new["id"]]


def test_what_a_kill_left_is_removed_by_the_next(machine: Machine) -> None:
    for name in ("20260101T000000.000000Z.new", "20260101T000000.000000Z.removed"):
        machine.state.path(f"snapshots/{name}/files").mkdir(parents=True)
    new = taken(machine)["id"]
    assert [path.name for path in machine.state.path("snapshots").iterdir()] == [new]


def test_a_state_folder_of_another_version_is_refused_and_left(machine: Machine) -> None:
    new = taken(machine)["id"]
    state = StateDir(machine.state.root)
    body = state.verify(f"snapshots/{new}/manifest.json", schema="mmtools.snapshot/1")
    state.write(f"snapshots/{new}/manifest.json", body, schema="mmtools.snapshot/2")
    said = verify(machine)
    assert said.code == 1
    assert "mmtools.snapshot/2" in said.document["snapshots"][new]["problems"][0]
