"""The list of a resource's devices, as the bytes that every stream sends, and who waits for it."""

import asyncio
from collections.abc import Container, Mapping

from proto.messages import Health
from workers.devices import Replica, View
from workers.response import device_list


class Listing:
    """The lists of the same replicas; a device whose health was seen before is not encoded again.

    A list is the lists of its devices, one after the other: so protobuf joins repeated fields.
    With 8 x 8000 devices a change takes a tenth of the time that way, in which nobody is answered.
    """

    def __init__(self, replicas: Mapping[str, Replica]) -> None:
        self._devices: dict[str, list[Replica]] = {}
        for replica in replicas.values():
            self._devices.setdefault(replica.uuid, []).append(replica)
        self._known: dict[tuple[str, Health], bytes] = {}

    def of(self, unhealthy: Container[str]) -> bytes:
        """Return the list in which the devices with these UUIDs are *unhealthy*."""
        return b"".join(
            self._device(uuid, Health.UNHEALTHY if uuid in unhealthy else Health.HEALTHY)
            for uuid in self._devices
        )

    def _device(self, uuid: str, health: Health) -> bytes:
        known = self._known.get((uuid, health))
        if known is None:
            known = device_list(self._devices[uuid], health).SerializeToString()
            self._known[uuid, health] = known
        return known


class Shelf:
    """Holds the newest view; all who wait for a newer one get it, nobody takes it from another."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._listing = Listing(view.replicas)
        self._list: bytes | None = self._listing.of(view.unhealthy)
        self._changed = asyncio.Event()

    def put(self, view: View) -> None:
        """Replace the view and wake all who wait, if its list is another."""
        before, self.view = self.view, view
        # Reasons are not in the list: when only they change, the kubelet need not hear of it.
        if view.replicas is not before.replicas and view.replicas != before.replicas:
            self._listing = Listing(view.replicas)
        elif view.unhealthy.keys() == before.unhealthy.keys():
            return
        self._show(self._listing.of(view.unhealthy))

    def close(self) -> None:
        """Let all who wait know that nothing more comes, until `open`."""
        self._show(None)

    def open(self) -> None:
        """Show the view again after `close`."""
        self._show(self._listing.of(self.view.unhealthy))

    def list_bytes(self) -> int:
        """Return the size of the list that is shown."""
        return len(self._list or b"")

    def _show(self, encoded: bytes | None) -> None:
        self._list = encoded
        self._changed.set()
        self._changed = asyncio.Event()

    async def next_list(self, sent: bytes | None) -> bytes | None:
        """Return the newest list once it is another than the one *sent*; None after `close`."""
        while self._list is not None and self._list is sent:
            await self._changed.wait()
        return self._list
