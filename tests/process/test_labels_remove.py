"""The command `labels --remove` takes away what the service has written, and nothing else."""

import asyncio
from pathlib import Path

import pytest

from supervisor.cluster.label_objects import MANAGER
from tests.fakes import commands
from tests.fakes.apiserver import ApiServer, apiserver

FEATURE = "gpu-sharing-plugin-node-1"
OURS = {"nvidia.com/gpu.count": "8"}


async def remove(*options: str, **environment: str) -> tuple[int, str, str]:
    """Run the command; return its exit code and what it prints on stdout and stderr."""
    words = ("labels", "--remove", *options)
    done = await asyncio.to_thread(commands.run, *words, environment=environment)
    return done.returncode, done.stdout, done.stderr


def test_the_file_is_removed(folder: Path) -> None:
    """The file goes, other files stay, and without the file there is nothing to do."""

    async def story() -> None:
        file = folder / "features.d" / "gpus"
        options = ("--node-labels=file", f"--node-labels-file={file}")
        assert (await remove(*options))[:2] == (
            0,
            f'nothing to remove, already gone: the file "{file}"\n',
        )
        file.parent.mkdir()
        file.write_text("nvidia.com/gpu.count=8\n")
        (file.parent / "other").write_text("a=b\n")
        assert await remove(*options) == (0, f'removed the file "{file}"\n', "")
        assert [entry.name for entry in file.parent.iterdir()] == ["other"]

    asyncio.run(story())


async def removed(api: ApiServer, folder: Path, output: str) -> tuple[int, str, str]:
    """Run the command for an output of the stand-in API server."""
    options = (f"--node-labels={output}", "--node-name=node-1")
    return await remove(*options, **api.kubeconfig(folder))


def test_the_labels_of_the_node_are_removed(folder: Path) -> None:
    """Only our labels go."""

    async def story() -> None:
        async with apiserver(labels={"zone": "a"}) as api:
            api.managed.apply(MANAGER, OURS, force=False)
            code, said, _ = await removed(api, folder, "node")
            assert (code, said) == (0, 'removed the labels of ours on node "node-1"\n')
            assert api.labels == {"zone": "a"}
            code, said, _ = await removed(api, folder, "node")
            assert code == 0
            assert said.startswith("nothing to remove, already gone: ")
            assert len(api.applied) == 1

    asyncio.run(story())


def test_the_object_is_deleted(folder: Path) -> None:
    """The NodeFeature object of the node goes, and no other."""

    async def story() -> None:
        async with apiserver(features={FEATURE: {}, "other": {}}) as api:
            code, said, _ = await removed(api, folder, "nodefeature")
            assert (code, said) == (0, f'removed the NodeFeature object "{FEATURE}"\n')
            assert api.features.keys() == {"other"}

    asyncio.run(story())


@pytest.mark.parametrize("output", ["node", "nodefeature"])
def test_a_server_that_refuses(folder: Path, output: str) -> None:
    """A refusal is one line on stderr and exit code 1."""

    async def story() -> None:
        async with apiserver(status=403) as api:
            code, said, complaint = await removed(api, folder, output)
            assert (code, said) == (1, "")
            assert complaint.startswith("cannot remove the node's labels: 403 ")
            assert complaint.count("\n") == 1

    asyncio.run(story())


def test_it_must_be_said_where_the_labels_are() -> None:
    """Without an output the command does nothing, and exits with 2."""
    code, said, complaint = asyncio.run(remove())
    assert (code, said) == (2, "")
    assert complaint == (
        "cannot remove labels: say where they are, with --node-labels as for `run`\n"
    )


def test_without_credentials(folder: Path) -> None:
    """Outside of a pod and without a kubeconfig file the command says where to give one."""

    async def story() -> None:
        options = ("--node-labels=node", "--node-name=node-1")
        code, said, wrong = await remove(*options, KUBECONFIG=f"{folder}/none")
        assert (code, said) == (1, "")
        assert wrong == (
            f"cannot remove the node's labels: Configuration file {folder}/none not found; "
            "run this in a pod with a service account, or name a file in KUBECONFIG\n"
        )

    asyncio.run(story())
