"""What every command shares: `--json` and `--state`, the Report it returns, its one JSON document, its exit code.

The only module that prints and exits. A command parses, calls the library and returns a `Report`, or raises one of the
errors of `errors.py`; everything about stdout, stderr and exit codes happens here. No trading, no files, no defaults of a
command. Loads click and as little else as it can (no pathlib, no json), so that `--help` stays cheap.
"""

import errno
import gc
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TextIO

import click

from mmtools.errors import Misconfigured, Refused, TryLater

EXITS: Mapping[int, str] = {
    0: "done",
    1: "done, and found something: look",
    2: "wrong options, or a file named on the command line that cannot be used",
    70: "a bug; the traceback is on stderr",
    75: "not now (network, lock, full disk): run again later",
    77: "refused by a safety rule: ask a person",
    78: "the configuration or credentials are missing or wrong: fix them",
    130: "interrupted",
}
"""What each exit code means to the caller, as the help of a command prints it."""
USUAL_EXITS = (0, 2, 70, 75, 77, 78, 130)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a command found: `document` (it has a "schema") is printed with --json, `text` otherwise.

    A function in place of the text is called only when the text is printed: a table costs more to make than many a document.
    """

    document: Mapping[str, Any]
    text: str | Callable[[], str]
    exit_code: int = 0


class _Failure(NamedTuple):
    """Why there is no report: one line for people, a kind and an exit code for programs."""

    kind: str
    message: str
    exit_code: int


class Command(click.Command):
    """A click command that ends its help with an example and its exit codes, and leaves the process through `run`.

    It does its own work also where it has subcommands; `run` takes one of these when the first argument is its word.
    """

    def __init__(self, *, example: str, exits: Sequence[int], **settings: Any) -> None:
        super().__init__(**settings)
        self.example = example
        self.exits = {code: EXITS[code] for code in sorted(exits)}
        self.subcommands: dict[str, Command] = {}
        """By the word that calls them; their own names are two words, "replay calibrate"."""

    def subcommand(self, *, example: str, exits: Sequence[int] = USUAL_EXITS) -> "Callable[[Callable[..., Report | None]], Command]":
        """Turn a function into a subcommand called by the function's name; otherwise as `command`."""

        def decorate(function: Callable[..., Report | None]) -> Command:
            word = function.__name__.replace("_", "-")
            made = self.subcommands[word] = _made(function, f"{self.name} {word}", example, exits)
            return made

        return decorate

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.subcommands:
            with formatter.section("Subcommands (each has its own --help)"):
                formatter.write_dl([(word, sub.get_short_help_str(limit=200)) for word, sub in self.subcommands.items()])
        with formatter.section("Example"):
            for line in self.example.strip().splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in self.exits.items()])

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _print_help
        return option

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            code = run(self, sys.argv[1:] if args is None else args)
        finally:
            signal.signal(signal.SIGTERM, before)
        # On its way out the interpreter looks for garbage in all that was loaded, several times: a tenth of a short command.
        gc.freeze()
        sys.exit(code)


def command(*, example: str, exits: Sequence[int] = USUAL_EXITS) -> Callable[[Callable[..., Report | None]], Command]:
    """Turn a function into the command named after its module: `main` of quote_run.py becomes quote-run.

    The function's docstring is the help. It gets `state` (a `mmtools.state.StateDir`) and `as_json` (a bool) if it has
    parameters of these names, and its own click options as usual. None instead of a Report prints nothing and exits 0.
    """

    def decorate(function: Callable[..., Report | None]) -> Command:
        # Not __module__, which is "__main__" for the program that was started.
        name = os.path.basename(inspect.getfile(function)).removesuffix(".py").replace("_", "-")
        return _made(function, name, example, exits)

    return decorate


