"""The top and the end of the page: which node it is, and what is known of the service."""

from collections.abc import Iterator
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from proto.driver import NOTHING_TO_SERVE, DriverState
from supervisor.status import wording
from supervisor.status.markup import element
from supervisor.status.report import Status

LINKS = {"metrics": "metrics", "status": "status as JSON"}
"""Texts of links, by the path. Relative, so that they also work through the API server's proxy."""

NO_GPU = (
    "No NVIDIA GPU was found on this node, so pods get none here. Nothing else is wrong.",
    "If it should have GPUs, look for them on the PCI bus: lspci -d 10de: shows them.",
    "The kernel log says why a GPU failed: dmesg | grep NVRM.",
    "The service finds a GPU that appears by itself.",
    "If it should have none, a node selector or an affinity keeps the plugin off this node.",
)

GIVEN_AWAY = NOTHING_TO_SERVE[DriverState.PASSTHROUGH]


def header(status: Status, title: str) -> Element:
    """Return the header with *title*: the state of the node, and when it was so."""
    time = element("span", "as of ", moment(status.time, f"{_utc(status.time):%H:%M:%S} UTC"))
    sign, tone = ("✓", "healthy") if status.ok else ("✗", "unhealthy")
    links = (element("a", text, href=path) for path, text in LINKS.items())
    return element(
        "header",
        element("h1", element("span", sign, class_=f"badge {tone}"), f" {title}"),
        element(
            "p",
            *(element("span", fact) for fact in _facts(status)),
            time,
            *links,
            class_="headline quiet",
        ),
    )


def _facts(status: Status) -> Iterator[str]:
    node = status.node
    if node.name:
        yield f"node {node.name}"
    if node.hostname and node.hostname != node.name:
        yield f"host {node.hostname}"
    backend = f" ({node.backend})" if node.backend else ""
    yield f"driver {node.driver_version or wording.UNKNOWN}{backend}"
    yield f"platform {node.platform or wording.UNKNOWN}"
    yield "✓ live" if node.live.ok else "✗ not live"
    yield "✓ ready" if node.ready.ok else "✗ not ready"
    if any(gpu.holders is None for gpu in status.gpus or ()):
        yield "cannot read pod resources from the kubelet: holders are unknown"


def no_gpu(status: Status) -> Element | None:
    """Return what it means that the node has no GPU; None: it has one, or nobody knows yet.

    GPUs that belong to virtual machines are among the notices.
    """
    node = status.node
    passed = node.passthrough or GIVEN_AWAY in (node.notices or ())
    if status.gpus is None or status.gpus or node.failed or passed:
        return None
    return element("section", element("h2", "No GPU here"), *(element("p", t) for t in NO_GPU))


def details(status: Status) -> Element:
    """Return what few readers need, folded."""
    facts = [f"version {status.version}"]
    if configuration := status.configuration:
        facts.append(f"configuration {configuration.hash or wording.UNKNOWN}")
        if configuration.loaded is not None:
            facts.append(f"loaded {wording.ago(status.time - configuration.loaded)} ago")
    items = (element("li", fact) for fact in facts)
    summary = element("summary", "Details of the service")
    return element("details", summary, element("ul", *items), id="details")


def _utc(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)


def moment(time: float, text: str) -> Element:
    """Return *text* for a unix time, which programs can read too."""
    return element("time", text, datetime=f"{_utc(time):%Y-%m-%dT%H:%M:%SZ}")
