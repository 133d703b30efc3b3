"""What the trials of a grid say together: the best set by its objective, what it did where nobody looked, how far to believe it.

The `mmtools.grid/1` document and the table of it, made from the lines of trials alone. A set counts when all its trials are there.
"""

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtools import __version__
from mmtools.lab import metrics
from mmtools.lab.overfitting import Objective, column, deflated, overfitting, relative_rank, score
from mmtools.lab.sweep import PARTS, Grid, Recording, Set, Task, named
from mmtools.lab.trial import is_done
from mmtools.runs import notation
from mmtools.units import ONE, parse, text

Record = dict[str, Any]

SCHEMA = "mmtools.grid/1"
ROWS_SHOWN = 10
READ_WIDTH = 110
UNKNOWN = "?"

ASSUMPTIONS = (
    "latency_ms", "queue_model", "queue_power", "trade_side", "explain_ms", "merge_latency_ms", "fill_probability_override", "seed",
)  # fmt: skip
"""Params that say how the world is, or chance: the best of several is the luckiest guess, not a better maker."""

READ_IT = (
    "The best of many sets looks better than it is: some of it is luck, and the more sets the more. So it is chosen on the first part of"
    " the time, and the second part, which had no say, tells what it is worth. Choose again after looking there, and that is over.",
    "Overfitting is the part of all ways to halve the time in which the best set of one half was no better than the median in the"
    " other: 0 is a real difference between sets, 0.5 is what choosing by a die gives.",
    "Brackets hold 95 % of what blocks of time like these would give; they know no other day.",
)


@dataclass(frozen=True, slots=True)
class Earned:
    """What a set did in one part of the time, over all recordings."""

    lines: Sequence[Record]
    """One per recording."""

    def series(self, name: str) -> list[float]:
        """Return the P&L of each block of time, in USDC."""
        return [parse(amount) / ONE for line in self.lines for amount in line["blocks"][name]]

    def hours(self) -> list[float]:
        """Return how long each block of time was; the last one of a part is what was left."""
        return [
            min(line["blocks"]["seconds"], line["duration_s"] - line["blocks"]["seconds"] * place) / 3600
            for line in self.lines
            for place in range(len(line["blocks"]["total"]))
        ]

    def sum(self, amount: str) -> str:
        return text(sum(parse(line["pnl"][amount]) for line in self.lines))


@dataclass(frozen=True, slots=True)
class Tried:
    """A set with its trials."""

    values: Record
    fit: Earned
    judge: Earned


def document(
    grid: Grid, sets: Sequence[Set], recordings: Sequence[Recording], tasks: Sequence[Task], found: Mapping[str, Record]
) -> Record:
    """Return all figures. tasks: as `sweep.tasks` orders them. found: the lines that are there, by key; without all nothing is best."""
    tried = []
    for place, one in enumerate(sets):
        own = tasks[place :: len(sets)]
        if all(is_done(task, found) for task in own):
            tried.append(Tried(one.values, *(Earned([found[task.key(part)] for task in own]) for part in PARTS)))
    whole = len(tried) == len(sets)
    return {
        "schema": SCHEMA,
        "grid": grid.name,
        "version": __version__,
        "objective": grid.objective,
        "split": grid.split,
        "seed": grid.seed,
        "recordings": [{"name": recording.name, "sha256": recording.sha256} for recording in recordings],
        "trials": {"asked": len(tasks), "done": sum(is_done(task, found) for task in tasks)},
        "sets": len(sets),
        "complete": whole,
        **(_choice(grid, tried) if whole else {"best": None, "overfitting": None, "ranking": []}),
        "notes": _notes(grid, tried),
    }


def _choice(grid: Grid, tried: Sequence[Tried]) -> Record:
    """Return the ranking by the fitted part, the first of it, and how far the choice can be believed."""
    objective, name = grid.objective, column(grid.objective)
    fitted = [score(objective, one.fit.series(name)) for one in tried]
    judged = [score(objective, one.judge.series(name)) for one in tried]
    order = sorted(range(len(tried)), key=lambda place: -fitted[place])  # of equal ones the first of the grid
    best = order[0]
    return {
        "best": {
            "set": tried[best].values,
            "fit": _part(tried[best].fit, fitted[best], name, grid.seed),
            "judge": _part(tried[best].judge, judged[best], name, grid.seed)
            | {
                "place": 1 + sum(other > judged[best] for other in judged),
                "rank": _rounded(relative_rank(judged[best], judged)),
                "median_of_all": _rounded(statistics.median(judged)),
            },
        },
        "overfitting": _overfitting(objective, name, tried, best),
        "ranking": [
            {
                "set": tried[place].values,
                **{part: _brief(getattr(tried[place], part), scores[place]) for part, scores in zip(PARTS, (fitted, judged), strict=True)},
            }
            for place in order
        ],
    }


def _part(earned: Earned, value: float, name: str, seed: int) -> Record:
    blocks = list(zip(earned.series(name), earned.hours(), strict=True))
    interval = metrics.ratio_interval(blocks, random.Random(seed))
    return {
        **_brief(earned, value),
        "per_hour": _rounded(metrics.ratio(blocks)),
        "interval": None if interval is None else [_rounded(bound) for bound in interval],
        "blocks": len(blocks),
    }


