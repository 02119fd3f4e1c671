"""How kubelets differ in the way they treat device plugins, from 1.20 until today.

Read in the kubelet's sources, pkg/kubelet/cm/devicemanager, of the versions named.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Habits:
    """What one version does."""

    answers_first: bool
    """Answers a registration, and only then dials the plugin; if that fails nobody is told."""

    asks_options: bool
    """Calls GetDevicePluginOptions before it answers, and goes by that, not by the request."""

    knows_by_name: bool
    """When a stream ends, whichever plugin has the resource's name by then is disconnected."""

    removes_files: bool
    """Removes plain files from its folder at the start as well, not only sockets."""

    reads_cdi: bool
    """Knows the field cdi_devices of an answer to Allocate."""


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
"""No version closes the stream of an earlier registration when the resource is registered again.

That a new plugin is disconnected when the old one's stream ends was mended in 2026
(kubernetes/kubernetes#135437), so most nodes still do it.
"""

NEWEST = VERSIONS["1.32"]
