"""The devices that a worker advertises, and its view of the node's state."""

import msgspec

from proto.fitness import fitness
from proto.messages import Inventory, Link, LinkLevel
from proto.reasons import Reason, ReasonKind
from proto.worker import PlannedDevice, ResourcePlan
from tests.unit.builders import node_state, plan
from workers import devices
from workers.devices import Replica, View

LOST = (Reason(ReasonKind.GPU_LOST),)
LINKS = (Link("A", "B", LinkLevel.PIX, 2),)


def test_a_device_that_is_not_shared_keeps_its_uuid() -> None:
    """The device ID of a device with one replica is its UUID."""
    assert devices.replicas(plan({"A": 1}, numa=1)) == {"A": Replica("A", "A", "A", 0, 1)}


def test_replicas_are_numbered_from_zero_behind_the_uuid() -> None:
    """The device IDs of a shared device are `<uuid>::<n>`, in the order of the plan."""
    found = devices.replicas(plan({"B": 2, "A": 2}))
    assert list(found) == ["B::0", "B::1", "A::0", "A::1"]
    assert found["B::1"] == Replica("B::1", "B", "B", 1, None)


def test_an_instance_knows_its_gpu() -> None:
    """A replica of a MIG instance has the UUIDs of the instance and of its GPU."""
    resource = ResourcePlan("nvidia.com/mig-1g.10gb", (PlannedDevice("MIG-1", "A", 2, "0:1"),))
    assert devices.replicas(resource)["MIG-1::1"] == Replica(
        "MIG-1::1", "MIG-1", "A", 1, None, "0:1"
    )


def test_a_replica_has_its_devices_index_and_nodes() -> None:
    """Each replica has its device's index and device nodes."""
    device = PlannedDevice("A", "A", 2, "3", 1, ("/dev/nvidia4",))
    assert devices.replicas(ResourcePlan("nvidia.com/gpu", (device,))) == {
        "A::0": Replica("A::0", "A", "A", 0, 1, "3", ("/dev/nvidia4",)),
        "A::1": Replica("A::1", "A", "A", 1, 1, "3", ("/dev/nvidia4",)),
    }


def test_a_plan_without_devices_advertises_none() -> None:
    """A plan without devices gives an empty list."""
    assert devices.view(plan({}), {}, None, fitness(None)) == View("nvidia.com/gpu", {}, {})


def test_a_view_has_only_unhealthy_devices_of_its_plan() -> None:
    """A view has the reasons of Unhealthy devices of its plan, and no other devices."""
    state = node_state({"A": LOST, "B": (), "C": LOST})
    seen = devices.view(plan({"A": 2, "B": 1}), {}, state, fitness(state))
    assert seen.unhealthy == {"A": LOST}


def test_a_view_is_of_one_plan_and_one_state() -> None:
    """A view has the resource, its replicas, and why devices are Unhealthy."""
    resource = plan({"A": 2}, resource="nvidia.com/shared")
    expected = View("nvidia.com/shared", devices.replicas(resource), {"A": LOST})
    state = node_state({"A": LOST})
    assert devices.view(resource, devices.replicas(resource), state, fitness(state)) == expected


def test_a_view_has_the_nodes_of_the_newest_state() -> None:
    """A view has device nodes, CDI kinds and links of the newest state; before it, none."""
    found = Inventory("", (), nodes=("/dev/nvidiactl",), cdi_kinds=("vendor/gds",), links=LINKS)
    state = msgspec.structs.replace(node_state({"A": ()}), inventory=found)
    seen = devices.view(plan({"A": 1}), {}, state, fitness(state))
    assert (seen.nodes, seen.cdi_kinds) == (("/dev/nvidiactl",), ("vendor/gds",))
    assert seen.links == LINKS
    unseen = devices.view(plan({"A": 1}), {}, None, fitness(None))
    assert (unseen.nodes, unseen.cdi_kinds, unseen.links) == ((), (), ())
