"""What to do about an Unhealthy device, as one of a few words for programs that repair nodes."""

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from health import recovery_actions
from health.advice import FAULTS, xid_of
from health.xid_catalogue import Action
from proto.messages import DeviceState
from proto.reasons import Reason, ReasonKind


class Remedy(enum.StrEnum):
    """What to do, from the weakest to the strongest. Programs use these words, so they stay."""

    WAIT = "wait"
    """Nothing: it heals by itself, or the plugin repairs it."""
    RESUME = "resume"
    """End the maintenance."""
    CHECK_NODE = "check-node"
    """Find the cause on the node: the driver, its settings, or what else uses the GPU."""
    CHECK_HARDWARE = "check-hardware"
    """Check cooling, power, slot and cables."""
    RESET_GPU = "reset-gpu"
    """Stop the pods that use the GPU, then reset it."""
    RESET_FABRIC = "reset-fabric"
    """Stop all pods that use GPUs, then reset all GPUs of the NVLink fabric."""
    REBOOT_NODE = "reboot-node"
    """Drain the node, and reboot it."""
    REPLACE_GPU = "replace-gpu"
    """Plan to replace the card."""
    CONTACT_SUPPORT = "contact-support"
    """Contact the support of NVIDIA or of the server's vendor."""


REMEDIES: Mapping[ReasonKind, Remedy] = MappingProxyType(
    {
        ReasonKind.XID: Remedy.RESET_GPU,
        ReasonKind.GPU_LOST: Remedy.REBOOT_NODE,
        ReasonKind.UNWATCHED: Remedy.CHECK_NODE,
        ReasonKind.UNREADABLE: Remedy.CHECK_NODE,
        ReasonKind.RECOVERY_ACTION: Remedy.RESET_GPU,
        ReasonKind.ECC: Remedy.RESET_GPU,
        ReasonKind.ROW_REMAP: Remedy.RESET_GPU,
        ReasonKind.NVLINK_DOWN: Remedy.RESET_FABRIC,
        ReasonKind.FABRIC: Remedy.RESET_FABRIC,
        ReasonKind.GPU_MISSING: Remedy.REBOOT_NODE,
        ReasonKind.PCIE: Remedy.REBOOT_NODE,
        ReasonKind.SLOWDOWN: Remedy.CHECK_HARDWARE,
        ReasonKind.CLOCKS: Remedy.RESET_GPU,
        ReasonKind.ECC_CORRECTED: Remedy.REPLACE_GPU,
        ReasonKind.SPARE_ROWS: Remedy.REPLACE_GPU,
        ReasonKind.PERSISTENCE: Remedy.CHECK_NODE,
        ReasonKind.THERMAL: Remedy.CHECK_HARDWARE,
        ReasonKind.DRIVER_HANG: Remedy.REBOOT_NODE,
        ReasonKind.NO_ACCESS: Remedy.WAIT,
        ReasonKind.CDI_SPEC: Remedy.CHECK_NODE,
        ReasonKind.NO_DRIVER: Remedy.CHECK_NODE,
        ReasonKind.MAINTENANCE: Remedy.RESUME,
        ReasonKind.MONITOR_SILENT: Remedy.WAIT,
        ReasonKind.NOT_FOUND: Remedy.CHECK_NODE,
        ReasonKind.OCCUPIED: Remedy.CHECK_NODE,
        ReasonKind.HELD_THROUGH_DRA: Remedy.WAIT,
        ReasonKind.MPS: Remedy.WAIT,
    }
)
"""The remedy for each kind of reason; no kind is missing."""

OF_XIDS = {
    Action.IGNORE: Remedy.WAIT,
    Action.RESTART_APP: Remedy.WAIT,
    Action.RESET_GPU: Remedy.RESET_GPU,
    Action.REBOOT: Remedy.REBOOT_NODE,
    Action.CONTACT_SUPPORT: Remedy.CONTACT_SUPPORT,
}
"""By what NVIDIA's catalogue recommends."""

REBOOTS = {recovery_actions.ACTIONS[number].words for number in (2, 6, 7)}
"""Recovery actions of the driver that a reset of the GPU does not do."""

STRENGTH = {remedy: place for place, remedy in enumerate(Remedy)}


def remedy(reasons: Iterable[Reason], state: DeviceState | None = None) -> Remedy:
    """Return the strongest remedy for the *reasons* of a device in this *state*."""
    found = (_of(reason, state) for reason in reasons)
    return max(found, key=STRENGTH.__getitem__, default=Remedy.WAIT)


def _of(reason: Reason, state: DeviceState | None) -> Remedy:
    if state is DeviceState.RECOVERING and reason.kind in FAULTS:
        return Remedy.WAIT
    if xid := xid_of(reason):
        return OF_XIDS[xid.action]
    if reason.kind is ReasonKind.RECOVERY_ACTION and reason.detail in REBOOTS:
        return Remedy.REBOOT_NODE
    return REMEDIES[reason.kind]
