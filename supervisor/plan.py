"""What the node advertises: how to share and the inventory in, resources and devices out."""

from collections.abc import Mapping
from dataclasses import dataclass

from proto.control import PlannedDevice, ResourcePlan
from proto.messages import Gpu, Inventory

DOMAIN = "nvidia.com/"
WHOLE_GPU = "gpu"
"""The resource of a whole GPU, without its domain."""

BY_MEMORY = -1
"""Instead of a number of replicas: one for each 1000 MiB."""
MEMORY_UNIT = 1000
"""MiB of memory that one replica stands for."""


@dataclass(frozen=True, slots=True)
class Share:
    """How a resource is shared: its new name, without the domain, and each device's replicas."""

    name: str
    replicas: int
    """From 1; or BY_MEMORY."""


def plan(shares: Mapping[str, Share], inventory: Inventory) -> tuple[ResourcePlan, ...]:
    """Return the resources; one that *shares* does not name stays as it is."""
    if not inventory.gpus:
        return ()
    share = shares.get(WHOLE_GPU, Share(WHOLE_GPU, 1))
    devices = tuple(
        PlannedDevice(gpu.uuid, gpu.uuid, _replicas(share, gpu), gpu.numa_node)
        for gpu in inventory.gpus
    )
    return (ResourcePlan(DOMAIN + share.name, devices),)


def _replicas(share: Share, gpu: Gpu) -> int:
    if share.replicas != BY_MEMORY:
        return share.replicas
    return max(1, (gpu.memory_mib or 0) // MEMORY_UNIT)
