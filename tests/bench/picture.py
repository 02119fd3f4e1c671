"""Draw curves as SVG that is readable as text in a diff."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

NAMESPACE = "http://www.w3.org/2000/svg"
WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 50
COLOURS = ("#1f6feb", "#d1242f", "#8250df")
TICKS = 5

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """Measured points, from left to right."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Picture:
    """Curves with common axes."""

    title: str
    across: str
    up: str
    curves: Sequence[Curve]
    log: bool = False
    """Whether both axes are logarithmic."""


Scale = Callable[[float], float]


def draw(picture: Picture) -> str:
    """Return the picture as an SVG document."""
    points = [point for curve in picture.curves for point in curve.points]
    across = _ticks([x for x, _ in points], log=picture.log)
    up = _ticks([y for _, y in points], log=picture.log)
    place_x = _scale(across, LEFT, WIDTH - RIGHT, log=picture.log)
    place_y = _scale(up, HEIGHT - BOTTOM, TOP, log=picture.log)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    lines = [
        f'<svg xmlns="{NAMESPACE}" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 20, picture.title, 'font-weight="bold"'),
        _text(WIDTH - RIGHT, HEIGHT - 10, picture.across, 'text-anchor="end"'),
        _text(8, TOP - 6, picture.up),
        *_grid(across, up, place_x, place_y),
        *_curves(picture.curves, place_x, place_y),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _ticks(values: Sequence[float], *, log: bool) -> list[float]:
    """Return round values that enclose all *values*."""
    if log:
        first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return [10.0**power for power in range(first, max(last, first + 1) + 1)]
    step = 10.0 ** math.floor(math.log10(max(values)))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if max(values) / s <= TICKS + 1)
    return [step * count for count in range(math.ceil(max(values) / step) + 1)]


def _scale(ticks: Sequence[float], start: float, end: float, *, log: bool) -> Scale:
    measure = math.log10 if log else float
    low, high = measure(ticks[0]), measure(ticks[-1])
    return lambda value: start + (measure(value) - low) / (high - low) * (end - start)


def _grid(
    across: Sequence[float], up: Sequence[float], place_x: Scale, place_y: Scale
) -> Iterator[str]:
    for value in across:
        x = place_x(value)
        yield f'<path d="M{x:.0f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>'
        yield _text(x, HEIGHT - BOTTOM + 18, f"{value:g}", 'text-anchor="middle"')
    for value in up:
        y = place_y(value)
        yield f'<path d="M{LEFT} {y:.0f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        yield _text(LEFT - 8, y + 4, f"{value:g}", 'text-anchor="end"')


def _curves(curves: Sequence[Curve], place_x: Scale, place_y: Scale) -> Iterator[str]:
    for row, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        places = [(place_x(x), place_y(y)) for x, y in curve.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        yield _text(LEFT + 12, TOP + 16 + 16 * row, curve.name, f'fill="{colour}"')


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {attributes}>{escape(text)}</text>'
