"""What `mmtools-install` installs, as text: the units of systemd/, the gateway's drop-in, the block of crontab/, filled in for this place.

A template names folders as @BIN@ and its like, and has a line @ENVIRONMENT@ for the variables of every job; a job whose command has no
link in bin/ is left out. Nothing is written here, and nobody is asked: `installation` does both.
"""

import hashlib
import os
import re
import shlex
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from mmtools.errors import Misconfigured

BEGIN = "# >>> mmtools >>>"
END = "# <<< mmtools <<<"
ENVIRONMENT = "@ENVIRONMENT@"
FOR_DROP_IN = ("mmtools-failed@.service", "mmtools-after-start@.service")
"""The units that the gateway's drop-in starts."""
CARRIED = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "OPENCLAW_STATE_DIR", "OPENCLAW_CONFIG_PATH")
"""They say where things are, and neither cron nor a user manager takes them from a shell: a job would look elsewhere than its user."""
USUAL_PATH = ("/usr/local/bin", "/usr/bin", "/bin")

_COMMAND = re.compile(r'"?@BIN@/([a-z-]+)"?')
_FIELD = re.compile(r"@([A-Z]+)@")
_MINUTE = re.compile(r"@(\d+):([a-z]+)@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things are, and whose. path: what jobs find programs on. carried: what was set of CARRIED. All folders are absolute."""

    root: Path
    state: Path
    config: Path
    units: Path
    cache: Path
    path: str
    user: str
    host: str
    carried: Mapping[str, str] = field(default_factory=dict)

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def fields(self) -> dict[str, str]:
        return {
            "BIN": str(self.bin),
            "ROOT": str(self.root),
            "STATE": str(self.state),
            "LOGS": str(self.state / "logs"),
            "CONFIG": str(self.config),
            "CACHE": str(self.cache),
        }

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of every job."""
        return {"PATH": self.path, "MMTOOLS_STATE": str(self.state), **self.carried}

    def commands(self) -> Set[str]:
        """Return the commands that have a link in bin/."""
        return {link.name for link in self.bin.iterdir() if link.is_symlink()}


def here(root: Path, state: Path, environment: Mapping[str, str]) -> Place:
    """Return the place of a checkout for the user who runs this. Raises Misconfigured where there is no checkout."""
    import platform
    import pwd

    if not (root / "bin" / "_launch").exists() or not (root / "systemd").is_dir():
        raise Misconfigured(f"{root} is no checkout of mmtools (no bin/, no systemd/); run bin/mmtools-install of one")
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return Place(
        root=root,
        state=state,
        config=_folder(environment, "XDG_CONFIG_HOME", "~/.config") / "mmtools",
        units=_folder(environment, "XDG_CONFIG_HOME", "~/.config") / "systemd" / "user",
        cache=_folder(environment, "XDG_CACHE_HOME", "~/.cache") / "mmtools",
        path=_search_path(environment.get("PATH", "")),
        user=user,
        host=platform.node(),
        carried={name: environment[name] for name in CARRIED if os.path.isabs(environment.get(name, ""))},
    )


def units(place: Place, commands: Set[str]) -> dict[str, str]:
    """Return the units by file name, but for those whose command is not there, and their timers."""
    found = {file.name: file.read_text() for file in sorted((place.root / "systemd").glob("*.[st]*")) if file.suffix != ".conf"}
    services = {name for name, text in found.items() if name.endswith(".service") and _needs(text) <= commands}
    return {
        name: _in_unit(text, place)
        for name, text in found.items()
        if name in services or (name.endswith(".timer") and name.replace(".timer", ".service") in services)
    }


def drop_in(place: Place) -> str:
    return _in_unit((place.root / "systemd" / "gateway.conf").read_text(), place)


def block(place: Place, commands: Set[str]) -> str:
    """Return the lines for the crontab, from BEGIN to END."""
    lines = (place.root / "crontab" / "mmtools.crontab").read_text().splitlines(keepends=True)
    kept = (line for line in lines if _needs(line) <= commands)
    return "".join(_in_crontab(line, place) for line in kept)


def lacking(place: Place, commands: Set[str]) -> list[str]:
    """Return the commands that a template names and that are not there."""
    files = [*(place.root / "systemd").iterdir(), place.root / "crontab" / "mmtools.crontab"]
    return sorted(set().union(*(_needs(file.read_text()) for file in files)) - commands)


def timers(names: Set[str]) -> list[str]:
    return sorted(name for name in names if name.endswith(".timer"))


def _needs(text: str) -> set[str]:
    return set(_COMMAND.findall(text))


def _in_unit(text: str, place: Place) -> str:
    """Fill in the folders of a unit, which stand in quotes there."""

    def value(given: str) -> str:
        if not given.isprintable() or set(given) & set("\"'\\$"):
            raise Misconfigured(f"{given!r} cannot stand in a unit of systemd; use folders without quotes, backslashes and dollar signs")
        return given.replace("%", "%%")

    settings = "\n".join(f'Environment="{name}={value(given)}"' for name, given in place.environment.items())
    return _FIELD.sub(lambda field: value(place.fields[field[1]]), text.replace(ENVIRONMENT, settings))


def _in_crontab(line: str, place: Place) -> str:
    """Fill in the folders of a line, quoted for the shell, or the variables, which stand as they are."""

    def value(given: str) -> str:
        if not given.isprintable() or given != given.strip():
            raise Misconfigured(f"{given!r} cannot stand in a crontab; use folders without line ends, and without spaces at their ends")
        return given

    if line.rstrip() == ENVIRONMENT:
        return "".join(f"{name}={value(given)}\n" for name, given in place.environment.items())
    # To cron a plain % is a line end.
    filled = _FIELD.sub(lambda field: shlex.quote(value(place.fields[field[1]])).replace("%", r"\%"), line)
    return _MINUTE.sub(lambda minute: str(_spread(place, minute[2], int(minute[1]))), filled)


def _spread(place: Place, job: str, minutes: int) -> int:
    """Return the minute of a job: another for each machine and user, always the same for one."""
    return int.from_bytes(hashlib.sha256(f"{place.host}/{place.user}/{job}".encode()).digest()[:8]) % minutes


def _folder(environment: Mapping[str, str], variable: str, default: str) -> Path:
    given = environment.get(variable, "")
    return Path(given) if os.path.isabs(given) else Path(os.path.expanduser(default))


def _search_path(given: str) -> str:
    """Return the absolute folders of a PATH that can stand anywhere, and the usual ones: cron and systemd know few by themselves."""
    wanted = [*given.split(":"), *USUAL_PATH]
    return ":".join(dict.fromkeys(p for p in wanted if os.path.isabs(p) and p.isprintable() and not set(p) & set("\"'\\$% ")))
