"""Which entry of a store may go: a cron run that is over and old, and nothing else. Pure: no file, no clock.

Whatever is odd about an entry keeps it, under its own name, so that the count shows it. Called by `pruning` for the entries of a file and
for the rows that a gateway lists.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_key = re.compile(r"agent:([^:]*):(.*)", re.DOTALL)
_cron_run = re.compile(r"cron:[^:]+:run:[^:]+(?::|\Z)")
"""OpenClaw's own test, on what follows `agent:<agent>:`."""
_sane_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_OVER = frozenset({"done", "failed", "killed", "timeout"})


class Verdict(StrEnum):
    """Why an entry goes (STALE alone) or stays."""

    STALE = "stale"
    OTHER = "other"
    """No cron run: a chat, a thread, a job's base key, a sub-agent."""
    YOUNG = "young"
    RUNNING = "running"
    # odd: kept, and counted by name
    OF_ANOTHER_AGENT = "of-another-agent"
    ODD_KEY = "odd-key"
    NO_OBJECT = "no-object"
    NO_TIME = "no-updated-at"
    TIME_NOT_POSITIVE = "updated-at-not-positive"
    IN_THE_FUTURE = "updated-at-in-the-future"
    ODD_STATUS = "odd-status"
    ODD_ID = "session-id-no-file-name"
    BEING_WRITTEN = "transcript-locked"
    TWICE = "key-twice"

    @property
    def odd(self) -> bool:
        return self not in (Verdict.STALE, Verdict.OTHER, Verdict.YOUNG, Verdict.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """What is asked of every entry. agent: whose store it is; being_written: sessions whose transcript someone holds a lock on."""

    agent: str
    now_ms: int
    older_than_ms: int
    being_written: frozenset[str] = frozenset()

    def judge(self, key: str, entry: Any) -> Verdict:
        found = _key.fullmatch(key)
        if found is None or _cron_run.match(found[2]) is None:
            return Verdict.OTHER
        if not found[1] or found[1] != self.agent:
            return Verdict.OF_ANOTHER_AGENT
        if not _can_be_written(key):
            return Verdict.ODD_KEY
        return self._of_run(entry) if isinstance(entry, Mapping) else Verdict.NO_OBJECT

    def _of_run(self, entry: Mapping[str, Any]) -> Verdict:
        at, status, session = entry.get("updatedAt"), entry.get("status"), entry.get("sessionId")
        if type(at) is not int:  # nor a bool, which is an int
            return Verdict.NO_TIME
        if at <= 0:
            return Verdict.TIME_NOT_POSITIVE
        if at > self.now_ms:
            return Verdict.IN_THE_FUTURE
        if status == "running":
            return Verdict.RUNNING
        if status is not None and (not isinstance(status, str) or status not in _OVER):
            return Verdict.ODD_STATUS
        if not is_sane_id(session):
            return Verdict.ODD_ID
        if self.now_ms - at <= self.older_than_ms:
            return Verdict.YOUNG
        return Verdict.BEING_WRITTEN if session in self.being_written else Verdict.STALE


def is_sane_id(session: Any) -> bool:
    """Whether a sessionId can be the beginning of a file name in the folder, and of nothing outside."""
    return isinstance(session, str) and _sane_id.fullmatch(session) is not None


def _can_be_written(key: str) -> bool:
    """Whether UTF-8 can hold it, as the manifest must: half of a surrogate pair only exists as an escape."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
