"""prune-sessions: removes dead cron-run sessions of an OpenClaw gateway, with what nobody needs beside them; and puts them back."""

from typing import TYPE_CHECKING, Any

import click

from mmtools import cli

if TYPE_CHECKING:
    from mmtools.state import StateDir

WHAT = ("sessions", "orphans", "tmp", "deleted", "corrupt", "cron-logs", "snapshots", "recordings")
USUALLY = ("sessions", "orphans", "tmp", "deleted", "corrupt", "cron-logs", "snapshots")


@cli.command(
    example="prune-sessions --dry-run\nprune-sessions --older-than 12h\nprune-sessions --undo 20260211T200000Z-4711",
    exits=(0, 1, 2, 70, 75, 77, 78, 130),
)
@click.option("--openclaw", "root", metavar="DIR", help="OpenClaw's state folder; default as in the settings, else ~/.openclaw.")
@click.option("--agent", metavar="ID", help="Only this agent.")
@click.option("--older-than", metavar="AGE", help="Take cron runs that were written to longer ago, such as 24h (the default).")
@click.option("--what", multiple=True, type=click.Choice(WHAT), help=f"Only this; may be given again. Default: {', '.join(USUALLY)}.")
@click.option("--keep-trash", metavar="AGE", help="Keep what was taken for so long, such as 7d (the default).")
@click.option("--undo", metavar="RUN", help="Put back what this run took.")
@click.option("--now", metavar="ISO", help="Take this for the present, such as 2026-02-11T20:00:00Z.")
@click.option("--config", "settings_file", metavar="FILE", help="The settings; default ~/.config/mmtools/ops.yaml.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
def main(
    *,
    root: str | None,
    agent: str | None,
    older_than: str | None,
    what: tuple[str, ...],
    keep_trash: str | None,
    undo: str | None,
    now: str | None,
    settings_file: str | None,
    dry_run: bool,
    state: "StateDir",
) -> cli.Report:
    """Remove cron-run sessions that are over and old, and files beside them that nobody needs.

    Everything goes to a trash first, and --undo puts it back. A store that is not whole is not touched, and neither is one that a running
    gateway may be writing: there the gateway itself is asked.
    """
    from mmtools.ops import jobs
    from mmtools.ops.housekeeping import Housekeeping, Wish
    from mmtools.state import StateDir

    if dry_run:
        state = StateDir(state.root, leave_broken=True)
    chosen = jobs.settings(state, "prune-sessions", settings_file, dry_run=dry_run)
    if undo is not None and (older_than or what or keep_trash):
        raise click.UsageError("--undo puts back all that a run took; --older-than, --what and --keep-trash have no place beside it")
    wish = Wish(
        now_ms=_moment(now),
        older_than_s=_age("--older-than", older_than, chosen.sessions.older_than_h),
        keep_trash_s=_age("--keep-trash", keep_trash, chosen.sessions.keep_trash_h),
        what=frozenset(what or USUALLY),
        agent=agent,
        dry_run=dry_run,
    )
    with jobs.running(state, "prune-sessions", chosen, dry_run=dry_run):
        run = Housekeeping(chosen, root, state, wish)
        document = run.prune() if undo is None else run.undo(undo)
    found = undo is not None and bool(document["in_the_way"])
    return cli.Report(document=document, text=lambda: _text(document), exit_code=1 if found else 0)


def _age(option: str, text: str | None, hours: float) -> float:
    from mmtools.ops.settings import seconds

    if text is None:
        return hours * 3600
    try:
        return seconds(text)
    except ValueError as e:
        raise click.UsageError(f"{option}: {e}") from e


def _moment(text: str | None) -> int:
    from datetime import datetime

    from mmtools import moments

    if text is None:
        return moments.now_ms()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = datetime.min
    if at.tzinfo is None:
        raise click.UsageError(f"--now: {text!r} is no time with its zone; write it like 2026-02-11T20:00:00Z")
    if not 1970 <= at.year < 9999:
        raise click.UsageError(f"--now: {text!r} is no year of this world; write it like 2026-02-11T20:00:00Z")
    return round(at.timestamp() * 1000)


def _text(document: dict[str, Any]) -> str:
    return "\n".join(_undone(document) if "places" in document else _pruned(document))


def _pruned(document: dict[str, Any]) -> list[str]:
    dry = document["dry_run"]
    lines = ["dry run: nothing was changed"] if dry else [f"run {document['run']}"]
    for each in document["agents"]:
        entries = each["entries"]
        kept = ", ".join(f"{count} {reason}" for reason, count in entries["kept_by"].items() if count)
        left = f", {entries['left']} left for the next run" if entries["left"] else ""
        way = f"by its {each['route']}, gateway {each['gateway']}, era {each['era']}"
        verb = "would go" if dry else "gone"
        lines.append(
            f"agent {each['agent']} ({way}): {entries['gone']} of {entries['before']} sessions {verb}{left}; kept: {kept or 'none'}"
        )
        lines += _files(each)
    for other in document["others"]:
        lines.append(f"{other['kind']}: {sum(other['files'].values())} files")
        lines += _files(other)
    return lines + [f"note: {note}" for note in document["notes"]]


def _files(each: dict[str, Any]) -> list[str]:
    lines = []
    if each["files"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in each["files"].items())
        lines.append(f"  files: {kinds}; {each['bytes'] / 1e6:.1f} MB" + (f", in {each['trash']}" if each["trash"] else ""))
    if each["files_left"]:
        lines.append(f"  {each['files_left']} more files are left for the next run")
    if each["skipped"]:
        lines.append(f"  {each['skipped']} files changed meanwhile and stay")
    if each["finished"]:
        lines.append(f"  earlier runs that had been cut off: {', '.join(each['finished'])}")
    if each["purged"]:
        lines.append(f"  out of the trash for good: {', '.join(each['purged'])}")
    return lines


def _undone(document: dict[str, Any]) -> list[str]:
    lines = ["dry run: nothing was changed"] if document["dry_run"] else []
    for place in document["places"]:
        how = " (the store has its old bytes)" if place["exact"] else ""
        lines.append(f"{place['place']}: {place['entries']} sessions and {place['files']} files back{how}")
        lines += [f"  still in the trash, another file is in its place: {name}" for name in place["in_the_way"]]
    return lines


if __name__ == "__main__":
    main()
