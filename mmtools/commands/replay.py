"""replay: runs a recording at full speed and prints the result; leaves nothing on disk. `replay calibrate` lays orders over it."""

from functools import partial
from typing import TYPE_CHECKING

import click

from mmtools import cli

if TYPE_CHECKING:
    from mmtools.config import RunConfig
    from mmtools.lab.calibrate import Found, Plan
    from mmtools.lab.findings import Source
    from mmtools.trading.params import QueueModel
    from mmtools.venues.tapefile import Tape

MORE_MODELS: "tuple[QueueModel, ...]" = ("power", "power2", "power3", "log", "log2")
"""What calibrate can be asked for besides the three models that are always there. Here, because `--help` loads no library."""


@cli.command(example="replay game.jsonl.gz --set model=avellaneda-stoikov --set seed=7 --json\nreplay calibrate game.jsonl.gz")
@click.argument("recording", type=click.Path(), metavar="RECORDING")
@click.option("--market", "markets", metavar="SLUG", multiple=True, help="Only this market of the recording; may be given again.")
@click.option("--config", "config_file", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="The run's YAML config.")
@click.option("--set", "changes", metavar="KEY=VALUE", multiple=True, help="Change one of the config's params; may be given again.")
def main(*, recording: str, markets: tuple[str, ...], config_file: str | None, changes: tuple[str, ...]) -> cli.Report:
    """Run a recording at full speed on paper and say what it would have earned.

    The same maker, exchange and result as quote-run on the same recording, without a run folder.
    """
    from mmtools.runs import feeds, summary
    from mmtools.runs.engine import Status
    from mmtools.runs.replay import replay

    try:
        config = feeds.changed(feeds.read_config(config_file, recording, markets), changes)
        feed = feeds.open_feed(config, named_in_config=False)
    except feeds.BadRequest as e:
        raise click.ClickException(str(e)) from e
    outcome = replay(config, feed, run_id=config.run_id or f"replay-{feeds.name_of(config)}")
    table = summary.table(outcome.document, warnings=outcome.warnings, folder=None)
    return cli.Report(document=outcome.document, text=table, exit_code=77 if outcome.status is Status.HALTED else 0)


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

    from mmtools.lab.calibrate import Found, calibrate
    from mmtools.lab.findings import Source
    from mmtools.runs import feeds
    from mmtools.venues.tapefile import Tape

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
                raise feeds.BadRequest(
                    f"{names[tape.sha256]} and {name} are one recording, and counted twice it would look like more; name it once"
                )
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
