"""The page's words about the node."""

import dataclasses

import pytest
from msgspec.structs import replace

from proto.messages import DeviceHealth, DeviceState, FailedGpu
from proto.reasons import Reason, ReasonKind
from supervisor.status import wording
from supervisor.status.report import ResourceStatus, Status
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import status
from tests.fakes import showcase
from tests.unit.builders import gpu, gpu_uuid, inventory, node_state


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1.0, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (7200, "2 h"),
        (86400 * 40, "40 d"),
    ],
)
def test_ago(seconds: float, words: str) -> None:
    """A duration is shown in its largest unit."""
    assert wording.ago(seconds) == words


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (ResourceStatus(name="r"), "? unknown"),
        (ResourceStatus(name="r", registered=False, streams=0), "✗ not registered"),
        (ResourceStatus(name="r", registered=True, streams=0), "✗ no ListAndWatch stream"),
        (ResourceStatus(name="r", registered=True, streams=1), "✓ registered"),
    ],
)
def test_the_kubelet(resource: ResourceStatus, words: str) -> None:
    """A resource's registration with the kubelet is a sign and a few words."""
    assert wording.kubelet(resource) == words


def of(known: Snapshot) -> Status:
    """Return the status for a snapshot."""
    return status(known, showcase.ABOUT, 50.0, 1e9)


BUSY = showcase.snapshot(50.0, 1e9)


def quiesced() -> Snapshot:
    """Return the busy node under maintenance, with a refused configuration."""
    assert BUSY.service
    assert BUSY.node
    configuration = replace(BUSY.service.configuration, problem="no such key")
    service = replace(BUSY.service, quiesced=True, configuration=configuration)
    return dataclasses.replace(BUSY, service=service, node=replace(BUSY.node, persisted=False))


def healthy() -> Snapshot:
    """Return the busy node without faults."""
    assert BUSY.node
    well = tuple(DeviceHealth(device.uuid) for device in BUSY.node.health)
    return dataclasses.replace(BUSY, node=replace(BUSY.node, health=well))


ONE = dataclasses.replace(
    BUSY, node=replace(node_state({gpu_uuid(0): ()}), inventory=inventory(gpu())), allocations=()
)

EMPTY = dataclasses.replace(
    BUSY, node=replace(node_state({}), inventory=inventory()), allocations=()
)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (BUSY, "4 of 8 GPUs are not healthy"),
        (healthy(), "All 8 GPUs are healthy"),
        (ONE, "The GPU is healthy"),
        (quiesced(), "Under maintenance: new pods get no GPU"),
        (EMPTY, "No NVIDIA GPU on this node"),
        (Snapshot(), "GPUs unknown: waiting for the health monitor"),
    ],
    ids=["busy", "healthy", "the only one is healthy", "maintenance", "no GPU", "nothing known"],
)
def test_the_headline(known: Snapshot, words: str) -> None:
    """The headline sums up the health of the node in one line."""
    assert wording.headline(of(known)) == f"gpu-17: {words}"


def test_problems() -> None:
    """Problems other than the devices' are each listed once."""
    told = wording.problems(of(quiesced()))
    assert [line.partition(":")[0] for line in told] == [
        "not-shared",
        "cannot write the state folder",
        "new configuration refused, still using the old",
    ]
    assert wording.problems(of(Snapshot())) == ["not live: supervisor: no heartbeat"]
    assert "holds 1 nvidia.com/sharedgpu, but they no longer exist" in " ".join(
        wording.problems(of(dataclasses.replace(EMPTY, allocations=BUSY.allocations)))
    )


def test_a_lost_gpu_is_counted_once() -> None:
    """A lost GPU that is known and also fails to enumerate is counted once."""
    lost = DeviceHealth(gpu_uuid(0), (Reason(ReasonKind.GPU_LOST),), DeviceState.LOST)
    state = replace(
        node_state({}),
        inventory=inventory(gpu(0), gpu(1), failed=(FailedGpu(0, "lost"), FailedGpu(2, "busy"))),
        health=(lost, DeviceHealth(gpu_uuid(1))),
    )
    known = dataclasses.replace(EMPTY, node=state)
    assert wording.headline(of(known)) == "gpu-17: 2 of 3 GPUs are not healthy"
