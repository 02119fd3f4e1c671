"""The keys of the configuration file below `health`."""

import enum
from typing import Annotated

import msgspec

from health.xid_policy import CODE
from proto.grey import GreyRule
from proto.monitor import DraRule, LicenceRule, OccupiedRule, RecoveryMode
from supervisor.config.durations import Patience, Seconds, SecondsOrNever
from supervisor.config.file_section import Section


class XidRule(enum.StrEnum):
    """What an Xid does to a GPU."""

    FATAL = "fatal"
    """The GPU becomes Unhealthy."""
    IGNORE = "ignore"
    """The Xid is only counted and logged."""


class XidRules(dict[int, XidRule]):
    """`health.xids`: rules by Xid; the Xid is a number in YAML and a string in JSON."""

    @classmethod
    def read(cls, value: object) -> "XidRules":
        """Return the rules in *value*; ValueError or TypeError if it has none."""
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


class RecoverySection(Section, frozen=True):
    """`health.recovery`."""

    mode: RecoveryMode = RecoveryMode.PROOF
    """When a fault is cleared: on proof that it is gone, or never before a reboot."""
    quiet_period: Seconds = Seconds(30)
    """Time without a fatal event before a device is Healthy again, counted from the last fatal \
event or the proof, whichever is later; doubled at each relapse."""
    probes: Annotated[int, msgspec.Meta(ge=1)] = 3
    """Good checks in a row before a device is Healthy again."""


class GreySection(Section, frozen=True):
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


class HealthSection(Section, frozen=True):
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
    """Time after which the service exits when it has lost access to the GPUs, when its NVML \
library is older than the kernel module, or when its container is older than the driver: only a \
new container can use the GPUs; `0`: never."""
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
    probe: str = ""
    """Command that tests a GPU, with an absolute path, such as `/opt/check-gpu --quick`. It is \
run on one free GPU after the other, and a GPU on which it fails is Unhealthy. See health.md."""
    probe_interval: Seconds = Seconds(3600)
    """Time between two probes of a GPU."""
    probe_timeout: Seconds = Seconds(60)
    """Time after which a probe is killed, and counts as failed."""
    xids: XidRules = XidRules()
    """Which Xids are fatal or ignored, instead of what NVIDIA's table says."""
