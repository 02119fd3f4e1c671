"""The watch for Xid events, and how it continues when NVML calls fail."""

import queue
import select
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from loguru import logger

from health.event_thread import Sight, Watching
from health.events import AGAIN, BLIND, EventWatch, Failed
from health.nvml import ANY_INSTANCE, XID_EVENT, Code, Nvml, NvmlError, XidEvent
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import Driver, refusal

GUARD = 10_000
"""Milliseconds after which a test gives up."""

ALL = frozenset({"A", "B"})
TIMEOUT = Code.TIMEOUT


class Events:
    """A driver of GPUs A and B; a wait returns the events that the test puts into a queue."""

    def __init__(self) -> None:
        self.waits: queue.Queue[int | SimpleNamespace] = queue.Queue()
        self.refused: dict[str, int] = {}
        """NVML return codes by the UUID whose registration fails, or by function."""
        self.lost: set[str] = set()
        self.calls: list[str] = []

    def nvml(self) -> Nvml:
        """Return NVML on this driver."""
        driver = Driver(
            nvmlEventSetCreate=self._create,
            nvmlDeviceRegisterEvents=lambda uuid, *_: self._call(uuid),
            nvmlEventSetWait=lambda _, milliseconds: self._wait(milliseconds),
            nvmlEventSetFree=lambda _: self._call("free"),
            nvmlDeviceGetMemoryInfo=self._memory,
        )
        return Nvml(driver)

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if what in self.refused:
            raise refusal(self.refused[what])

    def _create(self) -> object:
        self._call("create")
        return object()

    def _wait(self, milliseconds: int) -> SimpleNamespace:
        try:
            answer = self.waits.get(timeout=milliseconds / 1000)
        except queue.Empty:
            answer = TIMEOUT
        if isinstance(answer, int):
            raise refusal(answer)
        return answer

    def _memory(self, uuid: str) -> SimpleNamespace:
        if uuid in self.lost:
            raise refusal(Code.GPU_IS_LOST)
        return SimpleNamespace(total=1)


@pytest.fixture
def driver() -> Events:
    """Return a driver whose calls all succeed."""
    return Events()


@pytest.fixture
def watch(driver: Events) -> Iterator[EventWatch]:
    """Return the watch of both GPUs, and end it after the test."""
    watch = EventWatch(driver.nvml(), {"A": "A", "B": "B"})
    yield watch
    driver.waits.put(TIMEOUT)
    watch.end()


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """Return a list that collects the logged warnings."""
    found: list[str] = []
    sink = logger.add(lambda line: found.append(line.record["message"]), level="WARNING")
    yield found
    logger.remove(sink)


def sights(watch: EventWatch) -> list[Sight]:
    """Wait until the watch sees something, and return what it saw."""
    poll = select.poll()
    poll.register(watch.fileno() or -1, select.POLLIN)
    assert poll.poll(GUARD)
    return watch.seen()


def fail(driver: Events, watch: EventWatch, code: int, now: float) -> Failed:
    """Make the running wait fail with *code*; return the watch's answer to the failure."""
    driver.waits.put(code)
    seen: list[Sight] = []
    while not any(isinstance(sight, NvmlError) for sight in seen):
        seen = sights(watch)
    assert f"NVML error {code}" in str(seen[-1])
    return watch.on_failed(now)


def xid(uuid: str, code: int) -> SimpleNamespace:
    """Return an Xid event of a GPU."""
    return SimpleNamespace(
        eventType=XID_EVENT,
        device=uuid,
        eventData=code,
        gpuInstanceId=ANY_INSTANCE,
        computeInstanceId=ANY_INSTANCE,
    )


def test_events_are_seen(driver: Events, watch: EventWatch) -> None:
    """Each GPU is registered once on one event set, and its Xid events are seen."""
    assert watch.follow(ALL, 0.0) is None
    assert (driver.calls, watch.again_at) == (["create", "A", "B"], None)
    driver.waits.put(xid("B", 79))
    driver.waits.put(xid("A", 31))
    found: list[Sight] = []
    while len(found) < 3:
        found += sights(watch)
    events = [sight for sight in found if not isinstance(sight, Watching)]
    assert events == [XidEvent("B", None, None, 79), XidEvent("A", None, None, 31)]


def test_following_the_same_gpus_again_changes_nothing(driver: Events, watch: EventWatch) -> None:
    """Following the same GPUs again keeps the running wait and its event set."""
    watch.follow(ALL, 0.0)
    seen = watch.fileno()
    assert watch.follow(ALL, 5.0) is None
    assert (watch.fileno(), driver.calls) == (seen, ["create", "A", "B"])


def test_following_different_gpus_makes_a_new_event_set(driver: Events, watch: EventWatch) -> None:
    """Following different GPUs frees the event set, and then creates a new set."""
    watch.follow(ALL, 0.0)
    driver.waits.put(TIMEOUT)
    watch.follow(frozenset({"B"}), 1.0)
    assert driver.calls == ["create", "A", "B", "free", "create", "B"]


def test_without_gpus_there_is_no_wait(driver: Events, watch: EventWatch) -> None:
    """Without GPUs that report events, there is no wait and no retry."""
    assert watch.follow(frozenset(), 0.0) is None
    assert (watch.fileno(), watch.again_at, watch.seen(), driver.calls) == (None, None, [], [])


