"""What the configuration file may hold: the fields of NVIDIA's `version: v1` file, and our own.

Names and defaults are those of NVIDIA's device plugin v0.20, so its users' files go on working.
"""

import enum
import re
from typing import Annotated, Any

import msgspec

from health.xid_policy import CODE
from proto.monitor import RecoveryMode
from proto.worker import AllocationPolicy, DeviceIdStrategy, DeviceListStrategy


class MigStrategy(enum.StrEnum):
    """What becomes of GPUs in MIG mode."""

    NONE = "none"
    """They are advertised as whole GPUs."""
    SINGLE = "single"
    """Their instances are the node's GPUs; all must be alike."""
    MIXED = "mixed"
    """Each profile is a resource of its own."""


class Discovery(enum.StrEnum):
    """How devices are found."""

    AUTO = "auto"
    NVML = "nvml"


LONGEST = 7 * 24 * 3600
"""Seconds; the kernel waits for no more than 24 days, and a guard that never comes is none."""


class Seconds(float):
    """A length of time, written as `500ms`, `30s`, `5m`, `1h` or as a number of seconds."""

    UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}  # noqa: RUF012 - never changed

    @classmethod
    def read(cls, value: object) -> "Seconds":
        """Return the time that *value* stands for; ValueError if none, or not from 0 to LONGEST."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", str(value))
        if isinstance(value, bool) or not match or not float(match[1]):
            raise ValueError(f'"{value}" is not a positive time; write a time as 30s, 5m or 2.5')
        seconds = float(match[1]) * cls.UNITS[match[2] or "s"]
        if seconds > LONGEST:
            raise ValueError(f'"{value}" is too long; write at most {LONGEST // 3600}h')
        return cls(seconds)

    def __str__(self) -> str:
        return f"{float(self):g}s"


class XidRule(enum.StrEnum):
    """What an Xid does to a GPU."""

    FATAL = "fatal"
    """It makes the GPU unhealthy."""
    IGNORE = "ignore"
    """It is counted and logged only."""


class XidRules(dict[int, XidRule]):
    """`health.xids`: rules by Xid, which is a number in YAML and a text in JSON."""

    @classmethod
    def read(cls, value: object) -> "XidRules":
        """Return the rules that *value* stands for; ValueError or TypeError if none."""
        if not isinstance(value, dict):
            raise TypeError("write Xids with fatal or ignore, such as {79: fatal}")
        rules = cls()
        for key, rule in value.items():
            if not CODE.fullmatch(str(key)):
                raise ValueError(f'"{key}" is not an Xid; write a number such as 79')
            if rule not in list(XidRule):
                raise ValueError(f'{key}: "{rule}" is not allowed; write {" or ".join(XidRule)}')
            rules[int(key)] = XidRule(rule)
        return rules


class _Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A mapping in the configuration; a key that we do not know is an error."""


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
        """The strategies as a tuple, though the file may name a single one."""
        given = self.device_list_strategy
        return (given,) if isinstance(given, DeviceListStrategy) else given


class Flags(_Section, frozen=True):
    """`flags`."""

    mig_strategy: MigStrategy = MigStrategy.NONE
    fail_on_init_error: bool = True
    mps_root: str = ""
    """Taken, as charts always set it, and without effect: MPS is not supported."""
    nvidia_driver_root: str = "/"
    nvidia_dev_root: str = ""
    """By default the driver's root."""
    gdrcopy_enabled: bool = False
    gds_enabled: bool = False
    mofed_enabled: bool = False
    use_node_feature_api: bool | None = msgspec.field(name="useNodeFeatureAPI", default=None)
    """Taken and without effect: it is the labeller's."""
    device_discovery_strategy: Discovery = Discovery.AUTO
    plugin: Plugin = Plugin()
    gfd: dict[str, Any] | None = None
    """Taken and without effect: it is the labeller's."""


class Pattern(_Section, frozen=True):
    """A resource name for the devices that a pattern matches."""

    pattern: Annotated[str, msgspec.Meta(min_length=1)]
    """Of a GPU's model or a MIG profile; `*` stands for anything."""
    name: Annotated[str, msgspec.Meta(min_length=1)]
    """The resource name, with or without nvidia.com/."""


class Resources(_Section, frozen=True):
    """`resources`: names by model and profile, the first match counts."""

    gpus: tuple[Pattern, ...] = ()
    mig: tuple[Pattern, ...] = ()


class SharedResource(_Section, frozen=True):
    """An entry of `sharing.timeSlicing.resources`."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    """The resource as it is called without sharing."""
    replicas: Annotated[int, msgspec.Meta(ge=2)]
    """Of each device."""
    rename: str | None = None
    """What its replicas are called."""
    devices: str | int | tuple[str | int, ...] = "all"
    """Which of them: "all", the first so many, or a list of indices, "GPU:MIG" and UUIDs."""


class TimeSlicing(_Section, frozen=True):
    """`sharing.timeSlicing`."""

    resources: Annotated[tuple[SharedResource, ...], msgspec.Meta(min_length=1)]
    rename_by_default: bool = False
    """Call replicas `<name>.shared` where no rename says otherwise."""
    fail_requests_greater_than_one: bool = False
    """Refuse a container more than one replica."""


class Sharing(_Section, frozen=True):
    """`sharing`."""

    time_slicing: TimeSlicing | None = None
    mps: dict[str, Any] | None = None
    """Known, to be refused with a reason."""


class Imex(_Section, frozen=True):
    """`imex`."""

    channel_ids: tuple[int, ...] = msgspec.field(name="channelIDs", default=())
    required: bool = False


class RecoverySection(_Section, frozen=True):
    """`health.recovery`."""

    mode: RecoveryMode = RecoveryMode.PROOF
    """Whether a fault is forgotten on proof that it is gone, or at a reboot only."""
    quiet_period: Seconds = Seconds(30)
    """Time without a fatal event, from the last one or the proof on, doubled at each relapse."""
    probes: Annotated[int, msgspec.Meta(ge=1)] = 3
    """Proofs in a row."""


class HealthSection(_Section, frozen=True):
    """`health`."""

    stale_after: Seconds = Seconds(10)
    """Without word of the monitor for so long, devices are Unhealthy: not knowing is no health."""
    hang_after: Seconds = Seconds(15)
    """A process without a sign of life for so long is killed; a slow driver takes less."""
    poll_interval: Seconds = Seconds(5)
    """Time between two looks at a GPU for what no event tells."""
    rescan_interval: Seconds = Seconds(30)
    """Time between two looks for GPUs and MIG instances that came or went."""
    recovery: RecoverySection = RecoverySection()
    xids: XidRules = XidRules()
    """Which Xids are fatal, where NVIDIA's table is not to be followed."""


class Configuration(_Section, frozen=True):
    """The configuration file."""

    version: str = "v1"
    """Of this format; there is one."""
    flags: Flags = Flags()
    resources: Resources = Resources()
    sharing: Sharing = Sharing()
    imex: Imex = Imex()
    health: HealthSection = HealthSection()


def decode(kind: type, value: object) -> object:
    """Decode the types of ours that msgspec does not know."""
    if kind is Seconds:
        return Seconds.read(value)
    if kind is XidRules:
        return XidRules.read(value)
    raise NotImplementedError(kind)


def plain(configuration: Configuration) -> dict[str, Any]:
    """Return the configuration in the file's own structure and keys, with every value."""
    tree: dict[str, Any] = msgspec.to_builtins(configuration, enc_hook=str)
    return tree
