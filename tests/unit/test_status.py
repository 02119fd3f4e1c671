"""The status of the node, its resources and the service."""

import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from proto.calls import HangingCall
from proto.control import ConfigurationState, ProcessState, ServiceState, Unknown
from proto.messages import DeviceHealth, FailedGpu, XidCount
from proto.problem import Problem, ProblemKind
from proto.reasons import Reason, ReasonKind
from supervisor.status import node_report, report
from supervisor.status.allocations import Allocation
from supervisor.status.service_report import ConfigurationStatus, ProcessStatus, XidSeen
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About, status
from tests.unit.builders import gpu, inventory, node_state, worker_state

NOW, WALL, GPU = 1000.0, 1_700_000_000.0, "nvidia.com/gpu"
ABOUT = About(version="1.2.3", stale_after=10.0)

SERVICE = ServiceState(processes=(ProcessState("monitor", "running", 2, 77),), planned=(GPU,))
NODE = replace(node_state({"A": (), "B": ()}), inventory=inventory(gpu(0, uuid="A")))
WORKERS = {GPU: (worker_state(GPU, healthy=1, replicas={"A": 1}), NOW)}
WELL = Snapshot(SERVICE, NOW, NODE, WORKERS, (), node_at=NOW)
BROKEN = replace(NODE, health=(DeviceHealth("A", (Reason(ReasonKind.XID, "79"),)),))
PARTIAL = replace(NODE, inventory=inventory(gpu(0, uuid="A"), failed=(FailedGpu(1, "lost"),)))


def shown(**fields: Any) -> report.Status:
    """Return the status of a node without problems; *fields* replace its usual values."""
    return status(dataclasses.replace(WELL, **fields), ABOUT, NOW, WALL)


def test_before_anything_is_known() -> None:
    """Before any message arrives, the service is not live, and everything else is null."""
    silent = node_report.Verdict(ok=False, problems=("supervisor: no heartbeat",))
    unknown = node_report.NodeStatus(None, None, None, silent, silent, *[None] * 7)
    assert status(Snapshot(), ABOUT, NOW, WALL) == report.Status(
        WALL, "1.2.3", False, unknown, None, None, None, None, None, None
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"node": BROKEN}, False),
        ({"node": PARTIAL}, False),
        ({"node": None}, False),
        ({"node_at": NOW - 10.0}, True),
        ({"node_at": NOW - 10.1}, False),
        (
            {"service": replace(SERVICE, unknown=Unknown(Reason(ReasonKind.MAINTENANCE), epoch=1))},
            False,
        ),
        ({"service": None}, False),
        ({"service_at": NOW - 10.1}, False),
        ({"workers": {}}, False),
        ({"workers": {GPU: (worker_state(GPU, streams=0), NOW)}}, False),
        ({"workers": {GPU: (worker_state(GPU, unhealthy=1), NOW)}}, False),
        ({"allocations": None}, True),
    ],
    ids=[
        "all is well",
        "a GPU has a fault",
        "a GPU cannot be enumerated",
        "the monitor never spoke",
        "the monitor spoke just in time",
        "the monitor is silent",
        "maintenance",
        "the supervisor never spoke",
        "the supervisor is silent",
        "a worker never spoke",
        "the kubelet does not listen",
        "a planned device is gone",
        "pod resources cannot be read",
    ],
)
def test_ok(fields: dict[str, object], expected: bool) -> None:  # noqa: FBT001 - a table's column
    """`ok` needs every device, worker and process to be well, but no pod resources."""
    assert shown(**fields).ok is expected


def test_the_node() -> None:
    """The node's status has the probes' answers, its problems and failed GPUs."""
    problem = Problem(ProblemKind.LIST_TOO_LONG, "too many")
    service = replace(
        SERVICE, problems=(problem,), notices=("not shared: a",), hangs=3, quiesced=True
    )
    hang = HangingCall("nvmlDeviceGetName", 1, "", 17.5)
    given = replace(PARTIAL.inventory, passed={"0000:41:00.0": "vfio-pci"})
    node = replace(PARTIAL, inventory=given, persisted=False, hanging=(hang,))
    assert shown(service=service, node=node).node == node_report.NodeStatus(
        driver_version="580.95.05",
        backend=None,
        maintenance=True,
        live=node_report.Verdict(ok=True, problems=()),
        ready=node_report.Verdict(ok=False, problems=("list-too-long: too many",)),
        problems=(node_report.ProblemStatus(ProblemKind.LIST_TOO_LONG, "too many", fatal=True),),
        passthrough=(node_report.PassedGpu("0000:41:00.0", "vfio-pci"),),
        failed=(node_report.FailedGpuStatus(1, "lost"),),
        persisted=False,
        driver_hangs=3,
        hanging=(node_report.HangingCallStatus("nvmlDeviceGetName", 1, None, 17.5),),
        notices=("not shared: a",),
    )


def test_a_resource() -> None:
    """A resource's status has its worker's telemetry and its number of allocated devices."""
    held = tuple(Allocation(name, "A", "n", "p", "c") for name in (GPU, GPU, "other"))
    worker = worker_state(GPU, healthy=6, unhealthy=2, registrations=4, answering=False)
    assert shown(workers={GPU: (worker, NOW)}, allocations=held).resources == (
        report.ResourceStatus(
            name=GPU,
            devices=8,
            healthy=6,
            unhealthy=2,
            allocated=2,
            registered=True,
            registrations=4,
            streams=1,
            answering=False,
            sharing=report.SharingKind.NONE,
        ),
    )


@pytest.mark.parametrize(
    "workers", [{}, {GPU: (worker_state(GPU), NOW - 10.1)}], ids=["never heard", "silent"]
)
def test_the_resource_of_a_silent_worker(workers: dict[str, object]) -> None:
    """The status of a silent worker's resource is null, except for allocated devices."""
    assert shown(workers=workers).resources == (report.ResourceStatus(name=GPU, allocated=0),)
    assert shown(workers=workers, allocations=None).resources == (report.ResourceStatus(name=GPU),)


def test_processes_and_configuration() -> None:
    """Processes and configuration are as the supervisor says; unknown values are null."""
    told = ConfigurationState("abc", 5.0, "no such key")
    gone = ProcessState("exporter", "backoff", 1)
    service = replace(SERVICE, processes=(*SERVICE.processes, gone), configuration=told)
    assert shown(service=service).processes == (
        ProcessStatus("monitor", "running", 2, 77),
        ProcessStatus("exporter", "backoff", 1, None),
    )
    assert shown(service=service).configuration == ConfigurationStatus("abc", 5.0, "no such key")
    assert shown().configuration == ConfigurationStatus(None, None, None)


def test_xids() -> None:
    """Each Xid has its name; an unknown GPU or an unknown time is null."""
    node = replace(NODE, xids=(XidCount("A", 79, 2, 5.0), XidCount("", 31, 1)))
    assert shown(node=node).xids == (
        XidSeen("A", 79, "GPU has fallen off the bus", 2, 5.0),
        XidSeen(None, 31, "GPU memory page fault", 1, None),
    )