def _made(function: Callable[..., Report | None], name: str, example: str, exits: Sequence[int]) -> Command:
    wanted = inspect.signature(function).parameters

    def call(*, as_json: bool, state: str | None, **options: Any) -> tuple[Report | None, bool]:
        if "as_json" in wanted:
            options["as_json"] = as_json
        if "state" in wanted:
            from mmtools.state import StateDir

            options["state"] = StateDir.open(state)
        return function(**options), as_json

    own = list(reversed(getattr(function, "__click_params__", [])))
    return Command(
        name=name,
        callback=call,
        params=[*own, *_shared_options()],
        help=inspect.getdoc(function),
        example=example,
        exits=exits,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


class _Terminated(KeyboardInterrupt):
    """SIGTERM. Not a plain KeyboardInterrupt: Python notes when one of these leaves an `exec` (every dataclass is made by one), and then
    ends by SIGINT whatever exit code was asked for.
    """


def _interrupt(*_: object) -> NoReturn:
    """End as Ctrl-C does: what is half done is put in order, and the reason is said."""
    raise _Terminated


def _speak_last() -> None:
    """Let no SIGTERM come between the last words and the end: there would be two documents, or half of one."""
    if signal.getsignal(signal.SIGTERM) is _interrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _print_help(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        _write(sys.stdout, ctx.get_help() + "\n")
        ctx.exit()


def _shared_options() -> list[click.Parameter]:
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document, also on failure."),
        click.Option(
            ["--state"],
            type=click.Path(file_okay=False),
            metavar="DIR",
            help="Where state files lie; default $MMTOOLS_STATE, else $XDG_STATE_HOME/mmtools, else ~/.local/state/mmtools.",
        ),
    ]


def run(command: Command, args: Sequence[str]) -> int:
    """Run a command, or the subcommand that the first argument names, in this process; print what it has to say, and return
    its exit code. Never calls sys.exit. An argument that looks like a subcommand is given as ./WORD, or after `--`.
    """
    while args and args[0] in command.subcommands:
        command, args = command.subcommands[args[0]], args[1:]
    name = command.name or "mmtools"
    try:
        return _run(command, name, args)
    except (Exception, KeyboardInterrupt) as error:
        _speak_last()
        failure = _explain(error, name)
        if failure.kind == "bug":
            import traceback

            say(traceback.format_exc().rstrip())
        say(f"{name}: {failure.message}")
        if "--json" in args:
            # A stdout that takes nothing has been reported above; there is nowhere else to put the document.
            with suppress(OSError):
                _write(sys.stdout, to_json(_error_document(failure)).decode() + "\n")
        return failure.exit_code


def _run(command: Command, name: str, args: Sequence[str]) -> int:
    # Not click's own main(): it exits with 1 on a broken pipe, and 1 means "found something". The width is what click
    # would find out itself, by loading shutil and its compressors.
    width = min(_columns(sys.stdout), 80) - 2
    try:
        with command.make_context(name, list(args), terminal_width=width) as context:
            outcome: tuple[Report | None, bool] = command.invoke(context)
    except click.exceptions.Exit as done:  # --help
        return done.exit_code
    report, as_json = outcome
    if report is None:
        return 0
    _speak_last()
    if as_json:
        _write(sys.stdout, to_json(report.document).decode() + "\n")
    else:
        text = report.text if isinstance(report.text, str) else report.text()
        _write(sys.stdout, text.rstrip("\n") + "\n")
    return report.exit_code


def _explain(error: BaseException, name: str) -> _Failure:
    match error:
        case TryLater():
            kind, code, message = "try_later", 75, str(error)
        case Refused():
            kind, code, message = "refused", 77, str(error)
        case Misconfigured():
            kind, code, message = "misconfigured", 78, str(error)
        case click.UsageError():
            kind, code, message = "usage", 2, f"{error.format_message().rstrip('.')}; see {name} --help"
        case click.ClickException():
            kind, code, message = "usage", 2, error.format_message()
        case KeyboardInterrupt() | click.Abort():
            kind, code, message = "interrupted", 130, "interrupted"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            place = f": {error.filename}" if error.filename else ""
            kind, code, message = "disk_full", 75, f"{error.strerror}{place}; make room and run again"
        case BrokenPipeError():
            kind, code, message = "broken_pipe", 75, "the other end of a pipe or connection is gone; run again"
        case _:
            kind, code, message = "bug", 70, f"this is a bug: {type(error).__name__}: {error}"
    return _Failure(kind=kind, message=_one_line(message), exit_code=code)


def _error_document(failure: _Failure) -> Mapping[str, Any]:
    return {
        "schema": "mmtools.error/1",
        "error": {"kind": failure.kind, "message": failure.message},
        "exit_code": failure.exit_code,
    }


def _one_line(message: str) -> str:
    """Return the message as one printable line: file names and venue answers can hold line ends and terminal codes."""
    line = " ".join(message.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def to_json(document: Mapping[str, Any]) -> bytes:
    """Return a document as one line of JSON. Raises ValueError on NaN and Infinity: they must never leave us."""
    import json

    import msgspec

    # msgspec knows structs, dataclasses and enums, but would write NaN as null.
    plain = msgspec.to_builtins(dict(document), str_keys=True)
    written = json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return written.encode("utf-8", "backslashreplace")  # of half a surrogate pair makes the JSON escape of it


def say(message: str) -> None:
    """Talk to the person: a line on stderr. A stderr that is gone is no reason to fail."""
    with suppress(OSError):
        _write(sys.stderr, _bar.erased() + message + "\n")


def _write(stream: TextIO | None, text: str) -> None:
    """Write at once, as UTF-8 whatever the locale; a reader that left (`| head -1`) is no error.

    Raises OSError for everything else that keeps the text from being written, such as a full disk.
    """
    if stream is None:  # the program was started with this stream closed
        return
    try:
        stream.flush()
        if hasattr(stream, "buffer"):
            stream.buffer.write(text.encode("utf-8", "backslashreplace"))
            stream.buffer.flush()
        else:  # somebody put a StringIO there
            stream.write(text)
    except OSError as e:
        _abandon(stream)
        if not isinstance(e, BrokenPipeError):
            raise


def _abandon(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain about it on its way out."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
        stream.flush()


class _Bar:
    """The one line of progress on the terminal, if there is one; other talk has to erase it first."""

    def __init__(self) -> None:
        self.shown = ""

    def erased(self) -> str:
        """Return what must be written to make the line empty again."""
        width, self.shown = len(self.shown), ""
        return f"\r{'':{width}}\r" if width else ""


_bar = _Bar()


class Progress:
    """Handed out by `progress`; draws only when what is seen would change."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._terminal = sys.stderr is not None and sys.stderr.isatty()

    def update(self, fraction: float, note: str = "") -> None:
        """Show that `fraction` (0 to 1) is done. Does nothing when stderr is not a terminal."""
        if not self._terminal:
            return
        done = min(max(fraction, 0.0), 1.0)
        line = f"{self._what} [{'#' * int(done * 20):20}] {int(done * 100):3}% {_one_line(note)}"[: _columns(sys.stderr) - 1]
        if line != _bar.shown:
            with suppress(OSError):
                _write(sys.stderr, _bar.erased() + line)
            _bar.shown = line


def _columns(stream: TextIO | None) -> int:
    try:
        return (os.get_terminal_size(stream.fileno()).columns if stream is not None else 0) or 80
    except (OSError, ValueError):
        return 80


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A progress bar on stderr for as long as the block runs, gone afterwards: `with progress("replay") as bar: bar.update(0.5)`."""
    try:
        yield Progress(what)
    finally:
        if _bar.shown:
            with suppress(OSError):
                _write(sys.stderr, _bar.erased())
