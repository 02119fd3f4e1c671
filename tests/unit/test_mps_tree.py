"""The pure parts of the tree of the MPS daemons: what it keeps, publishes and finds."""

from pathlib import Path

import pytest

from proto.channel import Channel, Sent
from proto.control import Limit, ProcessState, ServiceState
from proto.keeper import ComputeMode
from proto.mps import MpsDaemon, MpsShare, Phase, pipe_folder
from proto.mps_bus import MpsBusSettings
from proto.problem import Problem, ProblemKind
from proto.worker import PlannedDevice, ResourcePlan
from supervisor import compose
from supervisor.child import Spec
from supervisor.config.refusal import SettingsError
from supervisor.config.settings import load
from supervisor.main import MPS
from supervisor.mps import daemon, leftovers, locks, planned
from supervisor.mps.compose import compose_tree
from supervisor.mps.merged import FIRST_WORDS, Word, complete, ending, kept, merged
from supervisor.plan import Plan
from supervisor.state import Served
from tests.unit.builders import gpu, inventory

NOW = 1000.0
STALE = 10.0
SHARE = MpsShare(1000, 25)
SHARED = PlannedDevice("GPU-1", "GPU-1", 4, mps=SHARE)
OTHER = PlannedDevice("GPU-2", "GPU-2", 1)


def word(uuid: str, at: float = NOW) -> Word:
    """Return a keeper's word that its device is ready."""
    return Word(MpsDaemon(uuid, Phase.READY), at, at + 1e9)


def state(name: str, state: str = "running") -> ProcessState:
    """Return the state of a process."""
    return ProcessState(name, state, 0)


def test_a_keeper_that_ended_is_no_keeper() -> None:
    """Only keepers count that run, or are to run again."""
    processes = (
        state("mps bus"),
        state("exporter"),
        state("mps GPU-1"),
        state("mps MIG-2", "backoff"),
        state("mps GPU-3", "down"),
    )
    assert kept(ServiceState(processes, planned=())) == frozenset({"GPU-1", "MIG-2"})


def test_before_the_inventory_nothing_is_known_of_keepers() -> None:
    """A tree that starts again must not tell of devices without daemons: it adopts them soon."""
    assert kept(ServiceState((state("mps bus"),), planned=None)) is None


def test_the_word_of_each_keeper_is_published() -> None:
    """A keeper's word is published as it is, unless the keeper is silent or has not spoken yet."""
    words = {
        "GPU-1": word("GPU-1"),
        "GPU-2": word("GPU-2", NOW - STALE - 1),
        "GPU-9": word("GPU-9"),
    }
    first, silent, new = merged(words, {"GPU-1", "GPU-2", "GPU-3"}, NOW, STALE)
    assert first == words["GPU-1"].daemon
    assert (silent.phase, silent.detail) == (Phase.FAILED, "its keeper is silent")
    assert (new.uuid, new.phase) == ("GPU-3", Phase.STARTING)


@pytest.mark.parametrize(
    ("spoken", "began", "expected"),
    [
        ({"GPU-1", "GPU-2"}, NOW, True),
        ({"GPU-1"}, NOW, False),
        ({"GPU-1"}, NOW - FIRST_WORDS - 0.1, True),
    ],
    ids=["all", "one is missing", "one is late"],
)
def test_a_new_bus_process_waits_for_all_keepers(
    spoken: set[str],
    began: float,
    expected: bool,  # noqa: FBT001
) -> None:
    """It publishes when each keeper has spoken, but does not wait long for one that hangs."""
    words = {uuid: word(uuid) for uuid in spoken}
    assert complete(words, {"GPU-1", "GPU-2"}, began, NOW) is expected


def test_only_devices_of_mps_have_keepers() -> None:
    """Each device that MPS shares is a part of its own; other problems are the plugin's."""
    ours = Problem(ProblemKind.MPS_THREADS, "x")
    plan = Plan(
        (ResourcePlan("a", (OTHER,)), ResourcePlan("b", (SHARED, OTHER))),
        (Problem(ProblemKind.MIG_EMPTY, "y"), ours),
    )
    assert planned.daemons(plan) == Plan((ResourcePlan("b", (SHARED,)),), (ours,))


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (Served(), "waiting for the inventory of `gpu-sharing-plugin run`"),
        (Served(plans={}), "no device is shared by MPS"),
        (
            Served(plans={"mps GPU-1": ResourcePlan("b", (SHARED,))}),
            "keeps the MPS daemons of GPU-1",
        ),
        (Served(not_ready={"exporter": "x"}), "not ready, retrying: x"),
    ],
)
def test_what_systemd_is_told(served: Served, said: str) -> None:
    """The state is one line, and the start is done before the plugin runs."""
    assert planned.status(served) == said
    assert planned.settled(served)


def test_the_exporter_is_told_of_no_resource() -> None:
    """The resources belong to the plugin, so that the probes of this tree do not wait for them."""
    plans = {"mps GPU-1": ResourcePlan("b", (SHARED,))}
    assert planned.state(Served(), ()).planned is None
    told = planned.state(Served(plans=plans), (state("mps GPU-1"),))
    assert (told.planned, told.mps, told.processes) == ((), {}, (state("mps GPU-1"),))


