"""The question to REST whether a silent book is still true: one request about one market, and what its answer says.

Which market is asked about, when, and what follows from a verdict is `stream`'s, the only caller. No state of the connection
and no row may be made here, and nothing waits: the request runs in a thread of its own.
"""

from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from threading import Thread
from typing import Literal, TypeVar

import msgspec

from mmtools.units import ONE, parse

_T = TypeVar("_T")
Verdict = Literal["open", "spoke", "failed", "agrees", "disagrees"]
"""spoke: the channel said something of the market meanwhile, so the question is void. failed: no usable answer in time."""


@dataclass(slots=True, kw_only=True)
class Check:
    """One question to REST about one silent market. `ask` makes them."""

    market: int
    asked_ms: int
    answer: futures.Future[tuple[int, int]]
    limit_ms: int
    """For the answer."""
    doubt_ms: int
    """How long the answer may differ from our touch before it counts: a frame that explains it may be under way."""
    answered_ms: int | None = None
    """When the answer was first seen to differ."""

    def verdict(self, now: int, heard_ms: int, touch: tuple[int, int] | None) -> Verdict:
        """Compare with what the channel has shown of the market: when it last spoke, and best bid and ask in YES terms."""
        if heard_ms >= self.asked_ms:
            return "spoke"
        if not self.answer.done():
            return "open" if now - self.asked_ms < self.limit_ms else "failed"
        try:
            found = self.answer.result()
        except (OSError, ValueError):  # the network, the status, not the JSON of this book
            return "failed"
        if found == touch:
            return "agrees"
        if self.answered_ms is None:
            self.answered_ms = now
        return "open" if now - self.answered_ms < self.doubt_ms else "disagrees"

    def excuse(self, held_ms: int) -> None:
        """Leave out of the doubt a time in which nobody read the channel."""
        if self.answered_ms is not None:
            self.answered_ms += held_ms


def ask(rest: str, token: str, *, market: int, now: int, limit_ms: int, doubt_ms: int) -> Check:
    """Ask the REST address `rest` about the book of a market's YES token; returns at once."""
    answer = in_thread(lambda: _rest_touch(rest, token, limit_ms / 1000))
    return Check(market=market, asked_ms=now, answer=answer, limit_ms=limit_ms, doubt_ms=doubt_ms)


class _Level(msgspec.Struct):
    price: str
    size: str


class _RestBook(msgspec.Struct):
    asset_id: str
    bids: list[_Level]
    asks: list[_Level]


def _rest_touch(rest: str, token: str, limit_s: float) -> tuple[int, int]:
    """Return best bid (0: none) and best ask (ONE: none) of a token. Raises OSError for the network, ValueError for what is no book."""
    import requests

    answer = requests.get(f"{rest}/book", params={"token_id": token}, timeout=limit_s)
    answer.raise_for_status()
    book = msgspec.json.decode(answer.content, type=_RestBook)
    if book.asset_id != token:
        raise ValueError("the book of another token")
    bids = [parse(level.price) for level in book.bids if parse(level.size) > 0]
    asks = [parse(level.price) for level in book.asks if parse(level.size) > 0]
    return max(bids, default=0), min(asks, default=ONE)


def in_thread(work: Callable[[], _T]) -> futures.Future[_T]:
    """Start work in a daemon thread; the standard library's pools would keep the process from ending while it lasts.

    `stream` connects in one too.
    """
    future: futures.Future[_T] = futures.Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as e:
            future.set_exception(e)

    Thread(target=run, daemon=True).start()
    return future
