"""What is true of the daemons of a node, and what the kubelet knows of their devices.

It is read from the stand-in and from /proc, with no code of the service.
"""

from simulator.kubelet import Kubelet
from simulator.mps.server import NAME
from tests.conftest import children, title
from tests.fakes.mps_trees import GPU, REPLICAS, Host
from tests.hardware.transcript import alive

PROFILE = "1g.10gb"
PLAIN = f"nvidia.com/mig-{PROFILE}"
"""A resource that is not shared by MPS."""


class MpsNode:
    """A host with a kubelet."""

    def __init__(self, host: Host, kubelet: Kubelet) -> None:
        self.host, self.kubelet = host, kubelet

    def daemons(self) -> dict[str, list[int]]:
        """Return the PIDs of the daemons that run, by device."""
        found: dict[str, list[int]] = {}
        for program in self.host.mps.programs():
            if alive(program["pid"]):
                found.setdefault(program["environment"]["CUDA_VISIBLE_DEVICES"], []).append(
                    program["pid"]
                )
        return found

    def servers(self, uuid: str) -> set[int]:
        """Return the PIDs of the servers of a device's daemon.

        Not by asking the daemon: one that does not answer would hold up everything here.
        """
        found = {child for pid in self.daemons().get(uuid, []) for child in children(pid)}
        return {pid for pid in found if title(pid).startswith(NAME)}

    def replicas(self, uuid: str) -> list[bool]:
        """Return whether each replica of a device is Healthy; none if the plugin is away."""
        known = self.kubelet.resources.get(GPU)
        if not known or not known.connected:
            return []
        return [h == "Healthy" for name, h in known.devices.items() if name.startswith(uuid)]

    def usable(self, uuid: str) -> bool:
        """Return whether all replicas of a device are Healthy."""
        return self.replicas(uuid) == [True] * REPLICAS

    def unusable(self, uuid: str) -> bool:
        """Return whether all replicas of a device are Unhealthy."""
        return self.replicas(uuid) == [False] * REPLICAS

    def plain(self) -> bool:
        """Return whether what MPS does not share is Healthy."""
        known = self.kubelet.resources.get(PLAIN)
        return bool(known and known.connected and len(known.healthy()) == 1)

    def settled(self) -> bool:
        """Return whether every device is Healthy and has one daemon."""
        found = self.daemons()
        return self.plain() and all(
            self.usable(uuid) and len(found.get(uuid, [])) == 1 for uuid in self.host.uuids
        )

    def shown(self) -> str:
        """Return in words how everything is."""
        lists = {uuid[-2:]: self.replicas(uuid) for uuid in self.host.uuids}
        return f"replicas {lists}, daemons {self.daemons()}, {PLAIN} Healthy: {self.plain()}"
