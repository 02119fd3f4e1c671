"""What the monitor's log tells operators: each Xid, and each change of a device."""

from loguru import logger

from health import xid_catalogue
from health.condition import Condition
from health.nvml import XidEvent
from health.verdict import Conditions


def xid(event: XidEvent, uuid: str | None, *, fatal: bool) -> None:
    """Tell of an Xid on the GPU with *uuid*, if it is known, and whether it is fatal."""
    known = xid_catalogue.lookup(event.xid)
    logger.warning(
        "Xid",
        uuid=uuid or "unknown",
        xid=event.xid,
        gi=event.gi,
        ci=event.ci,
        name=known.name,
        action=known.action,
        fatal=fatal,
    )


def changes(before: Conditions, after: Conditions) -> None:
    """Tell of each device whose state or reasons are others than before."""
    for uuid in before.keys() | after.keys():
        old, new = before.get(uuid, Condition()), after.get(uuid, Condition())
        if (old.state, old.reasons) != (new.state, new.reasons):
            reasons = sorted(map(str, new.reasons))
            logger.warning("health", uuid=uuid, state=new.state, reasons=reasons)
