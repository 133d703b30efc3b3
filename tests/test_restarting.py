"""The gates of a restart that other commands do, and what these may say: a cleanup frees memory, a snapshot fails, chats are slow."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakemanager import FakeManager, served
from restartworld import UNIT, World

from mmtools import restarts
from mmtools.errors import Refused
from mmtools.ops import settings, systemd
from mmtools.ops.gates import Entrance, Found, Helpers, Mark, Wish
from mmtools.ops.proof import End
from mmtools.ops.restarting import Restarting, Result
from mmtools.ops.systemd import Manager, NotKnown


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with FakeManager(tmp_path, monkeypatch) as manager:
        yield World(tmp_path, manager)


def restarting(world: World, helpers: Helpers, *, force: bool = False, dry_run: bool = False) -> Restarting:
    wish = Wish(
        unit=UNIT, manager=Manager.USER, auto=False, drain=False, force=force, why="it grew", approved_by=None, dry_run=dry_run,
        attempt=None, again=lambda attempt: ["false", attempt],
    )  # fmt: skip
    unasked = NotKnown("nobody asked")
    return Restarting(Entrance(world.state, settings.load(str(world.config)), wish, helpers, unit=unasked, measured=unasked))


def gate(found: Restarting, name: str) -> tuple[Mark, str]:
    return next((passage.result, passage.why) for passage in found.passed if passage.name == name)


def test_a_cleanup_that_frees_enough_memory_makes_the_restart_needless(world: World) -> None:
    world.manager.add(UNIT, world.serve(eats_mb=60))
    world.manager.start(UNIT)
    world.settings("memory:\n  watermark_mb: 70\npolicy:\n  prune-sessions: {level: low}\n")
    asked: list[bool] = []

    def prune(dry_run: bool) -> Found:
        asked.append(dry_run)
        if not dry_run:
            world.manager.add(UNIT, world.serve())
            systemd.restart(UNIT, manager=Manager.USER, no_block=False)
            world.manager.wait_for_port(UNIT)
        return Found(Mark.PASSED, "2115 sessions are gone")

    dry = restarting(world, Helpers(prune=prune), dry_run=True)
    dry.run()
    assert dry.result is Result.WOULD_RESTART
    found = restarting(world, Helpers(prune=prune))
    found.run()
    assert (found.result, asked) == (Result.NEEDLESS, [True, False])
    assert "2115 sessions are gone; then " in gate(found, "session cleanup")[1]
    assert restarts.attempts(world.state) == []


def test_without_a_snapshot_nothing_is_restarted_but_for_a_person_who_insists(world: World) -> None:
    world.runs()
    world.settings(snapshot="true")
    reasons: list[str] = []

    def fails(why: str) -> Found:
        reasons.append(why)
        return Found(Mark.REFUSED, "snapshot ended with 75: the disk is full", stop=True)

    found = restarting(world, Helpers(snapshot=fails))
    with pytest.raises(Refused, match="the disk is full"):
        found.run()
    assert (found.result, world.orders()) == (Result.REFUSED, 0)
    (attempt,) = restarts.attempts(world.state)
    assert (attempt.result, attempt.steps) == ("refused", ("snapshot",))
    assert world.alerts() == {f"restart:{attempt.id}:begin": "info", f"restart:{attempt.id}:end": "warning"}
    insisting = restarting(world, Helpers(snapshot=fails), force=True)
    insisting.run()
    assert (insisting.result, world.orders()) == (Result.DONE, 1)
    assert gate(insisting, "snapshot") == (Mark.REFUSED, "snapshot ended with 75: the disk is full; --force goes on without")
    assert restarts.attempts(world.state)[-1].steps == ("snapshot", "no snapshot", "order", "watch")
    assert reasons == [f"before the restart {past.id} of {UNIT}" for past in restarts.attempts(world.state)]


def test_a_start_of_its_own_accord_just_before_the_order_proves_nothing(world: World) -> None:
    world.runs()
    world.settings(snapshot="true")

    def starts_anew(why: str) -> Found:
        systemd.restart(UNIT, manager=Manager.USER, no_block=False)
        world.manager.wait_for_port(UNIT)
        world.manager.add(UNIT, world.serve(), deaf=True)
        return Found(Mark.PASSED, why)

    found = restarting(world, Helpers(snapshot=starts_anew))
    found.run()
    assert found.proof is not None
    assert (found.result, found.proof.end) == (Result.FAILED, End.NOT_RESTARTED)


def test_neither_a_cleanup_that_fails_nor_chats_that_cannot_be_told_keep_a_restart_from_being_made(world: World) -> None:
    world.runs()
    world.settings("policy:\n  prune-sessions: {level: low}\n")
    told: list[int] = []

    def tell() -> Found:
        told.append(len(world.alerts()))
        return Found(Mark.NOT_KNOWN, "status-update did not end within 10 s")

    found = restarting(world, Helpers(prune=lambda _: Found(Mark.NOT_KNOWN, "prune-sessions ended with 77"), tell=tell))
    found.run()
    assert (found.result, gate(found, "session cleanup")[0], gate(found, "chats")[0]) == (Result.DONE, Mark.NOT_KNOWN, Mark.NOT_KNOWN)
    assert told == [1, 2]  # each time with the word in the outbox


def test_what_ends_with_the_main_process_is_named(world: World) -> None:
    world.manager.add(UNIT, served(port=world.port, runs=["sleep", "60"]))
    world.manager.start(UNIT)
    found = restarting(world, Helpers())
    found.run()
    assert (found.result, found.cut) == (Result.DONE, ["sleep"])
