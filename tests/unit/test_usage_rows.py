"""Who uses how much of each GPU, in the status."""

import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from proto.control import ServiceState
from proto.messages import UsageState
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from supervisor.status.allocations import Allocation, DynamicDevice
from supervisor.status.snapshot import KnownUsage, Snapshot
from supervisor.status.usage import CLEAN, device_uses, node_use
from supervisor.status.usage_owner import HOST, Owner, OwnerKind, Owners
from supervisor.status.usage_report import DeviceUse, HolderKind, HolderUse, NodeUse
from tests.unit.builders import gpu, inventory, mig_gpu, mig_uuid, node_state, worker_state

NOW, STALE, GPU = 1000.0, 10.0, "nvidia.com/gpu"
ANNA = Owner(OwnerKind.CONTAINER, "n", "anna", "main")
ANNAS = Allocation(GPU, "A::0", "n", "anna", "main")
NODE = replace(node_state({}), inventory=inventory(gpu(0, uuid="A", memory_mib=80)))


def process(pid: int, memory: int | None = 100, utilization: int | None = 10) -> GpuProcess:
    """Return a process."""
    return GpuProcess(pid, ProcessKind.COMPUTE, memory, utilization)


def snapshot(
    *processes: GpuProcess,
    owners: dict[int, Owner] | None = None,
    problem: str = "",
    held: tuple[Allocation, ...] | None = (),
    replicas: int = 4,
    sample: dict[str, Any] | None = None,
) -> Snapshot:
    """Return what is known when GPU A has these processes, of these *owners* by PID."""
    usual = DeviceUsage("A", 5.0, memory_used=1000, memory_total=8000, processes=processes)
    state = UsageState(epoch=1, sequence=1, interval=5.0, devices=(replace(usual, **sample or {}),))
    of = {("A", pid): owner for pid, owner in (owners or {}).items()}
    return Snapshot(
        service=ServiceState(processes=(), planned=(GPU,)),
        node=NODE,
        workers={GPU: (worker_state(GPU, replicas={"A": replicas}), NOW)},
        allocations=held,
        usage=KnownUsage(state, NOW, Owners(of, problem)),
    )


def use(known: Snapshot, uuid: str = "A") -> DeviceUse:
    """Return the use of the device."""
    return device_uses(known, NOW, STALE)[uuid]


def anna(**fields: Any) -> HolderUse:
    """Return the usage of the container that holds one of four replicas."""
    usual = HolderUse(
        kind=HolderKind.CONTAINER,
        namespace="n",
        pod="anna",
        container="main",
        resource=GPU,
        held=1,
        processes=0,
        memory_used_bytes=0,
        memory_share_bytes=2000,
        utilization_percent=0,
    )
    return replace(usual, **fields)


def test_a_container_has_the_sum_of_its_processes() -> None:
    """All processes of a container are added up, and compared with its share of the memory."""
    known = snapshot(process(1), process(2, 300, 5), owners={1: ANNA, 2: ANNA}, held=(ANNAS,))
    assert use(known).holders == (anna(processes=2, memory_used_bytes=400, utilization_percent=15),)


def test_several_replicas() -> None:
    """The share grows with the replicas that a container holds."""
    second = dataclasses.replace(ANNAS, device="A::3")
    holders = use(snapshot(process(1), owners={1: ANNA}, held=(ANNAS, second))).holders
    assert holders
    assert (holders[0].held, holders[0].memory_share_bytes) == (2, 4000)


def test_all_kinds_of_users() -> None:
    """Those who use the most memory come first; the host's processes are added up."""
    bob, stray = (replace_owner(ANNA, pod=name) for name in ("bob", "stray"))
    known = snapshot(
        process(1, 10),
        process(2, 20),
        process(3, 25),
        process(4, 40),
        process(5, 50),
        owners={1: bob, 2: HOST, 3: HOST, 4: stray},
        held=(dataclasses.replace(ANNAS, pod="bob"),),
    )
    told = [(h.kind, h.pod, h.memory_used_bytes) for h in use(known).holders or ()]
    assert told == [
        (HolderKind.UNKNOWN, None, 50),
        (HolderKind.HOST, None, 45),
        (HolderKind.UNALLOCATED, "stray", 40),
        (HolderKind.CONTAINER, "bob", 10),
    ]


def replace_owner(owner: Owner, **fields: Any) -> Owner:
    """Return *owner* with other fields."""
    return dataclasses.replace(owner, **fields)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (snapshot(held=(ANNAS,)), anna()),
        (
            snapshot(process(1, None, None), owners={1: ANNA}, held=(ANNAS,)),
            anna(processes=1, memory_used_bytes=None, utilization_percent=None),
        ),
        (
            snapshot(held=(ANNAS,), problem="why"),
            anna(processes=None, memory_used_bytes=None, utilization_percent=None),
        ),
        (
            snapshot(held=(ANNAS,), sample={"processes": None}),
            anna(processes=None, memory_used_bytes=None, utilization_percent=None),
        ),
        (
            snapshot(process(1, 0), held=(ANNAS,)),
            anna(processes=None, memory_used_bytes=None, utilization_percent=None),
        ),
        (
            snapshot(process(1), owners={1: replace_owner(ANNA, container="")}, held=(ANNAS,)),
            anna(processes=1, memory_used_bytes=100, utilization_percent=10),
        ),
    ],
    ids=[
        "a container without processes",
        "the driver tells nothing of the process",
        "owners are unknown",
        "the driver lists no processes",
        "the only process may be the container's",
        "the container's name is unknown, but its pod has only one",
    ],
)
def test_a_holder(known: Snapshot, expected: HolderUse) -> None:
    """What a holder uses is 0 only if that is certain."""
    holders = use(known).holders or ()
    assert [h for h in holders if h.kind is HolderKind.CONTAINER] == [expected]


