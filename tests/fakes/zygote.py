"""A process that has imported the service, and forks a new service from itself at each request.

Run it as `python -m tests.fakes.zygote DESCRIPTOR`; tests/fakes/forked.py asks it. What it forks
runs `python -m MODULE` or `python -c SCRIPT` as the interpreter would: as `__main__`, with the
arguments, environment, folder, umask, limits and descriptors of the request, and none of its own.
"""

import contextlib
import functools
import gc
import importlib
import io
import os
import resource
import runpy
import socket
import sys
import sysconfig
import time
import types
from pathlib import Path
from typing import Any

import msgspec

LATER = (
    "supervisor.cluster.main",
    "supervisor.commands.show_labels",
    "supervisor.commands.show_status",
    "supervisor.exporter.main",
    "uvicorn.protocols.http.h11_impl",
    "xml.etree.ElementTree",
)
"""What processes import after they have been forked, beside what the supervisor preloads. That an
import fails only there, for example because a capability is gone, is seen in a service that a test
executes.
"""

LONGEST = 1 << 17
"""Bytes of a request."""

MOST = 8
"""Descriptors of a request."""

STDERR = 2


class Start(msgspec.Struct, frozen=True):
    """What a new process gets from the one that asks for it, beside its descriptors 0, 1, 2, ..."""

    module: str
    """The module that it runs; empty: the script."""
    script: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: str
    umask: int
    limits: dict[int, tuple[int, int]]
    """Soft and hard limits by the numbers in the module resource."""


def prepare() -> None:
    """Import what each service imports, as its supervisor does, without a thread or a socket."""
    main = importlib.import_module("supervisor.main")
    preload = importlib.import_module("supervisor.preload")
    for library in (*preload.PLUGIN, *preload.MPS, *LATER):
        importlib.import_module(library)
    importlib.import_module("supervisor.commands.command_line").parser(main.VERSION)
    # loguru asks for all of them, each time when a process begins to log.
    vars(sysconfig)["get_path"] = functools.cache(sysconfig.get_path)
    logs = importlib.import_module("supervisor.logs")
    logs.set_up("zygote", logs.Format.JSON, logs.Level.INFO)
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise RuntimeError("cannot fork services: an import started a thread")
    gc.collect()
    gc.freeze()


def serve(asked: socket.socket) -> Start | None:
    """Fork a process for each request; return its request in it, and None when nobody asks more."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            request, descriptors, *_ = socket.recv_fds(asked, LONGEST, MOST)
            if not request:
                break
            pid = _fork()
            if not pid:
                start = msgspec.json.decode(request, type=Start)
                _become(start, descriptors)
                return start
            for descriptor in descriptors:
                os.close(descriptor)
            asked.send(str(pid).encode())
    return None


def _fork() -> int:
    """Fork; return 0 in the new process, which is a child of the process that adopts orphans."""
    reader, writer = os.pipe()
    waits, adopted = os.pipe()
    if between := os.fork():
        os.close(writer)
        os.close(waits)
        os.waitpid(between, 0)
        os.close(adopted)
        pid = int(os.read(reader, 20))
        os.close(reader)
        return pid
    os.close(adopted)
    if pid := os.fork():
        os.write(writer, str(pid).encode())
        os._exit(0)
    os.read(waits, 1)  # until it is adopted: it may ask to end with its parent
    return 0


def _become(start: Start, descriptors: list[int]) -> None:
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    os.closerange(len(descriptors), os.sysconf("SC_OPEN_MAX"))
    for number, limits in start.limits.items():
        resource.setrlimit(number, limits)
    os.chdir(start.folder)
    os.umask(start.umask)
    os.environ.clear()
    os.environ.update(start.environment)
    time.tzset()
    sys.path[0] = start.folder
    what = ("-m", start.module) if start.module else ("-c", start.script)
    sys.orig_argv[:] = [sys.executable, *what, *start.arguments]
    sys.argv[:] = [start.module or "-c", *start.arguments]
    sys.stdout, sys.stderr = _reopened(sys.stdout), _reopened(sys.stderr)


def _reopened(ours: Any) -> io.TextIOWrapper:
    """Open a standard stream anew: it remembers whether it is a terminal, or a file with places."""
    descriptor, unbuffered = ours.fileno(), ours.write_through
    stream = open(descriptor, "wb", buffering=0 if unbuffered else -1, closefd=False)  # noqa: SIM115
    by_line = descriptor == STDERR or stream.isatty()
    return io.TextIOWrapper(
        stream, ours.encoding, ours.errors, line_buffering=by_line, write_through=unbuffered
    )


def _run(script: str) -> None:
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    exec(compile(script, "<string>", "exec"), vars(main))  # noqa: S102 - what a test asks for


if __name__ == "__main__":
    prepare()
    if asked := serve(socket.socket(fileno=int(sys.argv[1]))):
        if asked.script:
            _run(asked.script)
        else:
            runpy.run_module(asked.module, run_name="__main__", alter_sys=True)
