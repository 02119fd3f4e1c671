"""What operators do to the tree of the MPS daemons, and what it refuses."""

import asyncio
from collections.abc import Iterator

import pytest

from proto.mps import STOPPED, Phase
from supervisor.mps.applying import QUIESCED, RESUMED
from tests.fakes.mps_trees import GPU, REPLICAS, Host, daemons, mps_host
from tests.fakes.service import kubelet

ALL = 2 * REPLICAS


@pytest.fixture
def host() -> Iterator[Host]:
    """Make a host with two GPUs, and end its daemons after the test."""
    with mps_host() as made:
        yield made


async def refuses_a_second(host: Host) -> None:
    """Check that no second tree takes the daemons or the compute modes of the first one."""
    own = {"--runtime-dir": "other", "--mps-root": "other-root", "--state-dir": "other-state"}
    for option, folder in (("--mps-root", host.root), ("--state-dir", host.folder / "mps-state")):
        named = {**{name: host.folder / path for name, path in own.items()}, option: folder}
        words = [f"{name}={path}" for name, path in named.items()]
        code, said = await host.command("mps", f"--config-file={host.folder}/config.json", *words)
        assert (code, said.count("\n")) == (1, 1)
        assert f'cannot use {option} "{folder}": another `gpu-sharing-plugin mps` ' in said


def test_the_tree_and_its_operators(host: Host) -> None:
    """A second tree is refused; `quiesce` ends daemons without clients, `resume` starts them.

    A keeper that is killed meanwhile starts no daemon. The daemon with a client stays all the time.
    """

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin(), host.tree() as tree:
            await node.until(lambda k: k.healthy(GPU) == ALL)
            before = await daemons(host.folder, Phase.READY, 2)
            await refuses_a_second(host)
            client = host.mps.client(host.pipe(0))
            await asyncio.to_thread(client.line)
            code, said = await host.command("quiesce")
            assert (code, said.splitlines()[1]) == (0, QUIESCED)
            # It returns when all has ended that can.
            assert (host.running(), host.modes()) == ([before[host.uuids[0]].pid], [3, 0])
            (held,) = said.splitlines()[2:]
            assert held.startswith("GPU 0 is held by its MPS daemon for unknown: ")
            assert f"(PID {client.process.pid})" in held
            for uuid in host.uuids:
                name = f"mps {uuid}"
                await tree.restarted(name, tree.kill(name))
            found = await daemons(host.folder, Phase.DRAINING, 2)
            assert found[host.uuids[1]].detail == STOPPED
            code, said = await host.command("resume")
            assert (code, said.splitlines()[1]) == (0, RESUMED)
            await node.until(lambda k: k.healthy(GPU) == ALL)
            after = await daemons(host.folder, Phase.READY, 2)
            assert after[host.uuids[0]].pid == before[host.uuids[0]].pid
            assert client.process.poll() is None
            assert len(host.mps.programs()) == 3
            assert host.modes() == [3, 3]
            assert len((await host.command("resume"))[1].splitlines()) == 1  # nothing to do
            await asyncio.to_thread(client.end)

    asyncio.run(story())
