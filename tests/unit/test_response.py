"""The list of devices that the kubelet is sent."""

import pytest

from proto import deviceplugin_pb2 as api
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import view
from workers.devices import View
from workers.listing import Listing

LOST = Reason(ReasonKind.GPU_LOST)


def device_list(view: View) -> api.ListAndWatchResponse:
    """Return the list of a view, as the kubelet decodes it."""
    return api.ListAndWatchResponse.FromString(Listing(view.replicas).of(view.unhealthy))


def test_the_list_has_every_replica_in_order() -> None:
    """The list names each replica in the view's order, healthy unless its device is not."""
    shown = device_list(view({"B": 2, "A": 1}, {"B": (LOST,)}))
    assert [(device.ID, device.health) for device in shown.devices] == [
        ("B::0", "Unhealthy"),
        ("B::1", "Unhealthy"),
        ("A", "Healthy"),
    ]


def test_an_empty_view_is_an_empty_list() -> None:
    """A resource without devices has a list without devices."""
    assert device_list(view({})) == api.ListAndWatchResponse()


@pytest.mark.parametrize("node", [0, 1])
def test_a_device_on_a_numa_node_says_which(node: int) -> None:
    """NUMA node 0 is a node like any other."""
    (device,) = device_list(view({"A": 1}, numa=node)).devices
    assert device.topology == api.TopologyInfo(nodes=[api.NUMANode(ID=node)])
    assert [one.ID for one in device.topology.nodes] == [node]


def test_a_device_without_numa_node_has_no_topology() -> None:
    """A device of no NUMA node has no topology at all: an empty one would mean node 0."""
    (device,) = device_list(view({"A": 1}, numa=None)).devices
    assert not device.HasField("topology")


def test_a_list_is_made_of_the_newest_health() -> None:
    """What was encoded for an earlier list is used again, and nothing of it is ever out of date."""
    both = view({"A": 2, "B": 2})
    listing = Listing(both.replicas)
    for unhealthy in ({"A"}, set(), {"A", "B"}, {"B"}, {"A"}):
        shown = api.ListAndWatchResponse.FromString(listing.of(unhealthy))
        ill = {device.ID.partition("::")[0] for device in shown.devices if device.health[0] == "U"}
        assert ([device.ID for device in shown.devices], ill) == ([*both.replicas], unhealthy)
