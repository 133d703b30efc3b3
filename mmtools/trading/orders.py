"""From quotes in YES terms to token orders and what to change: route(), afford(), diff().

An ask is SELL YES from our stock and BUY NO at 1 - price for the rest; a bid is SELL NO from our stock and BUY YES for the
rest. Nothing here knows risk or money beyond the numbers it is handed. `planner` routes and affords, `maker` compares.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from mmtools import units
from mmtools.trading.market import OfToken, Order, Outcome, Side, yes_price
from mmtools.units import Price, Shares, Usdc

SLACK = Usdc(1_000)
"""Left over when money is spent to the last: every partial fill may round up by a millionth."""
KEEP_DOWN_TO = 0.5
"""A resting order keeps its place in the queue until less than this part of the wanted size is left of it."""
KEEP_UP_TO = 1.25
"""... and while it is at most this part of what money alone would now allow."""


class Keep(msgspec.Struct, frozen=True, gc=False):
    """Which resting order may serve in place of a new one."""

    within: tuple[int, int] | None = None
    """The prices in YES terms, in millionths, lowest and highest, between which it may stand; None leaves that to `reprice_after`."""
    down_to: float = KEEP_DOWN_TO
    """The parts of the wanted size between which what is left of it is still good."""
    up_to: float = KEEP_UP_TO


ORDINARY = Keep()


class Leg(OfToken, msgspec.Struct, frozen=True, gc=False):
    """A token order that we want to rest. `most` is what limits allow of one that serves instead; money may have made `size` smaller."""

    outcome: Outcome
    side: Side
    price: Price
    size: Shares
    most: Shares
    keep: Keep = ORDINARY

    @property
    def cost(self) -> Usdc:
        """What it reserves in USDC."""
        return units.pay(self.price, self.size) if self.side is Side.BUY else Usdc(0)


def route(
    side: Side, price: Price, size: Shares, room: Shares, stock: Shares, min_size: Shares, *, keep: Keep = ORDINARY
) -> tuple[Leg, ...]:
    """Return the token orders for one side at one price in YES terms, cut to lots, none below the market's minimum.

    stock: what we own of the token that this side sells (YES for an ask, NO for a bid). room: what the limits on buying
    leave to the side; selling what we own uses it up but is not held back by it.
    """
    owned = Outcome.YES if side is Side.SELL else Outcome.NO
    sold = units.lots(size if size < stock else stock) if stock >= min_size else Shares(0)
    if sold < min_size:
        sold = Shares(0)
    bought = units.lots((size if size < room else room) - sold)
    legs: tuple[Leg, ...] = ()
    if sold:
        legs = (Leg(owned, Side.SELL, yes_price(owned, price), sold, sold, keep),)
    if bought >= min_size:
        legs += (Leg(owned.other, Side.BUY, yes_price(owned.other, price), bought, bought, keep),)
    return legs


def stretched(legs: Sequence[Leg], net_room: int, room: int, stock: int) -> tuple[Leg, ...]:
    """Return the legs with the `most` of those that have bands raised, the best first, as far as limits and stock last.

    net_room, room, stock: what all legs together leave of each. So what rests is within the limits even where every order is larger
    than what is wanted of it. `most` of the other legs is their size: there `up_to` is for what only money made smaller.
    """
    found = []
    for leg in legs:
        left = min(net_room, stock if leg.side is Side.SELL else room)
        more = 0 if leg.keep.within is None else max(0, min(left, math.floor(leg.size * leg.keep.up_to) - leg.size))
        net_room, room = net_room - more, room - more
        if leg.side is Side.SELL:
            stock -= more
        found.append(replace(leg, most=Shares(leg.size + more)))
    return tuple(found)


def afford(legs: Sequence[Leg], money: int, min_size: Shares, *, shrink: bool = True) -> tuple[Leg, ...]:
    """Return the legs that `money` USDC can pay, the last one shrunk to the lots that it can (when `shrink`), none below the minimum."""
    paid = []
    left = money
    for leg in legs:
        if leg.side is Side.BUY:
            if leg.cost > left:
                size = units.lots((left - SLACK) * units.ONE // leg.price) if shrink and left > SLACK else Shares(0)
                if size < min_size:
                    continue
                leg = replace(leg, size=size)
            left -= leg.cost
        paid.append(leg)
    return tuple(paid)


class State(StrEnum):
    """Where an order of ours is, as far as we know."""

    SENT = "sent"
    LIVE = "live"
    CANCELLING = "cancelling"


@dataclass(slots=True)
class Working:
    """An order of ours that may rest or be about to. Mutable: the maker keeps it current."""

    order: Order
    left: Shares
    state: State
    sent_ms: int
    accepted_ms: int | None = None
    yes_side: Side = field(init=False)
    yes_price: Price = field(init=False)

    def __post_init__(self) -> None:
        self.yes_side, self.yes_price = self.order.yes_side, self.order.yes_price


class Changes(msgspec.Struct, frozen=True, gc=False):
    """What to cancel, and which legs have no order yet."""

    cancel: tuple[Working, ...]
    place: tuple[Leg, ...]


def diff(wanted: Sequence[Leg], working: Sequence[Working], *, tick: Price, reprice_after: int, closest: int | None = None) -> Changes:
    """Compare what we want with what rests on one side. A queue position is not given up for less than `reprice_after` ticks.

    closest: the price in YES terms beyond which an order would stand through fair value; such a one is never kept.
    While a cancel is in flight nothing is placed on that side: the old order can still fill, and two would be twice the risk.
    """
    if not working:
        return Changes((), tuple(wanted))
    unmatched = list(wanted)
    cancel = []
    waiting = False
    for work in working:
        if work.state is State.CANCELLING or work.left < units.LOT:
            waiting = True  # on its way out, by our wish or because it has filled
            continue
        for leg in unmatched:
            if _serves(work, leg, tick * reprice_after, closest):
                unmatched.remove(leg)
                break
        else:
            cancel.append(work)
            waiting = True
    return Changes(tuple(cancel), () if waiting else tuple(unmatched))


def _serves(work: Working, leg: Leg, give: int, closest: int | None) -> bool:
    order, keep = work.order, leg.keep
    if order.outcome is not leg.outcome or order.side is not leg.side:
        return False
    if keep.within is None:
        stands_well = abs(order.price - leg.price) < give
    else:
        # Grid, touch and fair value may have pushed the wish out of its band; then it stands where the next one would.
        stands_well = order.price == leg.price or keep.within[0] <= work.yes_price <= keep.within[1]
    return (
        stands_well
        and (closest is None or (work.yes_price - closest) * work.yes_side.sign <= 0)
        and work.left <= leg.most
        and leg.size * keep.down_to <= work.left <= leg.size * keep.up_to
    )
