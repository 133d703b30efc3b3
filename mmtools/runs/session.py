"""Session: a run on disk from its start to its end. The restart rules of docs/state-files.md are carried out here.

It takes the run's lock, compares with what an earlier process left, moves the engine, and keeps the files beside the
journal current. Called by `quote-run`; it prints nothing and installs no signal handlers.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from mmtools import __version__, config, restarts
from mmtools.config import RunConfig
from mmtools.errors import Misconfigured, Refused
from mmtools.recordlog import RecordLog
from mmtools.restarts import Owner
from mmtools.runs import live_state, revivals, summary
from mmtools.runs.bracket import OTHERS
from mmtools.runs.engine import Engine, Status
from mmtools.runs.fold import SCHEMA, Fold
from mmtools.runs.journal import DiskJournal, Record
from mmtools.runs.live_state import Process, Trend, health, rebuild_trades
from mmtools.runs.notify import Notifier
from mmtools.runs.reading import fold_in, fold_of
from mmtools.runs.records import market_record
from mmtools.runs.switch import Latch, Switch
from mmtools.runs.telling import Teller
from mmtools.runs.watcher import Intervention, Watcher
from mmtools.state import StateDir
from mmtools.trading.params import Params
from mmtools.units import of, text
from mmtools.venues.venue import Feed

LIVE_STATE_EVERY_S = 5.0
LOOK_EVERY_S = 1.0
HISTORY = "runs/history.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended, for its command to report."""

    status: Status
    document: Record
    warnings: list[str]
    folder: str | None


def new_run_id(name: str) -> str:
    """Return an id that no run has: what is traded and when, to the microsecond."""
    return f"{name[:48]}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"


def assumptions(params: Params) -> Record:
    """Return what a paper result leans on."""
    return {
        "queue_model": params.queue_model,
        "queue_power": params.queue_power,
        "trade_side": params.trade_side,
        "latency_ms": params.latency_ms,
        "explain_ms": params.explain_ms,
        "merge_latency_ms": params.merge_latency_ms,
        "fill_probability_override": params.fill_probability_override,
        "seed": params.seed,
        "maker_fee": "none",
        "finality": "at once",
    }


def head(run_id: str, run: RunConfig, feed: Feed) -> Record:
    """Return the first record of a run's journal but for its time."""
    return {
        "kind": "run",
        "schema": SCHEMA,
        "run_id": run_id,
        "version": __version__,
        "venue": "paper",
        "config_sha256": config.digest(run),
        "feed": {"name": feed.name, "sha256": feed.sha256},
        "markets": [market_record(market) for market in feed.markets],
        "capital": text(of(run.params.capital)),
        "hypothesis": run.hypothesis,
        "assumptions": assumptions(run.params),
    }


