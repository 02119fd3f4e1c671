"""The status as an HTML page that loads nothing from any other server."""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

from supervisor.status import page_dra, page_header, page_mps, page_usage, usage_wording, wording
from supervisor.status.markup import Content, document, element, table
from supervisor.status.page_header import header, moment
from supervisor.status.page_usage import Uses
from supervisor.status.report import (
    DeviceStatus,
    GpuStatus,
    InstanceStatus,
    Monitoring,
    ResourceStatus,
    ShareStatus,
    Status,
)
from supervisor.status.usage_history import Hour
from supervisor.status.wording import Claim

STYLE = Path(__file__).with_name("page.css").read_text()
SCRIPT = Path(__file__).with_name("page.js").read_text()

REFRESH = "5"
"""Seconds between two refreshes in browsers without JavaScript."""

OPEN_UP_TO = 4
"""Longest list of containers that is shown unfolded."""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {_hash(SCRIPT)}; style-src {_hash(STYLE)}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The Content-Security-Policy: allows our own script and style, and nothing else."""


def page(status: Status, hours: Mapping[str, Hour]) -> str:
    """Return the page of *status*, with the last *hours* of GPUs by UUID."""
    title = wording.headline(status)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title} - gpu-sharing-plugin"),
        element("link", rel="icon", href="data:,"),
        element("noscript", element("meta", http_equiv="refresh", content=REFRESH)),
        element("style", STYLE),
    )
    body = element(
        "body",
        element("p", "The service does not answer. This data is old.", id="stale", role="alert"),
        element("main", *_sections(status, title, hours)),
        element("script", SCRIPT),
    )
    return document(element("html", head, body, lang="en"))


def _sections(status: Status, title: str, hours: Mapping[str, Hour]) -> Iterator[Element | None]:
    yield header(status, title)
    if problems := wording.problems(status):
        items = (element("li", problem) for problem in problems)
        yield _section("Problems", element("ul", *items, class_="problems"))
    if notices := wording.notices(status):
        items = (element("li", notice) for notice in notices)
        yield _section("Notices", element("ul", *items))
    yield page_header.no_gpu(status)
    if status.gpus:
        links = element("nav", *map(_link, status.gpus), aria_label="GPUs")
        cards = (_card(gpu, status.time, hours.get(gpu.uuid)) for gpu in status.gpus)
        legend = page_usage.legend(status)
        yield _section("GPUs", links, element("div", *cards, class_="gpus"), legend)
    if users := list(page_usage.who_uses_what(status)):
        yield _section("Who uses what", *users)
    if status.resources:
        yield _section("Resources", _resources(status.resources))
    if status.xids:
        yield _section("Xids since the health monitor started", _xids(status))
    if status.processes:
        yield _section("Processes", _processes(status))
    yield page_header.details(status)


def _section(title: str, *content: Content) -> Element:
    return element("section", element("h2", title), *content)


def _link(gpu: GpuStatus) -> Element:
    """Return a link to the card of the GPU, with the sign for its state."""
    tone = _tone(gpu)
    sign = element("span", wording.sign(tone), class_="badge")
    return element(
        "a",
        f"{gpu.index} ",
        sign,
        href=f"#gpu-{gpu.index}",
        aria_label=f"GPU {gpu.index}: {tone}",
        class_=tone,
    )


def _card(gpu: GpuStatus, now: float, hour: Hour | None) -> Element:
    name = element("h3", f"GPU {gpu.index}", id=f"gpu-{gpu.index}")
    return element(
        "article",
        element("header", name, _badge(gpu, now)),
        element("p", *_facts(gpu), class_="facts quiet"),
        element("code", gpu.uuid),
        _reasons(gpu),
        _grey(gpu),
        *page_usage.card(gpu, hour),
        *_shares(gpu),
        *page_mps.card(gpu),
        *page_dra.holders(gpu),
        _instances(gpu.instances, now),
        class_=f"gpu {_tone(gpu)}",
        aria_labelledby=f"gpu-{gpu.index}",
    )


def _tone(gpu: GpuStatus) -> str:
    """Return the state that colours the card: the GPU's, or that of a MIG instance with a fault."""
    ailing = (device for device in (gpu, *gpu.instances) if not device.healthy)
    return wording.state(next(ailing, gpu))


def _badge(device: DeviceStatus, now: float) -> Element:
    state = wording.state(device)
    badge = element("span", f"{wording.sign(state)} {state}", class_=f"badge {state}")
    if device.since is None:
        return badge
    since = moment(device.since, f"for {wording.ago(now - device.since)}")
    return element("span", badge, " ", element("span", since, class_="quiet"))


def _facts(gpu: GpuStatus) -> Iterator[Element]:
    facts = (
        gpu.model,
        gpu.pci_bus_id,
        None if gpu.numa_node is None else f"NUMA node {gpu.numa_node}",
        wording.memory(gpu),
        "MIG mode" if gpu.mig else None,
        "reports no Xids" if gpu.monitoring is Monitoring.POLLING else None,
    )
    return (element("span", fact) for fact in facts if fact)


