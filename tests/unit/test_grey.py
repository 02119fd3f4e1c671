"""Grey failures: when each begins and ends, on an idle GPU and under load."""

from collections.abc import Iterable

import msgspec
import pytest
from msgspec.structs import replace

from health.grey import (
    CLOCK_SETTINGS,
    FEW,
    HARDWARE,
    HOUR,
    MANY,
    MOST_NAMED,
    POWER_CAP,
    GreySample,
    GreyState,
    PcieLink,
    after,
    missing,
)
from proto.messages import FailedGpu
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import gpu, inventory

HOLD = 60.0
IDLE, LOAD = 0, 90
FULL, NARROW, SLOW = PcieLink(16, 5, 16, 5), PcieLink(8, 5, 16, 5), PcieLink(16, 1, 16, 5)
WELL = GreySample(
    0.0,
    utilization=LOAD,
    link=FULL,
    event_reasons=0,
    clock=1900,
    most_clock=1980,
    power=650.0,
    power_limit=700.0,
    corrected=5,
    banks_without_spare=0,
    persistence=True,
    fabric_health=0x1AA,
)
"""A GPU that works, and has nothing wrong."""

Change = dict[str, object]

BAD: dict[ReasonKind, tuple[Change, str]] = {
    ReasonKind.PCIE: ({"link": NARROW}, "x8 instead of x16"),
    ReasonKind.SLOWDOWN: ({"event_reasons": HARDWARE | 0x80}, "power brake"),
    ReasonKind.CLOCKS: ({"clock": 345}, "345 of 1980 MHz"),
    ReasonKind.ECC_CORRECTED: ({"corrected": 5 + MANY}, "1000 within an hour"),
    ReasonKind.SPARE_ROWS: ({"banks_without_spare": 2}, "in 2 banks"),
    ReasonKind.PERSISTENCE: ({"persistence": False}, ""),
    ReasonKind.FABRIC: ({"fabric_health": 0x1A9}, "degraded: less bandwidth"),
}
"""What a sample under load shows of each failure, and its detail."""

SLOW_KINDS = [k for k in BAD if k not in {ReasonKind.ECC_CORRECTED, ReasonKind.SPARE_ROWS}]


def states(samples: Iterable[tuple[float, GreySample]]) -> GreyState:
    """Return the state after *samples*, each with its time."""
    state = GreyState()
    for at, sample in samples:
        state = after(state, replace(sample, at=at), HOLD)
    return state


def bad(kind: ReasonKind, **more: object) -> GreySample:
    """Return a sample that shows the failure."""
    return replace(WELL, **{**BAD[kind][0], **more})


def kinds(state: GreyState) -> list[ReasonKind]:
    """Return the kinds of the present failures."""
    return [reason.kind for reason in state.failures]


@pytest.mark.parametrize("kind", BAD)
def test_onset_and_clearing(kind: ReasonKind) -> None:
    """A failure begins when it was seen for a minute, and ends when it was not, as long."""
    hold = HOLD if kind in SLOW_KINDS else 0.0
    well, ill = [(0.0, WELL)], bad(kind)
    assert kinds(states(well)) == []
    if hold:
        assert kinds(states([*well, (10.0, ill), (69.9, ill)])) == []
    seen = [*well, (10.0, ill), (10.0 + hold, ill)]
    assert states(seen).failures == (Reason(kind, BAD[kind][1]),)
    healthy = WELL if kind is not ReasonKind.ECC_CORRECTED else replace(WELL, corrected=0)
    if hold:
        assert kinds(states([*seen, (100.0, healthy), (159.9, healthy)])) == [kind]
    assert kinds(states([*seen, (100.0, healthy), (100.0 + hold, healthy)])) == []


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_a_failure_for_a_moment_is_none(kind: ReasonKind) -> None:
    """A failure that is not there in one sample of a minute does not begin; so of its end."""
    ill = bad(kind)
    assert kinds(states([(0, WELL), (1, ill), (50, ill), (55, WELL), (60, ill), (115, ill)])) == []
    seen = [(0.0, WELL), (1.0, ill), (61.0, ill)]
    again = [(70.0, WELL), (120.0, WELL), (125.0, ill), (130.0, WELL), (185.0, WELL)]
    assert kinds(states([*seen, *again])) == [kind]


UNDER_LOAD = (ReasonKind.PCIE, ReasonKind.CLOCKS)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("utilization", [IDLE, None])
def test_an_idle_gpu(kind: ReasonKind, utilization: int | None) -> None:
    """An idle GPU lowers link and clocks, and one in MIG mode does not tell how busy it is."""
    ill = bad(kind, utilization=utilization)
    seen = [(0.0, WELL), (10.0, ill), (70.0, ill), (130.0, ill)]
    assert kinds(states(seen)) == ([] if kind in UNDER_LOAD else [kind])


