"""Both service trees at once: what the kubelet sees, and what no restart changes."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
from inotify_simple import INotify, flags

from health.compute_mode import EXCLUSIVE_PROCESS
from proto.mps import Phase
from simulator.kubelet import Kubelet
from tests.fakes.figures import FIGURES
from tests.fakes.mps_trees import (
    FILES,
    GPU,
    MPS,
    REPLICAS,
    SLICES,
    Host,
    allocate,
    daemons,
    mps_host,
    unhealthy,
)
from tests.fakes.service import Service, kubelet, until

ALL = 2 * REPLICAS


@pytest.fixture
def host() -> Iterator[Host]:
    """Make a host with two GPUs, and end its daemons after the test."""
    with mps_host() as made:
        yield made


@contextlib.asynccontextmanager
async def read_again(host: Host, *names: str) -> AsyncIterator[None]:
    """Wait at the end until the configuration files with these names were read meanwhile.

    They are not counted: the kernel merges equal events that nobody has read.
    """
    with INotify(nonblocking=True) as notice:
        notice.add_watch(str(host.folder), flags.CLOSE_NOWRITE)
        yield
        read: set[str] = set()

        def all_are() -> bool:
            read.update(event.name for event in notice.read(timeout=0))
            return read >= set(names)

        await until(all_are, f"reading of {names}")


async def lives(tree: Service) -> bool:
    """Return whether the tree is live."""
    return (await tree.get("/livez"))[0] == 200


async def hands_out_one_daemon(host: Host, node: Kubelet, name: str) -> None:
    """Check that a container gets the folder of its device's daemon, and no folder above it."""
    answer = await allocate(node, name)
    pipe = host.pipe(host.uuids.index(name.partition("::")[0]))
    assert [mount.host_path for mount in answer.mounts] == [str(pipe), str(host.root / "shm")]
    assert answer.envs["CUDA_MPS_PIPE_DIRECTORY"] == answer.mounts[0].container_path


def test_both_trees_start_together(host: Host) -> None:
    """The resource is listed Healthy after both trees were started, without any label; each
    container gets its own daemon only.
    """

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin, host.tree() as tree:
            await node.until(lambda k: k.healthy(GPU) == ALL)
            assert host.modes() == [EXCLUSIVE_PROCESS, EXCLUSIVE_PROCESS]
            await tree.runs("exporter", *(f"mps {uuid}" for uuid in host.uuids), "mps bus")
            await tree.ready()
            assert await lives(tree)
            for name in node.resources[GPU].healthy():
                await hands_out_one_daemon(host, node, name)
            assert await tree.stop() == 0
            await node.until(lambda k: k.healthy(GPU) == 0)
            told = ["mps draining: gpu-sharing-plugin mps ends"]
            for uuid in host.uuids:
                message = "device listed as Unhealthy"
                await plugin.logged(message, uuid=uuid, devices=REPLICAS, reasons=told)
        assert host.running() == []
        assert host.modes() == [0, 0]
        assert not (host.folder / "mps.ipc").exists()
        left = {path.name for path in (host.folder / "mps").iterdir()}
        assert left == {"lock"}

    asyncio.run(story())


def test_no_restart_of_the_plugin_touches_a_daemon(host: Host) -> None:
    """A restart of the plugin, SIGHUP and equal settings change no PID of daemon and server.

    A client goes on, and the new plugin's first list is Healthy.
    """

    async def story() -> None:
        async with host.tree() as tree:
            async with kubelet(host.folder) as node:
                async with host.plugin() as plugin:
                    await node.until(lambda k: k.healthy(GPU) == ALL)
                    before = await daemons(host.folder, Phase.READY, 2)
                    client = host.mps.client(host.pipe())
                    assert await asyncio.to_thread(client.line) == "busy multiprocessors=32"
                    await tree.ready()  # then the exporter has its name, too
                    keepers = tree.pids()
                    for running, name in zip((plugin, tree), FILES, strict=True):
                        async with read_again(host, name):
                            running.process.send_signal(signal.SIGHUP)
                    async with read_again(host, *FILES):
                        host.configure(MPS)  # a new file with equal settings
                    assert await plugin.stop() == 0
                await node.until(lambda k: not k.resources[GPU].connected)
                lists = []
                async with host.plugin():
                    await node.until(lambda k: k.resources[GPU].connected)
                    await node.until(lambda k: k.resources[GPU].lists > 0)
                    lists.append(node.healthy(GPU))
                    after = await daemons(host.folder, Phase.READY, 2)
            assert lists == [ALL]
            assert tree.pids() == keepers
            assert [(d.pid, d.server) for d in after.values()] == [
                (d.pid, d.server) for d in before.values()
            ]
            client.end()

    asyncio.run(story())


def test_the_plugin_goes_on_without_the_tree(host: Host) -> None:
    """Without the tree, devices of MPS are Unhealthy, and everything else is handed out."""
    first = [{"name": GPU, "rename": "shared", "devices": [0], "replicas": REPLICAS}]
    host.configure({"mps": {"resources": first}})

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin:
            await node.until(lambda k: len(k.resources) == 2 and k.healthy(GPU) == 1)
            (shared,) = node.resources.keys() - {GPU}
            await node.until(lambda k: len(k.resources[shared].devices) == REPLICAS)
            assert node.healthy(shared) == 0
            await plugin.ready()
            answer = (await plugin.get("/status"))[1]
            assert "is gpu-sharing-plugin mps running?" in answer
            await node.admit("pod", GPU, 1)
            async with host.tree():
                await node.until(lambda k: k.healthy(shared) == REPLICAS)

    asyncio.run(story())


