"""What starting a command loads: of a child interpreter that ran it, `sys.modules` is looked at. How long it takes is measured in bench/.

The commands are the links of bin/ and their subcommands; what stands in site-packages is known by its place, so a new command and
a new dependency are covered as they are.
"""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import ROOT, call, config, main_of, quote

from mmtools import cli

SHORT = "feed: synthetic\nduration_hours: 0.05\nrun_id: short\n"
CHILD = """
import atexit, gc, json, runpy, sys

@atexit.register
def tell():
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    with open(told, "w") as out:
        json.dump({"files": files, "frozen": gc.get_freeze_count()}, out)

told, module = sys.argv[1:3]
sys.argv[:] = [module, *sys.argv[3:]]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
BEFORE_MAIN = {"_distutils_hack"}
"""What a .pth file of the environment loads into every interpreter."""
HEAVY = {
    "asyncio", "concurrent", "ctypes", "email", "http", "importlib.metadata", "logging", "multiprocessing", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "urllib.request", "xml", "zipfile",
}  # fmt: skip
"""Of the standard library: what takes milliseconds, and has no business in a command that reads a few files."""
FILES = {"decimal", "hashlib", "json", "pathlib", "random", "shutil"}
"""Of it too: what comes with state files and JSON, and help needs neither."""
WHAT_TRADES = {
    "mmtools.config", "mmtools.yamlfile", "mmtools.lab", "mmtools.venues", "mmtools.runs.engine", "mmtools.runs.session",
    "mmtools.runs.records", "mmtools.trading.desk", "mmtools.trading.events", "mmtools.trading.maker", "mmtools.trading.paper",
}  # fmt: skip
"""What a run needs to move, and a fold of its journal does not."""


def linked() -> list[str]:
    return sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_symlink())


def words(command: cli.Command, *before: str) -> Iterator[tuple[str, ...]]:
    """Yield the words that call a command, and those of each of its subcommands."""
    yield before
    for word, subcommand in command.subcommands.items():
        yield from words(subcommand, *before, word)


def module_of(name: str) -> str:
    return name.replace("-", "_")


CALLS = [" ".join(call) for name in linked() for call in words(main_of(module_of(name)), name)]


class Loaded:
    """What a child had loaded when it ended."""

    def __init__(self, said: "subprocess.CompletedProcess[str]", told: Path) -> None:
        self.code, self.out = said.returncode, said.stdout
        document = json.loads(told.read_text())
        self.frozen: int = document["frozen"]
        self._files: dict[str, str | None] = document["files"]

    def ours(self) -> set[str]:
        return {name for name in self._files if name.split(".")[0] == "mmtools"}

    def of_others(self) -> set[str]:
        """Return the packages of site-packages."""
        place = sysconfig.get_path("purelib")
        found = {name.split(".")[0] for name, file in self._files.items() if file is not None and file.startswith(place)}
        return found - BEFORE_MAIN

    def among(self, names: set[str]) -> set[str]:
        """Return which of the names are loaded, as themselves or by a part of them."""
        return {name for name in names if any(loaded == name or loaded.startswith(name + ".") for loaded in self._files)}


def loaded_by(line: str, tmp_path: Path, state: Path | None = None) -> Loaded:
    """Run a command in a child, as `_launch` does; without a state folder in an empty one."""
    name, *args = line.split()
    told = tmp_path / "told.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MMTOOLS_STATE": str(state or tmp_path / "empty")}
    argv = [sys.executable, "-P", "-c", CHILD, str(told), f"mmtools.commands.{module_of(name)}", *args]
    return Loaded(subprocess.run(argv, capture_output=True, text=True, check=False, env=environment), told)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a finished run, whose switch was latched and cleared."""
    folder = tmp_path_factory.mktemp("cold")
    state = quote(folder / "state", "--config", config(folder / "run.yaml", SHORT)).state
    for change in ((), ("--clear",)):
        assert call("halt", "--run", "short", "--why", "looked", *change, "--state", state).code == 0
    return state


@pytest.mark.parametrize("line", CALLS)
@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("--no-such-option", 2)])
def test_help_and_a_wrong_option_load_click_and_no_other_command(line: str, option: str, code: int, tmp_path: Path) -> None:
    loaded = loaded_by(f"{line} {option}", tmp_path)
    assert loaded.code == code
    assert loaded.ours() == {"mmtools", "mmtools.cli", "mmtools.commands", "mmtools.errors"}
    assert loaded.of_others() == {"click"}
    assert not loaded.among(HEAVY | FILES - {"json"})


@pytest.mark.parametrize("line", ["report --list", "report --list --json", "halt", "halt --json"])
def test_where_no_run_is_nothing_of_trading_is_loaded(line: str, tmp_path: Path) -> None:
    loaded = loaded_by(line, tmp_path)
    assert loaded.code == 0
    assert {"mmtools.state", "mmtools.runs.reading"} <= loaded.ours()
    assert not loaded.among(WHAT_TRADES | {"mmtools.trading", "mmtools.runs.fold"})
    assert loaded.of_others() <= {"click", "msgspec", "typing_extensions"}  # the last for msgspec, where it is installed
    assert not loaded.among(HEAVY)


def test_showing_the_switches_of_runs_folds_none_of_them(filled: Path, tmp_path: Path) -> None:
    loaded = loaded_by("halt", tmp_path, filled)
    assert (loaded.code, loaded.out) == (0, "no run is latched\n")
    assert not loaded.among(WHAT_TRADES | HEAVY | {"mmtools.trading", "mmtools.runs.fold"})
    assert loaded.of_others() <= {"click", "msgspec", "typing_extensions"}


@pytest.mark.parametrize(
    "line", ["report --list", "report --list --json", "report", "report short --json", "report explain short --order o17 --json"]
)
def test_reading_a_run_loads_nothing_that_moves_one(line: str, filled: Path, tmp_path: Path) -> None:
    loaded = loaded_by(line, tmp_path, filled)
    assert loaded.code == 0
    assert "short" in loaded.out
    assert not loaded.among(WHAT_TRADES | HEAVY)
    assert loaded.of_others() <= {"click", "msgspec", "typing_extensions"}


def test_an_explanation_reads_the_config_for_its_sentences_alone(filled: Path, tmp_path: Path) -> None:
    loaded = loaded_by("report explain short --order o17", tmp_path, filled)
    assert loaded.code == 0
    assert loaded.among({"mmtools.config", "yaml"}) == {"mmtools.config", "yaml"}
    assert not loaded.among(HEAVY | WHAT_TRADES - {"mmtools.config", "mmtools.yamlfile"})


@pytest.mark.parametrize("line", ["report --help", "report --list", "report none"])
def test_nobody_looks_for_garbage_when_a_command_has_ended(line: str, tmp_path: Path) -> None:
    assert loaded_by(line, tmp_path).frozen > 1000
