"""How soon the kubelet gets a list: after a start, an Xid, a kubelet restart and a worker crash."""

import itertools
import os
import signal
import time

from simulator.live_node import LiveNode
from tests.bench.calls import Calls, milliseconds, rest
from tests.bench.kubelet import Kubelet, kubelet
from tests.bench.plugin import Plugin, Tree, running
from tests.bench.rows import Figures
from tests.fakes.service import short_folder

GPUS = 8

SETTLED = 0.4
"""Seconds between a start and the first fault, so that the start does not affect the fault."""

BETWEEN = 0.05
"""Seconds between two faults."""


def of_starts(plugin: Plugin, starts: int) -> Figures:
    """Measure the time from a start to the first list, and from an Xid of each GPU to its list."""
    begun, xids = [], []
    for _ in range(starts):
        with short_folder() as folder, kubelet(folder) as node, running(plugin, folder) as tree:
            begun.append((node.next_list().at - tree.begun) * 1e3)
            rest(SETTLED)
            xids += [_xid(node, tree, gpu) for gpu in range(GPUS)]
    return {"start": begun, "xid": xids}


def _xid(node: Kubelet, tree: Tree, gpu: int) -> float:
    begun = time.perf_counter()
    tree.xid(gpu, 79)
    heard = node.list_with(unhealthy=gpu + 1)
    rest(BETWEEN)
    return (heard.at - begun) * 1e3


def of_kubelet_restarts(plugin: Plugin, restarts: int) -> Figures:
    """Measure the time from a listening new kubelet to its first list."""
    times = []
    with short_folder() as folder, kubelet(folder) as node, running(plugin, folder):
        node.next_list()
        for _ in range(restarts):
            rest(SETTLED)
            node.stop()
            listening = node.start()
            times.append((node.next_list().at - listening) * 1e3)
    return {"kubelet": times}


def of_worker_crashes(plugin: Plugin, crashes: int) -> Figures:
    """Measure the time from killing a worker to the next list of its resource."""
    times = []
    for _ in range(crashes):
        with (
            short_folder() as folder,
            kubelet(folder) as node,
            running(plugin, folder, node={"gpus": [{}] * GPUS}) as tree,
        ):
            node.next_list()
            rest(SETTLED)
            worker = next(pid for name, pid in tree.children().items() if "worker" in name)
            begun = time.perf_counter()
            os.kill(worker, signal.SIGKILL)
            times.append((node.next_list().at - begun) * 1e3)
    return {"worker": times}


def of_large_lists(plugin: Plugin, changes: int) -> Figures:
    """Measure health changes of 8 GPUs with 8000 replicas each, and Allocate calls meanwhile."""
    heard, stalls = [], []
    with (
        short_folder() as folder,
        kubelet(folder) as node,
        running(plugin, folder, replicas=8000, node={"gpus": [{}] * GPUS}),
    ):
        first = node.next_list()
        channel, stub = node.stub(first.resource)
        live = LiveNode(folder)
        with channel:
            calls = Calls(stub, first.ids()[-10:])  # ids of the last GPU, which stays Healthy
            for change in range(min(changes, GPUS - 1)):
                rest(SETTLED)
                begun = time.perf_counter()
                live.xid(change, 79)
                stalls.append(_stall(calls, until=begun + 0.5))
                heard.append((node.list_with((change + 1) * 8000).at - begun) * 1e3)
    return {"large-change": heard, "large-stall": stalls}


def _stall(calls: Calls, until: float) -> float:
    """Return the time of the slowest of many calls."""
    ids = calls.ids[:1]
    ends = itertools.takewhile(lambda _: time.perf_counter() < until, itertools.count())
    return max(milliseconds(lambda: calls.allocate(ids)) for _ in ends)
