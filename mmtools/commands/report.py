"""report: the result of a run, read from its journal, also of one that runs or died. `report explain` says why it did what it did."""

from typing import TYPE_CHECKING, Any

import click

from mmtools import cli
from mmtools.errors import Refused

if TYPE_CHECKING:
    from mmtools.state import StateDir


@cli.command(example="report\nreport RUN --json | jq .pnl\nreport explain RUN --fill paper-t3")
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--list", "listing", is_flag=True, help="Name the runs there are, newest last, with their status.")
@click.option("--job", is_flag=True, help="As a job of cron or systemd: a failure is told as an alert, and no run yet is no failure.")
def main(*, run: str | None, listing: bool, job: bool, state: "StateDir") -> cli.Report:
    """Show the result of a run: P&L and its parts, fills, orders, what it assumes, and what of it to believe.

    Without RUN it shows the newest one. Everything is folded from the run's journal.
    """
    if listing:
        return _listing(state)
    if not job:
        return _result(state, run)
    from mmtools.ops import jobs
    from mmtools.runs import reading

    with jobs.running(state, "report", jobs.settings(state, "report", None)):
        return _result(state, run) if run is not None or reading.runs(state) else _listing(state)


def _result(state: "StateDir", run: str | None) -> cli.Report:
    from mmtools.runs import reading, summary

    run = _chosen(state, run)
    fold = reading.fold_of(state, run)
    document = summary.document(fold, status=reading.status_of(state, run, fold))
    table = summary.table(document, warnings=summary.warnings(fold), folder=str(state.path(f"runs/{run}")))
    markouts = summary.markout_table(document)
    return cli.Report(document=document, text=table if markouts is None else f"{table}\n\n{markouts}")


@main.subcommand(
    example="report explain RUN --at 2026-06-07T01:35:00Z --market SLUG\nreport explain RUN --order o17", exits=(0, 2, 70, 75, 77, 130)
)
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--at", "at", metavar="TIME", help="Every market as it stood at this feed time (ISO 8601).")
@click.option("--market", metavar="SLUG", help="With --at: this market alone.")
@click.option("--order", metavar="ID", help="An order, by our key or the venue's id.")
@click.option("--fill", metavar="ID", help="A fill, by its trade id.")
def explain(*, run: str | None, at: str | None, market: str | None, order: str | None, fill: str | None, state: "StateDir") -> cli.Report:
    """Say why: what was quoted or not, why an order was sent and ended, what led to a fill, with every number.

    Without RUN it explains the newest one.
    """
    from mmtools.runs import explain as why

    if sum(asked is not None for asked in (at, order, fill)) != 1:
        raise click.UsageError("say one of --at TIME, --order ID and --fill ID")
    if market is not None and at is None:
        raise click.UsageError("--market goes with --at")
    run = _chosen(state, run)
    records = state.records(f"runs/{run}/journal.jsonl")
    try:
        if at is not None:
            document = why.at_time(records, _ms(at), market)
        elif order is not None:
            document = why.of_order(records, order)
        else:
            assert fill is not None
            document = why.of_fill(records, fill)
    except why.NotThere as e:
        raise click.ClickException(f"{run}: {e}") from e
    return cli.Report(document=document, text=lambda: why.text_of(document, _params(state, run)))


def _chosen(state: "StateDir", run: str | None) -> str:
    """Return the run that was named, or the one written to last. Raises Refused when there is none."""
    from mmtools.runs import reading

    runs = reading.runs(state)
    if not runs:
        raise Refused(f"there are no runs in {state.root}; `quote-run --demo` makes one")
    if run is not None and run not in runs:
        raise Refused(f"there is no run {run} in {state.root}; `report --list` names those there are")
    return run or runs[-1]


def _ms(at: str) -> int:
    """Return a time in ms UTC."""
    from datetime import UTC, datetime

    try:
        time = datetime.fromisoformat(at)
    except ValueError:
        raise click.ClickException(f"--at {at}: is no time in ISO 8601; write it as 2026-06-07T18:00:00Z") from None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def _params(state: "StateDir", run: str) -> dict[str, Any]:
    """Return the params in a run's config; none when it cannot be read: the journal still explains, with fewer names."""
    import msgspec

    from mmtools import config
    from mmtools.errors import Misconfigured

    try:
        params: dict[str, Any] = msgspec.to_builtins(config.load(state.path(f"runs/{run}/run.yaml")).params)
    except Misconfigured:
        return {}
    return params


def _listing(state: "StateDir") -> cli.Report:
    from mmtools.runs import notation, reading

    lines = [_line(state, run) for run in reading.runs(state)]
    table = notation.table(["run", "status", "feed", "fills", "total"], [_row(line) for line in lines], "<<<<<")
    return cli.Report(document={"schema": "mmtools.runs/1", "runs": lines}, text=table if lines else "no runs yet")


def _row(line: dict[str, Any]) -> list[str]:
    """Return the cells of a run's line; "?" for what is not known."""
    fills, pnl = line["fills"], line["pnl"]
    cells = (line["run_id"], line["status"], line["feed"], fills and str(fills["count"]), pnl and pnl["total"])
    return [cell or "?" for cell in cells]


def _line(state: "StateDir", run: str) -> dict[str, Any]:
    """Return a run in one line. One whose journal cannot be read is named, and hides no other."""
    from mmtools.runs import reading, summary

    keys = ("run_id", "status", "feed", "pnl", "fills")
    try:
        fold = reading.fold_of(state, run)
    except Refused:
        return {**dict.fromkeys(keys), "run_id": run, "status": "unreadable"}
    result = summary.document(fold, status=reading.status_of(state, run, fold))
    return {key: result[key] for key in keys}


if __name__ == "__main__":
    main()
