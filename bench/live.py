"""What a live frame costs, from its bytes to done: decoded, in the book, decided on, journalled; and what receiving it costs.

    python bench/live.py [RECORDING] [--rounds N] [--frames N]

Without RECORDING it is polymarket/recordings/nhl-20260607.jsonl.gz under $MMTOOLS_MARKET_DATA. The yardstick is `json.loads` of the
same frame (for a journal record: msgspec's encoding of it), taken right before it, so a bar is a ratio that a crowd on the machine
meets on both sides. A wake is long enough for the crowd to interrupt it, so it is CPU of the thread. Receiving is CPU of the receiving
process alone, from a server of its own on loopback that sends frame by frame (each wakes the receiver) or all at once; `recv` of the
bare socket beside it is what the kernel takes. Children take turns; printed are medians of the rounds. Prints tables, exits 1 when a
bar is missed.
"""

import argparse
import dataclasses
import functools
import gzip
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from measure import ROOT, Used, machine, run

QUIET_P50 = 1.0
"""A frame that changes nothing for us, against `json.loads` of it."""
WAKE_P50, WAKE_P99 = 10.0, 25.0
"""A frame that wakes the maker, to the decided quotes."""
RECEIVE_US = 15.0
APPEND = 3.0
"""One record and the flush of its turn, against encoding it."""

QUIET_PARTS = ("json.loads", "to rows", "view", "whole")
WAKE_PARTS = ("json.loads", "to rows", "view", "maker", "whole", "written")
PAUSE_S = 0.0003
"""Between two frames that trickle in: the receiver has gone to sleep again."""
YEAR_MS = 365 * 86_400_000


