"""Decide which grey failures a GPU has, as pure functions of samples.

A sample speaks for a failure, against it, or not at all: an idle GPU lowers its link and clocks, so
it says nothing about them. A failure begins when samples spoke for it for a while, and ends when
they spoke against it as long. Samples that say nothing neither count nor interrupt; but between
two samples of what is asked for seldom, the time counts.

Numbers are those of nvml.h. Sources: nvml.h and NVIDIA's "GPU Memory Error Management". For the
limits of load, clocks and corrected errors, NVIDIA names none: they are ours.
"""

from collections.abc import Iterator, Mapping

import msgspec
from msgspec.structs import replace

from health.advice import DEGRADED
from proto.messages import Inventory
from proto.reasons import Reason, ReasonKind

LOADED = 50
"""Percent of utilization from which a GPU has its link at full width and speed."""

BUSY = 80
"""Percent of utilization from which a GPU has its clocks up."""

SLOW_CLOCK = 0.5
"""The part of the maximum clock under which a busy GPU is slow."""

ALL_POWER = 0.9
"""The part of the power limit from which the limit explains low clocks."""

HOUR = 3600.0

MANY, FEW = 1000, 100
"""Corrected memory errors within an hour from which there is a failure, and with which none."""

MOST_NAMED = 8
"""PCI addresses that a detail names."""

CLOCK_SETTINGS = 0x2 | 0x10 | 0x100
"""Event reasons of clocks that a setting holds down: applications, sync boost, display."""

POWER_CAP = 0x4
"""The event reason of clocks that the power limit holds down."""

SLOWDOWNS = {0x80: "power brake", 0x40: "too hot"}
"""Event reasons of the hardware, in words."""

HARDWARE = 0x8
"""The event reason "hardware slowdown", which comes with each of SLOWDOWNS."""

FABRIC_BITS = {
    0: "less bandwidth",
    2: "a route is in recovery",
    4: "a route is unhealthy",
    6: "an access timeout is in recovery",
}
"""The parts of the fabric's health mask that are 1 if so, and 2 if not, by their place."""

CONFIGURATION = 8
"""The place of the part with the configuration, which is 1 if that is right, and else more."""


class PcieLink(msgspec.Struct, frozen=True):
    """A PCIe link: lanes and generation now, and the most that card and slot allow."""

    width: int
    generation: int
    most_width: int
    most_generation: int


class GreySample(msgspec.Struct, frozen=True):
    """What a GPU tells at one moment; None: it does not tell, or was not asked now."""

    at: float
    """On the monotonic clock."""
    utilization: int | None = None
    """Percent."""
    link: PcieLink | None = None
    event_reasons: int | None = None
    """Why the clocks are as they are, as a mask."""
    clock: int | None = None
    most_clock: int | None = None
    """MHz of the multiprocessors."""
    power: float | None = None
    power_limit: float | None = None
    """Watts."""
    corrected: int | None = None
    """Corrected memory errors since the driver was loaded."""
    banks_without_spare: int | None = None
    persistence: bool | None = None
    fabric_health: int | None = None
    """The mask; 0: it says nothing."""


Evidence = Reason | bool | None
"""A reason: the sample speaks for the failure; False: against it; None: it says nothing."""


class Track(msgspec.Struct, frozen=True):
    """One kind of failure over time."""

    failure: Reason | None = None
    """The present failure, as it was when it began."""
    against: float = 0.0
    """Seconds for which samples have contradicted this."""
    last: float | None = None
    """When the newest sample was taken, if it contradicted; None: it did not."""


class GreyState(msgspec.Struct, frozen=True):
    """What the samples of one GPU have shown."""

    tracks: Mapping[ReasonKind, Track] = msgspec.field(default_factory=dict)
    corrected: tuple[tuple[float, int], ...] = ()
    """Times and numbers of corrected errors within the last hour."""
    persistent: bool = False
    """Whether persistence mode was on."""

    @property
    def failures(self) -> tuple[Reason, ...]:
        """The present failures, sorted."""
        return tuple(sorted(t.failure for t in self.tracks.values() if t.failure))


AT_ONCE = frozenset({ReasonKind.ECC_CORRECTED, ReasonKind.SPARE_ROWS})
"""Failures for which one sample is enough: they are counted over an hour, or never go away."""

SELDOM = frozenset({ReasonKind.PERSISTENCE, ReasonKind.FABRIC})
"""Failures that most samples say nothing about, as the GPU is not asked then: the time counts."""


def after(before: GreyState, sample: GreySample, hold: float) -> GreyState:
    """Return the state after *sample*; a failure begins and ends after *hold* seconds."""
    state = replace(
        before,
        corrected=_within_an_hour(before.corrected, sample),
        persistent=before.persistent or bool(sample.persistence),
    )
    tracks = {
        kind: after_evidence(
            before.tracks.get(kind, Track()),
            evidence,
            sample.at,
            0.0 if kind in AT_ONCE else hold,
        )
        for kind, evidence in _evidence(state, sample)
        if evidence is not None or not _is_between(kind, sample, before.tracks.get(kind, Track()))
    }
    return replace(state, tracks={**state.tracks, **tracks})


