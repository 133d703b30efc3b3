"""halt: latches, shows and clears the kill switch of a paper run."""

from typing import TYPE_CHECKING, Any

import click

from mmtools import cli

if TYPE_CHECKING:
    from mmtools.state import StateDir

SCHEMA = "mmtools.halt/1"


@cli.command(
    example="halt --run ID --why 'the news is out'\nhalt --run ID --clear --why 'read the news'\nhalt", exits=(0, 1, 2, 70, 75, 77, 78, 130)
)
@click.option("--run", metavar="ID", help="The run; without it all runs whose switch is closed are shown.")
@click.option("--reduce-only", is_flag=True, help="Do not end the run: let it only sell what it holds.")
@click.option("--clear", is_flag=True, help="Open the switch; needs --why.")
@click.option("--why", metavar="TEXT", help="The reason, kept with the latch.")
def main(*, run: str | None, reduce_only: bool, clear: bool, why: str | None, state: "StateDir") -> cli.Report:
    """Latch, show or clear the kill switch of a run.

    With --run it latches: the run cancels its orders, ends with status "halted" and refuses to start until it is cleared.
    Without --run it shows the closed switches, exit 1 when there is one.
    """
    from mmtools.errors import Refused
    from mmtools.runs import reading
    from mmtools.runs.switch import Switch

    if run is None:
        if reduce_only or clear or why:
            raise click.UsageError("say which run: --run ID (`report --list` names them)")
        return _show(state)
    if clear and reduce_only:
        raise click.UsageError("--clear opens the switch, --reduce-only closes it; say one of them")
    if clear and not why:
        raise click.UsageError("--clear needs --why TEXT: say what was looked at")
    if run not in reading.runs(state):
        raise Refused(f"there is no run {run} in {state.root}; `report --list` names those there are")
    switch = Switch(state, run)
    if clear:
        opened = switch.clear(by=_who(), why=str(why))
        return _report(state, [run], f"{run}: {'cleared' if opened else 'was not latched'}")
    switch.latch(reason="manual", detail=why or "halted by hand", by=_who(), reduce_only=reduce_only)
    if state.is_locked(f"runs/{run}"):
        does = "it winds down" if reduce_only else "it cancels and ends"
    else:
        does = f"it is not running, and will {'only wind down when started' if reduce_only else 'not start'} until this is cleared"
    return _report(state, [run], f"{run}: latched; {does}")


def _show(state: "StateDir") -> cli.Report:
    from mmtools.runs import reading
    from mmtools.runs.switch import Switch

    closed = [run for run in reading.runs(state) if any(latch["cleared"] is None for latch in Switch(state, run).latches())]
    return _report(state, closed, "", exit_code=1 if closed else 0)


def _report(state: "StateDir", runs: list[str], headline: str, *, exit_code: int = 0) -> cli.Report:
    from mmtools.runs.switch import Switch

    latches: dict[str, list[dict[str, Any]]] = {run: Switch(state, run).latches() for run in runs}
    lines = [headline] if headline else []
    for run, each in latches.items():
        for latch in each:
            if latch["cleared"] is None:
                how = "reduce only" if latch["reduce_only"] else "halted"
                lines.append(f"{run}: {how} since {latch['since']} by {latch['by']}: {latch['reason']}, {latch['detail']}")
    return cli.Report(document={"schema": SCHEMA, "runs": latches}, text="\n".join(lines) or "no run is latched", exit_code=exit_code)


def _who() -> str:
    """Return who is at the keyboard, as the system knows them; cron has no login name."""
    import os
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


if __name__ == "__main__":
    main()
