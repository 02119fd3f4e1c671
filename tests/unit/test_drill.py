"""The command `drill`, which causes faults in a simulated node."""

from pathlib import Path

import pytest

from proto.mps_bus import MPS_BUS
from simulator import drill
from simulator.live_node import LiveNode
from simulator.node import (
    Event,
    Live,
    NodeError,
    SimulatedGpu,
    SimulatedHost,
    SimulatedLink,
    SimulatedNode,
    SimulatedPlatform,
)
from simulator.node_file import complete
from simulator.usage import FIRST_PID, Use
from supervisor.commands.command_line import parser
from tests.unit.builders import gpu_uuid

NODE = complete(
    SimulatedNode(
        (
            SimulatedGpu(),
            SimulatedGpu(mig=("1g.10gb", "1g.10gb")),
            SimulatedGpu(vgpu=SimulatedHost()),
        ),
        links=(SimulatedLink((0, 1), nvlinks=4),),
    )
)


def after(folder: Path, *lines: str) -> Live:
    """Run the command with each of *lines*; return the simulated node."""
    live = LiveNode(folder)
    live.start(NODE)
    (folder / MPS_BUS).touch()
    for line in lines:
        words = ["drill", *line.split(), f"--runtime-dir={folder}"]
        drill.run(parser("1.2.3").parse_args(words))
    return live.read()


BROKEN, OFF_THE_BUS = {gpu_uuid(1): 1}, {gpu_uuid(1): 2}

DRILLS: dict[str, tuple[list[str], Live]] = {
    "xid": (
        ["xid 79 --gpu 1"],
        Live(NODE, happened=1, events=(Event(1, gpu_uuid(1), 79),), actions=OFF_THE_BUS),
    ),
    "xid of an instance": (
        ["xid 31 --gpu 1 --mig 0"],
        Live(NODE, happened=1, events=(Event(1, gpu_uuid(1), 31, 0),)),
    ),
    "lost": (["lost --gpu 1"], Live(NODE, lost=frozenset({gpu_uuid(1)}), actions=OFF_THE_BUS)),
    "hang": (["hang --gpu 0"], Live(NODE, hung=frozenset({gpu_uuid(0)}))),
    "slow": (["slow --gpu 0 --milliseconds 40"], Live(NODE, slow={gpu_uuid(0): 40})),
    "slow no longer": (
        ["slow --gpu 0 --milliseconds 40", "slow --gpu 0 --milliseconds 0"],
        Live(NODE),
    ),
    "mps-fault": (["mps-fault --gpu 0"], Live(NODE, mps_faults=frozenset({gpu_uuid(0)}))),
    "mps-fault no longer": (["mps-fault --gpu 0", "recover --gpu 0"], Live(NODE)),
    "fail": (
        ["fail --gpu 0 --call nvmlDeviceGetName --code 999"],
        Live(NODE, failing={gpu_uuid(0): {"nvmlDeviceGetName": 999}}),
    ),
    "fail no longer": (
        [
            "fail --gpu 0 --call nvmlDeviceGetName --code 999",
            "fail --gpu 0 --call nvmlDeviceGetName --code 0",
        ],
        Live(NODE),
    ),
    "nvlink-down": (["nvlink-down --gpu 0 --links 3"], Live(NODE, links_down={gpu_uuid(0): 3})),
    "recover from a hang": (["hang --gpu 0", "recover --gpu 0"], Live(NODE)),
    "recover": (["lost --gpu 1", "recover --gpu 1"], Live(NODE, actions=OFF_THE_BUS)),
    "reset": (["lost --gpu 1", "reset --gpu 1"], Live(NODE, resets=BROKEN)),
    "ecc": (["ecc --gpu 1"], Live(NODE, errors=BROKEN, actions=BROKEN)),
    "mig": (
        ["mig 2g.20gb --gpu 1"],
        Live(NODE, {gpu_uuid(1): ("2g.20gb",)}, happened=1, events=(Event(1, gpu_uuid(1)),)),
    ),
    "usage of a pod": (
        ["usage --gpu 0 --pod ml/train-0 --memory 4096 --utilization 30"],
        Live(NODE, uses={gpu_uuid(0): (Use(4096, 30, pod="ml/train-0", pid=FIRST_PID),)}),
    ),
    "usage of the host": (
        ["usage --gpu 0 --host --memory 300 --type graphics"],
        Live(NODE, uses={gpu_uuid(0): (Use(300, kind="graphics", pid=FIRST_PID),)}),
    ),
    "usage of a real process": (
        ["usage --gpu 0 --pid 4711 --memory 300"],
        Live(NODE, uses={gpu_uuid(0): (Use(300, pid=4711),)}),
    ),
    "usage of an instance": (
        ["usage --gpu 1 --mig 1 --pod a/b --container c --memory 9 --type mps"],
        Live(
            NODE,
            uses={
                gpu_uuid(1): (Use(9, pod="a/b", container="c", kind="mps", mig=1, pid=FIRST_PID),)
            },
        ),
    ),
    "usage": (
        ["usage --gpu 0 --pod a/b --memory 9", "usage --gpu 0 --pod a/b --memory 0"],
        Live(NODE),
    ),
    "fabric": (["fabric --gpu 0"], Live(NODE, apart={gpu_uuid(0): 2})),
    "fabric no longer": (["fabric --gpu 0", "recover --gpu 0"], Live(NODE)),
    "licence": (["licence --gpu 2"], Live(NODE, unlicensed=frozenset({gpu_uuid(2)}))),
    "licence no longer": (["licence --gpu 2", "recover --gpu 2"], Live(NODE)),
    "passthrough": (["passthrough --gpu 0"], Live(NODE, passed=frozenset({gpu_uuid(0)}))),
    "passthrough no longer": (["passthrough --gpu 0", "add --gpu 0"], Live(NODE)),
    "cc-not-ready": (["cc-not-ready"], Live(NODE, unattested=True)),
    "cc-ready": (["cc-not-ready", "cc-ready"], Live(NODE)),
    "permission-loss": (["permission-loss"], Live(NODE, denied=True)),
    "permission": (["permission-loss", "permission"], Live(NODE)),
    "recovery-action": (["recovery-action 1 --gpu 1"], Live(NODE, actions=BROKEN)),
    "row-remap": (["row-remap --gpu 0"], Live(NODE, rows=frozenset({gpu_uuid(0)}))),
    "grey": (
        ["grey pcie --gpu 0", "grey clocks --gpu 0"],
        Live(NODE, grey={gpu_uuid(0): ("clocks", "pcie")}),
    ),
    "grey no longer": (["grey pcie --gpu 0", "recover --gpu 0"], Live(NODE)),
    "remove": (["remove --gpu 1"], Live(NODE, removed=frozenset({gpu_uuid(1)}))),
    "add": (["remove --gpu 1", "add --gpu 1"], Live(NODE)),
}


