"""A real Prometheus on loopback, with our alert rules but short waiting times."""

import json
import re
import shutil
import socket
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.daemon import Daemon

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
DASHBOARDS = [ROOT / "deploy" / "grafana" / name for name in ("dashboard.json", "fleet.json")]

LABELS = {
    "instance": "node-a",
    "namespace": "gpu-sharing",
    "pod": "gpu-sharing-plugin-x7k2p",
    "container": "gpu-sharing-plugin",
}
"""The labels that a PodMonitor sets; Prometheus renames our labels with the same names."""

Series = frozenset[tuple[str, str]]
"""The labels of a series, including its name."""


def tool(name: str) -> str:
    """Return the path of a Prometheus binary; skip the test if it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} of Debian's package prometheus, which scripts/e2e unpacks")
    return found


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of a query result."""

    labels: dict[str, str]
    value: float

    @property
    def series(self) -> Series:
        """Return the labels in a form that can be put in a set."""
        return frozenset(self.labels.items())


class Prometheus:
    """A running Prometheus that scrapes one target every second."""

    def __init__(self, folder: Path, target: str, *, honor_labels: bool = False) -> None:
        """Start Prometheus with all its files in *folder*, and wait until it answers.

        With *honor_labels*, the target's labels win over those of the scrape configuration.
        """
        self._url = f"http://127.0.0.1:{free_port()}"
        (folder / "rules.yaml").write_text(_impatient(RULES.read_text()))
        configuration = folder / "prometheus.yaml"
        configuration.write_text(yaml.safe_dump(_configuration(target, honor_labels)))
        command = [
            tool("prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self._url.removeprefix('http://')}",
            "--log.level=warn",
        ]
        self._daemon = Daemon(command, folder / "prometheus.log")
        try:
            self._daemon.wait_ready(self._answers, 30, "Prometheus answers")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop Prometheus and print its log."""
        self._daemon.stop()
        self._daemon.show_log()

    def query(self, expression: str) -> list[Sample]:
        """Return the present result of *expression*."""
        answer = self._get("query", query=expression)
        return [Sample(series["metric"], float(series["value"][1])) for series in answer["result"]]

    def alerts(self) -> set[Series]:
        """Return the labels of the firing alerts."""
        return {frozenset(alert["labels"].items()) for alert in self.firing()}

    def firing(self) -> list[dict[str, Any]]:
        """Return the firing alerts, with their labels and texts."""
        return [alert for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"]

    def problems(self) -> list[str]:
        """Return problems in Prometheus's log: samples out of order, duplicates, failing rules."""
        lines = self._daemon.log.read_text().splitlines()
        return [line for line in lines if "level=warn" in line or "level=error" in line]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=10):  # noqa: S310
                return True
        except OSError:  # HTTPError is an OSError too
            return False

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own http
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None


def free_port() -> int:
    """Return a free port on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# Seconds instead of minutes: these tests check that alerts fire, and promtool's tests check `for:`.
def _impatient(rules: str) -> str:
    return re.sub(r"^( +for: ).*$", r"\g<1>1s", rules, flags=re.MULTILINE)


def _configuration(target: str, honor_labels: bool) -> dict[str, Any]:  # noqa: FBT001
    job = {
        "job_name": "gpus",
        "honor_labels": honor_labels,
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "static_configs": [{"targets": [target.removeprefix("http://")], "labels": LABELS}],
    }
    return {
        "global": {"evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [job],
    }


def dashboard_queries() -> dict[str, str]:
    """Return each query of the dashboards as Grafana sends it for all nodes, by panel and letter.

    If two have a panel of the same name, that of the fleet has its name before it.
    """
    panels = json.loads(DASHBOARDS[0].read_text())["panels"]
    fleet = json.loads(DASHBOARDS[1].read_text())["panels"]
    panels += [{**panel, "title": f"Fleet: {panel['title']}"} for panel in fleet]
    chosen = {"$__rate_interval": "5m", "$by": "instance", "$node": ".*"}
    queries = {}
    for panel in panels:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in chosen.items():
                expression = expression.replace(name, value)
            queries[f"{panel['title']} {target['refId']}"] = expression
    return queries
