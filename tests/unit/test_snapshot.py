"""Liveness and readiness, from what the exporter knows."""

import pytest

from proto.control import ProcessState, ServiceState
from proto.problem import Problem, ProblemKind
from proto.reasons import Reason, ReasonKind
from supervisor.status.probes import SUPERVISOR_SILENT, not_live, not_ready
from supervisor.status.snapshot import Snapshot
from tests.unit.builders import node_state, worker_state

NOW, STALE = 100.0, 10.0
GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"

BOTH = ServiceState(processes=(ProcessState("monitor", "running", 0),), planned=(GPU, SLICE))
NOTHING = ServiceState(processes=(), planned=())
WAITING = ServiceState(processes=(), planned=None)
EXITING = ServiceState(processes=(), planned=(GPU, SLICE), exits="no access")
NO_DRIVER = ServiceState(processes=(), planned=None, problem="no driver")

LONG = Problem(ProblemKind.LIST_TOO_LONG, "too many")
EMPTY = Problem(ProblemKind.MIG_EMPTY, "GPU 1")
UNSHARED = Problem(ProblemKind.NOT_SHARED, "GPU 2")
UNEVEN = Problem(ProblemKind.MIG_NOT_UNIFORM, "make them alike")
UNCHANNELED = Problem(ProblemKind.IMEX_MISSING, "no channel")


def troubled(*problems: Problem, planned: tuple[str, ...] | None = (GPU, SLICE)) -> ServiceState:
    """Return the state of a service with these problems."""
    return ServiceState(processes=(), planned=planned, problems=problems)


WELL = {GPU: (worker_state(GPU), NOW), SLICE: (worker_state(SLICE), NOW - 10.0)}
UNREGISTERED = {**WELL, SLICE: (worker_state(SLICE, registered=False, streams=0), NOW)}
UNHEARD = {**WELL, GPU: (worker_state(GPU, streams=0), NOW)}
SILENT = {**WELL, GPU: (worker_state(GPU), NOW - 10.1)}
MISSING = {GPU: WELL[GPU]}
UNHEALTHY = {**WELL, GPU: (worker_state(GPU, healthy=0, unhealthy=8), NOW)}
SURPLUS = {**WELL, "nvidia.com/gone": (worker_state("nvidia.com/gone", registered=False), 0.0)}

NO_SUPERVISOR = ["supervisor: no heartbeat"]
EXITS = ["supervisor: exits soon to get a new container: no access"]
NO_GPU_WORKER = [f"worker {GPU}: no heartbeat"]
NO_SLICE_WORKER = [f"worker {SLICE}: no heartbeat"]

TABLE: dict[str, tuple[Snapshot, list[str], list[str]]] = {
    "nothing known": (Snapshot(), NO_SUPERVISOR, NO_SUPERVISOR),
    "supervisor silent": (Snapshot(BOTH, NOW - 10.1, workers=WELL), NO_SUPERVISOR, NO_SUPERVISOR),
    "supervisor just in time": (Snapshot(BOTH, NOW - 10.0, workers=WELL), [], []),
    "all is well": (Snapshot(BOTH, NOW, workers=WELL), [], []),
    "no inventory yet": (Snapshot(WAITING, NOW), [], ["monitor: GPUs not listed yet"]),
    "no driver": (Snapshot(NO_DRIVER, NOW), [], ["no driver"]),
    "no GPU on the node": (Snapshot(NOTHING, NOW), [], []),
    "a worker is silent": (Snapshot(BOTH, NOW, workers=SILENT), NO_GPU_WORKER, NO_GPU_WORKER),
    "a worker never spoke": (
        Snapshot(BOTH, NOW, workers=MISSING),
        NO_SLICE_WORKER,
        NO_SLICE_WORKER,
    ),
    "not registered": (
        Snapshot(BOTH, NOW, workers=UNREGISTERED),
        [],
        [f"{SLICE}: not registered with the kubelet"],
    ),
    "no stream": (
        Snapshot(BOTH, NOW, workers=UNHEARD),
        [],
        [f"{GPU}: the kubelet has no ListAndWatch stream open"],
    ),
    "unhealthy GPUs": (Snapshot(BOTH, NOW, workers=UNHEALTHY), [], []),
    "not all is advertised": (
        Snapshot(troubled(EMPTY, LONG), NOW, workers=WELL),
        [],
        ["list-too-long: too many"],
    ),
    "nothing is advertised": (
        Snapshot(troubled(UNEVEN, UNCHANNELED, planned=()), NOW),
        [],
        ["mig-not-uniform: make them alike", "imex-missing: no channel"],
    ),
    "all is served, though not as wished": (
        Snapshot(troubled(EMPTY, UNSHARED), NOW, workers=WELL),
        [],
        [],
    ),
    "a problem beside an unregistered worker": (
        Snapshot(troubled(LONG), NOW, workers=UNREGISTERED),
        [],
        ["list-too-long: too many", f"{SLICE}: not registered with the kubelet"],
    ),
    "a problem of a service that is dead": (
        Snapshot(troubled(LONG), NOW, workers=SILENT),
        NO_GPU_WORKER,
        NO_GPU_WORKER,
    ),
    "about to exit": (Snapshot(EXITING, NOW, workers=WELL), EXITS, EXITS),
    "about to exit, and a worker is silent": (
        Snapshot(EXITING, NOW, workers=SILENT),
        EXITS + NO_GPU_WORKER,
        EXITS + NO_GPU_WORKER,
    ),
    "a worker whose resource is gone": (Snapshot(BOTH, NOW, workers=SURPLUS), [], []),
}


