"""A grid of parameters over recordings: the file that a person writes, the sets in it, and the tasks that they make.

Nothing runs here: what a task says is `trial`'s business, where tasks run is `pool`'s, and what all of it says together is
`ranking`'s. Called by `replay --grid`.
"""

import hashlib
import itertools
import json
import math
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from mmtools import __version__, config
from mmtools.config import RunConfig
from mmtools.lab.overfitting import Objective
from mmtools.trading.params import Params
from mmtools.venues.recording import BadRecording
from mmtools.yamlfile import Source, kind_of, read_text, shown

Record = dict[str, Any]
Part = Literal["fit", "judge"]
PARTS: tuple[Part, Part] = ("fit", "judge")

MOST_SETS = 10_000
"""A grid grows faster than one thinks: five values of six params are 15,625 sets, each a run over every recording."""


# --- the file


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grid as a person writes it; configs/grid.yaml explains the keys."""

    grid: dict[str, Any]
    base: Params = Params()
    objective: Objective = "risk_averse"
    split: Annotated[float, Meta(gt=0, lt=1)] = 0.5


class Set(NamedTuple):
    """One combination: what the grid says of it, and the whole run that it is on any recording."""

    values: Record
    run: RunConfig


class Grid:
    """A grid file that was read, and what it asks for."""

    def __init__(self, path: Path) -> None:
        """Raises Misconfigured, with file and line, for a file that is no grid."""
        self.name = path.name.removesuffix(".yaml").removesuffix(".yml")
        self._source = Source(str(path), _File)
        tree = self._source.parse(read_text(path))
        if not isinstance(tree, dict):
            self._source.refuse((), f"the file holds {kind_of(tree)}; write `key: value` lines, as in configs/grid.yaml")
        if not tree.get("grid"):
            self._source.refuse(("grid",), "there is no grid; add `grid: {PARAM: [VALUE, VALUE]}`")
        for key in [key for key, value in tree.items() if value is None]:  # a key whose lines are all commented out
            del tree[key]
        try:
            self._file = msgspec.convert(tree, _File)
        except msgspec.ValidationError as e:
            self._source.explain(str(e), tree)
        self._base: Record = tree.get("base", {})
        for key, values in self._file.grid.items():
            self._check_values(key, values)
            if key in self._base:
                self._source.refuse(("grid", key), f"{key} stands in base and in grid; keep it in one of the two")
        self.objective: Objective = self._file.objective
        self.split = self._file.split

    @property
    def params(self) -> tuple[str, ...]:
        """The names of what the grid varies."""
        return tuple(self._file.grid)

    def based(self, run: RunConfig) -> RunConfig:
        """Return a run with the params of `base` in place of its own."""
        return msgspec.structs.replace(run, params=msgspec.convert(msgspec.to_builtins(run.params) | self._base, Params))

    def sets(self, run: RunConfig) -> list[Set]:
        """Return every combination on top of a run, the last key turning fastest. Raises Misconfigured for one that cannot be."""
        grid = self._file.grid
        under = msgspec.to_builtins(run.params)
        count = math.prod(map(len, grid.values()))
        if count > MOST_SETS:
            self._source.refuse(("grid",), f"{count:,} combinations, and at most {MOST_SETS:,} are run; leave some values out")
        for key, values in grid.items():
            for place, value in enumerate(values):
                self._check_param(under, key, place, value)
        return [self._set(run, under, dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())]

    def _set(self, run: RunConfig, under: Record, values: Record) -> Set:
        try:
            params = msgspec.convert(under | values, Params)
        except msgspec.ValidationError as e:
            self._source.refuse(("grid",), f"the combination {named(values)} cannot be: {e}")
        if self.objective == "risk_averse" and not params.bracket:
            self._source.refuse(
                ("objective",), f"the objective risk_averse needs the bracket, and {named(values)} has none; say `objective: total`"
            )
        return Set(values, msgspec.structs.replace(run, params=params))

    def _check_values(self, key: str, values: object) -> None:
        if not isinstance(values, list) or not values:
            self._source.refuse(("grid", key), f"grid.{key} is {kind_of(values)}; write a list of values, such as {key}: [VALUE, VALUE]")
        seen: list[str] = []
        for place, value in enumerate(values):
            written = json.dumps(_as_meant(value), sort_keys=True)
            if written in seen:
                self._source.refuse(("grid", key, place), f"grid.{key} has {shown(value)} twice; name each value once")
            seen.append(written)

    def _check_param(self, under: Record, key: str, place: int, value: object) -> None:
        """Refuse a value that the param cannot have, in the words of a run config, at its line in the grid."""
        params = under | {key: value}
        try:
            msgspec.convert(params, Params)
        except msgspec.ValidationError as e:
            line = self._source.lines[("grid", key, place)]
            told = Source(self._source.name, Params)
            told.lines = {(): line, (key,): line}
            told.explain(str(e), params)


def _as_meant(value: object) -> object:
    """Return a value with its numbers as floats: 3 and 3.0 are one."""
    if isinstance(value, list):
        return [_as_meant(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_meant(item) for key, item in value.items()}
    return value + 0.0 if isinstance(value, int | float) and not isinstance(value, bool) else value  # -0.0 too becomes 0.0


def named(values: Mapping[str, object]) -> str:
    """Return a set in a line: "model=glft, max_drawdown=null"."""
    return ", ".join(f"{key}={value if isinstance(value, str) else shown(value)}" for key, value in values.items())


# --- tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A recording as the grid was asked over it."""

    path: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One set on one recording: two lines, one for each part."""

    values: Record
    run: RunConfig
    recording: Recording
    split: float
    version: str = __version__

    def key(self, part: Part) -> str:
        return "/".join((self.version, config.digest(self.run), self.recording.sha256, repr(self.split), part))


def recordings(paths: Iterable[str]) -> list[Recording]:
    """Return what lies at these paths, known by hash; nothing is decoded yet. Raises BadRecording."""
    found: dict[str, Recording] = {}
    for path in paths:
        sha256 = _sha256(path)
        name = Path(path).name
        if sha256 in found:
            raise BadRecording(twice(found[sha256].name, name))
        found[sha256] = Recording(path=str(Path(path).absolute()), name=name, sha256=sha256)
    return list(found.values())


def _sha256(path: str) -> str:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # asked before it is opened: a FIFO would keep us waiting
            raise BadRecording(f"{path}: is no regular file, and a grid reads a recording many times; write it to a file first")
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise BadRecording(f"{path}: there is no such file") from None
    except OSError as e:
        raise BadRecording(f"{path}: cannot be read ({e.strerror})") from None


def twice(one: str, other: str) -> str:
    """Say that two names are of one recording."""
    return f"{one} and {other} are one recording, and counted twice it would look like more; name it once"


def tasks(sets: Sequence[Set], over: Sequence[Recording], split: float) -> list[Task]:
    """Return every trial, those of one recording side by side: a worker that goes on with the next one has its tape already."""
    return [Task(values=one.values, run=_on(one.run, recording), recording=recording, split=split) for recording in over for one in sets]


def share(of: Sequence[Task], number: int, shards: int) -> list[Task]:
    """Return what shard `number` of `shards` does, counted from 1; all of them together do everything once."""
    return list(of[number - 1 :: shards])


def _on(run: RunConfig, recording: Recording) -> RunConfig:
    return msgspec.structs.replace(run, recording=recording.path)
