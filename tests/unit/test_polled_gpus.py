"""GPUs without events are only polled, and NVLinks are remembered over restarts."""

import pytest

from health.events import EventWatch, Failed
from health.inventory import Found
from health.nvml import Code, Nvml
from tests.unit.builders import Driver, gpu, inventory, mig_gpu, refusal

ALL = frozenset({"A", "B"})
UNSUPPORTED = [Code.NOT_SUPPORTED, Code.FUNCTION_NOT_FOUND]


def watch(**answers: object) -> EventWatch:
    """Return the watch over two GPUs of a driver that gives these answers."""
    usual = {
        "nvmlEventSetCreate": object(),
        "nvmlDeviceGetSupportedEventTypes": 8,
        "nvmlDeviceGetMemoryInfo": None,
        "nvmlEventSetFree": None,
    }
    return EventWatch(Nvml(Driver(**usual | answers)), {"A": "A", "B": "B"})


@pytest.mark.parametrize("code", UNSUPPORTED)
def test_a_driver_without_event_sets_leaves_all_gpus_polled(code: int) -> None:
    """No GPU is Unhealthy because its driver cannot report events."""
    watched = watch(nvmlEventSetCreate=refusal(code))
    assert watched.follow(ALL, 0.0) == Failed(())
    assert (watched.unsupported, watched.unwatched) == (ALL, {})
    assert (watched.again_at, watched.fileno()) == (None, None)


@pytest.mark.parametrize("code", UNSUPPORTED)
def test_a_wait_that_is_not_supported_leaves_its_gpus_polled(code: int) -> None:
    """When the wait itself is not supported, its GPUs are polled, and none is lost."""
    watched = watch(nvmlEventSetCreate=refusal(999))
    watched.follow(ALL, 0.0)
    assert watched.on_failed(1.0, code) == Failed(())
    assert (watched.unsupported, watched.unwatched) == (ALL, {})


def test_polled_gpus_are_shown_as_such() -> None:
    """The inventory shows which GPUs report no events, and keeps that for those it knew of."""
    found = Found(inventory(gpu(0), gpu(1), gpu(2, events=False)), {})
    shown = found.without_events({gpu(1).uuid}).inventory.gpus
    assert [device.events for device in shown] == [True, False, False]


def test_links_of_this_boot_are_remembered() -> None:
    """A GPU has as many NVLinks as were ever counted; fewer now are links that are down."""
    found = Found(inventory(gpu(0, nvlinks=17), gpu(1, nvlinks=4), gpu(2)), {})
    known = (gpu(0, nvlinks=18), gpu(1, nvlinks=2), gpu(3, nvlinks=18))
    shown = found.with_known_links(known).inventory.gpus
    assert [device.nvlinks for device in shown] == [18, 4, 0]


def test_a_moved_or_repartitioned_gpu_is_counted_anew() -> None:
    """Another slot has other links, and a change of the MIG mode changes them."""
    known = (gpu(0, nvlinks=18), gpu(1, nvlinks=18))
    found = Found(inventory(gpu(0, pci_bus_id="0000:99:00.0"), mig_gpu(1, "1g.10gb")), {})
    shown = found.with_known_links(known).inventory.gpus
    assert [device.nvlinks for device in shown] == [0, 0]