@pytest.mark.parametrize("kind", UNDER_LOAD)
def test_a_pause_of_the_load(kind: ReasonKind) -> None:
    """A pause neither counts nor interrupts, and a failure outlasts the load that showed it."""
    ill, idle = bad(kind), bad(kind, utilization=IDLE)
    seen = [(0.0, WELL), (10.0, ill), (40.0, ill), (50.0, idle), (900.0, idle), (910.0, ill)]
    assert kinds(states([*seen, (939.0, ill)])) == []
    assert kinds(states([*seen, (940.0, ill), (950.0, idle), (9999.0, idle)])) == [kind]


@pytest.mark.parametrize("kind", [ReasonKind.PERSISTENCE, ReasonKind.FABRIC])
def test_what_is_sampled_once_a_minute(kind: ReasonKind) -> None:
    """The samples between, in which the GPU is not asked, interrupt nothing."""
    between = replace(WELL, persistence=None, fabric_health=None)
    ill = bad(kind)
    seen = [(0.0, WELL), (60.0, ill), (65.0, between), (60.0 + HOLD, ill)]
    assert kinds(states(seen)) == [kind]
    ended = [(180.0, WELL), (185.0, between)]
    assert kinds(states([*seen, *ended])) == [kind]
    assert kinds(states([*seen, *ended, (180.0 + HOLD, WELL)])) == []


def test_the_link_of_an_idle_gpu_ends_the_failure() -> None:
    """An idle GPU is asked for its link once a minute: two full links in a row end the failure, and
    one that is slow, as idle GPUs have it, says nothing about the time until then.
    """
    unasked = replace(WELL, link=None, utilization=IDLE)
    full, slow = (replace(WELL, link=link, utilization=IDLE) for link in (FULL, SLOW))
    seen = [(0.0, bad(ReasonKind.PCIE)), (HOLD, bad(ReasonKind.PCIE))]
    idle = [*seen, (100.0, full), (105.0, unasked), (155.0, unasked)]
    assert kinds(states([*idle, (159.9, full)])) == [ReasonKind.PCIE]
    assert kinds(states([*idle, (160.0, full)])) == []
    assert kinds(states([*idle, (160.0, slow), (165.0, unasked), (220.0, full)])) == [
        ReasonKind.PCIE
    ]
    begins = [(0.0, bad(ReasonKind.PCIE)), (5.0, unasked), (HOLD, bad(ReasonKind.PCIE))]
    assert kinds(states(begins)) == []


@pytest.mark.parametrize("kind", BAD)
def test_a_gpu_that_does_not_tell(kind: ReasonKind) -> None:
    """What is not supported begins nothing, and ends nothing."""
    silent = GreySample(0.0, utilization=LOAD)
    assert kinds(states([(0.0, silent), (100.0, silent)])) == []
    seen = [(0.0, WELL), (10.0, bad(kind)), (70.0, bad(kind))]
    assert kinds(states([*seen, (80.0, silent), (999.0, silent)])) == [kind]


def test_a_changed_detail_is_no_other_failure() -> None:
    """The detail of a failure stays as it began, so that the reason does not change."""
    worse = replace(WELL, link=PcieLink(4, 1, 16, 5))
    first = [(0.0, bad(ReasonKind.PCIE)), (60.0, bad(ReasonKind.PCIE)), (120.0, worse)]
    assert states(first).failures == (Reason(ReasonKind.PCIE, "x8 instead of x16"),)
    both = Reason(ReasonKind.PCIE, "x4 instead of x16, generation 1 instead of 5")
    assert states([(0.0, worse), (60.0, worse)]).failures == (both,)


@pytest.mark.parametrize(
    ("link", "utilization", "failing"),
    [
        (SLOW, LOAD, True),
        (SLOW, 50, True),
        (SLOW, 49, False),
        (PcieLink(8, 4, 8, 4), LOAD, False),  # a slot with fewer lanes than the card has
    ],
)
def test_the_link(link: PcieLink, utilization: int, *, failing: bool) -> None:
    """A link counts as slow under load, compared with what card and slot allow together."""
    sample = replace(WELL, link=link, utilization=utilization)
    assert bool(states([(0.0, sample), (60.0, sample)]).failures) is failing


@pytest.mark.parametrize(
    ("reasons", "detail"),
    [(0x8, ""), (0x48, "too hot"), (0x88, "power brake"), (0xC8, "power brake, too hot")],
)
@pytest.mark.parametrize("others", [0, 0x1, 0x20, POWER_CAP])
def test_the_hardware_slows_down(reasons: int, others: int, detail: str) -> None:
    """The hardware's reasons count, whatever other reasons there are, and those do not."""
    sample = replace(WELL, event_reasons=reasons | others)
    found = states([(0.0, sample), (60.0, sample)]).failures
    assert found == (Reason(ReasonKind.SLOWDOWN, detail),)
    other = replace(WELL, event_reasons=others)
    assert states([(0.0, other), (60.0, other)]).failures == ()


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({}, True),
        ({"clock": 989}, True),
        ({"clock": 990}, False),
        ({"utilization": 79}, False),
        ({"event_reasons": 0x20}, True),  # too hot, so the driver lowers the clocks
        ({"event_reasons": 0x2}, False),
        ({"event_reasons": 0x10}, False),
        ({"event_reasons": 0x100}, False),
        ({"event_reasons": None}, False),  # a setting may be the cause
        ({"event_reasons": POWER_CAP, "power": 690.0}, False),
        ({"event_reasons": POWER_CAP, "power": 90.0}, True),
        ({"event_reasons": POWER_CAP, "power": None}, False),
    ],
)
def test_low_clocks(change: Change, *, failing: bool) -> None:
    """Clocks under half of the maximum count on a busy GPU, unless a setting explains them."""
    sample = bad(ReasonKind.CLOCKS, **change)
    assert (ReasonKind.CLOCKS in kinds(states([(0.0, sample), (60.0, sample)]))) is failing
    assert CLOCK_SETTINGS == 0x112


