"""bin/_launch, _setup.py and test in a made-up project, with a fake python3 and a fake pip: no network, no real packages.

The fake python3 makes a real .venv that finds a fake pip and ensurepip, and is otherwise the real Python. What the fakes do
is said by the files `pip-does` and `ensurepip-does`; venv and pip write a line to `calls`, so that tests count the work.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(__file__).parents[1] / "bin"

FAKE_PYTHON = """#!/bin/sh
case "$*" in
    -Ic*) {reply} ;;
    "-I -m venv --clear "*)
        echo venv >>"{world}/calls"
        {venv}
        "{python}" "$@" || exit
        for packages in "$6"/lib/python*/site-packages; do
            echo "import sys; sys.path.insert(0, '{world}/fakes')" >"$packages/fakes.pth"
        done ;;
    *) exec "{python}" "$@" ;;
esac
"""

FAKE_PIP = """
import os, signal, sys
from pathlib import Path
world = Path({world!r})
with (world / "calls").open("a") as calls:
    print("pip", Path(sys.argv[-1]).name, file=calls)
todo = (world / "pip-does").read_text()
if todo == "die with its parent":
    os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(1)
if todo == "wait":
    (world / "gate").read_text()
elif todo:
    sys.exit("Collecting things\\n" + todo + "\\n\\n")
"""

FAKE_ENSUREPIP = """
import sys
from pathlib import Path
sys.exit(Path({world!r}, "ensurepip-does").read_text() or 0)
"""

COMMAND = """
import json, os, sys
def main():
    print(json.dumps({"pid": os.getpid(), "arguments": sys.argv[1:], "cwd": os.getcwd(), "environment": dict(os.environ)}))
    if not sys.stdin.closed and "--read" in sys.argv:
        print(sys.stdin.read())
if __name__ == "__main__":
    main()
