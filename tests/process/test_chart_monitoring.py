"""The chart's objects for Prometheus and Grafana contain the files in deploy/."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.fakes.helm import CHART, newest, the

DEPLOY = CHART.parent.parent
URL = "https://wiki.example.com/alerts"


def rules() -> list[dict[str, Any]]:
    """Return the groups of the rules file, without runbook links."""
    groups: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())[
        "groups"
    ]
    for group in groups:
        for rule in group["rules"]:
            rule.get("annotations", {}).pop("runbook_url", None)
    return groups


def made(**alerts: object) -> list[dict[str, Any]]:
    """Return the groups of rules that the chart renders."""
    objects = newest().objects({"alerts": {"enabled": True, **alerts}})
    groups: list[dict[str, Any]] = the(objects, "PrometheusRule")["spec"]["groups"]
    return groups


def test_the_rules_are_those_of_the_file() -> None:
    """The chart renders every alert unchanged, without a runbook link unless runbookURL is set."""
    assert made() == rules()


def test_runbook_links_use_the_url_of_the_values() -> None:
    """A runbook link is the runbookURL of the values, with the alert's name as its anchor."""
    groups = made(runbookURL=URL)
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert len(alerts) > 20
    for rule in alerts:
        assert rule["annotations"]["runbook_url"] == f"{URL}#{rule['alert'].lower()}"


def test_an_alert_can_be_left_out() -> None:
    """A disabled alert is left out and the others stay; a group without alerts is left out too."""
    (joins, first, *others) = rules()
    (gone, *_) = first["rules"]
    left = made(disabled=[gone["alert"]])
    assert left == [joins, first | {"rules": first["rules"][1:]}, *others]
    assert made(disabled=[rule["alert"] for rule in first["rules"]]) == [joins, *others]


def test_an_unknown_alert_cannot_be_left_out() -> None:
    """A misspelt alert name is refused, and the error lists the names of the alerts."""
    refusal = newest().refusal({"alerts": {"disabled": ["GpuSharingDown"]}})
    assert 'cannot disable the alert "GpuSharingDown": the alerts are GpuSharing' in refusal


def test_the_rules_have_the_labels_of_the_values() -> None:
    """The PrometheusRule has the labels of the values as well as the chart's own labels."""
    objects = newest().objects({"alerts": {"enabled": True, "labels": {"release": "prometheus"}}})
    labels = the(objects, "PrometheusRule")["metadata"]["labels"]
    assert labels["release"] == "prometheus"
    assert labels["app.kubernetes.io/instance"] == "gpus"


def test_the_dashboards_are_the_files_unchanged() -> None:
    """The dashboards are unchanged; their object has the label and annotations for the sidecar."""
    values = {"dashboard": {"enabled": True, "annotations": {"grafana_folder": "GPUs"}}}
    found = the(newest().objects(values), "ConfigMap")
    for name, text in found["data"].items():
        file = "fleet.json" if name.endswith("-fleet.json") else "dashboard.json"
        assert json.loads(text) == json.loads((DEPLOY / "grafana" / file).read_text())
    assert len(found["data"]) == 2
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "GPUs"}


def test_the_dashboards_label_can_be_replaced() -> None:
    """The values can replace the label that Grafana's sidecar selects by."""
    labels = {"grafana_dashboard": None, "dashboards": "yes"}
    objects = newest().objects({"dashboard": {"enabled": True, "labels": labels}})
    found = the(objects, "ConfigMap")["metadata"]["labels"]
    assert found["dashboards"] == "yes"
    assert "grafana_dashboard" not in found


def test_a_chart_without_its_files_is_refused(tmp_path: Path) -> None:
    """A copy of the chart that lacks its files is refused, because its rules would be empty."""
    chart = tmp_path / "gpu-sharing-plugin"
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("files"))
    for values in ({"alerts": {"enabled": True}}, {"dashboard": {"enabled": True}}):
        assert (
            "the folder files is missing in this copy of the chart; run scripts/chart"
            in newest().refusal(values, chart=chart)
        )
