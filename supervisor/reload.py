"""The configuration may change while the service runs: when to read it, and what came of it."""

import os
import time
from collections.abc import Callable

import msgspec
from loguru import logger

from proto.control import ConfigurationState
from supervisor.served import Service
from supervisor.settings import SettingsError

Stamp = tuple[int, int, int] | None


class Reload:
    """The service by the newest good configuration."""

    def __init__(self, load: Callable[[], Service]) -> None:
        """Begin with what *load* returns; SettingsError if that is no good."""
        self._load = load
        self.service = load()
        self.state = _state(self.service)
        self._stamp = _stamp(self.service.configuration_file)

    def is_due(self) -> bool:
        """Return whether the file is another than when it was read last."""
        return _stamp(self.service.configuration_file) != self._stamp

    def again(self) -> Service:
        """Return the service by the configuration as it is now, or as it was if that is no good."""
        # Before it is read: a change in the middle of that is then one more.
        self._stamp = _stamp(self.service.configuration_file)
        try:
            service = self._load()
        except SettingsError as error:
            if str(error) != self.state.problem:
                logger.error("the configuration stays as it was", reason=str(error))
            self.state = msgspec.structs.replace(self.state, problem=str(error))
            return self.service
        if service.configuration_hash == self.state.hash:
            self.state = msgspec.structs.replace(self.state, problem="")
            return self.service
        logger.info("the configuration is new", hash=service.configuration_hash)
        self.service, self.state = service, _state(service)
        return service


def _state(service: Service) -> ConfigurationState:
    return ConfigurationState(hash=service.configuration_hash, loaded=time.time())


def _stamp(path: str) -> Stamp:
    """Return what tells a file from another; a ConfigMap is another file after each change."""
    try:
        found = os.stat(path) if path else None  # noqa: PTH116 - through symbolic links
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns) if found else None
