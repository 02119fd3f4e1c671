"""The processes, the configuration and the Xids in the JSON of /status.

Fields may be added, but never renamed or removed.
"""

from msgspec import Struct


class ProcessStatus(Struct, frozen=True):
    """A child process of the supervisor."""

    name: str
    """`monitor`, `exporter`, `cluster`, or `worker` and the name of its resource."""
    state: str
    """A child state of ARCHITECTURE.md; `running` in normal operation."""
    restarts: int
    """How often it was restarted."""
    pid: int | None
    """Null while there is no process."""


class ConfigurationStatus(Struct, frozen=True):
    """The configuration in use."""

    hash: str | None
    """A hash that changes with the settings."""
    loaded: float | None
    """When the settings were loaded, as unix time."""
    problem: str | None
    """Why the newest settings were refused; null: they are in use."""


class XidSeen(Struct, frozen=True):
    """An Xid, harmless or not, that was reported since the health monitor started."""

    uuid: str | None
    """The UUID of the GPU; null: the driver named no GPU."""
    xid: int
    """The Xid's number."""
    name: str
    """Its name in NVIDIA's catalogue."""
    count: int
    """How often the driver reported it."""
    last: float | None
    """When the driver reported it last, as unix time."""
