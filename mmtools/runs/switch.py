"""The kill switch of a paper or replay run: `runs/<run_id>/kill.json`, a list of latches and who cleared them.

The engine latches when a limit breaks; a person latches and clears with `halt`. Nothing is ever deleted from it: the journal
names a latch by its place in the list. What the journal holds of a latch is not kept here, so that no kill can come between
the two. The switch of live accounts is another file.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mmtools.state import StateDir

SCHEMA = "mmtools.kill/1"
Latch = dict[str, Any]


class Switch:
    """Reads and changes the latches of one run; every change is one locked edit."""

    def __init__(self, state: StateDir, run_id: str) -> None:
        self._state = state
        self._name = f"runs/{run_id}/kill.json"

    def latches(self) -> list[Latch]:
        """Return all latches, oldest first. Raises Broken when the file cannot be read: that is not "clear"."""
        body = self._state.read(self._name, schema=SCHEMA)
        return [] if body is None else list(body["latches"])

    def closed(self) -> Latch | None:
        """Return the latch that forbids this run, None when none does; a run that winds down may go on."""
        return next((latch for latch in self.latches() if latch["cleared"] is None and not latch["reduce_only"]), None)

    def latch(self, *, reason: str, detail: str, by: str, reduce_only: bool = False, halt: int | None = None) -> None:
        """Close the switch. halt: which halt of the run's journal this is, counted from 0; None for what a person asks for."""
        with self._state.edit(self._name, schema=SCHEMA) as body:
            body.setdefault("latches", []).append(
                {
                    "reason": reason,
                    "detail": detail,
                    "by": by,
                    "since": _now(),
                    "reduce_only": reduce_only,
                    "halt": halt,
                    "cleared": None,
                }
            )

    def clear(self, *, by: str, why: str) -> int:
        """Open the switch; return how many latches were closed."""
        closed = 0
        with self._state.edit(self._name, schema=SCHEMA) as body:
            for latch in body.setdefault("latches", []):
                if latch["cleared"] is None:
                    latch["cleared"] = {"by": by, "why": why, "at": _now()}
                    closed += 1
        return closed

    def of_halt(self, number: int, halt: Mapping[str, Any]) -> Latch:
        """Return the latch of a halt that stands in the run's journal; close the switch when there is none for it.

        number: which of the journal's halts it is, counted from 0; a halt that a person asked for names the latch. A kill can
        come between the journal and the switch, so whoever finds a halt in the journal asks again.
        """
        for place, latch in enumerate(self.latches()):
            if latch["halt"] == number or halt.get("latch") == place:
                return latch
        self.latch(reason=halt["why"], detail=halt["detail"], by=halt.get("by", "quote-run"), halt=number)
        return self.latches()[-1]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
