"""The rules as Prometheus's own tool judges them."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.prometheus import RULES, tool

pytestmark = pytest.mark.e2e


def promtool(*arguments: str | Path, text: str | None = None) -> str:
    """Run promtool and return what it says; an error fails the test."""
    command = [tool("promtool"), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_prometheus_reads_the_rules() -> None:
    """Promtool finds no fault in the rule file."""
    assert "SUCCESS: 20 rules found" in promtool("check", "rules", RULES)


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    """The cases in tests.yaml hold: what fires at which time, and what never does."""
    assert "SUCCESS" in promtool("test", "rules", RULES.with_name("tests.yaml"))
