"""What the exporter is told at its start, and of who may ask it."""

import msgspec

from proto.paths import Paths


class HttpGuard(msgspec.Struct, frozen=True):
    """The files by which the exporter knows itself and others; an empty path asks for nothing."""

    certificate: str = ""
    """With the chain, for TLS."""
    key: str = ""
    client_ca: str = ""
    """Who signs clients' certificates; only their clients are answered."""
    token_file: str = ""
    """Only clients that bear the token in it are answered."""

    def problem(self) -> str:
        """Return why these do not go together; empty if they do."""
        if bool(self.certificate) is not bool(self.key):
            return "cannot use only one of --metrics-tls-cert and --metrics-tls-key: give both"
        if self.client_ca and not self.certificate:
            return "cannot use --metrics-client-ca without TLS: give --metrics-tls-cert as well"
        return ""


class ExporterSettings(msgspec.Struct, frozen=True):
    """What the exporter is told at its start."""

    paths: Paths
    host: str
    port: int
    stale_after: float
    version: str
    url_file: str
    """Where to leave the URL, for those who look for the running service."""
    backend: str = "nvml"
    """What answers for the driver: `nvml` or `simulated`."""
    pod_resources_socket: str = ""
    """Where the kubelet tells which container holds which device; empty: nowhere."""
    pod_labels: bool = True
    """Whether metrics name the pods."""
    guard: HttpGuard = HttpGuard()
    local_socket: str = ""
    """Where `status` asks when there is a guard, which it could not pass."""
