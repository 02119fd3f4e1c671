"""The metrics as Prometheus reads them, in its text format and in OpenMetrics."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from proto.control import (
    ServiceState,
    Unknown,
)
from proto.driver import DriverState
from proto.messages import DeviceState, NodeState
from proto.reasons import Reason, ReasonKind
from supervisor.exporter.exposition import Exposition
from supervisor.exporter.family import Sample
from supervisor.exporter.formats import choose
from supervisor.exporter.metrics import FAMILIES
from supervisor.exporter.samples import Usage, samples
from supervisor.status.allocations import Allocation
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About
from supervisor.status.usage_owner import Owners
from tests.unit.builders import gpu, inventory
from tests.unit.whole_page import EXPECTED, GPU, NODE, NOW, SERVICE, WALL, WHOLE, Samples, key

AWKWARD = 'a "quoted" \\ back\\nslash,\nnew line}'
OPEN = "application/openmetrics-text; version=1.0.0"
ABOUT = About("1.2.3", stale_after=10.0, backend="simulated")


def body(snapshot: Snapshot, accept: str = "", about: About = ABOUT) -> str:
    """Return the answer to a scrape that accepts this format."""
    used = {"monitor": Usage(20 << 20, 1.5)}
    shown = samples(snapshot, about, used, NOW, WALL)
    return Exposition().body(shown, *choose(accept)).decode()


def page(snapshot: Snapshot, about: About = ABOUT) -> str:
    """Return the answer to a scrape, in the text format."""
    return body(snapshot, about=about)


def scrape(snapshot: Snapshot, about: About = ABOUT) -> Samples:
    """Return every sample of a scrape by its name without prefix, and its labels."""
    return {
        (sample.name.removeprefix("gpu_sharing_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page(snapshot, about))
        for sample in family.samples
    }


def test_every_series() -> None:
    """The metrics have exactly these series: dashboards and alerts use their names."""
    assert scrape(WHOLE) == EXPECTED


def test_every_metric_has_a_series_here() -> None:
    """Each metric has a series in the table, and a help text that ends with a period."""
    shown = {name for name, _ in EXPECTED}
    ends = ("", "_total", "_count")
    missing = [f.name for f in FAMILIES if not any(f.name + end in shown for end in ends)]
    assert missing == []
    assert all(family.help.endswith(".") for family in FAMILIES)


def test_before_anything_is_known() -> None:
    """Right after the start, few metrics have a series, but each has its TYPE line."""
    found = {name for name, _ in scrape(Snapshot())}
    assert found == {
        "build_info",
        "health_monitor_up",
        "pod_resources_up",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    }
    assert page(Snapshot()).count("# TYPE") == len(FAMILIES)


def test_on_a_node_without_a_gpu() -> None:
    """Nothing is shown of the monitor and the kubelet, whom nobody asks there."""
    service = ServiceState(processes=(), planned=(), driver=DriverState.NO_GPU)
    found = scrape(Snapshot(service, NOW))
    assert found[key("driver_state", state="no-gpu")] == 1.0
    assert not {name for name, _ in found} & {"health_monitor_up", "pod_resources_up"}


def test_a_service_without_a_monitor_tells_of_none() -> None:
    """What the service for MPS does not have is not told as broken: alerts would fire."""
    found = {name for name, _ in scrape(Snapshot(), replace(ABOUT, watches_gpus=False))}
    assert not found & {"health_monitor_up", "pod_resources_up"}


def open_samples(snapshot: Snapshot) -> Iterator[Any]:
    """Yield the samples of a scrape in OpenMetrics."""
    text = body(snapshot, OPEN)
    families = openmetrics_parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    yield from (sample for family in families for sample in family.samples)


def test_openmetrics_has_the_same_series() -> None:
    """OpenMetrics has the same series as the text format."""
    found = {
        (sample.name.removeprefix("gpu_sharing_"), frozenset(sample.labels.items())): sample.value
        for sample in open_samples(WHOLE)
    }
    assert found == EXPECTED


def names(snapshot: Snapshot, about: About = ABOUT) -> set[str]:
    """Return the names of the metrics that have a series."""
    return {name for name, _ in scrape(snapshot, about)}


def test_a_removed_resource_has_no_series() -> None:
    """A resource that is no longer planned has no series, although its worker still reports."""
    gone = Snapshot(ServiceState(processes=(), planned=()), NOW, NODE, WHOLE.workers, node_at=NOW)
    assert not names(gone) & {"devices", "registered", "list_size_bytes", "replicas"}


def test_series_after_a_pod_or_a_gpu_is_gone() -> None:
    """After a pod ends, allocated devices are 0; a removed GPU has no series."""
    free = Snapshot(SERVICE, NOW, NODE, WHOLE.workers, (), node_at=NOW)
    assert scrape(free)[key("devices_allocated", resource=GPU, uuid="A")] == 0.0
    assert "allocation_info" not in names(free)
    empty = NodeState(epoch=1, sequence=2, inventory=inventory(), health=())
    assert "device_healthy" not in names(Snapshot(SERVICE, NOW, empty))


def test_without_pod_resources_nothing_is_counted() -> None:
    """Without pod resources from the kubelet, allocated devices have no series, not even 0."""
    unknown = Snapshot(SERVICE, NOW, NODE, WHOLE.workers, None, node_at=NOW)
    assert not names(unknown) & {"devices_allocated", "allocation_info"}
    assert scrape(unknown)[key("pod_resources_up")] == 0.0


def test_without_pod_labels_pods_are_not_named() -> None:
    """Without pod labels, allocated devices are counted, and no pod is named."""
    quiet = About("1.2.3", 10.0, pod_labels=False)
    assert "devices_allocated" in names(WHOLE, quiet)
    assert "allocation_info" not in names(WHOLE, quiet)
    assert not {name for name in names(WHOLE, quiet) if name.startswith("container_")}
    stray = key("unallocated_memory_used_bytes", uuid="A", namespace="", pod="", container="")
    assert scrape(WHOLE, quiet)[stray] == 800.0


def test_without_owners_there_is_the_usage_of_gpus_only() -> None:
    """If it is unknown whose processes are, no container has a figure, not even 0."""
    assert WHOLE.usage
    usage = replace(WHOLE.usage, owners=Owners(problem="cannot tell"))
    unknown = replace(WHOLE, usage=usage)
    found = {
        name
        for name in names(unknown)
        if "memory_used" in name or name.startswith(("container_", "usage_"))
    }
    assert found == {"device_memory_used_bytes", "container_memory_share_bytes", "usage_attributed"}
    assert scrape(unknown)[key("usage_attributed")] == 0.0


def test_usage_of_a_silent_monitor_is_gone() -> None:
    """When the monitor is silent, usage has no series."""
    assert WHOLE.usage
    silent = replace(WHOLE, usage=replace(WHOLE.usage, at=NOW - 15.1))
    assert "usage_attributed" not in names(silent)
    assert "device_utilization_ratio" not in names(silent)


@pytest.mark.parametrize(
    ("age", "quiesced", "up"), [(10.0, False, 1), (10.1, False, 0), (0.0, True, 0)]
)
def test_the_monitor_is_up(age: float, *, quiesced: bool, up: int) -> None:
    """health_monitor_up is 1 while the node state is fresh and the node is not quiesced."""
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
def test_devices_while_the_monitor_is_silent(
    unknown: Reason | None, age: float, reason: str
) -> None:
    """Without a fresh node state, all devices are Unhealthy, and the reason says why."""
    service = ServiceState(
        processes=(), planned=(), unknown=Unknown(unknown, epoch=1) if unknown else None
    )
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
    """Any name of a pod or a model arrives unchanged at Prometheus."""
    node = NodeState(epoch=1, sequence=1, inventory=inventory(gpu(0, name=model)), health=())
    held = Allocation(GPU, "A", pod, pod, pod)
    shown = open_samples(Snapshot(None, NOW, node, {}, (held,)))
    labels = {sample.name: sample.labels for sample in shown}
    assert labels["gpu_sharing_device_info"]["model"] == model
    assert labels["gpu_sharing_allocation_info"]["pod"] == pod


@pytest.mark.parametrize("accept", ["", OPEN])
def test_each_scrape_shows_the_newest_snapshot(accept: str) -> None:
    """A kept text is never an old one: each scrape is what a new process would answer."""
    exposition, encode, kind = Exposition(), *choose(accept)
    for snapshot in (Snapshot(), WHOLE, WHOLE, replace(WHOLE, node=None), Snapshot(), WHOLE):
        shown = [*samples(snapshot, ABOUT, {"monitor": Usage(20 << 20, 1.5)}, NOW, WALL)]
        assert exposition.body(shown, encode, kind).decode() == body(snapshot, accept)


def test_a_family_that_did_not_change_is_not_encoded_again() -> None:
    """A scrape of a shared node is mostly what the last one was."""
    encode, kind = choose("")
    encoded: list[str] = []

    def counting(collector: Collector) -> bytes:
        encoded.extend(metric.name for metric in collector.collect())
        return encode(collector)

    exposition, before = Exposition(), [Sample("maintenance", 0), Sample("nvml_hangs", 1)]
    for shown in (before, before, [Sample("maintenance", 1), Sample("nvml_hangs", 1)]):
        encoded.clear()
        exposition.body(shown, counting, kind)
    assert encoded == ["gpu_sharing_maintenance"]


def test_a_sample_of_no_family() -> None:
    """Each sample needs a description."""
    with pytest.raises(AssertionError, match="metrics without a description"):
        Exposition().body([Sample("strange", 1)], *choose(""))
