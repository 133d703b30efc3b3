"""quote-run: makes markets on paper, on the synthetic market, a recording or the live feed; keeps the run's files."""

from typing import TYPE_CHECKING, Any

import click

from mmtools import cli

if TYPE_CHECKING:
    from mmtools.config import RunConfig
    from mmtools.restarts import Owner
    from mmtools.runs.engine import Engine
    from mmtools.runs.session import Outcome
    from mmtools.state import StateDir
    from mmtools.venues.venue import Feed

DEMO_HOURS = 4.0


OWNERS = ("nobody", "systemd", "status-update", "smoke-test", "recover")


@cli.command(example="quote-run --demo\nquote-run --recording game.jsonl.gz --market SLUG --json\nquote-run --config configs/paper.yaml")
@click.option("--demo", is_flag=True, help=f"Quote a synthetic market for {DEMO_HOURS:g} simulated hours.")
@click.option("--recording", metavar="FILE", type=click.Path(), help="Quote a recorded market, also in place of the config's feed.")
@click.option("--market", "markets", metavar="SLUG", multiple=True, help="Only this market of the feed; may be given again.")
@click.option("--config", "config_file", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="The run's YAML config.")
@click.option("--run-id", metavar="ID", help="The run's name; the same name goes on with the same run.")
@click.option("--fresh", is_flag=True, help="Throw away an earlier run of the same name.")
@click.option("--owner", type=click.Choice(OWNERS), help="Who starts the run, and again when it died; refused when it is another's.")
@click.option("--revival", metavar="ID", help="The attempt in restarts.jsonl that --owner has counted; else a revival is counted here.")
def main(
    *,
    demo: bool,
    recording: str | None,
    markets: tuple[str, ...],
    config_file: str | None,
    run_id: str | None,
    fresh: bool,
    owner: str | None,
    revival: str | None,
    state: "StateDir",
) -> cli.Report:
    """Make markets on paper and say what it earned.

    The result names what it assumes. A run that was killed goes on where it was when it is started again under the same
    --run-id. SIGTERM ends it in order.
    """
    from mmtools.errors import Misconfigured, Refused
    from mmtools.restarts import Owner
    from mmtools.runs import feeds, session, telling

    starter = None if owner is None else Owner(owner)
    if revival is not None and starter is None:
        raise click.UsageError("--revival goes with --owner: say who counted it")
    if demo and (recording or config_file or markets):
        raise click.UsageError("--demo brings its own market and config; leave out --recording, --config and --market")
    if not (demo or recording or config_file):
        raise click.UsageError("say what to quote: --demo, --recording FILE or --config FILE")
    try:
        config = feeds.demo_config(DEMO_HOURS) if demo else feeds.read_config(config_file, recording, markets)
        run_id = feeds.checked_run_id(run_id) or config.run_id
        feed = feeds.open_feed(config, named_in_config=not (recording or markets))
    except feeds.BadRequest as e:
        raise click.ClickException(str(e)) from e
    except (Misconfigured, Refused) as e:
        telling.not_started(state, run_id or str(config_file), starter or Owner.NOBODY, e)
        raise
    run_id = run_id or session.new_run_id("demo" if demo else feeds.name_of(config))
    cli.say(f"{run_id}: {feeds.describe(feed)}, on paper")
    return _report(*_run(config, feed, state, run_id, fresh=fresh, starter=starter, revival=revival))


def _run(
    config: "RunConfig", feed: "Feed", state: "StateDir", run_id: str, *, fresh: bool, starter: "Owner | None", revival: str | None
) -> tuple["Outcome", str | None]:
    """Run with SIGTERM and Ctrl-C ending it in order; return the outcome and the signal that ended it."""
    import os
    import signal

    from mmtools.runs import session
    from mmtools.runs.notify import Notifier
    from mmtools.runs.watcher import Intervention

    engines: list[Engine] = []

    def stop(number: int, _: Any) -> None:
        name = signal.Signals(number).name
        if not engines or engines[0].stop_asked is not None:
            raise KeyboardInterrupt
        engines[0].stop_asked = Intervention(kind="stop", by=name, why="asked to end")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with cli.progress("quote-run") as bar:
            outcome = session.execute(
                config,
                feed,
                state,
                run_id=run_id,
                fresh=fresh,
                starter=starter,
                revival=revival,
                notifier=Notifier.of(os.environ),
                on_engine=engines.append,
                on_progress=bar.update,
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    asked = engines[0].stop_asked
    return outcome, None if asked is None else asked.by


def _report(outcome: "Outcome", ended_by: str | None) -> cli.Report:
    from mmtools.runs import summary
    from mmtools.runs.engine import Status

    exit_code = 77 if outcome.status is Status.HALTED else 130 if ended_by == "SIGINT" else 0
    table = summary.table(outcome.document, warnings=outcome.warnings, folder=outcome.folder)
    return cli.Report(document=outcome.document, text=table, exit_code=exit_code)


if __name__ == "__main__":
    main()
