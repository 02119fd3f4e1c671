"""What it costs to sample how much of the GPUs is in use, and to tell who uses them."""

import contextlib
import json
import time
from pathlib import Path

from proto import podresources_pb2 as api
from simulator.live_node import LiveNode
from simulator.usage import Use
from tests.bench.calls import rest
from tests.bench.footprint import FRESH
from tests.bench.kubelet import kubelet
from tests.bench.plugin import MeasureError, Plugin, Tree, running
from tests.bench.rows import Figures
from tests.fakes.local_http import Local
from tests.fakes.service import PATIENCE, short_folder

PROCESSES = 50
"""On each of the eight GPUs."""

FASTER = 5
"""How much more often the GPUs are sampled here than by default, to see it in a short time."""


def of_sampling(plugin: Plugin, seconds: float) -> Figures:
    """Measure what all processes spend more with sampling than without, in *seconds* of rest."""
    without, sampling = (_busy(plugin, interval, seconds) for interval in (0, 5 / FASTER))
    return {"usage": [100 * (sampling - without) / FASTER]}


def _busy(plugin: Plugin, interval: float, seconds: float) -> float:
    """Return the CPU time of all processes, as a part of one core."""
    with short_folder() as folder, kubelet(folder) as node:
        path = Path(folder) / "usage.json"
        path.write_text(json.dumps({"version": "v1", "usage": {"interval": interval}}))
        settings = {"STANDIN_NVML_PROCESSES": str(PROCESSES), "CONFIG_FILE": str(path)}
        with running(plugin, folder, settings=settings) as tree:
            node.next_list()
            rest(FRESH)
            begun, before = time.monotonic(), tree.processor_time()
            rest(seconds)
            return (tree.processor_time() - before) / (time.monotonic() - begun)


GPUS = 8
CPUCLOCK_SCHED = 2
"""The kernel's clock of the processor time that a process has used."""
SERIES = "gpu_sharing_container_memory_used_bytes{"


def of_attribution(plugin: Plugin, scrapes: int) -> Figures:
    """Measure what the exporter needs to tell which pods the processes on the GPUs belong to."""
    without = _told(plugin, 0, scrapes)["usage-memory"][0]
    told = _told(plugin, 5, scrapes)
    return {**told, "usage-memory": [told["usage-memory"][0] - without]}


def _told(plugin: Plugin, interval: float, scrapes: int) -> Figures:
    """Return the figures of the exporter, with its whole memory in MiB."""
    times, busy = [], []
    with short_folder() as folder, kubelet(folder) as node:
        path = folder / "usage.json"
        path.write_text(json.dumps({"version": "v1", "usage": {"interval": interval}}))
        node.pods = _pods()
        options = (f"--resource-config=gpu:gpu:{PROCESSES}",)
        settings = {"CONFIG_FILE": str(path)}
        gpus: dict[str, object] = {"gpus": [{}] * GPUS}
        with running(plugin, folder, *options, node=gpus, settings=settings) as tree:
            node.next_list()
            live = LiveNode(folder)
            for gpu in range(GPUS):
                for number in range(PROCESSES):
                    live.use(gpu, Use(100, 1, pod=f"bench/pod-{gpu}-{number}"))
            _shown(folder, GPUS * PROCESSES if interval else 0)
            begun, before = time.monotonic(), _processor_time(tree)
            rest(3 * FRESH)
            share = (_processor_time(tree) - before) / (time.monotonic() - begun)
            for _ in range(scrapes):
                start, before = time.perf_counter(), _processor_time(tree)
                _scrape(folder)
                times.append(1000 * (time.perf_counter() - start))
                busy.append(1000 * (_processor_time(tree) - before))
            return {
                "usage-scrape": times,
                "usage-scrape-cpu": busy,
                "usage-memory": [tree.own("exporter")],
                "usage-idle": [100 * share],
            }


def _processor_time(tree: Tree) -> float:
    # The clock of the whole process, as clock_getcpuclockid names it: threads end at any time.
    return time.clock_gettime((~tree.children()["exporter"] << 3) | CPUCLOCK_SCHED)


def _pods() -> bytes:
    """Return the kubelet's list in which each pod holds a replica of the GPU that it uses."""
    pods = []
    for gpu in range(GPUS):
        for number in range(PROCESSES):
            device = f"GPU-00000000-0000-0000-0000-{gpu:012x}::{number}"
            held = api.ContainerDevices(resource_name="nvidia.com/gpu", device_ids=[device])
            main = api.ContainerResources(name="main", devices=[held])
            name = f"pod-{gpu}-{number}"
            pods.append(api.PodResources(name=name, namespace="bench", containers=[main]))
    return api.ListPodResourcesResponse(pod_resources=pods).SerializeToString()


def _scrape(folder: Path) -> str:
    """Return the metrics, made for this request."""
    with contextlib.closing(Local(folder / "exporter.sock", PATIENCE)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def _shown(folder: Path, series: int) -> None:
    """Wait until the metrics tell the usage of so many containers."""
    deadline = time.monotonic() + PATIENCE
    while (found := _scrape(folder).count(f"\n{SERIES}")) != series:
        if time.monotonic() > deadline:
            raise MeasureError(f"cannot measure: {found} of {series} containers are shown")
        rest(0.5)
