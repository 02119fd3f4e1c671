"""Devices held through DRA in the JSON of /status.

Fields may be added, but never renamed or removed.
"""

from msgspec import Struct

from supervisor.status.dra import Match


class DraHolder(Struct, frozen=True, order=True):
    """A container that holds a device of the GPU through Dynamic Resource Allocation (DRA)."""

    namespace: str
    """The pod's namespace."""
    pod: str
    """The pod's name."""
    container: str
    """The container's name."""
    claim: str
    """The ResourceClaim, as `namespace/name`."""
    driver: str
    """The DRA driver, for example `gpu.nvidia.com`."""
    pool: str
    """The driver's pool of devices."""
    device: str
    """The driver's name of the device, for example `gpu-0`."""
    uuids: tuple[str, ...]
    """The UUID of the GPU or MIG instance; several if the driver's name fits several instances."""
    match: Match
    """How the device is known: `uuid` is certain, `name` by the name, `profile` one of several."""
    advertised: bool
    """Whether one of these devices is advertised here too, so that it may be handed out twice."""
