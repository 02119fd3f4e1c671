"""The keys of the configuration file: those of NVIDIA's `version: v1` file, and our own.

Names and defaults are those of NVIDIA's device plugin v0.20, so that existing files keep working.
"""

import enum
from typing import Annotated, Any

import msgspec

from proto.advertising import MigStrategy
from proto.grey import GreyRule
from proto.keeper import ComputeMode
from proto.monitor import Discovery, DraRule, LicenceRule, OccupiedRule, RecoveryMode
from proto.worker import AllocationPolicy, DeviceIdStrategy, DeviceListStrategy
from supervisor.config.durations import Patience, SampleInterval, Seconds, SecondsOrNever
from supervisor.config.xid_rules import XidRules


class _Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A mapping in the configuration; an unknown key is an error."""


class Plugin(_Section, frozen=True):
    """`flags.plugin`."""

    pass_device_specs: bool = False
    device_list_strategy: DeviceListStrategy | tuple[DeviceListStrategy, ...] = (
        DeviceListStrategy.ENVVAR,
    )
    device_id_strategy: DeviceIdStrategy = msgspec.field(
        name="deviceIDStrategy", default=DeviceIdStrategy.UUID
    )
    cdi_annotation_prefix: str = "cdi.k8s.io/"
    nvidia_ctk_path: str = msgspec.field(name="nvidiaCTKPath", default="/usr/bin/nvidia-ctk")
    container_driver_root: str = "/driver-root"
    shared_devices_allocation_policy: AllocationPolicy = AllocationPolicy.DISTRIBUTED

    @property
    def list_strategies(self) -> tuple[DeviceListStrategy, ...]:
        """The strategies, each once; the file may contain a single one instead of a list."""
        given = self.device_list_strategy
        return (given,) if isinstance(given, DeviceListStrategy) else tuple(dict.fromkeys(given))


class Flags(_Section, frozen=True):
    """`flags`."""

    mig_strategy: MigStrategy = MigStrategy.NONE
    fail_on_init_error: bool = True
    mps_root: str = "/run/nvidia/mps"
    nvidia_driver_root: str = "/"
    nvidia_dev_root: str = ""
    """Folder on the host that contains dev/ with the device nodes; by default the driver root."""
    gdrcopy_enabled: bool = False
    gds_enabled: bool = False
    mofed_enabled: bool = False
    use_node_feature_api: bool | None = msgspec.field(name="useNodeFeatureAPI", default=None)
    """Ignored: write --node-labels, which is nodefeature, file or node."""
    device_discovery_strategy: Discovery = Discovery.AUTO
    plugin: Plugin = Plugin()
    gfd: dict[str, Any] | None = None
    """Takes effect with --node-labels: outputFile, machineTypeFile, sleepInterval, and \
noTimestamp: false. Other keys are ignored."""


class Pattern(_Section, frozen=True):
    """A resource name for all devices that match a pattern."""

    pattern: Annotated[str, msgspec.Meta(min_length=1)]
    """Pattern for the GPU model or the MIG profile; `*` matches anything."""
    name: Annotated[str, msgspec.Meta(min_length=1)]
    """The resource name, with or without nvidia.com/."""


class Resources(_Section, frozen=True):
    """`resources`: resource names by GPU model and MIG profile; the first match counts."""

    gpus: tuple[Pattern, ...] = ()
    mig: tuple[Pattern, ...] = ()


class SharedResource(_Section, frozen=True):
    """An entry of `sharing.timeSlicing.resources`."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    """The name of the resource before sharing."""
    replicas: Annotated[int, msgspec.Meta(ge=2)]
    """Replicas per device."""
    rename: str | None = None
    """The resource name of the replicas."""
    devices: str | int | tuple[str | int, ...] = "all"
    """Which devices to share: "all", a number (the first ones), or a list of indices, "GPU:MIG" \
