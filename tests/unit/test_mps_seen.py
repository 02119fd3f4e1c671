"""MPS in metrics, status, page and terminal: its daemons, its servers and their clients."""

import io

import pytest
from msgspec.structs import replace
from rich.console import Console

from proto.control import ServiceState
from proto.fitness import NO_WORD, LastMpsWord
from proto.messages import NodeState
from proto.mps import MpsClient, MpsShare, Phase, ServerStatus
from proto.problem import Problem, ProblemKind
from proto.reasons import ReasonKind
from supervisor.cluster.node_events import UNHEALTHY, decide
from supervisor.cluster.node_view import view
from supervisor.commands.show_status import show
from supervisor.exporter import mps_metrics
from supervisor.status.mps_report import MpsClientStatus, MpsStatus
from supervisor.status.page import page
from supervisor.status.report import SharingKind
from supervisor.status.snapshot import Snapshot
from supervisor.status.usage_owner import Owner, OwnerKind
from tests.unit.mps_node import DAEMON, GPU, NODE, NOW, STALE, WALL, known, told


def of_gpu(snapshot: Snapshot) -> MpsStatus:
    """Return what the status tells of the GPU's sharing."""
    mps = (told(snapshot).gpus or ())[0].mps
    assert mps
    return mps


def series(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    """Return the metrics of MPS, by name and labels."""
    found = mps_metrics.samples(snapshot, NOW, STALE)
    return {(sample.name, *sample.labels): sample.value for sample in found}


def test_a_root_that_clients_cannot_enter_is_a_problem_of_the_node() -> None:
    """It is told once, whatever the number of devices; they are Unhealthy for it themselves."""
    text = 'cannot let clients of other users reach "/run/x"; run chmod o+x "/run"'
    broken = replace(DAEMON, phase=Phase.FAILED, detail=f"mps-root: {text}")
    problems = known(broken, replace(broken, uuid="B")).problems()
    assert problems == (Problem(ProblemKind.MPS_ROOT, text),)
    assert known().problems() == ()


def test_a_daemon_and_its_clients() -> None:
    """The status has all of it; the pod of a client is that of its process on the GPU."""
    assert of_gpu(known()) == MpsStatus(
        phase=Phase.READY,
        since=5.0,
        pid=40,
        server_pid=41,
        server_status=ServerStatus.ACTIVE,
        restarts=1,
        memory_limit_mib=20480,
        threads_percent=25,
        one_replica=True,
        clients=(
            MpsClientStatus(
                pid=7, command="python3", namespace="team", pod="anna", container="main"
            ),
            MpsClientStatus(pid=8),
        ),
    )


SILENT = [
    pytest.param(LastMpsWord(0.0), id="never heard"),
    pytest.param(replace(known().mps or LastMpsWord(0.0), at=NOW - 10.1), id="old"),
]


@pytest.mark.parametrize("word", SILENT)
def test_without_a_word_nothing_is_claimed(word: LastMpsWord) -> None:
    """While the tree is silent, only the plan is known, and the device is Unhealthy."""
    silent = known(mps=word)
    assert of_gpu(silent) == MpsStatus(memory_limit_mib=20480, threads_percent=25, one_replica=True)
    assert series(silent) == {("mps_up",): 0}
    shown = (told(silent).gpus or ())[0]
    assert [(r.kind, r.detail) for r in shown.reasons] == [(ReasonKind.MPS, NO_WORD)]
    assert not told(silent).ok


def test_nothing_is_said_of_mps_where_it_is_not_used() -> None:
    """Without devices of MPS there is no series, and the status is null."""
    plain = known(service=ServiceState(processes=(), planned=(GPU,)), mps=None)
    assert series(plain) == {}
    assert (told(plain).gpus or ())[0].mps is None


def test_a_daemon_that_is_left_is_shown() -> None:
    """A device that the plan no longer shares by MPS is told of while its daemon drains."""
    left = known(
        replace(DAEMON, phase=Phase.DRAINING, detail="2 clients"),
        service=ServiceState(processes=(), planned=(GPU,)),
    )
    assert (of_gpu(left).phase, of_gpu(left).detail) == (Phase.DRAINING, "2 clients")
    assert series(left)["mps_up",] == 1
    assert series(left)["mps_daemon_phase", "A", "draining"] == 1


@pytest.mark.parametrize(
    ("server", "answer", "state"),
    [
        (0, None, "none"),
        (41, None, None),
        (41, ServerStatus.INITIALIZING, "initializing"),
        (41, ServerStatus.ACTIVE, "active"),
        (41, ServerStatus.FAULT, "fault"),
    ],
)
def test_the_state_of_the_server(
    server: int, answer: ServerStatus | None, state: str | None
) -> None:
    """One state is 1 and the others are 0; of a server that does not answer all are 0."""
    found = series(known(replace(DAEMON, server=server, status=answer)))
    states = {key[2]: value for key, value in found.items() if key[0] == "mps_server_state"}
    assert states == {
        name: float(name == state) for name in ("none", "initializing", "active", "fault")
    }


def test_no_limit_has_no_series() -> None:
    """A limit that is not set is absent, and the words say so."""
    free = known(replace(DAEMON, share=MpsShare()))
    assert not [key for key in series(free) if "limit" in key[0]]


def test_the_kinds_of_sharing() -> None:
    """A resource is shared by MPS, by time-slicing, or not at all."""
    plain = ServiceState(processes=(), planned=(GPU,))
    shown = [known(), known(service=plain), known(service=plain, replicas=1)]
    kinds = [(told(snapshot).resources or ())[0].sharing for snapshot in shown]
    assert kinds == [SharingKind.MPS, SharingKind.TIME_SLICING, SharingKind.NONE]


def test_the_page() -> None:
    """The card of a GPU says what its daemon does, what a replica comes to, and who uses it."""
    text = page(told(known(replace(DAEMON, phase=Phase.FAULT, detail="PID 7 is left"))), {})
    for part in (
        "✗ fault, server active",
        "a replica: 20.0 GiB, 25 % of the SMs",
        "PID 7 is left",
        "2 clients",
        "<span>team/anna/main</span><span>python3 (PID 7)</span>",
        "<span>unknown</span><span>PID 8</span>",
        "mps: the MPS server",
    ):
        assert part in text
    assert "? unknown, server unknown" in page(told(known(mps=LastMpsWord(0.0))), {})


def printed(snapshot: Snapshot) -> str:
    """Return what `status` prints, with single spaces."""
    console = Console(file=io.StringIO(), color_system=None)
    show(told(snapshot), console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(" ".join(line.split()) for line in console.file.getvalue().splitlines())


def test_the_terminal() -> None:
    """The command prints the daemons with a line for each client."""
    text = printed(known())
    assert (
        "GPU MPS server a replica used by\n"
        "0 ✓ ready active 20.0 GiB, 25 % of the SMs team/anna/main: python3 (PID 7)\n"
        "unknown: PID 8\n"
    ) in text
    assert f"{GPU} mps 4 of 4" in text
    silent = printed(known(mps=LastMpsWord(0.0)))
    assert "0 ? unknown unknown 20.0 GiB, 25 % of the SMs clients unknown" in silent
    assert f"its MPS daemon is not ready: {NO_WORD}" in silent
    free = printed(known(replace(DAEMON, clients=(), server=0, status=None, share=MpsShare())))
    assert "0 ✓ ready none no limit" in free


HOSTILE = '<script>alert("1")</script>\x1b[2J'


def test_texts_of_daemons_and_clients_are_text() -> None:
    """A program may have any name, also one that looks like a part of the page or a command to the
    terminal.
    """
    daemon = replace(DAEMON, detail=HOSTILE, clients=(MpsClient(7, HOSTILE),))
    shown = known(daemon, owners={7: Owner(OwnerKind.CONTAINER, HOSTILE, HOSTILE, HOSTILE)})
    text = page(told(shown), {})
    assert HOSTILE not in text
    assert "&lt;script&gt;alert" in text
    assert "\x1b" not in printed(shown)


def test_an_event_names_mps() -> None:
    """A fault of the daemon is an Event of its device, with the detail and what to do."""
    assert isinstance(NODE, NodeState)
    faulty = known(replace(DAEMON, phase=Phase.FAULT, detail="waiting for PID 7"))
    before = view(NODE, known().fitness(NOW, STALE))
    (event,) = decide(before, view(NODE, faulty.fitness(NOW, STALE)), WALL)
    assert event.reason == UNHEALTHY
    assert "its MPS daemon is not ready: fault: waiting for PID 7. " in event.message
