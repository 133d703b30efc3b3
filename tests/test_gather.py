"""Gathering: runs as the real engine leaves them, a gateway's files, units, and everything that may hang. Each costs only its own fact."""

import json
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small_runs
from small_runs import RUN_ID, Runner, Script, config, runner_of_the_game

from mmtools import outbox, restarts
from mmtools.config import RunConfig
from mmtools.moments import Moment, iso, now_ms
from mmtools.ops import gather, installation, run_facts, watch
from mmtools.ops.facts import Facts, Recent, Run, Seen
from mmtools.ops.findings import find
from mmtools.ops.gateway import Health
from mmtools.ops.quoters import Standing
from mmtools.ops.settings import OpenClaw, Service, Settings
from mmtools.ops.systemd import NotKnown
from mmtools.restarts import Owner
from mmtools.runs import session
from mmtools.runs.engine import Engine
from mmtools.state import StateDir
from mmtools.venues.venue import Feed

SYSTEMCTL = """#!{python}
import os, sys, time
time.sleep({sleep})
names = sys.argv[sys.argv.index("--") + 1:]
blocks = []
for name in names:
    if name == "gone.service":
        blocks.append("Id=%s\\nLoadState=not-found\\nActiveState=inactive\\nSubState=dead" % name)
    else:
        blocks.append("Id=%s\\nLoadState=loaded\\nActiveState=active\\nSubState=running\\nUnitFileState=disabled\\nNRestarts=2" % name)
print("\\n\\n".join(blocks))
"""


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The state folder of a gateway."""
    folder = tmp_path / "openclaw"
    (folder / "agents" / "main" / "sessions").mkdir(parents=True)
    (folder / "cron").mkdir()
    return folder


@pytest.fixture(autouse=True)
def _no_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the service manager of the machine it runs on."""
    place_systemctl(tmp_path / "bin", monkeypatch)


def place_systemctl(folder: Path, monkeypatch: pytest.MonkeyPatch, *, sleep_s: float = 0) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / "systemctl"
    program.write_text(SYSTEMCTL.format(python=sys.executable, sleep=sleep_s))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def settings(root: Path, **fields: Any) -> Settings:
    closed = fields.pop("url", "http://127.0.0.1:1")
    return Settings(openclaw=OpenClaw(root=str(root), url=closed), **fields)


def gathered(state: StateDir, root: Path, **fields: Any) -> Facts:
    return gather.gather(state, settings(root, **fields))


def the_run(facts: Facts) -> Run:
    assert isinstance(facts.runs, Seen)
    (run,) = facts.runs.value
    return run


def names(facts: Facts) -> list[str]:
    return [finding.name for finding in find(facts, Settings())]


# --- our runs, made by the real engine


@pytest.fixture
def street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    """A run on a market that is quoted for a minute and has no asks for the twelve minutes after that, until now."""
    with runner_of_the_game(tmp_path, monkeypatch) as lent:
        monkeypatch.setattr(session, "LIVE_STATE_EVERY_S", 0.0)
        monkeypatch.setattr(small_runs, "START_MS", now_ms() - 780_000)
        script = Script().book(0).book(30).book(60, asks={})
        for second in range(70, 780, 10):
            script.book(second, asks={})
        file = script.write(tmp_path / "street.jsonl")
        yield Runner(lent.state.root, config(file))


class LiveFeed:
    """A feed that calls itself live and says what a script says."""

    name = "live"
    sha256 = "the tokens"

    def __init__(self, feed: Feed) -> None:
        self.markets, self.rows = feed.markets, feed.rows


def test_what_a_live_run_has_told_itself_is_found_under_its_key_and_told_once(street: Runner, root: Path) -> None:
    live = RunConfig(feed="live", markets=("hail",), params=street.run.params)
    runner = Runner(street.state.root, live, LiveFeed(street.feed))
    facts = looking(runner, root, 73)
    (starved,) = (finding for finding in find(facts, Settings()) if finding.kind == "starved")
    assert list(outbox.alerts(runner.state)) == [f"starved:{RUN_ID}:{starved.since}"]
    assert watch.look(runner.state, [starved], set(), facts.now) == []
    (alert,) = outbox.alerts(runner.state).values()
    assert (alert["source"], alert["times"]) == ("quote-run", 1)


def looking(runner: Runner, root: Path, frame: int) -> Facts:
    """Return the facts as they are before a frame of a run."""
    found: list[Facts] = []

    def look(moving: Engine) -> None:
        found.append(gathered(runner.state, root))

    runner.start({frame: look})
    return found[0]


