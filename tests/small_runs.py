"""A small recorded market and runs on it, for tests of `mmtools.runs`: few writes, but records of nearly every kind. No checks.

The game: both quotes fill at once, so that pairs are held, and a part of one is sold. Where people wind the run down, the
pairs are merged; where they clear that again, both sides are quoted anew, and fill.
"""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mmtools.config import RunConfig
from mmtools.errors import Refused
from mmtools.runs import engine, reading, session, summary
from mmtools.runs.bracket import OTHERS
from mmtools.runs.engine import Engine, Status
from mmtools.runs.session import Outcome
from mmtools.runs.switch import Switch
from mmtools.runs.watcher import Intervention
from mmtools.state import StateDir
from mmtools.trading.params import Params
from mmtools.venues import recording
from mmtools.venues.venue import Feed, Kind, Row

Record = dict[str, Any]
Levels = Mapping[str, float]
Happenings = Mapping[int, Callable[[Engine], None]]

START_MS = 1_780_833_600_000
"""2026-06-07T12:00:00Z."""
RUN_ID = "small"
CLEARED = {"by": "ben", "why": "looked"}
MARKET: Record = {
    "condition_id": "0x5a", "slug": "hail", "outcomes": ["Yes", "No"], "token_ids": ["1701", "2902"], "tick_size": "0.01",
    "min_order_size": "5", "neg_risk": False, "event": "weather", "accepting": True, "end": "2099-12-31T00:00:00Z", "fees": {"rate": 0.0},
}  # fmt: skip
BIDS: Levels = {"0.47": 120, "0.46": 300, "0.45": 50}
ASKS: Levels = {"0.48": 80, "0.49": 200, "0.5": 90}
LOWER_BIDS: Levels = {"0.46": 120, "0.45": 310}
LOWER_ASKS: Levels = {"0.47": 80, "0.49": 10}
PARAMS: Record = {
    "capital": 12, "default_order_size": 10, "latency_ms": 50, "merge_latency_ms": 2000, "quote_interval_s": 20, "max_data_gap_s": 100,
}  # fmt: skip


class Script:
    """Frames of one market, to be written as a recording; times in seconds after START_MS."""

    def __init__(self, **header: Any) -> None:
        self._lines: list[object] = [
            {"schema": "mmtools.recording/1", "source": "made up", "clock": "receive", "markets": [{**MARKET, **header}]}
        ]

    def book(self, at_s: float, bids: Levels = BIDS, asks: Levels = ASKS) -> "Script":
        levels = {name: [{"price": p, "size": str(s)} for p, s in side.items()] for name, side in (("bids", bids), ("asks", asks))}
        return self._frame(at_s, "book", asset_id=MARKET["token_ids"][0], **levels)

    def taker(self, at_s: float, side: str, price: str, size: float) -> "Script":
        return self._frame(at_s, "last_trade_price", asset_id=MARKET["token_ids"][0], side=side, price=price, size=str(size))

    def resolved(self, at_s: float, *, yes: bool) -> "Script":
        return self._frame(at_s, "market_resolved", winning_asset_id=MARKET["token_ids"][0 if yes else 1])

    def _frame(self, at_s: float, event: str, **fields: Any) -> "Script":
        at_ms = START_MS + round(at_s * 1000)
        self._lines.append([at_ms, {"event_type": event, "market": MARKET["condition_id"], "timestamp": str(at_ms), **fields}])
        return self

    def write(self, path: Path) -> Path:
        path.write_text("".join(json.dumps(line) + "\n" for line in self._lines))
        return path


def game() -> Script:
    script = Script().book(0).taker(1, "SELL", "0.46", 30).taker(1, "BUY", "0.49", 30)
    script.book(12, LOWER_BIDS, LOWER_ASKS).taker(31, "BUY", "0.48", 4).book(61)
    script.taker(70, "SELL", "0.45", 7.5).book(122).taker(130, "SELL", "0.46", 30).book(141, LOWER_BIDS, LOWER_ASKS)
    return script.taker(143, "BUY", "0.49", 30).book(150)


def config(path: Path, **params: Any) -> RunConfig:
    return RunConfig(feed="recording", recording=str(path), params=Params(**{**PARAMS, **params}))


class Interrupted:
    """A feed during which things happen in the world: before its n-th frame, counted from 0, or after that frame's first row."""

    def __init__(self, feed: Feed, before: Mapping[int, Callable[[], None]], within: Mapping[int, Callable[[], None]]) -> None:
        self.name, self.markets, self.sha256 = feed.name, feed.markets, feed.sha256
        self._feed, self._before, self._within = feed, before, within

    def rows(self) -> Iterator[Row]:
        frame = -1
        for row in self._feed.rows():
            begins = row[1] == Kind.FRAME
            frame += begins
            if begins and frame in self._before:
                self._before[frame]()
            yield row
            if begins and frame in self._within:
                self._within[frame]()


@dataclass(frozen=True, slots=True)
class Left:
    """What a run has left behind, without wall-clock times and what a process says of itself."""

    document: Record
    told: list[Record]
    trades: bytes
    others: dict[str, list[Record]]
    """What the bracket's other makers have kept, by name."""
    latches: int


