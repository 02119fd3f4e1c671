"""Every value of the chart changes the field that its comment names."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.fakes.helm import CHART, Object, newest
from tests.process.chart_cases import CASES
from tests.process.chart_looks import Look

ELSEWHERE = {
    "alerts": "test_chart_monitoring",
    "dashboard": "test_chart_monitoring",
    "allowDefaultNamespace": "test_chart_refusals",
    "gfd.nameOverride": "test_chart_refusals",
    "gfd.namespaceOverride": "test_chart_refusals",
    "gfd.noTimestamp": "test_chart_refusals",
    "gfd.securityContext": "test_chart_refusals",
    "gfd.enableHostNetwork": "test_chart_refusals",
    "nfd": "test_chart_refusals",
    "mps": "test_chart_mps",
    "devicePlugin.enabled": "test_chart_refusals",
    "legacyDaemonsetAPI": "test_chart_refusals",
    "namespace": "test_chart_refusals",
}


@cache
def render(values: str) -> list[Object]:
    """Render each set of values only once."""
    return newest().objects(json.loads(values))


@pytest.mark.parametrize(("values", "look", "expected"), CASES)
def test_a_value_changes_the_field_it_names(
    values: dict[str, Any], look: Look, expected: Any
) -> None:
    """Each value appears in the object that its comment names."""
    objects = render(json.dumps(values))
    assert look(objects) == expected
    assert not values or objects != render("{}"), "without the value it is the same"


def test_every_value_has_a_case() -> None:
    """Every documented value has a case in chart_cases.py."""
    tried = {path for values, _, _ in CASES for path in paths(values)}
    documented = re.findall(r"^\| `([\w.]+)`", (CHART / "README.md").read_text(), re.MULTILINE)
    assert documented
    missing = [path for path in documented if path not in tried]
    assert not [path for path in missing if not ELSEWHERE.keys() & set(above(path))]


def paths(values: dict[str, Any], outer: str = "") -> Iterator[str]:
    """Yield the path of each value in a case, and of each mapping that contains it."""
    for key, value in values.items():
        yield f"{outer}{key}"
        if isinstance(value, dict):
            yield from paths(value, f"{outer}{key}.")


def above(path: str) -> Iterator[str]:
    """Yield *path* and the paths of the mappings that contain it."""
    parts = path.split(".")
    yield from (".".join(parts[:length]) for length in range(len(parts), 0, -1))
