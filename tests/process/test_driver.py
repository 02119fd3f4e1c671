"""The service with nvidia-ml-py over ctypes, on a stand-in for NVML that is written in C."""

import asyncio
import os
from pathlib import Path

from simulator.kubelet import Kubelet
from tests.fakes import nvml_library
from tests.fakes.service import Service, kubelet, service, until

GPU = "nvidia.com/gpu"
FIRST, SECOND = nvml_library.GPU_UUIDS


def driven(library: Path, folder: Path, **more: str) -> dict[str, str]:
    """Return the environment in which the loader finds the stand-in library."""
    return {"LD_LIBRARY_PATH": str(library.parent), "STANDIN_NVML_DIR": str(folder), **more}


async def watched(node: Kubelet, running: Service) -> nvml_library.Steering:
    """Wait until both GPUs are served and watched; return the object that steers the library."""
    await node.until(lambda k: k.healthy(GPU) == 2)
    await running.ready()
    return nvml_library.Steering(running.folder)


def test_gpus_and_instances_are_enumerated(folder: Path, library: Path) -> None:
    """The monitor publishes the GPUs, MIG instances and links that the driver reports."""

    async def story() -> None:
        async with service(folder, environment=driven(library, folder)) as running:
            await running.logged("watching GPUs for Xid events")
            state = await running.publishes(epoch=1)
            first, second = state.inventory.gpus

            assert state.inventory.driver_version == nvml_library.DRIVER_VERSION
            assert [gpu.uuid for gpu in state.inventory.gpus] == [FIRST, SECOND]
            assert (first.minor, second.minor) == nvml_library.GPU_MINORS
            assert (first.pci_bus_id, second.pci_bus_id) == ("0000:07:00.0", "0000:0a:00.0")
            assert first.memory_mib == nvml_library.GPU_MEMORY_MIB
            assert (first.compute_capability, first.numa_node) == ("9.0", None)
            assert (first.mig_enabled, second.mig_enabled) == (False, True)
            assert [(i.uuid, i.place, i.gi, i.profile) for i in second.instances] == [
                (nvml_library.MIG_UUIDS[0], 0, 7, "1g.10gb"),
                (nvml_library.MIG_UUIDS[1], 2, 8, "1g.10gb"),
            ]
            assert [(k.level, k.nvlinks) for k in state.inventory.links] == [("PIX", 2)]

    asyncio.run(story())


def test_xids_come_from_the_driver(folder: Path, library: Path) -> None:
    """An Xid from the driver reaches the kubelet; an Xid of a MIG instance affects only that
    instance.
    """

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            service(
                folder, environment=driven(library, folder), exec_because="as users start it"
            ) as running,
        ):
            steering = await watched(node, running)
            steering.xid(0, 79)
            await node.until(lambda k: set(k.resources[GPU].healthy()) == {SECOND})
            steering.xid(1, 48, 7, 0)
            await running.logged("the driver reported a fatal Xid", uuid=SECOND, xid=48, gi=7)
            state = await running.publishes(epoch=1)
            unhealthy = {h.uuid: [str(r) for r in h.reasons] for h in state.health if h.reasons}

            assert unhealthy == {FIRST: ["xid 79"], nvml_library.MIG_UUIDS[0]: ["xid 48"]}

    asyncio.run(story())


def test_a_gpu_lost_during_the_wait_affects_no_other(folder: Path, library: Path) -> None:
    """When the driver's wait fails because one GPU is lost, the other GPU is still watched for
    Xids.
    """

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            service(folder, environment=driven(library, folder)) as running,
        ):
            steering = await watched(node, running)
            steering.lost(0)
            await node.until(lambda k: set(k.resources[GPU].healthy()) == {SECOND})
            steering.xid(1, 79)
            await node.until(lambda k: k.healthy(GPU) == 0)
            state = await running.publishes(epoch=1)
            reasons = {h.uuid: h.reasons[0].kind for h in state.health}

            assert (reasons[FIRST], reasons[SECOND]) == ("gpu-lost", "xid")

    asyncio.run(story())


