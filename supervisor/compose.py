"""Compose the service from the settings: its child processes and the settings of each."""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from proto.control import (
    Configure,
    MarkHealthy,
    Order,
    Register,
    ServiceState,
    Unknown,
    Withhold,
)
from proto.exporter import ExporterSettings, UsageRoots
from proto.holdings import Holdings
from proto.monitor import DraRule, OccupiedRule
from proto.mps_bus import MPS_BUS
from proto.paths import Paths
from proto.probe import Probed, ProbeSettings
from proto.worker import Handout, ResourcePlan, WorkerSettings
from simulator.live_node import LiveNode
from simulator.node import SimulatedNode
from supervisor import compose_cluster, privileges, problem_log
from supervisor.advertising import advertising
from supervisor.child import Logging, Process, Spec
from supervisor.compose_monitor import features, monitor_settings
from supervisor.config import naming
from supervisor.config.check_paths import SOCKET_PATH_LIMIT
from supervisor.config.check_values import check_probe
from supervisor.config.choose_file import Wish
from supervisor.config.refusal import refusing
from supervisor.config.service_settings import configuration_file
from supervisor.config.settings import Settings, load
from supervisor.config.sharing import Share
from supervisor.maintenance import MONITOR
from supervisor.plan import Rules, plan
from supervisor.restart_policy import Limits
from supervisor.runtime_folder import LOCAL_SOCKET, URL_FILE
from supervisor.state import Service
from supervisor.version import VERSION

LABEL_WAIT = 10.0
"""Seconds to wait for the node's label at the start before anything is served."""


def load_service(
    flags: Mapping[str, str],
    environment: Mapping[str, str],
    wish: Wish = Wish(),  # noqa: B008 - it is frozen
) -> Service:
    """Return the service that flags, environment and files describe; SettingsError if none."""
    return compose(load(flags, environment, wish))


def compose(settings: Settings) -> Service:
    """Return the service that *settings* describe, without a change to the disk.

    Raises SettingsError.
    """
    with refusing("these settings"):
        compose_cluster.require_api_client(settings)
        return _compose(settings)


def _compose(settings: Settings) -> Service:
    health = settings.configuration.health
    paths = _paths(settings)
    logging = Logging(settings.service.log_format, settings.service.log_level)
    return Service(
        children=(
            _monitor(settings, paths),
            _exporter(settings, paths),
            *compose_cluster.children(settings, paths),
            *_prober(settings, paths),
        ),
        plan=functools.partial(plan, _rules(settings)),
        advertising=functools.partial(advertising, _rules(settings)),
        worker=functools.partial(_worker, paths, float(health.stale_after), _handout(settings)),
        fork=functools.partial(Process, logging=logging),
        runtime_dir=settings.service.runtime_dir,
        kubelet_socket=paths.kubelet_socket,
        fail_on_init_error=settings.configuration.flags.fail_on_init_error,
        exit_without_access=float(health.exit_without_access),
        limits=Limits(silence=health.hang_after, urgent_delay=health.stale_after / 4),
        configuration_file=configuration_file(settings.service, settings.choice),
        configuration_folder=settings.service.config_dir,
        configuration_hash=settings.fingerprint(),
        configuration_problem=settings.choice.problem,
        log=problem_log.tell_resources,
        chosen=settings.choice.name,
        label_wait=LABEL_WAIT if settings.service.follows_label else 0.0,
        prepare=functools.partial(_prepare, settings.service.runtime_dir, settings.node),
    )


def _exporter(settings: Settings, paths: Paths) -> Spec:
    """Return the exporter's process."""
    mine = ExporterSettings(
        paths=paths,
        host=settings.address[0],
        port=settings.address[1],
        stale_after=settings.configuration.health.stale_after,
        version=VERSION,
        url_file=f"{settings.service.runtime_dir}/{URL_FILE}",
        backend="nvml" if settings.node is None else "simulated",
        pod_resources_socket=settings.service.pod_resources_socket,
        pod_labels=settings.service.pod_labels,
        pod_usage=settings.service.pod_usage,
        hold_occupied=_holds_occupied(settings),
        hold_dra=_holds_dra(settings),
        tell_held=settings.service.tells_cluster or bool(settings.configuration.health.probe),
        usage_roots=_usage_roots(settings),
        guard=settings.service.guard,
        local_socket=f"{settings.service.runtime_dir}/{LOCAL_SOCKET}",
        node_name=settings.service.node_name,
        allowed_hosts=(settings.service.node_name, *settings.service.metrics_allowed_hosts),
    )
    return Spec("exporter", "supervisor.exporter.main", mine, takes=(ServiceState,))


