"""The alert rules, checked by promtool."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.prometheus import RULES, tool

pytestmark = pytest.mark.e2e


def promtool(*arguments: str | Path, text: str | None = None) -> str:
    """Run promtool and return its output; the test fails if promtool does."""
    command = [tool("promtool"), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_prometheus_reads_the_rules() -> None:
    """Promtool accepts the rule file."""
    text = RULES.read_text()
    count = text.count("- alert:") + text.count("- record:")
    assert f"SUCCESS: {count} rules found" in promtool("check", "rules", RULES)


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    """The cases in tests.yaml pass: which alerts fire at which time, and which never do."""
    assert "SUCCESS" in promtool("test", "rules", RULES.with_name("tests.yaml"))
