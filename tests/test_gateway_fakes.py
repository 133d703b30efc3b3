"""The fake OpenClaw does what the real releases were seen to do, harm included: what is tested against it is worth no more than it.

Each test names a line of what was run or read of the real program: the probes, the lock with its limits, memory written over an
outside change, a broken store read as an empty one.
"""

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE_S
from gateways import FakeGateway, make_installation, put_openclaw_first, read_store, write_store
from loopback import unused_port

CHAT = "agent:main:slack:channel:c0abcd1234"
RUN = "agent:main:cron:8a6aaef5-0c1d-4b0e-9d51-2f7f0f3d6a11:run:51b4f3fb-9a4f-4f53-8e0a-6b1f6f0d2c77"
ENTRIES = {
    "agent:main:main": {"sessionId": "m-1", "updatedAt": 1770573855796},
    CHAT: {"sessionId": "c-1", "updatedAt": 1770573855797, "origin": {"provider": "slack"}},
    RUN: {"sessionId": "r-1", "updatedAt": 1770573855798},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_installation(tmp_path / "openclaw", {"main": ENTRIES}, jobs=[{"id": f"job-{n}"} for n in range(73)])


def store_of(root: Path) -> Path:
    return root / "agents" / "main" / "sessions" / "sessions.json"


def get(url: str, limit_s: float = PATIENCE_S) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=limit_s) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers["Content-Type"], e.read().decode()


