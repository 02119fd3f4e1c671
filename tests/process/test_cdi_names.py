"""CDI names in the service: a device is Healthy only while its specification names it."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from proto.messages import NodeState
from proto.reasons import ReasonKind
from simulator.kubelet import Kubelet
from tests.fakes import nvml_library
from tests.fakes.service import Service, kubelet, service, until
from tests.fakes.toolkit import NAME, Host
from tests.unit.builders import gpu_uuid

GPU = "nvidia.com/gpu"
FIRST, SECOND = gpu_uuid(0), gpu_uuid(1)
BOTH = f"{FIRST},{SECOND}"
TWO: dict[str, object] = {"gpus": [{}, {}]}
QUICK = "health: {pollInterval: 200ms, rescanInterval: 300ms}\n"
LOST = f"failed to get {SECOND}: GPU is lost"


@contextlib.asynccontextmanager
async def started(
    host: Host,
    *options: str,
    node: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Kubelet, Service]]:
    """Run the service with CDI names on the stand-in host."""
    (host.folder / "config.yaml").write_text(QUICK)
    flags = (
        "--device-list-strategy=cdi-cri",
        f"--cdi-spec-dir={host.specs}",
        f"--nvidia-cdi-hook-path={host.settings.hook_path}",
        f"--config-file={host.folder}/config.yaml",
        *options,
    )
    merged = {**host.environment, **(environment or {})}
    async with (
        kubelet(host.folder) as listening,
        service(host.folder, *flags, node=node, environment=merged) as running,
    ):
        yield listening, running


def unnamed(state: NodeState) -> dict[str, str]:
    """Return the details of the reason `cdi-spec` by UUID."""
    return {
        device.uuid: reason.detail
        for device in state.health
        for reason in device.reasons
        if reason.kind is ReasonKind.CDI_SPEC
    }


async def lists(node: Kubelet, healthy: int, total: int, resource: str = GPU) -> None:
    """Wait until the kubelet has a list of *total* devices of which so many are Healthy."""

    def listed(seen: Kubelet) -> bool:
        found = seen.resources.get(resource)
        return (
            found is not None and len(found.devices) == total and seen.healthy(resource) == healthy
        )

    await node.until(listed)


def test_a_failing_tool_is_retried(host: Host) -> None:
    """While nvidia-ctk fails, no GPU is Healthy; once it works, all are, without a restart."""
    host.change_tool(devices=BOTH, does="fail")

    async def story() -> None:
        async with started(host, node=TWO) as (node, running):
            await lists(node, 0, 2)
            await running.ready()
            monitor = running.pids()["monitor"]
            state = await running.publishes(epoch=1)
            detail = 'failed to generate CDI spec: failed to get "GPU-1": GPU is lost'
            assert unnamed(state) == {FIRST: detail, SECOND: detail}
            await until(lambda: len(host.calls()) > 6, "a third try")
            host.change_tool(devices=BOTH)
            await lists(node, 2, 2)
            assert running.pids()["monitor"] == monitor
            assert running.count("cannot write a CDI specification") == 1
            await running.logged("CDI specification is up to date", changed=True)

    asyncio.run(story())


def test_one_broken_gpu_takes_no_other(host: Host) -> None:
    """A GPU for which nvidia-ctk fails is Unhealthy with the tool's last line, and no other is."""
    host.change_tool(devices=BOTH, broken=SECOND)

    async def story() -> None:
        async with started(host, node=TWO) as (node, running):
            await lists(node, 1, 2)
            state = await running.shows_state(1, lambda state: len(unnamed(state)) == 1)
            assert unnamed(state) == {SECOND: LOST}
            assert host.names() == {FIRST}
            assert host.asked()[:4] == [[], [], [FIRST], [SECOND]]
            host.change_tool(devices=BOTH)
            await lists(node, 2, 2)
            assert host.names() == {FIRST, SECOND, "all"}
            message = "cannot write the CDI devices of some GPUs: nvidia-ctk fails for them"
            entry = await running.logged(message)
            assert (entry["gpus"], entry["errors"]) == (1, {SECOND: LOST})
            assert running.count(message) == 1

    asyncio.run(story())


def test_an_older_tool_fails_for_all(host: Host) -> None:
    """Before 1.19 the tool cannot leave one GPU out: all GPUs show its first error."""
    host.change_tool(devices=BOTH, broken=SECOND, old="yes")

    async def story() -> None:
        async with started(host, node=TWO) as (node, running):
            await lists(node, 0, 2)
            state = await running.publishes(epoch=1)
            assert unnamed(state) == {FIRST: LOST, SECOND: LOST}
            assert host.asked()[:3] == [[], [], [FIRST]]

    asyncio.run(story())


