"""The tools that scripts install for themselves come from locks with hashes, like what ships."""

import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fakes.service import PATIENCE

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "audit": "pip-audit",
    "docs": "mkdocs",
    "fuzz": "atheris",
    "lock": "uv",
    "sbom": "cyclonedx-py",
}
"""The command of the tool that each script installs."""

INSTALLS = re.compile(r"\bpip\S*\s.*\b(install|download)\b")
SAFE = ("--require-hashes", "--no-index", "--no-build-isolation --editable .")
"""Options with which pip installs only what a lock names by hash, or what is in our own folder."""


QUICK_VENV = f"""#!/bin/sh
# For `python3 -m venv FOLDER`: unpacking a pip for each folder would take seconds.
{sys.executable} -m venv --without-pip "$3"
echo '#!/bin/sh' >"$3/bin/pip"
echo 'exec {sys.executable} -m pip --python '"$3/bin/python"' "$@"' >>"$3/bin/pip"
chmod +x "$3/bin/pip"
"""


def plant(folder: Path, name: str, version: str, command: str) -> None:
    """Write a wheel of this name and version, with another content: a module and a command."""
    package = name.replace("-", "_").replace(".", "_")
    info = f"{package}-{version}.dist-info"
    files = {
        "planted.py": "",
        f"{package}-{version}.data/scripts/{command}": '#!/bin/sh\ntouch "$PLANTED"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{package}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            member = zipfile.ZipInfo(path)
            # A regular file, and executable: pip keeps that of a command.
            member.external_attr = (stat.S_IFREG | 0o755) << 16
            wheel.writestr(member, text)


@pytest.mark.parametrize("script", COMMANDS)
def test_a_tool_with_other_content_is_refused(tmp_path: Path, script: str) -> None:
    """A package index that gives other files under the right names and versions is noticed: pip
    refuses them, and nothing of them is installed or run.
    """
    index, repository = tmp_path / "index", tmp_path / "repository"
    lock = (ROOT / f"scripts/tools/{script}.lock").read_text()
    index.mkdir()
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE):
        plant(index, name, version, COMMANDS[script])
    shutil.copytree(ROOT / "scripts", repository / "scripts")
    for path in (ROOT / "pyproject.toml", *ROOT.glob("requirements*.lock")):
        shutil.copy(path, repository)
    (repository / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "python3").write_text(QUICK_VENV)
    (tmp_path / "python3").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
        "PLANTED": str(repository / "planted"),
    }

    done = subprocess.run(
        [f"scripts/{script}", *(["names"] if script == "fuzz" else [])],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert [*repository.rglob("planted*")] == []
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_every_installation_checks_hashes() -> None:
    """No script, Makefile or Dockerfile installs a package whose hash is not in a lock."""
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    for path in (*scripts, ROOT / "Makefile", ROOT / "deploy/image/Dockerfile"):
        text = path.read_text()
        if text.startswith("#!/usr/bin/env python3"):
            continue  # they install nothing; fetch-helm has the hash of what it downloads
        for line in text.replace("\\\n", " ").replace("$(PIP)", "pip").splitlines():
            if INSTALLS.search(line) and not line.lstrip().startswith("#"):
                assert any(option in line for option in SAFE), f"{path.name}: {line}"


DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("base", "accepted"),
    [
        (f"registry.example.com/python@sha256:{DIGEST}", True),
        (f"python:3.11-slim@sha256:{DIGEST}", True),
        ("docker.io/library/python:3.11-slim-bookworm", False),
        ("python@sha256:", False),
        (f"python@sha256:{DIGEST[:-1]}", False),
        (f"python@sha256:{DIGEST[:-1]}G", False),
        (f"python:sha256-{DIGEST}", False),
        (DIGEST, False),
        ("", False),
    ],
)
def test_a_base_image_needs_a_digest(base: str, *, accepted: bool) -> None:
    """An image is built only on a base that is named by its digest, unless its builder says that
    any base will do.
    """
    check = [str(ROOT / "scripts/check-base"), base]
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    said = "" if accepted else f'cannot build an image on "{base}": name the base by its digest'

    assert (done.returncode == 0, done.stderr.partition(",")[0]) == (accepted, said)
    assert subprocess.run([*check, "yes"], check=False).returncode == 0


def test_the_image_is_built_on_a_checked_base() -> None:
    """All stages of the image have the same base, and the build checks it before anything else."""
    lines = (ROOT / "deploy/image/Dockerfile").read_text().splitlines()
    bases = {line.split()[1] for line in lines if line.startswith("FROM ")}
    (first, *_) = [line for line in lines if line.startswith("RUN ")]

    assert bases == {"${BASE}"}
    assert first == 'RUN /src/scripts/check-base "${BASE}" "${UNPINNED_BASE}"'
