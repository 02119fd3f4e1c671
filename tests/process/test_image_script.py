"""`scripts/image` builds the image with what the machine has."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/image"
STUB = '#!/bin/sh\n[ "$1" = info ] && exit {}\necho "$(basename "$0") $1 $2 $3"\n'
OPTIONS = "--file deploy/image/Dockerfile"


def build(folder: Path, *tools: str, info: int) -> subprocess.CompletedProcess[str]:
    """Run the script with only these *tools*; `docker info` exits with *info*."""
    for name in ("git", "dirname", "basename"):
        (folder / name).symlink_to(shutil.which(name) or f"{name} is missing")
    for tool in tools:
        (folder / tool).write_text(STUB.format(info))
        (folder / tool).chmod(0o755)
    return subprocess.run(
        ["/bin/bash", SCRIPT, "base@sha256:0", "a:1"],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": str(folder)},
    )


@pytest.mark.parametrize(
    ("tools", "info", "command"),
    [
        (("docker", "podman", "buildah"), 0, f"docker build {OPTIONS}"),
        (("docker", "podman", "buildah"), 1, "podman build --format docker"),
        (("docker", "buildah"), 1, "buildah bud --format docker"),
    ],
)
def test_the_tool_that_works_is_used(
    tmp_path: Path, tools: tuple[str, ...], info: int, command: str
) -> None:
    """Docker's client alone builds nothing, so another tool is used where its daemon is not."""
    done = build(tmp_path, *tools, info=info)
    assert (done.returncode, done.stdout.strip()) == (0, " ".join(command.split()[:4]))


def test_no_tool_works(tmp_path: Path) -> None:
    """One line says what to start or install."""
    done = build(tmp_path, "docker", info=1)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cannot build the image: start docker")
