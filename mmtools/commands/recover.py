"""recover: plans the way back to what a snapshot shows, and carries it out: runs that died, tasks of the dead, sessions, cut restarts."""

from typing import TYPE_CHECKING

import click

from mmtools import cli

if TYPE_CHECKING:
    from mmtools.moments import Moment
    from mmtools.ops.recovery import Ended, Step
    from mmtools.ops.snapshots import Snapshot
    from mmtools.state import StateDir

SCHEMA = "mmtools.recover/1"
HANDED_SCHEMA = "mmtools.recover_handed/1"
AFTER_START = "5m"
"""How long the gateway that was just started is waited for, when there is something to ask it."""


@cli.command(
    example="recover --dry-run\nrecover --why 'the machine was restarted'\nrecover 20261127T020000.000000Z",
    exits=(0, 1, 2, 70, 75, 77, 78, 130),
)
@click.argument("snapshot_id", metavar="[ID]", required=False)
@click.option("--why", metavar="TEXT", help="Why, kept with each step.")
@click.option("--max-age", metavar="SPAN", default="24h", show_default=True, help="Refuse a snapshot that is older: 90m, 24h, 7d.")
@click.option("--wait-gateway", metavar="SPAN", default="0s", help="Wait so long for the gateway when it must be asked: 90s, 5m.")
@click.option(
    "--after-start", metavar="UNIT", help="For the unit's ExecStartPost: start a recovery that is no part of the unit, and return at once."
)
@click.option("--config", "config_file", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="The settings, ops.yaml.")
@click.option("--dry-run", is_flag=True, help="Show the plan, and do nothing.")
def main(
    *,
    snapshot_id: str | None,
    why: str | None,
    max_age: str,
    wait_gateway: str,
    after_start: str | None,
    config_file: str | None,
    dry_run: bool,
    state: "StateDir",
) -> cli.Report:
    """Go back to what a snapshot shows, the newest good one without ID.

    Starts runs again that died and belong to recover, gives tasks of dead workers back to their board, prunes dead sessions of the
    gateway, and says what became of restarts that were cut. What cannot be proven is left alone, and told: exit 1. Called again it
    finds nothing to do.
    """
    from mmtools.errors import Refused
    from mmtools.moments import Moment
    from mmtools.ops import jobs, recovery, settings
    from mmtools.state import StateDir

    try:
        max_age_s, wait_s = settings.seconds(max_age), settings.seconds(wait_gateway)
    except ValueError as e:
        raise click.UsageError(f"--max-age and --wait-gateway: {e}") from e
    if dry_run:
        state = StateDir(state.root, leave_broken=True)
    loaded = jobs.settings(state, recovery.JOB, config_file, dry_run=dry_run)
    if after_start is not None and not dry_run:
        try:
            recovery.choose(state, snapshot_id, Moment.now(), max_age_s)
        except Refused as e:
            return _handed(None, f"nothing to go back to: {e}")
        return _hand_over(state, snapshot_id, after_start, max_age, config_file)
    with jobs.running(state, recovery.JOB, loaded, dry_run=dry_run):
        now = Moment.now()
        snapshot, damaged = recovery.choose(state, snapshot_id, now, max_age_s)
        steps = recovery.plan(state, loaded, snapshot, now=now, max_age_s=max_age_s, gateway_wait_s=wait_s)
        why = why or "recover"
        ended = None if dry_run else recovery.carry_out(state, loaded, snapshot, steps, why=why)
    return _report(snapshot, now, steps, ended, damaged, why)


def _hand_over(state: "StateDir", snapshot_id: str | None, unit: str, max_age: str, config_file: str | None) -> cli.Report:
    """Start the same recovery as a process that the unit does not wait for, nor takes along when it ends."""
    import os

    from mmtools.errors import Refused
    from mmtools.ops import launching

    chosen = [snapshot_id] if snapshot_id is not None else []
    config = ["--config", os.path.abspath(config_file)] if config_file is not None else []
    argv = [
        *launching.command("recover"), *chosen, "--state", str(state.root), *config, "--max-age", max_age, "--wait-gateway", AFTER_START,
        "--why", f"after the start of {unit}",
    ]  # fmt: skip
    launched = launching.launch(state, argv, unit=f"mmtools-recover-{os.getpid()}.service", words="recoveries/after-start.log")
    if isinstance(launched, launching.NotLaunched):
        raise Refused(f"the recovery after the start of {unit} was not started: {launched.why}; run `recover`")
    return _handed(launched.how, f"a recovery goes on {launched.how}; its words are in recoveries/after-start.log")


def _handed(how: str | None, text: str) -> cli.Report:
    return cli.Report(document={"schema": HANDED_SCHEMA, "started": how is not None, "how": how, "why": text}, text=text)


def _report(
    snapshot: "Snapshot", now: "Moment", steps: "list[Step]", ended: "list[Ended] | None", damaged: list[str], why: str
) -> cli.Report:
    from mmtools.ops import recovery, snapshots
    from mmtools.ops.recovery import Result

    age_s = snapshots.age_s(snapshot, now)
    lines = [f"from snapshot {snapshot.id}, {age_s / 60:.0f} minutes old"]
    lines += [f"damaged, and passed over: {each}" for each in damaged]
    if ended is None:
        lines += [f"{'would ' + step.what if step.act else f'would not {step.what}: {step.why}'}" for step in steps]
    else:
        lines += [f"{each.step.what}: {each.result}" + (f", {each.detail}" if each.detail else "") for each in ended]
    if not steps:
        lines.append("nothing to do")
    document = {
        "schema": SCHEMA,
        "snapshot": snapshot.id,
        "age_s": round(age_s, 3),
        "damaged": damaged,
        "gone": [{"pid": process.pid, "argv": list(process.argv)} for process in recovery.gone(snapshot)],
        "dry_run": ended is None,
        "why": why,
        "plan": [step.document() for step in steps],
        "results": None if ended is None else [{"key": e.step.key, "result": e.result.value, "detail": e.detail} for e in ended],
    }
    later = ended is not None and any(each.result is Result.LATER for each in ended)
    missed = [
        each for each in ended or () if each.result in (Result.FAILED, Result.NOT_KNOWN) or (each.result is Result.LEFT and each.step.look)
    ]
    look = bool(missed) or bool(damaged) or (ended is None and any(not step.act and step.look for step in steps))
    return cli.Report(document=document, text="\n".join(lines), exit_code=75 if later else 1 if look else 0)


if __name__ == "__main__":
    main()
