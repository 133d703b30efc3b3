"""What is found in facts: each thing that is wrong, at its boundary, and nothing where all is well or nothing is known."""

from typing import Any

import pytest
from made_facts import GATEWAY, NOW_MS, ago, bare, facts, job, market, nothing_known, probe, run, unit

from mmtools.moments import Moment, iso
from mmtools.ops.facts import Alarm, Backlog, Cron, Facts, Seen, Space, Store
from mmtools.ops.findings import Finding, blind, find
from mmtools.ops.gateway import Health
from mmtools.ops.memory import Source, Use
from mmtools.ops.quoters import Standing
from mmtools.ops.settings import Chat, Secret, Service, Settings
from mmtools.ops.systemd import NotKnown
from mmtools.outbox import Level

CHATTY = Settings(chats=(Chat(name="phone", url=Secret(file="/secret")),))


def names(seen: Facts, settings: Settings | None = None) -> list[str]:
    return [finding.name for finding in find(seen, settings or Settings())]


def only(seen: Facts, settings: Settings | None = None) -> Finding:
    (finding,) = find(seen, settings or Settings())
    return finding


def test_where_all_is_well_nothing_is_found() -> None:
    assert names(facts()) == []


# --- our runs


def test_a_run_that_rests_nowhere_for_ten_minutes_is_starved_of_its_most_frequent_reason() -> None:
    markets = {"hail": bare("data_gap", "short_of_money"), "rain": bare("short_of_money", "short_of_money")}
    found = only(facts(runs=[run(markets=markets, recent={"bare_ms": ago(601)})]))
    assert (found.kind, found.level, found.since) == ("starved", Level.WARNING, iso(ago(601)))
    assert "short_of_money on 3 of 4 sides" in found.text


@pytest.mark.parametrize(
    ("markets", "recent"),
    [
        ({"hail": bare()}, {"bare_ms": ago(599)}),
        ({"hail": bare(), "rain": market(our_ask=None)}, {"bare_ms": ago(3000)}),
        ({"hail": bare(), "rain": market(our_bid=None)}, {"bare_ms": ago(3000)}),
        ({"hail": bare(kill_switch="reduce_only")}, {"bare_ms": ago(3000)}),
    ],
    ids=["not long enough", "one bid rests", "one ask rests", "it winds down"],
)
def test_a_run_that_is_not_starved(markets: Any, recent: Any) -> None:
    assert names(facts(runs=[run(markets=markets, recent=recent)])) == []


def test_a_starved_run_whose_last_order_is_long_past_is_dated_by_whoever_saw_it_first() -> None:
    found = only(facts(runs=[run(markets={"hail": bare()}, recent={"bare_ms": ago(900), "dated": False})]))
    assert (found.kind, found.since) == ("starved", None)
    assert "or before" in found.text


def test_orders_that_are_wanted_and_never_rest_starve_a_run_too() -> None:
    found = only(facts(runs=[run(markets={"hail": bare(None, None)}, recent={"bare_ms": ago(700)})]))
    assert "no order rests" in found.text


