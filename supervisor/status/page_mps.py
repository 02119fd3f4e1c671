"""MPS on the page: what a GPU's card shows of the daemon that shares it."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from supervisor.status import mps_wording as wording
from supervisor.status.markup import element
from supervisor.status.mps_report import MpsClientStatus, MpsStatus
from supervisor.status.report import GpuStatus

OPEN_UP_TO = 4
"""Longest list of clients that is shown unfolded."""


def card(gpu: GpuStatus) -> Iterator[Element]:
    """Yield a block for the GPU, and for each MIG instance, that MPS shares."""
    for name, device, mps in wording.shared(gpu):
        title = "MPS" if device is gpu else f"MPS of {name}"
        yield _block(name, title, mps)


def _block(name: str, title: str, mps: MpsStatus) -> Element:
    state = f"{wording.sign(mps)} {wording.phase(mps)}, server {wording.server(mps)}"
    head = element("span", element("b", title), element("span", state))
    limits = element("p", f"a replica: {wording.limits(mps)}", class_="quiet")
    detail = element("p", mps.detail, class_="quiet") if mps.detail else None
    return element("div", head, limits, detail, _clients(name, mps), class_="share")


def _clients(name: str, mps: MpsStatus) -> Element | None:
    if not mps.clients:
        return None
    attributes = {"open": "open"} if len(mps.clients) <= OPEN_UP_TO else {}
    summary = element("summary", wording.clients(mps))
    return element(
        "details",
        summary,
        element("ul", *map(_client, mps.clients)),
        id=f"mps-{name}",
        **attributes,
    )


def _client(client: MpsClientStatus) -> Element:
    return element(
        "li", element("span", wording.whose(client)), element("span", wording.process(client))
    )
