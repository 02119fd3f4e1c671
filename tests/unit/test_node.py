"""The simulated node: its file, and its live state that drills change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proto.messages import LinkLevel
from simulator.live_node import LiveNode
from simulator.node import (
    EVENTS_KEPT,
    Event,
    Live,
    NodeError,
    SimulatedGpu,
    SimulatedLink,
    SimulatedNode,
)
from simulator.node_file import complete, default_node
from tests.unit.builders import gpu_uuid

FIRST, SECOND = gpu_uuid(0), gpu_uuid(1)
TWO = complete(
    SimulatedNode(
        (SimulatedGpu(numa_node=1), SimulatedGpu(mig=("1g.10gb", "2g.20gb"))),
        links=(SimulatedLink((0, 1), nvlinks=18),),
    )
)


@pytest.fixture
def live(tmp_path: Path) -> LiveNode:
    """Return the live state of a simulated node with two GPUs."""
    node = LiveNode(tmp_path)
    node.start(TWO)
    return node


def test_defaults_of_a_simulated_gpu() -> None:
    """A simulated GPU without properties is an H100 with UUID and PCI address by index."""
    assert complete(SimulatedNode((SimulatedGpu(), SimulatedGpu()))).gpus[1] == SimulatedGpu(
        uuid="GPU-00000000-0000-0000-0000-000000000001",
        name="NVIDIA H100 80GB HBM3",
        memory_mib=81559,
        pci_bus_id="0000:02:00.0",
        numa_node=None,
        compute_capability="9.0",
        mig=None,
        events=True,
    )


def test_properties_of_a_simulated_gpu_are_kept() -> None:
    """A simulated GPU keeps its given properties; its PCI address becomes lower case."""
    gpu = SimulatedGpu(
        uuid="GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000",
        name="a GPU",
        memory_mib=1,
        pci_bus_id="00AB:0C:1f.7",
        numa_node=3,
        compute_capability="12.0",
        mig=("1g.10gb+me", "1c.3g.40gb"),
        events=False,
    )
    node = SimulatedNode((gpu,), driver_version="1.2", links=())
    expected = msgspec.structs.replace(gpu, pci_bus_id="00ab:0c:1f.7")
    assert complete(node) == SimulatedNode((expected,), driver_version="1.2", links=())


def test_completing_twice_changes_nothing() -> None:
    """Completing a complete node changes nothing."""
    assert complete(default_node()) == default_node()


@pytest.mark.parametrize(
    ("profile", "valid"),
    [
        ("1g.10gb", True),
        ("7g.141gb", True),
        ("1g.10gb+me", True),
        ("1g.5gb+me.all", True),
        ("1c.3g.40gb", True),
        ("1g.10gb-me", True),
        ("1g", False),
        ("10gb", False),
        ("1g.10GB", False),
        ("1g.10gb+", False),
        ("all", False),
    ],
)
def test_profiles(profile: str, *, valid: bool) -> None:
    """A node file may have any MIG profile that NVML can name, and no other text."""
    node = SimulatedNode((SimulatedGpu(mig=(profile,)),))
    if valid:
        assert complete(node).gpus[0].mig == (profile,)
    else:
        with pytest.raises(NodeError, match=r'gpus\[0\]: mig ".*" must look like 1g\.10gb'):
            complete(node)


def test_the_uuid_of_a_mig_instance_never_changes() -> None:
    """A simulated MIG instance's UUID follows from its GPU's UUID and its place."""
    first, second = (TWO.gpus[1].mig_uuid(place) for place in range(2))
    assert first == "MIG-6ff55b57-2b5f-5022-ad8b-524631694aa1"
    assert second != first
    assert TWO.gpus[0].mig_uuid(0) != first


def test_the_default_node_is_a_dgx() -> None:
    """The default node has 8 H100 on two NUMA nodes, with 18 NVLinks between any two."""
    node = default_node()
    assert [gpu.numa_node for gpu in node.gpus] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len({link.between for link in node.links}) == 28
    assert {link.nvlinks for link in node.links} == {18}
    assert all(
        (link.path is LinkLevel.NODE) == (link.between[0] // 4 == link.between[1] // 4)
        for link in node.links
    )


def test_a_new_node_has_no_faults(live: LiveNode, tmp_path: Path) -> None:
    """A new simulated node has all its GPUs, no faults, and a sysfs folder with its GPUs."""
    assert live.read() == Live(TWO)
    devices = tmp_path / "sysfs/bus/pci/devices"
    numbers = {path.name: (path / "numa_node").read_text() for path in devices.iterdir()}
    assert numbers == {"0000:01:00.0": "1\n", "0000:02:00.0": "-1\n"}


Change = Callable[[LiveNode], None]

DRILLS: dict[str, tuple[list[Change], dict[str, Any]]] = {
    "xid": (
        [lambda n: n.xid(0, 79)],
        {"happened": 1, "events": (Event(1, FIRST, 79),), "actions": {FIRST: 2}},
    ),
    "xid of an instance": (
        [lambda n: n.xid(1, 31, 1)],
        {"happened": 1, "events": (Event(1, SECOND, 31, 1),)},
    ),
    "two xids": (
        [lambda n: n.xid(0, 79), lambda n: n.xid(1, 48, 0)],
        {
            "happened": 2,
            "events": (Event(1, FIRST, 79), Event(2, SECOND, 48, 0)),
            "actions": {FIRST: 2, SECOND: 1},
        },
    ),
    "lost": ([lambda n: n.lose(1)], {"lost": frozenset({SECOND}), "actions": {SECOND: 2}}),
    "both lost": (
        [lambda n: n.lose(1), lambda n: n.lose(0)],
        {"lost": frozenset({FIRST, SECOND}), "actions": {FIRST: 2, SECOND: 2}},
    ),
    "recovered": (
        [lambda n: n.lose(0), lambda n: n.lose(1), lambda n: n.recover(0)],
        {"lost": frozenset({SECOND}), "actions": {FIRST: 2, SECOND: 2}},
    ),
    "recovered without a loss": ([lambda n: n.recover(0)], {}),
    "removed": ([lambda n: n.remove(0)], {"removed": frozenset({FIRST})}),
    "put back": (
        [lambda n: n.remove(0), lambda n: n.remove(1), lambda n: n.add(0)],
        {"removed": frozenset({SECOND})},
    ),
    "put back without being taken out": ([lambda n: n.add(1)], {}),
    "removed while lost": (
        [lambda n: n.lose(0), lambda n: n.remove(0)],
        {"lost": frozenset({FIRST}), "removed": frozenset({FIRST}), "actions": {FIRST: 2}},
    ),
    "hung": ([lambda n: n.hang(1)], {"hung": frozenset({SECOND})}),
    "hung and answering": ([lambda n: n.hang(0), lambda n: n.recover(0)], {}),
    "hung and reset": ([lambda n: n.hang(0), lambda n: n.reset(0)], {"resets": {FIRST: 1}}),
    "slow": (
        [lambda n: n.slow_down(0, 5), lambda n: n.slow_down(1, 7), lambda n: n.slow_down(0, 6)],
        {"slow": {FIRST: 6, SECOND: 7}},
    ),
    "slow no longer": (
        [lambda n: n.slow_down(0, 5), lambda n: n.slow_down(1, 7), lambda n: n.slow_down(0, 0)],
        {"slow": {SECOND: 7}},
    ),
    "slow and recovered": ([lambda n: n.slow_down(0, 5), lambda n: n.recover(0)], {}),
    "slow and reset": (
        [lambda n: n.slow_down(0, 5), lambda n: n.reset(0)],
        {"resets": {FIRST: 1}},
    ),
    "failing": (
        [lambda n: n.fail(0, "a", 999), lambda n: n.fail(0, "b", 30), lambda n: n.fail(1, "a", 1)],
        {"failing": {FIRST: {"a": 999, "b": 30}, SECOND: {"a": 1}}},
    ),
    "failing less": (
        [lambda n: n.fail(0, "a", 999), lambda n: n.fail(0, "b", 30), lambda n: n.fail(0, "a", 0)],
        {"failing": {FIRST: {"b": 30}}},
    ),
    "failing no longer": ([lambda n: n.fail(0, "a", 999), lambda n: n.fail(0, "a", 0)], {}),
    "failing and recovered": ([lambda n: n.fail(0, "a", 999), lambda n: n.recover(0)], {}),
    "failing and reset": (
        [lambda n: n.fail(0, "a", 999), lambda n: n.reset(0)],
        {"resets": {FIRST: 1}},
    ),
    "links down": (
        [lambda n: n.take_links_down(0, 3), lambda n: n.take_links_down(1, 18)],
        {"links_down": {FIRST: 3, SECOND: 18}},
    ),
    "links up": ([lambda n: n.take_links_down(0, 3), lambda n: n.take_links_down(0, 0)], {}),
    "links down and recovered": (
        [lambda n: n.take_links_down(0, 3), lambda n: n.recover(0)],
        {"links_down": {FIRST: 3}},
    ),
    "links down and reset": (
        [lambda n: n.take_links_down(0, 3), lambda n: n.reset(0)],
        {"resets": {FIRST: 1}},
    ),
    "an action": ([lambda n: n.ask_for(0, 4)], {"actions": {FIRST: 4}}),
    "no action": (
        [lambda n: n.xid(0, 79), lambda n: n.ask_for(0, 0)],
        {"happened": 1, "events": (Event(1, FIRST, 79),), "actions": {FIRST: 0}},
    ),
    "a row": ([lambda n: n.fail_row(1)], {"rows": frozenset({SECOND})}),
    "reset": (
        [lambda n: n.lose(0), lambda n: n.lose(1), lambda n: n.fail_row(0), lambda n: n.reset(0)],
        {"lost": frozenset({SECOND}), "actions": {SECOND: 2}, "resets": {FIRST: 1}},
    ),
    "reset of one of two rows": (
        [lambda n: n.fail_row(0), lambda n: n.fail_row(1), lambda n: n.reset(1)],
        {"rows": frozenset({FIRST}), "resets": {SECOND: 1}},
    ),
    "reset of a well GPU": ([lambda n: n.reset(1)], {"resets": {SECOND: 1}}),
    "reset again": ([lambda n: n.reset(1), lambda n: n.reset(1)], {"resets": {SECOND: 2}}),
    "memory errors": (
        [lambda n: n.fail_memory(0), lambda n: n.fail_memory(0)],
        {"errors": {FIRST: 2}, "actions": {FIRST: 1}},
    ),
    "memory errors before a reset": (
        [lambda n: n.fail_memory(0), lambda n: n.reset(0)],
        {"resets": {FIRST: 1}},
    ),
    "parted": (
        [lambda n: n.partition(1, ("3g.40gb",))],
        {"layouts": {SECOND: ("3g.40gb",)}, "happened": 1, "events": (Event(1, SECOND),)},
    ),
    "denied": ([lambda n: n.deny(denied=True)], {"denied": True}),
    "allowed": ([lambda n: n.deny(denied=True), lambda n: n.deny(denied=False)], {}),
    "reset while removed": (
        [lambda n: n.remove(0), lambda n: n.reset(0)],
        {"removed": frozenset({FIRST}), "resets": {FIRST: 1}},
    ),
}


@pytest.mark.parametrize(("changes", "expected"), DRILLS.values(), ids=DRILLS)
def test_drills(live: LiveNode, changes: list[Change], expected: dict[str, Any]) -> None:
    """A drill changes only its own part of the simulated node."""
    for change in changes:
        change(live)
    assert live.read() == msgspec.structs.replace(Live(TWO), **expected)


def test_a_restarted_node_keeps_its_faults(live: LiveNode, tmp_path: Path) -> None:
    """Simulated faults survive a restart of the service, like faults of hardware."""
    live.lose(0)
    live.xid(1, 79)
    before = live.read()
    LiveNode(tmp_path).start(TWO)
    assert live.read() == before


def test_a_restarted_node_is_not_written(live: LiveNode) -> None:
    """Starting the same node again, as a reload does, writes no file: the disk may be full."""
    before = live.path.stat().st_ino
    live.start(live.read().node)

    assert live.path.stat().st_ino == before


def test_a_different_node_starts_without_faults(live: LiveNode, tmp_path: Path) -> None:
    """A service that starts with a different node file has none of the old faults."""
    live.lose(0)
    live.xid(1, 79)
    other = complete(SimulatedNode((SimulatedGpu(), SimulatedGpu(), SimulatedGpu())))
    LiveNode(tmp_path).start(other)
    assert live.read() == Live(other)


def test_the_newest_xids_are_kept(live: LiveNode) -> None:
    """A node keeps the newest Xids only, and their numbers continue."""
    for code in range(EVENTS_KEPT + 2):
        live.xid(0, code)
    now = live.read()
    assert now.happened == EVENTS_KEPT + 2
    assert [xid.number for xid in now.events] == list(range(3, EVENTS_KEPT + 3))
    assert now.events[-1].xid == EVENTS_KEPT + 1


NO_GPU = "cannot find GPU {}: the simulated node has 2 GPUs"
NO_INSTANCE = "cannot find MIG instance {} on GPU {}: it has {} instances"
NO_DELAY = "cannot make calls take {} ms longer: write a number from 0 to 3600000"
NO_CODE = (
    "cannot make nvmlDeviceGetName fail with code {}: NVML's errors are 1 to 30 and 999; "
    "0 ends the failure"
)
NO_LINKS = "cannot take {} NVLinks of GPU 0 down: it has 18"
SENSELESS: dict[str, tuple[Change, str]] = {
    "xid": (lambda n: n.xid(2, 79), NO_GPU.format(2)),
    "lost": (lambda n: n.lose(-1), NO_GPU.format(-1)),
    "recover": (lambda n: n.recover(2), NO_GPU.format(2)),
    "remove": (lambda n: n.remove(2), NO_GPU.format(2)),
    "add": (lambda n: n.add(2), NO_GPU.format(2)),
    "reset": (lambda n: n.reset(2), NO_GPU.format(2)),
    "recovery action": (lambda n: n.ask_for(2, 1), NO_GPU.format(2)),
    "hang": (lambda n: n.hang(2), NO_GPU.format(2)),
    "slow": (lambda n: n.slow_down(2, 1), NO_GPU.format(2)),
    "fail": (lambda n: n.fail(2, "nvmlDeviceGetName", 1), NO_GPU.format(2)),
    "links": (lambda n: n.take_links_down(2, 1), NO_GPU.format(2)),
    "faster than at once": (lambda n: n.slow_down(0, -1), NO_DELAY.format(-1)),
    "slower than an hour": (lambda n: n.slow_down(0, 3_600_001), NO_DELAY.format(3_600_001)),
    "a code between": (lambda n: n.fail(0, "nvmlDeviceGetName", 31), NO_CODE.format(31)),
    "a code below": (lambda n: n.fail(0, "nvmlDeviceGetName", -1), NO_CODE.format(-1)),
    "a code above": (lambda n: n.fail(0, "nvmlDeviceGetName", 1000), NO_CODE.format(1000)),
    "more links": (lambda n: n.take_links_down(0, 19), NO_LINKS.format(19)),
    "fewer links": (lambda n: n.take_links_down(0, -1), NO_LINKS.format(-1)),
    "row": (lambda n: n.fail_row(2), NO_GPU.format(2)),
    "no such instance": (lambda n: n.xid(1, 79, 2), NO_INSTANCE.format(2, 1, 2)),
    "an instance before the first": (lambda n: n.xid(1, 79, -1), NO_INSTANCE.format(-1, 1, 2)),
    "no MIG": (lambda n: n.xid(0, 79, 0), NO_INSTANCE.format(0, 0, 0)),
    "memory error": (lambda n: n.fail_memory(2), NO_GPU.format(2)),
    "parting no GPU": (lambda n: n.partition(2, ()), NO_GPU.format(2)),
    "parting without MIG": (
        lambda n: n.partition(0, ()),
        "cannot create MIG instances on GPU 0: MIG mode is off",
    ),
    "parting by no profile": (
        lambda n: n.partition(1, ("1g",)),
        'cannot create MIG instance "1g": write a profile such as 1g.10gb',
    ),
}


@pytest.mark.parametrize(("change", "message"), SENSELESS.values(), ids=SENSELESS)
def test_a_drill_on_a_missing_device(live: LiveNode, change: Change, message: str) -> None:
    """A drill on a GPU or MIG instance that does not exist is an error, and changes nothing."""
    with pytest.raises(NodeError) as error:
        change(live)
    assert str(error.value) == message
    assert live.read() == Live(TWO)


@pytest.mark.parametrize("folder", ["", "absent"])
def test_a_drill_without_a_node(tmp_path: Path, folder: str) -> None:
    """A drill in a folder without a simulated node is an error, and writes no file."""
    with pytest.raises(NodeError) as error:
        LiveNode(tmp_path / folder).lose(0)
    assert str(error.value) == (
        f'cannot find a simulated node in "{tmp_path / folder}": '
        "set --runtime-dir to the folder that `simulate` shows"
    )
    assert list(tmp_path.iterdir()) == []
