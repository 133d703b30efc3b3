"""Where trials run: how processes and clusters end, what is kept then, and that no worker stays or is waited for in vain."""

import importlib.util
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from commandline import PATIENCE_S, ROOT, call, config, end, wait_until
from grids import BTC, GRID, btc_tasks, lines, sweep
from small_runs import LOWER_ASKS, LOWER_BIDS, Script, game

from mmtools.errors import TryLater
from mmtools.lab import pool
from mmtools.lab.sweep import Grid
from mmtools.lab.trial import trial


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    return config(tmp_path / "small.yaml", GRID)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A recording of 150 s."""
    return game().write(tmp_path / "game.jsonl")


def started(grid_file: Path, out: Path, *more: str | Path) -> "subprocess.Popen[str]":
    """Start a grid in a process group of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, "-m", "mmtools.commands.replay", "--grid", str(grid_file), "--out", str(out), *map(str, more)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def group(process: "subprocess.Popen[str]") -> list[int]:
    """Return the processes of a group that are alive, the workers among them."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(of) == process.pid and state != "Z":
                found.append(int(folder.name))
    return found


def worker(process: "subprocess.Popen[str]") -> int:
    return next(pid for pid in group(process) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())


def test_processes_say_what_one_process_says(grid_file: Path, small: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    other = Script().book(3).taker(17, "SELL", "0.46", 22).book(70, LOWER_BIDS, LOWER_ASKS).taker(95, "BUY", "0.49", 31).book(130)
    both = (small, other.write(tmp_path / "other.jsonl"))
    alone = sweep("--grid", grid_file, *both, "--out", one, "--json")
    said = sweep("--grid", grid_file, *both, "--out", two, "--json", jobs=2)
    assert said.err == ""
    assert said.document == alone.document
    assert sorted(two.read_bytes().splitlines()) == sorted(one.read_bytes().splitlines())


Ending = Callable[["subprocess.Popen[str]"], None]


@pytest.mark.parametrize(
    ("ending", "code", "told"),
    [
        (lambda process: process.terminate(), 130, "replay: interrupted\n"),
        (lambda process: os.killpg(process.pid, signal.SIGINT), 130, "replay: interrupted\n"),
        (lambda process: os.kill(worker(process), signal.SIGKILL), 75, "replay: a worker died (killed, or out of memory); what was fi"),
        (lambda process: process.kill(), -signal.SIGKILL, None),
    ],
    ids=["SIGTERM", "Ctrl-C", "a worker killed", "the parent killed"],
)
def test_however_a_grid_ends_what_was_finished_is_kept_and_no_worker_stays(
    ending: Ending, code: int, told: str | None, recordings: Path, tmp_path: Path
) -> None:
    grid_file = config(tmp_path / "long.yaml", f"grid: {{max_skew_ticks: {list(range(1, 200))}}}\n")
    out = tmp_path / "trials.jsonl"
    process = started(grid_file, out, recordings / BTC, "--jobs", "2")
    wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 4, process)
    ending(process)
    said = end(process)
    assert said.code == code
    if told is not None:
        assert said.err.startswith(told)
        assert said.err.count("\n") == 1
    kept = lines(out)
    assert 3 <= len(kept) < 2 * 199, "a line that was being written when the signal came is taken back"
    wait_for_none(process)


def wait_for_none(process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while alive := group(process):
        assert time.monotonic() < deadline, f"still alive: {alive}"
        time.sleep(0.01)


def test_a_recording_that_breaks_in_a_worker_is_refused_like_any(grid_file: Path, small: Path, tmp_path: Path) -> None:
    torn = config(tmp_path / "torn.jsonl", small.read_text()[:-40])
    said = sweep("--grid", grid_file, torn, "--out", tmp_path / "x.jsonl", jobs=2)
    assert said.code == 2
    assert said.err.startswith(f"replay: {torn}:")
    assert said.err.count("\n") == 1


def pause(s: float) -> float:
    time.sleep(s)
    return s


def test_there_are_no_more_processes_than_four_a_core() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        others = len(multiprocessing.active_children())
        with closing(pool.processes(pause, [0.1] * 9, 1024)) as results:
            next(results)
            assert len(multiprocessing.active_children()) - others == pool.PER_CORE
    finally:
        os.sched_setaffinity(0, before)


class Impatient(list[float]):
    """Tasks during whose submission somebody presses Ctrl-C."""

    def __iter__(self) -> Iterator[float]:
        for number in range(len(self)):
            if number == 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield self[number]


def test_an_interrupt_while_trials_are_handed_out_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(pool.processes(pause, Impatient([0.1, 0.2, 0.3]), 2))


# --- a cluster


def test_without_the_package_a_cluster_names_how_to_install_it(grid_file: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    said = call(
        "replay", small, "--grid", grid_file, "--out", grid_file.with_suffix(".jsonl"), "--backend", "dask", "--scheduler", "tcp://x:1"
    )
    assert said.code == 78
    assert "pip install 'distributed" in said.err
    assert said.err.count("\n") == 1


NEEDS_DASK = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="the extra [cluster] is not installed")


@NEEDS_DASK
def test_a_cluster_without_workers_is_one_for_later(grid_file: Path, small: Path, tmp_path: Path) -> None:
    distributed = importlib.import_module("distributed")
    with distributed.LocalCluster(n_workers=0, processes=True, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        said = call("replay", small, "--grid", grid_file, "--out", tmp_path / "x.jsonl", "--backend", "dask", "--scheduler", address)
    assert said.code == 75
    assert said.err.startswith(f"replay: --scheduler {address}: has no workers; start some")


@contextmanager
def running(log: Path, *args: str) -> "Iterator[subprocess.Popen[str]]":
    """Run a program of Dask for as long as the block runs; what it says goes to a file."""
    with log.open("w") as said:
        process = subprocess.Popen([sys.executable, *args], cwd=ROOT, stdout=said, stderr=said, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


SCHEDULER = ("-m", "distributed.cli.dask_scheduler")


WITHOUT_US = ("-c", "import sys; sys.modules['mmtools'] = None; from distributed.cli.dask_scheduler import main; main()")


@contextmanager
def scheduling(tmp_path: Path, *how: str) -> "Iterator[tuple[subprocess.Popen[str], str, subprocess.Popen[str]]]":
    """Run a scheduler with one worker; lend both, and the address between them."""
    address, log = re.compile(r"Scheduler at: +(tcp://[0-9.:]+)"), tmp_path / "log"
    with running(log, *how, "--host", "127.0.0.1", "--port", "0", "--no-dashboard") as scheduler:
        wait_until(lambda: address.search(log.read_text()) is not None, scheduler)
        found = address.findall(log.read_text())[0]
        worker = ("-m", "distributed.cli.dask_worker", found, "--nthreads", "1", "--no-dashboard", "--no-nanny")
        with running(tmp_path / "worker", *worker) as one:
            wait_until(lambda: "Register worker" in log.read_text(), scheduler)
            yield scheduler, found, one


@NEEDS_DASK
def test_a_scheduler_that_dies_is_told_in_one_line_and_what_was_finished_is_kept(recordings: Path, tmp_path: Path) -> None:
    grid_file = config(tmp_path / "long.yaml", f"grid: {{max_skew_ticks: {list(range(1, 200))}}}\n")
    out = tmp_path / "trials.jsonl"
    with scheduling(tmp_path, *SCHEDULER) as (scheduler, found, _):
        process = started(grid_file, out, recordings / BTC, "--backend", "dask", "--scheduler", found)
        wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 4, process)
        scheduler.kill()
        ended = end(process)
    assert ended.code == 75
    assert ended.err.startswith(f"replay: --scheduler {found}: it or its workers died or went away")
    assert ended.err.count("\n") == 1
    assert len(lines(out)) >= 4


@NEEDS_DASK
def test_a_cluster_whose_last_worker_died_is_not_waited_for_for_ever(recordings: Path, tmp_path: Path) -> None:
    grid = Grid(config(tmp_path / "long.yaml", f"grid: {{max_skew_ticks: {list(range(1, 200))}}}\n"))
    with scheduling(tmp_path, *SCHEDULER) as (_, found, worker):
        results = pool.cluster(trial, btc_tasks(grid, recordings / BTC), found, patience_s=0.5)
        assert next(results)[0]["part"] == "fit"
        worker.kill()
        with pytest.raises(TryLater, match=r"has had no worker for 0\.5 s; what was finished is kept"):
            list(results)


@NEEDS_DASK
def test_a_scheduler_without_mmtools_is_told_so(grid_file: Path, small: Path, tmp_path: Path) -> None:
    with scheduling(tmp_path, *WITHOUT_US) as (_, found, _):
        dask = ("--backend", "dask", "--scheduler", found)
        said = call("replay", small, "--grid", grid_file, "--out", tmp_path / "x.jsonl", *dask)
    assert (said.code, said.out, said.err.count("\n")) == (78, "", 1)
    assert "mmtools, or a package it needs, is missing there" in said.err


@NEEDS_DASK
def test_two_workers_of_a_cluster_say_what_one_process_says(grid_file: Path, small: Path, tmp_path: Path) -> None:
    distributed = importlib.import_module("distributed")
    alone, shared = tmp_path / "alone.jsonl", tmp_path / "shared.jsonl"
    here = sweep("--grid", grid_file, small, "--out", alone, "--json")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        there = call("replay", small, "--grid", grid_file, "--out", shared, "--backend", "dask", "--scheduler", address, "--json")
        assert there.code == 0, there.err
        assert there.document == here.document
        assert sorted(shared.read_bytes().splitlines()) == sorted(alone.read_bytes().splitlines())
        torn = config(tmp_path / "torn.jsonl", small.read_text()[:-40])
        refused = call("replay", torn, "--grid", grid_file, "--out", tmp_path / "x.jsonl", "--backend", "dask", "--scheduler", address)
        assert refused.code == 2
        assert f"replay: {torn}:" in refused.err
