"""Calls on the simulated NVML from several threads, while GPUs hang, are slow or fail."""

import ctypes
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from health.fabric import FabricInfo
from simulator.live_node import LiveNode
from simulator.node import SimulatedFabric, SimulatedGpu, SimulatedLink, SimulatedNode
from simulator.node_file import complete
from simulator.nvml import FUNCTIONS, XID_EVENT, Binding, EventSet
from simulator.nvml_handles import GpuHandle, MigHandle, NVMLError
from tests.unit.builders import gpu_uuid

FABRIC = SimulatedFabric("00000000-0000-0000-0000-000000000001", 2)
NODE = complete(
    SimulatedNode(
        (SimulatedGpu(), SimulatedGpu(mig=("1g.10gb",), fabric=FABRIC)),
        links=(SimulatedLink((0, 1), nvlinks=4),),
    )
)
GOOD, BAD = (GpuHandle(gpu_uuid(place)) for place in range(2))
GUARD = 30
"""Seconds, reached only when something hangs."""
STILL = 0.05
"""Seconds for which a call that hangs is observed; a call that does not hang ends within them."""


@pytest.fixture
def live(tmp_path: Path) -> LiveNode:
    """Return a live node with two GPUs."""
    node = LiveNode(tmp_path)
    node.start(NODE)
    return node


@pytest.fixture
def nvml(live: LiveNode) -> Binding:
    """Return the binding to the node."""
    binding = Binding(live.path.parent)
    binding.nvmlInit()
    return binding


@pytest.fixture
def threads(live: LiveNode) -> Iterator[ThreadPoolExecutor]:
    """Return threads for calls; at the end every GPU answers, so that they end."""
    with ThreadPoolExecutor(32) as pool:
        yield pool
        for place in range(2):
            live.recover(place)


def code(call: Callable[[], object]) -> int:
    """Return the error code of a call, or 0."""
    try:
        call()
    except NVMLError as error:
        return error.value
    return 0


def listen(nvml: Binding, *gpus: GpuHandle) -> EventSet:
    """Return an event set with these GPUs."""
    events = nvml.nvmlEventSetCreate()
    for gpu in gpus:
        nvml.nvmlDeviceRegisterEvents(gpu, XID_EVENT, events)
    return events


OF_A_LINK = {"nvmlDeviceGetNvLinkState", "nvmlDeviceGetNvLinkRemoteDeviceType"}
OF_A_LINK |= {"nvmlDeviceGetNvLinkRemotePciInfo"}
OF_AN_INSTANCE = {"nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId"}
OF_AN_INSTANCE |= {"nvmlDeviceGetAttributes"}
OTHERWISE = {
    "nvmlEventSetWait": 10,
    "nvmlDeviceGetUtilizationRates": 3,
    "nvmlDeviceGetProcessesUtilizationInfo": 3,
}
"""What functions answer that do not succeed: no event, and a GPU in MIG mode."""


def calls(nvml: Binding) -> dict[str, Callable[[], Any]]:
    """Return a call of each function of a GPU, on the bad GPU; call this while it answers."""
    own: dict[str, tuple[object, ...]] = {
        "nvmlDeviceGetHandleByIndex": (1,),
        "nvmlDeviceGetHandleByUUID": (BAD.uuid,),
        "nvmlDeviceSetComputeMode": (BAD, 3),
        "nvmlDeviceGetMigDeviceHandleByIndex": (BAD, 0),
        "nvmlDeviceGetTopologyCommonAncestor": (GOOD, BAD),
        "nvmlDeviceGetFieldValues": (BAD, [230]),
        "nvmlDeviceGetTotalEccErrors": (BAD, 1, 0),
        "nvmlDeviceRegisterEvents": (BAD, XID_EVENT, nvml.nvmlEventSetCreate()),
        "nvmlEventSetWait": (listen(nvml, GOOD, BAD), 0),
        "nvmlDeviceGetTemperature": (BAD, 0),
        "nvmlDeviceGetClockInfo": (BAD, 1),
        "nvmlDeviceGetMaxClockInfo": (BAD, 1),
        "nvmlDeviceGetProcessesUtilizationInfo": (BAD, 0),
        "nvmlDeviceGetGpuFabricInfoV": (BAD, ctypes.pointer(FabricInfo())),
        **dict.fromkeys(OF_A_LINK, (BAD, 0)),
        **dict.fromkeys(OF_AN_INSTANCE, (MigHandle(BAD.uuid, 0),)),
    }

    def call(name: str) -> Callable[[], Any]:
        return lambda: getattr(nvml, name)(*own.get(name, (BAD,)))

    return {name: call(name) for name in FUNCTIONS}


def test_every_call_on_a_hung_gpu_hangs_until_it_recovers(
    live: LiveNode, nvml: Binding, threads: ThreadPoolExecutor
) -> None:
    """While a GPU hangs no call on it returns, and the other GPU answers; then all return."""
    hanging = calls(nvml)
    first = lambda: nvml.nvmlDeviceGetTopologyCommonAncestor(BAD, GOOD)  # noqa: E731
    live.hang(1)
    begun = [threads.submit(code, call) for call in (*hanging.values(), first)]
    assert nvml.nvmlDeviceGetUUID(GOOD) == GOOD.uuid
    assert code(lambda: nvml.nvmlEventSetWait(listen(nvml, GOOD), 0)) == 10
    assert not wait(begun, STILL).done

    live.recover(1)
    answers = dict(zip(hanging, (future.result(GUARD) for future in begun), strict=False))
    assert answers == dict.fromkeys(FUNCTIONS, 0) | OTHERWISE


