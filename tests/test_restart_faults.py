"""A kill, a full disk and a failing one under every change that safe-restart makes: it never acts uncounted, and the next run finishes."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakemanager import FakeManager
from faults import ERRORS, KILLS, Kind, every_fault
from restartworld import UNIT, World

from mmtools import cli, restarts
from mmtools.commands import safe_restart


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with FakeManager(tmp_path, monkeypatch) as manager:
        yield World(tmp_path, manager)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KILLS, *ERRORS])
def test_a_fault_at_any_change_never_lets_it_act_uncounted_and_the_next_run_finishes(world: World, kind: Kind) -> None:
    """A unit that takes orders and drops them makes each run short: what is under test is the state, not the proof."""
    world.manager.add(UNIT, world.serve())
    world.manager.start(UNIT)
    world.manager.add(UNIT, world.serve(), deaf=True)
    world.settings(settle_s=0.02, most_per_hour=60)
    reached = 0
    for outcome in every_fault(kind, lambda: cli.run(safe_restart.main, world.args())):
        ordered = world.orders()
        found = restarts.attempts(world.state)
        assert len(found) <= 1
        assert ordered <= len([past for past in found if "order" in past.steps]), "it acted before that was written down"
        if outcome.reached and kind in KILLS:
            assert outcome.signal == signal.SIGKILL
        elif outcome.reached:
            assert outcome.status in (1, 75, 77, 78), (outcome.at, outcome.stderr)
            assert json.loads(outcome.stdout)["schema"] in ("mmtools.safe_restart/1", "mmtools.error/1")
        else:
            assert outcome.status == 1
        reached += outcome.reached
        # Again, with a sound disk: it acts, and says how that ended.
        assert world.restart().code == 1
        last = restarts.attempts(world.state)[-1]
        assert (last.result, last.steps) == ("failed", ("order", "watch"))
        shutil.rmtree(world.state.root)
        (world.manager.folder / "calls.jsonl").unlink()
    assert reached > 20
