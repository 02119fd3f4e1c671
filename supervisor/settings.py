"""The settings: read once from flags, environment, file and defaults into one frozen value.

"Settings" are all that `run` goes by; the "configuration" is the part of them that a file may hold.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from simulator.node import Node, NodeError, complete
from supervisor import files
from supervisor.logs import Format, Level
from supervisor.options import OPTIONS, Option
from supervisor.plan import BY_MEMORY, DOMAIN, Share

SOCKET_PATH_LIMIT = 107
"""Bytes of a unix socket's path on Linux, without its final NUL."""

NAME_LIMIT = 63
"""Characters of a resource name, its domain included."""

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
NAME = re.compile(rf"{LABEL}(\.{LABEL})*")
"""The part of a resource name behind the domain: a DNS-1123 subdomain, as the kubelet wants it."""

HIGHEST_PORT = 65535

LONGEST_ENDPOINT = "nvidia-0123456789ab.sock"
"""As long as an endpoint has to be that is shortened."""


class SettingsError(Exception):
    """The settings cannot be used; the message is one line that says which and why."""

    def __init__(self, message: str) -> None:
        super().__init__(message.replace("\n", "\\n"))


class Seconds(float):
    """A length of time, written as `500ms`, `30s`, `5m`, `1h` or as a number of seconds."""

    UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

    @classmethod
    def read(cls, value: object) -> "Seconds":
        """Return the time that *value* stands for; ValueError if it is none, or not positive."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", str(value))
        if isinstance(value, bool) or not match or not float(match[1]):
            raise ValueError(f'write "{value}" as a positive time such as 30s, 5m or 2.5')
        return cls(float(match[1]) * cls.UNITS[match[2] or "s"])


class _Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A mapping in the configuration; a key that we do not know is an error."""


class Plugin(_Section, frozen=True):
    """`flags.plugin`."""

    container_driver_root: str = "/driver-root"


class Flags(_Section, frozen=True):
    """`flags`."""

    fail_on_init_error: bool = True
    plugin: Plugin = Plugin()


class Health(_Section, frozen=True):
    """`health`."""

    stale_after: Seconds = Seconds(10)
    """Without word of the monitor for so long, devices are Unhealthy: not knowing is no health."""
    hang_after: Seconds = Seconds(15)
    """A process without a sign of life for so long is killed; a slow driver takes less."""


class Configuration(_Section, frozen=True):
    """What the configuration file may hold."""

    version: str = "v1"
    flags: Flags = Flags()
    health: Health = Health()


class Service(_Section, frozen=True):
    """What is no part of the file: where this service lives on its machine."""

    config_file: str = ""
    resource_config: str = ""
    device_plugin_path: str = "/var/lib/kubelet/device-plugins"
    kubelet_socket: str | None = None
    runtime_dir: str = "/run/gpu-sharing-plugin"
    metrics_address: str = ":9450"
    simulated_node: str = ""
    log_format: Format = Format.TEXT
    log_level: Level = Level.INFO

    @property
    def registration_socket(self) -> str:
        """The kubelet's socket; empty for none."""
        if self.kubelet_socket is not None:
            return self.kubelet_socket
        return f"{self.device_plugin_path}/kubelet.sock"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that `run` goes by."""

    configuration: Configuration
    service: Service
    shares: Mapping[str, Share]
    """How resources are shared, by their original name."""
    address: tuple[str, int]
    """Host and port of the exporter."""
    node: Node | None
    """The simulated node to serve instead of the real one."""


def load(flags: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Return the settings: *flags* by path over *environment* over the file over defaults.

    Raises SettingsError.
    """
    values = _from_environment(environment)
    for option in OPTIONS:
        if option.path in flags:
            values[option.path] = _parse(option, option.flags[0], flags[option.path])
    tree = _read_file(str(values.get("service.configFile", "")))
    for path, value in values.items():
        _put(tree, path.split("."), value)
    service = msgspec.convert(tree.pop("service", {}), Service)
    _check_paths(service)
    return Settings(
        configuration=msgspec.convert(tree, Configuration, dec_hook=_decode),
        service=service,
        shares=_shares(service.resource_config),
        address=_address(service.metrics_address),
        node=_node(service.simulated_node),
    )


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for option in OPTIONS:
        # An empty variable counts as unset: templates leave such behind.
        name = next((name for name in option.environment if environment.get(name)), None)
        if name:
            values[option.path] = _parse(option, name, environment[name].strip())
    return values


