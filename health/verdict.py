"""Decide which devices are unhealthy, as pure functions of observations."""

import enum
import math
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from health import xid_catalogue
from health.condition import (
    LOST,
    Condition,
    Look,
    after_fault,
    after_look,
    after_mark,
)
from proto.messages import DeviceHealth, DeviceState, Gpu, Inventory
from proto.monitor import Recovery, XidPolicy
from proto.reasons import Reason, ReasonKind

Conditions = Mapping[str, Condition]
"""Conditions by the UUID of a GPU or MIG instance; a missing device is healthy."""

Unwatched = Mapping[str, Reason]
"""Why a GPU cannot be watched for events, by its UUID."""

Instance = tuple[int | None, int | None]
"""The GI and CI of an event; None matches any."""

Place = tuple[str | None, Instance]
"""The GPU and MIG instance of an event; GPU None: unknown, so the event hits all GPUs."""


def hit(inventory: Inventory, place: Place) -> list[str]:
    """Return the UUIDs of the devices that an event at *place* hits."""
    gpu, instance = place
    gpus = [known for known in inventory.gpus if gpu in (None, known.uuid)]
    return [uuid for known in gpus for uuid in _hit(known, instance)]


def _hit(gpu: Gpu, instance: Instance) -> list[str]:
    gi, ci = instance
    if gi is None and ci is None:
        return [gpu.uuid]
    named = [i.uuid for i in gpu.instances if gi in (None, i.gi) and ci in (None, i.ci)]
    # An unknown instance is somewhere on this GPU: in doubt the whole GPU is unhealthy.
    return named or [gpu.uuid]


def after_xid(
    conditions: Conditions, uuids: Iterable[str], policy: XidPolicy, xid: int, now: float
) -> Conditions:
    """Return the conditions after *xid* hit the devices *uuids*; *policy* says if it is fatal."""
    if not policy.is_fatal(xid):
        return conditions
    fault, undecided = Reason(ReasonKind.XID, str(xid)), xid in xid_catalogue.UNDECIDED
    return after_faults(conditions, uuids, fault, now, undecided=undecided)


def after_loss(conditions: Conditions, uuids: Iterable[str], now: float) -> Conditions:
    """Return the conditions after the GPUs *uuids* were lost."""
    return after_faults(conditions, uuids, LOST, now)


def after_faults(
    conditions: Conditions,
    uuids: Iterable[str],
    fault: Reason,
    now: float,
    *,
    undecided: bool = False,
) -> Conditions:
    """Return the conditions after the *fault* hit the devices *uuids*."""
    hurt = {
        uuid: after_fault(conditions.get(uuid, Condition()), fault, now, undecided=undecided)
        for uuid in uuids
    }
    return {**conditions, **hurt}


def after_looks(
    conditions: Conditions,
    inventory: Inventory,
    looks: Mapping[str, Look],
    recovery: Recovery,
    now: float,
) -> Conditions:
    """Return the conditions after checks of GPUs, which are also proof for their MIG instances."""
    after = dict(conditions)
    for gpu in inventory.gpus:
        look = looks.get(gpu.uuid)
        if look is None:
            continue
        after[gpu.uuid] = after_look(after.get(gpu.uuid, Condition()), look, recovery, now)
        # Instances take only the recovery action: problems of the GPU stay with the GPU. A failed
        # check is no proof for the instances, and decides nothing about them.
        reached = not look.lost and not look.hung and not look.failed
        theirs = Look(action=look.action, began=look.began) if reached else Look(began=-math.inf)
        for instance in gpu.instances:
            if known := after.get(instance.uuid):
                after[instance.uuid] = after_look(known, theirs, recovery, now)
    return after


def named(inventory: Inventory, name: str) -> list[str]:
    """Return the UUIDs of the device *name*; a GPU comes with its MIG instances.

    The name is a UUID, the index of a GPU, or `index:place` of a MIG instance.
    """
    for gpu in inventory.gpus:
        if name in {gpu.uuid, str(gpu.index)}:
            return [gpu.uuid, *(instance.uuid for instance in gpu.instances)]
        for instance in gpu.instances:
            if name in {instance.uuid, f"{gpu.index}:{instance.place}"}:
                return [instance.uuid]
    return []


def belongs(inventory: Inventory, gpu: str, uuids: Iterable[str]) -> bool:
    """Return whether any of *uuids* is the *gpu*, or one of its MIG instances."""
    known = next((known for known in inventory.gpus if known.uuid == gpu), None)
    devices = {gpu, *(mig.uuid for mig in known.instances)} if known else {gpu}
    return not devices.isdisjoint(uuids)


