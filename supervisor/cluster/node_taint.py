"""The taint of a node whose GPUs are all out: whether it should be there, and with which value."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from health.remedies import remedy, strength
from proto.pace import Pace
from proto.spread import place_of
from supervisor.cluster.node_view import DeviceView, NodeView

KEY, EFFECT = "nvidia.com/gpu-unhealthy", "NoSchedule"

HOLD = 30.0
"""Seconds for which all GPUs are out before the node gets the taint."""

RENEWAL = 300.0
"""Seconds after which it is looked at again, as others may have changed it."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Taint:
    """The taint that the node should have."""

    value: str = ""
    """The reason; empty: the node should not have the taint."""


def pace(node: str) -> Pace:
    """Return when the taint of *node* is looked at."""
    return Pace(1.0, RENEWAL, place_of(node), longest_retry=RENEWAL)


@dataclass(frozen=True, slots=True)
class Outage:
    """Since when all GPUs are out, on the caller's clock."""

    since: float | None = None
    """None: at least one is not."""
    value: str = ""

    def after(self, view: NodeView, now: float) -> "Outage":
        """Return the outage as the newest *view* shows it."""
        gpus = [device for uuid, device in view.devices.items() if uuid == device.gpu]
        if not gpus or not all(gpu.reasons for gpu in gpus):
            return Outage()
        return Outage(now if self.since is None else self.since, _value(gpus))

    def wanted(self, now: float) -> Taint | None:
        """Return the taint that the node should have at *now*; None: it stays as it is.

        So a restart of this process does not take the taint away.
        """
        if self.since is None:
            return Taint()
        return Taint(self.value) if now >= self.since + HOLD else None


def _value(gpus: Iterable[DeviceView]) -> str:
    """Return the kind of reason that most needs a repair."""
    kinds = {reason.kind: strength(remedy(reason)) for gpu in gpus for reason in gpu.reasons}
    return max(sorted(kinds), key=kinds.__getitem__)


def after(taints: Iterable[Json], wanted: Taint) -> list[Json]:
    """Return the *taints* of a node with ours as *wanted*; all others stay as they are."""
    taints = list(taints)
    others = [taint for taint in taints if not _is_ours(taint)]
    if not wanted.value:
        return others
    if any(_is_ours(taint) and taint.get("value") == wanted.value for taint in taints):
        return taints
    return [*others, {"key": KEY, "value": wanted.value, "effect": EFFECT}]


def _is_ours(taint: Json) -> bool:
    return taint.get("key") == KEY and taint.get("effect") == EFFECT
