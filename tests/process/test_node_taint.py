"""The process that uses the Kubernetes API taints a node whose GPUs are all out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace

from proto.channel import Channel
from proto.cluster import ClusterSettings
from proto.control import ServiceState, Stop
from proto.holdings import Holdings
from proto.messages import DeviceHealth, DeviceState, NodeState
from proto.reasons import Reason, ReasonKind
from supervisor.cluster import node_taint
from supervisor.cluster.main import Cluster
from tests.fakes.apiserver import ApiServer, apiserver
from tests.unit.builders import gpu, gpu_uuid, inventory, node_state

OTHER = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
HOT = Reason(ReasonKind.THERMAL)


def state(*out: int) -> NodeState:
    """Return the state of a node with two GPUs, of which these are out."""
    health = tuple(
        DeviceHealth(gpu_uuid(place), (HOT,), DeviceState.UNHEALTHY)
        if place in out
        else DeviceHealth(gpu_uuid(place))
        for place in range(2)
    )
    return replace(node_state({}), inventory=inventory(gpu(0), gpu(1)), health=health)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass until the taint is wanted."""
    monkeypatch.setattr(node_taint, "HOLD", 0.0)


@contextlib.asynccontextmanager
async def running(
    folder: Path, api: ApiServer, monkeypatch: pytest.MonkeyPatch, out: Iterable[int]
) -> AsyncIterator[Cluster]:
    """Run the process's main loop with a first state, until the order to stop."""
    for name, value in api.kubeconfig(folder).items():
        monkeypatch.setenv(name, value)
    ours, its = Channel.pair()
    settings = ClusterSettings(
        f"{folder}/health.ipc",
        "",
        "node-1",
        events=False,
        condition=False,
        label="",
        stale_after=60.0,
        taint=True,
    )
    cluster = Cluster(settings, its)
    task = asyncio.create_task(cluster.run())
    cluster.on_state(state(*out))
    # The process waits for the first, and looks at the state again at the second.
    ours.send(ServiceState(processes=(), planned=None))
    ours.send(Holdings(uuids=()))
    try:
        yield cluster
    finally:
        ours.send(Stop())
        assert await task == 0
        await cluster._api.close()  # noqa: SLF001 - else the end of the process does it
        cluster._context.destroy(linger=0)  # noqa: SLF001
        ours.close()
        its.close()


def ours(api: ApiServer) -> list[str]:
    """Return the values of our taint."""
    return [taint["value"] for taint in api.taints if taint["key"] == node_taint.KEY]


def test_the_taint_follows_the_gpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The taint comes when the last GPU is out, goes when one is back, and others' stay.

    A write that comes too late is tried again with what others have changed.
    """

    async def story() -> None:
        async with apiserver(taints=[OTHER]) as api:
            async with running(folder, api, monkeypatch, [0]) as cluster:
                await api.until("a look", lambda: "GET /api/v1/nodes/node-1" in api.requests)
                assert api.taints == [OTHER]
                api.conflicts = 1
                cluster.on_state(state(0, 1))
                await api.until("a taint", lambda: ours(api) == ["thermal"])
                assert api.conflicts == 0
                assert api.taints[0] == OTHER
                cluster.on_state(state(1))
                await api.until("no taint", lambda: api.taints == [OTHER])
            patches = api.requests.count("PATCH /api/v1/nodes/node-1")
            assert patches == 3

    asyncio.run(story())


def test_a_restart_finds_the_taint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that starts while the GPUs are out leaves the taint, and later takes it away."""
    mine = {"key": node_taint.KEY, "value": "thermal", "effect": node_taint.EFFECT}

    async def story() -> None:
        async with (
            apiserver(taints=[mine]) as api,
            running(folder, api, monkeypatch, [0, 1]) as cluster,
        ):
            await api.until("a look", lambda: "GET /api/v1/nodes/node-1" in api.requests)
            assert ours(api) == ["thermal"]
            assert "PATCH /api/v1/nodes/node-1" not in api.requests
            cluster.on_state(state())
            await api.until("no taint", lambda: not api.taints)

    asyncio.run(story())
