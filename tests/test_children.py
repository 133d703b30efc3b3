"""Programs with a limit: they end, or they are ended with all that they started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import PATIENCE_S

from mmtools.ops import children
from mmtools.ops.children import Ended, NotRun


def test_a_program_that_ends_gives_its_code_and_both_outputs() -> None:
    ended = children.run(
        ["sh", "-c", "cat; echo $WORD; echo trouble >&2; echo 'last words' >&2; exit 3"], limit_s=20, env={"WORD": "b"}, stdin=b"a\n"
    )
    assert ended == Ended(code=3, out=b"a\nb\n", err=b"trouble\nlast words\n")
    assert ended.last_words == "last words"


def test_a_program_that_is_not_there_is_not_run() -> None:
    found = children.run(["no-such-program-of-ours", "--help"], limit_s=5)
    assert isinstance(found, NotRun)
    assert "no-such-program-of-ours cannot be started" in found.why
    assert not found.late


def test_a_late_program_is_ended_with_its_children_even_when_they_do_not_listen(tmp_path: Path) -> None:
    script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > child; exec sleep 60' & echo $$ > parent; wait; sleep 60"
    found = children.run(["sh", "-c", f"cd {tmp_path}; {script}"], limit_s=1.5)
    assert found == NotRun("sh did not end within 1.5 s", late=True)
    for name in ("parent", "child"):
        assert gone(int((tmp_path / name).read_text()))


def gone(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_a_grandchild_that_holds_the_output_open_keeps_nobody_waiting() -> None:
    ended = children.run(["sh", "-c", "sleep 300 & echo $!"], limit_s=PATIENCE_S)
    assert isinstance(ended, Ended)
    os.kill(int(ended.out), signal.SIGKILL)  # it was there all the time


def test_a_flood_ends_the_program() -> None:
    found = children.run(["sh", "-c", "while :; do echo flood flood flood flood; done"], limit_s=PATIENCE_S, most_bytes=10_000)
    assert isinstance(found, NotRun)
    assert "wrote more than 10000 bytes" in found.why


def test_an_interrupt_of_ours_ends_the_program_too(tmp_path: Path) -> None:
    ours = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from mmtools.ops import children; children.run(['sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 60'], limit_s=60)",
        ],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ours.send_signal(signal.SIGINT)
    ours.wait(PATIENCE_S)
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_was_killed_says_by_what(number: signal.Signals) -> None:
    ended = children.run(["sh", "-c", f"kill -{number.value} $$"], limit_s=20)
    assert isinstance(ended, Ended)
    assert ended.code == -number.value


def test_the_program_leads_a_group_of_its_own() -> None:
    ended = children.run([sys.executable, "-c", "import os; print(os.getpgid(0) == os.getpid())"], limit_s=20)
    assert isinstance(ended, Ended)
    assert ended.out == b"True\n"
