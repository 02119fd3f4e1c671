"""Usage on the page: what a GPU's card shows of it, and the table of who uses what."""

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element

from msgspec.structs import replace

from supervisor.status import page_lines
from supervisor.status import usage_wording as wording
from supervisor.status.markup import Content, element, table
from supervisor.status.report import GpuStatus, Status
from supervisor.status.usage_history import Hour
from supervisor.status.usage_report import DeviceUse, HolderKind, HolderUse

LEGEND = (
    "Bar: memory by holder, with a mark at each replica's share. "
    "Graph: the last hour; the line is utilization, the area is memory."
)

ROWS = 50
"""Most rows of the table."""

OTHERS = 4
"""Most entries of a card that hold nothing."""

SIGNS = {HolderKind.UNALLOCATED: "✗", HolderKind.HOST: "!", HolderKind.UNKNOWN: "?"}

TONES = {HolderKind.UNALLOCATED: "unhealthy"}
"""The colour of an entry; the others are suspect."""

Uses = dict[tuple[str, str], HolderUse]
"""What each container uses by what it holds of a resource: by its name and the resource."""


def legend(status: Status) -> Element | None:
    """Return what the drawings on the cards mean, if there are any."""
    return element("p", LEGEND, class_="quiet") if status.usage else None


def card(gpu: GpuStatus, hour: Hour | None) -> Iterator[Element | None]:
    """Yield what the card of a GPU shows of its usage."""
    if gpu.usage is not None:
        yield _figures(gpu.usage)
        yield page_lines.bar(gpu.usage, _replicas(gpu))
        yield page_lines.lines(hour) if hour else None
    yield _others(gpu)


def _figures(use: DeviceUse) -> Element | None:
    figures = (
        ("utilization", wording.percent(use.utilization_percent)),
        ("memory", wording.memory(use)),
        ("temperature", wording.temperature(use)),
        ("power", wording.power(use)),
    )
    items = [
        element("div", element("dt", name), element("dd", text)) for name, text in figures if text
    ]
    return element("dl", *items, class_="figures") if items else None


def _replicas(gpu: GpuStatus) -> int:
    """Return by how many replicas the memory is divided; 0: the GPU is no device itself."""
    shares = gpu.resources or ()
    return shares[0].advertised if len(shares) == 1 and not gpu.mig else 0


def _others(gpu: GpuStatus) -> Element | None:
    """Return who uses the GPU without holding it, and what is left on it by nobody."""
    usages = [device.usage for _, device in wording.devices(gpu) if device.usage]
    leaks = (text for text in map(wording.leak, usages) if text)
    items = [element("li", f"! {text}", class_="suspect") for text in leaks]
    others = [use for usage in usages for use in usage.holders or () if use.kind in SIGNS]
    items += [
        element("li", _who(use), element("span", wording.size(use.memory_used_bytes)))
        for use in others[:OTHERS]
    ]
    if len(others) > OTHERS:
        items.append(element("li", f"and {len(others) - OTHERS} more, see below"))
    return element("ul", *items, class_="others") if items else None


def _who(use: HolderUse) -> Element:
    """Return who it is, and what stands for something else than a container with a device."""
    if use.kind not in SIGNS:
        return element("span", wording.described(use))
    tone = TONES.get(use.kind, "suspect")
    badge = element("span", f"{SIGNS[use.kind]} {use.kind}", class_=f"badge {tone}")
    note = element("span", wording.NOTES[use.kind], class_="quiet")
    name = f" {wording.name(use)}: " if use.pod else " "
    return element("span", badge, name, note)


def uses(gpu: GpuStatus) -> Uses:
    """Return what the containers that hold devices use of the GPU and its MIG instances."""
    found: Uses = {}
    for _, device in wording.devices(gpu):
        for use in (device.usage and device.usage.holders) or ():
            if use.resource:
                key = (wording.name(use), use.resource)
                found[key] = _together(found[key], use) if key in found else use
    return found


def _together(first: HolderUse, second: HolderUse) -> HolderUse:
    """Return what a container uses of two MIG instances of one GPU."""
    used = first.memory_used_bytes, second.memory_used_bytes
    share = first.memory_share_bytes, second.memory_share_bytes
    return replace(
        first,
        memory_used_bytes=None if used[0] is None or used[1] is None else used[0] + used[1],
        memory_share_bytes=None if share[0] is None or share[1] is None else share[0] + share[1],
    )


def amount(use: HolderUse | None) -> Content:
    """Return the memory of a holder against its share; None: nothing is known."""
    if use is None or use.memory_used_bytes is None:
        return None
    text = wording.of(use.memory_used_bytes, use.memory_share_bytes)
    if not wording.is_over(use):
        return text
    return element("span", f"! {text}", class_="badge suspect", title="more than its share")


def who_uses_what(status: Status) -> Iterator[Element]:
    """Yield the table over all GPUs, sorted by memory; nothing if usage is not sampled."""
    if status.usage is None:
        return
    if status.usage.problem:
        yield element("p", wording.without_containers(status.usage.problem), class_="quiet")
    users = wording.users(status.gpus or ())
    if users:
        head = ("who", "GPU", "memory", "utilization")
        yield table(head, map(_row, users[:ROWS]))
    if rest := users[ROWS:]:
        memory = wording.size(sum(user.use.memory_used_bytes or 0 for user in rest))
        text = f"{len(rest)} more use {memory} together; gpu-sharing-plugin status shows all."
        yield element("p", text, class_="quiet")


def _row(user: wording.User) -> Iterable[Content]:
    use = user.use
    memory = wording.size(None) if use.memory_used_bytes is None else amount(use)
    return _who(use), user.device, memory, wording.percent(use.utilization_percent)