@pytest.mark.parametrize(("snapshot", "dead", "unready"), TABLE.values(), ids=TABLE)
def test_liveness_and_readiness(snapshot: Snapshot, dead: list[str], unready: list[str]) -> None:
    """The service is live while heartbeats come, and ready while pods can get its devices."""
    assert not_live(snapshot, NOW, STALE) == dead
    assert not_ready(snapshot, NOW, STALE) == unready


@pytest.mark.parametrize("stale_after", [3.0, 604_800.0], ids=["3 s", "a week"])
def test_a_loop_that_does_not_turn_is_not_live(stale_after: float) -> None:
    """Ten seconds without a word from the supervisor are too long, whatever `staleAfter` is."""
    said = Snapshot(NOTHING, NOW)
    assert not_live(said, NOW + SUPERVISOR_SILENT, stale_after) == []
    assert not_live(said, NOW + SUPERVISOR_SILENT + 0.1, stale_after) == NO_SUPERVISOR


def test_problems_of_all_resources() -> None:
    """Readiness lists the problems of all resources, not only of the first."""
    workers = {GPU: UNHEARD[GPU], SLICE: UNREGISTERED[SLICE]}
    assert not_ready(Snapshot(BOTH, NOW, workers=workers), NOW, STALE) == [
        f"{GPU}: the kubelet has no ListAndWatch stream open",
        f"{SLICE}: not registered with the kubelet",
    ]


@pytest.mark.parametrize("service", [None, WAITING, NOTHING])
def test_workers_of_unplanned_resources_are_ignored(service: ServiceState | None) -> None:
    """A worker is ignored before its resource is planned, and after."""
    assert Snapshot(service, NOW, workers=WELL).planned_workers() == {}


def test_planned_workers_come_in_the_order_of_the_plan() -> None:
    """Each planned resource has its worker's newest telemetry, or None, in the plan's order."""
    found = Snapshot(BOTH, NOW, workers=MISSING).planned_workers()
    assert list(found.items()) == [(GPU, WELL[GPU]), (SLICE, None)]


def test_missing_cdi_names_are_one_problem() -> None:
    """Devices without a CDI name are one problem of the node, and do not make it unready."""
    lost, unnamed = Reason(ReasonKind.GPU_LOST), Reason(ReasonKind.CDI_SPEC, "not installed")
    node = node_state({"A": (unnamed, lost), "B": (lost,), "C": (unnamed,)})
    snapshot = Snapshot(BOTH, NOW, node=node, workers=WELL)

    (problem,) = snapshot.problems() or ()
    assert problem == Problem(
        ProblemKind.CDI_SPEC,
        "the CDI specification lacks devices (2), so no container starts with them: not installed",
    )
    assert not problem.fatal
    assert not_ready(snapshot, NOW, STALE) == []
