"""What the supervisor runs, and the state of the service: resources, problems, maintenance."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from proto.advertising import Advertising
from proto.cluster import DraOffers
from proto.control import (
    ConfigurationState,
    Hung,
    NodeLabels,
    NotReady,
    ProcessState,
    ServiceState,
    Settled,
    Unknown,
)
from proto.driver import DriverState
from proto.messages import Inventory
from proto.platform import Platform
from proto.problem import Problem
from proto.texts import few
from proto.worker import ResourcePlan
from supervisor.child import Process, Spec
from supervisor.config.choose_file import Wish
from supervisor.plan import Plan
from supervisor.restart_policy import Limits


class Lost(msgspec.Struct, frozen=True):
    """The loss of all GPUs, which only a new container can end."""

    since: float
    """When the first monitor reported it."""
    reason: str = ""
    """What the newest monitor reported."""
    exits_since: float | None = None
    """Since when the service is about to exit, and /livez fails; None: a monitor is tried again."""


class Served(msgspec.Struct, frozen=True):
    """The state of the service, without the states of its processes."""

    plans: Mapping[str, ResourcePlan] | None = None
    """What each worker advertises, by the worker's name; None before the first inventory."""
    problems: tuple[Problem, ...] = ()
    """Why the node cannot be served as configured."""
    notices: tuple[str, ...] = ()
    """What in the configuration has no effect on this node."""
    not_ready: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Why a child process is not ready, by its name."""
    unknown: Unknown | None = None
    """Why all devices are Unhealthy, until a new monitor publishes."""
    lost: Lost | None = None
    """The loss that *unknown* tells of, if only a new container can end it."""
    came_late: bool = False
    """Whether the driver, or its device nodes, came after this container, or will."""
    quiesced: bool = False
    """Whether the monitor is stopped for maintenance."""
    hangs: int = 0
    """How many driver calls did not return in time."""
    registered: Mapping[str, bool] = msgspec.field(default_factory=dict)
    """Whether a worker is registered with the kubelet, by the worker's name."""
    configuration: ConfigurationState = msgspec.field(default_factory=ConfigurationState)
    labels: NodeLabels | None = None
    """Whether the node's labels are written."""
    driver: DriverState = DriverState.STARTING
    platform: Platform | None = None
    """What kind of node this is; None: nobody has looked yet."""
    dra: DraOffers = msgspec.field(default_factory=DraOffers)
    """What DRA offers of this node."""

    def after(self, name: str, report: Hung | Settled | NodeLabels | DraOffers) -> "Served":
        """Return the state after a *report* of the child *name*."""
        if isinstance(report, NodeLabels):
            return replace(self, labels=report)
        if isinstance(report, DraOffers):
            return replace(self, dra=report)
        if isinstance(report, Settled):
            return replace(self, registered={**self.registered, name: report.registered})
        not_ready, driver = dict(self.not_ready), self.driver
        if report.everything:
            not_ready[name] = f"the driver hangs in {report.call}"
            driver = DriverState.UNUSABLE
        return replace(self, hangs=self.hangs + 1, not_ready=not_ready, driver=driver)

    def ready(self, name: str, *, essential: bool) -> "Served":
        """Return the state after the child *name* became ready; an *essential* one sees devices."""
        not_ready = {child: why for child, why in self.not_ready.items() if child != name}
        after = replace(self, not_ready=not_ready)
        if essential and not self.quiesced:
            return replace(after, unknown=None, lost=None)
        return after

    def after_plan(
        self, plans: Mapping[str, ResourcePlan], plan: Plan, platform: Platform | None
    ) -> "Served":
        """Return the state in which each worker serves its part of *plan*, by *plans*."""
        return replace(
            self,
            plans=plans,
            problems=plan.problems,
            notices=plan.notices,
            platform=platform or self.platform,
            driver=DriverState.LOADED,
        )

    def after_refusal(self, name: str, report: NotReady) -> "Served":
        """Return the state after the *report* that the child *name* is not ready."""
        not_ready = {**self.not_ready, name: report.reason}
        return replace(self, not_ready=not_ready, platform=report.platform or self.platform)

    def state(self, processes: tuple[ProcessState, ...]) -> ServiceState:
        """Return the state to send to the exporter."""
        return ServiceState(
            processes=processes,
            planned=None if self.plans is None else tuple(p.resource for p in self.plans.values()),
            problems=self.problems,
            notices=(*self.notices, *filter(None, (self.dra.resources,))),
            problem=next(iter(self.not_ready.values()), ""),
            quiesced=self.quiesced,
            unknown=self.unknown,
            exits=self.lost.reason if self.lost and self.lost.exits_since is not None else "",
            hangs=self.hangs,
            mps={u: s for p in (self.plans or {}).values() for u, s in p.mps.items()},
            configuration=self.configuration,
            labels=self.labels,
            driver=self.driver,
            dra=self.dra,
            platform=self.platform,
        )

    def settled(self) -> bool:
        """Return whether the start is done: each worker is registered or waits for the kubelet.

        While the driver is not available, the start counts as done too.
        """
        if self.plans is None:
            return bool(self.not_ready)
        return self.plans.keys() <= self.registered.keys()

    def status(self) -> str:
        """Return the state of the service in one line, for systemd."""
        if self.quiesced:
            return "maintenance: the monitor is stopped until `gpu-sharing-plugin resume`"
        if self.not_ready:
            return f"not ready, retrying: {next(iter(self.not_ready.values()))}"
        if self.plans is None:
            return "looking for GPUs"
        waiting = [p.resource for n, p in self.plans.items() if not self.registered.get(n)]
        if waiting:
            return f"waiting to register with the kubelet: {few(waiting)}"
        return f"registered: {few([p.resource for p in self.plans.values()]) or 'no resources'}"


