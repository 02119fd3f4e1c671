"""The inhibition rules, in a real Alertmanager."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.prometheus import ROOT, free_port, tool

pytestmark = pytest.mark.e2e

CONFIGURATION = ROOT / "deploy/prometheus/alertmanager.yaml"
TEMPLATES = Path("/usr/share/prometheus/alertmanager")
GPU = ("GpuSharingDeviceUnhealthy", "node-a", "GPU-1")
CASES = {
    "one broken GPU": ({GPU}, {GPU}),
    "the same GPU keeps failing": ({GPU, ("GpuSharingHealthFlapping", "node-a", "GPU-1")}, {GPU}),
    "another GPU keeps failing": (
        {GPU, ("GpuSharingHealthFlapping", "node-a", "GPU-2")},
        {GPU, ("GpuSharingHealthFlapping", "node-a", "GPU-2")},
    ),
    "all GPUs of a node": (
        {
            ("GpuSharingNoCapacity", "node-a", ""),
            GPU,
            ("GpuSharingDeviceUnhealthy", "node-b", "GPU-9"),
        },
        {("GpuSharingNoCapacity", "node-a", ""), ("GpuSharingDeviceUnhealthy", "node-b", "GPU-9")},
    ),
    "a silent monitor": (
        {
            ("GpuSharingHealthMonitorDown", "node-a", ""),
            ("GpuSharingProcessRestarting", "node-a", ""),
            ("GpuSharingNoCapacity", "node-a", ""),
            GPU,
        },
        {("GpuSharingHealthMonitorDown", "node-a", "")},
    ),
    "no service for MPS": (
        {("GpuSharingMpsDown", "node-a", ""), ("GpuSharingNoCapacity", "node-a", ""), GPU},
        {("GpuSharingMpsDown", "node-a", "")},
    ),
    "no kubelet": (
        {("GpuSharingNotRegistered", "node-a", ""), ("GpuSharingPodResourcesDown", "node-a", "")},
        {("GpuSharingNotRegistered", "node-a", "")},
    ),
}
"""What fires, by name, node and GPU; and what sends a notification."""


def amtool(*arguments: str) -> str:
    """Run amtool and return its output; the test fails if amtool does."""
    command = [tool("amtool"), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Run Alertmanager with our configuration, and return its address."""
    if not TEMPLATES.is_dir():
        pytest.skip("needs the templates of Debian's alertmanager, which scripts/e2e mounts")
    address = f"127.0.0.1:{free_port()}"
    command = [
        tool("alertmanager"),
        f"--config.file={CONFIGURATION}",
        f"--storage.path={tmp_path}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    daemon = Daemon(command, tmp_path / "alertmanager.log")
    probe = [tool("amtool"), "alert", f"--alertmanager.url=http://{address}"]
    try:
        daemon.wait_ready(
            lambda: subprocess.run(probe, check=False, capture_output=True).returncode == 0,
            30,
            "Alertmanager answers",
        )
        yield f"--alertmanager.url=http://{address}"
    finally:
        daemon.stop()
        daemon.show_log()


def test_amtool_accepts_the_configuration() -> None:
    """Amtool finds no mistake in the configuration."""
    assert "SUCCESS" in amtool("check-config", str(CONFIGURATION))


@pytest.mark.parametrize("case", CASES)
def test_one_fault_sends_one_notification(url: str, case: str) -> None:
    """Of the alerts that fire, those that follow from another are suppressed."""
    firing, sent = CASES[case]
    for name, instance, uuid in firing:
        gpu = [f"uuid={uuid}"] if uuid else []
        amtool("alert", "add", name, f"instance={instance}", *gpu, url)
    told = json.loads(amtool("alert", "query", "--active", "--output=json", url))
    assert {
        (a["labels"]["alertname"], a["labels"]["instance"], a["labels"].get("uuid", ""))
        for a in told
    } == sent
