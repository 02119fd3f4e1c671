"""A driver upgrade below the running service, with nvidia-ml-py on libraries written in C.

The driver's folder has the library under its versioned name, as on a host. /proc is a folder of the
test, in which the kernel module has the version that the test says.
"""

import asyncio
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from health.access import LATE
from health.pci_gpus import PciGpu
from supervisor.give_up import NEVER_SERVED
from tests.fakes import compiler, nvml_library
from tests.fakes.service import Service, kubelet, service
from tests.unit.test_pci_gpus import machine

GPU = "nvidia.com/gpu"
EXIT = "exiting: only a new container can use the GPUs"
OLD, INSTALLED, NEW = "570.133.20", nvml_library.DRIVER_VERSION, "590.44.01"

MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (a@b)\n"

WITH_PROCFS = """\
import functools, sys
from supervisor import compose_monitor
known = compose_monitor.MonitorSettings
compose_monitor.MonitorSettings = functools.partial(known, procfs=sys.argv[1], sysfs=sys.argv[2])
from supervisor.main import main
sys.exit(main(sys.argv[6:]))
"""
"""Runs the service's command, which follows the folder, with that folder for /proc."""

REFUSING = """\
int nvmlInitWithFlags(unsigned flags) { (void)flags; return CODE; }
int nvmlInit_v2(void) { return CODE; }
"""
"""A library that can do nothing but refuse, as one of another version than the module does."""


class Host:
    """The driver's library and kernel module of a host, in a folder of the test."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.root = folder / "root"
        self.procfs = folder / "proc"
        self._libraries = self.root / "usr/lib/x86_64-linux-gnu"
        self._libraries.mkdir(parents=True)
        (self.procfs / "driver/nvidia").mkdir(parents=True)
        (self.procfs / "self").symlink_to("/proc/self")
        shutil.copy(library, self._libraries / f"libnvidia-ml.so.{INSTALLED}")
        self._link(INSTALLED)
        self.load_module(INSTALLED)

    def load_module(self, version: str) -> None:
        """Load the kernel module of this version."""
        (self.procfs / "driver/nvidia/version").write_text(MODULE.format(version))

    def unload_module(self) -> None:
        """Unload the kernel module."""
        (self.procfs / "driver/nvidia/version").unlink()

    def refuse(self, code: int, version: str) -> None:
        """Have a library of this version, which answers with this code from now on."""
        source = self.root / "refusing.c"
        source.write_text(REFUSING)
        path = self._libraries / f"libnvidia-ml.so.{version}"
        command = [compiler.COMPILER, *nvml_library.FLAGS, f"-DCODE={code}", str(source)]
        new = path.with_suffix(".new")
        subprocess.run([*command, "-o", str(new)], check=True, timeout=60)
        new.replace(path)
        if path.name != nvml_library.NAME:
            self._link(version)

    def _link(self, version: str) -> None:
        new = self._libraries / "new"
        new.symlink_to(f"libnvidia-ml.so.{version}")
        new.replace(self._libraries / nvml_library.NAME)

    def within(self, sysfs: Path = Path("/sys")) -> tuple[str, ...]:
        """Return the command in which the service sees this host's /proc, and *sysfs*."""
        return (sys.executable, "-c", WITH_PROCFS, str(self.procfs), str(sysfs))

    def options(self, limit: str) -> tuple[str, ...]:
        """Return the flags of a service on this host that exits after *limit*."""
        (self.root / "config.yaml").write_text(f"health: {{exitWithoutAccess: {limit}}}\n")
        root, file = f"--driver-root-ctr-path={self.root}", f"{self.root}/config.yaml"
        return (root, f"--config-file={file}", "--log-level=debug")


async def tried(running: Service, times: int) -> None:
    """Wait until the monitor was started so often."""
    message = "process changed state"
    await running.logged(message, child="monitor", state="starting", starts=times)


ADVICE = {
    18: f"the library {INSTALLED} is older than the kernel module {NEW}: "
    "a new container gets the new one",
    4: "allow access to /dev/nvidia*",
    17: "allow access to /dev/nvidiactl",
    999: "if other programs can use the GPUs, this plugin has lost access to them",
}


