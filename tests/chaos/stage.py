"""What a chaos run begins with: the node, the service's settings, and the tool for CDI."""

from pathlib import Path

import msgspec

from simulator.node import SimulatedNode
from simulator.node_file import complete
from tests.chaos import truth
from tests.fakes.toolkit import Host

QUIET = 0.5
POLL = 0.25
RESCAN = 0.5
STALE = 3.0
HANG = 4.0
"""Seconds; the service's periods, shortened to make the run shorter."""

SMALL, LARGE = ("1g.10gb",) * 3, ("3g.40gb",) * 2
LAYOUTS = {6: (SMALL, ("1g.10gb",), ("1g.10gb",) * 7), 7: (LARGE, ("3g.40gb",))}
"""The MIG layouts of a GPU, by its index; the first is the one at the start."""

FORGIVEN = 90.0
"""Seconds after which the end of a child no longer delays its next restart (promised: 60)."""

NVLINKS, LINKED = 4, range(6)
"""NVLinks of a GPU, and the indexes of the GPUs that have them, in pairs."""
LINKS = [{"between": [n, n + 1], "path": "NODE", "nvlinks": NVLINKS} for n in LINKED[::2]]
NODE: dict[str, object] = {
    "gpus": [{}] * len(LINKED) + [{"mig": SMALL}, {"mig": LARGE}],
    "links": LINKS,
}
RESOURCES = (truth.GPU, "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb")
WORKERS = tuple(f"worker {resource}" for resource in RESOURCES)
CHILDREN = ("monitor", "exporter", "cluster", *WORKERS)
REPLICAS = 2

LABEL, CONFIGURATION = "nvidia.com/device-plugin.config", "config.yaml"
"""The node's label, and the file that it chooses at the start."""


def configuration(replicas: int, absent: int = 0) -> str:
    """Return a configuration file in which each whole GPU has so many replicas.

    It also shares so many resources that the node does not have; thousands take long to read.
    """
    shares = [f"{{name: gpu, replicas: {replicas}}}"] if replicas > 1 else []
    shares += [f"{{name: absent{place}, replicas: 2}}" for place in range(absent)]
    sharing = f"{{timeSlicing: {{resources: [{', '.join(shares)}]}}}}" if shares else "{}"
    return f"""version: v1
flags: {{migStrategy: mixed}}
sharing: {sharing}
health:
  staleAfter: {STALE}s
  hangAfter: {HANG}s
  pollInterval: {POLL}s
  rescanInterval: {RESCAN}s
  recovery: {{quietPeriod: {QUIET}s, probes: 2}}
"""


def toolkit(folder: Path) -> Host:
    """Return a host with a stand-in for nvidia-ctk, which names each device of all layouts."""
    host = Host(folder)
    gpus = complete(msgspec.convert(NODE, SimulatedNode)).gpus
    instances = (gpus[place].mig_uuid(n) for place in LAYOUTS for n in range(7))
    devices = ",".join((*(gpu.uuid for gpu in gpus), *instances))
    host.environment["STANDIN_CTK_DEVICES"] = devices
    return host
