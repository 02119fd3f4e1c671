"""Memory of GPUs that MPS shares: whose it is, and which daemons hold the driver."""

import pytest
from msgspec.structs import replace

from proto.control import ServiceState
from proto.fitness import LastMpsWord
from proto.mps import MpsClient, MpsDaemon, Phase
from proto.usage import GpuProcess
from supervisor.commands import held_by_mps
from supervisor.exporter import occupied
from supervisor.exporter.samples import samples
from supervisor.status.snapshot import Snapshot
from supervisor.status.usage import device_uses
from supervisor.status.usage_owner import HOST, Owner
from supervisor.status.usage_report import HolderKind
from tests.unit.mps_node import (
    ABOUT,
    ANNA,
    DAEMON,
    GPU,
    KEEPER,
    NOW,
    SERVER,
    STALE,
    WALL,
    known,
    process,
    told,
)


@pytest.mark.parametrize("owner", [KEEPER, HOST], ids=["in a pod", "on the host"])
def test_the_server_is_no_stray(owner: Owner) -> None:
    """The MPS server is neither a process of the host nor a container without a device; its
    memory has a series of its own.
    """
    snapshot = known(owners={7: ANNA, 41: owner})
    holders = device_uses(snapshot, NOW, STALE)["A"].holders or ()
    kinds = {holder.kind: holder.memory_used_bytes for holder in holders}
    assert kinds == {HolderKind.CONTAINER: 100, HolderKind.MPS: 30}
    found = {s.name: s.value for s in samples(snapshot, ABOUT, {}, NOW, WALL)}
    assert found["mps_server_memory_used_bytes"] == 30
    assert found["host_memory_used_bytes"] == 0
    assert "unallocated_memory_used_bytes" not in found


def test_the_server_stays_known_while_the_tree_is_silent() -> None:
    """A restart of the tree makes the server no stray."""
    word = replace(known().mps or LastMpsWord(0.0), at=NOW - 60)
    holders = device_uses(known(mps=word), NOW, STALE)["A"].holders or ()
    assert HolderKind.UNALLOCATED not in {holder.kind for holder in holders}


def test_a_process_with_the_servers_pid_on_another_gpu_is_a_stray() -> None:
    """A daemon's server uses the daemon's device only."""
    elsewhere = known(replace(DAEMON, uuid="B"))
    holders = device_uses(elsewhere, NOW, STALE)["A"].holders or ()
    assert HolderKind.UNALLOCATED in {holder.kind for holder in holders}


@pytest.mark.parametrize(
    ("processes", "daemon", "leaked"),
    [
        ((SERVER,), DAEMON, 0),
        ((SERVER, process(9)), DAEMON, 100),
        ((), replace(DAEMON, server=0, status=None), 0),
        ((process(9),), replace(DAEMON, server=0, status=None), 100),
        ((process(9),), DAEMON, None),
        ((SERVER,), replace(DAEMON, uuid="B"), None),
    ],
    ids=[
        "the server alone",
        "somebody beside it",
        "nobody",
        "somebody without a server",
        "the server has another PID here",
        "no word of the daemon",
    ],
)
def test_a_server_without_clients_makes_its_device_neither_dirty_nor_occupied(
    processes: tuple[GpuProcess, ...], daemon: MpsDaemon, leaked: int | None
) -> None:
    """With one replica a device can be dirty; what its MPS server keeps does not count."""
    free = known(daemon, processes=processes, replicas=1, held=())
    assert device_uses(free, NOW, STALE)["A"].leaked_bytes == leaked
    sight = occupied.sights(free, NOW, STALE)["A"]
    assert sight.leaking == (None if leaked is None else leaked > 0)


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (
            known(),
            (
                "GPU 0 is held by its MPS daemon for team/anna/main: python3 (PID 7), "
                "unknown: PID 8; end them first"
            ),
        ),
        (
            known(replace(DAEMON, clients=())),
            (
                "GPU 0 is held by its MPS daemon, without clients; stop gpu-sharing-plugin mps on "
                "this node"
            ),
        ),
        (
            known(mps=LastMpsWord(0.0)),
            "GPU 0 may be held by an MPS daemon: gpu-sharing-plugin mps is silent",
        ),
        (known(replace(DAEMON, clients=(), pid=0, server=0, status=None)), None),
        (
            known(MpsDaemon("A", Phase.FAILED, "the root is full")),
            "GPU 0 may be held by an MPS daemon: the root is full",
        ),
        (known(service=ServiceState(processes=(), planned=(GPU,)), mps=None), None),
    ],
    ids=["clients", "no clients", "silent", "no daemon", "not adopted", "no MPS"],
)
def test_quiesce_names_who_holds_the_driver_still(snapshot: Snapshot, expected: str | None) -> None:
    """After `quiesce` the plugin does not hold the driver any more, but MPS daemons do."""
    assert list(held_by_mps.lines(told(snapshot))) == ([expected] if expected else [])


def test_quiesce_does_not_list_all_of_many_clients() -> None:
    """Eight clients are named, the others are counted."""
    many = known(replace(DAEMON, clients=tuple(MpsClient(pid) for pid in range(100, 120))))
    (line,) = held_by_mps.lines(told(many))
    assert line.endswith("unknown: PID 107, and 12 more; end them first")