def _brief(earned: Earned, value: float) -> Record:
    brackets = [line["bracket"] for line in earned.lines]
    return {
        "score": _rounded(value),
        "total": earned.sum("total"),
        "spread": earned.sum("spread"),
        "risk_averse": None if None in brackets else text(sum(parse(bracket["risk_averse"]["pnl"]) for bracket in brackets)),
        "fills": sum(line["fills"]["count"] for line in earned.lines),
        "halted": sum(line["status"] == "halted" for line in earned.lines),
    }


def _overfitting(objective: Objective, name: str, tried: Sequence[Tried], best: int) -> Record:
    found = overfitting(objective, [[*one.fit.series(name), *one.judge.series(name)] for one in tried])
    real = deflated([one.fit.series(name) for one in tried], best)
    told = {"deflated": None if real is None else _rounded(real)}
    if isinstance(found, str):
        return {"probability": None, "why": found, "loss": None, "ways": 0, "blocks": None, **told}
    return {
        "probability": _rounded(found.probability),
        "why": None,
        "loss": _rounded(found.loss),
        "ways": found.ways,
        "blocks": found.blocks,
        **told,
    }


def _notes(grid: Grid, tried: Sequence[Tried]) -> list[str]:
    notes = [
        f"{key} is an assumption about the world and no setting of the maker: the best of several is the luckiest guess"
        for key in grid.params
        if key in ASSUMPTIONS
    ]
    if tried and not any(line["fills"]["count"] for one in tried for part in (one.fit, one.judge) for line in part.lines):
        notes.append("no set had a fill, so no set is better than another")
    halted = sum(any(line["status"] == "halted" for part in (one.fit, one.judge) for line in part.lines) for one in tried)
    if halted:
        notes.append(f"{halted} of the sets broke a limit somewhere and earned nothing from then on")
    return notes


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


# --- for people


def table(result: Record, *, file: str) -> str:
    """Return the result as a person reads it: the first sets of the ranking, the best one in and out of sample, how to read it."""
    import textwrap

    recordings = ", ".join(recording["name"] for recording in result["recordings"])
    trials = result["trials"]
    lines = [
        f"{result['grid']}: {result['sets']} sets over {recordings}; fitted on the first {result['split']:.0%} of the time by"
        f" {result['objective']}, judged on the rest",
        "",
    ]
    if result["complete"]:
        lines += [_ranking(result["ranking"]), "", *_best(result), *_belief(result["overfitting"])]
    else:
        lines.append(
            f"trials     {trials['done']} of {trials['asked']} are done; the best set is known when all are in one file: run the rest,"
            " or put the files of all shards together and name that with --out"
        )
    lines += [f"note       {note}" for note in result["notes"]]
    lines.append(f"trials in  {file}")
    if result["complete"]:
        lines += ["", *(line for paragraph in READ_IT for line in textwrap.wrap(paragraph, READ_WIDTH))]
    return "\n".join(lines)


def _ranking(ranking: Sequence[Record]) -> str:
    rows = [
        [named(one["set"]), *(f"{one[part]['score']:,.2f}" for part in PARTS), *_cells(one["fit"], one["judge"])]
        for one in ranking[:ROWS_SHOWN]
    ]
    heads = ["set", "fitted", "judged", "P&L fitted", "P&L judged", "fills"]
    shown = notation.table(heads, rows, "<>>>>>")
    more = len(ranking) - len(rows)
    return shown + (f"\n... and {more} more (--json has them all)" if more else "")


def _cells(fit: Record, judge: Record) -> list[str]:
    return [f"{float(fit['total']):,.2f}", f"{float(judge['total']):,.2f}", f"{fit['fills']} + {judge['fills']}"]


def _best(result: Record) -> list[str]:
    best = result["best"]
    judge = best["judge"]
    return [
        f"best       {named(best['set'])}",
        f"fitted     {_hourly(best['fit'])}",
        f"judged     {_hourly(judge)}; place {judge['place']} of {result['sets']} there, where the median scored"
        f" {judge['median_of_all']:,.2f}",
    ]


def _hourly(part: Record) -> str:
    bounds = UNKNOWN if part["interval"] is None else f"{part['interval'][0]:,.2f}, {part['interval'][1]:,.2f}"
    return f"score {part['score']:,.2f}; {part['per_hour']:,.2f} USDC an hour [{bounds}]"


def _belief(risk: Record) -> list[str]:
    if risk["probability"] is None:
        lines = [f"overfit    unknown: {risk['why']}"]
    else:
        lines = [
            f"overfit    {risk['probability']:.2f} ({risk['ways']} ways to halve {risk['blocks']} blocks of time; the best of one half lost"
            f" money in the other in {risk['loss']:.0%})"
        ]
    if risk["deflated"] is not None:
        lines.append(f"deflated   {risk['deflated']:.2f} is the chance that the fitted figure is more than the luck of so many tries")
    return lines