indices and UUIDs."""


class Portion(enum.StrEnum):
    """How much of a device a replica may use, if no number says it."""

    SHARE = "share"
    """The device divided by the number of its replicas."""
    NONE = "none"
    """All of the device."""


class MpsResource(SharedResource, frozen=True):
    """An entry of `sharing.mps.resources`."""

    replicas: Annotated[int, msgspec.Meta(ge=1)]
    """Replicas per device; one only with a number as `memoryLimit` or `threads`."""
    memory_limit: Portion | Annotated[int, msgspec.Meta(ge=1)] = Portion.SHARE
    """Most memory of the device for a replica, in MiB."""
    threads: Portion | Annotated[int, msgspec.Meta(ge=1)] = Portion.SHARE
    """Most of the device's multiprocessors for a replica, in percent."""


class TimeSlicing(_Section, frozen=True):
    """`sharing.timeSlicing`."""

    resources: Annotated[tuple[SharedResource, ...], msgspec.Meta(min_length=1)]
    rename_by_default: bool = False
    """Name replicas `<name>.shared`, unless the entry has a `rename`."""
    fail_requests_greater_than_one: bool = False
    """Refuse a container more than one replica."""


class Mps(_Section, frozen=True):
    """`sharing.mps`."""

    resources: Annotated[tuple[MpsResource, ...], msgspec.Meta(min_length=1)]
    rename_by_default: bool = False
    """Name replicas `<name>.shared`, unless the entry has a `rename`."""
    fail_requests_greater_than_one: bool = True
    """Refuse a container more than one replica."""
    on_mig: bool = False
    """Also share MIG instances by MPS, each with a daemon of its own."""
    compute_mode: ComputeMode = ComputeMode.EXCLUSIVE_PROCESS
    """The compute mode of a GPU while its daemon runs: EXCLUSIVE_PROCESS, so that no program \
runs without limits (`exclusive`), or as it is (`unchanged`)."""


class Sharing(_Section, frozen=True):
    """`sharing`."""

    # First: of a key of both that is in a wrong place, the last section is proposed.
    mps: Mps | None = None
    time_slicing: TimeSlicing | None = None


class Imex(_Section, frozen=True):
    """`imex`."""

    channel_ids: tuple[int, ...] = msgspec.field(name="channelIDs", default=())
    required: bool = False


class RecoverySection(_Section, frozen=True):
    """`health.recovery`."""

    mode: RecoveryMode = RecoveryMode.PROOF
    """When a fault is cleared: on proof that it is gone, or never before a reboot."""
    quiet_period: Seconds = Seconds(30)
    """Time without a fatal event before a device is Healthy again, counted from the last fatal \
event or the proof, whichever is later; doubled at each relapse."""
    probes: Annotated[int, msgspec.Meta(ge=1)] = 3
    """Good checks in a row before a device is Healthy again."""


class GreySection(_Section, frozen=True):
    """`health.grey`."""

    after: Seconds = Seconds(60)
    """How long a grey failure must be seen before it counts, and how long it must not be seen \
before it ends."""
    pcie: GreyRule = GreyRule.REPORT
    """What to do about a PCIe link that is narrower or slower than card and slot allow, while \
the GPU works: show it (`report`), or also make the GPU Unhealthy (`unhealthy`); so for the \
others. See health.md."""
    slowdown: GreyRule = GreyRule.REPORT
    """About a GPU that the hardware slows down: too hot, or the power supply brakes it."""
    clocks: GreyRule = GreyRule.REPORT
    """About a busy GPU whose clocks stay under half of their maximum, though no setting says so."""
    ecc_corrected: GreyRule = GreyRule.REPORT
    """About a GPU that corrects more than 1000 memory errors an hour."""
    spare_rows: GreyRule = GreyRule.REPORT
    """About a GPU with a memory bank that has no spare row left."""
    persistence: GreyRule = GreyRule.REPORT
    """About a GPU whose persistence mode is off, although it was on."""
    fabric: GreyRule = GreyRule.REPORT
    """About a GPU whose NVLink fabric is degraded."""
    gpu_missing: GreyRule = GreyRule.REPORT
    """About a node whose PCI bus shows more GPUs than the driver; `unhealthy` makes all its GPUs \
Unhealthy."""


