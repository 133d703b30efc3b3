"""The card: what is worst stands first, what is old says so, it is short, and nothing in it calls anybody."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_facts import GATEWAY, NOW_MS, ago, bare, facts, job, market, nothing_known, run, unit

from mmtools.ops import card
from mmtools.ops.facts import Backlog, Cron, Facts, Seen, Store
from mmtools.ops.findings import Finding, find
from mmtools.ops.quoters import Standing
from mmtools.ops.settings import Settings
from mmtools.ops.systemd import NotKnown
from mmtools.outbox import Level

WILD = st.text(st.characters() | st.sampled_from("@<>\n\r\t\0 "), max_size=400) | st.sampled_from(
    ["@everyone", "<!channel>", "<@U012AB3CD>", "@here look", "\N{RIGHT-TO-LEFT OVERRIDE}gpj", "🦀" * 200]
)
LEVELS = st.sampled_from(list(Level))
FINDINGS = st.lists(
    st.builds(lambda text, level: Finding(kind="k", subject="s", area="a", level=level, text=text), WILD, LEVELS), max_size=30
)


def shown(seen: Facts, settings: Settings | None = None) -> list[str]:
    return card.card(seen, find(seen, settings or Settings()), {}).splitlines()


def test_the_first_line_says_when_and_how_many_things_are_wrong() -> None:
    assert shown(facts())[0] == "mmtools on small-server as of 2026-06-07T12:00:00Z: nothing is wrong"
    ill = facts(runs=[run(standing=Standing.CRASHED)], units={GATEWAY: unit(unit_file_state="disabled")})
    assert shown(ill)[0] == "mmtools on small-server as of 2026-06-07T12:00:00Z: 1 critical, 1 warning"
    assert [line.split(":")[0] for line in shown(ill)[1:3]] == ["CRITICAL", "WARNING"]


def test_a_run_shows_money_position_and_sides_with_its_age() -> None:
    quoting = run(
        markets={"hail": market(), "rain": market(our_ask=None, why_no_ask="net_cap", position_net="12.5", pnl="-0.25")}, seen_s=4
    )
    lines = shown(facts(runs=[quoting]))
    assert lines[1:4] == [
        "run game (paper): running, P&L 1.25 USDC, fills 12, bids in 2 and asks in 1 of 2 markets, 4 s ago",
        "  hail: bid 0.47, ask 0.49, net -5, P&L 0.7",
        "  rain: bid 0.47, no ask (net_cap), net 12.5, P&L -0.25",
    ]


def test_figures_older_than_three_periods_are_stale_and_show_no_quotes() -> None:
    lines = shown(facts(runs=[run(seen_s=16)]))
    assert "stale since 2026-06-07T11:59:44.000Z" in lines[1]
    assert not any(line.startswith("  hail") for line in lines)
    assert "15 s ago" in shown(facts(runs=[run(seen_s=15)]))[1]


@pytest.mark.parametrize("standing", [each for each in Standing if each is not Standing.RUNNING])
def test_a_process_that_is_gone_is_never_shown_as_running(standing: Standing) -> None:
    (line,) = (line for line in shown(facts(runs=[run(standing=standing, seen_s=2)])) if line.startswith("run game"))
    assert f"{standing.value}, " in line
    assert "running" not in line
    assert "as of 2026-06-07T11:59:58.000Z" in line


def test_a_run_that_quotes_nothing_says_why() -> None:
    assert "quotes nothing, data_gap on 2 of 2 sides" in shown(facts(runs=[run(markets={"hail": bare()})]))[1]


def test_what_is_not_known_says_so_and_why() -> None:
    text = "\n".join(shown(nothing_known()))
    for what in ("runs: not known", "gateway: not known", f"{GATEWAY}: not known", "memory: not known", "jobs: not known"):
        assert f"{what}, no answer within 4.5 s" in text
    assert "0 MB" not in text


def test_a_gateway_and_all_around_it_is_shown() -> None:
    well = shown(
        facts(jobs=Seen({"snapshot": job(1300), "prune-sessions": job(4000, failures=2)}, NOW_MS), restarts=Seen({"run:game": 2}, NOW_MS))
    )
    assert "gateway: live (HTTP 200, live), up for 2 h" in well
    assert "sessions of main: 3 MB, 71 entries" in well
    assert "crons: 1 enabled, 0 failed at their last run; as written 4 min ago" in well
    assert f"{GATEWAY}: active (running), enabled, memory 600 MB of 1500 MB" in well
    assert "memory: 2100 MB of 4000 MB free; disk state: 9000 MB free" in well
    assert "jobs: prune-sessions well 66 min ago, failed 2 times since, snapshot well 21 min ago" in well
    assert "restarts of the last hour: run:game 2" in well
    assert "outbox: 7 unsent, the oldest 5 min old" in shown(facts(outbox=Seen(Backlog(unsent=7, oldest_ms=ago(300)), NOW_MS)))


def test_a_finding_says_since_when_it_stands() -> None:
    seen = facts(units={GATEWAY: unit(unit_file_state="disabled")})
    text = card.card(seen, find(seen, Settings()), {f"not-enabled:{GATEWAY}": "2026-06-07T09:00:00.000Z"})
    assert "enable openclaw-gateway.service` (since 2026-06-07T09:00:00.000Z)" in text


@settings(deadline=None)
@given(head=WILD, lines=st.lists(WILD, max_size=80))
@example(head="h", lines=["x" * 300] * 40)
@example(head="🦀" * 400, lines=["🦀" * 400] * 9)
def test_whatever_comes_in_the_text_is_short_of_whole_lines_and_calls_nobody(head: str, lines: list[str]) -> None:
    text = card.fit(head, lines)
    assert len(text.encode("utf-16-le")) // 2 <= card.MOST
    assert not set("@<>\r\t\0") & set(text)
    assert all(c.isprintable() or c == "\n" for c in text)
    parts = text.split("\n")
    whole = [card.fit(each, ()) for each in (head, *lines)]
    kept = len(parts) - 1 if len(parts) <= len(lines) or parts != whole else len(parts)
    assert parts[:kept] == whole[:kept]
    if kept < len(whole):
        assert parts[kept:] == [f"+{len(whole) - kept} more"]


@settings(deadline=None, max_examples=50)
@given(findings=FINDINGS, name=WILD, count=st.integers(0, 60))
def test_a_card_of_any_machine_is_short_and_calls_nobody(findings: list[Finding], name: str, count: int) -> None:
    runs = [run(run_id=f"{name}{n}", markets={f"{name}{m}": market() for m in range(n)}) for n in range(count // 5)]
    seen = facts(
        host=name,
        runs=runs,
        gateway=NotKnown(name),
        units={f"user/{name}{n}": unit(name=name) for n in range(count)},
        crons=Seen((Cron(name=name, errors=3, next_ms=1, last_status=name),), NOW_MS),
        stores=Seen(tuple(Store(agent=name, size=n, entries=None) for n in range(count)), NOW_MS),
    )
    text = card.card(seen, findings, {})
    assert len(text.encode("utf-16-le")) // 2 <= card.MOST
    assert not set("@<>") & set(text)


def test_many_findings_leave_room_for_none_of_the_figures() -> None:
    many = [Finding(kind="k", subject=str(n), area="a", level=Level.WARNING, text=f"{n} " + "x" * 190) for n in range(20)]
    lines = card.card(facts(), many, {}).splitlines()
    assert lines[1].startswith("WARNING: 0 ")
    figures = len(shown(facts())) - 1
    assert lines[-1] == f"+{20 - (len(lines) - 2) + figures} more"


# --- what makes it worth sending anew


def test_a_card_is_worth_sending_anew_for_what_happened_and_not_for_its_ages() -> None:
    def changes(**fields: Any) -> list[str]:
        seen = facts(**fields)
        return card.changes(seen, find(seen, Settings()))

    usual = changes()
    assert changes(runs=[run(seen_s=9)], jobs=Seen({"snapshot": job(2000)}, NOW_MS)) == usual
    assert changes(runs=[run(pnl="1.26")]) != usual
    assert changes(runs=[run(pnl="1.21")]) == usual
    assert changes(runs=[run(standing=Standing.STOPPED)]) != usual
    assert changes(runs=[run(markets={"hail": market(our_bid=None)})]) != usual
    assert changes(units={GATEWAY: unit(unit_file_state="disabled")}) != usual


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119.9, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")]
)
def test_spans_are_said_in_one_unit(seconds: float, said: str) -> None:
    assert card.age(seconds) == said
