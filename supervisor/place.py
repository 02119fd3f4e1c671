"""The settings that are no part of the file: where this service lives."""

import msgspec

from supervisor.choice import Fallback
from supervisor.logs import Format, Level


class Service(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is no part of the file."""

    config_file: str = ""
    config_dir: str = ""
    config_label: str = "nvidia.com/device-plugin.config"
    config_default: str = ""
    config_fallback_strategies: tuple[Fallback, ...] = (Fallback.NAMED, Fallback.SINGLE)
    node_name: str = ""
    node_events: bool = False
    node_condition: bool = False
    resource_config: str = ""
    device_plugin_path: str = "/var/lib/kubelet/device-plugins"
    kubelet_socket: str | None = None
    runtime_dir: str = "/run/gpu-sharing-plugin"
    state_dir: str = "/var/lib/gpu-sharing-plugin"
    metrics_address: str = ":9450"
    cdi_spec_dir: str = "/var/run/cdi"
    cdi_kind: str = "k8s.device-plugin.nvidia.com/gpu"
    cdi_feature_flags: tuple[str, ...] = ()
    cdi_disable_hooks: tuple[str, ...] = ()
    simulated_node: str = ""
    log_format: Format = Format.TEXT
    log_level: Level = Level.INFO

    @property
    def registration_socket(self) -> str:
        """The kubelet's socket; empty for none."""
        if self.kubelet_socket is not None:
            return self.kubelet_socket
        return f"{self.device_plugin_path}/kubelet.sock"

    @property
    def follows_label(self) -> bool:
        """Whether the node's label chooses the configuration."""
        return bool(self.config_dir and self.node_name)

    @property
    def uses_api_server(self) -> bool:
        """Whether anything is asked of, or told to, the Kubernetes API."""
        return self.node_events or self.node_condition or self.follows_label
