"""The `openclaw` command as others call it: one method of the gateway at a time, and what its answers mean.

Each call is a process of 200 to 600 MB that takes seconds: ask `gateway.probe` first where that is enough. No files are read here and
nothing is decided. A call that failed is a `NoReply` with its kind, and never an empty answer. What goes out as an argument can be
seen by every user of the machine: no secret may, and the command reads the gateway's token from its own config.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from mmtools.ops import children

LIMIT_S = 60.0
"""For one call: idle it takes 2 to 9 s, on a busy machine 21 s were seen, and a frozen gateway costs its own limit and 7 s more."""
PAGE_ROWS = 1000
MOST_PAGES = 1000
LONGEST_WORDS = 200

Row = dict[str, Any]

_VERSION = re.compile(r"\b\d{4}\.\d+\.\d+(?:-[0-9A-Za-z.]+)?")
_OPENING = re.compile(r"[{\[]")
_MOST_OPENINGS = 1000
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SECRETS = re.compile(
    r"""(?P<before>(?:\b(?:token|password|passwd|secret|api[_-]?key|authorization)\b["']?\s*[=:]\s*(?:Bearer\s+)?["']?|\bBearer\s+))[^\s"',;&]+
    |(?P<url>\b[a-z][a-z0-9+.-]*://)[^\s"'<>]+
    |[\w-]{24,}""",
    re.IGNORECASE | re.VERBOSE,
)


class Kind(StrEnum):
    """Why a call got no reply."""

    NO_PROGRAM = "no program"
    """It cannot be started: nothing was asked."""
    CLOSED = "closed"
    """Nobody listens."""
    TIMEOUT = "timeout"
    """No answer in time; what was asked may yet be done."""
    REFUSED = "refused"
    """The gateway does not know the method, or will not do it: nothing was done."""
    UNAVAILABLE = "unavailable"
    """The gateway could not just then; what was asked may be done in part."""
    ODD = "odd"
    """Some other failure: what was done is not known."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """why: a phrase for people, with secrets masked."""

    kind: Kind
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A session is gone. archived: where the gateway put its transcript; already: it was gone before."""

    archived: tuple[str, ...] = ()
    already: bool = False


@dataclass(frozen=True, slots=True)
class NotDeleted:
    """A session is not known to be gone. unknown: it may be, or may yet go; else it stands."""

    why: str
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """The command by this name, and the environment that tells it whose gateway is meant (`Installation.environment`)."""

    name: str
    environment: Mapping[str, str] | None = None

    def version(self, limit_s: float = LIMIT_S) -> str | NoReply:
        """Return the release of the command itself, "2026.7.1"; the gateway that runs may be of another one."""
        ended = children.run([self.name, "--version"], limit_s=limit_s, env=self.environment)
        if isinstance(ended, children.NotRun):
            return _not_run(ended)
        found = _VERSION.search(ended.out.decode(errors="replace"))
        if ended.code != 0 or found is None:
            return NoReply(Kind.ODD, f"{self.name} --version ended with {ended.code} and names no release: {masked(ended.last_words)}")
        return found[0]

    def call(self, method: str, params: Mapping[str, Any] | None = None, limit_s: float = LIMIT_S) -> Any | NoReply:
        """Call a method of the gateway and return its result, a JSON value. The gateway gets half of the time, the command the rest."""
        import json

        asked = json.dumps(params or {}, separators=(",", ":"))
        argv = [self.name, "gateway", "call", method, "--params", asked, "--timeout", str(max(int(limit_s * 500), 1)), "--json"]
        ended = children.run(argv, limit_s=limit_s, env=self.environment)
        return _not_run(ended) if isinstance(ended, children.NotRun) else _reply(ended)

    def health(self, limit_s: float = LIMIT_S) -> Row | NoReply:
        """Return what the gateway says of itself; `agents[].sessions.path` names the store it uses."""
        return _object(self.call("health", limit_s=limit_s), "health")

    def sessions(self, agent: str, limit_s: float = LIMIT_S) -> tuple[Row, ...] | NoReply:
        """Return every session of an agent, once; `limit_s` is for each page."""
        return self._rows("sessions.list", "sessions", "key", {"agentId": agent}, limit_s)

    def cron_jobs(self, limit_s: float = LIMIT_S) -> tuple[Row, ...] | NoReply:
        """Return every cron job that the gateway lists, once; `limit_s` is for each page."""
        return self._rows("cron.list", "jobs", "id", {}, limit_s)

    def delete_session(self, key: str, limit_s: float = LIMIT_S, *, keep_transcript: bool = False) -> Deleted | NotDeleted:
        """Delete one session through the gateway; where the answer does not say how it went, the list of sessions is asked.

        keep_transcript: for a session whose transcript another one names as well, because the gateway does not look. A running turn
        of the session is aborted.
        """
        params = {"key": key, **({"deleteTranscript": False} if keep_transcript else {})}
        said = _object(self.call("sessions.delete", params, limit_s), "sessions.delete")
        if not isinstance(said, NoReply):
            archived = said.get("archived")
            if said.get("deleted") is True:
                return Deleted(archived=tuple(filter(_is_text, archived)) if isinstance(archived, list) else ())
            if said.get("deleted") is False:
                return Deleted(already=True)
            said = NoReply(Kind.ODD, "sessions.delete does not say whether it deleted")
        if said.kind in (Kind.NO_PROGRAM, Kind.CLOSED, Kind.REFUSED):
            return NotDeleted(said.why)
        return self._ask_again(key, said, limit_s)

    def _ask_again(self, key: str, said: NoReply, limit_s: float) -> Deleted | NotDeleted:
        agent = key.split(":")[1] if key.startswith("agent:") else None
        rows = self.sessions(agent, limit_s) if agent else NoReply(Kind.ODD, "the key names no agent")
        if isinstance(rows, NoReply):
            return NotDeleted(f"{said.why}; whether it is gone is not known ({rows.why})", unknown=True)
        if any(row["key"] == key for row in rows):
            return NotDeleted(said.why, unknown=said.kind is not Kind.UNAVAILABLE)
        return Deleted()

    def _rows(self, method: str, name: str, identity: str, params: Mapping[str, Any], limit_s: float) -> tuple[Row, ...] | NoReply:
        """Page through a list. The first question sets no limit: old releases have no pages, and would cut the list at one."""
        rows: dict[str, Row] = {}
        offset = 0
        for _ in range(MOST_PAGES):
            more = {"limit": PAGE_ROWS, "offset": offset} if offset else {}
            said = _object(self.call(method, {**params, **more}, limit_s), method)
            if isinstance(said, NoReply):
                return said
            page = said.get(name)
            if not isinstance(page, list) or not all(isinstance(row, dict) and isinstance(row.get(identity), str) for row in page):
                return NoReply(Kind.ODD, f"{method} answered without a list of {name}, each with its {identity}")
            rows.update((row[identity], row) for row in page)
            if not said.get("hasMore"):
                return tuple(rows.values())
            following = said.get("nextOffset")
            if not isinstance(following, int) or following <= offset:
                break
            offset = following
        return NoReply(Kind.ODD, f"{method} says that there is more and not where")


def _not_run(ended: children.NotRun) -> NoReply:
    return NoReply(Kind.TIMEOUT if ended.late else Kind.NO_PROGRAM, ended.why)


def _object(said: Any | NoReply, method: str) -> Row | NoReply:
    if isinstance(said, NoReply | dict):
        return said
    return NoReply(Kind.ODD, f"{method} answered with another shape than an object")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _reply(ended: children.Ended) -> Any | NoReply:
    """Return what a call that ended says: new releases print failures as JSON, old ones as a line on stderr."""
    found, said = _first_json(ended.out.decode(errors="replace"))
    error = said.get("error") if isinstance(said, dict) and said.get("ok") is False else None
    if isinstance(error, dict):
        words = masked(str(error.get("message") or error.get("code") or error.get("kind") or "no reason given"))
        return NoReply(_kind(f"{error.get('kind')} {error.get('code')}") or _kind(words) or Kind.ODD, words)
    if ended.code == 0 and found:
        return said
    if ended.code == 0:
        return NoReply(Kind.ODD, "it ended well and answered nothing that is JSON")
    words = masked(ended.last_words)
    return NoReply(_kind(words) or Kind.ODD, words or f"it ended with {ended.code} and no word")


def _kind(words: str) -> Kind | None:
    """Return what the words of a failure say, of either kind of release."""
    lower = words.lower()
    if "unavailable" in lower or "session store lock" in lower or "session file locked" in lower:
        return Kind.UNAVAILABLE
    if "invalid_request" in lower or "unknown method" in lower or "cannot delete the main session" in lower:
        return Kind.REFUSED
    if "timeout" in lower or "timed out" in lower:
        return Kind.TIMEOUT
    return Kind.CLOSED if "econnrefused" in lower or "1006" in lower or lower.startswith("closed") else None


def _first_json(text: str) -> tuple[bool, Any]:
    """Return whether there is a JSON object or list, and the first: one that fills whole lines before one that ends a line of words.

    What is cut off at the end is none, whatever whole parts it holds.
    """
    import json

    decoder = json.JSONDecoder()
    last_line = text.rstrip().rfind("\n") + 1
    ends_words: tuple[bool, Any] = (False, None)
    for opening in islice(_OPENING.finditer(text), _MOST_OPENINGS):
        at = opening.start()
        begins_line = at == 0 or text[at - 1] == "\n"
        try:
            value, end = decoder.raw_decode(text, at)
        except RecursionError:
            break
        except json.JSONDecodeError as e:
            if begins_line and e.pos >= last_line:
                break
            continue
        if text[end : end + 1] in ("", "\n", "\r"):
            if begins_line:
                return True, value
            if not ends_words[0]:
                ends_words = (True, value)
    else:
        return ends_words
    return False, None


def masked(words: str) -> str:
    """Return one short line of what a program said, without what may be a secret: tokens, addresses, long words that are no id."""

    def mask(found: re.Match[str]) -> str:
        if found["before"] or found["url"]:
            return f"{found['before'] or found['url']}***"
        return found[0] if _UUID.fullmatch(found[0]) else "***"

    line = _SECRETS.sub(mask, " ".join(words.split()))
    return line if len(line) <= LONGEST_WORDS else f"{line[:LONGEST_WORDS]}..."
