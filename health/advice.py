"""What each Unhealthy reason is called for operators, and what to do about it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from health import recovery_actions
from health.xid_catalogue import Action, Xid, lookup
from proto.messages import DeviceState
from proto.reasons import Reason, ReasonKind


class Advice(NamedTuple):
    """The text for one reason; the reason's detail is appended to the words."""

    words: str
    what_to_do: str


ADVICE: Mapping[ReasonKind, Advice] = MappingProxyType(
    {
        ReasonKind.XID: Advice(
            "fatal Xid",
            "Do what NVIDIA's catalogue says for this Xid: "
            "reset the GPU, reboot the node, or contact support.",
        ),
        ReasonKind.GPU_LOST: Advice(
            "the driver lost the GPU",
            "Reboot the node. If the GPU is lost again, check the card, its slot and its power.",
        ),
        ReasonKind.UNWATCHED: Advice(
            "the monitor cannot receive the GPU's Xid events",
            "Check the kernel log for driver errors. The monitor retries by itself.",
        ),
        ReasonKind.UNREADABLE: Advice(
            "the driver returns an error for the GPU",
            "Look up the NVML error, and check the kernel log for driver errors.",
        ),
        ReasonKind.RECOVERY_ACTION: Advice(
            "the driver asks for a recovery action",
            "Stop the pods that use the GPU, then do what the driver asks for.",
        ),
        ReasonKind.ECC: Advice(
            "uncorrectable memory errors", "Stop the pods that use the GPU, then reset the GPU."
        ),
        ReasonKind.ROW_REMAP: Advice(
            "memory row remapping",
            "Stop the pods that use the GPU, then reset the GPU. "
            "If remapping fails again, replace the card.",
        ),
        ReasonKind.NVLINK_DOWN: Advice(
            "NVLinks are down",
            "Reset all GPUs of the NVLink fabric. "
            "If links stay down, check Fabric Manager, bridges and cables.",
        ),
        ReasonKind.FABRIC: Advice(
            "its NVLink fabric has a fault",
            "Look up the SXid, if there is one, in NVIDIA's Fabric Manager User Guide, and check "
            "the log of Fabric Manager. Stop the pods that use GPUs of the NVLink fabric, then "
            "reset all of them together with the switches.",
        ),
        ReasonKind.GPU_MISSING: Advice(
            "the driver shows fewer GPUs than the PCI bus",
            "Check the kernel log for why the driver cannot use the GPU at this PCI address. "
            "Reboot the node; if the GPU is missing again, check the card and its power.",
        ),
        ReasonKind.PCIE: Advice(
            "its PCIe link is narrower or slower than card and slot allow",
            "Stop the pods that use the GPU, and reboot the node. If the link is degraded again, "
            "reseat the card, and check the slot, risers and cables.",
        ),
        ReasonKind.SLOWDOWN: Advice(
            "the hardware slows the GPU down",
            "Check the cooling, the power supplies and the power cables of the GPU.",
        ),
        ReasonKind.CLOCKS: Advice(
            "its clocks stay low while it is busy",
            "Compare nvidia-smi -q -d CLOCK,PERFORMANCE with a GPU that is well. If nobody has "
            "locked the clocks, stop the pods that use the GPU, then reset the GPU.",
        ),
        ReasonKind.ECC_CORRECTED: Advice(
            "it corrects many memory errors",
            "Plan to replace the card: a memory cell or a channel is about to fail.",
        ),
        ReasonKind.SPARE_ROWS: Advice(
            "memory banks have no spare row left",
            "Plan to replace the card: the next bad row of such a bank cannot be remapped.",
        ),
        ReasonKind.PERSISTENCE: Advice(
            "persistence mode is off",
            "Start nvidia-persistenced again, or run nvidia-smi -pm 1.",
        ),
        ReasonKind.CC_NOT_READY: Advice(
            "confidential computing is on, and the GPUs do not accept work yet",
            "Attest the GPUs, then run nvidia-smi conf-compute -srs 1. The device becomes Healthy "
            "by itself.",
        ),
        ReasonKind.LICENCE: Advice(
            "the virtual GPU has no licence",
            "Check the log of the service nvidia-gridd, its client token, and the way to the "
            "license server. The device becomes Healthy by itself.",
        ),
        ReasonKind.PASSTHROUGH: Advice(
            "the kernel has given the GPU to another driver, for virtual machines",
            "Nothing, if this is intended. Otherwise bind the GPU to the driver nvidia again: the "
            "plugin finds it at its next rescan.",
        ),
        ReasonKind.PROBE: Advice(
            "the probe command failed on the GPU",
            "Run the command of health.probe by hand on this GPU, and see what it says. The GPU "
            "becomes Healthy when a later probe passes, or with gpu-sharing-plugin mark-healthy.",
        ),
        ReasonKind.THERMAL: Advice("at its shutdown temperature", "Check the cooling."),
        ReasonKind.DRIVER_HANG: Advice(
            "a driver call does not return",
            "Check the kernel log for driver errors. If the call does not return, stop the pods "
            "that use the GPU, then reset the GPU. If that fails, reboot the node.",
        ),
        ReasonKind.NO_ACCESS: Advice(
            "the plugin lost access to the GPU device nodes",
            "Wait for health.exitWithoutAccess: then the plugin exits, and a new container has "
            "access again. If not, find what on the node removes the access (systemd, SELinux). If "
            "/dev/dxg does not exist (WSL2), restart WSL.",
        ),
        ReasonKind.NO_DRIVER: Advice(
            "the driver cannot be used",
            "Check that the driver is loaded and that its libraries have the same version. "
            "The monitor retries by itself.",
        ),
        ReasonKind.CDI_SPEC: Advice(
            "the device is missing in the CDI specification",
            "Run nvidia-ctk cdi generate in the plugin's container, and repair what it reports. "
            "The monitor retries by itself.",
        ),
        ReasonKind.MONITOR_SILENT: Advice(
            "the health monitor is silent",
            "Check the plugin's log for the monitor. The plugin restarts the monitor by itself.",
        ),
        ReasonKind.NOT_FOUND: Advice(
            "the monitor does not find the device",
            "Check that the device is still in the node. "
            "Check the plugin's log for enumeration errors.",
        ),
        ReasonKind.OCCUPIED: Advice(
            "no container holds the device, but it is in use",
            "End the processes that use it (nvidia-smi shows them), or reset the GPU. "
            "The device becomes Healthy by itself when it is clean.",
        ),
        ReasonKind.HELD_THROUGH_DRA: Advice(
            "a container holds the device through DRA",
            "Serve the GPUs of this node either by this plugin or by the DRA driver, not by both. "
            "The device becomes Healthy by itself when its claim is released.",
        ),
        ReasonKind.MPS: Advice(
            "its MPS daemon is not ready",
            "Look at the log of gpu-sharing-plugin mps, which keeps the daemons. After a fault, "
            "end the clients that are left. The device becomes Healthy by itself.",
        ),
        ReasonKind.MAINTENANCE: Advice(
            "under maintenance", "Run gpu-sharing-plugin resume when the maintenance is done."
        ),
    }
)
"""The advice for each kind of reason; no kind is missing."""

