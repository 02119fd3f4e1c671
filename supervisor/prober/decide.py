"""Decide which GPU is probed next, and what the result means, as pure functions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from proto.messages import Gpu, NodeState
from proto.probe import Probed
from proto.reasons import ReasonKind
from proto.running import Result
from proto.texts import shortened

LONGEST = 200
"""Characters of a detail."""

OLD = 30.0
"""Seconds for which a list of what containers hold counts; a new one comes every 10."""


def listed(held: frozenset[str] | None, at: float, now: float) -> frozenset[str] | None:
    """Return what containers hold, as it was told *at* that time; None: nobody knows it now."""
    return held if now - at <= OLD else None


def is_free(state: NodeState, uuid: str, held: Collection[str] | None) -> bool:
    """Return whether a GPU may be probed.

    No container holds it, by the kubelet's newest list, it is not in MIG mode, and nothing is wrong
    with it but an earlier probe. *held* is None while the kubelet does not answer.
    """
    gpu = next((gpu for gpu in state.inventory.gpus if gpu.uuid == uuid), None)
    if gpu is None or held is None or gpu.mig_enabled or uuid in held:
        return False
    reasons = (reason for known in state.health if known.uuid == uuid for reason in known.reasons)
    return all(reason.kind is ReasonKind.PROBE for reason in reasons)


def next_gpu(
    state: NodeState,
    held: Collection[str] | None,
    probed: Mapping[str, float],
    now: float,
    interval: float,
) -> Gpu | None:
    """Return the free GPU that has waited longest for its probe; None: none is due.

    *probed* is when each GPU was probed last, by UUID.
    """
    due = [
        gpu
        for gpu in state.inventory.gpus
        if is_free(state, gpu.uuid, held) and now >= probed.get(gpu.uuid, -interval) + interval
    ]
    return min(due, key=lambda gpu: (probed.get(gpu.uuid, -interval), gpu.index), default=None)


def failure(result: Result, timeout: float) -> str:
    """Return why a probe failed; empty: it passed."""
    if result.code == 0:
        return ""
    if result.code is None:
        return f"no result within {timeout:g} s"
    *_, last = [line.strip() for line in result.output.splitlines() if line.strip()] or [""]
    how = f"exit code {result.code}" if result.code > 0 else f"killed by signal {-result.code}"
    return shortened(f"{how}: {last}" if last else how, LONGEST)


def after(before: Probed, uuid: str, why: str) -> Probed:
    """Return the state after a probe of a GPU that failed for the reason *why*; empty: passed."""
    others = {gpu: text for gpu, text in before.failed.items() if gpu != uuid}
    return Probed({**others, uuid: why} if why else others)


def taken_over(told: Probed, earlier: Probed, probed: Mapping[str, float]) -> Probed:
    """Return the state with that of an *earlier* prober; it counts until this one has *probed*.

    After that, the order with it is only the echo of what this prober has told.
    """
    return told if probed else earlier


@dataclass(frozen=True, slots=True)
class Shown:
    """The failures of ours that a monitor has shown in its newest state, by UUID."""

    epoch: int
    uuids: frozenset[str]


def shown(state: NodeState, told: Probed) -> Shown:
    """Return which of the failures that were *told* the *state* shows."""
    return Shown(state.epoch, _ailing(state) & told.failed.keys())


def _ailing(state: NodeState) -> frozenset[str]:
    return frozenset(
        known.uuid
        for known in state.health
        if any(reason.kind is ReasonKind.PROBE for reason in known.reasons)
    )


def after_marks(told: Probed, before: Shown | None, state: NodeState) -> Probed:
    """Return the state without the failures that the monitor has forgotten since *before*.

    An operator has marked these GPUs healthy, or they were reset.
    """
    if before is None or before.epoch != state.epoch:
        return told
    there = {known.uuid for known in state.health}
    gone = (before.uuids & there) - _ailing(state)
    return Probed({uuid: why for uuid, why in told.failed.items() if uuid not in gone})


def environment(gpu: Gpu) -> dict[str, str]:
    """Return the variables that name the GPU to the command."""
    return {
        "CUDA_VISIBLE_DEVICES": gpu.uuid,
        "NVIDIA_VISIBLE_DEVICES": gpu.uuid,
        "GPU_UUID": gpu.uuid,
        "GPU_INDEX": str(gpu.index),
        "GPU_PCI_BUS_ID": gpu.pci_bus_id,
    }
