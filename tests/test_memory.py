"""Memory and processor time of units: of cgroup trees built in a folder, and of real processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from commandline import PATIENCE_S

from mmtools.ops import cgroups, memory
from mmtools.ops.memory import Source, Use, Watermark
from mmtools.ops.systemd import Manager, NotKnown, Unit

GROUP = "/user.slice/user-1000.slice/app.slice/gateway.service"
EATS = """
import subprocess, sys, time
kept = bytearray(30_000_000)
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; kept = bytearray(50_000_000); print(1, flush=True); time.sleep(30)"])
time.sleep(30)
"""


def unit(*, control_group: str = GROUP, main_pid: int | None = None, memory_high: int | None = None, memory_max: int | None = None) -> Unit:
    return Unit(
        name="gateway.service", manager=Manager.USER, load_state="loaded", active_state="active", sub_state="running",
        unit_file_state="enabled", result="success", main_pid=main_pid, exec_main_status=0, n_restarts=0, invocation_id="f0",
        active_since="", started_monotonic_us=1, timeout_start_s=90.0, timeout_stop_s=90.0, control_group=control_group,
        kill_mode="control-group",
        memory_high=memory_high, memory_max=memory_max, job=None,
    )  # fmt: skip


def tree(root: Path, files: Mapping[str, str]) -> Path:
    """Build a v2 tree: the files by their path below it."""
    for name, text in {"cgroup.controllers": "memory", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def below(group: str, name: str) -> str:
    return f"{group.lstrip('/')}/{name}"


PARENT = GROUP.rpartition("/")[0]
FILES = {
    below(GROUP, "memory.current"): "900000000",
    below(GROUP, "memory.stat"): "anon 500000000\nfile 390000000\ninactive_file 300000000\nactive_file 90000000",
    below(GROUP, "memory.high"): "max",
    below(GROUP, "memory.max"): "2000000000",
}


@pytest.mark.parametrize("place", ["", "unified"], ids=["v2", "hybrid"])
def test_page_cache_that_costs_nothing_is_not_counted(tmp_path: Path, place: str) -> None:
    tree(tmp_path / place, FILES)
    assert memory.use(unit(), root=tmp_path) == Use(600_000_000, Source.CGROUP)


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({}, Watermark(2_000_000_000, "memory.max of gateway.service")),
        ({below(PARENT, "memory.max"): "1500000000"}, Watermark(1_500_000_000, "memory.max of app.slice")),
        ({below(PARENT, "memory.high"): "1800000000"}, Watermark(1_800_000_000, "memory.high of app.slice")),
        (
            {below(PARENT, "memory.high"): "1800000000", below(GROUP, "memory.high"): "1900000000"},
            Watermark(1_800_000_000, "memory.high of app.slice"),
        ),
        (
            {below(PARENT, "memory.high"): "1900000000", below(GROUP, "memory.high"): "1800000000"},
            Watermark(1_800_000_000, "memory.high of gateway.service"),
        ),
        ({below(PARENT, "memory.high"): "12000000000"}, Watermark(2_000_000_000, "memory.max of gateway.service")),
        ({below(GROUP, "memory.high"): "0"}, Watermark(2_000_000_000, "memory.max of gateway.service")),
    ],
    ids=["its own max", "a smaller max above", "a high above", "smaller above", "smaller below", "a slice's high above its max", "zero"],
)
def test_the_watermark_is_the_smallest_limit_on_the_way_up(tmp_path: Path, limits: dict[str, str], found: Watermark) -> None:
    assert memory.watermark(unit(), 100, root=tree(tmp_path, {**FILES, **limits})) == found


def test_without_a_limit_of_the_kernel_that_of_the_unit_counts_then_the_settings_then_nobody_knows(tmp_path: Path) -> None:
    root = tree(tmp_path, {below(GROUP, "memory.max"): "max", below(GROUP, "cgroup.procs"): ""})
    limited = unit(memory_high=700_000_000, memory_max=600_000_000)
    assert memory.watermark(limited, 100, root=root) == Watermark(700_000_000, "MemoryHigh= of gateway.service")
    assert memory.watermark(unit(memory_max=600_000_000), 100, root=root) == Watermark(600_000_000, "MemoryMax= of gateway.service")
    assert memory.watermark(unit(), 512.5, root=root) == Watermark(512_500_000, "memory.watermark_mb")
    unknown = memory.watermark(unit(), None, root=root)
    assert isinstance(unknown, NotKnown)
    assert "watermark_mb" in unknown.why


@pytest.fixture
def eater() -> Iterator["subprocess.Popen[str]"]:
    """A process of 30 MB with a child of 50 MB."""
    process = subprocess.Popen([sys.executable, "-S", "-c", EATS], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    yield process
    os.killpg(process.pid, 9)
    process.communicate()


@pytest.mark.parametrize("has_tree", [True, False], ids=["no memory files", "no cgroup v2"])
def test_resident_memory_of_the_whole_family_is_counted_where_the_kernel_has_no_figure(
    tmp_path: Path, eater: "subprocess.Popen[str]", has_tree: bool
) -> None:
    if has_tree:
        tree(tmp_path, {below(GROUP, "cgroup.procs"): ""})
    used = memory.use(unit(main_pid=eater.pid), root=tmp_path)
    assert isinstance(used, Use)
    assert used.source is Source.RESIDENT
    assert 80_000_000 < used.size < 200_000_000


def test_the_processes_of_a_group_are_those_in_it_and_below(tmp_path: Path) -> None:
    root = tree(tmp_path, {below(GROUP, "cgroup.procs"): "11\n12", below(GROUP, "inner/cgroup.procs"): "13"})
    assert cgroups.pids(unit(main_pid=os.getpid()), root) == {11, 12, 13}


def test_a_unit_that_does_not_run_is_not_one_that_uses_nothing(tmp_path: Path) -> None:
    for root in (tmp_path, tree(tmp_path / "v2", FILES)):
        assert isinstance(memory.use(unit(control_group=""), root=root), NotKnown)
        assert isinstance(cgroups.cpu_s(unit(control_group=""), root), NotKnown)
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    assert isinstance(memory.use(unit(main_pid=process.pid), root=tmp_path), NotKnown)


def test_a_group_outside_of_the_tree_is_never_read(tmp_path: Path) -> None:
    tree(tmp_path / "v2", {})
    (tmp_path / "memory.current").write_text("1\n")
    (tmp_path / "memory.stat").write_text("inactive_file 0\n")
    assert isinstance(memory.use(unit(control_group="/.."), root=tmp_path / "v2"), NotKnown)


def test_processor_time_is_that_of_the_group_else_of_its_processes(tmp_path: Path) -> None:
    root = tree(tmp_path, {below(GROUP, "cpu.stat"): "usage_usec 2500000\nuser_usec 2000000"})
    assert cgroups.cpu_s(unit(), root) == 2.5
    process = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        deadline = time.monotonic() + PATIENCE_S
        while (used := cgroups.cpu_s(unit(main_pid=process.pid), tmp_path / "none")) == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert isinstance(used, float)
        assert used > 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("lines", "group"),
    [
        ("0::/user.slice/a.service", "/user.slice/a.service"),
        ("9:name=systemd:/user.slice/b.service\n4:memory:/other\n0::/", "/user.slice/b.service"),
        ("4:memory:/other\n0::/", ""),
        ("0::/with:colon/c.service", "/with:colon/c.service"),
    ],
)
def test_the_own_group_is_found_on_pure_and_hybrid_machines(tmp_path: Path, lines: str, group: str) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(lines + "\n")
    assert cgroups.own_group(tmp_path) == group


def test_ancestors_are_all_that_a_process_comes_from() -> None:
    found = cgroups.ancestors(os.getpid())
    assert os.getppid() in found
    assert os.getpid() not in found
    assert 1 in found
