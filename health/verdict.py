"""Decide what is unhealthy, from what was observed: values in, values out."""

from collections.abc import Iterable, Mapping

from health.condition import (
    LOST,
    Condition,
    Look,
    after_fault,
    after_look,
    after_mark,
    after_return,
)
from proto.messages import DeviceHealth, DeviceState, Gpu, Inventory, Reason, ReasonKind
from proto.monitor import Recovery, XidPolicy

Conditions = Mapping[str, Condition]
"""By the UUID of a GPU or an instance; one that is not in it is well."""

Unwatched = Mapping[str, Reason]
"""Why the events of a GPU cannot be waited for, by its UUID."""

Instance = tuple[int | None, int | None]
"""GI and CI that an event names; None matches any."""

Place = tuple[str | None, Instance]
"""The GPU and the instance on it that an event names; one on an unknown GPU (None) hits all."""


def hit(inventory: Inventory, place: Place) -> list[str]:
    """Return the UUIDs of what an event at *place* concerns."""
    gpu, instance = place
    gpus = [one for one in inventory.gpus if gpu in (None, one.uuid)]
    return [uuid for one in gpus for uuid in _hit(one, instance)]


def _hit(gpu: Gpu, instance: Instance) -> list[str]:
    gi, ci = instance
    if gi is None and ci is None:
        return [gpu.uuid]
    named = [i.uuid for i in gpu.instances if gi in (None, i.gi) and ci in (None, i.ci)]
    # An instance that we have not seen is somewhere on this GPU: not knowing is unhealthy.
    return named or [gpu.uuid]


def after_xid(
    conditions: Conditions, uuids: Iterable[str], policy: XidPolicy, xid: int, now: float
) -> Conditions:
    """Return the conditions after an *xid* that concerns *uuids*, if it is fatal by *policy*."""
    if not policy.is_fatal(xid):
        return conditions
    return _after(conditions, uuids, Reason(ReasonKind.XID, str(xid)), now)


def after_loss(conditions: Conditions, uuids: Iterable[str], now: float) -> Conditions:
    """Return the conditions after GPUs fell off the bus."""
    return _after(conditions, uuids, LOST, now)


def _after(conditions: Conditions, uuids: Iterable[str], fault: Reason, now: float) -> Conditions:
    hurt = {uuid: after_fault(conditions.get(uuid, Condition()), fault, now) for uuid in uuids}
    return {**conditions, **hurt}


def after_looks(
    conditions: Conditions,
    inventory: Inventory,
    looks: Mapping[str, Look],
    recovery: Recovery,
    now: float,
) -> Conditions:
    """Return the conditions after *looks* at GPUs, which show their instances' faults too."""
    after = dict(conditions)
    for gpu in inventory.gpus:
        look = looks.get(gpu.uuid)
        if look is None:
            continue
        after[gpu.uuid] = after_look(after.get(gpu.uuid, Condition()), look, recovery, now)
        # What is wrong with the GPU itself is not to be said of each instance again; but a look
        # that shows nothing of the GPU is no proof for them.
        theirs = Look(action=None if look.lost or look.failed else look.action)
        for instance in gpu.instances:
            if known := after.get(instance.uuid):
                after[instance.uuid] = after_look(known, theirs, recovery, now)
    return after


def after_returns(conditions: Conditions, uuids: Iterable[str]) -> Conditions:
    """Return the conditions after devices that were gone are there again."""
    known = {uuid: conditions[uuid] for uuid in uuids if uuid in conditions}
    return {**conditions, **{uuid: after_return(one) for uuid, one in known.items()}}


def named(inventory: Inventory, name: str) -> list[str]:
    """Return the UUIDs of what the operator calls *name*, a GPU with its instances.

    It is a UUID, a GPU's index, or `index:place` of a MIG instance.
    """
    for gpu in inventory.gpus:
        if name in {gpu.uuid, str(gpu.index)}:
            return [gpu.uuid, *(instance.uuid for instance in gpu.instances)]
        for instance in gpu.instances:
            if name in {instance.uuid, f"{gpu.index}:{instance.place}"}:
                return [instance.uuid]
    return []


def after_marks(conditions: Conditions, uuids: Iterable[str], now: float) -> Conditions:
    """Return the conditions after the operator's word that the faults of devices are gone."""
    known = {uuid: conditions[uuid] for uuid in uuids if uuid in conditions}
    return {**conditions, **{uuid: after_mark(one, now) for uuid, one in known.items()}}


def access_is_lost(looks: Mapping[str, Look]) -> bool:
    """Return whether the looks at all GPUs failed as they do for a process without access."""
    return bool(looks) and all(look.denied for look in looks.values())


def health_of(
    inventory: Inventory,
    conditions: Conditions,
    unwatched: Unwatched,
    actions: Mapping[str, int | None] | None = None,
    booted: float = 0.0,
) -> tuple[DeviceHealth, ...]:
    """Return the health of every GPU, and of every instance with its GPU's reasons.

    The recovery *actions* are those that the driver asks for, by the UUID of the GPU; *booted* is
    the unix time at which the conditions' clock was 0.
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
