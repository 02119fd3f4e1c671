"""What the check of MPS does to clients, servers and daemons, section by section."""

import os
import shutil
import signal
from pathlib import Path

from tests.hardware.mps_daemon import LINE, Daemon
from tests.hardware.mps_sections import Check
from tests.hardware.transcript import alive, until


def _with_client(check: Check, daemon: Daemon, *options: str) -> int:
    """Start a client; return the PID of its server."""
    daemon.client(check.client, *options)
    found = daemon.ask("get_server_list\n", quiet=True).split()
    for pid in found:
        check.out.server(int(pid))
    return int(found[0]) if found else 0


def killed_client(check: Check) -> None:
    """Kill a client."""
    with check.daemon("-multiuser-server") as daemon:
        pid = _with_client(check, daemon)
        daemon.rest()
        daemon.clients[0].end(kill=True)
        until(
            lambda: not daemon.ask(f"get_client_list {pid}\n", quiet=True).strip(),
            check.out.patience,
        )
        daemon.ask(f"get_client_list {pid}\n")
        daemon.status(pid)
        daemon.client(check.client).end()
        daemon.ask("get_server_list\n")
        daemon.rest()


def fault(check: Check) -> None:
    """Let a client fault and stay, beside one that works."""
    with check.daemon("-multiuser-server") as daemon:
        pid = _with_client(check, daemon, "--stay")
        bystander = daemon.clients[0]
        culprit = daemon.client(check.client, "--fault", "--stay")
        daemon.rest()
        culprit.tell()
        daemon.tell(culprit, "after its fault")
        daemon.tell(bystander, "beside it")
        daemon.status(pid, "FAULT")
        daemon.ask(f"get_client_list {pid}\n")
        daemon.ask("ps\n")
        daemon.client(check.client).end()
        culprit.end()
        daemon.status(pid, "ACTIVE", 1)
        bystander.end()
        daemon.status(pid, "ACTIVE")
        daemon.client(check.client).end()
        daemon.ask("get_server_list\n")
        daemon.rest()


def stopped_server(check: Check) -> None:
    """Shut a server down that has a client: politely, then by force."""
    with check.daemon("-multiuser-server") as daemon:
        pid = _with_client(check, daemon)
        daemon.ask(f"shutdown_server {pid}\nget_server_list\nget_server_status {pid}\n")
        daemon.clients[0].end()
        daemon.gone()
        daemon.rest()
        daemon.client(check.client)
        for found in daemon.ask("get_server_list\n", quiet=True).split():
            check.out.server(int(found))
            daemon.ask(f"shutdown_server {found} -f\n")
        daemon.tell(daemon.clients[-1], "after -f")
        daemon.gone()
        daemon.rest()


def killed_server(check: Check) -> None:
    """Kill a server under a client."""
    with check.daemon("-multiuser-server") as daemon:
        pid = _with_client(check, daemon)
        daemon.rest()
        if pid not in check.out.servers:
            raise LookupError("there is no server")  # kill(0) would end this program
        os.kill(pid, signal.SIGKILL)
        daemon.tell(daemon.clients[0], "after the kill")
        daemon.gone()
        daemon.ask(f"get_server_status {pid}\n")
        daemon.client(check.client).end()
        for found in daemon.ask("get_server_list\n", quiet=True).split():
            check.out.server(int(found))
        daemon.ask("get_server_list\n")
        daemon.rest()