@pytest.mark.parametrize(
    ("held", "foreign", "owner", "expected"),
    [
        ((), (), ANNA, HolderKind.UNALLOCATED),
        (None, (), ANNA, HolderKind.CONTAINER),
        ((), (dataclasses.replace(ANNAS, resource="old"),), ANNA, HolderKind.CONTAINER),
        ((dataclasses.replace(ANNAS, device="B::0"),), (), ANNA, HolderKind.UNALLOCATED),
        ((dataclasses.replace(ANNAS, container="x"),), (), ANNA, HolderKind.UNALLOCATED),
        ((dataclasses.replace(ANNAS, namespace="m"),), (), ANNA, HolderKind.UNALLOCATED),
        ((), (), replace_owner(ANNA, container=""), HolderKind.UNALLOCATED),
    ],
    ids=[
        "holds nothing",
        "the kubelet does not answer",
        "holds it by another resource",
        "holds another GPU",
        "another container of the pod holds it",
        "a pod of this name in another namespace holds it",
        "a container without a name, in a pod that holds nothing",
    ],
)
def test_unallocated(
    held: tuple[Allocation, ...] | None,
    foreign: tuple[Allocation, ...],
    owner: Owner,
    expected: HolderKind,
) -> None:
    """A container is flagged only if it certainly does not hold what it uses."""
    known = snapshot(process(1), owners={1: owner}, held=held)
    holders = use(dataclasses.replace(known, foreign=foreign)).holders or ()
    assert [h.kind for h in holders if h.processes] == [expected]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (snapshot(replicas=1), 0),
        (snapshot(process(1), replicas=1), 1000),
        (snapshot(process(1, 1500), replicas=1), 1500),
        (snapshot(replicas=1, sample={"memory_used": CLEAN}), 0),
        (snapshot(replicas=1, sample={"memory_used": CLEAN + 1}), CLEAN + 1),
        (snapshot(replicas=1, sample={"memory_used": None, "processes": None}), None),
        (snapshot(process(1), replicas=1, held=(ANNAS,)), 0),
        (snapshot(process(1), replicas=1, held=None), None),
        (snapshot(process(1), replicas=4), None),
    ],
)
def test_leaked(known: Snapshot, expected: int | None) -> None:
    """A device is dirty if it is free and not shared, but has a process or over 1 GiB in use."""
    assert use(known).leaked_bytes == expected


def test_mig_instances() -> None:
    """An instance has its own share; a container that holds the whole GPU may use it."""
    uuid = mig_uuid(0, 0)
    taken = (DeviceUsage("A", 5.0, memory_used=7), DeviceUsage(uuid, 5.0, processes=(process(1),)))
    state = UsageState(epoch=1, sequence=1, interval=5.0, devices=taken)
    known = dataclasses.replace(
        snapshot(held=(dataclasses.replace(ANNAS, device=uuid),)),
        node=replace(NODE, inventory=inventory(mig_gpu(0, "1g.10gb", uuid="A"))),
        workers={GPU: (worker_state(GPU, replicas={uuid: 1}), NOW)},
        usage=KnownUsage(state, NOW, Owners({(uuid, 1): ANNA})),
    )
    share = (10 * 1024 - 256) << 20
    uses = anna(
        processes=1, memory_used_bytes=100, utilization_percent=10, memory_share_bytes=share
    )
    assert use(known, uuid).holders == (uses,)
    assert (use(known).holders, use(known).memory_used_bytes) == ((), 7)
    whole = dataclasses.replace(known, allocations=(dataclasses.replace(ANNAS, device="A"),))
    assert [h.kind for h in use(whole, uuid).holders or ()] == [HolderKind.CONTAINER]


def test_usage_ends_with_its_subject() -> None:
    """There is no usage without a GPU, without samples, or when the monitor is silent."""
    known = snapshot(process(1))
    gone = replace(NODE, inventory=inventory(gpu(1, uuid="B")))
    assert device_uses(known, NOW + STALE + 5.0, STALE)
    assert not device_uses(known, NOW + STALE + 5.1, STALE)
    assert not device_uses(dataclasses.replace(known, node=gone), NOW, STALE)
    assert not device_uses(dataclasses.replace(known, node=None), NOW, STALE)
    assert not device_uses(dataclasses.replace(known, usage=None), NOW, STALE)


def test_the_sampling() -> None:
    """The status tells why the usage of containers is unknown."""
    known = snapshot(problem="cannot read a folder")
    assert node_use(known, NOW + 2.0, 5000.0, STALE) == NodeUse(5.0, 4998.0, "cannot read a folder")
    assert node_use(dataclasses.replace(known, usage=None), NOW, 5000.0, STALE) is None
    assert node_use(snapshot(), NOW, 5000.0, STALE) == NodeUse(5.0, 5000.0, None)


def test_a_holder_through_dra_holds_the_device() -> None:
    """Its processes are those of a container that holds the device: nothing has leaked."""
    claimed = DynamicDevice("gpu.nvidia.com", "node", "gpu-0", "n/c", "n", "anna", "main")
    known = snapshot(process(1), owners={1: ANNA}, replicas=1)
    assert use(known).leaked_bytes == 1000
    shown = use(dataclasses.replace(known, dynamic=(claimed,)))
    assert shown.leaked_bytes == 0
    (holder,) = shown.holders or ()
    assert (holder.kind, holder.resource) == (HolderKind.CONTAINER, "gpu.nvidia.com")
