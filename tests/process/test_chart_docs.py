"""The commands and values in the docs pages about the chart work with the chart."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.fakes.helm import CHART, newest

ROOT = CHART.parents[2]
PAGES = (ROOT / "docs/install-helm.md", CHART / "README.md")
DISTRIBUTIONS = ROOT / "docs/kubernetes-distributions.md"
OF_A_CLUSTER = {"--create-namespace", "--install", "--reset-then-reuse-values"}
"""Options that `helm template` does not know."""


def blocks(language: str, *pages: Path) -> list[str]:
    """Return the code blocks in a language, of *pages* or of those about the chart."""
    text = "\n".join(page.read_text() for page in pages or PAGES)
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found
    return found


def commands() -> list[str]:
    """Return the commands in the pages that install or render this chart."""
    found = [*blocks("sh"), *blocks("sh", DISTRIBUTIONS)]
    lines = [line for block in found for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines if f"deploy/helm/{CHART.name}" in line]


@pytest.mark.parametrize("command", commands())
def test_commands_render(command: str, tmp_path: Path) -> None:
    """Each helm command for this chart in the pages renders objects."""
    helm, _, *arguments = shlex.split(command)
    assert helm == "helm"
    kept = [argument for argument in arguments if argument not in OF_A_CLUSTER]
    (tmp_path / "values.yaml").write_text("{}")
    kept = [
        str(tmp_path / argument) if argument == "values.yaml" else argument for argument in kept
    ]
    kept = [
        str(ROOT / argument) if argument.startswith("deploy/") else argument for argument in kept
    ]
    result = newest().run("template", *kept)
    assert result.returncode == 0, result.stderr
    assert "kind: DaemonSet" in result.stdout


@pytest.mark.parametrize("block", blocks("yaml"))
def test_values_in_the_pages_are_values(block: str) -> None:
    """Each YAML block in the pages is a values file that the chart accepts."""
    assert newest().objects(yaml.safe_load(block))
