"""When a run tells people that it does not do its work: what counts as such, that it is told once, and that telling harms nothing."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commandline import PATIENCE_S
from hail import book, market_directory, quote_run, wait_for, write_config
from loopback import Gone, Peer, WebSocketServer, unused_port
from small_runs import PARAMS, RUN_ID, LiveFeed, Runner, Script, game, runner_of_the_game, stop

from mmtools import outbox
from mmtools.config import Alarms, RunConfig
from mmtools.errors import Refused
from mmtools.runs import feeds, reading, session, telling
from mmtools.runs.alarms import Alarm, Change, Kind, Lookout, Seen
from mmtools.runs.engine import Engine, Status
from mmtools.runs.notify import Notifier
from mmtools.state import StateDir
from mmtools.trading.events import Rejection
from mmtools.trading.params import Params
from mmtools.venues import stream

WELL = Seen(at_ms=0, resting=True, reasons={}, accepted=0, sent=0, refused={}, connected=True)
BARE = replace(WELL, resting=False, reasons={"book_empty": 2})


def looks(lookout: Lookout, *seen: tuple[float, Seen]) -> list[tuple[float, Change]]:
    """Look at each of the given times, in seconds; return what changed and when."""
    return [(at_s, change) for at_s, one in seen for change in lookout.look(replace(one, at_ms=round(at_s * 1000)))]


def told(changes: list[tuple[float, Change]]) -> list[tuple[float, Kind, int, bool]]:
    return [(at_s, change.alarm.kind, change.alarm.since_ms, change.over) for at_s, change in changes]


# --- starved


def test_a_run_without_a_resting_order_for_ten_minutes_is_starved_since_the_first_of_them() -> None:
    changes = looks(Lookout(Alarms()), (0, WELL), (7, BARE), (606.9, BARE), (607, BARE), (900, BARE))
    assert told(changes) == [(607, Kind.STARVED, 7000, False)]


def test_an_order_that_rests_or_came_and_went_between_two_looks_ends_it_and_it_can_begin_anew() -> None:
    for quoted in (WELL, replace(BARE, accepted=3)):
        after = replace(BARE, accepted=quoted.accepted)
        changes = looks(Lookout(Alarms()), (0, BARE), (600, BARE), (630, quoted), (640, after), (1239, after), (1240, after))
        assert told(changes) == [(600, Kind.STARVED, 0, False), (630, Kind.STARVED, 0, True), (1240, Kind.STARVED, 640_000, False)]


def test_the_cause_of_starving_is_the_reason_given_most_often_since_it_began() -> None:
    short = replace(BARE, reasons={"short_of_money": 1, "net_cap": 1})
    lookout = Lookout(Alarms(starved_after_min=1))
    changes = looks(lookout, (0, BARE), (1, WELL), (2, short), (30, replace(BARE, reasons={"net_cap": 1})), (62, short))
    assert [change.alarm.cause for _, change in changes] == ["net_cap"]
    looks(lookout, *((at_s, BARE) for at_s in (63, 64, 65)))
    assert lookout.standing[Kind.STARVED] == Alarm(kind=Kind.STARVED, since_ms=2000, cause="book_empty"), "known by when it began"


def test_sides_that_give_no_reason_starve_as_well() -> None:
    (change,) = Lookout(Alarms(starved_after_min=1)).look(BARE) + looks_last(replace(BARE, reasons={}))
    assert change.alarm.cause == "no side says why"


def looks_last(seen: Seen) -> list[Change]:
    return [change for _, change in looks(Lookout(Alarms(starved_after_min=1)), (0, seen), (60, seen))]


# --- a storm of refusals


def orders(sent: int, **refused: int) -> Seen:
    return replace(WELL, sent=sent, refused=refused)


@pytest.mark.parametrize(
    ("seen", "storm"),
    [
        (orders(9, tick=9), False),  # too few to say
        (orders(10, tick=2), False),  # 20 % is not more than 20 %
        (orders(10, tick=3), True),
        (orders(100, tick=20, min_size=1), True),
        (orders(100), False),
    ],
)
def test_more_than_a_fifth_of_at_least_ten_orders_refused_is_a_storm(seen: Seen, storm: bool) -> None:
    changes = looks(Lookout(Alarms()), (0, WELL), (60, seen))
    assert told(changes) == ([(60, Kind.STORM, 0, False)] if storm else [])


def test_a_storm_counts_the_last_fifteen_minutes_and_is_over_with_them() -> None:
    calm, storm = orders(50, tick=30), orders(60, tick=33, min_size=2)
    changes = looks(Lookout(Alarms()), (0, calm), (300, calm), (600, storm), (1199, storm), (1200, storm), (1500, storm))
    assert told(changes) == [(600, Kind.STORM, 0, False), (1500, Kind.STORM, 0, True)]
    assert changes[0][1].alarm.cause == "5 of 10 orders refused, most often tick"


def test_what_a_run_had_sent_before_this_process_is_no_storm_of_it() -> None:
    assert looks(Lookout(Alarms()), (0, orders(100, tick=90)), (5, orders(101, tick=90))) == []


# --- the connection


def test_a_connection_lost_for_more_than_a_minute_is_told_and_one_that_comes_back_in_time_is_not() -> None:
    lost = replace(WELL, connected=False)
    lookout = Lookout(Alarms())
    assert looks(lookout, (0, lost), (60, lost), (61, WELL), (70, lost), (130, lost)) == []
    changes = looks(lookout, (130.001, lost), (200, lost), (201, WELL))
    assert told(changes) == [(130.001, Kind.SOCKET, 70_000, False), (201, Kind.SOCKET, 70_000, True)]


def test_a_feed_without_a_connection_has_not_lost_one() -> None:
    none = replace(WELL, connected=None)
    assert looks(Lookout(Alarms()), (0, none), (1000, none)) == []


# --- in a run


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    monkeypatch.setattr(session, "LIVE_STATE_EVERY_S", 0.0)
    with runner_of_the_game(tmp_path, monkeypatch) as lent:
        yield lent


def live(runner: Runner, script: Script, folder: Path, *, owner: Any = "nobody", alarms: Alarms | None = None, **params: Any) -> Runner:
    run = RunConfig(feed="live", markets=("hail",), owner=owner, alarms=alarms or Alarms(), params=Params(**{**PARAMS, **params}))
    return Runner(runner.state.root, run, LiveFeed(script, folder))


def every_minute(script: Script, minutes: int, bids: dict[str, float] | None = None) -> Script:
    """Let an empty (or other) book be said anew each minute."""
    for minute in range(minutes):
        script.book(minute * 60, bids or {}, {})
    return script


def alerts(state: StateDir) -> dict[str, Any]:
    return {key: (alert["level"], alert["times"]) for key, alert in outbox.alerts(state).items()}


def test_a_starving_run_is_told_once_with_its_cause_and_that_it_is_well_again(runner: Runner, tmp_path: Path) -> None:
    script = every_minute(Script(), 14).book(840).book(900)
    shown: list[Any] = []
    seen_at = {13: lambda _: shown.extend(runner.live_state()["alarms"])}
    live(runner, script, tmp_path, max_data_gap_s=100).start(seen_at)
    key = f"starved:{RUN_ID}:2026-06-07T12:00:00.000Z"
    assert alerts(runner.state) == {key: ("warning", 1), f"{key}:over": ("info", 1)}
    assert "book_empty" in outbox.alerts(runner.state)[key]["text"]
    assert shown == [{"kind": "starved", "since": "2026-06-07T12:00:00.000Z", "cause": "book_empty"}]
    assert runner.live_state()["alarms"] == []


def test_a_recording_or_a_simulated_market_raises_no_alarm(runner: Runner, tmp_path: Path) -> None:
    script = every_minute(Script(), 14)
    run = RunConfig(feed="recording", recording=str(script.write(tmp_path / "quiet.jsonl")), params=Params(**PARAMS))
    Runner(runner.state.root, run).start()
    assert alerts(runner.state) == {}
    assert runner.live_state()["alarms"] == []


def test_orders_that_the_market_outran_make_no_storm_and_others_do(runner: Runner) -> None:
    def refuse(reason: Rejection) -> Callable[[Engine], None]:
        def act(moving: Engine) -> None:
            moving.fold.orders.rejected[reason] += 5
            seen.append(telling.seen(moving))

        return act

    seen: list[Seen] = []
    runner.start(within={3: refuse(Rejection.POST_ONLY_CROSS), 4: refuse(Rejection.TICK)})
    assert [dict(one.refused) for one in seen] == [{}, {"tick": 5}]


def test_a_halt_on_the_live_feed_is_told(runner: Runner, tmp_path: Path) -> None:
    assert live(runner, game(), tmp_path, max_drawdown=0.03).start().status is Status.HALTED
    ((key, alert),) = outbox.alerts(runner.state).items()
    assert key.startswith(f"halt:{RUN_ID}:0:2026-06-07T12:")
    assert alert["level"] == "critical"
    assert "drawdown" in alert["text"]
    assert f"halt --run {RUN_ID} --clear" in alert["text"]


@pytest.mark.parametrize(("owner", "told"), [("nobody", 0), ("smoke-test", 1)])
def test_a_halt_of_a_simulation_is_told_when_somebody_looks_after_the_run(runner: Runner, owner: Any, told: int) -> None:
    halting = runner.with_params(max_drawdown=0.03)
    halting.run = msgspec.structs.replace(halting.run, owner=owner)
    halting.start()
    assert len(outbox.alerts(runner.state)) == told


def test_a_crash_on_the_live_feed_is_told_without_its_words(runner: Runner, tmp_path: Path) -> None:
    def fail(_: Engine) -> None:
        raise ZeroDivisionError("https://hooks.example/secret")

    with pytest.raises(ZeroDivisionError):
        live(runner, game(), tmp_path).start({5: fail})
    ((key, alert),) = outbox.alerts(runner.state).items()
    assert key.startswith(f"crash:{RUN_ID}:")
    assert "ZeroDivisionError" in alert["text"]
    assert "secret" not in alert["text"]


def test_a_person_who_ends_a_run_crashes_nothing(runner: Runner, tmp_path: Path) -> None:
    def interrupt(_: Engine) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live(runner, game(), tmp_path).start({5: interrupt})
    assert outbox.alerts(runner.state) == {}


def test_a_run_that_somebody_looks_after_and_that_does_not_start_is_told_once(runner: Runner, tmp_path: Path) -> None:
    live(runner, game(), tmp_path, owner="systemd").start({4: stop})
    other = live(runner, game(), tmp_path, owner="systemd", capital=13)
    for _ in range(2):
        with pytest.raises(Refused, match="another config"):
            other.start()
    ((key, alert),) = outbox.alerts(runner.state).items()
    assert key.startswith(f"start:{RUN_ID}:")
    assert (alert["times"], alert["level"]) == (2, "critical")
    assert "params.capital: 12 -> 13" in alert["text"]


def test_a_bug_that_keeps_a_run_from_starting_is_told_once_however_often_it_is_tried(runner: Runner, tmp_path: Path) -> None:
    def fail(_: Engine) -> None:
        raise ZeroDivisionError

    mine = live(runner, game(), tmp_path, owner="systemd")
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            session.execute(mine.run, mine.feed, runner.state, run_id=RUN_ID, on_engine=fail)
    ((key, alert),) = outbox.alerts(runner.state).items()
    assert key.startswith(f"start:{RUN_ID}:")
    assert "ZeroDivisionError" in alert["text"]


# --- an outbox that takes nothing


def test_a_halt_waits_for_an_outbox_that_another_holds(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is quoted any more, and nobody would tell of it later."""
    monkeypatch.setattr(telling, "OUTBOX_WAIT_S", 0.0)
    with ExitStack() as held:
        held.enter_context(runner.state.lock(outbox.ALERTS))
        threading.Timer(0.3, held.close).start()
        live(runner, game(), tmp_path, max_drawdown=0.03).start()
    assert [key.split(":")[0] for key in outbox.alerts(runner.state)] == ["halt"]


