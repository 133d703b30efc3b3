"""What the planner remembers: a plan is used again only while nothing is other than it was; each thing that can be is changed here."""

from collections.abc import Callable

import pytest
from worlds import NOON_MS, World, market, shares, usdc

from mmtools.trading import events as ev
from mmtools.trading.book import UNKNOWN
from mmtools.trading.market import Outcome
from mmtools.trading.planner import Planner

YES, NO = Outcome.YES, Outcome.NO


def decided(world: World) -> ev.Decision:
    """Decide anew, without waiting for anything; a second market is not asked."""
    world.tick()
    found = world.maker.desks[0].decision
    assert found is not None
    return found


def unknown_bid(world: World) -> None:
    world.views[0].book.bids[47] = UNKNOWN


def unknown_ask(world: World) -> None:
    world.views[0].book.asks[48] = UNKNOWN


def stock_for_the_same_cash(outcome: Outcome) -> Callable[[World], None]:
    def change(world: World) -> None:
        before = world.account.cash
        world.own(outcome, 12, "0.40")
        world.account.deposit(usdc((before - world.account.cash) / 1_000_000))

    change.__name__ = f"{outcome} for the same cash"
    return change


def pairs_in_a_merge(world: World) -> None:
    world.account.lock_merge(0, shares(10))


def dearer_stock(world: World) -> None:
    position = world.account.positions[0]
    position.cost_yes = usdc(position.cost_yes / 1_000_000 + 8)


def exposure_elsewhere(world: World) -> None:
    other = world.account.positions[1]
    other.yes, other.cost_yes = shares(9), usdc(8)


def more_cash(world: World) -> None:
    world.account.deposit(usdc(77))


def the_end_is_nearer(world: World) -> None:
    world.now_ms += 600_000
    for place in (0, 1):
        world.views[place].frame(world.now_ms)


CHANGES = [
    unknown_bid, unknown_ask, stock_for_the_same_cash(YES), stock_for_the_same_cash(NO), pairs_in_a_merge, dearer_stock,
    exposure_elsewhere, more_cash, the_end_is_nearer,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.replace("_", " "))
def test_a_plan_is_not_used_again_when(change: Callable[[World], None], monkeypatch: pytest.MonkeyPatch) -> None:
    ends = NOON_MS + 2_400_000
    world = World(
        market("one", event="e", end_ms=ends), market("two", event="e", end_ms=ends),
        capital=400, default_order_size=20, max_event_exposure=10.0, max_net_position=80.0, event_cool_off_s=0,
        taper_before_resolution_s=1800, recycle_profit_threshold=9.0,
    )  # fmt: skip
    for outcome in (YES, NO):
        world.own(outcome, 35, "0.45")
    world.show(0)
    world.show(1)
    before = decided(world)
    made: list[None] = []
    quote = Planner._quote

    def counted(self: Planner, *asked: object) -> bool:
        made.append(None)
        return quote(self, *asked)  # type: ignore[arg-type]

    monkeypatch.setattr(Planner, "_quote", counted)
    assert decided(world).sides == before.sides
    assert made == []  # it was remembered
    change(world)
    after = decided(world)
    world.maker.desks[0].plans.clear()
    anew = decided(world)
    assert (after.sides, after.money, after.numbers) == (anew.sides, anew.money, anew.numbers)
    assert (after.sides, after.money, after.numbers) != (before.sides, before.money, before.numbers)
