"""replay: runs a recording at full speed and prints the result; with --grid, every set of a grid of parameters over several.

`replay calibrate` lays orders over recordings. Only a grid leaves something on disk: its trials, so that it can go on.
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mmtools import cli

if TYPE_CHECKING:
    from pathlib import Path

    from mmtools.config import RunConfig
    from mmtools.lab.calibrate import Found, Plan
    from mmtools.lab.findings import Source
    from mmtools.lab.sweep import Task
    from mmtools.state import StateDir
    from mmtools.trading.params import QueueModel
    from mmtools.venues.tape import Tape

MORE_MODELS: "tuple[QueueModel, ...]" = ("power", "power2", "power3", "log", "log2")
"""What calibrate can be asked for besides the three models that are always there. Here, because `--help` loads no library."""
ADDRESS = re.compile(r"((tcp|tls|ws|wss)://)?([^\s:/\[\]]+|\[[0-9A-Fa-f:.%a-z]+\]):([0-9]{1,5})/?", re.ASCII)
"""Of a Dask scheduler."""
SHARE = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)


@cli.command(
    example="replay game.jsonl.gz --set model=avellaneda-stoikov --set seed=7 --json\n"
    "replay --grid configs/grid.yaml monday.jsonl.gz tuesday.jsonl.gz\n"
    "replay calibrate game.jsonl.gz"
)
@click.argument("recordings", type=click.Path(), metavar="RECORDING...", nargs=-1, required=True)
@click.option(
    "--market", "markets", metavar="SLUG", multiple=True, help="Only this market, which every recording must hold; may be given again."
)
@click.option("--config", "config_file", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="The run's YAML config.")
@click.option("--set", "changes", metavar="KEY=VALUE", multiple=True, help="Change one of the config's params; may be given again.")
@click.option("--grid", "grid_file", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="Run every set of this grid.")
@click.option(
    "--jobs", metavar="N", type=click.IntRange(1, 1024), help="With --grid: so many processes, at most 4 a core; default 1 a core."
)
@click.option("--shard", metavar="I/N", help="With --grid: only the I-th of N shares; put the files of all together.")
@click.option("--out", metavar="FILE.jsonl", type=click.Path(dir_okay=False), help="With --grid: keep the trials in this file.")
@click.option("--backend", type=click.Choice(("processes", "dask")), help="With --grid: where trials run; default: processes.")
@click.option("--scheduler", metavar="ADDRESS", help="With --backend dask: the scheduler, such as tcp://10.0.0.1:8786.")
def main(
    *,
    recordings: tuple[str, ...],
    markets: tuple[str, ...],
    config_file: str | None,
    changes: tuple[str, ...],
    grid_file: str | None,
    state: "StateDir",
    **how: Any,
) -> cli.Report:
    """Run a recording at full speed on paper and say what it would have earned.

    The same maker, exchange and result as quote-run on the same recording, without a run folder. With --grid: every set of
    parameters over every recording, chosen by the first part of the time of each, judged by the second; goes on where it stopped.
    """
    from mmtools.runs import feeds

    _check_options(recordings, grid_file, **how)
    try:
        run = feeds.read_config(config_file, recordings[0], markets)
        if grid_file is None:
            return _replay(feeds.changed(run, changes))
        return _sweep(grid_file, run, changes, recordings, state, **how)
    except feeds.BadRequest as e:
        raise click.ClickException(str(e)) from e


def _check_options(recordings: tuple[str, ...], grid_file: str | None, **how: Any) -> None:
    """Raise UsageError for options that do not go together."""
    if grid_file is None:
        alone = next((name for name, value in how.items() if value is not None), None)
        if alone is not None:
            raise click.UsageError(f"--{alone} goes with --grid FILE only")
        if len(recordings) > 1:
            raise click.UsageError("one recording at a time; several are run with --grid FILE")
    elif (how["backend"] == "dask") != (how["scheduler"] is not None):
        raise click.UsageError("--backend dask and --scheduler ADDRESS go together")
    elif how["backend"] == "dask" and how["jobs"] is not None:
        raise click.UsageError("--jobs is of processes here; a Dask scheduler has its own workers")
    elif how["scheduler"] is not None and not _is_address(how["scheduler"]):
        raise click.UsageError(f"--scheduler {how['scheduler']}: say tcp://HOST:PORT (or tls, ws, wss), such as tcp://10.0.0.1:8786")


def _is_address(text: str) -> bool:
    said = ADDRESS.fullmatch(text)
    return said is not None and 1 <= int(said[4]) <= 65_535


def _replay(config: "RunConfig") -> cli.Report:
    from mmtools.runs import feeds, summary
    from mmtools.runs.engine import Status
    from mmtools.runs.replay import replay

    feed = feeds.open_feed(config, named_in_config=False)
    outcome = replay(config, feed, run_id=config.run_id or f"replay-{feeds.name_of(config)}")
    table = summary.table(outcome.document, warnings=outcome.warnings, folder=None)
    return cli.Report(document=outcome.document, text=table, exit_code=77 if outcome.status is Status.HALTED else 0)


def _sweep(
    grid_file: str,
    run: "RunConfig",
    changes: tuple[str, ...],
    paths: tuple[str, ...],
    state: "StateDir",
    *,
    jobs: int | None,
    shard: str | None,
    out: str | None,
    backend: str | None,
    scheduler: str | None,
) -> cli.Report:
    """Run what is not kept yet of a grid, then say what all of it says. Raises BadRequest."""
    from pathlib import Path

    from mmtools.lab import ranking, sweep, trialfile
    from mmtools.runs import feeds
    from mmtools.venues.recording import BadRecording

    number, shards = _shard(shard)
    grid = sweep.Grid(Path(grid_file))
    if both := [key for key, _, _ in (change.partition("=") for change in changes) if key in grid.params]:
        raise feeds.BadRequest(f"--set {both[0]}: the grid varies it; give one of the two")
    try:
        if out is not None:
            trialfile.check_kind(out)
        file = _where(state, grid.name, out)
        sets = grid.sets(feeds.changed(grid.based(run), changes))
        recordings = sweep.recordings(paths)
        tasks = sweep.tasks(sets, recordings, grid.split)
        found = trialfile.kept(file.path, tasks)
        missing = [task for task in sweep.share(tasks, number, shards) if not trialfile.is_done(task, found)]
        if missing and out is not None:
            trialfile.check_writable(out)
        _run_trials(missing, file, found, jobs, scheduler)
    except (BadRecording, trialfile.BadFile) as e:
        raise feeds.BadRequest(str(e)) from e
    document = ranking.document(grid, sets, recordings, tasks, found)
    return cli.Report(document=document, text=partial(ranking.table, document, file=str(file.path)))


def _run_trials(missing: "list[Task]", file: "_File", found: dict[str, dict[str, Any]], jobs: int | None, scheduler: str | None) -> None:
    """Run trials, and keep the lines of each as soon as it is finished. Raises BadRecording, before the first one if it can."""
    from mmtools.lab import pool
    from mmtools.lab.trial import check, trial

    with _terminated_as_interrupted(), cli.progress("replay --grid") as bar:
        bar.update(0, "reading")
        check(missing)
        bar.update(0, f"{len(missing)} trials")
        results = pool.processes(trial, missing, jobs or pool.cores()) if scheduler is None else pool.cluster(trial, missing, scheduler)
        with closing(results):
            for done, lines in enumerate(results, start=1):
                for line in lines:
                    file.state.append(file.name, line)
                    found[line["key"]] = line
                bar.update(done / len(missing), f"{done} of {len(missing)} trials")


def _shard(text: str | None) -> tuple[int, int]:
    """Return which share of how many "2/3" asks for. Raises UsageError."""
    if text is None:
        return 1, 1
    said = SHARE.fullmatch(text)
    number, shards = (int(said[1]), int(said[2])) if said else (0, 0)
    if not 1 <= number <= shards:
        raise click.UsageError(f"--shard {text[:40]}: say I/N with 1 <= I <= N, such as 2/3")
    return number, shards


class _File(NamedTuple):
    """Where a grid's trials are kept."""

    state: "StateDir"
    name: str

    @property
    def path(self) -> "Path":
        return self.state.path(self.name)


