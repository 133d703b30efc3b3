"""The outbox is sent: each chat gets each alert, whatever another chat does, whenever the sender is killed, and a status not twice."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import fake_chats
import pytest
from fake_chats import Chat
from faults import ERRORS, KILLS, Kind, every_fault
from loopback import unused_port

from mmtools import moments, outbox
from mmtools.errors import Misconfigured, TryLater
from mmtools.ops import chat, delivery, post, settings
from mmtools.ops.chat import Kind as How
from mmtools.ops.settings import Secret, Settings
from mmtools.state import StateDir

MINUTE_MS = 60_000


class Clock:
    def __init__(self) -> None:
        self.ms = moments.now_ms()

    def __call__(self) -> int:
        return self.ms


class World:
    """A state folder, chats, and a clock that stands until it is moved."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.state = StateDir(folder / "state")
        self.clock = Clock()
        self.chats: list[settings.Chat] = []

    def add(self, name: str, *answers: fake_chats.Answer, options: str = "", **more: bool | float) -> Chat:
        fake = self._stack.enter_context(Chat(*answers, token=f"s3cret-of-{name}"))
        self.add_url(name, fake.url + options, **more)
        return fake

    def add_url(self, name: str, url: str, **more: bool | float) -> None:
        file = self.folder / f"{name}.url"
        file.write_text(url + "\n")
        file.chmod(0o600)
        self.chats.append(settings.Chat(name=name, url=Secret(file=str(file)), **more))  # type: ignore[arg-type]

    @property
    def settings(self) -> Settings:
        return Settings(chats=tuple(self.chats))

    def alert(self, key: str, text: str, level: outbox.Level = outbox.Level.WARNING) -> None:
        outbox.raise_alert(self.state, key, text, level=level, source="a-test")

    def send(self, **more: bool | float) -> post.Sent:
        return post.send(self.state, self.settings, clock=self.clock, jitter=lambda: 0.0, **more)  # type: ignore[arg-type]

    def pass_minutes(self, minutes: float) -> None:
        self.clock.ms += int(minutes * MINUTE_MS)

    def written(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.state.root.rglob("*")) if path.is_file())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def test_alerts_go_to_every_chat_once_oldest_first_and_as_one_message(world: World) -> None:
    first, second = world.add("first"), world.add("second")
    quiet = world.add("quiet", alerts=False, status=False)
    for n in range(3):
        world.alert(f"key{n}", f"news number {n}")
    assert post.pending(world.state) == ["key0", "key1", "key2"]
    sent = world.send()
    assert {name: list(report.keys) for name, report in sent.chats.items()} == {
        "first": ["key0", "key1", "key2"], "second": ["key0", "key1", "key2"], "quiet": [],
    }  # fmt: skip
    assert (list(sent.waiting), sent.in_trouble) == ([], [])
    for fake in (first, second):
        (text,) = fake.texts
        assert [line.partition("Z: ")[2] for line in text.splitlines()] == [f"news number {n}" for n in range(3)]
    world.pass_minutes(600)
    world.send()
    assert [len(fake.received) for fake in (first, second, quiet)] == [1, 1, 0]


def test_chats_that_hang_refuse_fail_or_are_gone_keep_nothing_from_the_others(world: World) -> None:
    hangs = world.add("hangs", fake_chats.NEVER, options="?rto=30")
    full = world.add("full", fake_chats.SLACK_IS_FULL, fake_chats.FINE)
    broken = world.add("broken", fake_chats.BROKEN, fake_chats.FINE)
    gone = world.add("gone", fake_chats.DISCORD_IS_GONE)
    world.add_url("down", f"json://127.0.0.1:{unused_port()}/s3cret-of-down")
    well = world.add("well")
    world.alert("halt", "the run was halted", outbox.Level.CRITICAL)
    sent = world.send(limit_s=4.0)
    assert {name: report.alerts.kind for name, report in sent.chats.items() if report.alerts is not None} == {
        "hangs": How.AMBIGUOUS, "full": How.REFUSED, "broken": How.FAILED, "gone": How.GONE, "down": How.FAILED, "well": How.SENT,
    }  # fmt: skip
    assert [len(fake.received) for fake in (hangs, full, broken, gone, well)] == [1, 1, 1, 1, 1]
    day = moments.iso(world.clock.ms)[:10]
    assert list(sent.waiting) == ["halt", f"chat:gone:{day}"]

    hangs.answers = [fake_chats.FINE]
    world.pass_minutes(0.75)
    world.send()
    assert "the run was halted" in full.texts[1]  # its 30 s are over; the failed one waits a minute
    assert len(broken.received) == 2, "a new alert takes along what waits"
    assert "the run was halted" not in well.texts[1]
    assert "the chat gone takes no messages: HTTP 404; see its `url`" in well.texts[1]
    world.pass_minutes(5)
    world.send()
    assert Counter(text.partition("Z: ")[2].partition("\n")[0] for text in hangs.texts if "halted" in text) == {
        "the run was halted": 1, f"the run was halted {delivery.MAY_BE_A_REPEAT}": 1,
    }  # fmt: skip
    assert [text.count("the run was halted") for text in well.texts] == [1, 0]
    assert sum("the run was halted" in text for text in gone.texts) == 1
    assert b"s3cret" not in world.written()


