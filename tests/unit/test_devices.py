"""What a worker advertises in a given state of the node."""

import msgspec
import pytest

from proto.messages import Inventory, Link, LinkLevel, Reason, ReasonKind
from proto.worker import PlannedDevice, ResourcePlan
from tests.unit.builders import gpu, instance, inventory, node_state, plan
from workers import devices
from workers.devices import SILENT, UNSEEN, Replica, View

Reasons = tuple[Reason, ...]

LOST = (Reason(ReasonKind.GPU_LOST),)
LINKS = (Link("A", "B", LinkLevel.PIX, 2),)
XID = (Reason(ReasonKind.XID, "79"),)


def test_a_device_that_is_not_shared_keeps_its_uuid() -> None:
    """The id of a device with one replica is its plain UUID."""
    assert devices.replicas(plan({"A": 1}, numa=1)) == {"A": Replica("A", "A", "A", 0, 1)}


def test_replicas_are_numbered_from_zero_behind_the_uuid() -> None:
    """The ids of a shared device are `<uuid>::<n>`, in the order of the plan."""
    found = devices.replicas(plan({"B": 2, "A": 2}))
    assert list(found) == ["B::0", "B::1", "A::0", "A::1"]
    assert found["B::1"] == Replica("B::1", "B", "B", 1, None)


def test_an_instance_knows_its_gpu() -> None:
    """A replica of a MIG instance bears the instance's UUID and its GPU's."""
    resource = ResourcePlan("nvidia.com/mig-1g.10gb", (PlannedDevice("MIG-1", "A", 2, "0:1"),))
    assert devices.replicas(resource)["MIG-1::1"] == Replica(
        "MIG-1::1", "MIG-1", "A", 1, None, "0:1"
    )


def test_a_replica_has_its_devices_index_and_nodes() -> None:
    """What a container gets for a replica is what it gets for the device."""
    device = PlannedDevice("A", "A", 2, "3", 1, ("/dev/nvidia4",))
    assert devices.replicas(ResourcePlan("nvidia.com/gpu", (device,))) == {
        "A::0": Replica("A::0", "A", "A", 0, 1, "3", ("/dev/nvidia4",)),
        "A::1": Replica("A::1", "A", "A", 1, 1, "3", ("/dev/nvidia4",)),
    }


def test_a_plan_without_devices_advertises_none() -> None:
    """A resource that is withdrawn has an empty list."""
    assert devices.view(plan({}), {}, node_state({"A": ()})) == View("nvidia.com/gpu", {}, {})


def test_healthy_devices_have_no_reason() -> None:
    """Devices that the monitor finds healthy are not among the unhealthy."""
    assert (
        devices.unhealthy(plan({"A": 2, "B": 1}), node_state({"A": (), "B": ()}), silent=False)
        == {}
    )


def test_an_unhealthy_device_bears_the_monitors_reasons() -> None:
    """Only the device that the monitor finds unhealthy is, for the reasons that it gives."""
    state = node_state({"A": LOST, "B": ()})
    assert devices.unhealthy(plan({"A": 2, "B": 1}), state, silent=False) == {"A": LOST}


def test_a_device_that_the_monitor_does_not_see_is_unhealthy() -> None:
    """A planned device that is missing from the node's state is not found."""
    found = devices.unhealthy(plan({"A": 1, "B": 1}), node_state({"A": ()}), silent=False)
    assert found == {"B": (Reason(ReasonKind.NOT_FOUND),)} == {"B": UNSEEN}


def test_devices_of_other_resources_do_not_matter() -> None:
    """A fault of a device that is not planned here is not told here."""
    assert devices.unhealthy(plan({"A": 1}), node_state({"A": (), "B": LOST}), silent=False) == {}


def test_before_the_first_word_of_the_monitor_all_are_unhealthy() -> None:
    """Without any state of the node nothing may be handed out."""
    expected = (Reason(ReasonKind.MONITOR_SILENT),)
    found = devices.unhealthy(plan({"A": 2, "B": 1}), None, silent=False)
    assert found == {"A": expected, "B": expected}


def test_a_silent_monitor_makes_all_unhealthy() -> None:
    """A state that is too old counts as none, whatever it says."""
    state = node_state({"A": (), "B": LOST})
    found = devices.unhealthy(plan({"A": 1, "B": 1}), state, silent=True)
    assert found == {"A": SILENT, "B": SILENT}


def test_a_view_is_of_one_plan_and_one_state() -> None:
    """A view holds the resource, its replicas and why devices are unhealthy."""
    resource = plan({"A": 2}, resource="nvidia.com/shared")
    expected = View("nvidia.com/shared", devices.replicas(resource), {"A": LOST})
    assert devices.view(resource, devices.replicas(resource), node_state({"A": LOST})) == expected
    silent = devices.view(resource, {}, node_state({"A": LOST}), silent=True)
    assert silent.unhealthy == {"A": SILENT}


def test_a_view_knows_what_the_node_has() -> None:
    """A view holds nodes, CDI kinds and links of the newest state, and none before the first."""
    found = Inventory("", (), nodes=("/dev/nvidiactl",), cdi_kinds=("vendor/gds",), links=LINKS)
    state = msgspec.structs.replace(node_state({"A": ()}), inventory=found)
    seen = devices.view(plan({"A": 1}), {}, state)
    assert (seen.nodes, seen.cdi_kinds) == (("/dev/nvidiactl",), ("vendor/gds",))
    assert seen.links == LINKS
    unseen = devices.view(plan({"A": 1}), {}, None)
    assert (unseen.nodes, unseen.cdi_kinds, unseen.links) == ((), (), ())


@pytest.mark.parametrize(
    ("gpu_reasons", "instance_reasons", "expected"),
    [
        ((), (), {}),
        ((), XID, {"A": XID}),
        (LOST, LOST, {"A": LOST}),
        (LOST, XID, {"A": (*LOST, *XID)}),
    ],
    ids=["healthy", "an instance's", "both the same", "both"],
)
def test_a_whole_gpu_bears_what_is_wrong_with_its_instances(
    gpu_reasons: Reasons, instance_reasons: Reasons, expected: dict[str, Reasons]
) -> None:
    """A GPU in MIG mode that is advertised as a whole is unhealthy with any of its instances."""
    state = node_state({"A": gpu_reasons, "MIG-1": instance_reasons, "MIG-2": ()})
    one = gpu(uuid="A", instances=(instance("MIG-1", 0, 7), instance("MIG-2", 1, 8)))
    state = msgspec.structs.replace(state, inventory=inventory(one))
    assert devices.unhealthy(plan({"A": 1}), state, silent=False) == expected
