"""A day on the synthetic market: quote-run for 24 simulated hours. Memory must be flat after the first hour, errors zero.

    python bench/day.py [--hours N] [--keep FOLDER]

The run is configs/paper.yaml with another duration. Memory is what quote-run itself wrote to health.jsonl every simulated
minute; flat means that the last hour's most is at most 5 % above the second hour's. Also says what a day costs on disk, what
`report` takes to fold it, and whether a decision took longer at the end than at the beginning. Prints figures and a verdict, exits 1 when
it is not flat or not clean. Takes about a minute.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import ROOT, Used, command, machine, run

GROWTH = 0.05
"""A record kept of every order would show as ten times that; trades that the ledger remembers on purpose show as a part of it."""
NO_ERRORS = frozenset({"post_only_cross"})
"""Rejections that every maker gets when the market moves while an order flies; the error rate of the run leaves them out too."""

Record = dict[str, Any]


def main() -> None:
    arguments = argparse.ArgumentParser(description="measures a day on the synthetic market")
    arguments.add_argument("--hours", type=int, default=24, help="at least 3; default 24")
    arguments.add_argument("--keep", type=Path, help="state folder to leave the run in; default: a folder that is thrown away")
    given = arguments.parse_args()
    if given.hours < 3:
        arguments.error("--hours: the second hour is compared with the last one; say at least 3")
    with tempfile.TemporaryDirectory(prefix="mmtools-day-") as thrown_away:
        work = Path(thrown_away)
        clean = day(given.hours, work, given.keep or work / "state")
    sys.exit(0 if clean else 1)


def day(hours: int, work: Path, state: Path) -> bool:
    config, result = work / "day.yaml", work / "result.json"
    text, replaced = re.subn(r"(?m)^duration_hours: .*$", f"duration_hours: {hours}", (ROOT / "configs" / "paper.yaml").read_text())
    if replaced != 1:
        sys.exit("configs/paper.yaml has no line `duration_hours: ...` any more; day.py must learn its new form")
    config.write_text(text)
    used = run(command("quote-run", "--config", str(config), "--run-id", "day", "--fresh", "--json"), output=result, state=state)
    report = run(command("report", "day", "--json"), state=state)
    folder = state / "runs" / "day"
    health = [json.loads(line) for line in (folder / "health.jsonl").read_text().splitlines()]
    document = json.loads(result.read_text())

    print(f"{hours} simulated hours; {machine()}\n")
    print_costs(hours, used, report, document, folder)
    print_hours(health)
    problems = [*errors(document, health[-1]), *growth(health)]
    print("\n" + ("\n".join(f"NOT CLEAN: {problem}" for problem in problems) or "flat after the first hour, zero errors"))
    return not problems


def print_costs(hours: int, used: Used, report: Used, document: Record, folder: Path) -> None:
    sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(folder.iterdir())}
    orders, frames, fills = document["orders"], document["events"]["frames"], document["fills"]["count"]
    print(
        f"quote-run  {used.cpu_s:.1f} s of CPU ({used.cpu_s / hours:.2f} an hour), {used.wall_s:.1f} s, {used.peak_mb:.1f} MB at the peak"
    )
    print(f"report     {report.cpu_s:.1f} s of CPU to fold the journal, {report.peak_mb:.1f} MB at the peak")
    print(f"status     {document['status']}: {frames} frames, {fills} fills, P&L {document['pnl']['total']}")
    print(f"orders     {orders['sent']} sent, rejected {orders['rejected'] or 'none'}, {orders['unknown']} unknown")
    print("files      " + ", ".join(f"{name} {size:.2f} MB" for name, size in sizes.items()))


def print_hours(health: list[Record]) -> None:
    """Print memory and the time of a decision (p50, in microseconds) by the hour: the first ones, some between, the last."""
    hours = len(health) // 60
    shown = sorted({1, 2, 3, *range(6, hours + 1, 6), hours})
    print(f"\n{'hour':<10}" + "".join(f"{hour:>8}" for hour in shown))
    for title, show in (("MB, most", most_memory), ("quote us", quote_us)):
        print(f"{title:<10}" + "".join(f"{show(health, hour):>8.1f}" for hour in shown))


def most_memory(health: list[Record], hour: int) -> float:
    return max(float(line["memory_mb"]) for line in health[(hour - 1) * 60 : hour * 60])


def quote_us(health: list[Record], hour: int) -> float:
    return statistics.median(line["quote_us_p50"] or 0.0 for line in health[(hour - 1) * 60 : hour * 60])


def growth(health: list[Record]) -> list[str]:
    second, last = most_memory(health, 2), most_memory(health, len(health) // 60)
    print(f"\nmemory     {second:.1f} MB in hour 2, {last:.1f} MB in hour {len(health) // 60}: {last / second - 1:+.1%}")
    return [] if last <= second * (1 + GROWTH) else [f"memory grew by {last - second:.1f} MB after the second hour"]


def errors(document: Record, last: Record) -> list[str]:
    """Return what went wrong; the run counts errors of the feed and rejections by name."""
    counted = {name: count for name, count in last["errors"].items() if name not in NO_ERRORS}
    problems = [f"{count} x {name}" for name, count in counted.items()]
    problems += [f"halt: {halt['why']}" for halt in document["halts"]]
    problems += [f"{count} pauses: {why}" for why, count in document["pauses"].items()]
    if document["status"] != "finished":
        problems.append(f"the run ended as {document['status']}")
    if document["orders"]["unknown"]:
        problems.append(f"{document['orders']['unknown']} orders unknown")
    return problems


if __name__ == "__main__":
    main()
