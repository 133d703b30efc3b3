"""The card on the board: written when there is something new and hardly ever else; what the board refuses is told once."""

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import ROOT
from fake_mission_control import AGENT_TOKEN, TOKEN, Document, MissionControl
from faults import every_fault
from loopback import unused_port

from mmtools import outbox
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import mission_control, settings
from mmtools.ops.mission_control import Did
from mmtools.ops.settings import Secret, Settings
from mmtools.state import StateDir

START_MS = 1_795_700_000_000
QUARTER_MS = 900_000


class World:
    def __init__(self, folder: Path, fake: MissionControl) -> None:
        self.folder, self.fake = folder, fake
        self.state = StateDir(folder / "state")
        self.now_ms = START_MS
        self.card = fake.add("Market maker", "in_progress", description="written by hand")
        self.token(TOKEN)
        self.more: dict[str, Any] = {}
        self.figures: dict[str, mission_control.Figure] = {"pnl_usd": 12.5, "state": "running", "findings": []}

    def token(self, token: str) -> None:
        file = self.folder / "token"
        file.write_text(token)
        file.chmod(0o600)

    @property
    def settings(self) -> Settings:
        where: dict[str, Any] = {"url": self.fake.url, "board": self.fake.board, "task": self.card["id"], **self.more}
        return Settings(mission_control=settings.MissionControl(token=Secret(file=str(self.folder / "token")), **where))

    def update(self, minutes: float = 0.0, *, limit_s: float = 20.0) -> mission_control.Card:
        self.now_ms += int(minutes * 60_000)
        text = f"PnL {self.figures['pnl_usd']} over 24 h"
        return mission_control.update_card(self.state, self.settings, text, self.figures, self.now_ms, limit_s=limit_s)

    def alerts(self) -> list[str]:
        return [alert["text"] for alert in outbox.alerts(self.state).values()]

    @property
    def asked(self) -> tuple[int, int]:
        """How often it was read, and written."""
        return self.fake.asked["GET"], self.fake.asked["PATCH"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    fake = MissionControl()
    with fake:
        world = World(tmp_path, fake)
        fake.clock = lambda: world.now_ms / 1000
        yield world


def test_the_card_holds_the_text_and_its_time_and_nothing_else_is_touched(world: World) -> None:
    before = dict(world.card)
    assert world.update().did is Did.WRITTEN
    assert world.card["description"] == "PnL 12.5 over 24 h\n\nas of 2026-11-26 13:33 UTC"
    changed = {key for key in before if before[key] != world.card[key]}
    assert changed == {"description", "updated_at"}  # not when it went into progress, nor whose it is
    assert world.asked == (0, 1)


def test_the_address_that_the_settings_show_is_the_one_that_is_asked(world: World) -> None:
    shown = re.search(r"^#mission_control:\n#  url: http://127.0.0.1:8000(.*)$", (ROOT / "configs" / "ops.yaml").read_text(), re.MULTILINE)
    assert shown
    world.more["url"] = world.fake.url + shown[1]
    assert world.update().did is Did.WRITTEN


@pytest.mark.parametrize(("refresh_h", "writes"), [(1.0, 24), (6.0, 4), (None, 1)])
def test_a_day_without_a_change_writes_the_refreshes_alone_and_reads_nothing(world: World, refresh_h: float | None, writes: int) -> None:
    world.more["refresh_h"] = refresh_h
    for quarter in range(96):
        world.figures["pnl_usd"] = 12.5 + 0.001 * (quarter % 7)  # within a hundredth
        world.update(15 if quarter else 0)
    assert world.asked == (0, writes)


def test_a_change_beyond_its_part_is_written_and_slow_drift_too(world: World) -> None:
    world.more["refresh_h"] = None
    world.update()
    for figures, did in (
        ({"pnl_usd": 12.62}, Did.UNCHANGED),
        ({"pnl_usd": 12.63}, Did.WRITTEN),
        ({"pnl_usd": 12.51}, Did.UNCHANGED),
        ({"state": "starved"}, Did.WRITTEN),
        ({"findings": ["the disk is full"]}, Did.WRITTEN),
        ({"findings": ["the disk is full"]}, Did.UNCHANGED),
        ({"runs": 2}, Did.WRITTEN),
        ({"runs": None}, Did.WRITTEN),
        ({"runs": float("nan")}, Did.WRITTEN),
        ({"runs": float("nan")}, Did.UNCHANGED),
    ):
        world.figures.update(figures)
        assert world.update(15).did is did, figures
    del world.figures["runs"]
    assert world.update(15).did is Did.WRITTEN


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [(100, 101, False), (100, 101.5, True), (-2.0, -1.99, False), (0, 0.001, True), (0, 0, False), (True, 1, False)],
)
def test_a_change_is_a_part_of_what_was(old: Any, new: Any, changed: bool) -> None:
    assert mission_control.has_changed(old, new, 0.01) is changed