def process(procfs: Path, pid: int, name: str, pipe: str) -> None:
    """Create a process as /proc shows it."""
    folder = procfs / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "ns/pid").symlink_to(procfs)
    (folder / "cmdline").write_text(f"{name}\0-f\0")
    (folder / "environ").write_text(f"CUDA_MPS_PIPE_DIRECTORY={pipe}\0")


def test_leftovers_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remembered compute mode and a running daemon are found, without any file of it."""
    root, states, procfs = str(tmp_path / "root"), tmp_path / "state", tmp_path / "proc"
    process(procfs, 10, daemon.NAME, pipe_folder(root, "GPU-2"))
    process(procfs, 11, daemon.NAME, pipe_folder(f"{tmp_path}/other", "GPU-3"))
    process(procfs, 12, "python3", pipe_folder(root, "GPU-4"))
    process(procfs, 13, daemon.NAME, f"{root}/shm/pipe")
    (procfs / "self").symlink_to(procfs / "10")
    monkeypatch.setattr(daemon, "PROCFS", procfs)
    assert leftovers.find(root, str(states)) == ("GPU-2",)
    states.mkdir(mode=0o700)
    (states / "compute-mode-GPU-1").write_text("0")
    assert leftovers.find(root, str(states)) == ("GPU-1", "GPU-2")


def specs(**flags: str) -> dict[str, Spec]:
    """Return the children of the tree that flags describe."""
    return {spec.name: spec for spec in compose_tree(load(flags, {})).children}


def test_the_tree_has_its_own_folder() -> None:
    """Its sockets are in a folder of its own, but for those that the plugin shares with it."""
    flags = {"service.runtimeDir": "/run/x", "service.metricsAddress": "127.0.0.1:0"}
    found = specs(**flags)
    assert sorted(found) == ["exporter", "mps bus"]
    settings = found["mps bus"].settings
    assert isinstance(settings, MpsBusSettings)
    plugin = compose.compose(load(flags, {}))
    assert (settings.health_bus, settings.mps_bus) == ("/run/x/health.ipc", "/run/x/mps.ipc")
    assert settings.keepers_bus == "/run/x/mps/keepers.ipc"
    tree = compose_tree(load(flags, {}))
    assert (plugin.runtime_dir, tree.runtime_dir) == ("/run/x", "/run/x/mps")
    assert tree.limits.end < 10


def test_a_keeper_has_what_its_device_needs() -> None:
    """A changed share is an order; a changed root needs a new process."""
    before, after = (
        compose_tree(load({"flags.mpsRoot": root}, {})).worker(ResourcePlan("b", (SHARED,)))
        for root in ("/run/a", "/run/b")
    )
    assert before.name == "mps GPU-1"
    assert before.change == after.change
    assert before.fixed != after.fixed
    here, there = Channel.pair()
    assert before.change is not None
    assert here.send(before.change) is Sent.TAKEN
    mode = ComputeMode.EXCLUSIVE_PROCESS
    assert there.receive() == before.change == Limit(SHARE, 5.0, 15.0, mode)
    here.close()
    there.close()


def test_the_tree_has_a_port_of_its_own() -> None:
    """With the same options, both services of a node can listen; it is the port of our pods."""
    assert load({}, dict(MPS.variables)).address != load({}, {}).address
    manifest = Path(__file__).parents[2] / "deploy/kustomize/components/mps/daemonset.yaml"
    assert f'value: "{MPS.variables["METRICS_ADDRESS"]}"' in manifest.read_text()


def test_a_long_runtime_folder_is_refused() -> None:
    """The tree's sockets have longer paths than the plugin's."""
    flags = {"service.runtimeDir": f"/run/{'x' * 86}"}
    assert compose.compose(load(flags, {}))
    with pytest.raises(SettingsError, match="use a shorter folder"):
        compose_tree(load(flags, {}))


def test_a_tree_that_ends_says_so() -> None:
    """No daemon counts as ready any more when the tree begins to end."""
    (told,) = ending((word("GPU-1").daemon,), 5.0)
    assert (told.phase, told.since) == (Phase.DRAINING, 5.0)


@pytest.mark.parametrize(
    ("served", "problem"),
    [
        (Served(), "waiting for the inventory of `gpu-sharing-plugin run`"),
        (Served(not_ready={"exporter": "x"}), "x"),
        (Served(plans={}), ""),
    ],
)
def test_the_probe_says_that_the_plugin_is_missing(served: Served, problem: str) -> None:
    """The tree of the daemons has no monitor, so the probe must not name one."""
    assert planned.state(served, ()).problem == problem


def test_a_root_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """Without sharing by MPS, no daemon has to be there, so no root stops the tree."""
    root, state = str(tmp_path / ("x" * 300)), str(tmp_path / "state")
    locks.hold(load({"flags.mpsRoot": root, "service.stateDir": state}, {}))


def test_the_plan_knows_where_the_daemons_are(tmp_path: Path) -> None:
    """If the two services had different roots, containers would get folders without a daemon."""
    file = tmp_path / "config.json"
    sharing = '{"mps": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}}'
    file.write_text(f'{{"version": "v1", "sharing": {sharing}}}')
    roots = []
    for composed, root in ((compose.compose, "/run/a"), (compose_tree, "/run//a/")):
        settings = load({"flags.mpsRoot": root, "service.configFile": str(file)}, {})
        (part,) = composed(settings).plan(inventory(gpu(0))).resources
        roots += [device.mps.root for device in part.devices if device.mps]
    assert roots == ["/run/a", "/run/a"]
