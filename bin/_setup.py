"""Makes or renews `.venv` beside bin/, one process at a time, then becomes the command that needed it. Called by `_launch` alone.

    _setup.py PYTHON run|dev [ARGUMENTS OF .venv/bin/python ...]

Runs before anything is installed: standard library only, nothing of mmtools. `.venv/run.txt` and `.venv/dev.txt` are copies
of what stood in requirements/ when all of it had been installed. They are written last, and a .venv without the first is
made anew, so a setup that was killed is never taken for done. Every failure exits 78 with one line.
"""

import errno
import fcntl
import os
import shlex
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "setup.log"

PIP = ("-I", "-m", "pip", "install", "--no-input", "--progress-bar=off", "--disable-pip-version-check")
PIP_OPTIONS = {
    "run": (),
    # Complete pins. Forced, because a kill can leave a tool that pip takes for installed; the run's packages stay untouched.
    "dev": ("--no-deps", "--force-reinstall"),
}

FREE_SPACE = "free some disk space and run again"
MAKE_WRITABLE = f"make {ROOT} writable for this user (and not read-only), or use a copy that is"
INSTALL_VENV = "install the venv module of this Python (apt install python3-venv) and run again"
CURES = (
    ("No space left on device", FREE_SPACE),
    ("Disk quota exceeded", FREE_SPACE),
    ("Permission denied", MAKE_WRITABLE),
    ("Read-only file system", MAKE_WRITABLE),
    ("No module named ensurepip", INSTALL_VENV),
    ("No module named venv", INSTALL_VENV),
)
"""What the output of a failed program holds, and what to do about it; the first that fits counts."""
REMOVE = f"remove {VENV} and run again"
REACH_INDEX = "check the network and pip's settings (pip config list) and run again"
OS_CURES = {
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EACCES: MAKE_WRITABLE,
    errno.EPERM: MAKE_WRITABLE,
    errno.EROFS: MAKE_WRITABLE,
}


class Failed(Exception):
    """Setting up cannot go on: one line, what failed and the cure."""


def main(python: str, kind: str, *command: str) -> int:
    try:
        with only_one() as lock:
            kinds = ["run"] if kind == "run" else ["run", "dev"]
            missing = [wanted for wanted in kinds if not is_done(wanted)]
            if missing or not os.access(PYTHON, os.X_OK):
                set_up(python, kinds, missing, lock)
    except Failed as e:
        say(f"setup failed: {e}")
        return 78
    except OSError as e:
        say(f"setup failed: {e.filename or VENV}: {e.strerror}; {OS_CURES.get(e.errno or 0, REMOVE)}")
        return 78
    except KeyboardInterrupt:
        say("setup interrupted; the next call starts it again")
        return 130
    if command:
        os.execv(PYTHON, [str(PYTHON), *command])
    return 0


@contextmanager
def only_one() -> Iterator[int]:
    """Hold the kernel's lock on the project's folder; whoever comes second waits, says so, and then finds the work done."""
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that is setting up .venv")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def is_done(kind: str) -> bool:
    try:
        return stamp(kind).read_bytes() == requirements(kind).read_bytes()
    except FileNotFoundError:
        return False


def set_up(python: str, kinds: list[str], missing: list[str], lock: int) -> None:
    say(f"setting up {VENV} ({' and '.join(missing or kinds)} requirements); this takes about half a minute, once")
    start = time.monotonic()
    if not stamp("run").exists() or not os.access(PYTHON, os.X_OK):
        make_venv(python, lock)
        missing = kinds
    for kind in missing:
        install(kind, lock)
    say(f".venv is ready after {time.monotonic() - start:.0f} s")


def make_venv(python: str, lock: int) -> None:
    VENV.mkdir(exist_ok=True)
    for kind in PIP_OPTIONS:
        stamp(kind).unlink(missing_ok=True)  # first: --clear can be killed half-way too
    # Two steps, because venv keeps to itself what ensurepip says when it fails: no such module, or the disk is full.
    run(f"making {VENV}", [python, "-I", "-m", "venv", "--clear", "--without-pip", str(VENV)], lock, REMOVE)
    run(f"putting pip into {VENV}", [str(PYTHON), "-I", "-m", "ensurepip", "--default-pip"], lock, REMOVE)
    # A .pth file makes mmtools importable from any directory. PYTHONPATH would reach every program that a command starts, and
    # `pip install -e` needs a build backend from the index. Its path is relative: the project can be moved with its .venv.
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(VENV)}))
    (packages / "mmtools.pth").write_text(os.path.relpath(ROOT, packages) + "\n")


def install(kind: str, lock: int) -> None:
    wanted = requirements(kind).read_bytes()
    before = stamp(kind).read_bytes() if stamp(kind).exists() else None
    stamp(kind).unlink(missing_ok=True)
    try:
        run(
            f"pip install -r {requirements(kind)}",
            [str(PYTHON), *PIP, *PIP_OPTIONS[kind], "-r", str(requirements(kind))],
            lock,
            REACH_INDEX,
        )
    except Failed:
        # pip gave up by itself and left what was there. Without its old stamp, the next try would clear a .venv that
        # processes which are still running import from.
        if before is not None:
            stamp(kind).write_bytes(before)
        raise
    os.sync()  # a power cut must not leave the stamp without the packages
    new = stamp(kind).with_suffix(".new")
    new.write_bytes(wanted)
    new.replace(stamp(kind))


def run(what: str, command: list[str], lock: int, cure: str) -> None:
    """Run a program quietly. When we are killed it goes on with our lock, so that nobody starts beside it.

    Raises Failed with its last error; the whole output goes to setup.log.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(lock,),
        env={**os.environ, "PIP_USER": "0"},  # a user's `user = true` is an error inside a .venv
        check=False,
    )
    if done.returncode == 0:
        return
    with suppress(OSError):
        LOG.write_text(f"$ {shlex.join(command)}\n{done.stdout}")
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
    errors = [line for line in lines if line.startswith("ERROR:")]
    cure = next((known for sign, known in CURES if sign in done.stdout), cure)
    raise Failed(f"{what}: {(errors or lines)[-1].removeprefix('ERROR: ')}; {cure}" + (f"; log: {LOG}" if LOG.exists() else ""))


def requirements(kind: str) -> Path:
    return ROOT / "requirements" / f"{kind}.txt"


def stamp(kind: str) -> Path:
    return VENV / f"{kind}.txt"


def say(message: str) -> None:
    with suppress(OSError):  # a closed stderr is no reason to fail
        print(f"mmtools: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
