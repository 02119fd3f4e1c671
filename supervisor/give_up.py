"""Decide when the service exits because only a new container can use the GPUs again.

Each report of a monitor that could not start is judged, and nothing between two reports. So the
service never exits while a monitor is starting: its access may have come back.
"""

from dataclasses import replace

from proto.control import NotReady
from supervisor.state import Lost, Served

SHOWN = 10.0
"""Seconds for which /livez fails before the exit: the period of the probe in our manifests."""


def after_report(served: Served, report: NotReady, limit: float, now: float) -> Lost | None:
    """Return the loss of the GPUs after the *report* of a monitor; None: a new one may succeed.

    A service that has not found any GPU yet has lost none: failOnInitError decides there. *limit*
    is in seconds, 0 for never.
    """
    if not (limit and report.needs_restart) or served.plans is None or served.quiesced:
        return None
    lost = replace(served.lost or Lost(since=now), reason=report.reason)
    if lost.exits_since is None and now - lost.since >= limit:
        return replace(lost, exits_since=now)
    return lost


def is_due(lost: Lost | None, limit: float, now: float) -> bool:
    """Return whether to exit now: /livez has failed for SHOWN, or for *limit* if that is less."""
    if lost is None or lost.exits_since is None:
        return False
    return now - lost.exits_since >= min(SHOWN, limit)
