"""Decide which devices and resources of this node DRA gives out too, before a pod gets one twice.

A DRA driver publishes the devices of a node as ResourceSlices. A DeviceClass may name an extended
resource: then the scheduler sends pods that request it to the driver, on each node where the
allocatable of that resource is 0 (KEP-5004).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proto.cluster import DraOffers
from proto.texts import few
from supervisor.status.dra import NVIDIA, uuids_in

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Offers:
    """What the API server says."""

    drivers: Mapping[str, frozenset[str]]
    """The UUIDs, in lower case, in what each driver publishes of this node."""
    classes: Mapping[str, tuple[str, ...]]
    """The DeviceClasses that name an extended resource, by that resource."""


def read(slices: Iterable[Json], classes: Iterable[Json]) -> Offers:
    """Return what ResourceSlices of this node and all DeviceClasses offer."""
    drivers: dict[str, frozenset[str]] = {}
    for each in slices:
        spec = each.get("spec") or {}
        found = frozenset(uuids_in(_texts(spec.get("devices") or ())))
        driver = str(spec.get("driver", ""))
        drivers[driver] = drivers.get(driver, frozenset()) | found
    named: dict[str, tuple[str, ...]] = {}
    for each in classes:
        if resource := str((each.get("spec") or {}).get("extendedResourceName") or ""):
            name = str((each.get("metadata") or {}).get("name", ""))
            named[resource] = (*named.get(resource, ()), name)
    return Offers(drivers, named)


def _texts(devices: Iterable[Json]) -> Iterable[str]:
    """Yield the names and the texts of the attributes of *devices*."""
    for device in devices:
        yield str(device.get("name", ""))
        for value in (device.get("attributes") or {}).values():
            yield str(value.get("string") or "")


def told(offers: Offers, uuids: Iterable[str], resources: Iterable[str]) -> DraOffers:
    """Return what is to be told of the devices *uuids* and the advertised *resources*.

    NVIDIA's driver gives out GPUs, whatever its slices say of them.
    """
    ours = {uuid.lower() for uuid in uuids}
    drivers = sorted(d for d, found in offers.drivers.items() if d == NVIDIA or found & ours)
    taken = {r: offers.classes[r] for r in sorted(resources) if r in offers.classes}
    classes = few([f"{resource} (DeviceClass {few(names)})" for resource, names in taken.items()])
    return DraOffers(
        f"the DRA driver {few(drivers)} publishes GPUs of this node, and this plugin advertises "
        "them too: two containers may get the same GPU. Serve the GPUs of this node either by this "
        "plugin or by the DRA driver"
        if drivers and ours
        else "",
        f"DRA takes pods that request {classes}, on each node where its allocatable is 0"
        if taken
        else "",
    )
