"""The little that a snapshot keeps of OpenClaw's sessions.json, whatever its size: a few values of each entry. For `gateway_files`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmtools.ops.store import Reading, Unreadable

KEPT = ("sessionId", "updatedAt", "label", "status")


def index(path: Path) -> Iterator[dict[str, Any]]:
    """Yield key, sessionId, updatedAt, label and status of each entry; null where an entry does not say. Raises Unreadable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for member in Reading(fd, "it"):
                if not isinstance(member.value, dict):
                    raise Unreadable(f"the entry {member.key!r} is no object")
                yield {"key": member.key, **{name: _plain(member.value.get(name)) for name in KEPT}}
        finally:
            os.close(fd)
    except OSError as e:
        raise Unreadable(f"it cannot be read ({e.strerror})") from e


def _plain(value: Any) -> str | int | None:
    return value if isinstance(value, str | int) and not isinstance(value, bool) and len(str(value)) <= 1000 else None
