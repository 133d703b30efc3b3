"""An OpenClaw installation on disk, read only: its agents, where each keeps its sessions, its config, and its cron store.

Nothing is written here and no database is opened; no process and no server is asked (`standing`, `openclaw_program`). A file that
cannot be read is `Unreadable`, and never empty. Called by whatever in `ops` has to do with OpenClaw.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from mmtools.errors import Misconfigured, Refused

MOST_BYTES = 64 * 1024 * 1024
"""Of a file of the installation that is read whole; the store is not among them."""

_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that does not tell. absent: there is none, which may be as it should be; why: for people."""

    why: str
    absent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One agent's places. store: the sessions.json of the file eras; transcripts lie beside it. database: of the SQLite era."""

    id: str
    folder: Path
    store: Path
    database: Path


class Installation:
    """The state folder of an OpenClaw. Nothing is created, and nothing is read before it is asked for."""

    def __init__(self, root: Path, config: Path | None = None) -> None:
        self.root = root
        self.config = config or root / "openclaw.json"

    @classmethod
    def open(cls, path: str | None, config: str | None = None) -> Self:
        """Return the installation at `path`; None means $OPENCLAW_STATE_DIR, else ~/.openclaw. config: its openclaw.json, if elsewhere."""
        root = path or os.environ.get("OPENCLAW_STATE_DIR") or "~/.openclaw"
        place = config or (None if path else os.environ.get("OPENCLAW_CONFIG_PATH")) or None
        return cls(_absolute(root), _absolute(place) if place else None)

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells the `openclaw` command that this installation is meant, whatever our own environment names."""
        usual = self.config == self.root / "openclaw.json" and not os.environ.get("OPENCLAW_CONFIG_PATH")
        moved = {} if usual else {"OPENCLAW_CONFIG_PATH": str(self.config)}
        return {"OPENCLAW_STATE_DIR": str(self.root), **moved}

    def agents(self) -> tuple[Agent, ...]:
        """Return the agents that have a folder, sorted. Raises Refused when the config leaves open where a store is."""
        found = self.usual_agents()
        template = self._store_template() if found else None
        if template is None:
            return found
        return tuple(replace(agent, store=Path(template.replace("{agentId}", agent.id))) for agent in found)

    def usual_agents(self) -> tuple[Agent, ...]:
        """Return the agents with their stores where they usually are, whatever the config says: a look, for who changes nothing."""
        folder = self.root / "agents"
        try:
            names = sorted(name for name in os.listdir(folder) if _AGENT.fullmatch(name) and (folder / name).is_dir())
        except FileNotFoundError:
            return ()
        except OSError as e:
            raise Misconfigured(f"{folder}: {e.strerror}; make it readable by this user, or name another folder") from e
        return tuple(
            Agent(
                id=name,
                folder=folder / name,
                store=folder / name / "sessions" / "sessions.json",
                database=folder / name / "agent" / "openclaw-agent.sqlite",
            )
            for name in names
        )

    def read_config(self) -> Mapping[str, Any] | Unreadable:
        """Return openclaw.json as it is written: files it includes and variables it names are not followed. It can hold secrets."""
        from mmtools.ops import json5

        text = _text(self.config)
        if isinstance(text, Unreadable):
            return text
        try:
            read = json5.loads(text)
        except ValueError as e:
            return Unreadable(f"{self.config}: {e}")
        return read if isinstance(read, dict) else Unreadable(f"{self.config}: holds no object")

    def _store_template(self) -> str | None:
        """Return `session.store` as an absolute path in which only {agentId} is open; None when the store is where it usually is."""
        config = self.read_config()
        if isinstance(config, Unreadable):
            if config.absent:
                return None
            raise Refused(f"{config.why}; where the sessions are is not known until the config can be read")
        session = config.get("session", {})
        store = session.get("store") if isinstance(session, dict) else None
        if store is None:
            if not isinstance(session, dict) or "$include" in config or "$include" in session:
                raise Refused(f"{self.config}: whether another file moves session.store is not known; write session.store into it")
            return None
        if isinstance(store, str):
            path = os.path.expanduser(store)
            if os.path.isabs(path) and not re.search(r"[${}]", path.replace("{agentId}", "")):
                return path
        raise Refused(
            f"{self.config}: session.store is no absolute path with at most {{agentId}} open; where the sessions are is not known"
        )


def cron_jobs_file(installation: Installation) -> tuple[dict[str, Any], ...] | Unreadable:
    """Return the jobs of the file eras' cron store, as they are written."""
    path = installation.root / "cron" / "jobs.json"
    read = _json(path)
    if isinstance(read, Unreadable):
        return read
    jobs = read.get("jobs") if isinstance(read, dict) else None
    if not isinstance(jobs, list) or not all(isinstance(job, dict) and isinstance(job.get("id"), str) for job in jobs):
        return Unreadable(f"{path}: holds no list of jobs, each with its id")
    return tuple(jobs)


def subagent_runs_file(installation: Installation) -> Any | Unreadable:
    """Return the file eras' register of running sub-agents as it is written; its shape is documented nowhere."""
    return _json(installation.root / "subagents" / "runs.json")


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _text(path: Path) -> str | Unreadable:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return Unreadable(f"{path}: is not there", absent=True)
    except OSError as e:
        return Unreadable(f"{path}: {e.strerror}")
    if len(content) > MOST_BYTES:
        return Unreadable(f"{path}: larger than {MOST_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return Unreadable(f"{path}: not UTF-8")


def _json(path: Path) -> Any | Unreadable:
    import json

    text = _text(path)
    if isinstance(text, Unreadable):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Unreadable(f"{path}: no JSON")
