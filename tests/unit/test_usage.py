"""Samples of a GPU's usage: what is told of each answer of the driver, and what is asked again."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from health.nvml import Code, Nvml
from health.sampling import KEPT, LONGEST_PAUSE, Sampling
from health.usage import MEMORY_V2, Known, Sampled, sample
from proto.messages import Gpu, MigInstance
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from tests.unit.builders import Driver, gpu, refusal

GIB = 1 << 30
COMPUTE = "nvmlDeviceGetComputeRunningProcesses"
GRAPHICS = "nvmlDeviceGetGraphicsRunningProcesses"
MPS = "nvmlDeviceGetMPSComputeRunningProcesses"
NEW, OLD = "nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetProcessUtilization"
RATES, MEMORY = "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo"


def process(pid: int, memory: int | None = GIB) -> SimpleNamespace:
    """Return a process as the driver lists it."""
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)


def busy(pid: int, percent: int, at: int) -> SimpleNamespace:
    """Return a sample of a process's utilization, taken *at* so many microseconds."""
    return SimpleNamespace(pid=pid, smUtil=percent, timeStamp=at)


def memory(_: object, version: int = 0) -> SimpleNamespace:
    """Answer nvmlDeviceGetMemoryInfo in either version."""
    if version == MEMORY_V2:
        return SimpleNamespace(total=80 * GIB, used=20 * GIB, reserved=GIB)
    return SimpleNamespace(total=80 * GIB, used=21 * GIB)


TELLS: dict[str, Any] = {
    RATES: SimpleNamespace(gpu=40, memory=7),
    MEMORY: memory,
    "nvmlDeviceGetTemperature": 61,
    "nvmlDeviceGetPowerUsage": 350_250,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetClockInfo": lambda _, kind: {1: 1980, 2: 2619}[kind],
    f"{COMPUTE}_v3": [process(9), process(4711, 2 * GIB)],
    f"{GRAPHICS}_v3": [],
    f"{MPS}_v3": [],
    NEW: [busy(9, 30, at=100), busy(9, 20, at=50)],
}
"""The answers of a driver that tells everything."""


class Counted(Driver):
    """A driver that counts the calls of its functions."""

    def __init__(self, **answers: object) -> None:
        super().__init__(**answers)
        self.calls: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml"):
            self.calls[name] += 1
        return super().__getattribute__(name)


def sampled(answers: dict[str, Any], of: Gpu | None = None, known: Known | None = None) -> Sampled:
    """Return a sample of a GPU whose driver gives these answers."""
    return sample(Nvml(Driver(**answers)), "a handle", of or gpu(), known or Known())


def told(answers: dict[str, Any]) -> DeviceUsage:
    """Return the sample of the GPU itself."""
    return sampled(answers).devices[0]


def test_everything_is_told() -> None:
    """A sample has each figure in the unit of its field."""
    found = told(TELLS)
    assert found == DeviceUsage(
        gpu().uuid,
        found.taken,
        utilization=40,
        memory_utilization=7,
        memory_used=20 * GIB,
        memory_total=80 * GIB,
        memory_reserved=GIB,
        temperature=61,
        power=350.25,
        power_limit=700.0,
        sm_clock=1980,
        memory_clock=2619,
        processes=(
            GpuProcess(9, ProcessKind.COMPUTE, GIB, 30),
            GpuProcess(4711, ProcessKind.COMPUTE, 2 * GIB, 0),
        ),
    )


FIGURES = {
    RATES: ("utilization", "memory_utilization"),
    MEMORY: ("memory_used", "memory_total", "memory_reserved"),
    "nvmlDeviceGetTemperature": ("temperature",),
    "nvmlDeviceGetPowerUsage": ("power",),
    "nvmlDeviceGetEnforcedPowerLimit": ("power_limit",),
    "nvmlDeviceGetClockInfo": ("sm_clock", "memory_clock"),
}


@pytest.mark.parametrize("call", FIGURES)
@pytest.mark.parametrize("code", [Code.NOT_SUPPORTED, Code.UNKNOWN])
def test_a_figure_that_is_not_told_is_left_out(call: str, code: int) -> None:
    """A call that fails leaves out its figures, and no others."""
    usual, found = told(TELLS), told(TELLS | {call: refusal(code)})
    left_out = [
        name for name in usual.__struct_fields__ if getattr(found, name) != getattr(usual, name)
    ]
    assert sorted(left_out) == sorted([*FIGURES[call], "taken"])
    assert all(getattr(found, name) is None for name in FIGURES[call])


