"""A keeper and its MPS daemon when something is broken: what the device is, and what is done."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from health.compute_mode import EXCLUSIVE_PROCESS
from proto.control import ApplyNow, ServiceState, Stop
from proto.mps import MpsShare, Phase, ServerStatus
from tests.fakes.keeper import FIRST, SECOND, Node
from tests.fakes.service import PATIENCE
from tests.hardware.transcript import alive, until

COMMANDS = ("get_server_list", "get_server_status", "ps")
HASTY = 3.0
"""Seconds until something hangs, for tests in which something does."""


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    """Make a node, and end all of its daemons after the test."""
    made = Node(folder)
    yield made
    made.clean()


def test_a_killed_daemon_is_started_again(node: Node) -> None:
    """The other GPU's daemon and server go on as they were.

    The GPU gets its compute mode again, which somebody has changed.
    """
    with node.keeper() as keeper, node.keeper(node.settings(SECOND)) as other:
        before, beside = keeper.ready(), other.ready()
        node.live.set_mode(FIRST, 0)
        os.kill(before.pid, signal.SIGKILL)
        down = keeper.phase(Phase.STARTING)
        assert (down.pid, down.detail) == (0, "the daemon was killed by SIGKILL")
        after = keeper.ready()
        assert (after.pid != before.pid, after.restarts) == (True, 1)
        assert node.mode() == EXCLUSIVE_PROCESS
        again = other.ready()
        assert (again.pid, again.server) == (beside.pid, beside.server)


def test_a_killed_server_is_started_again(node: Node) -> None:
    """The device stays ready, since a client that comes meanwhile waits for the new server."""
    with node.keeper() as keeper:
        before = keeper.ready()
        os.kill(before.server, signal.SIGKILL)
        after = keeper.until(lambda daemon: daemon.server not in {0, before.server})
        assert (after.pid, after.restarts) == (before.pid, 0)
        assert keeper.ready().pid == before.pid
    assert not keeper.logged("an MPS device cannot be used")
    assert len(keeper.logged("an MPS device is ready")) == 1


def test_an_idle_server_is_replaced_after_its_last_client(node: Node) -> None:
    """Hardware showed that a client that was killed spoils the server for the next one."""
    with node.keeper() as keeper:
        before = keeper.ready()
        first, second = (node.mps.client(node.pipe()) for _ in range(2))
        first.line()
        second.line()
        keeper.until(lambda daemon: len(daemon.clients) == 2)
        first.end(kill=True)
        keeper.until(lambda daemon: len(daemon.clients) == 1)
        assert keeper.ready().server == before.server
        second.end(kill=True)
        after = keeper.until(lambda daemon: daemon.server not in {0, before.server})
        assert after.pid == before.pid
        assert keeper.ready().server == after.server
        assert len(keeper.logged("replacing an MPS server")) == 1
    assert len(keeper.logged("an MPS device is ready")) == 1  # nothing was Unhealthy


def test_a_client_that_nobody_saw_counts_too(node: Node) -> None:
    """The log tells of a client that came and went between two looks."""
    with node.keeper(node.settings(poll_interval=PATIENCE * 2)) as keeper:
        before = keeper.ready()
        client = node.mps.client(node.pipe())
        client.line()
        client.end(kill=True)
        keeper.until(lambda daemon: daemon.server not in {0, before.server})


def test_a_fault_lasts_until_its_clients_have_ended(node: Node) -> None:
    """The detail names the clients that are in the way; then the device is ready by itself."""
    with node.keeper() as keeper:
        daemon = keeper.ready()
        bystander = node.mps.client(node.pipe(), "--stay")
        culprit = node.mps.client(node.pipe(), "--fault", "--stay")
        bystander.line()
        culprit.line()
        culprit.tell()
        fault = keeper.phase(Phase.FAULT)
        assert fault.status is ServerStatus.FAULT
        for client in (bystander, culprit):
            assert f"{client.process.pid} (" in fault.detail
        culprit.end()
        keeper.phase(Phase.FAULT, f"clients: {bystander.process.pid} (")
        bystander.end()
        assert keeper.ready().pid == daemon.pid


def test_a_fault_can_be_ended_at_once(node: Node) -> None:
    """ApplyNow replaces the daemon, whatever its clients do."""
    with node.keeper() as keeper:
        before = keeper.ready()
        client = node.mps.client(node.pipe(), "--fault", "--stay")
        client.line()
        client.tell()
        keeper.phase(Phase.FAULT, str(client.process.pid))
        keeper.order(ApplyNow())
        after = keeper.until(lambda daemon: daemon.ready and daemon.pid != before.pid)
        assert after.pid != before.pid
        client.end()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_hangs(node: Node, command: str) -> None:
    """The device is failed, the keeper beats on, and a daemon without clients is replaced."""
    with node.keeper(node.settings(hang_after=HASTY)) as keeper:
        before = keeper.ready()
        node.mps.order(commands={command: {"never": True}})
        keeper.phase(Phase.FAILED, f"{command} was not answered within 1 s")
        keeper.beats()
        assert until(lambda: not alive(before.pid), PATIENCE)
        node.mps.order()
        after = keeper.ready()
        assert after.pid != before.pid
        assert after.restarts >= 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_fails(node: Node, command: str) -> None:
    """The device is failed while a command fails; with clients the daemon stays."""
    with node.keeper() as keeper:
        before = keeper.ready()
        client = node.mps.client(node.pipe())
        client.line()
        keeper.until(lambda daemon: daemon.clients)
        node.mps.order(commands={command: {"exit": 1, "says": "no"}})
        keeper.phase(Phase.FAILED, f"{command} failed with exit code 1: no")
        keeper.phase(Phase.FAILED, str(client.process.pid))
        node.mps.order()
        assert keeper.ready().pid == before.pid
        client.end()


def test_a_daemon_that_nobody_reaches(node: Node) -> None:
    """When somebody removes the sockets, the daemon is replaced as soon as it has no clients."""
    with node.keeper(node.settings(hang_after=HASTY)) as keeper:
        before = keeper.ready()
        client = node.mps.client(node.pipe())
        client.line()
        keeper.until(lambda daemon: daemon.clients)
        (node.pipe() / "control").unlink()
        keeper.phase(Phase.FAILED, f"clients: {client.process.pid} (")
        assert alive(before.pid)
        client.end()
        assert keeper.ready().pid != before.pid
    assert not alive(before.pid)


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("get_default_active_thread_percentage", 'percentage is "100.0" instead of 25.0'),
        ("get_default_device_pinned_mem_limit", 'memory limit is "100.0" instead of "19G"'),
    ],
)
def test_a_wrong_limit_is_read_back(node: Node, command: str, wrong: str) -> None:
    """The device is never ready before its limits are right, and the daemon is tried again."""
    node.mps.order(commands={command: {"says": "100.0"}})
    with node.keeper() as keeper:
        keeper.phase(Phase.FAILED, wrong)
        keeper.until(lambda _: len(node.mps.programs()) > 1)
        node.mps.order()
        keeper.ready()
    assert len(keeper.logged("an MPS device is ready")) == 1


def test_a_limit_that_is_not_kept(node: Node) -> None:
    """A daemon that accepts a limit and does not keep it is not used."""
    node.mps.order(ignored=["set_default_device_pinned_mem_limit"])
    with node.keeper() as keeper:
        keeper.phase(Phase.FAILED, 'memory limit is "" instead of "19G"')


def test_a_server_with_other_limits_is_replaced(node: Node) -> None:
    """A server that started before the limits were there does not make the device ready."""
    share = MpsShare(memory_mib=4096, threads=25)
    with node.keeper(node.settings(share=share)) as keeper:
        before = keeper.ready()
        keeper.kill()
    pipe = node.pipe()
    node.mps.ask(pipe, f"set_active_thread_percentage {before.server} 90")
    with node.keeper(node.settings(share=share)) as keeper:
        after = keeper.ready()
        assert (after.pid, after.server != before.server) == (before.pid, True)
    assert node.mps.ask(pipe, f"get_active_thread_percentage {after.server}") == (0, "25.0\n")


def test_the_order_to_stop_ends_a_daemon_that_hangs(node: Node) -> None:
    """The keeper ends in time, without daemon, and with the former compute mode."""
    with node.keeper() as keeper:
        daemon = keeper.ready()
        node.mps.order(commands={"*": {"never": True}})
        keeper.phase(Phase.FAILED)
        keeper.order(Stop())
        assert keeper.process.wait(PATIENCE) == 0
    assert not alive(daemon.pid)
    assert node.mode() == 0


def test_a_server_that_hangs_ends_with_its_daemon(node: Node) -> None:
    """It does not notice the end of its daemon, and would hold the GPU for ever."""
    with node.keeper() as keeper:
        before = keeper.ready()
        os.kill(before.server, signal.SIGSTOP)
        os.kill(before.pid, signal.SIGKILL)
        after = keeper.until(lambda d: d.ready and d.pid != before.pid)
        assert not alive(before.server)
        os.kill(after.server, signal.SIGSTOP)
        keeper.order(Stop())
        assert keeper.process.wait(PATIENCE) == 0
    assert not alive(after.pid)
    assert not alive(after.server)
    assert node.mode() == 0
    assert [entry["pid"] for entry in keeper.logged("killing an MPS server without a daemon")] == [
        before.server,
        after.server,
    ]


def test_a_daemon_that_cannot_be_adopted_is_not_forgotten(node: Node) -> None:
    """Maintenance and the end of sharing wait until it can; its GPU keeps the compute mode."""
    with node.keeper() as keeper:
        daemon = keeper.ready()
    node.mps.program.chmod(0o777)
    with node.keeper() as keeper:
        keeper.phase(Phase.FAILED, "other users can write to")
        for order in (ServiceState(processes=(), planned=None, quiesced=True), Stop(withdraw=True)):
            keeper.order(order)
            keeper.beats()
            keeper.phase(Phase.FAILED, "other users can write to")
            assert alive(daemon.pid)
            assert node.mode() == EXCLUSIVE_PROCESS
        node.mps.program.chmod(0o755)
        assert keeper.process.wait(PATIENCE) == 0
    assert not alive(daemon.pid)
    assert node.mode() == 0


def test_the_order_to_stop_ends_a_daemon_that_cannot_be_adopted(node: Node) -> None:
    """Nobody would end it later."""
    with node.keeper() as keeper:
        daemon = keeper.ready()
    node.mps.program.chmod(0o777)
    with node.keeper() as keeper:
        keeper.phase(Phase.FAILED, "other users can write to")
        keeper.order(Stop())
        assert keeper.process.wait(PATIENCE) == 0
    assert not alive(daemon.pid)
    assert not alive(daemon.server)
    assert node.mode() == 0
