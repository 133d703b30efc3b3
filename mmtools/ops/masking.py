"""Command lines without their secrets: what a foreign program was started with may be stored and shown only after this.

Whoever cannot be sure masks too much: a masked word costs a person a look at `ps`, a stored token costs more. No files, no processes.
"""

import re
from collections.abc import Sequence

MASK = "***"
LONGEST = 4096
"""Characters of a word that is shown at all: a longer one is a prompt, a program or a key, of which nobody can be sure."""

# What may stand around a name is bounded, so that the words of a stranger cost no more time than they are long.
_SECRET = r"(?:token|key|secret|pass|pwd|auth|credential|cookie|bearer|webhook|signature|mnemonic|seed-?phrase|private)"
_NAME = re.compile(rf"-{{0,2}}[\w.-]{{0,80}}?{_SECRET}[\w.-]{{0,80}}:?", re.IGNORECASE)
"""A whole word that names a secret: the word behind it is one."""
_ASSIGNED = re.compile(
    rf"""({_SECRET}[\w.-]{{0,80}}["']?)(\s*[=:]\s*|\s+)(["']?)(?:bearer\s+|basic\s+)?(?:(?<=")[^"]*|(?<=')[^']*|[^\s"'&;,}}]+)""",
    re.IGNORECASE,
)
"""A name and its value within one word: NAME=value, "name": "value", Name: Bearer value, --name value of `sh -c`."""
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]{0,40})://([^\s\"'<>]*)", re.IGNORECASE)
_WHOLE = re.compile(rf"(-{{0,2}}[\w.-]{{0,80}}?{_SECRET}[\w.-]{{0,80}}=|-u(?=[^:]*:)|--(?:proxy-)?user=).*", re.IGNORECASE | re.DOTALL)
"""A word that is a name and its value to its end, spaces and all."""
_LOGINS = ("-u", "--user", "--proxy-user")
_KNOWN = re.compile(
    r"\b(?:sk|pk|rk|xox[a-z]|gh[a-z]|glpat|hf|AKIA)[-_]?[A-Za-z0-9_-]{12,}"  # the prefixes under which services hand their tokens out
    r"|\beyJ[\w-]{8,}(?:\.[\w-]*)*"
    r"|\b[0-9]{6,}:[\w-]{20,}"
    r"|\b(?:0x)?[0-9a-f]{64}\b",
    re.IGNORECASE,
)


def masked(argv: Sequence[str]) -> tuple[str, ...]:
    """Return a command line whose secrets are `***`: values of what is named like one, logins, and all of an address but its host."""
    shown: list[str] = []
    names = login = False  # what the word before says of this one
    for word in argv:
        if names and not word.startswith("--"):
            shown.append(MASK)
            names = login = False
            continue
        shown.append(MASK if login and ":" in word else _within(word))
        names, login = _NAME.fullmatch(word) is not None, word in _LOGINS
    return tuple(shown)


def _within(word: str) -> str:
    if len(word) > LONGEST:
        return MASK
    whole = _WHOLE.fullmatch(word)
    if whole is not None:
        return whole[1] + MASK
    word = _ADDRESS.sub(_address, word)
    word = _ASSIGNED.sub(lambda found: f"{found[1]}{found[2]}{found[3]}{MASK}", word)
    return _KNOWN.sub(MASK, word)


def _address(found: re.Match[str]) -> str:
    """Return scheme and host alone: paths of webhooks, queries and logins are secrets, and so are hosts of addresses that are no web's."""
    scheme, rest = found[1], found[2]
    if scheme.lower() not in ("http", "https", "ws", "wss"):
        return f"{scheme}://{MASK}"
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    plain = host.rpartition("@")[2]
    return f"{scheme}://{plain}" + (f"/{MASK}" if len(rest) > len(host) + 1 or plain != host else "")
