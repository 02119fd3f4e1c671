"""The settings of this service on its machine, which are not in the configuration file."""

import msgspec

from proto.exporter import HttpGuard
from proto.labels import LabelOutput
from supervisor.config.choose_file import Choice, Fallback, Wish, choose, listing
from supervisor.logs import Format, Level

KERNEL_LOG = "/dev/kmsg"
"""The kernel log of the machine."""


class ServiceSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Settings by flag or environment only: paths, addresses, logging, the node's name."""

    config_file: str = ""
    config_dir: str = ""
    config_label: str = "nvidia.com/device-plugin.config"
    config_default: str = ""
    config_fallback_strategies: tuple[Fallback, ...] = (Fallback.NAMED, Fallback.SINGLE)
    node_name: str = ""
    node_events: bool = False
    node_condition: bool = False
    node_taint: bool = False
    dra_check: bool = False
    node_labels: LabelOutput = LabelOutput.OFF
    node_labels_file: str | None = None
    node_labels_health: bool = False
    node_labels_interval: float | None = None
    machine_type_file: str | None = None
    pod_name: str = ""
    resource_config: str = ""
    device_plugin_path: str = "/var/lib/kubelet/device-plugins"
    kubelet_socket: str | None = None
    runtime_dir: str = "/run/gpu-sharing-plugin"
    state_dir: str = "/var/lib/gpu-sharing-plugin"
    kernel_log: str = KERNEL_LOG
    metrics_address: str = ":9450"
    metrics_tls_cert: str = ""
    metrics_tls_key: str = ""
    metrics_client_ca: str = ""
    metrics_token_file: str = ""
    metrics_allowed_hosts: tuple[str, ...] = ()
    pod_resources_socket: str = "/var/lib/kubelet/pod-resources/kubelet.sock"
    pod_labels: bool = True
    pod_usage: bool = True
    cdi_spec_dir: str = "/var/run/cdi"
    cdi_kind: str = "k8s.device-plugin.nvidia.com/gpu"
    cdi_feature_flags: tuple[str, ...] = ()
    cdi_disable_hooks: tuple[str, ...] = ()
    mps_control_path: str = ""
    simulated_node: str = ""
    log_format: Format = Format.TEXT
    log_level: Level = Level.INFO

    @property
    def registration_socket(self) -> str:
        """Path of the kubelet's registration socket; empty: do not register."""
        if self.kubelet_socket is not None:
            return self.kubelet_socket
        return f"{self.device_plugin_path}/kubelet.sock"

    @property
    def follows_label(self) -> bool:
        """Whether the node's label chooses the configuration file."""
        return bool(self.config_dir and self.node_name)

    @property
    def uses_api_server(self) -> bool:
        """Whether the service uses the Kubernetes API."""
        labels = self.node_labels.uses_api_server
        return self.tells_cluster or self.dra_check or self.follows_label or labels

    @property
    def tells_cluster(self) -> bool:
        """Whether the cluster is told about Unhealthy GPUs."""
        return self.node_events or self.node_condition or self.node_taint

    @property
    def guard(self) -> HttpGuard:
        """The files that decide who may read from the exporter."""
        return HttpGuard(
            self.metrics_tls_cert,
            self.metrics_tls_key,
            self.metrics_client_ca,
            self.metrics_token_file,
        )


def choose_file(service: ServiceSettings, wish: Wish) -> Choice:
    """Return which file of the folder to read; ValueError if options contradict each other."""
    for flag, wanted in (
        ("--node-events", service.node_events),
        ("--node-condition", service.node_condition),
        ("--node-taint", service.node_taint),
        ("--dra-check", service.dra_check),
    ):
        if wanted and not service.node_name:
            raise ValueError(f"{flag} without --node-name: set --node-name too")
    if service.node_labels.uses_api_server and not service.node_name:
        given = f"--node-labels={service.node_labels}"
        raise ValueError(f"{given} without --node-name: set --node-name too")
    if not service.config_dir:
        return Choice("")
    if service.config_file:
        raise ValueError("--config-dir together with --config-file: set only one of them")
    default, fallbacks = service.config_default, service.config_fallback_strategies
    try:
        chosen = choose(listing(service.config_dir), wish, default, fallbacks)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f'--config-dir "{service.config_dir}": {why}') from error
    if wish.label is None and service.follows_label:
        problem = "cannot read the node's label: the API server has not answered yet"
        return Choice(chosen.name, problem)
    return chosen


def configuration_file(service: ServiceSettings, chosen: Choice) -> str:
    """Return the path of the configuration file; empty: there is none."""
    return f"{service.config_dir}/{chosen.name}" if chosen.name else service.config_file