def _where(state: "StateDir", name: str, out: str | None) -> _File:
    from mmtools.state import StateDir

    if out is None:
        return _File(state, f"lab/grids/{name}.jsonl")
    folder, name = os.path.split(os.path.abspath(out))
    return _File(StateDir.open(folder), name)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: workers end with it, and what is finished is kept."""
    import signal

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@main.subcommand(example="replay calibrate game.jsonl.gz --queue-model log --picture game.svg", exits=(0, 2, 70, 75, 78, 130))
@click.argument("recordings", type=click.Path(), metavar="RECORDING...", nargs=-1, required=True)
@click.option("--market", "markets", metavar="SLUG", multiple=True, help="Only this market of each recording; may be given again.")
@click.option("--every", "every_s", metavar="S", type=float, default=10.0, help="Place orders so often; default 10.")
@click.option("--life", "life_s", metavar="S", type=float, default=60.0, help="Withdraw them after so long; default 60.")
@click.option("--size", metavar="SHARES", type=float, default=50.0, help="Shares of each order; default 50.")
@click.option(
    "--queue-model", "models", multiple=True, type=click.Choice(MORE_MODELS),
    help="Also this queue model, with the config's queue_power; may be given again.",
)  # fmt: skip
@click.option("--config", "config_file", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="Params from this YAML config.")
@click.option("--set", "changes", metavar="KEY=VALUE", multiple=True, help="Change one of the config's params; may be given again.")
@click.option("--picture", metavar="FILE.svg", type=click.Path(), help="Also draw the figures into this file.")
def calibrate(
    *,
    recordings: tuple[str, ...],
    markets: tuple[str, ...],
    every_s: float,
    life_s: float,
    size: float,
    models: "tuple[QueueModel, ...]",
    config_file: str | None,
    changes: tuple[str, ...],
    picture: str | None,
) -> cli.Report:
    """Say how often resting orders would have filled, under several queue models.

    Orders that nobody sent stand at the touch and one and two ticks behind it, for a while. Each model has the same orders,
    so what differs between models is only what is assumed. Several recordings are taken together.
    """
    from pathlib import Path

    from mmtools.lab import charts, findings
    from mmtools.lab.calibrate import BadPlan, Plan, ms_of, shares_of
    from mmtools.runs import feeds

    try:
        if picture is not None:
            charts.check(Path(picture))
        runs = [feeds.changed(feeds.read_config(config_file, recording, markets), changes) for recording in recordings]
        params = runs[0].params
        life_ms, every_ms = ms_of("--life", life_s), ms_of("--every", every_s)
        plan = Plan.of(params, size=shares_of(size), life_ms=life_ms, every_ms=every_ms, more=models)
        found, sources = _found(runs, plan)
        document = findings.document(found, plan, sources, seed=params.seed)
        if picture is not None:
            charts.write(Path(picture), charts.calibration(document))
    except (feeds.BadRequest, BadPlan, charts.BadPicture) as e:
        raise click.ClickException(str(e)) from e
    return cli.Report(document=document, text=findings.table(document))


def _found(runs: "list[RunConfig]", plan: "Plan") -> "tuple[Found, list[Source]]":
    """Lay the orders over the recordings one after the other; only one of them is in memory."""
    from pathlib import Path

    from mmtools.lab import sweep
    from mmtools.lab.calibrate import Found, calibrate
    from mmtools.lab.findings import Source
    from mmtools.runs import feeds
    from mmtools.venues.tape import Tape

    found = Found()
    names: dict[str, str] = {}
    sources: list[Source] = []
    with cli.progress("replay calibrate") as bar:
        for place, run in enumerate(runs):
            assert run.recording is not None
            name = Path(run.recording).name
            bar.update(place / len(runs), f"reading {name}")
            tape = feeds.open_feed(run, named_in_config=False)
            assert isinstance(tape, Tape)
            if tape.sha256 in names:
                raise feeds.BadRequest(sweep.twice(names[tape.sha256], name))
            names[tape.sha256] = name
            here = calibrate(tape, plan, partial(_show, bar, place, len(runs), tape, name))
            found.add(here)
            sources.append(Source(name, tape.sha256, here.prints))
    return found, sources


def _show(bar: cli.Progress, place: int, recordings: int, tape: "Tape", name: str, now_ms: int) -> None:
    here = (now_ms - tape.first_ms) / max(tape.last_ms - tape.first_ms, 1)
    bar.update((place + here) / recordings, name)


if __name__ == "__main__":
    main()
