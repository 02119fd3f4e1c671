"""A keeper whose MPS daemon or server does not start, or must not be started."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from health.compute_mode import EXCLUSIVE_PROCESS
from proto.control import Stop
from proto.mps import Phase
from tests.fakes.keeper import FIRST, SECOND, Node
from tests.fakes.service import PATIENCE

HASTY = 3.0
"""Seconds until something hangs, for tests in which something does."""


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    """Make a node, and end all of its daemons after the test."""
    made = Node(folder)
    yield made
    made.clean()


def test_a_daemon_that_crashes_at_its_start(node: Node) -> None:
    """It is tried again with pauses, and the detail says how it ended."""
    node.mps.crash(4)
    with node.keeper() as keeper:
        keeper.phase(Phase.FAILED, "the daemon ended with exit code 1, at least 3 times in a row")
        assert keeper.ready().restarts == 4
    assert len(keeper.logged("an MPS device cannot be used")) == 1


def test_a_reason_is_logged_once(node: Node) -> None:
    """The same reason is not logged at each try, but again after the device was ready."""
    message = "an MPS device cannot be used"
    program = node.mps.program
    aside = program.with_suffix(".aside")
    program.rename(aside)
    with node.keeper() as keeper:
        for times in (1, 2):
            for _ in range(2):
                keeper.phase(Phase.FAILED, "at least 3 times in a row")
                keeper.until(lambda daemon: "again" not in daemon.detail)
            keeper.phase(Phase.FAILED, "at least 3 times in a row")
            reasons = [entry["reason"] for entry in keeper.logged(message)]
            assert len([reason for reason in reasons if "cannot find" in reason]) == times
            aside.rename(program)
            daemon = keeper.ready()
            program.rename(aside)
            os.kill(daemon.pid, signal.SIGKILL)


def test_a_server_that_crashes_at_its_start(node: Node) -> None:
    """After some tries the device is failed; it is tried on and on."""
    node.mps.crash(5, server=True)
    with node.keeper() as keeper:
        keeper.phase(Phase.FAILED, "its server does not start")
        keeper.ready()
        texts = [entry["text"] for entry in keeper.logged("an MPS daemon logged a line")]
        assert "MPS server failed to start" in texts


def test_a_server_that_stays_initializing(node: Node) -> None:
    """A server that does not become ready makes the device failed, and is replaced."""
    with node.keeper(node.settings(hang_after=HASTY)) as keeper:
        before = keeper.ready()
        node.mps.order(status="INITIALIZING")
        keeper.phase(Phase.STARTING, "its server is INITIALIZING")
        keeper.phase(Phase.FAILED, "its server is INITIALIZING, for more than 3 s")
        node.mps.order()
        assert keeper.ready().pid != before.pid


def test_a_daemon_that_does_not_start_to_listen(node: Node) -> None:
    """A daemon that hangs at its start is killed and tried again."""
    node.mps.order(start="hangs")
    with node.keeper(node.settings(hang_after=HASTY)) as keeper:
        keeper.phase(Phase.FAILED, "Cannot find MPS control daemon process")
        keeper.until(lambda daemon: daemon.restarts)
        node.mps.order()
        keeper.ready()


def test_the_compute_mode_is_refused(node: Node) -> None:
    """No daemon is started while programs could go without its limits."""
    node.live.fail(0, "nvmlDeviceSetComputeMode", 4)
    with node.keeper() as keeper:
        keeper.phase(Phase.FAILED, "cannot change the compute mode: cannot call nvmlDeviceSet")
        assert node.mps.programs() == []
        node.live.recover(0)
        keeper.ready()
        assert node.mode() == EXCLUSIVE_PROCESS


def test_a_gpu_without_compute_modes_is_used(node: Node) -> None:
    """The log tells that limits can be evaded then."""
    node.live.fail(0, "nvmlDeviceSetComputeMode", 3)
    with node.keeper() as keeper:
        keeper.ready()
        assert len(keeper.logged("the GPU has no compute modes, limits can be evaded")) == 1


def test_the_driver_hangs(node: Node) -> None:
    """A driver call that hangs is this device's fault alone, and does not hold up the end."""
    node.live.hang(0)
    with node.keeper() as keeper, node.keeper(node.settings(SECOND)) as other:
        other.ready()
        keeper.phase(Phase.FAILED, "no answer within 3 s: the driver or the machine is slow")
        keeper.beats()
        keeper.order(Stop())
        assert keeper.process.wait(PATIENCE) == 0
    assert node.mps.commands(FIRST) == []


@pytest.mark.parametrize("what", ["program", "root", "unreachable"])
def test_unsafe_paths(node: Node, what: str) -> None:
    """Nothing runs as root that others can change, and clients of all users reach the sockets."""
    path = {"program": node.mps.program, "root": node.root, "unreachable": node.folder}[what]
    node.root.mkdir()
    path.chmod(0o700 if what == "unreachable" else 0o777)
    with node.keeper() as keeper:
        failed = keeper.phase(Phase.FAILED)
        assert str(path) in failed.detail
        assert ("mps-root" in failed.detail) == (what == "unreachable")
        assert node.mps.programs() == []
        assert node.mode() == 0
        path.chmod(0o755)
        keeper.ready()


def test_a_missing_program(node: Node) -> None:
    """The detail says what is missing and what to do."""
    with node.keeper(node.settings(program="/nowhere/mps")) as keeper:
        keeper.phase(Phase.FAILED, "cannot find nvidia-cuda-mps-control: it is not /nowhere/mps")


def test_a_program_that_is_not_executable(node: Node) -> None:
    """It is not called missing, since it is there."""
    node.mps.program.chmod(0o644)
    with node.keeper() as keeper:
        words = f'cannot run "{node.mps.program}": it is not executable; run chmod +x on it'
        keeper.phase(Phase.FAILED, words)


@pytest.mark.parametrize(
    ("what", "cause"), [("root", "Not a directory"), ("program", "Exec format error")]
)
def test_what_the_system_refuses_is_told_in_words(node: Node, what: str, cause: str) -> None:
    """The detail names the path and the cause, and has no number of an error."""
    path = {"root": node.root, "program": node.mps.program}[what]
    path.write_bytes(b"\x7fELF")
    with node.keeper() as keeper:
        keeper.phase(Phase.FAILED, f'cannot use "{path}": {cause}')
