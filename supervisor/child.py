"""One child process: fork it, and what every child does first in its life."""

import contextlib
import importlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass

import multiprocess
import setproctitle
from loguru import logger

from proto.channel import Channel
from proto.control import ExitCode, Order
from proto.host import die_with
from supervisor import logs

TITLE = "gpu-sharing-plugin: {}"


@dataclass(frozen=True, slots=True)
class Spec:
    """What a child is: the module whose `main(settings, channel, epoch)` it runs, and more."""

    name: str
    module: str
    settings: object
    takes: tuple[type[Order], ...] = ()
    """The orders it takes beside Stop."""
    essential: bool = False
    """Without it there is nothing to serve."""


@dataclass(frozen=True, slots=True)
class Logging:
    """How children log."""

    form: logs.Format = logs.Format.TEXT
    level: logs.Level = logs.Level.INFO


class Process:
    """A child process and the channel to it."""

    def __init__(self, spec: Spec, epoch: int, logging: Logging) -> None:
        """Fork; raise OSError where the system does not let us."""
        _require_forkable()
        inherited = _descriptors()
        self.channel, end = Channel.pair()
        birth = _Birth(spec, epoch, logging, os.getpid(), inherited)
        self._process = multiprocess.get_context("fork").Process(
            target=_run, args=(birth, end), name=spec.name, daemon=True
        )
        # A signal that reached the child before it has put its own house in order would be taken
        # for one of the supervisor's: both still share the descriptor that signals are written to.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._process.start()
        except OSError:
            self.channel.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            end.close()
        self._pidfd = os.pidfd_open(self.pid)

    @property
    def pid(self) -> int:
        """The process id."""
        return int(self._process.pid)

    @property
    def sentinel(self) -> int:
        """A descriptor that is readable once the process can be reaped.

        Not multiprocess' own, a pipe that the child closes at its end: when the driver holds the
        child up in the middle of that, it is readable and yet reaping the child would block.
        """
        return self._pidfd

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def reap(self) -> int:
        """Collect the process, which is gone; return its exit code, -N if signal N killed it."""
        self._process.join()
        code = int(self._process.exitcode)
        self._process.close()
        os.close(self._pidfd)
        self.channel.close()
        return code


def describe(code: int) -> str:
    """Return an exit code in words."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    name = f" ({ExitCode(code).name})" if code in set(ExitCode) else ""
    return f"exit code {code}{name}"


def _require_forkable() -> None:
    """Refuse to fork beside other threads: a lock that one holds stays locked in the child."""
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208 - names are all we need
        raise RuntimeError("cannot fork: the supervisor has more than one thread")


def _descriptors() -> frozenset[int]:
    return frozenset(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208


@dataclass(frozen=True, slots=True)
class _Birth:
    """What a child takes with it from the supervisor."""

    spec: Spec
    epoch: int
    logging: Logging
    parent: int
    inherited: frozenset[int]


def _run(birth: _Birth, channel: Channel) -> None:
    """Become the child: nothing of the supervisor's stays open, then run the child's own main."""
    spec, logging = birth.spec, birth.logging
    _shed(birth.inherited, keep={0, 1, 2, channel.fileno()})
    die_with(birth.parent)
    _reset_signals()
    setproctitle.setproctitle(TITLE.format(spec.name))
    logs.set_up(spec.name, logging.form, logging.level)
    code: int = ExitCode.FAILED
    try:
        code = importlib.import_module(spec.module).main(spec.settings, channel, birth.epoch)
    except Exception:  # noqa: BLE001 - the end of the line: whatever it is, it is logged
        logger.exception("process crashed")
    # Not sys.exit: threads that libraries left behind must not keep a finished child alive.
    os._exit(code)


def _shed(inherited: Iterable[int], keep: set[int]) -> None:
    """Close what the supervisor had open: a channel held open here would hide a sibling's end."""
    for descriptor in set(inherited) - keep:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _reset_signals() -> None:
    """SIGTERM ends a child at once; Ctrl-C and SIGHUP go to the group and are the supervisor's."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
