"""What the prober process is told and reports: the operator's own command that tests GPUs."""

import msgspec


class ProbeSettings(msgspec.Struct, frozen=True):
    """The settings of the prober, fixed at its start."""

    health_bus: str
    command: tuple[str, ...]
    """The program, as an absolute path, and its arguments."""
    interval: float
    """Seconds between two probes of a GPU."""
    timeout: float
    """Seconds after which a probe is killed, and counts as failed."""
    stale_after: float
    """Seconds without a message from the monitor after which no GPU is probed."""


class Probed(msgspec.Struct, frozen=True, tag=True):
    """Report of the prober, and order to the monitor: on these GPUs the newest probe failed.

    A new prober gets it too, and goes on from there.

    The details are by UUID. It is the complete state: GPUs that are not named have passed, or have
    not been probed.
    """

    failed: dict[str, str]
