"""What the chart gives to Prometheus and Grafana: the files of deploy in objects of theirs."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.fakes.helm import CHART, newest, the

DEPLOY = CHART.parent.parent
URL = "https://wiki.example.com/alerts"


def rules() -> list[dict[str, Any]]:
    """Return the groups of the rules file, without links."""
    groups: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())[
        "groups"
    ]
    for group in groups:
        for rule in group["rules"]:
            del rule["annotations"]["runbook_url"]
    return groups


def made(**alerts: object) -> list[dict[str, Any]]:
    """Return the groups of rules that the chart makes."""
    objects = newest().objects({"alerts": {"enabled": True, **alerts}})
    groups: list[dict[str, Any]] = the(objects, "PrometheusRule")["spec"]["groups"]
    return groups


def test_the_rules_are_those_of_the_file() -> None:
    """Every alert arrives with its expression and texts; there is no link that leads nowhere."""
    assert made() == rules()


def test_runbook_links_lead_to_where_the_page_is_shown() -> None:
    """The page's place comes from the values, the paragraph's name from the alert."""
    for group in made(runbookURL=URL):
        for rule in group["rules"]:
            assert rule["annotations"]["runbook_url"] == f"{URL}#{rule['alert'].lower()}"


def test_an_alert_can_be_left_out() -> None:
    """It is gone and the others stay; a group without alerts is gone too."""
    (first, *others) = rules()
    (gone, *_) = first["rules"]
    left = made(disabled=[gone["alert"]])
    assert left == [first | {"rules": first["rules"][1:]}, *others]
    assert made(disabled=[rule["alert"] for rule in first["rules"]]) == others


def test_an_alert_that_there_is_not_cannot_be_left_out() -> None:
    """A misspelt name is refused with those that there are."""
    refusal = newest().refusal({"alerts": {"disabled": ["GpuSharingDown"]}})
    assert 'cannot disable the alert "GpuSharingDown": the alerts are GpuSharing' in refusal


def test_the_rules_have_the_labels_that_a_prometheus_selects_by() -> None:
    """Beside the chart's own labels."""
    objects = newest().objects({"alerts": {"enabled": True, "labels": {"release": "prometheus"}}})
    labels = the(objects, "PrometheusRule")["metadata"]["labels"]
    assert labels["release"] == "prometheus"
    assert labels["app.kubernetes.io/instance"] == "gpus"


def test_the_dashboard_is_the_file_as_it_is() -> None:
    """It arrives unchanged, under the label and the annotations that Grafana's sidecar wants."""
    values = {"dashboard": {"enabled": True, "annotations": {"grafana_folder": "GPUs"}}}
    found = the(newest().objects(values), "ConfigMap")
    (text,) = found["data"].values()
    assert json.loads(text) == json.loads((DEPLOY / "grafana/dashboard.json").read_text())
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "GPUs"}


def test_the_dashboards_labels_can_be_others() -> None:
    """A sidecar that looks for another label is given that one instead."""
    labels = {"grafana_dashboard": None, "dashboards": "yes"}
    objects = newest().objects({"dashboard": {"enabled": True, "labels": labels}})
    found = the(objects, "ConfigMap")["metadata"]["labels"]
    assert found["dashboards"] == "yes"
    assert "grafana_dashboard" not in found


def test_a_chart_without_its_files_makes_nothing_of_them(tmp_path: Path) -> None:
    """An incomplete copy is refused, instead of rules that never fire."""
    chart = tmp_path / "gpu-sharing-plugin"
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("files"))
    for values in ({"alerts": {"enabled": True}}, {"dashboard": {"enabled": True}}):
        assert (
            "the folder files is missing in this copy of the chart; run scripts/chart"
            in newest().refusal(values, chart=chart)
        )