def test_a_run_goes_on_while_the_outbox_takes_nothing_counts_it_and_tells_later(runner: Runner, tmp_path: Path) -> None:
    """The folder is a file for a while, as a disk that fails for a while is."""
    in_the_way = runner.state.root / "outbox"
    runner.state.root.mkdir()
    in_the_way.write_text("")
    errors: list[int] = []

    def free(_: Engine) -> None:
        errors.append(runner.live_state()["system"]["errors"]["alert_untold"])
        in_the_way.unlink()

    outcome = live(runner, every_minute(Script(), 16), tmp_path).start({14: free})
    assert outcome.status is Status.FINISHED
    assert errors == [4]  # the looks at minutes 10 to 13
    assert [key.split(":")[0] for key in outbox.alerts(runner.state)] == ["starved"]


def test_a_run_does_not_stand_still_for_an_outbox_that_another_holds(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "OUTBOX_WAIT_S", 0.02)
    with runner.state.lock(outbox.ALERTS):
        outcome = live(runner, every_minute(Script(), 16), tmp_path).start()
    assert outcome.status is Status.FINISHED
    assert runner.live_state()["system"]["errors"]["alert_untold"] >= 5
    assert runner.live_state()["totals"]["errors"] >= 5


def test_a_broken_outbox_does_not_stop_a_run_and_the_alert_gets_through(runner: Runner, tmp_path: Path) -> None:
    (runner.state.root / "outbox").mkdir(parents=True)
    (runner.state.root / "outbox" / "alerts.json").write_text("{")
    assert live(runner, every_minute(Script(), 12), tmp_path).start().status is Status.FINISHED
    assert [key.split(":")[0] for key in outbox.alerts(runner.state)] == ["outbox", "starved"]


