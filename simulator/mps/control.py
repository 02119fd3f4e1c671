"""The stand-in for the program nvidia-cuda-mps-control: a shell, or the daemon.

The shell is started for each command, so what it imports is kept small.
"""

import os
import sys
from _socket import AF_UNIX, SOCK_SEQPACKET, socket  # half the start of a shell is `import socket`

PIPE, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"

NO_GPU = 100
"""Exit code of a daemon without a GPU; CUDA_ERROR_NO_DEVICE."""


def main(folder: str = "", node: str = "", gpus: str = "", owner: int = 0) -> int:
    """Do what the command line says; see `write_program` for the arguments."""
    options = sys.argv[1:]
    pipe = os.environ.get(PIPE, "/tmp/nvidia-mps")  # noqa: S108 - where the real one looks
    if "-v" in options:
        from simulator.mps import texts

        sys.stdout.write(texts.VERSION)
        return 0
    if {"-f", "-d"} & set(options):
        return daemon(options, pipe, (folder, node, gpus), owner)
    return shell(pipe)


def shell(pipe: str) -> int:
    """Send the lines of stdin to the daemon, and print its answers."""
    connection = socket(AF_UNIX, SOCK_SEQPACKET)
    try:
        connection.connect(f"{pipe}/control")
    except OSError:
        from simulator.mps import texts

        sys.stderr.write(texts.NO_DAEMON)
        return 1
    connection.send(b"shell")
    for line in sys.stdin.buffer:
        try:
            connection.send(line)
            answer = connection.recv(1 << 20)
        except OSError:
            answer = b""
        if not answer:
            return 1  # the daemon has ended
        sys.stdout.buffer.write(answer[1:])
        sys.stdout.buffer.flush()
        if answer[:1] != b"0":
            return int(answer[:1])
    return 0


def daemon(options: list[str], pipe: str, steered: tuple[str, str, str], owner: int) -> int:
    """Run the daemon, here or in the background; return only if it does not start."""
    from simulator.mps import titles
    from simulator.mps.daemon import ControlDaemon, StartError
    from simulator.mps.steering import Steering

    steering = Steering(*steered)
    titles.take(sys.argv[0], *options)
    cuda = {name: value for name, value in os.environ.items() if name.startswith("CUDA_")}
    os.umask(umask := os.umask(0))
    steering.note("programs", pid=os.getpid(), options=options, environment=cuda, umask=umask)
    logs = os.environ.get(LOGS, "/var/log/nvidia-mps")
    multi_user = "-multiuser-server" in options or "-M" in options
    if not steering.may_start():
        return 1
    if not steering.gpus():
        return NO_GPU
    process = ControlDaemon(steering, pipe, logs, multi_user=multi_user)
    try:
        process.bind()
    except StartError as error:
        sys.stdout.write(str(error))
        return 1
    background = "-d" in options
    if background:
        leave()
    if owner:
        process.end_with(owner)
    return process.run(to_files=background)


def leave() -> None:
    """Go on in a child, in the background."""
    if os.fork():
        os._exit(0)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