@pytest.mark.parametrize(("requests", "refused", "storm"), [(10, 3, True), (9, 9, False), (100, 20, False), (100, 21, True), (0, 0, False)])
def test_more_than_a_fifth_of_ten_requests_refused_is_a_storm(requests: int, refused: int, storm: bool) -> None:
    reasons = {"min_size": refused - refused // 3, "tick": refused // 3}
    seen = facts(runs=[run(recent={"requests": requests, "refused": reasons})])
    assert names(seen) == (["storm:game"] if storm else [])
    if storm:
        assert f"most for min_size ({reasons['min_size']})" in only(seen).text


def test_what_a_run_says_of_itself_is_taken_in_its_words_and_not_found_twice() -> None:
    said = [
        Alarm(kind="starved", since="2026-06-07T11:40:00.000Z", cause="book_empty"),
        Alarm(kind="socket", since="2026-06-07T11:58:00.000Z"),
    ]
    found = find(facts(runs=[run(markets={"hail": bare()}, alarms=said, recent={"bare_ms": ago(1200)})]), Settings())
    assert [(each.name, each.since) for each in found] == [
        ("starved:game", "2026-06-07T11:40:00.000Z"),
        ("socket:game", "2026-06-07T11:58:00.000Z"),
    ]
    assert "book_empty" in found[0].text


def test_a_recording_that_is_replayed_is_neither_starved_nor_in_a_storm() -> None:
    replayed = run(clocked=False, markets={"hail": bare()}, recent={"bare_ms": ago(900), "requests": 50, "refused": {"tick": 50}})
    assert names(facts(runs=[replayed])) == []


@pytest.mark.parametrize(("seen_s", "found"), [(60, []), (61, ["hung:game"])])
def test_a_run_that_holds_its_lock_and_shows_nothing_new_hangs(seen_s: float, found: list[str]) -> None:
    starving = run(seen_s=seen_s, recent={"bare_ms": ago(100)})
    assert names(facts(runs=[starving])) == found


def test_a_hung_run_is_not_judged_by_what_it_showed_before() -> None:
    found = only(facts(runs=[run(seen_s=700, markets={"hail": bare()}, recent={"bare_ms": ago(1400)})]))
    assert (found.name, found.level, found.since) == ("hung:game", Level.CRITICAL, iso(ago(700)))


def test_a_crash_is_critical_where_it_traded_by_the_clock_and_a_warning_in_a_replay() -> None:
    for clocked, level in ((True, Level.CRITICAL), (False, Level.WARNING)):
        found = only(facts(runs=[run(standing=Standing.CRASHED, clocked=clocked, seen_s=80)]))
        assert (found.name, found.level, found.since) == ("crash:game", level, iso(ago(80)))


@pytest.mark.parametrize("standing", [Standing.STOPPED, Standing.FINISHED])
def test_a_run_that_ended_in_order_is_no_finding(standing: Standing) -> None:
    assert names(facts(runs=[run(standing=standing, seen_s=4000, markets={"hail": bare()})])) == []


def test_a_halted_run_says_who_halted_it_and_how_it_is_cleared() -> None:
    halted = run(standing=Standing.HALTED, halt="by anna: manual, the news is out", halted_at="2026-06-07T11:00:00Z")
    found = only(facts(runs=[halted]))
    assert (found.name, found.level, found.since) == ("halt:game", Level.CRITICAL, "2026-06-07T11:00:00Z")
    assert "by anna: manual, the news is out" in found.text
    assert "halt --run game --clear" in found.text


def test_a_run_of_which_nobody_can_tell_how_it_stands_is_not_taken_for_a_crash() -> None:
    assert names(facts(runs=[run(standing=Standing.UNKNOWN, live=NotKnown("wrong checksum"))])) == ["unclear:game"]


# --- the gateway and other units


@pytest.mark.parametrize(
    ("fields", "name", "level"),
    [
        ({"active_state": "failed", "sub_state": "failed", "result": "exit-code"}, "unit", Level.CRITICAL),
        ({"active_state": "inactive", "sub_state": "dead"}, "unit", Level.WARNING),
        ({"active_state": "activating", "sub_state": "auto-restart"}, "unit", Level.WARNING),
        ({"unit_file_state": "disabled"}, "not-enabled", Level.WARNING),
        ({"unit_file_state": "transient"}, "not-enabled", Level.WARNING),
        ({"memory": Use(1_201_000_000, Source.CGROUP)}, "unit-memory", Level.WARNING),
    ],
)
def test_what_is_wrong_with_a_unit(fields: Any, name: str, level: Level) -> None:
    found = only(facts(units={GATEWAY: unit(**fields)}))
    assert (found.name, found.level) == (f"{name}:{GATEWAY}", level)


@pytest.mark.parametrize("state", ["enabled", "static", "generated", ""])
def test_a_unit_that_comes_back_after_a_boot_or_has_no_file_is_well(state: str) -> None:
    assert names(facts(units={GATEWAY: unit(unit_file_state=state)})) == []


def test_a_unit_that_is_stopped_and_disabled_is_missed_only_where_somebody_named_it() -> None:
    off = {"active_state": "inactive", "sub_state": "dead", "unit_file_state": "disabled"}
    assert names(facts(units={GATEWAY: unit(**off)})) == []
    named = Settings(services=(Service(unit="openclaw-gateway.service"),))
    assert names(facts(units={GATEWAY: unit(**off)}), named) == [f"unit:{GATEWAY}"]


def test_each_restart_by_the_manager_has_a_name_of_its_own() -> None:
    found = only(facts(units={GATEWAY: unit(n_restarts=4)}))
    assert (found.name, found.level) == (f"restarted:{GATEWAY}:4", Level.INFO)


def test_a_unit_that_is_not_there_is_missed_only_where_somebody_named_it() -> None:
    gone = {"load_state": "not-found", "active_state": "inactive", "sub_state": "dead", "unit_file_state": ""}
    assert names(facts(units={GATEWAY: unit(**gone)})) == []
    named = Settings(services=(Service(unit="model.service", manager="system"),))
    assert names(facts(units={"system/model.service": unit(name="model.service", **gone)}), named) == ["unit:system/model.service"]


@pytest.mark.parametrize(
    ("health", "level", "patience_s"),
    [
        (Health.HUNG, Level.CRITICAL, 60),
        (Health.DOWN, Level.CRITICAL, 60),
        (Health.NOT_READY, Level.WARNING, 300),
        (Health.ODD, Level.WARNING, 300),
    ],
)
def test_an_ill_gateway_is_told_once_it_has_been_so_for_a_while(health: Health, level: Level, patience_s: float) -> None:
    found = only(facts(gateway=probe(health, "no answer within 2 s")))
    assert (found.name, found.level, found.patience_s) == ("gateway:openclaw", level, patience_s)
    assert f"the gateway is {health.value}: no answer within 2 s" in found.text


@pytest.mark.parametrize("health", [Health.LIVE, Health.PAGE])
def test_a_gateway_that_answers_is_no_finding(health: Health) -> None:
    assert names(facts(gateway=probe(health))) == []


def test_without_openclaw_nobody_misses_its_gateway() -> None:
    late = NotKnown("systemctl cannot be started")
    assert names(facts(openclaw=False, gateway=probe(Health.DOWN), units={GATEWAY: late})) == []


def test_a_broken_store_is_critical() -> None:
    broken = (Store(agent="main", size=71, entries=None), Store(agent="work", size=0, entries=None, broken="it is empty"))
    found = only(facts(stores=Seen(broken, NOW_MS)))
    assert (found.name, found.level) == ("store:work", Level.CRITICAL)


@pytest.mark.parametrize(
    ("errors", "late_s", "found"), [(1, 0, []), (2, 0, ["cron:queue check"]), (0, 600, []), (0, 601, ["cron-overdue:queue check"])]
)
def test_cron_jobs_that_fail_twice_or_are_overdue_are_found(errors: int, late_s: float, found: list[str]) -> None:
    cron = Cron(name="queue check", errors=errors, next_ms=ago(late_s), last_status="ok")
    assert names(facts(crons=Seen((cron,), ago(5)))) == found


# --- the machine and our own jobs


@pytest.mark.parametrize(("free", "found"), [(400_000_000, []), (399_000_000, ["memory:machine"])])
def test_a_machine_with_less_than_a_tenth_of_its_memory_is_short(free: int, found: list[str]) -> None:
    assert names(facts(memory=Seen(Space(free=free, size=4_000_000_000), NOW_MS))) == found


@pytest.mark.parametrize(
    ("free", "size", "found"),
    [
        (2_000_000_000, 40_000_000_000, []),
        (1_999_000_000, 40_000_000_000, ["disk:state"]),
        (199_000_000, 1_000_000_000, ["disk:state"]),
        (19_000_000, 40_000_000_000, ["disk-full:state"]),
    ],
)
def test_a_low_disk_is_found_by_part_and_by_bytes(free: int, size: int, found: list[str]) -> None:
    assert names(facts(disks={"state": Seen(Space(free=free, size=size), NOW_MS)})) == found


@pytest.mark.parametrize(("name", "period_s"), [("snapshot", 3600), ("status-alerts", 60), ("prune-sessions", 86_400)])
def test_a_job_without_success_for_three_periods_is_overdue(name: str, period_s: float) -> None:
    assert names(facts(jobs=Seen({name: job(3 * period_s)}, NOW_MS))) == []
    found = only(facts(jobs=Seen({name: job(3 * period_s + 1)}, NOW_MS)))
    assert (found.name, found.since) == (f"overdue:{name}", iso(ago(3 * period_s + 1)))


def test_a_job_that_never_ended_well_is_overdue_since_it_began() -> None:
    assert names(facts(jobs=Seen({"snapshot": job(None)}, NOW_MS))) == ["overdue:snapshot"]
    assert names(facts(jobs=Seen({"a-job-of-a-person": job(None)}, NOW_MS))) == []


def test_a_job_that_a_person_ran_by_hand_is_never_overdue() -> None:
    assert names(facts(jobs=Seen({"snapshot": job(900_000)}, NOW_MS), installed=False)) == []


def test_a_machine_that_was_off_has_not_missed_its_jobs() -> None:
    just_started = Moment(wall_ms=NOW_MS, boot_id="a boot", boot_s=100.0)
    assert names(facts(now=just_started, jobs=Seen({"snapshot": job(900_000)}, NOW_MS))) == []


def test_a_failing_job_stands_under_the_key_that_it_tells_itself() -> None:
    failing = job(500, failures=2, failing_since="2026-06-07T11:55:00.000Z", error="disk full")
    found = only(facts(jobs=Seen({"snapshot": failing}, NOW_MS)))
    assert (found.name, found.since, found.patience_s) == ("job:snapshot", "2026-06-07T11:55:00.000Z", 3600)
    assert "disk full" in found.text


def test_alerts_that_no_chat_takes_are_found_where_there_is_a_chat() -> None:
    waiting = facts(outbox=Seen(Backlog(unsent=7, oldest_ms=ago(901)), NOW_MS))
    assert names(waiting) == []
    assert names(waiting, CHATTY) == ["unsent:outbox"]
    assert names(facts(outbox=Seen(Backlog(unsent=7, oldest_ms=ago(900)), NOW_MS)), CHATTY) == []


def test_a_budget_of_revivals_that_is_used_up_is_found() -> None:
    assert names(facts(restarts=Seen({"run:game": 2, "unit:x.service": 3}, NOW_MS))) == ["budget:unit:x.service"]


# --- order, and what is not known


def test_the_worst_comes_first() -> None:
    found = find(facts(units={GATEWAY: unit(n_restarts=1, unit_file_state="disabled")}, gateway=probe(Health.DOWN)), Settings())
    assert [finding.level for finding in found] == [Level.CRITICAL, Level.WARNING, Level.INFO]


def test_what_is_not_known_is_named_and_never_read_as_a_fault_of_its_own() -> None:
    seen = nothing_known()
    assert {finding.kind for finding in find(seen, Settings())} == {"unseen"}
    areas = {"runs", "gateway", "memory", "stores", "crons", "jobs", "outbox", "restarts", "disk:state", f"unit:{GATEWAY}"}
    assert blind(seen) == areas
    assert blind(facts()) == set()
