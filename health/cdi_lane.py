"""Keeps the CDI specifications: decides when to write them, and tells which devices they lack.

They are written when the driver answers, when the GPUs, MIG instances or IMEX channels change, when
a file is deleted or replaced by one that lacks our devices, and again while devices are missing.
"""

import functools
import math
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from health import cdi, cdi_spec, log_lines
from health.cdi import NOT_INSTALLED, OnDisk, Outcome, Task
from health.cdi_spec import GPUS, IMEX, CdiSpec, Wanted
from health.lane import Lane, Mailbox, error_in_words
from health.nvidia_ctk import Runs
from health.nvml import Nvml
from proto.messages import Gpu
from proto.monitor import CdiSettings, MonitorSettings
from proto.reasons import Reason

SIMULATED = "simulator.nvml"

NOT_YET = "not written yet"


class CdiWritten(msgspec.Struct, frozen=True):
    """What a job has written, and the files after it."""

    outcomes: tuple[Outcome, ...]
    disk: OnDisk


class CdiLane:
    """A lane for nvidia-ctk, which may be slow or hang, and what its jobs have found."""

    def __init__(self, settings: MonitorSettings, wanted: CdiSettings, mailbox: Mailbox) -> None:
        self._settings = wanted
        self._poll_interval = settings.poll_interval
        self._whole = settings.whole_gpus
        self._simulated = settings.binding == SIMULATED
        self._specs = cdi_spec.specs(wanted)
        self._lane = Lane("cdi", Nvml(), mailbox)
        self._runs = Runs()
        self._disk = cdi.on_disk(wanted)
        """The files after the newest job, or as an earlier monitor left them."""
        self._outcomes: dict[str, Outcome] = {}
        """The newest outcome of each specification, by its kind."""
        self._for: tuple[Wanted, ...] | None = None
        """The devices that the files are meant for; None: no job has known the GPUs yet."""
        self._channels: tuple[int, ...] | None = None
        """The IMEX channels of the node when their file was written; None: not known then."""
        self._awaited = False
        """Whether the inventory has to wait for the present job."""
        self._opened = self._begun = False
        self._failures = 0
        self._again_at = self._look_at = math.inf
        self.mode = GPUS
        """How nvidia-ctk finds the GPUs."""
        self._made_in = ""
        """The mode of the newest job; empty: there was none."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The CDI kinds that have a specification file."""
        files = zip(self._specs, self._disk.files, strict=True)
        return tuple(spec.kind for spec, file in files if file)

    @property
    def channels(self) -> tuple[str, ...]:
        """The IMEX channels that have a name in their file."""
        return tuple(sorted(self._disk.channels))

    def open(self, mode: str = GPUS, channels: tuple[int, ...] | None = None) -> None:
        """Write all specifications, as the driver answers; the GPUs are enumerated meanwhile.

        *mode* is the one in which nvidia-ctk finds GPUs on this node, and *channels* are the IMEX
        channels of the node, as far as that is known yet.
        """
        self._opened, self.mode, self._channels = True, mode, channels
        self._give(Task(self._specs))

    def begin(self, now: float) -> None:
        """Note that the first inventory is in effect; from now on, retry and watch the files."""
        self._begun, self._look_at = True, now + self._poll_interval

    def settled(self, gpus: Iterable[Gpu]) -> bool:
        """Return whether the specifications are those of *gpus*, or were tried in vain."""
        wanted = self._wanted(gpus)
        if self._is_of_another_mode:
            return False
        if self._lane.busy:
            return not self._awaited and self._for == wanted
        return self._for == wanted or (self._for is None and not self._lacks(wanted))

    def step(
        self,
        gpus: Iterable[Gpu],
        now: float,
        *,
        complete: bool,
        channels: tuple[int, ...] | None = None,
    ) -> None:
        """Give the lane the job that is due; *complete*: no GPU is about to be enumerated.

        *channels* are the IMEX channels of the node; None: they are not known.
        """
        if self._lane.busy or not self._opened:
            return
        wanted, before = self._wanted(gpus), self._for
        if (wanted != before or self._is_of_another_mode) and (complete or self._begun):
            self._for, self._failures = wanted, 0
            if before is not None or self._lacks(wanted) or self._is_of_another_mode:
                outdated = cdi_spec.outdated(before or (), wanted)
                self._give(Task(self._specs, wanted, outdated))
        elif self._begun and now >= self._again_at:
            self._again_at = math.inf
            self._give(Task(self._unfinished(), wanted), awaited=False)
        elif self._begun and now >= self._look_at:
            self._look_at = now + self._poll_interval
            imex = tuple(spec for spec in self._specs if spec.mode == IMEX)
            if cdi.files_of(self._settings) != self._disk.files:
                self._give(Task(self._specs, wanted), awaited=False, before=self._disk)
            elif imex and channels is not None and channels != self._channels:
                self._channels = channels
                self._give(Task(imex, wanted), awaited=False)

    @property
    def _is_of_another_mode(self) -> bool:
        """Whether the names were written when less was known of the platform."""
        return bool(self._made_in) and self._made_in != self.mode

    def deadline(self) -> float:
        """Return when the next job is due; infinity: only after the present one."""
        idle = self._begun and not self._lane.busy
        return min(self._again_at, self._look_at) if idle else math.inf

    def take(self, written: CdiWritten, now: float) -> None:
        """Keep what a job has done, and log what is new."""
        log_lines.cdi(self._outcomes, written.outcomes)
        self._outcomes |= {outcome.spec.kind: outcome for outcome in written.outcomes}
        self._disk = written.disk
        self._look_at = now + self._poll_interval
        self._failures = self._failures + 1 if self._unfinished() else 0
        waits = cdi_spec.delay(self._failures) if self._failures else math.inf
        self._again_at = now + waits

    def reasons(self, gpus: Iterable[Gpu]) -> dict[str, Reason]:
        """Return why devices of *gpus* are Unhealthy because they have no CDI name, by UUID."""
        if not self._opened:
            return {}  # the driver does not answer, which is reason enough
        outcome = self._outcomes.get(self._specs[0].kind)
        why, errors = (outcome.why, outcome.errors) if outcome else (NOT_YET, {})
        if self._simulated and why == NOT_INSTALLED:
            return {}  # no container gets a simulated GPU
        return cdi_spec.unnamed(self._wanted(gpus), self._disk.names, why, errors)

    def _wanted(self, gpus: Iterable[Gpu]) -> tuple[Wanted, ...]:
        return cdi_spec.wanted(gpus, self._settings.device_names, whole=self._whole)

    def _lacks(self, wanted: Iterable[Wanted]) -> bool:
        return cdi_spec.lacks(wanted, self._disk.names)

    def _unfinished(self) -> tuple[CdiSpec, ...]:
        """Return the specifications to write again: that of the GPUs while it lacks devices."""
        return tuple(
            spec
            for spec in self._specs
            if (spec.mode == GPUS and self._lacks(self._for or ())) or self._failed(spec)
        )

    def _failed(self, spec: CdiSpec) -> bool:
        outcome = self._outcomes.get(spec.kind)
        return outcome is not None and bool(outcome.error) and not outcome.nothing

    def _give(self, task: Task, *, awaited: bool = True, before: OnDisk | None = None) -> None:
        self._awaited, self._made_in = awaited, self.mode
        task = replace(task, mode=self.mode)
        job = functools.partial(
            _write, settings=self._settings, task=task, runs=self._runs, before=before
        )
        self._lane.give(job, functools.partial(self._after_error, task.specs))

    def _after_error(self, specs: Iterable[CdiSpec], error: Exception) -> CdiWritten:
        why = error_in_words(error)
        return CdiWritten(tuple(Outcome(s, error=why, why=why) for s in specs), self._disk)


def _write(
    nvml: Nvml, settings: CdiSettings, task: Task, runs: Runs, before: OnDisk | None
) -> CdiWritten:
    """Do *task*; *before*: only for the specifications that are gone or lack devices since then."""
    del nvml  # nvidia-ctk calls the driver itself
    if before is not None:
        task = cdi.still_due(task, before, cdi.on_disk(settings))
    outcomes = cdi.write_all(settings, task, runs)
    return CdiWritten(outcomes, cdi.on_disk(settings))
