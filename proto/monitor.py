"""The settings that the supervisor passes to the health monitor."""

import enum

import msgspec

from proto.grey import GreySettings
from proto.paths import Paths


class Discovery(enum.StrEnum):
    """How to find the GPUs."""

    AUTO = "auto"
    """By what there is on the node."""
    NVML = "nvml"
    """With NVML only: a node without it has no GPUs."""
    TEGRA = "tegra"
    """The node is a Tegra, though its files may not be visible here; with NVML where it answers."""


class RecoveryMode(enum.StrEnum):
    """When a device with a fault becomes healthy again."""

    PROOF = "proof"
    """Once the fault is proven gone and the quiet period is over."""
    NEVER = "never"
    """Only after a reboot of the node or the command `mark-healthy`."""


class OccupiedRule(enum.StrEnum):
    """What to do with a device that is in use though no container holds it."""

    REPORT = "report"
    """Show it in metrics and status, and hand it out all the same."""
    UNHEALTHY = "unhealthy"
    """Make it Unhealthy until it is clean."""


class DraRule(enum.StrEnum):
    """What to do with a device that a container holds through DRA."""

    REPORT = "report"
    """Show it in metrics and status, and hand it out all the same."""
    WITHHOLD = "withhold"
    """Make it Unhealthy until no container holds it through DRA."""


class LicenceRule(enum.StrEnum):
    """What to do with a virtual GPU that has no licence."""

    REPORT = "report"
    """Show it in metrics and status, and hand it out all the same."""
    UNHEALTHY = "unhealthy"
    """Make it Unhealthy until it has a licence."""


class ReadinessRules(msgspec.Struct, frozen=True):
    """When a GPU that NVML describes well is not ready."""

    fabric_after: float = 120.0
    """Seconds that a GPU may take to join its NVLink fabric; 0: for ever."""
    licence: LicenceRule = LicenceRule.REPORT


class Recovery(msgspec.Struct, frozen=True):
    """What a device needs to become healthy again."""

    mode: RecoveryMode = RecoveryMode.PROOF
    quiet_period: float = 30.0
    """Seconds without a fatal event after the proof; doubled at each relapse."""
    probes: int = 3
    """Number of passed health checks in a row."""


class XidPolicy(msgspec.Struct, frozen=True):
    """Which Xids are fatal; by default all."""

    others_fatal: bool = True
    """Whether Xids that are not in *exceptions* are fatal."""
    exceptions: frozenset[int] = frozenset()
    ignored: frozenset[int] = frozenset()
    """Xids that a setting ignores though the driver has a word for their severity."""

    def is_fatal(self, xid: int) -> bool:
        """Return whether *xid* makes the device unhealthy."""
        return (xid in self.exceptions) != self.others_fatal


class CdiSettings(msgspec.Struct, frozen=True):
    """How to generate the CDI (Container Device Interface) specifications."""

    spec_folder: str
    vendor: str
    """The part of the CDI kind before the slash."""
    device_class: str
    """The part of the CDI kind after the slash."""
    device_names: str
    """How devices are named: `uuid` or `index`."""
    hook_path: str
    """Path of nvidia-cdi-hook on the host, as written to the specification."""
    driver_root: str
    """Root of the driver installation on the host."""
    dev_root: str
    """Root of the device nodes on the host."""
    container_driver_root: str
    """Where the driver root is mounted in this container; `/`: this process runs on the host."""
    feature_flags: tuple[str, ...] = ()
    disabled_hooks: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    """Additional specifications: any of gdrcopy, gds, mofed, imex."""


class MonitorSettings(msgspec.Struct, frozen=True):
    """The settings of the health monitor, fixed at its start."""

    paths: Paths
    binding: str
    """Module of the NVML binding: `pynvml` or the simulated binding."""
    binding_argument: str
    """Where the binding finds the driver: the driver root, or the simulated node's folder."""
    driver_root: str = "/"
    """Root below which this process sees the files of the driver and of the platform."""
    discovery: Discovery = Discovery.AUTO
    sysfs: str = "/sys"
    procfs: str = "/proc"
    dev_roots: tuple[str, ...] = ("/",)
    """The device nodes are below the first of these that contains dev/, else below the last."""
    unified_mib: int | None = None
    """Memory of a GPU that has none of its own, in MiB; None: that of the machine."""
    imex_channels: tuple[int, ...] = ()
    """The IMEX channels that containers get."""
    poll_interval: float = 5.0
    """Seconds between two health checks of a GPU."""
    usage_interval: float = 5.0
    """Seconds between two samples of how much of a GPU is in use; 0: none is taken."""
    rescan_interval: float = 30.0
    """Seconds between two scans for added or removed GPUs and MIG instances."""
    hang_after: float = 15.0
    """Seconds after which a driver call that has not returned hangs."""
    patience: float = 5.0
    """Seconds that a start waits for GPUs and details that the driver is slow to describe."""
    recovery: Recovery = Recovery()
    grey: GreySettings = GreySettings()
    readiness: ReadinessRules = ReadinessRules()
    kernel_log: str = ""
    """The kernel log to read, or a fifo or text file with its lines; empty: none."""
    state_folder: str = "/var/lib/gpu-sharing-plugin"
    cdi: CdiSettings | None = None
    """None: write no CDI specifications."""
    xids: XidPolicy = XidPolicy()
    whole_gpus: bool = True
    """Whether GPUs in MIG mode are advertised as whole GPUs."""
