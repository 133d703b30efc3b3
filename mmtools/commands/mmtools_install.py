"""mmtools-install: writes or removes the jobs that look after everything, in this user's crontab or user manager."""

from typing import TYPE_CHECKING, Any

import click

from mmtools import cli

if TYPE_CHECKING:
    from mmtools.ops.installation import Plan
    from mmtools.ops.templates import Place
    from mmtools.state import StateDir

SCHEMA = "mmtools.install/1"


@cli.command(
    example="mmtools-install --user --dry-run\nmmtools-install --user\nmmtools-install --user --uninstall",
    exits=(0, 1, 2, 70, 75, 77, 78, 130),
)
@click.option("--user", is_flag=True, help="For this user. Must be said: there is no installation for the whole machine.")
@click.option("--systemd", is_flag=True, help="As units of the user manager, also where none answers now.")
@click.option("--cron", is_flag=True, help="As a block in the crontab.")
@click.option("--gateway-dropin", is_flag=True, help="Also a drop-in for the unit of the gateway: recovery after its start, alerts.")
@click.option("--uninstall", is_flag=True, help="Remove all that was written and not changed by hand.")
@click.option(
    "--config", metavar="FILE", help="The settings, which name the gateway's unit; default ~/.config/mmtools/ops.yaml if there is one."
)
@click.option("--dry-run", is_flag=True, help="Show what would change, to the byte; change nothing.")
def main(
    *,
    user: bool,
    systemd: bool,
    cron: bool,
    gateway_dropin: bool,
    uninstall: bool,
    config: str | None,
    dry_run: bool,
    state: "StateDir",
) -> cli.Report:
    """Install the jobs for this user: status, alerts, memory, pruning, snapshots, a daily report.

    Without --systemd or --cron it takes the user manager where one answers and stays when you log out, else cron, and says why. The
    settings are copied where there are none. Exit 1: something was changed by hand, and is left as it is.
    """
    import os
    from contextlib import nullcontext
    from pathlib import Path

    import mmtools
    from mmtools.errors import TryLater
    from mmtools.ops import installation, templates
    from mmtools.state import StateDir

    if not user:
        raise click.UsageError("say --user: this user's crontab or units are changed")
    if (systemd and cron) or (uninstall and (systemd or cron or gateway_dropin)):
        raise click.UsageError("say one of --systemd, --cron and --uninstall; --gateway-dropin goes with an installation")
    place = templates.here(Path(mmtools.__file__).resolve().parents[1], state.root, os.environ)
    if dry_run:
        if state.is_locked("mmtools-install"):
            raise TryLater("mmtools-install is running: its lock is held; wait for it to end, and run again")
        state = StateDir(state.root, leave_broken=True)
    with nullcontext() if dry_run else state.lock("mmtools-install"):
        if uninstall:
            plan = installation.plan_uninstall(state, place)
        else:
            plan = _planned(state, place, systemd=systemd, cron=cron, gateway_dropin=gateway_dropin, config=config)
        if not dry_run:
            installation.carry_out(state, plan)
    return _report(plan, dry_run=dry_run)


def _planned(state: "StateDir", place: "Place", *, systemd: bool, cron: bool, gateway_dropin: bool, config: str | None) -> "Plan":
    from mmtools.ops import installation, settings

    unit = settings.load(config).openclaw.unit
    how, why = installation.choose() if not (systemd or cron) else ("systemd" if systemd else "cron", "asked for")
    return installation.plan_install(state, place, how=how, why=why, gateway_unit=unit if gateway_dropin else None)


def _report(plan: "Plan", *, dry_run: bool) -> cli.Report:
    runs = [" ".join(("systemctl", "--user", *argv)) for argv in (*plan.start, *plan.stop, *plan.after)]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "dry_run": dry_run,
        "how": plan.how,
        "why": plan.why,
        "changes": [
            {"what": change.what, "does": change.does, "before": _text(change.before), "after": _text(change.after)}
            for change in plan.changes
        ],
        "links_removed": [str(link) for link in plan.links],
        "runs": runs,
        "kept": plan.kept,
        "later": plan.later,
        "lacking": plan.lacking,
    }
    return cli.Report(document=document, text=lambda: _as_text(plan, runs, dry_run=dry_run), exit_code=1 if plan.kept else 0)


def _as_text(plan: "Plan", runs: list[str], *, dry_run: bool) -> str:
    import difflib

    lines = [] if plan.how is None else [f"{'would use' if dry_run else 'uses'} {plan.how}: {plan.why}"]
    for change in plan.changes:
        lines.append(f"{'would ' if dry_run else ''}{change.does} {change.what}")
        if dry_run:
            old, new = ((_text(content) or "").splitlines() for content in (change.before, change.after))
            lines += [
                f"    {line}" for line in difflib.unified_diff(old, new, lineterm="", n=1) if not line.startswith(("---", "+++", "@@"))
            ]
    lines += [f"{'would ' if dry_run else ''}remove {link}" for link in plan.links]
    lines += [f"{'would run' if dry_run else 'ran'} {run}" for run in runs]
    lines += [f"kept {what}" for what in plan.kept]
    lines += [f"left out: no command {name} is there" for name in plan.lacking]
    lines += [f"run later: {call}" for call in plan.later]
    if plan.is_empty:
        lines.append("nothing to change")
    return "\n".join(lines)


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="replace")


if __name__ == "__main__":
    main()
