"""The wait for events goes on through all that makes it fail, on a driver that does as told."""

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
    """The events of a driver of GPUs A and B; a wait returns what the test puts in."""

    def __init__(self) -> None:
        self.waits: queue.Queue[int | SimpleNamespace] = queue.Queue()
        self.refused: dict[str, int] = {}
        """Codes by the UUID whose registration fails, or by the function."""
        self.lost: set[str] = set()
        self.calls: list[str] = []

    def nvml(self) -> Nvml:
        """Return the face on this driver."""
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
    """Return a driver with which all is well."""
    return Events()


@pytest.fixture
def watch(driver: Events) -> Iterator[EventWatch]:
    """Return the watch over both GPUs, and end it."""
    watch = EventWatch(driver.nvml(), {"A": "A", "B": "B"})
    yield watch
    driver.waits.put(TIMEOUT)
    watch.end()


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """Return the warnings that are logged."""
    found: list[str] = []
    sink = logger.add(lambda line: found.append(line.record["message"]), level="WARNING")
    yield found
    logger.remove(sink)


def sights(watch: EventWatch) -> list[Sight]:
    """Wait for what is seen next."""
    poll = select.poll()
    poll.register(watch.fileno() or -1, select.POLLIN)
    assert poll.poll(GUARD)
    return watch.seen()


def fail(driver: Events, watch: EventWatch, code: int, now: float) -> Failed:
    """Let the wait that runs fail, and tell the watch."""
    driver.waits.put(code)
    seen: list[Sight] = []
    while not any(isinstance(one, NvmlError) for one in seen):
        seen = sights(watch)
    assert f"NVML error {code}" in str(seen[-1])
    return watch.on_failed(now)


def xid(uuid: str, code: int) -> SimpleNamespace:
    """Return an event."""
    return SimpleNamespace(
        eventType=XID_EVENT,
        device=uuid,
        eventData=code,
        gpuInstanceId=ANY_INSTANCE,
        computeInstanceId=ANY_INSTANCE,
    )


def test_events_are_seen(driver: Events, watch: EventWatch) -> None:
    """Each GPU is registered once on one set, and what happens is seen."""
    assert watch.follow(ALL, 0.0) is None
    assert (driver.calls, watch.again_at) == (["create", "A", "B"], None)
    driver.waits.put(xid("B", 79))
    driver.waits.put(xid("A", 31))
    found: list[Sight] = []
    while len(found) < 3:
        found += sights(watch)
    events = [one for one in found if not isinstance(one, Watching)]
    assert events == [XidEvent("B", None, None, 79), XidEvent("A", None, None, 31)]


def test_a_wait_that_runs_is_left_alone(driver: Events, watch: EventWatch) -> None:
    """To follow the same GPUs again changes nothing."""
    watch.follow(ALL, 0.0)
    seen = watch.fileno()
    assert watch.follow(ALL, 5.0) is None
    assert (watch.fileno(), driver.calls) == (seen, ["create", "A", "B"])


def test_other_gpus_are_another_wait(driver: Events, watch: EventWatch) -> None:
    """A GPU that is left out makes a new set; the old one is freed before."""
    watch.follow(ALL, 0.0)
    driver.waits.put(TIMEOUT)
    watch.follow(frozenset({"B"}), 1.0)
    assert driver.calls == ["create", "A", "B", "free", "create", "B"]


def test_nobody_to_wait_for(driver: Events, watch: EventWatch) -> None:
    """Without a GPU that has events there is no wait, and no next attempt."""
    assert watch.follow(frozenset(), 0.0) is None
    assert (watch.fileno(), watch.again_at, watch.seen(), driver.calls) == (None, None, [], [])


def test_lost_in_the_wait(driver: Events, watch: EventWatch) -> None:
    """The wait fails for all when one GPU is lost: that one is found, and the others go on."""
    watch.follow(ALL, 0.0)
    driver.lost = {"A"}
    assert fail(driver, watch, Code.GPU_IS_LOST, 7.0) == Failed(("A",))
    assert (watch.fileno(), watch.again_at, watch.unwatched) == (None, 7.0, {})
    assert watch.follow(frozenset({"B"}), 7.0) is None
    assert (watch.again_at, driver.calls[-2:]) == (None, ["create", "B"])


def test_lost_at_the_registration(driver: Events, watch: EventWatch) -> None:
    """A GPU that cannot be registered because it is lost is told, while the other is watched."""
    driver.refused = {"A": Code.GPU_IS_LOST}
    assert watch.follow(ALL, 0.0) == Failed(("A",))
    assert (watch.unwatched, watch.fileno() is None) == ({}, False)


@pytest.mark.parametrize("code", [Code.NO_PERMISSION, 999])
def test_a_gpu_that_cannot_be_registered(driver: Events, watch: EventWatch, code: int) -> None:
    """It is unwatched alone, for a reason that names the code, until it can be registered."""
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
    """Without an event set all are blind from the second failure on, and tries grow rare."""
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
    """The same failure at each attempt is one line; another cause, or one more later, is a line."""
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


def test_blind_until_a_wait_goes_well(driver: Events, watch: EventWatch) -> None:
    """One failure is nothing; after the second no GPU is watched until a wait has gone well."""
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


def test_a_gpu_without_events_is_never_blind(driver: Events, watch: EventWatch) -> None:
    """A GPU that is not waited for, as it cannot report Xids, loses nothing when a wait fails."""
    driver.refused["create"] = Code.NO_PERMISSION
    watch.follow(frozenset({"A"}), 1.0)
    watch.follow(frozenset({"A"}), 2.0)

    assert watch.unwatched == {"A": BLIND}


def test_a_registration_is_no_wait(driver: Events, watch: EventWatch) -> None:
    """A GPU that could be registered is blind still: its wait may fail as the last ones did."""
    for now in (0.0, 10.0):
        watch.follow(ALL, now)
        fail(driver, watch, 999, now)
    watch.follow(ALL, 20.0)
    assert watch.unwatched == dict.fromkeys(ALL, BLIND)


def test_the_end(driver: Events, watch: EventWatch) -> None:
    """At the end the thread has ended and its set is freed; a second end is nothing."""
    watch.follow(ALL, 0.0)
    driver.waits.put(TIMEOUT)
    watch.end()
    watch.end()
    assert (watch.fileno(), driver.calls) == (None, ["create", "A", "B", "free"])
