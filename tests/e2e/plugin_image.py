"""The plugin's own image, built with buildah from the base that `scripts/e2e` has made."""

import os
import subprocess
from pathlib import Path

from supervisor.version import VERSION

REPOSITORY = Path(__file__).parents[2]
DEPLOYED = f"docker.io/library/gpu-sharing-plugin:{VERSION}"
"""The name of the image in the manifests."""

_CERTIFICATES = "/etc/ssl/certs"
_IMAGE = "localhost/gpu-sharing-plugin:e2e"


def store(run: Path) -> list[str]:
    """Return buildah with the store in which `scripts/e2e` has put the base image."""
    folders = ["--root", os.environ["E2E_IMAGES"], "--runroot", str(run)]
    return ["/usr/bin/buildah", *folders, "--storage-driver", "vfs"]


def buildah(*arguments: str, run: Path) -> subprocess.CompletedProcess[str]:
    """Run buildah; its default isolation needs more rights than this machine may give."""
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    return subprocess.run(
        [*store(run), *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    )


def base(run: Path) -> str:
    """Return the base image's name with its digest, as buildah knows it."""
    form = "--format={{.FromImageDigest}}"
    done = buildah("inspect", "--type=image", form, "localhost/base", run=run)
    assert done.returncode == 0, done.stderr
    return f"localhost/base@{done.stdout.strip()}"


def build(base: str, run: Path) -> subprocess.CompletedProcess[str]:
    """Build the image on *base*, as deploy/image/Dockerfile says."""
    arguments = [f"BASE={base}", "SOURCE_DATE_EPOCH=1"]
    arguments += [f"PIP_CERT={_CERTIFICATES}/ca-certificates.crt"]
    arguments += [f"PIP_INDEX_URL={os.environ.get('PIP_INDEX_URL', 'https://pypi.org/simple')}"]
    return buildah(
        *("bud", "--quiet", "--format=docker", "--layers=false", "--timestamp=1"),
        *(f"--build-arg={argument}" for argument in arguments),
        # The machine's own CA certificates, because its package index may be a mirror.
        f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro",
        *("--file=deploy/image/Dockerfile", f"--tag={_IMAGE}", "."),
        run=run,
    )


def write_archive(folder: Path) -> Path:
    """Build the image, write it to a file in *folder*, under the manifest's name; return that."""
    run = folder / "run"
    built = build(base(run), run)
    assert built.returncode == 0, built.stderr
    try:
        target = folder / "image.tar"
        pushed = buildah("push", "--quiet", _IMAGE, f"docker-archive:{target}:{DEPLOYED}", run=run)
        assert pushed.returncode == 0, pushed.stderr
        return target
    finally:
        buildah("rmi", _IMAGE, run=run)
