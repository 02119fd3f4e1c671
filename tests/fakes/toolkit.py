"""A host with a stand-in for NVIDIA's Container Toolkit, to write CDI specifications."""

import json
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from proto.monitor import CdiSettings
from simulator.mps.program import first_lines
from tests.fakes import forked
from tests.fakes.service import PATIENCE

if TYPE_CHECKING:
    from proto.messages import Gpu

STANDIN = Path(__file__).with_name("nvidia_ctk")
LIMIT = 4.0
"""Seconds after which a hanging tool is killed: long enough for it to start on a busy machine."""

NAME = "k8s.device-plugin.nvidia.com-gpu.json"

WRITE = """
import sys, msgspec
from health import cdi, cdi_spec, log_lines
from health.nvidia_ctk import Runs
from proto.messages import Gpu
from proto.monitor import CdiSettings
from supervisor import logs
logs.set_up("monitor", logs.Format.JSON, logs.Level.INFO)
settings, gpus = msgspec.json.decode(sys.argv[1], type=tuple[CdiSettings, tuple[Gpu, ...]])
limit, total = map(float, sys.argv[2:])
wanted = cdi_spec.wanted(gpus, settings.device_names, whole=False)
task = cdi.Task(cdi_spec.specs(settings), wanted)
outcomes = cdi.write_all(settings, task, Runs(), limit, total)
print(*(outcome.spec.kind for outcome in outcomes if not outcome.error))
log_lines.cdi({}, outcomes)
"""
"""Runs in its own process, like the monitor: it forks, which is unsafe with pytest's threads."""


def received(descriptor: int) -> bytes:
    """Wait until a process writes to the pipe or all writers end; return what was written."""
    assert select.select([descriptor], [], [], PATIENCE)[0], "neither bytes nor the end"
    return os.read(descriptor, 100)


class Host:
    """A host with the stand-in tool on its PATH, and CDI settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.specs = folder / "run/cdi"
        self.calls_file = folder / "calls"
        self.fifo = folder / "fifo"
        self._kinds, self._log = folder / "ctk.kinds", folder / "ctk.log"
        os.mkfifo(self.fifo)
        self.install(folder / "bin")
        self.environment = {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "STANDIN_CTK_CALLS": str(self.calls_file),
            "STANDIN_CTK_FIFO": str(self.fifo),
            "STANDIN_CTK_STATE": str(folder / "ctk.json"),
        }
        self.gpus: tuple[Gpu, ...] = ()
        """The GPUs that the monitor knows."""
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
        folder.mkdir(mode=0o755, parents=True)
        folder.chmod(0o755)  # also with umask 002, as the tool is not run where a group may write
        # A copy: others may be able to write to a working copy of this repository. It names its
        # interpreter: to find one on the PATH can take ten times as long as to start it.
        text = first_lines(sys.executable) + STANDIN.read_text().partition("\n")[2]
        (folder / "nvidia-ctk").write_text(text)
        (folder / "nvidia-ctk").chmod(0o755)

    def change(self, **settings: object) -> None:
        """Replace some of the CDI settings."""
        self.settings = msgspec.structs.replace(self.settings, **settings)

    def change_tool(self, **tool: str) -> None:
        """Change what the stand-in does from its next call on."""
        new = self.folder / "ctk.new"
        new.write_text(json.dumps(tool))
        new.rename(self.folder / "ctk.json")

    def start(
        self, limit: float = PATIENCE, total: float = 2 * PATIENCE, **tool: str
    ) -> forked.Script:
        """Start to write the specifications; *tool* controls the stand-in."""
        steering = {f"STANDIN_CTK_{name.upper()}": value for name, value in tool.items()}
        given = msgspec.json.encode((self.settings, self.gpus)).decode()
        environment = {**os.environ, **self.environment, **steering}
        with self._kinds.open("wb") as kinds, self._log.open("wb") as log:
            files = (kinds.fileno(), log.fileno())
            return forked.script(WRITE, [given, str(limit), str(total)], environment, *files)

    def write(
        self, limit: float = PATIENCE, total: float = 2 * PATIENCE, **tool: str
    ) -> tuple[list[str], list[dict[str, Any]]]:
        """Write the specifications; return the CDI kinds that exist, and the log."""
        with self.start(limit, total, **tool) as process:
            assert process.wait(PATIENCE) == 0, self._log.read_text()
        lines = self._log.read_text().splitlines()
        return self._kinds.read_text().split(), [json.loads(line) for line in lines]

    def calls(self) -> list[list[str]]:
        """Return the arguments of each call of the tool."""
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()]

    def asked(self) -> list[list[str]]:
        """Return the device IDs of each call that generates a specification."""
        flag = "--device-id="
        generations = [call for call in self.calls() if "generate" in call]
        return [
            [word.removeprefix(flag) for word in call if word.startswith(flag)]
            for call in generations
        ]

    def names(self) -> set[str]:
        """Return the names of devices in the GPUs' specification."""
        return {device["name"] for device in self.spec()["devices"]}

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
