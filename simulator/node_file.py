"""Check the file of a simulated node, and fill in what it leaves out."""

import re
from collections import Counter

from msgspec.structs import replace

from proto.messages import LinkLevel
from simulator.node import (
    FABRIC_UUID,
    MOST_DEVICES,
    MOST_TEXT,
    PCI_BUS_ID,
    PROFILE,
    UUID,
    NodeError,
    SimulatedGpu,
    SimulatedLink,
    SimulatedNode,
)


def default_node() -> SimulatedNode:
    """Return 8 x H100 80GB on two NUMA nodes, connected by NVLink as in a DGX."""
    pairs = [(first, second) for first in range(8) for second in range(first + 1, 8)]
    levels = {True: LinkLevel.NODE, False: LinkLevel.SYS}
    links = tuple(SimulatedLink((a, b), levels[a // 4 == b // 4], nvlinks=18) for a, b in pairs)
    return complete(
        SimulatedNode(tuple(SimulatedGpu(numa_node=place // 4) for place in range(8)), links=links)
    )


def complete(node: SimulatedNode) -> SimulatedNode:
    """Return *node* with default UUIDs and PCI bus IDs filled in; NodeError if it is invalid."""
    count = sum(1 + len(gpu.mig or ()) for gpu in node.gpus)
    if count > MOST_DEVICES:
        raise NodeError(f"gpus: {count} GPUs and MIG instances; write at most {MOST_DEVICES}")
    gpus = tuple(_complete(place, gpu) for place, gpu in enumerate(node.gpus))
    for key, values in (
        ("uuid", [g.uuid for g in gpus]),
        ("pciBusId", [g.pci_bus_id for g in gpus]),
    ):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise NodeError(f'two GPUs have the same {key} "{twice[0]}"')
    for link in node.links:
        if link.between[0] == link.between[1] or not all(0 <= n < len(gpus) for n in link.between):
            raise NodeError(
                f"links: between {list(link.between)} must name two different GPUs by index, from 0"
            )
    return replace(node, gpus=gpus)


def _complete(place: int, gpu: SimulatedGpu) -> SimulatedGpu:
    uuid = gpu.uuid or f"GPU-00000000-0000-0000-0000-{place:012x}"
    bus = (gpu.pci_bus_id or f"0000:{place + 1:02x}:00.0").lower()
    if not UUID.fullmatch(uuid):
        raise NodeError(
            f'gpus[{place}]: uuid "{uuid}" must look like GPU-00000000-0000-0000-0000-000000000000'
            ", or like that without GPU-, as of an integrated GPU"
        )
    if not PCI_BUS_ID.fullmatch(bus):
        raise NodeError(f'gpus[{place}]: pciBusId "{bus}" must look like 0000:07:00.0')
    if gpu.memory_mib < 1:
        raise NodeError(f"gpus[{place}]: memoryMiB {gpu.memory_mib} must be at least 1")
    if not re.fullmatch(r"\d+\.\d+", gpu.compute_capability):
        raise NodeError(
            f'gpus[{place}]: computeCapability "{gpu.compute_capability}" must look like 9.0'
        )
    if gpu.fabric and not FABRIC_UUID.fullmatch(gpu.fabric.cluster):
        raise NodeError(
            f'gpus[{place}]: fabric: cluster "{gpu.fabric.cluster}" must look like '
            "00000000-0000-0000-0000-000000000001"
        )
    for profile in gpu.mig or ():
        if len(profile) > MOST_TEXT or not PROFILE.fullmatch(profile):
            raise NodeError(f'gpus[{place}]: mig "{profile}" must look like 1g.10gb')
    return replace(gpu, uuid=uuid, pci_bus_id=bus)