def test_a_run_whose_market_cannot_be_quoted_for_ten_minutes_is_starved_since_its_last_order(street: Runner, root: Path) -> None:
    facts = looking(street, root, 73)
    run = the_run(facts)
    assert (run.standing, run.clocked) == (Standing.RUNNING, True)
    last_gone_ms = max(record["at_ms"] for record in street.of_kind("gone"))
    (starved,) = (finding for finding in find(facts, Settings()) if finding.kind == "starved")
    assert starved.since == iso(last_gone_ms)
    assert "book_one_sided on 2 of 2 sides" in starved.text


def test_the_same_run_is_not_starved_while_its_orders_rest_nor_just_after(street: Runner, root: Path) -> None:
    for frame in (2, 20):
        facts = looking(street, root, frame)
        assert the_run(facts).standing is Standing.RUNNING
        assert not [name for name in names(facts) if name.startswith("starved")]
        street.forget()


def test_a_run_that_was_killed_is_crashed_with_what_it_last_showed(street: Runner, root: Path) -> None:
    street.cut_off(50)
    facts = gathered(street.state, root)
    run = the_run(facts)
    assert run.standing is Standing.CRASHED
    assert isinstance(run.live, Seen)
    assert run.live.value.markets["hail"].why_no_bid == "book_one_sided"
    assert f"crash:{RUN_ID}" in names(facts)


def test_a_storm_of_refusals_is_found_at_the_end_of_the_journal_of_a_run_that_lives(street: Runner, root: Path) -> None:
    street.cut_off(73)
    for n in range(12):
        for record in placed(n, now_ms() / 1000)[:2]:
            street.state.append(f"runs/{RUN_ID}/journal.jsonl", record)
    with street.state.lock(f"runs/{RUN_ID}"):
        facts = gathered(street.state, root)
    (storm,) = (finding for finding in find(facts, Settings()) if finding.kind == "storm")
    requests = len(street.of_kind("place"))
    assert f"8 of {requests} orders" in storm.text
    assert "most for min_size (8)" in storm.text


def test_a_run_that_ended_in_order_is_shown_for_a_day_and_then_counted(street: Runner, root: Path) -> None:
    street.start()
    assert the_run(gathered(street.state, root)).standing is Standing.FINISHED
    assert run_facts.runs(street.state, now_ms() + 86_000_000)[1] == 0
    assert run_facts.runs(street.state, now_ms() + 87_000_000) == ((), 1)


def test_a_halted_run_says_who_and_when(street: Runner, root: Path) -> None:
    street.start({20: lambda moving: street.switch.latch(reason="manual", detail="the news is out", by="anna")})
    run = the_run(gathered(street.state, root))
    assert (run.standing, run.halt) == (Standing.HALTED, "by anna: manual, the news is out")
    assert run.halted_at == street.switch.latches()[0]["since"]


def test_a_live_state_that_is_broken_is_not_known_and_says_so(street: Runner, root: Path) -> None:
    street.start()
    (street.folder / "live_state.json").write_text('{"schema": "mmtools.live_state/1", "checksum": "sha256:0"}')
    run = the_run(gathered(street.state, root))
    assert run.standing is Standing.UNKNOWN
    assert isinstance(run.live, NotKnown)
    assert "checksum" in run.live.why


# --- the end of a journal


