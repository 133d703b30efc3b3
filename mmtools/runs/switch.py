"""The kill switch of a paper or replay run: `runs/<run_id>/kill.json`, a list of latches and who cleared them.

The engine latches when a limit breaks; a person latches and clears with `halt`. Nothing is ever deleted from it: a run that
is simulated again must find which of its halts had been cleared. The switch of live accounts is another file.
"""

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

    def changed_ns(self) -> int:
        """Return a stamp that differs after a change; 0 when there is no file."""
        try:
            return self._state.path(self._name).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def latch(self, *, reason: str, detail: str, by: str, reduce_only: bool = False, journalled: bool = False) -> None:
        """Close the switch. journalled: whether the run's journal holds this halt."""
        with self._state.edit(self._name, schema=SCHEMA) as body:
            body.setdefault("latches", []).append(
                {
                    "reason": reason,
                    "detail": detail,
                    "by": by,
                    "since": _now(),
                    "reduce_only": reduce_only,
                    "journalled": journalled,
                    "cleared": None,
                    "clear_journalled": False,
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

    def note(self, place: int, **flags: bool) -> None:
        """Mark in a latch what the journal holds of it."""
        with self._state.edit(self._name, schema=SCHEMA) as body:
            body["latches"][place].update(flags)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
