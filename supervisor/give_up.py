"""Decide when the service exits because only a new container can use the GPUs again.

That is so after access was lost, and where the driver came after the container: a container keeps
the /dev and the libraries that it was created with. Each report of a monitor that could not start
is judged, and nothing between two reports. So the service never exits while a monitor is starting:
its access may have come back.
"""

from msgspec.structs import replace

from proto.control import ExitCode, NotReady, Unknown
from proto.driver import NOTHING_TO_SERVE, DriverState
from proto.reasons import Reason
from supervisor.state import Lost, Served

NEVER_SERVED = 10
"""How many times longer a service waits that has never had access to a GPU: 10 minutes, as a rule.
The kubelet then starts the new container without a back-off."""

SHOWN = 10.0
"""Seconds for which /livez fails before the exit: the period of the probe in our manifests."""


def after_report(served: Served, report: NotReady, limit: float, now: float) -> Lost | None:
    """Return the loss of the GPUs after the *report* of a monitor; None: a new one may succeed.

    *limit* is in seconds, 0 for never. It is longer for a service that has never had GPUs, unless
    its driver came late: a new container will have none either if it is made without access.
    """
    if not (limit and report.needs_restart) or served.quiesced:
        return None
    lost = replace(served.lost or Lost(since=now), reason=report.reason)
    promising = served.plans is not None or served.came_late
    patience = limit if promising else limit * NEVER_SERVED
    if lost.exits_since is None and now - lost.since >= patience:
        return replace(lost, exits_since=now)
    return lost


def unknown_after(report: NotReady, epoch: int) -> Unknown:
    """Return why all devices are Unhealthy after the *report* of a monitor's start *epoch*."""
    return Unknown(Reason(report.kind, report.detail or report.reason), epoch)


def refused(served: Served, report: NotReady, unknown: Unknown, limit: float, now: float) -> Served:
    """Return the state after the *report* of the monitor, and *unknown* for the workers."""
    had_none = report.driver is DriverState.MISSING and not report.needs_restart
    late = served.came_late or report.came_late or had_none
    served = replace(served, came_late=late, unknown=unknown, driver=report.driver)
    return replace(served, lost=after_report(served, report, limit, now))


def finds_nothing(served: Served, report: NotReady) -> bool:
    """Return whether the first *report* of the monitor is that the node has nothing to serve."""
    return report.driver in NOTHING_TO_SERVE and served.plans is None


def at_second_stop(first: ExitCode, code: ExitCode) -> ExitCode:
    """Return the exit code when the service is told to stop while it stops with code *first*."""
    return code if first is ExitCode.NO_GPU else first


def is_due(lost: Lost | None, limit: float, now: float) -> bool:
    """Return whether to exit now: /livez has failed for SHOWN, or for *limit* if that is less."""
    if lost is None or lost.exits_since is None:
        return False
    return now - lost.exits_since >= min(SHOWN, limit)