def openclaw(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["openclaw", *args], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def rpc(method: str, **params: object) -> Any:
    said = openclaw("gateway", "call", method, "--params", json.dumps(params), "--json")
    assert said.returncode == 0, said
    return json.loads(said.stdout)


def eventually(reached: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# probes


@pytest.mark.parametrize(
    ("release", "json_paths"),
    [
        ("2.9", set()),
        ("7.1", {"/health", "/healthz", "/ready", "/readyz"}),
        ("9.6", {"/health", "/healthz", "/ready", "/readyz", "/startupz"}),
    ],
)
def test_probes_of_each_release(root: Path, release: str, json_paths: set[str]) -> None:
    with FakeGateway(root, release) as gateway:
        for path in ("/health", "/healthz", "/ready", "/readyz", "/startupz", "/no/such/path"):
            status, kind, body = get(gateway.url + path)
            assert status == 200
            assert kind.startswith("application/json" if path in json_paths else "text/html"), path
            assert body.startswith("{" if path in json_paths else "<!doctype html>")


def test_not_ready_is_503_until_its_time_has_come_and_alive_all_along(root: Path) -> None:
    with FakeGateway(root, "9.6", unready_s=60) as gateway:
        assert get(gateway.url + "/readyz")[0] == get(gateway.url + "/startupz")[0] == 503
        assert json.loads(get(gateway.url + "/startupz")[2])["status"] == "starting"
        assert get(gateway.url + "/healthz")[0] == 200
        gateway.tell(unready_s=0)
        eventually(lambda: get(gateway.url + "/readyz")[0] == 200)


def test_a_page_only_gateway_has_no_probe_left(root: Path) -> None:
    with FakeGateway(root, "9.6", html=True) as gateway:
        assert get(gateway.url + "/healthz")[1].startswith("text/html")


def test_a_hung_gateway_takes_the_connection_and_sends_nothing(root: Path) -> None:
    with FakeGateway(root, "7.1", hang=True) as gateway:
        with pytest.raises(TimeoutError):
            get(gateway.url + "/healthz", limit_s=0.2)
        gateway.tell(hang=False)
        eventually(lambda: _answers(gateway.url))


def _uptime_ms(url: str) -> int:
    with contextlib.suppress(OSError):
        return int(json.loads(get(url + "/readyz", limit_s=1)[2])["uptimeMs"])
    return -1


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return get(url + "/healthz", limit_s=1)[0] == 200
    return False


def test_a_restart_in_the_same_process_keeps_pid_and_port_and_starts_the_uptime_again(root: Path) -> None:
    with FakeGateway(root, "7.1") as gateway:
        before = gateway.pid
        eventually(lambda: json.loads(get(gateway.url + "/readyz")[2])["uptimeMs"] > 300)
        gateway.tell(restart=1)
        eventually(lambda: 0 <= _uptime_ms(gateway.url) < 300)
        assert gateway.pid == before


def test_slow_stop_drains_before_the_port_is_closed(root: Path) -> None:
    with FakeGateway(root, "9.6", stop_s=30) as gateway:
        os.kill(gateway.pid, 15)
        eventually(lambda: json.loads(get(gateway.url + "/startupz")[2])["status"] == "draining")


def test_a_slow_start_listens_late_and_a_flapping_gateway_dies_with_1(root: Path) -> None:
    with FakeGateway(root, "7.1", port=unused_port(), wait=False, start_s=0.3, dies_s=0.5) as gateway:
        with pytest.raises(OSError, match="refused"):
            get(gateway.url)
        gateway.wait_for_port()
        assert gateway.wait() == 1


def test_the_process_carries_the_name_of_a_real_one(root: Path) -> None:
    with FakeGateway(root) as gateway:
        assert Path(f"/proc/{gateway.pid}/comm").read_text() == "openclaw-gatewa\n"


# the command


def test_the_gateway_names_the_store_it_uses(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for release, name in (("2.9", "sessions.json"), ("7.1", "sessions.json"), ("7.34", "sessions.json"), ("9.6", "openclaw-agent.sqlite")):
        with FakeGateway(root, release) as gateway:
            put_openclaw_first(monkeypatch, tmp_path, release, port=gateway.port)
            health = rpc("health")
            assert Path(health["agents"][0]["sessions"]["path"]).name == name
            assert health["agents"][0]["sessions"]["count"] == 3


@pytest.mark.parametrize(("release", "on_stdout"), [("2.9", False), ("7.1", True), ("9.6", True)])
def test_failures_are_plain_words_or_json_by_release(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, on_stdout: bool
) -> None:
    def kind(said: "subprocess.CompletedProcess[str]") -> str:
        assert said.returncode == 1
        if not on_stdout:
            assert said.stdout == ""
            assert said.stderr.startswith("Gateway call failed: Error: ")
            return ""
        error = json.loads(said.stdout)["error"]
        return str(error.get("kind") or error["code"])

    with FakeGateway(root, release) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, release, port=gateway.port)
        assert kind(openclaw("gateway", "call", "sessions.spawn")) == ("INVALID_REQUEST" if on_stdout else "")
        gateway.freeze()
        assert kind(openclaw("gateway", "call", "health", "--timeout", "200")) == ("timeout" if on_stdout else "")
        gateway.thaw()
        gateway.stop()
        assert kind(openclaw("gateway", "call", "health")) == ("closed" if on_stdout else "")


@pytest.mark.parametrize(("release", "pages"), [("2.9", [73]), ("7.1", [50, 23])])
def test_jobs_come_at_once_or_in_pages(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, pages: list[int]) -> None:
    with FakeGateway(root, release) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, release, port=gateway.port)
        seen, offset = [], 0
        while True:
            reply = rpc("cron.list", **({"offset": offset} if offset else {}))
            seen.append(len(reply["jobs"]))
            if not reply.get("hasMore"):
                break
            offset = reply["nextOffset"]
    assert seen == pages


def test_deleting_a_session_takes_the_transcript_and_says_so_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(root, "7.1") as gateway:
        put_openclaw_first(monkeypatch, tmp_path, "7.1", port=gateway.port)
        gone = rpc("sessions.delete", key=RUN)
        assert gone["deleted"] is True
        assert [Path(path).name.partition(".deleted.")[0] for path in gone["archived"]] == ["r-1.jsonl"]
        assert rpc("sessions.delete", key=RUN) == {"ok": True, "key": RUN, "deleted": False, "archived": []}
        assert openclaw("gateway", "call", "sessions.delete", "--params", '{"key": "agent:main:main"}').returncode == 1
    assert set(read_store(store_of(root))) == {"agent:main:main", CHAT}
    assert not (store_of(root).parent / "r-1.jsonl").exists()


def test_cleanup_of_a_broken_store_empties_it_and_deletes_what_nobody_names(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_openclaw_first(monkeypatch, tmp_path, "7.1", port=unused_port())
    store = store_of(root)
    store.write_bytes(store.read_bytes()[:-40])
    said = openclaw("sessions", "cleanup", "--store", str(store), "--enforce", "--json")
    assert json.loads(said.stdout)["beforeCount"] == 0
    assert read_store(store) == {}
    assert not list(store.parent.glob("*.jsonl"))


def test_a_real_cleanup_through_the_gateway_takes_chats_as_well(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chats = {f"agent:main:slack:channel:c{n}": {"sessionId": f"s-{n}", "updatedAt": n} for n in range(503)}
    write_store(store_of(root), chats)
    with FakeGateway(root, "7.1") as gateway:
        put_openclaw_first(monkeypatch, tmp_path, "7.1", port=gateway.port)
        assert json.loads(openclaw("sessions", "cleanup", "--enforce", "--json").stdout)["capped"] == 3
    assert set(chats) - set(read_store(store_of(root))) == {f"agent:main:slack:channel:c{n}" for n in range(3)}


# who may write


@pytest.fixture
def held(root: Path) -> Iterator[Path]:
    """The lock of the store, held by a living process (this one) since just now."""
    lock = store_of(root).with_name("sessions.json.lock")
    lock.write_text(json.dumps({"pid": os.getpid(), "createdAt": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())}))
    yield lock
    lock.unlink(missing_ok=True)


def test_the_lock_is_honoured_for_a_while_and_then_the_update_is_given_up(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: Path
) -> None:
    with FakeGateway(root, "4.29", lock_wait_s=0.3) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, "4.29", port=gateway.port)
        said = openclaw("gateway", "call", "sessions.patch", "--params", json.dumps({"key": CHAT, "label": "x"}))
        assert "timeout acquiring session store lock" in said.stderr
        assert "label" not in read_store(store_of(root))[CHAT]
        held.unlink()
        assert rpc("sessions.patch", key=CHAT, label="x")["ok"] is True
        assert read_store(store_of(root))[CHAT]["label"] == "x"


@pytest.mark.parametrize("release", ["2.9", "2.22", "4.29"])
def test_a_lock_of_a_living_owner_is_taken_over_when_it_is_old(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: Path, release: str
) -> None:
    content = {"pid": os.getpid(), "startedAt": 1_770_840_000_000, "createdAt": "2026-02-23T10:00:00.000Z"}
    held.write_text(json.dumps(content))
    os.utime(held, (time.time() - 31, time.time() - 31))
    with FakeGateway(root, release) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, release, port=gateway.port)
        assert rpc("sessions.patch", key=CHAT, label="x")["ok"] is True
    assert not held.exists()


