"""The log lines about devices: what changed in the device list, and what a container was given."""

from collections.abc import Collection, Mapping

from loguru import logger

from workers.devices import Replica, View

MOST_IDS = 8
"""Device IDs in one log line; where there are more, the line has only their numbers."""


def log_allocated(known: Mapping[str, Replica], ids: Collection[str]) -> None:
    """Log how many devices on how many GPUs a container got, and their IDs if they are few."""
    gpus = len({known[name].gpu for name in ids if name in known})
    if len(ids) > MOST_IDS:
        logger.info("allocated devices to a container", devices=len(ids), gpus=gpus)
    else:
        logger.info("allocated devices to a container", devices=len(ids), gpus=gpus, ids=[*ids])


def log_changes(before: View, after: View, replicas: Mapping[str, int]) -> None:
    """Log each GPU or MIG instance whose entry in the device list changed.

    *replicas* has, by UUID, how many devices the list has of each GPU or MIG instance now.
    """
    if after.replicas is not before.replicas:
        listed = {replica.uuid for replica in before.replicas.values()}
        for uuid in sorted(listed - replicas.keys()):
            logger.info("device removed from the list", uuid=uuid)
        for uuid in sorted(replicas.keys() - listed):
            logger.info("device added to the list", uuid=uuid, devices=replicas[uuid])
    for uuid in sorted(replicas.keys() & (before.unhealthy.keys() | after.unhealthy.keys())):
        reasons = [str(reason) for reason in after.unhealthy.get(uuid, ())]
        known = [str(reason) for reason in before.unhealthy.get(uuid, ())]
        count = replicas[uuid]
        if reasons and not known:
            logger.info("device listed as Unhealthy", uuid=uuid, devices=count, reasons=reasons)
        elif reasons and reasons != known:
            logger.info("reasons of an Unhealthy device changed", uuid=uuid, reasons=reasons)
        elif known and not reasons:
            logger.info("device listed as Healthy", uuid=uuid, devices=count)
