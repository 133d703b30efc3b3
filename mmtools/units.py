"""Prices, shares and money as integer millionths, and the exact ways between them and decimal text.

Everything owned, owed or sent is one of these integers. A product price x size is an integer of 1e-12 USDC; it becomes
money by rounding up when we pay and down when we receive. No floats in here but `of`, which reads a number as written.
"""

import re
from functools import lru_cache
from typing import NewType

Price = NewType("Price", int)
"""USDC per share, in millionths; 0 < price < ONE."""
Shares = NewType("Shares", int)
"""Outcome shares, in millionths."""
Usdc = NewType("Usdc", int)
"""USDC, in millionths; negative when owed or lost."""

ONE = 1_000_000
"""One share, one USDC, or a price of certainty."""
LOT = Shares(10_000)
"""Orders are sent in hundredths of a share."""

_DECIMAL = re.compile(r"(-?)(?=\.?[0-9])([0-9]{0,15})(?:\.([0-9]{1,18}))?", re.ASCII)
"""The venue's own examples write .48 for 0.48."""


@lru_cache(maxsize=1024)
def parse(text: str) -> int:
    """Return the millionths that decimal text stands for, exactly: "0.29" is 290_000.

    Raises ValueError when the text is no plain decimal, or has more than six decimals that are not zero.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a plain decimal number")
    sign, whole, fraction = match.groups(default="")
    if len(fraction) > 6:
        if fraction[6:].strip("0"):
            raise ValueError(f"{text!r} has more than six decimals")
        fraction = fraction[:6]
    amount = int(whole or 0) * ONE + int(fraction.ljust(6, "0"))
    return -amount if sign else amount


def of(number: float) -> int:
    """Return the millionths of a number as a person wrote it: of(0.29) is 290_000. Raises ValueError as `parse` does."""
    written = repr(number)
    return parse(f"{number:.18f}" if "e-" in written else written)


def text(amount: int) -> str:
    """Return the shortest decimal text of an amount of millionths: 290_000 is "0.29", 50_000_000 is "50"."""
    whole, fraction = divmod(abs(amount), ONE)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{fraction:06d}".rstrip("0") if fraction else f"{sign}{whole}"


def pay(price: int, size: int) -> Usdc:
    """Return what `size` shares at `price` cost us: a part of a millionth rounds up."""
    return Usdc(-(-price * size // ONE))


def receive(price: int, size: int) -> Usdc:
    """Return what `size` shares at `price` bring us: a part of a millionth is lost."""
    return Usdc(price * size // ONE)


def lots(size: int) -> Shares:
    """Return the size cut down to whole lots; 0 when it is less than one, or negative."""
    return Shares(size // LOT * LOT if size > 0 else 0)
