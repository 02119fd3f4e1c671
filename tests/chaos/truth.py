"""The lists that the kubelet should have, derived from the simulated node alone, as a pure
function.

It uses no code of the service, because the service must not judge itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from simulator.node import Live, SimulatedGpu

GPU = "nvidia.com/gpu"

HARMLESS_ACTIONS = frozenset({0, 5})
"""Recovery actions that blame no GPU: none, and the recovery of the IMEX domain."""

CHECKS = frozenset(
    {"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetFieldValues", "nvmlDeviceGetRemappedRows"}
)
"""Calls of each check: a GPU on which one fails cannot be checked."""

LINK_STATE = "nvmlDeviceGetNvLinkState"
"""A call of the check of each GPU that has NVLinks."""

ENUMERATION = frozenset(
    {
        "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetPciInfo",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetMinorNumber",
        "nvmlDeviceGetName",
    }
)
"""Calls with which only a new monitor begins, so the runner kills the monitor when one fails."""

View = Mapping[str, Mapping[str, bool]]
"""Whether a device is Healthy, by device id, by resource."""


@dataclass(frozen=True, slots=True)
class Service:
    """The state of the service that the expected lists depend on."""

    replicas: int
    quiesced: bool
    named: bool = True
    """Whether the CDI specification names the devices."""


def expected(live: Live, service: Service) -> View:
    """Return the lists that the kubelet should have when the service has settled."""
    dark = live.denied or service.quiesced or not service.named
    view: dict[str, dict[str, bool]] = {}
    for gpu in live.gpus:
        if gpu.uuid in live.removed:
            continue
        fit = not dark and not is_broken(live, gpu)
        for resource, name in devices(gpu, service.replicas):
            view.setdefault(resource, {})[name] = fit
    return view


def is_broken(live: Live, gpu: SimulatedGpu) -> bool:
    """Return whether a GPU needs a repair before pods may use it."""
    faulty = live.lost | live.hung | live.rows | live.links_down.keys()
    calls = CHECKS | ENUMERATION | ({LINK_STATE} if live.node.peers()[gpu.uuid] else set())
    return (
        gpu.uuid in faulty
        or not calls.isdisjoint(live.failing.get(gpu.uuid, {}))
        or live.actions.get(gpu.uuid, 0) not in HARMLESS_ACTIONS
    )


def is_enumerable(live: Live, uuid: str) -> bool:
    """Return whether a monitor can see the present MIG instances of a GPU."""
    return uuid not in live.hung and ENUMERATION.isdisjoint(live.failing.get(uuid, {}))


def broken(live: Live) -> frozenset[str]:
    """Return the UUIDs of all GPUs that need a repair."""
    return frozenset(gpu.uuid for gpu in live.gpus if is_broken(live, gpu))


def devices(gpu: SimulatedGpu, replicas: int) -> list[tuple[str, str]]:
    """Return the resource and the id of each device on a GPU, under MIG strategy mixed."""
    if gpu.mig is not None:
        names = [re.sub(r"[^a-z0-9.]", ".", profile) for profile in gpu.mig]
        return [(f"nvidia.com/mig-{name}", gpu.mig_uuid(place)) for place, name in enumerate(names)]
    if replicas == 1:
        return [(GPU, gpu.uuid)]
    return [(GPU, f"{gpu.uuid}::{number}") for number in range(replicas)]


def owners(live: Live, replicas: int) -> dict[str, str]:
    """Return the UUID of the GPU of each device."""
    return {name: gpu.uuid for gpu in live.gpus for _, name in devices(gpu, replicas)}


def difference(view: View, truth: View) -> list[str]:
    """Return the differences between the kubelet's *view* and the *truth*, a line per resource."""
    found = []
    for resource in sorted(view.keys() | truth.keys()):
        seen, real = view.get(resource, {}), truth.get(resource, {})
        if seen == real:
            continue
        wrong = sorted(n for n in seen.keys() | real.keys() if seen.get(n) != real.get(n))
        states = [f"{n}: {_word(seen.get(n))} instead of {_word(real.get(n))}" for n in wrong[:3]]
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        found.append(f"{resource}: {', '.join(states)}{more}")
    return found


def _word(healthy: bool | None) -> str:  # noqa: FBT001 - one of three values
    return "not listed" if healthy is None else "Healthy" if healthy else "Unhealthy"
