"""The stand-in for NVIDIA's management library: its build, its control and its GPUs.

`nvml.c` beside this file describes the simulated node. A process uses the library when its folder
is on LD_LIBRARY_PATH, and gets commands when STANDIN_NVML_DIR names a folder.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes import compiler

NAME = "libnvidia-ml.so.1"
DRIVER_VERSION = "580.95.05"
GPU_NAME = "NVIDIA H100 80GB HBM3"
GPU_UUIDS = (
    "GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000",
    "GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1001",
)
GPU_MINORS = (3, 5)
GPU_BUS_IDS = ("00000000:07:00.0", "00000000:0A:00.0")
GPU_MEMORY_MIB = 81559
MIG_GPU = 1
MIG_NAME = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
MIG_UUIDS = (
    "MIG-9c6e40d2-3f0a-5b8d-8e21-6a7b2c4d2007",
    "MIG-9c6e40d2-3f0a-5b8d-8e21-6a7b2c4d2008",
)
MIG_PLACES = (0, 2)
MIG_INSTANCES = ((7, 0), (8, 0))
MIG_MEMORY_MIB = 9984
UNKNOWN = 999
"""NVML_ERROR_UNKNOWN, which a process gets that has lost its device nodes."""

SOURCE = Path(__file__).with_name("nvml.c")
FUNCTIONS = frozenset(
    re.findall(
        r"^(?:API\(|FINDS\(|FIGURE\(|int )"
        r"(nvmlDevice(?!GetCount)\w+?|nvmlEventSetWait)(?:_v\d)?[,(]",
        SOURCE.read_text(),
        re.MULTILINE,
    )
)
"""The functions that can fail for one GPU, without their versions."""
FLAGS = (*compiler.FLAGS, "-pthread", "-shared", "-fPIC")


def build(folder: Path) -> Path:
    """Compile the library into *folder*, and return its path."""
    library = folder / NAME
    compiler.build(library, SOURCE, *FLAGS, f"-Wl,-soname,{NAME}")
    return library


@dataclass(frozen=True)
class Steering:
    """Commands to the process that initialised the library with this STANDIN_NVML_DIR."""

    folder: Path

    def xid(self, gpu: int, code: int, gi: int | None = None, ci: int | None = None) -> None:
        """Send an Xid of the GPU, or of the given MIG instance."""
        words = ["xid", gpu, code, *(number for number in (gi, ci) if number is not None)]
        self._write(" ".join(str(word) for word in words))

    def lost(self, gpu: int) -> None:
        """Make the GPU fall off the bus."""
        self._write(f"lost {gpu}")

    def recover(self, gpu: int) -> None:
        """Bring a lost GPU back."""
        self._write(f"recover {gpu}")

    def links(self, gpu: int, count: int) -> None:
        """Let so many of the GPU's NVLinks be active; -1: it no longer answers for any."""
        self._write(f"links {gpu} {count}")

    def use(self, gpu: int, pid: int, mib: int, percent: int = 0, *, gi: int | None = None) -> None:
        """Let a process use so much of the GPU, or of its instance *gi*; 0 MiB: no longer."""
        instance = "" if gi is None else f" compute {gi}"
        self._write(f"process {gpu} {pid} {mib} {percent}{instance}")

    def figure(self, gpu: int, name: str, value: int) -> None:
        """Change a figure of the GPU that may show a grey failure, such as the link's `width`."""
        self._write(f"figure {gpu} {name} {value}")

    def hang(self, gpu: int | None = None, call: str = "") -> None:
        """Make every call on the GPU hang, or only *call*; without a GPU: the wait, for ever."""
        self._write("hang" if gpu is None else f"hang {gpu} {call}".rstrip())

    def hang_driver(self, call: str) -> None:
        """Make *call*, which is about no GPU, such as nvmlEventSetCreate, hang."""
        self._write(f"hang driver {call}")

    def answer_driver(self) -> None:
        """Undo hang_driver."""
        self._write("answer driver")

    def slow(self, gpu: int, milliseconds: int) -> None:
        """Make each call on the GPU take so much longer; 0: no longer."""
        self._write(f"slow {gpu} {milliseconds}")

    def fail(self, gpu: int, call: str, code: int) -> None:
        """Make *call*, such as nvmlDeviceGetMemoryInfo, answer this code for the GPU; 0: no longer.

        Raise ValueError for a function that cannot fail for one GPU.
        """
        if call not in FUNCTIONS:
            raise ValueError(f'cannot fail "{call}": {SOURCE.name} has no such function of a GPU')
        self._write(f"fail {gpu} {call} {code}")

    def answer(self, gpu: int) -> None:
        """Undo hang, slow and fail of the GPU; hung calls return."""
        self._write(f"answer {gpu}")

    def fabric(self, state: int) -> None:
        """Let the GPUs be in this nvmlGpuFabricState_t; 3: they have joined the fabric."""
        self._write(f"fabric {state}")

    def confidential(self, ready: int) -> None:
        """Let confidential computing be on, and the GPUs accept work (1) or not (0)."""
        self._write(f"cc {ready}")

    def licence(self, licensed: int) -> None:
        """Let the GPUs be virtual ones with a licence (1) or without (0)."""
        self._write(f"licence {licensed}")

    def denied(self, code: int = UNKNOWN) -> None:
        """Make every call on a device and every wait answer this code."""
        self._write(f"denied {code}")

    def allowed(self) -> None:
        """Undo denied."""
        self._write("allowed")

    def _write(self, command: str) -> None:
        # Without O_NONBLOCK, open would wait for a reader; with it, a missing reader is an OSError.
        descriptor = os.open(self.folder / "commands", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.set_blocking(descriptor, True)
            os.write(descriptor, f"{command}\n".encode())  # atomic, as it is below PIPE_BUF
        finally:
            os.close(descriptor)


GUARD = 60  # seconds, reached only when something hangs

# A child ends itself after GUARD, so that no test hangs while it reads a child's output.
PRELUDE = f"""
import json, os, signal, sys, threading
from pynvml import *
signal.alarm({GUARD})

def say(value):
    # In one piece, so that the lines of several threads do not mix.
    os.write(1, json.dumps(value).encode() + b"\\n")

def ask(function, *arguments):
    try:
        return function(*arguments)
    except NVMLError as error:
        return f"error {{error.value}}"

def gpu(index):
    return nvmlDeviceGetHandleByIndex(index)

def listen(*indices):
    events = nvmlEventSetCreate()
    for index in indices:
        nvmlDeviceRegisterEvents(gpu(index), nvmlEventTypeXidCriticalError, events)
    return events

def wait(events, milliseconds={GUARD * 1000}):
    event = ask(nvmlEventSetWait_v2, events, milliseconds)
    if isinstance(event, str):
        return event
    return [ask(nvmlDeviceGetUUID, event.device), event.eventType, event.eventData,
            event.gpuInstanceId, event.computeInstanceId]
"""
INITIALISED = PRELUDE + "nvmlInit()\n"

Start = Callable[..., subprocess.Popen[str]]
"""Starts a child with a script; keywords are STANDIN_NVML_ variables such as LOST="1"."""


@contextlib.contextmanager
def children(library: Path, folder: Path) -> Iterator[Start]:
    """Yield a function that starts Python scripts with the library; kill them at the end."""
    begun: list[subprocess.Popen[str]] = []

    def begin(script: str, **conditions: str) -> subprocess.Popen[str]:
        settings = {f"STANDIN_NVML_{name}": value for name, value in conditions.items()}
        paths = {"LD_LIBRARY_PATH": str(library.parent), "STANDIN_NVML_DIR": str(folder)}
        child = subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, **paths, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        begun.append(child)
        return child

    try:
        yield begin
    finally:
        for child in begun:
            child.kill()
            child.communicate(timeout=GUARD)


def hear(child: subprocess.Popen[str]) -> Any:
    """Return the next value that the child prints."""
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line, f"the child ended with {child.wait(GUARD)}"
    return json.loads(line)


def tell(child: subprocess.Popen[str]) -> None:
    """Send an empty line to a child that waits for it."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
