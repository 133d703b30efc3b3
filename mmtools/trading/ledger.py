"""The Account of a run: what is owned, what is reserved, what was earned, and from what. The maker and the engine book here.

Only bookkeeping: no opinion, no order is chosen, nothing is read or written. The caller makes orders fit and says what
happened, in the order in which it happened; every ValueError in here is a bug of the caller and leaves the books as they were.

How the split of P&L comes about, per market, with q = YES - NO and everything in YES terms: a fill earns side x (mark - price) x size
(`spread`), a move of the mark q x change (`inventory`), resolution q x (payout - mark) and a trade that failed on chain
side x (its mark - mark now) x size (`settlement`). The last two are added up exactly in 1e-12 USDC (`_e12`). The spread has no
sum of its own: it is what is left of the total, so that the parts always add up, and rounding of cash shows there.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

from mmtools.trading.market import Fill, Order, Outcome, Side, yes_price
from mmtools.units import ONE, Price, Shares, Usdc, pay, receive

REMEMBERED = 2_000
"""How many finished trades are known again when they are reported twice; those on their way to the chain always are."""

_Key = tuple[str, str]
_ZERO_USDC, _ZERO_SHARES = Usdc(0), Shares(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """P&L as printed, in millionths of a USDC; a run's figures are the sum of its markets'. Fees are negative when paid."""

    total: Usdc = _ZERO_USDC
    spread: Usdc = _ZERO_USDC
    inventory: Usdc = _ZERO_USDC
    fees: Usdc = _ZERO_USDC
    rebates: Usdc = _ZERO_USDC
    settlement: Usdc = _ZERO_USDC

    def __post_init__(self) -> None:
        if self.total != self.spread + self.inventory + self.fees + self.rebates + self.settlement:
            raise ValueError(f"the parts do not add up to the total: {self}")

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(**{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Redeemed:
    """What a resolved market held and what it paid, so that a late fill, merge or reversal can still be booked exactly."""

    yes: Shares
    no: Shares
    cost_yes: Usdc
    cost_no: Usdc
    paid: Usdc


@dataclass(slots=True, kw_only=True)
class Position:
    """One market of an Account, which alone changes it; everybody else reads.

    Nothing is held while `mark` is None. Cost is at average and always between 0 and the shares held (a share never costs more than 1).
    """

    yes: Shares = _ZERO_SHARES
    no: Shares = _ZERO_SHARES
    cost_yes: Usdc = _ZERO_USDC
    cost_no: Usdc = _ZERO_USDC
    cash: Usdc = _ZERO_USDC
    """Change of cash through this market since the start."""
    realised: Usdc = _ZERO_USDC
    """What sales, merges and resolution brought above cost, before fees."""
    fees: Usdc = _ZERO_USDC
    """Paid, hence negative."""
    rebates: Usdc = _ZERO_USDC
    mark: Price | None = None
    """The last mid in YES terms; the payout once resolved."""
    resolved: Price | None = None
    """What a share of YES paid."""
    inventory_e12: int = 0
    settlement_e12: int = 0
    transferred_e12: int = 0
    """Value of the shares that came (or went) as capital, at the mark of that time."""
    resting_buys: Usdc = _ZERO_USDC
    merging: Shares = _ZERO_SHARES
    unsellable: dict[Outcome, Shares] = field(default_factory=lambda: dict.fromkeys(Outcome, _ZERO_SHARES))
    """Not yet final or reserved by resting sells; what is in a merge stands in `merging`."""
    redeemed: _Redeemed | None = None

    @property
    def net(self) -> Shares:
        return Shares(self.yes - self.no)

    @property
    def total(self) -> Usdc:
        """Cash change and position at the mark, less what came in as capital; rounded down."""
        mark = self.mark or 0
        return Usdc((self.cash * ONE + self.yes * mark + self.no * (ONE - mark) - self.transferred_e12) // ONE)

    def held(self, outcome: Outcome) -> Shares:
        return self.yes if outcome is Outcome.YES else self.no

    def cost(self, outcome: Outcome) -> Usdc:
        return self.cost_yes if outcome is Outcome.YES else self.cost_no

    def cost_of(self, outcome: Outcome, size: Shares) -> Usdc:
        """Return the average cost of a part of the holding, rounded down; exact for all of it. ValueError beyond what is held."""
        held = self.held(outcome)
        if size > held:
            raise ValueError(f"{size} {outcome} cannot be taken from {held} held")
        return Usdc(self.cost(outcome) * size // held) if held else _ZERO_USDC


@dataclass(frozen=True, slots=True)
class _NotFinal:
    """A fill that may still fail on chain, with the changes of cash (without the fee) and of cost that it made."""

    fill: Fill
    cash: Usdc
    cost: Usdc


class Account:
    """The money and shares of one run over all its markets, which go by their place in the run's list.

    Reading is O(1) but for the figures, which cost a few operations per market. Memory grows with resting orders and trades
    that are not final, never with the number of fills.
    """

    def __init__(self, capital: Usdc, markets: int, *, remembered: int = REMEMBERED) -> None:
        """remembered: how many finished trades are known again; 0 for a venue that never reports one twice."""
        self._remembered = remembered
        self.capital: Usdc = capital
        """What was put in: the start, deposits, and transferred shares at the mark of their time."""
        self.cash: Usdc = capital
        self.reserved: Usdc = _ZERO_USDC
        """What resting buys would cost, each rounded up."""
        self.positions: list[Position] = [Position() for _ in range(markets)]
        self._resting: dict[str, tuple[Order, Shares]] = {}
        self._not_final: dict[_Key, _NotFinal] = {}
        self._finished: OrderedDict[_Key, bool] = OrderedDict()  # oldest first; True when it failed

    @property
    def free(self) -> Usdc:
        return Usdc(self.cash - self.reserved)

    # the mark

    def mark(self, market: int, mid: Price) -> None:
        """Take the mid of a good book, in YES terms, as the mark; a resolved market stays at its payout."""
        position = self.positions[market]
        if position.resolved is not None:
            return
        if position.mark is not None:
            position.inventory_e12 += (position.yes - position.no) * (mid - position.mark)
        position.mark = mid

    # orders and what they reserve

    def reserve(self, order: Order) -> None:
        """Set aside the cash of a buy or the shares of a sell, when it is sent. ValueError when they are not there or the key is taken."""
        position = self.positions[order.market]
        if order.key in self._resting:
            raise ValueError(f"order {order.key} is reserved already")
        if order.side is Side.BUY:
            cost = pay(order.price, order.size)
            if cost > self.free:
                raise ValueError(f"order {order.key} costs {cost}, free are {self.free}")
            self.reserved = Usdc(self.reserved + cost)
            position.resting_buys = Usdc(position.resting_buys + cost)
        else:
            stock = self.free_stock(order.market, order.outcome)
            if order.size > stock:
                raise ValueError(f"order {order.key} sells {order.size}, free are {stock}")
            self._hold_back(position, order.outcome, order.size)
        self._resting[order.key] = (order, order.size)

    def remaining(self, key: str) -> Shares:
        """Return what of an order is neither filled nor released; 0 when unknown."""
        resting = self._resting.get(key)
        return resting[1] if resting else _ZERO_SHARES

    def release(self, key: str) -> Shares:
        """Free what is left of an order that is gone, and return it; 0 the second time."""
        left = self.remaining(key)
        self._shrink(key, left)
        return left

    def _shrink(self, key: str, size: Shares) -> None:
        """Free the reservation of `size` shares of an order, at most of what is left; an unknown order reserves nothing."""
        if key not in self._resting:
            return
        order, left = self._resting.pop(key)
        after = Shares(max(left - size, 0))
        if after:
            self._resting[key] = (order, after)
        position = self.positions[order.market]
        if order.side is Side.BUY:
            freed = pay(order.price, left) - pay(order.price, after)
            self.reserved = Usdc(self.reserved - freed)
            position.resting_buys = Usdc(position.resting_buys - freed)
        else:
            self._hold_back(position, order.outcome, after - left)

    def free_stock(self, market: int, outcome: Outcome) -> Shares:
        """Return the shares that can be sold or merged now: final, not reserved, not in a merge."""
        position = self.positions[market]
        return Shares(max(position.held(outcome) - position.unsellable[outcome] - position.merging, 0))

    def resting_buys(self, market: int) -> Usdc:
        return self.positions[market].resting_buys

    # fills and their way to the chain

    def apply(self, fill: Fill, *, final: bool = True) -> bool:
        """Book a fill; False and no change when this trade of this order is known already.

        The fill's mark becomes the mark. More than its order has left, or a fill of an order that is gone, is booked whole.
        ValueError when it sells more than is held.
        """
        key = (fill.trade_id, fill.order_key)
        if key in self._not_final or key in self._finished:
            return False
        with self._open(fill.market) as position:
            if fill.side is Side.BUY:
                cost = pay(fill.price, fill.size)
                cash = Usdc(-cost)
            else:
                cost = Usdc(-position.cost_of(fill.outcome, fill.size))
                cash = receive(fill.price, fill.size)
            self.mark(fill.market, fill.mark)
            self._book_fill(position, fill, cash, cost, sign=1)
        self._shrink(fill.order_key, fill.size)
        if final:
            self._finish(key, failed=False)
        else:
            self._not_final[key] = _NotFinal(fill, cash, cost)
            if fill.side is Side.BUY:
                self._hold_back(position, fill.outcome, fill.size)
        return True

    def finalise(self, trade_id: str, order_key: str) -> None:
        """Take a trade as CONFIRMED: what it bought can be sold. Nothing happens to an unknown one; ValueError for one that failed."""
        key = (trade_id, order_key)
        if self._finished.get(key):
            raise ValueError(f"trade {trade_id} of order {order_key} failed and cannot be confirmed")
        kept = self._not_final.pop(key, None)
        if kept is not None:
            if kept.fill.side is Side.BUY:
                self._hold_back(self.positions[kept.fill.market], kept.fill.outcome, -kept.fill.size)
            self._finish(key, failed=False)

    def reverse(self, trade_id: str, order_key: str) -> None:
        """Take back a fill whose trade FAILED on chain; the reservation does not come back. Nothing happens the second time.

        A trade that was never reported is remembered as failed, so a report that comes after this one books nothing.
        ValueError for one that was CONFIRMED, and when what it bought is no longer held.
        """
        key = (trade_id, order_key)
        if self._finished.get(key) is False:
            raise ValueError(f"trade {trade_id} of order {order_key} was confirmed and cannot fail")
        kept = self._not_final.get(key)
        if kept is not None:
            self._take_back(kept)
            del self._not_final[key]
        self._finish(key, failed=True)

    def _take_back(self, kept: _NotFinal) -> None:
        fill = kept.fill
        with self._open(fill.market) as position:
            cost = -kept.cost
            if fill.side is Side.BUY:
                left = position.held(fill.outcome) - fill.size
                if left < 0:
                    raise ValueError(f"trade {fill.trade_id} bought {fill.size} {fill.outcome}, of which {-left} are gone")
                # Sales since then took out a part of this cost at average; what does not fit the shares left corrects what they realised.
                before = position.cost(fill.outcome)
                cost = min(max(before + cost, 0), left) - before
                self._hold_back(position, fill.outcome, -fill.size)
            self._book_fill(position, fill, Usdc(-kept.cash), Usdc(cost), sign=-1)

    def _book_fill(self, position: Position, fill: Fill, cash: Usdc, cost: Usdc, *, sign: int) -> None:
        """Book a fill (sign 1) or take it back (-1).

        The difference of marks is 0 for a fill of an open market; one reported after resolution earned its spread at its own mark.
        """
        mark = position.mark if position.mark is not None else fill.mark
        position.settlement_e12 += sign * fill.yes_side.sign * fill.size * (mark - fill.mark)
        self._book(position, fill.outcome, Shares(sign * fill.side.sign * fill.size), cost, cash)
        position.fees = Usdc(position.fees - sign * fill.fee)
        self._receive(position, -sign * fill.fee)

    def _finish(self, key: _Key, *, failed: bool) -> None:
        self._finished[key] = failed
        if len(self._finished) > self._remembered:
            self._finished.popitem(last=False)

    # merges, resolution, money from outside

    def lock_merge(self, market: int, size: Shares) -> None:
        """Set aside pairs that are sent to be merged. ValueError when they are not free."""
        stock = min(self.free_stock(market, Outcome.YES), self.free_stock(market, Outcome.NO))
        if size > stock:
            raise ValueError(f"{size} pairs cannot be merged, free are {stock}")
        position = self.positions[market]
        position.merging = Shares(position.merging + size)

    def unlock_merge(self, market: int, size: Shares) -> None:
        """Free pairs whose merge came to nothing, at most those that are locked."""
        position = self.positions[market]
        position.merging = Shares(max(position.merging - size, 0))

    def merge(self, market: int, size: Shares) -> None:
        """Turn pairs into cash, which changes no total, and end their lock. ValueError when they are not held."""
        with self._open(market) as position:
            cost_yes, cost_no = (position.cost_of(outcome, size) for outcome in (Outcome.YES, Outcome.NO))
            self._book(position, Outcome.YES, Shares(-size), Usdc(-cost_yes), _ZERO_USDC)
            self._book(position, Outcome.NO, Shares(-size), Usdc(-cost_no), Usdc(size))
        self.unlock_merge(market, size)

    def resolve(self, market: int, payout: Price) -> None:
        """Pay out a market: a share of YES gets `payout`, one of NO the rest. ValueError for another payout than the first one."""
        position = self.positions[market]
        if not 0 <= payout <= ONE or position.resolved not in (None, payout):
            raise ValueError(f"market {market} cannot pay {payout} (paid before: {position.resolved})")
        if position.resolved is not None:
            return
        if position.mark is not None:
            position.settlement_e12 += position.net * (payout - position.mark)
        position.mark = position.resolved = payout
        self._redeem(position, payout)

    def rebate(self, market: int, amount: Usdc) -> None:
        """Book a rebate that was received."""
        position = self.positions[market]
        position.rebates = Usdc(position.rebates + amount)
        self._receive(position, amount)

    def deposit(self, amount: Usdc) -> None:
        """Book cash that came from outside, or went when negative: capital, never P&L."""
        self.capital = Usdc(self.capital + amount)
        self.cash = Usdc(self.cash + amount)

    def adjust(self, market: int, outcome: Outcome, shares: Shares, at: Price) -> None:
        """Book shares that came from outside, or went when negative: capital at the mark `at` (YES terms), never P&L.

        A resolved market takes its payout instead. Shares cost what they are worth; those that go realise as if sold at the mark.
        ValueError when more go than are held.
        """
        with self._open(market) as position:
            out = position.cost_of(outcome, Shares(-shares)) if shares < 0 else _ZERO_USDC
            self.mark(market, at)
            price = yes_price(outcome, at if position.resolved is None else position.resolved)
            value = pay(price, shares)
            cost = value if shares > 0 else Usdc(-out)
            self._book(position, outcome, shares, cost, _ZERO_USDC)
            position.realised = Usdc(position.realised - value)
            position.transferred_e12 += price * shares
            self.capital = Usdc(self.capital + value)

    # what came of it

    def figures(self, market: int) -> Figures:
        """Return the market's P&L and its parts, each rounded down; the spread is what the others leave."""
        position = self.positions[market]
        total, inventory, settlement = position.total, position.inventory_e12 // ONE, position.settlement_e12 // ONE
        return Figures(
            total=total,
            spread=Usdc(total - inventory - position.fees - position.rebates - settlement),
            inventory=Usdc(inventory),
            fees=position.fees,
            rebates=position.rebates,
            settlement=Usdc(settlement),
        )

    def run_figures(self) -> Figures:
        return sum((self.figures(market) for market in range(len(self.positions))), start=Figures())

    def total(self) -> Usdc:
        """Return `run_figures().total`, without the parts."""
        total = 0
        for position in self.positions:
            mark = position.mark or 0
            value = position.cash * ONE + position.yes * mark + position.no * (ONE - mark)
            total += (value - position.transferred_e12) // ONE
        return Usdc(total)

    def unrealised(self, market: int) -> Usdc:
        """Return what realised, fees and rebates leave of the market's total: the position at the mark less its cost."""
        position = self.positions[market]
        return Usdc(position.total - position.realised - position.fees - position.rebates)

    def worst_loss(self, market: int) -> Usdc:
        """Return what of its cost the position loses in the worse outcome; 0 when it cannot lose."""
        position = self.positions[market]
        return Usdc(max(position.cost_yes + position.cost_no - min(position.yes, position.no), 0))

    # the few ways in which amounts change

    def _receive(self, position: Position, amount: int) -> None:
        position.cash = Usdc(position.cash + amount)
        self.cash = Usdc(self.cash + amount)

    def _book(self, position: Position, outcome: Outcome, shares: Shares, cost: Usdc, cash: Usdc) -> None:
        """Change holding, cost and cash by these; what cash and cost do not balance is realised."""
        if outcome is Outcome.YES:
            position.yes = Shares(position.yes + shares)
            position.cost_yes = Usdc(position.cost_yes + cost)
        else:
            position.no = Shares(position.no + shares)
            position.cost_no = Usdc(position.cost_no + cost)
        position.realised = Usdc(position.realised + cash + cost)
        self._receive(position, cash)

    @staticmethod
    def _hold_back(position: Position, outcome: Outcome, change: int) -> None:
        position.unsellable[outcome] = Shares(position.unsellable[outcome] + change)

    @contextmanager
    def _open(self, market: int) -> Iterator[Position]:
        """Give the position for a change of its holdings; a resolved one is taken back first and paid out anew afterwards."""
        position, paid_out = self.positions[market], self.positions[market].redeemed
        if paid_out is not None:
            self._book(position, Outcome.YES, paid_out.yes, paid_out.cost_yes, _ZERO_USDC)
            self._book(position, Outcome.NO, paid_out.no, paid_out.cost_no, Usdc(-paid_out.paid))
        try:
            yield position
        finally:
            if position.resolved is not None:
                self._redeem(position, position.resolved)

    def _redeem(self, position: Position, payout: Price) -> None:
        paid = Usdc((position.yes * payout + position.no * (ONE - payout)) // ONE)
        position.redeemed = _Redeemed(yes=position.yes, no=position.no, cost_yes=position.cost_yes, cost_no=position.cost_no, paid=paid)
        self._book(position, Outcome.YES, Shares(-position.yes), Usdc(-position.cost_yes), _ZERO_USDC)
        self._book(position, Outcome.NO, Shares(-position.no), Usdc(-position.cost_no), paid)
