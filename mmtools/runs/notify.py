"""What a run tells the service manager that started it (sd_notify): ready, alive, how it goes, ending. No library, no thread.

Without $NOTIFY_SOCKET nothing is told. A manager that does not listen never disturbs the run: nothing here waits or raises. What the
words mean stands in sd_notify(3); when to say them is `telling`'s.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self

EXTEND_S = 120.0
"""How much more time is asked for while the start takes long; asked for again long before it is over."""
EXTEND_EVERY_S = 5.0
PARTS = 4
"""How often within the watchdog's time the run says that it lives: half would do, and a slow look may come between."""


class Notifier:
    """The socket of the service manager. `of` makes it."""

    def __init__(self, address: str, *, watchdog_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """address: a path, or an abstract name that begins with @. watchdog_s: without a sign of life for so long we are killed."""
        import socket

        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._every_s = None if watchdog_s is None else watchdog_s / PARTS
        self._clock = clock
        self._next_beat_s = self._next_extend_s = clock()
        self.is_ready = False

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self | None:
        """Return what the environment of a service names; None when no manager listens."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")) or len(address) < 2:
            return None
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "")
        return cls(address, watchdog_s=int(usec) / 1e6 if watched and usec.isascii() and usec.isdecimal() and int(usec) else None)

    def ready(self, status: str) -> None:
        """The run has begun; from here on the watchdog counts. To be called again while `is_ready` is not so."""
        if not self.is_ready and self._say(f"READY=1\nSTATUS={_line(status)}"):
            self.is_ready = True
            self.beat()

    def status(self, text: str) -> None:
        self._say(f"STATUS={_line(text)}")

    def beat(self) -> None:
        """Say that the loop turns, as often as it must be said; to be called at every turn."""
        if self._every_s is not None and (now_s := self._clock()) >= self._next_beat_s:
            self._next_beat_s = now_s + self._every_s
            self._say("WATCHDOG=1")

    def extend(self) -> None:
        """Ask for more time to start, or to end, as often as it must be asked; to be called again and again."""
        if (now_s := self._clock()) >= self._next_extend_s:
            self._next_extend_s = now_s + EXTEND_EVERY_S
            self._say(f"EXTEND_TIMEOUT_USEC={round(EXTEND_S * 1e6)}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def close(self) -> None:
        self._socket.close()

    def _say(self, words: str) -> bool:
        """Return whether it need not be said again: it was heard, or nobody is there; not when the manager's buffer is full."""
        with suppress(OSError):
            try:
                self._socket.sendto(words.encode("utf-8", "replace"), self._address)
            except BlockingIOError:
                return False
        return True


def _line(text: str) -> str:
    return " ".join(text.split())
