"""Alerts, runbook, Promtool tests and dashboard agree with each other."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
BASE = "https://runbooks.invalid/gpu-sharing-plugin/alerts.md#"
RUNBOOK = (ROOT / "docs" / "alerts.md").read_text()
CASES = yaml.safe_load((PROMETHEUS / "tests.yaml").read_text())["tests"]


def _rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]:
        yield from group["rules"]


RULES = {rule["alert"]: rule for rule in _rules() if "alert" in rule}
RECORDS = {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}


def metrics(expression: str) -> set[str]:
    """Return the metrics that *expression* and the records in it are made of."""
    found = set(re.findall(r"\b(?:gpu_sharing_\w+|up)\b", expression))
    return found.union(*(metrics(RECORDS[name]) for name in RECORDS if name in expression))


def expected(case: dict[str, Any]) -> set[str]:
    """Return the alerts that fire in *case*."""
    labels = [s["labels"] for t in case["promql_expr_test"] for s in t["exp_samples"]]
    return {name for text in labels for name in re.findall(r'alertname="(\w+)"', text)}


@pytest.mark.parametrize("name", RULES)
def test_an_alert_has_a_severity_and_a_runbook(name: str) -> None:
    """Each alert has a severity, a summary with the node's name, a description and a runbook."""
    rule = RULES[name]
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == BASE + name.lower()
    if name != "GpuSharingAbsent":  # fires for the whole cluster
        assert "{{ or $labels.node $labels.instance }}" in notes["summary"]


@pytest.mark.parametrize("name", RULES)
def test_an_alert_has_a_paragraph_in_the_runbook(name: str) -> None:
    """The runbook describes for each alert what users notice and what operators do."""
    _, _, after = RUNBOOK.partition(f"\n## {name}\n")
    paragraph = after.partition("\n## ")[0]
    assert "\nUsers: " in paragraph
    assert "\nDo" in paragraph


def test_each_heading_of_the_runbook_is_an_alert() -> None:
    """The runbook has no heading that is not the name of an alert."""
    headings = set(re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE))
    assert headings == RULES.keys()


@pytest.mark.parametrize("name", RULES)
def test_promtool_tests_show_each_alert_firing_and_silent(name: str) -> None:
    """For each alert, Promtool's tests have series that fire it and series that do not."""
    used = metrics(RULES[name]["expr"])
    firing = [case for case in CASES if name in expected(case)]
    assert firing
    silent = [
        query
        for case in CASES
        if any(series["series"].partition("{")[0] in used for series in case["input_series"])
        for query in case["promql_expr_test"]
        if not any(name in sample["labels"] for sample in query["exp_samples"])
    ]
    assert silent


def test_the_prometheusrule_is_equal_to_the_plain_rules() -> None:
    """The PrometheusRule object has the same rule groups as the plain rules file."""
    custom = yaml.safe_load((PROMETHEUS / "prometheusrule.yaml").read_text())
    assert custom["kind"] == "PrometheusRule"
    assert custom["spec"] == yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())


DASHBOARDS = ("dashboard.json", "fleet.json")


def _panels(name: str) -> list[dict[str, Any]]:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / name).read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize(
    "panel",
    [panel for name in DASHBOARDS for panel in _panels(name)],
    ids=lambda panel: panel["title"],
)
def test_a_panel_has_a_description_and_a_unit(panel: dict[str, Any]) -> None:
    """Each panel has a description, a unit, the chosen data source, and a filter by node."""
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert '$by=~"$node"' in target["expr"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_two_panels_overlap(name: str) -> None:
    """Panels of a dashboard do not overlap on Grafana's grid of 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in _panels(name):
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells
        taken |= cells
