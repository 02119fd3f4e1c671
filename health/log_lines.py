"""Log what operators search for: each Xid, and each change in the health of a device."""

from loguru import logger

from health import xid_catalogue
from health.condition import Condition
from health.nvml import XidEvent
from health.verdict import Conditions
from health.xid_log import Repeated
from proto.messages import DeviceState


def xid(event: XidEvent, uuid: str | None, *, fatal: bool) -> None:
    """Log an Xid on the GPU *uuid* (None: unknown GPU) and whether the Xid is fatal."""
    if fatal:
        logger.warning("the driver reported a fatal Xid", **_of_xid(event, uuid, fatal=fatal))
    else:
        logger.warning(
            "the driver reported an Xid that is not fatal", **_of_xid(event, uuid, fatal=fatal)
        )


def _of_xid(event: XidEvent, uuid: str | None, *, fatal: bool) -> dict[str, object]:
    known = xid_catalogue.lookup(event.xid)
    return {
        "uuid": uuid or "unknown",
        "xid": event.xid,
        "gi": event.gi,
        "ci": event.ci,
        "name": known.name,
        "action": known.action,
        "fatal": fatal,
    }


def xid_repeated(repeated: Repeated, *, fatal: bool) -> None:
    """Log how often the driver repeated an Xid since the last line about it."""
    logger.warning(
        "the driver repeated an Xid",
        uuid=repeated.uuid or "unknown",
        xid=repeated.xid,
        count=repeated.count,
        seconds=repeated.seconds,
        fatal=fatal,
    )


def restored(conditions: Conditions) -> None:
    """Log each device that has faults since before the restart of the monitor."""
    for uuid, device in sorted(conditions.items()):
        if device.reasons:
            logger.warning(
                "device still has faults from before the restart", **_of_device(uuid, device)
            )


def changes(before: Conditions, after: Conditions) -> None:
    """Log each device whose state or reasons changed: a recovery as INFO, a fault as WARNING."""
    for uuid in sorted(before.keys() | after.keys()):
        old, new = before.get(uuid, Condition()), after.get(uuid, Condition())
        if (old.state, old.reasons) != (new.state, new.reasons):
            _change(uuid, new)


def _of_device(uuid: str, device: Condition) -> dict[str, object]:
    return {"uuid": uuid, "state": device.state, "reasons": sorted(map(str, device.reasons))}


def _change(uuid: str, device: Condition) -> None:
    match device.state:
        case DeviceState.HEALTHY:
            logger.info("device is healthy again", **_of_device(uuid, device))
        case DeviceState.RECOVERING:
            logger.info(
                "device is recovering: waiting for the quiet period to end",
                **_of_device(uuid, device),
            )
        case DeviceState.SUSPECT:
            logger.warning(
                "device is suspect: one more failed check makes it unhealthy",
                **_of_device(uuid, device),
            )
        case DeviceState.LOST:
            logger.warning("device is lost: the driver cannot reach it", **_of_device(uuid, device))
        case DeviceState.UNHEALTHY:
            logger.warning("device is unhealthy", **_of_device(uuid, device))
