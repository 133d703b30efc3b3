"""A real `systemd --user` for tests, in a mount namespace of its own, where this machine can: root, unshare, systemd and writable cgroups.

    with UserManager(tmp_path) as manager:
        manager.add("quiet.service", "[Service]\\nExecStart=/bin/sleep 60\\n")
        manager.run("systemctl", "--user", "start", "quiet.service")

Nothing outside sees its /run. It ends with the `with` block, and by itself after `lives_s`; what its units started ends with their
groups, which are removed. `why_not()` says why it cannot run here; where it does not start for all that, the test is skipped with its
words.
"""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from commandline import PATIENCE_S

START_S = 15.0
"""For the manager, which takes a tenth of a second."""
SYSTEMD = Path("/lib/systemd/systemd")
TREES = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
LOGIN = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
"""What a login adds to the environment, and cron does not."""
SETUP = """
mount -t tmpfs tmpfs /run || exit 9
mkdir -p /run/systemd/system "/run/user/$UID_" && chmod 700 "/run/user/$UID_" || exit 9
for group in $GROUPS_; do echo $$ > "$group/cgroup.procs" || exit 9; done
exec timeout --foreground -k 5 "$LIVES_S" "$SYSTEMD_" --user
"""


def why_not() -> str | None:
    """Return why there can be no user manager here; None when there can."""
    if os.geteuid() != 0:
        return "not root"
    missing = [program for program in ("unshare", "nsenter", "systemctl", "timeout") if shutil.which(program) is None]
    if missing or not SYSTEMD.exists():
        return f"no {', '.join(missing) or SYSTEMD}"
    if not _trees():
        return "no cgroup tree that can be written to"
    argv = ["unshare", "-m", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/run"]
    tried = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    return tried.stderr.strip() if tried.returncode else None


def _trees() -> list[Path]:
    """Return the trees that systemd keeps its units in: its own v1 tree and the v2 one of a hybrid machine, or the one v2 tree."""
    hybrid = [tree for tree in TREES[:2] if os.access(tree / "cgroup.procs", os.W_OK)]
    return hybrid or [tree for tree in TREES[2:] if os.access(tree / "cgroup.procs", os.W_OK)]


class UserManager:
    """The manager; programs run beside it see its bus at the usual place."""

    def __init__(self, folder: Path, *, lives_s: float = 60) -> None:
        self.home = folder / "home"
        self._units = self.home / ".config" / "systemd" / "user"
        self._units.mkdir(parents=True)
        group = f"mmtools-test-{os.getpid()}-{time.monotonic_ns()}"  # of one name in both trees: systemd takes them for one
        self._groups = [tree / group for tree in _trees()]
        self._lives_s = lives_s
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "DBUS_"))},
            "HOME": str(self.home), "UID_": str(os.getuid()), "LIVES_S": str(lives_s), "SYSTEMD_": str(SYSTEMD),
            "GROUPS_": " ".join(map(str, self._groups)),
        }  # fmt: skip

    def __enter__(self) -> Self:
        for group in self._groups:
            group.mkdir()
        with (self.home / "manager.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", "-m", "--propagation", "private", "sh", "-c", SETUP],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**self._environment, **LOGIN}, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while self.run("systemctl", "--user", "is-system-running", env=LOGIN).stdout.strip() not in ("running", "degraded"):
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.__exit__(None, None, None)
                pytest.skip(f"no real user manager here: it did not start: {(self.home / 'manager.log').read_text()[-500:]}")
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        self._process.terminate()  # `timeout` hands it on, and systemd stops its units
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        for group in self._groups:
            for pid in self._pids(group):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait(10)
        deadline = time.monotonic() + 10
        for group in self._groups:
            while group.exists() and time.monotonic() < deadline:
                for place, _, _ in os.walk(group, topdown=False):
                    with suppress(OSError):
                        os.rmdir(place)
                time.sleep(0.01)

    def add(self, name: str, text: str) -> None:
        """Write a unit file; before the manager runs, or with a daemon-reload afterwards."""
        (self._units / name).write_text(text)

    def run(self, *argv: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a program beside the manager, with the bare environment of cron: no XDG_RUNTIME_DIR."""
        assert self._process is not None
        inside = ["nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", *argv]
        return subprocess.run(
            inside, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env={**self._environment, **(env or {})}, cwd="/"
        )  # fmt: skip

    @staticmethod
    def _pids(group: Path) -> list[int]:
        found = []
        for file in group.rglob("cgroup.procs"):
            with suppress(OSError):
                found += [int(word) for word in file.read_text().split()]
        return found
