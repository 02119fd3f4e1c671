"""Decide whether each device may be allocated, and if not, why: in one place for all processes.

The worker reports it to the kubelet, the exporter to Prometheus and people, the cluster process to
the Kubernetes API. Their reports about a device must never contradict each other.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from msgspec.structs import replace

from proto.control import Unknown
from proto.messages import DeviceHealth, DeviceState, Gpu, MpsState, NodeState
from proto.mps import MpsDaemon, MpsShare, Phase
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


class Fitness(msgspec.Struct, frozen=True):
    """The health of every device of a node."""

    devices: Mapping[str, DeviceHealth]
    """By UUID, as the monitor last reported; a GPU advertised whole includes its instances."""
    blind: Reason | None
    """Why the health of all devices is unknown now; None: *devices* is current."""
    mps: Mapping[str, Reason] = msgspec.field(default_factory=dict)
    """By UUID: why the MPS daemon of a device does not let it be allocated."""

    def reasons(self, uuid: str) -> tuple[Reason, ...]:
        """Return why a device must not be allocated; empty: it may be allocated."""
        own = self._own_reasons(uuid)
        return (*own, self.mps[uuid]) if uuid in self.mps else own

    def _own_reasons(self, uuid: str) -> tuple[Reason, ...]:
        device = self.devices.get(uuid)
        if self.blind is None:
            return device.reasons if device else (NOT_FOUND,)
        # Keep the last known reasons: they may still help the reader.
        known = device.reasons if device else ()
        return known if self.blind in known else (*known, self.blind)

    def state(self, uuid: str) -> DeviceState | None:
        """Return the health state of a device; None: unknown."""
        device = self.devices.get(uuid)
        if device is None or self.blind:
            return None
        held_back = uuid in self.mps and WORST_LAST.index(device.state) < WORST_LAST.index(
            DeviceState.UNHEALTHY
        )
        return DeviceState.UNHEALTHY if held_back else device.state


def fitness(
    state: NodeState | None,
    *,
    unknown: Unknown | None = None,
    silent: bool = False,
    mps: Mapping[str, Reason] = MappingProxyType({}),
) -> Fitness:
    """Return the health of all devices from the monitor's newest *state*, and from *mps*.

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
    return Fitness(devices, blind, mps)


def _whole(gpu: Gpu, devices: Mapping[str, DeviceHealth]) -> DeviceHealth:
    """Return the health of a GPU and its instances as one: a pod gets them together."""
    own = devices[gpu.uuid]
    instances = [devices[mig.uuid] for mig in gpu.instances if mig.uuid in devices]
    worst = max((own, *instances), key=lambda device: WORST_LAST.index(device.state))
    reasons = {reason for device in (own, *instances) for reason in device.reasons}
    return msgspec.structs.replace(
        own, reasons=tuple(sorted(reasons)), state=worst.state, since=worst.since
    )


class LastWord(msgspec.Struct, frozen=True):
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

    def fitness(
        self, now: float, stale_after: float, mps: Mapping[str, Reason] = MappingProxyType({})
    ) -> Fitness:
        """Return the health of all devices at *now*; *mps* as for `fitness`."""
        silent = self.silent(now, stale_after)
        return fitness(self.state, unknown=self.unknown, silent=silent, mps=mps)


NO_WORD = "no word of its MPS daemon; is gpu-sharing-plugin mps running?"
OTHER_LIMITS = "its MPS daemon has other limits than the configuration here"


class LastMpsWord(msgspec.Struct, frozen=True):
    """The newest state of the MPS daemons that a process received, and when."""

    at: float
    """When the state arrived; before the first state: when the process subscribed."""
    state: MpsState | None = None

    def after(self, state: MpsState, now: float) -> "LastMpsWord":
        """Return the last word after *state* arrived.

        Its epoch does not count: the tree of the daemons may be started again, and counts anew.
        """
        return LastMpsWord(now, state)

    def silent(self, now: float, stale_after: float) -> bool:
        """Return whether no state arrived, or none for *stale_after* seconds."""
        return self.state is None or now - self.at > stale_after

    def reasons(
        self, wanted: Mapping[str, MpsShare], now: float, stale_after: float
    ) -> dict[str, Reason]:
        """Return why MPS does not let devices be allocated, by UUID.

        *wanted* are the devices that the plan shares by MPS. A device that it no longer shares so
        is held back too, as long as its daemon is left.
        """
        silent = self.silent(now, stale_after)
        daemons = {d.uuid: d for d in self.state.daemons} if self.state else {}
        found = {}
        for uuid in wanted.keys() | daemons.keys():
            detail = _held_back(daemons.get(uuid), wanted.get(uuid), silent=silent)
            if detail:
                found[uuid] = Reason(ReasonKind.MPS, detail)
        return found


def _held_back(daemon: MpsDaemon | None, share: MpsShare | None, *, silent: bool) -> str:
    """Return why a device must not be allocated; empty: MPS is no reason."""
    if share is None:  # without a word, nobody knows whether that daemon is left
        return "" if silent or daemon is None else daemon.detail or "its MPS daemon still runs"
    if silent or daemon is None:
        return NO_WORD
    if daemon.phase is Phase.READY:
        return _difference(daemon.share, share)
    return f"{daemon.phase}: {daemon.detail}" if daemon.detail else str(daemon.phase)


def _difference(has: MpsShare, wanted: MpsShare) -> str:
    """Return what the two services have different; empty: nothing."""
    if has.root != wanted.root:
        return f'its MPS daemon is in "{has.root}", but --mps-root is "{wanted.root}" here'
    return "" if has == wanted else OTHER_LIMITS
