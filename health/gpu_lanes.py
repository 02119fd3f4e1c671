"""One GPU of the driver: the two lanes that call the driver for it, and what they have found.

`calls` enumerates, checks and samples the GPU, `events` waits for its events. Each does one thing
at a time, so a GPU whose driver calls hang blocks these two threads and is called no more until
they return.
"""

import functools
import time

import msgspec
from msgspec.structs import replace

from health import enumeration, pci, watch
from health.condition import Look
from health.enumeration import Details, Enumerated, NotEnumerated, Rescanned, SystemRoots
from health.inventory import Slot
from health.known_good import with_known_good
from health.label_facts import find_facts, with_facts
from health.lane import Lane, Mailbox, error_in_words
from health.looks import look, of_absent
from health.nvml import Nvml
from health.sampling import Sampling
from health.usage import Sampled, nothing
from proto.calls import LookTime
from proto.facts import GpuFacts
from proto.messages import FailedGpu, Gpu
from proto.monitor import MonitorSettings

SLOW = 0.5
"""Seconds of a health check that is slow; a driver that is well needs a few milliseconds."""

SLOW_LOOKS = 2
"""Slow checks in a row that count as a problem of the driver."""


class Looked(msgspec.Struct, frozen=True):
    """The result of a health check, and how long it took in seconds."""

    look: Look
    seconds: float


class Sighted(msgspec.Struct, frozen=True):
    """What the watch of a GPU saw."""

    gpu: "GpuLanes"
    sight: watch.Sight


