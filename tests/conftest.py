"""What tests share. The only place that names where recorded market data lies."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MARKET_DATA = Path(os.environ.get("MMTOOLS_MARKET_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The folder of recorded real markets; without it the test is skipped, but fails where CI is true."""
    if not MARKET_DATA.is_dir():
        message = f"no recorded market data at {MARKET_DATA}; set MMTOOLS_MARKET_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return MARKET_DATA


@pytest.fixture(scope="session")
def recordings(market_data: Path) -> Path:
    return market_data / "polymarket" / "recordings"


@pytest.fixture(scope="session", autouse=True)
def _a_cache_of_its_own() -> Iterator[None]:
    """Whatever runs here, children included, finds tapes that were made here, and leaves none behind."""
    with tempfile.TemporaryDirectory(prefix="mmtools-cache-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        yield
