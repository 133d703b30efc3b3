"""A faulty world for tests: a function runs in a forked child whose n-th change to the disk is a kill or an error.

Counted are the calls below, made as attributes of `os` on files and folders (not on pipes, sockets, stdout or stderr). Code
under test is not changed for it. Nothing here knows what is being tested.

    for outcome in every_fault("kill-half", lambda: append_three(state)):
        assert outcome.signal == (signal.SIGKILL if outcome.reached else None)
        ...  # what a kill at that instant left behind; put things back for the next n
"""

import errno
import io
import itertools
import os
import signal
import stat
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal, NoReturn

Kind = Literal["kill-before", "kill-after", "kill-half", "enospc", "enospc-half", "eio"]
"""What the n-th call does.

kill-before, kill-after: SIGKILL before or after the call. kill-half: a write writes half its bytes, then SIGKILL; any other
call as kill-before. enospc: the call fails, and every write after it. enospc-half: a write writes half its bytes and says so,
any other call fails; every write after it fails. eio: the call fails, once.
"""
KILLS: tuple[Kind, ...] = ("kill-before", "kill-after", "kill-half")
ERRORS: tuple[Kind, ...] = ("enospc", "enospc-half", "eio")

COUNTED = ("write", "fsync", "replace", "rename", "ftruncate", "unlink")
TREES = ("link", "mkdir", "rmdir")
"""What changes folders besides; counted for who asks with `also`."""
LIMIT = 10_000
"""More calls than any test means to make: a loop that never ends is a failure, not a hang."""
CHILD_SECONDS = 120
"""After this long SIGALRM ends the child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run with a fault ended. Exactly one of `status` and `signal` is None."""

    n: int
    kind: Kind
    status: int | None
    signal: int | None
    at: str | None
    """The call that was hit, "fsync(5)"; None when the run made fewer than n calls."""
    stdout: str
    stderr: str

    @property
    def reached(self) -> bool:
        return self.at is not None


def run_with_fault(n: int, kind: Kind, fn: Callable[[], int], *, also: tuple[str, ...] = ()) -> Outcome:
    """Run `fn` in a forked child whose n-th counted call (from 1) does what `kind` says. also: names that count beside COUNTED.

    The status is what `fn` returns or exits with; 70 after an uncaught exception, whose traceback is in `stderr`.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as hit:
        pid = os.fork()
        if pid == 0:
            _child(n, kind, fn, (out, err, hit), also)
        _, ended = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(ended)
        return Outcome(
            n=n,
            kind=kind,
            status=None if killed else os.WEXITSTATUS(ended),
            signal=os.WTERMSIG(ended) if killed else None,
            at=_text(hit) or None,
            stdout=_text(out),
            stderr=_text(err),
        )


def every_fault(kind: Kind, fn: Callable[[], int], *, also: tuple[str, ...] = ()) -> Iterator[Outcome]:
    """Run `fn` with the fault at the first counted call, the second, ..., up to and including the first run that passes untouched.

    That last outcome has `reached` False. The runs share what is on the disk: either `fn` begins by putting it in order,
    or the caller does so before it asks for the next outcome.
    """
    for n in range(1, LIMIT):
        outcome = run_with_fault(n, kind, fn, also=also)
        yield outcome
        if not outcome.reached:
            return
    raise AssertionError(f"{LIMIT} runs and none passed untouched")


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _child(n: int, kind: Kind, fn: Callable[[], int], files: tuple[IO[bytes], IO[bytes], IO[bytes]], also: tuple[str, ...]) -> NoReturn:
    out, err, hit = files
    status = 70
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_SECONDS)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        # pytest has put its own objects here; unbuffered below, so that what was printed before a kill is seen
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", write_through=True)
        _spoil(n, kind, hit.fileno(), (*COUNTED, *also))
        status = fn()
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _spoil(n: int, kind: Kind, hit: int, counted: tuple[str, ...]) -> None:
    """Put the fault under `os`, in this process for good; the call that is hit is written to the descriptor `hit`."""
    real_write = os.write
    counter = itertools.count(1)
    full = False

    def faulty(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal full
            if not _counts(args[0]):
                return real(*args, **kwargs)
            if full and name == "write":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if next(counter) != n:
                return real(*args, **kwargs)
            real_write(hit, f"{name}({args[0]})".encode())
            full = kind in ("enospc", "enospc-half")
            half = name == "write" and kind in ("kill-half", "enospc-half")
            result = real(args[0], bytes(args[1])[: len(args[1]) // 2]) if half else None
            if kind == "kill-after":
                real(*args, **kwargs)
            if kind in KILLS:
                os.kill(os.getpid(), signal.SIGKILL)
            if half:
                return result
            number = errno.EIO if kind == "eio" else errno.ENOSPC
            raise OSError(number, os.strerror(number))

        return call

    for name in counted:
        setattr(os, name, faulty(name, getattr(os, name)))


def _counts(target: object) -> bool:
    """Whether a call on this path or descriptor changes a file or folder that tests care about."""
    if not isinstance(target, int):
        return True
    mode = os.fstat(target).st_mode
    return target not in (1, 2) and (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
