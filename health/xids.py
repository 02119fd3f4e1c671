"""Which Xids make a GPU unfit for new pods."""

HARMLESS = {
    13: "graphics engine exception, caused by the application",
    31: "GPU memory page fault, caused by the application",
    43: "GPU stopped processing, caused by the application",
    45: "preemptive cleanup after an earlier error",
    68: "NVDEC0 exception, caused by the application",
    109: "context switch timeout, caused by the application",
}
"""Xids that end an application and leave the GPU fit; NVIDIA's device plugin ignores the same."""


def is_fatal(xid: int) -> bool:
    """Return whether *xid* makes the GPU unhealthy: all do that are not known to be harmless."""
    return xid not in HARMLESS
