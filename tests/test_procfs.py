"""What /proc says of a process, read: this one's own figures, and files that are not as they should be."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmtools.ops import procfs

LINE = "77 (a) b) R 5 5 5 0 -1 4194304 1 2 3 4 100 20 7 3 20 0 1 0 4711 1000 55 0\n"


def fake(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "77").mkdir()
    for name, content in files.items():
        (tmp_path / "77" / name).write_text(content)
    return tmp_path


def test_the_fields_are_told_apart_whatever_the_name_holds(tmp_path: Path) -> None:
    said = procfs.stat(77, fake(tmp_path, stat=LINE))
    assert said == procfs.Stat(state="R", parent=5, start_ticks=4711, own_ticks=120, family_ticks=130)


def test_a_child_is_known_by_its_parent_and_its_start(tmp_path: Path) -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        said = procfs.stat(child.pid)
        assert said is not None
        assert (said.parent, said.ended) == (os.getpid(), False)
        assert before - 2 <= said.start_ticks <= time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") + 2
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        ended = procfs.stat(child.pid)
        assert ended is not None
        assert (ended.ended, ended.start_ticks) == (True, said.start_ticks)
    assert procfs.stat(child.pid) is None


@pytest.mark.parametrize("content", ["", "77 (a) S 1", LINE.replace("4711", "soon")])
def test_a_file_that_does_not_say_it_all_says_nothing(tmp_path: Path, content: str) -> None:
    assert procfs.stat(77, fake(tmp_path, stat=content)) is None


def test_groups_are_named_by_their_controllers(tmp_path: Path) -> None:
    lines = "5:memory:/user.slice\n1:name=systemd:/user.slice/a:b.service\n0::/user.slice/c.scope\nodd\n"
    assert procfs.groups(77, fake(tmp_path, cgroup=lines)) == {
        "memory": "/user.slice", "name=systemd": "/user.slice/a:b.service", "": "/user.slice/c.scope",
    }  # fmt: skip
    assert procfs.groups(78, tmp_path) == {}
