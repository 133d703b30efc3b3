"""Run configs: YAML into frozen structs, refused with file, line and what is allowed; and back into YAML with every default.

The values of `params` stand in `trading.params`; here is what surrounds them. Used by the rooms above `trading/`.
Nothing is decided here about quoting, and no file is opened but the config. yaml is imported by `load` and `dump` alone.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta

from mmtools import units
from mmtools.errors import Misconfigured
from mmtools.trading.market import TICKS
from mmtools.trading.params import NotNegative, Params, Positive

if TYPE_CHECKING:
    from yaml.events import Event

Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=0, le=60_000)]


_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}", re.ASCII)
_RESERVED = ("history.jsonl",)
"""What stands beside the folders of the runs."""


def _shown(value: object) -> str:
    """Return a value as one short line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _require_iso(name: str, text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`{name}`: {_shown(text)} is not a time in ISO 8601; write it as 2026-06-07T18:00:00Z") from None


class Shock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `at_s` after the start, for `duration_s`, the fair value moves `factor` times as much."""

    at_s: NotNegative
    duration_s: Positive
    factor: Positive


class News(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At `at_s` after the start the fair value jumps by `ticks` (down when negative)."""

    at_s: NotNegative
    ticks: float


class Synthetic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A seeded market with known fair value (the seed is `params.seed`). Rates are Poisson means, per market."""

    markets: Annotated[int, Meta(ge=1, le=20)] = 1
    start: str = "2026-01-01T00:00:00Z"
    tick: float = 0.01
    min_order_size: Positive = 5.0
    fair: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    volatility_ticks: NotNegative = 0.15
    """Of the fair value, per square root of a second."""
    trades_per_minute: Rate = 6.0
    trade_size: Positive = 40.0
    """Mean, shares (exponential)."""
    informed_share: Share = 0.3
    """Part of the takers who know the fair value; the rest buy or sell by a coin."""
    changes_per_minute: Rate = 60.0
    """Level changes by the other makers that no trade causes."""
    depth_levels: Annotated[int, Meta(ge=1, le=50)] = 10
    level_size: Positive = 120.0
    """Mean size that other makers keep at a level."""
    half_spread_ticks: Positive = 0.5
    """How far from the fair value, as they see it, the other makers begin."""
    maker_delay_s: NotNegative = 15.0
    """How late the other makers see the fair value: what informed takers live on."""
    print_lag_ms: Annotated[int, Meta(ge=0)] = 21
    """How long after its level decrease a print is stamped, as on the real feed."""
    jumps_per_hour: Rate = 0.5
    jump_ticks: Positive = 3.0
    news: tuple[News, ...] = ()
    shocks: tuple[Shock, ...] = ()
    resolves: Literal["yes", "no"] | None = None
    """How the market ends at the end of the run; None leaves it open."""

    def __post_init__(self) -> None:
        if self.tick not in [tick / units.ONE for tick in TICKS]:
            allowed = ", ".join(units.text(tick) for tick in TICKS)
            raise ValueError(f"`tick`: {self.tick} is not a tick of the venue; use one of {allowed}")
        if not self.tick <= self.fair <= 1 - self.tick:
            raise ValueError(f"`fair`: {self.fair} leaves no room for a tick of {self.tick} on both sides; move it towards 0.5")
        _require_iso("start", self.start)
        try:
            units.of(self.min_order_size)
        except ValueError as e:
            raise ValueError(f"`min_order_size`: {e}; write it with at most six decimals") from None


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run as a person writes it. `started_at`, `hypothesis`, `parent_run` and `changes_from_parent` are recorded, not obeyed.

    Raises ValueError for parts that do not go together. `feed` may be left out of a file: `load` then takes the one that the rest
    speaks of (`recording`, `synthetic`, else live when markets are named), and the synthetic one when nothing does.
    """

    run_id: str | None = None
    started_at: str | None = None
    duration_hours: Annotated[float, Meta(ge=0.001, le=8784)] | None = None
    hypothesis: str | None = None
    parent_run: str | None = None
    changes_from_parent: str | dict[str, object] | list[object] | None = None
    feed: Literal["live", "recording", "synthetic"] = "synthetic"
    recording: str | None = None
    """Path of the recording, for feed: recording. In a file relative to that file; absolute once loaded."""
    markets: tuple[str, ...] = ()
    """Slugs or condition ids; none means every market of a recording or synthetic feed."""
    synthetic: Synthetic = Synthetic()
    params: Params = Params()

    def __post_init__(self) -> None:
        if self.run_id is not None and (not _RUN_ID.fullmatch(self.run_id) or self.run_id in _RESERVED):
            raise ValueError(
                f"`run_id`: {_shown(self.run_id)} cannot name a folder; use at most 80 letters, digits, dots, dashes and underscores, "
                f"not a dot first, and none of {', '.join(_RESERVED)}"
            )
        if self.started_at is not None:
            _require_iso("started_at", self.started_at)
        if self.feed == "recording" and not self.recording:
            raise ValueError("`feed`: recording, but no file is named; add `recording: FILE`")
        if self.feed != "recording" and self.recording is not None:
            raise ValueError(f"`recording`: given, but the feed is {self.feed}; delete it, or say `feed: recording`")
        if self.feed == "live" and not self.markets:
            raise ValueError("`feed`: live, but no market is named; add `markets: [SLUG, ...]`")
        if self.feed != "synthetic" and self.synthetic != Synthetic():
            raise ValueError(f"`synthetic`: given, but the feed is {self.feed}; delete it, or say `feed: synthetic`")
        for i, slug in enumerate(self.markets):
            if not re.fullmatch(r"[!-~]{1,200}", slug):
                raise ValueError(f"`markets[{i}]`: {_shown(slug)} is not a slug; use the last part of the market's address, without spaces")
            if slug in self.markets[:i]:
                raise ValueError(f"`markets[{i}]`: {_shown(slug)} is named twice; name each market once")


_RECORDED_ONLY = ("run_id", "started_at", "hypothesis", "parent_run", "changes_from_parent", "recording")
"""What changes nothing in a run's behaviour; a recording is known by its own hash, not by where it lies."""


def load(path: Path) -> RunConfig:
    """Return the config in a YAML file, its feed resolved and its recording made absolute; whatever it leaves out has its default.

    An empty file is a config of defaults. Raises Misconfigured, naming file, line and what is allowed, for everything else.
    """
    source = _Source(str(path))
    tree = source.parse(_read(path))
    if not isinstance(tree, dict):
        source.refuse((), f"the file holds {_kind(tree)}; write `key: value` lines, as in configs/paper.yaml")
    _settle(tree, source, path.parent)
    try:
        return msgspec.convert(tree, RunConfig)
    except msgspec.ValidationError as e:
        source.explain(str(e), tree)


def dump(config: RunConfig) -> str:
    """Return YAML with every key, that `load` reads back to an equal config; `synthetic` is null when the feed is another."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        # The emitter quotes what YAML 1.1 would misread; `load` knows some numbers more (1e5).
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if _means_more(value) else None)

    Dumper.add_representer(str, text)
    tree = _tree(config)
    if config.feed != "synthetic":
        tree["synthetic"] = None
    return yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)


def digest(config: RunConfig) -> str:
    """Return the SHA-256 in hex of what decides how the run behaves: all but what is only recorded, however it was written down."""
    return hashlib.sha256(_json(_behaviour(config)).encode()).hexdigest()


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return what `digest` sees differ, one line each: "params.seed: 1 -> 2"."""
    before, after = dict(_leaves("", _behaviour(old))), dict(_leaves("", _behaviour(new)))
    return [f"{key}: {_json(before[key])} -> {_json(after[key])}" for key in before if _json(before[key]) != _json(after[key])]


# --- values


def _tree(config: RunConfig) -> dict[str, Any]:
    """Return the config as plain values, with whole numbers as ints: 50.0 and 50 are one."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    tree: dict[str, Any] = plain(msgspec.to_builtins(config))
    return tree


def _behaviour(config: RunConfig) -> dict[str, Any]:
    return {key: value for key, value in _tree(config).items() if key not in _RECORDED_ONLY}


def _leaves(prefix: str, tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


# --- reading

_At = tuple[str | int, ...]
"""Where a value stands: ("synthetic", "news", 0, "ticks")."""

_MOST_BYTES = 1 << 20
_DEEPEST = 16
_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_WORDS: dict[str, bool | None] = {"": None, "~": None}
for _word, _meaning in (("null", None), ("true", True), ("false", False)):
    _WORDS |= dict.fromkeys((_word, _word.title(), _word.upper()), _meaning)


def _means_more(text: str) -> bool:
    """Whether these characters, unquoted, are not just text."""
    return text in _WORDS or bool(_FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text))


def plain_value(text: str) -> object:
    """Return what unquoted text means, by YAML 1.2: yes, on, 12:30 and dates are text. Raises ValueError for a number nobody means."""
    if not _means_more(text):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number; write a number, or null where a limit may be off")
    if abs(float(text)) >= 10**15:
        raise ValueError(f"the number {text[:40]} is too large; at most 15 digits are kept (put it in quotes if it is text)")
    return int(text) if _INT.fullmatch(text) else float(text)


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        _refuse(f"{path}: no such file; name a run config, such as configs/paper.yaml")
    except IsADirectoryError:
        _refuse(f"{path}: a folder; name a run config in it")
    except OSError as e:
        _refuse(f"{path}: cannot be read ({e.strerror}); make it readable, or name another run config")
    if len(raw) > _MOST_BYTES:
        _refuse(f"{path}: larger than 1 MB, so no run config; name another file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        _refuse(f"{path}:{line}: byte {e.object[e.start]:#04x} is not UTF-8; save the file as UTF-8 text")


def _refuse(message: str) -> NoReturn:
    raise Misconfigured(" ".join(message.split()))


def _settle(tree: dict[str, Any], source: "_Source", folder: Path) -> None:
    """Bring the ways in which people may write a config to the one of RunConfig, in place."""
    for key in ("feed", "markets", "synthetic", "params"):  # a key whose lines are all commented out
        if key in tree and tree[key] is None:
            del tree[key]
    params = tree.get("params")
    if isinstance(params, dict) and "markets" in params:
        if "markets" in tree:
            source.refuse(("params", "markets"), "markets stands under params and at the top level; keep one of them")
        tree["markets"] = params.pop("markets") or []
        source.move(("params", "markets"), ("markets",))
    if "feed" not in tree:
        tree["feed"] = "live" if tree.get("markets") else "synthetic"
        tree["feed"] = next((key for key in ("recording", "synthetic") if tree.get(key) is not None), tree["feed"])
    if "synthetic" in tree and tree["feed"] in ("live", "recording"):
        source.refuse(("synthetic",), f"synthetic: given, but the feed is {tree['feed']}; delete it, or say `feed: synthetic`")
    if isinstance(tree.get("recording"), str) and tree["recording"]:
        tree["recording"] = os.path.abspath(folder / os.path.expanduser(tree["recording"]))


class _Source:
    """One YAML file: its plain values, the line of each, and refusals that point there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[_At, int] = {(): 1}

    def refuse(self, at: _At, why: str) -> NoReturn:
        """Raise Misconfigured at the line of the value, or of what encloses it."""
        while at not in self.lines:
            at = at[:-1]
        _refuse(f"{self.name}:{self.lines[at]}: {why}")

    def move(self, old: _At, new: _At) -> None:
        self.lines |= {new + at[len(old) :]: line for at, line in self.lines.items() if at[: len(old)] == old}

    def parse(self, text: str) -> object:
        """Return the values of the file, built from the parser's events: so lines are kept, and nothing expands or nests without end."""
        import yaml

        try:
            events = iter(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
            next(events)
            if not isinstance(next(events), yaml.DocumentStartEvent):
                return {}
            tree = self._value(next(events), events, ())
            next(events)
            if isinstance(more := next(events), yaml.DocumentStartEvent):
                self._refuse_event(more, "a second document begins (---); keep one in the file")
        except yaml.MarkedYAMLError as e:
            rows = text.split("\n")
            line = min(e.problem_mark.line if e.problem_mark else 0, len(rows) - 1)
            if "\t" in rows[line][: len(rows[line]) - len(rows[line].lstrip())]:
                _refuse(f"{self.name}:{line + 1}: indented with a tab; use spaces")
            _refuse(f"{self.name}:{line + 1}: not YAML ({e.problem}); write `key: value` lines, and put text with : # or quotes in quotes")
        except yaml.reader.ReaderError as e:
            line = text.count("\n", 0, e.position) + 1
            _refuse(f"{self.name}:{line}: a control character ({e.character:#x}) stands in the file; delete it")
        return {} if tree is None else tree

    def _refuse_event(self, event: "Event", why: str) -> NoReturn:
        _refuse(f"{self.name}:{_line(event)}: {why}")

    def _value(self, event: "Event", events: Iterator["Event"], at: _At) -> object:
        import yaml

        self.lines.setdefault(at, _line(event))
        if len(at) > _DEEPEST:
            self._refuse_event(event, f"nested deeper than {_DEEPEST} levels; a run config needs three")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.AliasEvent):
            self._refuse_event(event, f"an alias (*{event.anchor}); write the value out")
        if getattr(event, "tag", None) is not None:
            self._refuse_event(event, "a tag (!...) is not allowed; delete it")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, at)
        items: list[object] = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(self._value(item, events, (*at, len(items))))
        return items

    def _mapping(self, events: Iterator["Event"], at: _At) -> dict[str, object]:
        import yaml

        mapping: dict[str, object] = {}
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                self._refuse_event(key, "a list or a mapping as a key; write `key: value`")
            if not _KEY.fullmatch(key.value) and at[:1] != ("changes_from_parent",):
                self._refuse_event(key, f"{_shown(key.value)} is no key; a key is one word, as in configs/paper.yaml")
            here, name = (*at, key.value), _dotted((*at, key.value))
            if key.value in mapping:
                self._refuse_event(key, f"{name} stands here and on line {self.lines[here]}; keep one of them")
            self.lines[here] = _line(key)
            mapping[key.value] = self._value(next(events), events, here)
        return mapping

    def _scalar(self, event: Any) -> object:
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self._refuse_event(event, "a tag (!...) is not allowed; delete it")
        if not event.implicit[0]:
            return str(event.value)
        try:
            return plain_value(event.value)
        except ValueError as e:
            self._refuse_event(event, str(e))

    def explain(self, message: str, tree: dict[str, Any]) -> NoReturn:
        """Turn what msgspec or a `__post_init__` found into words, with the line, the full name and the value seen."""
        found = re.fullmatch(r"(.*?)(?: - at `\$([A-Za-z0-9_.\[\]]*)`)?", message, re.DOTALL)
        assert found is not None
        at = _steps(found[2] or "")
        if named := re.match(r"`([^`]+)`: ", found[1]):  # our own checks
            at += _steps("." + named[1])
            self.refuse(at, f"{_dotted(at)}: {found[1][named.end() :]}")
        if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", found[1], re.DOTALL):
            self.refuse((*at, unknown[1]), f"unknown key {_dotted((*at, unknown[1]))}; {_suggestion(at, unknown[1])}")
        if missing := re.fullmatch(r"Object missing required field `(.*)`", found[1]):
            self.refuse(at, f"{_dotted(at)} has no {missing[1]}; add `{missing[1]}: VALUE`")
        value: Any = tree
        for step in at:
            value = value[step]
        allowed = _allowed(_type_at(at))
        hint = " (put it in quotes)" if "text" in allowed and isinstance(value, int | float) else ""
        seen = _kind(value) if isinstance(value, dict | list) else _shown(value)
        self.refuse(at, f"{_dotted(at)} is {seen}; it must be {allowed}{hint}")


