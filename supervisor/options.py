"""The options of `run`: each one's flag, environment variable and place in the settings."""

from collections.abc import Callable
from dataclasses import dataclass

from supervisor import logs


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as users give it; the precedence is flag, environment, file, default."""

    flags: tuple[str, ...]
    """The flag and its aliases."""
    path: str
    """Its place in the settings; under `service.` it is no part of the configuration file."""
    help: str
    environment: tuple[str, ...] = ()
    parse: Callable[[str], object] = str
    """Makes the setting of a flag's or variable's text; ValueError says what is allowed."""
    switch: bool = False
    """The bare flag means true."""


def boolean(text: str) -> bool:
    """Return the truth of *text*, in the spellings of Go's ParseBool."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError("write true or false")


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"write {' or '.join(allowed)}")
        return text

    return parse


OPTIONS = (
    Option(
        ("--config-file",),
        "service.configFile",
        "configuration file, YAML or JSON",
        ("CONFIG_FILE",),
    ),
    Option(
        ("--resource-config",),
        "service.resourceConfig",
        "how resources are shared: ORIGINAL:NEW:REPLICAS, several separated by commas; "
        "-1 replicas means one for each 1000 MiB of a device's memory",
        ("NVIDIA_DRIVER_RESOURCE_CONFIG",),
    ),
    Option(
        ("--fail-on-init-error",),
        "flags.failOnInitError",
        "exit when the driver is not there at the start, instead of waiting for it",
        ("FAIL_ON_INIT_ERROR",),
        boolean,
        switch=True,
    ),
    Option(
        ("--driver-root-ctr-path", "--container-driver-root"),
        "flags.plugin.containerDriverRoot",
        "where the driver's root is mounted; its library is looked for there, then by the loader",
        ("DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"),
    ),
    Option(
        ("--device-plugin-path",),
        "service.devicePluginPath",
        "the kubelet's device plugin folder",
        ("DEVICE_PLUGIN_PATH",),
    ),
    Option(
        ("--kubelet-socket",),
        "service.kubeletSocket",
        "the kubelet's registration socket, by default kubelet.sock in --device-plugin-path; "
        "empty: serve, but do not register",
        ("KUBELET_SOCKET",),
    ),
    Option(
        ("--runtime-dir",),
        "service.runtimeDir",
        "private folder for the sockets between our processes",
        ("GPU_SHARING_RUNTIME_DIR",),
    ),
    Option(
        ("--metrics-address",),
        "service.metricsAddress",
        "HOST:PORT of /metrics, /livez and /readyz; port 0 picks a free one and logs it",
        ("METRICS_ADDRESS",),
    ),
    Option(
        ("--simulated-node",),
        "service.simulatedNode",
        "node file: serve simulated GPUs instead of real ones",
    ),
    Option(
        ("--log-format",),
        "service.logFormat",
        "text or json",
        ("LOG_FORMAT",),
        _one_of(*logs.Format),
    ),
    Option(
        ("--log-level",),
        "service.logLevel",
        "debug, info, warning or error",
        ("LOG_LEVEL",),
        _one_of(*logs.Level),
    ),
)
