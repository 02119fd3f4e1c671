"""When a free device counts as occupied, and for how long the monitor holds it back."""

import dataclasses
from collections.abc import Sequence
from math import inf

import pytest

from health.withheld import VALID, WithheldDevices
from proto.control import Withhold
from proto.reasons import Reason, ReasonKind
from supervisor.exporter.occupied import (
    KEEP,
    Listed,
    Sight,
    Suspects,
    after,
    doubtful,
    occupied,
    sights,
)
from supervisor.status.snapshot import Snapshot
from supervisor.status.usage import CLEAN
from supervisor.status.usage_owner import HOST
from tests.unit.test_usage_rows import ANNA, ANNAS, NOW, STALE, process, snapshot

DIRTY, CLEANED, UNKNOWN = True, False, None


@dataclasses.dataclass(frozen=True)
class Step:
    """What the exporter learns at a moment."""

    now: float
    leaking: bool | None = DIRTY
    taken: float | None = None
    """When the sample was taken; None: just now."""
    asked: float | None = None
    """When the newest list was asked for; None: just now, but after the sample arrived."""
    allocated: float = -inf


def seen(*steps: Step) -> list[bool]:
    """Return after each step whether GPU A is occupied."""
    found: list[bool] = []
    suspects: Suspects = {}
    for step in steps:
        taken = step.now if step.taken is None else step.taken
        shown = {"A": Sight(taken, step.leaking, "in use")}
        allocated = {"A": step.allocated}
        if step.asked is None:
            suspects = after(suspects, shown, Listed(-inf, allocated), step.now)
            listed = Listed(step.now + 0.1, allocated)
            suspects = after(suspects, shown, listed, step.now + 0.2)
        else:
            suspects = after(suspects, shown, Listed(step.asked, allocated), step.now)
        found.append("A" in occupied(suspects))
    return found


def dirty(*times: float) -> list[Step]:
    """Return a leak with a list of its own at each of these times."""
    return [Step(now) for now in times]


NOT_YET = {
    "two leaks": dirty(1, 6),
    "a pod was just admitted: the list of then shows it": [
        *dirty(1, 6),
        Step(11, CLEANED),
        *dirty(16, 21),
    ],
    "the list is older than the samples": [Step(now, asked=0.5) for now in (1, 6, 11, 16)],
    "the list was asked for as the sample came": [Step(now, asked=now) for now in (1, 6, 11, 16)],
    "one list, however many samples": [Step(1), *(Step(now, asked=1.1) for now in (6, 11, 16))],
    "one sample, however many lists": [Step(now, taken=1.0) for now in (1, 6, 11, 16)],
    "allocated after the list": [Step(now, allocated=now + 0.15) for now in (1, 6, 11, 16)],
    "clean now and then": [*dirty(1, 6), Step(11, CLEANED), *dirty(16, 21), Step(26, CLEANED)],
    "nothing is known": [Step(now, UNKNOWN) for now in (1, 6, 11, 16)],
    "nothing is known for long, in between": [*dirty(1, 6), Step(7 + KEEP, UNKNOWN), Step(50)],
    "a pod ends slowly: the list still shows it": [
        *(Step(now, CLEANED) for now in (1, 6, 11)),
        *dirty(16, 21),
        Step(26, CLEANED),
    ],
    "an exporter that has just started": dirty(100, 105),
}


@pytest.mark.parametrize("steps", NOT_YET.values(), ids=NOT_YET)
def test_not_occupied(steps: Sequence[Step]) -> None:
    """Nothing but three leaks in a row, each with a later list that shows it free, counts."""
    assert seen(*steps) == [False] * len(steps)


OCCUPIED = {
    "three leaks": (dirty(1, 6, 11), [False, False, True]),
    "nothing is known for a while": (
        [Step(1), Step(6, UNKNOWN), Step(11), Step(16)],
        [False, False, False, True],
    ),
    "it was allocated long ago": (
        [Step(n, allocated=0.5) for n in (1, 6, 11)],
        [False, False, True],
    ),
    "a clean sample ends it": ([*dirty(1, 6, 11), Step(16, CLEANED)], [False, False, True, False]),
    "then it needs three again": (
        [*dirty(1, 6, 11), Step(16, CLEANED), *dirty(21, 26, 31)],
        [False, False, True, False, False, False, True],
    ),
    "it lasts while nothing is known": (
        [*dirty(1, 6, 11), Step(10.7 + KEEP, UNKNOWN)],
        [False, False, True, True],
    ),
    "but not for ever": (
        [*dirty(1, 6, 11), Step(11 + KEEP, UNKNOWN)],
        [False, False, True, False],
    ),
    "nor by a sample that is old": (
        [*dirty(1, 6, 11), Step(11 + KEEP, taken=11)],
        [False, False, True, False],
    ),
}


