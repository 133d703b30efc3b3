"""Programs of others, called with a limit: they end, or they are ended, and nobody waits longer.

What a program's answer means is its caller's business; here are processes, bytes and seconds. Used by every room of `ops` that
asks `systemctl`, `openclaw` and their like. The arguments of a program are visible to all users of the machine: no secret may be one.
"""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

MOST_BYTES = 64 * 1024 * 1024
"""Of its output a program may send us; more is no answer to anything we ask."""
PATIENCE_S = 1.0
"""How long a program that is asked to end may take before it is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A program that ran to its end. code: its exit code, or the negative number of the signal that ended it."""

    code: int
    out: bytes
    err: bytes

    @property
    def last_words(self) -> str:
        """The last line it wrote, on stderr rather than on stdout: what programs say when they fail."""
        lines = [line for line in (self.err or self.out).decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


@dataclass(frozen=True, slots=True)
class NotRun:
    """A program that is not there, or that was ended because its time was over: what it did is not known. why: a phrase for people."""

    why: str
    late: bool = False


def run(
    argv: Sequence[str], *, limit_s: float, env: Mapping[str, str] | None = None, stdin: bytes = b"", most_bytes: int = MOST_BYTES
) -> Ended | NotRun:
    """Run a program to its end; after `limit_s` it and all that it started are ended. env: added to ours.

    An interrupt of this process ends the program, too. Output beyond `most_bytes` ends it as well.
    """
    import subprocess
    import tempfile

    # Into files, not pipes: a grandchild that outlives the program and holds the pipe open would keep us waiting.
    # What it is told may be a secret: that file is in memory alone.
    with open(os.memfd_create("stdin"), "w+b") as words, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        words.write(stdin)
        words.seek(0)
        try:
            child = subprocess.Popen(
                list(argv), stdin=words, stdout=out, stderr=err, env={**os.environ, **(env or {})}, start_new_session=True
            )
        except OSError as e:
            return NotRun(f"{argv[0]} cannot be started ({e.strerror})")
        try:
            failure = _wait(child, time.monotonic() + limit_s, (out.fileno(), err.fileno()), most_bytes)
        except BaseException:
            end(child)
            raise
        if failure is not None:
            end(child)
            return NotRun(f"{argv[0]} {failure or f'did not end within {limit_s:g} s'}", late=not failure)
        out.seek(0)
        err.seek(0)
        return Ended(code=child.returncode, out=out.read(), err=err.read())


def _wait(child: "subprocess.Popen[bytes]", deadline: float, outputs: Sequence[int], most_bytes: int) -> str | None:
    """Wait for a child; None when it ended, "" when it is late, else what is wrong with it."""
    import subprocess

    pause = 0.005
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, min(pause, deadline - time.monotonic())))
            return None
        if any(os.fstat(fd).st_size > most_bytes for fd in outputs):
            return f"wrote more than {most_bytes} bytes"
        if time.monotonic() >= deadline:
            return ""
        pause = min(pause * 2, 0.25)


def end(child: "subprocess.Popen[bytes]") -> None:
    """End a child that leads a process group of its own, and its group: asked first, then killed."""
    import subprocess

    for number, patience_s in ((signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, PATIENCE_S)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience_s)
            if number is signal.SIGTERM:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)  # what it started may not have listened
            return
