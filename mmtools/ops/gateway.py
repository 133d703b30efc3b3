"""How an OpenClaw gateway stands, asked over HTTP: the cheap question that costs no 300 MB process. Called by whoever must know.

HTTP 200 is no sign of health: a gateway answers every unknown path with its control page, and old ones have no other answer.
Only a JSON body that says so counts. No files, no processes, no decision about what to do.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mmtools.moments import sane_ms
from mmtools.ops import web

LIMIT_S = 5.0


class Health(StrEnum):
    LIVE = "live"
    """A JSON probe says that it is well."""
    NOT_READY = "not ready"
    """A JSON probe says that it is not well, or not yet."""
    PAGE = "page"
    """It answers, with a page: a release without JSON probes, or not a gateway. HTTP cannot tell more."""
    HUNG = "hung"
    """It takes the connection and says nothing, or breaks off: slow or stuck, but not gone."""
    DOWN = "down"
    """Nobody listens."""
    ODD = "odd"
    """Some other answer: what it means is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One answer. uptime_ms: since its last start, also one within the same process; None when it does not say. why: for people."""

    health: Health
    why: str
    uptime_ms: int | None = None
    version: str | None = None


def probe(base: str, *, limit_s: float = LIMIT_S) -> Probe:
    """Ask /healthz whether it lives, and /readyz or /startupz since when; at most three questions, `limit_s` for each."""
    base = base.rstrip("/")
    if _nobody_listens(base, limit_s):
        return Probe(health=Health.DOWN, why="nobody listens there")
    first = _read(web.ask(f"{base}/healthz", limit_s=limit_s))
    if first.health is not Health.LIVE:
        return first
    uptime_ms, version = first.uptime_ms, first.version
    for path in ("startupz", "readyz"):
        if uptime_ms is not None:
            break
        more = _read(web.ask(f"{base}/{path}", limit_s=limit_s))
        uptime_ms, version = more.uptime_ms, version or more.version
        if path == "startupz" and more.health is Health.NOT_READY:
            return more
    return Probe(health=Health.LIVE, why=first.why, uptime_ms=uptime_ms, version=version)


def _nobody_listens(base: str, limit_s: float) -> bool:
    """Whether the port of this machine refuses; False when it may not. To load what speaks HTTP would cost 10 MB and 80 ms."""
    import socket
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(base)
        if parts.hostname not in ("127.0.0.1", "localhost", "::1") or parts.port is None:
            return False
        socket.create_connection((parts.hostname, parts.port), timeout=limit_s).close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _read(answer: web.Answer | web.NoAnswer) -> Probe:
    if isinstance(answer, web.NoAnswer):
        if answer.why is web.Silence.REFUSED:
            return Probe(health=Health.DOWN, why=answer.text)
        return Probe(health=Health.ODD if answer.why is web.Silence.UNREACHABLE else Health.HUNG, why=answer.text)
    if answer.kind != "application/json":
        page = answer.status == 200 and answer.kind == "text/html"
        return Probe(health=Health.PAGE if page else Health.ODD, why=f"HTTP {answer.status}, {answer.kind or 'no media type'}, no JSON")
    try:
        said = answer.json()
    except ValueError:
        return Probe(health=Health.ODD, why=f"HTTP {answer.status}, called JSON and none")
    if not isinstance(said, dict):
        return Probe(health=Health.ODD, why=f"HTTP {answer.status}, JSON of another shape")
    well = said.get("ok") is True or said.get("ready") is True
    ill = said.get("ok") is False or said.get("ready") is False or answer.status == 503
    health = Health.NOT_READY if ill else Health.LIVE if well and answer.status == 200 else Health.ODD
    words = said.get("status") if isinstance(said.get("status"), str) else health.value
    return Probe(
        health=health, why=f"HTTP {answer.status}, {words}", uptime_ms=sane_ms(said.get("uptimeMs")), version=_text(said.get("version"))
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.isprintable() else None
