"""Usage on the page: figures, drawings, and who uses what."""

import dataclasses
import re
from typing import Any

import pytest
from msgspec.structs import replace

from proto.messages import UsageState
from proto.usage import DeviceUsage
from supervisor.status import page_lines, page_usage
from supervisor.status.page import page
from supervisor.status.report import Status
from supervisor.status.snapshot import KnownUsage
from supervisor.status.status import status
from supervisor.status.usage_history import POINTS, Hour
from supervisor.status.usage_owner import Owners
from supervisor.status.usage_report import DeviceUse, HolderKind, HolderUse
from tests.fakes import showcase
from tests.unit.test_page import NOW, WALL, Reader, shown

GIB = 1 << 30


def busy(**fields: Any) -> Status:
    """Return the status of the busy node; *fields* replace its usual samples."""
    known = showcase.snapshot(NOW, WALL)
    assert known.usage
    usage = dataclasses.replace(known.usage, **fields)
    return status(dataclasses.replace(known, usage=usage), showcase.ABOUT, NOW, WALL)


def use(*holders: HolderUse, **fields: Any) -> DeviceUse:
    """Return the use of a device with 80 GiB, of which 20 GiB are in use."""
    unknown = dict.fromkeys(DeviceUse.__struct_fields__)
    usual = {"memory_used_bytes": 20 * GIB, "memory_total_bytes": 80 * GIB, "holders": holders}
    return DeviceUse(**{**unknown, **usual, **fields})


def holder(
    kind: HolderKind = HolderKind.CONTAINER, gib: int | None = 5, **fields: Any
) -> HolderUse:
    """Return somebody who uses 5 GiB."""
    memory = None if gib is None else gib * GIB
    return HolderUse(kind=kind, memory_used_bytes=memory, **fields)


@pytest.mark.parametrize(
    "text",
    [
        "utilization58 %",
        "25.0 of 79.6 GiB",
        "temperature55 °C",
        "power429 of 700 W",
        "1 · 18.0 of 19.9 GiB",
        "1 · ! 22.4 of 19.9 GiB",
        "! host processes outside containers",
        "✗ unallocated research/scratch-5d9f/main: uses the GPU, but holds no device of it",
        "? unknown processes whose container is unknown",
        "memory: 11.0 of 39.8 GiB",
        "Who uses what",
        "Bar: memory by holder",
    ],
)
def test_usage_of_a_busy_node(text: str) -> None:
    """The page shows figures, memory against its share, and those who hold nothing."""
    assert text in Reader(shown(showcase.snapshot(NOW, WALL))).text


def test_who_uses_what_is_sorted_by_memory() -> None:
    """The table has those who use the most memory of any GPU first, unknown memory last."""
    text = shown(showcase.snapshot(NOW, WALL)).partition("Who uses what")[2]
    body = text.partition("</table>")[0]
    rows = [re.sub("<[^>]+>", "|", row) for row in re.findall("<tr>(.*?)</tr>", body)]
    amounts = re.findall(r"([\d.]+)(?: of [\d.]+)? (GiB|MiB)\|", "\n".join(rows))
    sizes = [float(number) * (1024 if unit == "GiB" else 1) for number, unit in amounts]
    assert len(sizes) == 12
    assert sizes == sorted(sizes, reverse=True)


def test_usage_that_is_not_sampled() -> None:
    """Without samples there is nothing of usage on the page, and the rest is as it was."""
    known = dataclasses.replace(showcase.snapshot(NOW, WALL), usage=None)
    text = page(status(known, showcase.ABOUT, NOW, WALL), {})
    assert "Who uses what" not in text
    assert "<svg" not in text
    assert "held by 2 containers" in text


def test_a_figure_that_the_driver_does_not_tell() -> None:
    """A figure that is unknown is left out, and the others are shown."""
    text = Reader(shown(showcase.snapshot(NOW, WALL))).text
    last = text.partition("GPU 7")[2].partition("Who uses what")[0]
    assert not re.search(r"utilization\d", last)
    assert "memory59.5 of 79.6 GiB" in last


def test_why_containers_are_unknown() -> None:
    """The page says why it cannot tell which containers use the GPUs."""
    text = page(busy(owners=Owners(problem="no hostPID")), {})
    assert "Usage by container is unknown: no hostPID" in text


def test_a_leak_is_shown() -> None:
    """Memory in use on a free GPU that is not shared is shown on its card."""
    known = busy()
    assert known.gpus
    first = replace(known.gpus[0], usage=use(leaked_bytes=3 * GIB))
    text = page(replace(known, gpus=(first, *known.gpus[1:])), {})
    assert "! 3.0 GiB in use, although no container holds this device" in text


