"""Which free devices are not handed out, because something uses them.

The exporter finds them, since the kubelet tells it which devices are free. Its word is only valid
for a while, so an exporter that has died holds no device back.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from loguru import logger

from proto.reasons import Reason, ReasonKind
from proto.texts import shortened

VALID = 30.0
"""Seconds after which an order is forgotten; the exporter repeats it more often."""


@dataclass(frozen=True, slots=True)
class OccupiedDevices:
    """The newest order, and when it arrived by this process's clock."""

    details: Mapping[str, str] = field(default_factory=dict)
    at: float = 0.0

    def reasons(self, now: float) -> dict[str, Reason]:
        """Return the reasons to add at *now*, by UUID."""
        if now - self.at >= VALID:
            return {}
        return {
            uuid: Reason(ReasonKind.OCCUPIED, shortened(detail))
            for uuid, detail in self.details.items()
        }


def log_changes(
    before: Mapping[str, Reason], after: Mapping[str, Reason], known: Iterable[str]
) -> None:
    """Log which of the *known* devices began or ceased to be occupied."""
    for uuid in _only(known, after, before):
        logger.warning(
            "device is occupied: it is in use, but no container holds it",
            uuid=uuid,
            detail=after[uuid].detail,
        )
    for uuid in _only(known, before, after):
        logger.info("device is no longer occupied", uuid=uuid)


def _only(
    known: Iterable[str], here: Mapping[str, Reason], there: Mapping[str, Reason]
) -> Iterator[str]:
    return (uuid for uuid in known if uuid in here and uuid not in there)
