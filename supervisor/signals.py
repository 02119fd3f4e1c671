"""Signals as data: the loop reads the signals to this process from a descriptor."""

import os
import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def hold_back() -> None:
    """Let signals that come from now on wait, also over exec, until they are let through.

    A process that has no handlers yet would die of them, or as PID 1 of a container miss them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


class SignalPipe:
    """Passes SIGTERM, SIGINT and SIGHUP to the loop; their handlers do nothing."""

    def __init__(self) -> None:
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _carried_by_the_pipe)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a signal arrives."""
        return self._read

    def take(self) -> list[signal.Signals]:
        """Return the signals that arrived since the last call."""
        return [signal.Signals(number) for number in os.read(self._read, 1024)]


def _carried_by_the_pipe(_number: int, _frame: object) -> None:
    """Do nothing: the loop handles the signal."""