def test_a_gpu_lost_before_the_start_affects_no_other(folder: Path, library: Path) -> None:
    """A GPU that cannot be enumerated is logged, and the other GPU is served."""

    async def story() -> None:
        environment = driven(library, folder, STANDIN_NVML_LOST="0")
        async with kubelet(folder) as node, service(folder, environment=environment) as running:
            await node.until(lambda k: k.healthy(GPU) == 1)
            failed = await running.logged("cannot enumerate a GPU", index=0)

            assert "GPU is lost" in failed["error"]

    asyncio.run(story())


def test_a_gpu_without_events_is_served(folder: Path, library: Path) -> None:
    """A GPU that is too old to report Xids is Healthy: a missing feature is not a fault."""

    async def story() -> None:
        environment = driven(library, folder, STANDIN_NVML_NO_EVENTS="0")
        async with kubelet(folder) as node, service(folder, environment=environment) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            state = await running.publishes(epoch=1)

            assert [gpu.events for gpu in state.inventory.gpus] == [False, True]

    asyncio.run(story())


def test_without_a_driver_the_service_exits(folder: Path) -> None:
    """By default, a missing driver ends the service with exit code 1 and one clear reason."""

    async def story() -> None:
        async with service(folder) as running:
            code = await running.ended()
            reason = (await running.logged("process is not ready"))["reason"]

            assert code == 1
            assert reason == (
                "no NVIDIA GPU on this node; cannot call nvmlInit: NVML Shared Library Not Found "
                "(NVML error 12)"
            )

    asyncio.run(story())


def half_installed(root: Path) -> Path:
    """Put a library that cannot be loaded below the driver *root*; return its path."""
    place = root / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
    place.parent.mkdir(parents=True)
    place.touch()
    return place


def test_a_driver_that_comes_later_is_served(folder: Path, library: Path) -> None:
    """With failOnInitError=false, the service waits for a driver that cannot be used yet, and
    serves the GPUs when it can.
    """

    async def story() -> None:
        root = folder / "root"
        place = half_installed(root)
        options = ("--fail-on-init-error=false", f"--driver-root-ctr-path={root}")
        environment = {"STANDIN_NVML_DIR": str(folder)}
        async with (
            kubelet(folder) as node,
            service(folder, *options, environment=environment) as running,
        ):
            told = await running.logged("process is not ready")

            async def is_shown() -> bool:
                status, answer = await running.get("/readyz")
                return status == 503 and told["reason"] in answer

            await running.logged("serving metrics")
            await until(is_shown, "reason at /readyz")
            await running.shows("gpu_sharing_driver_state", 1, state="unusable")
            os.link(library, place.with_suffix(".new"))
            place.with_suffix(".new").replace(place)
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()

            assert running.count("process is not ready") == 1
            await running.shows("gpu_sharing_driver_state", 1, state="loaded")

    asyncio.run(story())


def test_a_wait_that_never_returns_is_reported(folder: Path, library: Path) -> None:
    """When the driver does not return from the wait for events, all GPUs are Unhealthy."""

    async def story() -> None:
        (folder / "config.yaml").write_text("health: {hangAfter: 3s}")
        options = f"--config-file={folder}/config.yaml"
        async with (
            kubelet(folder) as node,
            service(folder, options, environment=driven(library, folder)) as running,
        ):
            steering = await watched(node, running)
            steering.hang()
            await node.until(lambda k: k.healthy(GPU) == 0)
            told = await running.logged("the driver hangs")
            state = await running.publishes(epoch=1)

            assert told["call"] == "nvmlEventSetWait"
            assert {str(r) for h in state.health for r in h.reasons} == {
                "driver-hang nvmlEventSetWait"
            }

    asyncio.run(story())
