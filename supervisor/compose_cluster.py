"""Compose the processes that tell the cluster about the node: Events, condition, labels."""

import importlib.util
from collections.abc import Iterator

from proto.cluster import ClusterSettings
from proto.control import LabelNode, Unknown
from proto.labels import FEATURE_FILE, MACHINE_TYPE_FILE, LabelOutput, LabelSettings
from proto.paths import Paths
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
            "cannot use the Kubernetes API for --node-events, --node-condition, --node-labels or "
            "--config-dir with --node-name: install gpu-sharing-plugin[cluster], or lightkube"
        )


def _cluster(settings: Settings, paths: Paths) -> Iterator[Spec]:
    """Yield the process that uses the Kubernetes API, if any setting needs it."""
    service = settings.service
    if service.uses_api_server:
        cluster = ClusterSettings(
            health_bus=paths.health_bus,
            node=service.node_name,
            events=service.node_events,
            condition=service.node_condition,
            label=service.config_label if service.follows_label else "",
            stale_after=float(settings.configuration.health.stale_after),
            labels=_labels(settings, paths) if service.node_labels.uses_api_server else None,
        )
        takes = (Unknown, LabelNode) if cluster.labels else (Unknown,)
        yield Spec("cluster", "supervisor.cluster.main", cluster, takes)


def _labeller(settings: Settings, paths: Paths) -> Iterator[Spec]:
    """Yield the process that writes the node's labels into a file, if they go there."""
    if settings.service.node_labels is LabelOutput.FILE:
        mine = _labels(settings, paths)
        yield Spec("labels", "supervisor.labels.main", mine, takes=(Unknown, LabelNode))


def _labels(settings: Settings, paths: Paths) -> LabelSettings:
    service, given = settings.service, gfd.read(settings.configuration.flags.gfd)
    intervals = (service.node_labels_interval, given.sleep_interval, gfd.INTERVAL)
    kinds = (service.machine_type_file, given.machine_type_file, MACHINE_TYPE_FILE)
    return LabelSettings(
        health_bus=paths.health_bus,
        stale_after=float(settings.configuration.health.stale_after),
        output=service.node_labels,
        file=service.node_labels_file or given.output_file or FEATURE_FILE,
        interval=next(seconds for seconds in intervals if seconds is not None),
        health=service.node_labels_health,
        timestamp=given.timestamp,
        machine_type_file=next(path for path in kinds if path is not None),
        pod=service.pod_name,
    )
