"""Which entry may go: OpenClaw's own pattern of a cron run, over and old; whatever is odd stays and has a name."""

from typing import Any

import pytest
from stores import ALONE, FRESH, HOUR_MS, JOB, NOW_MS, entry, run_key

from mmtools.ops.stale import Judge, Verdict

JUDGE = Judge(agent="main", now_ms=NOW_MS, older_than_ms=24 * HOUR_MS, being_written=frozenset({FRESH}))


def test_a_run_that_is_over_and_old_goes() -> None:
    for status in (None, "done", "failed", "killed", "timeout"):
        assert JUDGE.judge(run_key(ALONE), entry(ALONE, 25, status=status)) is Verdict.STALE
    assert JUDGE.judge(run_key(ALONE), entry(ALONE, 25)) is Verdict.STALE


def test_a_session_below_a_run_is_part_of_it() -> None:
    assert JUDGE.judge(f"{run_key(ALONE)}:heartbeat", entry(ALONE, 25)) is Verdict.STALE


@pytest.mark.parametrize(
    "key",
    [
        "agent:main:main",
        f"agent:main:cron:{JOB}",
        f"agent:main:cron:{JOB}:run:",
        "agent:main:cron::run:x",
        "agent:main:cron:a:b:run:x",
        "agent:main:hook:cron:a:run:x",
        f"agent:main:discord:channel:cron:{JOB}:run:{ALONE}",
        "agent:main:CRON:a:run:x",
        f"cron:{JOB}:run:{ALONE}",
        "main:cron:a:run:x",
        "",
        "agent:main:subagent:cron",
    ],
)
def test_no_other_key_goes_however_old(key: str) -> None:
    assert JUDGE.judge(key, entry(ALONE, 10_000)) is Verdict.OTHER


@pytest.mark.parametrize("agent", ["", "ops", "Main", "main "])
def test_a_run_of_another_agent_stays(agent: str) -> None:
    assert JUDGE.judge(run_key(ALONE, agent=agent), entry(ALONE, 10_000)) is Verdict.OF_ANOTHER_AGENT


def test_a_key_that_no_file_can_hold_stays() -> None:
    assert JUDGE.judge(run_key(ALONE, job="\ud83d"), entry(ALONE, 10_000)) is Verdict.ODD_KEY


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (None, Verdict.NO_OBJECT),
        ([], Verdict.NO_OBJECT),
        ("text", Verdict.NO_OBJECT),
        ({}, Verdict.NO_TIME),
        ({"sessionId": ALONE}, Verdict.NO_TIME),
        (entry(ALONE, 0) | {"updatedAt": "2026-01-01T00:00:00Z"}, Verdict.NO_TIME),
        (entry(ALONE, 0) | {"updatedAt": True}, Verdict.NO_TIME),
        (entry(ALONE, 0) | {"updatedAt": 1.5e12}, Verdict.NO_TIME),
        (entry(ALONE, 0) | {"updatedAt": 0}, Verdict.TIME_NOT_POSITIVE),
        (entry(ALONE, 0) | {"updatedAt": -5}, Verdict.TIME_NOT_POSITIVE),
        (entry(ALONE, -1), Verdict.IN_THE_FUTURE),
        (entry(ALONE, 0) | {"updatedAt": 10**40}, Verdict.IN_THE_FUTURE),
        (entry(ALONE, 99, status="running"), Verdict.RUNNING),
        (entry(ALONE, 99, status="paused"), Verdict.ODD_STATUS),
        (entry(ALONE, 99, status=3), Verdict.ODD_STATUS),
        (entry(ALONE, 99, status=[]), Verdict.ODD_STATUS),
        (entry("../../etc/passwd", 99), Verdict.ODD_ID),
        (entry("a/b", 99), Verdict.ODD_ID),
        (entry("", 99), Verdict.ODD_ID),
        (entry(".hidden", 99), Verdict.ODD_ID),
        (entry("a\n", 99), Verdict.ODD_ID),
        (entry("x" * 129, 99), Verdict.ODD_ID),
        ({"updatedAt": 1}, Verdict.ODD_ID),
        ({"updatedAt": 1, "sessionId": 7}, Verdict.ODD_ID),
        (entry(ALONE, 24), Verdict.YOUNG),
        (entry(FRESH, 99), Verdict.BEING_WRITTEN),
    ],
)
def test_a_run_with_anything_odd_about_it_stays_and_says_why(value: Any, verdict: Verdict) -> None:
    assert JUDGE.judge(run_key(ALONE), value) is verdict
    assert verdict.odd is (verdict not in (Verdict.YOUNG, Verdict.RUNNING))
