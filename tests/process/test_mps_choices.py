"""What each resource may choose for its devices, and what is refused before anything is changed."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from proto.mps import MpsDaemon, Phase, pipe_folder
from tests.fakes import commands
from tests.fakes.mps_trees import GPU, MPS, UUIDS, Host, daemons, mps_host
from tests.fakes.service import kubelet

MIG = "mig-1g.10gb"
NODE = {
    "gpus": [
        {"uuid": UUIDS[0], "computeCapability": "6.1"},
        {"uuid": UUIDS[1]},
        {"uuid": UUIDS[2]},
        {"uuid": UUIDS[3], "mig": ["1g.10gb", "1g.10gb"]},
    ]
}
CHOICES = {
    "onMig": True,
    "resources": [
        {"name": "gpu", "devices": [0], "rename": "old", "replicas": 2},
        {
            "name": "gpu",
            "devices": [1],
            "rename": "one",
            "replicas": 1,
            "memoryLimit": 1000,
            "threads": 30,
        },
        {"name": "gpu", "devices": [2], "rename": "many", "replicas": 34, "memoryLimit": "none"},
        {"name": MIG, "replicas": 2},
    ],
}


@pytest.fixture
def host() -> Iterator[Host]:
    """Make a host, and end its daemons after the test."""
    with mps_host() as made:
        yield made


def limits(host: Host, daemon: MpsDaemon) -> list[str]:
    """Return the limits that a daemon has for its clients: threads, and memory."""
    pipe = host.root / pipe_folder("", daemon.uuid).lstrip("/")
    commands = (
        "get_default_active_thread_percentage",
        f"get_default_device_pinned_mem_limit {daemon.uuid}",
    )
    return [host.mps.ask(pipe, command)[1].strip() for command in commands]


def test_each_device_has_what_its_resource_chose(host: Host) -> None:
    """Limits are shares, numbers or none; instances have daemons; an old GPU is left alone."""
    (host.folder / "node.json").write_text(json.dumps(NODE))
    host.flags = {"migStrategy": "mixed"}
    host.configure({"mps": CHOICES})
    names = ("one", "many", MIG)

    async def story() -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin, host.tree():
            await node.until(lambda k: [k.healthy(f"nvidia.com/{n}") for n in names] == [1, 34, 4])
            assert "nvidia.com/old" not in node.resources
            found = await daemons(host.folder, Phase.READY, 4)
            instances = [daemon for uuid, daemon in found.items() if uuid.startswith("MIG-")]
            assert limits(host, found[UUIDS[1]]) == ["30.0", "1000M"]
            assert limits(host, found[UUIDS[2]]) == ["2.0", ""]
            assert [limits(host, daemon) for daemon in instances] == 2 * [["50.0", "4G"]]
            started = {p["environment"]["CUDA_VISIBLE_DEVICES"] for p in host.mps.programs()}
            assert started == set(found)  # and no daemon for the old GPU
            modes = host.live.read().modes
            assert [modes.get(uuid, 0) for uuid in UUIDS[:4]] == [0, 3, 3, 0]
            status = json.loads((await plugin.get("/status"))[1])
            problems = {problem["kind"] for problem in status["node"]["problems"]}
            assert problems == {"mps-unsupported", "mps-threads"}

    asyncio.run(story())


@pytest.mark.parametrize("command", ["run", "mps"])
def test_what_is_refused_changes_nothing(host: Host, command: str) -> None:
    """Both services say in one line which key is wrong, and create no folder."""
    both = {**MPS, "timeSlicing": {"resources": [{"name": GPU, "replicas": 2}]}}
    for sharing, root, said in (
        (both, "root", f"sharing.timeSlicing shares {GPU} too"),
        (MPS, "r" * 80, "too many for the sockets of MPS"),
        (MPS, "root/..", 'write the path without ".."'),
    ):
        host.configure(sharing)
        folders = [f"--{name}-dir={host.folder}/{name}" for name in ("runtime", "state")]
        options = [f"--config-file={host.folder}/config.json", f"--mps-root={host.root}/{root}"]
        done = commands.run(command, *folders, *options)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr
    assert [*host.root.iterdir()] == []
    assert not {"runtime", "state"} & {path.name for path in host.folder.iterdir()}
