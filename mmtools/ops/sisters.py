"""Other commands of ours, run as processes of their own: each with its own lock, limit and record, as a person would call it."""

import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mmtools.ops import children

TRY_LATER = 75
PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, None when it was not run to its end, and its first or last words, for people."""

    code: int | None
    words: str

    @property
    def well(self) -> bool:
        """Whether it did its work; 1 is "done, and found something"."""
        return self.code in (0, 1)


def is_installed(name: str) -> bool:
    """Return whether this version has the command."""
    return importlib.util.find_spec(_module(name)) is not None


def call(name: str, args: Sequence[str], *, limit_s: float) -> Said:
    """Run a command to its end, or to the end of its time; while it says "try later" (its lock is held, as a rule) it is run again."""
    deadline = time.monotonic() + limit_s
    while True:
        said = _call(name, args, max(1.0, deadline - time.monotonic()))
        if said.code != TRY_LATER or time.monotonic() + PAUSE_S > deadline:
            return said
        time.sleep(PAUSE_S)


def _call(name: str, args: Sequence[str], limit_s: float) -> Said:
    ended = children.run([sys.executable, "-P", "-m", _module(name), *args], limit_s=limit_s)
    if isinstance(ended, children.NotRun):
        return Said(None, f"{name} did not end within {limit_s:g} s" if ended.late else f"{name} cannot be started")
    lines = ended.out.decode(errors="replace").strip().splitlines()
    words = ended.last_words if ended.code not in (0, 1) or not lines else "; ".join(lines[:2])
    return Said(ended.code, f"{name} ended with {ended.code}: {words or 'without a word'}")


def _module(name: str) -> str:
    return f"mmtools.commands.{name.replace('-', '_')}"
