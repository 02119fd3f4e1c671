"""The chart as a package, and the notes that Helm prints after an installation."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from supervisor.version import VERSION
from tests.fakes.helm import BINARIES, CHART, named


@pytest.mark.parametrize("binary", BINARIES)
def test_lint_finds_nothing(binary: str) -> None:
    """`helm lint` reports no warning."""
    result = named(binary).run("lint", "--strict", str(CHART), "--namespace=gpu-nodes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "WARNING" not in result.stdout


@pytest.mark.parametrize("binary", BINARIES)
def test_the_package_renders_what_the_folder_renders(binary: str, tmp_path: Path) -> None:
    """The package contains every file that the templates read."""
    helm = named(binary)
    result = helm.run("package", str(CHART), f"--destination={tmp_path}")
    assert result.returncode == 0, result.stderr
    (archive,) = tmp_path.glob("gpu-sharing-plugin-*.tgz")
    values = {"alerts": {"enabled": True}, "dashboard": {"enabled": True}}
    assert helm.objects(values, chart=archive) == helm.objects(values)


def test_chart_and_project_have_one_version() -> None:
    """The chart installs the image of the project's version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == VERSION


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "kubectl --namespace gpu-nodes rollout status daemonset/gpus-gpu-sharing-plugin"),
        ({}, "kubectl --namespace gpu-nodes logs daemonset/gpus-gpu-sharing-plugin"),
        ({}, "If this shows no node, label your nodes, or set nfdAffinity=false"),
        ({"nfdAffinity": False}, "on all nodes of the cluster. On a node without a GPU the pod is"),
        ({}, "On a node without a GPU the pod is ready and does nothing"),
        ({}, "kubectl --namespace gpu-nodes exec POD -- gpu-sharing-plugin status"),
        ({"nodeSelector": {"gpu": "yes"}}, "the nodes with the labels gpu=yes"),
        ({}, "node feature discovery found an NVIDIA GPU"),
        ({"config": {"name": "a", "label": "b/c"}}, "kubectl label node NODE b/c=NAME"),
        ({"config": {"name": "a"}}, "Tell it in config.uses what they use"),
        ({"simulatedNode": {"gpus": [{}]}}, "all nodes of the cluster. The GPUs are simulated"),
        (
            {"securityContext": {"privileged": False}, "migStrategy": "mixed"},
            "With the other values it needs the capability SYS_ADMIN: write that into",
        ),
        ({}, "set usage.perContainer=true for that"),
        (
            {"mps": {"enabled": True}},
            "The DaemonSet gpus-gpu-sharing-plugin-mps keeps the MPS daemons",
        ),
        ({"mps": {"enabled": True}}, "delete its pod to get the new version"),
        ({"config": {"name": "a"}}, "If a file of the ConfigMap a shares by MPS, set mps.enabled"),
    ],
)
def test_the_notes_name_the_objects_of_the_release(values: dict[str, Any], words: str) -> None:
    """The notes name the objects of this release, and what to do for its values."""
    place = ["gpus", str(CHART), "--namespace=gpu-nodes", "--dry-run=client", "--values=-"]
    result = named(BINARIES[-1]).run("install", *place, text=json.dumps(values))
    assert result.returncode == 0, result.stderr
    assert words in " ".join(result.stdout.partition("NOTES:")[2].split())
