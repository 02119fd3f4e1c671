"""Which container holds which device, as reported by the kubelet."""

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
