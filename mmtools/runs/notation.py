"""Notation: how times, amounts and what goes without saying are written in journals and documents.

Apart from `records`, which knows the maker and all its events: whoever reads a run writes the same way without loading them.
"""

from datetime import UTC, datetime

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


def iso(at_ms: int) -> str:
    """Return a time as ISO 8601 UTC with milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def maybe_text(amount: int | None) -> str | None:
    return None if amount is None else text(amount)