ACTIONS = {
    Action.IGNORE: "Your settings make this Xid fatal; NVIDIA's catalogue recommends no action.",
    Action.RESTART_APP: "Restart the application, as NVIDIA's catalogue recommends; "
    "your settings make this Xid fatal.",
    Action.RESET_GPU: "Stop the pods that use the GPU, then reset the GPU.",
    Action.REBOOT: "Drain the node and reboot it.",
    Action.CONTACT_SUPPORT: "Contact the support of NVIDIA or of the server's vendor.",
}
"""What to do after a fatal Xid, by the action that NVIDIA's catalogue recommends."""


SXID = "SXid"
"""How the detail of the reason `fabric` begins after an error of an NVSwitch."""

SWITCH = Advice(
    "an NVSwitch has a fatal error",
    "Look up the SXid in NVIDIA's Fabric Manager User Guide. Stop the pods that use GPUs of the "
    "NVLink fabric, then reset all of them together with the switches.",
)

DEGRADED = "degraded"
"""How the detail of the reason `fabric` begins for a grey failure."""

WORSE = Advice(
    "the NVLink fabric works, but worse than it should",
    "Check the log of Fabric Manager, and the links, bridges and cables of the fabric. If that is "
    "not the cause, stop the pods that use GPUs of the fabric, then reset all of them together.",
)

UNJOINED = Advice(
    "the GPU has no NVLink fabric, so CUDA fails with error 802",
    "Check that Fabric Manager runs, on the node or on the NVSwitch tray, and look at its log. The "
    "device becomes Healthy by itself.",
)
"""The text for the reason `fabric` of a GPU that has not joined its fabric."""

DUE = {action.words: action.what_to_do for action in recovery_actions.ACTIONS.values()}
"""What to do for the reason `recovery-action`, by its detail."""


def advise(reason: Reason) -> Advice:
    """Return the words and the advice for a *reason*.

    The advice for an Xid is what the catalogue recommends; for a recovery action it is the action;
    for a fabric it depends on the detail.
    """
    advice, xid = ADVICE[reason.kind], xid_of(reason)
    if reason.kind is ReasonKind.FABRIC and reason.detail:
        if reason.detail.startswith(DEGRADED):
            return WORSE
        return SWITCH if reason.detail.startswith(SXID) else UNJOINED
    if reason.kind is ReasonKind.RECOVERY_ACTION:
        return advice._replace(what_to_do=DUE.get(reason.detail, advice.what_to_do))
    return advice._replace(what_to_do=ACTIONS[xid.action]) if xid else advice


FAULTS = {ReasonKind.XID, ReasonKind.GPU_LOST}
"""Reasons that a recovering device keeps although the fault is proven to be gone."""

WAIT = "Wait: the fault is gone, and the device becomes Healthy after its quiet period."


def explain(reason: Reason, state: DeviceState | None = None) -> Advice:
    """Return the whole text for a *reason* of a device in this *state*, and what to do now.

    Status and Events say the same.
    """
    words, what_to_do = advise(reason)
    text = f"{words}: {reason.detail}" if reason.detail else words
    if xid := xid_of(reason):
        text = f"{text}, {xid.name}"
    if state is DeviceState.RECOVERING and reason.kind in FAULTS:
        return Advice(f"earlier fault: {text}", WAIT)
    return Advice(text, what_to_do)


def xid_of(reason: Reason) -> Xid | None:
    """Return the Xid that a *reason* names, if it names one."""
    named = reason.kind is ReasonKind.XID and reason.detail.isdecimal()
    return lookup(int(reason.detail)) if named else None
