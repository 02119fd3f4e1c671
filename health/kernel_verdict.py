"""Decide what the events of the kernel log mean for the devices, as pure functions.

What NVML tells too is judged as NVML's events are, with two differences. The severity word in the
line of an Xid overrules the catalogue, but not an operator's `ignore`. And a reset that the log
tells is the proof of one for drivers that do not report recovery actions.
"""

from collections.abc import Iterable, Mapping

import msgspec

from health import verdict
from health.condition import Condition, after_acquittal, after_return
from health.kernel_log import DriverLoaded, Event, GpuLost, GpuReset, LoggedXid, SXid
from health.verdict import Conditions
from proto.messages import Gpu, Inventory
from proto.monitor import XidPolicy
from proto.reasons import Reason, ReasonKind


class Report(msgspec.Struct, frozen=True):
    """An Xid of the log, and what NVML has told of it."""

    xid: LoggedXid
    news: bool = True
    """Whether NVML has not told of it before."""
    others: bool = False
    """Whether NVML has told of more Xids of this number than the log has.

    The driver's word that this one is harmless says nothing of those.
    """


def gpus(inventory: Inventory, event: Event) -> tuple[Gpu, ...]:
    """Return the GPUs that *event* may say something about.

    The fatal errors of a switch hit the GPUs that it connects, or where the driver does not tell
    those, all GPUs that have NVLinks.
    """
    match event:
        case SXid(fatal=True):
            linked = tuple(gpu for gpu in inventory.gpus if gpu.nvlinks)
            return tuple(gpu for gpu in linked if event.pci in gpu.switches) or linked
        case SXid():
            return ()
        case DriverLoaded() | GpuLost(pci=""):
            return inventory.gpus
        case LoggedXid() | GpuLost() | GpuReset():
            return tuple(g for g in inventory.gpus if g.pci_bus_id and g.pci_bus_id == event.pci)


def is_fatal(event: LoggedXid, policy: XidPolicy) -> bool:
    """Return whether an Xid makes its device Unhealthy."""
    if event.fatal is None:
        return policy.is_fatal(event.xid)
    return event.fatal and event.xid not in policy.ignored


def after(
    conditions: Conditions, inventory: Inventory, event: Event, policy: XidPolicy, now: float
) -> Conditions:
    """Return the conditions after *event*; of an Xid, NVML has told nothing."""
    hit = gpus(inventory, event)
    match event:
        case LoggedXid():
            return after_xid(conditions, inventory, Report(event), policy, now)
        case SXid():
            fault = Reason(ReasonKind.FABRIC, f"SXid {event.sxid}")
            return verdict.after_faults(conditions, [gpu.uuid for gpu in hit], fault, now)
        case GpuLost() if event.pci:
            return verdict.after_loss(conditions, [gpu.uuid for gpu in hit], now)
        case GpuLost():
            return conditions  # the checks will show which GPU it is
        case GpuReset() | DriverLoaded():
            return {**conditions, **_reset(conditions, hit)}


def after_xid(
    conditions: Conditions, inventory: Inventory, report: Report, policy: XidPolicy, now: float
) -> Conditions:
    """Return the conditions after an Xid."""
    event = report.xid
    if event.xid in policy.ignored:
        return conditions
    places = ((gpu.uuid, (event.gi, event.ci)) for gpu in gpus(inventory, event))
    uuids = [uuid for place in places for uuid in verdict.hit(inventory, place)]
    fault = Reason(ReasonKind.XID, str(event.xid))
    if event.fatal:
        return verdict.after_faults(conditions, uuids, fault, now)
    if event.fatal is None:
        after = verdict.after_xid(conditions, uuids, policy, event.xid, now)
        return after if report.news else conditions
    if report.others:
        return conditions
    known = {uuid: conditions[uuid] for uuid in uuids if uuid in conditions}
    return {**conditions, **{u: after_acquittal(c, fault, now) for u, c in known.items()}}


def _reset(conditions: Conditions, hit: Iterable[Gpu]) -> Mapping[str, Condition]:
    uuids = [u for gpu in hit for u in (gpu.uuid, *(i.uuid for i in gpu.instances))]
    return {uuid: after_return(conditions[uuid]) for uuid in uuids if uuid in conditions}
