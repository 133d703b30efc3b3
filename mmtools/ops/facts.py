"""What `status-update` knows of the machine at one moment: every fact a value with its time, or `NotKnown`. Only types, no questions.

`gather` fills them; `findings`, `card` and `textfile` read them. Nothing here judges, and nothing is a default for what was not seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from mmtools.moments import Moment, iso
from mmtools.ops.gateway import Probe
from mmtools.ops.memory import Use, Watermark
from mmtools.ops.quoters import Standing
from mmtools.ops.systemd import NotKnown, Unit

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """A value, and when it was so: ms UTC of whoever wrote it down, or of our question."""

    value: T
    at_ms: int

    def age_s(self, now_ms: int) -> float:
        return max(0.0, (now_ms - self.at_ms) / 1000)


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """One market of a run, as its live_state.json shows it; amounts are decimal text."""

    pnl: str | None = None
    position_net: str | None = None
    our_bid: str | None = None
    our_ask: str | None = None
    why_no_bid: str | None = None
    why_no_ask: str | None = None
    kill_switch: str | None = None


class Pnl(msgspec.Struct, frozen=True):
    cumulative: str | None = None


class Totals(msgspec.Struct, frozen=True):
    fills: int | None = None
    orders_submitted: int | None = None


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says itself that is wrong with it."""

    kind: str
    since: str
    cause: str = ""


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """What of live_state.json is looked at. alarms: None from a run that knows of none."""

    timestamp: str
    markets: dict[str, Market]
    pnl: Pnl = Pnl()
    totals: Totals = Totals()
    alarms: list[Alarm] | None = None

    @property
    def quotes(self) -> bool:
        """Whether an order of ours may rest anywhere."""
        return any(market.our_bid is not None or market.our_ask is not None for market in self.markets.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """The last minutes of a run's journal, in feed time.

    refused: by reason, without orders that would have crossed: a post-only order that the market outran is a part of quoting.
    bare_ms: since when none of our orders rests, if none rests now; at the latest, where it is not `dated`.
    """

    last_ms: int
    requests: int
    refused: Mapping[str, int]
    crossed: int
    bare_ms: int
    dated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the maker. clocked: its feed time is the wall's, so it trades now and not in a recording."""

    run_id: str
    standing: Standing
    venue: str
    owner: str
    live: Seen[Live] | NotKnown
    recent: Recent | NotKnown
    clocked: bool
    halt: str = ""
    """Of a halted run: since when, by whom and why."""
    halted_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFact:
    """A unit, its memory, and the mark that this should stay below."""

    unit: Unit
    memory: Use | NotKnown
    mark: Watermark | NotKnown


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The sessions of one agent. entries: None when counting them is not cheap. broken: what is wrong with the file, "" when nothing."""

    agent: str
    size: int
    entries: int | None
    broken: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A cron job of the gateway that is enabled."""

    name: str
    errors: int
    """In a row."""
    next_ms: int | None
    last_status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One of our own jobs that ran at least once."""

    last_success_ms: int | None
    failures: int
    failing_since: str
    error: str
    started_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Alerts that are not sent yet."""

    unsent: int
    oldest_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Bytes of memory or of a file system."""

    free: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it. older_runs: how many stand still too long to be looked at. openclaw: whether there is, or may be, one here."""

    now: Moment
    host: str
    openclaw: bool
    runs: Seen[tuple[Run, ...]] | NotKnown
    older_runs: int
    units: Mapping[str, Seen[UnitFact] | NotKnown]
    """By manager and name: "user/openclaw-gateway.service"."""
    gateway: Seen[Probe] | NotKnown
    memory: Seen[Space] | NotKnown
    disks: Mapping[str, Seen[Space] | NotKnown]
    stores: Seen[tuple[Store, ...]] | NotKnown
    crons: Seen[tuple[Cron, ...]] | NotKnown
    jobs: Seen[Mapping[str, Job]] | NotKnown
    installed: bool
    """Whether mmtools-install has put our jobs here, or may have: one that a person ran by hand is never overdue."""
    outbox: Seen[Backlog] | NotKnown
    restarts: Seen[Mapping[str, int]] | NotKnown
    """How often what was revived in the last hour."""


def document(facts: Facts) -> dict[str, Any]:
    """Return the facts for a JSON document: what is not known says why, every value says when."""
    return {
        "as_of": iso(facts.now.wall_ms),
        "host": facts.host,
        "openclaw": facts.openclaw,
        "older_runs": facts.older_runs,
        "installed": facts.installed,
        **{
            name: _plain(getattr(facts, name))
            for name in ("runs", "units", "gateway", "memory", "disks", "stores", "crons", "jobs", "outbox", "restarts")
        },
    }


def _plain(value: Any) -> Any:
    """Return a fact as JSON can hold it; a span without an end (inf) is null."""
    match value:
        case Seen():
            return {"at": iso(value.at_ms), "value": _plain(value.value)}
        case NotKnown():
            return {"not_known": value.why}
        case float():
            return value if value - value == 0 else None
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case tuple() | list():
            return [_plain(each) for each in value]
        case str() | int() | None:
            return value
        case _:
            fields = getattr(value, "__struct_fields__", None) or value.__dataclass_fields__
            return {name: _plain(getattr(value, name)) for name in fields}
