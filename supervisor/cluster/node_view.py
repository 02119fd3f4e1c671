"""What the process that uses the Kubernetes API knows of the node at one moment."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from proto.fitness import Fitness
from proto.messages import DeviceState, Gpu, NodeState
from proto.reasons import Reason, ReasonKind


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One GPU or MIG instance."""

    name: str
    """The name for people, such as `GPU 0`."""
    gpu: str
    """UUID of the physical GPU."""
    index: str
    """The GPU's index, and for a MIG instance also its own, such as `0:1`."""
    reasons: tuple[Reason, ...] = ()
    """Why it is Unhealthy."""
    own: tuple[Reason, ...] = ()
    """Reasons that its GPU does not have too; for a GPU: all its reasons."""
    xids: Mapping[int, int] = field(default_factory=dict)
    """How often each Xid was reported for its GPU since the health monitor started."""
    state: DeviceState | None = None
    """None: unknown. A recovering device needs no action."""
    held: bool | None = None
    """Whether containers hold the device, or a part of it; None: unknown."""

    @property
    def fatal_xids(self) -> tuple[int, ...]:
        """The fatal Xids that make it Unhealthy."""
        details = (reason.detail for reason in self.own if reason.kind is ReasonKind.XID)
        return tuple(sorted(int(detail) for detail in details if detail.isdecimal()))


@dataclass(frozen=True, slots=True)
class NodeView:
    """The devices of the node, by UUID."""

    epoch: int
    """Of the health monitor: Xid counts of different epochs cannot be compared."""
    devices: Mapping[str, DeviceView]


def view(state: NodeState, fitness: Fitness, holdings: Collection[str] | None = None) -> NodeView:
    """Return the part of *state* and *fitness* that the cluster is told.

    *holdings* are the devices that containers hold, by UUID; None: unknown.
    """
    devices = {}
    for gpu in state.inventory.gpus:
        reasons, xids = fitness.reasons(gpu.uuid), _xids(state, gpu)
        devices[gpu.uuid] = DeviceView(
            f"GPU {gpu.index}",
            gpu.uuid,
            str(gpu.index),
            reasons,
            reasons,
            xids,
            fitness.state(gpu.uuid),
            _held([gpu.uuid, *(instance.uuid for instance in gpu.instances)], holdings),
        )
        for instance in gpu.instances:
            its, place = fitness.reasons(instance.uuid), f"{gpu.index}:{instance.place}"
            devices[instance.uuid] = DeviceView(
                f"MIG instance {place}",
                gpu.uuid,
                place,
                its,
                tuple(reason for reason in its if reason not in reasons),
                xids,
                fitness.state(instance.uuid),
                _held([instance.uuid], holdings),
            )
    return NodeView(state.epoch, devices)


def _held(uuids: Iterable[str], holdings: Collection[str] | None) -> bool | None:
    return None if holdings is None else any(uuid in holdings for uuid in uuids)


def _xids(state: NodeState, gpu: Gpu) -> Mapping[int, int]:
    # No UUID: the driver named no GPU, so the Xid counts for each GPU.
    counts: dict[int, int] = {}
    for seen in state.xids:
        if seen.uuid in {gpu.uuid, ""}:
            counts[seen.xid] = counts.get(seen.xid, 0) + seen.count
    return counts