def test_what_a_gpu_does_not_support_is_asked_once() -> None:
    """What the driver says is not supported is not asked again; what failed otherwise is."""
    driver = Counted(**TELLS | {RATES: refusal(Code.NOT_SUPPORTED), MEMORY: refusal(999)})
    known = Known()
    for _ in range(3):
        known = sample(Nvml(driver), "a handle", gpu(), known).known
    assert driver.calls[RATES] == 1
    assert driver.calls[MEMORY] == 6  # in both versions


def test_one_clock_is_not_the_other() -> None:
    """A clock that is not supported leaves out no other clock."""

    def clock(_: object, kind: int) -> int:
        if kind == 1:
            raise refusal(Code.NOT_SUPPORTED)
        return 2619

    for known in (Known(), sampled(TELLS | {"nvmlDeviceGetClockInfo": clock}).known):
        found = sampled(TELLS | {"nvmlDeviceGetClockInfo": clock}, known=known).devices[0]
        assert (found.sm_clock, found.memory_clock) == (None, 2619)


def test_everything_is_asked_again_after_a_mig_change() -> None:
    """After MIG mode was switched on, the driver is asked again what it did not support before."""
    known = sampled(TELLS | {RATES: refusal(Code.NOT_SUPPORTED)}).known
    assert sampled(TELLS, known=known).devices[0].utilization is None
    assert sampled(TELLS, gpu(mig_enabled=True), known).devices[0].utilization == 40


def test_a_lost_gpu_tells_nothing() -> None:
    """A GPU that is lost during a sample has no usage, and is asked for everything afterwards."""
    known = sampled(TELLS | {RATES: refusal(Code.NOT_SUPPORTED)}).known
    lost = sampled(TELLS | {"nvmlDeviceGetPowerUsage": refusal(Code.GPU_IS_LOST)}, known=known)
    assert lost.devices == ()
    assert sampled(TELLS, known=lost.known).devices[0].utilization == 40


def test_an_old_driver() -> None:
    """A driver without the newer functions is asked by the older ones."""
    lacks = dict.fromkeys((f"{COMPUTE}_v3", f"{GRAPHICS}_v3", f"{MPS}_v3", NEW))
    answers = {name: answer for name, answer in TELLS.items() if name not in lacks}

    def old(_: object, version: int = 0) -> SimpleNamespace:
        if version:
            raise refusal(Code.FUNCTION_NOT_FOUND)
        return memory(_)

    since: list[int] = []

    def samples(_: object, newest: int) -> list[SimpleNamespace]:
        since.append(newest)
        return [busy(9, 12, at=newest + 70)]

    answers |= {f"{COMPUTE}_v2": [process(9)], OLD: samples, MEMORY: old}
    first = sampled(answers)
    second = sampled(answers, known=first.known)
    for found in (first.devices[0], second.devices[0]):
        assert found.processes == (GpuProcess(9, ProcessKind.COMPUTE, GIB, 12),)
        assert (found.memory_used, found.memory_reserved) == (21 * GIB, None)
    assert since == [0, 70]  # only what is newer than the sample before


@pytest.mark.parametrize("code", [0, Code.NOT_FOUND])
def test_processes_that_did_nothing(code: int) -> None:
    """Processes without a sample of their utilization have done nothing, and are asked again."""
    idle = sampled(TELLS | {NEW: refusal(code)})
    assert idle.devices[0].processes is not None
    assert [p.utilization for p in idle.devices[0].processes] == [0, 0]
    assert sampled(TELLS, known=idle.known).devices[0].processes == told(TELLS).processes


def test_a_driver_that_tells_no_utilization_of_processes() -> None:
    """Where the driver does not tell the utilization of processes, it is unknown, not 0."""
    lacking = {NEW: refusal(Code.NOT_SUPPORTED), OLD: refusal(Code.NOT_SUPPORTED)}
    found = told(TELLS | lacking)
    assert found.processes is not None
    assert [p.utilization for p in found.processes] == [None, None]


def test_nonsense_of_the_driver_is_left_out() -> None:
    """A utilization over 100 % is a known fault of drivers, and is not told."""
    found = told(TELLS | {NEW: [busy(9, 30, at=1), busy(9, 4_000_000, at=2)]})
    assert found.processes is not None
    assert found.processes[0].utilization == 30