def test_a_custom_field_can_be_the_card(world: World) -> None:
    world.more["field"] = "status_text"
    assert world.update().did is Did.WRITTEN
    assert world.card["description"] == "written by hand"
    assert world.card["custom_field_values"]["status_text"].startswith("PnL 12.5")


@pytest.mark.parametrize(
    ("spoil", "saying"),
    [
        (lambda world: world.token("wrong-token-s3cret"), "HTTP 401, Unauthorized"),
        (lambda world: world.token(AGENT_TOKEN), "HTTP 403, Agents may only update"),
        (lambda world: world.more.update(task="00000000-0000-0000-0000-000000000009"), "HTTP 404, Not Found"),
        (lambda world: world.more.update(task="my card"), "HTTP 422, Input should be a valid UUID"),
        (lambda world: world.more.update(field="no_such"), "HTTP 422, Unknown custom field keys"),
        (lambda world: world.fake.faults.extend([409] * 9), "HTTP 409"),
        (lambda world: world.fake.faults.extend([405] * 9), "HTTP 405"),
        (lambda world: (world.folder / "token").unlink(), "cannot be read"),
    ],
)
def test_what_a_person_must_see_to_is_told_once_and_tried_hourly(world: World, spoil: Any, saying: str) -> None:
    spoil(world)
    first = world.update()
    assert first.did is Did.REFUSED
    assert saying in first.why
    for _ in range(11):
        world.figures["pnl_usd"] = world.now_ms
        world.update(15)
    (alert,) = world.alerts()
    assert saying in alert
    assert sum(world.asked) <= 3
    assert not any("s3cret" in path.read_text() for path in world.state.root.rglob("*") if path.is_file())


def test_after_the_cure_it_goes_on_and_the_next_trouble_is_told_anew(world: World) -> None:
    world.token("wrong")
    world.update()
    world.token(TOKEN)
    assert world.update(61).did is Did.WRITTEN
    world.token("wrong")
    assert world.update(61).did is Did.REFUSED
    assert len(world.alerts()) == 2


