"""From the settings to the service: which children there are and what each is told."""

import contextlib
import fcntl
import functools
import socket
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from proto.control import (
    Configure,
    ExporterSettings,
    MonitorSettings,
    Paths,
    Register,
    ResourcePlan,
    ServiceState,
    WorkerSettings,
)
from simulator.node import LiveNode
from supervisor.child import Logging, Process, Spec
from supervisor.loop import Service
from supervisor.plan import plan
from supervisor.policy import Limits
from supervisor.settings import Settings, endpoint

DISTRIBUTION = "gpu-sharing-plugin"
URL_FILE = "exporter.url"


class BusyError(Exception):
    """Another service uses the runtime folder, or nobody can; one line."""


@contextlib.contextmanager
def runtime_folder(path: Path) -> Iterator[None]:
    """Have the runtime folder for ourselves, and leave none of our sockets in it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (path / "lock").open("w")
    except OSError as error:
        raise BusyError(f'cannot use the runtime folder "{path}": {error.strerror}') from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f'cannot use the runtime folder "{path}": another service does'
            ) from error
        try:
            yield
        finally:
            for name in ("health.ipc", "telemetry.ipc", URL_FILE):
                (path / name).unlink(missing_ok=True)


def compose(settings: Settings) -> Service:
    """Return the service that *settings* describe."""
    health = settings.configuration.health
    paths = _paths(settings)
    exporter = ExporterSettings(
        paths=paths,
        host=settings.address[0],
        port=settings.address[1],
        stale_after=health.stale_after,
        version=metadata.version(DISTRIBUTION),
        url_file=f"{settings.service.runtime_dir}/{URL_FILE}",
    )
    logging = Logging(settings.service.log_format, settings.service.log_level)
    return Service(
        children=(
            Spec("monitor", "health.main", _monitor(settings, paths), essential=True),
            Spec("exporter", "supervisor.exporter", exporter, takes=(ServiceState,)),
        ),
        plan=functools.partial(plan, settings.shares),
        worker=functools.partial(_worker, paths, health.stale_after),
        fork=functools.partial(Process, logging=logging),
        kubelet_socket=paths.kubelet_socket,
        fail_on_init_error=settings.configuration.flags.fail_on_init_error,
        limits=Limits(silence=health.hang_after),
    )


def _paths(settings: Settings) -> Paths:
    return Paths(
        health_bus=f"{settings.service.runtime_dir}/health.ipc",
        telemetry_bus=f"{settings.service.runtime_dir}/telemetry.ipc",
        kubelet_socket=settings.service.registration_socket,
        plugin_folder=settings.service.device_plugin_path,
    )


def _monitor(settings: Settings, paths: Paths) -> MonitorSettings:
    if settings.node is None:
        root = settings.configuration.flags.plugin.container_driver_root
        return MonitorSettings(paths, binding="health.nvml", binding_argument=root)
    live = LiveNode(Path(settings.service.runtime_dir))
    live.start(settings.node)
    return MonitorSettings(
        paths,
        binding="simulator.nvml",
        binding_argument=settings.service.runtime_dir,
        sysfs=str(live.sysfs),
    )


def _worker(paths: Paths, stale_after: float, resource: ResourcePlan) -> Spec:
    name = endpoint(resource.resource, paths.plugin_folder)
    settings = WorkerSettings(paths, name, stale_after, resource)
    return Spec(f"worker {resource.resource}", "workers.main", settings, (Register, Configure))


def remove_dead_sockets(folder: Path) -> None:
    """Remove the sockets of killed workers: ours by name, and nobody answers on them."""
    for path in folder.glob("nvidia-*.sock"):
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.setblocking(False)
            if probe.connect_ex(str(path)):
                path.unlink()