@pytest.mark.parametrize(("lines", "expected"), DRILLS.values(), ids=DRILLS)
def test_drills(tmp_path: Path, lines: list[str], expected: Live) -> None:
    """When the command returns, the simulated node has its fault."""
    assert after(tmp_path, *lines) == expected


def test_every_kind_of_drill_is_tested() -> None:
    """The table above has each kind of drill."""
    assert set(drill.KINDS) <= set(DRILLS)


def test_a_node_without_mps_has_no_fault_of_mps(tmp_path: Path) -> None:
    """The fault would change nothing there, so the command says why."""
    after(tmp_path)
    (tmp_path / MPS_BUS).unlink()
    words = ["drill", "mps-fault", "--gpu", "0", f"--runtime-dir={tmp_path}"]
    with pytest.raises(NodeError, match="no `gpu-sharing-plugin mps` runs on this node"):
        drill.run(parser("1.2.3").parse_args(words))
    assert LiveNode(tmp_path).read() == Live(NODE)


@pytest.mark.parametrize(
    ("call", "similar"),
    [
        ("nvmlDeviceGetNames", "nvmlDeviceGetName"),
        ("nvmlDeviceGetTotalEnergy", "nvmlDeviceGetTotalEnergyConsumption"),
        ("", "nvmlDeviceGetMemoryInfo"),
    ],
)
def test_only_a_function_of_the_simulated_nvml_fails(
    tmp_path: Path, call: str, similar: str
) -> None:
    """A function that the simulated NVML does not have is an error that names a similar one."""
    with pytest.raises(NodeError) as error:
        after(tmp_path, f"fail --gpu 0 --call={call} --code 999")
    assert str(error.value) == (
        f'cannot make "{call}" fail: the simulated NVML has no such function of a GPU; '
        f"use one that it has, such as {similar}"
    )
    assert LiveNode(tmp_path).read() == Live(NODE)


