"""Decide when to read the configuration again, and keep the last good one."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from loguru import logger
from msgspec.structs import replace

from proto.cluster import Labelled, Unlabelled
from proto.control import ConfigurationState
from simulator.node import NodeError
from supervisor.config.choose_file import Wish
from supervisor.config.refusal import SettingsError
from supervisor.reading import NAME, TOO_SLOW, Reading
from supervisor.reload_schedule import Schedule
from supervisor.state import Service, ServiceSource

Stamp = tuple[int, int, int]
"""Inode, ctime in nanoseconds and size of a file."""

Stamps = tuple[Stamp | None, Stamp | None]

LABEL_WITHIN = 1.0
"""Seconds in which an API server usually answers: no warning before."""


class Reload:
    """Holds the service as the last good configuration describes it."""

    def __init__(self, source: ServiceSource) -> None:
        """Read the configuration.

        Raises SettingsError if it cannot be used, NodeError if the service cannot be prepared.
        """
        self._source = source
        self._label: str | None = None
        self.service = source.compose(source.read(Wish()))
        self.service.prepare()
        self.state = _state(self.service)
        # The first tick reads the files again: until now nobody knew which files to watch.
        self._stamps: Stamps = (None, None)
        self._warn_at: float | None = time.monotonic() + LABEL_WITHIN
        self._schedule = Schedule()
        self._reading: Reading | None = None

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

    def hear(self, report: Labelled | Unlabelled) -> None:
        """Note what the cluster process reports of the node's label."""
        if isinstance(report, Labelled):
            self.labelled(report.value)
        else:
            self.unlabelled(report.reason)

    def labelled(self, value: str) -> None:
        """Note the *value* of the node's label; have its file read if it changed."""
        before, self._label = self._label, value
        if value != before:
            self.ask(urgent=before is None)

    @property
    def asked(self) -> bool:
        """Whether the configuration is to be read again."""
        return self._schedule.asked

    def ask(self, *, urgent: bool = False) -> None:
        """Have the configuration read again as soon as the schedule allows it."""
        urgent = urgent or self._schedule.urgent
        self._schedule = replace(self._schedule, asked=True, urgent=urgent)

    def look(self) -> None:
        """Have the configuration read again if the file, or the folder of files, has changed."""
        if self._reading is None and _stamps(self.service) != self._stamps:
            self.ask()

    def sources(self) -> list[object]:
        """Return what the loop has to wait for."""
        return [self._reading.sentinel] if self._reading else []

    def deadline(self, now: float) -> float | None:
        """Return when to call `go_on` if no event comes first; None: it need not be called."""
        return self._reading.deadline if self._reading else self._schedule.deadline(now)

    def go_on(self, ready: set[object], now: float, *, settled: bool) -> Wish | None:
        """Begin to read if it is time; return the wish for which a reading has ended now.

        *settled*: whether the last change has taken effect. After a reading, `service` and `state`
        are new, or else `state` says why the old service stays.
        """
        if self._reading is None:
            if self._schedule.due(now, settled=settled):
                self._begin(now)
            return None
        if self._reading.sentinel in ready:
            reading, self._reading = self._reading, None
            self.take(reading.result, now)
            return reading.wish
        if self._reading.deadline is not None and now >= self._reading.deadline:
            # At once: if the disk hangs, the process may never end.
            self._complain(TOO_SLOW)
            self._reading.kill()
        return None

    def pids(self) -> frozenset[int]:
        """Return the PID of the process that reads, if there is one."""
        return frozenset({self._reading.pid}) if self._reading else frozenset()

    def end(self) -> None:
        """Stop reading, because the service is stopping."""
        if self._reading:
            self._reading.kill()

    def wish(self, now: float) -> Wish:
        """Return what to read now; a change of the files from now on is one more change."""
        self._stamps = _stamps(self.service)
        self._schedule = self._schedule.begun(now)
        return Wish(self._label, self.service.chosen)

    def _begin(self, now: float) -> None:
        wish = self.wish(now)
        try:
            self._reading = Reading(self.service.fork, self._source.read, wish, now)
        except OSError as error:
            logger.error("cannot fork a process, retrying", child=NAME, error=str(error))
            self._schedule = self._schedule.failed(now)

    def take(self, read: Callable[[], bytes], now: float) -> None:
        """Use what *read* returns, or keep the old service and note why."""
        before = self.service
        try:
            self._use(self._source.compose(read()))
        except (SettingsError, NodeError) as error:
            self._complain(str(error))
        self._schedule = self._schedule.done(now, changed=self.service is not before)

    def _use(self, service: Service) -> None:
        changed = service.configuration_hash != self.state.hash
        if changed:
            service.prepare()
        # While the label is missing, the API server's answer says more than the configuration.
        waits = self._label is None and service.configuration_problem
        self._complain((waits and self.state.problem) or service.configuration_problem)
        if changed:
            hashed = service.configuration_hash
            logger.info("applying the new configuration", hash=hashed, **_file(service))
            self.service, self.state = service, _state(service)

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
