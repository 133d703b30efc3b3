"""One run of a command that cron or a timer starts: alone, with its result written down, and an alert when it fails.

`jobs/<name>.json` says when each last ended well, for the status card, the pings and the alarms. Called by the commands; what a job does
is not known here.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mmtools import moments, outbox
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import pings
from mmtools.ops.settings import JobName, Settings, load
from mmtools.state import GRACE_S, StateDir

SCHEMA = "mmtools.job/1"
PATIENT_FAILURES = 3
"""Failures in a row before "try later" is told: the network comes and goes."""


def settings(state: StateDir, name: JobName, config: str | None, *, dry_run: bool = False) -> Settings:
    """Return the settings for the job `name`. A file that is wrong is a failure of the job, written down and told as any other."""
    try:
        return load(config)
    except Misconfigured:
        with running(state, name, Settings(), dry_run=dry_run):
            raise


@contextmanager
def running(state: StateDir, name: JobName, settings: Settings, *, dry_run: bool = False, wait_s: float = GRACE_S) -> Iterator[None]:
    """Be the only run of the job `name`, write down how it ended, and ping who waits for it. A dry run asks, and leaves no trace.

    Raises TryLater when another run of it is under way for all of `wait_s`: at once, as a rule.
    """
    if dry_run:
        if state.is_locked(name):
            raise TryLater(f"{name} is running: its lock is held; wait for it to end, and run again")
        yield
        return
    ping: pings.Run | None = None
    failure: BaseException | None = None
    try:
        with state.lock(name, wait_s):
            ping = pings.begin(state, settings, name)
            began, at_ms = time.monotonic(), moments.now_ms()
            try:
                yield
            except BaseException as e:
                failure = e
                _keep(state, name, at_ms, time.monotonic() - began, e)
                raise
            _keep(state, name, at_ms, time.monotonic() - began, None)
    finally:
        # Without the lock: a service that answers slowly must not keep the next run out.
        if ping is not None:
            _tell_end(state, ping, failure)


def _tell_end(state: StateDir, ping: pings.Run, failure: BaseException | None) -> None:
    ended = ping.end("success") if failure is None else ping.end("fail", _words(failure))
    if ended.did is pings.Did.UNKNOWN:
        text = f"the ping of {ping.job} reaches no check: {ended.why}; correct its address in ops.yaml (pings)"
        day = moments.iso(moments.now_ms())[:10]
        with suppress(TryLater, Misconfigured, Refused):
            outbox.raise_alert(state, f"ping:{ping.job}:{day}", text, level=outbox.Level.WARNING, source=ping.job)


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
