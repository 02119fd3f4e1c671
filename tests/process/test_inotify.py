"""No inotify instances are left: the service runs in a user namespace whose limit is zero."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
NAMESPACE = ("unshare", "--user", "--map-root-user")
NO_INOTIFY = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'


def test_a_new_kubelet_is_found_without_inotify(folder: Path, library: Path) -> None:
    """Without inotify, a check every second notices a restarted kubelet, and the log says so."""
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no user namespaces")

    async def story() -> None:
        # The simulated node cannot be used here: it needs inotify itself.
        environment = {"LD_LIBRARY_PATH": str(library.parent), "STANDIN_NVML_DIR": str(folder)}
        within = (*NAMESPACE, "sh", "-c", NO_INOTIFY, "sh")
        async with (
            kubelet(folder) as node,
            service(folder, environment=environment, within=within) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.logged("cannot use inotify, checking every second")
            await node.stop()
            await node.start()
            await node.until(lambda k: k.healthy(GPU) == 2)
            assert node.registrations >= 2

    asyncio.run(story())
