"""The stand-in for nvidia-cuda-mps-control: its processes, and the faults that tests order."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.live_node import LiveNode
from simulator.mps import texts
from simulator.mps.program import NAME, write_program
from simulator.node_file import default_node
from simulator.usage import FIRST_PID, Use
from tests.fakes.mps_host import MpsHost
from tests.fakes.service import PATIENCE
from tests.hardware.programs import Program
from tests.hardware.transcript import alive, until

NODE = default_node()
FIRST, SECOND = (gpu.uuid for gpu in NODE.gpus[:2])


@pytest.fixture
def mps(folder: Path) -> MpsHost:
    """Make a host with the GPUs of the default simulated node."""
    live = LiveNode(folder)
    live.start(NODE)
    return MpsHost(folder, live.path)


@pytest.fixture
def pipe(folder: Path) -> Path:
    """Name a pipe folder."""
    return folder / "pipe"


def ends(client: Program) -> str:
    """Return the last line of a client, and wait for its end."""
    last = ""
    while line := client.line():
        last = line
    client.end()
    return last


def test_a_client_has_the_limits_of_its_daemon(mps: MpsHost, pipe: Path) -> None:
    """A first client starts a server, which enforces the limits that were set before."""
    with mps.daemon(pipe, FIRST):
        assert mps.ask(pipe, "set_default_active_thread_percentage 50") == (0, "50.0\n")
        mps.ask(pipe, f"set_default_device_pinned_mem_limit {FIRST} 4G")
        client = mps.client(pipe)
        assert client.line() == "busy multiprocessors=66"
        server = mps.servers(pipe)[0]
        assert mps.ask(pipe, f"get_client_list {server}")[1] == f"{client.process.pid}\n"
        assert ends(mps.client(pipe, "--memory=5000")).endswith("CUDA error 2")
        client.end()
    assert mps.commands(FIRST)[0] == "set_default_active_thread_percentage 50"
    assert [program["gpu"] for program in mps.programs()] == [FIRST]


def test_python_can_be_in_any_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program starts, too, where the path of Python has a blank."""
    python = folder / "my environment" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    program = folder / NAME
    write_program(program)
    assert subprocess.check_output([program, "-v"], text=True) == texts.VERSION


def test_processes_have_their_names(mps: MpsHost, pipe: Path) -> None:
    """A daemon and its server show the command lines and names of the real programs."""
    with mps.daemon(pipe, FIRST) as daemon:
        mps.ask(pipe, "start_server -uid 0")
        server = mps.servers(pipe)[0]
        lines = {
            pid: Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
            for pid in (daemon.pid, server)
        }
        assert lines[daemon.pid] == [str(mps.program), "-f", "-multiuser-server"]
        assert lines[server] == ["nvidia-cuda-mps-server", "-multiuser-server"]
        assert Path(f"/proc/{server}/comm").read_text() == "nvidia-cuda-mps\n"


def test_a_killed_daemon_takes_its_server_along(mps: MpsHost, pipe: Path) -> None:
    """After kill -9 of a daemon its server ends, its client fails, and its folder can be used."""
    with mps.daemon(pipe, FIRST) as daemon:
        client = mps.client(pipe)
        client.line()
        server = mps.servers(pipe)[0]
        daemon.send_signal(signal.SIGKILL)
        assert ends(client).endswith("CUDA error 806")
        assert until(lambda: not alive(server), PATIENCE)
        assert mps.ask(pipe, "get_server_list")[0] == 1
    with mps.daemon(pipe, FIRST):
        assert mps.ask(pipe, "get_server_list") == (0, "")


def test_a_killed_server_is_replaced_at_the_next_client(mps: MpsHost, pipe: Path) -> None:
    """After kill -9 of a server its daemon lives, and starts another one for the next client."""
    with mps.daemon(pipe, FIRST):
        client = mps.client(pipe)
        client.line()
        first = mps.servers(pipe)[0]
        os.kill(first, signal.SIGKILL)
        assert ends(client).endswith("CUDA error 806")
        assert until(lambda: not mps.servers(pipe), PATIENCE)
        client = mps.client(pipe)
        assert client.line()
        assert mps.servers(pipe) != [first]
        client.end()