def test_between_writes_a_queue_gateway_sees_an_outside_change(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(root, "7.1") as gateway:
        put_openclaw_first(monkeypatch, tmp_path, "7.1", port=gateway.port)
        write_store(store_of(root), {CHAT: ENTRIES[CHAT]})
        rpc("sessions.patch", key=CHAT, label="x")
        assert set(read_store(store_of(root))) == {CHAT}
        assert [update["op"] for update in gateway.updates()] == ["reload", "put"]


def test_an_outside_change_during_a_write_of_a_queue_gateway_is_lost(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: Path
) -> None:
    store = store_of(root)
    with FakeGateway(root, "7.1", pause_s=0.5) as gateway:
        put_openclaw_first(monkeypatch, tmp_path, "7.1", port=gateway.port)
        params = json.dumps({"key": CHAT, "label": "x"})
        patch = subprocess.Popen(["openclaw", "gateway", "call", "sessions.patch", "--params", params], stdout=subprocess.DEVNULL)
        eventually(lambda: list(store.parent.glob("sessions.json.*.tmp")))
        write_store(store, {CHAT: ENTRIES[CHAT]})
        assert patch.wait(PATIENCE_S) == 0
    assert set(read_store(store)) == set(ENTRIES)
    assert held.exists()


def test_a_database_gateway_leaves_the_old_file_alone(root: Path) -> None:
    before = store_of(root).read_bytes()
    with FakeGateway(root, "9.6", rate=50) as gateway:
        gateway.wait_for_updates(10)
    assert store_of(root).read_bytes() == before


@pytest.mark.parametrize("release", ["2.22", "7.1"])
def test_every_update_of_an_undisturbed_gateway_is_in_the_store(root: Path, release: str) -> None:
    with FakeGateway(root, release, rate=300) as gateway:
        gateway.wait_for_updates(40)
        assert gateway.stop() == 0
        gateway.start()
        gateway.wait_for_updates(40)
        assert gateway.stop() == 0
        last = {update["key"]: update["entry"] for update in gateway.updates() if update["op"] == "put"}
    assert read_store(store_of(root)) == {**ENTRIES, **last}
    assert len(last) > 20
