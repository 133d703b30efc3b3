"""The shared command line: a command with one way to end for each exit code, run in this process and as a program of its own."""

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtools import cli
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.units import Usdc

ODD_JOB = '''
import errno, os, signal, sys, click
from mmtools import cli
from mmtools.errors import Misconfigured, Refused, TryLater

ENDS = {
    "later": TryLater("the venue does not answer; run again in a minute"),
    "refused": Refused("kill.json is latched since 2026-01-01; look, then clear it with halt --clear --why"),
    "config": Misconfigured("paper.yaml:3: gama_risk_aversion is unknown; did you mean gamma_risk_aversion?"),
    "usage": click.UsageError("--market needs --recording"),
    "full": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "journal.jsonl"),
    "quota": OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    "pipe": BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)),
    "bug": ZeroDivisionError("spread of nothing"),
}

@cli.command(example="odd-job done --count 3\\nodd-job bug --json | jq .error", exits=(0, 1, 2, 70, 75))
@click.argument("end")
@click.option("--count", type=int, default=1, help="How many lines to print.")
def main(end, count):
    """Ends in a chosen way."""
    if end in ENDS:
        raise ENDS[end]
    if end == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    if end == "nan":
        return cli.Report(document={"schema": "odd/1", "pnl": float("nan")}, text="")
    if end == "nothing":
        return None
    with cli.progress("odd-job") as bar:
        bar.update(0.5, "half")
        cli.say("working")
    return cli.Report(document={"schema": "odd/1", "id": "7" * 77}, text="a line\\n" * count, exit_code=1 if end == "found" else 0)

if __name__ == "__main__":
    main()
'''

EXIT_OF = {
    "done": 0,
    "found": 1,
    "usage": 2,
    "bug": 70,
    "nan": 70,
    "later": 75,
    "full": 75,
    "quota": 75,
    "pipe": 75,
    "refused": 77,
    "config": 78,
    "interrupt": 130,
}
FAILURES = [end for end in EXIT_OF if end not in ("done", "found", "nan")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("commands") / "odd_job.py"
    path.write_text(ODD_JOB)
    return path


@pytest.fixture(scope="module")
def odd_job(program: Path) -> cli.Command:
    names: dict[str, Any] = {"__name__": "odd_job"}
    exec(compile(ODD_JOB, str(program), "exec"), names)
    main = names["main"]
    assert isinstance(main, cli.Command)
    return main


def start(program: Path, *args: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1]), **settings.pop("env", {})}
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
    return subprocess.run([sys.executable, str(program), *args], text=True, env=environment, timeout=60, **piped)


def ending(how: Callable[[], cli.Report | None]) -> cli.Command:
    """A command of this file that does `how`."""

    @cli.command(example="test-cli")
    def main() -> cli.Report | None:
        return how()

    return main


@pytest.mark.parametrize(("end", "code"), EXIT_OF.items())
def test_each_way_to_end_has_its_exit_code(odd_job: cli.Command, end: str, code: int) -> None:
    args = [end, "--json"] if end == "nan" else [end]
    assert cli.run(odd_job, args) == code


