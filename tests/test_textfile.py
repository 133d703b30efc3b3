"""The text file for Prometheus: a form that the collector takes whatever the names are, and replaced whole."""

import os
import re
import signal
import stat
from pathlib import Path

import pytest
from faults import ERRORS, KILLS, Kind, every_fault
from hypothesis import given
from hypothesis import strategies as st
from made_facts import GATEWAY, NOW_MS, ago, bare, facts, job, market, nothing_known, probe, run, unit

from mmtools.errors import Misconfigured, TryLater
from mmtools.ops import textfile
from mmtools.ops.facts import Backlog, Cron, Facts, Seen, Store
from mmtools.ops.findings import find
from mmtools.ops.gateway import Health
from mmtools.ops.quoters import Standing
from mmtools.ops.settings import Settings
from mmtools.state import StateDir

NAME = re.compile(r"mmtools_[a-z]+(?:_[a-z]+)*")
LABEL = r'[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"'
LINE = re.compile(rf"(?P<name>[a-z_]+)(?:\{{{LABEL}(?:,{LABEL})*\}})? (?P<value>\S+)")
"""A sample in the text format 0.0.4, without a time."""
ALL = facts(
    runs=[run(recent={"refused": {"tick": 3}}), run(run_id="dead", standing=Standing.CRASHED, markets={"rain": bare()})],
    restarts=Seen({"run:dead": 1}, NOW_MS),
    outbox=Seen(Backlog(unsent=2, oldest_ms=ago(40)), NOW_MS),
)
"""Facts of which every metric has a line."""


def text_of(seen: Facts) -> str:
    return textfile.text(seen, find(seen, Settings()))


def values(seen: Facts) -> dict[str, float]:
    """Return each series with its value."""
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text_of(seen).splitlines() if not line.startswith("#")}


def check(text: str) -> set[str]:
    """Check the form of a file and return the names of its metrics: words and type once before the samples, no series twice."""
    assert text.endswith("\n")
    seen: set[str] = set()
    series: set[str] = set()
    current = ""
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            current = line.split(" ")[2]
            assert current not in seen
            seen.add(current)
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2:] == [current, textfile.METRICS[current].kind]
        else:
            found = LINE.fullmatch(line)
            assert found, line
            assert found["name"] == current
            assert re.fullmatch(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", found["value"]), line
            assert line.rsplit(" ", 1)[0] not in series
            series.add(line.rsplit(" ", 1)[0])
    return seen


def test_every_metric_is_written_in_the_form_that_the_collector_takes() -> None:
    assert check(text_of(ALL)) == set(textfile.METRICS)


@pytest.mark.parametrize("name", textfile.METRICS)
def test_names_say_what_and_in_which_unit(name: str) -> None:
    assert NAME.fullmatch(name)
    metric = textfile.METRICS[name]
    assert (metric.kind == "counter") == name.endswith("_total")
    flags = {"mmtools_run_up", "mmtools_run_crashed", "mmtools_unit_active", "mmtools_unit_enabled", "mmtools_gateway_up"}
    units = ("_seconds", "_bytes", "_usdc", "_shares", "_count", "_sides", "_total")
    assert name.endswith(units) or name in flags | {"mmtools_session_store_broken"}
    assert not {"instance", "job"} & set(metric.labels), "these are the scrape's own"


def test_the_figures_are_those_of_the_facts() -> None:
    said = values(ALL)
    assert said['mmtools_run_up{run="game",venue="paper"}'] == 1
    assert said['mmtools_run_up{run="dead",venue="paper"}'] == 0
    assert said['mmtools_run_crashed{run="dead",venue="paper"}'] == 1
    assert said['mmtools_run_pnl_usdc{run="game"}'] == 1.25
    assert said['mmtools_run_state_age_seconds{run="game"}'] == 3
    assert said['mmtools_market_position_shares{run="game",market="hail"}'] == -5
    assert said['mmtools_run_recent_refusals_count{run="game",reason="tick"}'] == 3
    assert said['mmtools_unit_enabled{manager="user",unit="openclaw-gateway.service"}'] == 1
    assert said['mmtools_last_success_timestamp_seconds{command="snapshot"}'] == ago(1300) / 1000
    assert said['mmtools_job_period_seconds{command="snapshot"}'] == 3600
    assert said["mmtools_outbox_oldest_age_seconds"] == 40
    assert said['mmtools_restarts_last_hour_count{what="run:dead"}'] == 1
    assert said['mmtools_findings_count{level="critical"}'] == 1


def test_a_side_counts_as_quoted_only_while_its_process_lives() -> None:
    half = values(facts(runs=[run(markets={"hail": market(our_ask=None)}), run(run_id="dead", standing=Standing.CRASHED)]))
    series = 'mmtools_market_quoting_sides{{run="{}",market="hail",side="{}"}}'
    assert [half[series.format(*each)] for each in (("game", "bid"), ("game", "ask"), ("dead", "bid"))] == [1, 0, 0]


@pytest.mark.parametrize(
    ("health", "up"), [(Health.LIVE, 1), (Health.HUNG, 0), (Health.DOWN, 0), (Health.NOT_READY, 0), (Health.PAGE, None), (Health.ODD, None)]
)
def test_a_gateway_of_which_nobody_knows_is_neither_up_nor_down(health: Health, up: int | None) -> None:
    assert values(facts(gateway=probe(health))).get("mmtools_gateway_up") == up


def test_a_job_that_is_not_installed_has_no_period_that_it_could_miss() -> None:
    assert "mmtools_job_period_seconds{" in text_of(facts())
    assert "mmtools_job_period_seconds{" not in text_of(facts(installed=False))


def test_what_is_not_known_has_no_line() -> None:
    assert check(text_of(nothing_known())) == {"mmtools_status_timestamp_seconds", "mmtools_findings_count"}
    unread = facts(runs=[run(pnl="NaN", markets={"hail": market(pnl=None, position_net="inf")})], units={GATEWAY: unit(unit_file_state="")})
    assert not {name for name in check(text_of(unread)) if name in ("mmtools_run_pnl_usdc", "mmtools_unit_enabled")}


@given(name=st.text(max_size=40), other=st.text(max_size=40))
def test_any_name_is_a_label_that_reads_back(name: str, other: str) -> None:
    seen = facts(
        runs=[run(run_id=name, markets={other: market()})],
        crons=Seen(
            (Cron(name=other, errors=1, next_ms=ago(9), last_status=""), Cron(name=other, errors=2, next_ms=None, last_status="")), NOW_MS
        ),
        stores=Seen((Store(agent=name, size=7, entries=None),), NOW_MS),
        jobs=Seen({other: job(5)}, NOW_MS),
    )
    text = text_of(seen)
    check(text)
    (line,) = (line for line in text.split("\n") if line.startswith("mmtools_market_pnl_usdc{"))
    labels = re.findall(r'="((?:[^"\\]|\\.)*)"', line)
    assert [re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label) for label in labels] == [name, other]


