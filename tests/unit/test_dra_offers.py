"""What DRA offers of a node, from the objects of the API server."""

from typing import Any

import pytest

from proto.cluster import DraOffers
from supervisor.cluster.dra_offers import read, told
from tests.unit.builders import gpu_uuid

GPU = "nvidia.com/gpu"
OURS = gpu_uuid(1)


def slice_of(driver: str, *uuids: str) -> dict[str, Any]:
    """Return a ResourceSlice with a device for each of *uuids*."""
    devices = [
        {"name": f"gpu-{place}", "attributes": {"uuid": {"string": uuid}, "index": {"int": place}}}
        for place, uuid in enumerate(uuids)
    ]
    return {"spec": {"driver": driver, "devices": devices}}


def named(name: str, resource: str | None) -> dict[str, Any]:
    """Return a DeviceClass that names this extended resource; None: none."""
    spec = {} if resource is None else {"extendedResourceName": resource}
    return {"metadata": {"name": name}, "spec": spec}


NVIDIA = slice_of("gpu.nvidia.com", OURS)
CASES: dict[str, tuple[list[Any], list[Any], str, str]] = {
    "nothing": ([], [], "", ""),
    "our GPU": ([slice_of("example.com", OURS.upper())], [], "example.com", ""),
    "another GPU": ([slice_of("example.com", gpu_uuid(7))], [], "", ""),
    "NVIDIA's driver, without UUIDs": ([slice_of("gpu.nvidia.com")], [], "gpu.nvidia.com", ""),
    "two drivers": ([NVIDIA, slice_of("a.com", OURS), NVIDIA], [], "a.com, gpu.nvidia.com", ""),
    "a device without attributes": ([{"spec": {"driver": "a", "devices": [{}]}}], [], "", ""),
    "slices of counters only": ([{"spec": {"driver": "a", "sharedCounters": []}}], [], "", ""),
    "our resource": ([], [named("gpu", GPU)], "", f"{GPU} (DeviceClass gpu)"),
    "two classes": ([], [named("a", GPU), named("b", GPU)], "", f"{GPU} (DeviceClass a, b)"),
    "other classes": ([], [named("a", None), named("b", "example.com/gpu"), {}], "", ""),
    "both": ([NVIDIA], [named("gpu", GPU)], "gpu.nvidia.com", f"{GPU} (DeviceClass gpu)"),
}


@pytest.mark.parametrize(("slices", "classes", "drivers", "resources"), CASES.values(), ids=CASES)
def test_offers(slices: list[Any], classes: list[Any], drivers: str, resources: str) -> None:
    """Drivers of our GPUs are named, and the classes that name an advertised resource."""
    found = told(read(slices, classes), [gpu_uuid(0), OURS], [GPU, "nvidia.com/a"])
    assert found.devices.startswith(f"the DRA driver {drivers} publishes" if drivers else "")
    assert bool(found.devices) is bool(drivers)
    begins = f"DRA takes pods that request {resources}, on each" if resources else ""
    assert found.resources.startswith(begins)
    assert bool(found.resources) is bool(resources)


def test_a_node_without_gpus_has_nothing_to_lose() -> None:
    """Without devices, no driver can give out one of ours."""
    assert told(read([NVIDIA], []), [], []) == DraOffers()
