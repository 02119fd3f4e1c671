"""The stand-in for NVIDIA's management library: its build, its steering and what its node holds.

`nvml.c` beside this file says how the node behaves. A process uses the library when the folder it
was built into is on its LD_LIBRARY_PATH, and is steered when STANDIN_NVML_DIR names a folder.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

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

SOURCE = Path(__file__).with_name("nvml.c")
COMPILER = shutil.which("cc") or "cc"
FLAGS = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-shared", "-fPIC")


def build(folder: Path) -> Path:
    """Compile the library into the folder and return its path."""
    library = folder / NAME
    command = [COMPILER, *FLAGS, f"-Wl,-soname,{NAME}", "-o", str(library), str(SOURCE)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"cannot build {library}: {error.stderr}") from error
    except OSError as error:
        raise RuntimeError(f"cannot build {library}: {error}") from error
    return library


@dataclass(frozen=True)
class Steering:
    """Commands to the one process that has the library initialised with this STANDIN_NVML_DIR."""

    folder: Path

    def xid(self, gpu: int, code: int, gi: int | None = None, ci: int | None = None) -> None:
        """Let the GPU have an Xid, of one of its MIG instances if that is given."""
        words = ["xid", gpu, code, *(number for number in (gi, ci) if number is not None)]
        self._write(" ".join(str(word) for word in words))

    def lost(self, gpu: int) -> None:
        """Let the GPU fall off the bus."""
        self._write(f"lost {gpu}")

    def recover(self, gpu: int) -> None:
        """Bring a lost GPU back."""
        self._write(f"recover {gpu}")

    def hang(self) -> None:
        """Let the wait for events never return."""
        self._write("hang")

    def _write(self, command: str) -> None:
        # Without O_NONBLOCK the open would wait for a reader: here its absence is an OSError.
        descriptor = os.open(self.folder / "commands", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.set_blocking(descriptor, True)
            os.write(descriptor, f"{command}\n".encode())  # below PIPE_BUF: all of it at once
        finally:
            os.close(descriptor)
