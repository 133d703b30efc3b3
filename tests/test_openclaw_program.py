"""The `openclaw` command as we call it: what its answers mean in each release, and that no failure is taken for an empty answer."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from gateways import FakeGateway, make_installation, put_openclaw_first, read_store
from loopback import unused_port

from mmtools.ops.openclaw import Installation
from mmtools.ops.openclaw_program import Deleted, Kind, NoReply, NotDeleted, Program, masked

LIMIT_S = 30.0
RELEASES = ("2.9", pytest.param("7.1", marks=pytest.mark.slow), "9.6")
RUN = "agent:main:cron:8a6aaef5-0c1d-4b0e-9d51-2f7f0f3d6a11:run:51b4f3fb-9a4f-4f53-8e0a-6b1f6f0d2c77"
BASE = "agent:main:cron:8a6aaef5-0c1d-4b0e-9d51-2f7f0f3d6a11"
ENTRIES = {
    "agent:main:main": {"sessionId": "m-1", "updatedAt": 5},
    BASE: {"sessionId": "r-1", "updatedAt": 7},
    RUN: {"sessionId": "r-1", "updatedAt": 7},
    "agent:main:cron:busy:run:b-1": {"sessionId": "b-1", "updatedAt": 9, "status": "running"},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    jobs = [{"id": f"job-{n}", "name": "x"} for n in range(173)]
    return make_installation(tmp_path / "openclaw", {"main": ENTRIES}, jobs=jobs)


def program(root: Path) -> Program:
    return Program("openclaw", Installation(root).environment)


def script(tmp_path: Path, body: str) -> Program:
    """A program of a test's own: `body` is Python."""
    path = tmp_path / "odd-openclaw"
    path.write_text(f"#!/bin/sh\nexec {sys.executable} -S -c '{body}' \"$@\"\n")
    path.chmod(0o755)
    return Program(str(path))


def kind(said: object) -> Kind:
    assert isinstance(said, NoReply), said
    return said.kind


@pytest.mark.parametrize("release", RELEASES)
def test_the_release_is_read_from_either_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    put_openclaw_first(monkeypatch, tmp_path, release, port=unused_port())
    assert Program("openclaw").version(LIMIT_S) == f"2026.{release}"


@pytest.mark.parametrize("release", RELEASES)
def test_a_reply_is_found_among_notes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    with FakeGateway(root, release) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, release, port=gateway.port, notes=1)
        health = program(root).health(LIMIT_S)
        presence = program(root).call("system-presence", limit_s=LIMIT_S)
    assert isinstance(health, dict)
    assert health["agents"][0]["sessions"]["count"] == 4
    assert presence == [{"host": "fake", "mode": "gateway"}]


@pytest.mark.parametrize("release", RELEASES)
def test_every_way_to_fail_has_its_kind_in_every_release(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    with FakeGateway(root, release) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, release, port=gateway.port)
        assert kind(program(root).call("sessions.spawn", limit_s=LIMIT_S)) is Kind.REFUSED
        assert kind(program(root).call("sessions.delete", {"key": "agent:main:cron:busy:run:b-1"}, LIMIT_S)) in (Kind.UNAVAILABLE, Kind.ODD)
        gateway.freeze()
        assert kind(program(root).health(0.7)) is Kind.TIMEOUT
        gateway.thaw()
        gateway.stop()
        assert kind(program(root).health(LIMIT_S)) is Kind.CLOSED


def test_a_command_that_does_not_end_is_a_timeout_and_one_that_is_missing_is_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_openclaw_first(monkeypatch, tmp_path, "7.1", port=unused_port(), sleep_s=60)
    assert kind(Program("openclaw").version(0.3)) is Kind.TIMEOUT
    assert kind(Program("openclaw").health(0.3)) is Kind.TIMEOUT
    assert kind(Program(str(tmp_path / "missing")).health(LIMIT_S)) is Kind.NO_PROGRAM


@pytest.mark.parametrize(
    "written",
    [
        "",
        "all is well",
        '{"ok": true, "agents": [{"agentId": "main"}, {"agentId": ',
        '{\n  "ok": true,\n  "agents": [\n    {"agentId": "main"}\n  ],\n  "sess',
        "[plugins] loaded",
    ],
)
def test_an_answer_that_is_cut_off_or_none_is_odd(tmp_path: Path, written: str) -> None:
    (tmp_path / "said").write_text(written)
    assert kind(script(tmp_path, f'print(open("{tmp_path}/said").read())').call("health", limit_s=LIMIT_S)) is Kind.ODD


def test_an_answer_on_the_line_of_a_note_is_found(tmp_path: Path) -> None:
    (tmp_path / "said").write_text('note {one\nreply: {"a": {"b": 1}}\nbye')
    assert script(tmp_path, f'print(open("{tmp_path}/said").read())').call("health", limit_s=LIMIT_S) == {"a": {"b": 1}}


