"""How kubelet versions since 1.20 differ in their treatment of device plugins.

Source: the kubelet's code in pkg/kubelet/cm/devicemanager of the named versions.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Habits:
    """The behaviour of one kubelet version."""

    answers_first: bool
    """Answers a registration before it dials the plugin; the plugin never hears of a failure."""

    asks_options: bool
    """Uses the options from GetDevicePluginOptions, not those in the registration request."""

    knows_by_name: bool
    """When a stream ends, disconnects the plugin that now has its resource, even a newer one."""

    removes_files: bool
    """Removes regular files from its folder at start, not only sockets."""

    reads_cdi: bool
    """Reads the field cdi_devices of an Allocate response."""


VERSIONS = {
    "1.20": Habits(
        answers_first=True,
        asks_options=False,
        knows_by_name=False,
        removes_files=True,
        reads_cdi=False,
    ),
    "1.26": Habits(
        answers_first=False,
        asks_options=True,
        knows_by_name=True,
        removes_files=True,
        reads_cdi=False,
    ),
    "1.32": Habits(
        answers_first=False,
        asks_options=True,
        knows_by_name=True,
        removes_files=False,
        reads_cdi=True,
    ),
}
"""No version closes the stream of an earlier registration when a resource registers again.

The disconnection of a new plugin at the end of the old stream was fixed in 2026
(kubernetes/kubernetes#135437), so most nodes still have it.
"""

NEWEST = VERSIONS["1.32"]
