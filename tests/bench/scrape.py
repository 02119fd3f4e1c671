"""What a scrape of a node costs Prometheus: series and bytes, measured on a simulated node."""

import contextlib
import gzip
import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from proto import podresources_pb2 as api
from proto.messages import MpsState, encode
from proto.mps import MpsDaemon, MpsShare, Phase
from simulator.live_node import LiveNode
from simulator.usage import Use
from tests.bench.calls import rest
from tests.bench.kubelet import kubelet
from tests.bench.plugin import MeasureError, Plugin, running
from tests.fakes.local_http import Local
from tests.fakes.service import PATIENCE, short_folder

GPUS, REPLICAS = 8, 4
HELD = REPLICAS // 2
"""Replicas of each GPU that a pod holds; each pod has one process on it."""

SETTLED = 15.0
"""Seconds without a new series after which all are there: some begin with the first call."""

UUIDS = tuple(f"GPU-00000000-0000-0000-0000-{place:012x}" for place in range(GPUS))
SHARED = {"resources": [{"name": "nvidia.com/gpu", "replicas": REPLICAS}]}


@dataclass(frozen=True)
class Setting:
    """Settings of the service that change what it shows."""

    title: str
    usage: bool = True
    pod_labels: bool = True
    strategy: str = "timeSlicing"


SETTINGS = (
    Setting("all metrics"),
    Setting("`sharing.mps` instead of time-slicing", strategy="mps"),
    Setting("`--pod-labels=false`", pod_labels=False),
    Setting("`usage.interval: 0`", usage=False),
    Setting("`--pod-labels=false`, `usage.interval: 0`", usage=False, pod_labels=False),
)


@dataclass(frozen=True)
class Scrape:
    """What a scrape brings."""

    title: str
    series: int
    size: int
    packed: int
    """Bytes with gzip, as Prometheus asks for it."""


def measure() -> Iterator[Scrape]:
    """Yield what a scrape brings with each of the settings."""
    for setting in SETTINGS:
        with short_folder() as folder, kubelet(folder) as node:
            node.pods = _pods()
            usage = {"interval": 1 if setting.usage else 0}
            config = {"version": "v1", "sharing": {setting.strategy: SHARED}, "usage": usage}
            (folder / "settings.json").write_text(json.dumps(config))
            options = (f"--pod-labels={str(setting.pod_labels).lower()}",)
            gpus: dict[str, object] = {"gpus": [{}] * GPUS}
            file = {"CONFIG_FILE": f"{folder}/settings.json"}
            with (
                _daemons(folder, ready=setting.strategy == "mps"),
                running(Plugin(), folder, *options, node=gpus, settings=file),
            ):
                node.next_list()
                _use(LiveNode(folder), setting.strategy)
                yield _settled(folder, setting)


def _use(live: LiveNode, strategy: str) -> None:
    kind = "mps" if strategy == "mps" else "compute"
    for gpu in range(GPUS):
        for number in range(HELD):
            live.use(gpu, Use(100, 1, pod=f"training/job-{gpu}-{number}", kind=kind))


def _pods() -> bytes:
    pods = []
    for gpu in range(GPUS):
        for number in range(HELD):
            held = api.ContainerDevices(
                resource_name="nvidia.com/gpu", device_ids=[f"{UUIDS[gpu]}::{number}"]
            )
            main = api.ContainerResources(name="main", devices=[held])
            pod = api.PodResources(
                name=f"job-{gpu}-{number}", namespace="training", containers=[main]
            )
            pods.append(pod)
    return api.ListPodResourcesResponse(pod_resources=pods).SerializeToString()


@contextlib.contextmanager
def _daemons(folder: Path, *, ready: bool) -> Iterator[None]:
    """Tell the workers that the MPS daemons are *ready*, as the tree of the daemons does."""
    end = threading.Event()
    share = MpsShare(20480, 25, root="/run/nvidia/mps")
    daemons = tuple(MpsDaemon(uuid, Phase.READY, share=share) for uuid in UUIDS)

    def publish() -> None:
        socket: zmq.Socket[Any] = zmq.Context.instance().socket(zmq.PUB)
        socket.bind(f"ipc://{folder}/mps.ipc")
        sequence = 0
        while not end.wait(0.2):
            sequence += 1
            socket.send(encode(MpsState(epoch=1, sequence=sequence, daemons=daemons)))
        socket.close(linger=0)

    thread = threading.Thread(target=publish)
    if ready:
        thread.start()
    try:
        yield
    finally:
        end.set()
        if ready:
            thread.join()


def _settled(folder: Path, setting: Setting) -> Scrape:
    """Return the scrape once it shows all that the *setting* lets it show."""
    wanted = {"gpu_sharing_device_utilization_ratio{": GPUS * setting.usage}
    wanted["gpu_sharing_allocation_info{"] = GPUS * HELD * setting.pod_labels
    named = GPUS * HELD * setting.pod_labels * setting.usage
    wanted["gpu_sharing_container_memory_used_bytes{"] = named
    deadline = time.monotonic() + PATIENCE
    before, since = 0, time.monotonic()
    while True:
        text, now = _text(folder), time.monotonic()
        found = _counts(text, wanted)
        series = sum(1 for line in text.splitlines() if line and not line.startswith("#"))
        if found != wanted or series != before:
            before, since = series, now
        elif now - since > SETTLED:
            return Scrape(setting.title, series, len(text), len(gzip.compress(text.encode(), 1)))
        if now > deadline:
            raise MeasureError(f"cannot measure: wanted {wanted}, but the metrics show {found}")
        rest(1)


def _counts(text: str, starts: Iterable[str]) -> dict[str, int]:
    return {start: text.count(f"\n{start}") for start in starts}


def _text(folder: Path) -> str:
    """Return the metrics; empty while the exporter does not listen yet."""
    with (
        contextlib.suppress(ConnectionError, FileNotFoundError),
        contextlib.closing(Local(folder / "exporter.sock", PATIENCE)) as connection,
    ):
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    return ""


def rows(scrapes: Iterator[Scrape], size: int, interval: float) -> Iterator[str]:
    """Yield a Markdown table: of a node, and of *size* nodes that are scraped every *interval*."""
    yield (
        "| | series of a node | KiB a scrape | with gzip | series in all | samples a second "
        "| MiB/s with gzip |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for scrape in scrapes:
        cells = (
            scrape.title,
            str(scrape.series),
            f"{scrape.size / 1024:.0f}",
            f"{scrape.packed / 1024:.1f}",
            f"{scrape.series * size / 1e6:.1f} million",
            f"{scrape.series * size / interval:,.0f}",
            f"{scrape.packed * size / interval / 2**20:.1f}",
        )
        yield f"| {' | '.join(cells)} |"
