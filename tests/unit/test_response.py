"""The device list that a worker sends to the kubelet."""

import pytest

from proto import deviceplugin_pb2 as api
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import view
from workers.devices import View
from workers.listing import Listing

LOST = Reason(ReasonKind.GPU_LOST)


def device_list(view: View) -> api.ListAndWatchResponse:
    """Return the device list of a view, as the kubelet decodes it."""
    return api.ListAndWatchResponse.FromString(Listing(view.replicas).of(view.unhealthy))


def test_the_list_has_every_replica_in_order() -> None:
    """The list has each replica in the view's order, Unhealthy if its device is."""
    shown = device_list(view({"B": 2, "A": 1}, {"B": (LOST,)}))
    assert [(device.ID, device.health) for device in shown.devices] == [
        ("B::0", "Unhealthy"),
        ("B::1", "Unhealthy"),
        ("A", "Healthy"),
    ]


def test_an_empty_view_is_an_empty_list() -> None:
    """A view without devices gives an empty list."""
    assert device_list(view({})) == api.ListAndWatchResponse()


@pytest.mark.parametrize("node", [0, 1])
def test_a_device_has_its_numa_node(node: int) -> None:
    """A device on a NUMA node names it in its topology, also NUMA node 0."""
    (device,) = device_list(view({"A": 1}, numa=node)).devices
    assert device.topology == api.TopologyInfo(nodes=[api.NUMANode(ID=node)])
    assert [numa_node.ID for numa_node in device.topology.nodes] == [node]


def test_a_device_without_numa_node_has_no_topology() -> None:
    """A device without NUMA node has no topology: an empty topology would mean node 0."""
    (device,) = device_list(view({"A": 1}, numa=None)).devices
    assert not device.HasField("topology")


def test_a_list_has_the_newest_health() -> None:
    """Lists that reuse encoded parts of earlier lists always have the newest health."""
    both = view({"A": 2, "B": 2})
    listing = Listing(both.replicas)
    for unhealthy in ({"A"}, set(), {"A", "B"}, {"B"}, {"A"}):
        shown = api.ListAndWatchResponse.FromString(listing.of(unhealthy))
        ill = {device.ID.partition("::")[0] for device in shown.devices if device.health[0] == "U"}
        assert ([device.ID for device in shown.devices], ill) == ([*both.replicas], unhealthy)
