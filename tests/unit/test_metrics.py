"""The metrics as Prometheus reads them."""

import platform

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proto.control import Problem, ProblemKind, ProcessState, ServiceState
from proto.messages import DeviceHealth, DeviceState, NodeState, Reason, ReasonKind, XidCount
from supervisor.metrics import SnapshotCollector
from supervisor.snapshot import Snapshot
from tests.unit.builders import gpu, inventory, node_state, worker_state

GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
AWKWARD = 'a "quoted" \\ back\\nslash,\nnew line}'

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def page(snapshot: Snapshot, version: str = "1.2.3") -> str:
    """Return the page that a scrape gets."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: snapshot, version))
    return generate_latest(registry).decode()


def scrape(snapshot: Snapshot, version: str = "1.2.3") -> Samples:
    """Return every sample of the page by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page(snapshot, version))
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return what a sample is found by."""
    return name, frozenset(labels.items())


def build_info(driver: str = "", version: str = "1.2.3") -> Samples:
    """Return the sample that every page has."""
    labels = {"version": version, "python": platform.python_version(), "driver_version": driver}
    return {key("gpu_sharing_build_info", **labels): 1.0}


def service(*planned: str) -> ServiceState:
    """Return a service with two processes and these resources."""
    processes = (ProcessState("monitor", "running", 2), ProcessState("exporter", "running", 0))
    return ServiceState(processes=processes, planned=planned)


RESTARTS: Samples = {
    key("gpu_sharing_process_restarts_total", process="monitor"): 2.0,
    key("gpu_sharing_process_restarts_total", process="exporter"): 0.0,
}


def resource(name: str, healthy: int, unhealthy: int, registrations: int) -> Samples:
    """Return the samples of one resource."""
    return {
        key("gpu_sharing_devices", resource=name, health="Healthy"): healthy,
        key("gpu_sharing_devices", resource=name, health="Unhealthy"): unhealthy,
        key("gpu_sharing_registrations_total", resource=name): registrations,
    }


WORKERS = {
    GPU: (worker_state(GPU, healthy=7, unhealthy=1, registrations=3), 0.0),
    SHARED: (worker_state(SHARED, healthy=16, unhealthy=0, registrations=1), 0.0),
}


def test_before_anything_is_known() -> None:
    """A scrape right after the start shows what runs, and nothing that is not known yet."""
    assert scrape(Snapshot()) == build_info()


def test_every_metric() -> None:
    """These are all metrics, by the names and labels that dashboards and alerts use."""
    snapshot = Snapshot(service(GPU, SHARED), 0.0, node_state({}), WORKERS)
    expected = (
        build_info("580.95.05") | RESTARTS | resource(GPU, 7, 1, 3) | resource(SHARED, 16, 0, 1)
    )
    assert scrape(snapshot) == expected


XID, ACTION = Reason(ReasonKind.XID, "79"), Reason(ReasonKind.RECOVERY_ACTION, "reset the GPU")

DEVICES: Samples = {
    key(
        "gpu_sharing_device_info",
        uuid="A",
        index="0",
        pci_bus_id="0000:01:00.0",
        model="NVIDIA H100 80GB HBM3",
        numa_node="1",
        mig="off",
    ): 1.0,
    key(
        "gpu_sharing_device_info",
        uuid="B",
        index="1",
        pci_bus_id="0000:02:00.0",
        model="NVIDIA H100 80GB HBM3",
        numa_node="",
        mig="on",
    ): 1.0,
    key("gpu_sharing_device_healthy", uuid="A"): 1.0,
    key("gpu_sharing_device_healthy", uuid="B"): 0.0,
    key("gpu_sharing_device_unhealthy_reason", uuid="B", reason="xid"): 1.0,
    key("gpu_sharing_device_unhealthy_reason", uuid="B", reason="recovery-action"): 1.0,
    key("gpu_sharing_xid_errors_total", uuid="B", xid="79"): 2.0,
    key("gpu_sharing_xid_errors_total", uuid="", xid="31"): 1.0,
}


def test_devices() -> None:
    """Each GPU shows what it is, how it is and why; two Xids are one reason and two counts."""
    node = NodeState(
        epoch=1,
        sequence=1,
        inventory=inventory(gpu(0, uuid="A", numa_node=1), gpu(1, uuid="B", mig_enabled=True)),
        health=(
            DeviceHealth("A"),
            DeviceHealth("B", (ACTION, Reason(ReasonKind.XID, "48"), XID), DeviceState.UNHEALTHY),
        ),
        xids=(XidCount("B", 79, 2), XidCount("", 31, 1)),
    )
    assert scrape(Snapshot(None, 0.0, node)) == build_info("580.95.05") | DEVICES


def test_types() -> None:
    """What only grows is a counter, what may fall is a gauge."""
    snapshot = Snapshot(service(GPU), 0.0, node_state({}), WORKERS)
    lines = [line.split() for line in page(snapshot).splitlines() if line.startswith("# TYPE")]
    assert {name: kind for _, _, name, kind in lines} == {
        "gpu_sharing_build_info": "gauge",
        "gpu_sharing_process_restarts_total": "counter",
        "gpu_sharing_node_problem": "gauge",
        "gpu_sharing_devices": "gauge",
        "gpu_sharing_registrations_total": "counter",
        "gpu_sharing_device_info": "gauge",
        "gpu_sharing_device_healthy": "gauge",
        "gpu_sharing_device_unhealthy_reason": "gauge",
        "gpu_sharing_xid_errors_total": "counter",
    }


def test_a_series_vanishes_with_its_resource() -> None:
    """A resource that is no longer planned has no series, though its worker spoke a moment ago."""
    snapshot = Snapshot(service(GPU), 0.0, None, WORKERS)
    assert scrape(snapshot) == build_info() | RESTARTS | resource(GPU, 7, 1, 3)


def test_a_resource_whose_worker_never_spoke_has_no_series() -> None:
    """A planned resource shows numbers only once its worker has told some."""
    snapshot = Snapshot(service(GPU, SHARED), 0.0, None, {SHARED: WORKERS[SHARED]})
    assert scrape(snapshot) == build_info() | RESTARTS | resource(SHARED, 16, 0, 1)


def test_problems_of_the_node() -> None:
    """Each kind of problem is a series of value 1 while it lasts, however many there are of it."""
    problems = (
        Problem(ProblemKind.LIST_TOO_LONG, "a"),
        Problem(ProblemKind.LIST_TOO_LONG, "b"),
        Problem(ProblemKind.MIG_EMPTY, "c"),
    )
    state = ServiceState(processes=(), planned=(), problems=problems)
    assert scrape(Snapshot(state, 0.0)) == build_info() | {
        key("gpu_sharing_node_problem", problem="list-too-long"): 1.0,
        key("gpu_sharing_node_problem", problem="mig-empty"): 1.0,
    }
    assert scrape(Snapshot(ServiceState(processes=(), planned=()), 0.0)) == build_info()


def test_labels_are_escaped() -> None:
    """Quotes, backslashes and new lines in a label arrive at Prometheus as they were."""
    state = ServiceState(processes=(ProcessState(AWKWARD, "running", 1),), planned=(AWKWARD,))
    workers = {AWKWARD: (worker_state(AWKWARD, healthy=1, unhealthy=2, registrations=3), 0.0)}
    expected = {key("gpu_sharing_process_restarts_total", process=AWKWARD): 1.0}
    expected |= resource(AWKWARD, 1, 2, 3) | build_info(version=AWKWARD)
    assert scrape(Snapshot(state, 0.0, None, workers), AWKWARD) == expected


def test_each_scrape_shows_the_snapshot_of_its_time() -> None:
    """The collector holds no value of its own: the next scrape shows the next snapshot."""
    snapshots = iter([Snapshot(), Snapshot(service(), 0.0)])
    collector = SnapshotCollector(lambda: next(snapshots), "1.2.3")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    first, second = generate_latest(registry).decode(), generate_latest(registry).decode()
    assert 'process="monitor"' not in first
    assert 'process="monitor"} 2.0' in second
