"""A keeper and its MPS daemon: start, limits, adoption, end."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from health.compute_mode import EXCLUSIVE_PROCESS
from proto.control import ApplyNow, Limit, Stop
from proto.keeper import ComputeMode
from proto.mps import MpsShare, Phase
from tests.fakes.keeper import FIRST, SECOND, SHARE, Node
from tests.fakes.mps_host import cuda
from tests.fakes.service import PATIENCE
from tests.hardware.transcript import alive, until

OTHER = MpsShare(memory_mib=30000, threads=50)


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    """Make a node, and end all of its daemons after the test."""
    made = Node(folder)
    yield made
    made.clean()


def test_a_device_becomes_ready(node: Node) -> None:
    """The compute mode is set, the daemon has its limits, and a server runs before any client."""
    with node.keeper() as keeper:
        daemon = keeper.ready()
        (started,) = node.mps.programs()
        assert started["pid"] == daemon.pid
        assert started["options"] == ["-f", "-multiuser-server"]
        assert started["environment"] == {
            "CUDA_VISIBLE_DEVICES": FIRST,
            "CUDA_MPS_PIPE_DIRECTORY": str(node.pipe()),
            "CUDA_MPS_LOG_DIRECTORY": str(node.pipe().parent / "log"),
        }
        assert node.mode() == EXCLUSIVE_PROCESS
        assert (daemon.share, daemon.restarts, daemon.detail) == (SHARE, 0, "")
        assert node.mps.servers(node.pipe()) == [daemon.server]
        client = node.mps.client(node.pipe())
        assert client.line() == "busy multiprocessors=32"
        assert [c.pid for c in keeper.until(lambda d: d.clients).clients] == [client.process.pid]
        client.end()
        keeper.order(Stop())
        assert keeper.process.wait(PATIENCE) == 0
    assert not alive(daemon.pid)
    assert node.mode() == 0


def test_a_killed_keeper_leaves_the_daemon(node: Node) -> None:
    """The next keeper adopts daemon and server, and their client notices neither."""
    with node.keeper() as keeper:
        before = keeper.ready()
        client = node.mps.client(node.pipe())
        client.line()
        keeper.kill()
    assert node.mode() == EXCLUSIVE_PROCESS
    with node.keeper() as keeper:
        after = keeper.ready()
        assert (after.pid, after.server, after.restarts) == (before.pid, before.server, 0)
        keeper.until(lambda daemon: daemon.clients)
        assert len(keeper.logged("adopted an MPS daemon that runs")) == 1
        assert client.end() == 0
        keeper.order(Stop())
        assert keeper.process.wait(PATIENCE) == 0
    assert not alive(before.pid)
    assert node.mode() == 0


def test_the_end_of_the_supervisor_leaves_the_daemon(node: Node) -> None:
    """A keeper whose supervisor has died ends alone."""
    with node.keeper() as keeper:
        before = keeper.ready()
        keeper.channel.close()
        assert keeper.process.wait(PATIENCE) == 0
    assert alive(before.pid)
    assert node.mode() == EXCLUSIVE_PROCESS


def test_an_idle_server_is_adopted_too(node: Node) -> None:
    """A restart of the keeper changes no PID while there are no clients either."""
    with node.keeper() as keeper:
        before = keeper.ready()
        keeper.kill()
    with node.keeper() as keeper:
        after = keeper.ready()
    assert (after.pid, after.server) == (before.pid, before.server)


def test_another_process_with_the_daemons_pid_is_left_alone(node: Node) -> None:
    """A keeper believes no PID file: it knows its daemon by its environment."""
    with node.keeper() as keeper:
        before = keeper.ready()
        keeper.kill()
    os.kill(before.pid, signal.SIGKILL)
    command = ["sh", "-c", "read line", "-f", "-multiuser-server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=cuda(node.pipe())) as decoy:
        file = node.pipe() / "nvidia-cuda-mps-control.pid"
        file.write_text(str(decoy.pid))
        with node.keeper() as keeper:
            assert keeper.ready().pid not in {before.pid, decoy.pid}
            assert decoy.poll() is None


@pytest.mark.parametrize("now", [False, True])
def test_a_daemon_with_other_limits_is_replaced_without_clients(
    node: Node,
    now: bool,  # noqa: FBT001 - a case
) -> None:
    """It waits for the clients of the former daemon, or ends them when it is told to."""
    with node.keeper() as keeper:
        before = keeper.ready()
        client = node.mps.client(node.pipe())
        client.line()
        keeper.kill()
    with node.keeper(node.settings(share=OTHER)) as keeper:
        waiting = keeper.phase(Phase.DRAINING, f"clients: {client.process.pid} (")
        assert (waiting.pid, waiting.share) == (before.pid, OTHER)
        if now:
            keeper.order(ApplyNow())
            assert (client.line() or "").endswith("CUDA error 806")
        client.end()
        after = keeper.ready()
        assert after.pid != before.pid
        assert after.restarts == 0
    assert node.mps.ask(node.pipe(), "get_default_active_thread_percentage") == (0, "50.0\n")


def test_new_limits_wait_for_the_clients(node: Node) -> None:
    """The order for other limits takes effect after the last client, and can be taken back."""
    with node.keeper() as keeper:
        before = keeper.ready()
        keeper.order(Limit(MpsShare(memory_mib=20000, threads=25)))
        client = node.mps.client(node.pipe())
        client.line()
        keeper.order(Limit(OTHER))
        keeper.phase(Phase.DRAINING, str(client.process.pid))
        keeper.order(Limit(SHARE))
        assert keeper.ready().pid == before.pid
        keeper.order(Limit(OTHER))
        keeper.phase(Phase.DRAINING, str(client.process.pid))
        client.end()
        after = keeper.ready()
        assert (after.share, after.pid != before.pid) == (OTHER, True)


def test_new_limits_that_come_during_a_start(node: Node) -> None:
    """They are not lost: the daemon gets them, though it was about to start with others."""
    with node.keeper() as keeper:
        assert until(lambda: [*node.state.glob("compute-mode-*")], PATIENCE)
        keeper.order(Limit(OTHER))
        assert keeper.until(lambda daemon: daemon.ready and daemon.share == OTHER)
    assert node.mps.ask(node.pipe(), "get_default_active_thread_percentage") == (0, "50.0\n")


def test_a_withdrawn_device_drains(node: Node) -> None:
    """The keeper ends after the last client, and goes on with its heartbeats until then."""
    with node.keeper() as keeper:
        daemon = keeper.ready()
        client = node.mps.client(node.pipe())
        client.line()
        keeper.order(Stop(withdraw=True))
        keeper.phase(Phase.DRAINING, str(client.process.pid))
        keeper.beats()
        assert client.end() == 0
        assert keeper.process.wait(PATIENCE) == 0
    assert not alive(daemon.pid)
    assert node.mode() == 0


def test_open_limits(node: Node) -> None:
    """Without one replica for each container the daemon sets no limits."""
    share = MpsShare(memory_mib=20000, threads=25, single=False)
    with node.keeper(node.settings(share=share)) as keeper:
        keeper.ready()
        client = node.mps.client(node.pipe())
        assert client.line() == "busy multiprocessors=132"
        client.end()
    assert not [command for command in node.mps.commands() if command.startswith("set_")]


def test_two_keepers_have_nothing_in_common(node: Node) -> None:
    """When one ends, the daemon and the compute mode of the other GPU stay."""
    with node.keeper() as first, node.keeper(node.settings(SECOND)) as second:
        first.ready()
        before = second.ready()
        first.order(Stop())
        first.process.wait(PATIENCE)
        after = second.ready()
        assert (after.pid, after.server) == (before.pid, before.server)
    assert (node.mode(), node.mode(SECOND)) == (0, EXCLUSIVE_PROCESS)


def test_the_compute_mode_can_stay(node: Node) -> None:
    """With the mode `unchanged` no compute mode is changed, and a changed one is put back."""
    with node.keeper() as keeper:
        keeper.ready()
        keeper.kill()
    settings = node.settings(compute_mode=ComputeMode.UNCHANGED)
    with node.keeper(settings) as keeper:
        keeper.ready()
        assert node.mode() == 0


def test_the_folders_are_for_all_users(node: Node) -> None:
    """Clients of other users reach the sockets, and nobody else can write to the folders."""
    with node.keeper() as keeper:
        keeper.ready()
    assert [program["umask"] for program in node.mps.programs()] == [0o022]
    for folder in (node.root, node.pipe().parent, node.pipe()):
        assert folder.stat().st_mode & 0o777 == 0o755
    assert (node.root / "shm").stat().st_mode & 0o7777 == 0o1777


def test_a_restart_keeps_the_shared_memory(node: Node) -> None:
    """What clients have in the shared folder is there after a restart of the keeper."""
    with node.keeper() as keeper:
        keeper.ready()
        keeper.kill()
    (node.root / "shm/of-a-client").touch()
    with node.keeper() as keeper:
        keeper.ready()
    assert (node.root / "shm/of-a-client").exists()


def test_the_log_has_what_the_daemon_logged(node: Node) -> None:
    """The daemon's lines are in our log with the GPU, without those about our own questions."""
    with node.keeper() as keeper:
        daemon = keeper.ready()
        keeper.beats()
        entries = keeper.logged("an MPS daemon logged a line")
        texts = [entry["text"] for entry in entries]
        assert f"NEW SERVER {daemon.server}: Ready" in texts
        assert "Active Threads Percentage set to 25.0" in texts
        assert "Cmd:set_default_active_thread_percentage 25" in texts
        assert {entry["uuid"] for entry in entries} == {FIRST}
        quiet = ("Cmd:get_", "Cmd:ps", "Accepting", "NEW UI", "UI closed", "ACTIVE")
        assert [text for text in texts if text.startswith(quiet)] == []


def test_the_last_runs_log_is_kept(node: Node) -> None:
    """After a daemon was killed, what it had written is in a file beside that of the next."""
    with node.keeper() as keeper:
        before = keeper.ready()
        os.kill(before.pid, signal.SIGKILL)
        keeper.until(lambda daemon: daemon.ready and daemon.pid != before.pid)
    logs = node.pipe().parent / "log"
    assert f"Control {before.pid:5}]" in (logs / "output.log.1").read_text()
    assert f"Control {before.pid:5}]" not in (logs / "output.log").read_text()


def test_new_periods_need_no_new_keeper(node: Node) -> None:
    """A keeper that looks rarely looks often after an order, and the daemon stays."""
    with node.keeper(node.settings(poll_interval=3600.0)) as keeper:
        daemon = keeper.ready()
        asked = len(node.mps.commands(FIRST))
        keeper.order(Limit(SHARE, 0.05, 15.0))
        assert until(lambda: len(node.mps.commands(FIRST)) > asked + 20, PATIENCE)
        assert keeper.ready().pid == daemon.pid
