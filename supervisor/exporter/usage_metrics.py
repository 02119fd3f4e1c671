"""The metrics of usage: of each GPU and MIG instance, and of each container that uses one."""

from collections import Counter
from collections.abc import Iterator

from supervisor.exporter.family import Family, Sample
from supervisor.status.snapshot import Snapshot
from supervisor.status.usage import device_uses, node_use
from supervisor.status.usage_report import DeviceUse, HolderKind, HolderUse

PERCENT = 100

HOLDER = ("uuid", "resource", "namespace", "pod", "container")

FAMILIES = (
    Family(
        "device_utilization_ratio",
        ("uuid",),
        "Part of the time in which a GPU worked, 0 to 1.",
    ),
    Family(
        "device_memory_utilization_ratio",
        ("uuid",),
        "Part of the time in which the memory of a GPU was read or written, 0 to 1.",
    ),
    Family(
        "device_memory_used_bytes",
        ("uuid",),
        "Memory of a GPU or MIG instance in use, without the memory that the driver reserves.",
    ),
    Family(
        "device_memory_total_bytes",
        ("uuid",),
        "Memory of a GPU or MIG instance, with the memory that the driver reserves.",
    ),
    Family("device_temperature_celsius", ("uuid",), "Temperature of a GPU."),
    Family("device_power_watts", ("uuid",), "Power that a GPU draws."),
    Family("device_power_limit_watts", ("uuid",), "Power limit that the driver enforces."),
    Family(
        "container_memory_used_bytes",
        HOLDER,
        "Memory of a GPU or MIG instance that the processes of a container use, which holds it.",
    ),
    Family(
        "container_utilization_ratio",
        HOLDER,
        "Utilization of a GPU by the processes of a container, which holds it, 0 to 1.",
    ),
    Family(
        "container_memory_share_bytes",
        HOLDER,
        "Memory that comes to the devices that a container holds: all memory / replicas x held.",
    ),
    Family(
        "host_memory_used_bytes",
        ("uuid",),
        "Memory of a GPU or MIG instance that processes outside of containers use.",
    ),
    Family(
        "unknown_memory_used_bytes",
        ("uuid",),
        "Memory of a GPU or MIG instance that processes use whose container is unknown.",
    ),
    Family(
        "mps_server_memory_used_bytes",
        ("uuid",),
        "Memory of a GPU or MIG instance that its MPS server uses itself, beside its clients.",
    ),
    Family(
        "unallocated_memory_used_bytes",
        ("uuid", "namespace", "pod", "container"),
        "Memory of a GPU or MIG instance that a container uses without holding it.",
    ),
    Family(
        "device_leaked_bytes",
        ("uuid",),
        "Memory in use on a device that is not shared and that no container holds; 0: it is clean.",
    ),
    Family(
        "usage_attributed",
        (),
        "1 while the exporter can tell which container a process belongs to, else 0; see /status.",
    ),
)


def samples(snapshot: Snapshot, now: float, stale_after: float, *, named: bool) -> Iterator[Sample]:
    """Yield the samples of usage at *now*; with the names of pods if *named*."""
    sampling = node_use(snapshot, now, 0.0, stale_after)
    if sampling is None:
        return
    yield Sample("usage_attributed", sampling.problem is None)
    for uuid, use in device_uses(snapshot, now, stale_after).items():
        yield from _device(uuid, use)
        if sampling.problem is None:
            yield from _together(uuid, use.holders or ())
            yield from _mps_server(uuid, use.holders or ())
            yield from _unallocated(uuid, use.holders or (), named=named)
        if named:
            yield from _containers(uuid, use.holders or ())


def _device(uuid: str, use: DeviceUse) -> Iterator[Sample]:
    figures = {
        "device_utilization_ratio": _ratio(use.utilization_percent),
        "device_memory_utilization_ratio": _ratio(use.memory_utilization_percent),
        "device_memory_used_bytes": use.memory_used_bytes,
        "device_memory_total_bytes": use.memory_total_bytes,
        "device_temperature_celsius": use.temperature_celsius,
        "device_power_watts": use.power_watts,
        "device_power_limit_watts": use.power_limit_watts,
        "device_leaked_bytes": use.leaked_bytes,
    }
    for name, figure in figures.items():
        if figure is not None:
            yield Sample(name, figure, (uuid,))


def _together(uuid: str, holders: tuple[HolderUse, ...]) -> Iterator[Sample]:
    """Yield the memory of the host and of unknown containers, also if it is 0."""
    for kind in (HolderKind.HOST, HolderKind.UNKNOWN):
        used = [holder.memory_used_bytes for holder in holders if holder.kind is kind]
        if None not in used:
            yield Sample(f"{kind}_memory_used_bytes", sum(b or 0 for b in used), (uuid,))


def _mps_server(uuid: str, holders: tuple[HolderUse, ...]) -> Iterator[Sample]:
    for holder in holders:
        if holder.kind is HolderKind.MPS and holder.memory_used_bytes is not None:
            yield Sample("mps_server_memory_used_bytes", holder.memory_used_bytes, (uuid,))


def _containers(uuid: str, holders: tuple[HolderUse, ...]) -> Iterator[Sample]:
    for holder in holders:
        if holder.kind is not HolderKind.CONTAINER or holder.resource is None:
            continue  # while the kubelet does not answer, it is unknown who holds what
        labels = (uuid, holder.resource, *_names(holder))
        figures = {
            "container_memory_used_bytes": holder.memory_used_bytes,
            "container_utilization_ratio": _ratio(holder.utilization_percent),
            "container_memory_share_bytes": holder.memory_share_bytes,
        }
        for name, figure in figures.items():
            if figure is not None:
                yield Sample(name, figure, labels)


def _unallocated(uuid: str, holders: tuple[HolderUse, ...], *, named: bool) -> Iterator[Sample]:
    """Yield a series for each container, or one for all of them if not *named*."""
    used: Counter[tuple[str, str, str]] = Counter()
    for holder in holders:
        if holder.kind is HolderKind.UNALLOCATED:
            # The container is flagged even if the driver does not tell how much it uses.
            used[_names(holder) if named else ("", "", "")] += holder.memory_used_bytes or 0
    for names, memory in used.items():
        yield Sample("unallocated_memory_used_bytes", memory, (uuid, *names))


def _names(holder: HolderUse) -> tuple[str, str, str]:
    return holder.namespace or "", holder.pod or "", holder.container or ""


def _ratio(percent: int | None) -> float | None:
    return None if percent is None else percent / PERCENT
