"""One HTTP question with a limit for all of it: name, connection, head and body. Used by every room of `ops` that asks a server.

What an answer means is its caller's business. Addresses may hold tokens: no word of an address or a body is in what is said of a
failure. Redirects are not followed: they could carry a token to another host.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mmtools import __version__

MOST_BYTES = 4 * 1024 * 1024
"""Of an answer that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said. kind: the media type in lower case without parameters, "" when there is none; headers in lower case."""

    status: int
    kind: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body. Raises ValueError when it is no JSON."""
        import json

        try:
            return json.loads(self.body)
        except RecursionError as e:
            raise ValueError("nested too deeply") from e


class Silence(StrEnum):
    """Why there is no answer."""

    REFUSED = "refused"
    """Nobody listens at that address: the question was not heard."""
    UNREACHABLE = "unreachable"
    """The name, the network or the encryption failed before the question was sent."""
    LATE = "late"
    """The time was over. The question may have been heard."""
    BROKEN = "broken"
    """The connection ended in the middle, or what came is no HTTP. The question may have been heard."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """why it is silent, and a phrase for people without any part of the address."""

    why: Silence
    text: str

    @property
    def unheard(self) -> bool:
        """Whether the question certainly did not reach the server."""
        return self.why in (Silence.REFUSED, Silence.UNREACHABLE)


def ask(
    url: str,
    *,
    limit_s: float,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    body: bytes | None = None,
) -> Answer | NoAnswer:
    """Ask once. After `limit_s` the answer is NoAnswer, whatever the server, the resolver or the network does."""
    found: list[Answer | NoAnswer] = []
    # In a thread, because no library bounds the resolver, nor a head that comes a byte at a time; it ends with the process.
    thread = threading.Thread(target=lambda: found.append(_ask(url, limit_s, method, headers, json, body)), daemon=True)
    thread.start()
    thread.join(limit_s)
    return found[0] if found else NoAnswer(Silence.LATE, f"no answer within {limit_s:g} s")


def _ask(url: str, limit_s: float, method: str, headers: Mapping[str, str] | None, json: Any, body: bytes | None) -> Answer | NoAnswer:
    import requests
    from urllib3.exceptions import HTTPError, NewConnectionError

    said = {"User-Agent": f"mmtools/{__version__}", **(headers or {})}
    try:
        with requests.Session() as session:
            session.trust_env = False  # a proxy or a .netrc of the environment would see, or add, tokens
            with session.request(
                method, url, headers=said, json=json, data=body, timeout=limit_s, allow_redirects=False, stream=True
            ) as response:
                content = bytearray()
                while len(content) <= MOST_BYTES and (piece := response.raw.read1(65_536, decode_content=True)):
                    content += piece
                if len(content) > MOST_BYTES:
                    return NoAnswer(Silence.BROKEN, f"an answer of more than {MOST_BYTES} bytes")
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                lower = {name.lower(): value for name, value in response.headers.items()}
                return Answer(status=response.status_code, kind=kind, headers=lower, body=bytes(content))
    except requests.exceptions.ConnectTimeout:
        return NoAnswer(Silence.UNREACHABLE, f"no connection within {limit_s:g} s")
    except requests.exceptions.Timeout:
        return NoAnswer(Silence.LATE, f"no answer within {limit_s:g} s")
    except requests.exceptions.SSLError:
        return NoAnswer(Silence.UNREACHABLE, "its certificate or encryption is not in order")
    except requests.exceptions.ConnectionError as e:
        cause = getattr(e.args[0] if e.args else None, "reason", None)
        if isinstance(cause, NewConnectionError):
            refused = "refused" in str(cause).lower()
            return NoAnswer(Silence.REFUSED, "nobody listens there") if refused else NoAnswer(Silence.UNREACHABLE, "it cannot be reached")
        return NoAnswer(Silence.BROKEN, "the connection ended before the answer")
    except (requests.exceptions.RequestException, HTTPError, OSError, ValueError) as e:
        return NoAnswer(Silence.BROKEN, f"the answer cannot be read ({type(e).__name__})")
