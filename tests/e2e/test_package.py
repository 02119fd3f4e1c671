"""The packages of scripts/package, installed, upgraded and purged on a machine with a systemd."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.version import VERSION
from tests.e2e.daemon import wait_until
from tests.e2e.machine import Machine, machine

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).parents[2]
NAME = "gpu-sharing-plugin"
SETTINGS = f"""\
DEVICE_PLUGIN_PATH=/var/lib/kubelet/device-plugins
METRICS_ADDRESS=127.0.0.1:0
CONFIG_FILE=/etc/{NAME}/config.yaml
"""
SIMULATED = f"""\
[Service]
ExecStart=
ExecStart=/opt/{NAME}/bin/{NAME} run --simulated-node=/etc/{NAME}/node.yaml
"""
STARTED = f"{NAME} is installed; start it with"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the packages once."""
    if "E2E_KUBELET" not in os.environ and "E2E_PACKAGES" not in os.environ:
        pytest.skip("needs what scripts/e2e sets up")
    if made := os.environ.get("E2E_PACKAGES"):
        return Path(made)
    folder = tmp_path_factory.mktemp("packages")
    subprocess.run([REPOSITORY / "scripts/package", folder], check=True)
    return folder


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Machine]:
    """Boot a machine with settings for a simulated node."""
    with machine(tmp_path / "machine") as running:
        running.do("rm", "-rf", f"/etc/{NAME}", f"/opt/{NAME}", f"/var/lib/{NAME}")
        running.do("mkdir", "-p", "/var/lib/kubelet/device-plugins")
        running.put(f"/etc/systemd/system/{NAME}.service.d/test.conf", SIMULATED.encode())
        yield running


def newer(packages: Path, folder: Path) -> Path:
    """Return the Debian package as a later version of itself."""
    (package,) = packages.glob("*.deb")
    subprocess.run(["/usr/bin/dpkg-deb", "--raw-extract", package, folder / "raw"], check=True)
    control = folder / "raw/DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {VERSION}", "Version: 99"))
    made = folder / "newer.deb"
    build = [
        "/usr/bin/dpkg-deb",
        "--root-owner-group",
        "-Zgzip",
        "-z1",
        "--build",
        str(folder / "raw"),
        str(made),
    ]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    return made


def install(node: Machine, package: Path) -> str:
    """Install a package without a network, and return what dpkg prints."""
    node.put("/root/package.deb", package.read_bytes())
    return node.do("dpkg", "--install", "/root/package.deb", network=False)


def configure(node: Machine, gpus: int = 2) -> None:
    """Write the settings, a configuration and the simulated node."""
    node.put(f"/etc/{NAME}/node.yaml", b"gpus: [" + b"{}, " * gpus + b"]\n")
    node.put(f"/etc/{NAME}/{NAME}.env", SETTINGS.encode())
    node.put(f"/etc/{NAME}/config.yaml", b"version: v1\n")


def test_the_debian_package(node: Machine, packages: Path, tmp_path: Path) -> None:
    """The package serves a node with the unit's hardening, is upgraded, removed and purged."""
    (package,) = packages.glob("*.deb")
    assert STARTED in install(node, package)
    assert node.show(NAME, "ActiveState") == "inactive"
    configure(node)

    node.do("systemctl", "enable", "--now", NAME)
    assert "All 2 GPUs are healthy" in node.do(NAME, "status")
    first = node.show(NAME, "MainPID")
    # The hardening is on: the service sees its own mounts, and cannot write to /usr.
    spaces = {node.do("readlink", f"/proc/{pid}/ns/mnt") for pid in ("1", first)}
    assert len(spaces) == 2
    mounts = node.do("cat", f"/proc/{first}/mountinfo").splitlines()
    assert [line for line in mounts if line.split()[4] == "/" and " ro," in line]

    node.do("systemctl", "reload", NAME)
    node.put(f"/etc/{NAME}/config.yaml", b"version: v1\nnonsense: 1\n")
    refused = node.run("systemctl", "reload", NAME)
    assert refused
    assert refused.returncode != 0
    assert node.show(NAME, "MainPID") == first
    node.put(f"/etc/{NAME}/config.yaml", b"version: v1\n")

    assert STARTED not in install(node, newer(packages, tmp_path))
    node.is_in(NAME, "active")
    assert node.show(NAME, "MainPID") not in {first, "0"}
    assert "DEVICE_PLUGIN_PATH" in node.do("cat", f"/etc/{NAME}/{NAME}.env")

    node.do("dpkg", "--remove", NAME)
    wait_until(lambda: node.show(NAME, "MainPID") == "0", 30, "the service has ended")
    assert "DEVICE_PLUGIN_PATH" in node.do("cat", f"/etc/{NAME}/{NAME}.env")
    node.do("test", "-d", f"/var/lib/{NAME}")
    node.do("dpkg", "--purge", NAME)
    for gone in (f"/etc/{NAME}", f"/var/lib/{NAME}", f"/opt/{NAME}", f"/usr/bin/{NAME}"):
        node.do("test", "!", "-e", gone)


def test_the_tarball(node: Machine, packages: Path) -> None:
    """The tarball installs the service without a network; the Debian package then refuses."""
    (tarball,) = packages.glob("*.tar.gz")
    node.put("/root/tarball.tar.gz", tarball.read_bytes())
    node.do("tar", "--extract", "--file=/root/tarball.tar.gz", "--directory=/root")
    node.do(f"/root/{NAME}-{VERSION}/scripts/install", network=False)
    configure(node)
    node.do("systemctl", "start", NAME)
    assert "All 2 GPUs are healthy" in node.do(f"/opt/{NAME}/bin/{NAME}", "status")

    (package,) = packages.glob("*.deb")
    node.put("/root/package.deb", package.read_bytes())
    refused = node.run("dpkg", "--install", "/root/package.deb")
    assert refused
    assert "run scripts/install --uninstall first" in refused.stdout + refused.stderr

    node.do(f"/root/{NAME}-{VERSION}/scripts/install", "--uninstall")
    node.do("test", "!", "-e", f"/opt/{NAME}")
