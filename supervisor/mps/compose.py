"""Compose the tree of the MPS daemons from the settings, which are those of the plugin."""

import functools
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from proto.cluster import ClusterSettings
from proto.control import ApplyNow, Limit, ServiceState
from proto.exporter import ExporterSettings
from proto.keeper import ComputeMode, KeeperSettings
from proto.messages import Inventory
from proto.monitor import MonitorSettings
from proto.mps import MpsShare
from proto.mps_bus import BUS, KEEPER, MpsBusSettings
from proto.paths import Paths
from proto.worker import ResourcePlan
from supervisor import compose, privileges
from supervisor.child import Spec
from supervisor.config.check_paths import SOCKET_PATH_LIMIT
from supervisor.config.refusal import SettingsError
from supervisor.config.settings import Settings
from supervisor.maintenance import MONITOR
from supervisor.mps import locks, planned, simulated
from supervisor.plan import Plan
from supervisor.runtime_folder import KEEPERS_BUS, LOCAL_SOCKET, MPS_FOLDER, URL_FILE
from supervisor.state import Service

STOP = 8.0
"""Seconds from the order to stop until a keeper ends; it first ends its daemon."""


T = TypeVar("T")


def folder(settings: Settings) -> Path:
    """Return the runtime folder of the tree, which is in the plugin's."""
    return Path(settings.service.runtime_dir) / MPS_FOLDER


def compose_tree(settings: Settings) -> Service:
    """Return the tree that *settings* describe; SettingsError if they describe none."""
    plugin = compose.compose(settings)
    mine = folder(settings)
    longest = f"{mine}/telemetry.ipc"
    if len(longest.encode()) > SOCKET_PATH_LIMIT:
        raise SettingsError(
            f'cannot use --runtime-dir: the path of the socket "{longest}" has more than '
            f"{SOCKET_PATH_LIMIT} bytes; use a shorter folder"
        )
    specs = {spec.name: spec for spec in plugin.children}
    monitor = _settings(specs[MONITOR], MonitorSettings)
    kept = _keeper_settings(settings, monitor)
    children = [_bus(settings, monitor.paths, kept), _exporter(specs["exporter"], mine)]
    if settings.service.follows_label:
        children.append(_label(specs["cluster"]))
    return replace(
        plugin,
        children=tuple(children),
        plan=functools.partial(_plan, plugin),
        worker=functools.partial(_keeper, kept),
        leftover=functools.partial(_leftover, kept),
        runtime_dir=str(mine),
        kubelet_socket="",
        # The plugin says what is wrong with the node; the daemons that can be kept are kept.
        fail_on_init_error=False,
        exit_without_access=0.0,
        limits=replace(plugin.limits, stop=STOP),
        log=planned.log,
        state=planned.state,
        status=planned.status,
        settled=planned.settled,
        prepare=functools.partial(_prepare, settings),
    )


def _prepare(settings: Settings) -> None:
    locks.hold(settings)
    simulated.prepare(settings)


def _settings(spec: Spec, kind: type[T]) -> T:
    if not isinstance(spec.settings, kind):
        raise TypeError(f"cannot compose the tree: {spec.name} has other settings")
    return spec.settings


def _plan(plugin: Service, inventory: Inventory) -> Plan:
    return planned.daemons(plugin.plan(inventory))


def _bus(settings: Settings, paths: Paths, kept: KeeperSettings) -> Spec:
    mine = MpsBusSettings(
        health_bus=paths.health_bus,
        keepers_bus=kept.bus,
        mps_bus=paths.mps_bus,
        stale_after=float(settings.configuration.health.stale_after),
        root=kept.root,
        state_folder=kept.state_folder,
    )
    name = KEEPER + BUS
    return Spec(name, "supervisor.mps.main", mine, takes=(ServiceState,), essential=True)


def _exporter(plugin: Spec, mine: Path) -> Spec:
    """Return the exporter, which tells of this tree's processes only, and answers the probes."""
    settings = _settings(plugin, ExporterSettings)
    nobody = f"{mine}/health.ipc"  # what is known of GPUs is for the plugin's exporter to tell
    paths = Paths(nobody, f"{mine}/telemetry.ipc", kubelet_socket="", plugin_folder="")
    own = msgspec.structs.replace(
        settings,
        paths=paths,
        url_file=f"{mine}/{URL_FILE}",
        local_socket=f"{mine}/{LOCAL_SOCKET}",
        watches_gpus=False,
        pod_resources_socket="",
        pod_usage=False,
        hold_occupied=False,
    )
    return replace(plugin, settings=own)


def _label(plugin: Spec) -> Spec:
    """Return the process that reads the node's label, and does nothing else."""
    settings = _settings(plugin, ClusterSettings)
    own = msgspec.structs.replace(settings, events=False, condition=False, labels=None, mps_bus="")
    return replace(plugin, settings=own)


def _keeper_settings(settings: Settings, monitor: MonitorSettings) -> KeeperSettings:
    """Return the settings of all keepers, but for the device and its share."""
    flags, health = settings.configuration.flags, settings.configuration.health
    mps = settings.configuration.sharing.mps
    return KeeperSettings(
        uuid="",
        share=MpsShare(),
        root=flags.mps_root,
        state_folder=settings.service.state_dir,
        bus=f"{folder(settings)}/{KEEPERS_BUS}",
        program=simulated.program(settings),
        driver_roots=monitor.dev_roots,
        compute_mode=mps.compute_mode if mps else ComputeMode.EXCLUSIVE_PROCESS,
        binding=monitor.binding,
        binding_argument=monitor.binding_argument,
        mounts=settings.node is None,
        poll_interval=float(health.poll_interval),
        hang_after=float(health.hang_after),
    )


def _keeper(kept: KeeperSettings, part: ResourcePlan) -> Spec:
    (device,) = part.devices
    return _keeper_of(kept, device.uuid, device.mps or MpsShare())


def _leftover(kept: KeeperSettings, uuid: str) -> Spec:
    return _keeper_of(kept, uuid, MpsShare())


def _keeper_of(kept: KeeperSettings, uuid: str, share: MpsShare) -> Spec:
    return Spec(
        KEEPER + uuid,
        "supervisor.mps.keeper",
        msgspec.structs.replace(kept, uuid=uuid, share=share),
        takes=(Limit, ApplyNow, ServiceState),
        keeps=privileges.EVERYTHING,
        change=Limit(share, kept.poll_interval, kept.hang_after, kept.compute_mode),
        # The daemon's folder and its program: a running daemon cannot be moved.
        fixed=(kept.root, kept.program, kept.driver_roots),
        lingers=True,
    )
