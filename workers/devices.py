"""What a worker advertises: a plan and the node's state in, devices with their health out."""

from collections.abc import Mapping
from dataclasses import dataclass

from proto.fitness import Fitness
from proto.messages import Inventory, Link, NodeState, Reason
from proto.worker import ResourcePlan


@dataclass(frozen=True, slots=True)
class Replica:
    """One device as the kubelet knows it."""

    id: str
    uuid: str
    """What a container gets to see: a GPU or a MIG instance."""
    gpu: str
    """UUID of the physical GPU."""
    number: int
    numa_node: int | None
    index: str = ""
    """Its index, or `index:place` of a MIG instance."""
    nodes: tuple[str, ...] = ()
    """Its device nodes."""


@dataclass(frozen=True, slots=True)
class View:
    """All that the kubelet may be told at one moment; every answer is made of one view."""

    resource: str
    replicas: Mapping[str, Replica]
    """By id, in the order of the list."""
    unhealthy: Mapping[str, tuple[Reason, ...]]
    """Why not to hand a device out, by its UUID."""
    nodes: tuple[str, ...] = ()
    """Device nodes beside the devices' own."""
    cdi_kinds: tuple[str, ...] = ()
    """Kinds of which there is a CDI specification; none: nobody knows."""
    links: tuple[Link, ...] = ()
    """How the node's GPUs are connected."""


def view(
    plan: ResourcePlan, known: Mapping[str, Replica], state: NodeState | None, fitness: Fitness
) -> View:
    """Return what *plan*, with its *known* replicas, is on a node in this *state*.

    The replicas come from outside since thousands of them are not to be made anew every second.
    """
    found = state.inventory if state else Inventory(driver_version="", gpus=())
    reasons = {device.uuid: fitness.reasons(device.uuid) for device in plan.devices}
    return View(
        plan.resource,
        known,
        {uuid: why for uuid, why in reasons.items() if why},
        found.nodes,
        found.cdi_kinds,
        found.links,
    )


def replicas(plan: ResourcePlan) -> dict[str, Replica]:
    """Return what *plan* advertises, by id: `<uuid>::<n>`, or the UUID where it is not shared."""
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
            )
    return result
