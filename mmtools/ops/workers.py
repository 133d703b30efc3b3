"""Whether the worker of a board's task is proven to be gone: the gateway is up, and names no session of that agent that runs.

What cannot be asked is not proven. Nothing is changed here. Called by `recovery` alone.
"""

import time

from mmtools.errors import Misconfigured
from mmtools.moments import now_ms
from mmtools.ops import gateway, work
from mmtools.ops.openclaw_program import NoReply, Program, Row
from mmtools.ops.settings import Settings

_ENDED = ("done", "failed", "killed", "timeout")


class Workers:
    """Asks the gateway once for each agent. wait_s: how long to wait for a gateway that is starting."""

    def __init__(self, settings: Settings, *, wait_s: float = 0.0) -> None:
        self._settings = settings
        self._wait_s = wait_s
        self._probe: gateway.Probe | None = None
        self._known: dict[str, str | None] = {}

    def objection(self, agent: str | None) -> str | None:
        """Return why it is not proven that nobody works for this agent of the board; None when it is."""
        if agent is None:
            return "nobody is assigned to it: who works on it is not known"
        if agent not in self._known:
            self._known[agent] = self._objection(agent)
        return self._known[agent]

    def _objection(self, agent: str) -> str | None:
        probe = self._probed()
        if probe.health is not gateway.Health.LIVE:
            return f"the gateway is {probe.health} ({probe.why}): whether its worker is gone is not known"
        where = work.installation(self._settings.openclaw)
        try:
            names = [each.id for each in where.usual_agents() if agent.lower() in each.id.lower()]
        except Misconfigured as e:
            return f"the gateway's agents are not known: {e}"
        if not names:
            return f"which of the gateway's agents is {agent} of the board is not known"
        program = Program(self._settings.openclaw.program, where.environment)
        for name in names:
            rows = program.sessions(name)
            if isinstance(rows, NoReply):
                return f"the gateway's sessions are not known: {rows.why}"
            for row in rows:
                why = _may_run(row, probe.uptime_ms)
                if why:
                    return f"session {row['key']} {why}"
        return None

    def _probed(self) -> gateway.Probe:
        deadline = time.monotonic() + self._wait_s
        while self._probe is None or (self._probe.health is not gateway.Health.LIVE and time.monotonic() < deadline):
            if self._probe is not None:
                time.sleep(0.5)
            self._probe = gateway.probe(self._settings.openclaw.url, limit_s=3.0)
        return self._probe


def _may_run(row: Row, uptime_ms: int | None) -> str:
    """Return why a session may be running; "" when it is not."""
    status = row.get("status")
    if status in _ENDED:
        return ""
    if status == "running":
        return "is running"
    updated = row.get("updatedAt")
    if uptime_ms is not None and isinstance(updated, int) and not isinstance(updated, bool) and updated < now_ms() - uptime_ms:
        return ""  # last touched before this gateway was started: its turn went with the one before
    return "does not say whether it runs"