class GpuLanes:
    """Gives the lanes of one GPU their jobs, and keeps the results."""

    def __init__(
        self,
        index: int,
        nvml: Nvml,
        mailbox: Mailbox,
        roots: SystemRoots,
        settings: MonitorSettings,
    ) -> None:
        self.index = index
        self.sampling = Sampling(settings.usage_interval, settings.grey.after)
        self._rules = settings.readiness
        self.calls = Lane(f"gpu {index} calls", nvml.for_thread(), mailbox)
        self.events = Lane(f"gpu {index} events", nvml.for_thread(), mailbox)
        self.gpu: Gpu | None = None
        """What the driver says about the GPU; None: it has not been enumerated."""
        self.handle: object = None
        self.failed: FailedGpu | None = None
        self._reached = False
        self.details: Details | None = None
        """None: not known yet."""
        self.looked: Looked | None = None
        """The newest health check."""
        self.look_at = 0.0
        self._looking_since: float | None = None
        self._slow_looks = 0
        self.watch = watch.Watch()
        self.registered = False
        """Whether the GPU is registered for events now."""
        self._scan_due = self._facts_due = True
        self._facts_known = False
        self._roots = roots
        self._mailbox = mailbox

    @property
    def answered(self) -> bool:
        """Whether the enumeration has succeeded or failed."""
        return self.gpu is not None or self.failed is not None

    @property
    def settled(self) -> bool:
        """Whether everything that a start asks about the GPU is known."""
        known = self.details is not None and self.looked is not None and self._facts_known
        return self.failed is not None if self.gpu is None else known

    @property
    def newest(self) -> Look | None:
        """The newest check, or the failed enumeration as one; None: there was neither."""
        if self.gpu is None:
            return of_absent(self.slot(), ()) if self.failed else None
        return self.looked.look if self.looked else None

    @property
    def uuid(self) -> str:
        """The GPU's UUID; empty: it has not been enumerated."""
        return self.gpu.uuid if self.gpu else ""

    @property
    def partial(self) -> bool:
        """Whether the driver gave a handle, but a query of the enumeration failed."""
        return self.failed is not None and self._reached

    def holds(self, uuid: str) -> bool:
        """Return whether *uuid* is this GPU or one of its MIG instances."""
        gpu = self.gpu
        return gpu is not None and uuid in {gpu.uuid, *(mig.uuid for mig in gpu.instances)}

    def slot(self) -> Slot:
        """Return the GPU for the inventory."""
        return Slot(self.index, self.gpu, self.failed)

    def rescan(self) -> None:
        """Enumerate the GPU or its MIG instances again soon, and ask whether its fabric changed."""
        self._scan_due = True
        fabric = self.gpu.facts.fabric if self.gpu else None
        self._facts_due |= fabric is not None and fabric.may_change

    def step(self, now: float, poll_interval: float, *, lost: bool) -> None:
        """Give each idle lane the job that is due."""
        if not self.calls.busy:
            self._call(now, poll_interval)
        if self._is_to_watch(lost=lost) and now >= self.watch.again_at:
            tell = functools.partial(_tell, self._mailbox, self)
            job = functools.partial(
                watch.watch, handle=self.handle, tell=tell, given_away=self._given_away
            )
            self.events.give(job, watch.after_error)

    def _given_away(self) -> bool:
        """Return whether the kernel has given the GPU to another driver; any lane may ask."""
        gpu = self.gpu
        return bool(gpu and pci.passthrough(self._roots.sysfs, gpu.pci_bus_id))

    def _is_to_watch(self, *, lost: bool) -> bool:
        # A wait for the events of a lost GPU fails at once.
        return bool(self.gpu and self.gpu.events and not lost and not self.events.busy)

    def _call(self, now: float, poll_interval: float) -> None:
        if self.gpu is None:
            if self._scan_due:
                self._scan_due = False
                job = functools.partial(
                    enumeration.enumerate_gpu, index=self.index, roots=self._roots
                )
                self.calls.give(job, self._not_enumerated)
        elif self.details is None:
            find = functools.partial(enumeration.find_details, handle=self.handle)
            self.calls.give(find, lambda _: enumeration.UNKNOWN)
        elif self._scan_due:
            self._scan_due = False
            again = functools.partial(
                enumeration.rescan, handle=self.handle, gpu=self.gpu, roots=self._roots
            )
            known = self.gpu
            self.calls.give(again, lambda _: enumeration.unchanged(known))
        elif now >= self.look_at:
            self.look_at, self._looking_since = now + poll_interval, now
            check = functools.partial(self._timed_look, handle=self.handle, gpu=self.gpu)
            # A start waits for the first check.
            self.calls.give(check, _unreadable, in_turn=self.looked is not None)
        elif self._facts_due:
            self._facts_due = False
            sysfs = self._roots.sysfs
            facts = functools.partial(find_facts, handle=self.handle, gpu=self.gpu, sysfs=sysfs)
            self.calls.give(facts, functools.partial(_same_facts, self.gpu))
        elif now >= self.sampling.due_at and self._is_well:
            sample = self.sampling.job(self.handle, self.gpu, now)
            self.calls.give(sample, lambda _: nothing(now), in_turn=True)

    def _not_enumerated(self, error: Exception) -> NotEnumerated:
        return NotEnumerated(FailedGpu(self.index, error_in_words(error)), reached=True)

    def _timed_look(self, nvml: Nvml, handle: object, gpu: Gpu) -> Looked:
        """Check the GPU, in its lane."""
        began = time.monotonic()
        found = look(nvml, handle, gpu, self._roots, self._rules)
        return Looked(replace(found, began=began), time.monotonic() - began)

    @property
    def _is_well(self) -> bool:
        """Whether the newest check could read the GPU."""
        if self.looked is None:
            return False
        look = self.looked.look
        return not (look.lost or look.failed or pci.is_given_away(look.ailments))

    def deadline(self, *, lost: bool) -> float:
        """Return when the next job is due; infinity: only after a lane has finished its job."""
        look = self.look_at if self.gpu and not self.calls.busy else float("inf")
        if self._is_well and not self.calls.busy:
            look = min(look, self.sampling.due_at)
        again = self.watch.again_at if self._is_to_watch(lost=lost) else float("inf")
        return min(look, again)

    def take(self, result: object) -> None:
        """Keep what the lane `calls` has found."""
        match result:
            case Enumerated():
                self.gpu, self.handle, self.failed = result.gpu, result.handle, None
                self._scan_due = False
            case NotEnumerated():
                self.failed, self._reached = result.failed, result.reached
            case Details() if self.gpu:
                self.details = result
                now = replace(
                    self.gpu,
                    nvlinks=result.peers.total(),
                    ecc=result.ecc,
                    switches=result.switches,
                )
                self.gpu = with_known_good(now, [self.gpu])
            case GpuFacts() if self.gpu:
                self.gpu, self._facts_known = with_facts(self.gpu, result), True
            case Rescanned() if self.gpu:
                self.gpu = result.of(self.gpu)
            case Looked():
                self._take_look(result)
            case Sampled():
                self.sampling.take(result)
            case _:
                raise AssertionError(f"cannot happen: a lane reports {result}")

    def _take_look(self, looked: Looked) -> None:
        self.looked, self._looking_since = looked, None
        self._slow_looks = self._slow_looks + 1 if looked.seconds > SLOW else 0
        if not self._is_well:
            self.sampling.forget()

    @property
    def slow(self) -> bool:
        """Whether the newest checks were slow; a slow GPU is not Unhealthy for that."""
        return self._slow_looks >= SLOW_LOOKS

    def look_time(self, now: float, limit: float) -> LookTime | None:
        """Return how long the newest check took, or the present one if that takes longer.

        It is slow too while it takes more than *limit* seconds, unless a call of it hangs.
        """
        if self.gpu is None or self.looked is None:
            return None
        present = now - self._looking_since if self._looking_since else 0.0
        slow = self.slow or (present > limit and not self.calls.late(now, limit))
        return LookTime(self.gpu.uuid, max(self.looked.seconds, present), slow)

    def poll_only(self) -> None:
        """Show the GPU as one that reports no events."""
        if self.gpu:
            self.gpu = replace(self.gpu, events=False)


def _unreadable(error: Exception) -> Looked:
    return Looked(Look(failed=error_in_words(error)), 0.0)


def _same_facts(gpu: Gpu, error: Exception) -> GpuFacts:
    del error
    return gpu.facts


def _tell(mailbox: Mailbox, gpu: GpuLanes, sight: watch.Sight) -> None:
    mailbox.put(Sighted(gpu, sight))
