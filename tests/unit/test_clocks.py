"""Decisions use the monotonic clock only, because the wall clock may jump."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("supervisor", "workers", "health", "proto")
WALL = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "clock_gettime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}

MODULE = re.compile("|".join(rf"\b{name}\b" for name in WALL))
"""In a file without such a name there is nothing to find."""

SHOWN = {
    "health/observed.py": "when a device came into its state, and when an Xid was seen last",
    "supervisor/cluster/main.py": "when something happened, in an Event and the node's condition",
    "supervisor/cluster/withdrawal.py": "when a node condition became false",
    "supervisor/exporter/pages.py": "when the monitor spoke last, in a metric and on the page",
    "supervisor/exporter/without_gpu.py": "when the configuration was loaded",
    "supervisor/labels/main.py": "when the file with labels expires",
    "supervisor/mps/keeper.py": "when an MPS daemon came into its phase",
    "supervisor/mps/main.py": "since when the keeper of an MPS daemon is silent",
    "supervisor/reload.py": "when the configuration was loaded",
}
"""The files that read the wall clock, and the value that each shows to operators."""


def readings(tree: ast.AST) -> Iterator[str]:
    """Yield the calls in *tree* that read the wall clock."""
    since_boot: set[ast.AST] = set()  # a clock that does not jump
    for node in ast.walk(tree):
        match node:
            case ast.Call(args=[ast.Attribute(attr="CLOCK_BOOTTIME")]):
                since_boot.add(node.func)
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (
                name in WALL.get(module, ()) and node not in since_boot
            ):
                yield f"{module}.{name}"
            case ast.ImportFrom(module="time", names=names):
                yield from (f"time.{n.name}" for n in names if n.name in WALL["time"])
            case _:
                pass


def test_the_wall_clock_is_only_shown() -> None:
    """Only the listed files read the wall clock, for values that are only shown."""
    found = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if MODULE.search(text := path.read_text()) and any(readings(ast.parse(text)))
    }
    assert found == SHOWN.keys()


def test_the_wall_clock_is_never_compared() -> None:
    """Nothing is decided by a comparison with the wall clock, in these files either."""
    found = {
        path
        for path in SHOWN
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Compare) and any(readings(node))
    }
    assert not found


def test_readings_are_found() -> None:
    """Imports and calls that read the wall clock are found; the monotonic clock is not."""
    text = (
        "from time import time_ns\nimport time\n"
        "x = time.time() + datetime.now() + time.monotonic()\n"
        "y = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)"
    )

    assert sorted(readings(ast.parse(text))) == [
        "datetime.now",
        "time.clock_gettime",
        "time.time",
        "time.time_ns",
    ]
