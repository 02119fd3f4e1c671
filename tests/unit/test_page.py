"""The web page of /: complete, small, and safe with any names in it."""

import base64
import dataclasses
import functools
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proto.control import ServiceState
from proto.driver import NOTHING_TO_SERVE, DriverState
from proto.messages import DeviceHealth, DeviceState
from proto.reasons import Reason, ReasonKind
from supervisor.status import page as module
from supervisor.status.allocations import Allocation
from supervisor.status.page import POLICY, page
from supervisor.status.page_header import LINKS
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About, status
from supervisor.status.usage_owner import Owner, OwnerKind, Owners
from tests.fakes import showcase, showcase_usage
from tests.unit.builders import inventory

NOW, WALL = 1000.0, 1_700_000_000.0
HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>\' onload="x" & &lt;b&gt;'


class Reader(HTMLParser):
    """The elements, attributes and text of a page, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Add an element."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Add text."""
        self.text += data


def shown(known: Snapshot, about: About = showcase.ABOUT) -> str:
    """Return the page for a snapshot."""
    hours = showcase_usage.history(NOW).hours(showcase.UUIDS, NOW)
    return page(status(known, about, NOW, WALL), hours)


def named(name: str) -> Snapshot:
    """Return the busy node with *name* in each place for names from outside."""
    known = showcase.snapshot(NOW, WALL)
    assert known.node
    assert known.service
    assert known.usage
    inventory = known.node.inventory
    gpus = tuple(replace(gpu, name=name, pci_bus_id=name) for gpu in inventory.gpus)
    problems = tuple(replace(problem, text=name) for problem in known.service.problems)
    health = tuple(
        replace(device, reasons=tuple(replace(reason, detail=name) for reason in device.reasons))
        for device in known.node.health
    )
    users = known.usage.owners.of
    owners = Owners(dict.fromkeys(users, Owner(OwnerKind.CONTAINER, name, name, name)))
    return dataclasses.replace(
        known,
        node=replace(
            known.node,
            inventory=replace(inventory, gpus=gpus, driver_version=name),
            health=health,
        ),
        service=replace(known.service, problems=problems),
        allocations=(
            Allocation(showcase.SHARED, f"{showcase.UUIDS[0]}::0", name, name, name),
            Allocation(name, showcase.UUIDS[1], name, name, name),
            Allocation(name, name, name, name, name),
        ),
        usage=dataclasses.replace(known.usage, owners=owners),
    )


@functools.cache
def plain() -> Reader:
    """Read the page with a name that has nothing special."""
    return Reader(shown(named("plain")))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1))
def test_names_from_outside_are_text(name: str) -> None:
    """Any name is shown unchanged, and adds no element or attribute to the page."""
    usual, odd = plain(), Reader(shown(named(name)))
    assert odd.tags == usual.tags
    assert [key for key, _ in odd.attributes] == [key for key, _ in usual.attributes]
    assert f"{name}/{name}/{name}" in odd.text
    assert f"unallocated {name}/{name}/{name}: " in odd.text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1))
def test_why_usage_is_not_known_is_text(why: str) -> None:
    """The reason is shown unchanged, and no process is assigned to anybody."""
    known = showcase.snapshot(NOW, WALL)
    assert known.usage
    usage = dataclasses.replace(known.usage, owners=Owners(problem=why))
    text = Reader(shown(dataclasses.replace(known, usage=usage))).text
    assert f"Usage by container is unknown: {why}" in text
    assert "unallocated research" not in text


def test_a_pod_named_like_a_script() -> None:
    """A pod name with HTML in it is shown as text."""
    about = About(HOSTILE, 10.0, HOSTILE, node=HOSTILE, hostname=f"{HOSTILE}2")
    text = shown(named(HOSTILE), about)
    assert Reader(text).tags.count("script") == 1
    assert "img" not in Reader(text).tags
    assert HOSTILE in Reader(text).text


def test_the_policy_allows_the_page_and_nothing_else() -> None:
    """The policy allows the page's script and style by hash; attributes have no code."""
    text = shown(showcase.snapshot(NOW, WALL))
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in POLICY
    attributes = Reader(text).attributes
    assert not [name for name, _ in attributes if name == "style" or name.startswith("on")]
    links = [value for name, value in attributes if name in {"src", "href", "action"}]
    assert all(link.startswith(("#", "data:")) or link in LINKS for link in links)
    assert set(LINKS) <= set(links)
    assert POLICY.startswith("default-src 'none';")


def test_the_page_names_the_node() -> None:
    """Title and header name the node; the configuration's hash is below, in the details."""
    about = dataclasses.replace(showcase.ABOUT, node="node-7", hostname="plugin-x7k2p")
    text = Reader(shown(showcase.snapshot(NOW, WALL), about)).text
    assert "node-7: 4 of 8 GPUs are not healthy - gpu-sharing-plugin" in text
    header, _, rest = text.partition("Problems")
    assert "node node-7" in header
    assert "host plugin-x7k2p" in header
    assert "5f2c9a81" not in header
    assert "configuration 5f2c9a81" in rest


