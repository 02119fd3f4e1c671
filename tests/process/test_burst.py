"""Two hundred pods in a row: each is in the log, in the metrics and in its place."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from simulator.kubelet import Kubelet
from tests.bench.rows import p99
from tests.fakes.figures import FIGURES, show
from tests.fakes.service import Entry, Service, kubelet, service, until

GPU = "nvidia.com/gpu"
PODS = 200
MESSAGES = ("allocated devices to a container", "allocated devices to several containers")


def told(entries: Sequence[Entry]) -> dict[str, float]:
    """Return when the log told of each allocated device, in the order of the log."""
    return {
        name: datetime.fromisoformat(entry["time"]).timestamp()
        for entry in entries
        if entry["message"] in MESSAGES
        for name in entry["ids"]
    }


async def admitted(node: Kubelet, pods: range) -> dict[str, float]:
    """Admit *pods* with a device each; return when each device was allocated, in this order."""
    took, answered = [], {}
    for pod in pods:
        began = time.perf_counter()
        (name,) = (await node.admit(f"pod-{pod}", GPU, 1)).ids
        took.append((time.perf_counter() - began) * 1e3)
        answered[name] = time.time()
    FIGURES.append(f"admission of {len(pods)} pods in a row: p99 {p99(took):.1f} ms")
    return answered


async def in_metrics(running: Service, ids: Sequence[str]) -> None:
    """Wait until the metrics count the calls, and show which pod has which device."""
    expected = {f"pod-{pod}": name for pod, name in enumerate(ids)}

    async def are_shown() -> bool:
        found = {}
        calls = 0.0
        for (name, labels), value in (await running.samples()).items():
            known = dict(labels)
            if name == "gpu_sharing_allocation_info":
                found[known["pod"]] = f"{known['uuid']}::{known['replica']}"
            elif name == "gpu_sharing_rpc_duration_seconds_count" and known["method"] == "Allocate":
                calls += value
        return found == expected and calls == len(ids)

    await until(are_shown, "metrics of all allocations")


def test_no_allocation_of_a_burst_is_lost(folder: Path) -> None:
    """Each allocation is in the log, in order, and in the metrics with its pod; those just before
    the service stops are in the log too.
    """

    async def story() -> None:
        options = ("--resource-config=gpu:gpu:30",)
        node_file: dict[str, object] = {"gpus": [{}] * 8}
        async with (
            kubelet(folder) as node,
            service(folder, *options, node=node_file) as running,
        ):
            await running.ready()
            await node.until(lambda k: k.healthy(GPU) == 240)
            answered = await admitted(node, range(PODS))
            await in_metrics(running, [*answered])
            answered |= await admitted(node, range(PODS, PODS + 20))
            assert await running.stop() == 0
        logged = told(running.entries)
        assert [*logged] == [*answered]
        slowest = max(logged[name] - answered[name] for name in logged)
        show("from Allocate to its log line, at most", [1e3 * slowest])

    asyncio.run(story())
