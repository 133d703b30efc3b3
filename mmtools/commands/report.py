"""report: the result of a run, read from its journal, also of one that runs or died."""

from typing import TYPE_CHECKING, Any

import click

from mmtools import cli
from mmtools.errors import Refused

if TYPE_CHECKING:
    from mmtools.state import StateDir


@cli.command(example="report\nreport RUN --json | jq .pnl")
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--list", "listing", is_flag=True, help="Name the runs there are, newest last, with their status.")
def main(*, run: str | None, listing: bool, state: "StateDir") -> cli.Report:
    """Show the result of a run: P&L and its parts, fills, orders, what it assumes.

    Without RUN it shows the newest one. Everything is folded from the run's journal.
    """
    from mmtools.runs import session, summary

    if listing:
        return _listing(state)
    runs = session.runs(state)
    if not runs:
        raise Refused(f"there are no runs in {state.root}; `quote-run --demo` makes one")
    if run is not None and run not in runs:
        raise Refused(f"there is no run {run} in {state.root}; `report --list` names those there are")
    run = run or runs[-1]
    fold = session.fold_of(state, run)
    document = summary.document(fold, status=session.status_of(state, run, fold))
    table = summary.table(document, warnings=summary.warnings(fold), folder=str(state.path(f"runs/{run}")))
    return cli.Report(document=document, text=table)


def _listing(state: "StateDir") -> cli.Report:
    from tabulate import tabulate

    from mmtools.runs import session

    lines = [_line(state, run) for run in session.runs(state)]
    rows = [[d["run_id"], d["status"], d["feed"], d["fills"] and d["fills"]["count"], d["pnl"] and d["pnl"]["total"]] for d in lines]
    heads = ["run", "status", "feed", "fills", "total"]
    return cli.Report(
        document={"schema": "mmtools.runs/1", "runs": lines},
        text=tabulate(rows, headers=heads, missingval="?", disable_numparse=True) if rows else "no runs yet",
    )


def _line(state: "StateDir", run: str) -> dict[str, Any]:
    """Return a run in one line. One whose journal cannot be read is named, and hides no other."""
    from mmtools.runs import session, summary

    keys = ("run_id", "status", "feed", "pnl", "fills")
    try:
        fold = session.fold_of(state, run)
    except Refused:
        return {**dict.fromkeys(keys), "run_id": run, "status": "unreadable"}
    result = summary.document(fold, status=session.status_of(state, run, fold))
    return {key: result[key] for key in keys}


if __name__ == "__main__":
    main()
