"""How to share devices: read the configuration, and find the devices that it means."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from supervisor.config import naming
from supervisor.config.file_schema import (
    Mps,
    MpsResource,
    Portion,
    SharedResource,
    Sharing,
    TimeSlicing,
)

BY_MEMORY = -1
"""In place of a number of replicas: one replica per MEMORY_UNIT of the device's memory."""
MEMORY_UNIT = 1000
"""MiB of device memory per replica."""

MOST_REPLICAS = (4 << 20) // 60
"""Replicas of one device, of 60 bytes each, that fit into the kubelet's limit of 4 MiB a list."""

MOST_MEMORY = 1 << 24
"""MiB of the largest memory limit, which the MPS daemon can read as bytes."""

ALL_THREADS = 100
"""Percent."""

_HEX = "[0-9a-fA-F]"
_ID = rf"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}"
_N = "[0-9]{1,9}"
REFERENCE = re.compile(rf"{_N}|{_N}:{_N}|GPU-{_ID}|MIG-{_ID}|MIG-GPU-{_ID}/{_N}/{_N}")
"""The name of one device: index, index:place, UUID, or the old form of a MIG device's name."""


class MpsLimits(msgspec.Struct, frozen=True):
    """How MPS shares the devices of a resource."""

    memory: Portion | int = Portion.SHARE
    """Most memory for a replica; a number is in MiB."""
    threads: Portion | int = Portion.SHARE
    """Most of the multiprocessors for a replica; a number is in percent."""
    single: bool = True
    """Whether a container may have one replica only."""
    on_mig: bool = False
    """Whether MIG instances may be shared so too."""
    root: str = ""
    """Folder of the daemons."""


class Share(msgspec.Struct, frozen=True):
    """How to share devices of a resource."""

    name: str
    """The resource name after sharing, with its domain."""
    replicas: int
    """Replicas per device, from 1; or BY_MEMORY."""
    devices: int | tuple[str, ...] | None = None
    """How many devices to share, or their names; None: all."""
    mps: MpsLimits | None = None
    """None: by time-slicing."""


Shares = Mapping[str, tuple[Share, ...]]
"""Shares by the full resource name before sharing; the first share that means a device counts."""


class Named(Protocol):
    """A device with names that the configuration can use."""

    @property
    def names(self) -> frozenset[str]:
        """All names of the device."""


D = TypeVar("D", bound=Named)


class Among(msgspec.Struct, Generic[D], frozen=True):
    """All devices of a resource."""

    count: int
    by_name: Mapping[str, D]

    @classmethod
    def of(cls, devices: Sequence[D]) -> "Among[D]":
        """Return *devices* so that they are found by each of their names."""
        return cls(len(devices), {name: device for device in devices for name in device.names})


def choose(share: Share, left: Sequence[D], among: Among[D]) -> tuple[list[D], list[str]]:
    """Return the devices in *left* that *share* means, and the names that no device has."""
    known = among.by_name
    if share.devices is None:
        return list(left), []
    if isinstance(share.devices, int):
        short = share.devices - among.count
        return list(left[: share.devices]), [f"{short} more"] if short > 0 else []
    # By identity and name, not device by device: a file may have thousands of shares.
    meant = {id(known[name]) for name in share.devices if name in known}
    chosen = [device for device in left if id(device) in meant] if meant else []
    return chosen, [name for name in share.devices if name not in known]


