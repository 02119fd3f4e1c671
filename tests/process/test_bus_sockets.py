"""Sockets in the runtime folder are deleted, as by a cleaner of /run: the service recovers."""

import asyncio
from pathlib import Path

import pytest

from proto.requests import SOCKET, Quiesce
from supervisor.commands.ask import ask
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
WORKER = f"worker {GPU}"
NODE: dict[str, object] = {"gpus": [{}, {}]}


@pytest.mark.parametrize("name", ["health.ipc", "telemetry.ipc"])
def test_a_worker_that_starts_later_can_still_connect(folder: Path, name: str) -> None:
    """After a bus socket is deleted, a restarted worker still connects: it gets the devices' health
    and is counted as ready.
    """

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            lists = node.resources[GPU].lists
            (folder / name).unlink()
            owner = {"health.ipc": "monitor", "telemetry.ipc": "exporter"}[name]
            await running.restarted(owner, running.pids()[owner])
            await running.publishes(epoch=1)
            assert (node.resources[GPU].lists, node.registrations) == (lists, 1)
            await running.restarted(WORKER, running.kill(WORKER))
            await node.until(lambda k: k.registrations == 2 and k.healthy(GPU) == 2)
            await running.ready()
            assert (
                running.count("process ended, restarting it") == 1
            )  # only the worker was restarted after a failure

    asyncio.run(story())


def test_a_deleted_control_socket_is_created_again(folder: Path) -> None:
    """After the control socket is deleted, the service creates it again and answers `quiesce`."""

    async def story() -> None:
        async with service(folder, node=NODE) as running:
            await running.logged("watching GPUs for Xid events")
            (folder / SOCKET).unlink()
            await running.logged("control socket was deleted, created it again")
            await asyncio.to_thread(ask, folder, Quiesce())
            assert "monitor" not in running.pids()

    asyncio.run(story())
