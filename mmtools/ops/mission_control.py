"""A task board named Mission Control: its tasks are read, a card on it is kept up to date, and a task is put back into its inbox.

Every change on the board writes a line into its history, so a card is written only when there is something new, and never as a
comment, which would wake an agent. Its API has no question for one task (405): tasks are listed and picked. Its times are UTC and do not
say so. What is on the card is its caller's business; `mission_control.json` keeps what was written last and what is waited for.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from mmtools import outbox
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.moments import iso
from mmtools.ops import web
from mmtools.ops.settings import MissionControl, Settings
from mmtools.ops.web import Answer, NoAnswer
from mmtools.state import Broken, StateDir

STATE = "mission_control.json"
SCHEMA = "mmtools.mission_control/1"
LOCK = "mission-control"
LIMIT_S = 5.0
"""For one question."""
LIST_LIMIT_S = 25.0
"""For all pages of its tasks together."""
PAGE = 200
MOST_TASKS = 5000
MINUTE_MS = 60_000
LONGEST_BACKOFF_MS = 30 * MINUTE_MS
PAUSE_MS = MINUTE_MS
"""After "too many requests", which comes without a time here; doubled each time, since refused tries lengthen it."""
HOUR_MS = 60 * MINUTE_MS
"""Until something that a person must see to is tried again."""

Figure = float | int | str | bool | None | Sequence[str]


class Did(StrEnum):
    """What became of a card."""

    OFF = "off"
    """ops.yaml names no board."""
    UNCHANGED = "unchanged"
    """Nothing worth writing changed: the board was not asked anything."""
    WRITTEN = "written"
    WAITING = "waiting"
    """An earlier failure or the board's limit is being waited for."""
    FAILED = "failed"
    """It may go better later."""
    REFUSED = "refused"
    """A person must see to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What became of a card; why: a phrase for people."""

    did: Did
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. Times in ms UTC; in_progress_ms is None also for a task that was created in progress."""

    id: str
    title: str
    status: str
    description: str
    assigned_agent_id: str | None
    fields: Mapping[str, Any]
    in_progress_ms: int | None
    created_ms: int | None
    updated_ms: int | None


class Unsure(TryLater):
    """The board did not say how a change went: it may have made it."""


@dataclass(eq=False, kw_only=True)
class _Failure(Exception):
    """Why a question has no good answer. status: None when there was none; unheard: it certainly did not get there."""

    why: str
    status: int | None = None
    unheard: bool = False
    retry_after_s: float | None = None

    @property
    def needs_a_person(self) -> bool:
        return self.status is not None and self.status < 500 and self.status not in (408, 425, 429)

    @property
    def may_have_been_done(self) -> bool:
        return not self.unheard if self.status is None else self.status >= 500


@dataclass(slots=True)
class Board:
    """The board that ops.yaml names, asked over HTTP; at most `limit_s` for each question."""

    where: MissionControl
    limit_s: float = LIMIT_S
    _token: str | None = field(default=None, repr=False)

    def tasks(self, status: str | None = None) -> Iterator[Task]:
        """Yield its tasks, the newest first. Raises _Failure, also where the list cannot be read to its end."""
        seen: set[str] = set()
        most = offset = 0
        deadline = time.monotonic() + LIST_LIMIT_S
        while True:
            query = f"?limit={PAGE}&offset={offset}" + (f"&status={quote(status, safe='')}" if status else "")
            said = self._ask("GET", query, None)
            items, total = said.get("items"), said.get("total")
            if not isinstance(items, list) or not isinstance(total, int):
                raise _Failure(why="its list of tasks has another shape")
            if total < most:
                raise _Failure(why="its list of tasks changed while it was read")  # one that went lets another slip by
            most, offset = total, offset + len(items)
            for task in map(_task, items):
                if task.id not in seen:  # one that came meanwhile moves the others down a page
                    seen.add(task.id)
                    yield task
            if offset >= total:
                return
            if not items or offset > MOST_TASKS:
                raise _Failure(why=f"it says that it has {total} tasks, and listed {offset}")
            if time.monotonic() > deadline:
                raise _Failure(why=f"it did not list its tasks within {LIST_LIMIT_S:g} s")

    def pick(self, task: str, status: str | None = None) -> Task | None:
        """Return one task; None when it is not among those of this status. Raises _Failure."""
        return next((each for each in self.tasks(status) if each.id == task), None)

    def change(self, task: str, changes: Mapping[str, Any]) -> Task:
        """Change a task and return it as it is now. Raises _Failure. An unknown key is ignored by the board: look at what comes back."""
        return _task(self._ask("PATCH", "/" + quote(task, safe=""), dict(changes)))

    def _ask(self, method: str, rest: str, body: Any) -> dict[str, Any]:
        if self._token is None:
            try:
                self._token = self.where.token.reveal("the token of mission_control", limit_s=self.limit_s)
            except Misconfigured as e:
                raise _Failure(why=str(e), status=401) from None
        url = f"{self.where.url.rstrip('/')}/api/v1/boards/{quote(self.where.board, safe='')}/tasks{rest}"
        answer = web.ask(url, limit_s=self.limit_s, method=method, headers={"Authorization": f"Bearer {self._token}"}, json=body)
        if isinstance(answer, NoAnswer):
            raise _Failure(why=answer.text, unheard=answer.unheard)
        if answer.status != 200:
            why = f"HTTP {answer.status}{_detail(answer, self._token)}"
            raise _Failure(why=why, status=answer.status, retry_after_s=_seconds(answer.headers.get("retry-after")))
        try:
            said = answer.json()
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise _Failure(why="HTTP 200, and no JSON of the board")
        return said


def tasks(settings: Settings, status: str = "in_progress", *, limit_s: float = LIMIT_S) -> list[Task]:
    """Return the tasks of this status, none when ops.yaml names no board. Raises TryLater, Refused or Misconfigured."""
    if settings.mission_control is None:
        return []
    try:
        return list(Board(settings.mission_control, limit_s).tasks(status))
    except _Failure as e:
        raise _told(e) from None


def to_inbox(settings: Settings, task: str, *, limit_s: float = LIMIT_S) -> bool:
    """Put a task that is in progress back into the inbox, which also takes it from its agent; False when it is not in progress any more.

    Raises Unsure where it may have been moved all the same, and TryLater, Refused or Misconfigured where it was not.
    """
    if settings.mission_control is None:
        return False
    board = Board(settings.mission_control, limit_s)
    try:
        if board.pick(task, "in_progress") is None:  # a task that was done meanwhile must not come back
            return False
    except _Failure as e:
        raise _told(e) from None
    try:
        now = board.change(task, {"status": "inbox"})
    except _Failure as e:
        told = _told(e)
        raise (Unsure(str(told)) if isinstance(told, TryLater) and e.may_have_been_done else told) from None
    if now.status != "inbox":
        raise Refused(f"Mission Control: the task {task} is {now.status} after it was put into the inbox; look at it there")
    return True


def update_card(
    state: StateDir, settings: Settings, text: str, figures: Mapping[str, Figure], now_ms: int, *, limit_s: float = LIMIT_S
) -> Card:
    """Write a text on the card when it is worth it: a figure changed, or it was not written for `refresh_h`.

    A number has changed when it differs from what is on the card by more than `change` as a part of it; anything else (a state, a
    list of findings) when it differs at all. The text gets the time of `now_ms`, since whoever reads it reads it later. What the board
    cannot bear is told once, as an alert. Raises TryLater when another process is at it, or when our state cannot be written.
    """
    if settings.mission_control is None:
        return Card(did=Did.OFF)
    with state.lock(LOCK):
        return _Writer(state, settings.mission_control, now_ms, limit_s).update(
            text, {key: _plain(value) for key, value in figures.items()}
        )


class _Writer:
    """One update of the card; `body` is what mission_control.json holds."""

    def __init__(self, state: StateDir, where: MissionControl, now_ms: int, limit_s: float) -> None:
        self.state, self.where, self.now_ms = state, where, now_ms
        self.board = Board(where, limit_s)
        card = [where.url, where.board, where.task, where.field]
        try:
            body = state.read(STATE, schema=SCHEMA)
        except Broken:
            body = None  # what the card holds is on the board: it is written anew
        if body is None or body["card"] != card:
            body = {"card": card, "written": None, "unsure": None, "wait": None, "failures": 0, "failing_since": None, "why": ""}
        self.body = body

    def update(self, text: str, figures: Mapping[str, Any]) -> Card:
        wait = self.body["wait"]
        if wait is not None and wait["from_ms"] <= self.now_ms < wait["until_ms"]:
            return Card(did=Did.WAITING, why=self.body["why"])
        if self.body["unsure"] is None and not self._is_worth_writing(figures):
            return Card(did=Did.UNCHANGED)
        try:
            if self.body["unsure"] is not None:
                self._make_sure()
                if not self._is_worth_writing(figures):
                    self._well()
                    return Card(did=Did.UNCHANGED, why="what was written last did arrive")
            self._write(f"{text.rstrip()}\n\nas of {iso(self.now_ms)[:16].replace('T', ' ')} UTC", figures)
        except _Failure as e:
            return self._put_off(e)
        return Card(did=Did.WRITTEN)

    def _is_worth_writing(self, figures: Mapping[str, Any]) -> bool:
        written = self.body["written"]
        if written is None or written["figures"].keys() != figures.keys():
            return True
        if any(has_changed(written["figures"][key], figures[key], self.where.change) for key in figures):
            return True
        return self.where.refresh_h is not None and not 0 <= self.now_ms - written["at_ms"] < self.where.refresh_h * HOUR_MS

    def _make_sure(self) -> None:
        """Find out whether what was sent last, and not answered, is on the card."""
        unsure = self.body["unsure"]
        task = self.board.pick(self.where.task)
        if task is None:
            raise _Failure(why=f"the board has no task {self.where.task}", status=404)
        if self._holds(task, unsure["content"]):
            self.body["written"] = {"figures": unsure["figures"], "at_ms": unsure["at_ms"]}
        self.body["unsure"] = None

    def _write(self, content: str, figures: Mapping[str, Any]) -> None:
        self.body["unsure"] = {"content": content, "figures": figures, "at_ms": self.now_ms}
        self._save()
        changes = {"description": content} if self.where.field is None else {"custom_field_values": {self.where.field: content}}
        try:
            task = self.board.change(self.where.task, changes)
            if not self._holds(task, content):
                raise _Failure(why="it answers that all is well, and the card does not hold what was written", status=422)
        except _Failure as e:
            if not e.may_have_been_done:
                self.body["unsure"] = None
            raise
        self.body["written"] = {"figures": figures, "at_ms": self.now_ms}
        self._well()

    def _holds(self, task: Task, content: str) -> bool:
        held = task.description if self.where.field is None else task.fields.get(self.where.field)
        return task.id == self.where.task and isinstance(held, str) and held.strip() == content.strip()

    def _well(self) -> None:
        self.body.update(unsure=None, wait=None, failures=0, failing_since=None, why="")
        self._save()

    def _put_off(self, failure: _Failure) -> Card:
        body = self.body
        body["failures"] += 1
        body["failing_since"] = body["failing_since"] or iso(self.now_ms)
        body["why"] = failure.why
        body["wait"] = {"from_ms": self.now_ms, "until_ms": self.now_ms + _wait_ms(failure, body["failures"])}
        self._save()
        if not failure.needs_a_person:
            return Card(did=Did.FAILED, why=failure.why)
        key = f"mission-control:{failure.status}:{body['failing_since']}"
        words = f"Mission Control does not take the card: {failure.why}; see mission_control in ops.yaml"
        outbox.raise_alert(self.state, key, words, level=outbox.Level.WARNING, source="status-update")
        return Card(did=Did.REFUSED, why=failure.why)

    def _save(self) -> None:
        self.state.write(STATE, self.body, schema=SCHEMA)


def has_changed(old: Any, new: Any, part: float) -> bool:
    """Whether a figure moved by more than a part of what it was; what is no number has changed when it differs."""
    if _is_number(old) and _is_number(new):
        return bool(abs(new - old) > part * abs(old))
    return bool(old != new)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Figure) -> Any:
    """Return a figure as it comes back from a state file."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) else str(value)
    return list(map(str, value))


