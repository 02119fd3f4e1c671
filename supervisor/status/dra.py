"""Which GPUs and MIG instances containers hold through DRA, as pure functions.

The kubelet names a device as its DRA driver does. A UUID in that name, or in the names of its CDI
devices, is certain. NVIDIA's driver writes none: it calls a GPU `gpu-<minor>`, and a MIG instance
`gpu-<minor>-mig-<profile>-<profile ID>-<place in memory>` (kubernetes-sigs/dra-driver-nvidia-gpu,
`MigSpecTuple.ToCanonicalName`). The place in memory is not known here. So of several instances of
one profile, any may be the held one.
"""

import enum
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proto.messages import Gpu, Inventory
from proto.texts import shortened
from supervisor.status.allocations import DynamicDevice

NVIDIA = "gpu.nvidia.com"
"""The DRA driver whose device names have the minor number of the GPU."""

NAME = re.compile(r"gpu-(?P<minor>[0-9]{1,4})(?:-mig-(?P<profile>.{1,40})-[0-9]+-[0-9]+)?")

UUID = re.compile(r"(?:gpu|mig)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Match(enum.StrEnum):
    """How it is known which device a container holds through DRA."""

    UUID = "uuid"
    """The driver's name of the device, or one of its CDI names, has the UUID: certain."""
    NAME = "name"
    """Its name, as NVIDIA's driver writes it, fits this device only."""
    PROFILE = "profile"
    """Its name fits several MIG instances; it is one of them."""


@dataclass(frozen=True, slots=True)
class DynamicHold:
    """A device of this node that a container holds through DRA."""

    device: DynamicDevice
    match: Match
    uuids: tuple[str, ...]
    """The GPU or MIG instance; with `Match.PROFILE` all that it may be."""


def uuids_in(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the UUIDs of GPUs and MIG instances in *texts*, in lower case, each once."""
    found = (match.group() for text in texts for match in UUID.finditer(text.lower()))
    return tuple(dict.fromkeys(found))


def may_be_gpu(driver: str, uuids: Iterable[str]) -> bool:
    """Return whether a device of this driver may be a GPU that this module can match."""
    return driver == NVIDIA or any(True for _ in uuids)


def holds(dynamic: Iterable[DynamicDevice], inventory: Inventory) -> tuple[DynamicHold, ...]:
    """Return the *dynamic* devices that are on this node; a name that fits no device is skipped."""
    by_uuid = {uuid.lower(): uuid for gpu in inventory.gpus for uuid in _uuids(gpu)}
    by_minor = {gpu.minor: gpu for gpu in inventory.gpus if gpu.minor is not None}
    found: list[DynamicHold] = []
    # The kubelet lists pods in any order: what is told of a device shall not change with it.
    for device in sorted(dynamic):
        if known := tuple(by_uuid[uuid] for uuid in device.uuids if uuid in by_uuid):
            found.append(DynamicHold(device, Match.UUID, known))
        elif device.driver == NVIDIA and (named := _named(device.device, by_minor)):
            match = Match.NAME if len(named) == 1 else Match.PROFILE
            found.append(DynamicHold(device, match, named))
    return tuple(found)


def _named(name: str, by_minor: Mapping[int, Gpu]) -> tuple[str, ...]:
    """Return the devices that NVIDIA's driver may call by this name."""
    parts = NAME.fullmatch(name)
    gpu = by_minor.get(int(parts["minor"])) if parts else None
    if not parts or not gpu:
        return ()
    if not parts["profile"]:
        return (gpu.uuid,)
    return tuple(i.uuid for i in gpu.instances if _in_name(i.profile) == parts["profile"])


def _in_name(profile: str) -> str:
    """Return a MIG profile as NVIDIA's driver writes it in names: `1g.10gb+me` as `1g10gb-me`."""
    return re.sub(r"[^a-z0-9]+", "-", profile.lower().replace(".", "")).strip("-")


def _uuids(gpu: Gpu) -> tuple[str, ...]:
    return (gpu.uuid, *(instance.uuid for instance in gpu.instances))


def booked_twice(
    found: Iterable[DynamicHold], inventory: Inventory, advertised: Iterable[str]
) -> dict[str, list[DynamicHold]]:
    """Return who holds the *advertised* devices through DRA, by UUID.

    A container that holds a GPU also holds its MIG instances, and the other way round.
    """
    overlaps: defaultdict[str, set[str]] = defaultdict(set)
    for gpu in inventory.gpus:
        overlaps[gpu.uuid] |= set(_uuids(gpu))
        for instance in gpu.instances:
            overlaps[instance.uuid] |= {instance.uuid, gpu.uuid}
    here = set(advertised)
    booked: defaultdict[str, list[DynamicHold]] = defaultdict(list)
    for hold in found:
        for uuid in sorted(set[str]().union(*(overlaps[u] for u in hold.uuids)) & here):
            booked[uuid].append(hold)
    return dict(booked)


def holder(hold: DynamicHold) -> str:
    """Return who holds it, for people."""
    device = hold.device
    return shortened(
        f"{device.namespace}/{device.pod}/{device.container} "
        f"(claim {device.claim}, {device.device} of {device.driver})"
    )


def told(booked: Mapping[str, list[DynamicHold]]) -> dict[str, str]:
    """Return what people are told of each device that is *booked*, by UUID."""
    return {
        uuid: holder(first) + (f" and {len(more)} more" if more else "")
        for uuid, (first, *more) in booked.items()
    }
