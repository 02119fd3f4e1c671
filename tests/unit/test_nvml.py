"""The typed interface to NVML, with the simulated binding and with single answers."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from health import nvlink_switches
from health.nvml import Code, Hint, Nvml, NvmlError, XidEvent, key_of
from health.pci import bus_id
from proto.messages import LinkLevel
from simulator.live_node import LiveNode
from simulator.node import SimulatedGpu, SimulatedLink, SimulatedNode
from simulator.node_file import complete
from simulator.nvml import Binding
from simulator.nvml_handles import NVMLError
from tests.unit.builders import Driver

ANY = 0xFFFFFFFF


class Answers:
    """A binding whose functions each return one value or raise one error."""

    NVMLError = NVMLError

    def __init__(self, **answers: object) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        answer = self._answers[name]

        def function(*_: object) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return function


def error(code: int) -> NVMLError:
    """Return the NVML error with this return code."""
    made = NVMLError(2)
    made.value = code
    return made


def start(folder: Path, node: SimulatedNode) -> Nvml:
    """Return NVML on a simulated node."""
    LiveNode(folder).start(complete(node))
    nvml = Nvml(Binding(folder))
    nvml.start()
    return nvml


@pytest.fixture
def live(tmp_path: Path) -> LiveNode:
    """Return the simulated node of `nvml`."""
    return LiveNode(tmp_path)


@pytest.fixture
def nvml(tmp_path: Path) -> Nvml:
    """Return NVML on a node of two GPUs; the second GPU has two MIG instances."""
    return start(
        tmp_path, SimulatedNode((SimulatedGpu(), SimulatedGpu(mig=("1g.10gb", "1g.10gb"))))
    )


def handle(nvml: Nvml, index: int) -> Any:
    """Return NVML's handle of a GPU."""
    return nvml.call("nvmlDeviceGetHandleByIndex", index)


def test_an_error_names_the_call() -> None:
    """The error of a failed NVML call has the call's name, the driver's text and code."""
    nvml = Nvml(Answers(nvmlInit=NVMLError(15)))
    with pytest.raises(NvmlError) as failed:
        nvml.start()
    assert str(failed.value) == "cannot call nvmlInit: GPU is lost (NVML error 15)"
    assert failed.value.code == Code.GPU_IS_LOST


@pytest.mark.parametrize("code", [2, 3, 6, 13])
def test_an_unsupported_query_is_none(code: int) -> None:
    """A query that the GPU or the driver does not support gives None, not an error."""
    assert Nvml(Answers(nvmlThing=error(code))).ask("nvmlThing") is None


@pytest.mark.parametrize("code", [1, 4, 9, 10, 12, 15, 18, 999])
def test_any_other_code_is_an_error(code: int) -> None:
    """A query with any other return code raises an error."""
    with pytest.raises(NvmlError) as failed:
        Nvml(Answers(nvmlThing=error(code))).ask("nvmlThing")
    assert failed.value.code == code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00000000:07:00.0", "0000:07:00.0"),
        (b"00000000:0A:00.0", "0000:0a:00.0"),
        ("0000:E1:00.0", "0000:e1:00.0"),
        ("0000ABCD:E1:00.0", "abcd:e1:00.0"),
        ("00010000:E1:00.0", "10000:e1:00.0"),
        ("", ""),
        ("N/A", ""),
        (b"\xff:\xff", ""),
    ],
    ids=[
        "eight digits",
        "bytes and capitals",
        "four digits",
        "another domain",
        "five digits",
        "none",
        "no address",
        "no text",
    ],
)
def test_bus_id(text: str | bytes, expected: str) -> None:
    """NVML's PCI bus ID becomes the device's name in the kernel; one that is none ends nothing."""
    assert bus_id(text) == expected