"""


class House:
    """A copy of the launcher in a folder with a space in its name, and the fake world around it."""

    def __init__(self, tmp_path: Path) -> None:
        self.world = tmp_path
        self.root = tmp_path / "a b" / "mmtools"
        self.venv = self.root / ".venv"
        (self.root / "bin").mkdir(parents=True)
        for name in ("_launch", "_setup.py"):
            shutil.copy2(BIN / name, self.root / "bin" / name)
        (self.root / "bin" / "say-it-twice").symlink_to("_launch")
        commands = self.root / "mmtools" / "commands"
        commands.mkdir(parents=True)
        for package in (commands, commands.parent):
            (package / "__init__.py").touch()
        (commands / "say_it_twice.py").write_text(COMMAND)
        self.require("run", "one==1\n")
        self.require("dev", "two==2\n")
        for module, source in {"pip": FAKE_PIP, "ensurepip": FAKE_ENSUREPIP}.items():
            package = tmp_path / "fakes" / module
            package.mkdir(parents=True)
            (package / "__init__.py").touch()
            (package / "__main__.py").write_text(source.format(world=str(tmp_path)))
        os.mkfifo(tmp_path / "gate")
        self.pip_does("")
        self.ensurepip_does("")
        self.fake_python()

    def require(self, kind: str, text: str) -> None:
        path = self.root / "requirements" / f"{kind}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def pip_does(self, what: str) -> None:
        (self.world / "pip-does").write_text(what)

    def ensurepip_does(self, what: str) -> None:
        (self.world / "ensurepip-does").write_text(what)

    def fake_python(self, *, new_enough: bool = True, venv: str = "") -> None:
        path = self.world / "python" / "python3"
        path.parent.mkdir(exist_ok=True)
        reply = f'echo "{path}"' if new_enough else ":"
        path.write_text(FAKE_PYTHON.format(world=self.world, python=sys.executable, reply=reply, venv=venv))
        path.chmod(0o755)

    def calls(self) -> list[str]:
        path = self.world / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def environment(self) -> dict[str, str]:
        """The fake python3 comes first; should a fake be missed, pip has nowhere to go."""
        return {"PATH": f"{self.world / 'python'}:/usr/bin:/bin", "PIP_NO_INDEX": "1"}

    def start(self, *arguments: str, path: Path | None = None, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [path or self.root / "bin" / "say-it-twice", *arguments],
            env=self.environment(),
            cwd=cwd or "/",
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, path=path, cwd=cwd)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def assert_refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """78, nothing on stdout, and a last line on stderr with these parts; the line before it may say that setting up began."""
    assert result.returncode == 78
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) <= 2
    for part in parts:
        assert part in lines[-1]


def test_first_use_sets_up_once_says_so_and_runs_the_command(house: House) -> None:
    first = house.run("--x", "y z")
    assert first.returncode == 0
    assert json.loads(first.stdout)["arguments"] == ["--x", "y z"]
    assert "setting up" in first.stderr
    assert len(first.stderr.splitlines()) == 2
    second = house.run()
    assert (second.returncode, second.stderr) == (0, "")
    assert house.calls() == ["venv", "pip run.txt"]


def test_the_process_that_was_started_becomes_python_with_and_without_setup(house: House) -> None:
    for _ in range(2):
        process = house.start()
        out, _err = process.communicate(timeout=60)
        assert json.loads(out)["pid"] == process.pid


def test_stdin_is_left_for_the_command(house: House) -> None:
    command = [str(house.root / "bin" / "say-it-twice"), "--read"]
    result = subprocess.run(
        command, env=house.environment(), input="for the command", text=True, capture_output=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[-1] == "for the command"


def test_an_empty_environment_is_enough_and_nothing_of_ours_is_added_to_it(house: House) -> None:
    house.run()
    command = [house.root / "bin" / "say-it-twice"]
    result = subprocess.run(command, env={}, cwd="/", text=True, capture_output=True, timeout=60, check=True)
    set_by_the_shell_or_python = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    assert set(json.loads(result.stdout)["environment"]) - set_by_the_shell_or_python == {"PATH"}


def test_links_to_links_are_followed_from_a_folder_with_a_space(house: House) -> None:
    house.run()
    (house.world / "c d").symlink_to("a b")
    (house.world / "any").mkdir()
    (house.world / "any" / "relative").symlink_to("../c d/mmtools/bin/say-it-twice")
    last = house.world / "last link"
    last.symlink_to(house.world / "any" / "relative")
    result = house.run("1", path=last, cwd=house.world / "any")
    assert result.stderr == ""
    said = json.loads(result.stdout)
    assert said["arguments"] == ["1"]
    assert said["cwd"] == str(house.world / "any")


def test_a_link_straight_to_the_launcher_runs_the_command_it_is_named_after(house: House) -> None:
    link = house.world / "say-it-twice"
    link.symlink_to(house.root / "bin" / "_launch")
    assert json.loads(house.run("1", path=link).stdout)["arguments"] == ["1"]


def test_modules_in_the_current_directory_are_not_imported(house: House) -> None:
    trap = house.world / "trap"
    (trap / "mmtools").mkdir(parents=True)
    for name in ("json.py", "mmtools/__init__.py"):
        (trap / name).write_text("raise SystemExit('imported from the current directory')\n")
    for _ in range(2):
        assert house.run(cwd=trap).returncode == 0


def test_a_moved_project_runs_without_a_new_setup(house: House) -> None:
    house.run()
    house.root = house.root.rename(house.world / "elsewhere")
    result = house.run()
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", ["unknown", "Say-it-twice", "say-it-twice.py"])
def test_a_name_that_is_no_command_is_refused_before_anything_is_set_up(house: House, name: str) -> None:
    link = house.root / "bin" / name
    link.symlink_to("_launch")
    for path in (link, house.root / "bin" / "_launch"):
        result = house.run(path=path)
        assert result.returncode == 2
        assert f"{path.name} is not a command" in result.stderr
    assert house.calls() == []


def test_changed_requirements_are_installed_in_place_once(house: House) -> None:
    house.run()
    house.require("run", "one==2\n")
    for _ in range(2):
        assert house.run().returncode == 0
    assert house.calls() == ["venv", "pip run.txt", "pip run.txt"]


def test_requirements_of_the_tests_come_on_top_and_only_when_asked_for(house: House) -> None:
    house.run()
    launcher = house.root / "bin" / "_launch"
    for _ in range(2):
        result = house.run("--setup", "dev", path=launcher)
        assert (result.returncode, result.stdout) == (0, "")
    house.run()
    assert house.calls() == ["venv", "pip run.txt", "pip dev.txt"]


def test_a_python_that_is_gone_is_replaced(house: House) -> None:
    house.run()
    python = house.venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    assert house.run().returncode == 0
    assert house.calls() == ["venv", "pip run.txt"] * 2


def test_a_setup_that_was_killed_is_done_again_from_the_start(house: House) -> None:
    house.pip_does("die with its parent")
    assert house.run().returncode == -signal.SIGKILL
    house.pip_does("")
    assert house.run().returncode == 0
    assert house.calls() == ["venv", "pip run.txt"] * 2


def test_a_change_that_was_killed_is_done_again_from_the_start(house: House) -> None:
    house.run()
    house.require("run", "one==2\n")
    house.pip_does("die with its parent")
    house.run()
    house.require("run", "one==1\n")  # back to what had been installed before the kill
    house.pip_does("")
    assert house.run().returncode == 0
    assert house.calls() == ["venv", "pip run.txt", "pip run.txt", "venv", "pip run.txt"]


def test_of_two_at_once_one_sets_up_and_the_other_waits(house: House) -> None:
    house.pip_does("wait")
    first = house.start()
    assert first.stderr is not None
    assert "setting up" in first.stderr.readline()
    second = house.start()
    assert second.stderr is not None
    assert "waiting for another process" in second.stderr.readline()
    (house.world / "gate").write_text("go")
    for process in (first, second):
        out, _ = process.communicate(timeout=60)
        assert json.loads(out)["pid"] == process.pid
    assert house.calls() == ["venv", "pip run.txt"]


def test_nobody_starts_beside_the_pip_of_a_setup_that_was_killed(house: House) -> None:
    house.pip_does("wait")
    first = house.start()
    assert first.stderr is not None
    first.stderr.readline()
    gate = os.open(house.world / "gate", os.O_WRONLY)  # returns when pip waits at it
    first.kill()
    first.communicate(timeout=60)
    second = house.start()
    assert second.stderr is not None
    assert "waiting for another process" in second.stderr.readline()
    house.pip_does("")
    os.close(gate)
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert house.calls() == ["venv", "pip run.txt"] * 2


def test_no_python_new_enough_is_refused_with_the_cure(house: House) -> None:
    house.fake_python(new_enough=False)
    only_old = {"PATH": str(house.world / "python")}
    command = [house.root / "bin" / "say-it-twice"]
    result = subprocess.run(command, env=only_old, text=True, capture_output=True, timeout=60, check=False)
    assert_refused(result, "no python3 of version 3.11 or newer", "install")
    assert not house.venv.exists()


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("/usr/bin/python3: No module named venv", "apt install python3-venv"),
        ("Error: [Errno 30] Read-only file system: '/x/.venv/bin'", "writable"),
        ("Error: [Errno 28] No space left on device", "free some disk space"),
    ],
)
def test_a_venv_that_cannot_be_made_is_refused_with_the_cure_and_tried_again(house: House, said: str, cure: str) -> None:
    house.fake_python(venv=f'echo "{said}"; exit 1')
    assert_refused(house.run(), said, cure)
    house.fake_python()
    assert house.run().returncode == 0


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("/usr/bin/python3: No module named ensurepip", "apt install python3-venv"),
        ('File "/usr/lib/python3.11/ensurepip/__init__.py"\nOSError: [Errno 28] No space left on device', "free some disk space"),
        ("something unheard of", "remove"),
    ],
)
def test_a_pip_that_cannot_be_had_is_refused_with_the_cure_and_tried_again(house: House, said: str, cure: str) -> None:
    house.ensurepip_does(said)
    assert_refused(house.run(), said.splitlines()[-1], cure)
    house.ensurepip_does("")
    assert house.run().returncode == 0
    assert house.calls() == ["venv", "venv", "pip run.txt"]


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("ERROR: No matching distribution found for one==1", "check the network"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "free some disk space"),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'\nCheck the permissions.", "writable"),
        ("Traceback: pip itself broke", "check the network"),
    ],
)
def test_a_pip_that_fails_is_refused_with_its_error_and_the_cure_and_tried_again(house: House, said: str, cure: str) -> None:
    house.pip_does(said)
    result = house.run()
    assert_refused(result, said.splitlines()[0].removeprefix("ERROR: "), cure, "setup.log")
    assert "Collecting things" in (house.venv / "setup.log").read_text()
    house.pip_does("")
    assert house.run().returncode == 0


def test_a_change_that_cannot_be_installed_leaves_the_old_venv_to_those_who_run_in_it(house: House) -> None:
    house.run()
    house.require("run", "one==2\n")
    house.pip_does("ERROR: No matching distribution found for one==2")
    for _ in range(2):
        assert_refused(house.run(), "No matching distribution")
    assert house.calls().count("venv") == 1
    house.require("run", "one==1\n")
    assert house.run().stderr == ""


def test_something_else_in_the_place_of_the_venv_is_refused(house: House) -> None:
    house.venv.write_text("")
    assert_refused(house.run(), str(house.venv), "remove")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_folder_that_cannot_be_written_is_refused_with_the_cure(house: House) -> None:
    house.root.chmod(0o555)
    try:
        assert_refused(house.run(), "Permission denied", "writable")
    finally:
        house.root.chmod(0o755)


def test_the_launcher_and_the_test_runner_are_executable_files() -> None:
    for name in ("_launch", "test"):
        mode = (BIN / name).lstat().st_mode
        assert stat.S_ISREG(mode)
        assert mode & 0o111 == 0o111


@pytest.fixture
def checks(house: House) -> House:
    """A house that is set up, where .venv/bin/python only notes what it is called with, and fails for what `fails` holds."""
    (house.world / "fails").write_text("nothing")
    shutil.copy2(BIN / "test", house.root / "bin" / "test")
    shutil.copytree(BIN.parent / ".ci", house.root / ".ci")
    (house.venv / "bin").mkdir(parents=True)
    for kind in ("run", "dev"):
        shutil.copy(house.root / "requirements" / f"{kind}.txt", house.venv)
    python = house.venv / "bin" / "python"
    python.write_text(f'#!/bin/sh\necho "$*" >>"{house.world}/calls"\ncase "$3" in "$(cat "{house.world}/fails")") exit 1 ;; esac\n')
    python.chmod(0o755)
    return house


PYTEST = "-P -m pytest -n auto --maxprocesses 4 --dist loadfile"


def test_the_test_runner_runs_every_check_and_hands_the_rest_to_pytest(checks: House) -> None:
    result = checks.run("-k", "x y", path=checks.root / "bin" / "test")
    assert result.returncode == 0
    assert checks.calls() == ["-P -m ruff check .", "-P -m ruff format --check .", "-P -m mypy", f"{PYTEST} -m not slow -k x y"]


def test_continuous_integration_runs_the_slow_tests_too(checks: House) -> None:
    assert checks.run(path=checks.root / ".ci" / "run").returncode == 0
    assert checks.calls()[-1] == f"{PYTEST} -m "


@pytest.mark.parametrize(("fails", "named"), [("ruff", "ruff check, ruff format"), ("mypy", "mypy"), ("pytest", "pytest")])
def test_the_test_runner_fails_with_any_check_and_names_it(checks: House, fails: str, named: str) -> None:
    (checks.world / "fails").write_text(fails)
    result = checks.run(path=checks.root / "bin" / "test")
    assert (result.returncode, len(checks.calls())) == (1, 4)
    assert result.stderr == f"bin/test: failed: {named}\n"
