"""What the card of a GPU shows of the containers that hold it through DRA."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from supervisor.status import wording
from supervisor.status.markup import element
from supervisor.status.report import GpuStatus

MOST = 16
"""Most containers that are shown of one driver."""


def holders(gpu: GpuStatus) -> Iterator[Element]:
    """Yield each DRA driver of which a container holds the GPU, with the containers."""
    found: dict[str, list[str]] = {}
    for driver, _, container in wording.dra_rows(gpu):
        found.setdefault(driver, []).append(container)
    for driver, containers in found.items():
        title = element("span", element("b", driver), element("span", wording.THROUGH_DRA))
        items = [element("li", element("span", text)) for text in containers[:MOST]]
        if len(containers) > MOST:
            items.append(element("li", element("span", f"{len(containers) - MOST} more")))
        count = len(containers)
        summary = "held by 1 container" if count == 1 else f"held by {count} containers"
        listed = element("details", element("summary", summary), element("ul", *items), open="open")
        yield element("div", title, listed, class_="share")
