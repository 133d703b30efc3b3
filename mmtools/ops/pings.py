"""Pings as healthchecks.io and its like take them: a job says that it began, and how it ended, and the service tells when it does not.

Whoever misses a ping raises the alarm, so this is what still speaks when the machine is gone. A ping never breaks a job: nothing is
raised here, and it takes `limit_s` at most. The address is a secret: it is in no output and no file of ours. Called by `jobs`.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from mmtools import moments
from mmtools.errors import Misconfigured, TryLater
from mmtools.ops import web
from mmtools.ops.settings import Ping, Settings
from mmtools.ops.web import NoAnswer
from mmtools.state import Broken, StateDir

STATE = "pings.json"
SCHEMA = "mmtools.pings/1"
LIMIT_S = 5.0
LONGEST_S = 10.0
MOST_A_MINUTE = 5
"""To one check, tries included: of more the service may drop some."""
KEPT_FOR_ENDS = 2
"""Of these, for how a job ended: without a start something is unknown, without an end somebody is called."""
MOST_BYTES = 10_000
"""Of the words that go with a ping."""
PAUSE_S = 0.5
"""Before the second try: a network that comes and goes needs a moment."""
MINUTE_MS = 60_000

Event = Literal["start", "success", "fail", "log"]
PATHS: dict[str, str] = {"start": "/start", "success": "", "fail": "/fail", "log": "/log"}


class Did(StrEnum):
    """What became of a ping."""

    NONE = "none"
    """ops.yaml names no ping for this job."""
    HEARD = "heard"
    UNKNOWN = "unknown"
    """The service does not know this check, or the address cannot be read: a person must see to it."""
    DROPPED = "dropped"
    """There were enough of them this minute."""
    FAILED = "failed"
    """No good answer. It may have been heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinged:
    """What became of a ping; why: a phrase for people."""

    did: Did
    why: str = ""


@dataclass(slots=True)
class Run:
    """The pings of one run of a job: `begin` makes it, `end` is called once, whatever happened. One `rid` ties them together."""

    state: StateDir
    settings: Settings
    job: str
    rid: str
    limit_s: float
    started: Pinged | None = None
    """What became of the first ping; None while it is under way."""
    _thread: threading.Thread | None = field(default=None, repr=False)

    def end(self, event: Literal["success", "fail"], text: str = "") -> Pinged:
        """Say how the job ended. Waits for the first ping to be through, so that the end is not heard before it."""
        deadline = time.monotonic() + self.limit_s
        if self._thread is not None:
            self._thread.join(max(0.0, self.limit_s / 2))
        left_s = max(1.0, deadline - time.monotonic())
        return ping(self.settings, self.job, event, left_s, state=self.state, rid=self.rid, text=text)


def begin(state: StateDir, settings: Settings, job: str, *, limit_s: float = LIMIT_S) -> Run:
    """Say that a job began, in the background: the job does not wait for it."""
    run = Run(state, settings, job, new_rid(), limit_s)
    if _of(settings, job) is not None:

        def start() -> None:
            run.started = ping(settings, job, "start", limit_s, state=state, rid=run.rid)

        run._thread = threading.Thread(target=start, daemon=True)
        run._thread.start()
    return run


def ping(
    settings: Settings,
    job: str,
    event: Event,
    limit_s: float = LIMIT_S,
    *,
    state: StateDir | None = None,
    rid: str | None = None,
    text: str = "",
    clock: Callable[[], int] = moments.now_ms,
) -> Pinged:
    """Send one ping, and once more when it is not answered well. Never raises, and takes `limit_s` at most (10 s).

    state: where the pings of the last minute are counted; without it nobody counts. text: goes along, for whoever looks; no secret.
    """
    check = _of(settings, job)
    if check is None:
        return Pinged(did=Did.NONE)
    deadline = time.monotonic() + min(limit_s, LONGEST_S)
    try:
        url = check.url.reveal(f"the ping of {job}", limit_s=max(0.1, deadline - time.monotonic()) / 2)
    except Misconfigured as e:
        return Pinged(did=Did.UNKNOWN, why=str(e))
    url = url.rstrip("/") + PATHS[event] + (f"?rid={rid}" if rid else "")
    pinged = Pinged(did=Did.DROPPED, why=f"there were {MOST_A_MINUTE} in a minute")
    for tries_left in (2, 1):
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not _may_go(state, job, event, clock):
            return pinged
        pinged = _ask(url, text, left_s / tries_left)
        if pinged.did is not Did.FAILED:
            break
        if tries_left > 1:
            time.sleep(max(0.0, min(PAUSE_S, (deadline - time.monotonic()) / 4)))
    return pinged


def new_rid() -> str:
    """Return a UUID for the two pings of a run."""
    import uuid

    return str(uuid.uuid4())


def _ask(url: str, text: str, limit_s: float) -> Pinged:
    try:
        answer = web.ask(url, limit_s=limit_s, method="POST", body=text.encode(errors="replace")[:MOST_BYTES])
    except Exception as e:  # a ping must not break a job
        return Pinged(did=Did.FAILED, why=type(e).__name__)
    if isinstance(answer, NoAnswer):
        return Pinged(did=Did.FAILED, why=answer.text)
    said = answer.body[:200].lower()
    if answer.status == 429 or b"(rate limited)" in said:
        return Pinged(did=Did.DROPPED, why="the service says that there were too many")
    if 200 <= answer.status < 300:
        # Some answer OK, and that they do not know the check in the body.
        return Pinged(did=Did.UNKNOWN, why="the service does not know this check") if b"(not found)" in said else Pinged(did=Did.HEARD)
    if 300 <= answer.status < 500 and answer.status not in (408, 425):
        return Pinged(did=Did.UNKNOWN, why=f"HTTP {answer.status}")
    return Pinged(did=Did.FAILED, why=f"HTTP {answer.status}")


def _of(settings: Settings, job: str) -> Ping | None:
    return next((each for each in settings.pings if each.job == job), None)


def _may_go(state: StateDir | None, job: str, event: Event, clock: Callable[[], int]) -> bool:
    """Whether one more is within what a check takes in a minute; it is counted then. A state that cannot be written stops no ping."""
    if state is None:
        return True
    most = MOST_A_MINUTE if event in ("success", "fail") else MOST_A_MINUTE - KEPT_FOR_ENDS
    try:
        with state.lock(STATE, wait_s=1.0):
            sent, now_ms = _sent(state), clock()  # the clock is asked under the lock: others did so meanwhile
            recent = [at for at in sent.get(job, []) if abs(now_ms - at) < MINUTE_MS]
            if len(recent) >= most:
                return False
            state.write(STATE, {"sent": {**sent, job: [*recent, now_ms]}}, schema=SCHEMA)
    except (TryLater, Misconfigured):
        return True
    return True


def _sent(state: StateDir) -> dict[str, list[int]]:
    """Return when each job sent its last pings; what a broken file lost is a count, no more."""
    try:
        body = state.read(STATE, schema=SCHEMA)
    except Broken:
        body = None
    return {} if body is None else body["sent"]
