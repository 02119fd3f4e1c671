"""GPUs that the driver describes well, but that CUDA cannot use; and GPUs given to vfio-pci."""

import asyncio
import json
from pathlib import Path

from proto.messages import NodeState
from tests.fakes.service import kubelet, service
from tests.process.test_simulate import FIRST

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{"vgpu": {}}, {}, {}]}
SETTINGS = """
health: {pollInterval: 200ms, rescanInterval: 200ms, fabricAfter: 1s, licence: unhealthy}
"""


def reasons(state: NodeState) -> list[list[str]]:
    """Return the reasons of each GPU."""
    return [[str(reason) for reason in device.reasons] for device in state.health]


def test_a_gpu_that_is_not_ready(folder: Path) -> None:
    """Each reason makes the GPUs Unhealthy, also for a new monitor, and ends with its cause."""

    async def story() -> None:
        (folder / "config.yaml").write_text(SETTINGS)
        option = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, option, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.shows("gpu_sharing_device_licensed", 1, uuid=FIRST)

            running.node.take_apart(2)
            await node.until(lambda k: k.healthy(GPU) == 2)
            apart = [[], [], ["fabric not joined: in progress"]]
            await running.shows_state(1, lambda s: reasons(s) == apart)
            # A new monitor does not wait for the two minutes once more.
            await running.restarted("monitor", running.kill("monitor"))
            assert reasons(await running.publishes(2)) == apart
            running.node.recover(2)
            await node.until(lambda k: k.healthy(GPU) == 3)

            running.node.attest(attested=False)
            await node.until(lambda k: k.healthy(GPU) == 0)
            await running.shows_state(2, lambda s: reasons(s) == [["cc-not-ready"]] * 3)
            running.node.attest(attested=True)
            await node.until(lambda k: k.healthy(GPU) == 3)

            running.node.end_licence(0)
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.shows_state(2, lambda s: reasons(s) == [["licence"], [], []])
            await running.shows("gpu_sharing_device_licensed", 0, uuid=FIRST)
            assert "GPU 0: the virtual GPU has no licence" in (await running.get("/"))[1]
            running.node.recover(0)
            await node.until(lambda k: k.healthy(GPU) == 3)
            assert running.count("a virtual GPU has no licence") == 0

    asyncio.run(story())


def test_a_licence_is_only_shown_by_default(folder: Path) -> None:
    """By default, a virtual GPU without a licence is logged, and handed out all the same."""

    async def story() -> None:
        (folder / "config.yaml").write_text("health: {pollInterval: 200ms}\n")
        option = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, option, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.shows("gpu_sharing_device_licensed", 1, uuid=FIRST)
            running.node.end_licence(0)
            await running.logged("a virtual GPU has no licence", uuid=FIRST)
            await running.shows("gpu_sharing_device_licensed", 0, uuid=FIRST)
            assert node.healthy(GPU) == 3
            running.node.recover(0)
            await running.logged("a virtual GPU has its licence now", uuid=FIRST)

    asyncio.run(story())


def test_a_gpu_that_is_given_to_vfio_pci(folder: Path) -> None:
    """It is told as such and never as lost, and is back at the rescan after it was given back."""

    async def story() -> None:
        (folder / "config.yaml").write_text(SETTINGS)
        option = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, option, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            running.node.give_away(1)
            await node.until(lambda k: k.healthy(GPU) == 2)
            # NVML does not show it to the monitor that the rescan starts; another has its index.
            given = [[], [], ["passthrough vfio-pci"]]
            await running.shows_state(2, lambda s: sorted(reasons(s)) == given)
            await running.shows("gpu_sharing_passthrough_gpus", 1)
            shown = json.loads((await running.get("/status"))[1])
            assert shown["node"]["passthrough"] == [
                {"pci_bus_id": "0000:02:00.0", "driver": "vfio-pci"}
            ]
            kinds = [reason["kind"] for gpu in shown["gpus"] for reason in gpu["reasons"]]
            assert kinds == ["passthrough"]
            told = "0000:02:00.0 is given to vfio-pci, for virtual machines"
            assert told in (await running.get("/"))[1]
            assert len(node.resources[GPU].devices) == 3

            running.node.add(1)
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.shows("gpu_sharing_passthrough_gpus", 0)
            assert running.count("device removed from the list") == 0
            lines = [entry for entry in running.entries if "lost" in entry["message"]]
            assert lines == []
            assert not any("gpu-lost" in str(entry) for entry in running.entries)

    asyncio.run(story())
