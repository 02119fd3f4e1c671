"""Grey failures through the C library: the monitor samples, decides, and publishes them."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from proto.grey import GreySettings
from proto.messages import NodeState
from proto.monitor import MonitorSettings
from proto.paths import Paths
from proto.reasons import ReasonKind
from tests.fakes.monitor import Monitor, monitor
from tests.fakes.nvml_library import GPU_UUIDS, Steering
from tests.fakes.service import PATIENCE

FIGURES = {
    "pcie": ("width", 4, 16),
    "slowdown": ("reasons", 0x88, 0),
    "clocks": ("clock", 345, 1980),
    "ecc-corrected": ("corrected", 5000, 0),
    "spare-rows": ("spare", 1, 0),
    "persistence": ("persistence", 0, 1),
    "fabric": ("health", 0x1A9, 0x1AA),
}
"""What the library tells with each failure, and without."""


@contextlib.contextmanager
def watching(folder: Path, library: Path) -> Iterator[Monitor]:
    """Run a monitor for which a grey failure begins and ends after a moment."""
    settings = MonitorSettings(
        Paths(f"{folder}/health.ipc", f"{folder}/telemetry.ipc", "", str(folder)),
        binding="health.binding",
        binding_argument="/",
        sysfs=f"{folder}/sysfs",
        usage_interval=0.2,
        grey=GreySettings(frozenset({ReasonKind.PCIE}), 0.2),
        state_folder=f"{folder}/state",
    )
    environment = {"LD_LIBRARY_PATH": str(library.parent), "STANDIN_NVML_DIR": str(folder)}
    with monitor(settings, environment) as running:
        until(running, set())
        yield running


def failing(state: NodeState) -> set[str]:
    """Return the kinds of the grey failures of the first GPU."""
    return {f.reason.kind.value for f in state.grey if f.uuid == GPU_UUIDS[0]}


def until(running: Monitor, kinds: set[str]) -> NodeState:
    """Return the next state in which the first GPU has these grey failures."""
    deadline = time.monotonic() + PATIENCE
    state = running.state()
    while not state.health or failing(state) != kinds:
        assert time.monotonic() < deadline, state.grey
        state = running.state()
    return state


def test_each_figure(folder: Path, library: Path) -> None:
    """Each figure of a loaded GPU shows its failure; one of them makes it Unhealthy, as set."""
    with watching(folder, library) as running:
        steering = Steering(folder)
        steering.use(0, 4711, 1024, 95)
        steering.figure(0, *FIGURES["pcie"][:2])
        until(running, {"pcie"})  # now there is a sample before those of the counters below
        for name, bad, _ in FIGURES.values():
            steering.figure(0, name, bad)
        state = until(running, {*FIGURES})
        reasons = {device.uuid: [*map(str, device.reasons)] for device in state.health}
        assert reasons[GPU_UUIDS[0]] == ["pcie x4 instead of x16"]
        assert {failure.uuid for failure in state.grey} == {GPU_UUIDS[0]}
        for name, _, good in FIGURES.values():
            steering.figure(0, name, good)
        state = until(running, set())
        assert not any(device.reasons for device in state.health)
