"""Which devices are not handed out though they have no fault: others use or hold them.

The exporter finds them, since the kubelet tells it who holds what. Its word is only valid for a
while, so an exporter that has died holds no device back.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from loguru import logger

from proto.control import Withhold
from proto.reasons import Reason, ReasonKind
from proto.texts import shortened

VALID = 30.0
"""Seconds after which an order is forgotten; the exporter repeats it more often."""


class WithheldDevices(msgspec.Struct, frozen=True):
    """The newest order, and when it arrived by this process's clock."""

    order: Withhold = msgspec.field(default_factory=Withhold)
    at: float = 0.0

    def reasons(self, now: float) -> dict[str, Reason]:
        """Return the reasons to add at *now*, by UUID."""
        if now - self.at >= VALID:
            return {}
        # A device that is held is not free: so the second reason says more.
        return {
            **_reasons(ReasonKind.OCCUPIED, self.order.occupied),
            **_reasons(ReasonKind.HELD_THROUGH_DRA, self.order.dra),
        }


def _reasons(kind: ReasonKind, details: Mapping[str, str]) -> dict[str, Reason]:
    return {uuid: Reason(kind, shortened(detail)) for uuid, detail in details.items()}


def log_changes(
    before: Mapping[str, Reason], after: Mapping[str, Reason], known: Iterable[str]
) -> None:
    """Log which of the *known* devices began or ceased to be withheld."""
    known = tuple(known)
    for uuid in _only(known, before, after):
        if before[uuid].kind is ReasonKind.OCCUPIED:
            logger.info("device is no longer occupied", uuid=uuid)
        else:
            logger.info("device is no longer held through DRA", uuid=uuid)
    for uuid in _only(known, after, before):
        if after[uuid].kind is ReasonKind.OCCUPIED:
            logger.warning(
                "device is occupied: it is in use, but no container holds it",
                uuid=uuid,
                detail=after[uuid].detail,
            )
        else:
            logger.warning(
                "device is withheld: a container holds it through DRA",
                uuid=uuid,
                detail=after[uuid].detail,
            )


def _only(
    known: Iterable[str], here: Mapping[str, Reason], there: Mapping[str, Reason]
) -> Iterator[str]:
    """Yield the *known* devices that have a reason *here*, and none of this kind *there*."""
    for uuid in known:
        if uuid in here and not (uuid in there and here[uuid].kind is there[uuid].kind):
            yield uuid
