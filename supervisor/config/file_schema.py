"""The keys of the configuration file: those of NVIDIA's `version: v1` file, and our own.

Names and defaults are those of NVIDIA's device plugin v0.20, so that existing files keep working.
"""

import enum
from typing import Annotated, Any

import msgspec

from proto.advertising import MigStrategy
from proto.keeper import ComputeMode
from proto.monitor import Discovery
from proto.worker import AllocationPolicy, DeviceIdStrategy, DeviceListStrategy
from supervisor.config.durations import SampleInterval, Seconds
from supervisor.config.file_section import Section
from supervisor.config.health_schema import HealthSection, XidRules


class Plugin(Section, frozen=True):
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


class Flags(Section, frozen=True):
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


class Pattern(Section, frozen=True):
    """A resource name for all devices that match a pattern."""

    pattern: Annotated[str, msgspec.Meta(min_length=1)]
    """Pattern for the GPU model or the MIG profile; `*` matches anything."""
    name: Annotated[str, msgspec.Meta(min_length=1)]
    """The resource name, with or without nvidia.com/."""


class Resources(Section, frozen=True):
    """`resources`: resource names by GPU model and MIG profile; the first match counts."""

    gpus: tuple[Pattern, ...] = ()
    mig: tuple[Pattern, ...] = ()


class SharedResource(Section, frozen=True):
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


class TimeSlicing(Section, frozen=True):
    """`sharing.timeSlicing`."""

    resources: Annotated[tuple[SharedResource, ...], msgspec.Meta(min_length=1)]
    rename_by_default: bool = False
    """Name replicas `<name>.shared`, unless the entry has a `rename`."""
    fail_requests_greater_than_one: bool = False
    """Refuse a container more than one replica."""


class Mps(Section, frozen=True):
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


class Sharing(Section, frozen=True):
    """`sharing`."""

    # First: of a key of both that is in a wrong place, the last section is proposed.
    mps: Mps | None = None
    time_slicing: TimeSlicing | None = None


class Imex(Section, frozen=True):
    """`imex`."""

    channel_ids: tuple[int, ...] = msgspec.field(name="channelIDs", default=())
    required: bool = False


class UsageSection(Section, frozen=True):
    """`usage`."""

    interval: SampleInterval = SampleInterval(5)
    """Time between two samples of how much of each GPU is in use, and by which processes; \
`0`: take none, else at least `1s`."""


class UnifiedMemory(enum.StrEnum):
    """How much memory a GPU without memory of its own has, if no number says it."""

    SYSTEM = "system"
    """All memory of the machine."""


class Configuration(Section, frozen=True):
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
