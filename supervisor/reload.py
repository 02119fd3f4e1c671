"""The configuration may change while the service runs: when to read it, and what came of it."""

import time
from collections.abc import Callable

import msgspec
from loguru import logger

from proto.control import ConfigurationState
from proto.host import Identity
from supervisor.config.choose_file import Wish
from supervisor.config.settings import SettingsError
from supervisor.state import Service


class Reload:
    """The service by the newest good configuration."""

    def __init__(self, load: Callable[[Wish], Service]) -> None:
        """Begin with what *load* returns; SettingsError if that is no good."""
        self._load = load
        self._label: str | None = None
        self.service = load(Wish())
        self.state = _state(self.service)
        self._stamps = _stamps(self.service)
        if problem := self.state.problem:
            logger.warning(
                "configuration not final yet: waiting for the node's label from the API server",
                reason=problem,
                **_file(self.service),
            )

    def labelled(self, value: str) -> bool:
        """Take note of the node's label; return whether that is news."""
        before, self._label = self._label, value
        return value != before

    def is_due(self) -> bool:
        """Return whether the file, or the choice of files, is another than when last read."""
        return _stamps(self.service) != self._stamps

    def again(self) -> Service:
        """Return the service by the configuration as it is now, or as it was if that is no good."""
        # Before it is read: a change in the middle of that is then one more.
        self._stamps = _stamps(self.service)
        try:
            service = self._load(Wish(self._label, self.service.chosen))
        except SettingsError as error:
            self._complain(str(error))
            return self.service
        self._complain(service.configuration_problem)
        if service.configuration_hash == self.state.hash:
            return self.service
        hashed = service.configuration_hash
        logger.info("applying the new configuration", hash=hashed, **_file(service))
        self.service, self.state = service, _state(service)
        return service

    def _complain(self, problem: str) -> None:
        """Show a problem, and log it once until it changes."""
        if problem and problem != self.state.problem:
            logger.error("cannot use the new configuration, keeping the old one", reason=problem)
        self.state = msgspec.structs.replace(self.state, problem=problem)


def _file(service: Service) -> dict[str, str]:
    """Return the file as a field of a log line, where there is more than one to choose from."""
    return {"file": service.chosen or "none"} if service.configuration_folder else {}


def _state(service: Service) -> ConfigurationState:
    return ConfigurationState(
        hash=service.configuration_hash, loaded=time.time(), problem=service.configuration_problem
    )


def _stamps(service: Service) -> tuple[Identity | None, Identity | None]:
    """Return what is another when the file, or the folder that it is chosen in, is another."""
    return _stamp(service.configuration_file), _stamp(service.configuration_folder)


def _stamp(path: str) -> Identity | None:
    """Return what tells a file from another; a ConfigMap is another file after each change."""
    return Identity.of(path) if path else None