def write_journal(state: StateDir, *records: dict[str, Any], tail: str = "") -> None:
    path = state.path("runs/game/journal.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail)


def placed(n: int, at_s: float) -> list[dict[str, Any]]:
    """Return an order that is refused, and one that rests and goes."""
    at_ms = round(at_s * 1000)
    return [
        {"kind": "place", "at_ms": at_ms, "key": f"o{n}"},
        {"kind": "rejected", "at_ms": at_ms + 50, "key": f"o{n}", "reason": "min_size" if n % 3 else "post_only_cross"},
        {"kind": "place", "at_ms": at_ms, "key": f"p{n}"},
        {"kind": "accepted", "at_ms": at_ms + 60, "key": f"p{n}", "order_id": "x"},
        {"kind": "gone", "at_ms": at_ms + 5000, "key": f"p{n}", "cause": "cancelled"},
    ]


def recent(state: StateDir) -> Recent:
    found = run_facts.recent(state, "game")
    assert isinstance(found, Recent)
    return found


def test_only_the_last_quarter_of_an_hour_counts(state: StateDir) -> None:
    old = [record for n in range(30) for record in placed(n, n)]
    new = [record for n in range(6) for record in placed(n, 2000 + n)]
    write_journal(state, *old, *new, {"kind": "mark", "at_ms": 2_600_000})
    found = recent(state)
    assert (found.requests, found.refused, found.crossed) == (12, {"min_size": 4}, 2)
    assert (found.bare_ms, found.dated, found.last_ms) == (2_010_000, True, 2_600_000)


def test_a_journal_without_an_order_for_a_quarter_of_an_hour_is_bare_since_then_or_before(state: StateDir) -> None:
    marks = [{"kind": "mark", "at_ms": 60_000 * n} for n in range(40)]
    write_journal(state, *placed(1, 1), *marks)
    found = recent(state)
    assert (found.bare_ms, found.dated) == (60_000 * 24, False)


def test_a_run_that_never_had_an_order_is_bare_since_it_began(state: StateDir) -> None:
    write_journal(state, {"kind": "run", "at_ms": 7000}, {"kind": "mark", "at_ms": 500_000})
    found = recent(state)
    assert (found.bare_ms, found.dated) == (7000, True)


def test_an_order_that_was_under_way_when_a_process_ended_has_not_rested(state: StateDir) -> None:
    write_journal(state, {"kind": "run", "at_ms": 7000}, {"kind": "gone", "at_ms": 300_000, "key": "o1", "cause": "unknown"})
    assert recent(state).bare_ms == 7000


def test_half_a_line_at_the_end_and_lines_longer_than_a_block_are_read_over(state: StateDir) -> None:
    long = {"kind": "decision", "at_ms": 9000, "signals": "x" * (3 * run_facts.BLOCK)}
    write_journal(state, *placed(1, 1), long, *placed(2, 10), tail='{"kind": "place", "at_')
    assert (recent(state).requests, recent(state).bare_ms) == (4, 15_000)


def test_a_journal_is_read_backwards_in_bounds(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_facts, "BLOCK", 100)
    write_journal(state, *(record for n in range(50) for record in placed(n, n)))
    whole = recent(state)
    assert whole.requests == 100
    monkeypatch.setattr(run_facts, "MOST_BYTES", 2000)
    assert 0 < recent(state).requests < 30
    assert recent(state).bare_ms == whole.bare_ms


@pytest.mark.parametrize("text", ["", "{half", "null\n17\n[]\n"])
def test_a_journal_that_says_nothing_is_not_known(text: str, state: StateDir) -> None:
    write_journal(state, tail=text)
    assert isinstance(run_facts.recent(state, "game"), NotKnown)


# --- the gateway's files


def write_store(root: Path, content: str, *, agent: str = "main", age_s: float = 60) -> None:
    file = root / "agents" / agent / "sessions" / "sessions.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    os.utime(file, (time.time() - age_s,) * 2)


def test_a_store_is_counted_and_a_large_one_is_only_looked_at(state: StateDir, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(root, json.dumps({f"agent:main:cron:{n}": {"sessionId": "a"} for n in range(7)}, indent=2))
    write_store(root, '{\n  "agent:work:main": ' + '"x"' * 5000 + "\n}", agent="work")
    monkeypatch.setattr("mmtools.ops.openclaw_facts.DECODED", 10_000)
    facts = gathered(state, root)
    assert isinstance(facts.stores, Seen)
    main, work = facts.stores.value
    assert (main.agent, main.entries, main.broken) == ("main", 7, "")
    assert (work.agent, work.entries, work.broken, work.size) == ("work", None, "", 15_025)


@pytest.mark.parametrize("content", ["", '{"a": {"sessionId":', "[]", '{"a": 1}garbage', "{" + " " * 9000])
def test_a_broken_store_is_found_but_not_while_it_may_be_being_written(
    content: str, state: StateDir, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmtools.ops.openclaw_facts.DECODED", 8000)
    monkeypatch.setattr("mmtools.ops.openclaw_facts.AGAIN_S", 0.01)
    write_store(root, content)
    assert "store:main" in names(gathered(state, root))
    write_store(root, content, age_s=0)
    assert "store:main" not in names(gathered(state, root))


def test_where_sessions_are_in_a_database_a_leftover_file_is_not_the_store(state: StateDir, root: Path) -> None:
    write_store(root, "", age_s=9000)
    database = root / "agents" / "main" / "agent" / "openclaw-agent.sqlite"
    database.parent.mkdir()
    database.write_bytes(b"SQLite format 3\0" * 10)
    facts = gathered(state, root)
    assert isinstance(facts.stores, Seen)
    assert [(store.size, store.entries, store.broken) for store in facts.stores.value] == [(160, None, "")]


def write_crons(root: Path, *jobs: dict[str, Any], age_s: float = 30) -> None:
    file = root / "cron" / "jobs.json"
    file.write_text(json.dumps({"version": 1, "jobs": jobs}))
    os.utime(file, (time.time() - age_s,) * 2)


def test_cron_jobs_that_are_enabled_are_seen_with_the_age_of_their_file(state: StateDir, root: Path) -> None:
    late_ms = now_ms() - 700_000
    write_crons(
        root,
        {"id": "a", "name": "queue check", "enabled": True, "state": {"nextRunAtMs": late_ms, "consecutiveErrors": 0}},
        {"id": "b", "name": "report", "state": {"consecutiveErrors": 3, "lastStatus": "error"}},
        {"id": "c", "name": "old", "enabled": False, "state": {"consecutiveErrors": 9, "nextRunAtMs": 1}},
    )
    facts = gathered(state, root)
    assert isinstance(facts.crons, Seen)
    assert [(cron.name, cron.errors, cron.next_ms) for cron in facts.crons.value] == [("queue check", 0, late_ms), ("report", 3, None)]
    assert 29 <= facts.crons.age_s(facts.now.wall_ms) < 60
    assert {"cron:report", "cron-overdue:queue check"} <= set(names(facts))


@pytest.mark.parametrize("said", [-(10**18), 10**30, True, "soon", {}])
def test_a_time_that_can_be_none_is_not_known_and_keeps_nobody_from_the_rest(said: Any, state: StateDir, root: Path) -> None:
    write_crons(root, {"id": "a", "name": "queue check", "state": {"nextRunAtMs": said, "consecutiveErrors": 2}})
    facts = gathered(state, root)
    assert isinstance(facts.crons, Seen)
    assert [cron.next_ms for cron in facts.crons.value] == [None]
    assert [name for name in names(facts) if name.startswith("cron")] == ["cron:queue check"]


@pytest.mark.parametrize("entry", [{"state": {"consecutiveErrors": 4}}, {"consecutiveErrors": 4}])
def test_newer_releases_keep_how_jobs_went_in_a_file_beside(entry: dict[str, Any], state: StateDir, root: Path) -> None:
    write_crons(root, {"id": "a", "name": "queue check"})
    (root / "cron" / "jobs-state.json").write_text(json.dumps({"version": 1, "jobs": {"a": entry}}))
    facts = gathered(state, root)
    assert isinstance(facts.crons, Seen)
    assert [cron.errors for cron in facts.crons.value] == [4]


@pytest.mark.parametrize("content", ["", "[]", '{"jobs": 7}', '{"jobs": [{"name": "no id"}]}'])
def test_cron_jobs_that_cannot_be_read_are_not_known(content: str, state: StateDir, root: Path) -> None:
    (root / "cron" / "jobs.json").write_text(content)
    assert isinstance(gathered(state, root).crons, NotKnown)


def test_cron_jobs_in_a_database_are_not_none(state: StateDir, root: Path) -> None:
    facts = gathered(state, root)
    assert isinstance(facts.crons, Seen)
    assert facts.crons.value == ()
    (root / "state").mkdir()
    (root / "state" / "openclaw.sqlite").write_bytes(b"x")
    assert isinstance(gathered(state, root).crons, NotKnown)


def test_a_gateway_whose_folder_cannot_be_looked_at_is_watched_and_one_without_a_folder_is_not(state: StateDir, root: Path) -> None:
    assert not gathered(state, root / "nowhere").openclaw
    facts = gathered(state, root / ("x" * 300))
    assert facts.openclaw
    assert "gateway:openclaw" in names(facts)


# --- units, jobs, outbox, restarts


def test_units_are_asked_of_their_manager_and_one_that_runs_but_is_not_enabled_is_found(state: StateDir, root: Path) -> None:
    facts = gathered(state, root, services=(Service(unit="model.service", manager="system"), Service(unit="gone.service")))
    assert list(facts.units) == ["user/openclaw-gateway.service", "user/gone.service", "system/model.service"]
    assert {"not-enabled:user/openclaw-gateway.service", "restarted:user/openclaw-gateway.service:2"} <= set(names(facts))


def test_whether_our_jobs_are_installed_is_seen(state: StateDir, root: Path) -> None:
    assert not gathered(state, root).installed
    state.write(installation.INSTALLED, {"known": {}}, schema=installation.INSTALLED_SCHEMA)
    assert gathered(state, root).installed


def test_what_is_on_record_is_seen(state: StateDir, root: Path) -> None:
    outbox.raise_alert(state, "k:1", "text", level=outbox.Level.INFO, source="test")
    for owner in (Owner.RECOVER, Owner.SYSTEMD):
        restarts.attempt(state, "run:game", owner=owner, why="it crashed")
    old = Moment.now()
    restarts.attempt(
        state, "unit:x", owner=Owner.SAFE_RESTART, why="memory", now=Moment(wall_ms=1, boot_id=old.boot_id, boot_s=old.boot_s - 3700)
    )
    state.write(
        "jobs/snapshot.json",
        {"last_start": iso(5000), "last_success": iso(6000), "failures": 0, "failing_since": None, "error": None},
        schema="mmtools.job/1",
    )
    facts = gathered(state, root)
    assert isinstance(facts.outbox, Seen)
    assert isinstance(facts.restarts, Seen)
    assert isinstance(facts.jobs, Seen)
    assert facts.outbox.value.unsent == 1
    assert facts.restarts.value == {"run:game": 2}
    assert (facts.jobs.value["snapshot"].last_success_ms, facts.jobs.value["snapshot"].failures) == (6000, 0)


def test_what_is_broken_costs_its_own_fact_alone(state: StateDir, root: Path) -> None:
    state.root.mkdir()
    (state.root / "outbox").mkdir()
    (state.root / "outbox" / "alerts.json").write_text("{")
    (state.root / "restarts.jsonl").write_text('broken\n{"kind": "attempt"}\n')
    facts = gathered(state, root)
    assert isinstance(facts.outbox, NotKnown)
    assert isinstance(facts.restarts, NotKnown)
    assert isinstance(facts.jobs, Seen)
    assert isinstance(facts.memory, Seen)
    assert {"unseen:outbox", "unseen:restarts"} <= set(names(facts))


def test_without_a_gateway_folder_there_is_no_openclaw_here(state: StateDir, tmp_path: Path) -> None:
    facts = gathered(state, tmp_path / "none")
    assert not facts.openclaw
    assert list(facts.disks) == ["state"]
    assert not state.root.exists()


# --- what hangs


@pytest.fixture
def hung() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hung_gateway_and_a_hung_manager_cost_their_own_facts(
    hung: str, state: StateDir, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_systemctl(tmp_path / "bin", monkeypatch, sleep_s=60)
    monkeypatch.setattr(gather, "ASK_S", 0.5)
    write_store(root, "{}")
    facts = gathered(state, root, url=hung)
    assert isinstance(facts.gateway, Seen)
    assert facts.gateway.value.health is Health.HUNG
    (unit,) = facts.units.values()
    assert isinstance(unit, NotKnown)
    assert "did not end within 0.5 s" in unit.why
    assert isinstance(facts.stores, Seen)
    assert {"gateway:openclaw", "unseen:user/openclaw-gateway.service"} <= set(names(facts))


def test_a_question_that_never_ends_is_left_behind(state: StateDir, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(os, "statvfs", lambda folder: never.wait(60))
    facts = gather.gather(state, settings(root), limit_s=0.5)
    never.set()
    assert facts.disks == {"state": NotKnown("no answer within 0.5 s"), "gateway": NotKnown("no answer within 0.5 s")}
    assert isinstance(facts.jobs, Seen)


def test_a_bug_in_a_question_is_not_taken_for_a_silence(state: StateDir, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(folder: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(os, "statvfs", bug)
    with pytest.raises(ZeroDivisionError):
        gather.gather(state, settings(root))


def test_an_interrupt_leaves_no_program_behind(state: StateDir, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "pid"
    place_systemctl(tmp_path / "bin", monkeypatch, sleep_s=60)
    program = tmp_path / "bin" / "systemctl"
    program.write_text(program.read_text().replace("time.sleep", f"open({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep", 1))
    monkeypatch.setattr(gather, "ASK_S", 1.0)

    def interrupt() -> None:
        deadline = time.monotonic() + 30
        while not (told.exists() and told.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        gather.gather(state, settings(root))
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
