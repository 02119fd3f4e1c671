"""What the supervisor tells the health monitor at its start."""

import enum

import msgspec

from proto.paths import Paths


class RecoveryMode(enum.StrEnum):
    """Whether devices recover by themselves."""

    PROOF = "proof"
    """As soon as the fault is proven to be gone."""
    NEVER = "never"
    """By a reboot only."""


class Recovery(msgspec.Struct, frozen=True):
    """How recovery is proven."""

    mode: RecoveryMode = RecoveryMode.PROOF
    quiet_period: float = 30.0
    """Seconds without a fatal event after the proof, doubled at each relapse."""
    probes: int = 3
    """Proofs in a row."""


class XidPolicy(msgspec.Struct, frozen=True):
    """The verdict on every Xid there can be; untold, each is fatal."""

    others_fatal: bool = True
    """Whether the Xids are fatal that are no exceptions."""
    exceptions: frozenset[int] = frozenset()

    def is_fatal(self, xid: int) -> bool:
        """Return whether *xid* makes the device unhealthy."""
        return (xid in self.exceptions) != self.others_fatal


class CdiSettings(msgspec.Struct, frozen=True):
    """How the Container Device Interface specifications are generated."""

    spec_folder: str
    vendor: str
    """The part of the CDI kind before the slash."""
    device_class: str
    """The part behind it."""
    device_names: str
    """`uuid` or `index`."""
    hook_path: str
    """The hook's binary on the host, as the specification names it."""
    driver_root: str
    """On the host."""
    dev_root: str
    """On the host."""
    container_driver_root: str
    """Where the driver's root is mounted for us; `/` where we run beside it."""
    feature_flags: tuple[str, ...] = ()
    disabled_hooks: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    """Further specifications: any of gdrcopy, gds, mofed, imex."""


class MonitorSettings(msgspec.Struct, frozen=True):
    """What the health monitor is told at its start."""

    paths: Paths
    binding: str
    """Module of the NVML binding: pynvml, or the simulated one."""
    binding_argument: str
    """Where the binding finds its driver: its mounted root, or the simulated node's folder."""
    sysfs: str = "/sys"
    procfs: str = "/proc"
    dev_root: str = "/"
    """Below which we see device nodes."""
    poll_interval: float = 5.0
    """Seconds between two looks at each GPU."""
    rescan_interval: float = 30.0
    """Seconds between two looks for GPUs and MIG instances that came or went."""
    hang_after: float = 15.0
    """Seconds after which a wait for events that does not return counts as hanging."""
    recovery: Recovery = Recovery()
    state_folder: str = "/var/lib/gpu-sharing-plugin"
    cdi: CdiSettings | None = None
    """None: no CDI specification is wanted."""
    xids: XidPolicy = XidPolicy()
    whole_gpus: bool = True
    """Whether GPUs in MIG mode are handed out as a whole."""
