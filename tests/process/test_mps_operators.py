"""What operators do to the tree of the MPS daemons, and what it refuses."""

import asyncio
from collections.abc import Iterator

import pytest

from proto.mps import Phase
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
    """A second tree is refused, and the daemons of the first one stay."""

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin(), host.tree():
            await node.until(lambda k: k.healthy(GPU) == ALL)
            before = await daemons(host.folder, Phase.READY, 2)
            await refuses_a_second(host)
            after = await daemons(host.folder, Phase.READY, 2)
            assert [d.pid for d in after.values()] == [d.pid for d in before.values()]

    asyncio.run(story())