def test_corrected_errors() -> None:
    """Many errors within an hour count; as many over a day do not."""
    each = [(n * 600.0, replace(WELL, corrected=n * 160)) for n in range(150)]
    assert kinds(states(each)) == []
    faster = [(n * 600.0, replace(WELL, corrected=n * 170)) for n in range(7)]
    assert kinds(states(faster)) == [ReasonKind.ECC_CORRECTED]
    last = faster[-1]
    slower = [(last[0] + n * 600, replace(WELL, corrected=1020 + 20 * n)) for n in range(1, 6)]
    assert kinds(states([*faster, *slower])) == [ReasonKind.ECC_CORRECTED]
    end = (last[0] + HOUR, replace(WELL, corrected=1020 + FEW))
    assert kinds(states([*faster, end])) == []


def test_corrected_errors_before_the_start() -> None:
    """What was counted before the first sample is old, and a counter may begin anew."""
    assert kinds(states([(0.0, replace(WELL, corrected=9_000_000))])) == []
    again = [(0.0, replace(WELL, corrected=9000)), (60.0, replace(WELL, corrected=0))]
    assert kinds(states([*again, (120.0, replace(WELL, corrected=MANY - 1))])) == []
    assert kinds(states([*again, (120.0, replace(WELL, corrected=MANY))])) != []


def test_persistence_mode_that_was_never_on() -> None:
    """A node without persistence mode has nothing to miss."""
    off = bad(ReasonKind.PERSISTENCE)
    assert kinds(states([(0.0, off), (60.0, off), (999.0, off)])) == []


@pytest.mark.parametrize(
    ("mask", "detail"),
    [
        (0x0, None),
        (0x1AA, None),
        (0x2, None),
        (0x1, "degraded: less bandwidth"),
        (0x1A6, "degraded: a route is in recovery"),
        (0x19A, "degraded: a route is unhealthy"),
        (0x16A, "degraded: an access timeout is in recovery"),
        (0x2AA, "degraded: wrong configuration"),
        (0x599, "degraded: less bandwidth, a route is unhealthy, wrong configuration"),
    ],
)
def test_the_fabric(mask: int, detail: str | None) -> None:
    """Each part of the health mask counts; 0 means that the driver does not tell it."""
    sample = replace(WELL, fabric_health=mask)
    found = states([(0.0, sample), (60.0, sample)]).failures
    assert found == (() if detail is None else (Reason(ReasonKind.FABRIC, detail),))


@pytest.mark.parametrize(
    ("on_bus", "failed", "detail"),
    [
        ((1, 2), 0, ""),
        ((1,), 0, ""),  # a GPU that is lost may have left the bus
        ((1, 2, 3), 0, "0000:03:00.0"),
        ((1, 2, 3), 1, ""),  # the one that cannot be enumerated
        ((1, 2, 3, 4), 1, "0000:03:00.0, 0000:04:00.0"),
        ((), 0, None),
    ],
)
def test_missing_gpus(on_bus: tuple[int, ...], failed: int, detail: str | None) -> None:
    """Addresses on the bus that no GPU has count, but for GPUs that are told as failed."""
    known = inventory(gpu(0), gpu(1))
    known = msgspec.structs.replace(known, failed=tuple(FailedGpu(n, "x") for n in range(failed)))
    nothing = None if detail is None else False
    found = missing(frozenset(f"0000:{n:02x}:00.0" for n in on_bus), known)
    assert found == (Reason(ReasonKind.GPU_MISSING, detail) if detail else nothing)


def test_a_gpu_that_the_driver_must_not_use_is_not_missing() -> None:
    """NVreg_ExcludedGpus leaves a GPU on the bus that the driver does not show."""
    known = msgspec.structs.replace(inventory(gpu(0)), excluded=("0000:02:00.0",))
    assert missing(frozenset({"0000:01:00.0", "0000:02:00.0"}), known) is False


def test_many_missing_gpus() -> None:
    """A detail names a limited number of them."""
    found = missing(frozenset(f"0000:{n:02x}:00.0" for n in range(1, 20)), inventory(gpu(0)))
    assert isinstance(found, Reason)
    assert found.detail.count("0000:") == MOST_NAMED
    assert found.detail.endswith(" and 10 more")
