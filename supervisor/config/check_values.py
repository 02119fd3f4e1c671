"""Refuse values of the configuration that are valid alone, but cannot work."""

import shlex
from collections.abc import Iterable, Sequence

from proto.texts import NAME_LIMIT, shortened
from proto.worker import DeviceListStrategy
from supervisor.config import naming
from supervisor.config.file_schema import Configuration, Pattern

LONGEST_PREFIX = 254
"""Most bytes of what an annotation's key begins with: a DNS name and a slash."""

IMEX_CHANNELS = 2048
"""IMEX channels that the driver has."""

LONGEST_PATTERN = 255
"""Most bytes of a pattern; NVML's names of GPUs and profiles have at most 96."""


def check(configuration: Configuration) -> None:
    """Raise ValueError, which begins with a key, for values that cannot work together."""
    _check_channels(configuration.imex.channel_ids)
    if not configuration.flags.plugin.list_strategies:
        raise ValueError(
            "flags.plugin.deviceListStrategy without a value: no container would get a "
            f"device; write at least one of {', '.join(DeviceListStrategy)}"
        )
    prefix = configuration.flags.plugin.cdi_annotation_prefix
    _check_length("flags.plugin.cdiAnnotationPrefix", prefix, LONGEST_PREFIX)
    health = configuration.health
    if health.stale_after < 2 * health.poll_interval:
        raise ValueError(
            f"health.staleAfter {health.stale_after} with health.pollInterval "
            f"{health.poll_interval}: write a staleAfter of at least two poll intervals, "
            f"{2 * health.poll_interval:g}s, or a shorter pollInterval"
        )
    check_probe(health.probe)
    _check_names("gpus", configuration.resources.gpus)
    _check_names("mig", configuration.resources.mig)


def _check_channels(given: Sequence[int]) -> None:
    if len(set(given)) < len(given) or not all(0 <= n < IMEX_CHANNELS for n in given):
        shown = shortened(str(list(given)), NAME_LIMIT)
        raise ValueError(
            f"imex.channelIDs {shown}: write numbers from 0 to {IMEX_CHANNELS - 1}, each once"
        )


def check_probe(command: str) -> tuple[str, ...]:
    """Return the words of `health.probe`; raise ValueError if it is no command."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f'health.probe "{command}": {error}') from error
    if words and not words[0].startswith("/"):
        raise ValueError(f'health.probe "{command}": write the absolute path of the program')
    return tuple(words)


def _check_names(key: str, patterns: Iterable[Pattern]) -> None:
    for place, pattern in enumerate(patterns):
        _check_length(f"resources.{key}[{place}].pattern", pattern.pattern, LONGEST_PATTERN)
        try:
            naming.full(pattern.name)
        except ValueError as error:
            raise ValueError(f"resources.{key}[{place}].name: {error}") from error


def _check_length(key: str, text: str, most: int) -> None:
    if (size := len(text.encode())) > most:
        raise ValueError(f"{key}: the text has {size} bytes; write at most {most} bytes")