@pytest.mark.slow
def test_a_round_ends_in_time_though_every_chat_hangs(world: World) -> None:
    hanging = [world.add(f"hangs{n}", fake_chats.NEVER, options="?rto=60&cto=60") for n in range(3)]
    world.alert("halt", "the run was halted")
    outbox.put_status(world.state, "all is well", {"changes": 1})
    began = time.monotonic()
    sent = world.send(limit_s=3.5)
    assert time.monotonic() - began < 3.5 + fake_chats.LONGEST_S / 2
    assert [len(fake.received) for fake in hanging] == [1, 1, 1]
    assert all(report.alerts is not None and report.status is None for report in sent.chats.values())


def test_a_backlog_goes_in_few_messages_and_none_is_dropped(world: World) -> None:
    fake = world.add("only")
    with outbox.editing(world.state) as alerts:
        for n in range(60):
            alerts[f"key{n}"] = outbox.message(f"news {n:03} {'x' * (n % 50)}", outbox.Level.INFO, "a-test", world.clock.ms + n)
    while world.send().waiting:
        world.pass_minutes(1)
    told = [line.partition("Z: ")[2][:8] for text in fake.texts for line in text.splitlines()]
    assert told == [f"news {n:03}" for n in range(60)]
    assert all(len(text) <= delivery.MOST_CHARACTERS for text in fake.texts)
    assert len(fake.received) < 5


def test_a_new_chat_gets_only_what_is_not_settled(world: World) -> None:
    world.add("old")
    world.alert("past", "this is over")
    world.send()
    new = world.add("new")
    world.alert("now", "this is new")
    world.send()
    (text,) = new.texts
    assert "this is new" in text
    assert "this is over" not in text


def test_an_alert_whose_last_chat_is_taken_out_is_settled(world: World) -> None:
    world.add("well")
    world.add_url("down", f"json://127.0.0.1:{unused_port()}/x")
    world.alert("halt", "the run was halted")
    assert list(world.send().waiting) == ["halt"]
    del world.chats[1]
    assert not world.send().waiting


def test_without_a_chat_alerts_wait(world: World) -> None:
    world.alert("halt", "the run was halted")
    assert list(world.send().waiting) == ["halt"]
    late = world.add("late")
    world.send()
    assert len(late.received) == 1


def test_a_second_sender_is_told_to_come_later(world: World) -> None:
    world.add("only")
    with world.state.lock(post.LOCK), pytest.raises(TryLater):
        world.send()
    with world.state.lock(post.LOCK), pytest.raises(TryLater):
        world.send(dry_run=True)


def test_a_dry_run_foresees_and_changes_nothing(world: World) -> None:
    fake = world.add("only")
    assert not world.send(dry_run=True).chats["only"].keys
    assert not world.state.root.exists()
    outbox.put_status(world.state, "all is well", {"changes": 1})
    assert world.send(dry_run=True).chats["only"].status_is_due
    world.alert("halt", "the run was halted")
    before = world.written(), sorted(world.state.root.rglob("*"))
    foreseen = world.send(dry_run=True)
    assert (list(foreseen.chats["only"].keys), foreseen.chats["only"].status_is_due) == (["halt"], False)
    assert (world.written(), sorted(world.state.root.rglob("*"))) == before
    assert list(world.send().chats["only"].keys) == ["halt"]
    assert len(fake.received) == 2  # the alert, then the status


def test_a_broken_outbox_is_said_and_what_comes_after_it_gets_through(world: World) -> None:
    fake = world.add("only")
    world.alert("halt", "the run was halted")
    file = world.state.path(outbox.ALERTS)
    file.write_bytes(file.read_bytes()[:-40])
    sent = world.send()
    assert sent.lost is not None
    assert "alerts may be lost" in fake.texts[0]
    world.alert("later", "this came after")
    world.send()
    assert "this came after" in fake.texts[1]


