"""Which devices need an MPS daemon, and how the tree of the daemons tells of it."""

from collections.abc import Sequence

import msgspec
from loguru import logger

from proto.control import ProcessState, ServiceState
from proto.problem import ProblemKind
from proto.texts import few
from proto.worker import ResourcePlan
from supervisor.child import Spec
from supervisor.plan import Plan
from supervisor.state import Served

OURS = {ProblemKind.MPS_UNSUPPORTED, ProblemKind.MPS_ROOT, ProblemKind.MPS_THREADS}
"""The problems that are told here; the plugin tells all."""

WAITS = "waiting for the inventory of `gpu-sharing-plugin run`"


def daemons(plan: Plan) -> Plan:
    """Return the part of the plugin's *plan* that MPS shares, with one device in each part."""
    parts = [
        ResourcePlan(resource.resource, (device,))
        for resource in plan.resources
        for device in resource.devices
        if device.mps
    ]
    return Plan(tuple(parts), tuple(problem for problem in plan.problems if problem.kind in OURS))


def log(before: Served, after: Served, keepers: Sequence[Spec]) -> None:
    """Log which devices MPS no longer shares, and whether it shares none."""
    del keepers
    plans = after.plans or {}
    if not plans and before.plans != plans:
        logger.info("no device is shared by MPS, waiting for a configuration that shares one")
    for name in (before.plans or {}).keys() - plans.keys():
        logger.info("MPS no longer shares a device, ending its daemon", child=name)


def state(served: Served, processes: tuple[ProcessState, ...]) -> ServiceState:
    """Return the state for the exporter of this tree: the resources belong to the plugin."""
    told = served.state(processes)
    planned = None if served.plans is None else ()
    problem = told.problem or (WAITS if planned is None else "")
    return msgspec.structs.replace(told, planned=planned, problem=problem, mps={}, driver=None)


def status(served: Served) -> str:
    """Return the state of the tree in one line, for systemd."""
    if served.quiesced:
        return "maintenance: no MPS daemon is started until `gpu-sharing-plugin resume`"
    if served.not_ready:
        return f"not ready, retrying: {next(iter(served.not_ready.values()))}"
    if served.plans is None:
        return WAITS
    uuids = [device.uuid for plan in served.plans.values() for device in plan.devices]
    return f"keeps the MPS daemons of {few(uuids)}" if uuids else "no device is shared by MPS"


def settled(served: Served) -> bool:
    """Return whether the start is done: at once, since daemons need the plugin's inventory."""
    del served
    return True
