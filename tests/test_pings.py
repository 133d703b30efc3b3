"""A job says that it began and how it ended; whatever the service does, the job is not broken by it and hardly delayed."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import fake_chats
import pytest
from fake_chats import Answer, Chat
from faults import every_fault
from loopback import unused_port

from mmtools.ops import pings, settings
from mmtools.ops.pings import Did, Event, Pinged
from mmtools.ops.settings import Secret, Settings
from mmtools.state import StateDir

HEARD = Answer(body=b"OK")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pings, "PAUSE_S", 0.01)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


@pytest.fixture
def at(tmp_path: Path) -> Callable[[int], Settings]:
    """Settings whose job `prune` pings the port."""

    def make(port: int) -> Settings:
        file = tmp_path / "ping.url"
        file.write_text(f"http://127.0.0.1:{port}/s3cret-uuid/\n")
        file.chmod(0o600)
        return Settings(pings=(settings.Ping(job="recover", url=Secret(file=str(file))),))

    return make


At = Callable[[int], Settings]


@pytest.fixture
def clock() -> Callable[[float], Callable[[], int]]:
    return lambda seconds: lambda: 1_795_700_000_000 + int(seconds * 1000)


def paths(fake: Chat) -> list[str]:
    return [each.path for each in fake.received]


def test_each_event_has_its_path_and_one_rid_ties_a_run_together(at: At, state: StateDir) -> None:
    with Chat(HEARD) as fake:
        run = pings.begin(state, at(fake.port), "recover")
        assert run.end("fail", "prune failed: the disk is full") == Pinged(did=Did.HEARD)
        pings.ping(at(fake.port), "recover", "success")
        pings.ping(at(fake.port), "recover", "log")
    assert paths(fake) == [f"/s3cret-uuid/start?rid={run.rid}", f"/s3cret-uuid/fail?rid={run.rid}", "/s3cret-uuid", "/s3cret-uuid/log"]
    assert fake.received[1].body == b"prune failed: the disk is full"
    assert run.started == Pinged(did=Did.HEARD)


def test_a_job_without_a_ping_asks_nobody(state: StateDir) -> None:
    run = pings.begin(state, Settings(), "recover")
    assert run.end("success").did is Did.NONE
    assert not state.root.exists()


@pytest.mark.parametrize(
    ("answers", "did", "tries"),
    [
        ([fake_chats.BROKEN, HEARD], Did.HEARD, 2),
        ([fake_chats.HANGS_UP, HEARD], Did.HEARD, 2),
        ([fake_chats.BROKEN], Did.FAILED, 2),
        ([Answer(status=404, body=b"not found")], Did.UNKNOWN, 1),
        ([Answer(body=b"OK (not found)")], Did.UNKNOWN, 1),
        ([Answer(body=b"OK (rate limited)")], Did.DROPPED, 1),
        ([Answer(status=429)], Did.DROPPED, 1),
        ([Answer(status=302, headers={"Location": "/elsewhere"})], Did.UNKNOWN, 1),
    ],
)
def test_what_fails_is_tried_once_more(at: At, state: StateDir, answers: list[Answer], did: Did, tries: int) -> None:
    with Chat(*answers) as fake:
        pinged = pings.ping(at(fake.port), "recover", "success", state=state)
    assert (pinged.did, len(fake.received)) == (did, tries)
    assert "s3cret" not in pinged.why


def test_where_nobody_listens_a_ping_fails_and_no_more(at: At) -> None:
    assert pings.ping(at(unused_port()), "recover", "fail") == Pinged(did=Did.FAILED, why="nobody listens there")


def test_an_address_that_cannot_be_read_is_said_and_breaks_nothing(at: At, tmp_path: Path) -> None:
    there = at(1)
    (tmp_path / "ping.url").chmod(0o640)
    pinged = pings.ping(there, "recover", "success")
    assert pinged.did is Did.UNKNOWN
    assert "others can read" in pinged.why


def test_a_service_that_hangs_delays_a_job_by_its_limit_and_not_at_its_start(at: At, state: StateDir) -> None:
    with Chat(fake_chats.NEVER) as fake:
        began = time.monotonic()
        run = pings.begin(state, at(fake.port), "recover", limit_s=1.0)
        assert run.started is None
        assert run.end("success").did is Did.FAILED
        assert time.monotonic() - began < fake_chats.LONGEST_S / 2
    assert paths(fake)[0].partition("?")[0].endswith("/start")


def test_the_end_is_not_heard_before_the_start(at: At, state: StateDir) -> None:
    with Chat(Answer(after_s=0.4), HEARD) as fake:
        run = pings.begin(state, at(fake.port), "recover")
        run.end("success")
        assert run.started == Pinged(did=Did.HEARD)
    assert len(fake.received) == 2


def test_no_check_gets_more_than_five_a_minute_and_ends_come_before_starts(
    at: At, state: StateDir, clock: Callable[[float], Callable[[], int]]
) -> None:
    with Chat(HEARD) as fake:
        there = at(fake.port)

        def send(event: Event, seconds: float) -> Did:
            return pings.ping(there, "recover", event, state=state, clock=clock(seconds)).did

        assert [send("start", n) for n in range(5)] == [Did.HEARD] * 3 + [Did.DROPPED] * 2
        assert [send("fail", 10 + n) for n in range(3)] == [Did.HEARD] * 2 + [Did.DROPPED]
        assert send("success", 59) is Did.DROPPED
        assert send("success", 60) is Did.HEARD  # the first of them is a minute old
    assert len(fake.received) == 6
    assert b"s3cret" not in state.path(pings.STATE).read_bytes()


def test_a_second_try_counts_too(at: At, state: StateDir, clock: Callable[[float], Callable[[], int]]) -> None:
    with Chat(fake_chats.BROKEN) as fake:
        for _ in range(5):
            pings.ping(at(fake.port), "recover", "fail", state=state, clock=clock(0))
    assert len(fake.received) == pings.MOST_A_MINUTE


def test_a_broken_count_or_a_held_lock_or_a_full_disk_stops_no_ping(at: At, state: StateDir) -> None:
    with Chat(HEARD) as fake:
        there = at(fake.port)
        pings.ping(there, "recover", "success", state=state)
        state.path(pings.STATE).write_text("{")
        assert pings.ping(there, "recover", "success", state=state).did is Did.HEARD
        with state.lock(pings.STATE):
            assert pings.ping(there, "recover", "success", state=state).did is Did.HEARD

        def run() -> int:
            return 0 if pings.ping(there, "recover", "success", state=state, clock=lambda: 0).did is not Did.FAILED else 1

        for outcome in every_fault("enospc", run):
            assert outcome.status == 0, outcome.stderr


def test_two_at_once_are_both_counted(at: At, state: StateDir) -> None:
    with Chat(HEARD) as fake:
        there = at(fake.port)
        threads = [threading.Thread(target=pings.ping, args=(there, "recover", "success"), kwargs={"state": state}) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(fake.received) == pings.MOST_A_MINUTE
