"""Logs which advertised devices are held through DRA, for those who read no metrics."""

from collections.abc import Mapping

from loguru import logger

MOST = 8
"""Most devices that one change logs by name."""


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Log the devices that began to be held, each with its holder, and those that ceased."""
    for uuid in sorted(after.keys() - before.keys())[:MOST]:
        logger.warning(
            "an advertised device is also held through DRA: two containers may get it",
            uuid=uuid,
            holder=after[uuid],
        )
    for uuid in sorted(before.keys() - after.keys())[:MOST]:
        logger.info("an advertised device is no longer held through DRA", uuid=uuid)
