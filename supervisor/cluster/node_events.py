"""What to tell of the node's GPUs by Kubernetes Events: the decision, and how much is too much."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from health.advice import ADVICE
from health.xid_catalogue import lookup
from proto.fitness import Fitness
from proto.messages import Gpu, NodeState, Reason, ReasonKind

XID, UNHEALTHY, HEALTHY, LEFT_OUT = "GpuXid", "GpuUnhealthy", "GpuHealthy", "GpuEventsLeftOut"
"""Reasons of our Events; operators' alerts name these."""

MESSAGE_LIMIT = 1024
"""Characters of an Event's message."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One GPU or MIG instance."""

    name: str
    """What people call it, such as `GPU 0`."""
    gpu: str
    """UUID of the physical GPU."""
    reasons: tuple[Reason, ...] = ()
    """Why it is not handed out."""
    own: tuple[Reason, ...] = ()
    """Those that are not told of its GPU already; of a GPU: all."""
    xids: Mapping[int, int] = field(default_factory=dict)
    """How often each Xid was seen on its GPU since the monitor's start."""

    @property
    def fatal_xids(self) -> tuple[int, ...]:
        """The fatal Xids that stand against it."""
        details = (one.detail for one in self.own if one.kind is ReasonKind.XID)
        return tuple(sorted(int(detail) for detail in details if detail.isdecimal()))


@dataclass(frozen=True, slots=True)
class NodeView:
    """What is known of the node's devices, by UUID."""

    epoch: int
    """Of the monitor: counts of different ones cannot be compared."""
    devices: Mapping[str, DeviceView]


@dataclass(frozen=True, slots=True)
class Telling:
    """One Event; another one of the same *device*, *reason* and *xid* is its repetition."""

    device: str
    """UUID; empty: of the node."""
    reason: str
    message: str
    first: float
    """Unix time."""
    last: float
    count: int = 1
    xid: int | None = None
    warning: bool = True
    initial: bool = False
    """It was so when we began to look, and may have been told before."""

    def name(self, node: str, boot_id: str) -> str:
        """Return the Event's name: the same for the same thing in one boot of a node."""
        text = f"{boot_id} {self.device} {self.reason} {self.xid}"
        # A name has 253 characters at most, and no dot or dash beside a dot.
        return f"{node[:230].rstrip('-.')}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def after(self, earlier: "Telling") -> "Telling":
        """Return this and an *earlier* one of its name as one."""
        return replace(
            self,
            first=earlier.first,
            count=earlier.count + self.count,
            initial=earlier.initial and self.initial,
        )


def view(state: NodeState, fitness: Fitness) -> NodeView:
    """Return what concerns Events of a node whose devices are as *fitness* says."""
    devices = {}
    for gpu in state.inventory.gpus:
        reasons, xids = fitness.reasons(gpu.uuid), _xids(state, gpu)
        devices[gpu.uuid] = DeviceView(f"GPU {gpu.index}", gpu.uuid, reasons, reasons, xids)
        for instance in gpu.instances:
            name, its = f"MIG instance {gpu.index}:{instance.place}", fitness.reasons(instance.uuid)
            own = tuple(reason for reason in its if reason not in reasons)
            devices[instance.uuid] = DeviceView(name, gpu.uuid, its, own, xids)
    return NodeView(state.epoch, devices)


def _xids(state: NodeState, gpu: Gpu) -> Mapping[int, int]:
    # No UUID: the driver did not say which GPU, so it counts against each.
    counts: dict[int, int] = {}
    for seen in state.xids:
        if seen.uuid in {gpu.uuid, ""}:
            counts[seen.xid] = counts.get(seen.xid, 0) + seen.count
    return counts


def decide(before: NodeView | None, after: NodeView, now: float) -> tuple[Telling, ...]:
    """Return what to tell of the step from one view to the next; None: nothing is known before."""
    tellings: list[Telling] = []
    for uuid, device in after.devices.items():
        earlier = before.devices.get(uuid) if before else None
        new = _of_device(uuid, earlier or DeviceView(device.name, device.gpu), device, now)
        tellings.extend(replace(one, initial=before is None) for one in new)
        if before and before.epoch == after.epoch and earlier:
            tellings.extend(_repeated(uuid, earlier, device, now))
    return tuple(tellings)


