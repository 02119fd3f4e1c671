"""The settings that the supervisor passes to the exporter, and who may access it."""

import msgspec

from proto.paths import Paths


class HttpGuard(msgspec.Struct, frozen=True):
    """The files for TLS and client authentication; an empty path: not used."""

    certificate: str = ""
    """The exporter's TLS certificate, with its chain."""
    key: str = ""
    client_ca: str = ""
    """CA file: only clients with a certificate signed by it are answered."""
    token_file: str = ""
    """File with a bearer token: only clients that send the token are answered."""

    def problem(self) -> str:
        """Return why these settings cannot be combined; empty: they can."""
        if bool(self.certificate) is not bool(self.key):
            return "cannot use only one of --metrics-tls-cert and --metrics-tls-key: give both"
        if self.client_ca and not self.certificate:
            return "cannot use --metrics-client-ca without TLS: give --metrics-tls-cert as well"
        return ""


class UsageRoots(msgspec.Struct, frozen=True):
    """Where the exporter finds out whose a process is."""

    procfs: str = "/proc"
    pod_logs: str = "/var/log/pods"
    container_logs: str = "/var/log/containers"


class ExporterSettings(msgspec.Struct, frozen=True):
    """The settings of the exporter, fixed at its start."""

    paths: Paths
    host: str
    port: int
    stale_after: float
    version: str
    url_file: str
    """The file that holds the exporter's URL, by which commands find the running service."""
    backend: str = "nvml"
    """The source of device data: `nvml` or `simulated`."""
    pod_resources_socket: str = ""
    """The kubelet's pod resources socket; empty: do not ask which pod holds which device."""
    watches_gpus: bool = True
    """Whether this service has a health monitor, and asks the kubelet who holds devices."""
    pod_labels: bool = True
    """Whether metrics have labels for pods."""
    pod_usage: bool = True
    """Whether to tell which container uses how much of a GPU, where that is possible."""
    hold_occupied: bool = False
    """Whether to report free devices that are in use, so that they are not handed out."""
    hold_dra: bool = False
    """Whether to report devices that are held through DRA, so that they are not handed out."""
    usage_roots: tuple[UsageRoots, ...] = (UsageRoots(),)
    """Where to look for a process, one after the other."""
    guard: HttpGuard = HttpGuard()
    local_socket: str = ""
    """Unix socket for the commands on this node, which have no certificate or token for *guard*."""
    tell_held: bool = False
    """Whether to report which devices containers hold, for the cluster."""
    node_name: str = ""
    """The node's name in Kubernetes, to show it; empty: unknown."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that requests may have as their host, besides IP addresses and localhost."""
