"""What the supervisor is to run, what is to be served, and what stands in the way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proto.control import Problem, ProcessState, ResourcePlan, ServiceState
from proto.messages import Inventory
from supervisor.child import Process, Spec
from supervisor.plan import Plan
from supervisor.policy import Child, Limits


@dataclass(frozen=True, slots=True)
class Service:
    """What the loop runs."""

    children: tuple[Spec, ...]
    """Those that always run."""
    plan: Callable[[Inventory], Plan]
    worker: Callable[[ResourcePlan], Spec]
    fork: Callable[[Spec, int], Process]
    """Starts a child, given the number of its start; OSError where the system does not let us."""
    running_call: Callable[[], str]
    """Returns the call of the driver's that the monitor is in."""
    kubelet_socket: str
    fail_on_init_error: bool
    limits: Limits


@dataclass(frozen=True, slots=True)
class Served:
    """The state of the service, beside that of its processes."""

    plans: Mapping[str, ResourcePlan] | None = None
    """By the worker's name; None before the first inventory."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the node."""
    not_ready: Mapping[str, str] = field(default_factory=dict)
    """Why a child cannot do its work, by its name."""

    def state(self, children: Mapping[str, Child]) -> ServiceState:
        """Return what the exporter is told."""
        return ServiceState(
            processes=tuple(
                ProcessState(name, child.state.value, max(0, child.starts - 1))
                for name, child in children.items()
            ),
            planned=None if self.plans is None else tuple(p.resource for p in self.plans.values()),
            problems=self.problems,
            problem=next(iter(self.not_ready.values()), ""),
        )
