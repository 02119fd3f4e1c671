"""Why a device is Unhealthy: every reason that the service can give."""

import enum

import msgspec


class ReasonKind(enum.StrEnum):
    """Why a device is unhealthy. Operators' alerts use these values, so they never change."""

    XID = "xid"
    """The driver reported an Xid that is fatal for the device; the detail is the Xid code."""

    GPU_LOST = "gpu-lost"
    """The driver lost the GPU; stays until there is proof that the fault is gone."""

    UNWATCHED = "unwatched"
    """The monitor cannot receive the GPU's Xid events, so it would miss a fault."""

    UNREADABLE = "unreadable"
    """Health checks of the device fail; the detail is the driver's error."""

    RECOVERY_ACTION = "recovery-action"
    """The driver asks for a recovery action; the detail names the action."""

    ECC = "ecc"
    """Without recovery actions: uncorrectable memory errors, or their counter fell silent."""

    ROW_REMAP = "row-remap"
    """The remapping of a memory row failed, or is pending until the next GPU reset."""

    NVLINK_DOWN = "nvlink-down"
    """Fewer NVLinks are up than before in this boot of the node."""

    FABRIC = "fabric"
    """The GPU has not joined its NVLink fabric, or an NVSwitch reported a fatal error (SXid). \
With `health.grey`: the driver says that the fabric is degraded. The detail says which."""

    GPU_MISSING = "gpu-missing"
    """The PCI bus shows more GPUs than the driver; the detail names them. All GPUs have this \
reason, because no device stands for a missing GPU. Set by `health.grey`, like the reasons from \
`pcie` to `persistence`."""

    PCIE = "pcie"
    """The PCIe link is narrower or slower than card and slot allow, while the GPU works."""

    SLOWDOWN = "slowdown"
    """The hardware slows the GPU down: too hot, or the power supply brakes it."""

    CLOCKS = "clocks"
    """The clocks stay under half of their maximum while the GPU is busy, and no setting says so."""

    ECC_CORRECTED = "ecc-corrected"
    """The GPU corrects memory errors at a high rate; the detail is their number within an hour."""

    SPARE_ROWS = "spare-rows"
    """A memory bank has no spare row left, so its next bad row cannot be remapped."""

    PERSISTENCE = "persistence"
    """Persistence mode is off, although it was on."""

    CC_NOT_READY = "cc-not-ready"
    """Confidential computing is on, and the GPUs do not accept work yet."""

    LICENCE = "licence"
    """The virtual GPU has no licence, with `health.licence: unhealthy`."""

    PASSTHROUGH = "passthrough"
    """The kernel has given the GPU to another driver, for virtual machines; the detail names it."""

    PROBE = "probe"
    """The operator's command `health.probe` failed on the GPU; the detail says how."""

    THERMAL = "thermal"
    """The GPU is at its shutdown temperature."""

    DRIVER_HANG = "driver-hang"
    """A driver call does not return; the detail names the call."""

    NO_ACCESS = "no-access"
    """The plugin lost access to the GPU device nodes; the GPUs themselves may be healthy."""

    CDI_SPEC = "cdi-spec"
    """No CDI specification names the device, so no container starts with it; see the detail."""

    NO_DRIVER = "no-driver"
    """The driver cannot be used; the detail is the cause."""

    MAINTENANCE = "maintenance"
    """An operator ran `quiesce`; `resume` ends it."""

    MONITOR_SILENT = "monitor-silent"
    """The health monitor has sent nothing for `health.staleAfter`."""

    NOT_FOUND = "not-found"
    """The monitor does not find a device that the plugin should advertise."""

    OCCUPIED = "occupied"
    """Something uses the device though no container holds it, with `health.occupied: unhealthy`."""

    HELD_THROUGH_DRA = "held-through-dra"
    """A container holds the device through DRA, with `health.dra: withhold`."""

    MPS = "mps"
    """The device is shared by MPS, and its daemon is not ready; the detail says why."""


class Reason(msgspec.Struct, frozen=True, order=True):
    """One reason why a device is unhealthy."""

    kind: ReasonKind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".rstrip()
