"""Which release a fake plays, and what era that is. Part of the fakes."""

import re


def release_of(text: str) -> tuple[int, ...]:
    """Return "2026.7.1" or "7.1" as (7, 1)."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", text))
    return numbers[1:] if numbers and numbers[0] > 2000 else numbers


def era_of(release: tuple[int, ...]) -> str:
    if release <= (4, 29):
        return "lock"
    return "queue" if release <= (7, 1) or (7, 33) <= release <= (7, 35) else "sqlite"