def bars(made: DeviceUse, replicas: int = 0) -> list[tuple[str, int]]:
    """Return the parts of the bar: class and width."""
    drawn = page_lines.bar(made, replicas)
    assert drawn is not None
    return [(part.get("class", ""), int(part.get("width", ""))) for part in drawn.iter("rect")]


def test_the_bar() -> None:
    """Each holder has a part as wide as its memory; memory of nobody comes last."""
    made = use(holder(gib=8), holder(HolderKind.UNALLOCATED, 4), holder(gib=2), holder(gib=None))
    assert bars(made) == [("tint-0", 100), ("unallocated", 50), ("tint-1", 25), ("rest", 75)]


def test_a_bar_of_odd_figures() -> None:
    """The parts never exceed the bar, whatever the driver tells of processes."""
    many = [holder(gib=3)] * 50
    for made in (use(*many), use(holder(gib=900)), use(memory_used_bytes=99 * GIB)):
        assert 0 < sum(width for _, width in bars(made)) <= page_lines.WIDTH
        assert len(bars(made)) <= page_lines.SHOWN + 1
    assert page_lines.bar(use(memory_total_bytes=0), 4) is None
    assert page_lines.bar(use(memory_used_bytes=None), 4) is None


@pytest.mark.parametrize(("replicas", "marks"), [(0, 0), (1, 0), (4, 3), (16, 15), (17, 0)])
def test_marks_at_the_shares(replicas: int, marks: int) -> None:
    """The bar has a mark between the shares of replicas, unless these are too many to see."""
    drawn = page_lines.bar(use(), replicas)
    assert drawn is not None
    assert "".join(path.get("d", "") for path in drawn.iter("path")).count("M") == marks


def paths(utilization: tuple[int | None, ...], memory: tuple[int | None, ...]) -> list[str]:
    """Return the paths of the area and of the line."""
    drawn = page_lines.lines(Hour(utilization, memory))
    return [path.get("d", "") for path in drawn.iter("path")]


def test_lines_with_gaps() -> None:
    """A gap interrupts the line and the area; a point that is alone is a dot."""
    area, line = paths((100, 100, 100, 0, None, 50, None), (None, 50, 50, None, None, None, 0))
    assert line == "M0 0h2l1 40M5 20h0"
    assert area == "M1 40V20h1V40zM6 40V40h0V40z"


def test_an_unknown_hour() -> None:
    """An hour of which nothing is known is drawn as nothing, and says so."""
    drawn = page_lines.lines(Hour((None,) * POINTS, (3,) * POINTS))
    assert [path.get("d") for path in drawn.iter("path")][1] == ""
    title = drawn.find("title")
    assert title is not None
    assert title.text == "Last hour: utilization unknown, memory 3 to 3 %"


def test_many_users_are_few_rows() -> None:
    """A node with very many users has a table of ROWS rows, and one line for the others."""
    known = busy()
    assert known.gpus
    many = tuple(holder(gib=1, namespace="n", pod=f"p{n}", container="c") for n in range(400))
    first = replace(known.gpus[0], usage=use(*many))
    text = page(replace(known, gpus=(first,)), {}).partition("Who uses what")[2]
    assert text.partition("</table>")[0].count("<tr>") == 1 + page_usage.ROWS
    assert "350 more use 350.0 GiB together" in text


def test_many_others_on_a_card() -> None:
    """A card shows few of those who hold nothing, and how many more there are."""
    known = busy()
    assert known.gpus
    many = (holder(HolderKind.UNALLOCATED, 1, namespace="n", pod=f"p{n}") for n in range(9))
    first = replace(known.gpus[0], usage=use(*many))
    card = page(replace(known, gpus=(first,)), {}).partition("Who uses what")[0]
    assert card.count("unallocated</span>") == page_usage.OTHERS
    assert "and 5 more, see below" in card


def test_the_hour_needs_little_room() -> None:
    """An hour in which every point differs is less than 2 KiB."""
    noisy = tuple(n * 7919 % 101 for n in range(POINTS))
    assert sum(map(len, paths(noisy, noisy))) < 2048


def test_samples_without_the_node() -> None:
    """Samples that arrive before the GPUs are listed do no harm."""
    samples = UsageState(epoch=1, sequence=1, interval=5.0, devices=(DeviceUsage("A", 1.0),))
    known = dataclasses.replace(
        showcase.snapshot(NOW, WALL), node=None, usage=KnownUsage(samples, NOW, Owners())
    )
    assert "Who uses what" not in page(status(known, showcase.ABOUT, NOW, WALL), {})