def execute(
    run: RunConfig,
    feed: Feed,
    state: StateDir,
    *,
    run_id: str,
    fresh: bool = False,
    starter: Owner | None = None,
    revival: str | None = None,
    notifier: Notifier | None = None,
    on_engine: Callable[[Engine], None] = lambda engine: None,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Outcome:
    """Run to the end and leave the files of docs/state-files.md. on_engine gets the engine before it moves, for signal handlers.

    fresh: throw away what an earlier run of this id left, unless its kill switch is closed. starter: who says that it starts the run,
    None for a person; revival: the attempt it has counted. notifier: the service manager that waits for the run. Raises TryLater when the
    run is already running, Refused when it is finished, latched, another run by the same id or not the starter's.
    """
    with ExitStack() as held:
        held.enter_context(state.lock(f"runs/{run_id}"))
        owner = revivals.owner_of(state, run_id, configured=Owner(run.owner), starter=starter)
        run = msgspec.structs.replace(run, owner=owner.value)
        repeat = feed.name != "live"
        teller = Teller(state, run_id, live=not repeat, owner=owner, alarms=run.alarms, notifier=notifier)
        held.enter_context(teller.watching())
        if fresh:
            _check_open(state, run_id)
            state.remove_tree(f"runs/{run_id}")
        if owner is not Owner.NOBODY:
            _check_open(state, run_id)  # before it counts: a start that is refused revives nothing
        attempt = revivals.count(state, run_id, owner, revival=revival)
        past = _past(state, run_id, teller.starting)
        first = head(run_id, run, feed)
        if past is not None:
            _check_same(state, run_id, past, first, run)
            if past.latched:
                Switch(state, run_id).of_halt(len(past.halts) - 1, past.halts[-1])
        _check_open(state, run_id)
        name = f"runs/{run_id}/"
        state.write_text(name + "run.yaml", config.dump(run))
        start = {"kind": "start", "wall": live_state.now_iso(), "version": __version__, "run_id": run_id}
        journal = DiskJournal(state, run_id, start=start, repeat=repeat)
        held.callback(journal.close)
        rebuild_trades(state, run_id, teller.starting)
        watcher = _Files(state, run_id, journal, past, teller, on_progress, owner=owner, repeat=repeat)
        held.callback(watcher.close)
        engine = Engine(
            feed=feed,
            params=run.params,
            journal=journal,
            watcher=watcher,
            head=first,
            duration_ms=None if run.duration_hours is None else round(run.duration_hours * 3_600_000),
            past=None if repeat else past,
        )
        on_engine(engine)
        teller.has_begun = True
        if attempt is not None:
            restarts.outcome(state, attempt, "done", "it runs again")
        status = engine.run()
        teller.ending()
        if past is not None and journal.repeating():
            # Stopped before it had caught up: the files stand as the earlier process left them.
            return _outcome(state, run_id, status, past)
        watcher.finish(engine)
        outcome = _outcome(state, run_id, status, engine.fold)
        if status is Status.FINISHED:
            _remember(state, run_id, outcome.document)
        return outcome


def _outcome(state: StateDir, run_id: str, status: Status, fold: Fold) -> Outcome:
    return Outcome(
        status=status,
        document=summary.document(fold, status=status.value),
        warnings=summary.warnings(fold),
        folder=str(state.path(f"runs/{run_id}")),
    )


def _past(state: StateDir, run_id: str, on_records: Callable[[], None]) -> Fold | None:
    """Return what an earlier process of the run left; None when there was none, or it was killed before its first record."""
    if next(iter(state.records(f"runs/{run_id}/journal.jsonl")), None) is None:
        return None
    return fold_of(state, run_id, on_records)


def _check_same(state: StateDir, run_id: str, past: Fold, first: Record, run: RunConfig) -> None:
    if past.status == Status.FINISHED.value:
        _remember(state, run_id, summary.document(past))
        raise Refused(f"run {run_id} is finished; `report {run_id}` shows it; give another run_id, or --fresh to throw it away")
    if past.run["config_sha256"] != first["config_sha256"]:
        differ = _differences(state, run_id, past, run)
        raise Refused(f"run {run_id} was started with another config ({differ}); give another run_id, or --fresh to throw it away")
    if past.run["feed"] != first["feed"]:
        was = past.run["feed"]
        now = first["feed"]
        raise Refused(
            f"run {run_id} was started on another feed ({was['name']} {was['sha256'][:12]}, now {now['name']} {now['sha256'][:12]}); "
            "give another run_id, or --fresh to throw it away"
        )


def _differences(state: StateDir, run_id: str, past: Fold, run: RunConfig) -> str:
    """Say what is another in a config than in the run.yaml of an earlier process."""
    try:
        old = config.load(state.path(f"runs/{run_id}/run.yaml"))
    except Misconfigured as e:
        return f"which, cannot be told: {e}"
    differ = config.differences(old, run)
    if not differ and past.run["version"] != __version__:
        return f"version {past.run['version']} began it, whose configs have other keys than those of {__version__}"
    return "; ".join(differ) or "its run.yaml was changed since"


def _check_open(state: StateDir, run_id: str) -> None:
    latch = Switch(state, run_id).closed()
    if latch is not None:
        raise Refused(
            f"run {run_id} is halted since {latch['since']} by {latch['by']}: {latch['reason']}, {latch['detail']}; "
            f"look, then `halt --run {run_id} --clear --why ...`"
        )


def _remember(state: StateDir, run_id: str, result: Record) -> None:
    """Add a finished run to the history, once."""
    if any(record["run_id"] == run_id and record["ledger_sha256"] == result["ledger_sha256"] for record in state.records(HISTORY)):
        return
    keys = ("run_id", "venue", "feed", "status", "duration_s", "fills", "fill_rate", "pnl", "ledger_sha256")
    state.append(HISTORY, {"finished_at": live_state.now_iso(), **{key: result[key] for key in keys}})


class _Files(Watcher):
    """Keeps trades, health and live state of a run current, and hears what people ask for through its kill switch."""

    def __init__(
        self,
        state: StateDir,
        run_id: str,
        journal: DiskJournal,
        past: Fold | None,
        teller: Teller,
        on_progress: Callable[[float], None],
        *,
        owner: Owner,
        repeat: bool,
    ) -> None:
        """past: what an earlier process left; repeat: whether it is simulated again, else it is taken up where it ended."""
        past = past or Fold()
        self._state = state
        self._name = f"runs/{run_id}/"
        self._switch = Switch(state, run_id)
        self._journal = journal
        self._teller = teller
        self._owner = owner
        self._trades: RecordLog = state.log(self._name + "trades.jsonl")
        self._health: RecordLog = state.log(self._name + "health.jsonl")
        self._others: dict[str, RecordLog] = {}
        self._repeated_of_others = {name: sum(1 for _ in state.raw_records(self._bracket_file(name))) if repeat else 0 for name in OTHERS}
        """Records that an earlier process kept of the bracket's other makers: simulated again, they are there already."""
        self._told = {(record["kind"], record.get("latch")) for record in past.interventions}
        """What the journal holds of the switch: kinds of intervention and places of latches."""
        self._repeated = deque(past.interventions if repeat else ())
        self._clearings = deque(past.clearings if repeat else ())
        self._halts = 0 if repeat else len(past.clearings)
        """Halts that are over; the next one is known by this number."""
        self._process, self._trend = Process(), Trend(0 if repeat else past.account.total())
        self._next_state_s = self._next_look_s = 0.0
        self._on_progress = on_progress

    # ---- what people did and do

    def repeated(self, frame: int) -> Sequence[Intervention]:
        due = []
        while self._repeated and self._repeated[0]["frame"] == frame:
            record = self._repeated.popleft()
            why = record["detail"] if record["kind"] == "halt" else record["why"]
            due.append(Intervention(kind=record["kind"], by=record["by"], why=why, latch=record["latch"]))
        return due

    def look(self, engine: Engine) -> Sequence[Intervention]:
        self._teller.turned(engine)
        now_s = time.monotonic()
        if now_s >= self._next_state_s:
            self._next_state_s = now_s + LIVE_STATE_EVERY_S
            self._teller.look(engine)
            self._write_state(engine)
        if now_s < self._next_look_s:
            return ()
        self._next_look_s = now_s + LOOK_EVERY_S
        return [asked for place, latch in enumerate(self._switch.latches()) if (asked := self._asked(place, latch)) is not None]

    def _asked(self, place: int, latch: Latch) -> Intervention | None:
        """Return what a latch asks of this run that its journal does not hold yet."""
        cleared = latch["cleared"]
        if cleared is None:
            asked = Intervention(kind="reduce_only" if latch["reduce_only"] else "halt", by=latch["by"], why=latch["detail"], latch=place)
        elif ("reduce_only", place) in self._told:
            asked = Intervention(kind="cleared", by=cleared["by"], why=cleared["why"], latch=place)
        else:
            return None
        if (asked.kind, place) in self._told:
            return None
        self._told.add((asked.kind, place))
        return asked

    def halted(self, engine: Engine, halt: Record) -> Intervention | None:
        """Close the switch, unless this halt was cleared: then say by whom, as the journal has it or else the switch."""
        number, self._halts = self._halts, self._halts + 1
        if self._clearings:
            record = self._clearings.popleft()
            return Intervention(kind="cleared", by=record["by"], why=record["why"], latch=record["latch"])
        cleared = self._switch.of_halt(number, halt)["cleared"]
        if cleared is None:
            self._teller.halted(number, halt)
            return None
        return Intervention(kind="cleared", by=cleared["by"], why=cleared["why"])

    # ---- files

    def wrote(self, engine: Engine, record: Record) -> None:
        if record["kind"] == "fill":
            self._trades.append(live_state.encode(record["trade"]))

    def other_wrote(self, engine: Engine, name: str, record: Record) -> None:
        if self._repeated_of_others[name]:
            self._repeated_of_others[name] -= 1
            return
        if name not in self._others:
            self._others[name] = self._state.log(self._bracket_file(name))
        self._others[name].append(live_state.encode(record))

    def other_past(self, past: Fold, name: str) -> Fold:
        """Fold what another maker of the bracket has kept. Raises Refused when that does not hold together."""
        kept = Fold()
        kept.add(past.run)
        fold_in(kept, self._state, self._bracket_file(name), f"line {{}} of bracket-{name}", "delete it, and this maker begins anew")
        return kept

    def _bracket_file(self, name: str) -> str:
        return self._name + f"bracket-{name}.jsonl"

    def turned(self, engine: Engine) -> None:
        self._trades.flush()
        for log in self._others.values():
            log.flush()
        self._teller.turned(engine)

    def minute(self, engine: Engine, *, repeated: bool) -> None:
        self._trend.minute(engine.maker.account.total())
        if not repeated:
            self._health.append(live_state.encode(health(engine, self._process, untold=self._teller.untold)))
            self._health.flush()
        end_ms = engine.end_ms or getattr(engine.feed, "last_ms", None)
        if end_ms is not None and end_ms > engine.began_ms:
            self._on_progress((engine.now_ms - engine.began_ms) / (end_ms - engine.began_ms))

    def finish(self, engine: Engine) -> None:
        """Leave every file as the run ended. The journal last: what it calls ended is whole, and is not begun again."""
        self._trades.sync()
        for log in self._others.values():
            log.sync()
        self._write_state(engine)
        self._journal.sync()

    def close(self) -> None:
        for log in (self._trades, self._health, *self._others.values()):
            log.close()

    def _write_state(self, engine: Engine) -> None:
        path: Any = str(self._state.path(self._name + "run.yaml"))
        teller = self._teller
        body = live_state.live_state(
            engine,
            process=self._process,
            trend=self._trend,
            config_path=path,
            owner=self._owner.value,
            alarms=teller.standing,
            untold=teller.untold,
        )
        self._state.write(self._name + "live_state.json", body, schema=live_state.SCHEMA)