def test_a_fault_lasts_until_all_clients_have_gone(mps: MpsHost, pipe: Path) -> None:
    """A client that faults takes the others along; new ones are refused until all have ended."""
    with mps.daemon(pipe, FIRST):
        bystander, culprit = mps.client(pipe, "--stay"), mps.client(pipe, "--stay", "--fault")
        bystander.line(), culprit.line()
        status = f"get_server_status {mps.servers(pipe)[0]}"
        culprit.tell()
        lines = [client.line() or "" for client in (culprit, bystander)]
        assert all(line.endswith("CUDA error 700") for line in lines)
        assert mps.ask(pipe, status)[1] == "FAULT\n"
        assert ends(mps.client(pipe)).endswith("CUDA error 807")
        culprit.end()
        assert mps.ask(pipe, status)[1] == "FAULT\n"
        bystander.end()
        assert until(lambda: mps.ask(pipe, status)[1] == "ACTIVE\n", PATIENCE)


def test_faults_of_one_gpu_leave_the_others(mps: MpsHost, folder: Path) -> None:
    """An order for one GPU changes what its daemon answers, and no other."""
    mps.order(FIRST, commands={"get_default_active_thread_percentage": {"says": "50.0"}})
    with mps.daemon(folder / "1", FIRST), mps.daemon(folder / "2", SECOND):
        asked = [mps.ask(folder / name, "get_default_active_thread_percentage")[1] for name in "12"]
    assert asked == ["50.0\n", "100.0\n"]


def test_a_drill_puts_the_server_of_one_gpu_in_fault(mps: MpsHost, folder: Path) -> None:
    """A drilled fault shows in the server of that GPU alone, until the GPU recovers."""
    drilled = LiveNode(folder)
    pipes = {FIRST: folder / "1", SECOND: folder / "2"}
    with mps.daemon(pipes[FIRST], FIRST), mps.daemon(pipes[SECOND], SECOND):
        for pipe in pipes.values():
            mps.ask(pipe, "start_server -uid 0")

        def states() -> list[str]:
            ask = "get_server_status"
            return [mps.ask(pipe, f"{ask} {mps.servers(pipe)[0]}")[1] for pipe in pipes.values()]

        drilled.fail_mps(0)
        assert states() == ["FAULT\n", "ACTIVE\n"]
        assert ends(mps.client(pipes[FIRST])).endswith("CUDA error 807")
        drilled.recover(0)
        assert states() == ["ACTIVE\n", "ACTIVE\n"]


def test_simulated_processes_are_listed(mps: MpsHost, pipe: Path, folder: Path) -> None:
    """The daemon lists the processes of the simulated node that use its GPU by MPS."""
    drilled = LiveNode(folder)
    drilled.use(0, Use(1000, pod="team/a", kind="mps"))
    drilled.use(0, Use(1000, pod="team/b"))
    drilled.use(1, Use(1000, pod="team/c", kind="mps"))
    with mps.daemon(pipe, FIRST):
        mps.ask(pipe, "start_server -uid 0")
        rows = mps.ask(pipe, "ps")[1].splitlines()[1:]
    assert [row.split()[0] for row in rows] == [str(FIRST_PID)]


def test_clients_of_a_removed_gpu_are_listed(mps: MpsHost, pipe: Path, folder: Path) -> None:
    """They run on, and nobody knows their device any more."""
    with mps.daemon(pipe, FIRST):
        client = mps.client(pipe)
        client.line()
        LiveNode(folder).remove(0)
        (row,) = mps.ask(pipe, "ps")[1].splitlines()[1:]
        client.end(kill=True)
    assert row.split()[0] == str(client.process.pid)


