"""replay: runs a recording at full speed and prints the result; leaves nothing on disk."""

import click

from mmtools import cli


@cli.command(example="replay game.jsonl.gz --set model=avellaneda-stoikov --set seed=7 --json")
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


if __name__ == "__main__":
    main()
