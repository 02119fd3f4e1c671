"""A host with a stand-in for NVIDIA's Container Toolkit, to write CDI specifications."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from proto.monitor import CdiSettings
from tests.fakes.service import PATIENCE

STANDIN = Path(__file__).with_name("nvidia_ctk")
NAME = "k8s.device-plugin.nvidia.com-gpu.json"

WRITE = """
import sys, msgspec
from health import cdi
from proto.monitor import CdiSettings
from supervisor import logs
logs.set_up("monitor", logs.Format.JSON, logs.Level.INFO)
limit, total = map(float, sys.argv[2:])
print(*cdi.write_all(msgspec.json.decode(sys.argv[1], type=CdiSettings), limit, total))
"""
"""Runs in its own process, like the monitor: it forks, which is unsafe with pytest's threads."""


class Host:
    """A host with the stand-in tool on its PATH, and CDI settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.specs = folder / "run/cdi"
        self.calls_file = folder / "calls"
        self.fifo = folder / "fifo"
        os.mkfifo(self.fifo)
        self.install(folder / "bin")
        self.environment = {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "STANDIN_CTK_CALLS": str(self.calls_file),
            "STANDIN_CTK_FIFO": str(self.fifo),
        }
        self.settings = CdiSettings(
            spec_folder=str(self.specs),
            vendor="k8s.device-plugin.nvidia.com",
            device_class="gpu",
            device_names="uuid",
            hook_path=f"{folder}/hooks/nvidia-cdi-hook",
            driver_root="/",
            dev_root="/",
            container_driver_root="/",
        )

    def install(self, folder: Path) -> None:
        """Install the tool in *folder*."""
        folder.mkdir(parents=True)
        (folder / "nvidia-ctk").symlink_to(STANDIN)

    def change(self, **settings: object) -> None:
        """Replace some of the CDI settings."""
        self.settings = msgspec.structs.replace(self.settings, **settings)

    def start(
        self, limit: float = PATIENCE, total: float = 2 * PATIENCE, **tool: str
    ) -> "subprocess.Popen[str]":
        """Start to write the specifications; *tool* controls the stand-in."""
        steering = {f"STANDIN_CTK_{name.upper()}": value for name, value in tool.items()}
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                WRITE,
                msgspec.json.encode(self.settings),
                str(limit),
                str(total),
            ],
            env={**os.environ, **self.environment, **steering},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(
        self, limit: float = PATIENCE, total: float = 2 * PATIENCE, **tool: str
    ) -> tuple[list[str], list[dict[str, Any]]]:
        """Write the specifications; return the CDI kinds that exist, and the log."""
        with self.start(limit, total, **tool) as process:
            kinds, log = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, log
        return kinds.split(), [json.loads(line) for line in log.splitlines()]

    def calls(self) -> list[list[str]]:
        """Return the arguments of each call of the tool."""
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()]

    def files(self) -> set[str]:
        """Return the file names in the folder of CDI specifications."""
        return {path.name for path in self.specs.iterdir()}

    def spec(self, name: str = NAME) -> dict[str, Any]:
        """Return a CDI specification."""
        found: dict[str, Any] = json.loads((self.specs / name).read_text())
        return found

    def paths(self) -> tuple[str, str]:
        """Return the host paths of the library and of the device node in the specification."""
        mount = self.spec()["containerEdits"]["mounts"][0]
        node = self.spec()["devices"][0]["containerEdits"]["deviceNodes"][0]
        return mount["hostPath"], node["hostPath"]
