"""The settings of all that looks after the machine: `ops.yaml` into frozen structs. Every command of `ops` reads the one file.

Without a file everything has its default: an OpenClaw gateway where it usually is, no chat, no board. Secrets are never in the file:
it names a 0600 file or a command that prints one (`Secret`). configs/ops.yaml shows every key. Nothing is acted on here.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mmtools.errors import Misconfigured
from mmtools.yamlfile import Source, kind_of, read_text

MODEL = "configs/ops.yaml"
DEFAULT = "~/.config/mmtools/ops.yaml"
COMMAND_LIMIT_S = 10.0

Hours = Annotated[float, Meta(ge=0, le=87_600)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Part = Annotated[float, Meta(gt=0, le=1)]
Address = Annotated[str, Meta(pattern=r"^https?://[!-~]+$")]
Unit = Annotated[str, Meta(pattern=r"^[A-Za-z0-9:_.\\@-]{1,240}\.(service|slice|scope|socket|timer|target)$")]
JobName = Literal["prune-sessions", "recover", "report", "safe-restart", "snapshot", "status-alerts", "status-update"]
"""Every job there is (`jobs.running`); status-alerts is `status-update --alerts`."""
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,60}$")]


class Secret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a secret is: exactly one of a file that only its owner can read, and a command (its words) that prints it."""

    file: str | None = None
    command: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.file is None) == (not self.command):
            raise ValueError("`file`: name either a file or a command that holds the secret")

    def reveal(self, what: str, *, limit_s: float = COMMAND_LIMIT_S) -> str:
        """Return the secret, without spaces around it. what: what it is, for people. Raises Misconfigured, never with its content."""
        return _of_file(self.file, what) if self.file is not None else _of_command(self.command or (), what, limit_s)


