"""The last hour of usage, for the lines on the page."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.messages import UsageState
from proto.usage import DeviceUsage
from supervisor.status.usage_history import GPUS, GROUP, POINTS, STEP, STEPS, History, Hour

START = 40.0 * 1000
"""The beginning of a point that is drawn."""

POINT = STEP * GROUP


def add(
    history: History,
    at: float,
    *uuids: str,
    utilization: int | None = 50,
    used: int | None = None,
    interval: float = 5.0,
) -> None:
    """Add a sample of each GPU."""
    samples = (
        DeviceUsage(uuid, at, utilization=utilization, memory_used=used, memory_total=200)
        for uuid in uuids or ("A",)
    )
    history.add(UsageState(epoch=1, sequence=1, interval=interval, devices=tuple(samples)), at)


def drawn(history: History, now: float, uuid: str = "A") -> Hour:
    """Return what is drawn of a GPU at *now*."""
    return history.hours([uuid], now)[uuid]


def test_an_hour_of_samples() -> None:
    """Each point is the mean of its samples; memory is in percent of all memory."""
    history = History()
    for step in range(STEPS):
        add(history, START + step * STEP, utilization=step % GROUP * 10, used=step // GROUP)
    hour = drawn(history, START + (STEPS - 1) * STEP)
    assert hour.utilization == (15,) * POINTS
    assert hour.memory == tuple(round(point / 2) for point in range(POINTS))


def test_missing_samples_are_gaps() -> None:
    """Where samples are missing there is a gap, and the samples around it stay."""
    history = History()
    for step in (*range(GROUP), *range(3 * GROUP, 4 * GROUP)):
        add(history, START + step * STEP)
    hour = drawn(history, START + 5 * POINT)
    assert hour.utilization[-6:] == (50, None, None, 50, None, None)
    assert set(hour.memory) == {None}


def test_a_gap_of_more_than_an_hour() -> None:
    """After a long gap, nothing is left of what was before it."""
    history = History()
    add(history, START, utilization=90)
    add(history, START + 4000.0, utilization=10)
    assert drawn(history, START + 4000.0).utilization == (None,) * (POINTS - 1) + (10,)


def test_a_sample_is_not_added_twice() -> None:
    """A message that repeats a GPU's sample adds nothing: the GPU may hang."""
    history = History()
    old = UsageState(
        epoch=1, sequence=1, interval=STEP, devices=(DeviceUsage("A", 1.0, utilization=50),)
    )
    for step in range(3 * GROUP):
        history.add(old, START + step * STEP)
    assert drawn(history, START + 2 * POINT).utilization[-3:] == (50, None, None)


@pytest.mark.parametrize(("interval", "at"), [(60.0, 60.0), (STEP, 20.1), (200.0, 290.0)])
def test_a_long_interval_leaves_no_gap(interval: float, at: float) -> None:
    """A figure stands for the time since the sample before, even if it is a little late."""
    history = History()
    add(history, START, interval=interval)
    add(history, START + at, interval=interval)
    points = int(at // POINT) + 1
    assert drawn(history, START + at).utilization[-points:] == (50,) * points


def test_the_highest_sample_of_a_step() -> None:
    """Of several samples within a step, the highest is kept."""
    history = History()
    for at, utilization in ((0.0, 20), (3.0, 80), (6.0, 30)):
        add(history, START + at, utilization=utilization, interval=3.0)
    assert drawn(history, START + 6.0).utilization[-1] == 80


def test_odd_figures_stay_within_their_bounds() -> None:
    """Figures that the driver cannot mean are drawn as 0 or 100."""
    history = History()
    add(history, START, "A", utilization=-7, used=900)
    assert drawn(history, START).utilization[-1] == 0
    assert drawn(history, START).memory[-1] == 100
    add(history, START, "B", utilization=70_000)
    assert drawn(history, START, "B").utilization[-1] == 100


def test_gpus_that_are_gone_make_room() -> None:
    """No more GPUs are kept than the bound; a GPU that is gone for an hour makes room."""
    history = History()
    names = [f"GPU-{n}" for n in range(GPUS + 1)]
    add(history, START, *names)
    assert set(history.hours(names, START)) == set(names[:GPUS])
    add(history, START + 3000.0, *names[:1])
    add(history, START + 3700.0, *names[:1], names[GPUS])
    assert set(history.hours(names, START + 3700.0)) == {names[0], names[GPUS]}


def test_mig_instances_and_unknown_gpus_have_no_history() -> None:
    """Only GPUs are kept; a GPU without a figure has no hour."""
    history = History()
    add(history, START, "MIG-1", "A", utilization=None)
    assert history.hours(["MIG-1", "A", "B"], START) == {}


def test_the_memory_of_a_gpu() -> None:
    """A GPU needs less than 1 KiB, whatever time passes."""
    history = History()
    for step in range(3 * STEPS):
        add(history, START + step * STEP, used=step)
    assert len(pickle.dumps(history)) < 1024


@given(
    st.lists(
        st.tuples(st.floats(0, 5000), st.none() | st.integers(0, 100), st.floats(0.1, 4000)),
        max_size=30,
    ),
    st.floats(0, 9000),
)
def test_any_samples_at_any_time(
    samples: list[tuple[float, int | None, float]], later: float
) -> None:
    """Whatever the clock does, a line has POINTS figures, and each is one that was sampled."""
    history = History()
    now = 0.0
    for after, utilization, interval in samples:
        now += after
        add(history, now, utilization=utilization, interval=interval)
    known = {figure for _, figure, _ in samples if figure is not None}
    for hour in history.hours(["A"], now + later).values():
        figures = {figure for figure in hour.utilization if figure is not None}
        assert len(hour.utilization) == POINTS
        assert all(min(known) <= figure <= max(known) for figure in figures)
