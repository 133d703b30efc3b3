"""status-update: gathers how everything stands, says what is wrong with it, and tells those who want to know."""

from typing import TYPE_CHECKING, Any

import click

from mmtools import cli

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmtools.ops.facts import Facts
    from mmtools.ops.findings import Finding
    from mmtools.ops.settings import JobName, Settings
    from mmtools.state import StateDir

SCHEMA = "mmtools.status_update/1"
LIMIT_S = 8.5
"""For gathering and telling together, whatever hangs."""


@cli.command(
    example="status-update --no-send\nstatus-update --alerts --recover\nstatus-update --json --dry-run | jq .findings",
    exits=(0, 1, 2, 70, 75, 77, 78, 130),
)
@click.option("--alerts", is_flag=True, help="Only what is wrong: raise and send alerts, no status. For every minute.")
@click.option("--recover", is_flag=True, help="Start crashed runs again whose owner is status-update.")
@click.option("--no-send", is_flag=True, help="Nothing leaves this machine: alerts and status wait in the outbox.")
@click.option("--textfile", metavar="FILE", help="Write the figures for Prometheus there, instead of to `textfile` of the settings.")
@click.option("--config", metavar="FILE", help="The settings; default ~/.config/mmtools/ops.yaml if there is one.")
@click.option("--dry-run", is_flag=True, help="Gather and judge; change nothing and send nothing.")
def main(
    *, alerts: bool, recover: bool, no_send: bool, textfile: str | None, config: str | None, dry_run: bool, state: "StateDir"
) -> cli.Report:
    """Gather how runs, gateway, machine and jobs stand, and show it as a card.

    It raises an alert for what is wrong, writes the figures for Prometheus, and sends what is due to chats and board. Exit 1 when
    something is wrong.
    """
    from mmtools.ops import jobs

    if dry_run:
        from mmtools.state import StateDir

        state = StateDir(state.root, leave_broken=True)
    name: JobName = "status-alerts" if alerts else "status-update"  # two: that of every minute must not keep the other from its hour
    known = jobs.settings(state, name, config, dry_run=dry_run)
    with jobs.running(state, name, known, dry_run=dry_run):
        return _Update(state, known, alerts=alerts, recover=recover, send=not no_send, dry_run=dry_run).run(textfile or known.textfile)


