"""The crontab of this user, read and replaced through the program `crontab`, with a block of ours among the lines of others.

Every byte outside the block stays as it is. What is in the block is `templates`' business. A crontab that cannot be read is not
an empty one.
"""

import re
from dataclasses import dataclass

from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import children
from mmtools.ops.templates import BEGIN, END

LIMIT_S = 10.0

_NONE = re.compile(rb"no crontab for|can't open '[^']*': No such file", re.IGNORECASE)
_BLOCK = re.compile(rf"^{re.escape(BEGIN)}.*?^{re.escape(END)}[^\n]*(?:\n|\Z)".encode(), re.MULTILINE | re.DOTALL)
_MARKERS = re.compile(rf"^(?:{re.escape(BEGIN)}|{re.escape(END)})".encode(), re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Crontab:
    """A crontab as it was read."""

    content: bytes

    @property
    def block(self) -> bytes | None:
        """Our lines; None when there are none. Raises Refused when the markers do not pair."""
        blocks = _BLOCK.findall(self.content)
        if len(_MARKERS.findall(self.content)) != 2 * len(blocks):
            raise Refused(
                f"the crontab has a line `{BEGIN}` or `{END}` without the other; "
                "repair it with `crontab -e`: nobody else can tell which lines are ours"
            )
        return b"".join(blocks) if blocks else None

    def with_block(self, block: bytes | None) -> bytes:
        """Return the crontab with this block at its end, so that the variables set in it reach no line of others; None: without one."""
        others = _BLOCK.sub(b"", self.content)
        if block is None:
            return others
        if others and not others.endswith(b"\n"):
            others += b"\n"
        return others + block


def read() -> Crontab:
    """Return this user's crontab. Raises Misconfigured without the program, TryLater when it does not say."""
    ended = children.run(["crontab", "-l"], limit_s=LIMIT_S, env={"LC_ALL": "C"})
    if isinstance(ended, children.NotRun):
        if ended.late:
            raise TryLater(f"{ended.why}; what the crontab holds is not known; run again")
        raise Misconfigured(f"{ended.why}; install cron, or use --systemd")
    if ended.code == 0:
        return Crontab(ended.out)
    if _NONE.search(ended.err):
        return Crontab(b"")
    raise TryLater(f"`crontab -l` failed ({ended.last_words or f'exit {ended.code}'}); what the crontab holds is not known; run again")


def write(content: bytes) -> None:
    """Replace the crontab, and see that it holds just that. cron does it at once or not at all."""
    ended = children.run(["crontab", "-"], limit_s=LIMIT_S, env={"LC_ALL": "C"}, stdin=content)
    if isinstance(ended, children.NotRun):
        raise TryLater(f"{ended.why}; whether the crontab was changed is not known; run again")
    if ended.code != 0:
        raise TryLater(f"`crontab -` refused ({ended.last_words or f'exit {ended.code}'}); the crontab is as it was")
    if read().content != content:
        raise TryLater("the crontab holds something else than was just written: another has changed it; run again")
