"""Refuse paths that no file or socket can have, before anything is opened by them."""

from proto.mps import PIPE_PATH_LIMIT, pipe_folder
from supervisor.config.file_schema import Flags
from supervisor.config.refusal import SettingsError
from supervisor.config.service_settings import ServiceSettings

PATH_LIMIT = 4095
"""Most bytes of a path on Linux, without the final NUL."""

NAME_LIMIT = 255
"""Most bytes of a file's name on Linux."""

SOCKET_PATH_LIMIT = 107
"""Most bytes of a unix socket's path on Linux, without the final NUL."""

LONGEST_UUID = "GPU-00000000-0000-0000-0000-000000000000"
"""The UUID of a GPU or MIG instance has this length."""

LONGEST_ENDPOINT = "nvidia-0123456789ab.sock"
"""A worker's socket name with a hash, which replaces a name that is too long."""


def check_flags(flags: Flags) -> None:
    """Raise ValueError, which begins with the key, for a path that no file can have."""
    paths = {
        "flags.nvidiaDriverRoot": flags.nvidia_driver_root,
        "flags.nvidiaDevRoot": flags.nvidia_dev_root,
        "flags.plugin.containerDriverRoot": flags.plugin.container_driver_root,
        "flags.plugin.nvidiaCTKPath": flags.plugin.nvidia_ctk_path,
    }
    for key, path in paths.items():
        if problem := _problem(path):
            raise ValueError(f'{key} "{path}": {problem}')


def check_mps_root(root: str) -> None:
    """Raise ValueError, which begins with the key, for a folder that no MPS daemon can use."""
    if not root.startswith("/"):
        raise ValueError(f'flags.mpsRoot "{root}": write an absolute path for sharing.mps')
    if not root.strip("/"):
        raise ValueError(f'flags.mpsRoot "{root}": write a folder of its own for sharing.mps')
    if ".." in root.split("/"):
        # For the host and the kubelet it may be another folder than for this process.
        raise ValueError(f'flags.mpsRoot "{root}": write the path without ".." for sharing.mps')
    room = PIPE_PATH_LIMIT - len(pipe_folder("", LONGEST_UUID))
    if (size := len(root.rstrip("/").encode())) > room:
        raise ValueError(
            f'flags.mpsRoot "{root}": it has {size} bytes, too many for the sockets of MPS '
            f"below it; write at most {room}"
        )


def check(service: ServiceSettings) -> None:
    """Raise SettingsError for a path that cannot exist, or is too long for a socket in it."""
    folders = {
        "--runtime-dir": service.runtime_dir,
        "--state-dir": service.state_dir,
        "--device-plugin-path": service.device_plugin_path,
        "--cdi-spec-dir": service.cdi_spec_dir,
    }
    others = {
        "--kubelet-socket": service.registration_socket,
        "--kernel-log": service.kernel_log,
        "--pod-resources-socket": service.pod_resources_socket,
        "--mps-control-path": service.mps_control_path,
        "--metrics-tls-cert": service.metrics_tls_cert,
        "--metrics-tls-key": service.metrics_tls_key,
        "--metrics-client-ca": service.metrics_client_ca,
        "--metrics-token-file": service.metrics_token_file,
        "--machine-type-file": service.machine_type_file or "",
        "--node-labels-file": service.node_labels_file or "",
    }
    for setting, path in folders.items():
        if not path:
            raise SettingsError(f'cannot use {setting}="": write a path')
    for setting, path in (folders | others).items():
        if problem := _problem(path):
            raise SettingsError(f'cannot use {setting} "{path}": {problem}')
    if service.node_labels_file is not None and (wrong := of_labels(service.node_labels_file)):
        raise SettingsError(f'cannot use --node-labels-file "{service.node_labels_file}": {wrong}')
    _check_sockets(service)


def of_labels(path: str) -> str:
    """Return why the file for labels cannot have this *path*; empty: it can."""
    if problem := _problem(path):
        return problem
    name = path.rpartition("/")[2]
    if not path.startswith("/") or not name.strip("."):
        return "write the whole path of a file"
    if name.startswith("."):
        return "node feature discovery ignores a file whose name begins with a dot"
    return ""


def _problem(path: str) -> str:
    """Return why no file can have this *path*; empty: a file can."""
    if "\0" in path:
        return "a path cannot have a NUL character"
    if len(path.encode(errors="surrogatepass")) > PATH_LIMIT:
        return f"write at most {PATH_LIMIT} bytes"
    if max(len(name.encode(errors="surrogatepass")) for name in path.split("/")) > NAME_LIMIT:
        return f"write at most {NAME_LIMIT} bytes between two slashes"
    return ""


def _check_sockets(service: ServiceSettings) -> None:
    sockets = {
        "--device-plugin-path": f"{service.device_plugin_path}/{LONGEST_ENDPOINT}",
        "--kubelet-socket": service.registration_socket,
        "--runtime-dir": f"{service.runtime_dir}/telemetry.ipc",
    }
    for flag, path in sockets.items():
        if len(path.encode()) > SOCKET_PATH_LIMIT:
            raise SettingsError(
                f'cannot use {flag}: the path of the socket "{path}" has more than '
                f"{SOCKET_PATH_LIMIT} bytes; use a shorter folder"
            )
