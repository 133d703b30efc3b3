"""Notation: how amounts, what goes without saying, and tables are written in journals, documents and results.

Apart from `records`, which knows the maker and all its events: whoever reads a run writes the same way without loading them.
"""

from collections.abc import Sequence

from mmtools.units import text

NEUTRAL = {
    "toxicity_ticks": 0,
    "toxicity_zscore": None,
    "rewards_ticks": 0,
    "rewards_reason": None,
    "trend_ticks": 0,
    "taper": 1,
    "concession_ticks": 0,
}
"""What a decision leaves out: adjustments that changed nothing. There are thousands of decisions an hour."""


def maybe_text(amount: int | None) -> str | None:
    return None if amount is None else text(amount)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    """Return rows under their heads and a rule, the columns two spaces apart. sides: one "<" or ">" a column, where its cells stand.

    A column is two wider than its head at least: narrow figures would crowd.
    """
    widths = [max([len(head) + 2, *map(len, cells)]) for head, *cells in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(f"{c:{side}{width}}" for c, side, width in zip(line, sides, widths, strict=True)).rstrip() for line in lines)
