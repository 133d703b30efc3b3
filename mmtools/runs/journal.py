"""The journal of a run: append-only, the only truth of it; and the hash over its ledger records.

Records are flat dicts with `kind` and `at_ms` (feed time); docs/state-files.md names each kind. Whoever needs to know what
a run did (report, restart, trades) folds the journal; nobody keeps a second truth.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from mmtools.errors import Refused
from mmtools.recordlog import RecordLog
from mmtools.state import StateDir

Record = dict[str, Any]

LEDGER_KINDS = frozenset({"fill", "fee", "rebate", "merge", "resolution", "reversal", "adjustment"})
"""What moves money or shares: these make the ledger hash."""
PROCESS_KINDS = frozenset({"start", "end"})
"""Of the process that wrote them, not of the market: no part of what a simulation must repeat."""
UNREPEATED_FIELDS = frozenset({"run_id", "wall", "version", "ws_latency_ms", "hypothesis"})
"""Fields that another process, another name of the run or another remark on it would write otherwise."""

_encode = msgspec.json.Encoder().encode
_in_ascii = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def canonical(record: Any) -> Any:
    """Return a record without the fields that a repetition does not repeat, at any depth."""
    if isinstance(record, dict):
        kept = ((key, value) for key, value in record.items() if key not in UNREPEATED_FIELDS)
        return {key: canonical(value) if isinstance(value, dict | list) else value for key, value in kept}
    return [canonical(value) for value in record] if isinstance(record, list) else record


class LedgerHash:
    """SHA-256 over the canonical JSON of the ledger records in journal order, one per line."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, record: Record) -> None:
        if record["kind"] in LEDGER_KINDS:
            self._sha.update(_in_ascii(canonical(record)).encode("ascii") + b"\n")

    def hexdigest(self) -> str:
        return self._sha.hexdigest()


class Journal(Protocol):
    """Where the engine writes. `write` says whether the record is new (False: an earlier process wrote it already)."""

    keeps: bool
    """Whether anybody will read the records; without it those that nothing is made of but counts are not even made."""

    def write(self, record: Record) -> bool: ...
    def flush(self) -> None: ...
    def repeating(self) -> bool: ...


class MemoryJournal:
    """For a replay that leaves nothing on disk."""

    keeps = False

    def write(self, record: Record) -> bool:
        return True

    def flush(self) -> None:
        """Nothing waits."""

    def repeating(self) -> bool:
        return False


class DiskJournal:
    """The journal in a run's folder. Records that an earlier process wrote are compared, not written again.

    Raises Refused when the simulation says something else than the journal: then nothing is appended.
    """

    keeps = True

    def __init__(self, state: StateDir, run_id: str, *, start: Record, repeat: bool) -> None:
        """start: what this process says of itself before its first record when it goes on; repeat: whether it simulates the run again."""
        name = f"runs/{run_id}/journal.jsonl"
        self._run_id = run_id
        self._log: RecordLog = state.log(name)
        self._start = start if state.path(name).stat().st_size else None
        self._end: bytes | None = None
        self._written: Iterator[bytes] = state.raw_records(name) if repeat else iter(())
        self._line = 0
        self._ahead = self._next_written()
        """The record that the next one is compared with; None when all that was written is repeated."""

    def write(self, record: Record) -> bool:
        line = _encode(record)
        if self._ahead is None:
            if self._start is not None:
                self._log.append(_encode(self._start))
                self._start = None
            if record["kind"] == "end":
                self._end = line  # kept back until `sync`, so that an error on the way there leaves no run that calls itself ended
            else:
                self._log.append(line)
            return True
        if self._ahead != line and canonical(msgspec.json.decode(self._ahead)) != canonical(msgspec.json.decode(line)):
            raise Refused(
                f"run {self._run_id}: line {self._line} of its journal is not what the same run would write now "
                f"({_kind(self._ahead)} there, {record['kind']} here); nothing was appended: "
                "run it again with --fresh or under another run_id"
            )
        self._ahead = self._next_written()
        return False

    def repeating(self) -> bool:
        """Whether records of an earlier process are still ahead."""
        return self._ahead is not None

    def _next_written(self) -> bytes | None:
        for line in self._written:
            self._line += 1
            if _kind(line) not in PROCESS_KINDS:
                return line
        return None

    def flush(self) -> None:
        """Hand whole lines to the system: a killed process loses none of them."""
        self._log.flush()

    def sync(self) -> None:
        """Write everything, the end of the run too, and wait until the disk holds it."""
        if self._end is not None:
            self._log.append(self._end)
            self._end = None
        self._log.sync()

    def close(self) -> None:
        self._log.close()


class _Kind(msgspec.Struct):
    kind: str


_decode_kind = msgspec.json.Decoder(_Kind).decode


def _kind(line: bytes) -> str:
    return _decode_kind(line).kind
