"""The service on a node without a GPU: one process that answers the probes, and waits for a GPU.

    signals ──┐                         ┌── Stop to the exporter
              ├── one asyncio loop ─────┼── ServiceState to the exporter, every second
    timer ────┘   with the exporter     └── systemd

It has neither the supervisor nor the children of the service, so it takes a third of their memory.
When something changes that may be a GPU, it exits: the service then starts with all its processes,
and the health monitor asks the driver again.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from loguru import logger

from health import pci_gpus, platform_files
from health.lane import Done, Lane, Mailbox
from health.nvml import Nvml
from health.pci_gpus import PciGpu
from health.platform import NO_PLATFORM
from proto.channel import Channel, ClosedError
from proto.control import ConfigurationState, ExitCode, NotReady, ProcessState, ServiceState, Stop
from proto.driver import NOTHING_TO_SERVE, DriverState
from proto.exporter import ExporterSettings
from supervisor.exporter import main as exporter

SYSFS, PROCFS = Path("/sys"), Path("/proc")

LIBRARIES = (
    "usr/lib64/libnvidia-ml.so.1",
    "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    "usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
)
"""Where a driver's library appears below the driver root, as a rule."""


@dataclass(frozen=True, slots=True)
class GpuSigns:
    """What shows that a node may have got a GPU."""

    gpus: tuple[PciGpu, ...] | None
    driver: tuple[str, ...]
    """The files of a driver, or of a platform with GPUs of another kind, that exist."""


def signs(root: Path, sysfs: Path = SYSFS, procfs: Path = PROCFS) -> GpuSigns:
    """Read the signs; *root* is the driver's root as this process sees it."""
    files = (procfs / "driver/nvidia/version", *(root / library for library in LIBRARIES))
    # Not Path.exists, which raises OSError in a folder that may not be read.
    there = [str(file) for file in files if os.path.exists(file)]  # noqa: PTH110
    found = filter(None, platform_files.signs(dict.fromkeys((root, Path("/"))), sysfs))
    return GpuSigns(pci_gpus.gpus(sysfs), (*there, *found))


class Wait:
    """Compares the signs with those of the start, at most once in *interval* seconds.

    A thread of its own looks at them: a mount of the host may be dead, and the probes still have to
    be answered.
    """

    def __init__(
        self, look: Callable[[], GpuSigns], interval: float, now: float, *, missed: bool = False
    ) -> None:
        """Wait for a change; if one was *missed* before the start, for one interval only."""
        self.mailbox = Mailbox()
        """What the thread reports; readable after each look."""
        self._lane = Lane("signs", Nvml(), self.mailbox)
        self._look = look
        self._missed = missed
        self._interval = interval
        self._first: object = None
        self._changed = self._told = False
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._due = now + self._interval
        self._lane.give(lambda _: self._look())

    def is_over(self, now: float) -> bool:
        """Return whether the signs have changed."""
        for done in self.mailbox.take():
            if isinstance(done, Done):
                self._take(done.result)
        if self._changed or now < self._due:
            return self._changed
        if self._lane.busy and not self._told:
            self._told = True
            logger.warning("cannot look for a GPU: a file system does not answer")
        if not self._lane.busy:
            self._begin(now)
        return self._missed

    def _take(self, found: object) -> None:
        if isinstance(found, BaseException):
            raise found
        self._lane.busy = self._told = False
        self._first = self._first or found
        self._changed = found != self._first


class Systemd(Protocol):
    """Hears of the state of the service."""

    def tell(self, status: str, *, ready: bool) -> None:
        """Send the *status*, and that the service lives."""

    def stopping(self) -> None:
        """Send that the service is stopping."""


def main(
    settings: ExporterSettings,
    configuration: str,
    root: str,
    interval: float,
    systemd: Systemd,
) -> int:
    """Run until a signal or a sign of a GPU; return the exit code.

    *configuration* is the hash of the settings, and *root* the driver's root as this process sees
    it. GpuSigns are read each *interval* seconds.
    """
    state = pci_gpus.without_driver(SYSFS, PROCFS)
    missed = state not in NOTHING_TO_SERVE  # a GPU has come since the monitor looked
    if missed:
        state = DriverState.NO_GPU
    logger.info("waiting for a GPU", reason=NOTHING_TO_SERVE[state])
    wait = Wait(lambda: signs(Path(root)), float(interval), time.monotonic(), missed=missed)
    told = ServiceState(
        processes=(ProcessState("supervisor", "running", restarts=0, pid=os.getpid()),),
        planned=(),
        notices=(NOTHING_TO_SERVE[state],),
        configuration=ConfigurationState(configuration, loaded=time.time()),
        driver=state,
        platform=NO_PLATFORM,
    )
    small = msgspec.structs.replace(settings, pod_resources_socket="")
    waiting = Waiting(small, told, wait, systemd)
    while (code := asyncio.run(waiting.run())) == ExitCode.AGAIN:
        pass  # with a new certificate or token
    return ExitCode.FAILED if code == ExitCode.NOT_READY else code


def _reap() -> None:
    """Reap what ended: processes from before this one took over, or of the container's others."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class Waiting:
    """The exporter, and what the supervisor would tell it."""

    def __init__(
        self, settings: ExporterSettings, told: ServiceState, wait: Wait, systemd: Systemd
    ) -> None:
        self._settings = settings
        self._told = told
        self._wait = wait
        self._systemd = systemd
        self._code = ExitCode.DONE

    async def run(self) -> int:
        """Run the exporter until there is a reason to end; return the exit code."""
        ours, its = Channel.pair()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, ours, number)
        # What the files say counts when the service starts with all its processes.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # those that came before wait until now
        telling = loop.create_task(self._tell(ours))
        code = await exporter.live(self._settings, its)
        telling.cancel()
        self._drain(ours)
        return self._code or code

    def _on_signal(self, ours: Channel, number: signal.Signals) -> None:
        logger.info("received a signal, stopping", signal=number.name)
        self._systemd.stopping()
        ours.send(Stop())

    async def _tell(self, ours: Channel) -> None:
        while True:
            self._drain(ours)
            _reap()
            ours.send(self._told)
            self._systemd.tell(f"{self._told.notices[0]}, waiting for one", ready=True)
            if self._wait.is_over(time.monotonic()):
                logger.info("exiting: this node may have a GPU now")
                self._code = ExitCode.FAILED
                ours.send(Stop())
            await asyncio.sleep(1.0)

    def _drain(self, ours: Channel) -> None:
        """Read the exporter's reports, of which only a failure matters here."""
        try:
            while report := ours.receive():
                if isinstance(report, NotReady):
                    logger.error("process is not ready", child="exporter", reason=report.reason)
        except ClosedError:
            return