@pytest.mark.parametrize("release", RELEASES)
def test_lists_are_paged_to_their_end(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    sessions = root / "agents" / "main" / "sessions" / "sessions.json"
    many = {f"agent:main:slack:channel:c{n:04}": {"sessionId": f"s-{n}", "updatedAt": n + 1} for n in range(1234)}
    sessions.write_text(json.dumps(many))
    with FakeGateway(root, release) as gateway:
        calls = tmp_path / "calls"
        put_openclaw_first(monkeypatch, tmp_path, release, port=gateway.port, calls=calls)
        rows = program(root).sessions("main", LIMIT_S)
        jobs = program(root).cron_jobs(LIMIT_S)
    assert isinstance(rows, tuple)
    assert isinstance(jobs, tuple)
    assert {row["key"] for row in rows} == set(many)
    assert [job["id"] for job in jobs] == [f"job-{n}" for n in range(173)]
    asked = [json.loads(line)[2] for line in calls.read_text().splitlines()]
    assert asked == (["sessions.list", "cron.list"] if release == "2.9" else ["sessions.list"] * 3 + ["cron.list"] * 2)


@pytest.mark.parametrize(
    "reply", ['{"sessions": 5}', '{"sessions": [{"no": "key"}]}', '{"sessions": [], "hasMore": true, "nextOffset": 0}', "[]"]
)
def test_a_list_of_another_shape_is_odd_and_not_empty(tmp_path: Path, reply: str) -> None:
    (tmp_path / "said").write_text(reply)
    assert kind(script(tmp_path, f'print(open("{tmp_path}/said").read())').sessions("main", LIMIT_S)) is Kind.ODD


@pytest.mark.parametrize("release", RELEASES)
def test_a_session_is_deleted_once_and_then_is_already_gone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    with FakeGateway(root, release) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, release, port=gateway.port)
        gone = program(root).delete_session(RUN, LIMIT_S)
        assert isinstance(gone, Deleted)
        assert [Path(path).name.split(".deleted.")[0] for path in gone.archived] == ["r-1.jsonl"]
        assert program(root).delete_session(RUN, LIMIT_S) == Deleted(already=True)


def test_a_transcript_that_another_session_names_can_be_kept(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(root, "7.1") as gateway:
        put_openclaw_first(monkeypatch, tmp_path, "7.1", port=gateway.port)
        assert program(root).delete_session(RUN, LIMIT_S, keep_transcript=True) == Deleted()
    sessions = root / "agents" / "main" / "sessions"
    assert set(read_store(sessions / "sessions.json")) == set(ENTRIES) - {RUN}
    assert (sessions / "r-1.jsonl").exists()


@pytest.mark.parametrize("release", RELEASES)
def test_what_the_gateway_will_not_delete_stands(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    with FakeGateway(root, release) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, release, port=gateway.port)
        main, busy = (program(root).delete_session(key, LIMIT_S) for key in ("agent:main:main", "agent:main:cron:busy:run:b-1"))
        assert isinstance(main, NotDeleted)
        assert not main.unknown
        assert isinstance(busy, NotDeleted)


def test_a_deletion_that_timed_out_but_was_done_is_seen_in_the_list(tmp_path: Path) -> None:
    body = """
import json, sys
error = {"type": "gateway_transport_error", "kind": "timeout", "message": "gateway timeout after 5000ms"}
reply = {"sessions": [{"key": "agent:main:other"}], "hasMore": False} if sys.argv[3] == "sessions.list" else {"ok": False, "error": error}
print(json.dumps(reply))
sys.exit(0 if sys.argv[3] == "sessions.list" else 1)
""".replace("'", "")
    asked = script(tmp_path, body)
    assert asked.delete_session(RUN, LIMIT_S) == Deleted()
    still = asked.delete_session("agent:main:other", LIMIT_S)
    assert isinstance(still, NotDeleted)
    assert still.unknown


def test_a_deletion_nobody_can_tell_about_is_unknown(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(root, "7.1", hang=True) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, "7.1", port=gateway.port)
        said = program(root).delete_session(RUN, 0.6)
    assert isinstance(said, NotDeleted)
    assert said.unknown


def test_the_command_is_told_whose_gateway_is_meant(root: Path, tmp_path: Path) -> None:
    body = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith(chr(79) + chr(80))}))"
    said: Any = script(tmp_path, body)
    said = Program(said.name, Installation(root).environment).call("health", limit_s=LIMIT_S)
    assert said["OPENCLAW_STATE_DIR"] == str(root)


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("token=abc123 mismatch", "token=*** mismatch"),
        ("unauthorized: token: 'abc 1'", "unauthorized: token: '*** 1'"),
        ("Authorization: Bearer abc", "Authorization: Bearer ***"),
        ("cannot reach https://hooks.example.com/services/T0/B0/xyz now", "cannot reach https://*** now"),
        ("gateway ws://user:pw@127.0.0.1:18789?token=x closed", "gateway ws://*** closed"),
        ("key abcdefghijklmnopqrstuvwx0123 is wrong", "key *** is wrong"),
        ("bot 123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw9", "bot 123456789:***"),
        (f"session {RUN} is still active", f"session {RUN} is still active"),
        ("two\nlines", "two lines"),
    ],
)
def test_what_a_program_says_is_told_without_secrets(words: str, left: str) -> None:
    assert masked(words) == left


def test_a_secret_in_an_error_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "said").write_text("Gateway call failed: Error: unauthorized (token=hunter2-hunter2)")
    said = script(tmp_path, f'import sys; sys.exit(open("{tmp_path}/said").read())').call("health", limit_s=LIMIT_S)
    assert isinstance(said, NoReply)
    assert "hunter2" not in said.why
    assert "unauthorized" in said.why


def test_the_calls_leave_no_process_behind(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_openclaw_first(monkeypatch, tmp_path, "7.1", port=unused_port(), sleep_s=60)
    Program("openclaw", {"A_MARK_OF_THIS_TEST": str(tmp_path)}).health(0.2)
    marked = f"A_MARK_OF_THIS_TEST={tmp_path}".encode()
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and marked in _environment(pid)]


def _environment(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
