"""Commands as a user meets them: called in this process through `cli.run`, or started as a process of their own. No checks in here.

Shared by the tests of the commands; a run that several of them look at is made once.
"""

import importlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mmtools import cli

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "quote_run",
    "replay",
    "report",
    "halt",
    "prune_sessions",
    "snapshot",
    "recover",
    "safe_restart",
    "status_update",
    "mmtools_install",
)
PATIENCE_S = 60
"""For what takes a moment: only a hang lasts so long."""

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Record:
        """The one JSON document on stdout; raises when there is anything else."""
        document: Record = json.loads(self.out)
        return document


@dataclass(frozen=True, slots=True)
class Run:
    """A finished quote-run with --json."""

    state: Path
    document: Record

    @property
    def id(self) -> str:
        return str(self.document["run_id"])

    @property
    def folder(self) -> Path:
        return self.state / "runs" / self.id

    def journal(self) -> list[Record]:
        return records(self.folder / "journal.jsonl")


def main_of(command: str) -> cli.Command:
    main = importlib.import_module(f"mmtools.commands.{command}").main
    assert isinstance(main, cli.Command)
    return main


def call(command: str, *args: str | Path) -> Said:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.run(main_of(command), [str(arg) for arg in args])
    return Said(code, out.getvalue(), err.getvalue())


def quote(state: Path, *args: str | Path) -> Run:
    """Run quote-run to an orderly end."""
    said = call("quote_run", "--json", "--state", state, *args)
    assert said.code == 0, said.err
    return Run(state, said.document)


_quoted: dict[tuple[str, ...], Run] = {}


def quote_once(temporary: pytest.TempPathFactory, *args: str | Path) -> Run:
    """As `quote`, in a state folder of its own; asked for again it is the same run: only look at it."""
    key = tuple(map(str, args))
    if key not in _quoted:
        _quoted[key] = quote(temporary.mktemp("state"), *args)
    return _quoted[key]


def start(state: Path, *args: str | Path) -> "subprocess.Popen[str]":
    """Start quote-run as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mmtools.commands.quote_run", "--state", str(state), *map(str, args)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end(process: "subprocess.Popen[str]") -> Said:
    """Wait for a process to end."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return Said(process.returncode, out, err)


def wait_until(reached: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait for something that a process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        if process.poll() is not None:
            raise AssertionError(f"it ended before that, with {process.returncode}: {process.communicate()[1]}")
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"nothing of the kind within {PATIENCE_S} s: {process.communicate()[1]}")
        time.sleep(0.005)


def wait_for_journal(folder: Path, process: "subprocess.Popen[str]", *, size: int = 50_000) -> None:
    """Wait until a run has written so many bytes of its journal: then it quotes."""
    journal = folder / "journal.jsonl"
    wait_until(lambda: journal.exists() and journal.stat().st_size >= size, process)


def records(path: Path) -> list[Record]:
    """Return the whole lines of a file of records."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def config(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def open_orders(journal: list[Record]) -> set[str]:
    """Return the keys of orders that were sent and not said to be gone."""
    sent: set[str] = set()
    for record in journal:
        if record["kind"] == "place":
            sent.add(record["key"])
        elif record["kind"] in ("gone", "rejected"):
            sent.remove(record["key"])
    return sent
