"""Ask a GPU for what shows a grey failure; what it does not tell is left out."""

import ctypes
from collections.abc import Callable
from typing import Any

from health.ecc import VOLATILE
from health.fabric import FabricInfo
from health.grey import LOADED, GreySample, PcieLink
from proto.messages import Gpu
from proto.usage import DeviceUsage

EVENT_REASONS = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
)
"""The second is what drivers before 535 call the first."""

LINK = (
    "nvmlDeviceGetCurrPcieLinkWidth",
    "nvmlDeviceGetCurrPcieLinkGeneration",
    "nvmlDeviceGetMaxPcieLinkWidth",
    "nvmlDeviceGetMaxPcieLinkGeneration",
)
"""The last two are what card and slot together allow."""

CORRECTED, CLOCK_SM = 0, 1
"""nvmlMemoryErrorType_t and nvmlClockType_t."""

Ask = Callable[..., Any]
"""Calls a function of NVML about the GPU: None if the GPU does not have the feature."""


def take(ask: Ask, gpu: Gpu, usage: DeviceUsage, now: float, *, thorough: bool) -> GreySample:
    """Return a sample of *gpu*, whose *usage* is known already.

    Link and clocks are asked for under load, and what changes seldom only if *thorough*.
    """
    busy = usage.utilization is not None and usage.utilization >= LOADED
    return GreySample(
        now,
        utilization=usage.utilization,
        link=_link(ask) if busy or thorough else None,
        event_reasons=_event_reasons(ask),
        clock=usage.sm_clock,
        most_clock=ask("nvmlDeviceGetMaxClockInfo", CLOCK_SM) if busy else None,
        power=usage.power,
        power_limit=usage.power_limit,
        corrected=ask("nvmlDeviceGetTotalEccErrors", CORRECTED, VOLATILE) if thorough else None,
        banks_without_spare=_banks_without_spare(ask) if thorough else None,
        persistence=_persistence(ask) if thorough else None,
        fabric_health=_fabric_health(ask, gpu) if thorough else None,
    )


def _link(ask: Ask) -> PcieLink | None:
    told = [ask(name) for name in LINK]
    return None if None in told else PcieLink(*map(int, told))


def _event_reasons(ask: Ask) -> int | None:
    answers = (ask(name) for name in EVENT_REASONS)
    return next((int(answer) for answer in answers if answer is not None), None)


def _banks_without_spare(ask: Ask) -> int | None:
    histogram = ask("nvmlDeviceGetRowRemapperHistogram")
    return None if histogram is None else int(histogram.none)


def _persistence(ask: Ask) -> bool | None:
    mode = ask("nvmlDeviceGetPersistenceMode")
    return None if mode is None else bool(mode)


def _fabric_health(ask: Ask, gpu: Gpu) -> int | None:
    if gpu.facts.fabric is None or not gpu.facts.fabric.complete:
        return None
    info = FabricInfo(version=FabricInfo.VERSION)
    ask("nvmlDeviceGetGpuFabricInfoV", ctypes.pointer(info))
    return int(info.health)
