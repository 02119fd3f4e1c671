"""Decides which Kubernetes Events to send about the node's GPUs, and limits their rate."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from health.remedies import ordered, what_to_do
from health.xid_catalogue import lookup
from proto.reasons import ReasonKind
from supervisor.cluster import handover
from supervisor.cluster.node_view import DeviceView, NodeView

XID, UNHEALTHY, HEALTHY, LEFT_OUT = "GpuXid", "GpuUnhealthy", "GpuHealthy", "GpuEventsLeftOut"
"""Reasons of our Events; operators' alerts use these names."""

MESSAGE_LIMIT = 1024
"""Maximum characters of an Event's message."""


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """One Event to send; the same *device*, *reason* and *xid* again is a repetition of it."""

    device: str
    """UUID; empty for the whole node."""
    reason: str
    message: str
    first: float
    """Unix time."""
    last: float
    count: int = 1
    xid: int | None = None
    warning: bool = True
    told: Mapping[str, str] = field(default_factory=dict)
    """What programs that repair nodes are told of the device."""
    initial: bool = False
    """The state when this process started; it may have been sent before."""

    def name(self, node: str, boot_id: str) -> str:
        """Return the Event's name: the same for each repetition until the node reboots."""
        text = f"{boot_id} {self.device} {self.reason} {self.xid}"
        # Kubernetes allows 253 characters, and no dot or dash beside a dot.
        return f"{node[:230].rstrip('-.')}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def after(self, earlier: "NodeEvent") -> "NodeEvent":
        """Return this Event merged with an *earlier* one of the same name."""
        return replace(
            self,
            first=earlier.first,
            count=earlier.count + self.count,
            initial=earlier.initial and self.initial,
        )


def decide(before: NodeView | None, after: NodeView, now: float) -> tuple[NodeEvent, ...]:
    """Return the Events for the step from one view to the next; *before* is None at the start."""
    events: list[NodeEvent] = []
    for uuid, device in after.devices.items():
        earlier = before.devices.get(uuid) if before else None
        well = replace(device, reasons=(), own=(), xids={}, state=None)
        new = [*_of_device(uuid, earlier or well, device, now)]
        if before and before.epoch == after.epoch and earlier:
            new += _repeated(uuid, earlier, device, now)
        told, first = handover.fields(uuid, device), before is None
        events.extend(replace(event, initial=first, told=told) for event in new)
    return tuple(events)


def _of_device(uuid: str, before: DeviceView, after: DeviceView, now: float) -> Iterator[NodeEvent]:
    name = f"{after.name} ({uuid})"
    for xid in after.fatal_xids:
        if xid not in before.fatal_xids:
            yield _fatal(uuid, after, xid, now)
    if after.own and not before.own:
        message = f"{name} is Unhealthy: {_words(after)}. {_what_to_do(after)}"
        wanted = all(reason.kind is ReasonKind.MAINTENANCE for reason in after.own)
        yield NodeEvent(uuid, UNHEALTHY, message[:MESSAGE_LIMIT], now, now, warning=not wanted)
    if before.own and not after.reasons:
        message = (
            f"{name} is Healthy again. It was Unhealthy: {_words(replace(before, state=None))}."
        )
        yield NodeEvent(uuid, HEALTHY, message[:MESSAGE_LIMIT], now, now, warning=False)


def _repeated(uuid: str, before: DeviceView, after: DeviceView, now: float) -> Iterator[NodeEvent]:
    """Yield Events for fatal Xids that were reported again on an Unhealthy device."""
    for xid in after.fatal_xids:
        more = after.xids.get(xid, 0) - before.xids.get(xid, 0)
        if xid in before.fatal_xids and more > 0:
            yield replace(_fatal(uuid, after, xid, now), count=more)


def _fatal(uuid: str, device: DeviceView, xid: int, now: float) -> NodeEvent:
    known = lookup(xid)
    message = (
        f"Xid {xid} on {device.name} ({uuid}): {known.name}. {known.meaning} "
        f"NVIDIA's catalogue recommends: {known.action}. {_what_to_do(device)}"
    )
    return NodeEvent(uuid, XID, message[:MESSAGE_LIMIT], now, now, xid=xid)


def _words(device: DeviceView) -> str:
    return "; ".join(advice.words for _, advice in ordered(device.own, device.state))


def _what_to_do(device: DeviceView) -> str:
    due = what_to_do(device.reasons, device.state)
    return due.advice if due else ""


BURST = 20.0
"""Events that may be sent at once, such as when all GPUs of a node fail."""

REFILL = 30.0
"""Seconds after which one more Event may be sent."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: how many Events may still be sent."""

    tokens: float = BURST
    at: float = 0.0
    """When the bucket had these tokens, on the caller's clock."""

    def take(self, now: float) -> tuple["Bucket", bool]:
        """Take a token for one Event; return the new bucket, and whether there was a token."""
        tokens = min(BURST, self.tokens + max(0.0, now - self.at) / REFILL)
        if tokens < 1.0:
            return Bucket(tokens, now), False
        return Bucket(tokens - 1.0, now), True


@dataclass(frozen=True, slots=True)
class Outbox:
    """Events that wait to be sent, by name, oldest first.

    Events of the same name are merged. Events above the rate limit are only counted.
    """

    bucket: Bucket = Bucket()
    waiting: Mapping[str, NodeEvent] = field(default_factory=dict)
    left_out: int = 0

    def put(self, name: str, event: NodeEvent, now: float) -> "Outbox":
        """Return the outbox with *event* added, or counted as left out."""
        if name in self.waiting:
            merged = event.after(self.waiting[name])
            return replace(self, waiting={**self.waiting, name: merged})
        bucket, allowed = self.bucket.take(now)
        if not allowed:
            return replace(self, bucket=bucket, left_out=self.left_out + 1)
        return replace(self, bucket=bucket, waiting={**self.waiting, name: event})

    def sum_up(self, node: str, boot_id: str, at: float, now: float) -> "Outbox":
        """Return the outbox with one Event about those left out, if the rate limit allows it.

        *at* is the unix time, *now* the time of the bucket's clock.
        """
        name = NodeEvent("", LEFT_OUT, "", at, at).name(node, boot_id)
        if not self.left_out or name in self.waiting:
            return self
        bucket, allowed = self.bucket.take(now)
        if not allowed:
            return self
        message = (
            f"{self.left_out} Events about GPUs were not sent: there were too many. See the log."
        )
        event = NodeEvent("", LEFT_OUT, message, at, at, count=self.left_out)
        return Outbox(bucket, {**self.waiting, name: event})

    def without(self, name: str, sent: NodeEvent) -> "Outbox":
        """Return the outbox without *sent*; repetitions that were merged meanwhile stay."""
        rest = dict(self.waiting)
        now = rest.pop(name)
        if now is not sent:
            rest[name] = replace(now, count=now.count - sent.count, initial=False)
        return replace(self, waiting=rest)
