"""report: the result of a run, read from its journal, also of one that runs or died."""

from typing import TYPE_CHECKING

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
    if run is None:
        runs = session.runs(state)
        if not runs:
            raise Refused(f"there are no runs in {state.root}; `quote-run --demo` makes one")
        run = runs[-1]
    fold = session.fold_of(state, run)
    document = summary.document(fold, status=session.status_of(state, run, fold))
    table = summary.table(document, warnings=summary.warnings(fold), folder=str(state.path(f"runs/{run}")))
    return cli.Report(document=document, text=table)


def _listing(state: "StateDir") -> cli.Report:
    from tabulate import tabulate

    from mmtools.runs import session, summary

    documents = []
    for run in session.runs(state):
        fold = session.fold_of(state, run)
        documents.append(summary.document(fold, status=session.status_of(state, run, fold)))
    rows = [[d["run_id"], d["status"], d["feed"], d["fills"]["count"], d["pnl"]["total"]] for d in documents]
    keys = ("run_id", "status", "feed", "pnl", "fills")
    return cli.Report(
        document={"schema": "mmtools.runs/1", "runs": [{key: d[key] for key in keys} for d in documents]},
        text=tabulate(rows, headers=["run", "status", "feed", "fills", "total"], disable_numparse=True) if rows else "no runs yet",
    )


if __name__ == "__main__":
    main()
