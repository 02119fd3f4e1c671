"""Change which processes use a simulated GPU, if the GPU can have them."""

from msgspec.structs import replace

from simulator.node import Live, NodeError, SimulatedGpu, instance_mib
from simulator.usage import (
    FIRST_PID,
    KINDS,
    NAME,
    POD,
    RESERVED_MIB,
    Use,
    after_use,
    fits,
    used_mib,
)


def using(live: Live, gpu: SimulatedGpu, place: int, use: Use) -> Live:
    """Return the node on which the process uses the GPU at *place*; NodeError if it cannot."""
    if why := _mistake(use):
        raise NodeError(f"cannot use GPU {place}: {why}")
    if gpu.mig is None and use.mig is not None:
        raise NodeError(f"cannot use MIG instance {use.mig} of GPU {place}: MIG mode is off")
    if gpu.mig is not None and use.mig not in range(len(gpu.mig)):
        raise NodeError(
            f"cannot use GPU {place} without one of its {len(gpu.mig)} MIG instances: "
            "name one with --mig N, from 0"
        )
    where = f"GPU {place}" if use.mig is None else f"MIG instance {use.mig} of GPU {place}"
    uses = after_use(live.uses, gpu.uuid, use)
    if use.memory_mib == 0 and uses == live.uses:
        raise NodeError(
            f"cannot end a process on {where}: {_owner(use)} does not use it; "
            "`status` shows who does"
        )
    total = gpu.memory_mib - RESERVED_MIB
    if use.mig is not None and gpu.mig:
        total = instance_mib(gpu, gpu.mig[use.mig])
    lacks = used_mib(uses.get(gpu.uuid, ()), use.mig) - total
    if lacks > 0:
        most = use.memory_mib - lacks
        raise NodeError(
            f"cannot use {use.memory_mib} MiB of {where}: the process can have at most {most} MiB"
        )
    return replace(live, uses=uses)


def _owner(use: Use) -> str:
    if use.pod:
        return f"{use.pod}/{use.container}"
    return f"PID {use.pid}" if use.pid else "the host"


def _mistake(use: Use) -> str:
    if use.pod and not POD.fullmatch(use.pod):
        return f'pod "{use.pod}" must look like NAMESPACE/NAME'
    if not fits(use.pod):
        return f'the log folder of pod "{use.pod}" would have a name that is too long for a file'
    if not NAME.fullmatch(use.container):
        return f'container "{use.container}" is no name that Kubernetes allows'
    if use.memory_mib < 0:
        return f"{use.memory_mib} MiB must be at least 0; 0 ends the process"
    if not 0 <= use.utilization <= 100:  # noqa: PLR2004
        return f"utilization {use.utilization} must be from 0 to 100 percent"
    if not 0 <= use.pid < FIRST_PID:
        return f"PID {use.pid} must be from 1 to {FIRST_PID - 1}"
    return f'kind "{use.kind}" must be {", ".join(KINDS)}' if use.kind not in KINDS else ""
