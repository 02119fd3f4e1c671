"""What the kubelet and clients see when something of the MPS daemons' tree is killed.

The times that are printed are in docs/reliability.md.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

from health.compute_mode import EXCLUSIVE_PROCESS
from proto.mps import MpsDaemon, Phase
from simulator.kubelet import Kubelet
from tests.fakes.figures import FIGURES
from tests.fakes.mps_trees import (
    GPU,
    REPLICAS,
    SLICES,
    Host,
    daemons,
    mps_host,
    unhealthy,
)
from tests.fakes.service import Service, kubelet, until
from tests.hardware.transcript import alive

ALL = 2 * REPLICAS


@pytest.fixture
def host() -> Iterator[Host]:
    """Make a host with two GPUs, and end its daemons after the test."""
    with mps_host() as made:
        yield made


async def note(node: Kubelet, what: str, began: float, host: Host) -> None:
    """Wait until one GPU's replicas are Unhealthy and then Healthy again; note the times."""
    await node.until(lambda k: unhealthy(k, host.uuids[0]) == REPLICAS)
    told = time.monotonic() - began
    assert unhealthy(node, host.uuids[1]) == 0
    await node.until(lambda k: k.healthy(GPU) == ALL)
    again = time.monotonic() - began
    FIGURES.append(f"MPS, {what}: Unhealthy after {told * 1000:.0f} ms, again after {again:.2f} s")


def test_a_killed_daemon(host: Host) -> None:
    """Its replicas are Unhealthy until a new one is verified; nothing else of the node changes."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin(), host.tree():
            await node.until(lambda k: k.healthy(GPU) == ALL)
            before = await daemons(host.folder, Phase.READY, 2)
            ours, other = (host.mps.client(host.pipe(place)) for place in (0, 1))
            for client in (ours, other):
                await asyncio.to_thread(client.line)
            began = time.monotonic()
            os.kill(before[host.uuids[0]].pid, signal.SIGKILL)
            await note(node, "kill -9 of a daemon", began, host)
            after = await daemons(host.folder, Phase.READY, 2)
            assert after[host.uuids[0]].restarts == 1
            assert after[host.uuids[1]].pid == before[host.uuids[1]].pid
            assert after[host.uuids[1]].server == before[host.uuids[1]].server
            assert "806" in str(await asyncio.to_thread(ours.line))
            assert other.process.poll() is None
            for client in (ours, other):
                await asyncio.to_thread(client.end)

    asyncio.run(story())


def test_a_killed_server(host: Host) -> None:
    """Its clients end with an error; a new server is there before anybody is told."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin(), host.tree():
            await node.until(lambda k: k.healthy(GPU) == ALL)
            before = (await daemons(host.folder, Phase.READY, 2))[host.uuids[0]]
            client = host.mps.client(host.pipe(0))
            await asyncio.to_thread(client.line)
            began = time.monotonic()
            os.kill(before.server, signal.SIGKILL)

            async def has_another() -> bool:
                found = (await daemons(host.folder, Phase.READY, 2))[host.uuids[0]]
                return found.server not in {0, before.server} and found.pid == before.pid

            await until(has_another, "another server")
            FIGURES.append(
                f"MPS, kill -9 of a server: another one after {time.monotonic() - began:.2f} s"
            )
            assert "806" in str(await asyncio.to_thread(client.line))
            await asyncio.to_thread(client.end)

    asyncio.run(story())


def test_killed_processes_of_ours(host: Host) -> None:
    """The kubelet sees nothing, no daemon has another PID, and clients go on."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin, host.tree() as tree:
            await node.until(lambda k: k.healthy(GPU) == ALL)
            before = await daemons(host.folder, Phase.READY, 2)
            client = host.mps.client(host.pipe(0))
            await asyncio.to_thread(client.line)
            lists, registrations = node.resources[GPU].lists, node.registrations
            for owner, name in (
                (tree, f"mps {host.uuids[0]}"),
                (tree, "mps bus"),
                (tree, "exporter"),
                (plugin, f"worker {GPU}"),
            ):
                began = time.monotonic()
                await owner.restarted(name, owner.kill(name))
                if owner is plugin:
                    await node.until(lambda k: k.registrations > registrations)
                    lists = 0
                after = await _looked_at(host)
                FIGURES.append(f"MPS, kill -9 of {name}: {time.monotonic() - began:.2f} s")
                await node.until(lambda k: k.healthy(GPU) == ALL)
                assert node.resources[GPU].lists in {lists, lists + (owner is plugin)}, name
                assert [(d.pid, d.server) for d in after.values()] == [
                    (d.pid, d.server) for d in before.values()
                ], name
                assert client.process.poll() is None, name
            await asyncio.to_thread(client.end)

    asyncio.run(story())


async def _looked_at(host: Host) -> dict[str, MpsDaemon]:
    """Wait until the first GPU's daemon has been looked at several times; return both."""
    asked = host.mps.commands(host.uuids[0]).count("get_server_list")

    def looked() -> bool:
        return host.mps.commands(host.uuids[0]).count("get_server_list") > asked + 3

    await until(looked, "looks of the new process")
    return await daemons(host.folder, Phase.READY, 2)