def _is_between(kind: ReasonKind, sample: GreySample, track: Track) -> bool:
    """Return whether the time counts though *sample* says nothing, as the GPU was not asked.

    An idle GPU is seldom asked for its link: only the end of a failure can show there.
    """
    link_unasked = kind is ReasonKind.PCIE and sample.link is None
    return kind in SELDOM or bool(link_unasked and track.failure)


def after_evidence(before: Track, evidence: Evidence, now: float, hold: float) -> Track:
    """Return the track after the *evidence* of one sample."""
    if evidence is None:
        return replace(before, last=None)
    seen = evidence or None
    if (seen is None) == (before.failure is None):
        return Track(before.failure)
    against = before.against + (0.0 if before.last is None else now - before.last)
    if against >= hold:
        return Track(seen if isinstance(seen, Reason) else None)
    return Track(before.failure, against, now)


def _evidence(state: GreyState, sample: GreySample) -> Iterator[tuple[ReasonKind, Evidence]]:
    yield ReasonKind.PCIE, _pcie(sample)
    yield ReasonKind.SLOWDOWN, _slowdown(sample)
    yield ReasonKind.CLOCKS, _clocks(sample)
    yield ReasonKind.ECC_CORRECTED, _corrected(state, sample)
    yield ReasonKind.SPARE_ROWS, _spare_rows(sample)
    yield ReasonKind.PERSISTENCE, _persistence(state, sample)
    yield ReasonKind.FABRIC, _fabric(sample)


def _pcie(sample: GreySample) -> Evidence:
    link = sample.link
    if link is None:
        return None
    less = []
    if link.width < link.most_width:
        less.append(f"x{link.width} instead of x{link.most_width}")
    if link.generation < link.most_generation:
        less.append(f"generation {link.generation} instead of {link.most_generation}")
    if not less:
        return False
    loaded = sample.utilization is not None and sample.utilization >= LOADED
    return Reason(ReasonKind.PCIE, ", ".join(less)) if loaded else None


def _slowdown(sample: GreySample) -> Evidence:
    if sample.event_reasons is None:
        return None
    named = [words for bit, words in SLOWDOWNS.items() if sample.event_reasons & bit]
    if not named and not sample.event_reasons & HARDWARE:
        return False
    return Reason(ReasonKind.SLOWDOWN, ", ".join(named))


def _clocks(sample: GreySample) -> Evidence:
    clock, most, why = sample.clock, sample.most_clock, sample.event_reasons
    if clock is None or not most or (sample.utilization or 0) < BUSY:
        return None
    if clock >= SLOW_CLOCK * most:
        return False
    if why is None or why & CLOCK_SETTINGS or (why & POWER_CAP and _draws_all(sample)):
        return None
    return Reason(ReasonKind.CLOCKS, f"{clock} of {most} MHz")


def _draws_all(sample: GreySample) -> bool:
    """Return whether the GPU draws about as much as its limit allows; unknown counts as so."""
    if sample.power is None or not sample.power_limit:
        return True
    return sample.power >= ALL_POWER * sample.power_limit


def _within_an_hour(
    before: tuple[tuple[float, int], ...], sample: GreySample
) -> tuple[tuple[float, int], ...]:
    if sample.corrected is None:
        return before
    if before and sample.corrected < before[-1][1]:
        before = ()  # the driver was loaded again, or the GPU was reset
    recent = tuple(known for known in before if sample.at - known[0] <= HOUR)
    return (*recent, (sample.at, sample.corrected))


def _corrected(state: GreyState, sample: GreySample) -> Evidence:
    if sample.corrected is None:
        return None
    more = sample.corrected - state.corrected[0][1]
    if more >= MANY:
        return Reason(ReasonKind.ECC_CORRECTED, f"{more} within an hour")
    return None if more > FEW else False


def _spare_rows(sample: GreySample) -> Evidence:
    if sample.banks_without_spare is None:
        return None
    banks = sample.banks_without_spare
    return Reason(ReasonKind.SPARE_ROWS, f"in {banks} banks") if banks else False


def _persistence(state: GreyState, sample: GreySample) -> Evidence:
    if sample.persistence is None or not state.persistent:
        return None
    return False if sample.persistence else Reason(ReasonKind.PERSISTENCE)


def _fabric(sample: GreySample) -> Evidence:
    mask = sample.fabric_health
    if not mask:
        return None
    wrong = [words for place, words in FABRIC_BITS.items() if mask >> place & 3 == 1]
    if mask >> CONFIGURATION & 0xF > 1:
        wrong.append("wrong configuration")
    detail = f"{DEGRADED}: {', '.join(wrong)}"
    return Reason(ReasonKind.FABRIC, detail) if wrong else False


def missing(on_bus: frozenset[str], inventory: Inventory) -> Evidence:
    """Return whether the PCI addresses *on_bus* show more GPUs than the driver does.

    A GPU that the driver counts, but that cannot be enumerated, has no address: it may be any. One
    that the driver was told not to use is not missing.
    """
    if not on_bus:
        return None  # the kernel shows no PCI bus here
    unseen = sorted(on_bus - {gpu.pci_bus_id for gpu in inventory.gpus} - {*inventory.excluded})
    if len(unseen) <= len(inventory.failed):
        return False
    named = ", ".join(unseen[:MOST_NAMED])
    more = f" and {len(unseen) - MOST_NAMED} more" if len(unseen) > MOST_NAMED else ""
    return Reason(ReasonKind.GPU_MISSING, named + more)