def test_a_process_on_several_lists_is_told_once() -> None:
    """A process that computes and draws is there once, with the larger memory."""
    lists = {
        f"{COMPUTE}_v3": [process(9, 3 * GIB), process(8, None)],
        f"{GRAPHICS}_v3": [process(9), process(7)],
        f"{MPS}_v3": [process(8)],
    }
    found = told(TELLS | lists).processes
    assert found is not None
    assert [(p.pid, p.kind, p.memory) for p in found] == [
        (7, ProcessKind.GRAPHICS, GIB),
        (8, ProcessKind.MPS, GIB),
        (9, ProcessKind.COMPUTE, 3 * GIB),
    ]


def test_the_utilization_of_a_client_of_mps_is_unknown() -> None:
    """The driver counts it for the MPS server, so that nothing is known of an MPS client."""
    answers = {f"{MPS}_v3": [process(4711)], NEW: [busy(9, 30, at=1)]}
    found = told(TELLS | answers).processes or ()
    assert [(p.pid, p.utilization) for p in found] == [(9, 30), (4711, None)]


def test_processes_that_nobody_tells() -> None:
    """Where the driver lists no processes at all, they are unknown, not none."""
    lists = dict.fromkeys(f"{name}_v{v}" for name in (COMPUTE, GRAPHICS, MPS) for v in (2, 3))
    found = told(TELLS | {name: refusal(Code.NO_PERMISSION) for name in lists})
    assert found.processes is None
    nobody = told(TELLS | {f"{COMPUTE}_v3": []})
    assert nobody.processes == ()


INSTANCES = tuple(
    MigInstance(f"MIG-{place}", place, 7 + place, 0, "1g.10gb") for place in (0, 2, 3)
)
OF_MIG = TELLS | {
    "nvmlDeviceGetMigDeviceHandleByIndex": lambda _, place: f"handle {place}",
    "nvmlDeviceGetUUID": lambda handle: handle.replace("handle ", "MIG-"),
    f"{COMPUTE}_v3": lambda handle: [process(len(handle))],
}


def test_mig_instances() -> None:
    """A GPU in MIG mode has its own figures, its instances have the memory and the processes."""
    parent, *instances = sampled(OF_MIG, gpu(mig_enabled=True, instances=INSTANCES)).devices
    assert (parent.memory_used, parent.power, parent.processes) == (20 * GIB, 350.25, None)
    assert [instance.uuid for instance in instances] == ["MIG-0", "MIG-2", "MIG-3"]
    for instance in instances:
        assert (instance.memory_used, instance.utilization) == (20 * GIB, None)
        assert instance.processes == (GpuProcess(8, ProcessKind.COMPUTE, GIB, None),)


def test_a_mig_instance_that_was_replaced() -> None:
    """An instance that was replaced since the last scan has no usage, nor has its successor."""
    now = {"handle 0": "MIG-0", "handle 2": "MIG-new", "handle 3": "MIG-3"}
    replaced = OF_MIG | {"nvmlDeviceGetUUID": now.__getitem__}
    found = sampled(replaced, gpu(mig_enabled=True, instances=INSTANCES)).devices
    assert [device.uuid for device in found[1:]] == ["MIG-0", "MIG-3"]


def test_when_a_gpu_is_sampled() -> None:
    """A GPU is sampled each interval, less often if its driver is slow, and never with 0."""
    assert Sampling(0).due_at == float("inf")
    sampling = Sampling(5.0)
    assert sampling.due_at == 0.0
    sampling.job("a handle", gpu(), 100.0)
    sampling.take(Sampled((), Known(), began=100.0, seconds=0.1))
    assert sampling.due_at == 105.0
    sampling.take(Sampled((), Known(), began=100.0, seconds=2.0))
    assert sampling.due_at == 120.0
    sampling.take(Sampled((), Known(), began=100.0, seconds=900.0))
    assert sampling.due_at == 1000.0 + LONGEST_PAUSE


def test_an_old_sample_is_not_shown() -> None:
    """A sample is shown until the next ones are missed, or the GPU fails a check."""
    devices = (DeviceUsage("GPU-1", 0.0),)
    sampling = Sampling(5.0)
    assert sampling.devices(0.0) == ()
    sampling.take(Sampled(devices, Known(), began=100.0, seconds=0.1))
    assert sampling.devices(100.0 + KEPT * 5.0) == devices
    assert sampling.devices(100.1 + KEPT * 5.0) == ()
    sampling.forget()
    assert sampling.devices(100.0) == ()
