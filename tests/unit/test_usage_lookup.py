"""The owners of processes are looked up in a thread, at most once for each sample."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from proto.exporter import UsageRoots
from proto.messages import UsageState
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from supervisor.exporter import usage_lookup
from supervisor.exporter.usage_lookup import SWITCHED_OFF, TOO_SLOW, UsageLookup
from supervisor.exporter.usage_processes import Found
from supervisor.status.usage_owner import HOST, Owners

LookUp = Callable[[UsageState], Owners]


def state(**taken: float) -> UsageState:
    """Return samples of GPUs with one process each; the values are the times of the samples."""
    devices = (
        DeviceUsage(uuid, at, processes=(GpuProcess(7, ProcessKind.COMPUTE),))
        for uuid, at in taken.items()
    )
    return UsageState(epoch=1, sequence=1, interval=5.0, devices=tuple(devices))


def hosts(known: UsageState) -> Owners:
    """Return that all processes are the host's."""
    return Owners({(device.uuid, 7): HOST for device in known.devices})


@pytest.fixture
def look_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[LookUp], None]:
    """Return a function that replaces the reading of files."""

    def use(replacement: LookUp) -> None:
        def find(known: UsageState, roots: Sequence[UsageRoots], found: Found) -> Owners:
            del roots, found
            return replacement(known)

        monkeypatch.setattr(usage_lookup, "find", find)

    return use


def test_only_new_samples_are_looked_up(look_up: Callable[[LookUp], None]) -> None:
    """A sample that is repeated in the next message keeps its owners; one that is gone has none."""
    asked = []

    def find(known: UsageState) -> Owners:
        asked.append({device.uuid for device in known.devices})
        return hosts(known)

    async def story() -> None:
        lookup = UsageLookup((), wanted=True)
        for known in (state(A=1.0, B=1.0), state(A=1.0, B=2.0), state(B=3.0)):
            lookup.take(known, 5.0)
            assert (await lookup.next()).owners == hosts(known)

    look_up(find)
    asyncio.run(story())
    assert asked == [{"A", "B"}, {"B"}, {"B"}]


def test_the_newest_sample_counts(look_up: Callable[[LookUp], None]) -> None:
    """Samples that nobody looked at are dropped for newer ones."""

    async def story() -> None:
        lookup = UsageLookup((), wanted=True)
        lookup.take(state(A=1.0), 5.0)
        lookup.take(state(A=2.0), 6.0)
        usage = await lookup.next()
        assert (usage.state, usage.at) == (state(A=2.0), 6.0)

    look_up(hosts)
    asyncio.run(story())


def test_a_problem_is_not_kept(look_up: Callable[[LookUp], None]) -> None:
    """After a problem, all samples are looked up again."""
    answers = [Owners(problem="cannot read"), Owners({("A", 7): HOST})]

    async def story() -> None:
        lookup = UsageLookup((), wanted=True)
        lookup.take(state(A=1.0), 5.0)
        assert (await lookup.next()).owners.problem == "cannot read"
        lookup.take(state(A=1.0), 6.0)
        assert (await lookup.next()).owners == Owners({("A", 7): HOST})

    look_up(lambda _: answers.pop(0))
    asyncio.run(story())


def test_a_disk_that_hangs(
    look_up: Callable[[LookUp], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPUs have their figures while files cannot be read, the loop goes on, one thread waits."""
    monkeypatch.setattr(usage_lookup, "WITHIN", 0.0)
    answer, calls = threading.Event(), []

    def find(known: UsageState) -> Owners:
        calls.append(known)
        answer.wait()
        return hosts(known)

    async def story() -> None:
        lookup = UsageLookup((), wanted=True)
        for at in (1.0, 2.0, 3.0):
            lookup.take(state(A=at), at)
            usage = await lookup.next()
            assert (usage.state, usage.owners) == (state(A=at), Owners(problem=TOO_SLOW))
        assert len(calls) == 1
        monkeypatch.setattr(usage_lookup, "WITHIN", 60.0)
        answer.set()
        assert await again(lookup) == hosts(state(A=4.0))

    async def again(lookup: UsageLookup) -> Owners:
        while True:
            lookup.take(state(A=4.0), 4.0)
            usage = await lookup.next()
            if not usage.owners.problem:
                return usage.owners
            await asyncio.sleep(0)

    look_up(find)
    asyncio.run(asyncio.wait_for(story(), 60))


def test_an_error_is_not_swallowed(look_up: Callable[[LookUp], None]) -> None:
    """A mistake in the look-up ends the exporter, as any other does."""

    def find(known: UsageState) -> Owners:
        raise LookupError(known)

    async def story() -> None:
        lookup = UsageLookup((), wanted=True)
        lookup.take(state(A=1.0), 5.0)
        with pytest.raises(LookupError):
            await lookup.next()

    look_up(find)
    asyncio.run(story())


def test_switched_off(look_up: Callable[[LookUp], None]) -> None:
    """With --pod-usage=false no file is read, and the status says why."""

    def find(known: UsageState) -> Owners:
        raise LookupError(known)

    async def story() -> None:
        lookup = UsageLookup((), wanted=False)
        lookup.take(state(A=1.0), 5.0)
        assert (await lookup.next()).owners == Owners(problem=SWITCHED_OFF)

    look_up(find)
    asyncio.run(story())
