"""What the trials of a grid say together: the best set by its objective, what it did where nobody looked, how far to believe it.

The `mmtools.grid/1` document and the table of it, made from the lines of trials alone. A set counts when all its trials are there.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmtools import __version__
from mmtools.lab.overfitting import Objective, column, deflated, overfitting, rate, rate_interval, relative_rank, score
from mmtools.lab.sweep import PARTS, Grid, Record, Recording, Set, Task, named
from mmtools.lab.trialfile import is_done
from mmtools.runs import notation
from mmtools.units import ONE, parse, text

SCHEMA = "mmtools.grid/1"
ROWS_SHOWN = 10
READ_WIDTH = 110
UNKNOWN = "?"

ASSUMPTIONS = (
    "latency_ms", "queue_model", "queue_power", "trade_side", "explain_ms", "merge_latency_ms", "fill_probability_override", "seed",
)  # fmt: skip
"""Params that say how the world is, or chance: the best of several is the luckiest guess, not a better maker."""

OUTCOME = ("orders", "fills", "pnl", "bracket", "blocks", "ledger_sha256")
"""What of a trial's lines says that two sets did the same."""

READ_IT = (
    "The best of many sets looks better than it is: some of it is luck, and the more sets the more. So it is chosen on the first part of"
    " each recording's time, and the second part, which had no say, tells what it is worth. Each recording is cut by itself: what one was"
    " judged on may be earlier than what another was fitted on. Choose again after looking there, and that is over.",
    "Overfitting is the part of all ways to halve the time in which the best set of one half was below the median in the other. Near 0"
    " speaks for a real difference between sets; choosing by a die gives 0.5 on average, and one recording's figure scatters by about"
    " 0.25 around it.",
    "Deflated is the probability that, were all sets worthless, the best of so many would look worse than this one did: 1 less a p-value,"
    " and no chance that the set is good.",
    "Brackets are t-intervals over 12 stretches of time, or ? for fewer than 24 blocks or stretches all alike. They cover 95 %"
    " where the stretches are independent, and less where what is held makes one depend on the next; they know no other day.",
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
    best = order[0] if len(tried) == 1 or min(fitted) < max(fitted) else None
    return {
        "best": None if best is None else _best_of(tried, fitted, judged, best, name),
        "overfitting": _overfitting(objective, name, tried, best),
        "ranking": [
            {
                "set": tried[place].values,
                **{part: _brief(getattr(tried[place], part), scores[place]) for part, scores in zip(PARTS, (fitted, judged), strict=True)},
            }
            for place in order
        ],
    }


def _best_of(tried: Sequence[Tried], fitted: Sequence[float], judged: Sequence[float], best: int, name: str) -> Record:
    return {
        "set": tried[best].values,
        "fit": _part(tried[best].fit, fitted[best], name),
        "judge": _part(tried[best].judge, judged[best], name)
        | {
            "place": 1 + sum(other > judged[best] for other in judged),
            "rank": _rounded(relative_rank(judged[best], judged)),
            "median_of_all": _rounded(statistics.median(judged)),
        },
    }


def _part(earned: Earned, value: float, name: str) -> Record:
    series, hours = earned.series(name), earned.hours()
    interval = rate_interval(series, hours)
    return {
        **_brief(earned, value),
        "per_hour": _rounded(rate(series, hours)),
        "interval": None if interval is None else [_rounded(bound) for bound in interval],
        "blocks": len(series),
    }


def _brief(earned: Earned, value: float) -> Record:
    brackets = [line["bracket"] for line in earned.lines]
    return {
        "score": _rounded(value),
        "total": earned.sum("total"),
        "spread": earned.sum("spread"),
        "risk_averse": None if None in brackets else text(sum(parse(bracket["risk_averse"]["pnl"]) for bracket in brackets)),
        "orders": sum(line["orders"] for line in earned.lines),
        "fills": sum(line["fills"]["count"] for line in earned.lines),
        "halted": sum(line["status"] == "halted" for line in earned.lines),
    }


def _overfitting(objective: Objective, name: str, tried: Sequence[Tried], best: int | None) -> Record:
    """Return both figures, or why they are not known: the first is about all the time, the second about the fitted part."""
    found = overfitting(objective, [[*one.fit.series(name), *one.judge.series(name)] for one in tried])
    luck = "no set is the best" if best is None else deflated([one.fit.series(name) for one in tried], best)
    told = {
        "deflated": None if isinstance(luck, str) else _rounded(luck.ratio),
        "deflated_why": luck if isinstance(luck, str) else None,
        "tries": len(tried),
    }
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
    lines = [_lines_of(one) for one in tried]
    if tried and not any(line["fills"]["count"] for own in lines for line in own):
        notes.append("no set had a fill, so no set is better than another")
    halted = sum(any(line["status"] == "halted" for line in own) for own in lines)
    if halted:
        notes.append(f"{halted} of the sets broke a limit somewhere and earned nothing from then on")
    again = len(tried) - len({str([[line[name] for name in OUTCOME] for line in own]) for own in lines})
    if again:
        notes.append(f"{again} of {len(tried)} sets did exactly what one before them in the grid did; each counts as a try all the same")
    return notes


def _lines_of(one: Tried) -> list[Record]:
    return [*one.fit.lines, *one.judge.lines]


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


# --- for people


def table(result: Record, *, file: str) -> str:
    """Return the result as a person reads it: the first sets of the ranking, the best one in and out of sample, how to read it."""
    recordings = ", ".join(recording["name"] for recording in result["recordings"])
    trials = result["trials"]
    lines = [
        *_wrapped(
            f"{result['grid']}: {result['sets']} sets over {recordings}; fitted on the first {100 * result['split']:g} % of each"
            f" recording's time by {result['objective']}, judged on the rest"
        ),
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
        lines += ["", *(line for paragraph in READ_IT for line in _wrapped(paragraph))]
    return "\n".join(lines)


def _wrapped(paragraph: str) -> list[str]:
    import textwrap

    return textwrap.wrap(paragraph, READ_WIDTH, break_long_words=False, break_on_hyphens=False)


def _ranking(ranking: Sequence[Record]) -> str:
    rows = [
        [named(one["set"]), *(f"{one[part]['score']:,.2f}" for part in PARTS), *_cells(one["fit"], one["judge"])]
        for one in ranking[:ROWS_SHOWN]
    ]
    heads = ["set", "fitted", "judged", "P&L fitted", "P&L judged", "orders", "fills"]
    shown = notation.table(heads, rows, "<>>>>>>")
    more = len(ranking) - len(rows)
    return shown + (f"\n... and {more} more (--json has them all)" if more else "")


def _cells(fit: Record, judge: Record) -> list[str]:
    pairs = (f"{fit[name]} + {judge[name]}" for name in ("orders", "fills"))
    return [f"{float(fit['total']):,.2f}", f"{float(judge['total']):,.2f}", *pairs]


def _best(result: Record) -> list[str]:
    best = result["best"]
    if best is None:
        return ["best       none: all sets scored the same in the fitted part"]
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
        overfit = f"unknown: {risk['why']}"
    else:
        overfit = (
            f"{risk['probability']:.2f} ({risk['ways']} ways to halve {risk['blocks']} blocks of time; the best of one half lost money in"
            f" the other in {risk['loss']:.0%})"
        )
    if risk["deflated"] is None:
        luck = f"unknown: {risk['deflated_why']}"
    else:
        luck = f"{risk['deflated']:.2f} is the probability that the best of {risk['tries']} worthless sets would look worse than this one"
    return [f"overfit    {overfit}", f"deflated   {luck}"]
