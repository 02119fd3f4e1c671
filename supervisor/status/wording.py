"""How the status is put into words, the same on the page and in the terminal."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from proto.messages import DeviceState
from supervisor.status.report import DeviceStatus, Holder, ResourceStatus, Status

UNKNOWN = "unknown"

SIGNS: dict[str, str] = {
    DeviceState.HEALTHY: "✓",
    DeviceState.UNHEALTHY: "✗",
    DeviceState.RECOVERING: "↻",
    DeviceState.LOST: "✗",
}
"""Stands beside a state, so that nobody depends on its colour; for what is not certain: ?."""

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Claim:
    """What one container holds of one resource."""

    container: str
    """As namespace/pod/container."""
    resource: str
    devices: int


def state(device: DeviceStatus) -> str:
    """Return the word for a device's state."""
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
    """Return *value*, or that it is unknown."""
    return UNKNOWN if value is None else str(value)


def claims(holders: Iterable[Holder]) -> list[Claim]:
    """Return the containers among *holders*, each resource of theirs once."""
    counts = Counter((f"{h.namespace}/{h.pod}/{h.container}", h.resource) for h in holders)
    return [Claim(container, resource, n) for (container, resource), n in counts.items()]


def by_resource(holders: Iterable[Holder]) -> dict[str, list[Claim]]:
    """Return the claims of the *holders* by resource."""
    found: dict[str, list[Claim]] = {}
    for claim in claims(holders):
        found.setdefault(claim.resource, []).append(claim)
    return found


def kubelet(resource: ResourceStatus) -> str:
    """Return how a resource stands with the kubelet."""
    if resource.registered is None:
        return "? unknown"
    if not resource.registered:
        return "✗ not registered"
    return "✓ listens" if resource.streams else "✗ does not listen"


def headline(status: Status) -> str:
    """Return the one line that says how the node is."""
    if status.node.maintenance:
        return "Under maintenance: no GPU is handed out"
    if status.gpus is None:
        return "Nothing is known of the GPUs yet"
    total = len(status.gpus) + len(status.node.failed or ())
    broken = total - sum(all(d.healthy for d in (gpu, *gpu.instances)) for gpu in status.gpus)
    if broken:
        return f"{broken} of {total} GPUs {'is' if broken == 1 else 'are'} not healthy"
    return f"All {total} GPUs are healthy" if total else "There is no GPU on this node"


def problems(status: Status) -> list[str]:
    """Return what is wrong with the node and the service, beside its devices."""
    node, configuration = status.node, status.configuration
    found = [f"not live: {problem}" for problem in node.live.problems]
    # What keeps the service from being live keeps it from being ready, too.
    told = {*node.live.problems, *(f"{one.kind}: {one.text}" for one in node.problems or ())}
    found += [f"not ready: {problem}" for problem in node.ready.problems if problem not in told]
    found += [f"{problem.kind}: {problem.text}" for problem in node.problems or ()]
    found += [f"GPU {one.index} cannot be enumerated: {one.error}" for one in node.failed or ()]
    if node.persisted is False:
        found.append("the state folder takes no writes: a restart would forget the faults")
    if configuration and configuration.problem:
        found.append(f"configuration: {configuration.problem}")
    found += [
        f"{claim.container} holds {claim.devices} {claim.resource} that the node no longer has"
        for claim in claims(status.strays or ())
    ]
    return found