class Runner:
    """Runs of one feed and one config in a state folder of their own."""

    def __init__(self, root: Path, run: RunConfig, feed: Feed | None = None) -> None:
        self.run = run
        self.feed: Feed = feed or recording.read(Path(str(run.recording)))
        self.state = StateDir(root)
        self.switch = Switch(self.state, RUN_ID)
        self.folder = root / "runs" / RUN_ID

    def start(self, before: Happenings | None = None, *, within: Happenings | None = None, fresh: bool = False) -> Outcome:
        """Start, or start again. before, within: what happens to the engine at which frame."""
        moving: list[Engine] = []

        def bound(happenings: Happenings | None) -> dict[int, Callable[[], None]]:
            return {frame: partial(lambda do: do(moving[0]), do) for frame, do in (happenings or {}).items()}

        feed = Interrupted(self.feed, bound(before), bound(within))
        return session.execute(self.run, feed, self.state, run_id=RUN_ID, fresh=fresh, on_engine=moving.append)

    def cut_off(self, frame: int, before: Happenings | None = None) -> None:
        """Start in another process, which is killed before a frame."""
        pid = os.fork()
        if pid == 0:
            self.start({**(before or {}), frame: lambda moving: os.kill(os.getpid(), signal.SIGKILL)})
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

    def start_with_people(self) -> Outcome:
        """Wind down at minute 1 and clear at minute 2, each once however often the run is started."""

        def act(fraction: float) -> None:
            latches = self.switch.latches()
            if not latches:
                self.switch.latch(reason="manual", detail="the news is out", by="anna", reduce_only=True)
            elif fraction > 0.5 and latches[0]["cleared"] is None:
                self.switch.clear(by="ben", why="read the news")

        return session.execute(self.run, self.feed, self.state, run_id=RUN_ID, on_progress=act)

    def journal(self) -> list[Record]:
        return list(self.state.records(f"runs/{RUN_ID}/journal.jsonl"))

    def told(self) -> list[Record]:
        """Return the journal without what a process says of itself."""
        return [record for record in self.journal() if record["kind"] not in ("start", "end")]

    def of_kind(self, kind: str) -> list[Record]:
        return [record for record in self.journal() if record["kind"] == kind]

    def of_other(self, name: str) -> list[Record]:
        """Return what another maker of the bracket has kept."""
        return list(self.state.records(f"runs/{RUN_ID}/bracket-{name}.jsonl"))

    def bytes_of(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def left(self) -> Left:
        document = summary.document(reading.fold_of(self.state, RUN_ID))
        others = {name: self.of_other(name) for name in OTHERS}
        return Left(document, self.told(), self.bytes_of("trades.jsonl"), others, len(self.switch.latches()))

    def files(self) -> dict[str, bytes]:
        """Return the content of every file of the run."""
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def live_state(self) -> Record:
        document: Record = json.loads(self.bytes_of("live_state.json"))
        return document

    def history(self) -> list[Record]:
        return list(self.state.records(session.HISTORY))

    def with_params(self, **params: Any) -> "Runner":
        """Return the same run with other params, in the same state folder."""
        changed = msgspec.structs.replace(self.run, params=msgspec.structs.replace(self.run.params, **params))
        return Runner(self.state.root, changed, self.feed)

    def forget(self) -> None:
        """Be as if nothing had ever run here."""
        shutil.rmtree(self.state.root, ignore_errors=True)


def stop(moving: Engine) -> None:
    """Ask a run to end, as a signal handler does."""
    moving.stop_asked = Intervention(kind="stop", by="SIGTERM", why="asked to end")


def through_halts(runner: Runner, before: Happenings | None = None) -> Outcome:
    """Start again and again, clearing the kill switch each time, until it does not halt."""
    while True:
        if runner.switch.closed() is not None:
            runner.switch.clear(**CLEARED)
        try:
            outcome = runner.start(before)
        except Refused as refused:  # a kill came before the latch, which is closed now
            if "is halted since" not in str(refused):
                raise
            continue
        if outcome.status is not Status.HALTED:
            return outcome


def to_the_end(runner: Runner, play: Callable[[Runner], Outcome] | None = None) -> Left:
    """Start (as `play` does) and return what is left; a run that had written its end already is left as it is."""
    try:
        (play or Runner.start)(runner)
    except Refused as refused:
        if f"run {RUN_ID} is finished" not in str(refused):
            raise
    return runner.left()


def latch_once(runner: Runner) -> Callable[[Engine], None]:
    """Return a halt by hand that happens once, however often the run is started."""

    def latch(moving: Engine) -> None:
        if not runner.switch.latches():
            runner.switch.latch(reason="manual", detail="lunch", by="anna")

    return latch


@contextmanager
def runner_of_the_game(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Runner]:
    """Lend a Runner of `game` whose runs hear at the next frame what people do, however fast they are.

    Its state lies in memory where that can be: hundreds of runs would wait for the disk.
    """
    patch.setattr(session, "LOOK_EVERY_S", 0.0)
    patch.setattr(engine, "LOOK_EVERY_FRAMES", 1)
    file = game().write(folder / "game.jsonl")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else folder) as root:
        yield Runner(Path(root) / "state", config(file))


class LiveFeed:
    """A feed that calls itself live and says what a script says: each process hears another part."""

    name = "live"
    sha256 = "the tokens"

    def __init__(self, script: Script, folder: Path) -> None:
        self._tape = recording.read(script.write(folder / "part.jsonl"))
        self.markets = self._tape.markets

    def rows(self) -> Iterator[Row]:
        return self._tape.rows()