def test_a_deleted_file_is_written_again(host: Host) -> None:
    """A specification that somebody deletes is written again, and no device is Unhealthy for it."""
    host.change_tool(devices=BOTH)

    async def story() -> None:
        async with started(host, node=TWO) as (node, running):
            await lists(node, 2, 2)
            shutil.rmtree(host.specs)
            await until((host.specs / NAME).exists, "a new file")
            await running.shows_state(1, lambda state: bool(state.inventory.cdi_kinds))
            assert running.count("device listed as Unhealthy") == 0
            assert node.healthy(GPU) == 2

    asyncio.run(story())


def test_a_replaced_file_counts_once_the_tool_has_failed(host: Host) -> None:
    """A file that lacks a device makes it Unhealthy only if it cannot be written again."""
    host.change_tool(devices=BOTH)

    async def story() -> None:
        async with started(host, node=TWO) as (node, running):
            await lists(node, 2, 2)
            host.change_tool(devices=BOTH, does="nothing")
            (host.specs / NAME).unlink()
            await lists(node, 0, 2)
            state = await running.publishes(epoch=1)
            assert set(unnamed(state)) == {FIRST, SECOND}
            host.change_tool(devices=BOTH)
            await lists(node, 2, 2)

    asyncio.run(story())


@pytest.mark.parametrize("strategy", ["uuid", "index"])
def test_an_instance_that_is_not_in_the_file_is_unhealthy(host: Host, strategy: str) -> None:
    """A MIG instance is Healthy only if the specification names it, also after it was added."""

    async def story() -> None:
        node = {"gpus": [{"mig": ["1g.10gb"]}]}
        options = ("--mig-strategy=mixed", f"--device-id-strategy={strategy}")
        host.change_tool(devices=f"{FIRST}=0")
        async with started(host, *options, node=node) as (kubelet, running):
            resource = "nvidia.com/mig-1g.10gb"
            await lists(kubelet, 0, 1, resource)
            state = await running.publishes(epoch=1)
            (gpu,) = state.inventory.gpus
            (instance,) = gpu.instances
            assert unnamed(state) == {instance.uuid: "nvidia-ctk did not name the device"}
            host.change_tool(devices=f"{FIRST}=0,{instance.uuid}=0:0")
            await lists(kubelet, 1, 1, resource)

    asyncio.run(story())


def test_an_index_does_not_outlive_its_instance(host: Host) -> None:
    """A MIG instance with the index of an old one is Unhealthy until its own name is written."""

    async def story() -> None:
        node = {"gpus": [{"mig": ["1g.10gb"]}]}
        options = ("--mig-strategy=mixed", "--device-id-strategy=index")
        host.change_tool(devices=f"{FIRST}=0:0")
        async with started(host, *options, node=node) as (kubelet, running):
            await lists(kubelet, 1, 1, "nvidia.com/mig-1g.10gb")
            host.change_tool(does="fail")
            running.node.partition(0, ("2g.20gb",))
            await lists(kubelet, 0, 1, "nvidia.com/mig-2g.20gb")
            assert host.names() == {"all"}

    asyncio.run(story())


def test_a_whole_gpu_in_mig_mode_needs_its_own_name(host: Host) -> None:
    """With strategy none, a GPU in MIG mode needs the name of the GPU, not of its instances."""
    host.change_tool(devices=FIRST)

    async def story() -> None:
        async with started(host, node={"gpus": [{"mig": ["1g.10gb"]}]}) as (node, _):
            await lists(node, 1, 1)

    asyncio.run(story())


def test_the_tool_may_be_installed_later(host: Host, library: Path) -> None:
    """Without nvidia-ctk, GPUs are Unhealthy and say so, until somebody installs it."""
    shutil.rmtree(host.folder / "bin")
    devices = ",".join((*nvml_library.GPU_UUIDS, *nvml_library.MIG_UUIDS))
    host.change_tool(devices=devices)
    environment = {
        "PATH": f"{host.folder}/bin:{Path(sys.executable).parent}",
        "LD_LIBRARY_PATH": str(library.parent),
        "STANDIN_NVML_DIR": str(host.folder),
    }

    async def story() -> None:
        async with started(host, environment=environment) as (node, running):
            await lists(node, 0, 2)
            state = await running.publishes(epoch=1)
            assert set(unnamed(state).values()) == {"nvidia-ctk is not installed"}
            host.install(host.folder / "bin")
            await lists(node, 2, 2)
            message = "cannot write CDI specifications: nvidia-ctk is not installed"
            assert running.count(message) == 1

    asyncio.run(story())
