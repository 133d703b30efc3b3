"""What stands since when, and what was told of it: the memory of `status-update` from one run to the next, in `watch.json`.

A finding becomes an alert once it has stood for its patience, and once only; its end is told when it has stayed away for a while, so that
what comes and goes is not told each time. What is not seen now because its fact is not known goes on standing, and what a run has told
of itself is not told again. Nothing is judged here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtools import outbox
from mmtools.errors import Misconfigured, TryLater
from mmtools.moments import Moment, iso
from mmtools.ops.findings import Finding
from mmtools.ops.quoters import ms_of
from mmtools.outbox import Level
from mmtools.state import WAIT_S, Broken, StateDir

FILE = "watch.json"
SCHEMA = "mmtools.watch/1"
SOURCE = "status-update"
CALM_S = 600.0
"""How long a finding must be away before it is over."""
ABOUT_MS = 1000
"""Some who date what they tell round to whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    key: str
    text: str
    level: Level


def look(state: StateDir, findings: Sequence[Finding], blind: set[str], now: Moment, *, dry_run: bool = False) -> list[Alert]:
    """Remember what stands now, put into the outbox what is due to be told, and return that.

    blind: the areas of which nothing is known now. A dry run returns the same, and changes nothing. A kill between the outbox and
    the memory raises an alert a second time, which the outbox counts and does not send.
    """
    if dry_run:
        return _due(_read(state)[0], findings, blind, now, _told(state))
    with state.lock(FILE, WAIT_S):
        entries, lost = _read(state)
        if lost:
            key, text = f"watch:{iso(now.wall_ms)}", f"what was told before is not known any more, and is told again: {lost}"
            _raise(state, Alert(key=key, text=text, level=Level.INFO))
        before = repr(entries)
        due = _due(entries, findings, blind, now, _told(state))
        for alert in due:
            _raise(state, alert)
        if lost or repr(entries) != before:
            state.write(FILE, {"standing": entries}, schema=SCHEMA)
        return due


def standing(state: StateDir) -> dict[str, str]:
    """Return since when each finding stands, by its name; nothing when that is not known."""
    try:
        return {name: entry["since"] for name, entry in _read(state)[0].items()}
    except (Misconfigured, TryLater):
        return {}


def _read(state: StateDir) -> tuple[dict[str, Any], str]:
    """Return what is remembered; when that is lost nothing, and why: all that stands is found again."""
    try:
        return (state.read(FILE, schema=SCHEMA) or {}).get("standing", {}), ""
    except Broken as e:
        return {}, str(e)


def _told(state: StateDir) -> Mapping[str, outbox.Message]:
    """Return the alerts there are; none when they cannot be read, for `raise_alert` gets through all the same."""
    try:
        return outbox.alerts(state)
    except Broken:
        return {}


def _raise(state: StateDir, alert: Alert) -> None:
    outbox.raise_alert(state, alert.key, alert.text, level=alert.level, source=SOURCE)


def _due(
    entries: dict[str, Any], findings: Sequence[Finding], blind: set[str], now: Moment, told: Mapping[str, outbox.Message]
) -> list[Alert]:
    """Bring the entries up to now, and return what is to be told."""
    due = []
    for finding in findings:
        entry = entries.get(finding.name)
        if entry is None or (finding.since is not None and finding.since != entry["since"]):
            entry = entries[finding.name] = {"since": finding.since or iso(now.wall_ms), "first": _plain(now), "told": False}
        entry |= {"level": finding.level.value, "text": finding.text, "area": finding.area, "ends": finding.ends, "gone": None}
        if not entry["told"] and now.since(_moment(entry["first"])) >= finding.patience_s:
            entry["told"] = True
            if not _told_by_another(finding.name, entry["since"], told):
                due.append(Alert(key=f"{finding.name}:{entry['since']}", text=finding.text, level=finding.level))
    here = {finding.name for finding in findings}
    for name, entry in list(entries.items()):
        if name in here or entry["area"] in blind:
            continue
        entry["gone"] = entry["gone"] or _plain(now)
        if now.since(_moment(entry["gone"])) < CALM_S:
            continue
        del entries[name]
        if entry["told"] and entry["ends"]:
            text = f"over since {entry['gone']['at']}: {entry['text']}"
            due.append(Alert(key=f"over:{name}:{entry['since']}", text=text, level=Level.INFO))
    return due


def _told_by_another(name: str, since: str, told: Mapping[str, outbox.Message]) -> bool:
    """Whether somebody else, such as the run itself, has told of this since it began; they may date it a little otherwise."""
    since_ms = ms_of(since) or 0
    return any(
        key.startswith(f"{name}:") and alert["source"] != SOURCE and alert["raised_ms"] >= since_ms - ABOUT_MS
        for key, alert in told.items()
    )


def _plain(moment: Moment) -> dict[str, Any]:
    return {"at": iso(moment.wall_ms), "wall_ms": moment.wall_ms, "boot_id": moment.boot_id, "boot_s": round(moment.boot_s, 3)}


def _moment(plain: dict[str, Any]) -> Moment:
    return Moment(wall_ms=plain["wall_ms"], boot_id=plain["boot_id"], boot_s=plain["boot_s"])