class _Update:
    """One run. What fails at one step does not keep the next from being done, and is raised at the end."""

    def __init__(self, state: "StateDir", settings: "Settings", *, alerts: bool, recover: bool, send: bool, dry_run: bool) -> None:
        self._state = state
        self._settings = settings
        self._alerts = alerts
        self._recover = recover
        self._send = send
        self._dry_run = dry_run
        self._failures: list[Exception] = []

    def run(self, textfile: str | None) -> cli.Report:
        import time

        from mmtools import moments
        from mmtools.ops import card, facts, findings, gather, watch
        from mmtools.outbox import Level

        deadline = time.monotonic() + LIMIT_S
        state, settings, dry_run = self._state, self._settings, self._dry_run
        seen = gather.gather(state, settings)
        found = findings.find(seen, settings)
        due = self._try(lambda: watch.look(state, found, findings.blind(seen), seen.now, dry_run=dry_run)) or []
        since = {finding.name: moments.iso(seen.now.wall_ms) for finding in found} | watch.standing(state)
        text = card.card(seen, found, since)
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "dry_run": dry_run,
            "facts": facts.document(seen),
            "findings": [_plain(finding, since) for finding in found],
            "alerts": [{"key": alert.key, "level": alert.level.value, "text": alert.text} for alert in due],
            "card": text,
            "textfile": textfile,
        }
        if not dry_run:
            self._try(lambda: _tell_of_caller(state))
            if not self._alerts:
                figures = {"as_of": document["facts"]["as_of"], "findings": document["findings"], "changes": card.changes(seen, found)}
                self._try(lambda: _put_status(state, text, figures))
            if textfile is not None:
                self._try(lambda: _write_textfile(state, textfile, seen, found))
        document["told"] = self._try(lambda: self._tell(seen, found, text, deadline)) if self._send else None
        # Last, for a run may take a minute until it quotes, and nobody should hear of the rest so late.
        document["revivals"] = self._try(lambda: self._revive(seen)) if self._recover else None
        for failure in self._failures[1:]:
            cli.say(f"status-update: {failure}")
        if self._failures:
            raise self._failures[0]
        wrong = any(finding.level is not Level.INFO for finding in found)
        return cli.Report(document=document, text=_shown(text, document, self._alerts), exit_code=int(wrong))

    def _tell(self, seen: "Facts", found: "list[Finding]", text: str, deadline: float) -> dict[str, Any]:
        from mmtools.ops import sending

        board = None
        if not self._alerts:
            board = sending.OnBoard(text=text, figures=sending.figures(seen, found), now_ms=seen.now.wall_ms)
        told = sending.tell(self._state, self._settings, deadline, board=board, dry_run=self._dry_run)
        self._failures += told.failures
        return sending.document(told)

    def _revive(self, seen: "Facts") -> list[dict[str, Any]]:
        from mmtools.ops import reviving

        revivals = reviving.revive_all(self._state, self._settings, seen, dry_run=self._dry_run)
        return [{"run_id": each.run_id, "revived": each.revived, "why": each.why} for each in revivals]

    def _try(self, step: "Callable[[], Any]") -> Any:
        """Return what a step returns; None when it failed, which is kept for the end."""
        from mmtools.errors import Misconfigured, Refused, TryLater

        try:
            return step()
        except (TryLater, Refused, Misconfigured) as e:
            self._failures.append(e)
            return None


def _tell_of_caller(state: "StateDir") -> None:
    """Raise an alert for the unit that failed, when systemd started us for it (OnFailure=): it may have died before it could speak.

    A job of ours that fails in one way again and again, every five minutes perhaps, is told of once a day: as a rule it speaks for itself.
    """
    import os

    from mmtools import moments, outbox

    unit, invocation = os.environ.get("MONITOR_UNIT"), os.environ.get("MONITOR_INVOCATION_ID")
    if unit and invocation:
        how = f"{os.environ.get('MONITOR_SERVICE_RESULT', 'failed')}, exit {os.environ.get('MONITOR_EXIT_STATUS', 'not known')}"
        text = f"{unit} failed ({how}); `journalctl --user -u {unit}` has its last words"
        which = f"{how}:{moments.iso(moments.now_ms())[:10]}" if unit.startswith("mmtools-") else invocation
        outbox.raise_alert(state, f"unit:{unit}:{which}", text, level=outbox.Level.CRITICAL, source="systemd")


def _put_status(state: "StateDir", text: str, figures: dict[str, Any]) -> None:
    from mmtools import outbox

    outbox.put_status(state, text, figures)


def _write_textfile(state: "StateDir", path: str, seen: "Facts", found: "list[Finding]") -> None:
    import os
    from pathlib import Path

    from mmtools.ops import textfile

    textfile.write(state, Path(os.path.abspath(os.path.expanduser(path))), textfile.text(seen, found))


def _plain(finding: "Finding", since: dict[str, str]) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "subject": finding.subject,
        "level": finding.level.value,
        "since": finding.since or since[finding.name],
        "text": finding.text,
    }


def _shown(card: str, document: dict[str, Any], alerts: bool) -> str:
    """Return the card, or its first line and what is wrong; below it what became of crashed runs."""
    lines = [card]
    if alerts:
        lines = [card.splitlines()[0], *(f"{each['level'].upper()}: {each['text']}" for each in document["findings"])]
    lines += [f"{each['run_id']}: {'started again, ' * (each['revived'] is True)}{each['why']}" for each in document["revivals"] or ()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
