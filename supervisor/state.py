"""What the supervisor is to run, what is to be served, and what stands in the way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proto.control import ConfigurationState, Problem, ProcessState, ServiceState
from proto.messages import Inventory, Reason
from proto.worker import ResourcePlan
from supervisor.child import Process, Spec
from supervisor.plan import Plan
from supervisor.policy import Limits


@dataclass(frozen=True, slots=True)
class Service:
    """What the loop runs; another one takes its place when the configuration changes."""

    children: tuple[Spec, ...]
    """Those that always run."""
    plan: Callable[[Inventory], Plan]
    worker: Callable[[ResourcePlan], Spec]
    fork: Callable[[Spec, int], Process]
    """Starts a child, given the number of its start; OSError where the system does not let us."""
    running_call: Callable[[], str]
    """Returns the call of the driver's that the monitor is in."""
    runtime_dir: str
    kubelet_socket: str
    fail_on_init_error: bool
    limits: Limits
    configuration_file: str = ""
    configuration_folder: str = ""
    """In which a label, or else a default, chooses the file."""
    configuration_hash: str = ""
    configuration_problem: str = ""
    """Why the file is not the one that the node's label names."""
    chosen: str = ""
    """The file's name in the folder."""
    label_wait: float = 0.0
    """Seconds for which the monitor waits for the node's label at the start."""


@dataclass(frozen=True, slots=True)
class Served:
    """The state of the service, beside that of its processes."""

    plans: Mapping[str, ResourcePlan] | None = None
    """By the worker's name; None before the first inventory."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the node."""
    not_ready: Mapping[str, str] = field(default_factory=dict)
    """Why a child cannot do its work, by its name."""
    unknown: Reason | None = None
    """Why nothing is known of any device, until a monitor speaks."""
    quiesced: bool = False
    """Held out of service for maintenance."""
    hangs: int = 0
    """How often the monitor hung in the driver."""
    registered: Mapping[str, bool] = field(default_factory=dict)
    """Whether a worker is registered or waits for the kubelet, by its name."""
    configuration: ConfigurationState = field(default_factory=ConfigurationState)

    def state(self, processes: tuple[ProcessState, ...]) -> ServiceState:
        """Return what the exporter is told."""
        return ServiceState(
            processes=processes,
            planned=None if self.plans is None else tuple(p.resource for p in self.plans.values()),
            problems=self.problems,
            problem=next(iter(self.not_ready.values()), ""),
            quiesced=self.quiesced,
            unknown=self.unknown,
            hangs=self.hangs,
            configuration=self.configuration,
        )

    def settled(self) -> bool:
        """Return whether all is done that can be: registered, or waiting for others."""
        if self.plans is None:
            return bool(self.not_ready)
        return self.plans.keys() <= self.registered.keys()

    def status(self) -> str:
        """Return in a line how the service stands."""
        if self.quiesced:
            return "maintenance: the monitor is stopped until `gpu-sharing-plugin resume`"
        if self.not_ready:
            return f"not ready, retrying: {next(iter(self.not_ready.values()))}"
        if self.plans is None:
            return "looking for GPUs"
        waiting = [p.resource for n, p in self.plans.items() if not self.registered.get(n)]
        if waiting:
            return f"waiting to register with the kubelet: {', '.join(waiting)}"
        return f"registered: {', '.join(p.resource for p in self.plans.values()) or 'no resources'}"
