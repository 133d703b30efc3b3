"""Chat services on 127.0.0.1: they answer by a script and keep what they were sent.

They know what Discord, Slack and Telegram say in good and bad moments, and nothing of mmtools. For tests only.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from serving import Handler, serving

LONGEST_S = 30.0
"""An answer that never comes: nobody asks so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    cut: bool = False
    """Hang up instead of answering."""


def says(status: int, document: Any, **headers: str) -> Answer:
    return Answer(status=status, body=json.dumps(document).encode(), headers={"Content-Type": "application/json", **headers})


FINE = Answer()
BROKEN = Answer(status=500, body=b"rollup_error")
NEVER = Answer(after_s=LONGEST_S)
HANGS_UP = Answer(cut=True)
DISCORD_IS_FULL = says(
    429, {"message": "You are being rate limited.", "retry_after": 64.57, "global": False}, **{"X-RateLimit-Remaining": "0"}
)
SLACK_IS_FULL = Answer(status=429, body=b"rate_limited", headers={"Retry-After": "30"})
TELEGRAM_IS_FULL = says(
    429, {"ok": False, "error_code": 429, "description": "Too Many Requests: retry after 7", "parameters": {"retry_after": 7}}
)
DISCORD_IS_GONE = says(404, {"message": "Unknown Webhook", "code": 10015})
SLACK_TAKES_NOTHING = Answer(status=200, body=b"no_text")
TELEGRAM_IS_FINE = says(200, {"ok": True, "result": {"message_id": 7}})
DISCORD_FINDS_IT_BAD = says(400, {"code": 50035, "message": "Invalid Form Body", "errors": {}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The words of a message to a `json://` chat."""
        return str(self.document["message"])


class Chat:
    """The n-th request gets the n-th answer, and all that come after the last one. Gone when its `with` block ends."""

    def __init__(self, *answers: Answer, token: str = "s3cret-token") -> None:
        self.answers = list(answers) or [FINE]
        self.token = token
        self.received: list[Received] = []
        self.arrived = threading.Event()
        """Something came."""

    @property
    def texts(self) -> list[str]:
        return [each.text for each in self.received]

    @property
    def url(self) -> str:
        """The address of the chat in the form of Apprise; the token is its secret."""
        return f"json://127.0.0.1:{self.port}/{self.token}"

    def __enter__(self) -> Self:
        chat, self._stopping, lock = self, threading.Event(), threading.Lock()

        class Asked(Handler):
            def do_POST(self) -> None:
                body = self.body()
                with lock:
                    answer = chat.answers[min(len(chat.received), len(chat.answers) - 1)]
                    chat.received.append(Received(path=self.path, headers=dict(self.headers), body=body))
                chat.arrived.set()
                chat._stopping.wait(answer.after_s)
                if answer.cut:
                    self.close_connection = True
                    return
                self.say(answer.status, answer.body, answer.headers)

        self._serving = serving(Asked)
        self.port = int(self._serving.__enter__().rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._serving.__exit__(None, None, None)
