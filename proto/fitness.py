"""Whether each device may be handed out, and if not, why: decided here, for all who tell of it.

The worker tells the kubelet, the exporter tells Prometheus and people, the cluster process tells
the Kubernetes API. What they say of one device at one moment must never differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from proto.messages import DeviceHealth, DeviceState, Gpu, NodeState, Reason, ReasonKind

SILENT = Reason(ReasonKind.MONITOR_SILENT)
NOT_FOUND = Reason(ReasonKind.NOT_FOUND)

WORST_LAST = (
    DeviceState.HEALTHY,
    DeviceState.SUSPECT,
    DeviceState.RECOVERING,
    DeviceState.UNHEALTHY,
    DeviceState.LOST,
)


@dataclass(frozen=True, slots=True)
class Fitness:
    """How every device of a node is."""

    devices: Mapping[str, DeviceHealth]
    """By UUID, as the monitor saw them last; a GPU that is handed out whole is as its instances."""
    blind: Reason | None
    """Why nothing is known of any device now; None: the devices are as the monitor says."""

    def reasons(self, uuid: str) -> tuple[Reason, ...]:
        """Return why a device must not be handed out; empty: it may be."""
        device = self.devices.get(uuid)
        if self.blind is None:
            return device.reasons if device else (NOT_FOUND,)
        # What was known may still help whoever reads it.
        known = device.reasons if device else ()
        return known if self.blind in known else (*known, self.blind)

    def state(self, uuid: str) -> DeviceState | None:
        """Return where a device is between well and gone; None: nothing is known of it."""
        device = self.devices.get(uuid)
        return device.state if device and not self.blind else None


def fitness(
    state: NodeState | None, *, unknown: Reason | None = None, silent: bool = False
) -> Fitness:
    """Return how the devices are by the monitor's newest *state*.

    That does not count while the monitor is *silent*, or after the supervisor has said why nothing
    is known: *unknown*.
    """
    devices = {device.uuid: device for device in state.health} if state else {}
    if state and state.whole_gpus:
        for gpu in state.inventory.gpus:
            if gpu.uuid in devices and gpu.instances:
                devices[gpu.uuid] = _whole(gpu, devices)
    return Fitness(devices, unknown or (SILENT if silent or state is None else None))


def _whole(gpu: Gpu, devices: Mapping[str, DeviceHealth]) -> DeviceHealth:
    """Return the health of a GPU together with its instances: who gets it gets them as well."""
    own = devices[gpu.uuid]
    instances = [devices[one.uuid] for one in gpu.instances if one.uuid in devices]
    worst = max((own, *instances), key=lambda device: WORST_LAST.index(device.state))
    reasons = {reason for device in (own, *instances) for reason in device.reasons}
    return msgspec.structs.replace(
        own, reasons=tuple(sorted(reasons)), state=worst.state, since=worst.since
    )


@dataclass(frozen=True, slots=True)
class LastWord:
    """The newest state that a process has heard of the monitor, and whether it still counts."""

    at: float
    """When it came; before the first: when the process began to listen."""
    state: NodeState | None = None
    unknown: Reason | None = None
    """Why it does not count until another monitor speaks."""

    def after(self, state: NodeState, now: float) -> "LastWord":
        """Return the last word once *state*, which is newer, has come."""
        same = self.state is not None and state.epoch == self.state.epoch
        return LastWord(now, state, self.unknown if same else None)

    def denied(self, reason: Reason) -> "LastWord":
        """Return the last word once the supervisor says that it does not count, for a *reason*."""
        return replace(self, unknown=reason)

    def silent(self, now: float, stale_after: float) -> bool:
        """Return whether it came more than *stale_after* seconds ago."""
        return now - self.at > stale_after

    def fitness(self, now: float, stale_after: float) -> Fitness:
        """Return how the devices are."""
        silent = self.silent(now, stale_after)
        return fitness(self.state, unknown=self.unknown, silent=silent)
