"""The plan of devices that MPS shares: what a replica comes to, and what is refused or told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proto.advertising import MigStrategy
from proto.messages import Gpu, Inventory
from proto.mps import MpsShare
from proto.problem import ProblemKind
from supervisor import mps_shares
from supervisor.config.file_schema import Portion
from supervisor.config.sharing import MpsLimits, Share
from supervisor.plan import Plan, Rules, plan
from supervisor.state import Served
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_gpu, mig_uuid

GPU, SHARED, SLICE = "nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb"
NONE, SHARE = Portion.NONE, Portion.SHARE
SUPPORTED, THREADS = ProblemKind.MPS_UNSUPPORTED, ProblemKind.MPS_THREADS


def planned(
    node: Inventory, replicas: int, limits: MpsLimits, mig: MigStrategy = MigStrategy.MIXED
) -> Plan:
    """Return the plan of a node whose GPUs and small MIG instances are shared by MPS."""
    share = Share(SHARED, replicas, None, limits)
    return plan(Rules(mig=mig, shares={GPU: (share,), SLICE: (share,)}), node)


def shares(found: Plan) -> dict[str, MpsShare | None]:
    """Return what a replica of each device comes to, by the device's index."""
    return {d.index: d.mps for resource in found.resources for d in resource.devices}


def told(found: Plan) -> dict[ProblemKind, str]:
    """Return the problems of a plan."""
    return {problem.kind: problem.text for problem in found.problems}


SHARED_OUT = {
    "NVIDIA's example": (23034, 10, MpsLimits(), MpsShare(2303, 10)),
    "halves": (81559, 2, MpsLimits(), MpsShare(40779, 50)),
    "thirds": (81559, 3, MpsLimits(), MpsShare(27186, 33)),
    "48": (81559, 48, MpsLimits(), MpsShare(1699, 2)),
    "several for a container": (4096, 4, MpsLimits(single=False), MpsShare(1024, 25, single=False)),
    "numbers": (81559, 4, MpsLimits(1500, 90), MpsShare(1500, 90)),
    "numbers above the device": (4096, 4, MpsLimits(5000, 100), MpsShare(5000, 100)),
    "no limits": (81559, 4, MpsLimits(NONE, NONE), MpsShare(None, None)),
    "one, limited": (81559, 1, MpsLimits(1500), MpsShare(1500, 100)),
    "one MiB each": (10, 10, MpsLimits(), MpsShare(1, 10)),
    "unknown memory, as a number": (None, 4, MpsLimits(1500), MpsShare(1500, 25)),
    "unknown memory, no limit": (0, 4, MpsLimits(NONE), MpsShare(None, 25)),
}


@pytest.mark.parametrize(
    ("memory", "replicas", "limits", "expected"), SHARED_OUT.values(), ids=SHARED_OUT
)
def test_what_a_replica_comes_to(
    memory: int | None, replicas: int, limits: MpsLimits, expected: MpsShare
) -> None:
    """Shares are rounded down, numbers are taken as written, and nothing is told."""
    found = planned(inventory(gpu(memory_mib=memory)), replicas, limits)
    assert shares(found) == {"0": expected}
    assert [resource.replicas for resource in found.resources] == [replicas]
    assert not found.problems


@pytest.mark.parametrize("memory", [None, 0])
def test_unknown_memory_is_told(memory: int | None) -> None:
    """Without a known memory there is no memory limit, and the node says so."""
    found = planned(inventory(gpu(0), gpu(1, memory_mib=memory)), 4, MpsLimits())
    assert shares(found) == {"0": MpsShare(20389, 25), "1": MpsShare(None, 25)}
    assert told(found) == {
        ProblemKind.MEMORY_UNKNOWN: (
            "cannot limit the memory of nvidia.com/gpu to shares: the driver does not report the "
            "memory of device 1; each has no memory limit; write MiB as memoryLimit"
        )
    }


@pytest.mark.parametrize(
    ("replicas", "percent"), [(34, 68), (26, 78), (17, 85), (15, None), (48, None), (3, None)]
)
def test_lost_threads_are_told(replicas: int, percent: int | None) -> None:
    """A loss of more than a tenth of the multiprocessors by rounding is told."""
    found = planned(inventory(gpu()), replicas, MpsLimits())
    expected = (
        f"all {replicas} replicas of a device of nvidia.com/gpu together use at most {percent} % "
        f"of its multiprocessors: a share is rounded down to {100 // replicas} %; write another "
        "number of replicas, or a percentage as threads"
    )
    assert told(found) == ({THREADS: expected} if percent else {})


def test_chosen_threads_are_not_told() -> None:
    """Who writes a percentage, or no limit, knows what is left unused."""
    for threads in (NONE, 1):
        assert not planned(inventory(gpu()), 34, MpsLimits(SHARE, threads)).problems


NEW, OLD = "590.44.01", "580.159.04"
MOST = "with this driver a device may have at most {} replicas; write fewer"
REFUSED = {
    "too many": (gpu(1), OLD, 49, MOST.format(48)),
    "too many of a new driver": (gpu(1), NEW, 61, MOST.format(60)),
    "too many of an unknown driver": (gpu(1), "", 49, MOST.format(48)),
    "Pascal": (
        gpu(1, compute_capability="6.1"),
        NEW,
        2,
        "compute capability 6.1 is below 7.0; use sharing.timeSlicing",
    ),
    "no capability": (
        gpu(1, compute_capability=None),
        NEW,
        2,
        "the driver does not report the compute capability; use sharing.timeSlicing",
    ),
    "an odd capability": (
        gpu(1, compute_capability="new"),
        NEW,
        2,
        "the driver does not report the compute capability; use sharing.timeSlicing",
    ),
    "WSL2": (
        gpu(1, toolkit_id="all"),
        NEW,
        2,
        "WSL2 has no MPS; use sharing.timeSlicing",
    ),
    "hardly any memory": (
        gpu(1, memory_mib=3),
        NEW,
        4,
        "a replica would get less than 1 MiB; write fewer replicas",
    ),
}


