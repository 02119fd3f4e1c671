"""Processes on simulated GPUs: what NVML tells of them, and the files that show whose they are."""

from pathlib import Path

import pytest

from health.enumeration import SystemRoots
from health.nvml import Nvml
from health.usage import Known, sample
from proto.exporter import UsageRoots
from proto.host import since_boot
from proto.messages import Gpu, UsageState
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from simulator.live_node import LiveNode
from simulator.node import SimulatedGpu, SimulatedNode
from simulator.node_file import complete
from simulator.nvml import Binding
from simulator.pod_usage import use_devices
from simulator.usage import FIRST_PID, Use
from supervisor.exporter.usage_processes import find
from supervisor.status.usage_owner import HOST, UNKNOWN, Owner, OwnerKind
from tests.unit.enumerated import take

MIB = 1 << 20
NODE = complete(SimulatedNode((SimulatedGpu(), SimulatedGpu(mig=("1g.10gb", "2g.20gb")))))
TRAIN = Owner(OwnerKind.CONTAINER, "ml", "train-0", "main")


@pytest.fixture
def live(tmp_path: Path) -> LiveNode:
    """Return a live node with a GPU and a GPU in MIG mode."""
    node = LiveNode(tmp_path)
    node.start(NODE)
    return node


def usage(live: LiveNode) -> UsageState:
    """Return a sample of all GPUs."""
    nvml = Nvml(Binding(live.path.parent))
    nvml.start()
    gpus: tuple[Gpu, ...] = take(nvml, SystemRoots(live.sysfs, live.procfs)).gpus
    devices: list[DeviceUsage] = []
    for gpu in gpus:
        handle = nvml.call("nvmlDeviceGetHandleByIndex", gpu.index)
        devices += sample(nvml, handle, gpu, Known()).devices
    return UsageState(epoch=1, sequence=1, interval=5.0, devices=tuple(devices))


def owners(live: LiveNode, state: UsageState) -> dict[int, Owner]:
    """Return whose the processes are, by PID."""
    logs = f"{live.logs}/pods", f"{live.logs}/containers"
    found = find(state, [UsageRoots(str(live.procfs), *logs)])
    assert found.problem == ""
    return {pid: owner for (_, pid), owner in found.of.items()}


def test_an_idle_node(live: LiveNode) -> None:
    """Nobody uses the GPUs of a new node, and they have all other figures."""
    state = usage(live)
    gpu, parent, *instances = state.devices
    assert gpu == DeviceUsage(
        gpu.uuid,
        gpu.taken,
        utilization=0,
        memory_utilization=0,
        memory_used=0,
        memory_total=81559 * MIB,
        memory_reserved=605 * MIB,
        temperature=34,
        power=70.0,
        power_limit=700.0,
        sm_clock=345,
        memory_clock=2619,
        processes=(),
    )
    assert (parent.utilization, parent.memory_used, parent.processes) == (None, 0, None)
    assert [instance.processes for instance in instances] == [(), ()]
    assert owners(live, state) == {}


def test_the_longest_names(live: LiveNode) -> None:
    """As the kubelet does, the simulation cuts a link's name; the container is found all the same.

    Its ID is told by the digits that are left; with none left, the container has no name.
    """
    live.use(0, Use(9, pod=f"a/{'b' * 120}", container="c" * 63))
    live.use(0, Use(9, pod=f"a/{'d' * 216}", container="e" * 63))
    found = owners(live, usage(live))
    assert {(owner.pod, owner.container) for owner in found.values()} == {
        ("b" * 120, "c" * 63),
        ("d" * 216, ""),
    }


