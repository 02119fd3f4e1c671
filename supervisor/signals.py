"""Signals as data: what was sent to this process is read from a descriptor, in the loop."""

import os
import signal


class SignalPipe:
    """Carries SIGTERM, SIGINT and SIGHUP; nothing happens in their handlers."""

    def __init__(self) -> None:
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _carried_by_the_pipe)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a signal came."""
        return self._read

    def take(self) -> list[signal.Signals]:
        """Return the signals that came since the last call."""
        return [signal.Signals(number) for number in os.read(self._read, 1024)]


def _carried_by_the_pipe(_number: int, _frame: object) -> None:
    """Leave the signal to the loop."""
