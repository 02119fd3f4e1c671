"""One child process: how the supervisor forks it, and what each child does first."""

import contextlib
import importlib
import os
import signal
from collections.abc import Iterable

import msgspec
import multiprocess
from loguru import logger

from proto.channel import Channel
from proto.control import ExitCode, NotReady, Order
from proto.host import die_with
from proto.safe_paths import UnsafeError
from supervisor import logs, privileges
from supervisor.title import set_title


class Spec(msgspec.Struct, frozen=True):
    """The specification of a child process."""

    name: str
    module: str
    """The module whose `main(settings, channel, epoch)` the process runs."""
    settings: object
    takes: tuple[type[Order], ...] = ()
    """The orders that the process takes besides Stop."""
    essential: bool = False
    """Whether the service can serve nothing without this process; true for the monitor."""
    descriptors: frozenset[int] = frozenset()
    """Descriptors of the supervisor that the process keeps open."""
    keeps: tuple[int, ...] = ()
    """The capabilities that the process does not give up."""
    change: Order | None = None
    """The order that gives these settings to a running process; None: only a new one gets them."""
    fixed: object = None
    """What of these settings only a new process can take."""
    lingers: bool = False
    """Whether the process may need any time to withdraw; it then exits with DONE by itself."""


class Logging(msgspec.Struct, frozen=True):
    """The log settings of child processes."""

    form: logs.Format = logs.Format.TEXT
    level: logs.Level = logs.Level.INFO


class Process:
    """A running child process and the channel to it."""

    def __init__(self, spec: Spec, epoch: int, logging: Logging) -> None:
        """Fork the process; raise OSError if the fork fails."""
        _require_forkable()
        inherited = _descriptors() - spec.descriptors
        self.channel, end = Channel.pair()
        birth = _Birth(spec, epoch, logging, os.getpid(), inherited)
        self._process = multiprocess.get_context("fork").Process(
            target=_run, args=(birth, end), name=spec.name, daemon=True
        )
        # Until the child has reset its signals, it shares the supervisor's descriptor for them: the
        # supervisor would take a signal to the child for its own.
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
        """A descriptor that becomes readable once the process can be reaped.

        Not the sentinel of multiprocess, a pipe that the child closes when it exits: if the driver
        blocks the child during its exit, that pipe is readable, but reaping would block.
        """
        return self._pidfd

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def reap(self) -> int:
        """Reap the process, which has ended; return its exit code, or -N after signal N."""
        self._process.join()
        code = int(self._process.exitcode)
        self._process.close()
        os.close(self._pidfd)
        self.channel.close()
        return code


def describe(code: int) -> str:
    """Return the exit code *code* in words, for the log."""
    if code < 0:
        # Most real-time signals have no name.
        names = {known.value: known.name for known in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"
    name = f" ({ExitCode(code).name})" if code in set(ExitCode) else ""
    return f"exit code {code}{name}"


def _require_forkable() -> None:
    """Refuse to fork with several threads: a lock that another thread holds stays locked."""
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208 - names are all we need
        raise RuntimeError("cannot fork: the supervisor has more than one thread")


def _descriptors() -> frozenset[int]:
    return frozenset(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208


class _Birth(msgspec.Struct, frozen=True):
    """What a child process gets from the supervisor."""

    spec: Spec
    epoch: int
    logging: Logging
    parent: int
    inherited: frozenset[int]


def _run(birth: _Birth, channel: Channel) -> None:
    """Close the supervisor's descriptors, set up the child, and run its main function."""
    spec, logging = birth.spec, birth.logging
    _shed(birth.inherited, keep={0, 1, 2, channel.fileno()})
    die_with(birth.parent)
    refused = privileges.keep(spec.keeps)
    _reset_signals()
    set_title(spec.name)
    logs.set_up(spec.name, logging.form, logging.level)
    if refused:
        logger.warning("cannot give up capabilities", reason=refused)
    code: int = ExitCode.FAILED
    try:
        code = importlib.import_module(spec.module).main(spec.settings, channel, birth.epoch)
    except UnsafeError as error:  # each child checks the folders that it uses, so at each start
        channel.send(NotReady(reason=str(error)))
        code = ExitCode.NOT_READY
    except Exception:  # noqa: BLE001 - the process ends here, so every error has to be logged
        logger.exception("process crashed")
    # Not sys.exit: it would wait for threads that libraries have left running.
    os._exit(code)


def _shed(inherited: Iterable[int], keep: set[int]) -> None:
    """Close the supervisor's descriptors: an open channel would hide the end of another child."""
    for descriptor in set(inherited) - keep:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _reset_signals() -> None:
    """Let SIGTERM end the child; ignore Ctrl-C and SIGHUP, which the supervisor handles."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
