"""GetPreferredAllocation for replicas of MPS: a container gets several from one device only."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.mps import MpsShare
from proto.worker import AllocationPolicy, Handout, PlannedDevice, ResourcePlan
from workers import response
from workers.allocation import Allocator
from workers.devices import Replica, View, replicas
from workers.topology import Topology

DISTRIBUTED, PACKED, SPREAD = AllocationPolicy
SHARE = MpsShare(1024, 10, single=False)


def known(shared: dict[str, int], whole: str = "") -> dict[str, Replica]:
    """Return the replicas of devices that MPS shares, and devices that are not shared."""
    planned = [PlannedDevice(uuid, uuid, count, mps=SHARE) for uuid, count in shared.items()]
    planned += [PlannedDevice(uuid, uuid, 1) for uuid in whole]
    return replicas(ResourcePlan("nvidia.com/gpu", tuple(planned)))


def preferred(
    policy: AllocationPolicy, all_of: dict[str, Replica], free: str, required: str, size: int
) -> str:
    """Return the preferred IDs; `A0` stands for `A::0`."""
    names = {name.replace("::", ""): name for name in all_of}
    available, must = ([names[short] for short in text.split()] for text in (free, required))
    found = Allocator(all_of, policy, Topology.of(())).preferred(available, must, size)
    return " ".join(name.replace("::", "") for name in found)


FREE = "A0 A1 A2 A3 B0 B2 B3 C2 C3"
EXPECTED = {
    "two": (2, "", {PACKED: "C2 C3", DISTRIBUTED: "A0 A1", SPREAD: "A0 A1"}),
    "three": (3, "", {PACKED: "B0 B2 B3", DISTRIBUTED: "A0 A1 A2", SPREAD: "A0 A1 A2"}),
    "four": (4, "", {PACKED: "A0 A1 A2 A3", DISTRIBUTED: "A0 A1 A2 A3"}),
    "more than any has": (5, "", {PACKED: "A0 A1 A2 A3", SPREAD: "A0 A1 A2 A3"}),
    "one": (1, "", {PACKED: "C2", DISTRIBUTED: "A0", SPREAD: "A0"}),
    "with one of B": (2, "B3", {PACKED: "B3 B0", DISTRIBUTED: "B3 B0", SPREAD: "B3 B0"}),
    "with two of C": (3, "C2 C3", {PACKED: "C2 C3", DISTRIBUTED: "C2 C3"}),
}


@pytest.mark.parametrize(("size", "required", "expected"), EXPECTED.values(), ids=EXPECTED)
def test_several_replicas_are_of_one_device(
    size: int, required: str, expected: dict[AllocationPolicy, str]
) -> None:
    """Packed takes the fullest device that has enough, the other policies the emptiest."""
    all_of = known({"A": 4, "B": 4, "C": 4})
    for policy, ids in expected.items():
        assert preferred(policy, all_of, FREE, required, size) == ids


@pytest.mark.parametrize("policy", AllocationPolicy)
def test_devices_without_mps_are_not_mixed_with_it(policy: AllocationPolicy) -> None:
    """A container gets replicas of one device, or devices that MPS does not share."""
    all_of = known({"A": 2}, "XYZ")
    assert preferred(policy, all_of, "A0 A1 X Y Z", "", 3) == "X Y Z"
    assert preferred(policy, all_of, "A0 A1 X", "", 2) == "A0 A1"
    assert preferred(policy, all_of, "A0 A1 X Y Z", "A1", 2) == "A1 A0"
    assert preferred(policy, all_of, "A0 A1 X Y Z", "Z", 2) == "Z X"
    assert preferred(policy, all_of, "", "", 2) == ""


def test_one_replica_a_device() -> None:
    """Devices of one replica are never combined: only Allocate's refusal tells the user why."""
    assert preferred(DISTRIBUTED, known({"A": 1, "B": 1}), "A B", "", 2) == "A"


counts = st.dictionaries(st.sampled_from("ABCD"), st.integers(1, 6), min_size=1)


@settings(deadline=None, max_examples=100)
@given(st.data(), counts, st.sampled_from(AllocationPolicy))
def test_allocate_takes_what_is_preferred(
    data: st.DataObject, shared: dict[str, int], policy: AllocationPolicy
) -> None:
    """What fits into one device is preferred from one, and Allocate never refuses the answer."""
    all_of = known(shared)
    free = data.draw(st.lists(st.sampled_from([*all_of]), unique=True, min_size=1))
    size = data.draw(st.integers(1, 6))
    found = Allocator(all_of, policy, Topology.of(())).preferred(free, (), size)
    most = max(sum(name[0] == uuid for name in free) for uuid in shared)
    assert len(found) == min(size, most)
    assert {*found} <= {*free}
    handout = Handout(mps_root="/run/nvidia/mps", policy=policy)
    response.allocate(View("nvidia.com/gpu", all_of, {}), handout, found)