class HealthSection(_Section, frozen=True):
    """`health`."""

    stale_after: Patience = Patience(10)
    """Devices become Unhealthy when the monitor has published nothing for this long; at least \
`3s`, and at least two `pollInterval`s."""
    hang_after: Patience = Patience(15)
    """A driver call that has not returned for this long makes its GPU Unhealthy, so set it higher \
than the slowest driver call; at least `3s`. A process that has sent no heartbeat for this long is \
killed."""
    poll_interval: Seconds = Seconds(5)
    """Time between two checks of a GPU for faults that cause no event."""
    rescan_interval: Seconds = Seconds(30)
    """Time between two checks for added and removed GPUs and MIG instances."""
    exit_without_access: SecondsOrNever = SecondsOrNever(60)
    """Time after which the service exits when it has lost access to the GPUs, or when its NVML \
library is older than the kernel module: only a new container can use the GPUs again; `0`: never."""
    occupied: OccupiedRule = OccupiedRule.REPORT
    """What to do with a GPU or MIG instance that is not shared, that no container holds, and \
that is in use all the same: show it (`report`), or also make it Unhealthy until it is clean \
(`unhealthy`). See usage.md."""
    dra: DraRule = DraRule.REPORT
    """What to do with a GPU or MIG instance that a container holds through Dynamic Resource \
Allocation (DRA) and that is advertised here too: show it (`report`), or also make it Unhealthy \
here while it is held there (`withhold`). See migration.md."""
    fabric_after: SecondsOrNever = SecondsOrNever(120)
    """Time that a GPU may take to join its NVLink fabric before it is Unhealthy: until it has \
joined, CUDA fails with error 802 on it; `0`: for ever."""
    licence: LicenceRule = LicenceRule.REPORT
    """What to do with a virtual GPU (vGPU) that has no licence: show it (`report`), or also make \
it Unhealthy until it has one (`unhealthy`)."""
    recovery: RecoverySection = RecoverySection()
    grey: GreySection = GreySection()
    xids: XidRules = XidRules()
    """Which Xids are fatal or ignored, instead of what NVIDIA's table says."""


class UsageSection(_Section, frozen=True):
    """`usage`."""

    interval: SampleInterval = SampleInterval(5)
    """Time between two samples of how much of each GPU is in use, and by which processes; \
`0`: take none, else at least `1s`."""


class UnifiedMemory(enum.StrEnum):
    """How much memory a GPU without memory of its own has, if no number says it."""

    SYSTEM = "system"
    """All memory of the machine."""


class Configuration(_Section, frozen=True):
    """The configuration file."""

    version: str = "v1"
    """Version of the format; v1 is the only one."""
    flags: Flags = Flags()
    resources: Resources = Resources()
    sharing: Sharing = Sharing()
    imex: Imex = Imex()
    health: HealthSection = HealthSection()
    usage: UsageSection = UsageSection()
    unified_memory: UnifiedMemory | Annotated[int, msgspec.Meta(ge=1)] = UnifiedMemory.SYSTEM
    """How much memory counts for a GPU that has none of its own, such as GB10: all memory of the \
machine (`system`), or so many MiB. `-1` replicas, memory limits of MPS and labels use it."""

    @property
    def unified_mib(self) -> int | None:
        """MiB of a GPU without memory of its own; None: all of the machine."""
        given = self.unified_memory
        return None if isinstance(given, UnifiedMemory) else given


def decode(kind: type, value: object) -> object:
    """Decode our own types, which msgspec does not know."""
    if issubclass(kind, Seconds):
        return kind.read(value)
    if kind is XidRules:
        return XidRules.read(value)
    raise NotImplementedError(kind)


def plain(configuration: Configuration) -> dict[str, Any]:
    """Return the configuration with the file's structure and keys, every value included."""
    tree: dict[str, Any] = msgspec.to_builtins(configuration, enc_hook=str)
    return tree