def test_a_killed_tree(host: Host) -> None:
    """The daemons and their clients go on; the next tree adopts the daemons."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin():
            async with host.tree() as tree:
                await node.until(lambda k: k.healthy(GPU) == ALL)
                before = await daemons(host.folder, Phase.READY, 2)
                client = host.mps.client(host.pipe(0))
                await asyncio.to_thread(client.line)
                lists = node.resources[GPU].lists
                keepers = tree.pids()
                tree.process.kill()
                await tree.ended()
                await until(lambda: not any(map(alive, keepers.values())), "end of all keepers")
            assert sorted(host.running()) == sorted(d.pid for d in before.values())
            began = time.monotonic()
            async with host.tree() as tree:
                after = await daemons(host.folder, Phase.READY, 2)
                FIGURES.append(
                    f"MPS, kill -9 of the tree: adopted in {time.monotonic() - began:.2f} s"
                )
                assert {d.pid for d in after.values()} == {d.pid for d in before.values()}
                for uuid in host.uuids:
                    await tree.logged("adopted an MPS daemon that runs", uuid=uuid)
                assert node.healthy(GPU) == ALL
                assert node.resources[GPU].lists == lists
                assert client.process.poll() is None
                await asyncio.to_thread(client.end)
                assert await tree.stop() == 0
            assert (host.modes(), host.running()) == ([0, 0], [])

    asyncio.run(story())


def test_a_killed_tree_is_silent(host: Host) -> None:
    """Without a new tree, the devices become Unhealthy after health.staleAfter."""
    host.configure({"mps": {"resources": [{"name": GPU, "replicas": 2}]}}, staleAfter="3s")

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin(), host.tree() as tree:
            await node.until(lambda k: k.healthy(GPU) == 4)
            tree.process.kill()
            await tree.ended()
            await node.until(lambda k: k.healthy(GPU) == 0)
            assert unhealthy(node, host.uuids[0]) == 2

    asyncio.run(story())


def test_a_tree_ends_what_a_killed_one_left(host: Host) -> None:
    """After a crash and a change to time-slicing, the daemons end and the compute modes return."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin():
            async with host.tree() as tree:
                await node.until(lambda k: k.healthy(GPU) == ALL)
                tree.process.kill()
                await tree.ended()
            assert host.modes() == [EXCLUSIVE_PROCESS, EXCLUSIVE_PROCESS]
            host.configure(SLICES)
            async with host.tree() as tree:
                await until(lambda: host.modes() == [0, 0], "the former compute modes")
                await until(lambda: not host.running(), "end of the daemons")
                await node.until(lambda k: k.healthy(GPU) == ALL)
                await until(lambda: sorted(tree.pids()) == ["exporter", "mps bus"], "no keepers")

    asyncio.run(story())


def test_a_tree_that_waits_ends_what_a_killed_one_left(host: Host) -> None:
    """It has no inventory, as the plugin does not run, and is stopped: nobody else would."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin(), host.tree() as tree:
            await node.until(lambda k: k.healthy(GPU) == ALL)
            tree.process.kill()
            await tree.ended()
        async with host.tree() as tree:
            await tree.logged("found what an earlier run has left")
            assert await tree.stop() == 0
        assert (host.modes(), host.running()) == ([0, 0], [])

    asyncio.run(story())


def test_a_wrong_limit_is_found(host: Host) -> None:
    """A daemon that does not keep its limit is never advertised, and the others are."""
    host.mps.order(host.uuids[0], ignored=["set_default_active_thread_percentage"])

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin, host.tree():
            await node.until(lambda k: k.healthy(GPU) == REPLICAS)
            assert unhealthy(node, host.uuids[0]) == REPLICAS
            entry = await plugin.logged(
                "reasons of an Unhealthy device changed", uuid=host.uuids[0]
            )
            assert entry["reasons"][0].startswith("mps ")

    asyncio.run(story())


async def _tells(plugin: Service, text: str) -> bool:
    return text in (await plugin.get("/status"))[1]


def test_a_fault_of_a_server(host: Host) -> None:
    """All replicas of the GPU are Unhealthy until the server is ACTIVE; the other GPU is not."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin, host.tree():
            await node.until(lambda k: k.healthy(GPU) == ALL)
            client = host.mps.client(host.pipe(0), "--fault", "--stay")
            await asyncio.to_thread(client.line)
            began = time.monotonic()
            client.tell()
            await node.until(lambda k: unhealthy(k, host.uuids[0]) == REPLICAS)
            told = time.monotonic() - began
            assert unhealthy(node, host.uuids[1]) == 0
            named = f"its clients: {client.process.pid} ("
            await until(lambda: _tells(plugin, named), "the client in the status")
            began = time.monotonic()
            await asyncio.to_thread(client.end)
            await node.until(lambda k: k.healthy(GPU) == ALL)
            FIGURES.append(
                f"MPS, a client's fault: Unhealthy after {told * 1000:.0f} ms, Healthy "
                f"{time.monotonic() - began:.2f} s after the end of the client"
            )

    asyncio.run(story())
