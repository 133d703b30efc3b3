"""Our Avellaneda & Stoikov earns what the paper's did, in the paper's own simulation (bench/avellaneda_stoikov.py)."""

from random import Random

import pytest

from bench.avellaneda_stoikov import INVENTORY, misses, simulate


@pytest.mark.parametrize(
    ("gamma", "spread", "profit", "profit_deviation", "final_q_deviation"),
    [(0.1, 1.49, 65.0, 6.6, 2.9), (0.01, 1.35, 68.6, 8.7, 5.1), (1.0, 3.03, 31.4, 5.0, 1.7)],
)
def test_the_inventory_strategy_meets_the_table_of_2008(
    gamma: float, spread: float, profit: float, profit_deviation: float, final_q_deviation: float
) -> None:
    found = simulate(gamma, Random(1), 2000)
    assert found.spread == pytest.approx(spread, rel=0, abs=0.01)
    assert found.profit == pytest.approx(profit, rel=0, abs=0.7)
    assert found.profit_deviation == pytest.approx(profit_deviation, rel=0.08)
    assert found.final_q_deviation == pytest.approx(final_q_deviation, rel=0.08)
    assert misses(gamma, found) == []


def test_a_model_that_ignores_inventory_misses_the_table() -> None:
    found = simulate(0.1, Random(1), 1000, symmetric=True)
    missed = misses(0.1, found)
    assert [line.split(": ")[1].split(" is ")[0] for line in missed] == ["profit", "std profit", "std final q"]
    assert set(INVENTORY) == {0.1, 0.01, 1.0}