def test_equal_handles_have_equal_keys() -> None:
    """Two pointers to the same device have equal keys; pointers to two devices do not."""
    devices = (ctypes.c_int * 2)(5, 5)
    first = ctypes.pointer(devices)
    again = ctypes.cast(ctypes.addressof(devices), ctypes.POINTER(ctypes.c_int))
    other = ctypes.cast(ctypes.addressof(devices) + 4, ctypes.POINTER(ctypes.c_int))
    assert key_of(again) == key_of(first) == ctypes.addressof(devices)
    assert key_of(other) != key_of(first)


def test_a_plain_handle_is_its_own_key(nvml: Nvml) -> None:
    """The key of a handle of the simulated binding is the handle."""
    assert key_of(handle(nvml, 0)) == handle(nvml, 0) != key_of(handle(nvml, 1))


def wait_for(data: dict[str, object]) -> XidEvent | None:
    """Return the Xid event for this event of the driver."""
    event = SimpleNamespace(device="device", eventType=8, eventData=79, **data)
    seen = Nvml(Answers(nvmlEventSetWait=event)).wait(None, 0)
    assert not isinstance(seen, Hint)
    return seen


@pytest.mark.parametrize(
    ("gi", "ci", "named"),
    [(ANY, ANY, (None, None)), (7, ANY, (7, None)), (7, 0, (7, 0)), (0, 0, (0, 0))],
    ids=["a GPU", "a GPU instance", "a compute instance", "the first of both"],
)
def test_an_event_says_which_instance(gi: int, ci: int, named: tuple[int | None, ...]) -> None:
    """Instance 0xFFFFFFFF in an event means no instance; 0 is a real instance."""
    event = wait_for({"gpuInstanceId": gi, "computeInstanceId": ci})
    assert event == XidEvent("device", named[0], named[1], 79)


@pytest.mark.parametrize("kind", [1, 2, 4, 16, 0x100, 0x8000])
def test_an_event_of_a_different_type_is_no_xid(kind: int) -> None:
    """An event of a different type is a hint, and its data is not read as an Xid."""
    event = SimpleNamespace(
        device="device", eventType=kind, eventData=79, gpuInstanceId=ANY, computeInstanceId=ANY
    )
    assert Nvml(Answers(nvmlEventSetWait=event)).wait(None, 0) == Hint(kind)


@pytest.fixture
def events(nvml: Nvml) -> Iterator[object]:
    """Return an event set of `nvml`, and free it after the test."""
    made = nvml.event_set()
    yield made
    nvml.free(made)


def test_a_wait_without_an_event_is_none(nvml: Nvml, events: object) -> None:
    """A wait that times out returns None and is no error."""
    nvml.register(handle(nvml, 0), events)
    assert nvml.wait(events, 0) is None


def test_a_wait_that_fails_is_an_error() -> None:
    """A wait that fails with any other code raises an error, as no event can arrive."""
    with pytest.raises(NvmlError) as failed:
        Nvml(Answers(nvmlEventSetWait=error(15))).wait(None, 0)
    assert failed.value.code == Code.GPU_IS_LOST


def test_xids_of_the_node_arrive_in_order(nvml: Nvml, live: LiveNode, events: object) -> None:
    """Xids of a GPU and of a MIG instance arrive in order, each with its GPU and instance."""
    for index in range(2):
        nvml.register(handle(nvml, index), events)
    live.xid(0, 79)
    live.xid(1, 48, mig=1)
    assert nvml.wait(events, 0) == XidEvent(handle(nvml, 0), None, None, 79)
    assert nvml.wait(events, 0) == XidEvent(handle(nvml, 1), 8, 0, 48)
    assert nvml.wait(events, 0) is None


def test_a_lost_gpu_is_told_from_a_healthy_one(nvml: Nvml, live: LiveNode) -> None:
    """Only the GPU that fell off the bus is lost, until it answers again."""
    first, second = handle(nvml, 0), handle(nvml, 1)
    live.lose(0)
    assert (nvml.lost(first), nvml.lost(second)) == (True, False)
    live.recover(0)
    assert (nvml.lost(first), nvml.lost(second)) == (False, False)