def from_flag(text: str) -> dict[str, tuple[Share, ...]]:
    """Return the shares in `--resource-config`; ValueError names the entry that is wrong."""
    shares: dict[str, tuple[Share, ...]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        parts = entry.split(":")
        if len(parts) != 3:  # noqa: PLR2004 - as the syntax says
            raise ValueError(f'"{entry}": write ORIGINAL:NEW:REPLICAS')
        original, name, count = parts
        if not re.fullmatch(r"-1|[1-9]\d{0,8}", count) or int(count) > MOST_REPLICAS:
            raise ValueError(
                f'"{entry}": write 1 to {MOST_REPLICAS} replicas, or -1 for one replica per '
                f"{MEMORY_UNIT} MiB of a device's memory"
            )
        try:
            resource, share = naming.full(original), Share(naming.full(name), int(count))
        except ValueError as error:
            raise ValueError(f'"{entry}": {error}') from error
        if resource in shares:
            raise ValueError(f'"{entry}": {resource} is given twice; remove one of the entries')
        shares[resource] = (share,)
    return shares


def from_file(section: Sharing) -> dict[str, tuple[Share, ...]]:
    """Return the shares in `sharing`; ValueError begins with the key that is wrong."""
    by_time = _entries("sharing.timeSlicing", section.time_slicing)
    by_mps = _entries("sharing.mps", section.mps)
    if both := by_time.keys() & by_mps.keys():
        raise ValueError(
            f"sharing.mps: sharing.timeSlicing shares {min(both)} too; keep one of the entries"
        )
    return by_time | by_mps


def require_one_kind(shares: Shares) -> None:
    """Raise ValueError if devices with and without MPS would have one name after sharing."""
    every = [share for several in shares.values() for share in several]
    others = {share.name for share in every if share.mps is None}
    for share in every:
        if share.mps and share.name in others:
            raise ValueError(
                f"sharing.mps: resources that are shared without MPS are named {share.name} too; "
                "write another rename"
            )


def _entries(section: str, given: TimeSlicing | Mps | None) -> dict[str, tuple[Share, ...]]:
    shares: dict[str, tuple[Share, ...]] = {}
    for place, entry in enumerate(given.resources if given else ()):
        key = f"{section}.resources[{place}]"
        if entry.replicas > MOST_REPLICAS:
            raise ValueError(
                f"{key}.replicas: the kubelet accepts lists of 4 MiB, too small for "
                f"{entry.replicas} replicas; write at most {MOST_REPLICAS}"
            )
        original = _name(f"{key}.name", entry.name)
        share = Share(
            _new_name(key, entry, suffix=bool(given and given.rename_by_default)),
            entry.replicas,
            _devices(f"{key}.devices", entry.devices),
            _limits(key, given, entry),
        )
        earlier = shares.get(original, ())
        if any(before.devices is None for before in earlier):
            raise ValueError(
                f"{key}: an earlier entry shares all devices of {original}; "
                "remove one of the entries, or name the devices of each"
            )
        shares[original] = (*earlier, share)
    return shares


def _limits(key: str, given: TimeSlicing | Mps | None, entry: SharedResource) -> MpsLimits | None:
    if not isinstance(given, Mps) or not isinstance(entry, MpsResource):
        return None
    memory, threads = entry.memory_limit, entry.threads
    if entry.replicas == 1 and isinstance(memory, Portion) and isinstance(threads, Portion):
        raise ValueError(
            f"{key}.replicas: one replica shares nothing; leave the entry out, or write a number "
            "as memoryLimit or threads"
        )
    if not isinstance(memory, Portion) and memory > MOST_MEMORY:
        raise ValueError(
            f"{key}.memoryLimit: {memory} MiB is too much; write at most {MOST_MEMORY}"
        )
    if not isinstance(threads, Portion) and threads > ALL_THREADS:
        raise ValueError(
            f"{key}.threads: {threads} percent is too much; write at most {ALL_THREADS}"
        )
    return MpsLimits(memory, threads, given.fail_requests_greater_than_one, given.on_mig)


def _new_name(key: str, entry: SharedResource, *, suffix: bool) -> str:
    if entry.rename:
        return _name(f"{key}.rename", entry.rename)
    return _name(f"{key}.name", entry.name + (naming.SHARED if suffix else ""))


def _name(key: str, name: str) -> str:
    try:
        return naming.full(name)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _devices(key: str, devices: str | int | Iterable[str | int]) -> int | tuple[str, ...] | None:
    allowed = 'write "all", a count from 1, or a list of indices, "GPU:MIG" indices and UUIDs'
    if devices == "all":
        return None
    if isinstance(devices, int):
        if devices < 1:
            raise ValueError(f"{key}: {devices} is not a count; {allowed}")
        return devices
    if isinstance(devices, str):
        raise ValueError(f'{key}: "{devices}" is not "all"; {allowed}')  # noqa: TRY004 - a value
    references = tuple(dict.fromkeys(map(str, devices)))
    if not references:
        raise ValueError(f"{key}: the list is empty; {allowed}")
    for name in references:
        if not REFERENCE.fullmatch(name):
            raise ValueError(f'{key}: "{name}" is not the name of a device; {allowed}')
    return references
