"""One run of a command that cron or a timer starts: alone, with its result written down, and an alert when it fails.

`jobs/<name>.json` says when each last ended well, for the status card, the pings and the alarms. Called by the commands; what a job does
is not known here.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmtools import moments, outbox
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.state import StateDir

SCHEMA = "mmtools.job/1"
PATIENT_FAILURES = 3
"""Failures in a row before "try later" is told: the network comes and goes."""


@contextmanager
def running(state: StateDir, name: str, *, dry_run: bool = False) -> Iterator[None]:
    """Be the only run of the job `name`, and write down how it ended. A dry run asks, and leaves no trace.

    Raises TryLater at once when another run of it is under way.
    """
    if dry_run:
        if state.is_locked(name):
            raise TryLater(f"{name} is running: its lock is held; wait for it to end, and run again")
        yield
        return
    with state.lock(name):
        began, at_ms = time.monotonic(), moments.now_ms()
        try:
            yield
        except BaseException as e:
            _keep(state, name, at_ms, time.monotonic() - began, e)
            raise
        _keep(state, name, at_ms, time.monotonic() - began, None)


def _keep(state: StateDir, name: str, began_ms: int, took_s: float, error: BaseException | None) -> None:
    try:
        with state.edit(f"jobs/{name}.json", schema=SCHEMA) as job:
            _note(job, began_ms, took_s, error)
            failures, since = job["failures"], job["failing_since"]
        if error is not None and _worth_telling(error, failures):
            text = f"{name} failed: {_words(error)}" + (f" ({failures} times since {since})" if failures > 1 else "")
            outbox.raise_alert(state, f"job:{name}:{since}", text, level=outbox.Level.WARNING, source=name)
    except (TryLater, Misconfigured, Refused):
        if error is None:  # what was done is done, but nobody would know: that must be heard
            raise


def _note(job: dict[str, Any], began_ms: int, took_s: float, error: BaseException | None) -> None:
    now = moments.iso(moments.now_ms())
    job["last_start"], job["last_end"], job["took_s"] = moments.iso(began_ms), now, round(took_s, 3)
    job["error"] = None if error is None else _words(error)
    if error is None:
        job["last_success"], job["failures"], job["failing_since"] = now, 0, None
    else:
        job.setdefault("last_success", None)
        job["failures"] = job.get("failures", 0) + 1
        job["failing_since"] = job.get("failing_since") or now


def _worth_telling(error: BaseException, failures: int) -> bool:
    if isinstance(error, KeyboardInterrupt):
        return False
    return not isinstance(error, TryLater) or failures >= PATIENT_FAILURES


def _words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    known = isinstance(error, TryLater | Refused | Misconfigured)
    return " ".join(str(error).split()) if known else f"a bug: {type(error).__name__}"


def all_jobs(state: StateDir) -> dict[str, dict[str, Any]]:
    """Return what is written of each job, by name. Raises Broken when one cannot be read."""
    found = {}
    for file in state.names("jobs/*.json"):
        job = state.read(file, schema=SCHEMA)
        if job is not None:
            found[file.removeprefix("jobs/").removesuffix(".json")] = job
    return found
