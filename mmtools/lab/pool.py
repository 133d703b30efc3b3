"""Where the trials of a grid run: in processes of this machine, or on the workers of a Dask scheduler. Results come as they are ready.

What a task is and what comes of it is not known here. Whoever stops listening (Ctrl-C, an error, a closed generator) ends the
work. `distributed` is loaded by `cluster` alone.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from mmtools.errors import Misconfigured, TryLater

Task = TypeVar("Task")
Result = TypeVar("Result")

CONNECT_S = 10.0


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def processes(work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int) -> Generator[Result, None, None]:
    """Yield the result of each task, done by `jobs` processes; one alone is this process itself.

    Raises what `work` raises, and TryLater when a process dies. Tasks begin in their order.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        yield from map(work, tasks)
        return
    # Spawned, not forked: a fork takes along locks that other threads of this process hold.
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
    done = False
    try:
        with _interrupts_ignored_by_children():
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


def cluster(work: Callable[[Task], Result], tasks: Sequence[Task], address: str) -> Generator[Result, None, None]:
    """Yield the result of each task, done by the workers of a Dask scheduler. They need mmtools, and files at the same paths.

    Raises what `work` raises, Misconfigured without the package, TryLater when scheduler or workers cannot be reached.
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
        if not client.scheduler_info()["workers"]:
            raise TryLater(f"--scheduler {address}: has no workers; start some with `dask worker {address} --nthreads 1`")
        futures = client.map(work, list(tasks), pure=False)
        try:
            for future in distributed.as_completed(futures):
                yield future.result()
                future.release()
        finally:
            client.cancel(futures)
    except (distributed.KilledWorker, distributed.comm.CommClosedError, CancelledError) as e:
        raise TryLater(f"--scheduler {address}: it or its workers died or went away; what was finished is kept: run again") from e
    finally:
        client.close()


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
def _interrupts_ignored_by_children() -> Iterator[None]:
    """Start children that a Ctrl-C does not reach: it goes to the whole group, and each would die with a traceback of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