def test_a_broken_status_stops_no_alert_and_is_not_told_twice(world: World) -> None:
    fake = world.add("only")
    outbox.put_status(world.state, "all is well", {"changes": 1})
    world.send()
    file = world.state.path(outbox.STATUS)
    file.write_bytes(b"{}" + file.read_bytes())
    world.alert("halt", "the run was halted")
    assert world.send().chats["only"].status is None
    outbox.put_status(world.state, "all is well", {"changes": 1})
    world.clock.ms = moments.now_ms()
    world.send()
    assert [text.rpartition(": ")[2] for text in fake.texts] == ["all is well", "the run was halted"]


def test_an_address_that_cannot_be_read_is_told_to_the_others(world: World) -> None:
    well = world.add("well")
    world.add_url("open", "json://127.0.0.1:1/s3cret")
    (world.folder / "open.url").chmod(0o644)
    world.alert("halt", "the run was halted")
    world.add_url("typo", "no-such-service://s3cret")
    assert world.send().in_trouble == ["open", "typo"]
    world.send()
    assert "the chat open takes no messages: the chat open: others can read" in well.texts[1]
    assert "the chat typo takes no messages: its address is none that Apprise knows" in well.texts[1]
    day = moments.iso(world.clock.ms)[:10]
    assert list(world.send().waiting) == ["halt", f"chat:open:{day}", f"chat:typo:{day}"]


def test_an_address_that_was_put_right_gets_its_message_at_once(world: World) -> None:
    world.add("late")
    (world.folder / "late.url").chmod(0o644)
    world.alert("halt", "the run was halted")
    for _ in range(3):
        assert world.send().in_trouble == ["late"]
    (world.folder / "late.url").chmod(0o600)
    assert not world.send().in_trouble


@pytest.mark.slow
def test_a_command_that_prints_the_address_slowly_is_not_waited_for(world: World) -> None:
    world.chats.append(settings.Chat(name="slow", url=Secret(command=("sleep", "60"))))
    world.alert("halt", "the run was halted")
    sent = world.send()
    assert sent.chats["slow"].alerts is not None
    assert "did not end within 3 s" in sent.chats["slow"].alerts.why


def test_a_secret_of_a_command_has_the_limit_that_is_asked_for() -> None:
    with pytest.raises(Misconfigured, match=r"within 0\.2 s"):
        Secret(command=("sleep", "60")).reveal("it", limit_s=0.2)


# status


def test_a_status_is_told_to_each_chat_when_something_changed_and_not_more_than_once_an_hour(world: World) -> None:
    hourly, slow = world.add("hourly"), world.add("slow", status_every_h=4.0)
    alerts_only = world.add("alerts", status=False)
    for quarter in range(20):
        outbox.put_status(world.state, f"state {quarter // 4}, {quarter} min ago", {"changes": quarter // 4})
        world.send()
        world.pass_minutes(15)
    assert hourly.texts == [f"state {n}, {4 * n} min ago" for n in range(5)]
    assert slow.texts == [f"state {n}, {4 * n} min ago" for n in (0, 4)]
    assert not alerts_only.received


def test_an_uncertain_status_is_never_sent_again(world: World) -> None:
    fake = world.add("only", fake_chats.HANGS_UP, fake_chats.FINE)
    outbox.put_status(world.state, "all is well", {"changes": 1})
    for _ in range(3):
        world.send()
        world.pass_minutes(90)
    assert fake.texts == ["all is well"]


@pytest.mark.parametrize("flood", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_flood_of_status_drops_an_alert_and_the_alert_goes_first(world: World, flood: int) -> None:
    fake = world.add("only", fake_chats.BROKEN, fake_chats.FINE)
    world.alert("halt", "the run was halted", outbox.Level.CRITICAL)
    for n in range(flood):
        outbox.put_status(world.state, f"status {n}", {"changes": n})
    world.send()
    world.send()  # the chat is in its wait: no status slips past the alert
    assert len(fake.received) == 1
    world.pass_minutes(2)
    world.send()
    assert "the run was halted" in fake.texts[1]
    assert fake.texts[2:] == [f"status {flood - 1}"]


def test_a_pause_asked_for_by_a_status_holds_alerts_too(world: World) -> None:
    fake = world.add("only", fake_chats.SLACK_IS_FULL, fake_chats.FINE)
    outbox.put_status(world.state, "all is well", {"changes": 1})
    world.send()
    world.alert("halt", "the run was halted")
    world.send()
    assert len(fake.received) == 1
    world.pass_minutes(0.5)
    world.send()
    assert [text.rpartition(": ")[2] for text in fake.texts[1:]] == ["the run was halted", "all is well"]


# kills and full disks


def _ended(world: World) -> int:
    try:
        world.send()
    except TryLater:
        return 75
    return 0


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind == "kill-half" else pytest.mark.slow) for kind in (*KILLS, *ERRORS)])
def test_a_fault_at_any_call_loses_no_alert_and_marks_what_may_be_a_repeat(world: World, kind: Kind) -> None:
    fakes = [world.add(name) for name in (("first", "second") if kind in ("kill-after", "eio") else ("only",))]

    def repaired() -> None:
        while world.send(status=False).waiting:
            world.pass_minutes(6)

    world.alert(f"{kind}-0", f"news {kind}-0")
    faults = 0
    for outcome in every_fault(kind, lambda: _ended(world)):
        assert (outcome.signal == signal.SIGKILL) == (outcome.reached and kind in KILLS), outcome.stderr
        assert outcome.status in (None, 0, 75), outcome.stderr
        faults += outcome.reached
        repaired()
        world.alert(f"{kind}-{outcome.n}", f"news {kind}-{outcome.n}")
    repaired()
    for fake in fakes:
        told = Counter(line.partition("news ")[2] for text in fake.texts for line in text.splitlines() if "news " in line)
        repeats = {text for text in told if delivery.MAY_BE_A_REPEAT in text}
        firsts = {text for text in told if delivery.MAY_BE_A_REPEAT not in text}
        assert set(told.values()) == {1}, told
        assert {text.removesuffix(f" {delivery.MAY_BE_A_REPEAT}") for text in repeats | firsts} == {
            key for key in outbox.alerts(world.state) if key.startswith(kind)
        }
        assert repeats, "some call was hit while it was uncertain"
    assert faults >= 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KILLS, *ERRORS])