WHOSE = "cannot tell whose the process is: give one of --pod, --host and --pid"
LONG, TOO_LONG = f"a/{'b' * 217}", "would have a name that is too long for a file"
NO_POD = "cannot use --container without --pod: the process is in no simulated pod"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("usage --gpu 0 --memory 9", WHOSE),
        ("usage --gpu 0 --memory 9 --pod a/b --host", WHOSE),
        ("usage --gpu 0 --memory 9 --pod=", WHOSE),
        (
            "usage --gpu 0 --memory 9 --pod a",
            'cannot use GPU 0: pod "a" must look like NAMESPACE/NAME',
        ),
        (
            "usage --gpu 0 --memory 9 --pod ../b",
            'cannot use GPU 0: pod "../b" must look like NAMESPACE/NAME',
        ),
        (
            f"usage --gpu 0 --memory 9 --pod {LONG}",
            f'cannot use GPU 0: the log folder of pod "{LONG}" {TOO_LONG}',
        ),
        (
            "usage --gpu 0 --memory 9 --pod a/b --container ..",
            'cannot use GPU 0: container ".." is no name that Kubernetes allows',
        ),
        (
            "usage --gpu 0 --memory -1 --host",
            "cannot use GPU 0: -1 MiB must be at least 0; 0 ends the process",
        ),
        (
            "usage --gpu 0 --memory 9 --utilization 101 --host",
            "cannot use GPU 0: utilization 101 must be from 0 to 100 percent",
        ),
        ("usage --gpu 0 --memory 9 --pid 0", "cannot use the PID 0: it must be at least 1"),
        (
            "usage --gpu 0 --memory 9 --pid 4194305",
            "cannot use GPU 0: PID 4194305 must be from 1 to 4194304",
        ),
        (
            "usage --gpu 0 --memory 80955 --host",
            "cannot use 80955 MiB of GPU 0: the process can have at most 80954 MiB",
        ),
        (
            "usage --gpu 0 --memory 9 --host --mig 0",
            "cannot use MIG instance 0 of GPU 0: MIG mode is off",
        ),
        (
            "usage --gpu 1 --memory 9 --host",
            "cannot use GPU 1 without one of its 2 MIG instances: name one with --mig N, from 0",
        ),
        (
            "usage --gpu 1 --memory 10195 --host --mig 1",
            (
                "cannot use 10195 MiB of MIG instance 1 of GPU 1: "
                "the process can have at most 10194 MiB"
            ),
        ),
        ("usage --gpu 0 --memory 9 --host --container c", NO_POD),
        ("usage --gpu 0 --memory 9 --pid 4711 --container c", NO_POD),
        (
            "usage --gpu 0 --memory 0 --pod a/b",
            "cannot end a process on GPU 0: a/b/main does not use it; `status` shows who does",
        ),
        (
            "usage --gpu 1 --mig 1 --memory 0 --host",
            (
                "cannot end a process on MIG instance 1 of GPU 1: the host does not use it; "
                "`status` shows who does"
            ),
        ),
        (
            "usage --gpu 0 --memory 0 --pid 4711",
            "cannot end a process on GPU 0: PID 4711 does not use it; `status` shows who does",
        ),
    ],
)
def test_usage_that_a_gpu_cannot_have(tmp_path: Path, line: str, error: str) -> None:
    """Usage that a GPU cannot have is refused in one line, and changes nothing."""
    with pytest.raises(NodeError) as refused:
        after(tmp_path, line)
    assert str(refused.value) == error
    assert LiveNode(tmp_path).read() == Live(NODE)


@pytest.mark.parametrize(
    ("line", "done"),
    [
        ("xid 79 --gpu 1", "done: drill xid 79 on GPU 1"),
        ("xid 31 --gpu 1 --mig 0", "done: drill xid 31 --mig 0 on GPU 1"),
        (
            "mig 1g.10gb 1g.10gb --gpu 1",
            f"done: drill mig 1g.10gb 1g.10gb on GPU 1; {drill.SEARCH}",
        ),
        ("mig --gpu 1", f"done: drill mig on GPU 1; {drill.SEARCH}"),
        ("lost --gpu 0", "done: drill lost on GPU 0"),
        ("permission-loss", "done: drill permission-loss on the whole node"),
        ("usage --gpu 0 --host --memory 9", "done: drill usage --host --memory 9 on GPU 0"),
        (
            "usage --gpu 0 --pod a/b --memory 9 --utilization 3",
            "done: drill usage --pod a/b --memory 9 --utilization 3 on GPU 0",
        ),
    ],
)
def test_a_drill_says_what_it_did(line: str, done: str, tmp_path: Path) -> None:
    """Each drill returns one line with its arguments and where it took effect."""
    LiveNode(tmp_path).start(NODE)
    words = ["drill", *line.split(), f"--runtime-dir={tmp_path}"]
    assert drill.run(parser("1.2.3").parse_args(words)) == done


@pytest.mark.parametrize(
    ("gpu", "platform"),
    [
        (SimulatedGpu(events=False), SimulatedPlatform.NVML),
        (SimulatedGpu(lacks=("nvmlDeviceGetSupportedEventTypes",)), SimulatedPlatform.NVML),
        (SimulatedGpu(lacks=("optional",)), SimulatedPlatform.TEGRA),
        (SimulatedGpu(), SimulatedPlatform.WSL),
    ],
    ids=["old", "without events", "Tegra", "WSL2"],
)
def test_a_driver_that_reports_no_xids(
    tmp_path: Path, gpu: SimulatedGpu, platform: SimulatedPlatform
) -> None:
    """An Xid that would never be reported is refused."""
    live = LiveNode(tmp_path)
    live.start(complete(SimulatedNode((gpu,), platform=platform)))
    with pytest.raises(NodeError, match="cannot report an Xid on GPU 0: its driver reports none"):
        live.xid(0, 79)
    assert live.read().events == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mps-fault --gpu=0", "at its next check (health.pollInterval"),
        ("remove --gpu=0", "at its next search (health.rescanInterval"),
        ("mig 1g.10gb --gpu=1", "at its next search (health.rescanInterval"),
    ],
)
def test_a_drill_says_if_it_takes_effect_later(tmp_path: Path, line: str, words: str) -> None:
    """Some things are looked at only from time to time."""
    LiveNode(tmp_path).start(NODE)
    (tmp_path / MPS_BUS).touch()
    given = ["drill", *line.split(), f"--runtime-dir={tmp_path}"]
    assert words in drill.run(parser("1").parse_args(given))
