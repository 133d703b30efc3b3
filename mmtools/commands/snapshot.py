"""snapshot: takes down what runs and what is owned, with copies of the files that say so; verifies and lists what it took."""

from typing import TYPE_CHECKING, Any

import click

from mmtools import cli

if TYPE_CHECKING:
    from mmtools.state import StateDir

SCHEMA = "mmtools.snapshot/1"
LIST_SCHEMA = "mmtools.snapshots/1"
VERIFY_SCHEMA = "mmtools.snapshot_verify/1"


@cli.command(example="snapshot\nsnapshot --list\nsnapshot verify", exits=(0, 1, 2, 70, 75, 77, 78, 130))
@click.option("--keep", metavar="N", type=click.IntRange(1, 1000), help="Keep so many; default `snapshots: keep` of ops.yaml.")
@click.option("--openclaw", metavar="DIR", type=click.Path(file_okay=False), help="The gateway's folder, in place of the one in ops.yaml.")
@click.option("--why", metavar="TEXT", default="by hand", help="Why it is taken, kept with it.")
@click.option("--config", "config_file", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="The settings, ops.yaml.")
@click.option("--list", "listed", is_flag=True, help="Name the snapshots there are, oldest first, and take none.")
@click.option("--dry-run", is_flag=True, help="Say what would be taken and removed, and write nothing.")
def main(
    *, keep: int | None, openclaw: str | None, why: str, config_file: str | None, listed: bool, dry_run: bool, state: "StateDir"
) -> cli.Report:
    """Take a snapshot of what runs and what is owned.

    Exit 1 when our runs, the board, or a file that is there could not be read, or a file is broken: it says which, and why.
    """
    if listed:
        if keep is not None or openclaw or config_file or dry_run:
            raise click.UsageError("--list shows what there is; leave the other options out")
        return _list(state)
    import msgspec

    from mmtools.ops import jobs, settings, snapshots
    from mmtools.state import StateDir

    if dry_run:
        state = StateDir(state.root, leave_broken=True)
    loaded = jobs.settings(state, "snapshot", config_file, dry_run=dry_run)
    if keep is not None:
        loaded = msgspec.structs.replace(loaded, snapshots=settings.Snapshots(keep=keep))
    with jobs.running(state, "snapshot", loaded, dry_run=dry_run):
        taken = snapshots.take(state, loaded, why=why, root=openclaw, config=config_file, dry_run=dry_run)
    snapshot = taken.snapshot
    lost = {
        name: kept.get("why") or f"broken: {kept['broken']}" for name, kept in snapshot.files.items() if "why" in kept or "broken" in kept
    }
    found = any(kept["fate"] in ("changing", "unreadable") or "broken" in kept for kept in snapshot.files.values())
    found = found or any(snapshot.parts[part]["is"] == "not known" for part in ("runs", "tasks"))
    document = {
        "schema": SCHEMA,
        **snapshots.document(snapshot),
        "dry_run": dry_run,
        "folder": str(state.path(f"{snapshots.FOLDER}/{snapshot.id}")),
        "removed": list(taken.removed),
    }
    said = f"{snapshot.id}: {'would be taken' if dry_run else 'taken'}"
    copied = [kept for kept in snapshot.files.values() if kept["fate"] == "copied"]
    size = sum(int(kept.get("size", 0)) for kept in copied)
    lines = [f"{said}; {len(copied)} files, {size} bytes"]
    lines += [f"{name}: {_summary(part)}" for name, part in snapshot.parts.items()]
    lines += [f"{name}: {why}" for name, why in lost.items()]
    if taken.removed:
        lines.append(f"{'would be removed' if dry_run else 'removed'}: {', '.join(taken.removed)}")
    return cli.Report(document=document, text="\n".join(lines), exit_code=1 if found else 0)


@main.subcommand(example="snapshot verify\nsnapshot verify 20261127T020000.000000Z --json", exits=(0, 1, 2, 70, 75, 77, 78, 130))
@click.argument("snapshot_id", metavar="[ID]", required=False)
def verify(*, snapshot_id: str | None, state: "StateDir") -> cli.Report:
    """Look at every byte of a snapshot, or of all, and name what is damaged; nothing is changed."""
    from mmtools.ops import snapshots

    wanted = snapshots.ids(state) if snapshot_id is None else [snapshot_id]
    found: dict[str, list[str]] = {}
    for each in wanted:
        try:
            found[each] = snapshots.verify(state, each)
        except snapshots.BadRequest:
            if snapshot_id is not None:
                raise  # else it was removed while we looked at others
        if snapshot_id is None and found.get(each) and each not in snapshots.ids(state):
            del found[each]
    damaged = {each: problems for each, problems in found.items() if problems}
    lines = [f"{each}: {'; '.join(problems) if problems else 'good'}" for each, problems in found.items()]
    document = {
        "schema": VERIFY_SCHEMA,
        "snapshots": {each: {"good": not problems, "problems": problems} for each, problems in found.items()},
    }
    return cli.Report(document=document, text="\n".join(lines) or "there is no snapshot", exit_code=1 if damaged else 0)


def _list(state: "StateDir") -> cli.Report:
    from mmtools.errors import Misconfigured, Refused, TryLater
    from mmtools.moments import iso
    from mmtools.ops import snapshots

    found: list[dict[str, Any]] = []
    for each in snapshots.ids(state):
        try:
            snapshot = snapshots.read(state, each)
            found.append({"id": each, "at": iso(snapshot.when.wall_ms), "why": snapshot.why, "problem": None})
        except (Refused, Misconfigured, TryLater) as e:
            found.append({"id": each, "at": None, "why": None, "problem": str(e)})
    lines = [f"{each['id']}  {each['problem'] or each['why']}" for each in found]
    return cli.Report(document={"schema": LIST_SCHEMA, "snapshots": found}, text="\n".join(lines) or "there is no snapshot")


def _summary(part: dict[str, Any]) -> str:
    if part["is"] != "present":
        return f"not known, {part['why']}" if part["is"] == "not known" else "none"
    content = part["content"]
    return f"{len(content)} known" if isinstance(content, list) else ", ".join(f"{key}{_state_of(value)}" for key, value in content.items())


def _state_of(value: Any) -> str:
    """Return what matters of one thing of a part."""
    if not isinstance(value, dict):
        return f" {value}" if value is not None else ""
    if value.get("is") == "not known":
        return f" not known ({value['why']})"
    known = value.get("standing") or value.get("ActiveState") or (value.get("content") or {}).get("count")
    return f" {known}" if known is not None else ""


if __name__ == "__main__":
    main()
