"""The three errors a caller can do something about; `cli.py` maps each to its exit code.

Anything else that escapes a command is a bug (exit 70). Messages are one line: what, why, and what to do.
"""


class TryLater(Exception):
    """Not now: the network, a rate limit, a full disk, a lock held by another run (exit 75)."""


class Refused(Exception):
    """A safety rule says no; a person must look before it is tried again (exit 77)."""


class Misconfigured(Exception):
    """The configuration or the credentials are missing or wrong; a restart will not help (exit 78)."""