def _wait_ms(failure: _Failure, failures: int) -> int:
    if failure.status == 429:
        pause_ms = max(PAUSE_MS, int(1000 * (failure.retry_after_s or 0)))
        return min(pause_ms << min(failures - 1, 10), max(HOUR_MS, pause_ms))
    if failure.needs_a_person:
        return HOUR_MS
    return min(MINUTE_MS << min(failures - 1, 10), LONGEST_BACKOFF_MS)


def _told(failure: _Failure) -> TryLater | Refused | Misconfigured:
    what = f"Mission Control: {failure.why}"
    if failure.status in (401, 404):
        return Misconfigured(f"{what}; see mission_control in ops.yaml")
    if failure.needs_a_person:
        return Refused(f"{what}; look at the board")
    return TryLater(f"{what}; run again later")


def _task(said: Any) -> Task:
    if not isinstance(said, dict) or not all(isinstance(said.get(key), str) for key in ("id", "status")):
        raise _Failure(why="a task of another shape")
    fields = said.get("custom_field_values")
    return Task(
        id=said["id"],
        title=str(said.get("title") or ""),
        status=said["status"],
        description=str(said.get("description") or ""),
        assigned_agent_id=said["assigned_agent_id"] if isinstance(said.get("assigned_agent_id"), str) else None,
        fields=fields if isinstance(fields, dict) else {},
        in_progress_ms=parse_time(said.get("in_progress_at")),
        created_ms=parse_time(said.get("created_at")),
        updated_ms=parse_time(said.get("updated_at")),
    )


def parse_time(text: Any) -> int | None:
    """Return a time of the board in ms UTC; it is UTC, though it does not say so. None for what is no time."""
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return round((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _detail(answer: Answer, token: str) -> str:
    """Return what the board says of a refusal, behind a comma: a text, an object with a message, or a list of such."""
    try:
        said = answer.json()
    except ValueError:
        return ""
    detail = said.get("detail") if isinstance(said, dict) else None
    if isinstance(detail, list) and detail:
        detail = detail[0]
    if isinstance(detail, dict):
        detail = detail.get("message") or detail.get("msg")
    if not isinstance(detail, str) or not detail.strip():
        return ""
    return ", " + " ".join(detail.replace(token, "…").split())[:200]


def _seconds(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if 0 <= found <= 86_400 else None
