"""The watch of one GPU for events, and how it continues when NVML calls fail."""

from types import SimpleNamespace

import pytest

from health.nvml import ANY_INSTANCE, XID_EVENT, Code, Hint, Nvml, NvmlError, XidEvent
from health.watch import (
    AGAIN,
    BLIND,
    UNSUPPORTED,
    Ended,
    Registered,
    Sight,
    Watch,
    Watching,
    after_end,
    after_success,
    watch,
)
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import Driver, refusal

TIMEOUT = Code.TIMEOUT
END = Code.GPU_IS_LOST


def xid(code: int, kind: int = XID_EVENT) -> SimpleNamespace:
    """Return an event of the GPU."""
    return SimpleNamespace(
        eventType=kind,
        device="GPU",
        eventData=code,
        gpuInstanceId=ANY_INSTANCE,
        computeInstanceId=ANY_INSTANCE,
    )


class Events:
    """A driver whose waits give one answer after the other, and which notes the calls."""

    def __init__(self, *waits: int | SimpleNamespace, **refused: int) -> None:
        self.calls: list[object] = []
        self._waits = list(waits)
        self._refused = refused

    def watch(self) -> tuple[list[Sight], Ended]:
        """Return what the watch tells, and how it ends."""
        driver = Driver(
            nvmlEventSetCreate=lambda: self._call("create"),
            nvmlDeviceGetSupportedEventTypes=XID_EVENT,
            nvmlDeviceRegisterEvents=lambda *_: self._call("register"),
            nvmlEventSetWait=lambda _, milliseconds: self._wait(milliseconds),
            nvmlEventSetFree=lambda _: self._call("free"),
            nvmlDeviceGetMemoryInfo=lambda _: self._call("memory"),
        )
        told: list[Sight] = []
        return told, watch(Nvml(driver), "GPU", told.append)

    def _call(self, name: str) -> object:
        self.calls.append(name)
        if name in self._refused:
            raise refusal(self._refused[name])
        return object()

    def _wait(self, milliseconds: int) -> SimpleNamespace:
        self.calls.append(milliseconds)
        answer = self._waits.pop(0)
        if isinstance(answer, int):
            raise refusal(answer)
        return answer


def kinds(told: list[Sight]) -> list[type]:
    """Return the types of what was told."""
    return [type(sight) for sight in told]


def test_every_event_is_told_in_order() -> None:
    """The GPU is registered first; the first wait is short, to show early that waits succeed."""
    driver = Events(xid(79), xid(31), xid(0, kind=0x1000), TIMEOUT, END)
    told, ended = driver.watch()
    assert kinds(told) == [Registered, XidEvent, Watching, XidEvent, Hint]
    assert [sight.xid for sight in told if isinstance(sight, XidEvent)] == [79, 31]
    assert driver.calls[:4] == ["create", "register", 500, 5000]
    assert (ended.registered, ended.error.code) == (True, END)


@pytest.mark.parametrize(("memory", "lost"), [({}, False), ({"memory": END}, True)])
def test_a_call_on_the_gpu_shows_whether_it_is_lost(memory: dict[str, int], *, lost: bool) -> None:
    """A failed wait alone does not make a GPU lost; the event set is freed."""
    driver = Events(END, **memory)
    _, ended = driver.watch()
    assert ended.lost is lost
    assert driver.calls[-2:] == ["free", "memory"]


@pytest.mark.parametrize("call", ["create", "register"])
def test_what_is_not_supported_asks_the_gpu_nothing_more(call: str) -> None:
    """A GPU without events is not called to find out whether it is lost."""
    driver = Events(**{call: Code.NOT_SUPPORTED})
    told, ended = driver.watch()
    assert (told, ended.registered, ended.lost) == ([], False, False)
    assert ended.error.code in UNSUPPORTED
    assert "memory" not in driver.calls


def test_a_set_that_cannot_be_freed_hides_no_error() -> None:
    """The error of the registration counts, not that of the clean-up."""
    driver = Events(register=4, free=999)
    assert driver.watch()[1].error.code == 4


def ended(call: str = "nvmlEventSetWait", *, lost: bool = False, registered: bool = True) -> Ended:
    """Return the end of a watch by an error of *call*."""
    return Ended(NvmlError(call, 999, "Unknown Error"), registered, lost)


def test_a_gpu_is_unwatched_after_the_second_failed_wait() -> None:
    """Pauses grow with the failures in a row; a success ends everything."""
    now, known = 100.0, Watch()
    blind, pauses = [], []
    for _ in range(6):
        known = after_end(known, ended(), now)
        blind.append(known.blind)
        pauses.append(round(known.again_at - now, 6))
        now = known.again_at
    assert blind == [None] + [BLIND] * 5
    assert pauses == [*AGAIN, AGAIN[-1], AGAIN[-1]]
    assert after_success() == Watch()


def test_a_gpu_that_cannot_be_registered_is_unwatched_at_once() -> None:
    """The reason names the error, and a failed wait that follows keeps it."""
    refused = Reason(ReasonKind.UNWATCHED, "NVML error 999")
    known = after_end(Watch(), ended("nvmlDeviceRegisterEvents", registered=False), 0.0)
    assert known.blind == refused
    assert after_end(known, ended(), 1.0).blind == refused


def test_without_an_event_set_the_second_failure_counts() -> None:
    """The event set is not the GPU's, so one failure is not told as the GPU's."""
    failure = ended("nvmlEventSetCreate", registered=False)
    first = after_end(Watch(), failure, 0.0)
    assert (first.blind, after_end(first, failure, 1.0).blind) == (None, BLIND)


def test_a_lost_gpu_is_not_unwatched() -> None:
    """That it is lost says more; it is watched again as soon as it is found."""
    known = after_end(after_end(Watch(), ended(lost=True), 0.0), ended(lost=True), 7.0)
    assert (known.blind, known.again_at) == (None, 7.0)
