"""Keep and log the grey failures of all GPUs, and tell which of them make a GPU Unhealthy."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from loguru import logger

from health import grey
from health.grey import GreySample, GreyState, Track
from proto.grey import GreyFailure, GreySettings
from proto.messages import Inventory
from proto.reasons import Reason, ReasonKind


class GreyWatch:
    """The grey failures that this monitor has seen; a new monitor begins without any."""

    def __init__(self, settings: GreySettings) -> None:
        self._settings = settings
        self._states: dict[str, GreyState] = {}
        self._missing = Track()
        self._probed: dict[str, str] = {}
        """Why the operator's probe failed, by UUID."""

    def take(self, uuid: str, sample: GreySample) -> bool:
        """Take a sample of a GPU into account; return whether its failures changed."""
        before = self._states.get(uuid, GreyState())
        after = grey.after(before, sample, self._settings.after)
        self._states[uuid] = after
        self._log(uuid, before.failures, after.failures)
        return before.failures != after.failures

    def compare(self, on_bus: frozenset[str], inventory: Inventory, now: float) -> None:
        """Compare the GPUs *on_bus* with those of the driver."""
        before = self._missing
        evidence = grey.missing(on_bus, inventory)
        self._missing = grey.after_evidence(before, evidence, now, self._settings.after)
        self._log("", _of(before), _of(self._missing))

    def forget(self, uuids: Iterable[str]) -> None:
        """Forget the failures of devices, for an operator or after a reset."""
        for uuid in uuids:
            self._probed.pop(uuid, None)
            if state := self._states.pop(uuid, None):
                self._log(uuid, state.failures, ())

    def probed(self, failed: Mapping[str, str]) -> None:
        """Make these GPUs Unhealthy whose newest probe *failed*, and no others."""
        self._probed = dict(failed)

    def failures(self, inventory: Inventory) -> tuple[GreyFailure, ...]:
        """Return the failures of all GPUs; a missing GPU is a failure of each one that is there."""
        found = (
            GreyFailure(gpu.uuid, reason)
            for gpu in inventory.gpus
            for reason in (*self._states.get(gpu.uuid, GreyState()).failures, *_of(self._missing))
        )
        return tuple(sorted(found))

    def unhealthy(self, inventory: Inventory) -> dict[str, tuple[Reason, ...]]:
        """Return the failures that make devices Unhealthy, by UUID; an instance has its GPU's."""
        found = defaultdict[str, tuple[Reason, ...]](tuple)
        instances = {gpu.uuid: gpu.instances for gpu in inventory.gpus}
        for failure in self.failures(inventory):
            if failure.reason.kind in self._settings.unhealthy:
                for uuid in (failure.uuid, *(i.uuid for i in instances[failure.uuid])):
                    found[uuid] += (failure.reason,)
        for uuid in self._probed.keys() & instances.keys():
            for device in (uuid, *(i.uuid for i in instances[uuid])):
                found[device] += (Reason(ReasonKind.PROBE, self._probed[uuid]),)
        return dict(found)

    def _log(self, uuid: str, before: Iterable[Reason], after: Iterable[Reason]) -> None:
        before, after = set(before), set(after)
        for reason in sorted(before - after):
            logger.info("a grey failure has ended", uuid=uuid, reason=str(reason))
        for reason in sorted(after - before):
            logger.warning(
                "a GPU works, but has a grey failure",
                uuid=uuid,
                reason=str(reason),
                unhealthy=reason.kind in self._settings.unhealthy,
            )


def _of(track: Track) -> tuple[Reason, ...]:
    return (track.failure,) if track.failure else ()
