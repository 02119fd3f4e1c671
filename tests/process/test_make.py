"""The Makefile's targets, tested with --dry-run: no network is needed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.service import PATIENCE

STAMPS = ("packages", "service", "installed")
INPUTS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock", "pyproject.toml")


def make(folder: Path, *words: str) -> str:
    """Return what `make` prints in *folder*."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(
        ["make", *words],  # noqa: S607 - the one on the path
        cwd=folder,
        env=environment,
        timeout=PATIENCE,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Make a folder in which everything looks installed and up to date, by its files' times."""
    shutil.copy("Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    for age, name in enumerate((*INPUTS, *(f".venv/{stamp}" for stamp in STAMPS))):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    return tmp_path


STEPS = {
    "venv --clear": "from scratch",
    "-r requirements.lock": "service",
    "--editable": "command",
    "-r requirements-dev.lock": "tests",
}


def steps(folder: Path, target: str) -> list[str]:
    """Return the steps that `make` would run to install *target*."""
    lines = make(folder, "--dry-run", target).splitlines()
    return [step for line in lines for words, step in STEPS.items() if words in line]


@pytest.mark.parametrize(
    ("changed", "simulate", "test"),
    [
        ([], [], []),
        (INPUTS[:1], ["from scratch", "service", "command"], ["tests"]),
        (INPUTS[1:2], ["from scratch", "service", "command"], ["tests"]),
        (INPUTS[2:3], [], ["tests"]),
        (INPUTS[3:], ["command"], ["tests"]),
    ],
)
def test_a_changed_file_repeats_its_steps(
    installed: Path, changed: list[str], simulate: list[str], test: list[str]
) -> None:
    """A changed file repeats only the steps that depend on it; the tests' packages are installed
    only for tests.
    """
    for name in changed:
        (installed / name).touch()

    assert steps(installed, "simulate") == simulate
    for target in ("test", "e2e", "generate"):
        assert steps(installed, target) == simulate + test


@pytest.mark.parametrize("done", range(len(STAMPS)))
def test_an_interrupted_installation_is_completed(installed: Path, done: int) -> None:
    """After an interrupted installation, only unfinished steps run again; unfinished service
    packages are installed from scratch.
    """
    for stamp in STAMPS[done:]:
        (installed / ".venv" / stamp).unlink()

    left = list(STEPS.values())[done and done + 1 :]
    assert steps(installed, "test") == left
    assert steps(installed, "simulate") == [step for step in left if step != "tests"]


def test_without_a_target(tmp_path: Path) -> None:
    """`make` alone prints one line for each target and does nothing else."""
    shutil.copy("Makefile", tmp_path)

    lines = make(tmp_path).splitlines()

    targets = re.findall(r"^\.PHONY: (.*)", Path("Makefile").read_text(), re.MULTILINE)[0].split()
    assert [line.split()[:2] for line in lines] == [["make", target] for target in targets]
    assert all(len(line.split()) > 2 for line in lines)
    assert make(tmp_path, "help").splitlines() == lines