def test_a_limit_can_be_ignored(mps: MpsHost, pipe: Path) -> None:
    """A limit that shall be ignored is accepted, and reads back as before."""
    names = ["set_default_active_thread_percentage", "set_default_device_pinned_mem_limit"]
    mps.order(ignored=names)
    with mps.daemon(pipe, FIRST):
        assert mps.ask(pipe, f"{names[0]} 25") == (0, "25.0\n")
        assert mps.ask(pipe, "get_default_active_thread_percentage") == (0, "100.0\n")
        mps.ask(pipe, f"{names[1]} {FIRST} 4G")
        assert mps.ask(pipe, f"get_default_device_pinned_mem_limit {FIRST}") == (0, "")


@pytest.mark.parametrize("status", ["FAULT", "INITIALIZING"])
def test_a_server_can_have_a_state_for_ever(mps: MpsHost, pipe: Path, status: str) -> None:
    """A server says the ordered state; clients are refused, or wait until it is over."""
    with mps.daemon(pipe, FIRST):
        mps.ask(pipe, "start_server -uid 0")
        server = mps.servers(pipe)[0]
        mps.order(status=status)
        assert mps.ask(pipe, f"get_server_status {server}")[1] == f"{status}\n"
        client = mps.client(pipe)
        if status == "FAULT":
            assert ends(client).endswith("CUDA error 807")
            return
        pushed = f"NEW CLIENT {client.process.pid} from user"
        assert until(lambda: pushed in Path(f"{pipe}.log").read_text(), PATIENCE)
        mps.order()
        mps.client(pipe).end()
        assert client.line() == "busy multiprocessors=132"
        client.end()


def test_a_daemon_can_crash_at_its_start(mps: MpsHost, pipe: Path) -> None:
    """Daemons that shall crash exit with 1, so many times."""
    mps.crash(2, FIRST)
    for _ in range(2):
        with mps.daemon(pipe, FIRST, ready=False) as daemon:
            assert daemon.wait(PATIENCE) == 1
    with mps.daemon(pipe, FIRST):
        assert mps.ask(pipe, "get_server_list") == (0, "")


def test_a_daemon_can_hang_at_its_start(mps: MpsHost, pipe: Path) -> None:
    """A daemon that shall hang makes no socket until that is over."""
    mps.order(start="hangs")
    with mps.daemon(pipe, FIRST, ready=False):
        assert until(mps.programs, PATIENCE)
        assert mps.ask(pipe, "get_server_list")[0] == 1
        mps.order()
        assert until(lambda: mps.ask(pipe, "get_server_list")[0] == 0, PATIENCE)


def test_servers_can_crash_in_a_loop(mps: MpsHost, pipe: Path) -> None:
    """A client gets a server after some crashes, and an error after five."""
    with mps.daemon(pipe, FIRST):
        mps.crash(2, server=True)
        client = mps.client(pipe)
        assert client.line()
        client.end()
        mps.ask(pipe, f"shutdown_server {mps.servers(pipe)[0]} -f")
        assert until(lambda: not mps.servers(pipe), PATIENCE)
        mps.crash(5, server=True)
        assert ends(mps.client(pipe)).endswith("CUDA error 805")
    log = Path(f"{pipe}.log").read_text()
    assert log.count("exited with status 1") == 7


def test_a_daemon_sees_the_gpus_of_the_node(mps: MpsHost, pipe: Path, folder: Path) -> None:
    """A daemon lists the node's GPUs that CUDA_VISIBLE_DEVICES names, and no lost one."""
    with mps.daemon(pipe, f"{SECOND},{FIRST}"):
        rows = mps.ask(pipe, "device_query --csv")[1].splitlines()[2:]
        assert [row.split(",")[2] for row in rows] == [SECOND, FIRST]
        LiveNode(folder).lose(1)
        assert mps.ask(pipe, "device_query --csv")[1].splitlines()[2:] == []
        mps.ask(pipe, "start_server -uid 0")
        assert mps.servers(pipe) == []
