"""A GPU that the plugin advertises and that a container holds through DRA, on a simulated node."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from proto.messages import NodeState
from proto.reasons import Reason, ReasonKind
from simulator.pods import Claimed
from supervisor.exporter import pod_resources
from tests.fakes import figures
from tests.fakes.service import Service, kubelet, service, until
from tests.process.test_simulate import FIRST
from tests.process.test_status import ask

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}, {}]}
DRIVER = "gpu.nvidia.com"
WITHHOLD = "health: {dra: withhold}\n"
HOLDER = f"simulated/train/main (claim simulated/train-claim, gpu-0 of {DRIVER})"
WHY = Reason(ReasonKind.HELD_THROUGH_DRA, HOLDER)
PROBLEM = "also-served-by-dra"


async def status(running: Service) -> dict[str, Any]:
    """Return the status, if there is one."""
    code, body = await running.get("/status")
    shown: dict[str, Any] = json.loads(body) if code == 200 else {}
    return shown


async def has_problem(running: Service) -> bool:
    """Return whether the status has the problem."""
    problems = (await status(running)).get("node", {}).get("problems") or ()
    return any(problem["kind"] == PROBLEM for problem in problems)


def test_a_double_booking_is_told(folder: Path) -> None:
    """Status, page, JSON and metrics name it after the next list; the GPU stays Healthy."""

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.shows("gpu_sharing_pod_resources_up", 1)
            assert not await has_problem(running)
            node.claimed["train"] = Claimed("gpu-0")
            began = time.monotonic()
            await until(lambda: has_problem(running), PROBLEM)
            took = time.monotonic() - began
            figures.show("a double booking is told after", [1000 * took])
            # The kubelet is asked each 10 s; as long again for a machine that does much else.
            assert took < 2 * pod_resources.EVERY == 20.0
            message = "an advertised device is also held through DRA: two containers may get it"
            await running.logged(message, uuid=FIRST, holder=HOLDER)
            shown = await status(running)
            first, *others = shown["gpus"]
            assert [gpu["dra_holders"] for gpu in others] == [[], []]
            (holder,) = first["dra_holders"]
            assert (holder["pod"], holder["uuids"], holder["match"]) == ("train", [FIRST], "name")
            assert all(gpu["healthy"] for gpu in shown["gpus"])
            await running.shows("gpu_sharing_device_dra_holders", 1, uuid=FIRST, driver=DRIVER)
            await running.shows("gpu_sharing_node_problem", 1, problem=PROBLEM)
            for text in ((await running.get("/"))[1], (await ask(folder))[1]):
                assert PROBLEM in text
                assert "simulated/train/main (gpu-0)" in text
            assert node.healthy(GPU) == 3

    asyncio.run(story())


def held_back(state: NodeState) -> dict[str, tuple[Reason, ...]]:
    """Return the reasons of the devices that are Unhealthy, by UUID."""
    return {device.uuid: device.reasons for device in state.health if device.reasons}


def test_a_device_held_through_dra_is_withheld(folder: Path) -> None:
    """It is Unhealthy until its claim is released, also with a new exporter and a new monitor."""

    async def story() -> None:
        (folder / "config.yaml").write_text(WITHHOLD)
        option = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, option, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            node.claimed["train"] = Claimed("gpu-0")
            # At once: an allocation makes the exporter ask for a new list.
            await node.admit("other", GPU, 1)
            await node.until(lambda k: k.healthy(GPU) == 2)
            state = await running.shows_state(1, lambda s: bool(held_back(s)))
            assert held_back(state) == {FIRST: (WHY,)}
            labels = {"uuid": FIRST, "reason": "held-through-dra"}
            await running.shows("gpu_sharing_device_unhealthy_reason", 1, **labels)
            await running.logged("device is withheld: a container holds it through DRA", uuid=FIRST)

            # A new monitor knows only what the new exporter tells it.
            await running.restarted("exporter", running.kill("exporter"))
            running.kill("monitor")
            state = await running.shows_state(2, lambda s: bool(held_back(s)))
            assert held_back(state) == {FIRST: (WHY,)}

            del node.claimed["train"]
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.logged("device is no longer held through DRA", uuid=FIRST)

    asyncio.run(story())
