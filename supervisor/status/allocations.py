"""Which container holds which device, as the kubelet tells."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allocation:
    """A device that a container holds."""

    resource: str
    device: str
    """The id that the kubelet knows: `<uuid>`, or `<uuid>::<n>` of a replica."""
    namespace: str
    pod: str
    container: str

    @property
    def uuid(self) -> str:
        """The UUID of the GPU or MIG instance."""
        return self.device.partition("::")[0]

    @property
    def replica(self) -> str:
        """The replica's number; empty where the device is not shared."""
        return self.device.partition("::")[2]
