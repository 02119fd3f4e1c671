"""The settings as bytes: one process reads the files, and the supervisor uses what they say."""

import msgspec
from msgspec.structs import replace

from proto.labels import LabelOutput
from supervisor.config import gfd
from supervisor.config.durations import Seconds
from supervisor.config.health_schema import XidRules
from supervisor.config.settings import Settings


def encode(settings: Settings) -> bytes:
    """Return *settings* as bytes, without what has no effect: most of `flags.gfd`, the sources."""
    configuration = settings.configuration
    # It belongs to another program, and may be anything that YAML can say.
    used = settings.service.node_labels is not LabelOutput.OFF
    given = configuration.flags.gfd
    kept = gfd.plain(given) if used else None if given is None else {}
    flags = msgspec.structs.replace(configuration.flags, gfd=kept)
    configuration = msgspec.structs.replace(configuration, flags=flags)
    return msgspec.msgpack.encode(
        replace(settings, configuration=configuration, sources={}), enc_hook=_plain
    )


def decode(data: bytes) -> Settings:
    """Return the settings in *data*, which `encode` returned."""
    return _decoder.decode(data)


def _plain(value: object) -> object:
    if isinstance(value, Seconds):
        return float(value)
    raise NotImplementedError(type(value))


def _own(kind: type, value: object) -> object:
    if issubclass(kind, Seconds) and isinstance(value, float):
        return kind(value)
    if kind is XidRules:
        return XidRules.read(value)
    raise NotImplementedError(kind)


_decoder = msgspec.msgpack.Decoder(Settings, dec_hook=_own)