def ends(check: Check) -> None:
    """Send signals to the daemon; each new one starts in the same folder."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        check.out.say(f"-- {number.name} with a client")
        with check.daemon("-multiuser-server") as daemon:
            _with_client(check, daemon)
            daemon.rest()
            daemon.process.send_signal(number)
            daemon.ended()
            daemon.tell(daemon.clients[0], f"after {number.name}")
            daemon.ask("get_server_list\n")
        check.out.title(f"after {number.name}")


def quits(check: Check) -> None:
    """Quit with a client: without a limit, then with one."""
    with check.daemon("-multiuser-server") as daemon:
        _with_client(check, daemon, "--seconds", "2.5")
        daemon.rest()
        daemon.ask("quit\n")
        check.out.say(f"client ended: {daemon.clients[0].process.poll() is not None}")
        daemon.ended()
    check.out.title("quit -t 1 with a client")
    with check.daemon("-multiuser-server") as daemon:
        _with_client(check, daemon, "--seconds", "8")
        daemon.rest()
        daemon.ask("quit -t 1\n")
        daemon.tell(daemon.clients[0], "after quit -t 1")
        daemon.ended()


def folders(check: Check) -> None:
    """Use a pipe folder twice, remove it, and give it long paths."""
    with check.daemon("-multiuser-server") as daemon:
        pid = _with_client(check, daemon)
        for option in ("-f", "-d"):
            check.run(f"second daemon {option}", option, daemon.environment)
        until(
            lambda: len([e for e in daemon.log() if e[2].startswith("Using log")]) == 2,
            check.out.patience,
        )
        daemon.rest()
        shutil.rmtree(daemon.pipe)
        daemon.ask("get_server_list\n")
        daemon.tell(daemon.clients[0], "without the folder", 1)
        check.out.say(f"server lives: {alive(pid)}")
        daemon.process.terminate()
        daemon.ended()
    for size in (87, 88):
        _long(check, size)


def _long(check: Check, size: int) -> None:
    extra = "/" + "x" * (size - len(f"{check.folder}/pipe/"))
    with check.daemon(extra=extra) as daemon:
        check.out.say(f"path of {len(daemon.environment['CUDA_MPS_PIPE_DIRECTORY'])} bytes:")
        daemon.ask("get_server_list\n")
        files = sorted(path.name for path in daemon.socket.parent.glob("*"))
        code = daemon.process.poll()
        check.out.say(f"{'runs' if code is None else f'ended with {code}'}, files: {files}")


def others(check: Check) -> None:
    """Start a server of one user and a client of another, without -multiuser-server."""
    with check.daemon() as daemon:
        pid = daemon.server("-uid 1000")
        lines = Path(f"/proc/{pid}/status").read_text().splitlines() if pid else []
        uid = next((line.split()[1] for line in lines if line.startswith("Uid")), "none")
        check.out.say(f"server's uid: {uid if os.getuid() == 0 else 1000}")
        line = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0") if pid else ""
        check.out.say(f"server's cmdline: {line}")
        daemon.rest()
        daemon.client(check.client)
        for found in daemon.ask("get_server_list\n", quiet=True).split():
            check.out.server(int(found))
        daemon.ask("get_server_list\n")
        daemon.rest()


def unknown_gpu(check: Check) -> None:
    """Name a GPU in CUDA_VISIBLE_DEVICES that is not there."""
    with check.daemon("-multiuser-server", uuid="GPU-11111111-2222-3333-4444-555555555555") as d:
        d.ask("device_query\n")
        d.ask("start_server -uid 0\n")
        d.ask("get_server_list\n")
        d.ended()


def background(check: Check) -> None:
    """Start a daemon with -d, which logs into the log folder."""
    with check.daemon("-multiuser-server") as daemon:
        daemon.ask("quit\n")
        daemon.ended()
        for path in daemon.pipe.iterdir():
            path.unlink()
        environment = {**daemon.environment, "CUDA_VISIBLE_DEVICES": check.uuid}
        check.run("in the background", "-d", environment)
        written = daemon.pipe / "nvidia-cuda-mps-control.pid"  # after the sockets
        until(lambda: written.exists() and written.read_text() != "", check.out.patience)
        pid = int(written.read_text())
        try:
            _in_background(check, daemon, pid)
        finally:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def _in_background(check: Check, daemon: Daemon, pid: int) -> None:
    until(lambda: os.getsid(pid) == pid, check.out.patience)
    check.out.say(f"a session of its own: {os.getsid(pid) == pid}")
    daemon.client(check.client).end()
    daemon.ask("quit\n")
    until(lambda: not alive(pid), check.out.patience)
    for path in sorted(daemon.logs.iterdir()):
        found = [LINE.fullmatch(line) for line in path.read_text().splitlines()]
        kinds = sorted({line[1] for line in found if line})
        check.out.say(f"{path.name}: {' '.join(kinds)}")
