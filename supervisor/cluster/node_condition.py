"""The node conditions about GPUs: their content, and the patch that sets them."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from proto.pace import Pace
from proto.spread import place_of
from supervisor.cluster import handover
from supervisor.cluster.node_view import NodeView

TYPE = "XidCriticalError"
"""The type of the condition for fatal Xids, the same as on GKE; alerts and repair tools use it."""

UNHEALTHY = "GpuUnhealthy"
"""The type of the condition for all reasons; programs that repair nodes use its message."""

MESSAGE_LIMIT = 1024

HEARTBEAT = 300.0
"""Seconds in which an unchanged condition is sent once, at a moment that depends on the node."""

GAP = 1.0
"""Seconds between two patches."""


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """The content of a condition, without times."""

    type: str
    status: bool
    """Whether any GPU has the problem."""
    reason: str
    message: str


Conditions = tuple[NodeCondition, ...]


def pace(node: str) -> Pace:
    """Return when the conditions of *node* are patched."""
    return Pace(GAP, HEARTBEAT, place_of(node), longest_retry=HEARTBEAT)


def conditions(view: NodeView, boot_id: str) -> Conditions:
    """Return the conditions for *view*; the messages name the boot that they are about."""
    return _of_xids(view, boot_id), _of_all(view, boot_id)


def without_gpu(boot_id: str) -> Conditions:
    """Return the conditions of a node that has no GPU, or none to serve."""
    message = f"boot {boot_id}; no GPU to serve on this node"
    return tuple(NodeCondition(kind, False, "NoGpu", message) for kind in (TYPE, UNHEALTHY))


def _of_xids(view: NodeView, boot_id: str) -> NodeCondition:
    xids: dict[str, set[int]] = {}
    for device in view.devices.values():
        xids.setdefault(device.gpu, set()).update(device.fatal_xids)
    found = "; ".join(f"{gpu}: {_list(codes)}" for gpu, codes in xids.items() if codes)
    message = f"boot {boot_id}; Xid on {found}" if found else f"boot {boot_id}; no fatal Xid"
    reason = "FatalXid" if found else "NoFatalXid"
    return NodeCondition(TYPE, bool(found), reason, message[:MESSAGE_LIMIT])


def _list(xids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(xids)))


def _of_all(view: NodeView, boot_id: str) -> NodeCondition:
    told = [
        handover.line(handover.fields(uuid, device))
        for uuid, device in view.devices.items()
        if device.own
    ]
    if not told:
        return NodeCondition(UNHEALTHY, False, "GpusHealthy", f"boot {boot_id}; all GPUs healthy")
    message = f"boot {boot_id}; {'; '.join(_fitting(told, MESSAGE_LIMIT - len(boot_id) - 30))}"
    return NodeCondition(UNHEALTHY, True, "GpusUnhealthy", message)


def _fitting(parts: Collection[str], room: int) -> Iterator[str]:
    """Yield the first of *parts* that fit into *room*, then how many there are more."""
    for place, part in enumerate(parts):
        room -= len(part) + len("; ")
        if room < 0:
            yield f"and {len(parts) - place} more"
            return
        yield part


def patch(wanted: Conditions, now: str, changed: Collection[str]) -> dict[str, Any]:
    """Return the strategic merge patch for the node's status.

    *now* becomes the heartbeat, and for the *changed* types the transition time. Conditions are
    merged by type, so other conditions stay as they are.
    """
    bodies = []
    for condition in wanted:
        body = {
            "type": condition.type,
            "status": str(condition.status),
            "reason": condition.reason,
            "message": condition.message,
            "lastHeartbeatTime": now,
        }
        if condition.type in changed:
            body["lastTransitionTime"] = now
        bodies.append(body)
    return {"status": {"conditions": bodies}}
