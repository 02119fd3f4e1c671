"""Read the configuration in a process of its own, so that a slow file or disk delays only that.

The process writes the settings, or why they cannot be used, into a file in memory, and ends.
"""

import os
from collections.abc import Callable

import msgspec

from proto.channel import Channel
from proto.control import ExitCode
from proto.memory_file import memory_file
from supervisor.child import Process, Spec, describe
from supervisor.config.choose_file import Wish
from supervisor.config.refusal import SettingsError

NAME = "configuration"
"""In the process title and in the log."""

WITHIN = 30.0
"""Seconds until a reading that does not end counts as failed."""

TOO_SLOW = (
    f"cannot read the configuration within {WITHIN:g} s: check its disk, or make its files smaller"
)

LARGEST = 16 << 20
"""Most bytes of the settings; a file of 256 KiB gives less than 4 MiB."""


class Job(msgspec.Struct, frozen=True):
    """What the process gets."""

    read: Callable[[Wish], bytes]
    wish: Wish
    result: int
    """Descriptor of the file in memory."""


def main(job: Job, channel: Channel, epoch: int) -> int:
    """Read the configuration and return the exit code, which says what was written."""
    del channel, epoch  # it is not told anything
    code = ExitCode.DONE
    try:
        result = job.read(job.wish)
    except SettingsError as error:
        code, result = ExitCode.USAGE, str(error).encode()
    with open(job.result, "wb", closefd=False) as file:
        file.write(result)
    return code


class Reading:
    """A process that reads the configuration."""

    def __init__(
        self,
        fork: Callable[[Spec, int], Process],
        read: Callable[[Wish], bytes],
        wish: Wish,
        now: float,
    ) -> None:
        """Start the process; raise OSError if that fails."""
        self.wish = wish
        self.deadline: float | None = now + WITHIN
        """When to call `kill`; None: it was called."""
        self._memory = memory_file(NAME)
        job, passed = Job(read, wish, self._memory), frozenset({self._memory})
        try:
            self._process = fork(Spec(NAME, "supervisor.reading", job, descriptors=passed), 1)
        except OSError:
            os.close(self._memory)
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        return self._process.sentinel

    def kill(self) -> None:
        """End the process, because it takes too long."""
        self.deadline = None
        self._process.kill()

    def result(self) -> bytes:
        """Return the settings that the process has read; raise SettingsError if there are none.

        Call it once, after the process has ended.
        """
        code = self._process.reap()
        found = os.pread(self._memory, min(os.fstat(self._memory).st_size, LARGEST), 0)
        os.close(self._memory)
        if self.deadline is None:
            raise SettingsError(TOO_SLOW)
        if code == ExitCode.USAGE:
            raise SettingsError(found.decode())
        if code != ExitCode.DONE:
            raise SettingsError(
                f"cannot read the configuration: the process that reads it ended: {describe(code)}"
            )
        return found
