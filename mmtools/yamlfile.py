"""A YAML file as plain values with the line of each, and what a struct refuses in it, in words that point there.

Stricter than YAML: no aliases or tags, no key twice, no number that nobody means. It does not know what the values are for;
`config` (runs) and `ops.settings` call it. yaml is imported when a file is parsed.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mmtools.errors import Misconfigured

if TYPE_CHECKING:
    from yaml.events import Event

At = tuple[str | int, ...]
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


def shown(value: object) -> str:
    """Return a value as one short line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def means_more(text: str) -> bool:
    """Whether these characters, unquoted, are not just text."""
    return text in _WORDS or bool(_FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text))


def plain_value(text: str) -> object:
    """Return what unquoted text means, by YAML 1.2: yes, on, 12:30 and dates are text. Raises ValueError for a number nobody means."""
    if not means_more(text):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number; write a number, or null where a limit may be off")
    if abs(float(text)) >= 10**15:
        raise ValueError(f"the number {text[:40]} is too large; at most 15 digits are kept (put it in quotes if it is text)")
    return int(text) if _INT.fullmatch(text) else float(text)


def read_text(path: Path, what: str = "run config", model: str = "configs/paper.yaml") -> str:
    """Return the text of a config. what, model: what it is called, and one to look at. Raises Misconfigured when it cannot be read."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        _refuse(f"{path}: no such file; name a {what}, such as {model}")
    except IsADirectoryError:
        _refuse(f"{path}: a folder; name a {what} in it")
    except OSError as e:
        _refuse(f"{path}: cannot be read ({e.strerror}); make it readable, or name another {what}")
    if len(raw) > _MOST_BYTES:
        _refuse(f"{path}: larger than 1 MB, so no {what}; name another file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        _refuse(f"{path}:{line}: byte {e.object[e.start]:#04x} is not UTF-8; save the file as UTF-8 text")


def _refuse(message: str) -> NoReturn:
    raise Misconfigured(" ".join(message.split()))


class Source:
    """One YAML file: its plain values, the line of each, and refusals that point there."""

    def __init__(self, name: str, root: type[msgspec.Struct], model: str = "configs/paper.yaml") -> None:
        """root: the struct that the whole file becomes. model: a file that names every key."""
        self.name = name
        self.root = root
        self.model = model
        self.lines: dict[At, int] = {(): 1}

    def refuse(self, at: At, why: str) -> NoReturn:
        """Raise Misconfigured at the line of the value, or of what encloses it."""
        while at not in self.lines:
            at = at[:-1]
        _refuse(f"{self.name}:{self.lines[at]}: {why}")

    def move(self, old: At, new: At) -> None:
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

    def _value(self, event: "Event", events: Iterator["Event"], at: At) -> object:
        import yaml

        self.lines.setdefault(at, _line(event))
        if len(at) > _DEEPEST:
            self._refuse_event(event, f"nested deeper than {_DEEPEST} levels; none is needed so deep")
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

    def _mapping(self, events: Iterator["Event"], at: At) -> dict[str, object]:
        import yaml

        mapping: dict[str, object] = {}
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                self._refuse_event(key, "a list or a mapping as a key; write `key: value`")
            if not _KEY.fullmatch(key.value) and at[:1] != ("changes_from_parent",):
                self._refuse_event(key, f"{shown(key.value)} is no key; a key is one word, as in {self.model}")
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
        found = re.fullmatch(r"(.*?)(?: - at `\$([A-Za-z0-9_.\[\]-]*)`)?", message, re.DOTALL)
        assert found is not None
        at = _steps(found[2] or "")
        if named := re.match(r"`([^`]+)`: ", found[1]):  # our own checks
            at += _steps("." + named[1])
            self.refuse(at, f"{_dotted(at)}: {found[1][named.end() :]}")
        if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", found[1], re.DOTALL):
            self.refuse(
                (*at, unknown[1]), f"unknown key {_dotted((*at, unknown[1]))}; {_suggestion(self.root, at, unknown[1], self.model)}"
            )
        if missing := re.fullmatch(r"Object missing required field `(.*)`", found[1]):
            self.refuse(at, f"{_dotted(at)} has no {missing[1]}; add `{missing[1]}: VALUE`")
        value: Any = tree
        for step in at:
            value = value[step]
        allowed = _allowed(_type_at(self.root, at))
        hint = " (put it in quotes)" if "text" in allowed and isinstance(value, int | float) else ""
        seen = kind_of(value) if isinstance(value, dict | list) else shown(value)
        self.refuse(at, f"{_dotted(at)} is {seen}; it must be {allowed}{hint}")


def _line(event: "Event") -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _steps(path: str) -> At:
    """Return the steps of ".synthetic.news[0].ticks"."""
    return tuple(name or int(index) for name, index in re.findall(r"\.([^.\[]+)|\[([0-9]+)\]", path))


def _dotted(at: At) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at).lstrip(".")


# --- what is allowed, in words


def kind_of(value: object) -> str:
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"only {shown(value)}"


def _suggestion(root: type[msgspec.Struct], at: At, key: str, model: str) -> str:
    """Say what a person who wrote an unknown key may have meant, and where it belongs."""
    import difflib

    import msgspec.inspect as inspect

    whole: Any = inspect.type_info(root)
    here = _keys(_type_at(root, at))
    if near := difflib.get_close_matches(key, here, n=1):
        return f"did you mean {near[0]}?"
    places = {
        "": _keys(whole),
        **{field.encode_name: _keys(field.type) for field in whole.fields if isinstance(field.type, inspect.StructType)},
    }
    for name, keys in places.items():
        if near := difflib.get_close_matches(key, keys, n=1, cutoff=0.8):
            return f"did you mean {near[0]}, {f'under {name}' if name else 'at the top level'}?"
    if len(here) < 8:
        return f"the keys here are {', '.join(here)}"
    return f"{model} names every key"


def _keys(struct: Any) -> list[str]:
    return [field.encode_name for field in struct.fields]


def _type_at(root: type[msgspec.Struct], at: At) -> Any:
    import msgspec.inspect as inspect

    kind: Any = inspect.type_info(root)
    for step in at:
        kind = kind.item_type if isinstance(step, int) else next(field.type for field in kind.fields if field.encode_name == step)
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
