"""What programs that repair nodes are told of a device: fields that do not change."""

from collections.abc import Mapping

from health.remedies import what_to_do
from proto.reasons import Reason
from supervisor.cluster.node_view import DeviceView

PREFIX = "gpu-sharing-plugin"
"""Of the annotations of our Events."""

HELD = {True: "true", False: "false", None: "unknown"}


def fields(uuid: str, device: DeviceView) -> dict[str, str]:
    """Return the fields about a device."""
    reasons = device.own or device.reasons
    due = what_to_do(reasons, device.state)
    return {
        "gpu": device.index,
        "uuid": uuid,
        "gpu-uuid": device.gpu,
        "reason": ",".join(map(word, reasons)),
        "remedy": due.remedy.value if due else "",
        "held": HELD[device.held],
    }


def word(reason: Reason) -> str:
    """Return a reason as one word; an Xid has its number."""
    return f"{reason.kind}:{reason.detail}" if reason.detail.isdecimal() else str(reason.kind)


def annotations(told: Mapping[str, str]) -> dict[str, str]:
    """Return the fields as annotations of an Event."""
    return {f"{PREFIX}/{name}": value for name, value in told.items()}


def line(told: Mapping[str, str]) -> str:
    """Return the fields as text."""
    return " ".join(f"{name}={value}" for name, value in told.items())
