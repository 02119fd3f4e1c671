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
    def uuid(self) -> str:
        """The UUID of the GPU or MIG instance."""
        return self.device.partition("::")[0]

    @property
    def replica(self) -> str:
        """The number of the replica; empty if the device is not shared."""
        return self.device.partition("::")[2]


def split(
    held: Iterable[Allocation], resources: Collection[str]
) -> tuple[tuple[Allocation, ...], tuple[Allocation, ...]]:
    """Return the allocations of our *resources*, and those of others."""
    ours: list[Allocation] = []
    others: list[Allocation] = []
    for allocation in held:
        (ours if allocation.resource in resources else others).append(allocation)
    return tuple(ours), tuple(others)
