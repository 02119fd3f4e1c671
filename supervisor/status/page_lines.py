"""Draws usage as SVG inside the page; sizes are attributes, as the page allows no inline style."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from xml.etree.ElementTree import Element

from supervisor.status import usage_wording as wording
from supervisor.status.markup import element
from supervisor.status.usage_history import POINTS, Hour, Line
from supervisor.status.usage_report import DeviceUse, HolderKind, HolderUse

WIDTH = 1000
"""The units of all memory in the bar."""

HEIGHT = 40
"""The units of 100 % in the lines."""

SHOWN = 12
"""Most holders with a part of the bar; the others share the last part."""

TINTS = 3
"""Containers side by side have different tints."""

MOST_MARKS = 16
"""Most replicas whose shares are marked."""


def bar(use: DeviceUse, replicas: int) -> Element | None:
    """Return the memory of a device as a bar by holder, with marks at the shares of *replicas*."""
    total, used = use.memory_total_bytes, use.memory_used_bytes
    if not total or used is None:
        return None
    parts = list(_parts(use.holders or (), used, total))
    return element(
        "svg",
        *parts,
        _marks(replicas),
        viewBox=f"0 0 {WIDTH} 8",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"memory: {wording.of(used, total)} in use",
        class_="memory",
    )


def _parts(holders: Sequence[HolderUse], used: int, total: int) -> Iterator[Element]:
    """Yield the parts of the bar; what no process is known to use comes last."""
    at, number = 0, 0
    for use in holders[:SHOWN]:
        end = min(at + (use.memory_used_bytes or 0), total)
        tone = use.kind.value
        if use.kind is HolderKind.CONTAINER:
            tone, number = f"tint-{number % TINTS}", number + 1
        yield from _part(at, end, total, tone)
        at = end
    rest = sum(use.memory_used_bytes or 0 for use in holders[SHOWN:])
    yield from _part(at, min(max(used, at + rest), total), total, "rest")


def _part(start: int, end: int, total: int, tone: str) -> Iterator[Element]:
    x, stop = (amount * WIDTH // total for amount in (start, end))
    if stop > x:
        yield element("rect", x=str(x), width=str(stop - x), height="8", class_=tone)


def _marks(replicas: int) -> Element | None:
    if not 1 < replicas <= MOST_MARKS:
        return None
    path = "".join(f"M{WIDTH * n // replicas} 0v8" for n in range(1, replicas))
    return element("path", d=path)


def lines(hour: Hour) -> Element:
    """Return the last hour: utilization as a line, memory as an area."""
    told = ", ".join((_range("utilization", hour.utilization), _range("memory", hour.memory)))
    return element(
        "svg",
        element("title", f"Last hour: {told}"),
        element("path", d="".join(_area(hour.memory)), class_="area"),
        element("path", d="".join(_line(hour.utilization)), class_="line"),
        viewBox=f"0 -1 {POINTS - 1} {HEIGHT + 2}",
        preserveAspectRatio="none",
        role="img",
        class_="hour",
    )


def _range(name: str, line: Line) -> str:
    known = [figure for figure in line if figure is not None]
    return f"{name} {min(known)} to {max(known)} %" if known else f"{name} unknown"


def _runs(line: Line) -> Iterator[tuple[int, list[int]]]:
    """Yield each run of known figures as heights, and where it starts."""
    heights: list[int] = []
    for place, figure in enumerate((*line, None)):
        if figure is not None:
            heights.append(HEIGHT - figure * HEIGHT // 100)
        elif heights:
            yield place - len(heights), heights
            heights = []


def _line(line: Line) -> Iterator[str]:
    for start, heights in _runs(line):
        yield f"M{start} {heights[0]}"
        yield from _steps(heights)


def _area(line: Line) -> Iterator[str]:
    for start, heights in _runs(line):
        yield f"M{start} {HEIGHT}V{heights[0]}"
        yield from _steps(heights)
        yield f"V{HEIGHT}z"


def _steps(heights: list[int]) -> Iterator[str]:
    """Yield the way from one height to the next; a level way is one step, and short in the page."""
    level = 0
    for before, height in pairwise(heights):
        if height == before:
            level += 1
            continue
        if level:
            yield f"h{level}"
        yield f"l1 {height - before}"
        level = 0
    if level or len(heights) == 1:
        yield f"h{level}"  # a point that is alone is a dot
