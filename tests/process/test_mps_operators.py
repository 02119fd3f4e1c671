"""What operators do to the tree of the MPS daemons, and what it refuses."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from proto.mps import STOPPED, Phase
from supervisor.mps.applying import QUIESCED, RESUMED
from tests.fakes.mps_trees import GPU, MPS, REPLICAS, Host, daemons, mps_host
from tests.fakes.service import Service, kubelet, until
from tests.hardware.programs import Program

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


async def is_maintained(host: Host, tree: Service, client: Program) -> None:
    """Check that `quiesce` ends the daemon of the second GPU, and `resume` starts it again.

    The first one has a *client* all the time. Keepers that are killed meanwhile start no daemon.
    """
    before = await daemons(host.folder, Phase.READY, 2)
    code, said = await host.command("quiesce")
    assert (code, said.splitlines()[1]) == (0, QUIESCED)
    # It returns when all has ended that can.
    assert (host.running(), host.modes()) == ([before[host.uuids[0]].pid], [3, 0])
    (held,) = said.splitlines()[2:]
    assert held.startswith("GPU 0 is held by its MPS daemon for unknown: ")
    assert f"(PID {client.process.pid})" in held
    for uuid in host.uuids:
        await tree.restarted(f"mps {uuid}", tree.kill(f"mps {uuid}"))
    found = await daemons(host.folder, Phase.DRAINING, 2)
    assert found[host.uuids[1]].detail == STOPPED
    code, said = await host.command("resume")
    assert (code, said.splitlines()[1]) == (0, RESUMED)
    after = await daemons(host.folder, Phase.READY, 2)
    assert after[host.uuids[0]].pid == before[host.uuids[0]].pid
    assert len(host.mps.programs()) == 3
    assert host.modes() == [3, 3]
    assert len((await host.command("resume"))[1].splitlines()) == 1  # nothing to do


async def changes_the_mode(host: Host) -> None:
    """Check that another `computeMode` changes no daemon."""
    for mode, modes in (("unchanged", [0, 0]), ("exclusive", [3, 3])):
        host.configure({"mps": {**MPS["mps"], "computeMode": mode}})
        await until(partial(_has_modes, host, modes), f"compute mode {mode}")


def _has_modes(host: Host, modes: list[int]) -> bool:
    return host.modes() == modes


def test_the_tree_and_its_operators(host: Host) -> None:
    """A second tree, maintenance and another compute mode leave a daemon with a client alone."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin(), host.tree() as tree:
            await node.until(lambda k: k.healthy(GPU) == ALL)
            await refuses_a_second(host)
            client = host.mps.client(host.pipe(0))
            await asyncio.to_thread(client.line)
            kept = (await daemons(host.folder, Phase.READY, 2))[host.uuids[0]].pid
            await is_maintained(host, tree, client)
            await changes_the_mode(host)
            await node.until(lambda k: k.healthy(GPU) == ALL)
            assert (await daemons(host.folder, Phase.READY, 2))[host.uuids[0]].pid == kept
            assert client.process.poll() is None
            await asyncio.to_thread(client.end)

    asyncio.run(story())
