"""What each Unhealthy reason is called for operators, and what to do about it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from proto.reasons import ReasonKind


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
            "the driver cannot reach the GPU",
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
            "Drain the GPU and perform the recovery action.",
        ),
        ReasonKind.ECC: Advice("uncorrectable memory errors", "Drain the GPU and reset it."),
        ReasonKind.ROW_REMAP: Advice(
            "memory row remapping",
            "Drain the GPU and reset it. If remapping still fails after that, replace the card.",
        ),
        ReasonKind.NVLINK_DOWN: Advice(
            "NVLinks are down",
            "Reset all GPUs of the NVLink fabric. "
            "If links stay down, check Fabric Manager, bridges and cables.",
        ),
        ReasonKind.THERMAL: Advice("at its shutdown temperature", "Check the cooling."),
        ReasonKind.DRIVER_HANG: Advice(
            "a driver call does not return",
            "Check the kernel log for driver errors. If the call keeps hanging, reboot the node.",
        ),
        ReasonKind.NO_ACCESS: Advice(
            "the plugin lost access to the GPU device nodes",
            "Restart the plugin's container. If access is lost again, "
            "find what on the node removes it (systemd, SELinux).",
        ),
        ReasonKind.NO_DRIVER: Advice(
            "the driver cannot be used",
            "Check that the driver is loaded and that its libraries have the same version. "
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
        ReasonKind.MAINTENANCE: Advice(
            "under maintenance", "Run gpu-sharing-plugin resume when the maintenance is done."
        ),
    }
)
"""The advice for each kind of reason; no kind is missing."""
