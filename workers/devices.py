"""What a worker advertises: makes devices and their health from a plan and the node's state."""

from collections.abc import Mapping

import msgspec

from proto.fitness import Fitness
from proto.messages import Inventory, Link, NodeState
from proto.mps import MpsShare
from proto.reasons import Reason
from proto.worker import ResourcePlan


class Replica(msgspec.Struct, frozen=True):
    """One device as the kubelet knows it."""

    id: str
    uuid: str
    """UUID of the GPU or MIG instance that a container gets."""
    gpu: str
    """UUID of the physical GPU."""
    number: int
    numa_node: int | None
    index: str = ""
    """Index of the GPU, or `index:place` of a MIG instance."""
    nodes: tuple[str, ...] = ()
    """Paths of its device nodes."""
    mps: MpsShare | None = None
    """What it comes to; None: its device is not shared by MPS."""
    toolkit_id: str = ""
    """The only ID by which the container toolkit knows the device; empty: UUID and index."""


class View(msgspec.Struct, frozen=True):
    """Everything that the kubelet can be told at one moment; each answer uses a single view."""

    resource: str
    replicas: Mapping[str, Replica]
    """By ID, in the order of the device list."""
    unhealthy: Mapping[str, tuple[Reason, ...]]
    """By UUID: the reasons why a device is Unhealthy."""
    nodes: tuple[str, ...] = ()
    """Device nodes that do not belong to a single device, such as /dev/nvidiactl."""
    cdi_kinds: tuple[str, ...] = ()
    """CDI kinds that have a specification; empty: unknown."""
    cdi_channels: tuple[str, ...] = ()
    """IMEX channels that have a CDI name, if the CDI kinds are known."""
    links: tuple[Link, ...] = ()
    """How the node's GPUs are connected."""


def view(
    plan: ResourcePlan, known: Mapping[str, Replica], state: NodeState | None, fitness: Fitness
) -> View:
    """Return the view of *plan* and its *known* replicas for this node *state* and *fitness*.

    The caller passes the replicas, so that thousands of them are not built again every second.
    """
    found = state.inventory if state else Inventory(driver_version="", gpus=())
    reasons = {device.uuid: fitness.reasons(device.uuid) for device in plan.devices}
    return View(
        plan.resource,
        known,
        {uuid: why for uuid, why in reasons.items() if why},
        found.nodes,
        found.cdi_kinds,
        found.cdi_channels,
        found.links,
    )


def replicas(plan: ResourcePlan) -> dict[str, Replica]:
    """Return the devices of *plan* by ID: `<uuid>::<n>`, or the UUID if it is not shared."""
    result = {}
    for device in plan.devices:
        for number in range(device.replicas):
            name = f"{device.uuid}::{number}" if device.replicas > 1 else device.uuid
            result[name] = Replica(
                name,
                device.uuid,
                device.gpu,
                number,
                device.numa_node,
                device.index,
                device.nodes,
                device.mps,
                device.toolkit_id,
            )
    return result
