"""A binding that raises for one GPU what no binding should raise: the monitor goes on."""

from pathlib import Path

import pytest

from proto.control import Inventoried, Ready
from proto.messages import NodeState
from proto.monitor import MonitorSettings
from proto.paths import Paths
from simulator.live_node import LiveNode
from simulator.node import SimulatedGpu, SimulatedNode
from simulator.node_file import complete
from tests.fakes.monitor import monitor
from tests.fakes.odd_nvml import CALLS
from tests.unit.builders import gpu_uuid

FIRST, ODD = gpu_uuid(0), gpu_uuid(1)
ERROR = "ValueError: odd answer of "


def reasons(state: NodeState) -> dict[str, list[str]]:
    """Return the reasons of the devices that are Unhealthy, by UUID."""
    return {each.uuid: list(map(str, each.reasons)) for each in state.health if each.reasons}


CASES: dict[str, tuple[str, dict[str, list[str]]]] = {
    "facts and checks": (
        "nvmlDeviceGetGpuFabricInfoV",
        {ODD: [f"unreadable {ERROR}nvmlDeviceGetGpuFabricInfoV"]},
    ),
    "the registration for events": ("nvmlDeviceRegisterEvents", {ODD: ["unwatched"]}),
    "what is not needed": (
        "nvmlDeviceGetNvLinkState nvmlDeviceGetUtilizationRates",
        {},
    ),
}


def odd_node(folder: Path, calls: str) -> MonitorSettings:
    """Return the settings of a monitor of two GPUs, of which one raises in these *calls*."""
    live = LiveNode(folder)
    live.start(complete(SimulatedNode((SimulatedGpu(), SimulatedGpu()))))
    (folder / CALLS).write_text(calls)
    return MonitorSettings(
        Paths(f"{folder}/health.ipc", "", "", ""),
        "tests.fakes.odd_nvml",
        str(folder),
        driver_root=str(live.root),
        dev_roots=(str(live.root),),
        sysfs=str(live.sysfs),
        procfs=str(live.procfs),
        poll_interval=0.2,
        usage_interval=0.2,
        state_folder=f"{folder}/state",
    )


@pytest.mark.parametrize(("calls", "expected"), CASES.values(), ids=CASES)
def test_an_odd_answer_takes_no_other_gpu(
    folder: Path, calls: str, expected: dict[str, list[str]]
) -> None:
    """Only this GPU is Unhealthy, where the answer matters, and the monitor is not replaced."""
    with monitor(odd_node(folder, calls), {}) as running:
        assert isinstance(running.report(), Inventoried)
        assert isinstance(running.report(), Ready)
        assert any(reasons(running.state()) == expected for _ in range(60))
        state = running.state()  # a message later, it has not ended
        assert [gpu.uuid for gpu in state.inventory.gpus] == [FIRST, ODD]
        assert reasons(state) == expected


def test_a_gpu_of_which_nothing_makes_sense(folder: Path) -> None:
    """It is one that cannot be enumerated, and the other GPU is served."""
    with monitor(odd_node(folder, ""), {}) as running:
        assert isinstance(running.report(), Inventoried)
        state = running.state()
        assert [gpu.uuid for gpu in state.inventory.gpus] == [FIRST]
        assert [gpu.index for gpu in state.inventory.failed] == [1]
        assert state.inventory.failed[0].error.startswith(ERROR)