@pytest.mark.parametrize(("device", "driver", "replicas", "why"), REFUSED.values(), ids=REFUSED)
def test_what_mps_cannot_share(device: Gpu, driver: str, replicas: int, why: str) -> None:
    """A device that MPS cannot share is named and not advertised."""
    node = replace(inventory(device), driver_version=driver)
    found = planned(node, replicas, MpsLimits())
    assert found.resources == ()
    assert told(found) == {SUPPORTED: f"cannot share device 1 of nvidia.com/gpu by MPS: {why}"}
    assert not any(problem.fatal for problem in found.problems)


@pytest.mark.parametrize(("driver", "most"), [(OLD, 48), (NEW, 60), ("615.71", 60), ("", 48)])
def test_the_most_replicas(driver: str, most: int) -> None:
    """A device may have as many replicas as the driver allows clients."""
    found = planned(replace(inventory(gpu()), driver_version=driver), most, MpsLimits())
    assert [resource.replicas for resource in found.resources] == [most]
    assert SUPPORTED not in told(found)


def test_the_other_devices_are_shared() -> None:
    """A device that MPS cannot share takes no other with it, and other resources stay."""
    pascal = gpu(0, compute_capability="6.0")
    found = planned(inventory(pascal, gpu(1), mig_gpu(2, "3g.40gb")), 4, MpsLimits())
    assert shares(found) == {"1": MpsShare(20389, 25), "2:0": None}
    assert [*told(found)] == [SUPPORTED]


def test_mig_instances_are_shared_if_allowed() -> None:
    """Each MIG instance has its own memory to share, but only with onMig."""
    node = inventory(gpu(0), mig_gpu(1, "1g.10gb", "1g.10gb"))
    without = planned(node, 2, MpsLimits())
    assert shares(without) == {"0": MpsShare(40779, 50)}
    assert told(without)[SUPPORTED] == (
        "cannot share device 1:0, 1:1 of nvidia.com/mig-1g.10gb by MPS: a MIG instance has a "
        "daemon of its own only with sharing.mps.onMig: true"
    )
    found = planned(node, 2, MpsLimits(on_mig=True))
    small = MpsShare(4992, 50)
    assert shares(found) == {"0": MpsShare(40779, 50), "1:0": small, "1:1": small}
    assert not found.problems


@pytest.mark.parametrize("on_mig", [False, True])
def test_a_gpu_in_mig_mode_cannot_be_shared_whole(*, on_mig: bool) -> None:
    """With MIG strategy none, a GPU in MIG mode has no daemon, as MPS would use one instance."""
    node = inventory(mig_gpu(0, "1g.10gb"))
    found = planned(node, 2, MpsLimits(on_mig=on_mig), MigStrategy.NONE)
    assert found.resources == ()
    assert "in MIG mode only MIG instances can be shared" in told(found)[SUPPORTED]


def test_the_state_tells_which_devices_are_shared() -> None:
    """The exporter is told each device of MPS and its share, and no others."""
    found = planned(inventory(gpu(0), mig_gpu(1, "3g.40gb")), 4, MpsLimits())
    plans = {f"worker {resource.resource}": resource for resource in found.resources}
    assert Served(plans=plans).state(()).mps == {gpu_uuid(0): MpsShare(20389, 25)}
    assert Served().state(()).mps == {}


limits_drawn = st.builds(
    MpsLimits,
    st.sampled_from(Portion) | st.integers(1, 100_000),
    st.sampled_from(Portion) | st.integers(1, 100),
    st.booleans(),
    st.booleans(),
)
gpus = st.lists(st.none() | st.integers(0, 200_000), min_size=1, max_size=4).map(
    lambda found: tuple(gpu(place, memory_mib=memory) for place, memory in enumerate(found))
)


@settings(deadline=None, max_examples=150)
@given(gpus, st.integers(1, 70), limits_drawn)
def test_shares_never_add_up_to_more(
    node: tuple[Gpu, ...], replicas: int, limits: MpsLimits
) -> None:
    """Equal shares of a device never come to more than the device; the IDs are as without MPS."""
    found = planned(inventory(*node), replicas, limits)
    memory = {g.uuid: g.memory_mib for g in node}
    for resource in found.resources:
        for device in resource.devices:
            assert device.mps is not None
            assert device.replicas == replicas <= mps_shares.MOST_CLIENTS
            if limits.memory is SHARE and device.mps.memory_mib is not None:
                assert 0 < device.mps.memory_mib * replicas <= (memory[device.uuid] or 0)
            if limits.threads is SHARE:
                assert 0 < (device.mps.threads or 0) * replicas <= 100
    assert planned(inventory(*node), replicas, limits) == found
    bare = plan(Rules(shares={GPU: (Share(SHARED, replicas),)}), inventory(*node))
    if not told(found).get(SUPPORTED):
        assert [
            replace(r, devices=tuple(replace(d, mps=None) for d in r.devices))
            for r in found.resources
        ] == [*bare.resources]


def test_instances_have_their_own_names() -> None:
    """A daemon is found by the UUID of the MIG instance, not by that of its GPU."""
    found = planned(inventory(mig_gpu(3, "1g.10gb")), 2, MpsLimits(on_mig=True))
    assert [*found.resources[0].mps] == [mig_uuid(3, 0)]
