"""Decide what is unhealthy, from what was observed: values in, values out."""

from collections.abc import Iterable, Mapping

from proto.messages import DeviceHealth, Gpu, Inventory, Reason, ReasonKind
from proto.xids import XidPolicy

Faults = Mapping[str, frozenset[Reason]]
"""The reasons observed so far, by the UUID of the GPU or the instance that they concern."""


def add(faults: Faults, uuids: Iterable[str], reason: Reason) -> Faults:
    """Return *faults* with *reason* on all of *uuids*."""
    return {**faults, **{uuid: faults.get(uuid, frozenset()) | {reason} for uuid in uuids}}


def clear(faults: Faults, reason: Reason) -> Faults:
    """Return *faults* without *reason*, wherever it was."""
    kept = {uuid: reasons - {reason} for uuid, reasons in faults.items()}
    return {uuid: reasons for uuid, reasons in kept.items() if reasons}


def after_xid(
    faults: Faults, inventory: Inventory, policy: XidPolicy, place: "Place", xid: int
) -> Faults:
    """Return *faults* after an *xid* at *place*, if it is fatal by *policy*."""
    if not policy.is_fatal(xid):
        return faults
    gpu, instance = place
    reason = Reason(ReasonKind.XID, str(xid))
    hit = (one for one in inventory.gpus if gpu in (None, one.uuid))
    return add(faults, [uuid for one in hit for uuid in _hit(one, instance)], reason)


Instance = tuple[int | None, int | None]
"""GI and CI that an event names; None matches any."""

Place = tuple[str | None, Instance]
"""The GPU and the instance on it that an event names; one on an unknown GPU (None) hits all."""


def _hit(gpu: Gpu, instance: Instance) -> list[str]:
    gi, ci = instance
    if gi is None and ci is None:
        return [gpu.uuid]
    named = [i.uuid for i in gpu.instances if gi in (None, i.gi) and ci in (None, i.ci)]
    # An instance that we have not seen is somewhere on this GPU: not knowing is unhealthy.
    return named or [gpu.uuid]


def health_of(inventory: Inventory, faults: Faults) -> tuple[DeviceHealth, ...]:
    """Return the health of every GPU, and of every instance with its GPU's reasons."""
    result = []
    for gpu in inventory.gpus:
        own = faults.get(gpu.uuid, frozenset())
        result.append(DeviceHealth(gpu.uuid, tuple(sorted(own))))
        for instance in gpu.instances:
            reasons = own | faults.get(instance.uuid, frozenset())
            result.append(DeviceHealth(instance.uuid, tuple(sorted(reasons))))
    return tuple(result)
