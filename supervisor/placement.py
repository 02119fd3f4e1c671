"""Where this service lives on its machine, which is no part of the configuration file."""

import msgspec

from proto.exporter import HttpGuard
from supervisor.logs import Format, Level


class Service(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is no part of the file: where this service lives on its machine."""

    config_file: str = ""
    resource_config: str = ""
    device_plugin_path: str = "/var/lib/kubelet/device-plugins"
    kubelet_socket: str | None = None
    runtime_dir: str = "/run/gpu-sharing-plugin"
    state_dir: str = "/var/lib/gpu-sharing-plugin"
    metrics_address: str = ":9450"
    metrics_tls_cert: str = ""
    metrics_tls_key: str = ""
    metrics_client_ca: str = ""
    metrics_token_file: str = ""
    pod_resources_socket: str = "/var/lib/kubelet/pod-resources/kubelet.sock"
    pod_labels: bool = True
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
    def guard(self) -> HttpGuard:
        """Who may ask the exporter."""
        return HttpGuard(
            self.metrics_tls_cert,
            self.metrics_tls_key,
            self.metrics_client_ca,
            self.metrics_token_file,
        )