def _of_device(uuid: str, before: DeviceView, after: DeviceView, now: float) -> Iterator[Telling]:
    name = f"{after.name} ({uuid})"
    for xid in after.fatal_xids:
        if xid not in before.fatal_xids:
            yield _fatal(uuid, after, xid, now)
    if after.own and not before.own:
        message = f"{name} is Unhealthy: {_words(after)}. {_what_to_do(after)}"
        wanted = all(reason.kind is ReasonKind.MAINTENANCE for reason in after.own)
        yield Telling(uuid, UNHEALTHY, message[:MESSAGE_LIMIT], now, now, warning=not wanted)
    if before.own and not after.reasons:
        message = f"{name} is Healthy again; it was not for: {_words(before)}."
        yield Telling(uuid, HEALTHY, message[:MESSAGE_LIMIT], now, now, warning=False)


def _repeated(uuid: str, before: DeviceView, after: DeviceView, now: float) -> Iterator[Telling]:
    """Yield the fatal Xids that came again while they stood against the device already."""
    for xid in after.fatal_xids:
        more = after.xids.get(xid, 0) - before.xids.get(xid, 0)
        if xid in before.fatal_xids and more > 0:
            yield replace(_fatal(uuid, after, xid, now), count=more)


def _fatal(uuid: str, device: DeviceView, xid: int, now: float) -> Telling:
    known = lookup(xid)
    message = (
        f"Xid {xid} on {device.name} ({uuid}): {known.name}. {known.meaning} "
        f"NVIDIA's catalogue says: {known.action}. {ADVICE[ReasonKind.XID].what_to_do}"
    )
    return Telling(uuid, XID, message[:MESSAGE_LIMIT], now, now, xid=xid)


def _words(device: DeviceView) -> str:
    return "; ".join(
        f"{ADVICE[reason.kind].words} {reason.detail}".rstrip() for reason in device.own
    )


def _what_to_do(device: DeviceView) -> str:
    return " ".join(dict.fromkeys(ADVICE[reason.kind].what_to_do for reason in device.own))


BURST = 20.0
"""Events that may come at once, such as when all GPUs of a node fall out."""

REFILL = 30.0
"""Seconds after which one more may come."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many Events may still be told."""

    tokens: float = BURST
    at: float = 0.0
    """When that was so, on the caller's clock."""

    def take(self, now: float) -> tuple["Bucket", bool]:
        """Return the bucket after one more is told, and whether that may be."""
        tokens = min(BURST, self.tokens + max(0.0, now - self.at) / REFILL)
        if tokens < 1.0:
            return Bucket(tokens, now), False
        return Bucket(tokens - 1.0, now), True


@dataclass(frozen=True, slots=True)
class Outbox:
    """What waits to be told, by name, oldest first; equal ones are one, too many are counted."""

    bucket: Bucket = Bucket()
    waiting: Mapping[str, Telling] = field(default_factory=dict)
    left_out: int = 0

    def put(self, name: str, telling: Telling, now: float) -> "Outbox":
        """Return the outbox with one more *telling* in it, or counted as left out."""
        if name in self.waiting:
            merged = telling.after(self.waiting[name])
            return replace(self, waiting={**self.waiting, name: merged})
        bucket, allowed = self.bucket.take(now)
        if not allowed:
            return replace(self, bucket=bucket, left_out=self.left_out + 1)
        return replace(self, bucket=bucket, waiting={**self.waiting, name: telling})

    def sum_up(self, node: str, boot_id: str, at: float, now: float) -> "Outbox":
        """Return the outbox with what was left out summed up, once that may be told.

        *at* is the unix time, *now* the time of the bucket's clock.
        """
        name = Telling("", LEFT_OUT, "", at, at).name(node, boot_id)
        if not self.left_out or name in self.waiting:
            return self
        bucket, allowed = self.bucket.take(now)
        if not allowed:
            return self
        message = f"{self.left_out} Events about GPUs were left out, being too many; see the log."
        telling = Telling("", LEFT_OUT, message, at, at, count=self.left_out)
        return Outbox(bucket, {**self.waiting, name: telling})

    def without(self, name: str, sent: Telling) -> "Outbox":
        """Return the outbox after *sent* was told; what joined it meanwhile stays."""
        rest = dict(self.waiting)
        now = rest.pop(name)
        if now is not sent:
            rest[name] = replace(now, count=now.count - sent.count, initial=False)
        return replace(self, waiting=rest)
