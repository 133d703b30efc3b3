"""Instants: by the wall clock and since boot, and how they are written. Used by every room that touches the world."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An instant by two clocks. boot_s: seconds since boot, asleep or not; boot_id: which boot, "" when the kernel does not say."""

    wall_ms: int
    boot_id: str
    boot_s: float

    @classmethod
    def now(cls) -> Self:
        return cls(wall_ms=now_ms(), boot_id=boot_id(), boot_s=time.clock_gettime(time.CLOCK_BOOTTIME))

    def since(self, earlier: "Moment") -> float:
        """Return the seconds from an earlier instant to this; 0 when the clocks contradict each other: then it counts as now."""
        if self.boot_id and self.boot_id == earlier.boot_id:
            return max(0.0, self.boot_s - earlier.boot_s)
        return max(0.0, (self.wall_ms - earlier.wall_ms) / 1000)


LAST_MS = 253_402_300_799_999
"""The end of the year 9999: a time or a span of others that is beyond it is a slip, and `iso` could not say it."""


def sane_ms(value: object) -> int | None:
    """Return what a program of others wrote as a time or a span in ms; None when it can be neither."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LAST_MS else None


def now_ms() -> int:
    """Return the wall time in ms UTC."""
    return time.time_ns() // 1_000_000


def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def iso(at_ms: int) -> str:
    """Return a time as ISO 8601 UTC with milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
