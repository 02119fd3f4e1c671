"""Decide which free devices are occupied, as pure functions of samples and the kubelet's lists.

A sample proves a leak only together with a list that the kubelet was asked for later and that
shows the device free: whoever had a process in the sample was admitted before, so that such a list
names it. Three leaks in a row, each with a list of its own, let a pod end in peace.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf

from supervisor.status.snapshot import Snapshot
from supervisor.status.usage import device_uses
from supervisor.status.usage_report import DeviceUse, HolderKind
from supervisor.status.usage_wording import size

NEEDED = 3
"""Leaks in a row that make a device occupied."""

KEEP = 30.0
"""Seconds after which a leak does not count, if no sample or no list has shown it again."""

USERS = {
    frozenset({HolderKind.HOST}): "in use by processes outside containers",
    frozenset({HolderKind.UNALLOCATED}): "in use by containers that do not hold the device",
}
"""What to say of who uses a device, by the kinds of all who do."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the newest sample and the newest list together show of a device."""

    taken: float
    """When the sample was taken; tells samples apart."""
    leaking: bool | None
    """None: unknown. False: it is clean, or a container holds it, or it is shared."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A device whose newest sample shows a leak; all times are of the same clock."""

    taken: float = -inf
    seen: float = -inf
    """When that sample was there."""
    counted: bool = False
    """Whether a list has confirmed that sample."""
    leaks: int = 0
    detail: str = ""

    @property
    def occupied(self) -> bool:
        """Whether the device is not to be handed out."""
        return self.leaks >= NEEDED


Suspects = Mapping[str, Suspect]
"""By UUID; a device that is not here is not suspected."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The newest list of the kubelet, and the newest allocations."""

    asked: float = -inf
    """When the kubelet was asked for the list that the sights come from."""
    allocated: Mapping[str, float] = field(default_factory=dict)
    """When devices were last allocated, as far as their workers told, by UUID."""


def after(
    suspects: Suspects, sights: Mapping[str, Sight], listed: Listed, now: float, keep: float = KEEP
) -> Suspects:
    """Return the suspects after *sights* of devices at *now*."""
    found = {u: s for u, s in suspects.items() if u not in sights or sights[u].leaking is None}
    for uuid, sight in sights.items():
        if sight.leaking:
            suspect = _after(suspects.get(uuid, Suspect()), sight, now)
            late = listed.asked > listed.allocated.get(uuid, -inf)
            found[uuid] = _confirmed(suspect, listed.asked) if late else suspect
    return {uuid: suspect for uuid, suspect in found.items() if now - suspect.seen < keep}


def _after(known: Suspect, sight: Sight, now: float) -> Suspect:
    """Return the suspect after a sample that shows a leak, before a list confirms it."""
    if sight.taken == known.taken:
        return known
    # Else each sample would change the text, and so the reason that people are told.
    detail = known.detail if known.occupied else sight.detail
    return replace(known, taken=sight.taken, seen=now, counted=False, detail=detail)


def _confirmed(suspect: Suspect, asked: float) -> Suspect:
    """Return the suspect after the list that shows it free, asked for at that time."""
    if suspect.counted or asked <= suspect.seen:
        return suspect
    return replace(suspect, counted=True, leaks=min(NEEDED, suspect.leaks + 1))


def doubtful(suspects: Suspects) -> bool:
    """Return whether a new list would tell more."""
    return any(not s.occupied and not s.counted for s in suspects.values())


def occupied(suspects: Suspects) -> dict[str, str]:
    """Return what people are told of each occupied device, by UUID."""
    return {uuid: suspect.detail for uuid, suspect in suspects.items() if suspect.occupied}


def sights(snapshot: Snapshot, now: float, stale_after: float) -> dict[str, Sight]:
    """Return what the newest samples and the newest list show of each device."""
    taken = {d.uuid: d.taken for d in snapshot.usage.state.devices} if snapshot.usage else {}
    return {
        uuid: Sight(taken[uuid], _leaking(use), _detail(use))
        for uuid, use in device_uses(snapshot, now, stale_after).items()
    }


def _leaking(use: DeviceUse) -> bool | None:
    return None if use.leaked_bytes is None else use.leaked_bytes > 0


def _detail(use: DeviceUse) -> str:
    users = frozenset(h.kind for h in use.holders or () if h.processes)
    return f"{size(use.leaked_bytes)} {USERS.get(users, 'in use')}"
