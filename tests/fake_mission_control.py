"""Mission Control on 127.0.0.1: one board with tasks, as abhi1693/openclaw-mission-control answers (commit 75eb8b0). For tests only.

It has its habits: no GET for one task, unknown fields ignored, times without a zone, `done` refused without an approval, a limit for
agents that names no time and that refused tries lengthen. It counts what it is asked. Nothing of mmtools is known here.
"""

import json
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from serving import JSON, Handler, serving

TOKEN = "local-token-of-fifty-characters-or-more-0123456789-abc"
AGENT_TOKEN = "agent-token"
STATUSES = ("inbox", "in_progress", "review", "done")
LONGEST_S = 30.0
Document = dict[str, Any]


class Refusal(Exception):
    def __init__(self, status: int, detail: Any, **headers: str) -> None:
        super().__init__(status)
        self.status, self.detail, self.headers = status, detail, headers


class MissionControl:
    """A server with one board. `clock`: seconds since 1970, for its times and its limit. Gone when its `with` block ends."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.board = str(uuid.UUID(int=1))
        self.clock = clock
        self.tasks: list[Document] = []
        """The newest first."""
        self.fields = {"status_text"}
        """The custom fields that the board has."""
        self.asked: Counter[str] = Counter()
        """How often, by method."""
        self.faults: list[int | str] = []
        """What the next requests meet instead: a status; "never", no answer; "late", done but not answered."""
        self.limit: int | None = None
        """Requests in 60 s."""
        self._times: list[float] = []

    def add(self, title: str, status: str = "inbox", **more: Any) -> Document:
        now = self._now()
        task: Document = {
            "title": title, "description": None, "status": status, "priority": "medium", "due_at": None, "assigned_agent_id": None,
            "depends_on_task_ids": [], "tag_ids": [], "id": str(uuid.UUID(int=1000 + len(self.tasks))), "board_id": self.board,
            "created_by_user_id": str(uuid.UUID(int=7)), "in_progress_at": None, "created_at": now, "updated_at": now,
            "blocked_by_task_ids": [], "is_blocked": False, "tags": [], "custom_field_values": {}, **more,
        }  # fmt: skip
        self.tasks.insert(0, task)
        return task

    def _now(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="microseconds").removesuffix("+00:00")

    # answers

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        parts = urlsplit(path)
        found = re.fullmatch(rf"/api/v1/boards/{self.board}/tasks(?:/([^/]+))?", parts.path)
        if found is None:
            raise Refusal(404, "Not Found")
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, AGENT_TOKEN):
            raise Refusal(401, "Unauthorized")
        self._count()
        task_id = found[1]
        if task_id is None and method == "GET":
            return self._page(parse_qs(parts.query))
        if task_id is None or method != "PATCH":
            raise Refusal(405, "Method Not Allowed", Allow="PATCH")
        return self._patch(task_id, json.loads(body), is_agent=token == AGENT_TOKEN)

    def _count(self) -> None:
        now = self.clock()
        self._times = [at for at in self._times if now - at < 60]
        self._times.append(now)  # refused ones, too
        if self.limit is not None and len(self._times) > self.limit:
            raise Refusal(429, "Too Many Requests")

    def _page(self, query: dict[str, list[str]]) -> Document:
        limit, offset = int(query.get("limit", ["50"])[0]), int(query.get("offset", ["0"])[0])
        if not 1 <= limit <= 200:
            raise Refusal(422, [{"loc": ["query", "limit"], "msg": "Input should be less than or equal to 200", "type": "less_than_equal"}])
        wanted = query.get("status", [",".join(STATUSES)])[0].split(",")
        found = [task for task in self.tasks if task["status"] in wanted]
        return {"items": found[offset : offset + limit], "total": len(found), "limit": limit, "offset": offset}

    def _patch(self, task_id: str, changes: Document, *, is_agent: bool) -> Document:
        try:
            uuid.UUID(task_id)
        except ValueError:
            raise Refusal(422, [{"loc": ["path", "task_id"], "msg": "Input should be a valid UUID", "type": "uuid_parsing"}]) from None
        task = next((task for task in self.tasks if task["id"] == task_id), None)
        if task is None:
            raise Refusal(404, "Not Found")
        known = {"title", "description", "status", "priority", "due_at", "assigned_agent_id", "custom_field_values", "comment"}
        changes = {key: value for key, value in changes.items() if key in known}
        if is_agent and set(changes) - {"status", "comment", "custom_field_values"}:
            raise Refusal(
                403, {"message": "Agents may only update status, comment and custom fields.", "code": "task_update_field_forbidden"}
            )
        values = changes.pop("custom_field_values", {})
        if unknown := sorted(set(values) - self.fields):
            raise Refusal(422, {"message": "Unknown custom field keys for this board.", "unknown_field_keys": unknown})
        status = changes.get("status")
        if status is not None:
            if status not in STATUSES:
                raise Refusal(422, [{"loc": ["body", "status"], "msg": "Input should be 'inbox', ...", "type": "literal_error"}])
            if status == "done":
                raise Refusal(409, {"message": "Task can only be marked done when a linked approval has been approved."})
            if status == "in_progress":
                changes["in_progress_at"] = self._now()  # also when it was
            if status in ("inbox", "review"):
                changes["assigned_agent_id"] = None
        task.update(changes)
        task["custom_field_values"].update(values)
        task["updated_at"] = self._now()
        return task

    # the server

    def __enter__(self) -> Self:
        board, self._stopping, lock = self, threading.Event(), threading.Lock()

        class Asked(Handler):
            def _serve(self) -> None:
                body = self.body()
                with lock:
                    board.asked[self.command] += 1
                    fault = board.faults.pop(0) if board.faults else None
                    status, said, headers = 200, None, {}
                    try:
                        if isinstance(fault, int):
                            raise Refusal(fault, "Internal Server Error")
                        if fault != "never":
                            said = board.answer(self.command, self.path, self.headers, body)
                    except Refusal as e:
                        status, headers = e.status, e.headers
                        said = {"detail": e.detail, "request_id": "r-1"}
                    content = json.dumps(said).encode()
                if fault in ("never", "late"):
                    board._stopping.wait(LONGEST_S)
                self.say(status, content, {**JSON, "X-Request-Id": "r-1", **headers})

            do_GET = do_PATCH = do_POST = _serve

        self._serving = serving(Asked)
        self.url = self._serving.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._serving.__exit__(None, None, None)