def _parse(option: Option, name: str, text: str) -> object:
    try:
        return option.parse(text)
    except ValueError as error:
        raise SettingsError(f'cannot use {name}="{text}": {error}') from error


def _put(tree: dict[str, Any], path: list[str], value: object) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _read_file(path: str) -> dict[str, Any]:
    """Return the configuration file's content, checked; empty without a file."""
    if not path:
        return {}
    try:
        content, configuration = files.read(path, "configuration file", Configuration, _decode)
    except files.FileError as error:
        raise SettingsError(str(error)) from error
    if configuration.version != "v1":
        version = configuration.version
        raise SettingsError(
            f'cannot use the configuration file "{path}": version "{version}", not "v1"'
        )
    return content


def _decode(kind: type, value: object) -> object:
    if kind is Seconds:
        return Seconds.read(value)
    raise NotImplementedError(kind)


def _node(path: str) -> Node | None:
    if not path:
        return None
    try:
        return complete(files.read(path, "node file", Node)[1])
    except files.FileError as error:
        raise SettingsError(str(error)) from error
    except NodeError as error:
        raise SettingsError(f'cannot use the node file "{path}": {error}') from error


def _shares(text: str) -> dict[str, Share]:
    """Return what `--resource-config` says, by original resource."""
    shares: dict[str, Share] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        original, share = _share(entry)
        shares[original] = share
    return shares


def _share(entry: str) -> tuple[str, Share]:
    parts = entry.split(":")
    if len(parts) != 3:  # noqa: PLR2004 - as the syntax says
        raise SettingsError(f'cannot use --resource-config "{entry}": write ORIGINAL:NEW:REPLICAS')
    original, name, count = parts
    if not NAME.fullmatch(original):
        raise SettingsError(f'cannot use --resource-config "{entry}": "{original}" is no resource')
    if not NAME.fullmatch(name) or len(DOMAIN + name) > NAME_LIMIT:
        raise SettingsError(
            f'cannot use --resource-config "{entry}": "{DOMAIN}{name}" is no resource name; '
            f"write at most {NAME_LIMIT} lower-case letters, digits, '-' and '.'"
        )
    if not re.fullmatch(r"-1|[1-9]\d{0,8}", count):
        raise SettingsError(
            f'cannot use --resource-config "{entry}": write replicas as 1 or more, or as '
            f"{BY_MEMORY} for one for each 1000 MiB of a device's memory"
        )
    return original, Share(name, int(count))


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"\d{1,5}", port) or int(port) > HIGHEST_PORT:
        raise SettingsError(f'cannot use --metrics-address "{text}": write HOST:PORT, or :PORT')
    return host.strip("[]"), int(port)


def _check_paths(service: Service) -> None:
    """Refuse folders in which the sockets would have paths that the kernel does not take."""
    sockets = {
        "--device-plugin-path": f"{service.device_plugin_path}/{LONGEST_ENDPOINT}",
        "--kubelet-socket": service.registration_socket,
        "--runtime-dir": f"{service.runtime_dir}/telemetry.ipc",
    }
    for flag, path in sockets.items():
        if len(path.encode()) > SOCKET_PATH_LIMIT:
            raise SettingsError(
                f'cannot use {flag}: the socket "{path}" has over {SOCKET_PATH_LIMIT} bytes'
            )


def endpoint(resource: str, folder: str) -> str:
    """Return the base name of a resource's socket, shortened where its path would be too long."""
    name = f"nvidia-{resource.removeprefix(DOMAIN)}.sock"
    if len(f"{folder}/{name}".encode()) <= SOCKET_PATH_LIMIT:
        return name
    return f"nvidia-{hashlib.sha256(resource.encode()).hexdigest()[:12]}.sock"