@pytest.mark.parametrize(("steps", "expected"), OCCUPIED.values(), ids=OCCUPIED)
def test_occupied(steps: Sequence[Step], expected: list[bool]) -> None:
    """Three leaks begin it; a clean sample, or half a minute without a leak, ends it."""
    assert seen(*steps) == expected


def test_a_device_that_is_gone() -> None:
    """A device without samples is forgotten, as one of which nothing is known."""
    suspects = after({}, {"A": Sight(1.0, DIRTY)}, Listed(), 1.0)
    assert after(suspects, {}, Listed(), KEEP).keys() == {"A"}
    assert not after(suspects, {}, Listed(), 1.0 + KEEP)


def test_the_text_stays() -> None:
    """What people are told does not change with each sample."""
    suspects: Suspects = {}
    for at in range(1, 6):
        shown = {"A": Sight(at, DIRTY, f"{at} MiB")}
        suspects = after(suspects, shown, Listed(), at)
        suspects = after(suspects, shown, Listed(at + 0.1), at + 0.2)
        assert doubtful(suspects) is False
    assert occupied(suspects) == {"A": "3 MiB"}


def test_another_list_is_wanted() -> None:
    """A leak that no list has confirmed is worth a call; one of an occupied device is not."""
    assert doubtful(after({}, {"A": Sight(1.0, DIRTY)}, Listed(), 1.0))
    assert not doubtful(after({}, {"A": Sight(1.0, CLEANED)}, Listed(), 1.0))
    assert not doubtful({})


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (snapshot(replicas=1), Sight(5.0, CLEANED, "0 MiB in use")),
        (
            snapshot(process(1, 3 << 30), replicas=1, owners={1: HOST}),
            Sight(5.0, DIRTY, "3.0 GiB in use by processes outside containers"),
        ),
        (
            snapshot(process(1, 3 << 30), replicas=1, owners={1: ANNA}),
            Sight(5.0, DIRTY, "3.0 GiB in use by containers that do not hold the device"),
        ),
        (
            snapshot(process(1, 3 << 30), process(2), replicas=1, owners={1: ANNA, 2: HOST}),
            Sight(5.0, DIRTY, "3.0 GiB in use"),
        ),
        (
            snapshot(replicas=1, sample={"memory_used": 2 * CLEAN}),
            Sight(5.0, DIRTY, "2.0 GiB in use"),
        ),
        (snapshot(process(1), replicas=1, held=None), Sight(5.0, UNKNOWN, "unknown in use")),
        (snapshot(process(1), replicas=1, held=(ANNAS,)), Sight(5.0, CLEANED, "0 MiB in use")),
        (snapshot(process(1), replicas=4), Sight(5.0, UNKNOWN, "unknown in use")),
    ],
)
def test_what_is_seen(known: Snapshot, expected: Sight) -> None:
    """A leak is what `leaked_bytes` tells, and its text names who uses the device, if known."""
    assert sights(known, NOW, STALE) == {"A": expected}


def test_old_samples_are_not_seen() -> None:
    """When the monitor is silent, its last samples say nothing."""
    assert not sights(snapshot(process(1), replicas=1), NOW + STALE + 5.1, STALE)
    assert not sights(Snapshot(), NOW, STALE)


def test_the_monitor_forgets_an_order() -> None:
    """An order that is not repeated holds no device back, so a dead exporter does not either."""
    order = WithheldDevices(Withhold({"A": "2.0 GiB in use"}, {"B": "ns/pod"}), at=100.0)
    reasons = {
        "A": Reason(ReasonKind.OCCUPIED, "2.0 GiB in use"),
        "B": Reason(ReasonKind.HELD_THROUGH_DRA, "ns/pod"),
    }
    assert order.reasons(100.0) == order.reasons(100.0 + VALID - 0.1) == reasons
    assert order.reasons(100.0 + VALID) == WithheldDevices().reasons(0.0) == {}