def main() -> None:
    arguments = argparse.ArgumentParser(description="measures the live path, frame by frame")
    arguments.add_argument("recording", nargs="?", help="default: the hockey game under $MMTOOLS_MARKET_DATA")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--frames", type=int, default=40_000)
    arguments.add_argument("--child", choices=("frames", "receive", "send"), help=argparse.SUPPRESS)
    arguments.add_argument("--how", default="", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    path = given.recording or os.path.join(os.environ.get("MMTOOLS_MARKET_DATA", ""), "polymarket", "recordings", "nhl-20260607.jsonl.gz")
    if not Path(path).is_file():
        arguments.error(f"there is no recording {path}; give its path, or set MMTOOLS_MARKET_DATA")
    if given.child == "send":
        send(path, given.frames, given.how)
    elif given.child:
        print(json.dumps(frame_figures(path, given.frames) if given.child == "frames" else receive_figures(path, given.frames, given.how)))
    else:
        sys.exit(report(path, given.rounds, given.frames))


def report(path: str, rounds: int, frames: int) -> int:
    """Run the children in turn and print what they found; return the exit code."""
    received = min(frames, 6_000)
    programs = {"frames": functools.partial(child, path, "frames", frames, "")} | {
        how: functools.partial(child, path, "receive", received, how)
        for how in ("trickled", "trickled, bare recv", "trickled, to rows", "burst", "burst, to rows")
    }
    found: dict[str, list[dict]] = {name: [] for name in programs}
    for lap in range(rounds + 1):  # the first only warms the caches
        for name, program in programs.items():
            figures = program()
            if lap:
                found[name].append(figures)
        if sys.stderr.isatty():
            print(f"\rround {lap} of {rounds}", end="" if lap < rounds else "\n", file=sys.stderr, flush=True)
    middle = {name: {key: statistics.median(one[key] for one in laps) for key in laps[0]} for name, laps in found.items()}
    print(f"{path}, {frames:,} frames\n{machine()}; medians of {rounds} rounds\n")
    held = print_frames(middle["frames"])
    print(f"\n{'receiving, CPU a frame':<26}{'us':>8}{'bar':>7}")
    for how in list(programs)[1:]:
        cpu_us, bar = middle[how]["cpu_us"], RECEIVE_US if how in ("trickled", "burst") else None
        held &= line(how, cpu_us, bar)
    return 0 if held else 1


def print_frames(figures: dict[str, float]) -> bool:
    print(f"{'microseconds':<34}{'p50':>8}{'p99':>8}")
    for name in [f"quiet: {part}" for part in QUIET_PARTS] + [f"wake: {part}" for part in WAKE_PARTS]:
        print(f"{name:<34}{figures[name + ' p50'] / 1000:>8.1f}{figures[name + ' p99'] / 1000:>8.1f}")
    print(f"\n{figures['quiet frames']:,.0f} frames changed nothing, {figures['wake frames']:,.0f} woke the maker: `view` is everything")
    print("between rows and maker, `whole` ends with the decided quotes, `written` with what follows from them in exchange and journal\n")
    print(f"{'times json.loads, encoding':<34}{'ratio':>8}{'bar':>7}")
    bars = {
        "quiet: ratio p50": QUIET_P50,
        "wake: ratio p50": WAKE_P50,
        "wake: ratio p99": WAKE_P99,
        "journal: a record a turn": APPEND,
        "journal: four records a turn": None,
    }
    held = True
    for name, bar in bars.items():
        held &= line(name, figures[name], bar, width=34)
    return held


def line(name: str, figure: float, bar: float | None, *, width: int = 26) -> bool:
    held = bar is None or figure <= bar
    print(f"{name:<{width}}{figure:>8.2f}" + ("" if bar is None else f"{bar:>7g}{'' if held else '  MISSED'}"))
    return held


def child(path: str, what: str, frames: int, how: str) -> dict:
    with tempfile.NamedTemporaryFile("r", prefix="mmtools-bench-") as output:
        argv = (sys.executable, __file__, path, "--frames", str(frames), "--child", what, "--how", how)
        _: Used = run(argv, output=Path(output.name))
        return json.load(output)


# in a child: frames


def frame_figures(path: str, most: int) -> dict[str, float]:
    """Lead the frames through the live feed's reading to the views alone, then to an engine with a journal on the disk; nanoseconds."""
    from mmtools.state import StateDir

    markets, frames = read(path, most)
    state = StateDir.open(None)
    woken, fill = engine_frames(markets, frames, state)
    figures: dict[str, float] = {}
    taken = {
        "quiet": (QUIET_PARTS, [one for one in view_frames(markets, frames) if one]),
        "wake": (WAKE_PARTS, woken),
    }
    for kind, (names, all_taken) in taken.items():
        figures[f"{kind} frames"] = len(all_taken)
        columns = dict(zip(names, zip(*all_taken, strict=True), strict=True))
        columns["ratio"] = tuple(whole / loads for whole, loads in zip(columns["whole"], columns["json.loads"], strict=True))
        for name, column in columns.items():
            ordered = sorted(column)
            figures |= {f"{kind}: {name} p50": ordered[len(ordered) // 2], f"{kind}: {name} p99": ordered[len(ordered) * 99 // 100]}
    figures["journal: a record a turn"] = append_ratio(state, fill, 1)
    figures["journal: four records a turn"] = append_ratio(state, fill, 4)
    return figures


class Unmoved:
    """A listener of views that only notes whether it would have been woken."""

    fills_by_book = False

    def __init__(self) -> None:
        self.woken = False

    def decreased(self, market, bid, price, before, after, now_ms) -> None: ...
    def book_given(self, market) -> None: ...
    def frame_over(self, market, now_ms) -> None: ...

    def printed(self, market, taker, price, size, now_ms) -> None:
        self.woken = True

    def resolved(self, market, payout, now_ms) -> None:
        self.woken = True

    def hear(self, event, now_ms) -> None:
        self.woken = True


def view_frames(markets, frames):
    """Yield for each frame what it cost to read it as JSON, to rows, and into the view; None when the view has news for a maker."""
    from mmtools.runs.markets import Markets
    from mmtools.venues.stream import LiveFeed
    from mmtools.venues.venue import Kind

    timer, loads = time.perf_counter_ns, json.loads
    live, listener = LiveFeed(markets, duration_ms=None), Unmoved()
    watched = Markets(markets, [listener])
    views = watched.views
    for book in first_books(markets):
        for row in live.read(frames[0][0], book):
            watched.row(*row)
    for now, recorded in frames:
        frame = fresh(recorded)
        listener.woken = False
        first = timer()
        loads(frame)
        began = timer()
        rows = live.read(now, frame)
        read_at = timer()
        for ms, kind, market, a, b in rows:  # as the engine does
            if kind == Kind.BID or kind == Kind.ASK:
                views[market].level(kind == Kind.BID, a, b, ms)
            elif kind == Kind.FRAME:
                views[market].frame(ms)
            else:
                watched.row(ms, kind, market, a, b)
        done = timer()
        yield None if listener.woken else (began - first, read_at - began, done - read_at, done - began)


def engine_frames(markets, frames, state) -> tuple[list[tuple[int, ...]], dict]:
    """Return what each frame that wakes the maker cost, as in WAKE_PARTS, and the record of a fill."""
    from mmtools.config import RunConfig
    from mmtools.runs import session
    from mmtools.runs.engine import Engine
    from mmtools.runs.journal import DiskJournal
    from mmtools.trading.params import Params
    from mmtools.venues.stream import LiveFeed
    from mmtools.venues.venue import Kind

    timer, loads = time.thread_time_ns, json.loads
    live = LiveFeed(markets, duration_ms=None)
    woken: list[tuple[int, ...]] = []
    heard: list[tuple[int, int]] = []
    fills: list[dict] = []

    class Probe:
        """A feed that gives the engine one frame at a time and looks at the clock between."""

        name = "live"
        sha256 = "of a benchmark"

        def __init__(self) -> None:
            self.markets = live.markets

        def rows(self):
            for book in first_books(markets):
                yield from live.read(frames[0][0], book)
            for now, recorded in frames:
                yield (now, Kind.CLOCK, -1, 0, 0)  # timers and what is due are no part of the frame
                frame = fresh(recorded)
                heard.clear()
                first = time.perf_counter_ns()
                loads(frame)
                yardstick = time.perf_counter_ns() - first
                began = timer()
                rows = live.read(now, frame)
                read_at = timer()
                yield from rows
                written = timer()
                if heard:
                    maker, decided = sum(end - start for start, end in heard), heard[-1][1]
                    view = decided - read_at - maker
                    woken.append((yardstick, read_at - began, view, maker, decided - began, written - began))

    params = Params(bracket=False)
    journal = DiskJournal(state, "bench", start={}, repeat=False)
    feed = Probe()
    head = session.head("bench", RunConfig(feed="recording", recording="none", params=params), feed)
    engine = Engine(feed=feed, params=params, journal=journal, head=head)
    on, write = engine.maker.on, journal.write

    def timed_on(event, now_ms):
        start = timer()
        actions = on(event, now_ms)
        heard.append((start, timer()))
        return actions

    def noted_write(record):
        if record["kind"] == "fill" and not fills:
            fills.append(record)
        return write(record)

    engine.maker.on, journal.write = timed_on, noted_write
    engine.run()
    journal.close()
    if not fills:
        sys.exit("no order was filled: a longer recording is needed")
    return woken, fills[0]


def fresh(frame: bytes) -> bytes:
    """Return a copy: what a socket has just written lies in the processor's cache."""
    return b"".join((frame[:1], frame[1:]))


def append_ratio(state, record: dict, together: int) -> float:
    """Return what it costs to write a record and its part of the turn's flush, against encoding it; medians, the disk not waited for."""
    import msgspec

    from mmtools.runs.journal import DiskJournal

    timer, encode = time.perf_counter_ns, msgspec.json.Encoder().encode
    journal = DiskJournal(state, f"append-{together}", start={}, repeat=False)
    encoded, appended = [], []
    for _ in range(5_000):
        began = timer()
        encode(record)
        then = timer()
        for _ in range(together):
            journal.write(record)
        journal.flush()
        appended.append((timer() - then) / together)
        encoded.append(then - began)
    journal.close()
    return statistics.median(appended) / statistics.median(encoded)


def read(path: str, most: int):
    """Return the markets of a recording, with the facts that a live market has, and its first frames with their times."""
    import msgspec

    from mmtools.trading.market import FeeSchedule
    from mmtools.venues import recording

    tape = recording.read(Path(path))
    facts = {"accepting": True, "event": "one", "fees": FeeSchedule(rate=0.0), "end_ms": tape.last_ms + YEAR_MS}
    decode = msgspec.json.Decoder(tuple[int, msgspec.Raw]).decode
    frames: list[tuple[int, bytes]] = []
    with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as lines:
        next(lines)
        for text in lines:
            now, frame = decode(text)
            frames.append((max(now, frames[-1][0]) if frames else now, bytes(frame)))
            if len(frames) == most:
                break
    return [dataclasses.replace(market, **facts) for market in tape.markets], frames


def first_books(markets) -> list[bytes]:
    """Return an empty book of each market: without one the live feed holds its changes back."""
    book = {"event_type": "book", "bids": [], "asks": []}
    return [json.dumps({**book, "market": market.condition_id, "asset_id": market.yes_token}).encode() for market in markets]


# in a child: receiving


def receive_figures(path: str, most: int, how: str) -> dict[str, float]:
    """Return the CPU that receiving takes in this process; `how` is the sender's pace and, behind a comma, how far frames are led."""
    pace, _, depth = how.partition(", ")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    argv = (sys.executable, __file__, path, "--frames", str(most), "--child", "send", "--how", pace)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
        try:
            port = sender.stdout.readline().strip()
            url = f"ws://127.0.0.1:{port}/ws/market"
            cpu_s = rows_cpu(url, path, most) if depth == "to rows" else messages_cpu(url, most, bare=depth == "bare recv")
        finally:
            sender.stdin.close()
    return {"cpu_us": cpu_s / most * 1e6}


def messages_cpu(url: str, most: int, *, bare: bool) -> float:
    """Receive all messages, or their bytes alone."""
    from mmtools.venues.frames import FrameSocket

    connection = FrameSocket()
    connection.settimeout(0.1)
    connection.connect(url)
    connection.send("all of them")
    sizes = json.loads(until(lambda: connection.receive(0.1)))
    connection.send("go")
    if bare:
        plain, left = connection.sock, sizes["octets"]
        piece = until(lambda: received(plain))
        began = time.process_time()
        left -= len(piece)
        while left > 0:
            left -= len(received(plain) or b"")
    else:
        until(lambda: connection.receive(0.1))
        began = time.process_time()
        left = most - 1
        while left:
            left -= connection.receive(0.1) is not None
    cpu_s = time.process_time() - began
    connection.shutdown()
    return cpu_s


def received(plain: socket.socket) -> bytes | None:
    try:
        return plain.recv(16_384)
    except TimeoutError:
        return None


def until(call):
    while (found := call()) is None:
        pass
    return found


def rows_cpu(url: str, path: str, most: int) -> float:
    """Let the live feed read everything, as the engine would."""
    from mmtools.venues.stream import LiveFeed
    from mmtools.venues.venue import Kind

    markets, _ = read(path, 1)
    feed = LiveFeed(markets, url=url, duration_ms=None)
    began = ended = 0.0
    left = most + len(markets)
    for row in feed.rows():
        if row[1] == Kind.FRAME:
            left -= 1
            if left == most - 1:
                began = time.process_time()
            elif not left:
                ended = time.process_time()
                feed.stop()
    return ended - began


# in a child of that child: sending


def send(path: str, most: int, pace: str) -> None:
    """Serve one client: say how much will come, and once it has answered send everything."""
    sys.path.append(str(ROOT / "tests"))
    from loopback import Gone, Peer, encode

    markets, frames = read(path, most)
    messages = [encode(frame.decode()) for _, frame in frames]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        client, _ = listener.accept()
    client.settimeout(1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or two frames would wake the receiver once
    peer = Peer(client, threading.Event())
    try:
        peer.shake_hands()
        if json_asked(peer.receive()):
            peer.send(*(book.decode() for book in first_books(markets)))
            time.sleep(0.3)
        else:
            peer.send(json.dumps({"octets": sum(map(len, messages))}))
            peer.receive()
        if pace == "burst":
            peer.send_raw(b"".join(messages))
        for message in () if pace == "burst" else messages:
            peer.send_raw(message)
            time.sleep(PAUSE_S)
        peer.serve()
    except Gone:
        client.close()


def json_asked(request: str | None) -> bool:
    """Whether the client subscribes as the live feed does."""
    return request is not None and request.startswith("{")


if __name__ == "__main__":
    main()
