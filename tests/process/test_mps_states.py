"""What the kubelet sees while a server, a command or a start of an MPS daemon goes wrong."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator

import pytest

from proto.mps import Phase
from simulator.kubelet import Kubelet
from simulator.usage import Use
from tests.fakes.mps_trees import GPU, MPS, REPLICAS, Host, daemons, mps_host, unhealthy
from tests.fakes.service import Service, kubelet, until

ALL = 2 * REPLICAS


@pytest.fixture
def host() -> Iterator[Host]:
    """Make a host with two GPUs, and end its daemons after the test."""
    with mps_host() as made:
        yield made


async def reason(plugin: Service) -> str:
    """Return why the first GPU cannot be allocated, as the status shows it."""
    status = json.loads((await plugin.get("/status"))[1])
    return " ".join(str(found["detail"]) for found in status["gpus"][0]["reasons"])


async def breaks(host: Host, node: Kubelet, plugin: Service, why: str) -> None:
    """Wait until the first GPU is Unhealthy for this reason, heal it, and wait again."""

    async def told() -> bool:
        return why in await reason(plugin)

    await until(told, f"the reason {why}")
    await node.until(lambda k: unhealthy(k, host.uuids[0]) == REPLICAS)
    assert unhealthy(node, host.uuids[1]) == 0
    host.mps.order(host.uuids[0])
    await node.until(lambda k: k.healthy(GPU) == ALL)


def test_one_gpu_is_unhealthy_at_a_time(host: Host) -> None:
    """INITIALIZING for too long, a command that hangs, and a crash loop are of one GPU alone.

    The daemon, the server and the client of the other GPU stay.
    """
    host.configure(MPS, hangAfter="3s")
    broken, other = host.uuids

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin, host.tree():
            await node.until(lambda k: k.healthy(GPU) == ALL)
            client = host.mps.client(host.pipe(1))
            await asyncio.to_thread(client.line)
            before = (await daemons(host.folder, Phase.READY, 2))[other]
            host.mps.order(broken, status="INITIALIZING")
            await breaks(host, node, plugin, "failed: its server is INITIALIZING, for more than 3")
            host.mps.order(broken, commands={"ps": {"never": True}})
            await breaks(host, node, plugin, "failed: ps was not answered within 1 s")
            host.mps.crash(3, broken)
            os.kill((await daemons(host.folder, Phase.READY, 2))[broken].pid, signal.SIGKILL)
            await breaks(host, node, plugin, "the daemon ended with exit code 1")
            after = (await daemons(host.folder, Phase.READY, 2))[other]
            assert (after.pid, after.server) == (before.pid, before.server)
            assert client.process.poll() is None
            await asyncio.to_thread(client.end)

    asyncio.run(story())


def test_the_status_says_what_is_in_the_way(host: Host) -> None:
    """It has the problem of a root that clients cannot enter, and the pod that blocks a server."""
    host.root.chmod(0o700)

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin, host.tree():

            async def unreachable() -> bool:
                problems = json.loads((await plugin.get("/status"))[1])["node"]["problems"]
                return [problem["kind"] for problem in problems or ()] == ["mps-root"]

            await plugin.ready()
            await until(unreachable, "the problem of the root")
            host.root.chmod(0o755)
            await node.until(lambda k: k.healthy(GPU) == ALL)
            host.live.use(0, Use(1000, pod="team/anna", kind="mps"))
            host.live.fail_mps(0)

            async def named() -> bool:
                status = json.loads((await plugin.get("/status"))[1])
                mps = status["gpus"][0]["mps"]
                return mps["phase"] == "fault" and [c["pod"] for c in mps["clients"]] == ["anna"]

            await until(named, "the pod of the client")
            host.live.use(0, Use(0, pod="team/anna", kind="mps"))
            host.live.recover(0)
            await node.until(lambda k: k.healthy(GPU) == ALL)

    asyncio.run(story())
