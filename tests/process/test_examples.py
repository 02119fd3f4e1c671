"""The pods in deploy/examples and in the README request what the values beside them advertise."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from supervisor.compose import compose
from supervisor.config.options import OPTIONS
from supervisor.config.settings import load
from tests.fakes.helm import CHART, environment, newest
from tests.unit.builders import gpu, inventory, mig_gpu

ROOT = CHART.parents[2]
README = (ROOT / "README.md").read_text()
ROW = r"^\| \[[^]]+\]\((deploy/examples/[\w-]+\.yaml)\).*? \| (.+) \| `(.+)` \|$"
ROWS = re.findall(ROW, README, re.MULTILINE)
NODE = inventory(gpu(0, memory_mib=81559), mig_gpu(1, "1g.10gb"))
FIRST_SCREEN = 50
"""Lines."""


def advertised(values: dict[str, Any], folder: Path) -> set[str]:
    """Return the resources of a node with a GPU and a MIG instance, under these chart values."""
    objects = newest().objects(values)
    known = {name for option in OPTIONS for name in option.environment}
    given = {name: text for name, text in environment(objects).items() if name in known}
    for item in objects:
        if item["metadata"]["name"].endswith("-settings"):
            (folder / "config.yaml").write_text(item["data"]["config.yaml"])
            given["CONFIG_FILE"] = str(folder / "config.yaml")
    return {plan.resource for plan in compose(load({}, given)).plan(NODE).resources}


@pytest.mark.parametrize(("path", "values", "resource"), ROWS, ids=[row[0] for row in ROWS])
def test_a_pod_requests_what_is_advertised(
    tmp_path: Path, path: str, values: str, resource: str
) -> None:
    """With the values of the README's row, and of the file's comment, a node has the resource."""
    text = (ROOT / path).read_text()
    pod = yaml.safe_load(text)
    kubernetes_validate.validate(pod, "1.37", strict=True)
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {resource: 1}
    given = {} if values == "none" else yaml.safe_load(values.strip("`"))
    commented = re.findall(r"^#   (.+)$", text, re.MULTILINE)
    assert (yaml.safe_load(commented[0]) if commented else {}) == given
    assert resource in advertised(given, tmp_path)


def test_each_example_is_in_the_readme() -> None:
    """The README names each example, and shows one of them on its first screen."""
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "deploy/examples").glob("*.yaml")}
    assert files == {row[0] for row in ROWS}
    block = re.search(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert block
    assert README[: block.end()].count("\n") <= FIRST_SCREEN
    shown = yaml.safe_load(block[1])
    assert shown == yaml.safe_load((ROOT / "deploy/examples/time-slicing.yaml").read_text())
