"""The workflows of GitHub, as far as they can be checked without it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40}")
WRITES = {
    "image": {"packages", "id-token", "attestations"},
    "chart": {"packages", "id-token"},
    "release": {"contents", "id-token", "attestations"},
}
"""What jobs may write, beside reading the repository."""


def workflow(path: Path) -> dict[str, Any]:
    """Return a workflow; YAML reads its key `on` as true."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all jobs by name."""
    for path in FILES:
        yield from workflow(path)["jobs"].items()


STEPS = [step for _, job in jobs() for step in job.get("steps", ())]


def test_actions_are_named_by_commits() -> None:
    """A tag of somebody else's action may be another program tomorrow."""
    used = {step["uses"] for step in STEPS if "uses" in step}
    assert used
    assert {name for name in used if not PINNED.fullmatch(name)} == set()


def test_the_comment_of_a_commit_is_the_same_everywhere() -> None:
    """Each action has one commit, and the comment beside it names one version."""
    lines = [line.strip(" -") for path in FILES for line in path.read_text().splitlines()]
    pins = {line for line in lines if line.startswith("uses: ") and "@" in line}
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)
    assert all(re.search(r" # v\d+\.\d+\.\d+$", pin) for pin in pins)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_workflow_may_only_read(path: Path) -> None:
    """Without more, a job may read the repository; only the jobs of a release may write."""
    found = workflow(path)
    assert found["permissions"] == {"contents": "read"}
    for name, job in found["jobs"].items():
        rights = job.get("permissions", {})
        assert {right for right, level in rights.items() if level == "write"} == WRITES.get(
            name, set()
        ) & rights.keys()
        assert rights.keys() - {"contents"} <= WRITES.get(name, set())


def test_no_step_runs_text_from_outside() -> None:
    """No step puts an expression into shell code: a branch's name could be a command."""
    assert [step["run"] for step in STEPS if "${{" in step.get("run", "")] == []


def test_a_checkout_keeps_no_credentials() -> None:
    """What runs after the checkout finds no token in the repository's configuration."""
    checkouts = [s for s in STEPS if s.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("step", [s for s in STEPS if "run" in s], ids=lambda s: s["run"][:40])
def test_the_commands_of_a_step_exist(step: dict[str, Any]) -> None:
    """The shell code of a step is valid, and names scripts and targets that exist."""
    text = step["run"]
    subprocess.run(["/bin/bash", "-n"], input=text, text=True, check=True)
    for script in re.findall(r"\bscripts/[\w-]+", text):
        assert (ROOT / script).is_file(), script
    targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"\bmake ([a-z0-9]+)$", text, re.MULTILINE):
        assert target in targets


def test_every_job_ends() -> None:
    """Each job with steps has a time limit."""
    assert [name for name, job in jobs() if "steps" in job and "timeout-minutes" not in job] == []


def test_ci_runs_the_commands_of_the_readme() -> None:
    """CI runs what .ci/run runs, and the site."""
    commands = {step.get("run") for step in STEPS}
    wanted = re.findall(r"^make \w+$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert {*wanted, "make docs"} <= commands