def test_a_fault_at_any_call_sends_no_status_twice_and_the_next_one_goes(world: World, kind: Kind) -> None:
    fake = world.add("only", status_every_h=0.0)
    outbox.put_status(world.state, "status 0", {"changes": 0})
    for outcome in every_fault(kind, lambda: _ended(world)):
        assert outcome.status in (None, 0, 75), outcome.stderr
        world.pass_minutes(31)
        world.send()
        outbox.put_status(world.state, f"status {outcome.n}", {"changes": outcome.n})
    world.send()
    told = Counter(fake.texts)
    assert set(told.values()) == {1}
    assert f"status {outcome.n}" in told
    assert len(told) > 5


SENDER = """
import sys
from mmtools.ops import post, settings
from mmtools.state import StateDir
post.send(StateDir.open(sys.argv[1]), settings.load(sys.argv[2]))
"""


def test_a_sender_killed_while_a_chat_thinks_leaves_an_alert_that_goes_out_once_more(world: World) -> None:
    fake = world.add("only", fake_chats.Answer(after_s=3), fake_chats.FINE)
    world.alert("halt", "the run was halted")
    config = world.folder / "ops.yaml"
    config.write_text(f"chats:\n  - name: only\n    url:\n      file: {world.folder}/only.url\n")
    sender = subprocess.Popen([sys.executable, "-P", "-c", SENDER, str(world.state.root), str(config)])
    try:
        assert fake.arrived.wait(60)
        seen = Path("/proc", str(sender.pid), "cmdline").read_bytes()
    finally:
        os.kill(sender.pid, signal.SIGKILL)
        sender.wait()
    assert b"s3cret" not in seen + world.written()
    world.send()
    world.send()
    assert [text.partition("Z: ")[2] for text in fake.texts] == [
        "the run was halted", f"the run was halted {delivery.MAY_BE_A_REPEAT}",
    ]  # fmt: skip


def test_an_alert_raised_while_a_chat_thinks_is_not_lost(world: World) -> None:
    fake = world.add("only", fake_chats.Answer(after_s=0.5), fake_chats.FINE)
    world.alert("first", "the first")
    thread = threading.Thread(target=world.send)
    thread.start()
    assert fake.arrived.wait(60)
    world.alert("second", "the second")  # no lock is held meanwhile
    assert set(post.pending(world.state)) == {"first", "second"}
    thread.join(60)
    assert post.pending(world.state) == ["second"]
    world.send()
    assert "the second" in fake.texts[1]


def test_nothing_is_written_when_nothing_is_due(world: World) -> None:
    world.add("only")
    world.alert("halt", "the run was halted")
    outbox.put_status(world.state, "all is well", {"changes": 1})
    world.send()
    before = hashlib.sha256(world.written()).hexdigest(), world.state.path(outbox.ALERTS).stat().st_mtime_ns
    world.send()
    assert (hashlib.sha256(world.written()).hexdigest(), world.state.path(outbox.ALERTS).stat().st_mtime_ns) == before
    assert chat.LIMIT_S <= 8
    assert post.LIMIT_S + post.SPARE_S < 10
