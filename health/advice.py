"""What each reason is called on a page, and what to do about it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from proto.messages import ReasonKind


class Advice(NamedTuple):
    """How a reason is told to an operator; the detail follows behind the words."""

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
            "the driver does not reach it",
            "Reboot the node; if it comes again, have the card and its slot looked at.",
        ),
        ReasonKind.UNWATCHED: Advice(
            "its events cannot be waited for",
            "Look at the driver's log; the monitor tries again by itself.",
        ),
        ReasonKind.UNREADABLE: Advice(
            "looks at it fail",
            "Look up the driver's error, and the driver's log for more.",
        ),
        ReasonKind.RECOVERY_ACTION: Advice(
            "the driver asks for a recovery", "Drain the GPU and do what the driver asks for."
        ),
        ReasonKind.ECC: Advice("memory errors", "Drain the GPU and reset it."),
        ReasonKind.ROW_REMAP: Advice(
            "memory row remapping",
            "Drain the GPU and reset it; if it still says failed then, replace the card.",
        ),
        ReasonKind.NVLINK_DOWN: Advice(
            "NVLinks are down",
            "Reset all GPUs of the fabric, then look at the fabric manager, bridges and cables.",
        ),
        ReasonKind.THERMAL: Advice("so hot that it shuts down", "Look at the cooling."),
        ReasonKind.DRIVER_HANG: Advice(
            "the driver does not return from a call",
            "Look at the driver's log; reboot the node if it stays.",
        ),
        ReasonKind.NO_ACCESS: Advice(
            "this service may not open the GPUs' device nodes any more",
            "Start the plugin's container again; if it comes again, "
            "find what on the node takes the access away (systemd, SELinux).",
        ),
        ReasonKind.NO_DRIVER: Advice(
            "the driver cannot be used",
            "Look whether the driver is loaded and its libraries are of the same version; "
            "the monitor tries again by itself.",
        ),
        ReasonKind.MONITOR_SILENT: Advice(
            "no word of the health monitor",
            "Look at the monitor's log; it is started again by itself.",
        ),
        ReasonKind.NOT_FOUND: Advice(
            "the monitor does not see it",
            "Look whether it is still in the node and can be enumerated; the log says why not.",
        ),
        ReasonKind.MAINTENANCE: Advice(
            "under maintenance", "Run gpu-sharing-plugin resume when the maintenance is done."
        ),
    }
)
"""By kind; every kind has its own."""