def test_the_tree_waits_for_the_plugin(host: Host) -> None:
    """A tree that starts first is live, and starts its daemons as soon as the plugin runs."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.tree() as tree:
            await until(partial(lives, tree), "life without the plugin")
            await tree.logged("waiting for the GPUs that gpu-sharing-plugin run finds")
            await tree.says("/readyz", "waiting for the inventory")
            assert host.running() == []
            async with host.plugin():
                await node.until(lambda k: k.healthy(GPU) == ALL)

    asyncio.run(story())


def test_the_configuration_changes_to_time_slicing_and_back(host: Host) -> None:
    """A GPU is not handed out by time-slicing before its daemon has ended.

    The daemon with a client stays until that ends, and for good if MPS shares its GPU again.
    """

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin(), host.tree() as tree:
            await node.until(lambda k: k.healthy(GPU) == ALL)
            client = host.mps.client(host.pipe(0))
            await asyncio.to_thread(client.line)
            kept = (await daemons(host.folder, Phase.READY, 2))[host.uuids[0]].pid
            host.configure(SLICES)
            await tree.logged("MPS no longer shares a device, ending its daemon")
            (draining,) = (await daemons(host.folder, Phase.DRAINING, 1)).values()
            assert (draining.uuid, draining.pid) == (host.uuids[0], kept)
            await node.until(lambda k: k.healthy(GPU) == REPLICAS)
            assert unhealthy(node, host.uuids[0]) == REPLICAS
            assert host.modes() == [EXCLUSIVE_PROCESS, 0]
            host.configure(MPS)
            found = await daemons(host.folder, Phase.READY, 2)
            assert found[host.uuids[0]].pid == kept
            await node.until(lambda k: k.healthy(GPU) == ALL)
            host.configure(SLICES)
            await daemons(host.folder, Phase.DRAINING, 1)
            await asyncio.to_thread(client.end)
            await daemons(host.folder, Phase.READY, 0)
            await node.until(lambda k: k.healthy(GPU) == ALL)
            assert (host.modes(), host.running()) == ([0, 0], [])

    asyncio.run(story())


def test_apply_now_does_not_wait_for_clients(host: Host) -> None:
    """New limits wait for the clients, or end them with `mps apply --now`."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin(), host.tree():
            await node.until(lambda k: k.healthy(GPU) == ALL)
            client = host.mps.client(host.pipe(0))
            await asyncio.to_thread(client.line)
            before = await daemons(host.folder, Phase.READY, 2)
            host.configure({"mps": {"resources": [{"name": GPU, "replicas": 2}]}})
            await node.until(lambda k: unhealthy(k, host.uuids[0]) == k.healthy(GPU) == 2)
            code, said = await host.command("mps", "apply", "--now")
            assert (code, said[:25]) == (0, "asked the service for MPS")
            await node.until(lambda k: k.healthy(GPU) == 4)
            after = await daemons(host.folder, Phase.READY, 2)
            assert all(after[uuid].pid != before[uuid].pid for uuid in host.uuids)
            line: str | None = await asyncio.to_thread(client.line)
            assert line == "cannot call cuCtxSynchronize: CUDA error 806"
            await asyncio.to_thread(client.end)

    asyncio.run(story())


def test_a_removed_gpu_takes_its_daemon_along(host: Host) -> None:
    """When a GPU is removed, its keeper ends, and the other GPU does not notice."""
    host.configure(MPS, rescanInterval="200ms")

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin, host.tree() as tree:
            await node.until(lambda k: k.healthy(GPU) == ALL)
            kept = (await daemons(host.folder, Phase.READY, 2))[host.uuids[0]].pid
            plugin.node.remove(1)
            found = await daemons(host.folder, Phase.READY, 1)
            assert found[host.uuids[0]].pid == kept
            await node.until(lambda k: len(k.resources[GPU].devices) == REPLICAS)
            assert f"mps {host.uuids[1]}" not in tree.pids()
            assert host.running() == [kept]

    asyncio.run(story())


def test_orphans_are_reaped(host: Host) -> None:
    """As the first process of a container, the tree reaps the daemons that keepers left to it."""

    async def story() -> None:
        wrapper = (
            "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        within = (sys.executable, "-c", wrapper)
        async with kubelet(host.folder) as node, host.plugin(), host.tree(within) as tree:
            await node.until(lambda k: k.healthy(GPU) == ALL)
            daemon = (await daemons(host.folder, Phase.READY, 2))[host.uuids[0]]
            name = f"mps {host.uuids[0]}"
            await tree.restarted(name, tree.kill(name))
            os.kill(daemon.pid, signal.SIGKILL)
            await node.until(lambda k: k.healthy(GPU) == REPLICAS)
            await node.until(lambda k: k.healthy(GPU) == ALL)
            await until(lambda: not Path(f"/proc/{daemon.pid}").exists(), "end of the zombie")

    asyncio.run(story())


def test_the_tree_takes_its_daemons_along(host: Host) -> None:
    """At SIGTERM all daemons end, with a client or without an answer; the compute modes return."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin(), host.tree() as tree:
            await node.until(lambda k: k.healthy(GPU) == ALL)
            client = host.mps.client(host.pipe(0))
            await asyncio.to_thread(client.line)
            host.mps.order(host.uuids[1], commands={"*": {"never": True}})
            await node.until(lambda k: unhealthy(k, host.uuids[1]) == REPLICAS)
            began = time.monotonic()
            assert await tree.stop() == 0
            FIGURES.append(
                f"MPS: SIGTERM with a client and with a daemon that hangs: "
                f"{time.monotonic() - began:.2f} s"
            )
            assert (host.running(), host.modes()) == ([], [0, 0])
            assert "806" in str(await asyncio.to_thread(client.line))
            await asyncio.to_thread(client.end)

    asyncio.run(story())
