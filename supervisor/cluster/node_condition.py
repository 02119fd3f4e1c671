"""The node's condition that tells of fatal Xids: what it says, and the patch that says it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from supervisor.cluster.node_events import NodeView

TYPE = "XidCriticalError"
"""The condition's type; operators' alerts and remedies name it, as on GKE."""

MESSAGE_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """What the condition says, without times."""

    status: bool
    """Whether a fatal Xid stands against any GPU."""
    message: str


def condition(view: NodeView, boot_id: str) -> NodeCondition:
    """Return what the condition has to say; the boot's id tells which boot that holds for."""
    xids: dict[str, set[int]] = {}
    for device in view.devices.values():
        xids.setdefault(device.gpu, set()).update(device.fatal_xids)
    found = "; ".join(f"{gpu}: {_list(codes)}" for gpu, codes in xids.items() if codes)
    told = f"boot {boot_id}; Xid on {found}" if found else f"boot {boot_id}; no fatal Xid"
    return NodeCondition(bool(found), told[:MESSAGE_LIMIT])


def _list(xids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(xids)))


def patch(wanted: NodeCondition, now: str, changed: str | None) -> dict[str, Any]:
    """Return the strategic merge patch of the node's status; *changed*: when the status did.

    Conditions are merged by their type, so no other one is touched; what is not named stays.
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
