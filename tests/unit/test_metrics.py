"""The metrics as Prometheus reads them, in both of its formats."""

from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from proto.control import (
    ServiceState,
)
from proto.messages import DeviceState, NodeState
from proto.reasons import Reason, ReasonKind
from supervisor.exporter.metrics import FAMILIES, SampleCollector
from supervisor.exporter.samples import Usage, samples
from supervisor.status.allocations import Allocation
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About
from tests.unit.builders import gpu, inventory
from tests.unit.whole_page import EXPECTED, GPU, NODE, NOW, SERVICE, WALL, WHOLE, Samples, key

AWKWARD = 'a "quoted" \\ back\\nslash,\nnew line}'
ABOUT = About("1.2.3", stale_after=10.0, backend="simulated")


def registry(snapshot: Snapshot, about: About = ABOUT) -> CollectorRegistry:
    """Return what a scrape of *snapshot* is made of."""
    used = {"monitor": Usage(20 << 20, 1.5)}
    made = CollectorRegistry()
    made.register(SampleCollector(lambda: samples(snapshot, about, used, NOW, WALL)))
    return made


def page(snapshot: Snapshot, about: About = ABOUT) -> str:
    """Return the page that a scrape gets."""
    return generate_latest(registry(snapshot, about)).decode()


def scrape(snapshot: Snapshot, about: About = ABOUT) -> Samples:
    """Return every sample of the page by its name without prefix, and its labels."""
    return {
        (sample.name.removeprefix("gpu_sharing_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page(snapshot, about))
        for sample in family.samples
    }


def test_every_series() -> None:
    """These are all series, by the names and labels that dashboards and alerts use."""
    assert scrape(WHOLE) == EXPECTED


def test_every_metric_has_a_series_here() -> None:
    """A new metric needs a line in the table above; each has a sentence that ends."""
    shown = {name for name, _ in EXPECTED}
    ends = ("", "_total", "_count")
    missing = [f.name for f in FAMILIES if not any(f.name + end in shown for end in ends)]
    assert missing == []
    assert all(family.help.endswith(".") for family in FAMILIES)


def test_before_anything_is_known() -> None:
    """Right after the start little is known, yet every metric has its TYPE line."""
    found = {name for name, _ in scrape(Snapshot())}
    assert found == {
        "build_info",
        "health_monitor_up",
        "pod_resources_up",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    }
    assert page(Snapshot()).count("# TYPE") == len(FAMILIES)


def open_samples(snapshot: Snapshot) -> Iterator[Any]:
    """Yield the samples of the page in the other format."""
    text = openmetrics.generate_latest(registry(snapshot)).decode()  # type: ignore[no-untyped-call]
    families = openmetrics_parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    yield from (sample for family in families for sample in family.samples)


def test_what_openmetrics_reads() -> None:
    """The other format says the same."""
    found = {
        (sample.name.removeprefix("gpu_sharing_"), frozenset(sample.labels.items())): sample.value
        for sample in open_samples(WHOLE)
    }
    assert found == EXPECTED


def names(snapshot: Snapshot, about: About = ABOUT) -> set[str]:
    """Return the names of the metrics that have a series."""
    return {name for name, _ in scrape(snapshot, about)}


def test_a_series_vanishes_with_its_resource() -> None:
    """A resource that is no longer planned has no series, though its worker spoke a moment ago."""
    gone = Snapshot(ServiceState(processes=(), planned=()), NOW, NODE, WHOLE.workers, node_at=NOW)
    assert not names(gone) & {"devices", "registered", "list_size_bytes", "replicas"}


def test_a_series_vanishes_with_its_pod_and_its_gpu() -> None:
    """What a container held is 0 when it is gone; of a GPU that is gone nothing is left."""
    free = Snapshot(SERVICE, NOW, NODE, WHOLE.workers, (), node_at=NOW)
    assert scrape(free)[key("devices_allocated", resource=GPU, uuid="A")] == 0.0
    assert "allocation_info" not in names(free)
    empty = NodeState(epoch=1, sequence=2, inventory=inventory(), health=())
    assert "device_healthy" not in names(Snapshot(SERVICE, NOW, empty))


def test_nobody_tells_who_holds_what() -> None:
    """Without the kubelet's word there is no count, least of all 0."""
    unknown = Snapshot(SERVICE, NOW, NODE, WHOLE.workers, None, node_at=NOW)
    assert not names(unknown) & {"devices_allocated", "allocation_info"}
    assert scrape(unknown)[key("pod_resources_up")] == 0.0


def test_pods_may_stay_unnamed() -> None:
    """Without pod labels the counts are there, and no name."""
    quiet = About("1.2.3", 10.0, pod_labels=False)
    assert "devices_allocated" in names(WHOLE, quiet)
    assert "allocation_info" not in names(WHOLE, quiet)


@pytest.mark.parametrize(
    ("age", "quiesced", "up"), [(10.0, False, 1), (10.1, False, 0), (0.0, True, 0)]
)
def test_the_monitor_is_up(age: float, *, quiesced: bool, up: int) -> None:
    """A monitor is up while its word is fresh, and not in maintenance."""
    service = ServiceState(processes=(), planned=(), quiesced=quiesced)
    snapshot = Snapshot(service, NOW, NODE, node_at=NOW - age)
    assert scrape(snapshot)[key("health_monitor_up")] == up


@pytest.mark.parametrize(
    ("unknown", "age", "reason"),
    [
        (None, 11.0, "monitor-silent"),
        (Reason(ReasonKind.MAINTENANCE), 0.0, "maintenance"),
        (Reason(ReasonKind.DRIVER_HANG, "nvmlInit"), 11.0, "driver-hang"),
    ],
)
def test_nothing_is_known(unknown: Reason | None, age: float, reason: str) -> None:
    """While nothing is known of any device none is healthy, and the reason why not is told."""
    service = ServiceState(processes=(), planned=(), unknown=unknown)
    found = scrape(Snapshot(service, NOW, NODE, node_at=NOW - age))
    for uuid in ("A", "B"):
        assert found[key("device_healthy", uuid=uuid)] == 0.0
        assert found[key("device_unhealthy_reason", uuid=uuid, reason=reason)] == 1.0
        assert not any(
            found[key("device_health_state", uuid=uuid, state=state)] for state in DeviceState
        )
    assert found[key("device_unhealthy_reason", uuid="B", reason="xid")] == 1.0


TEXTS = st.one_of(st.just(AWKWARD), st.text(st.characters(codec="utf-8")))


@given(TEXTS, TEXTS)
def test_labels_are_escaped(pod: str, model: str) -> None:
    """Whatever a pod or a model is called, it arrives at Prometheus as it is."""
    node = NodeState(epoch=1, sequence=1, inventory=inventory(gpu(0, name=model)), health=())
    held = Allocation(GPU, "A", pod, pod, pod)
    shown = open_samples(Snapshot(None, NOW, node, {}, (held,)))
    labels = {sample.name: sample.labels for sample in shown}
    assert labels["gpu_sharing_device_info"]["model"] == model
    assert labels["gpu_sharing_allocation_info"]["pod"] == pod


def test_each_scrape_shows_the_snapshot_of_its_time() -> None:
    """The collector holds no value of its own: the next scrape shows the next snapshot."""
    snapshots = iter([Snapshot(), Snapshot(), WHOLE])

    def source() -> Iterator[object]:
        return samples(next(snapshots), ABOUT, {}, NOW, WALL)

    made = CollectorRegistry(auto_describe=False)
    made.register(SampleCollector(source))  # type: ignore[arg-type]
    first, second, third = (generate_latest(made).decode() for _ in range(3))
    assert "process=" not in first + second
    assert 'process="monitor"} 2.0' in third