def _reasons(device: DeviceStatus) -> Element | None:
    """Return what to do, then why; what each reason needs alone is folded, as it may contradict."""
    if not device.reasons:
        return None
    advice = element("li", element("strong", device.advice or ""))
    texts = (element("li", reason.text) for reason in device.reasons)
    return element("ul", advice, *texts, _alone(device), class_="reasons")


def _alone(device: DeviceStatus) -> Element | None:
    """Return the folded advice for each reason alone, if it is another than for the device."""
    if {reason.advice for reason in device.reasons} == {device.advice}:
        return None
    alone = (element("li", f"{reason.text}: {reason.advice}") for reason in device.reasons)
    summary = element("summary", "advice for each reason alone")
    name = f"reasons-{device.uuid}"
    return element("li", element("details", summary, element("ul", *alone), id=name))


def _grey(gpu: GpuStatus) -> Element | None:
    """Return what is worse than it should be, though the GPU works."""
    items = [
        element("li", element("strong", f"{wording.GREY}{reason.text}"), f" {reason.advice}")
        for reason in gpu.grey
    ]
    return element("ul", *items, class_="reasons") if items else None


def _shares(gpu: GpuStatus) -> Iterator[Element]:
    """Yield each resource that has devices on the GPU, with the containers that hold them."""
    held, uses = wording.by_resource(gpu.holders or ()), page_usage.uses(gpu)
    for share in gpu.resources or ():
        yield _share(gpu.index, share, held.pop(share.resource, []), uses)
    for resource, claims in held.items():
        text = element("span", element("b", resource), element("span", "no longer advertised"))
        yield element(
            "div", text, _holders(f"{gpu.index}-{resource}", claims, uses), class_="share"
        )


def _share(index: int, share: ShareStatus, claims: list[Claim], uses: Uses) -> Element:
    used = f"{wording.number(share.used)} of {share.advertised} used"
    if share.unhealthy:
        used += f", {share.unhealthy} unhealthy"
    bar: Content = None
    if share.used is not None:
        bar = element("progress", value=str(share.used), max=str(share.advertised), aria_label=used)
    text = element("span", element("b", share.resource), element("span", used))
    holders = _holders(f"{index}-{share.resource}", claims, uses)
    return element("div", text, bar, holders, class_="share")


def _holders(name: str, claims: list[Claim], uses: Uses) -> Element | None:
    """Return the containers that hold devices of one resource; a long list is folded."""
    if not claims:
        return None
    items = (
        element("li", element("span", claim.container), element("span", *_held(claim, uses)))
        for claim in claims
    )
    attributes = {"open": "open"} if len(claims) <= OPEN_UP_TO else {}
    text = "held by 1 container" if len(claims) == 1 else f"held by {len(claims)} containers"
    return element(
        "details", element("summary", text), element("ul", *items), id=name, **attributes
    )


def _held(claim: Claim, uses: Uses) -> Iterator[Content]:
    """Yield how many devices a container holds, and how much memory it uses, if that is known."""
    yield str(claim.devices)
    memory = page_usage.amount(uses.get((claim.container, claim.resource)))
    if memory is not None:
        yield " · "
        yield memory


def _instances(instances: Iterable[InstanceStatus], now: float) -> Element | None:
    items = [
        element(
            "li",
            element("div", f"{mig.place}: {mig.profile or 'MIG instance'}", _badge(mig, now)),
            element("code", mig.uuid, class_="quiet"),
            _memory(mig),
            _reasons(mig),
            class_=wording.state(mig),
        )
        for mig in instances
    ]
    return element("ul", *items, class_="instances") if items else None


def _memory(mig: InstanceStatus) -> Element | None:
    text = usage_wording.memory(mig.usage) if mig.usage else ""
    return element("p", f"memory: {text}", class_="quiet") if text else None


def _resources(resources: Iterable[ResourceStatus]) -> Element:
    rows = (
        (
            resource.name,
            resource.sharing or wording.UNKNOWN,
            f"{wording.number(resource.healthy)} of {wording.number(resource.devices)}",
            wording.number(resource.allocated),
            wording.kubelet(resource),
        )
        for resource in resources
    )
    return table(("resource", "sharing", "healthy", "used", "kubelet"), rows)


def _xids(status: Status) -> Element:
    indexes = {gpu.uuid: f"GPU {gpu.index}" for gpu in status.gpus or ()}
    rows = (
        (
            f"{seen.xid} {seen.name}",
            indexes.get(seen.uuid or "", seen.uuid or "unknown GPU"),
            str(seen.count),
            "" if seen.last is None else f"{wording.ago(status.time - seen.last)} ago",
        )
        for seen in status.xids or ()
    )
    return table(("Xid", "GPU", "count", "last seen"), rows)


def _processes(status: Status) -> Element:
    rows = (
        (process.name, process.state, str(process.restarts), str(process.pid or "none"))
        for process in status.processes or ()
    )
    return table(("process", "state", "restarts", "pid"), rows)