def after_marks(conditions: Conditions, uuids: Iterable[str], now: float) -> Conditions:
    """Return the conditions after an operator marked devices healthy."""
    known = {uuid: conditions[uuid] for uuid in uuids if uuid in conditions}
    return {**conditions, **{uuid: after_mark(device, now) for uuid, device in known.items()}}


def hangs(conditions: Conditions, uuid: str) -> bool:
    """Return whether a call of the newest check of a device does not return."""
    ailments = conditions.get(uuid, Condition()).ailments
    return any(reason.kind is ReasonKind.DRIVER_HANG for reason in ailments)


def access_is_lost(looks: Mapping[str, Look]) -> bool:
    """Return whether the checks of all GPUs failed as for a process without access."""
    return bool(looks) and all(look.denied for look in looks.values())


class Access(enum.Enum):
    """What checks say about this monitor's access to the GPU device nodes."""

    UNDISPUTED = enum.auto()
    """At least one GPU does not refuse access, or it was never seen that GPUs allow it."""
    LOST_HERE = enum.auto()
    """This monitor had access before: a new one may have it again."""
    LOST_BEFORE = enum.auto()
    """Another monitor had access in this boot. This one never had: report it as `no-access`."""


def access_after(looks: Mapping[str, Look], known: tuple[Gpu, ...], *, had_access: bool) -> Access:
    """Return what became of the access to the GPUs after *looks* at all of them.

    *known* are the GPUs in the ledger when this monitor began: an earlier monitor of this boot
    found them, so it had access. *had_access* is whether this monitor ever had access to a GPU.
    """
    if not access_is_lost(looks):
        return Access.UNDISPUTED
    if had_access:
        return Access.LOST_HERE
    return Access.LOST_BEFORE if known else Access.UNDISPUTED


def health_of(
    inventory: Inventory,
    conditions: Conditions,
    unwatched: Unwatched,
    actions: Mapping[str, int | None] | None = None,
    booted: float = 0.0,
) -> tuple[DeviceHealth, ...]:
    """Return the health of every GPU and MIG instance; an instance has its GPU's reasons too.

    *actions* are the recovery actions that the driver asks for, by GPU UUID; *booted* is the Unix
    time at which the clock of the conditions was 0.
    """
    result = []
    for gpu in inventory.gpus:
        own = conditions.get(gpu.uuid, Condition())
        blind = {unwatched[gpu.uuid]} if gpu.uuid in unwatched else set()
        action = (actions or {}).get(gpu.uuid)
        result.append(_health(gpu.uuid, own, own.reasons | blind, booted, action))
        for instance in gpu.instances:
            its = conditions.get(instance.uuid, Condition())
            shown = own if own.reasons else its
            reasons = own.reasons | its.reasons | blind
            result.append(_health(instance.uuid, shown, reasons, booted))
    return tuple(result)


def overlaid(
    health: Iterable[DeviceHealth], *reasons: Mapping[str, Reason | tuple[Reason, ...]]
) -> tuple[DeviceHealth, ...]:
    """Return the *health* with these *reasons* added, by UUID, such as a missing CDI name.

    Such a reason needs no proof to end: it is over as soon as it is not given any more.
    """
    return tuple(
        _with(device, [by_uuid.get(device.uuid, ()) for by_uuid in reasons]) for device in health
    )


def _with(device: DeviceHealth, reasons: Iterable[Reason | tuple[Reason, ...]]) -> DeviceHealth:
    given = [(some,) if isinstance(some, Reason) else some for some in reasons]
    added = {reason for some in given for reason in some}
    if not added:
        return device
    well = device.state in {DeviceState.HEALTHY, DeviceState.SUSPECT}
    return replace(
        device,
        reasons=tuple(sorted({*device.reasons, *added})),
        state=DeviceState.UNHEALTHY if well else device.state,
    )


def with_licences(
    health: Iterable[DeviceHealth], licensed: Mapping[str, bool | None]
) -> tuple[DeviceHealth, ...]:
    """Return the *health*, with whether virtual GPUs have a licence, by UUID."""
    known = {uuid: told for uuid, told in licensed.items() if told is not None}
    return tuple(
        replace(device, licensed=known[device.uuid]) if device.uuid in known else device
        for device in health
    )


def _health(
    uuid: str,
    shown: Condition,
    reasons: Iterable[Reason],
    booted: float,
    action: int | None = None,
) -> DeviceHealth:
    found = tuple(sorted(reasons))
    well = shown.state in {DeviceState.HEALTHY, DeviceState.SUSPECT}
    return DeviceHealth(
        uuid,
        found,
        DeviceState.UNHEALTHY if found and well else shown.state,
        since=booted + shown.since if shown.since else 0.0,
        transitions=shown.transitions,
        recovery_action=action,
    )
