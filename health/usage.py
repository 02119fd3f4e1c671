"""Sample how much of a GPU is in use; what the driver does not tell is left out.

What a figure means is in proto/usage.py. Numbers are those of nvml.h.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from health import grey_sample
from health.grey import GreySample
from health.nvml import Code, Nvml, NvmlError
from proto.host import since_boot
from proto.messages import Gpu
from proto.usage import DeviceUsage, GpuProcess, ProcessKind

MEMORY_V2 = 0x02000028
"""nvmlMemory_v2: used memory without the reserved memory."""

TEMPERATURE_GPU, CLOCK_SM, CLOCK_MEMORY = 0, 1, 2
"""nvmlTemperatureSensors_t and nvmlClockType_t."""

MILLIWATTS = 1000

ALL = 100
"""Percent. Drivers report more for some samples of processes, which mean nothing."""

LISTS = {
    ProcessKind.GRAPHICS: "nvmlDeviceGetGraphicsRunningProcesses",
    ProcessKind.COMPUTE: "nvmlDeviceGetComputeRunningProcesses",
    ProcessKind.MPS: "nvmlDeviceGetMPSComputeRunningProcesses",
}
"""The lists of processes; a process that is on several lists has the kind of the last one."""

VERSIONS = ("_v3", "_v2")
"""Of the lists. Without a version, the binding raises an error that is no NVMLError."""

UTILIZATIONS = ("nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetProcessUtilization")

THOROUGHLY = 60.0
"""Seconds between two samples of what changes seldom."""

SUCCESS, VERSION_MISMATCH, DEPRECATED = 0, 25, 26

LACKING = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_SUPPORTED,
        Code.NO_PERMISSION,
        Code.FUNCTION_NOT_FOUND,
        VERSION_MISMATCH,
        DEPRECATED,
    }
)
"""Answers of a device that does not tell a figure, now and later."""

EMPTY = frozenset({SUCCESS, Code.NOT_FOUND})
"""Answers to a question for samples of which there are none; the binding raises "success" then."""

Shape = tuple[bool, tuple[str, ...]]

Question = tuple[str, str, tuple[object, ...]]
"""A device's UUID, a function of NVML, and its arguments after the handle."""


class Known(msgspec.Struct, frozen=True):
    """What earlier samples of a GPU have shown; it counts until its MIG instances change."""

    shape: Shape = (False, ())
    """Whether the GPU was in MIG mode, and its instances."""
    lacking: frozenset[Question] = frozenset()
    """What devices do not tell."""
    handles: Mapping[str, object] = msgspec.field(default_factory=dict)
    """Of the MIG instances, by UUID."""
    newest: int = 0
    """When the newest sample of a process was taken, in the driver's microseconds."""
    thorough_at: float = -math.inf
    """When what changes seldom was sampled last, on the monotonic clock."""


class Sampled(msgspec.Struct, frozen=True):
    """The result of a sample."""

    devices: tuple[DeviceUsage, ...]
    """The GPU and its MIG instances; empty: the driver cannot tell anything now."""
    known: Known
    began: float
    """On the monotonic clock."""
    seconds: float
    grey: GreySample | None = None
    """What may show a grey failure; None: the driver cannot tell anything now."""


def sample(
    nvml: Nvml, handle: object, gpu: Gpu, known: Known, thoroughly: float = THOROUGHLY
) -> Sampled:
    """Return how much of *gpu* and of its MIG instances is in use.

    What changes seldom is asked for each *thoroughly* seconds.
    """
    began = time.monotonic()
    shape = gpu.mig_enabled, tuple(mig.uuid for mig in gpu.instances)
    sampler = _Sampler(nvml, known if known.shape == shape else Known(shape))
    try:
        devices = tuple(sampler.devices(handle, gpu))
        thorough = began - sampler.thorough_at >= thoroughly
        ask = sampler.asking(gpu.uuid, handle)
        grey = grey_sample.take(ask, gpu, devices[0], began, thorough=thorough)
        known = sampler.known(shape, began if thorough else sampler.thorough_at)
    except NvmlError:  # the next health check decides about the GPU
        return nothing(began, time.monotonic() - began)
    return Sampled(devices, known, began, time.monotonic() - began, grey)


def nothing(began: float, seconds: float = 0.0) -> Sampled:
    """Return a sample of a GPU that told nothing."""
    return Sampled((), Known(), began, seconds)