@pytest.mark.parametrize(("code", "lost"), [(15, True), (999, False), (3, False)])
def test_only_one_error_means_lost(code: int, *, lost: bool) -> None:
    """A GPU is lost only when its query returns GPU_IS_LOST."""
    assert Nvml(Answers(nvmlDeviceGetMemoryInfo=error(code))).lost("handle") is lost


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0, LinkLevel.SAME),
        (10, LinkLevel.PIX),
        (20, LinkLevel.PXB),
        (30, LinkLevel.PHB),
        (40, LinkLevel.NODE),
        (50, LinkLevel.SYS),
        (60, LinkLevel.SYS),
        (error(3), LinkLevel.SYS),
    ],
)
def test_level(level: object, expected: LinkLevel) -> None:
    """Link levels are those of `nvidia-smi topo`; an unknown level is SYS."""
    assert Nvml(Answers(nvmlDeviceGetTopologyCommonAncestor=level)).level("a", "b") is expected


@pytest.mark.parametrize(
    ("mode", "enabled"), [([1, 1], True), ([1, 0], True), ([0, 1], False), (error(3), False)]
)
def test_mig_mode_is_the_current_one(mode: object, *, enabled: bool) -> None:
    """MIG mode is the current mode, not the pending mode; without MIG support it is off."""
    assert Nvml(Answers(nvmlDeviceGetMigMode=mode)).mig_enabled("handle") is enabled


@pytest.mark.parametrize(
    ("types", "reports"), [(0x8, True), (0x1F, True), (0x17, False), (0, False), (error(3), False)]
)
def test_reports_xids(types: object, *, reports: bool) -> None:
    """A GPU reports Xids if its supported event types include them."""
    assert Nvml(Answers(nvmlDeviceGetSupportedEventTypes=types)).reports_xids("gpu") is reports


def test_memory_is_in_mib() -> None:
    """Memory is in whole MiB; it is None when the GPU has no memory of its own."""
    info = SimpleNamespace(total=(81559 << 20) + 5)
    assert Nvml(Answers(nvmlDeviceGetMemoryInfo=info)).memory_mib("gpu") == 81559
    assert Nvml(Answers(nvmlDeviceGetMemoryInfo=error(3))).memory_mib("gpu") is None


def test_nvlink_peers(tmp_path: Path) -> None:
    """Each active NVLink gives its peer's PCI address; a GPU without NVLinks has no peers."""
    node = SimulatedNode(
        (SimulatedGpu(), SimulatedGpu(), SimulatedGpu()),
        links=(SimulatedLink((0, 1), LinkLevel.PIX, 2),),
    )
    nvml = start(tmp_path, node)
    assert nvml.nvlink_peers(handle(nvml, 0)) == ["0000:02:00.0"] * 2
    assert nvml.nvlink_peers(handle(nvml, 1)) == ["0000:01:00.0"] * 2
    assert nvml.nvlink_peers(handle(nvml, 2)) == []


def test_a_gpu_without_nvlink_has_no_peers() -> None:
    """A GPU that does not support NVLink has no peers."""
    assert Nvml(Answers(nvmlDeviceGetNvLinkState=error(3))).nvlink_peers("gpu") == []


def test_an_nvlink_that_is_down_has_no_peer() -> None:
    """NVLinks that are down give no peers."""
    assert Nvml(Answers(nvmlDeviceGetNvLinkState=0)).nvlink_peers("gpu") == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (SimpleNamespace(busId=b"00000000:C3:00.0"), ("0000:c3:00.0",)),
        (error(3), ()),
        (error(999), ()),
    ],
)
def test_the_switches_of_a_gpu(answer: object, expected: tuple[str, ...]) -> None:
    """A GPU has the switches at its NVLinks, if the driver tells them; other peers are none."""
    answers = Driver(
        nvmlDeviceGetNvLinkState=lambda _, link: int(link < 4),
        nvmlDeviceGetNvLinkRemoteDeviceType=lambda _, link: 2 if link else 0,
        nvmlDeviceGetNvLinkRemotePciInfo=answer,
    )
    assert nvlink_switches.find(Nvml(answers), "gpu") == expected
