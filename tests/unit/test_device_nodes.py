"""Control device nodes, IMEX channels, and the capabilities of MIG instances."""

from pathlib import Path

import pytest

from health import device_nodes
from health.enumeration import SystemRoots
from health.nvml import Nvml
from proto.messages import Inventory
from simulator.live_node import LiveNode
from simulator.node import SimulatedGpu, SimulatedNode
from simulator.node_file import complete
from simulator.nvml import Binding
from tests.unit.enumerated import take


def mig_minors(folder: Path, text: str) -> device_nodes.Capabilities:
    """Return the capabilities that are read from a mig-minors file with this *text*."""
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
    """Each line of mig-minors for access to a GI or CI is read; other lines are ignored."""
    assert mig_minors(tmp_path, text) == found


def test_a_driver_without_mig_has_no_capabilities(tmp_path: Path) -> None:
    """Without a mig-minors file there are no capabilities, and no error."""
    assert device_nodes.capabilities(tmp_path) == {}


def test_the_nodes_that_exist(tmp_path: Path) -> None:
    """Only existing control nodes and wanted IMEX channels are found, in a fixed order."""
    dev = tmp_path / "dev"
    (dev / "nvidia-caps-imex-channels").mkdir(parents=True)
    channels = (f"nvidia-caps-imex-channels/channel{number}" for number in (0, 3, 2047))
    for name in ("nvidia-uvm", "nvidiactl", "nvidia0", *channels):
        (dev / name).touch()
    control = ("/dev/nvidiactl", "/dev/nvidia-uvm")
    assert device_nodes.existing(tmp_path) == control
    assert device_nodes.existing(tmp_path, (3, 1, 0)) == (
        *control,
        "/dev/nvidia-caps-imex-channels/channel3",
        "/dev/nvidia-caps-imex-channels/channel0",
    )


def test_all_nodes(tmp_path: Path) -> None:
    """These control nodes are looked for."""
    for node in device_nodes.CONTROL:
        path = tmp_path / node.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert device_nodes.existing(tmp_path) == (
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-modeset",
    )


@pytest.mark.parametrize(
    ("there", "here", "late"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
)
def test_nodes_that_came_after_the_container(
    tmp_path: Path, *, there: bool, here: bool, late: bool
) -> None:
    """Device nodes came late if the host has them, and the container's own /dev has not."""
    for name, has in (("host", there), ("own", here)):
        (tmp_path / name / "dev").mkdir(parents=True)
        if has:
            (tmp_path / name / "dev/nvidiactl").touch()
    host, own = tmp_path / "host", tmp_path / "own"
    assert device_nodes.came_late((host, own), own) is late
    assert not device_nodes.came_late((own,), own)


def test_a_root_without_nodes(tmp_path: Path) -> None:
    """Under a root without device nodes, none are found."""
    assert device_nodes.existing(tmp_path) == ()


def taken(folder: Path, *gpus: SimulatedGpu, minors: str | None = None) -> Inventory:
    """Return the inventory of a simulated node; *minors* replaces its mig-minors file."""
    live = LiveNode(folder)
    live.start(complete(SimulatedNode(gpus)))
    if minors is not None:
        (live.procfs / "driver/nvidia-caps/mig-minors").write_text(minors)
    nvml = Nvml(Binding(folder))
    nvml.start()
    return take(nvml, SystemRoots(live.sysfs, live.procfs, (folder,)))


def test_a_root_that_cannot_be_looked_at() -> None:
    """It has no nodes: the monitor looks at it between its checks, and must not end."""
    assert device_nodes.existing(Path("/" + 300 * "x"), (0,)) == ()


def test_an_instance_has_its_two_capabilities(tmp_path: Path) -> None:
    """A MIG instance has the capabilities of its GI and its CI, found by its GPU's minor."""
    found = taken(
        tmp_path,
        SimulatedGpu(),
        SimulatedGpu(mig=("1g.10gb", "2g.20gb")),
        SimulatedGpu(mig=("1g.10gb",)),
    )
    numbers = {
        gpu.index: [instance.capabilities for instance in gpu.instances] for gpu in found.gpus
    }
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
def test_missing_capabilities_are_left_out(
    tmp_path: Path, minors: str, numbers: tuple[int, ...]
) -> None:
    """A MIG instance has only the capabilities in mig-minors, its GI's first."""
    (gpu,) = taken(tmp_path, SimulatedGpu(mig=("1g.10gb",)), minors=minors).gpus
    assert [instance.capabilities for instance in gpu.instances] == [numbers]


def test_the_inventory_has_existing_nodes(tmp_path: Path) -> None:
    """The monitor looks for device nodes below the root where the host's /dev is mounted."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert taken(tmp_path, SimulatedGpu()).nodes == ("/dev/nvidiactl",)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """A change of the simulated node replaces its mig-minors file: an open one keeps its text."""
    live = LiveNode(tmp_path)
    live.start(complete(SimulatedNode((SimulatedGpu(mig=("1g.10gb",)),))))
    path = live.procfs / "driver/nvidia-caps/mig-minors"
    before = path.read_text()
    with path.open() as reader:
        live.partition(0, ())
        assert reader.read() == before
    assert path.read_text() != before
