"""What the kubelet is answered."""

import pytest

from proto import deviceplugin_pb2 as api
from proto.messages import Reason, ReasonKind
from tests.unit.builders import view
from workers import response
from workers.response import RefusedError

LOST = Reason(ReasonKind.GPU_LOST)
XID = Reason(ReasonKind.XID, "79")


def test_the_list_has_every_replica_in_order() -> None:
    """The list names each replica in the view's order, healthy unless its device is not."""
    shown = response.device_list(view({"B": 2, "A": 1}, {"B": (LOST,)}))
    assert [(device.ID, device.health) for device in shown.devices] == [
        ("B::0", "Unhealthy"),
        ("B::1", "Unhealthy"),
        ("A", "Healthy"),
    ]


def test_an_empty_view_is_an_empty_list() -> None:
    """A resource without devices has a list without devices."""
    assert response.device_list(view({})) == api.ListAndWatchResponse()


@pytest.mark.parametrize("node", [0, 1])
def test_a_device_on_a_numa_node_says_which(node: int) -> None:
    """NUMA node 0 is a node like any other."""
    (device,) = response.device_list(view({"A": 1}, numa=node)).devices
    assert device.topology == api.TopologyInfo(nodes=[api.NUMANode(ID=node)])
    assert [one.ID for one in device.topology.nodes] == [node]


def test_a_device_without_numa_node_has_no_topology() -> None:
    """A device of no NUMA node has no topology at all: an empty one would mean node 0."""
    (device,) = response.device_list(view({"A": 1}, numa=None)).devices
    assert not device.HasField("topology")


@pytest.mark.parametrize(
    ("ids", "visible"),
    [
        (["A::0"], "A"),
        (["B::1", "A::0"], "B,A"),
        (["A::1", "B::0", "A::0"], "A,B"),
        (["C"], "C"),
        ([], ""),
    ],
    ids=["one", "in the order asked", "each device once", "not shared", "none"],
)
def test_allocate(ids: list[str], visible: str) -> None:
    """A container sees the devices behind its ids, in their order and each once."""
    answer = response.allocate(view({"A": 2, "B": 2, "C": 1}), ids)
    assert answer == api.ContainerAllocateResponse(envs={"NVIDIA_VISIBLE_DEVICES": visible})


def test_a_healthy_device_is_given_beside_an_unhealthy_one() -> None:
    """A fault of one device does not keep another from being handed out."""
    answer = response.allocate(view({"A": 1, "B": 1}, {"B": (LOST,)}), ["A"])
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == "A"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["A::0", "D"], 'cannot allocate "D": nvidia.com/gpu has no such device'),
        (["A"], 'cannot allocate "A": nvidia.com/gpu has no such device'),
        (
            ["A::0", "B::1"],
            'cannot allocate "B::1" of nvidia.com/gpu: unhealthy (gpu-lost, xid 79)',
        ),
    ],
    ids=["unknown", "UUID of a shared device", "unhealthy"],
)
def test_what_must_not_be_given_is_refused(ids: list[str], message: str) -> None:
    """A request with one device that is unknown or unhealthy is refused, with the reasons."""
    shown = view({"A": 2, "B": 2}, {"B": (LOST, XID)})
    with pytest.raises(RefusedError) as refused:
        response.allocate(shown, ids)
    assert str(refused.value) == message
