"""Compose the processes that tell the cluster about the node: Events, condition, labels."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from proto.cluster import ClusterSettings
from proto.control import LabelNode, Order, ServiceState, Unknown
from proto.holdings import Holdings
from proto.labels import FEATURE_FILE, PRODUCT_NAME, SYSFS, LabelOutput, LabelSettings
from proto.paths import Paths
from simulator.live_node import LiveNode
from supervisor.child import Spec
from supervisor.config import gfd
from supervisor.config.refusal import SettingsError
from supervisor.config.settings import Settings


def children(settings: Settings, paths: Paths) -> Iterator[Spec]:
    """Yield the processes that *settings* need for this: none, one or two."""
    yield from _cluster(settings, paths)
    yield from _labeller(settings, paths)


def require_api_client(settings: Settings) -> None:
    """Raise SettingsError if the settings need the API server, but its library is missing."""
    if settings.service.uses_api_server and importlib.util.find_spec("lightkube") is None:
        raise SettingsError(
            "cannot use the Kubernetes API for --node-events, --node-condition, --node-taint, "
            "--node-labels, --dra-check or --config-dir with --node-name: install "
            "gpu-sharing-plugin[cluster], or lightkube"
        )


def _cluster(settings: Settings, paths: Paths) -> Iterator[Spec]:
    """Yield the process that uses the Kubernetes API, if any setting needs it."""
    service = settings.service
    through_api = service.node_labels.uses_api_server
    if service.uses_api_server:
        cluster = ClusterSettings(
            health_bus=paths.health_bus,
            # Only Events, conditions and the taint tell of MPS.
            mps_bus=paths.mps_bus if service.tells_cluster else "",
            node=service.node_name,
            events=service.node_events,
            condition=service.node_condition,
            taint=service.node_taint,
            dra=service.dra_check,
            label=service.config_label if service.follows_label else "",
            stale_after=float(settings.configuration.health.stale_after),
            labels=label_settings(settings, paths.health_bus) if through_api else None,
        )
        told: tuple[type[Order], ...] = (Unknown, ServiceState, Holdings)
        takes = (*told, LabelNode) if cluster.labels else told
        yield Spec("cluster", "supervisor.cluster.main", cluster, takes)


def _labeller(settings: Settings, paths: Paths) -> Iterator[Spec]:
    """Yield the process that writes the node's labels into a file, if they go there."""
    if settings.service.node_labels is LabelOutput.FILE:
        mine = label_settings(settings, paths.health_bus)
        yield Spec("labels", "supervisor.labels.main", mine, takes=(Unknown, LabelNode))


def label_settings(settings: Settings, health_bus: str = "") -> LabelSettings:
    """Return how *settings* label the node; *health_bus* is for the process that does it."""
    service, given = settings.service, _gfd(settings)
    intervals = (service.node_labels_interval, given.sleep_interval, gfd.INTERVAL)
    live = None if settings.node is None else LiveNode(Path(service.runtime_dir))
    machine = machine_type_file(settings)
    return LabelSettings(
        health_bus=health_bus,
        stale_after=float(settings.configuration.health.stale_after),
        output=service.node_labels,
        file=service.node_labels_file or given.output_file or FEATURE_FILE,
        interval=next(seconds for seconds in intervals if seconds is not None),
        health=service.node_labels_health,
        timestamp=given.timestamp,
        machine_type_file=f"{live.sysfs if live else SYSFS}/{PRODUCT_NAME}"
        if machine is None
        else machine,
        pod=service.pod_name,
    )


def machine_type_file(settings: Settings) -> str | None:
    """Return the file with the kind of machine that *settings* name; None: they name none."""
    if settings.service.machine_type_file is not None:
        return settings.service.machine_type_file
    return _gfd(settings).machine_type_file


def _gfd(settings: Settings) -> gfd.Gfd:
    try:
        return gfd.read(settings.configuration.flags.gfd)
    except ValueError as error:
        raise SettingsError(f"cannot use {error}") from error
