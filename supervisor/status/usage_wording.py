"""The words for usage, the same on the page and in the terminal."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from supervisor.status.report import DeviceStatus, GpuStatus
from supervisor.status.usage_report import DeviceUse, HolderKind, HolderUse
from supervisor.status.wording import UNKNOWN

MIB, GIB = 1 << 20, 1 << 30

NOTES = {
    HolderKind.HOST: "processes outside containers",
    HolderKind.UNKNOWN: "processes whose container is unknown",
    HolderKind.UNALLOCATED: "uses the GPU, but holds no device of it",
    HolderKind.MPS: "the MPS server, with what it keeps for itself",
}
"""What an entry stands for that is no container which holds the device."""


@dataclass(frozen=True, slots=True)
class User:
    """One line of who uses what."""

    device: str
    """The GPU's index, or GPU:MIG."""
    use: HolderUse


def devices(gpu: GpuStatus) -> Iterator[tuple[str, DeviceStatus]]:
    """Yield the GPU and its MIG instances, each with its name: the index, or GPU:MIG."""
    yield str(gpu.index), gpu
    for instance in gpu.instances:
        yield f"{gpu.index}:{instance.place}", instance


def users(gpus: Iterable[GpuStatus]) -> list[User]:
    """Return who uses or holds each device, the most memory first, unknown memory last."""
    found = [
        User(name, use)
        for gpu in gpus
        for name, device in devices(gpu)
        for use in (device.usage and device.usage.holders) or ()
    ]
    return sorted(found, key=_memory_used, reverse=True)


def _memory_used(user: User) -> int:
    used = user.use.memory_used_bytes
    return -1 if used is None else used


def name(use: HolderUse) -> str:
    """Return who it is: namespace/pod/container, or the word for what is no container."""
    parts = (use.namespace, use.pod, use.container)
    return "/".join(part for part in parts if part) or use.kind


def described(use: HolderUse) -> str:
    """Return who it is in one line, with what it stands for if it is no holder."""
    note = NOTES.get(use.kind)
    if note is None:
        return name(use)
    return f"{use.kind}: {name(use)}, {note}" if use.pod else f"{use.kind}: {note}"


def is_over(use: HolderUse) -> bool:
    """Return whether more memory is in use than the held devices come to."""
    used, share = use.memory_used_bytes, use.memory_share_bytes
    return used is not None and share is not None and used > share


def size(amount: int | None) -> str:
    """Return bytes as MiB or GiB; `unknown` for None."""
    if amount is None:
        return UNKNOWN
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else f"{amount // MIB} MiB"


def of(used: int | None, total: int | None) -> str:
    """Return how much of *total* bytes is in use, such as `1.5 of 8.0 GiB`."""
    if total is None:
        return size(used)
    amounts = size(used), size(total)
    if used == 0 or amounts[0][-3:] == amounts[1][-3:]:
        return f"{amounts[0][:-4]} of {amounts[1]}"
    return f"{amounts[0]} of {amounts[1]}"


def percent(value: int | None) -> str:
    """Return a figure in percent; empty for None: the driver does not tell it."""
    return "" if value is None else f"{value} %"


def memory(use: DeviceUse) -> str:
    """Return how much memory of a device is in use; empty: unknown."""
    used = use.memory_used_bytes
    return "" if used is None else of(used, use.memory_total_bytes)


def temperature(use: DeviceUse) -> str:
    """Return the temperature of a GPU; empty: unknown."""
    return "" if use.temperature_celsius is None else f"{use.temperature_celsius} °C"


def power(use: DeviceUse) -> str:
    """Return the power that a GPU draws; empty: unknown."""
    if use.power_watts is None:
        return ""
    limit = "" if use.power_limit_watts is None else f" of {use.power_limit_watts:.0f}"
    return f"{use.power_watts:.0f}{limit} W"


def leak(use: DeviceUse) -> str:
    """Return that memory is in use on a device that no container holds; empty: it is clean."""
    if not use.leaked_bytes:
        return ""
    return f"{size(use.leaked_bytes)} in use, although no container holds this device"


def without_containers(problem: str) -> str:
    """Return that usage is known by GPU only, and why."""
    return f"Usage by container is unknown: {problem}"
