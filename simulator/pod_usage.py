"""What the pods of `simulate` use of their devices: something that a page can show."""

import contextlib
import zlib
from collections import Counter
from collections.abc import Collection, Iterable

from simulator.live_node import LiveNode
from simulator.node import Live, NodeError, instance_mib
from simulator.pods import NAMESPACE, pod_name
from simulator.usage import CONTAINER, RESERVED_MIB, Use


def use_devices(
    node: LiveNode, pod: str, held: Iterable[str], devices: Collection[str], kind: str = "compute"
) -> None:
    """Let a pod use the devices that it holds; *devices* are all of the resource.

    It uses a part of its share of the memory, and rises and falls in utilization.
    """
    live = node.read()
    replicas = Counter(device.partition("::")[0] for device in devices)
    for uuid, count in Counter(device.partition("::")[0] for device in held).items():
        name = f"{NAMESPACE}/{pod_name(pod)}"
        part = (55 + zlib.crc32(f"{name} {uuid}".encode()) % 40) / 100  # from 0.55 to 0.94
        for place, mig, mib in _places(live, uuid):
            share = count / replicas[uuid]
            use = Use(
                int(mib * share * part),
                max(1, int(90 * share * part)),
                pod=name,
                container=CONTAINER,
                kind=kind,
                mig=mig,
                lively=True,
            )
            # A drill may have left too little memory, in a folder that is used again.
            with contextlib.suppress(NodeError):
                node.use(place, use)


def _places(live: Live, uuid: str) -> Iterable[tuple[int, int | None, int]]:
    """Yield the index of the GPU, the place of the MIG instance, and the memory of a device."""
    for place, gpu in enumerate(live.gpus):
        if gpu.uuid == uuid and gpu.mig is None:
            yield place, None, gpu.memory_mib - RESERVED_MIB
        for mig, profile in enumerate(gpu.mig or ()):
            if gpu.mig_uuid(mig) == uuid:
                yield place, mig, instance_mib(gpu, profile)
