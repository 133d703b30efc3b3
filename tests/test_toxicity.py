"""The bad maker: among informed takers the quotes that its own markouts widen lose less."""

import pytest

from bench.toxicity import SEEDS, compare


@pytest.mark.slow
def test_among_informed_takers_widened_quotes_lose_less_over_fifty_seeds() -> None:
    found = compare(SEEDS)
    assert found.saved - found.interval > 0
    plain, widened = zip(*found.pairs, strict=True)
    assert all(maker.widened == 0 for maker in plain)
    assert sum(maker.widened > 0 and maker.ticks > 0 for maker in widened) > 0.8 * SEEDS
    assert sum(maker.total for maker in plain) < sum(maker.total for maker in widened) < 0