def test_a_node_without_gpus() -> None:
    """A node whose driver lists no GPU says so, and what to do."""
    known = showcase.snapshot(NOW, WALL)
    assert known.node
    nothing = dataclasses.replace(known, node=replace(known.node, inventory=inventory(), health=()))
    assert "No GPU here" in Reader(shown(nothing)).text
    assert "No GPU here" not in Reader(shown(known)).text
    assert "No GPU here" not in Reader(shown(Snapshot())).text


def test_a_node_whose_gpus_belong_to_virtual_machines() -> None:
    """With or without a driver it has GPUs, so the page does not say that none was found."""
    known = showcase.snapshot(NOW, WALL)
    assert known.node
    passed = replace(inventory(), passed={"0000:41:00.0": "vfio-pci"})
    with_driver = dataclasses.replace(known, node=replace(known.node, inventory=passed, health=()))
    state = DriverState.PASSTHROUGH
    notices = (NOTHING_TO_SERVE[state],)
    service = ServiceState(processes=(), planned=(), notices=notices, driver=state)
    for snapshot in (with_driver, Snapshot(service=service)):
        text = Reader(shown(snapshot)).text
        assert "virtual machine" in text
        assert "No NVIDIA GPU was found" not in text


def test_the_strongest_advice_comes_first() -> None:
    """A GPU with contradicting advice shows one; the others are folded, each with its reason."""
    known = showcase.snapshot(NOW, WALL)
    assert known.node
    uuid = known.node.inventory.gpus[0].uuid
    reasons = (Reason(ReasonKind.RECOVERY_ACTION, "reset the GPU"), Reason(ReasonKind.XID, "79"))
    health = (DeviceHealth(uuid, reasons, DeviceState.UNHEALTHY),)
    text = shown(dataclasses.replace(known, node=replace(known.node, health=health)))
    (shown_first, *_) = re.findall(r"<ul class=.reasons.>(.*?)</details>", text, re.DOTALL)
    assert shown_first.startswith("<li><strong>Drain the node and reboot it.</strong></li>")
    before, _, folded = shown_first.partition("<details")
    assert "then reset the GPU" not in before
    assert "then reset the GPU" in folded


def test_nothing_ends_the_script_or_the_style_early() -> None:
    """Script and style are ASCII without `</`, so that nothing ends their element early."""
    assert "</" not in module.SCRIPT + module.STYLE
    assert module.SCRIPT.isascii()
    assert module.STYLE.isascii()


def test_a_full_node_is_a_small_page() -> None:
    """The page of 8 GPUs with 100 replicas each and 100 holders is smaller than 60 KiB."""
    text = shown(showcase.snapshot(NOW, WALL, replicas=100, held=100))
    assert text.count("batch-worker-") > 80
    assert len(text.encode()) < 60 * 1024


@pytest.mark.parametrize(
    "text",
    [
        "4 of 8 GPUs are not healthy",
        "for 14 min",
        "GPU has fallen off the bus",
        "Drain the node and reboot it.",
        "2 of 4 used",
        "1 of 4 used, 4 unhealthy",
        "research/llm-eval-0/main",
        "not-shared: cannot share",
        "not shared, because this node has no such resource: nvidia.com/mig-2g.20gb",
        "16 of 28",
        "MIG-00000007-0000-0000-0000-000000000001",
        "↻ recovering",
    ],
)
def test_the_page_of_a_busy_node(text: str) -> None:
    """The page shows states, reasons with advice, replicas, holders and problems."""
    assert text in Reader(shown(showcase.snapshot(NOW, WALL))).text


def test_unknown_values_on_the_page() -> None:
    """Unknown values are shown as unknown, not as a number."""
    text = Reader(shown(Snapshot())).text
    assert "GPUs unknown: waiting for the health monitor" in text
    assert "not live: supervisor: no heartbeat" in text
    known = dataclasses.replace(showcase.snapshot(NOW, WALL), allocations=None)
    text = Reader(shown(known)).text
    assert "unknown of 4 used" in text
    assert "cannot read pod resources from the kubelet: holders are unknown" in text


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour like #fff or #1a7f37, as WCAG defines it."""
    digits = colour.removeprefix("#")
    pairs = [c * 2 for c in digits] if len(digits) == 3 else re.findall("..", digits)
    channels = [int(pair, 16) / 255 for pair in pairs]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast(scheme: int) -> None:
    """Each text colour has a contrast of at least 4.5, as in WCAG AA, light and dark."""
    rules = re.findall(r":root \{(.*?)\}", module.STYLE, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", rules[scheme]))
    for text in ("text", "quiet", "good", "bad", "warn", "move"):
        for back in ("back", "card"):
            low, high = sorted((luminance(colours[text]), luminance(colours[back])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, back)
    low, high = sorted((luminance(colours["text"]), luminance(colours["bad-back"])))
    assert (high + 0.05) / (low + 0.05) >= 4.5