# --- the file


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def test_the_file_can_be_read_by_all_whatever_the_mask(state: StateDir, tmp_path: Path) -> None:
    file = tmp_path / "mmtools.prom"
    before = os.umask(0o077)
    try:
        textfile.write(state, file, "a 1\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert file.read_text() == "a 1\n"
    assert [path.name for path in tmp_path.glob("*.prom*")] == ["mmtools.prom"]


@pytest.mark.parametrize("kind", [*KILLS, *ERRORS])
def test_a_kill_or_a_full_disk_leaves_the_old_file_or_the_new_one(kind: Kind, state: StateDir, tmp_path: Path) -> None:
    file = tmp_path / "mmtools.prom"

    def once() -> int:
        try:
            textfile.write(state, file, "new 2\n" * 100)
        except TryLater:
            return 75
        return 0

    textfile.write(state, file, "old 1\n")
    hits = 0
    for outcome in every_fault(kind, once):
        assert outcome.signal == (signal.SIGKILL if outcome.reached and kind in KILLS else None)
        assert outcome.status in (None, 0, 75), outcome.stderr
        assert file.read_text() in ("old 1\n", "new 2\n" * 100)
        assert {path.name for path in tmp_path.glob("*.prom")} == {"mmtools.prom"}
        hits += outcome.reached
        textfile.write(state, file, "old 1\n")  # whatever was left, it can be written again
        assert {path.name for path in tmp_path.glob("*.prom*")} == {"mmtools.prom"}
    assert hits >= 4


def test_a_folder_that_is_not_there_is_said(state: StateDir, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="see that its folder is there"):
        textfile.write(state, tmp_path / "none" / "mmtools.prom", "a 1\n")


def test_a_link_in_the_place_of_the_new_file_is_not_followed(state: StateDir, tmp_path: Path) -> None:
    other = tmp_path / "precious"
    other.write_text("mine")
    (tmp_path / "mmtools.prom.new").symlink_to(other)
    with pytest.raises(TryLater):
        textfile.write(state, tmp_path / "mmtools.prom", "a 1\n")
    assert other.read_text() == "mine"
