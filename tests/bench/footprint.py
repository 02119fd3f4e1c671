"""The memory of a plugin, and its CPU time when idle."""

import gzip
import time
import urllib.request
from pathlib import Path

from tests.bench.calls import GPU, Calls, rest
from tests.bench.kubelet import Kubelet, kubelet
from tests.bench.plugin import Plugin, running
from tests.bench.rows import Figures
from tests.fakes.service import short_folder

SCRAPES = 20
FRESH = 3.0
"""Seconds from the first list until the start is complete."""


def of_one_resource(plugin: Plugin, admissions: int, seconds: float) -> Figures:
    """Measure with eight GPUs: memory before and after load, then CPU time in *seconds* of rest."""
    with short_folder() as folder, kubelet(folder) as node, running(plugin, folder) as tree:
        node.next_list()
        rest(FRESH)
        fresh = tree.memory()
        load(node, folder, admissions)
        after = tree.memory()
        rest(FRESH)
        begun, before = time.monotonic(), tree.processor_time()
        rest(seconds)
        share = (tree.processor_time() - before) / (time.monotonic() - begun)
    return {"memory-fresh": [fresh], "memory": [after], "idle": [100 * share]}


def of_more_resources(plugin: Plugin, admissions: int, resources: int = 5) -> Figures:
    """Measure how much memory each further resource adds, after load."""
    first, more = (memory_with(plugin, admissions, count) for count in (1, resources))
    return {"memory-more": [(more - first) / (resources - 1)]}


def memory_with(plugin: Plugin, admissions: int, resources: int) -> float:
    """Return the memory after load with so many resources, one for each MIG profile."""
    profiles = [f"1g.{size}gb" for size in range(1, resources + 1)]
    placed = [profiles[place::8] for place in range(8)]
    node_file = {"gpus": [{"mig": mig} for mig in placed if mig]}
    with (
        short_folder() as folder,
        kubelet(folder) as node,
        running(plugin, folder, "--mig-strategy=mixed", node=node_file) as tree,
    ):
        node.lists_of(resources)
        rest(FRESH)
        load(node, folder, admissions)
        return tree.memory()


def load(node: Kubelet, folder: Path, admissions: int) -> None:
    """Admit pods for each resource, and scrape the metrics if there are any."""
    for resource in list(node.endpoints):
        channel, stub = node.stub(resource)
        with channel:
            size = 4 if resource == GPU else 1
            calls = Calls(stub, _ids(node, resource))
            for _ in range(admissions):
                calls.admit(size)
    url = folder / "exporter.url"
    for _ in range(SCRAPES if url.exists() else 0):
        request = urllib.request.Request(  # noqa: S310 - our own http
            f"{url.read_text()}/metrics", headers={"Accept-Encoding": "gzip"}
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            gzip.decompress(answer.read())


def _ids(node: Kubelet, resource: str) -> list[str]:
    return node.newest[resource].ids()
