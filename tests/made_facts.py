"""Facts made by hand, for tests of what reads them. Nothing is wrong with them as they come; no checks in here."""

from dataclasses import replace
from typing import Any

from mmtools.moments import Moment
from mmtools.ops.facts import Backlog, Cron, Facts, Job, Live, Market, Pnl, Recent, Run, Seen, Space, Store, Totals, UnitFact
from mmtools.ops.gateway import Health, Probe
from mmtools.ops.memory import Source, Use, Watermark
from mmtools.ops.quoters import Standing
from mmtools.ops.systemd import Manager, NotKnown, Unit

NOW_MS = 1_780_833_600_000
"""2026-06-07T12:00:00Z."""
NOW = Moment(wall_ms=NOW_MS, boot_id="a boot", boot_s=900_000.0)
GATEWAY = "user/openclaw-gateway.service"


def ago(seconds: float) -> int:
    return NOW_MS - round(seconds * 1000)


def market(**fields: Any) -> Market:
    return Market(**{"pnl": "0.7", "position_net": "-5", "our_bid": "0.47", "our_ask": "0.49", "kill_switch": "clear", **fields})


def bare(why_no_bid: str | None = "data_gap", why_no_ask: str | None = "data_gap", **fields: Any) -> Market:
    """A market on which nothing of ours rests."""
    return market(our_bid=None, our_ask=None, why_no_bid=why_no_bid, why_no_ask=why_no_ask, **fields)


def run(
    *, markets: dict[str, Market] | None = None, seen_s: float = 3, alarms: Any = None, recent: Any = None, pnl: str = "1.25", **fields: Any
) -> Run:
    """A run that quotes both sides of one market. seen_s: age of its live state. recent: what of the last minutes is other."""
    live = Live(
        timestamp="2026-06-07T12:00:00.000Z",
        markets=markets if markets is not None else {"hail": market()},
        pnl=Pnl(pnl),
        totals=Totals(fills=12, orders_submitted=240),
        alarms=alarms,
    )
    last = {"last_ms": ago(1), "requests": 40, "refused": {}, "crossed": 3, "bare_ms": ago(20), "dated": True, **(recent or {})}
    usual = {"run_id": "game", "standing": Standing.RUNNING, "venue": "paper", "owner": "nobody", "clocked": True}
    return Run(**{**usual, "live": Seen(live, ago(seen_s)), "recent": Recent(**last), **fields})


def unit(*, memory: Any = None, mark: Any = None, **fields: Any) -> Seen[UnitFact]:
    usual: dict[str, Any] = {
        **dict.fromkeys(Unit.__dataclass_fields__),
        "name": "openclaw-gateway.service", "manager": Manager.USER, "load_state": "loaded", "active_state": "active",
        "sub_state": "running", "unit_file_state": "enabled", "result": "success", "main_pid": 4711, "exec_main_status": 0, "n_restarts": 0,
        "invocation_id": "b0a7", "active_since": "", "started_monotonic_us": 1_000_000, "timeout_start_s": 90.0,
        "timeout_stop_s": float("inf"), "control_group": "/user.slice/openclaw-gateway.service", "kill_mode": "control-group",
    }  # fmt: skip
    use = Use(600_000_000, Source.CGROUP) if memory is None else memory
    return Seen(UnitFact(unit=Unit(**{**usual, **fields}), memory=use, mark=mark or Watermark(1_500_000_000, "memory.high of app")), NOW_MS)


def probe(health: Health = Health.LIVE, why: str = "HTTP 200, live") -> Seen[Probe]:
    return Seen(Probe(health=health, why=why, uptime_ms=7_300_000), NOW_MS)


def facts(**fields: Any) -> Facts:
    """All is well: one run quotes, the gateway lives, its unit is enabled. runs: as a list."""
    runs = fields.pop("runs", None)
    usual: dict[str, Any] = {
        "now": NOW, "host": "small-server", "openclaw": True, "older_runs": 0,
        "runs": Seen(tuple([run()] if runs is None else runs), NOW_MS),
        "units": {GATEWAY: unit()},
        "gateway": probe(),
        "memory": Seen(Space(free=2_100_000_000, size=4_000_000_000), NOW_MS),
        "disks": {"state": Seen(Space(free=9_000_000_000, size=40_000_000_000), NOW_MS)},
        "stores": Seen((Store(agent="main", size=3_000_000, entries=71),), NOW_MS),
        "crons": Seen((Cron(name="queue check", errors=0, next_ms=NOW_MS + 60_000, last_status="ok"),), ago(240)),
        "jobs": Seen({"snapshot": job(1300)}, NOW_MS),
        "installed": True,
        "outbox": Seen(Backlog(unsent=0, oldest_ms=None), NOW_MS),
        "restarts": Seen({}, NOW_MS),
    }  # fmt: skip
    return Facts(**{**usual, **fields})


def job(well_s: float | None, **fields: Any) -> Job:
    """A job that last ended well so long ago; never with None."""
    usual = {"failures": 0, "failing_since": "", "error": "", "started_ms": ago(90_000)}
    return Job(**{**usual, "last_success_ms": None if well_s is None else ago(well_s), **fields})


def nothing_known() -> Facts:
    """A machine on which no question was answered."""
    late = NotKnown("no answer within 4.5 s")
    return replace(
        facts(), runs=late, units={GATEWAY: late}, gateway=late, memory=late, disks={"state": late}, stores=late, crons=late, jobs=late,
        outbox=late, restarts=late,
    )  # fmt: skip
