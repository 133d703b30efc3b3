"""What the engine asks of the world beside its feed: people who stop or halt it, files that follow it. Nothing in here acts.

`Watcher` is the one for replays, which asks nobody and shows nothing; `session` has the one that owns a run's files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mmtools.runs.journal import Record

if TYPE_CHECKING:
    from mmtools.runs.engine import Engine
    from mmtools.runs.fold import Fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """What a person does to a run from outside."""

    kind: Literal["stop", "halt", "reduce_only", "cleared"]
    by: str
    why: str
    latch: int | None = None
    """Its place in the kill switch, when it was asked for there."""


class Watcher:
    """What the engine asks of the world while it runs. This one asks for nothing and shows nothing: for replays."""

    def repeated(self, frame: int) -> Sequence[Intervention]:
        """Return what an earlier process of this run was told before this frame."""
        return ()

    def look(self, engine: "Engine") -> Sequence[Intervention]:
        """Return what a person asks for now."""
        return ()

    def wrote(self, engine: "Engine", record: Record) -> None:
        """A new record stands in the journal."""

    def other_wrote(self, engine: "Engine", name: str, record: Record) -> None:
        """Another maker of the bracket did something that moved its money, or ended or began its quoting."""

    def other_past(self, past: "Fold", name: str) -> "Fold | None":
        """Return another maker of the bracket as an earlier process of a run on a live feed left it; None when nobody knows."""
        return None

    def turned(self, engine: "Engine") -> None:
        """A loop turn that wrote something is over."""

    def minute(self, engine: "Engine", *, repeated: bool) -> None:
        """A minute of feed time is over and its mark stands in the journal, perhaps since an earlier process."""

    def halted(self, engine: "Engine", halt: Record) -> Intervention | None:
        """The run is latched; return who cleared it since, if this is known already, to go on."""
        return None
