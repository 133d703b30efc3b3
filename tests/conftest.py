"""What tests share. The only place that names where recorded market data and the maker of session stores lie."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

MARKET_DATA = Path(os.environ.get("MMTOOLS_MARKET_DATA") or Path(__file__).parents[2] / "shared" / "data")

SESSION_STORES = Path(os.environ.get("MMTOOLS_SESSION_STORES") or Path(__file__).parents[2] / "shared" / "tools" / "make_session_store.py")


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The folder of recorded real markets; without it the test is skipped, but fails where CI is true."""
    if not MARKET_DATA.is_dir():
        _do_without(f"no recorded market data at {MARKET_DATA}; set MMTOOLS_MARKET_DATA")
    return MARKET_DATA


@pytest.fixture(scope="session")
def session_stores() -> Path:
    """The program that makes session folders of any size and checks them; without it as with market data."""
    if not SESSION_STORES.is_file():
        _do_without(f"no maker of session stores at {SESSION_STORES}; set MMTOOLS_SESSION_STORES")
    return SESSION_STORES


def _do_without(message: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def recordings(market_data: Path) -> Path:
    return market_data / "polymarket" / "recordings"


@pytest.fixture(scope="session", autouse=True)
def _a_cache_of_its_own() -> Iterator[None]:
    """Whatever runs here, children included, finds tapes that were made here, and leaves none behind."""
    with tempfile.TemporaryDirectory(prefix="mmtools-cache-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        yield
