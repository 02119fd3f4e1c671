"""The log lines about devices: what changed in the device list, and what containers were given."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec
from loguru import logger

from workers.devices import Replica, View

MOST_IDS = 8
"""Device IDs in one log line; where there are more, the line has only their numbers."""


class Container(msgspec.Struct, frozen=True):
    """What one container was given."""

    known: Mapping[str, Replica]
    """All devices of the resource at that time, by ID."""
    ids: Collection[str]


def grouped(containers: Iterable[Container]) -> Iterator[list[Container]]:
    """Yield the *containers* of each log line, in their order: as many as have few IDs together."""
    line: list[Container] = []
    count = 0
    for container in containers:
        count += len(container.ids)
        if line and count > MOST_IDS:
            yield line
            line, count = [], len(container.ids)
        line.append(container)
    if line:
        yield line


def log_allocated(containers: Sequence[Container]) -> None:
    """Log how many devices on how many GPUs the *containers* of a line got, and few IDs."""
    ids = [name for container in containers for name in container.ids]
    gpus = len({c.known[name].gpu for c in containers for name in c.ids if name in c.known})
    if len(containers) > 1:
        logger.info(
            "allocated devices to several containers",
            containers=len(containers),
            devices=len(ids),
            gpus=gpus,
            ids=ids,
        )
    elif len(ids) > MOST_IDS:
        logger.info("allocated devices to a container", devices=len(ids), gpus=gpus)
    else:
        logger.info("allocated devices to a container", devices=len(ids), gpus=gpus, ids=ids)


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