class OpenClaw(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The agent gateway."""

    root: str | None = None
    """Its state folder; None is $OPENCLAW_STATE_DIR, else ~/.openclaw."""
    program: str = "openclaw"
    url: Address = "http://127.0.0.1:18789"
    unit: Unit = "openclaw-gateway.service"
    config: str | None = None
    """Its openclaw.json; None is $OPENCLAW_CONFIG_PATH, else the one in the root."""


class Sessions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `prune-sessions` takes, by age in hours."""

    older_than_h: Hours = 24
    """Cron runs, by their `updatedAt`."""
    orphans_after_h: Hours = 168
    archives_after_h: Hours = 720
    corrupt_after_h: Hours = 168
    tmp_after_h: Hours = 1
    cron_logs_after_h: Hours = 720
    recordings_after_h: Hours = 720
    keep_trash_h: Hours = 168


class Snapshots(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keep: Annotated[int, Meta(ge=1, le=1000)] = 48
    """How many are kept; one good one of the last day is kept in any case."""


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a unit is restarted for its memory."""

    watermark_mb: Annotated[float, Meta(gt=0)] | None = None
    """For a unit whose cgroup has neither memory.high nor memory.max; None then says that nobody knows."""
    act_above: Part = 0.7
    auto_above: Part = 0.8
    """For --auto, the monitor's call."""


class Restart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `safe-restart` goes about it."""

    most_per_hour: Annotated[int, Meta(ge=1, le=60)] = 3
    health: Literal["gateway", "none"] = "gateway"
    """gateway: a JSON probe of openclaw.url must be good. none: a unit without one; the service manager's word is all there is."""
    start_limit_s: Seconds = 600
    settle_s: Seconds = 30
    drain_limit_s: Seconds = 300
    snapshot: bool = True
    """Whether a snapshot is taken first, without which nothing is restarted; false where no run of ours is."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an action is allowed to do by itself."""

    level: Literal["low", "medium", "high", "forbidden"]
    when: tuple[Literal["no_live_run", "no_running_work", "disk_ok", "memory_high"], ...] = ()
    """Conditions that must all hold; --force does not lift them."""


class Chat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One target of messages: an address in the form of Apprise, kept secret."""

    name: Name
    url: Secret
    alerts: bool = True
    status: bool = True
    status_every_h: Hours = 1


class MissionControl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A card on a task board."""

    url: Address
    board: str
    task: str
    token: Secret
    field: str | None = None
    """A custom field of the board for the card; None is the task's description."""
    refresh_h: Hours | None = 1
    """How often a card without a change is written anew; None is never."""
    change: Part = 0.01
    """What counts as a change of a figure, as a part of it."""


class Ping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to say that a job ended, as healthchecks.io and its like do it."""

    job: JobName
    url: Secret


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A unit whose state belongs on the card, such as one that serves a model."""

    unit: Unit
    manager: Literal["user", "system"] = "user"


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """What each action may do."""

    restart_gateway: Rule = Rule(level="medium")
    restart_unit: Rule = Rule(level="medium")
    prune_sessions: Rule = Rule(level="low")
    recover_run: Rule = Rule(level="low")
    recover_tasks: Rule = Rule(level="medium")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of ops.yaml."""

    openclaw: OpenClaw = OpenClaw()
    sessions: Sessions = Sessions()
    snapshots: Snapshots = Snapshots()
    memory: Memory = Memory()
    restart: Restart = Restart()
    policy: Policy = Policy()
    services: tuple[Service, ...] = ()
    chats: tuple[Chat, ...] = ()
    mission_control: MissionControl | None = None
    pings: tuple[Ping, ...] = ()
    textfile: str | None = None
    """The *.prom file that `status-update` writes; None is none."""

    def __post_init__(self) -> None:
        names = [chat.name for chat in self.chats]
        if len(set(names)) < len(names):
            raise ValueError("`chats`: two have one name; name each in its own way")
        jobs = [ping.job for ping in self.pings]
        if len(set(jobs)) < len(jobs):
            raise ValueError("`pings`: a job has two; leave one")

    def rule(self, action: str) -> Rule:
        """Return what an action ("restart-gateway") is allowed to do."""
        rule: Rule = getattr(self.policy, action.replace("-", "_"))
        return rule


def load(path: str | None) -> Settings:
    """Return the settings of a file; None is ~/.config/mmtools/ops.yaml ($XDG_CONFIG_HOME) if there is one, else all defaults.

    Raises Misconfigured, naming file, line and what is allowed.
    """
    if path is None:
        path = str(default_path())
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return Settings()
        except OSError:
            pass  # whether it is there is not known: reading it says why
    source = Source(path, Settings, MODEL)
    tree: Any = source.parse(read_text(Path(path), "settings file", MODEL))
    if not isinstance(tree, dict):
        source.refuse((), f"the file holds {kind_of(tree)}; write `key: value` lines, as in {MODEL}")
    tree = {key: value for key, value in tree.items() if value is not None or key in ("mission_control", "textfile")}
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as e:
        source.explain(str(e), tree)


def default_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(os.path.expanduser(DEFAULT)) if not os.path.isabs(base) else Path(base, "mmtools", "ops.yaml")


def seconds(text: str) -> float:
    """Return the seconds of "90s", "15m", "24h", "7d". Raises ValueError, saying what is allowed."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", text.strip(), re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is no duration; write a number and s, m, h or d, such as 24h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]


def _of_file(name: str, what: str) -> str:
    path = Path(os.path.expanduser(name))
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(65_536)
    except OSError as e:
        raise Misconfigured(f"{what}: {path} cannot be read ({e.strerror}); put the secret there, mode 0600") from None
    if mode & 0o077:
        raise Misconfigured(f"{what}: others can read {path}; run `chmod 600 {path}`")
    return _checked(content, what, str(path))


def _of_command(argv: tuple[str, ...], what: str, limit_s: float) -> str:
    from mmtools.ops import children

    ended = children.run([os.path.expanduser(argv[0]), *argv[1:]], limit_s=limit_s, most_bytes=65_536)
    if isinstance(ended, children.NotRun):
        raise Misconfigured(f"{what}: its command {ended.why}; see that it prints the secret")
    if ended.code != 0:
        raise Misconfigured(f"{what}: its command {argv[0]} failed (exit {ended.code}); see that it prints the secret")
    return _checked(ended.out, what, argv[0])


def _checked(content: bytes, what: str, where: str) -> str:
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        raise Misconfigured(f"{what}: {where} holds no secret of one line; put it there")
    return text