def test_lost_in_the_wait(driver: Events, watch: EventWatch) -> None:
    """When a lost GPU makes the wait fail, the watch names it, and watches the others."""
    watch.follow(ALL, 0.0)
    driver.lost = {"A"}
    assert fail(driver, watch, Code.GPU_IS_LOST, 7.0) == Failed(("A",))
    assert (watch.fileno(), watch.again_at, watch.unwatched) == (None, 7.0, {})
    assert watch.follow(frozenset({"B"}), 7.0) is None
    assert (watch.again_at, driver.calls[-2:]) == (None, ["create", "B"])


def test_lost_at_the_registration(driver: Events, watch: EventWatch) -> None:
    """When a GPU is lost at registration, the watch names it, and watches the others."""
    driver.refused = {"A": Code.GPU_IS_LOST}
    assert watch.follow(ALL, 0.0) == Failed(("A",))
    assert (watch.unwatched, watch.fileno() is None) == ({}, False)


@pytest.mark.parametrize("code", [Code.NO_PERMISSION, 999])
def test_a_gpu_that_cannot_be_registered(driver: Events, watch: EventWatch, code: int) -> None:
    """Only the GPU that cannot be registered is unwatched, until registration succeeds."""
    driver.refused = {"B": code}
    assert watch.follow(ALL, 0.0) is None
    assert watch.unwatched == {"B": Reason(ReasonKind.UNWATCHED, f"NVML error {int(code)}")}
    assert watch.fileno() is not None
    driver.refused = {}
    fail(driver, watch, 999, 1.0)
    watch.follow(ALL, 2.0)
    assert watch.unwatched == {}


@pytest.mark.parametrize("code", [Code.GPU_IS_LOST, 999])
def test_no_event_set(driver: Events, watch: EventWatch, code: int) -> None:
    """Without an event set, GPUs are unwatched from the second failure; pauses grow."""
    driver.refused = {"create": code}
    blind = []
    later = []
    now = 0.0
    for _ in range(6):
        assert watch.follow(ALL, now) == Failed(())
        assert watch.again_at is not None
        blind.append(dict(watch.unwatched))
        later.append(round(watch.again_at - now, 6))
        assert watch.follow(ALL, watch.again_at - 0.01) is None
        now = watch.again_at
    assert later == [*AGAIN, AGAIN[-1], AGAIN[-1]]
    assert blind == [{}] + [dict.fromkeys(ALL, BLIND)] * 5


def test_a_failure_that_repeats_is_logged_once(
    driver: Events, watch: EventWatch, warnings: list[str]
) -> None:
    """A repeated failure is logged once; a changed cause, or a failure after success, again."""
    cannot_watch = "cannot watch a GPU for Xid events"
    cannot_create = "cannot create an NVML event set; retrying"
    driver.refused = {"B": 4}
    watch.follow(ALL, 0.0)
    for now in (1.0, 40.0):
        fail(driver, watch, 999, now)
        watch.follow(ALL, now + 35.0)
    assert warnings == [cannot_watch]
    driver.refused = {"B": 999}
    fail(driver, watch, 999, 100.0)
    watch.follow(ALL, 200.0)
    assert warnings == [cannot_watch] * 2
    driver.refused = {"create": 999}
    fail(driver, watch, 999, 300.0)
    for now in (400.0, 500.0):
        watch.follow(ALL, now)
    assert warnings == [cannot_watch] * 2 + [cannot_create]
    watch.on_well()
    watch.follow(ALL, 600.0)
    assert warnings == [cannot_watch] * 2 + [cannot_create] * 2


def test_gpus_are_unwatched_until_a_wait_succeeds(driver: Events, watch: EventWatch) -> None:
    """After two failed waits all GPUs are unwatched, until a wait succeeds."""
    unwatched = []
    for now in (0.0, 10.0):
        watch.follow(ALL, now)
        assert fail(driver, watch, 999, now) == Failed(())
        unwatched.append(dict(watch.unwatched))
    assert unwatched == [{}, dict.fromkeys(ALL, BLIND)]
    watch.follow(ALL, 20.0)
    driver.waits.put(TIMEOUT)
    (well,) = sights(watch)
    assert isinstance(well, Watching)
    watch.on_well()
    assert watch.unwatched == {}
    fail(driver, watch, 999, 30.0)
    assert (watch.unwatched, watch.again_at) == ({}, 30.0 + AGAIN[0])


def test_a_gpu_without_events_is_never_unwatched(driver: Events, watch: EventWatch) -> None:
    """A failing event set does not affect a GPU that cannot report Xids."""
    driver.refused["create"] = Code.NO_PERMISSION
    watch.follow(frozenset({"A"}), 1.0)
    watch.follow(frozenset({"A"}), 2.0)

    assert watch.unwatched == {"A": BLIND}


def test_a_registration_does_not_end_unwatched(driver: Events, watch: EventWatch) -> None:
    """GPUs stay unwatched after a successful registration, until a wait succeeds."""
    for now in (0.0, 10.0):
        watch.follow(ALL, now)
        fail(driver, watch, 999, now)
    watch.follow(ALL, 20.0)
    assert watch.unwatched == dict.fromkeys(ALL, BLIND)


def test_the_end(driver: Events, watch: EventWatch) -> None:
    """Ending the watch frees the event set; ending it twice is harmless."""
    watch.follow(ALL, 0.0)
    driver.waits.put(TIMEOUT)
    watch.end()
    watch.end()
    assert (watch.fileno(), driver.calls) == (None, ["create", "A", "B", "free"])
