"""Where the trials of a grid run: in processes of this machine, or on the workers of a Dask scheduler. Results come as they are ready.

What a task is and what comes of it is not known here. Whoever stops listening (Ctrl-C, an error, a closed generator) ends the
work. `distributed` is loaded by `cluster` alone.
"""

import importlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from mmtools.errors import Misconfigured, TryLater

Task = TypeVar("Task")
Result = TypeVar("Result")

CONNECT_S = 10.0
PATIENCE_S = 30.0
"""How long a cluster may be without any worker before a grid gives up: a nanny has a new one up in a few seconds."""
LOOK_S = 1.0
"""How often that is looked at, while nothing is finished."""
PER_CORE = 4
"""Processes at most, for each core: more only take memory."""


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def processes(work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int) -> Generator[Result, None, None]:
    """Yield the result of each task, done by `jobs` processes, PER_CORE a core at most; one alone is this process itself.

    Raises what `work` raises, and TryLater when a process dies. Tasks begin in their order.
    """
    jobs = min(jobs, len(tasks), PER_CORE * cores())
    if jobs <= 1:
        yield from map(work, tasks)
        return
    # Spawned, not forked: a fork takes along locks that other threads of this process hold.
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
    done = False
    try:
        with _interrupts_kept_from_children():
            futures = [executor.submit(work, task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
        done = True
    except BrokenProcessPool as e:
        raise TryLater(
            "a worker died (killed, or out of memory); what was finished is kept: run again, with fewer --jobs if memory is short"
        ) from e
    finally:
        if not done:
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
        executor.shutdown(wait=done, cancel_futures=True)


def cluster(
    work: Callable[[Task], Result], tasks: Sequence[Task], address: str, patience_s: float = PATIENCE_S
) -> Generator[Result, None, None]:
    """Yield the result of each task, done by the workers of a Dask scheduler. All of them need mmtools, and files at the same paths.

    Raises what `work` raises, Misconfigured where a package is missing, TryLater when the scheduler cannot be reached or has no
    worker for `patience_s`.
    """
    if not tasks:
        return
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as e:
        raise Misconfigured(
            "--backend dask needs the package distributed; install it with .venv/bin/python -m pip install 'distributed>=2025.1,<2027'"
        ) from e
    _silence("distributed")
    try:
        client = distributed.Client(address, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError) as e:
        raise TryLater(f"--scheduler {address}: no scheduler answers there ({e}); start one with `dask scheduler`, or name another") from e
    try:
        if not _has_workers(client):
            raise TryLater(f"--scheduler {address}: has no workers; start some with `dask worker {address} --nthreads 1`")
        futures = client.map(work, list(tasks), pure=False)
        try:
            for future in _finished(client, futures, address, patience_s):
                yield future.result()
                future.release()
        finally:
            client.cancel(futures)
    except (distributed.KilledWorker, distributed.comm.CommClosedError, CancelledError) as e:
        raise TryLater(f"--scheduler {address}: it or its workers died or went away; what was finished is kept: run again") from e
    except (ImportError, RuntimeError) as e:
        if not _is_missing_there(e):
            raise
        raise Misconfigured(
            f"--scheduler {address}: mmtools, or a package it needs, is missing there or is another version; "
            "install this one for the scheduler and for every worker"
        ) from e
    finally:
        client.close()


def _finished(client: Any, futures: Sequence[Any], address: str, patience_s: float) -> Iterator[Any]:
    """Yield futures as they end. Raises TryLater when nobody is left to work on them: Dask itself would wait for ever."""
    ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(ready.put)
    left, seen_s = len(futures), time.monotonic()
    while left:
        try:
            future = ready.get(timeout=min(LOOK_S, patience_s))
        except queue.Empty:
            if _has_workers(client):
                seen_s = time.monotonic()
            elif time.monotonic() - seen_s >= patience_s:
                raise TryLater(
                    f"--scheduler {address}: has had no worker for {patience_s:g} s; what was finished is kept: start some, with "
                    "this version of mmtools, and run again"
                ) from None
            continue
        left, seen_s = left - 1, time.monotonic()
        yield future


def _has_workers(client: Any) -> bool:
    return bool(client.scheduler_info(n_workers=1)["workers"])


def _is_missing_there(error: BaseException) -> bool:
    """Whether it says that the scheduler or a worker could not load what it was sent; Dask has no error of its own for that."""
    return isinstance(error, ImportError) or "deserializ" in str(error)


def _silence(package: str) -> None:
    """Keep a package from logging tracebacks on stderr: what goes wrong is said once, by us."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == package:
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _begin() -> None:
    """Make this worker end with the process that started it, also when that one is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Start children that a Ctrl-C does not reach: it goes to the whole group, and each would die with a traceback of its own.

    Blocked and not ignored: children inherit that, and one that comes meanwhile is only late here.
    """
    resource_tracker.ensure_running()  # started by the first child, it would unblock
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
