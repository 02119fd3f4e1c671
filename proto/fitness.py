"""Decide whether each device may be allocated, and if not, why: in one place for all processes.

The worker reports it to the kubelet, the exporter to Prometheus and people, the cluster process to
the Kubernetes API. Their reports about a device must never contradict each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from proto.control import Unknown
from proto.messages import DeviceHealth, DeviceState, Gpu, NodeState
from proto.reasons import Reason, ReasonKind

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
    """The health of every device of a node."""

    devices: Mapping[str, DeviceHealth]
    """By UUID, as the monitor last reported; a GPU advertised whole includes its instances."""
    blind: Reason | None
    """Why the health of all devices is unknown now; None: *devices* is current."""

    def reasons(self, uuid: str) -> tuple[Reason, ...]:
        """Return why a device must not be allocated; empty: it may be allocated."""
        device = self.devices.get(uuid)
        if self.blind is None:
            return device.reasons if device else (NOT_FOUND,)
        # Keep the last known reasons: they may still help the reader.
        known = device.reasons if device else ()
        return known if self.blind in known else (*known, self.blind)

    def state(self, uuid: str) -> DeviceState | None:
        """Return the health state of a device; None: unknown."""
        device = self.devices.get(uuid)
        return device.state if device and not self.blind else None


def fitness(
    state: NodeState | None, *, unknown: Unknown | None = None, silent: bool = False
) -> Fitness:
    """Return the health of all devices from the monitor's newest *state*.

    The state does not count while the monitor is *silent*, or while the supervisor has declared
    the health of devices unknown, unless a later monitor than that has published it.
    """
    devices = {device.uuid: device for device in state.health} if state else {}
    if state and state.whole_gpus:
        for gpu in state.inventory.gpus:
            if gpu.uuid in devices and gpu.instances:
                devices[gpu.uuid] = _whole(gpu, devices)
    blind = SILENT if silent or state is None else None
    if unknown and (state is None or state.epoch <= unknown.epoch):
        blind = unknown.reason
    return Fitness(devices, blind)


def _whole(gpu: Gpu, devices: Mapping[str, DeviceHealth]) -> DeviceHealth:
    """Return the health of a GPU and its instances as one: a pod gets them together."""
    own = devices[gpu.uuid]
    instances = [devices[mig.uuid] for mig in gpu.instances if mig.uuid in devices]
    worst = max((own, *instances), key=lambda device: WORST_LAST.index(device.state))
    reasons = {reason for device in (own, *instances) for reason in device.reasons}
    return msgspec.structs.replace(
        own, reasons=tuple(sorted(reasons)), state=worst.state, since=worst.since
    )


@dataclass(frozen=True, slots=True)
class LastWord:
    """The newest state that a process received from the monitor, and whether it still counts."""

    at: float
    """When the state arrived; before the first state: when the process subscribed."""
    state: NodeState | None = None
    unknown: Unknown | None = None
    """The supervisor's last order; states of a later monitor than it speaks of count."""

    def after(self, state: NodeState, now: float) -> "LastWord":
        """Return the last word after the newer *state* arrived."""
        return replace(self, at=now, state=state)

    def denied(self, order: Unknown) -> "LastWord":
        """Return the last word after the supervisor's *order*, which may come late."""
        return replace(self, unknown=order)

    def silent(self, now: float, stale_after: float) -> bool:
        """Return whether the state is older than *stale_after* seconds."""
        return now - self.at > stale_after

    def fitness(self, now: float, stale_after: float) -> Fitness:
        """Return the health of all devices at *now*."""
        silent = self.silent(now, stale_after)
        return fitness(self.state, unknown=self.unknown, silent=silent)
