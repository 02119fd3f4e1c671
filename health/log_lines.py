"""Log what operators search for: each Xid, and each change in the health of a device."""

import itertools
import traceback
from collections.abc import Iterable, Mapping

from loguru import logger

from health import xid_catalogue
from health.cdi import NOT_INSTALLED, Outcome
from health.cdi_spec import GPUS
from health.condition import Condition
from health.inventory import UNANSWERED
from health.kernel_log import DriverLoaded, GpuReset, LoggedXid, SXid
from health.lane import Done, error_in_words
from health.nvml import XidEvent
from health.verdict import Conditions
from health.watch import Ended
from health.xid_log import Repeated
from proto.messages import DeviceState, Inventory

MOST_NAMED = 8
"""GPUs that one line names."""


def xid(event: XidEvent | LoggedXid, uuid: str | None, *, fatal: bool) -> None:
    """Log an Xid on the GPU *uuid* (None: unknown GPU) and whether the Xid is fatal."""
    if fatal:
        logger.warning("the driver reported a fatal Xid", **_of_xid(event, uuid, fatal=fatal))
    else:
        logger.warning(
            "the driver reported an Xid that is not fatal", **_of_xid(event, uuid, fatal=fatal)
        )


def xid_detail(event: LoggedXid, uuid: str, *, fatal: bool) -> None:
    """Log what only the kernel log says of an Xid."""
    logger.info(
        "the kernel log has more about an Xid",
        uuid=uuid,
        xid=event.xid,
        fatal=fatal,
        detail=event.detail,
        process=event.name,
        pid=event.pid,
        link=event.link,
        unit=event.unit,
        sub_code=event.sub_code,
    )


def _of_xid(event: XidEvent | LoggedXid, uuid: str | None, *, fatal: bool) -> dict[str, object]:
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


def sxid(event: SXid) -> None:
    """Log an error of an NVSwitch."""
    if event.fatal:
        logger.warning("an NVSwitch reported a fatal error", **_of_sxid(event))
    else:
        logger.info("an NVSwitch reported an error that is not fatal", **_of_sxid(event))


def _of_sxid(event: SXid) -> dict[str, object]:
    return {"switch": event.pci, "sxid": event.sxid, "detail": event.detail}


def sxid_repeated(repeated: Repeated) -> None:
    """Log how often an NVSwitch repeated an error since the last line about it."""
    logger.warning(
        "an NVSwitch repeated an error",
        switch=repeated.uuid,
        sxid=repeated.xid,
        count=repeated.count,
        seconds=repeated.seconds,
    )


def reset(event: GpuReset | DriverLoaded) -> None:
    """Log that the kernel log tells of a reset."""
    if isinstance(event, GpuReset):
        logger.info("the kernel log tells of a reset of a GPU", pci=event.pci)
    else:
        logger.info("the kernel log tells that the driver was loaded", version=event.version)


def pace(index: int, uuid: str, seconds: float, *, slow: bool) -> None:
    """Log that the checks of a GPU have become slow, or are not slow any more."""
    took = round(seconds, 2)
    if slow:
        logger.warning("the driver answers slowly for a GPU", index=index, uuid=uuid, seconds=took)
    else:
        logger.info("the driver answers in time again", index=index, uuid=uuid, seconds=took)


def watch_failed(uuid: str, ended: Ended) -> None:
    """Log why a GPU cannot be watched for events."""
    if ended.registered:
        logger.warning("cannot wait for Xid events; retrying", uuid=uuid, error=str(ended.error))
    else:
        logger.warning("cannot watch a GPU for Xid events", uuid=uuid, error=str(ended.error))


def inventory(before: Inventory | None, after: Inventory) -> None:
    """Log what changed in the inventory."""
    known = before.failed if before else ()
    for failed in after.failed:
        if failed not in known and failed.error != UNANSWERED:
            logger.error("cannot enumerate a GPU", index=failed.index, error=failed.error)
    if before is None:
        return
    if _instances(before) != _instances(after):
        logger.info("MIG instances were added or removed")
    for index in {gpu.index for gpu in known} - {gpu.index for gpu in after.failed}:
        logger.info("a GPU that failed before can be enumerated now", index=index)


def _instances(inventory: Inventory) -> set[str]:
    return {mig.uuid for gpu in inventory.gpus for mig in gpu.instances}


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
            level = "INFO" if device.state is DeviceState.RECOVERING else "WARNING"
            logger.log(
                level,
                "device still has faults from before the restart",
                **_of_device(uuid, device),
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


def cdi(before: Mapping[str, Outcome], outcomes: Iterable[Outcome]) -> None:
    """Log what became of CDI specifications, unless it is the same as *before*, by their kind."""
    new = [outcome for outcome in outcomes if _is_news(outcome, before.get(outcome.spec.kind))]
    missing = [str(outcome.spec.path) for outcome in new if outcome.error == NOT_INSTALLED]
    if missing:
        logger.warning(
            "cannot write CDI specifications: nvidia-ctk is not installed", files=missing
        )
    for outcome in new:
        if outcome.error != NOT_INSTALLED:
            _cdi(outcome, str(outcome.spec.path))


def _is_news(outcome: Outcome, before: Outcome | None) -> bool:
    told = before and (before.error, before.errors)
    return outcome.changed or told != (outcome.error, outcome.errors)


def _cdi(outcome: Outcome, file: str) -> None:
    if outcome.nothing and outcome.spec.mode == GPUS:
        logger.error(
            "cannot write the CDI specification of the GPUs: nvidia-ctk found none",
            file=file,
            error=outcome.error,
        )
    elif outcome.nothing:
        logger.warning(
            "skipped a CDI specification: the node has no such devices",
            file=file,
            error=outcome.error,
        )
    elif outcome.error:
        logger.error("cannot write a CDI specification", file=file, error=outcome.error)
    elif outcome.errors:
        logger.error(
            "cannot write the CDI devices of some GPUs: nvidia-ctk fails for them",
            file=file,
            gpus=len(outcome.errors),
            errors=dict(itertools.islice(outcome.errors.items(), MOST_NAMED)),
        )
    else:
        logger.info("CDI specification is up to date", file=file, changed=outcome.changed)


def odd(done: Done) -> None:
    """Log that a job has raised what no job should, once until that changes."""
    if done.error is None or (error := error_in_words(done.error)) == done.lane.told:
        return
    done.lane.told = error
    frames = traceback.extract_tb(done.error.__traceback__)
    at = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    logger.error(
        "cannot finish a job of the health monitor", lane=done.lane.name, error=error, at=at
    )