def _line(event: "Event") -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _steps(path: str) -> _At:
    """Return the steps of ".synthetic.news[0].ticks"."""
    return tuple(name or int(index) for name, index in re.findall(r"\.([^.\[]+)|\[([0-9]+)\]", path))


def _dotted(at: _At) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at).lstrip(".")


# --- what is allowed, in words


def _kind(value: object) -> str:
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"only {_shown(value)}"


def _suggestion(at: _At, key: str) -> str:
    """Say what a person who wrote an unknown key may have meant, and where it belongs."""
    import difflib

    places: dict[str, tuple[str, ...]] = {
        "": RunConfig.__struct_fields__,
        "params": Params.__struct_fields__,
        "synthetic": Synthetic.__struct_fields__,
    }
    place = _dotted(at)
    here = places.get(place) or (News if "news" in place else Shock).__struct_fields__
    if near := difflib.get_close_matches(key, here, n=1):
        return f"did you mean {near[0]}?"
    for name, keys in places.items():
        if near := difflib.get_close_matches(key, keys, n=1, cutoff=0.8):
            return f"did you mean {near[0]}, {f'under {name}' if name else 'at the top level'}?"
    if len(here) < 8:
        return f"the keys here are {', '.join(here)}"
    return "configs/paper.yaml names every key"


def _type_at(at: _At) -> Any:
    import msgspec.inspect as inspect

    kind: Any = inspect.type_info(RunConfig)
    for step in at:
        kind = kind.item_type if isinstance(step, int) else next(field.type for field in kind.fields if field.name == step)
    return kind


def _allowed(kind: Any) -> str:
    """Say in words what a type allows, so that the words follow when the type changes."""
    import msgspec.inspect as inspect

    match kind:
        case inspect.UnionType():
            return " or ".join(_allowed(member) for member in sorted(kind.types, key=lambda member: isinstance(member, inspect.NoneType)))
        case inspect.LiteralType():
            return "one of " + ", ".join(map(str, kind.values))
        case inspect.IntType():
            return "a whole number" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.ListType() | inspect.VarTupleType():
            return "a list"
    return "a mapping (`key: value` lines)"


def _bounds(kind: Any) -> str:
    words = (("above", kind.gt), ("at least", kind.ge), ("below", kind.lt), ("at most", kind.le))
    return " and".join(f" {word} {bound:g}" for word, bound in words if bound is not None)