class _Sampler:
    """Asks for the figures of one GPU, once."""

    def __init__(self, nvml: Nvml, known: Known) -> None:
        self._nvml = nvml
        self._lacking = set(known.lacking)
        self._handles = known.handles
        self._newest = known.newest
        self.thorough_at = known.thorough_at

    def known(self, shape: Shape, thorough_at: float) -> Known:
        """Return what is known now."""
        lacking = frozenset(self._lacking)
        return Known(shape, lacking, self._handles, self._newest, thorough_at)

    def asking(self, uuid: str, handle: object) -> grey_sample.Ask:
        """Return a function that asks the device; None: it does not tell."""

        def ask(name: str, *rest: object) -> Any:
            # Of a structure to fill, each call has another one: it is no part of the question.
            question = uuid, name, tuple(value for value in rest if isinstance(value, int))
            return self._answer(question, handle, *rest)

        return ask

    def devices(self, handle: object, gpu: Gpu) -> Iterator[DeviceUsage]:
        """Yield the usage of the GPU, then of its instances; NvmlError if the GPU is lost."""
        yield self._gpu(handle, gpu)
        if gpu.mig_enabled and self._handles.keys() != {mig.uuid for mig in gpu.instances}:
            self._handles = self._found(handle, gpu)
        for uuid, instance in self._handles.items():
            yield self._instance(uuid, instance)

    def _gpu(self, handle: object, gpu: Gpu) -> DeviceUsage:
        taken, uuid = since_boot(), gpu.uuid
        rates = self._ask(uuid, "nvmlDeviceGetUtilizationRates", handle)
        total, used, reserved = self._memory(uuid, handle)
        return DeviceUsage(
            uuid,
            taken,
            utilization=rates and int(rates.gpu),
            memory_utilization=rates and int(rates.memory),
            memory_used=used,
            memory_total=total,
            memory_reserved=reserved,
            temperature=self._ask(uuid, "nvmlDeviceGetTemperature", handle, TEMPERATURE_GPU),
            power=_watts(self._ask(uuid, "nvmlDeviceGetPowerUsage", handle)),
            power_limit=_watts(self._ask(uuid, "nvmlDeviceGetEnforcedPowerLimit", handle)),
            sm_clock=self._ask(uuid, "nvmlDeviceGetClockInfo", handle, CLOCK_SM),
            memory_clock=self._ask(uuid, "nvmlDeviceGetClockInfo", handle, CLOCK_MEMORY),
            # In MIG mode the GPU would list the processes of its instances once more.
            processes=None if gpu.mig_enabled else self._processes(uuid, handle, busy=True),
        )

    def _instance(self, uuid: str, handle: object) -> DeviceUsage:
        taken = since_boot()
        total, used, reserved = self._memory(uuid, handle)
        # NVML does not support the utilization of processes on a GPU in MIG mode.
        processes = self._processes(uuid, handle, busy=False)
        return DeviceUsage(
            uuid,
            taken,
            memory_used=used,
            memory_total=total,
            memory_reserved=reserved,
            processes=processes,
        )

    def _found(self, gpu_handle: object, gpu: Gpu) -> dict[str, object]:
        """Return the handles of the MIG instances.

        Not by UUID: the driver would search all GPUs, and so hang with any of them.
        """
        found = {}
        for mig in gpu.instances:
            handle = self._ask(
                gpu.uuid, "nvmlDeviceGetMigDeviceHandleByIndex", gpu_handle, mig.place
            )
            if handle and self._ask(mig.uuid, "nvmlDeviceGetUUID", handle) == mig.uuid:
                found[mig.uuid] = handle
        return found

    def _memory(self, uuid: str, handle: object) -> tuple[int | None, int | None, int | None]:
        """Return the total, used and reserved memory in bytes."""
        name = "nvmlDeviceGetMemoryInfo"
        if info := self._ask(uuid, name, handle, MEMORY_V2):
            return int(info.total), int(info.used), int(info.reserved)
        info = self._ask(uuid, name, handle)
        return (int(info.total), int(info.used), None) if info else (None, None, None)

    def _processes(self, uuid: str, handle: object, *, busy: bool) -> tuple[GpuProcess, ...] | None:
        """Return the processes by PID, with their utilization if *busy*; None: not told."""
        lists = {kind: self._listed(uuid, handle, name) for kind, name in LISTS.items()}
        told = {kind: listed for kind, listed in lists.items() if listed is not None}
        if not told:
            return None
        found: dict[int, GpuProcess] = {}
        for kind, listed in told.items():
            for process in listed:
                pid, memory = int(process.pid), process.usedGpuMemory
                before = found[pid].memory if pid in found else None
                most = max((m for m in (before, memory) if m is not None), default=None)
                found[pid] = GpuProcess(pid, kind, most)
        shares = self._utilizations(uuid, handle) if busy and found else None
        if shares is not None:
            found = {
                pid: GpuProcess(pid, process.kind, process.memory, _share(process, shares))
                for pid, process in found.items()
            }
        return tuple(found[pid] for pid in sorted(found))

    def _listed(self, uuid: str, handle: object, name: str) -> Iterable[Any] | None:
        answers = (self._ask(uuid, f"{name}{version}", handle) for version in VERSIONS)
        return next((answer for answer in answers if answer is not None), None)

    def _utilizations(self, uuid: str, handle: object) -> dict[int, int] | None:
        """Return the utilization of each process since the sample before; None: not told."""
        asked = (
            self._answer((uuid, name, ()), handle, self._newest, empty=()) for name in UTILIZATIONS
        )
        samples = next((answer for answer in asked if answer is not None), None)
        if samples is None:
            return None
        usual = [s for s in samples if int(s.smUtil) <= ALL]
        usual.sort(key=lambda s: int(s.timeStamp))
        self._newest = max([self._newest, *(int(s.timeStamp) for s in usual)])
        return {int(s.pid): int(s.smUtil) for s in usual}

    def _ask(self, uuid: str, name: str, handle: object, *rest: object) -> Any:
        """Return the driver's answer; None: it does not tell. NvmlError if the GPU is lost."""
        question = uuid, name, rest
        return self._answer(question, handle, *rest)

    def _answer(self, question: Question, handle: object, *rest: object, empty: Any = None) -> Any:
        """Call the driver, but not again for what the device does not tell."""
        if question in self._lacking:
            return None
        try:
            return self._nvml.call(question[1], handle, *rest)
        except NvmlError as error:
            if error.code == Code.GPU_IS_LOST:
                raise
            if error.code in LACKING:
                self._lacking.add(question)
            return empty if error.code in EMPTY else None


def _share(process: GpuProcess, shares: Mapping[int, int]) -> int | None:
    """Return the utilization of a *process*; a process without a sample has done nothing.

    The driver counts the utilization of MPS clients for their server: theirs is unknown.
    """
    idle = None if process.kind is ProcessKind.MPS else 0
    return shares.get(process.pid, idle)


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / MILLIWATTS
