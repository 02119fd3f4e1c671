"""Share the devices of a resource: the part of the plan that gives them replicas and new names."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from proto.problem import Problem, ProblemKind
from proto.texts import few
from proto.worker import PlannedDevice
from supervisor import mps_shares
from supervisor.config.file_schema import Portion
from supervisor.config.sharing import BY_MEMORY, MEMORY_UNIT, Among, MpsLimits, Share, choose


class UnsharedDevice(msgspec.Struct, frozen=True):
    """A device before it is shared."""

    resource: str
    planned: PlannedDevice
    memory_mib: int | None
    names: frozenset[str]
    capability: str | None = None
    """Compute capability."""
    mig_enabled: bool = False
    """Whether its GPU is in MIG mode."""

    @property
    def instance(self) -> bool:
        """Whether it is a MIG instance."""
        return self.planned.uuid != self.planned.gpu


class _Found(msgspec.Struct):
    """What is to be told of the devices of one resource."""

    missing: list[str] = msgspec.field(default_factory=list)
    """Names that no device has."""
    unknown: list[str] = msgspec.field(default_factory=list)
    """Devices that are to be shared by memory, which is unknown."""
    unlimited: list[str] = msgspec.field(default_factory=list)
    """Devices of MPS without a memory limit, because their memory is unknown."""
    refused: defaultdict[str, list[str]] = msgspec.field(default_factory=lambda: defaultdict(list))
    """Devices that MPS cannot share, by the reason."""
    rounded: set[tuple[int, int]] = msgspec.field(default_factory=set)
    """Percent of the multiprocessors that are left unused, and the number of replicas."""


def share(
    shares: Iterable[Share],
    devices: Sequence[UnsharedDevice],
    driver_version: str,
    shared: Mapping[str, list[PlannedDevice]],
) -> Iterator[Problem]:
    """Add each of *devices* to *shared* under its name after sharing; yield problems."""
    left, found, among = list(devices), _Found(), Among.of(devices)
    for entry in shares:
        chosen, absent = choose(entry, left, among)
        found.missing += absent
        for device in chosen:
            if planned := _planned(entry, device, driver_version, found):
                shared[entry.name].append(planned)
        if chosen:
            left = [device for device in left if device not in chosen]
    for device in left:
        shared[device.resource].append(device.planned)
    yield from _problems(devices[0].resource, found)


def _planned(
    entry: Share, device: UnsharedDevice, driver_version: str, found: _Found
) -> PlannedDevice | None:
    """Return *device* with its replicas; None if MPS cannot share it. Note what is to be told."""
    if entry.mps:
        return _by_mps(entry, entry.mps, device, driver_version, found)
    if entry.replicas != BY_MEMORY:
        return replace(device.planned, replicas=entry.replicas)
    if not device.memory_mib:
        found.unknown.append(device.planned.index)
    return replace(device.planned, replicas=max(1, (device.memory_mib or 0) // MEMORY_UNIT))


def _by_mps(
    entry: Share, limits: MpsLimits, device: UnsharedDevice, driver_version: str, found: _Found
) -> PlannedDevice | None:
    most = mps_shares.most_replicas(driver_version)
    why = mps_shares.refusal_on_platform(device.planned.toolkit_id)
    why = why or mps_shares.refusal(
        limits,
        instance=device.instance,
        mig_enabled=device.mig_enabled,
        capability=device.capability,
    )
    why = why or mps_shares.refused_replicas(limits, entry.replicas, device.memory_mib, most)
    if why:
        found.refused[why].append(device.planned.index)
        return None
    if limits.memory is Portion.SHARE and not device.memory_mib:
        found.unlimited.append(device.planned.index)
    if (percent := mps_shares.unused(limits, entry.replicas)) > mps_shares.TOLERATED:
        found.rounded.add((percent, entry.replicas))
    mine = mps_shares.share_of(limits, entry.replicas, device.memory_mib)
    return replace(device.planned, replicas=entry.replicas, mps=mine)


def _problems(name: str, found: _Found) -> Iterator[Problem]:
    if found.missing:
        text = f"cannot share all configured devices of {name}; missing on this node: "
        yield Problem(ProblemKind.NOT_SHARED, text + few(found.missing))
    if found.unknown:
        text = (
            f"cannot share {name} by memory: the driver does not report the memory of device "
            f"{few(found.unknown)}; each has one replica; write a number of replicas instead of -1"
        )
        yield Problem(ProblemKind.MEMORY_UNKNOWN, text)
    if found.unlimited:
        text = (
            f"cannot limit the memory of {name} to shares: the driver does not report the memory "
            f"of device {few(found.unlimited)}; each has no memory limit; write MiB as memoryLimit"
        )
        yield Problem(ProblemKind.MEMORY_UNKNOWN, text)
    for why, indices in found.refused.items():
        text = f"cannot share device {few(indices)} of {name} by MPS: {why}"
        yield Problem(ProblemKind.MPS_UNSUPPORTED, text)
    if found.rounded:
        percent, replicas = max(found.rounded)
        text = (
            f"all {replicas} replicas of a device of {name} together use at most "
            f"{100 - percent} % of its multiprocessors: a share is rounded down to "
            f"{100 // replicas} %; write another number of replicas, or a percentage as threads"
        )
        yield Problem(ProblemKind.MPS_THREADS, text)