def test_processes(live: LiveNode) -> None:
    """Processes of pods and of the host have their figures and their owners."""
    live.use(0, Use(4096, 30, pod="ml/train-0"))
    live.use(0, Use(512, 50, kind="graphics"))
    live.use(1, Use(1000, 20, pod="ml/train-0", mig=1))
    state = usage(live)
    gpu, parent, first, second = state.devices
    assert (gpu.utilization, gpu.memory_used, gpu.sm_clock) == (80, 4608 * MIB, 1980)
    assert gpu.processes == (
        GpuProcess(FIRST_PID, ProcessKind.COMPUTE, 4096 * MIB, 30),
        GpuProcess(FIRST_PID + 1, ProcessKind.GRAPHICS, 512 * MIB, 50),
    )
    assert (parent.utilization, parent.memory_used) == (None, 1000 * MIB)
    assert (first.memory_used, first.processes) == (0, ())
    assert second.processes == (GpuProcess(FIRST_PID, ProcessKind.COMPUTE, 1000 * MIB, None),)
    assert owners(live, state) == {FIRST_PID: TRAIN, FIRST_PID + 1: HOST}


def test_a_process_that_ends(live: LiveNode) -> None:
    """A process with 0 MiB ends on that GPU, and as a process when it uses no other GPU."""
    live.use(0, Use(4096, pod="ml/train-0"))
    live.use(1, Use(1000, pod="ml/train-0", mig=0))
    before = usage(live)
    live.use(0, Use(0, pod="ml/train-0"))
    assert usage(live).devices[0].processes == ()
    assert owners(live, before) == {FIRST_PID: TRAIN}
    live.use(1, Use(0, pod="ml/train-0", mig=0))
    assert owners(live, before) == {FIRST_PID: UNKNOWN}
    live.use(0, Use(9, pod="ml/other"))
    assert list(owners(live, usage(live)).values()) == [
        Owner(OwnerKind.CONTAINER, "ml", "other", "main")
    ]


def test_new_figures_of_a_process(live: LiveNode) -> None:
    """A second command about a container changes the figures of its process."""
    for use in (Use(4096, 30, pod="ml/train-0"), Use(8000, 10, pod="ml/train-0")):
        live.use(0, use)
    assert usage(live).devices[0].processes == (
        GpuProcess(FIRST_PID, ProcessKind.COMPUTE, 8000 * MIB, 10),
    )


def test_faults_and_usage(live: LiveNode) -> None:
    """Other changes of the node leave the processes as they are."""
    live.use(0, Use(4096, 30, pod="ml/train-0"))
    live.xid(0, 79)
    live.start(NODE)
    assert owners(live, usage(live)) == {FIRST_PID: TRAIN}


def test_a_lively_process() -> None:
    """A lively process rises and falls around its utilization, within 0 and 100 percent."""
    steady, lively, high = (Use(1, 60), Use(1, 60, lively=True), Use(1, 95, lively=True))
    seconds = range(90)
    assert {steady.busy(now) for now in seconds} == {60}
    assert min(lively.busy(now) for now in seconds) < 50
    assert max(lively.busy(now) for now in seconds) > 70
    assert max(high.busy(now) for now in seconds) == 100


def test_the_pods_of_simulate(live: LiveNode) -> None:
    """A pod uses a part of its share of each device, MIG instances too."""
    gpu, parent = live.read().gpus
    devices = [f"{gpu.uuid}::{replica}" for replica in range(4)]
    instance = parent.mig_uuid(1)
    use_devices(live, "nvidia.com/H100_x/pod-1", devices[:2], devices)
    use_devices(live, "nvidia.com/mig/pod-1", [instance], [instance])
    state = usage(live)
    shared, on_instance = state.devices[0].processes, state.devices[3].processes
    assert shared
    assert on_instance
    share = (81559 - 605) // 2 * MIB
    assert share // 2 <= (shared[0].memory or 0) < share
    assert 0 < (on_instance[0].memory or 0) < (state.devices[3].memory_total or 0)
    assert {owner.pod for owner in owners(live, state).values()} == {
        "nvidia.com-h100-x-pod-1",
        "nvidia.com-mig-pod-1",
    }


def test_a_simulated_process_began_before_the_sample(live: LiveNode) -> None:
    """A sample right after the command counts the process: it began before."""
    live.use(0, Use(1, pod="ml/train-0"))
    state = usage(live)
    assert state.devices[0].taken <= since_boot()
    assert owners(live, state) == {FIRST_PID: TRAIN}
