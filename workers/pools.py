"""The devices of which a container can get several: replicas of MPS only from one device."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from proto.worker import AllocationPolicy
from workers.devices import Replica


class Pool(msgspec.Struct, frozen=True):
    """IDs that a container can get together."""

    device: str
    """UUID of the device that MPS shares; empty: all devices that are not shared by MPS."""
    ids: tuple[str, ...]


class Pools:
    """Finds the pool for a request; make a new one when the plan changes."""

    def __init__(self, known: Mapping[str, Replica], policy: AllocationPolicy) -> None:
        self._known = known
        self._policy = policy
        self.mps = any(replica.mps for replica in known.values())
        """Whether any device is shared by MPS; if not, all devices are one pool."""

    def best(self, available: Iterable[str], required: Iterable[str], size: int) -> Pool | None:
        """Return the pool from which a container should get *size* of the *available* IDs.

        That is the pool of the *required* IDs. Otherwise it is one with enough IDs: for `packed`
        the one with the fewest, else the one with the most. None: the request fits into no pool,
        because the required IDs are of several, or nothing is available.
        """
        found = defaultdict(list)
        for name in available:
            if name in self._known:
                found[self._device(name)].append(name)
        if must := {self._device(name) for name in required if name in self._known}:
            device = must.pop()
            return Pool(device, tuple(found[device])) if not must else None
        room = {device: self._room(device, ids) for device, ids in found.items()}
        fitting = {device: count for device, count in room.items() if count >= size}
        if not room:
            return None
        if fitting and self._policy is AllocationPolicy.PACKED:
            device = min(fitting, key=lambda name: (fitting[name], name))
        else:
            device = min(room, key=lambda name: (-room[name], name))
        return Pool(device, tuple(found[device]))

    def _device(self, name: str) -> str:
        replica = self._known[name]
        return replica.uuid if replica.mps else ""

    def _room(self, device: str, ids: Iterable[str]) -> int:
        if device or self._policy is not AllocationPolicy.SPREAD:
            return len({*ids})
        return len({self._known[name].gpu for name in ids})
