"""A thread for driver calls, so that a call that hangs or is slow holds up nothing else."""

import functools
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

import msgspec

from health.nvml import Nvml

TURN = 0.05
"""Seconds after which a job no longer waits for the one before it."""


class JobTurns:
    """Lets jobs of several lanes run one after the other, unless one takes long.

    Short jobs at the same time would cost several times the processor time: each driver call lets
    another thread of the interpreter go on, and has to wait until that one makes a call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def take(self, job: Callable[[Nvml], object], nvml: Nvml) -> object:
        """Run *job* when it is its turn, or after TURN seconds: one that hangs holds up none."""
        mine = self._lock.acquire(timeout=TURN)
        try:
            return job(nvml)
        finally:
            if mine:
                self._lock.release()


class Mailbox:
    """What the lanes report, in order, and a descriptor to wait on."""

    def __init__(self) -> None:
        self._items: deque[object] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.turns = JobTurns()
        """For the short jobs of all lanes that report here."""

    def fileno(self) -> int:
        """Return the file descriptor that is readable while reports wait."""
        return self._wake

    def put(self, item: object) -> None:
        """Add a report; any thread may call this."""
        self._items.append(item)
        os.eventfd_write(self._wake, 1)

    def take(self) -> list[object]:
        """Return the reports since the last call, in order."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return []
        items = []
        while self._items:
            items.append(self._items.popleft())
        return items


class Done(msgspec.Struct, frozen=True):
    """The report that a lane has finished its job: the job's result, or its error."""

    lane: "Lane"
    result: object
    error: Exception | None = None
    """What the job raised, though no job should; the result is what the giver wanted then."""


Job = Callable[[Nvml], object]

Instead = Callable[[Exception], object]
"""Makes the result of a job that has raised an error."""


def _itself(error: Exception) -> object:
    return error


def error_in_words(error: Exception) -> str:
    """Return the *error* of a job that should raise none."""
    return f"{type(error).__name__}: {error}"


class Lane:
    """A thread that does one job at a time and puts the result into the mailbox.

    Nothing can interrupt a driver call: a lane whose call hangs stays busy until the call returns.
    """

    def __init__(self, name: str, nvml: Nvml, mailbox: Mailbox) -> None:
        self.name = name
        self.nvml = nvml
        """Used by the thread only, except for `running` and `stats`."""
        self.busy = False
        """Whether a job was given whose result the loop has not taken yet."""
        self.told = ""
        """The error of a job that was logged last."""
        self._mailbox = mailbox
        self._jobs: SimpleQueue[tuple[Job, Instead]] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def give(self, job: Job, instead: Instead = _itself, *, in_turn: bool = False) -> None:
        """Start *job*, or *in_turn* after those of other lanes; the lane must not be busy.

        If the job raises, *instead* makes the result of that: a GPU whose driver answers nonsense
        must take no other along. As a rule, the loop raises the error again.
        """
        self.busy = True
        job = functools.partial(self._mailbox.turns.take, job) if in_turn else job
        self._jobs.put((job, instead))

    def late(self, now: float, limit: float) -> str:
        """Return the call that should have returned *limit* seconds ago; empty: there is none."""
        running = self.nvml.running
        return running.call if running and now - running.due > limit else ""

    def _run(self) -> None:
        while True:
            job, instead = self._jobs.get()
            try:
                done = Done(self, job(self.nvml))
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop decides
                done = Done(self, instead(error), error)
            except BaseException as error:  # noqa: BLE001 - the loop raises it again
                done = Done(self, error)
            self._mailbox.put(done)
