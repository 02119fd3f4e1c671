"""Decide what is unhealthy, from what was observed: values in, values out."""

from collections.abc import Iterable, Mapping

from health.condition import LOST, Condition, Look, after_fault, after_look
from proto.messages import DeviceHealth, DeviceState, Gpu, Inventory, Reason, ReasonKind
from proto.recovery import Recovery
from proto.xids import XidPolicy

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


def health_of(
    inventory: Inventory, conditions: Conditions, unwatched: Unwatched
) -> tuple[DeviceHealth, ...]:
    """Return the health of every GPU, and of every instance with its GPU's reasons."""
    result = []
    for gpu in inventory.gpus:
        own = conditions.get(gpu.uuid, Condition())
        blind = {unwatched[gpu.uuid]} if gpu.uuid in unwatched else set()
        result.append(_health(gpu.uuid, own.reasons | blind, own.state))
        for instance in gpu.instances:
            its = conditions.get(instance.uuid, Condition())
            state = own.state if own.reasons else its.state
            result.append(_health(instance.uuid, own.reasons | its.reasons | blind, state))
    return tuple(result)


def _health(uuid: str, reasons: Iterable[Reason], state: DeviceState) -> DeviceHealth:
    found = tuple(sorted(reasons))
    well = state in {DeviceState.HEALTHY, DeviceState.SUSPECT}
    return DeviceHealth(uuid, found, DeviceState.UNHEALTHY if found and well else state)
