"""Which container holds which device, as reported by the kubelet."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allocation:
    """A device that a container holds."""

    resource: str
    device: str
    """The device ID at the kubelet: `<uuid>`, or `<uuid>::<n>` for a replica."""
    namespace: str
    pod: str
    container: str

    @property
    def characters(self) -> int:
        """How long its texts are together, but for the resource, which is one of a few."""
        return sum(map(len, (self.device, self.namespace, self.pod, self.container)))

    @property
    def uuid(self) -> str:
        """The UUID of the GPU or MIG instance."""
        return self.device.partition("::")[0]

    @property
    def replica(self) -> str:
        """The number of the replica; empty if the device is not shared."""
        return self.device.partition("::")[2]


@dataclass(frozen=True, slots=True, order=True)
class DynamicDevice:
    """A device that a container holds through Dynamic Resource Allocation (DRA)."""

    driver: str
    """The name of the DRA driver, such as `gpu.nvidia.com`."""
    pool: str
    device: str
    """Its name in the driver's ResourceSlice, such as `gpu-0`."""
    claim: str
    """The ResourceClaim, as namespace/name."""
    namespace: str
    pod: str
    container: str
    uuids: tuple[str, ...] = ()
    """The UUIDs in its name and in its CDI names, in lower case."""

    @property
    def characters(self) -> int:
        """How long its texts are together."""
        names = (self.driver, self.pool, self.device, self.claim)
        return sum(map(len, (*names, self.namespace, self.pod, self.container, *self.uuids)))


@dataclass(frozen=True, slots=True)
class Held:
    """What the containers of the node hold, as the kubelet lists it."""

    devices: tuple[Allocation, ...] = ()
    dynamic: tuple[DynamicDevice, ...] = ()


def split(
    held: Iterable[Allocation], resources: Collection[str]
) -> tuple[tuple[Allocation, ...], tuple[Allocation, ...]]:
    """Return the allocations of our *resources*, and those of others."""
    ours: list[Allocation] = []
    others: list[Allocation] = []
    for allocation in held:
        (ours if allocation.resource in resources else others).append(allocation)
    return tuple(ours), tuple(others)
