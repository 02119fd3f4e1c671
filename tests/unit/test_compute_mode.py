"""The program that changes a GPU's compute mode and remembers the former one."""

from pathlib import Path

import pytest

from health import compute_mode
from health.compute_mode import EXCLUSIVE_PROCESS, UNSUPPORTED
from simulator.live_node import LiveNode
from simulator.node_file import default_node

NODE = default_node()
UUID, OTHER = NODE.gpus[0].uuid, NODE.gpus[1].uuid
SETTING = "nvmlDeviceSetComputeMode"


@pytest.fixture
def live(tmp_path: Path) -> LiveNode:
    """Start a simulated node."""
    live = LiveNode(tmp_path)
    live.start(NODE)
    return live


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Name the state folder."""
    return tmp_path / "state"


def run(live: LiveNode, state: Path, verb: str, uuid: str = UUID) -> int:
    """Run the program, and return its exit code."""
    where = str(live.path.parent)
    return compute_mode.main([verb, str(state), uuid, "simulator.nvml", where])


@pytest.mark.parametrize("former", [0, 2, EXCLUSIVE_PROCESS])
def test_a_mode_is_put_back(live: LiveNode, state: Path, former: int) -> None:
    """Whatever mode a GPU had, it has that one again, also if the mode was taken twice."""
    live.set_mode(UUID, former)
    assert run(live, state, "take") == 0
    assert run(live, state, "take") == 0
    assert live.read().modes[UUID] == EXCLUSIVE_PROCESS
    assert run(live, state, "put-back") == 0
    assert live.read().modes.get(UUID, 0) == former
    assert compute_mode.remembered(state) == ()


def test_modes_are_remembered_by_gpu(live: LiveNode, state: Path) -> None:
    """The state folder tells which GPUs have another mode than before; others are left alone."""
    run(live, state, "take")
    run(live, state, "put-back", OTHER)
    assert compute_mode.remembered(state) == (UUID,)
    assert live.read().modes == {UUID: EXCLUSIVE_PROCESS}


def test_a_mode_is_remembered_before_it_is_changed(
    live: LiveNode, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the driver refuses the change, the program says so, and the former mode is known."""
    live.fail(0, SETTING, 4)
    assert run(live, state, "take") == 1
    refused = f"cannot call {SETTING}: Insufficient Permissions (NVML error 4)\n"
    assert capsys.readouterr().out == refused
    assert compute_mode.remembered(state) == (UUID,)
    assert run(live, state, "put-back") == 1
    assert compute_mode.remembered(state) == (UUID,)
    live.recover(0)
    assert run(live, state, "put-back") == 0


@pytest.mark.parametrize("call", [SETTING, "nvmlDeviceGetComputeMode"])
def test_a_gpu_without_compute_modes(
    live: LiveNode, state: Path, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    """A GPU without compute modes, as on Tegra, is not an error."""
    live.fail(0, call, 3)
    assert run(live, state, "take") == 0
    assert capsys.readouterr().out == f"{UNSUPPORTED}\n"
    assert run(live, state, "put-back") == 0


def test_a_broken_file_means_default(live: LiveNode, state: Path) -> None:
    """A remembered mode that cannot be read counts as DEFAULT."""
    run(live, state, "take")
    (state / f"compute-mode-{UUID}").write_text("many")
    run(live, state, "put-back")
    assert live.read().modes == {}


def test_a_gpu_that_is_gone_stays_remembered(
    live: LiveNode, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mode of a GPU that is not there is put back when it is there again."""
    run(live, state, "take")
    live.remove(0)
    assert run(live, state, "put-back") == 1
    assert "Not Found" in capsys.readouterr().out
    live.add(0)
    assert run(live, state, "put-back") == 0
    assert live.read().modes == {}
