"""Releases: the version is set everywhere or nowhere, and the chart names a registry."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.version import VERSION
from tests.fakes.helm import newest

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "scripts/release").read_text()
FILES = re.findall(r'^    "([\w./-]+)",$', SCRIPT, re.MULTILINE)
NEXT = "7.1.0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a repository with one commit: the files that a release changes."""
    for name in ("scripts/release", "supervisor/version.py", "CHANGELOG.md", *FILES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    git = ["/usr/bin/env", "git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True, env=environment())
    return tmp_path


def environment() -> dict[str, str]:
    """Return the environment without what makes git look elsewhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}


def release(tree: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run scripts/release in *tree*."""
    command = [sys.executable, str(tree / "scripts/release"), *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment(), cwd=tree
    )


def test_the_version_is_set_everywhere(tree: Path) -> None:
    """Each file names the new version and no longer the old one, and the changes have a date."""
    done = release(tree, NEXT)
    assert done.returncode == 0, done.stderr
    assert f"git tag --sign v{NEXT}" in done.stdout
    for name in ("supervisor/version.py", *FILES):
        text = (tree / name).read_text()
        assert NEXT in text, name
        assert VERSION not in text, name
    changes = (tree / "CHANGELOG.md").read_text()
    assert re.search(rf"^## Unreleased\n\n## {NEXT} \(\d{{4}}-\d\d-\d\d\)\n", changes, re.MULTILINE)

    assert release(tree, "--check", NEXT).returncode == 0
    told = release(tree, "--notes", NEXT)
    assert told.stdout.startswith("### Added")
    assert release(tree, "--check", VERSION).returncode != 0


def test_a_tree_with_changes_is_refused(tree: Path) -> None:
    """Nothing is written into a tree with changes that are not committed."""
    (tree / "LICENSE").write_text("")
    done = release(tree, NEXT)
    assert done.returncode != 0
    assert done.stderr == (
        f"cannot release {NEXT}: commit or remove these changes first:\n?? LICENSE\n"
    )
    assert VERSION in (tree / "supervisor/version.py").read_text()


REFUSED = {
    "the same version": (VERSION, f"cannot release {VERSION}: the version is already {VERSION}"),
    "a candidate of it": (f"{VERSION}rc1", "the version is already"),
    "no version": ("v2", 'cannot use the version "v2": write X.Y.Z, or X.Y.ZrcN for a candidate'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_version_that_is_not_newer_is_refused(tree: Path, case: str) -> None:
    """A version must be one, and newer than the present one."""
    version, words = REFUSED[case]
    done = release(tree, version)
    assert done.returncode != 0
    assert words in done.stderr


def test_a_file_without_the_version_is_refused(tree: Path) -> None:
    """If one file cannot be changed, none is."""
    (tree / FILES[-1]).write_text("no version\n")
    git = ["/usr/bin/env", "git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    words = [*git, "commit", "-qam", "two"]
    subprocess.run(words, cwd=tree, check=True, env=environment())
    done = release(tree, NEXT)
    assert f"{FILES[-1]} does not name the version {VERSION}" in done.stderr
    assert VERSION in (tree / "supervisor/version.py").read_text()


def test_no_other_file_names_the_version() -> None:
    """What is deployed or documented names the version only where a release changes it."""
    listed = subprocess.run(
        ["/usr/bin/env", "git", "ls-files", "deploy", "docs", "README.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    exact = re.compile(rf"(?<![\d.]){re.escape(VERSION)}(?!\.?\d|rc)")
    texts = {name: (ROOT / name).read_bytes().decode(errors="replace") for name in listed}
    assert {name for name, text in texts.items() if exact.search(text)} - {*FILES} == set()


def test_the_chart_of_a_registry_installs_its_image(tmp_path: Path) -> None:
    """The packaged chart names the image of the registry, by the version."""
    helm = newest()
    image = "registry.example.com/gpus/plugin"
    command = [str(ROOT / "scripts/chart-package"), str(tmp_path), image]
    subprocess.run(command, check=True, env={**os.environ, "HELM": helm.binary})
    (made,) = tmp_path.glob(f"gpu-sharing-plugin-{VERSION}.tgz")
    (daemonset,) = (o for o in helm.objects({}, chart=made) if o["kind"] == "DaemonSet")
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{image}:{VERSION}"
