"""What only labels tell about a GPU: the monitor asks for it in its lanes, and publishes it."""

import asyncio
from pathlib import Path

from proto.facts import Fabric, MigAttributes
from proto.messages import NodeState
from tests.fakes import nvml_library
from tests.fakes.service import service

SOON = "version: v1\nhealth: {rescanInterval: 200ms, pollInterval: 200ms}\n"
JOINING, JOINED = 2, 3
FABRIC = Fabric("5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1f00", 7)
OUTSIDE = Fabric("", 0, complete=False)


def driven(folder: Path, library: Path, **more: str) -> dict[str, str]:
    """Return the environment for the C library under these conditions."""
    conditions = {f"STANDIN_NVML_{name.upper()}": value for name, value in more.items()}
    found = {"LD_LIBRARY_PATH": str(library.parent), "STANDIN_NVML_DIR": str(folder)}
    return found | conditions


def test_the_first_inventory_has_all_facts(folder: Path, library: Path) -> None:
    """The first inventory has what the labels need, so that none of them comes late."""

    async def story() -> None:
        async with service(folder, environment=driven(folder, library)) as running:
            node = (await running.publishes(epoch=1)).inventory
            assert node.cuda_version == 13000
            assert [gpu.facts.mig_capable for gpu in node.gpus] == [True, True]
            assert [gpu.facts.fabric for gpu in node.gpus] == [FABRIC, FABRIC]
            instance = node.gpus[1].instances[0]
            assert instance.attributes == MigAttributes(16, 1, 1, 1, 1, 0, 1, 0)

    asyncio.run(story())


def test_a_fabric_that_comes_up_later_and_goes(folder: Path, library: Path) -> None:
    """A GPU that joins its fabric after the start, or leaves it, is noticed by a later scan."""

    async def story() -> None:
        (folder / "config.yaml").write_text(SOON)
        environment = driven(folder, library, fabric=str(JOINING))
        options = (f"--config-file={folder}/config.yaml",)
        async with service(folder, *options, environment=environment) as running:
            first = (await running.publishes(epoch=1)).inventory
            assert not any(gpu.facts.fabric == FABRIC for gpu in first.gpus)
            nvml_library.Steering(folder).fabric(JOINED)

            def joined(state: NodeState) -> bool:
                return all(gpu.facts.fabric == FABRIC for gpu in state.inventory.gpus)

            await running.shows_state(1, joined)
            nvml_library.Steering(folder).fabric(JOINING)

            def left(state: NodeState) -> bool:
                return all(gpu.facts.fabric == OUTSIDE for gpu in state.inventory.gpus)

            await running.shows_state(1, left)

    asyncio.run(story())


def test_a_fact_that_fails_makes_nothing_unhealthy(folder: Path, library: Path) -> None:
    """A GPU whose query for a fact fails is Healthy, and has all other facts."""

    async def story() -> None:
        environment = driven(folder, library, fail="0:nvmlDeviceGetGpuFabricInfoV:999")
        async with service(folder, environment=environment) as running:
            state = await running.publishes(epoch=1)
            assert [gpu.facts.fabric for gpu in state.inventory.gpus] == [None, FABRIC]
            assert [gpu.facts.mig_capable for gpu in state.inventory.gpus] == [True, True]
            assert not any(device.reasons for device in state.health)

    asyncio.run(story())