def _log_nothing(before: Served, after: Served, children: Sequence[Spec]) -> None:
    del before, after, children


class Service(msgspec.Struct, frozen=True):
    """What the loop runs; a changed configuration replaces it."""

    children: tuple[Spec, ...]
    """The processes that always run; workers come from the inventory."""
    plan: Callable[[Inventory], Plan]
    advertising: Callable[[Inventory, Plan], Advertising]
    """Tells of a plan what the node's labels need."""
    worker: Callable[[ResourcePlan], Spec]
    """Returns the child that serves a part of the plan."""
    fork: Callable[[Spec, int], Process]
    """Starts a child process with the number of its start; OSError if the fork fails."""
    runtime_dir: str
    kubelet_socket: str
    fail_on_init_error: bool
    exit_without_access: float
    """Seconds without access to the GPUs before the service exits; 0: it never does."""
    limits: Limits
    configuration_file: str = ""
    configuration_folder: str = ""
    """The folder in which the node's label, or else a default, chooses the file."""
    configuration_hash: str = ""
    configuration_problem: str = ""
    """Why the file is not the one that the node's label names."""
    log: Callable[[Served, Served, Sequence[Spec]], None] = _log_nothing
    """Logs what a new plan changes: the state before and after it, and the children it needs."""
    state: Callable[[Served, tuple[ProcessState, ...]], ServiceState] = Served.state
    """Returns the state to send to the exporter."""
    status: Callable[[Served], str] = Served.status
    """Returns the state in one line, for systemd."""
    settled: Callable[[Served], bool] = Served.settled
    """Returns whether the start is done, for systemd."""
    leftover: Callable[[str], Spec] | None = None
    """Returns the child that ends what an earlier run left of a device, by its UUID."""
    chosen: str = ""
    """Name of the chosen file in the folder."""
    label_wait: float = 0.0
    """Seconds by which the first start of the monitor waits for the node's label."""
    prepare: Callable[[], None] = lambda: None
    """Writes what the processes need on disk; NodeError if that fails."""


class ServiceSource(msgspec.Struct, frozen=True):
    """Where a service comes from."""

    read: Callable[[Wish], bytes]
    """Reads and checks the files, which may take seconds; SettingsError if they cannot be used."""
    compose: Callable[[bytes], Service]
    """Returns at once the service that was read; SettingsError if it cannot be used."""
