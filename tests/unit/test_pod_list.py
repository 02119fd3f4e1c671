"""The kubelet's list of pods is read within bounds, and others run meanwhile."""

import asyncio
import itertools
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import podresources_pb2 as api
from supervisor.exporter import pod_list
from supervisor.exporter.pod_list import NonsenseError
from supervisor.status.allocations import Allocation, DynamicDevice, Held, split
from tests.fakes.memory import forget_peak, peak
from tests.fakes.pod_lists import GPU, HOSTILE, MIB, plainly

OURS = frozenset({GPU})
UUID = "GPU-00000000-0000-0000-0000-000000000000"
IN_A_POD = [
    (kind, HOSTILE[kind])
    for kind in (
        "containers",
        "devices",
        "ids",
        "claims",
        "claimed devices",
        "CDI names",
    )
]


def read(data: bytes) -> tuple[Allocation, ...]:
    """Return the devices in a list that names our resource and others."""
    return held(data).devices


def held(data: bytes) -> Held:
    """Read a list that names our resource and others."""
    return asyncio.run(pod_list.read(data, OURS))


def pod(name: str, devices: Iterable[str], resource: str = GPU) -> api.PodResources:
    """Return a pod with one container; as in the kubelet's list, each device has its own entry."""
    own = [api.ContainerDevices(resource_name=resource, device_ids=[one]) for one in devices]
    container = api.ContainerResources(name="main", devices=own)
    return api.PodResources(name=name, namespace="ns", containers=[container])


def listed(*pods: api.PodResources) -> bytes:
    """Return the kubelet's answer."""
    return api.ListPodResourcesResponse(pod_resources=pods).SerializeToString()


def test_our_devices_are_read_once() -> None:
    """The devices of our resources are read, each once, whichever pod names them again."""
    data = listed(pod("a", ["x", "y", "x"]), pod("b", ["z"], "example.com/other"), pod("a", ["x"]))
    assert read(data) == tuple(Allocation(GPU, one, "ns", "a", "main") for one in ("x", "y"))


def test_gpus_of_other_resources() -> None:
    """GPUs and MIG instances that are held by another resource are read too."""
    theirs = [f"{UUID}::1", "MIG-1"]
    data = listed(pod("a", theirs, "old"), pod("b", ["x"]), pod("c", ["eth0"], "nic"))
    ours, others = split(read(data), OURS)
    assert [held.device for held in ours] == ["x"]
    assert others == tuple(Allocation("old", one, "ns", "a", "main") for one in theirs)


@pytest.mark.parametrize("device", ["all", "tegra", "54d0709b-558d-4a2c-9f3e-000000000001"])
def test_gpus_whose_names_look_like_no_uuid(device: str) -> None:
    """GPUs of WSL2 and Tegra that another resource holds are read, if this node has them."""
    data = listed(pod("a", [f"{device}::0"], "old"), pod("b", ["allotted", "x"], "nic"))
    assert held(data).devices == ()
    known = asyncio.run(pod_list.read(data, OURS, frozenset({device})))
    assert known.devices == (Allocation("old", f"{device}::0", "ns", "a", "main"),)


def claiming(name: str, driver: str, device: str, cdi: Iterable[str]) -> api.PodResources:
    """Return a pod with one container that holds a device through DRA."""
    names = [api.CDIDevice(name=one) for one in cdi]
    resource = api.ClaimResource(
        driver_name=driver, pool_name="node", device_name=device, cdi_devices=names
    )
    claim = api.DynamicResource(
        claim_name="c", claim_namespace="ns", claim_resources=[resource, resource]
    )
    container = api.ContainerResources(name="main", dynamic_resources=[claim])
    return api.PodResources(name=name, namespace="ns", containers=[container])


def test_gpus_held_through_dra() -> None:
    """Devices of NVIDIA's DRA driver and devices with a UUID are read, each once, and no others."""
    other = UUID.replace("GPU", "MIG")
    data = listed(
        claiming("a", "gpu.nvidia.com", "gpu-0", ["k8s.gpu.nvidia.com/claim=1-gpu-0"]),
        claiming("b", "example.com", UUID.lower(), []),
        claiming("c", "example.com", "x", [f"nvidia.com/gpu={UUID}", f"x.y/z={other}"]),
        claiming("d", "nic.example.com", "eth0", ["nic.example.com/nic=eth0"]),
        pod("e", ["x"]),
    )
    found = held(data)
    assert [one.pod for one in found.devices] == ["e"]
    small, instance = UUID.lower(), other.lower()
    claimed = [
        ("gpu.nvidia.com", "gpu-0", "a", ()),
        ("example.com", small, "b", (small,)),
        ("example.com", "x", "c", (small, instance)),
    ]
    assert found.dynamic == tuple(
        DynamicDevice(driver, "node", device, "ns/c", "ns", name, "main", uuids)
        for driver, device, name, uuids in claimed
    )


