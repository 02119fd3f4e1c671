"""The settings: read from flags, environment, file and defaults into one frozen value.

"Settings" are everything that `run` uses; the "configuration" is the part that a file can contain.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from health import xid_policy
from proto.labels import LabelOutput
from proto.texts import NAME_LIMIT, shortened
from simulator.node import NodeError, SimulatedNode
from simulator.node_file import complete
from supervisor.config import check_paths, check_values, gfd, read_file, sharing
from supervisor.config.choose_file import Choice, Wish
from supervisor.config.explain import explain
from supervisor.config.file_schema import Configuration, decode, plain
from supervisor.config.health_schema import XidRule
from supervisor.config.option import LONGEST_TEXT, Option
from supervisor.config.options import OPTIONS
from supervisor.config.refusal import SettingsError, refusing
from supervisor.config.service_settings import ServiceSettings, choose_file, configuration_file

HIGHEST_PORT = 65535

KEY = re.compile(r"(?:flags|resources|sharing|imex|health|usage)\.[A-Za-z.]+")
"""A key of the configuration file in the text of an error."""

CDI_KIND = re.compile(r"[A-Za-z][-A-Za-z0-9_.]*[A-Za-z0-9]/[A-Za-z]([-A-Za-z0-9_]*[A-Za-z0-9])?")
"""Vendor and class as the Container Device Interface specifies them."""


class Settings(msgspec.Struct, frozen=True):
    """Everything that `run` uses."""

    configuration: Configuration
    service: ServiceSettings
    shares: sharing.Shares
    """How to share resources, from `--resource-config` and the file."""
    address: tuple[str, int]
    """Host and port of the exporter."""
    node: SimulatedNode | None
    """The simulated node to serve; None: the real node."""
    xids: xid_policy.Wishes
    """Which Xids are fatal or ignored, from the file and the environment."""
    choice: Choice
    """The chosen file of `--config-dir`."""
    sources: Mapping[str, str]
    """Where each value of the configuration comes from, by its path."""
    notices: tuple[str, ...] = ()
    """Settings that are ignored, with the reason."""

    def fingerprint(self) -> str:
        """Return a hash that changes with the settings."""
        parts = (plain(self.configuration), self.service, self.node, self.choice.name)
        text = msgspec.json.encode(parts)
        return hashlib.sha256(text).hexdigest()[:12]


def load(
    flags: Mapping[str, str],
    environment: Mapping[str, str],
    wish: Wish = Wish(),  # noqa: B008 - it is frozen
    given: bytes | None = None,
) -> Settings:
    """Return the settings; *flags*, by path, override the environment, file and defaults.

    *given* is the content of the configuration file; None: read the file. Raises SettingsError.
    """
    with refusing("the settings"):
        return _load(flags, environment, wish, given)


def _load(
    flags: Mapping[str, str], environment: Mapping[str, str], wish: Wish, text: bytes | None
) -> Settings:
    values, sources = _from_environment(environment)
    for option in OPTIONS:
        if option.path in flags:
            values[option.path] = _parse(option, option.flags[0], flags[option.path])
            sources[option.path] = "flag"
    given: dict[str, Any] = {}
    for key, value in values.items():
        _put(given, key.split("."), value)
    service = msgspec.convert(given.pop("service", {}), ServiceSettings)
    chosen = _choose(service, wish)
    path = configuration_file(service, chosen)
    content = _read_file(path, text)
    sources = {**dict.fromkeys(_leaves(content), "file"), **sources}
    for key, value in values.items():
        if not key.startswith("service."):
            _put(content, key.split("."), value)
    configuration = _convert(content)
    _check_service(service)
    with _naming(path, sources):
        check_values.check(configuration)
        check_paths.check_flags(configuration.flags)
        _check_gfd(configuration.flags.gfd, service)
        shares = _shares(configuration, service, path)
        if configuration.sharing.mps:
            check_paths.check_mps_root(configuration.flags.mps_root)
    xids, malformed = _xids(configuration, environment)
    return Settings(
        configuration=configuration,
        service=service,
        shares=shares,
        address=_address(service.metrics_address),
        node=_node(service.simulated_node),
        xids=xids,
        choice=chosen,
        sources=_all_sources(configuration, service, sources),
        notices=(*_notices(configuration, service), *malformed),
    )


def _from_environment(environment: Mapping[str, str]) -> tuple[dict[str, object], dict[str, str]]:
    values: dict[str, object] = {}
    for option in OPTIONS:
        # An empty variable counts as unset: templates often set empty ones.
        given = (name for name in option.environment if environment.get(name, "").strip())
        name = next(given, None)
        if name:
            values[option.path] = _parse(option, name, environment[name].strip())
    return values, dict.fromkeys(values, "environment")


def _parse(option: Option, name: str, text: str) -> object:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(f'cannot use {name}="{text}": it is not UTF-8') from error
    _require_short(name, text, option.most)
    try:
        return option.parse(text)
    except ValueError as error:
        raise SettingsError(f'cannot use {name}="{text}": {error}') from error


def _require_short(name: str, text: str, most: int) -> None:
    size = len(os.fsencode(text))
    if size > most:
        shown = shortened(text, NAME_LIMIT)
        raise SettingsError(
            f'cannot use {name}="{shown}": it has {size} bytes; write at most {most} bytes'
        )


def _choose(service: ServiceSettings, wish: Wish) -> Choice:
    try:
        return choose_file(service, wish)
    except ValueError as error:
        raise SettingsError(f"cannot use {error}") from error


def _put(tree: dict[str, Any], path: list[str], value: object) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the path of each value; sections are not values."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def _all_sources(
    configuration: Configuration, service: ServiceSettings, sources: Mapping[str, str]
) -> dict[str, str]:
    tree = plain(configuration) | {"service": msgspec.to_builtins(service)}
    return {path: sources.get(path, "default") for path in _leaves(tree)}


def _read_file(path: str, text: bytes | None) -> dict[str, Any]:
    """Return the checked content of the configuration file; empty without a file."""
    if not path:
        return {}
    try:
        content, configuration = read_file.read(
            path, "configuration file", Configuration, decode, text
        )
    except read_file.FileError as error:
        raise SettingsError(str(error)) from error
    if configuration.version not in {"", "v1"}:
        version = configuration.version
        raise SettingsError(
            f'cannot use the configuration file "{path}": version: "{version}"; allowed: v1'
        )
    return content


def _convert(content: Mapping[str, Any]) -> Configuration:
    try:
        return msgspec.convert(content, Configuration, dec_hook=decode)
    except msgspec.ValidationError as error:
        raise SettingsError(f"cannot use {explain(error, Configuration, content)}") from error


def _check_service(service: ServiceSettings) -> None:
    if not CDI_KIND.fullmatch(service.cdi_kind):
        raise SettingsError(f'cannot use --cdi-kind "{service.cdi_kind}": write VENDOR/CLASS')
    if problem := service.guard.problem():
        raise SettingsError(problem)
    check_paths.check(service)


def _check_gfd(section: Mapping[str, Any] | None, service: ServiceSettings) -> None:
    if service.node_labels is LabelOutput.OFF:
        return
    path = gfd.read(section).output_file
    if path and (problem := check_paths.of_labels(path)):
        raise ValueError(f'flags.gfd.outputFile "{path}": {problem}')


def _notices(configuration: Configuration, service: ServiceSettings) -> Iterator[str]:
    used = service.node_labels is not LabelOutput.OFF
    yield from gfd.notices(configuration.flags.gfd, used=used)


def _xids(
    configuration: Configuration, environment: Mapping[str, str]
) -> tuple[xid_policy.Wishes, tuple[str, ...]]:
    """Return the settings about Xids, and notices for malformed parts, which are ignored."""
    for name in (xid_policy.DISABLE, xid_policy.ENABLE):
        _require_short(name, environment.get(name, ""), LONGEST_TEXT)
    disabled, first = xid_policy.select(xid_policy.DISABLE, environment.get(xid_policy.DISABLE, ""))
    enabled, second = xid_policy.select(xid_policy.ENABLE, environment.get(xid_policy.ENABLE, ""))
    file = {xid: rule is XidRule.FATAL for xid, rule in configuration.health.xids.items()}
    return xid_policy.Wishes(file, disabled, enabled), first + second


def _shares(configuration: Configuration, service: ServiceSettings, path: str) -> sharing.Shares:
    """Return all shares; ValueError begins with the key or flag that is wrong."""
    try:
        by_flag = sharing.from_flag(service.resource_config)
    except ValueError as error:
        raise ValueError(f"--resource-config {error}") from error
    by_file = sharing.from_file(configuration.sharing)
    if both := by_flag.keys() & by_file.keys():
        section = "mps" if by_file[min(both)][0].mps else "timeSlicing"
        raise SettingsError(
            f"cannot share {min(both)} twice, by --resource-config and by sharing.{section} in "
            f'"{path}": use only one of them'
        )
    sharing.require_one_kind(by_flag | by_file)
    return by_flag | by_file


@contextlib.contextmanager
def _naming(path: str, sources: Mapping[str, str]) -> Iterator[None]:
    """Turn a ValueError into a SettingsError, which names the file if a wrong key is from it."""
    try:
        yield
    except ValueError as error:
        keys = KEY.findall(str(error))
        from_file = [p for p, s in sources.items() if s == "file" and p.startswith(tuple(keys))]
        where = f'the configuration file "{path}": ' if keys and from_file else ""
        raise SettingsError(f"cannot use {where}{error}") from error


def _node(path: str) -> SimulatedNode | None:
    if not path:
        return None
    try:
        return complete(read_file.read(path, "node file", SimulatedNode)[1])
    except read_file.FileError as error:
        raise SettingsError(str(error)) from error
    except NodeError as error:
        raise SettingsError(f'cannot use the node file "{path}": {error}') from error


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > HIGHEST_PORT:
        raise SettingsError(f'cannot use --metrics-address "{text}": write HOST:PORT, or :PORT')
    return host.strip("[]"), int(port)
