"""The node condition for fatal Xids: its content, and the patch that sets it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from proto.pace import Pace
from proto.spread import place_of
from supervisor.cluster.node_events import NodeView

TYPE = "XidCriticalError"
"""The condition's type, the same as on GKE; operators' alerts and repair tools use it."""

MESSAGE_LIMIT = 1024

HEARTBEAT = 300.0
"""Seconds in which an unchanged condition is sent once, at a moment that depends on the node."""

GAP = 1.0
"""Seconds between two patches."""


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """The content of the condition, without times."""

    status: bool
    """Whether any GPU is Unhealthy because of a fatal Xid."""
    message: str


def pace(node: str) -> Pace:
    """Return when the condition of *node* is patched."""
    return Pace(GAP, HEARTBEAT, place_of(node), longest_retry=HEARTBEAT)


def condition(view: NodeView, boot_id: str) -> NodeCondition:
    """Return the condition for *view*; the message names the boot that it is about."""
    xids: dict[str, set[int]] = {}
    for device in view.devices.values():
        xids.setdefault(device.gpu, set()).update(device.fatal_xids)
    found = "; ".join(f"{gpu}: {_list(codes)}" for gpu, codes in xids.items() if codes)
    message = f"boot {boot_id}; Xid on {found}" if found else f"boot {boot_id}; no fatal Xid"
    return NodeCondition(bool(found), message[:MESSAGE_LIMIT])


def _list(xids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(xids)))


def patch(wanted: NodeCondition, now: str, changed: str | None) -> dict[str, Any]:
    """Return the strategic merge patch for the node's status.

    *now* becomes the heartbeat, *changed*, unless None, the transition time. Conditions are merged
    by type, so other conditions stay as they are.
    """
    body = {
        "type": TYPE,
        "status": str(wanted.status),
        "reason": "FatalXid" if wanted.status else "NoFatalXid",
        "message": wanted.message,
        "lastHeartbeatTime": now,
    }
    if changed is not None:
        body["lastTransitionTime"] = changed
    return {"status": {"conditions": [body]}}