@pytest.mark.parametrize("end", FAILURES)
def test_a_failure_says_one_line_on_stderr_and_nothing_on_stdout(
    odd_job: cli.Command, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(odd_job, [end])
    out, err = capsys.readouterr()
    assert out == ""
    talk = [line for line in err.splitlines() if line != "see odd-job --help"]
    assert talk[-1].startswith("odd-job: ")
    if end != "bug":
        assert len(talk) == 1
        assert "Traceback" not in err


@pytest.mark.parametrize("end", FAILURES)
def test_a_failure_with_json_prints_exactly_one_document(odd_job: cli.Command, end: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.run(odd_job, ["--json", end])
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert out.count("\n") == 1
    assert document["schema"] == "mmtools.error/1"
    assert document["exit_code"] == code == EXIT_OF[end]
    assert f"odd-job: {document['error']['message']}" in err.splitlines()


def test_failures_of_different_kinds_are_told_apart(odd_job: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {}
    for end in FAILURES:
        cli.run(odd_job, ["--json", end])
        kinds[end] = json.loads(capsys.readouterr().out)["error"]["kind"]
    assert kinds == {
        "usage": "usage",
        "bug": "bug",
        "later": "try_later",
        "full": "disk_full",
        "quota": "disk_full",
        "pipe": "broken_pipe",
        "refused": "refused",
        "config": "misconfigured",
        "interrupt": "interrupted",
    }


def test_a_bug_shows_its_traceback_on_stderr(odd_job: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(odd_job, ["bug"]) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "odd-job: this is a bug: ZeroDivisionError: spread of nothing"


def test_a_full_disk_names_the_file(odd_job: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(odd_job, ["full"])
    assert capsys.readouterr().err == "odd-job: No space left on device: journal.jsonl; make room and run again\n"


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["done", "--cuont", "3"], "--cuont"),
        (["done", "--count", "three"], "three"),
        (["done", "extra"], "extra"),
        ([], "END"),
    ],
)
def test_options_that_click_refuses_take_one_line_and_exit_2(
    odd_job: cli.Command, args: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(odd_job, args) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("odd-job: ")
    assert what in line
    assert line.endswith("; see odd-job --help")
    assert out == ""

    assert cli.run(odd_job, [*args, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["kind"] == "usage"
    assert what in document["error"]["message"]


def test_a_state_folder_that_is_a_file_is_a_wrong_option(odd_job: cli.Command, program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(odd_job, ["done", "--state", str(program)]) == 2
    assert str(program) in capsys.readouterr().err


def test_stdout_holds_the_text_or_the_document_and_stderr_the_talk(odd_job: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(odd_job, ["done", "--count", "2"]) == 0
    assert capsys.readouterr() == ("a line\na line\n", "working\n")
    assert cli.run(odd_job, ["found", "--json"]) == 1
    assert capsys.readouterr() == ('{"schema":"odd/1","id":"' + "7" * 77 + '"}\n', "working\n")


def test_a_command_without_a_report_prints_nothing(odd_job: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(odd_job, ["nothing"]) == 0
    assert capsys.readouterr() == ("", "")


def test_help_ends_with_the_example_and_the_exit_codes_in_use(odd_job: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(odd_job, ["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "Usage: odd-job [OPTIONS] END"
    example = lines.index("Example:")
    assert lines[example + 1 : example + 3] == ["  odd-job done --count 3", "  odd-job bug --json | jq .error"]
    table = lines[lines.index("Exit codes:") + 1 :]
    assert [line.split()[0] for line in table if line.startswith("  ") and line[2] != " "] == ["0", "1", "2", "70", "75"]
    assert "--count INTEGER" in out
    assert "--json" in out
    assert "--state DIR" in out


def test_an_exit_code_outside_the_table_cannot_be_promised() -> None:
    with pytest.raises(KeyError):
        cli.command(example="test-cli", exits=(0, 3))(lambda: None)


def test_the_command_gets_state_and_json_only_if_it_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmtools.state import StateDir

    got: list[tuple[object, bool]] = []

    @cli.command(example="test-cli")
    def asks(state: StateDir, as_json: bool) -> None:
        got.append((state, as_json))

    assert cli.run(asks, ["--state", str(tmp_path / "state"), "--json"]) == 0
    assert cli.run(asks, ["--state", str(tmp_path / "state")]) == 0
    assert [as_json for _, as_json in got] == [True, False]
    assert all(isinstance(state, StateDir) for state, _ in got)

    assert cli.run(ending(lambda: None), ["--state", str(tmp_path / "never"), "--json"]) == 0
    assert not (tmp_path / "never").exists()


def test_a_message_stays_on_one_line_and_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise Refused("no market\nnamed \x1b[31mred\x1b[0m \udcff")

    cli.run(ending(refuse), ["--json"])
    out, err = capsys.readouterr()
    assert err == "test-cli: no market named \\x1b[31mred\\x1b[0m \\udcff\n"
    assert json.loads(out)["error"]["message"] == "no market named \\x1b[31mred\\x1b[0m \\udcff"


def test_run_returns_and_main_exits(odd_job: cli.Command) -> None:
    with pytest.raises(SystemExit) as leaving:
        odd_job.main(["found"])
    assert leaving.value.code == 1


def test_what_kills_a_process_passes_through() -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        cli.run(ending(die), ["--json"])


def test_a_stream_without_bytes_beneath_it_serves_too(odd_job: cli.Command, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert cli.run(odd_job, ["done"]) == 0
    assert out.getvalue() == "a line\n"


# subcommands


@pytest.fixture
def sorting() -> cli.Command:
    """A command that does its own work, with a subcommand that does other work."""

    @cli.command(example="test-cli FILE")
    @click.argument("file")
    def main(*, file: str) -> cli.Report:
        """Sort a file."""
        return cli.Report(document={"schema": "odd/1", "sorted": file}, text=f"sorted {file}")

    @main.subcommand(example="test-cli count-lines FILE --twice", exits=(0, 2))
    @click.argument("files", nargs=-1, required=True)
    @click.option("--twice", is_flag=True)
    def count_lines(*, files: tuple[str, ...], twice: bool, as_json: bool) -> cli.Report:
        """Count the lines of files. Blank ones count too.

        At length.
        """
        return cli.Report(document={"schema": "odd/2", "counted": files, "twice": twice, "json": as_json}, text=f"counted {len(files)}")

    return main


def test_the_first_argument_may_name_a_subcommand(sorting: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(sorting, ["count-lines", "a", "b", "--twice", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": "odd/2", "counted": ["a", "b"], "twice": True, "json": True}
    assert cli.run(sorting, ["a"]) == 0
    assert capsys.readouterr().out == "sorted a\n"


@pytest.mark.parametrize(
    ("args", "file"),
    [(["./count-lines"], "./count-lines"), (["--", "count-lines"], "count-lines"), (["--state", "x", "count-lines"], "count-lines")],
)
def test_a_file_named_like_a_subcommand_can_be_reached(
    sorting: cli.Command, args: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(sorting, args) == 0
    assert capsys.readouterr().out == f"sorted {file}\n"


def test_the_help_of_a_command_lists_its_subcommands_in_one_line_each(
    sorting: cli.Command, odd_job: cli.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(sorting, ["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Usage: test-cli [OPTIONS] FILE"
    listed = lines.index("Subcommands (each has its own --help):")
    assert lines[listed + 1 : listed + 3] == ["  count-lines  Count the lines of files.", ""]
    cli.run(odd_job, ["--help"])
    assert "Subcommands" not in capsys.readouterr().out


def test_a_subcommand_goes_by_both_words(sorting: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(sorting, ["count-lines", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Usage: test-cli count-lines [OPTIONS] FILES..."
    assert "  test-cli count-lines FILE --twice" in lines
    assert [line.split()[0] for line in lines[lines.index("Exit codes:") + 1 :]] == ["0", "2"]
    assert cli.run(sorting, ["count-lines"]) == 2
    assert capsys.readouterr().err == "test-cli count-lines: Missing argument 'FILES...'; see test-cli count-lines --help\n"
    assert cli.run(sorting, ["count-lines", "a", "--twcie", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["message"].endswith("; see test-cli count-lines --help")


# to_json


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Pnl:
    total: str


def test_json_writes_enums_records_and_whole_numbers_as_given() -> None:
    document = {"schema": "odd/1", "colour": Colour.RED, Colour.RED: Pnl("-0.000001"), "cash": Usdc(10**16 + 1), "by_code": {75: [None]}}
    assert cli.to_json(document) == (
        b'{"schema":"odd/1","colour":"red","red":{"total":"-0.000001"},"cash":10000000000000001,"by_code":{"75":[null]}}'
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_json_refuses_what_is_no_number(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        cli.to_json({"schema": "odd/1", "deep": [{"sharpe": number}]})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_is_one_line_that_reads_back_as_it_was(document: dict[str, Any]) -> None:
    written = cli.to_json(document)
    assert b"\n" not in written
    assert json.loads(written) == document


# As a program of its own


def test_the_program_ends_like_the_command(program: Path) -> None:
    done = start(program, "done", "--json")
    assert (done.returncode, json.loads(done.stdout)["schema"], done.stderr) == (0, "odd/1", "working\n")
    assert start(program, "interrupt").returncode == 130
    bug = start(program, "bug", "--json")
    assert bug.returncode == 70
    assert json.loads(bug.stdout)["exit_code"] == 70


@pytest.mark.parametrize("args", [["done"], ["done", "--count", "100000"], ["done", "--json"], ["--help"], ["later", "--json"]])
def test_a_reader_that_left_is_no_error(program: Path, args: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = start(program, *args, stdout=writing)
    finally:
        os.close(writing)
    assert ended.returncode == (75 if args[0] == "later" else 0)
    assert "Traceback" not in ended.stderr
    assert "Broken" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("args", [["done"], ["done", "--json"], ["--help"]])
def test_a_stdout_on_a_full_disk_is_one_line_and_75(program: Path, args: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        ended = start(program, *args, stdout=full)
    assert ended.returncode == 75
    assert ended.stderr.splitlines()[-1] == f"odd-job: {os.strerror(errno.ENOSPC)}; make room and run again"
    assert "Traceback" not in ended.stderr


def test_a_stderr_that_is_gone_does_not_spoil_the_result(program: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = start(program, "done", stderr=writing)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stdout) == (0, "a line\n")


def test_progress_is_drawn_on_a_terminal_and_erased(program: Path) -> None:
    ours, theirs = os.openpty()
    try:
        ended = start(program, "done", stderr=theirs)
        drawn = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert ended.returncode == 0
    bar = "odd-job [##########          ]  50% half"
    # Talk erases the bar first, so no line is left half covered.
    assert drawn == f"{bar}\r{'':{len(bar)}}\rworking\r\n"


@pytest.mark.parametrize(("args", "made", "said"), [([], 1, "a table\n"), (["--json"], 0, '{"schema":"odd/1","rows":3}\n')])
def test_a_text_that_is_a_function_is_made_only_to_be_printed(
    args: list[str], made: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def table() -> str:
        calls.append("table")
        return "a table\n\n"

    @cli.command(example="")
    def main() -> cli.Report:
        return cli.Report(document={"schema": "odd/1", "rows": 3}, text=table)

    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert cli.run(main, args) == 0
    assert (len(calls), out.getvalue()) == (made, said)


def test_help_loads_nothing_heavy() -> None:
    modules = "import sys, mmtools.cli; print(*sorted(m for m in sys.modules if '.' not in m or m.startswith('mmtools.')))"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    loaded = subprocess.run([sys.executable, "-c", modules], capture_output=True, text=True, check=True, env=environment).stdout.split()
    assert {name for name in loaded if name.startswith("mmtools")} == {"mmtools", "mmtools.cli", "mmtools.errors"}
    assert not {"msgspec", "requests", "yaml", "psutil", "websocket", "json", "pathlib", "shutil"} & set(loaded)


@pytest.mark.parametrize("args", [["--help"], ["calibrate", "--help"]])
def test_help_of_a_command_and_of_its_subcommand_loads_no_library(args: list[str]) -> None:
    modules = f"import sys; from mmtools import cli; from mmtools.commands.replay import main; cli.run(main, {args}); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    said = subprocess.run([sys.executable, "-c", modules], capture_output=True, text=True, check=True, env=environment).stdout
    loaded = said.splitlines()[-1].split()
    assert {name for name in loaded if name.startswith("mmtools.")} == {
        "mmtools.cli",
        "mmtools.errors",
        "mmtools.commands",
        "mmtools.commands.replay",
    }
    assert not {"msgspec", "yaml", "pygal", "json", "random"} & set(loaded)


@pytest.mark.parametrize("error", [TryLater, Refused, Misconfigured])
def test_the_three_errors_need_no_words(error: type[Exception]) -> None:
    def fail() -> None:
        raise error

    assert cli.run(ending(fail), []) in (75, 77, 78)


# SIGTERM

SLEEPER = '''
import sys, time
from mmtools import cli

@cli.command(example="sleeper")
def main():
    """Sleeps, and puts things in order when it is woken."""
    try:
        print("asleep", file=sys.stderr, flush=True)
        time.sleep(60)
    finally:
        cli.say("in order")
    return cli.Report(document={"schema": "odd/1"}, text="slept")

if __name__ == "__main__":
    main()
'''


def test_sigterm_while_a_class_is_made_ends_with_the_code_that_was_said(tmp_path: Path) -> None:
    """A dataclass is made by `exec`; Python notes a plain KeyboardInterrupt that leaves one, and ends by SIGINT in the end."""
    while_made = 'exec("import os, signal; os.kill(os.getpid(), signal.SIGTERM); sys.exit(3)")'
    (tmp_path / "maker.py").write_text(SLEEPER.replace("time.sleep(60)", while_made))
    ended = subprocess.run([sys.executable, "-m", "maker"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.stderr.endswith("maker: interrupted\n")
    assert ended.returncode == 130


def test_sigterm_ends_a_command_in_order_with_its_one_document(tmp_path: Path) -> None:
    program = tmp_path / "sleeper.py"
    program.write_text(SLEEPER)
    process = subprocess.Popen([sys.executable, program, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "asleep\n"
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["error"] == {"kind": "interrupted", "message": "interrupted"}
    assert err == "in order\nsleeper: interrupted\n"


STUBBORN = SLEEPER.replace("time.sleep(60)", "pass").replace('"odd/1"', '"odd/1", "long": "x" * 3_000_000')


def test_a_sigterm_that_comes_while_the_document_is_written_changes_nothing_in_it(tmp_path: Path) -> None:
    program = tmp_path / "stubborn.py"
    program.write_text(STUBBORN)
    process = subprocess.Popen([sys.executable, program, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    first = process.stdout.read(1000)  # the rest does not fit into the pipe: it is still writing
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(json.loads(first + out)["long"]) == 3_000_000
