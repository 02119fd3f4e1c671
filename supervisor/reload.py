"""Decide when to read the configuration again, and keep the last good one."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from loguru import logger

from proto.control import ConfigurationState
from simulator.node import NodeError
from supervisor.config.choose_file import Wish
from supervisor.config.refusal import SettingsError
from supervisor.state import Service

Stamp = tuple[int, int, int]
"""Inode, ctime in nanoseconds and size of a file."""

Stamps = tuple[Stamp | None, Stamp | None]

LABEL_WITHIN = 1.0
"""Seconds in which an API server usually answers: no warning before."""


class Reload:
    """Holds the service as the last good configuration describes it."""

    def __init__(self, load: Callable[[Wish], Service]) -> None:
        """Load the configuration with *load*.

        Raises SettingsError if it cannot be used, NodeError if the service cannot be prepared.
        """
        self._load = load
        self._label: str | None = None
        self.service = load(Wish())
        self.service.prepare()
        self.state = _state(self.service)
        # The first tick reads the files again: until now nobody knew which files to watch.
        self._stamps: Stamps = (None, None)
        self._warn_at: float | None = time.monotonic() + LABEL_WITHIN

    def unlabelled(self, reason: str) -> None:
        """Note why the node's label cannot be read."""
        if self._label is None:
            problem = f"cannot read the node's label: {reason}"
            self.state = msgspec.structs.replace(self.state, problem=problem)

    def warn(self, now: float) -> None:
        """Log once that the node's label is still missing, and why."""
        if self._warn_at is None or now < self._warn_at:
            return
        self._warn_at = None
        if self._label is None and self.state.problem:
            logger.warning(
                "configuration not final yet: waiting for the node's label from the API server",
                reason=self.state.problem,
                **_file(self.service),
            )

    def labelled(self, value: str) -> bool:
        """Note the *value* of the node's label; return whether it changed."""
        before, self._label = self._label, value
        return value != before

    def is_due(self) -> bool:
        """Return whether the file, or the folder of files, changed since it was read."""
        return _stamps(self.service) != self._stamps

    def again(self) -> Service:
        """Read the configuration; return the new service, or the old one if it cannot be used."""
        # Before the file is read: a change during the reading is then noticed as one more change.
        self._stamps = _stamps(self.service)
        try:
            service = self._load(Wish(self._label, self.service.chosen))
            if service.configuration_hash != self.state.hash:
                service.prepare()
        except (SettingsError, NodeError) as error:
            self._complain(str(error))
            return self.service
        # While the label is missing, the API server's answer says more than the configuration.
        waits = self._label is None and service.configuration_problem
        self._complain((waits and self.state.problem) or service.configuration_problem)
        if service.configuration_hash == self.state.hash:
            return self.service
        hashed = service.configuration_hash
        logger.info("applying the new configuration", hash=hashed, **_file(service))
        self.service, self.state = service, _state(service)
        return service

    def _complain(self, problem: str) -> None:
        """Keep the *problem* for the exporter, and log it once until it changes."""
        if problem and problem != self.state.problem:
            logger.error("cannot use the new configuration, keeping the old one", reason=problem)
        self.state = msgspec.structs.replace(self.state, problem=problem)


def _file(service: Service) -> dict[str, str]:
    """Return the chosen file as a field for the log, if there is a folder to choose from."""
    return {"file": service.chosen or "none"} if service.configuration_folder else {}


def _state(service: Service) -> ConfigurationState:
    return ConfigurationState(
        hash=service.configuration_hash, loaded=time.time(), problem=service.configuration_problem
    )


def _stamps(service: Service) -> Stamps:
    """Return stamps that change when the file or the folder of files changes."""
    return _stamp(service.configuration_file), _stamp(service.configuration_folder)


def _stamp(path: str) -> Stamp | None:
    """Return a stamp of the file; a ConfigMap volume replaces the file on each change.

    With its size: a file that is emptied and then written may keep its time, which is coarse.
    """
    try:
        found = Path(path).stat() if path else None
    except (OSError, ValueError):
        return None
    return found and (found.st_ino, found.st_ctime_ns, found.st_size)
