"""What people see of the daemons that the second service tree keeps, with the stand-in for MPS."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.fakes.mps_trees import GPU, MPS, REPLICAS, Host, mps_host
from tests.fakes.service import Service, kubelet, until

ALL = 2 * REPLICAS


@pytest.fixture
def host() -> Iterator[Host]:
    """Make a host with two GPUs, and end its daemons after the test."""
    with mps_host() as made:
        yield made


async def series(plugin: Service) -> set[str]:
    """Return the lines of the metrics that are not 0, without their prefix."""
    lines = (await plugin.get("/metrics"))[1].splitlines()
    return {line.removeprefix("gpu_sharing_") for line in lines if not line.endswith(" 0.0")}


def state(host: Host, name: str, place: int = 0) -> str:
    """Return the series that says that a server is in this state."""
    return f'mps_server_state{{state="{name}",uuid="{host.uuids[place]}"}} 1.0'


def test_a_daemon_is_shown_from_its_start_to_its_end(host: Host) -> None:
    """Metrics, status and quiesce show daemons and clients; a fault, and the silence of the tree.

    A process that the driver does not list is a client all the same, of an unknown pod.
    """
    host.configure(MPS, staleAfter="3s")

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin:
            async with host.tree():
                await node.until(lambda k: k.healthy(GPU) == ALL)
                client = host.mps.client(host.pipe())
                await asyncio.to_thread(client.line)
                counted = f'mps_clients{{uuid="{host.uuids[0]}"}} 1.0'
                await until(
                    lambda: _has(plugin, counted, "mps_up 1.0", state(host, "active")), "client"
                )
                shown = json.loads((await host.command("status", "--json"))[1])
                assert [r["sharing"] for r in shown["resources"]] == ["mps"]
                (found,) = shown["gpus"][0]["mps"]["clients"]
                assert (found["pid"], found["pod"]) == (client.process.pid, None)
                code, said = await host.command("quiesce")
                assert code == 0
                assert "GPU 0 is held by its MPS daemon for unknown: " in said
                assert "GPU 1" not in said
                await host.command("resume")
                host.mps.order(host.uuids[0], status="FAULT")
                await until(
                    lambda: _has(plugin, state(host, "fault"), state(host, "active", 1)), "fault"
                )
                client.end()
            await until(lambda: _has(plugin, state(host, "active", 1), wanted=False), "silence")
            shown = json.loads((await host.command("status", "--json"))[1])
            assert [gpu["mps"]["phase"] for gpu in shown["gpus"]] == [None, None]
            kinds = [[r["kind"] for r in gpu["reasons"]] for gpu in shown["gpus"]]
            assert kinds == [["mps"], ["mps"]]

    asyncio.run(story())


async def _has(plugin: Service, *wanted_lines: str, wanted: bool = True) -> bool:
    return (set(wanted_lines) <= await series(plugin)) is wanted