# --- the real command


def market_that_closes_its_book(peer: Peer) -> None:
    peer.receive()
    until = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < until:
            empty = {**book("17", "0.44", "0.47"), "asset_id": json.loads(peer.received[0])["assets_ids"][0], "bids": [], "asks": []}
            peer.send(json.dumps([empty]))
            if peer.receive(0.2) == "PING":
                peer.send("PONG")
    except Gone:
        return


@pytest.mark.slow
def test_the_command_tells_of_starving_on_the_live_feed_within_a_look(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    with market_directory() as gamma, WebSocketServer(market_that_closes_its_book) as server:
        path = write_config(tmp_path / "live.yaml", gamma, server.url, "alarms: {starved_after_min: 0.001}\n")
        with quote_run(path, state.root, "--owner", "systemd") as process:
            wait_for(lambda: any(key.startswith("starved:hail:") for key in outbox.alerts(state)), process)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    shown = json.loads((state.root / "runs/hail/live_state.json").read_text())
    assert (shown["owner"], shown["venue"], shown["pid"]) == ("systemd", "paper", process.pid)
    assert [alarm["kind"] for alarm in shown["alarms"]] == ["starved"]


def test_the_command_tells_that_a_config_keeps_a_run_from_starting(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    path = tmp_path / "live.yaml"
    path.write_text("params: {seeed: 3}\n")
    with quote_run(path, state.root, "--owner", "systemd", "--run-id", "hail") as process:
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 78
    ((key, alert),) = outbox.alerts(state).items()
    assert key.startswith("start:hail:")
    assert "params.seeed" in alert["text"]


def test_a_run_on_the_live_feed_asks_for_time_while_it_takes_up_its_journal(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "A_FEW_RECORDS", 10)
    asked: list[int] = []
    monkeypatch.setattr(Notifier, "extend", lambda self: asked.append(len(asked)))
    live(runner, game(), tmp_path).cut_off(5)
    records, notifier = len(runner.journal()), Notifier(str(tmp_path / "nobody"))
    again = live(runner, every_minute(Script(), 1), tmp_path)
    session.execute(again.run, again.feed, runner.state, run_id=RUN_ID, notifier=notifier)
    assert len(asked) == 2 * -(-records // 10), "once while it is folded, once while its trades are compared"


def test_a_connection_that_does_not_come_about_is_bounded_in_time_for_the_service_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as started: starting it again would not bring the venue back, and its alarm tells of it."""
    monkeypatch.setattr(telling, "READY_WITHIN_S", 0.3)
    address = str(tmp_path / "notify")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(address)
    manager.settimeout(0)
    with market_directory() as gamma, manager:
        path = write_config(tmp_path / "live.yaml", gamma, f"ws://127.0.0.1:{unused_port()}/ws")
        run = feeds.read_config(str(path), None, ())
        feed = feeds.open_feed(run, named_in_config=True)
        assert isinstance(feed, stream.LiveFeed)
        threading.Timer(1, feed.stop).start()
        session.execute(run, feed, StateDir(tmp_path / "state"), run_id="hail", notifier=Notifier.of({"NOTIFY_SOCKET": address}))
        words = [manager.recv(65536).decode().split("\n")[0].split("=")[0] for _ in range(3)]
    assert words == ["EXTEND_TIMEOUT_USEC", "READY", "STOPPING"]