def _prober(settings: Settings, paths: Paths) -> Iterator[Spec]:
    """Yield the process that runs the operator's command on free GPUs, if there is a command."""
    health = settings.configuration.health
    if command := check_probe(health.probe):
        mine = ProbeSettings(
            paths.health_bus,
            command,
            interval=health.probe_interval,
            timeout=health.probe_timeout,
            stale_after=health.stale_after,
        )
        yield Spec("prober", "supervisor.prober.main", mine, takes=(Holdings, Unknown, Probed))


def _prepare(runtime_dir: str, node: SimulatedNode | None) -> None:
    if node is not None:
        LiveNode(Path(runtime_dir)).start(node)


def _paths(settings: Settings) -> Paths:
    return Paths(
        health_bus=f"{settings.service.runtime_dir}/health.ipc",
        telemetry_bus=f"{settings.service.runtime_dir}/telemetry.ipc",
        kubelet_socket=settings.service.registration_socket,
        plugin_folder=settings.service.device_plugin_path,
        mps_bus=f"{settings.service.runtime_dir}/{MPS_BUS}",
    )


def _usage_roots(settings: Settings) -> tuple[UsageRoots, ...]:
    real = UsageRoots()
    if settings.node is None:
        return (real,)
    live = LiveNode(Path(settings.service.runtime_dir))
    logs = (f"{live.logs}/pods", f"{live.logs}/containers")
    return UsageRoots(str(live.procfs), *logs), real


def _monitor(settings: Settings, paths: Paths) -> Spec:
    driver = monitor_settings(settings, paths)
    withholds = _holds_occupied(settings) or _holds_dra(settings)
    told: tuple[type[Order], ...] = (MarkHealthy,)
    takes = (
        *told,
        *([Withhold] if withholds else []),
        *([Probed] if settings.configuration.health.probe else []),
    )
    return Spec(MONITOR, "health.main", driver, takes, essential=True, keeps=privileges.MONITOR)


def _holds_occupied(settings: Settings) -> bool:
    return settings.configuration.health.occupied is OccupiedRule.UNHEALTHY


def _holds_dra(settings: Settings) -> bool:
    return settings.configuration.health.dra is DraRule.WITHHOLD


def _rules(settings: Settings) -> Rules:
    configuration = settings.configuration
    root = str(Path(configuration.flags.mps_root))  # without slashes that change nothing
    return Rules(
        mig=configuration.flags.mig_strategy,
        gpus=configuration.resources.gpus,
        profiles=configuration.resources.mig,
        shares={name: _with_root(shares, root) for name, shares in settings.shares.items()},
        imex_required=configuration.imex.channel_ids if configuration.imex.required else (),
    )


def _with_root(shares: tuple[Share, ...], root: str) -> tuple[Share, ...]:
    return tuple(
        replace(share, mps=replace(share.mps, root=root)) if share.mps else share
        for share in shares
    )


def _handout(settings: Settings) -> Handout:
    configuration, flags = settings.configuration, settings.configuration.flags
    slicing = configuration.sharing.time_slicing
    return Handout(
        list_strategies=flags.plugin.list_strategies,
        id_strategy=flags.plugin.device_id_strategy,
        pass_device_specs=flags.plugin.pass_device_specs,
        dev_root=flags.nvidia_dev_root or flags.nvidia_driver_root,
        cdi_kind=settings.service.cdi_kind,
        cdi_annotation_prefix=flags.plugin.cdi_annotation_prefix,
        features=features(flags),
        imex_channels=configuration.imex.channel_ids,
        single_replica=bool(slicing and slicing.fail_requests_greater_than_one),
        policy=flags.plugin.shared_devices_allocation_policy,
        mps_root=flags.mps_root if configuration.sharing.mps else "",
    )


def _worker(paths: Paths, stale_after: float, handout: Handout, resource: ResourcePlan) -> Spec:
    name = endpoint(resource.resource, paths.plugin_folder)
    settings = WorkerSettings(paths, name, stale_after, resource, handout)
    return Spec(
        f"worker {resource.resource}",
        "workers.main",
        settings,
        takes=(Register, Unknown, Configure),
        change=Configure(resource, handout, stale_after),
    )


def endpoint(resource: str, folder: str) -> str:
    """Return the file name of a resource's socket; a hash if its path would be too long."""
    name = f"nvidia-{resource.removeprefix(naming.DOMAIN)}.sock"
    if len(f"{folder}/{name}".encode()) <= SOCKET_PATH_LIMIT:
        return name
    return f"nvidia-{hashlib.sha256(resource.encode()).hexdigest()[:12]}.sock"
