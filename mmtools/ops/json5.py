"""JSON5 to plain values: what OpenClaw's config is written in. Reads and never writes; called by `openclaw`.

Strict where JSON5 is: what is not surely read is a ValueError, because a setting that is guessed is worse than none.
"""

import re
from typing import Any

DEEPEST = 64

_SPACE = r"(?:\s|\ufeff|//[^\n\r\u2028\u2029]*|/\*.*?\*/)*"
_TOKEN = re.compile(
    _SPACE
    + r"""(?:(?P<mark>[{}\[\],:])
    |(?P<text>"(?:[^"\\\n\r]|\\(?:\r\n|.))*"|'(?:[^'\\\n\r]|\\(?:\r\n|.))*')
    |(?P<word>[$_A-Za-z][$\w]*)
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|Infinity|NaN|(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?))(?![\w.$])
    |(?P<end>\Z))""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(\r\n|.))", re.DOTALL)
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
"""Two escapes that stand for one character."""
_CONTINUATIONS = ("\n", "\r", "\r\n", "\u2028", "\u2029")
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0", **dict.fromkeys(_CONTINUATIONS, "")}
_WORDS = {"true": True, "false": False, "null": None, "Infinity": float("inf"), "NaN": float("nan")}


def loads(text: str) -> Any:
    """Return the value of a JSON5 document. Raises ValueError, with the line, when it is none."""
    reader = _Reader(text)
    value = reader.value(0)
    if reader.kind != "end":
        raise reader.complaint("something follows the value")
    return value


class _Reader:
    """Looks at one token at a time; `value` begins at the present token and leaves the one after the value."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._start = self._at = 0
        self.kind = ""
        self._token = ""
        self._next()

    def complaint(self, what: str) -> ValueError:
        return ValueError(f"line {self._text.count(chr(10), 0, self._start) + 1}: {what}")

    def _next(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        if found is None or found.lastgroup is None:
            self._start = self._at
            raise self.complaint("not JSON5")
        self._start, self._at = found.start(found.lastgroup), found.end()
        self.kind, self._token = found.lastgroup, found[found.lastgroup]

    def _is(self, mark: str) -> bool:
        return self.kind == "mark" and self._token == mark

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise self.complaint("nested too deeply")
        if self._is("{"):
            return self._members(depth)
        if self._is("["):
            return self._elements(depth)
        kind, token = self.kind, self._token
        if (kind == "word" and token not in _WORDS) or kind in ("mark", "end"):
            raise self.complaint("a value is missing")
        self._next()
        if kind == "text":
            return self._unescaped(token)
        return _WORDS[token] if kind == "word" else _number(token)

    def _members(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._next()
        while not self._is("}"):
            if self.kind not in ("text", "word"):
                raise self.complaint("a key is missing")
            key = self._unescaped(self._token) if self.kind == "text" else self._token
            self._next()
            if not self._is(":"):
                raise self.complaint("a colon is missing")
            self._next()
            found[key] = self.value(depth + 1)
            self._comma("}")
        self._next()
        return found

    def _elements(self, depth: int) -> list[Any]:
        found: list[Any] = []
        self._next()
        while not self._is("]"):
            found.append(self.value(depth + 1))
            self._comma("]")
        self._next()
        return found

    def _comma(self, closing: str) -> None:
        if self._is(","):
            self._next()
        elif not self._is(closing):
            raise self.complaint(f"a comma or {closing} is missing")

    def _unescaped(self, token: str) -> str:
        def meant(escape: re.Match[str]) -> str:
            digits = escape[1] or escape[2]
            if digits:
                return chr(int(digits, 16))
            if (escape[3].isdigit() and escape[3] != "0") or escape[3] in "ux":
                raise self.complaint(f"the escape \\{escape[3]} means nothing")
            return _ESCAPED.get(escape[3], escape[3])

        return _PAIR.sub(_joined, _ESCAPE.sub(meant, token[1:-1]))


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


def _number(token: str) -> int | float:
    sign, digits = (-1, token[1:]) if token[0] == "-" else (1, token.lstrip("+"))
    if digits in ("Infinity", "NaN"):
        return sign * float(_WORDS[digits])  # type: ignore[arg-type]
    if digits[:2] in ("0x", "0X"):
        return sign * int(digits, 16)
    return sign * (int(digits) if digits.isdigit() else float(digits))
