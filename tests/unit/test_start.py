"""What a start imports before it forks: all of it delays the first device list."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

SCRIPT = """
import dataclasses, inspect, json, sys
import supervisor.main
from supervisor import preload

supervisor.main._parsed(["{command}"])
preload.preload(preload.{tree}, api_client=False)
ours = {{"health", "proto", "simulator", "supervisor", "workers"}}
modules = [m for name, m in sys.modules.items() if name.split(".")[0] in ours]
classes = {{c for m in modules for c in vars(m).values() if inspect.isclass(c)}}
slow = [f"{{c.__module__}}.{{c.__name__}}" for c in classes if dataclasses.is_dataclass(c)]
print(json.dumps({{"modules": sorted(sys.modules), "dataclasses": sorted(slow)}}))
"""

NEEDLESS = (
    "email",
    "h11",
    "html",
    "http",
    "httpx2",
    "jsonschema",
    "lightkube",
    "prometheus_client",
    "rich",
    "simulator.drill",
    "simulator.nvml",
    "simulator.simulate",
    "supervisor.cluster",
    "supervisor.exporter",
    "supervisor.labels",
    "supervisor.prober",
    "supervisor.status",
    "urllib.request",
    "uvicorn",
    "yaml",
    "zmq.asyncio",
)
"""Modules that no process needs for the first list, or only one process on few nodes."""

OF_A_COMMAND = frozenset({"proto.host.Identity"})
"""Dataclasses in a module that also runs as a command, which has no other modules."""


def imported(command: str, tree: str) -> dict[str, list[str]]:
    """Return what a start of the *tree* has imported when it forks."""
    script = SCRIPT.format(command=command, tree=tree)
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, capture_output=True, check=True, text=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def within(modules: list[str], names: tuple[str, ...]) -> Iterator[str]:
    """Yield those of *modules* that are one of *names*, or below it."""
    return (m for m in modules if any(m == name or m.startswith(f"{name}.") for name in names))


@pytest.mark.parametrize(("command", "tree"), [("run", "PLUGIN"), ("mps", "MPS")])
def test_a_start_imports_nothing_needless(command: str, tree: str) -> None:
    """It imports none of the modules that can wait, and defines no dataclass.

    A frozen dataclass takes 25 times the instructions of a msgspec.Struct to define; a hundred of
    them were a quarter of all that a start executed.
    """
    found = imported(command, tree)
    assert not [*within(found["modules"], NEEDLESS)]
    assert not {*found["dataclasses"]} - OF_A_COMMAND
