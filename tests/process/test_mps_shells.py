"""The stand-in for nvidia-cuda-mps-control: when it answers the commands of its shells."""

import signal
import socket
from pathlib import Path

import pytest

from tests.fakes.mps_host import MpsHost
from tests.fakes.service import PATIENCE
from tests.hardware.transcript import until

GPU = "GPU-1"


@pytest.fixture
def mps(folder: Path) -> MpsHost:
    """Make a host with a GPU."""
    return MpsHost(folder, gpus=[GPU])


@pytest.fixture
def pipe(folder: Path) -> Path:
    """Name a pipe folder."""
    return folder / "pipe"


def connected(pipe: Path) -> socket.socket:
    """Return the connection of a shell to a daemon."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(PATIENCE)
    connection.connect(f"{pipe}/control")
    connection.send(b"shell")
    return connection


def told(connection: socket.socket, command: str) -> bytes:
    """Return what the daemon answers, with the exit code in front."""
    connection.send(f"{command}\n".encode())
    return connection.recv(100)


def test_an_answer_can_be_held_back(mps: MpsHost, pipe: Path) -> None:
    """A command that shall never be answered hangs alone, and is answered when that is over."""
    mps.order(commands={"ps": {"never": True}, "get_server_list": {"exit": 1}})
    with mps.daemon(pipe, GPU):
        shell = mps.shell(pipe, "get_default_client_priority\nps\nget_default_client_priority")
        assert shell.line() == "0"  # so the daemon has the next line before the others ask
        assert mps.ask(pipe, "get_server_list") == (1, "")
        assert mps.ask(pipe, "get_default_active_thread_percentage")[0] == 0
        assert shell.process.poll() is None
        mps.order()
        assert shell.line() == "Server not found"
        assert shell.line() == "0"
        shell.end()


def test_a_server_that_hangs_at_its_start_holds_up_the_daemon(mps: MpsHost, pipe: Path) -> None:
    """While a server starts on command, the daemon answers nobody."""
    mps.order(server="hangs")
    with mps.daemon(pipe, GPU):
        mps.ask(pipe, "start_server -uid 0")
        log = Path(f"{pipe}.log")
        assert until(lambda: "Initializing server process" in log.read_text(), PATIENCE)
        shell = mps.shell(pipe, "get_server_list")
        assert log.read_text().count("NEW UI") == 1
        mps.order()
        assert (shell.line() or "").isdigit()
        shell.end()


def test_a_command_that_comes_with_the_start_of_a_server_is_answered(
    mps: MpsHost, pipe: Path
) -> None:
    """The daemon serves a connection once, if it can be read when a server starts on command."""
    with mps.daemon(pipe, GPU) as daemon, connected(pipe) as first, connected(pipe) as second:
        assert told(first, "start_server -uid 0") == told(second, "get_server_list") == b"0"
        daemon.send_signal(signal.SIGSTOP)
        first.close()  # then the daemon starts the server, and serves *second* meanwhile
        second.send(b"get_server_list\n")
        daemon.send_signal(signal.SIGCONT)
        assert second.recv(100)[1:].strip().isdigit()
