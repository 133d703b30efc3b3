"""The dashboard and the alert rules: they use the metrics that `textfile` writes, with labels that these have, and leave none out."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from commandline import ROOT

from mmtools.ops.textfile import METRICS

FOLDER = ROOT / "configs" / "grafana"
OF_THE_SCRAPE = {"instance", "job"}
"""Labels that Prometheus adds."""
FUNCTIONS = {"time", "sum", "absent", "increase", "label_values"}
WORDS = {"by", "on", "and", "or", "group_left"}
DURATION = re.compile(r"\[[0-9]+[smhd]\]")


def dashboard() -> Any:
    return json.loads((FOLDER / "mmtools-dashboard.json").read_text())


def rules() -> list[Any]:
    groups = yaml.safe_load((FOLDER / "mmtools-alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[Any]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> list[tuple[str, str]]:
    """Return expression and legend of each target of the dashboard."""
    return [(target["expr"], target["legendFormat"]) for panel in panels() for target in panel["targets"]]


def expressions() -> list[str]:
    return [expr for expr, _ in targets()] + [rule["expr"] for rule in rules()]


def metrics(expr: str) -> set[str]:
    return set(re.findall(r"mmtools_\w+", expr))


def labels(expr: str) -> Iterator[tuple[set[str], set[str]]]:
    """Yield labels and the metrics that must have them: of a selector its own metric, of `by` and `on` any of the expression."""
    for metric, inside in re.findall(r"(mmtools_\w+)\{([^}]*)\}", expr):
        yield {part.split("=")[0].strip("~! ") for part in inside.split(",")}, {metric}
    for inside in re.findall(r"\b(?:by|on) ?\(([^)]*)\)", expr):
        yield {label.strip() for label in inside.split(",")}, metrics(expr)


def complaints(expr: str) -> list[str]:
    """Return what an expression uses that there is not."""
    found = [f"{name} is no metric" for name in sorted(metrics(expr) - METRICS.keys())]
    for wanted, of in labels(expr):
        for name in of & METRICS.keys():
            lacking = wanted - set(METRICS[name].labels) - OF_THE_SCRAPE
            found += [f"{name} has no label {label}" for label in sorted(lacking)]
    bare = re.sub(r'"[^"]*"|\{[^}]*\}', "", DURATION.sub("", expr))
    bare = re.sub(r"\b(by|on|group_left) ?\([^)]*\)", "", bare)
    unknown = set(re.findall(r"[a-zA-Z_]\w*", bare)) - METRICS.keys() - FUNCTIONS - WORDS
    found += [f"{word} is no word of ours" for word in sorted(unknown)]
    if any(expr.count(a) != expr.count(b) for a, b in ("()", "[]", "{}")):
        found.append("brackets do not match")
    return found


@pytest.mark.parametrize("expr", expressions())
def test_an_expression_uses_metrics_and_labels_that_there_are(expr: str) -> None:
    assert complaints(expr) == []


@pytest.mark.parametrize(
    ("expr", "complaint"),
    [
        ("mmtools_run_size_usdc > 1", "mmtools_run_size_usdc is no metric"),
        ('mmtools_run_up{market="x"}', "mmtools_run_up has no label market"),
        ("sum by (side) (mmtools_run_up)", "mmtools_run_up has no label side"),
        ("avrg(mmtools_run_up)", "avrg is no word of ours"),
        ("sum(mmtools_run_up", "brackets do not match"),
    ],
)
def test_the_check_of_expressions_can_fail(expr: str, complaint: str) -> None:
    assert complaint in complaints(expr)


def test_every_metric_is_shown_or_watched() -> None:
    assert set().union(*map(metrics, expressions())) == METRICS.keys()


@pytest.mark.parametrize(("expr", "legend"), targets())
def test_a_legend_names_labels_that_its_metrics_have(expr: str, legend: str) -> None:
    named = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert named <= set.union(*(set(METRICS[name].labels) for name in metrics(expr)))


def test_the_dashboard_can_be_imported_and_asks_for_its_source() -> None:
    board = dashboard()
    assert board["uid"] == "mmtools"
    assert {"title", "schemaVersion", "templating", "time"} <= board.keys()
    variables = {each["name"]: each for each in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert complaints(variables["run"]["definition"].replace(", run", "")) == []
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {"${datasource}"}, panel["title"]


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize(
    "wanted",
    [
        "P&L",
        "Position",
        "Quoting sides",
        "Fills",
        "Refusals",
        "Age of the live state",
        "Memory",
        "Our jobs",
        "Restarts",
        "Gateway",
        "Outbox",
    ],
)
def test_there_is_a_panel_for(wanted: str) -> None:
    assert any(panel["title"].startswith(wanted) for panel in panels())


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_a_rule_waits_has_a_severity_and_says_what_to_do(rule: Any) -> None:
    assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"[0-9]+[mh]", rule["for"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert {"summary", "description"} == rule["annotations"].keys()
    said = " ".join(rule["annotations"].values())
    named = set(re.findall(r"\$labels\.(\w+)", said))
    assert named <= set().union(*(set(METRICS[name].labels) for name in metrics(rule["expr"])))


def test_no_two_rules_have_one_name() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
