"""safe-restart: restarts a unit through seven gates, and proves that it came back."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from mmtools import cli

if TYPE_CHECKING:
    from mmtools.ops.gates import Found, Helpers
    from mmtools.ops.restarting import Restarting
    from mmtools.ops.settings import Settings
    from mmtools.ops.systemd import NotKnown, Unit
    from mmtools.state import StateDir

SCHEMA = "mmtools.safe_restart/1"
PRUNE_S = 300.0
SNAPSHOT_S = 120.0
TELL_S = 10.0
TAKE_UP_S = 30.0
"""How long a process that goes on for another waits for that one to end."""


@cli.command(
    example="safe-restart --auto\nsafe-restart --force --why 'it answers nothing'\nsafe-restart llama.service --manager system --dry-run",
    exits=(0, 1, 2, 70, 75, 77, 78, 130),
)
@click.argument("unit", metavar="[UNIT]", required=False)
@click.option("--manager", type=click.Choice(["user", "system"]), default="user", help="Whose unit it is; default user.")
@click.option("--auto", is_flag=True, help="A monitor's call: act above 80 % of the watermark instead of 70 %, and never for a person.")
@click.option("--drain", is_flag=True, help="Wait for running work first, up to restart.drain_limit_s.")
@click.option("--force", is_flag=True, help="Memory is not the reason: skip the memory gate, the cleanup and --drain. Needs --why.")
@click.option("--why", metavar="TEXT", help="The reason, kept with the attempt and told to the chats.")
@click.option("--approve", metavar="NAME", help="Who takes on a restart whose policy is high; at a terminal it is who sits there.")
@click.option("--config", type=click.Path(dir_okay=False), metavar="FILE", help="ops.yaml; default ~/.config/mmtools/ops.yaml.")
@click.option("--dry-run", is_flag=True, help="Go through the gates, change nothing.")
@click.option("--as-attempt", metavar="ID", hidden=True, help="Go on with an attempt that another process began.")
def main(
    *,
    unit: str | None,
    manager: str,
    auto: bool,
    drain: bool,
    force: bool,
    why: str | None,
    approve: str | None,
    config: str | None,
    dry_run: bool,
    as_attempt: str | None,
    state: "StateDir",
) -> cli.Report:
    """Restart a unit (default: the gateway's) when its memory is high, through seven gates.

    The gates: restarts within the hour, memory, session cleanup, a dry run, a word to the chats, a snapshot, and the restart with its
    proof. Exit 0: restarted and proven, or not needed; 1: restarted, and not proven well; 77: a gate says no.
    """
    from mmtools.errors import Refused
    from mmtools.ops import jobs, systemd
    from mmtools.ops.gates import JOB, Entrance, Wish
    from mmtools.ops.restarting import Restarting
    from mmtools.state import GRACE_S

    if force and auto:
        raise click.UsageError("--force is a person's word and --auto a monitor's; say one of them")
    if force and not why:
        raise click.UsageError("--force needs --why TEXT: say what is wrong with it")
    if approve is not None and (auto or not approve.strip()):
        raise click.UsageError("--approve NAME is a person's word: name one, and leave --auto away")
    if dry_run and as_attempt is not None:
        raise click.UsageError("--as-attempt goes on with a restart that was begun; leave --dry-run away")
    chosen = jobs.settings(state, JOB, config, dry_run=dry_run)
    name = _unit(unit, chosen.openclaw.unit)
    wish = Wish(
        unit=name,
        manager=systemd.Manager(manager),
        auto=auto,
        drain=drain,
        force=force,
        why=why or "",
        approved_by=approve or (None if auto else _at_the_terminal()),
        dry_run=dry_run,
        attempt=as_attempt,
        again=_again(name, manager, drain, force, why, config, state),
    )
    unasked = systemd.NotKnown("nobody asked")
    entrance = Entrance(state, chosen, wish, _helpers(state, config, chosen), unit=unasked, measured=unasked)
    restarting = Restarting(entrance)
    try:
        with jobs.running(state, JOB, chosen, dry_run=dry_run, wait_s=GRACE_S if as_attempt is None else TAKE_UP_S):
            restarting.run()
    except Refused as e:
        if not restarting.passed:  # there is no gate to tell of
            raise
        restarting.why = str(e)
        cli.say(f"{JOB}: {e}")
        return _report(restarting, exit_code=77)
    return _report(restarting, exit_code=1 if restarting.result == "failed" else 0)


def _report(restarting: "Restarting", *, exit_code: int) -> cli.Report:
    entrance, proof = restarting.entrance, restarting.proof
    document = {
        "schema": SCHEMA,
        "unit": entrance.wish.unit,
        "manager": entrance.wish.manager,
        "dry_run": entrance.wish.dry_run,
        "restarted": restarting.result == "done" or (proof is not None and bool(proof.signs)),
        "result": restarting.result,
        "why": restarting.why,
        "attempt": restarting.attempt,
        "handed_to": restarting.handed_to,
        "gates": restarting.passed,
        "memory": _memory(restarting),
        "drained": restarting.drained,
        "ended_with_it": restarting.cut,
        "proof": None if proof is None else _proof(restarting),
    }

    def text() -> str:
        lines = [restarting.why] if exit_code != 77 else []
        width = max(len(passage.name) for passage in restarting.passed)
        return "\n".join([*lines, *(f"  {passage.name:{width}}  {passage.result:9}  {passage.why}" for passage in restarting.passed)])

    return cli.Report(document=document, text=text, exit_code=exit_code)


def _memory(restarting: "Restarting") -> dict[str, Any] | None:
    from mmtools.ops.gates import Measured

    measured = restarting.entrance.measured
    if not isinstance(measured, Measured):
        return None
    return {
        "used_bytes": measured.use.size,
        "source": measured.use.source,
        "watermark_bytes": measured.watermark.size,
        "watermark_source": measured.watermark.source,
        "part": round(measured.part, 4),
    }


def _proof(restarting: "Restarting") -> dict[str, Any]:
    proof, before = restarting.proof, restarting.entrance.unit
    assert proof is not None
    return {
        "end": proof.end,
        "why": proof.why,
        "signs": proof.signs,
        "seconds": proof.seconds,
        "polls": proof.polls,
        "before": _shown(before),
        "after": _shown(proof.unit),
        "probe": proof.probe,
    }


def _shown(unit: "Unit | NotKnown | None") -> dict[str, Any] | None:
    from mmtools.ops.systemd import Unit

    fields = ("active_state", "sub_state", "result", "main_pid", "exec_main_status", "n_restarts", "invocation_id", "started_monotonic_us")
    return {field: getattr(unit, field) for field in fields} if isinstance(unit, Unit) else None


def _unit(said: str | None, default: str) -> str:
    """Return the name of the unit; one without a suffix is a service, as systemctl takes it."""
    from mmtools.ops import systemd

    if said is None:
        return default
    name = said if "." in said else f"{said}.service"
    if not systemd.is_name(name) or not name.endswith(".service"):
        raise click.UsageError(f"{said!r} is no name of a service; `systemctl list-units --type=service` names those that run")
    return name


def _at_the_terminal() -> str | None:
    """Return who sits at the terminal; None when nobody does."""
    import os
    import pwd
    import sys

    if sys.stdin is None or not sys.stdin.isatty():
        return None
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _again(
    unit: str, manager: str, drain: bool, force: bool, why: str | None, config: str | None, state: "StateDir"
) -> Callable[[str], Sequence[str]]:
    """Return how this call is made again, from anywhere, for an attempt that is counted."""
    import os
    import sys

    def argv(attempt: str) -> list[str]:
        options = ["--as-attempt", attempt, "--manager", manager, "--state", str(state.root)]
        options += [flag for flag, is_set in (("--drain", drain), ("--force", force)) if is_set]
        options += [f"--why={why}"] if why else []
        options += [f"--config={os.path.abspath(config)}"] if config else []
        return [sys.executable, "-P", "-m", "mmtools.commands.safe_restart", *options, "--", unit]

    return argv


def _helpers(state: "StateDir", config: str | None, chosen: "Settings") -> "Helpers":
    """Return the other commands that gates call, as far as they are installed and have something to do."""
    from mmtools.ops import sisters
    from mmtools.ops.gates import Found, Helpers, Mark

    common = ["--state", str(state.root), *(["--config", config] if config else [])]

    def prune(dry_run: bool) -> "Found":
        said = sisters.call("prune-sessions", [*common, *(["--dry-run"] if dry_run else [])], limit_s=PRUNE_S)
        return Found(Mark.PASSED if said.well else Mark.NOT_KNOWN, said.words)

    def tell() -> "Found":
        said = sisters.call("status-update", [*common, "--alerts"], limit_s=TELL_S)
        return Found(Mark.PASSED if said.well else Mark.NOT_KNOWN, said.words)

    def snapshot(why: str) -> "Found":
        said = sisters.call("snapshot", [*common, "--why", why], limit_s=SNAPSHOT_S)
        return Found(Mark.PASSED if said.well else Mark.REFUSED, said.words, stop=not said.well)

    has = sisters.is_installed
    return Helpers(
        prune=prune if has("prune-sessions") else None,
        tell=tell if has("status-update") and any(chat.alerts for chat in chosen.chats) else None,
        snapshot=snapshot if has("snapshot") else None,
    )


if __name__ == "__main__":
    main()