def test_a_call_on_a_slow_gpu_takes_longer(live: LiveNode, nvml: Binding) -> None:
    """A call on a slow GPU takes at least so much longer, but a wait for events does not."""
    events = listen(nvml, BAD)
    live.slow_down(1, 20)
    begun = time.monotonic()
    nvml.nvmlDeviceGetUUID(BAD)
    assert time.monotonic() - begun >= 0.02

    live.slow_down(1, 3_600_000)
    live.xid(1, 79)
    assert nvml.nvmlEventSetWait(events, GUARD * 1000).eventData == 79
    assert code(lambda: nvml.nvmlEventSetWait(events, 0)) == 10


@pytest.mark.parametrize(
    "end", [lambda live: live.slow_down(1, 0), lambda live: live.recover(1)], ids=["0", "recover"]
)
def test_a_slow_call_ends_with_the_slowness(
    live: LiveNode,
    nvml: Binding,
    threads: ThreadPoolExecutor,
    end: Callable[[LiveNode], None],
) -> None:
    """A call that is slow returns once its GPU is no longer slow, and delays no other GPU."""
    live.slow_down(1, 3_600_000)
    slow = threads.submit(nvml.nvmlDeviceGetUUID, BAD)
    assert nvml.nvmlDeviceGetUUID(GOOD) == GOOD.uuid
    assert not wait([slow], STILL).done
    end(live)
    assert slow.result(GUARD) == BAD.uuid


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_call_fails_on_one_gpu(live: LiveNode, nvml: Binding, name: str) -> None:
    """Every function can fail alone, on one GPU, until it recovers."""
    known = calls(nvml)
    live.fail(1, name, 999)
    failed = {call for call, function in known.items() if code(function) == 999}
    assert failed == {name}
    assert nvml.nvmlDeviceGetUUID(GOOD) == GOOD.uuid
    live.recover(1)
    assert code(known[name]) == OTHERWISE.get(name, 0)


def test_an_error_of_nvml_has_a_text(live: LiveNode, nvml: Binding) -> None:
    """A failure with a code that the simulated NVML does not use itself has a text."""
    live.fail(1, "nvmlDeviceGetUUID", 999)
    with pytest.raises(NVMLError, match="Unknown Error"):
        nvml.nvmlDeviceGetUUID(BAD)


def test_each_of_several_sets_gets_its_own_gpus_events(
    live: LiveNode, nvml: Binding, threads: ThreadPoolExecutor
) -> None:
    """Each of several threads gets all events of the GPUs in its own set, and goes on to get them
    while another GPU hangs.
    """
    sets = [listen(nvml, GOOD), listen(nvml, GOOD, BAD), listen(nvml, BAD)]
    hung = [listen(nvml, BAD), listen(nvml, GOOD, BAD)]

    def hear(events: EventSet, count: int) -> list[int]:
        return [nvml.nvmlEventSetWait(events, GUARD * 1000).eventData for _ in range(count)]

    begun = [threads.submit(hear, *each) for each in zip(sets, (20, 40, 20), strict=True)]
    for xid in range(40):
        live.xid(xid % 2, xid)
    heard = [future.result(GUARD) for future in begun]
    assert heard == [list(range(0, 40, 2)), list(range(40)), list(range(1, 40, 2))]

    live.hang(1)
    held: list[Future[list[int]]] = [threads.submit(hear, events, 1) for events in hung]
    live.xid(0, 79)
    assert hear(sets[0], 1) == [79]
    assert not wait(held, STILL).done
    live.recover(1)
    assert [future.result(GUARD) for future in held] == [[1], [0]]


def test_a_thread_that_stops_waiting_leaves_the_changes_to_the_others(
    live: LiveNode, nvml: Binding, threads: ThreadPoolExecutor
) -> None:
    """When the wait of one thread times out, the others still notice the next event at once."""
    waits = [threads.submit(nvml.nvmlEventSetWait, listen(nvml, GOOD), 1)]
    waits += [
        threads.submit(nvml.nvmlEventSetWait, listen(nvml, GOOD), GUARD * 1000) for _ in range(3)
    ]
    assert code(lambda: waits[0].result(GUARD)) == 10
    live.xid(0, 79)
    assert [future.result(GUARD).eventData for future in waits[1:]] == [79, 79, 79]


def test_links_that_are_down_are_not_active(live: LiveNode, nvml: Binding) -> None:
    """The GPU's last links are down at its own end, and up again after a reset."""

    def states(gpu: GpuHandle) -> list[int]:
        return [nvml.nvmlDeviceGetNvLinkState(gpu, link) for link in range(5)]

    live.take_links_down(1, 3)
    assert (states(GOOD), states(BAD)) == ([1, 1, 1, 1, 0], [1, 0, 0, 0, 0])
    assert code(lambda: nvml.nvmlDeviceGetNvLinkRemotePciInfo(BAD, 1)) == 3
    live.reset(1)
    assert states(BAD) == [1, 1, 1, 1, 0]