def test_too_many_requests_are_waited_for_longer_each_time_and_told_to_nobody(world: World) -> None:
    world.fake.limit = 0
    assert world.update().why == "HTTP 429, Too Many Requests"
    tries = []
    for _ in range(40):
        before = world.fake.asked["PATCH"]
        did = world.update(0.5).did
        if world.fake.asked["PATCH"] > before:
            tries.append((world.now_ms - START_MS) // 60_000)
        else:
            assert did is Did.WAITING
    assert tries == [1, 3, 7, 15]
    world.fake.limit = None
    assert world.update(20).did is Did.WRITTEN
    assert not world.alerts()


def test_a_sick_board_is_tried_again_later(world: World) -> None:
    world.fake.faults = [500, 503]
    assert world.update().did is Did.FAILED
    assert world.update(0.9).did is Did.WAITING
    assert world.update(0.1).did is Did.FAILED
    assert world.update(2).did is Did.WRITTEN
    assert not world.alerts()


def test_a_clock_put_back_makes_it_wait_no_longer(world: World) -> None:
    world.fake.faults = [500]
    world.update()
    assert world.update(-600).did is Did.WRITTEN


def test_where_nobody_listens_it_failed(world: World) -> None:
    world.more["url"] = f"http://127.0.0.1:{unused_port()}"
    assert world.update().did is Did.FAILED


def test_what_was_written_and_not_answered_is_looked_for_and_not_written_again(world: World) -> None:
    world.fake.faults = ["late"]
    assert world.update(limit_s=0.5).did is Did.FAILED
    assert world.card["description"].startswith("PnL 12.5")
    found = world.update(1)
    assert (found.did, found.why) == (Did.UNCHANGED, "what was written last did arrive")
    assert world.asked == (1, 1)
    assert world.update(15).did is Did.UNCHANGED
    assert world.asked == (1, 1)


def test_a_look_that_fails_does_not_make_what_may_have_arrived_be_written_again(world: World) -> None:
    world.more["refresh_h"] = None
    world.fake.faults = ["late", 429]
    assert world.update(limit_s=0.5).did is Did.FAILED
    assert world.update(1).did is Did.FAILED
    world.token("wrong")
    assert world.update(10).did is Did.REFUSED
    world.token(TOKEN)
    assert world.update(61).did is Did.UNCHANGED
    assert world.fake.asked["PATCH"] == 1


def test_what_was_not_written_and_not_answered_is_written(world: World) -> None:
    world.fake.faults = ["never"]
    assert world.update(limit_s=0.5).did is Did.FAILED
    assert world.update(1).did is Did.WRITTEN
    assert world.asked == (1, 2)


def test_a_board_that_takes_all_and_holds_nothing_is_not_believed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(task_id: str, changes: Document, *, is_agent: bool) -> Document:
        return world.card  # as it does with a field it does not know

    monkeypatch.setattr(world.fake, "_patch", forgetful)
    card = world.update()
    assert (card.did, "does not hold" in card.why) == (Did.REFUSED, True)


def test_another_card_in_the_settings_is_written_at_once(world: World) -> None:
    world.update()
    world.card = world.fake.add("Another")
    assert world.update().did is Did.WRITTEN


def test_a_broken_file_of_ours_means_to_write_anew(world: World) -> None:
    world.update()
    world.state.path(mission_control.STATE).write_text("{")
    assert world.update().did is Did.WRITTEN
    assert world.update().did is Did.UNCHANGED


def test_without_a_board_nothing_is_done(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    assert mission_control.update_card(state, Settings(), "text", {}, START_MS).did is Did.OFF
    assert not state.root.exists()
    assert mission_control.tasks(Settings()) == []
    assert not mission_control.to_inbox(Settings(), "any")


def test_a_second_update_at_once_is_told_to_come_later(world: World) -> None:
    with world.state.lock(mission_control.LOCK), pytest.raises(TryLater):
        world.update()


@pytest.mark.parametrize("kind", ["kill-after", "enospc"])
def test_a_fault_at_any_call_leaves_a_card_that_the_next_update_puts_right(world: World, kind: Any) -> None:
    def run() -> int:
        try:
            world.update()
        except TryLater:
            return 75
        return 0

    for outcome in every_fault(kind, run):
        assert outcome.signal == (signal.SIGKILL if outcome.reached and kind == "kill-after" else None), outcome.stderr
        assert outcome.status in (None, 0, 75), outcome.stderr
        world.update(31)
        assert world.card["description"].startswith(f"PnL {world.figures['pnl_usd']} over")
        assert world.update(1).did is Did.UNCHANGED
        world.figures["pnl_usd"] = float(outcome.n * 1000)
        world.now_ms += 60_000


# tasks


def test_tasks_are_listed_page_by_page_and_times_are_utc(world: World) -> None:
    for n in range(450):
        world.fake.add(f"task {n}", "in_progress" if n % 2 else "review")
    found = mission_control.tasks(world.settings)
    assert [task.title for task in found] == [f"task {n}" for n in range(449, 0, -2)] + ["Market maker"]
    assert world.asked == (2, 0)
    assert found[0].created_ms == START_MS
    assert found[0].in_progress_ms is None


@pytest.mark.parametrize("change", ["comes", "goes"])
def test_a_task_that_comes_or_goes_while_they_are_read_makes_none_twice_or_missing(
    world: World, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(230):
        world.fake.add(f"task {n}", "in_progress")
    page = world.fake._page

    def changing(query: Any) -> Document:
        answer = page(query)
        if change == "comes":
            world.fake.add("late", "in_progress")
        else:
            del world.fake.tasks[0]
        return answer

    monkeypatch.setattr(world.fake, "_page", changing)
    if change == "goes":
        with pytest.raises(TryLater, match="changed while it was read"):
            mission_control.tasks(world.settings)
    else:
        titles = [task.title for task in mission_control.tasks(world.settings)]
        assert titles == [f"task {n}" for n in range(229, -1, -1)] + ["Market maker"]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-03-02T04:05:00.062739", 1_772_424_300_063),
        ("2026-03-02T04:05:00Z", 1_772_424_300_000),
        ("2026-03-02T05:05:00+01:00", 1_772_424_300_000),
        ("soon", None),
        (None, None),
    ],
)
def test_a_time_without_a_zone_is_utc_wherever_we_are(text: Any, ms: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert mission_control.parse_time(text) == ms
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_task_in_progress_goes_back_to_the_inbox_and_from_its_agent(world: World) -> None:
    task = world.fake.add("Dig", "in_progress", assigned_agent_id="a-1")
    assert mission_control.to_inbox(world.settings, task["id"])
    assert (task["status"], task["assigned_agent_id"]) == ("inbox", None)
    assert not mission_control.to_inbox(world.settings, task["id"])


def test_a_task_that_was_done_meanwhile_does_not_come_back(world: World) -> None:
    task = world.fake.add("Dig", "review", assigned_agent_id="a-1")
    assert not mission_control.to_inbox(world.settings, task["id"])
    assert (task["status"], task["assigned_agent_id"], world.fake.asked["PATCH"]) == ("review", "a-1", 0)


@pytest.mark.parametrize(
    ("faults", "unsure"), [([503], False), ([429], False), ([None, 503], True), ([None, "never"], True), ([None, 429], False)]
)
def test_whether_a_task_may_have_gone_back_all_the_same_is_told_apart(world: World, faults: list[Any], unsure: bool) -> None:
    task = world.fake.add("Dig", "in_progress", assigned_agent_id="a-1")
    world.fake.faults = faults
    with pytest.raises(TryLater) as caught:
        mission_control.to_inbox(world.settings, task["id"], limit_s=0.5 if "never" in faults else 20)
    assert isinstance(caught.value, mission_control.Unsure) is unsure


def test_a_board_that_lists_less_than_it_is_asked_for_is_read_to_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(4):
        world.fake.add(f"task {n}", "in_progress")
    page = world.fake._page
    monkeypatch.setattr(world.fake, "_page", lambda query: page({**query, "limit": ["2"]}))
    assert len(mission_control.tasks(world.settings)) == 5
    monkeypatch.setattr(world.fake, "_page", lambda query: {**page({**query, "limit": ["2"]}), "total": 9})
    with pytest.raises(TryLater, match="says that it has 9 tasks, and listed 5"):
        mission_control.tasks(world.settings)


@pytest.mark.parametrize(
    ("fault", "error"), [(500, TryLater), (429, TryLater), ("never", TryLater), (401, Misconfigured), (404, Misconfigured), (403, Refused)]
)
def test_a_board_that_does_not_answer_well_is_not_a_board_without_tasks(world: World, fault: Any, error: type[Exception]) -> None:
    world.fake.faults = [fault]
    with pytest.raises(error, match="Mission Control"):
        mission_control.tasks(world.settings, limit_s=0.5 if fault == "never" else 20)


@pytest.mark.parametrize("said", [[], {"items": None}, {"items": [{"id": 1}]}, {"detail": "?"}])
def test_an_odd_answer_is_not_a_board_without_tasks(world: World, said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.fake, "_page", lambda query: said)
    with pytest.raises(TryLater):
        mission_control.tasks(world.settings)


def test_what_the_board_says_of_a_refusal_has_no_token_in_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def echo(query: Any) -> Any:
        raise _refusal(403, {"message": f"the token {TOKEN} may not\n do this"})

    monkeypatch.setattr(world.fake, "_page", echo)
    with pytest.raises(Refused) as caught:
        mission_control.tasks(world.settings)
    assert str(caught.value) == "Mission Control: HTTP 403, the token … may not do this; look at the board"
    assert json.dumps(str(caught.value))


def _refusal(status: int, detail: Any) -> Exception:
    from fake_mission_control import Refusal

    return Refusal(status, detail)
