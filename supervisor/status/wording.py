"""The words for the status, the same on the page and in the terminal."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proto.messages import DeviceState
from supervisor.status.node_report import HangingCallStatus
from supervisor.status.report import (
    DeviceStatus,
    GpuStatus,
    Holder,
    ResourceStatus,
    Status,
)

UNKNOWN = "unknown"

GREY = "grey failure: "
"""What precedes a failure of a GPU that is handed out all the same."""

THROUGH_DRA = "held through DRA"

SIGNS: dict[str, str] = {
    DeviceState.HEALTHY: "✓",
    DeviceState.UNHEALTHY: "✗",
    DeviceState.RECOVERING: "↻",
    DeviceState.LOST: "✗",
}
"""The sign beside a state, for readers who do not see colours; `?` for all other states."""

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Claim:
    """How many devices of one resource a container holds."""

    container: str
    """As namespace/pod/container."""
    resource: str
    devices: int


def state(device: DeviceStatus) -> str:
    """Return the word for the state of a device."""
    return device.state or UNKNOWN


def sign(state: str) -> str:
    """Return the sign beside the word for a state."""
    return SIGNS.get(state, "?")


def ago(seconds: float) -> str:
    """Return a duration in its largest unit, such as `3 h`."""
    for length, unit in UNITS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "0 s"


def number(value: int | None) -> str:
    """Return *value* as text; `unknown` for None."""
    return UNKNOWN if value is None else str(value)


def claims(holders: Iterable[Holder]) -> list[Claim]:
    """Return the *holders* summed up by container and resource."""
    counts = Counter((f"{h.namespace}/{h.pod}/{h.container}", h.resource) for h in holders)
    return [Claim(container, resource, n) for (container, resource), n in counts.items()]


def by_resource(holders: Iterable[Holder]) -> dict[str, list[Claim]]:
    """Return the claims of the *holders* by resource."""
    found: dict[str, list[Claim]] = {}
    for claim in claims(holders):
        found.setdefault(claim.resource, []).append(claim)
    return found


def dra_rows(gpu: GpuStatus) -> Iterator[tuple[str, str, str]]:
    """Yield the DRA driver, that it is DRA, and who holds what, for each such holder of a GPU."""
    for holder in gpu.dra_holders or ():
        container = f"{holder.namespace}/{holder.pod}/{holder.container}"
        yield holder.driver, THROUGH_DRA, f"{container} ({holder.device})"


def kubelet(resource: ResourceStatus) -> str:
    """Return whether the kubelet knows a resource and reads its device list."""
    if resource.registered is None:
        return "? unknown"
    if not resource.registered:
        return "✗ not registered"
    return "✓ registered" if resource.streams else "✗ no ListAndWatch stream"


def node(status: Status) -> str:
    """Return the name of the node: in Kubernetes, or else its hostname; empty: unknown."""
    return status.node.name or status.node.hostname or ""


def headline(status: Status) -> str:
    """Return one line on the state of the node, with its name."""
    name, state = node(status), _state_of_node(status)
    return f"{name}: {state}" if name else state


def _state_of_node(status: Status) -> str:
    if status.node.maintenance:
        return "Under maintenance: new pods get no GPU"
    if status.gpus is None:
        return "GPUs unknown: waiting for the health monitor"
    # A GPU that is lost and known from before is in both.
    failed = {gpu.index for gpu in status.node.failed or ()} - {gpu.index for gpu in status.gpus}
    total = len(status.gpus) + len(failed)
    broken = total - sum(all(d.healthy for d in (gpu, *gpu.instances)) for gpu in status.gpus)
    if broken:
        return f"{broken} of {total} GPUs {'is' if broken == 1 else 'are'} not healthy"
    if total == 1:
        return "The GPU is healthy"
    return f"All {total} GPUs are healthy" if total else "No NVIDIA GPU on this node"


def _hanging(hang: HangingCallStatus) -> str:
    gpu = "" if hang.index is None else f" for GPU {hang.index}"
    return f"the driver hangs: {hang.call}{gpu} has not returned for {hang.seconds:.0f} s"


def memory(gpu: GpuStatus) -> str | None:
    """Return the memory of a GPU; None: unknown."""
    if gpu.memory_mib is None:
        return None
    return f"{gpu.memory_mib} MiB{' of the machine' if gpu.unified_memory else ''}"


def notices(status: Status) -> list[str]:
    """Return what is worth knowing of the node, without being a problem."""
    return [
        *(status.node.notices or ()),
        *(
            f"{gpu.pci_bus_id} is given to {gpu.driver}, for virtual machines"
            for gpu in status.node.passthrough or ()
        ),
        *(
            f"GPU {gpu.index}: the virtual GPU has no licence"
            for gpu in status.gpus or ()
            if gpu.licensed is False
        ),
    ]


def problems(status: Status) -> list[str]:
    """Return what is wrong with the node and the service, except for its devices."""
    node, configuration = status.node, status.configuration
    found = [f"not live: {problem}" for problem in node.live.problems]
    # A service that is not live is not ready either: say it once.
    told = {
        *node.live.problems,
        *(f"{problem.kind}: {problem.text}" for problem in node.problems or ()),
    }
    found += [f"not ready: {problem}" for problem in node.ready.problems if problem not in told]
    found += [f"{problem.kind}: {problem.text}" for problem in node.problems or ()]
    found += [f"cannot enumerate GPU {gpu.index}: {gpu.error}" for gpu in node.failed or ()]
    found += [_hanging(hang) for hang in node.hanging or ()]
    if node.persisted is False:
        found.append("cannot write the state folder: a restart would forget the faults of GPUs")
    if configuration and configuration.problem:
        found.append(f"new configuration refused, still using the old: {configuration.problem}")
    found += [
        f"{claim.container} holds {claim.devices} {claim.resource}, but they no longer exist"
        for claim in claims(status.strays or ())
    ]
    return found
