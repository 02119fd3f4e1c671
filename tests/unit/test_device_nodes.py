"""Device nodes beside the GPUs' own, and what gives access to a MIG instance."""

from pathlib import Path

import pytest

from health import device_nodes
from health.inventory import SystemRoots, take
from health.nvml import Nvml
from proto.messages import Inventory
from simulator.live_node import LiveNode
from simulator.node import SimulatedGpu, SimulatedNode, complete
from simulator.nvml import Binding


def mig_minors(folder: Path, text: str) -> device_nodes.Capabilities:
    """Return what is understood of a mig-minors file of this *text*."""
    path = folder / "driver/nvidia-caps/mig-minors"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return device_nodes.capabilities(folder)


LINES: dict[str, tuple[str, device_nodes.Capabilities]] = {
    "a GPU instance": ("gpu0/gi1/access 12\n", {(0, 1, None): 12}),
    "a compute instance": ("gpu0/gi1/ci0/access 13\n", {(0, 1, 0): 13}),
    "numbers of several digits": ("gpu15/gi14/ci12/access 4321\n", {(15, 14, 12): 4321}),
    "without a line break": ("gpu0/gi0/access 3", {(0, 0, None): 3}),
    "blanks around": ("  gpu0/gi0/access 3 \n\n", {(0, 0, None): 3}),
    "both of an instance": (
        "gpu2/gi7/access 3\ngpu2/gi7/ci1/access 4\n",
        {(2, 7, None): 3, (2, 7, 1): 4},
    ),
    "the driver's own": ("config 1\nmonitor 2\n", {}),
    "nothing": ("", {}),
    "no number": ("gpu0/gi1/access\ngpu0/gi1/access x\n", {}),
    "two numbers": ("gpu0/gi1/access 1 2\n", {}),
    "another order": ("gpu0/ci1/gi0/access 1\n", {}),
    "no GPU": ("gi1/access 1\n", {}),
    "another right": ("gpu0/gi1/config 1\n", {}),
    "something in front": ("xgpu0/gi1/access 1\n", {}),
    "good lines beside bad ones": (
        "gpu0/gi/access 1\ngpu0/gi1/access 5\nwhat\n",
        {(0, 1, None): 5},
    ),
}


@pytest.mark.parametrize(("text", "found"), LINES.values(), ids=LINES)
def test_mig_minors(tmp_path: Path, text: str, found: device_nodes.Capabilities) -> None:
    """Each line that gives access to a GI or a CI is understood, and any other is passed over."""
    assert mig_minors(tmp_path, text) == found


def test_a_driver_without_mig_has_no_capabilities(tmp_path: Path) -> None:
    """A node whose driver writes no such file has no capabilities, and no error."""
    assert device_nodes.capabilities(tmp_path) == {}


def test_the_nodes_that_exist(tmp_path: Path) -> None:
    """Of the control nodes and the IMEX channel those are told that exist, in a fixed order."""
    dev = tmp_path / "dev"
    (dev / "nvidia-caps-imex-channels").mkdir(parents=True)
    for name in ("nvidia-uvm", "nvidiactl", "nvidia0", "nvidia-caps-imex-channels/channel0"):
        (dev / name).touch()
    assert device_nodes.existing(tmp_path) == (
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-caps-imex-channels/channel0",
    )


def test_all_nodes(tmp_path: Path) -> None:
    """These are the nodes that a container with any GPU needs, and the channel of IMEX."""
    for node in (*device_nodes.CONTROL, device_nodes.IMEX):
        path = tmp_path / node.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert device_nodes.existing(tmp_path) == (
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-modeset",
        "/dev/nvidia-caps-imex-channels/channel0",
    )


def test_a_root_without_nodes(tmp_path: Path) -> None:
    """Where there is no node none is told."""
    assert device_nodes.existing(tmp_path) == ()


def taken(folder: Path, *gpus: SimulatedGpu, minors: str | None = None) -> Inventory:
    """Return the inventory of a simulated node, whose driver writes *minors* if they are given."""
    live = LiveNode(folder)
    live.start(complete(SimulatedNode(gpus)))
    if minors is not None:
        (live.procfs / "driver/nvidia-caps/mig-minors").write_text(minors)
    nvml = Nvml(Binding(folder))
    nvml.start()
    return take(nvml, SystemRoots(live.sysfs, live.procfs, folder)).inventory


def test_an_instance_has_its_two_capabilities(tmp_path: Path) -> None:
    """Each instance is told the capabilities of its GI and of its CI, by its GPU's minor."""
    found = taken(
        tmp_path,
        SimulatedGpu(),
        SimulatedGpu(mig=("1g.10gb", "2g.20gb")),
        SimulatedGpu(mig=("1g.10gb",)),
    )
    numbers = {gpu.index: [one.capabilities for one in gpu.instances] for gpu in found.gpus}
    assert numbers == {0: [], 1: [(3, 4), (5, 6)], 2: [(7, 8)]}


@pytest.mark.parametrize(
    ("minors", "numbers"),
    [
        ("", ()),
        ("gpu0/gi7/access 9\n", (9,)),
        ("gpu0/gi7/ci0/access 9\n", (9,)),
        ("gpu0/gi7/ci0/access 4\ngpu0/gi7/access 9\n", (9, 4)),
        ("gpu1/gi7/access 9\ngpu0/gi8/access 10\ngpu0/gi7/ci1/access 11\n", ()),
    ],
    ids=["none", "only its GI", "only its CI", "its GI first", "others'"],
)
def test_what_the_driver_does_not_tell_is_left_out(
    tmp_path: Path, minors: str, numbers: tuple[int, ...]
) -> None:
    """An instance gets exactly the capabilities that the driver tells of it, its GI's first."""
    (gpu,) = taken(tmp_path, SimulatedGpu(mig=("1g.10gb",)), minors=minors).gpus
    assert [one.capabilities for one in gpu.instances] == [numbers]


def test_the_inventory_tells_the_nodes_that_exist(tmp_path: Path) -> None:
    """The nodes are looked for below the root where the monitor sees the host's devices."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert taken(tmp_path, SimulatedGpu()).nodes == ("/dev/nvidiactl",)