@pytest.mark.parametrize(
    ("code", "kind"),
    [(18, "no-driver"), (4, "no-access"), (17, "no-access"), (999, "no-access")],
)
def test_the_service_exits_for_a_new_container(
    folder: Path, library: Path, code: int, kind: str
) -> None:
    """When only a new container can use the GPUs, all are Unhealthy, and the service exits."""
    host = Host(folder, library)

    async def story() -> None:
        options, environment = host.options("500ms"), {"STANDIN_NVML_DIR": str(folder)}
        async with (
            kubelet(folder) as node,
            service(folder, *options, environment=environment, within=host.within()) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            host.load_module(NEW)
            host.refuse(code, INSTALLED)
            running.kill("monitor")
            told = await running.logged("device listed as Unhealthy")
            code_of_exit = await running.ended()
            exited = await running.logged(EXIT)

            assert told["reasons"][0].startswith(f"{kind} cannot call nvmlInit")
            assert exited["reason"].endswith(f"(NVML error {code}); {ADVICE[code]}")
            assert (code_of_exit, running.count(EXIT)) == (1, 1)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("code", "version", "module"),
    [(18, INSTALLED, OLD), (18, INSTALLED, INSTALLED), (18, "1", NEW), (9, INSTALLED, "")],
    ids=["library newer", "same version", "version unknown", "module not loaded"],
)
def test_a_driver_that_a_new_container_cannot_use_either(
    folder: Path, library: Path, code: int, version: str, module: str
) -> None:
    """When a new container would not help, the service tries again and does not exit."""
    host = Host(folder, library)

    async def story() -> None:
        options, environment = host.options("100ms"), {"STANDIN_NVML_DIR": str(folder)}
        async with (
            kubelet(folder) as node,
            service(folder, *options, environment=environment, within=host.within()) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            host.load_module(module)
            if not module:
                host.unload_module()
            host.refuse(code, version)
            running.kill("monitor")
            told = await running.logged("process is not ready")
            await tried(running, 6)

            assert f"(NVML error {code})" in told["reason"]
            assert "a new container" not in told["reason"]
            assert running.count(EXIT) == 0

    asyncio.run(story())


def test_a_service_that_never_had_access_waits_longer(folder: Path, library: Path) -> None:
    """With failOnInitError=false, a service that has had no GPU yet waits ten times as long before
    it exits: a new container has access only if this one was made too early.
    """
    host = Host(folder, library)

    async def story() -> None:
        environment = {"STANDIN_NVML_DIR": str(folder), "STANDIN_NVML_INIT_ERROR": "4"}
        options = (*host.options("100ms"), "--fail-on-init-error=false")
        async with service(folder, *options, environment=environment) as running:
            code = await running.ended()
            times = [
                datetime.fromisoformat(str((await running.logged(message))["time"]))
                for message in ("process is not ready", EXIT)
            ]
            assert code == 1
            assert (times[1] - times[0]).total_seconds() >= NEVER_SERVED * 0.1

    asyncio.run(story())


def test_a_driver_that_comes_after_the_container(folder: Path, library: Path) -> None:
    """The kernel module is loaded while the service waits, and the service's own /dev still has no
    nodes: the reason says so, the driver is not missing any more, and the service exits.
    """
    host = Host(folder, library)
    machine(folder / "sys", PciGpu("0000:01:00.0"))

    async def story() -> None:
        host.unload_module()
        host.refuse(9, INSTALLED)
        options = (*host.options("2s"), "--fail-on-init-error=false")
        async with service(folder, *options, within=host.within(sysfs=folder / "sys")) as running:
            told = await running.logged("process is not ready")
            assert told["reason"].endswith("load the kernel module nvidia on the node")
            await running.shows("gpu_sharing_driver_state", 1, state="missing")
            host.load_module(INSTALLED)
            await running.shows("gpu_sharing_driver_state", 1, state="unusable")
            assert await running.ended() == 1
            assert (await running.logged(EXIT))["reason"].endswith(LATE[9])

    asyncio.run(story())