CLAIMING = st.builds(
    claiming,
    st.text(max_size=3),
    st.sampled_from(["gpu.nvidia.com", "x"]),
    st.sampled_from(["gpu-0", UUID, ""]),
    st.lists(st.sampled_from([UUID, "", "x"]), max_size=2),
)
PODS = CLAIMING | st.builds(
    pod, st.text(max_size=3), st.lists(st.text(max_size=3), max_size=3), st.sampled_from([GPU, ""])
)


@given(st.lists(PODS, max_size=4), st.binary(max_size=12), st.integers(0, 400))
def test_pod_by_pod_is_read_what_protobuf_reads_at_once(
    pods: list[api.PodResources], more: bytes, at: int
) -> None:
    """A list with any bytes in it is read as protobuf reads it, or refused."""
    whole = listed(*pods)
    data = whole[:at] + more + whole[at:]
    try:
        found = held(data)
    except NonsenseError:
        assert more  # a list that protobuf has encoded is never refused
    else:
        assert plainly(data, OURS) == found


LISTS = [pytest.param(make, pod_list.LONGEST_LIST - 99, id=kind) for kind, make in HOSTILE.items()]
LISTS += [pytest.param(make, MIB - 99, id=f"{kind}, in a short pod") for kind, make in IN_A_POD]


@pytest.mark.parametrize(("make", "size"), LISTS)
def test_a_hostile_list_costs_little_memory(make: Callable[[int], bytes], size: int) -> None:
    """A list that would become many times its size is refused, and takes less than 80 MiB."""
    refused(make(size))


def test_a_name_is_not_repeated_without_bound() -> None:
    """The holders are refused when a long name would be repeated for thousands of devices."""
    refused(listed(pod("p" * 500_000, map(str, range(5000)))))


def test_few_enough_gpus_held_through_dra() -> None:
    """As many as the bound are read, and one more is refused."""
    pods = [claiming(str(n), "gpu.nvidia.com", "gpu-0", []) for n in range(pod_list.MOST_DYNAMIC)]
    assert len(held(listed(*pods)).dynamic) == pod_list.MOST_DYNAMIC
    refused(listed(*pods, claiming("more", "gpu.nvidia.com", "gpu-0", [])))


def refused(data: bytes) -> None:
    """Check that a list, which gRPC lets pass, is refused without much memory."""
    assert len(data) <= pod_list.LONGEST_LIST
    before = forget_peak()
    with pytest.raises(NonsenseError):
        read(data)
    assert peak() - before < 80 * MIB


def test_a_node_full_of_replicas_is_within_the_bounds() -> None:
    """Pods may hold all devices of the longest device list that the kubelet accepts."""
    places = [range(n, n + 650) for n in range(0, 65_000, 650)]
    pods = [pod("p" * 63 + str(n[0]), (f"{UUID}::{place}" for place in n)) for n in places]
    data = listed(*pods)
    assert len(data) <= pod_list.LONGEST_LIST
    assert len(read(data)) == 65_000


def test_containers_that_hold_nothing_hide_no_holder() -> None:
    """So many containers with the longest names that the bound of entries counts, not of bytes."""
    empty = api.ContainerResources(name="c" * 63)
    pods = [api.PodResources(name=str(n), containers=[empty] * 1000) for n in range(145)]
    data = listed(*pods, pod("a", ["x"]))
    assert 9 * MIB < len(data) <= pod_list.LONGEST_LIST
    assert read(data) == (Allocation(GPU, "x", "ns", "a", "main"),)


def test_others_run_while_a_list_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a long list pauses whenever it has taken a turn's time."""
    clock = itertools.count(0.0, pod_list.TURN / 100)
    monkeypatch.setattr("supervisor.exporter.pod_list.time.monotonic", lambda: next(clock))

    async def story() -> int:
        turns = 0
        reading = asyncio.create_task(
            pod_list.read(listed(*(pod(str(n), ["x"]) for n in range(1000))), OURS)
        )
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(story()) >= 4000 / 110
