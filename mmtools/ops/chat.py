"""One message to one chat, through Apprise, in a process of its own. Called by `post`, which knows what is sent and when again.

Apprise says yes or no. What matters here is which no: nothing was sent and it can be tried again, the chat is gone, the message was
not taken, or nobody knows. So the child looks at each HTTP answer as it passes by. The address of a chat is a secret: it reaches the
child through stdin, and no word of it, of the message or of an answer is in what is said of a failure.
"""

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

LIMIT_S = 8.0
"""For all of it: a child that starts, a name, a connection, an answer."""
LEAST_S = 1.0
"""With less it is not worth a start."""
LONGEST_WAIT_S = 86_400.0
"""What a server may ask us to wait; more is taken for a slip."""


_NEUTRAL = str.maketrans({"@": "\N{FULLWIDTH COMMERCIAL AT}", "<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}",
                          ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"})  # fmt: skip
"""What calls people (`@everyone`, `<!channel>`) becomes what looks like it."""


class Kind(StrEnum):
    """How it went."""

    SENT = "sent"
    REFUSED = "refused"
    """Too many messages: nothing was sent, and it may be tried again after a while."""
    FAILED = "failed"
    """Nothing was sent, and it may be tried again."""
    REJECTED = "rejected"
    """Nothing was sent: this message is not taken as it is."""
    UNUSABLE = "unusable"
    """Nothing was sent, for there is no usable address; when a person has seen to it, it may be tried again."""
    GONE = "gone"
    """Nothing was sent, and trying again is no use: the chat, or our right to write to it, is no more."""
    AMBIGUOUS = "ambiguous"
    """It may have been sent, whole or in part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one message went. why: a phrase for people; retry_after_s: what the server asked for, None when it asked for nothing."""

    kind: Kind
    why: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One HTTP question of the child. status: None when no answer came; unheard: whether it certainly did not get there."""

    status: int | None
    why: str
    unheard: bool = False
    retry_after_s: float | None = None


def send(url: str, text: str, *, limit_s: float = LIMIT_S) -> Outcome:
    """Send a plain text, in which nobody is mentioned, to the chat that an Apprise address names. Never raises for what a chat does."""
    from mmtools.ops import children

    order = json.dumps({"url": url, "text": text, "limit_s": limit_s}).encode()
    ended = children.run([sys.executable, "-P", "-m", "mmtools.ops.chat"], limit_s=limit_s, stdin=order)
    if isinstance(ended, children.NotRun):
        return Outcome(kind=Kind.AMBIGUOUS if ended.late else Kind.FAILED, why=f"no word within {limit_s:g} s" if ended.late else ended.why)
    return read(ended.out, ended.code)


def read(out: bytes, code: int) -> Outcome:
    """Return what a child said. One that was about to send and said no more may have sent."""
    lines = out.splitlines()
    if not lines:
        return Outcome(kind=Kind.FAILED, why=f"the sending process failed before it began (exit {code})")
    try:
        said = json.loads(lines[1])
        return Outcome(kind=Kind(said["kind"]), why=str(said["why"]), retry_after_s=said["retry_after_s"])
    except (IndexError, ValueError, KeyError, TypeError):
        return Outcome(kind=Kind.AMBIGUOUS, why=f"the sending process ended in the middle (exit {code})")


def judge(took: bool, exchanges: list[Exchange]) -> Outcome:
    """Return what came of a message that Apprise says was taken or not, by what passed by."""
    if took:
        return Outcome(kind=Kind.SENT)
    if not exchanges:
        return Outcome(kind=Kind.AMBIGUOUS, why="the service says that it failed, and not how")
    last = exchanges[-1]
    waits = [exchange.retry_after_s for exchange in exchanges if exchange.retry_after_s is not None]
    wait_s = max(waits, default=None)
    if any(exchange.status is not None and exchange.status < 300 for exchange in exchanges[:-1]):
        return Outcome(kind=Kind.AMBIGUOUS, why=f"{last.why}, after a part of it went well", retry_after_s=wait_s)
    return Outcome(kind=_kind(last), why=last.why, retry_after_s=wait_s)


def _kind(exchange: Exchange) -> Kind:
    match exchange.status:
        case None:
            return Kind.FAILED if exchange.unheard else Kind.AMBIGUOUS
        case 429:
            return Kind.REFUSED
        case 401 | 403 | 404 | 410:
            return Kind.GONE
        case status if status >= 500 or status in (408, 425) or 300 <= status < 400:
            return Kind.FAILED
        case status if status >= 400:
            return Kind.REJECTED
        case _:
            return Kind.AMBIGUOUS  # an answer that is well, and does not say what this service says when it took a message


def retry_after(headers: Any, body: bytes) -> float | None:
    """Return the seconds that a server asks us to wait: in a header, or as Discord and Telegram say it in their bodies."""
    found = [headers.get("Retry-After"), headers.get("X-RateLimit-Reset-After")]
    try:
        said = json.loads(body)
        found.append(said.get("retry_after"))
        found.append((said.get("parameters") or {}).get("retry_after"))
    except (ValueError, AttributeError, RecursionError):
        pass
    waits = []
    for value in found:
        try:
            waits.append(float(value))
        except (TypeError, ValueError):
            continue  # a date, for one
    return max((wait for wait in waits if 0 <= wait <= LONGEST_WAIT_S), default=None)


def defused(text: str) -> str:
    """Return a text as long in which no chat finds a person or a group to call: what comes from logs must not wake anyone."""
    return text.translate(_NEUTRAL)


# The child.


class _Enough(BaseException):
    """Nothing more may be tried: not an Exception, so that no plugin takes it for a failure of its own and waits."""


def deliver(url: str, text: str, limit_s: float, said: Any) -> None:
    """Send in this process, and write two lines to `said`: before it, and how it went. Changes what `requests` does, for good."""
    import os
    import signal

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit_s + 1)  # should the parent have been killed
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ["NETRC"] = os.devnull  # as in `web`: neither a proxy nor a .netrc sees, or adds, secrets
    exchanges = _watch()
    import apprise

    said.write(b"{}\n")
    said.flush()
    outcome = _deliver(apprise, url, text, exchanges)
    answer = {"kind": outcome.kind.value, "why": outcome.why, "retry_after_s": outcome.retry_after_s}
    said.write(json.dumps(answer).encode() + b"\n")
    said.flush()


def _deliver(apprise: Any, url: str, text: str, exchanges: list[Exchange]) -> Outcome:
    no_pictures = {"image_url_mask": "", "image_url_logo": ""}
    asset = apprise.AppriseAsset(app_id="mmtools", app_desc="mmtools", app_url="", http_redirects=False, **no_pictures)
    _load_only(apprise, url.partition(":")[0].lower())
    services = apprise.Apprise(asset=asset)
    if not services.add(url):
        return Outcome(kind=Kind.UNUSABLE, why="its address is none that Apprise knows; see its list of services")
    try:
        took = bool(services.notify(body=defused(text), title="", notify_type="info", body_format=apprise.NotifyFormat.TEXT))
    except _Enough:
        took = False
    except Exception as e:
        return Outcome(kind=Kind.AMBIGUOUS, why=f"the service's plugin failed ({type(e).__name__})")
    return judge(took, exchanges)


def _load_only(apprise: Any, schema: str) -> None:
    """Load the plugins whose source names a schema as its own, where Apprise would load all 150: a third of the time, 11 MB less.

    When none is found, or not the right one, Apprise loads all.
    """
    import re
    import tempfile
    from pathlib import Path

    folder = Path(apprise.__file__).with_name("plugins")
    own = re.compile(rf'protocol\b[^\n]*=\s*\(?[^)]*"{re.escape(schema)}"')
    names = {path.relative_to(folder).parts[0] for path in folder.rglob("*.py") if own.search(path.read_text(encoding="utf-8"))}
    plugins = apprise.NotificationManager()
    if not names:
        return
    try:
        with tempfile.TemporaryDirectory() as listed:  # its loader takes names from a folder
            for name in names:
                Path(listed, name).touch()
            plugins.load_modules(path=listed, name="apprise.plugins")
    except OSError:
        return
    if schema not in plugins:
        plugins.load_modules()


def _watch() -> list[Exchange]:
    """Return a list that grows with each HTTP question of this process, and each connection of other kinds (mail) that fails.

    What is refused is not asked again.
    """
    import socket

    import requests

    exchanges: list[Exchange] = []

    class Watched(requests.adapters.HTTPAdapter):
        def send(self, *args: Any, **kwargs: Any) -> requests.Response:
            try:
                response = super().send(*args, **kwargs)
                body = response.content
            except requests.exceptions.RequestException as e:
                exchanges.append(_silence(e))
                raise
            wait_s = retry_after(response.headers, body) if response.status_code == 429 else None
            status = response.status_code
            exchanges.append(Exchange(status=status, why=f"HTTP {status}", retry_after_s=wait_s))
            if status == 429 or 300 <= status < 400:
                raise _Enough
            return response

    def connect(*args: Any, **kwargs: Any) -> socket.socket:
        try:
            return create_connection(*args, **kwargs)
        except OSError:
            exchanges.append(Exchange(status=None, why="it cannot be reached", unheard=True))
            raise

    create_connection, socket.create_connection = socket.create_connection, connect
    requests.sessions.HTTPAdapter = Watched  # the name that every new session looks up
    return exchanges


def _silence(error: Exception) -> Exchange:
    import requests
    from urllib3.exceptions import NewConnectionError

    cause = getattr(error.args[0] if error.args else None, "reason", None)
    match error:
        case requests.exceptions.ConnectTimeout():
            return Exchange(status=None, why="no connection in time", unheard=True)
        case requests.exceptions.Timeout():
            return Exchange(status=None, why="no answer in time")
        case requests.exceptions.SSLError():
            return Exchange(status=None, why="its certificate or encryption is not in order", unheard=True)
        case requests.exceptions.ConnectionError() if isinstance(cause, NewConnectionError):
            return Exchange(status=None, why="it cannot be reached", unheard=True)
        case _:
            return Exchange(status=None, why="the connection ended before the answer")


def main() -> None:
    order = json.loads(sys.stdin.buffer.read())
    deliver(order["url"], order["text"], order["limit_s"], sys.stdout.buffer)


if __name__ == "__main__":
    main()
